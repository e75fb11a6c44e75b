"""Relative positions: what a self-attention adds to its logits or does to its queries and keys; one class each."""

import abc
import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.attention import positions
from research.errors import UserError, nearest
from research.shapes import Array, Places


class Positions(nn.Module, abc.ABC):
    """Abstract: a scheme of positions for N heads of width H. What a scheme does not do, it leaves as it is.

    Attributes:
      heads: N.
      head_width: H.
      causal: whether queries read earlier positions only.
    """

    heads: int
    head_width: int
    causal: bool

    needs_weights: ClassVar[bool] = False  # whether `read` adds something, so that weights must be made

    def rotate(self, vectors: Array, position: Array) -> Array:
        """Queries or keys [B, T, N, H] at their absolute positions int32 [B, T]."""
        return vectors

    def bias(self, query: Array, query_places: Places, key_places: Places) -> Array | None:
        """What is added to the scaled logits, finite, broadcast against [B, N, T, S]; query [B, T, N, H] is scaled."""
        return None

    def read(self, weights: Array, query_places: Places, key_places: Places) -> Array | None:
        """What is added to the values that were read: weights [B, N, T, S] -> [B, T, N, H]."""
        return None

    @nn.nowrap
    def flops(self, queries: int, entries: int) -> float:
        """FLOPs of matrix products, where a scheme has some."""
        return 0.0


class NoPositions(Positions):
    """Nothing: order is seen through causality alone, or through what was added to the embeddings."""


class Rotary(Positions, kw_only=True):
    """`positions.rotary` of queries and keys; a key is turned before it is stored, so decoding is right.

    Attributes:
      base: of the wavelengths; 10000 in the paper.
    """

    base: float

    def __post_init__(self):
        if not 0.0 < self.base < math.inf:
            raise UserError(f'position.base is {self.base}; it must be above 0 and finite')
        super().__post_init__()

    def rotate(self, vectors: Array, position: Array) -> Array:
        return positions.rotary(vectors, position, self.base)


class Alibi(Positions):
    """`bias[n, t, s] = - m[n] |s - t|`, m fixed.

    Source: Press, Smith, Lewis 2022, arXiv:2108.12409, section 3. Differs: also both directions, by absolute distance.
    """

    def bias(self, query: Array, query_places: Places, key_places: Places) -> Array:
        far = jnp.abs(positions.distances(query_places.position, key_places.position))
        dtype = jnp.promote_types(query.dtype, jnp.float32)
        return -positions.alibi_slopes(self.heads).astype(dtype)[:, None, None] * far[:, None]


class T5Bias(Positions, kw_only=True):
    """`bias[n, t, s] = table[n, bucket(s - t)]`, learned.

    Source: Raffel et al. 2020, arXiv:1910.10683, section 2.1. Differs: each layer has a table of its own (T5 shares
    one); logits are still divided by sqrt(H).

    Attributes:
      buckets: even, at least 4.
      maximum_distance: from which on all share the last bucket; above the distances that have one each.
    """

    buckets: int
    maximum_distance: int

    def __post_init__(self):
        if self.buckets < 4 or self.buckets % 2:
            raise UserError(f'position.buckets is {self.buckets}; it must be even and at least 4')
        if self.maximum_distance <= self.buckets // 2:
            raise UserError(f'position.maximum_distance is {self.maximum_distance}; it must be above half the buckets, '
                            f'{self.buckets // 2}, which have a distance each')
        super().__post_init__()

    def setup(self):
        self.table = self.param('table', nn.initializers.normal(0.02), (self.heads, self.buckets))

    def bias(self, query: Array, query_places: Places, key_places: Places) -> Array:
        distance = positions.distances(query_places.position, key_places.position)
        bucket = positions.t5_buckets(distance, self.buckets, self.maximum_distance, self.causal)
        return jnp.moveaxis(self.table[:, bucket], 0, 1)


class Shaw(Positions, kw_only=True):
    """Learned vectors of clipped distances that are added to keys and to values, shared by the heads.

        logits += q[t, n] . a_K[clip(s - t)] / sqrt(H);   read[t, n] += sum_s weights[n, t, s] a_V[clip(s - t)]

    Source: Shaw, Uszkoreit, Vaswani 2018, arXiv:1803.02155, section 3. Differs: none.

    Attributes:
      distance: C, beyond which all distances are one.
    """

    distance: int

    needs_weights = True

    def __post_init__(self):
        if self.distance < 0:
            raise UserError(f'position.distance is {self.distance}; it must be at least 0')
        super().__post_init__()

    def setup(self):
        shape = (2 * self.distance + 1, self.head_width)
        self.key_table = self.param('key_table', nn.initializers.normal(self.head_width**-0.5), shape)
        self.value_table = self.param('value_table', nn.initializers.normal(self.head_width**-0.5), shape)

    def _entries(self, query_places, key_places):
        far = positions.distances(query_places.position, key_places.position)
        return jnp.clip(far, -self.distance, self.distance) + self.distance

    def bias(self, query: Array, query_places: Places, key_places: Places) -> Array:
        products = jnp.einsum('btnh,ch->bntc', query, self.key_table.astype(query.dtype),
                              preferred_element_type=jnp.promote_types(query.dtype, jnp.float32))
        entries = self._entries(query_places, key_places)[:, None]
        return jnp.take_along_axis(products, jnp.broadcast_to(entries, (*products.shape[:3], entries.shape[-1])), -1)

    def read(self, weights: Array, query_places: Places, key_places: Places) -> Array:
        chosen = jax.nn.one_hot(self._entries(query_places, key_places), 2 * self.distance + 1, dtype=weights.dtype)
        far = jnp.einsum('bnts,btsc->btnc', weights, chosen)
        return jnp.einsum('btnc,ch->btnh', far, self.value_table.astype(weights.dtype))

    @nn.nowrap
    def flops(self, queries: int, entries: int) -> float:
        C = 2 * self.distance + 1
        return 2.0 * self.heads * queries * C * (2 * self.head_width + entries)


