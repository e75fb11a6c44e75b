"""An energy that knows where was read before, and so can move on."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.attention import single_head
from research.attention.additive import additive_energies
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.coverage import as_function, one_by_one
from research.attention.masks import readable
from research.attention.normalisers import Normaliser, check
from research.errors import UserError, at_least
from research.shapes import Array, Places


class Aligned(NamedTuple):
    """What the queries of its own segment gave to each source position so far."""

    weights: Array  # [B, S, 1], the last one's; or [B, S, 2], beside the sum of all; float32 or better


def convolution(signals: Array, filters: Array) -> Array:
    """What every filter finds around every position: `found[s, f] = sum_jc filters[j, c, f] signals[s + j - C, c]`.

    Args:
      signals: [B, S, channels]; beyond both ends there are zeros.
      filters: [2 C + 1, channels, filters].

    Returns:
      [B, S, filters].
    """
    return jax.lax.conv_general_dilated(signals, filters, (1,), 'SAME', dimension_numbers=('NWC', 'WIO', 'NWC'))


def location_sensitive_weights(query: Array, keys: Array, filters: Array, projection: Array, vector: Array, mask: Array,
                               before: Array, normalise: Callable[[Array, Array], Array]) -> tuple[Array, Array]:
    """Weights of additive energies that see the weights of the query before.

        e[t, s] = vector . tanh(query[t] + keys[s] + found[t, s] P);   found[t] = weights[t-1] convolved with filters

    With two channels also sum over u < t of weights[u] is convolved. What may not be read is zero in both.

    Args:
      query: [B, T, A], projected.
      keys: [B, S, A], projected.
      filters: [2 C + 1, channels, filters].
      projection: P, [filters, A].
      vector: [A].
      mask: boolean [B, T, S], what may be read; entries of a segment stand side by side, in order.
      before: [B, S, channels]: before the first query, the last weights and, with two channels, the sum of all.
      normalise: (logits [B, 1, 1, S], mask [B, 1, 1, S]) -> weights.

    Returns:
      weights [B, T, S]; and what is `before` for the next queries.

    Source: Chorowski et al. 2015, arXiv:1506.07503, section 2.2, equations 8 and 9; two channels: Shen et al. 2018,
    arXiv:1712.05884, section 2.3 (Tacotron 2). Differs: none.
    """
    def one(before, at):
        query, mask = at
        found = convolution(jnp.where(mask[..., None], before, 0.0), filters).astype(keys.dtype)
        energies = additive_energies(query[:, None], keys + found @ projection, vector)
        weights = normalise(energies[:, None], mask[:, None, None])[:, 0, 0]
        last = jnp.where(mask, weights, before[..., 0])
        return jnp.stack([last, before[..., -1] + weights][:before.shape[-1]], axis=-1), weights
    after, weights = one_by_one(one, before, (query, mask))
    return weights, after


class LocationSensitive(Attention, kw_only=True):
    """Additive, with an energy that sees where the query before has read; reads h itself.

        found[t] = weights[t-1] convolved with F;   e[t, s] = v . tanh(W q[t] + U h[s] + found[t, s] P + b)

    W [D_q, A], U [D_s, A], F [width, 1, filters], P [filters, A], v and b [A]; weights before the first query are zero.
    With `cumulative` the convolution also takes the sum of all weights before, F [width, 2, filters]. Queries are read
    one after another, and the weights are carried. Source positions of a segment stand side by side, in order.

    Source: Chorowski et al. 2015, arXiv:1506.07503, section 2.2; cumulative: Shen et al. 2018, arXiv:1712.05884,
    section 2.3 (Tacotron 2: 32 filters of width 31). Differs: none.

    Attributes:
      energy_width: A, at least 1.
      filters: how many, at least 1.
      width: positions that a filter sees, odd.
      cumulative: whether the sum of all weights before is seen too.
      normaliser: what makes weights of energies: one of attention/normalisers.py.
    """

    energy_width: int
    filters: int
    width: int
    cumulative: bool
    normaliser: str

    def __post_init__(self):
        at_least(1, energy_width=self.energy_width, filters=self.filters)
        if self.width < 1 or self.width % 2 == 0:
            raise UserError(f'width is {self.width}; it must be odd, and at least 1')
        check(self.normaliser)
        super().__post_init__()

    def setup(self):
        A, inputs = self.energy_width, self._channels() * self.width
        self.query_projection = nn.Dense(A, use_bias=False, dtype=self.dtype)
        self.key_projection = nn.Dense(A, use_bias=False, dtype=self.dtype)
        self.kernel = self.param('kernel', nn.initializers.normal(inputs**-0.5),
                                 (self.width, self._channels(), self.filters))
        self.found_projection = self.param('found_projection', nn.initializers.normal(self.filters**-0.5),
                                           (self.filters, A))
        self.vector = self.param('vector', nn.initializers.normal(A**-0.5), (A,))
        self.bias = self.param('bias', nn.initializers.zeros, (A,))
        self.normalise = Normaliser(self.normaliser, 1)

    @nn.nowrap
    def _channels(self) -> int:
        return 2 if self.cumulative else 1

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return Memory(self.key_projection(source), source.astype(self.dtype or source.dtype), places)

    def start(self, memory: Memory, length: int) -> Carry:
        dtype = jnp.promote_types(memory.keys.dtype, jnp.float32)
        return Aligned(jnp.zeros((*memory.keys.shape[:2], self._channels()), dtype))

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D_s], weights [B, 1, T, S]; carry () = the start."""
        carry = carry or self.start(memory, query.shape[1])
        query = self.query_projection(query)
        projection, vector, bias = (leaf.astype(query.dtype) for leaf in (self.found_projection, self.vector,
                                                                          self.bias))
        weights, after = location_sensitive_weights(
            query + bias, memory.keys, self.kernel.astype(carry.weights.dtype), projection, vector,
            readable(places, memory.places), carry.weights, as_function(self.normalise))
        weights = weights[:, None]
        return Read(single_head.context(weights, memory.values), weights, Aligned(after))

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """Both projections; an energy's convolution, projection, two additions and a product; and the weighted sum."""
        A, found = self.energy_width, self._channels() * self.width * self.filters
        return (2.0 * A * (entries * source_width + queries * query_width)
                + queries * entries * (2.0 * found + A * (2.0 * self.filters + 4.0) + 2.0 * source_width))
