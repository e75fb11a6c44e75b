"""Several heads, each with its own projections: the attention of Transformers, for recurrent decoders too."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.masks import readable
from research.attention.normalise import softmax
from research.errors import UserError
from research.shapes import Array, Places

PATHS = ('explicit', 'xla')


def attend(query: Array, keys: Array, values: Array, *, mask: Array, bias: Array | None = None, scale: float,
           path: str = 'explicit') -> tuple[Array, Array | None]:
    """Softmax attention for all heads.

        logits[n, t, s] = scale query[t, n] . keys[s, k] + bias[n, t, s],  k = n // (N / K)
        context[t, n] = sum_s softmax(logits)[n, t, s] values[s, k]

    The softmax is taken over what the mask allows, in float32 or better; a query that may read nothing gets zeros, with
    zero gradients. `explicit` makes the weights; `xla` is `jax.nn.dot_product_attention`, which keeps them to itself.

    Args:
      query: [B, T, N, H].
      keys: [B, S, K, H]; N is a multiple of K, and K neighbouring groups of query heads share one key head each.
      values: [B, S, K, H].
      mask: boolean [B, T, S], True = may be read.
      bias: finite, broadcast against [B, N, T, S]; None = 0.
      scale: known when the program is traced.
      path: 'explicit' or 'xla'.

    Returns:
      context [B, T, N, H] in the type of the values; weights [B, N, T, S] in float32 or better, None on path 'xla'.

    Raises:
      UserError: the path is unknown or cannot do what is asked; N is not a multiple of K.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, equation 1; K < N: Ainslie et al. 2023,
    arXiv:2305.13245, section 2.2. Differs: the empty row (a softmax over nothing is not defined there).
    """
    N, K = query.shape[2], keys.shape[2]
    if N % K:
        raise UserError(f'{N} query heads cannot share {K} key heads evenly: make the first a multiple of the second')
    if path == 'explicit':
        keys, values = (jnp.repeat(array, N // K, axis=2) for array in (keys, values))
        dtype = jnp.promote_types(jnp.result_type(query, keys), jnp.float32)
        logits = scale * jnp.einsum('btnh,bsnh->bnts', query, keys, preferred_element_type=dtype)
        weights = softmax(logits if bias is None else logits + bias, mask[:, None])
        return jnp.einsum('bnts,bsnh->btnh', weights.astype(values.dtype), values), weights
    if path != 'xla':
        raise UserError(f"attention has no path {path!r}. It has: {', '.join(PATHS)}")
    if jnp.result_type(query, keys, values) == jnp.float64:
        raise UserError("path 'xla' takes its softmax in float32; float64 needs path 'explicit'")
    context = jax.nn.dot_product_attention(query, keys, values, bias, mask[:, None], scale=scale, implementation='xla')
    return jnp.where(jnp.any(mask, axis=-1)[..., None, None], context, 0.0), None  # the library reads everything then


class Cache(NamedTuple):
    """What a self-attention has read so far, with room for what comes."""

    memory: Memory   # keys and values [B, L, K, H], places [B, L]; what is not written yet has segment 0
    written: Array   # int32 [B]: how many positions, pads included


def empty_cache(memory: Memory, length: int) -> Cache:
    """Room for `length` positions like those of `memory`, of which only shapes and types are used."""
    empty = jax.tree.map(lambda leaf: jnp.zeros((leaf.shape[0], length, *leaf.shape[2:]), leaf.dtype), memory)
    return Cache(empty, jnp.zeros(memory.keys.shape[0], jnp.int32))


def write(cache: Cache, memory: Memory) -> Cache:
    """The cache with all positions of `memory` behind those written before; what finds no room is left out."""
    sentence = jnp.arange(memory.keys.shape[0])[:, None]
    slot = cache.written[:, None] + jnp.arange(memory.keys.shape[1])
    together = jax.tree.map(lambda old, new: old.at[sentence, slot].set(new, mode='drop'), cache.memory, memory)
    return Cache(together, cache.written + memory.keys.shape[1])


class MultiHeadDot(Attention, kw_only=True):
    """N heads, each a softmax attention over its own projections of width H, and a projection of all that was read.

        q = x W_Q;  k = h W_K;  v = h W_V        [B, T, N, H] and [B, S, N, H]
        read[t, n] = sum_s softmax(q[t, n] . k[s, n] / sqrt(H)) v[s, n];   context[t] = read[t] W_O, W_O [N, H, D]

    Self role with causality: `start(memory, L)` is a cache of L positions, and the weights of a call with it have
    S = L. A call that writes past its end gives nan.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2; in a recurrent decoder: Chen et al. 2018,
    arXiv:1804.09849. Differs: each projection's initial variance is one over the number of its inputs.

    Attributes:
      heads: N, at least 1.
      head_width: H; 0 means D / N, which must then be a whole number.
      projection_bias: whether the four projections add a bias. Then a query that may read nothing gets that of W_O.
    """

    heads: int
    head_width: int
    projection_bias: bool

    def __post_init__(self):
        if self.heads < 1:
            raise UserError(f'heads is {self.heads}; it must be at least 1')
        if self.head_width < 0:
            raise UserError(f'head_width is {self.head_width}; it must be at least 1, or 0 for features / heads')
        if self.head_width == 0 and self.features % self.heads:
            raise UserError(f'heads is {self.heads}, which does not divide the width {self.features}; choose a '
                            'divisor, or state head_width')
        super().__post_init__()

    def setup(self):
        heads, kind = (self.heads, self._width()), {'use_bias': self.projection_bias, 'dtype': self.dtype}
        self.query_projection = nn.DenseGeneral(heads, **kind)
        self.key_projection = nn.DenseGeneral(heads, **kind)
        self.value_projection = nn.DenseGeneral(heads, **kind)
        self.output_projection = nn.DenseGeneral(self.features, axis=(-2, -1), **kind)

    def _width(self) -> int:
        return self.head_width or self.features // self.heads

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return Memory(self.key_projection(source), self.value_projection(source), places)

    def start(self, memory: Memory, length: int) -> Carry:
        if self.role == 'cross' or length == 0:
            return ()
        if not self.causal:
            raise UserError('a self-attention that is not causal holds the whole sequence in one call: start it with 0')
        return empty_cache(memory, length)

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D], weights [B, N, T, S]."""
        if isinstance(carry, Cache):
            carry = write(carry, memory)
            memory = carry.memory
        context, weights = attend(
            self.query_projection(query), memory.keys, memory.values, scale=1.0 / math.sqrt(self._width()),
            mask=readable(places, memory.places, causal=self.causal), path=self.path)
        if isinstance(carry, Cache):
            fits = carry.written <= memory.keys.shape[1]
            context = jnp.where(fits[:, None, None, None], context, jnp.nan)
        return Read(self.output_projection(context), weights, carry)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The four projections, the logits and the weighted sums."""
        width = self.heads * self._width()
        return 2.0 * width * (2 * entries * source_width + queries * (query_width + self.features)
                              + 2 * queries * entries)
