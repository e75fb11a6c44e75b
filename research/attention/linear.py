"""Attention whose similarity is a product of features, so that sums over what is read can stand for all of it."""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from research.attention import cache, recurrences
from research.attention.contract import Attention, Carry, Read
from research.attention.masks import readable
from research.attention.multi_head import check_heads, head_projections, width
from research.attention.recurrences import Kept, Written
from research.errors import UserError, at_least, nearest
from research.shapes import Array, Places


class Features(NamedTuple):
    """Features of vectors: `exp(log_scale) vectors`, the vectors of a size that cannot overflow."""

    vectors: Array     # [..., R]
    log_scale: Array   # [...]; nothing that is normalised depends on it, so no gradient goes through it


class Elu(NamedTuple):
    """`phi(x) = elu(x) + 1`, R = H.

    Source: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.2.1, equation 7. Differs: none.
    """

    def __call__(self, vectors: Array) -> Features:
        """[..., H] -> R = H features."""
        features = jnp.where(vectors > 0, vectors + 1.0, jnp.exp(jnp.minimum(vectors, 0.0)))
        return Features(features, jnp.zeros_like(vectors[..., 0]))

    def size(self, head_width: int) -> int:
        """R."""
        return head_width

    def flops(self, head_width: int) -> float:
        """Of one vector."""
        return 0.0


class Taylor(NamedTuple):
    """`phi(x) = [1, y, vec(y y^T) / sqrt(2)]`, y = x H^(-1/4), R = 1 + H + H^2: choose a small H.

    So phi(q) . phi(k) = 1 + r + r^2 / 2, the first terms of exp(r), r = q . k / sqrt(H).

    Source: Arora et al. 2024, arXiv:2402.18668, section 4.1. Differs: none.
    """

    def __call__(self, vectors: Array) -> Features:
        """[..., H] -> R = 1 + H + H^2 features."""
        vectors = vectors * vectors.shape[-1]**-0.25
        squares = vectors[..., :, None] * vectors[..., None, :] / math.sqrt(2.0)
        ones = jnp.ones_like(vectors[..., :1])
        features = jnp.concatenate([ones, vectors, squares.reshape(*vectors.shape[:-1], vectors.shape[-1]**2)], axis=-1)
        return Features(features, jnp.zeros_like(vectors[..., 0]))

    def size(self, head_width: int) -> int:
        """R."""
        return 1 + head_width + head_width**2

    def flops(self, head_width: int) -> float:
        """Of one vector."""
        return 0.0


class Performer(NamedTuple):
    """`phi(x) = exp(omega y - |y|^2 / 2) / sqrt(R)`, y = x H^(-1/4): on average over omega, phi(q) . phi(k) = exp(r).

    Source: Choromanski et al. 2021, arXiv:2009.14794, sections 2.3 and 2.4. Differs: omega is drawn once, from the
    seed; no constant is added to the features; the factor 1 / sqrt(R), which a normalised read does not see, is left
    out.
    """

    count: int
    seed: int

    def __call__(self, vectors: Array) -> Features:
        """[..., H] -> R = `count` features."""
        omega = orthogonal_rows(self.count, vectors.shape[-1], self.seed).astype(vectors.dtype)
        vectors = vectors * vectors.shape[-1]**-0.25
        logs = jnp.einsum('...h,rh->...r', vectors, omega) - jnp.sum(vectors**2, axis=-1, keepdims=True) / 2.0
        highest = jax.lax.stop_gradient(jnp.max(logs, axis=-1))
        return Features(jnp.exp(logs - highest[..., None]), highest)

    def size(self, head_width: int) -> int:
        """R."""
        return self.count

    def flops(self, head_width: int) -> float:
        """Of one vector."""
        return 2.0 * self.count * head_width