class KerpleLog(Positions):
    """`positions.kerple_log` with p and a learned for each head, both 1 at the start."""

    def setup(self):
        self.power = self.param('power', nn.initializers.ones, (self.heads,))
        self.factor = self.param('factor', nn.initializers.ones, (self.heads,))

    def bias(self, query: Array, query_places: Places, key_places: Places) -> Array:
        return positions.kerple_log(positions.distances(query_places.position, key_places.position), self.power,
                                    self.factor)


class KerplePower(Positions):
    """`positions.kerple_power` with p and a learned for each head, both 1 at the start."""

    def setup(self):
        self.power = self.param('power', nn.initializers.ones, (self.heads,))
        self.factor = self.param('factor', nn.initializers.ones, (self.heads,))

    def bias(self, query: Array, query_places: Places, key_places: Places) -> Array:
        return positions.kerple_power(positions.distances(query_places.position, key_places.position), self.power,
                                      self.factor)


class Fire(Positions, kw_only=True):
    """`positions.fire`; c is 0.1 at the start, and L is the threshold times a learned factor, 1 at the start.

    Attributes:
      hidden: F, the width of the network; 32 in the paper.
      threshold: L at the start, in positions; 512 in the paper.
    """

    hidden: int
    threshold: float

    def __post_init__(self):
        if self.hidden < 1:
            raise UserError(f'position.hidden is {self.hidden}; it must be at least 1')
        if not 0.0 < self.threshold < math.inf:
            raise UserError(f'position.threshold is {self.threshold}; it must be above 0 and finite')
        super().__post_init__()

    def setup(self):
        F, N, random = self.hidden, self.heads, nn.initializers.lecun_normal()
        self.curvature = self.param('curvature', nn.initializers.constant(0.1), ())
        self.factor = self.param('factor', nn.initializers.ones, ())
        self.inner = self.param('inner_kernel', random, (1, F)), self.param('inner_bias', nn.initializers.zeros, (F,))
        self.outer = self.param('outer_kernel', random, (F, N)), self.param('outer_bias', nn.initializers.zeros, (N,))

    def bias(self, query: Array, query_places: Places, key_places: Places) -> Array:
        distance = positions.distances(query_places.position, key_places.position)
        return positions.fire(distance, query_places.position, self.curvature, self.threshold * self.factor,
                              (self.inner[0][0], self.inner[1]), self.outer)

    @nn.nowrap
    def flops(self, queries: int, entries: int) -> float:
        return 2.0 * queries * entries * self.hidden * (1 + self.heads)


class Entry(NamedTuple):
    """What is known of a scheme."""

    name: str
    positions: type[Positions]
    paper: str
    summary: str


SCHEMES = {entry.name: entry for entry in (
    Entry('none', NoPositions, '-', 'nothing'),
    Entry('rotary', Rotary, 'Su 2021, arXiv:2104.09864', 'queries and keys turned by their position'),
    Entry('alibi', Alibi, 'Press 2022, arXiv:2108.12409', 'a fixed loss for each position of distance'),
    Entry('t5_bias', T5Bias, 'Raffel 2020, arXiv:1910.10683', 'a learned number for each bucket of distances'),
    Entry('shaw', Shaw, 'Shaw 2018, arXiv:1803.02155', 'learned vectors of distances, on keys and values'),
    Entry('kerple_log', KerpleLog, 'Chi 2022, arXiv:2205.09921', 'a learned loss, logarithmic in distance'),
    Entry('kerple_power', KerplePower, 'Chi 2022, arXiv:2205.09921', 'a learned loss, a power of distance'),
    Entry('fire', Fire, 'Li 2023, arXiv:2310.04418', 'a learned function of distance as a share of what is behind'),
)}


class Scheme(NamedTuple):
    """A scheme by name, with its options: makes the module once it is known for how many heads."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def make(self, heads: int, head_width: int, causal: bool) -> Positions:
        """The scheme's module."""
        return SCHEMES[self.name].positions(heads, head_width, causal, **dict(self.options))


def scheme(name: str, **options: Any) -> Scheme:
    """Makes a scheme.

    Raises:
      UserError: an unknown name or option, an option without a value, a value of the wrong type or range.
    """
    if name not in SCHEMES:
        raise UserError(f'position.name is {name!r}; it must be one of {", ".join(SCHEMES)}.{nearest(name, SCHEMES)}')
    fields = {field.name: field.type for field in dataclasses.fields(SCHEMES[name].positions)}
    known = {field: kind for field, kind in fields.items() if field not in
             {field.name for field in dataclasses.fields(Positions)}}
    if set(options) != set(known):
        raise UserError(f'position {name!r} has the options {", ".join(known) or "none"}, not '
                        f'{", ".join(options) or "none"}')
    for option, kind in known.items():
        if type(options[option]) is not kind:
            raise UserError(f'position.{option} is {options[option]!r}; it must be of type {kind.__name__}')
    made = Scheme(name, tuple(sorted(options.items())))
    made.make(2, 2, True)  # a value out of range raises here
    return made
