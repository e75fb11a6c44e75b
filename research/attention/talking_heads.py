"""Heads that exchange logits before they are normalised, and weights after."""

import math

import flax.linen as nn
import jax.numpy as jnp

from research.attention import cache, masks, normalisers, schemes
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.masks import readable
from research.attention.multi_head import attend, check_heads, check_self_role, head_projections, width
from research.attention.normalisers import Normaliser
from research.shapes import Array, Places


def identity(rng: Array, shape: tuple[int, int], dtype=jnp.float32) -> Array:
    """An initial value: every head keeps what is its own."""
    return jnp.eye(*shape, dtype=dtype)


class TalkingHeads(Attention, kw_only=True):
    """`weights = R normalise(P logits)` over the heads; everything else is as in `multi_head_dot`.

        logits[m, t, s] = sum_n P[m, n] q[t, n] . k[s, n] / sqrt(H);  weights[m] = sum_n R[m, n] softmax(logits[n])

    The mask acts after P and before R.

    Source: Shazeer et al. 2020, arXiv:2003.02436, section 3. Differs: P and R start at the identity; as many heads
    before, between and after them.

    Attributes:
      heads: N, at least 1.
      head_width: H; 0 means D / N, which must then be a whole number.
      projection_bias: whether the four projections add a bias.
      position: a scheme of relative positions; self role only.
      reach: which positions may be read; self role only.
      normaliser: what makes weights of logits: one of attention/normalisers.py.
    """

    heads: int
    head_width: int
    projection_bias: bool
    position: schemes.Scheme
    reach: masks.Reach
    normaliser: str

    def __post_init__(self):
        check_heads(self)
        check_self_role(self, width(self))
        normalisers.check(self.normaliser)
        super().__post_init__()

    def setup(self):
        N, H = self.heads, width(self)
        self.query_projection, self.key_projection, self.value_projection, self.output_projection = head_projections(
            self, bias=self.projection_bias)
        self.normalise = Normaliser(self.normaliser, N)
        self.scheme = self.position.make(N, H, self.causal)
        self.before = self.param('before', identity, (N, N))
        self.after = self.param('after', identity, (N, N))

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        memory = Memory(self.scheme.rotate(self.key_projection(source), places.position),
                        self.value_projection(source), places)
        return cache.by_heads(memory) if self.role == 'cross' else memory

    def start(self, memory: Memory, length: int) -> Carry:
        return cache.start(self, memory, length)

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D], weights [B, N, T, S]."""
        memory, carry = cache.readable(memory, carry)
        queries = self.scheme.rotate(self.query_projection(query), places.position)
        scale = 1.0 / math.sqrt(width(self))
        context, weights = attend(
            queries, memory.keys, memory.values, mask=readable(places, memory.places, causal=self.causal,
                                                               reach=self.reach),
            bias=self.scheme.bias(scale * queries, places, memory.places), scale=scale, normalise=self._weights)
        added = self.scheme.read(weights, places, memory.places)
        context = context if added is None else context + added.astype(context.dtype)
        return Read(self.output_projection(cache.nan_past_the_end(context, carry)), weights, carry)

    def _weights(self, logits, mask):
        weights = self.normalise(jnp.einsum('mn,bnts->bmts', self.before, logits), mask)
        return jnp.einsum('mn,bnts->bmts', self.after, weights)

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """As multi_head_dot, and two products over the heads for every logit."""
        N, H = self.heads, width(self)
        return (2.0 * N * H * (2 * entries * source_width + queries * (query_width + self.features)
                               + 2 * queries * entries) + 4.0 * N * N * queries * entries
                + self.position.make(N, H, self.causal).flops(queries, entries))