@functools.lru_cache
def orthogonal_rows(count: int, head_width: int, seed: int) -> np.ndarray:
    """Gaussian rows [count, H] of which each H are orthogonal, with the lengths of independent ones; float64."""
    random = np.random.default_rng(seed)
    blocks = []
    for _ in range(-(-count // head_width)):
        rows, triangle = np.linalg.qr(random.normal(size=(head_width, head_width)))
        blocks.append((rows * np.sign(np.diag(triangle))).T)
    lengths = np.linalg.norm(random.normal(size=(count, head_width)), axis=1, keepdims=True)
    return np.concatenate(blocks)[:count] * lengths


FeatureMap = Elu | Taylor | Performer
FEATURE_MAPS = {'elu': Elu, 'taylor': Taylor, 'performer': Performer}


def feature_map(name: str, **options: int) -> FeatureMap:
    """Makes one of FEATURE_MAPS.

    Raises:
      UserError: an unknown name or option, an option without a value, or one below its smallest.
    """
    if name not in FEATURE_MAPS:
        raise UserError(f'feature_map.name is {name!r}; it must be one of {", ".join(FEATURE_MAPS)}.'
                        f'{nearest(name, FEATURE_MAPS)}')
    known = FEATURE_MAPS[name]._fields
    if set(options) != set(known):
        raise UserError(f'feature_map {name!r} has the options {", ".join(known) or "none"}, not '
                        f'{", ".join(options) or "none"}')
    for option, value in options.items():
        low = 0 if option == 'seed' else 1
        if type(value) is not int or value < low:
            raise UserError(f'feature_map.{option} is {value!r}; it must be a whole number, at least {low}')
    return FEATURE_MAPS[name](**options)


def similarity_weights(queries: Array, keys: Features, mask: Array) -> Array:
    """`weights[t, s] = phi(q[t]) . phi(k[s]) / sum over s'`, over what may be read.

    Args:
      queries: [B, T, N, R], features up to a factor.
      keys: [B, S, N, R] and [B, S, N].
      mask: boolean [B, T, S], True = may be read.

    Returns:
      [B, N, T, S]; each row sums to one, or is all zero if nothing is readable.

    Source: Katharopoulos et al. 2020, arXiv:2006.16236, equation 4. Differs: the empty row.
    """
    mask, scale = mask[:, None], jnp.moveaxis(keys.log_scale, 2, 1)[:, :, None]  # [B, 1, T, S] and [B, N, 1, S]
    highest = jnp.max(jnp.where(mask, scale, jnp.finfo(scale.dtype).min), axis=-1, keepdims=True, initial=-jnp.inf)
    products = jnp.einsum('btnr,bsnr->bnts', queries, keys.vectors)
    products = jnp.where(mask, products * jnp.exp(jnp.where(mask, scale - highest, 0.0)), 0.0)
    total = jnp.sum(products, axis=-1, keepdims=True)
    return products / jnp.where(total > 0.0, total, 1.0)


def segment_sums(keys: Features, values: Array, segment: Array, segments: int) -> Array:
    """`M[g] = sum over s of segment g of phi(k[s]) v[s]^T`, up to a factor of each g.

    Args:
      keys: [B, S, N, R] and [B, S, N].
      values: [B, S, N, H_v].
      segment: int32 [B, S].
      segments: G; what is of a later one is left out.

    Returns:
      [B, G, N, R, H_v].

    Source: Katharopoulos et al. 2020, arXiv:2006.16236, equation 6. Differs: none.
    """
    own = (segment[:, :, None] == jnp.arange(1, segments + 1))[..., None]  # [B, S, G, 1]
    scale = keys.log_scale[:, :, None]
    highest = jnp.max(jnp.where(own, scale, jnp.finfo(scale.dtype).min), axis=1, keepdims=True, initial=-jnp.inf)
    shares = jnp.where(own, jnp.exp(jnp.where(own, scale - highest, 0.0)), 0.0)
    return jnp.einsum('bsgn,bsnr,bsnv->bgnrv', shares, keys.vectors, values)


class Entries(NamedTuple):
    """Features of keys, and values."""

    keys: Features   # [B, S, N, R] and [B, S, N]
    values: Array    # [B, S, N, H]
    places: Places   # [B, S] each


class Sums(NamedTuple):
    """All that a query of a segment can see, in the size of one position."""

    memory: Array    # [B, G, N, R, H + 1]: sums of phi(k) v^T, and of phi(k)


class RunningSums(NamedTuple):
    """Sums over the segment of the last position, divided by the highest scale of its keys."""

    kept: Kept       # [B, N, R, H + 1]
    highest: Array   # [B, N]: the log of that scale


class Linear(Attention, kw_only=True):
    """N heads that compare features: what was read fits into sums whose size does not depend on how much it was.

        read[t, n] = sum_s phi(q[t, n]) . phi(k[s, n]) v[s, n] / sum_s phi(q[t, n]) . phi(k[s, n])
                   = phi(q)^T M / (phi(q) . z),   M = sum_s phi(k[s]) v[s]^T,   z = sum_s phi(k[s])
        context[t] = read[t] W_O;   q, k, v are projections [B, T, N, H] without biases

    Path 'explicit' makes the weights of every pair. Path 'chunked' makes sums: one for each segment, or where it is
    causal one after each position, in chunks. There the memory of a cross-attention and the carry of a decoder have
    N R (H + 1) numbers, however long the sequence; on path 'explicit' both grow with it.

    Source: Katharopoulos et al. 2020, arXiv:2006.16236, section 3; the feature maps name theirs. Differs: the empty
    row.

    Attributes:
      heads: N, at least 1.
      head_width: H; 0 means D / N, which must then be a whole number.
      feature_map: phi.
      chunk: C, how many positions path 'chunked' takes at a time where it is causal.
      segments: G, the most sentences in a row that path 'chunked' keeps apart where it is not causal: each has sums of
        its own. A query of a later one gets nan.
    """

    heads: int
    head_width: int
    feature_map: FeatureMap
    chunk: int
    segments: int

    def __post_init__(self):
        check_heads(self)
        at_least(1, chunk=self.chunk, segments=self.segments)
        super().__post_init__()

    def setup(self):
        self.query_projection, self.key_projection, self.value_projection, self.output_projection = head_projections(
            self)

    def _features(self, vectors, places):
        """Features of projections [B, T, N, H], in float32 or better; those of pads are those of 0."""
        vectors = jnp.where((places.segment > 0)[:, :, None, None], vectors, 0.0)
        return self.feature_map(vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32)))

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Entries | Sums:
        keys, values = self._features(self.key_projection(source), places), self.value_projection(source)
        values = jnp.where((places.segment > 0)[:, :, None, None], values, 0.0)
        if self.path == 'chunked':
            ones = jnp.ones_like(values[..., :1])  # what they sum up to is z
            values = jnp.concatenate([values, ones], axis=-1).astype(keys.vectors.dtype)
            if not self.causal:
                return Sums(segment_sums(keys, values, places.segment, self.segments))
        return Entries(keys, values, places)

    def start(self, memory: Entries | Sums, length: int) -> Carry:
        if self.path == 'explicit' or self.role == 'cross' or length == 0 or not self.causal:
            return cache.start(self, memory, length)
        return self._nothing(memory)

    def _nothing(self, memory):
        """The sums before the first position."""
        kept = recurrences.empty(memory.keys.vectors, memory.values)
        return RunningSums(kept, jnp.zeros(kept.memory.shape[:2], kept.memory.dtype))

    def __call__(self, query: Array, memory: Entries | Sums, carry: Carry, places: Places,
                 rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D], weights [B, N, T, S]."""
        queries, weights = self._features(self.query_projection(query), places).vectors, None
        if self.path == 'explicit':
            memory, carry = cache.readable(memory, carry)
            weights = similarity_weights(queries, memory.keys, readable(places, memory.places, causal=self.causal))
            context = jnp.einsum('bnts,bsnh->btnh', weights.astype(memory.values.dtype), memory.values)
            context = cache.nan_past_the_end(context, carry)
        else:
            sums, carry = self._running(queries, memory, carry) if self.causal else (self._own(queries, memory, places),
                                                                                    carry)
            total = sums[..., -1:]
            context = jnp.where(total == 0.0, 0.0, sums[..., :-1] / jnp.where(total == 0.0, 1.0, total))
        return Read(self.output_projection(context), weights, carry)

    def _own(self, queries, memory, places):
        """What each query reads in the sums of its segment, [B, T, N, H + 1]."""
        own = places.segment[:, :, None] == jnp.arange(1, self.segments + 1)
        reads = jnp.einsum('btg,btnr,bgnrv->btnv', own.astype(queries.dtype), queries, memory.memory)
        return jnp.where((places.segment > self.segments)[:, :, None, None], jnp.nan, reads)

    def _running(self, queries, memory, carry):
        """What each query reads in the sums after its position, [B, T, N, H + 1]; the next carry."""
        before = carry if isinstance(carry, RunningSums) else self._nothing(memory)
        begins, _ = recurrences.begins(memory.places, before.kept.segment)
        scale, real = memory.keys.log_scale, memory.places.segment > 0
        seen = jnp.where(real[..., None], scale, -jnp.inf)  # pads are not
        highest = recurrences.running(jnp.maximum, seen, begins, before.highest)
        # What is kept is divided by the highest scale, which falls out when it is normalised.
        keys = memory.keys.vectors * jnp.exp(jnp.where(real[..., None], scale - highest[:, 1:], 0.0))[..., None]
        written = Written(keys, memory.values, (highest[:, :-1] - highest[:, 1:])[..., None], None, memory.places)
        reads, kept = recurrences.read(self, queries, written, before.kept)
        return reads, RunningSums(kept, highest[:, -1]) if isinstance(carry, RunningSums) else ()

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The projections and features, and the weights of all pairs or what is done with the sums."""
        N, H, R = self.heads, width(self), self.feature_map.size(width(self))
        flops = (2.0 * N * H * (2 * entries * source_width + queries * (query_width + self.features))
                 + N * self.feature_map.flops(H) * (queries + entries))
        if self.path == 'explicit':
            return flops + 2.0 * N * queries * entries * (R + H)
        if self.causal:
            return flops + recurrences.flops(self, queries, R, H + 1)
        return flops + 2.0 * N * self.segments * R * (H + 1) * (queries + entries)
