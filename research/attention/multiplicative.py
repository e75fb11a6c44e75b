"""Luong's energies, with one head: inner products, and a small network over both vectors together."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from research.attention import single_head
from research.attention.additive import additive_energies
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.normalisers import Normaliser, check
from research.errors import UserError, at_least
from research.shapes import Array, Places

SCALES = ('width', 'learned')
SOURCE_PROJECTIONS = ('learned', 'identity')


def dot_energies(query: Array, keys: Array) -> Array:
    """Inner products `e[t, s] = query[t] . keys[s]`: [B, T, D], [B, S, D] -> [B, T, S], in float32 or better."""
    dtype = jnp.promote_types(jnp.result_type(query, keys), jnp.float32)
    return jnp.einsum('btd,bsd->bts', query, keys, preferred_element_type=dtype)


def remember_unprojected(source: Array, places: Places, features: int, dtype: Any) -> Memory:
    """The annotations as they are, as keys and as values; raises UserError when they are not as wide as queries."""
    if source.shape[-1] != features:
        raise UserError(f'a dot product compares annotations of width {source.shape[-1]} with queries of width '
                        f"{features}: make encoder and decoder equally wide, or choose 'general'")
    source = source.astype(dtype or source.dtype)
    return Memory(source, source, places)


class Dot(Attention, kw_only=True):
    """One head with the energy `e[t, s] = q[t] . h[s]`; reads h itself. D_q and D_s are equal, or it raises.

    Source: Luong, Pham, Manning 2015, arXiv:1508.04025, section 3.1, equation 8 (dot). Differs: none.

    Attributes:
      normaliser: what makes weights of energies: one of attention/normalisers.py.
    """

    normaliser: str

    def __post_init__(self):
        check(self.normaliser)
        super().__post_init__()

    def setup(self):
        self.normalise = Normaliser(self.normaliser, 1)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return remember_unprojected(source, places, self.features, self.dtype)

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D], weights [B, 1, T, S]."""
        query = query.astype(self.dtype or query.dtype)
        return single_head.read(dot_energies(query, memory.keys), memory, places, self.normalise)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The products and the weighted sum."""
        return 2.0 * queries * entries * (query_width + source_width)


class ScaledDot(Attention, kw_only=True):
    """One head with the energy `e[t, s] = g q[t] . h[s]`; reads h itself. D_q and D_s are equal, or it raises.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1 (width); Luong's dot with a learned factor: TensorFlow
    Addons, LuongAttention(scale=True). Differs: Vaswani's queries, keys and values are projections; nothing is here.

    Attributes:
      scale: 'width', g = 1 / sqrt(D), or 'learned', g a parameter that starts at 1.
      normaliser: what makes weights of energies: one of attention/normalisers.py.
    """

    scale: str
    normaliser: str

    def __post_init__(self):
        if self.scale not in SCALES:
            raise UserError(f'scale is {self.scale!r}; it must be one of {", ".join(SCALES)}')
        check(self.normaliser)
        super().__post_init__()

    def setup(self):
        self.factor = (self.param('factor', nn.initializers.ones, ()) if self.scale == 'learned'
                       else 1.0 / math.sqrt(self.features))
        self.normalise = Normaliser(self.normaliser, 1)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return remember_unprojected(source, places, self.features, self.dtype)

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D], weights [B, 1, T, S]."""
        query = query.astype(self.dtype or query.dtype)
        return single_head.read(self.factor * dot_energies(query, memory.keys), memory, places, self.normalise)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The products and the weighted sum."""
        return 2.0 * queries * entries * (query_width + source_width)


class General(Attention, kw_only=True):
    """One head with the energy `e[t, s] = q[t] W h[s]`, W [D_q, D_s]; reads h itself. `remember` computes W h once.

    Source: Luong, Pham, Manning 2015, arXiv:1508.04025, section 3.1, equation 8 (general). Differs: none.

    Attributes:
      normaliser: what makes weights of energies: one of attention/normalisers.py.
    """

    normaliser: str

    def __post_init__(self):
        check(self.normaliser)
        super().__post_init__()

    def setup(self):
        self.key_projection = nn.Dense(self.features, use_bias=False, dtype=self.dtype)  # its kernel is W transposed
        self.normalise = Normaliser(self.normaliser, 1)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return Memory(self.key_projection(source), source.astype(self.dtype or source.dtype), places)

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D_s], weights [B, 1, T, S]."""
        query = query.astype(self.dtype or query.dtype)
        return single_head.read(dot_energies(query, memory.keys), memory, places, self.normalise)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The projection, the products and the weighted sum."""
        return 2.0 * entries * (source_width * query_width + queries * (query_width + source_width))


class Concat(Attention, kw_only=True):
    """One head with the energy `e[t, s] = v . tanh(W [q[t]; h[s]])`, W [D_q + D_s, A], v [A]; reads h itself.

    W is kept as its two blocks of rows, so that `remember` can multiply h by its own once; it is additive with other
    initial values. With source_projection = 'identity' the block of h is the identity: `e = v . tanh(W q[t] + h[s])`.

    Source: Luong, Pham, Manning 2015, arXiv:1508.04025, section 3.1, equation 8 (concat); identity: what the authors
    ran, their footnote 15 and code. Differs: the initial variance of each block is one over the number of its own rows.

    Attributes:
      energy_width: A, at least 1; with 'identity' it must be D_s.
      source_projection: of h, 'learned' or 'identity'.
      normaliser: what makes weights of energies: one of attention/normalisers.py.
    """

    energy_width: int
    source_projection: str
    normaliser: str

    def __post_init__(self):
        at_least(1, energy_width=self.energy_width)
        if self.source_projection not in SOURCE_PROJECTIONS:
            raise UserError(f'source_projection is {self.source_projection!r}; it must be one of '
                            f'{", ".join(SOURCE_PROJECTIONS)}')
        check(self.normaliser)
        super().__post_init__()

    def setup(self):
        A = self.energy_width
        self.query_projection = nn.Dense(A, use_bias=False, dtype=self.dtype)
        if self.source_projection == 'learned':
            self.key_projection = nn.Dense(A, use_bias=False, dtype=self.dtype)
        self.vector = self.param('vector', nn.initializers.normal(A**-0.5), (A,))
        self.normalise = Normaliser(self.normaliser, 1)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        values = source.astype(self.dtype or source.dtype)
        if self.source_projection == 'learned':
            return Memory(self.key_projection(source), values, places)
        if source.shape[-1] != self.energy_width:
            raise UserError(f"source_projection 'identity' needs energy_width = {source.shape[-1]}, the width of the "
                            f'annotations, not {self.energy_width}')
        return Memory(values, values, places)

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D_s], weights [B, 1, T, S]."""
        query = self.query_projection(query)
        energies = additive_energies(query, memory.keys, self.vector.astype(query.dtype))
        return single_head.read(energies, memory, places, self.normalise)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The projections, one addition and one product an energy and unit, and the weighted sum."""
        A, projected = self.energy_width, entries if self.source_projection == 'learned' else 0
        return (2.0 * A * (projected * source_width + queries * query_width)
                + queries * entries * (3.0 * A + 2.0 * source_width))
