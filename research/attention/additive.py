"""Energies from a small network: the first attention."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.attention import single_head
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.normalisers import Normaliser, check
from research.errors import at_least
from research.shapes import Array, Places

QUERIES = 64


def in_blocks(energies: Callable[[Array], Array], query: Array) -> Array:
    """`energies(query)`, QUERIES positions at a time where there are more; for gradients a block is made again.

    Args:
      energies: [B, T, ...] -> [B, ..., T, S], each query by itself.
      query: [B, T, ...].

    Returns:
      [B, ..., T, S].
    """
    B, T = query.shape[:2]
    if T <= QUERIES:
        return energies(query)
    count = -(-T // QUERIES)
    query = jnp.pad(query, ((0, 0), (0, count * QUERIES - T)) + ((0, 0),) * (query.ndim - 2))
    blocks = jnp.moveaxis(query.reshape(B, count, QUERIES, *query.shape[2:]), 1, 0)
    found = jnp.moveaxis(jax.lax.map(jax.checkpoint(energies, prevent_cse=False), blocks), 0, -3)
    return found.reshape(*found.shape[:-3], count * QUERIES, found.shape[-1])[..., :T, :]


def additive_energies(query: Array, keys: Array, vector: Array) -> Array:
    """How well each source position answers each query: `e[t, s] = vector . tanh(query[t] + keys[s])`.

    Takes B x T x S x A numbers of memory, T at most QUERIES.

    Args:
      query: [B, T, A], projected.
      keys: [B, S, A], projected.
      vector: [A].

    Returns:
      [B, T, S], in float32 or better.

    Source: Bahdanau, Cho, Bengio 2015, arXiv:1409.0473, appendix A.1.2. Differs: none.
    """
    dtype = jnp.promote_types(jnp.result_type(query, keys), jnp.float32)

    def energies(query):
        return jnp.einsum('btsa,a->bts', jnp.tanh(query[:, :, None] + keys[:, None]), vector,
                          preferred_element_type=dtype)
    return in_blocks(energies, query)


class Additive(Attention, kw_only=True):
    """One head with the energy `e[t, s] = v . tanh(W q[t] + U h[s])`; W [D_q, A], U [D_s, A], v [A]; reads h itself.

    Source: Bahdanau, Cho, Bengio 2015, arXiv:1409.0473, section 3.1 and appendix A.1.2. Differs: initial values (there
    W and U from N(0, 0.001^2) and v zero; here the variance is one over the number of inputs).

    Attributes:
      energy_width: A, at least 1.
      normaliser: what makes weights of energies: one of attention/normalisers.py.
    """

    energy_width: int
    normaliser: str

    def __post_init__(self):
        at_least(1, energy_width=self.energy_width)
        check(self.normaliser)
        super().__post_init__()

    def setup(self):
        self.query_projection = nn.Dense(self.energy_width, use_bias=False, dtype=self.dtype)
        self.key_projection = nn.Dense(self.energy_width, use_bias=False, dtype=self.dtype)
        self.vector = self.param('vector', nn.initializers.normal(self.energy_width**-0.5), (self.energy_width,))
        self.normalise = Normaliser(self.normaliser, 1)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return Memory(self.key_projection(source), source.astype(self.dtype or source.dtype), places)

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D_s], weights [B, 1, T, S]."""
        query = self.query_projection(query)
        energies = additive_energies(query, memory.keys, self.vector.astype(query.dtype))
        return single_head.read(energies, memory, places, self.normalise)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """Both projections, one addition and one product an energy and unit, and the weighted sum."""
        A = self.energy_width
        return (2.0 * A * (entries * source_width + queries * query_width)
                + queries * entries * (3.0 * A + 2.0 * source_width))


def normalised(vector: Array, factor: Array) -> Array:
    """The vector at length `factor`: `factor vector / |vector|`."""
    return factor * vector / jnp.sqrt(jnp.sum(vector**2))


class NormalisedAdditive(Attention, kw_only=True):
    """Additive with a vector whose length is learned by itself: `e[t, s] = g (v / |v|) . tanh(W q[t] + U h[s] + b)`.

    W [D_q, A], U [D_s, A], v and b [A], g a number; reads h itself.

    Source: TensorFlow Addons, BahdanauAttention(normalize=True): Bahdanau, Cho, Bengio 2015, arXiv:1409.0473, with
    weight normalisation, Salimans and Kingma 2016, arXiv:1602.07868, section 2. It is the model of no paper. Differs:
    none; g starts at 1 / sqrt(A) and b at 0, as there.

    Attributes:
      energy_width: A, at least 1.
      normaliser: what makes weights of energies: one of attention/normalisers.py.
    """

    energy_width: int
    normaliser: str

    def __post_init__(self):
        at_least(1, energy_width=self.energy_width)
        check(self.normaliser)
        super().__post_init__()

    def setup(self):
        A = self.energy_width
        self.query_projection = nn.Dense(A, use_bias=False, dtype=self.dtype)
        self.key_projection = nn.Dense(A, use_bias=False, dtype=self.dtype)
        self.vector = self.param('vector', nn.initializers.normal(A**-0.5), (A,))
        self.factor = self.param('factor', nn.initializers.constant(A**-0.5), ())
        self.bias = self.param('bias', nn.initializers.zeros, (A,))
        self.normalise = Normaliser(self.normaliser, 1)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return Memory(self.key_projection(source), source.astype(self.dtype or source.dtype), places)

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D_s], weights [B, 1, T, S]."""
        query = self.query_projection(query)
        query = query + self.bias.astype(query.dtype)
        vector = normalised(self.vector, self.factor).astype(query.dtype)
        return single_head.read(additive_energies(query, memory.keys, vector), memory, places, self.normalise)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """Both projections, one addition and one product an energy and unit, and the weighted sum."""
        A = self.energy_width
        return (2.0 * A * (entries * source_width + queries * query_width)
                + queries * entries * (3.0 * A + 2.0 * source_width))
