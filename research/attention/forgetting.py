"""Attention that forgets: by a gate at each position, or because later positions decide that an entry is done with."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.attention import cache, normalisers, recurrences
from research.attention.cache import Cache
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.masks import readable
from research.attention.multi_head import attend, check_heads, head_projections, width
from research.attention.normalisers import Normaliser
from research.shapes import Array, Places


class Kept(NamedTuple):
    """Keys and values, and how much is kept of what came before each of them."""

    keys: Array         # [B, S, N, H]
    values: Array       # [B, S, N, H]
    places: Places      # [B, S] each
    log_kept: Array     # [B, S, N]: log of the gate at each position, 0 at pads; its running sum once it is in a carry


class ForgettingCarry(NamedTuple):
    """What was written, and the sum of the logs of the gates so far."""

    cache: Cache        # of Kept, with sums for log_kept
    total: Array        # [B, N]: over the segment of the last position
    segment: Array      # int32 [B]: of the last position that was no pad


class Forgetting(Attention, kw_only=True):
    """Logits lose what the gates between key and query forget: `logits[t, s] += sum over s < j <= t of log f[j]`.

        f[t, n] = sigmoid(x[t] w[n] + b[n]);   everything else is as in `multi_head_dot`

    Self role, causal. No positions are needed: the sum falls with distance.

    Source: Lin et al. 2025, arXiv:2503.02130, section 3. Differs: none (its output gate and norms are options of
    other entries).

    Attributes:
      heads: N, at least 1.
      head_width: H; 0 means D / N, which must then be a whole number.
      projection_bias: whether the four projections add a bias; the gate always does.
      normaliser: what makes weights of logits: one of attention/normalisers.py.
    """

    heads: int
    head_width: int
    projection_bias: bool
    normaliser: str

    def __post_init__(self):
        check_heads(self)
        normalisers.check(self.normaliser, self.path)
        super().__post_init__()

    def setup(self):
        self.query_projection, self.key_projection, self.value_projection, self.output_projection = head_projections(
            self, bias=self.projection_bias)
        self.gate_projection = nn.Dense(self.heads, dtype=self.dtype)
        self.normalise = Normaliser(self.normaliser, self.heads)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Kept:
        gates = self.gate_projection(source)
        gates = gates.astype(jnp.promote_types(gates.dtype, jnp.float32))
        log_kept = jnp.where((places.segment > 0)[..., None], jax.nn.log_sigmoid(gates), 0.0)
        return Kept(self.key_projection(source), self.value_projection(source), places, log_kept)

    def start(self, memory: Kept, length: int) -> Carry:
        empty = cache.start(self, memory, length)
        return empty if empty == () else ForgettingCarry(empty, *self._nothing(memory))

    def _nothing(self, memory):
        """The sum before the first position, and its segment."""
        batch = memory.log_kept.shape[0]
        return jnp.zeros((batch, self.heads), memory.log_kept.dtype), jnp.zeros(batch, jnp.int32)

    def __call__(self, query: Array, memory: Kept, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D], weights [B, N, T, S]."""
        carried = isinstance(carry, ForgettingCarry)
        total, segment = (carry.total, carry.segment) if carried else self._nothing(memory)
        begins, segment = recurrences.begins(memory.places, segment)
        # The queries of a call are the positions that it writes.
        sums = recurrences.running(jnp.add, memory.log_kept, begins, total)[:, 1:]
        memory = memory._replace(log_kept=sums)
        written = carry.cache if carried else ()
        memory, written = cache.readable(memory, written)
        bias = jnp.swapaxes(sums, 1, 2)[..., None] - jnp.swapaxes(memory.log_kept, 1, 2)[:, :, None]
        mask = readable(places, memory.places, causal=True)
        bias = jnp.where(mask[:, None], bias, 0.0)  # what lies ahead would grow without bound, and its gradient with it
        context, weights = attend(self.query_projection(query), memory.keys, memory.values, mask=mask, bias=bias,
                                  scale=1.0 / math.sqrt(width(self)), path=self.path, normalise=self.normalise)
        context = cache.nan_past_the_end(context, written)
        return Read(self.output_projection(context), weights,
                    ForgettingCarry(written, sums[:, -1], segment) if carried else ())

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """As multi_head_dot, and the gates."""
        N, H = self.heads, width(self)
        return (2.0 * N * H * (2 * entries * source_width + queries * (query_width + self.features)
                               + 2 * queries * entries) + 2.0 * N * entries * source_width)


class SelectiveCarry(NamedTuple):
    """What was written, and how much earlier queries have masked of each entry."""

    cache: Cache
    masked: Array   # [B, L]


class Selective(Attention, kw_only=True):
    """A query masks entries for those that come later: `logits[n, t, s] -= sum over t' < t of relu(logits[0, t', s])`.

    The first head's logits decide for all; an entry is not masked by itself, and the first position never is.

    Self role, causal.

    Source: Leviathan, Kalman, Matias 2024, arXiv:2410.02703, section 3. Differs: none.

    Attributes:
      heads: N, at least 1.
      head_width: H; 0 means D / N, which must then be a whole number.
      projection_bias: whether the four projections add a bias.
      normaliser: what makes weights of logits: one of attention/normalisers.py.
    """

    heads: int
    head_width: int
    projection_bias: bool
    normaliser: str

    def __post_init__(self):
        check_heads(self)
        normalisers.check(self.normaliser, self.path)
        super().__post_init__()

    def setup(self):
        self.query_projection, self.key_projection, self.value_projection, self.output_projection = head_projections(
            self, bias=self.projection_bias)
        self.normalise = Normaliser(self.normaliser, self.heads)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return Memory(self.key_projection(source), self.value_projection(source), places)

    def start(self, memory: Memory, length: int) -> Carry:
        empty = cache.start(self, memory, length)
        dtype = jnp.promote_types(memory.keys.dtype, jnp.float32)
        return empty if empty == () else SelectiveCarry(empty, jnp.zeros((memory.keys.shape[0], length), dtype))

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D], weights [B, N, T, S]."""
        carried = isinstance(carry, SelectiveCarry)
        memory, written = cache.readable(memory, carry.cache if carried else ())
        queries, scale = self.query_projection(query), 1.0 / math.sqrt(width(self))
        mask = readable(places, memory.places, causal=True)
        logits = scale * jnp.einsum('bth,bsh->bts', queries[:, :, 0], memory.keys[:, :, 0],
                                    preferred_element_type=jnp.promote_types(queries.dtype, jnp.float32))
        key, at = memory.places.position[:, None, :], places.position[:, :, None]
        selected = jnp.where(mask & (key != at) & (key != 0), jax.nn.relu(logits), 0.0)
        through = jnp.cumsum(selected, axis=1) + (carry.masked[:, None] if carried else 0.0)
        context, weights = attend(queries, memory.keys, memory.values, mask=mask, bias=(selected - through)[:, None],
                                  scale=scale, path=self.path, normalise=self.normalise)
        context = cache.nan_past_the_end(context, written)
        return Read(self.output_projection(context), weights,
                    SelectiveCarry(written, through[:, -1]) if carried else ())

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """As multi_head_dot, and the first head's logits once more."""
        N, H = self.heads, width(self)
        return (2.0 * N * H * (2 * entries * source_width + queries * (query_width + self.features)
                               + 2 * queries * entries) + 2.0 * H * queries * entries)
