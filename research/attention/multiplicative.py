"""Energies from inner products, with one head."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from research.attention import single_head
from research.attention.contract import Attention, Carry, Memory, Read
from research.errors import UserError
from research.shapes import Array, Places

SCALES = ('width', 'learned')


def dot_energies(query: Array, keys: Array) -> Array:
    """Inner products `e[t, s] = query[t] . keys[s]`: [B, T, D], [B, S, D] -> [B, T, S], in float32 or better."""
    dtype = jnp.promote_types(jnp.result_type(query, keys), jnp.float32)
    return jnp.einsum('btd,bsd->bts', query, keys, preferred_element_type=dtype)


def _remember_unprojected(source: Array, places: Places, features: int, dtype: Any) -> Memory:
    if source.shape[-1] != features:
        raise UserError(f'dot and scaled_dot compare annotations of width {source.shape[-1]} with queries of width '
                        f"{features}: make encoder and decoder equally wide, or choose 'general'")
    source = source.astype(dtype or source.dtype)
    return Memory(source, source, places)


class Dot(Attention):
    """One head with the energy `e[t, s] = q[t] . h[s]`; reads h itself. D_q and D_s are equal, or it raises.

    Source: Luong, Pham, Manning 2015, arXiv:1508.04025, section 3.1, equation 8 (dot). Differs: none.
    """

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return _remember_unprojected(source, places, self.features, self.dtype)

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D], weights [B, 1, T, S]."""
        query = query.astype(self.dtype or query.dtype)
        return single_head.read(dot_energies(query, memory.keys), memory, places)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The products and the weighted sum."""
        return 2.0 * queries * entries * (query_width + source_width)


class ScaledDot(Attention, kw_only=True):
    """One head with the energy `e[t, s] = g q[t] . h[s]`; reads h itself. D_q and D_s are equal, or it raises.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1 (width); Luong's dot with a learned factor: TensorFlow
    Addons, LuongAttention(scale=True). Differs: Vaswani's queries, keys and values are projections; nothing is here.

    Attributes:
      scale: 'width', g = 1 / sqrt(D), or 'learned', g a parameter that starts at 1.
    """

    scale: str

    def __post_init__(self):
        if self.scale not in SCALES:
            raise UserError(f'scale is {self.scale!r}; it must be one of {", ".join(SCALES)}')
        super().__post_init__()

    def setup(self):
        self.factor = (self.param('factor', nn.initializers.ones, ()) if self.scale == 'learned'
                       else 1.0 / math.sqrt(self.features))

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return _remember_unprojected(source, places, self.features, self.dtype)

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D], weights [B, 1, T, S]."""
        query = query.astype(self.dtype or query.dtype)
        return single_head.read(self.factor * dot_energies(query, memory.keys), memory, places)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The products and the weighted sum."""
        return 2.0 * queries * entries * (query_width + source_width)


class General(Attention):
    """One head with the energy `e[t, s] = q[t] W h[s]`, W [D_q, D_s]; reads h itself. `remember` computes W h once.

    Source: Luong, Pham, Manning 2015, arXiv:1508.04025, section 3.1, equation 8 (general). Differs: none.
    """

    def setup(self):
        self.key_projection = nn.Dense(self.features, use_bias=False, dtype=self.dtype)  # its kernel is W transposed

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return Memory(self.key_projection(source), source.astype(self.dtype or source.dtype), places)

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D_s], weights [B, 1, T, S]."""
        query = query.astype(self.dtype or query.dtype)
        return single_head.read(dot_energies(query, memory.keys), memory, places)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The projection, the products and the weighted sum."""
        return 2.0 * entries * (source_width * query_width + queries * (query_width + source_width))
