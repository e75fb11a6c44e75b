"""The difference of two attentions: what both read is taken away."""

import math

import flax.linen as nn
import jax.numpy as jnp

from research.attention import cache, masks, normalisers, schemes
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.masks import readable
from research.attention.multi_head import attend, check_self_role
from research.attention.normalisers import Normaliser
from research.errors import UserError, at_least
from research.shapes import Array, Places


def first_lambda(layer: int) -> float:
    """`0.8 - 0.6 exp(-0.3 layer)`, the layer counted from 0: how much is taken away at the start."""
    return 0.8 - 0.6 * math.exp(-0.3 * layer)


class Differential(Attention, kw_only=True):
    """N pairs of heads; of each pair, one attention is taken from the other, and both read the same values.

        weights[n] = softmax(q1[n] k1[n] / sqrt(H)) - lambda softmax(q2[n] k2[n] / sqrt(H))
        read[n] = (1 - lambda_0) g * rms_normalised(weights[n] v[n]);   q1, q2, k1, k2 of width H, v and g of 2 H
        lambda = exp(a1 . b1) - exp(a2 . b2) + lambda_0,  lambda_0 = 0.8 - 0.6 exp(-0.3 layer);  a, b [H] learned

    Source: Ye et al. 2024, arXiv:2410.05258, section 2.1, equations 1 to 3. Differs: `head_norm` False leaves out the
    norm and the factor before it.

    Attributes:
      heads: N, the number of pairs: half of what an attention of the same width has.
      head_width: H; 0 means D / (2 N), which must then be a whole number.
      projection_bias: whether the four projections add a bias.
      position: a scheme of relative positions that acts on queries, keys or logits; self role only.
      reach: which positions may be read; self role only.
      normaliser: what makes weights of logits: one of attention/normalisers.py.
      head_norm: whether what each head read is normalised.
    """

    heads: int
    head_width: int
    projection_bias: bool
    position: schemes.Scheme
    reach: masks.Reach
    normaliser: str
    head_norm: bool

    def __post_init__(self):
        at_least(1, heads=self.heads)
        if self.head_width < 0 or (self.head_width == 0 and self.features % (2 * self.heads)):
            raise UserError(f'head_width is {self.head_width}; it must be at least 1, or 0 where 2 heads ('
                            f'{2 * self.heads}) divide the width {self.features}')
        check_self_role(self, self._width())
        if schemes.SCHEMES[self.position.name].positions.needs_weights:
            raise UserError(f'position {self.position.name!r} adds to values; differential takes schemes that act on '
                            'queries, keys or logits')
        normalisers.check(self.normaliser)
        super().__post_init__()

    @nn.nowrap
    def _width(self) -> int:
        return self.head_width or self.features // (2 * self.heads)

    def setup(self):
        N, H = self.heads, self._width()
        kind = {'use_bias': self.projection_bias, 'dtype': self.dtype}
        self.query_projection = nn.DenseGeneral((2 * N, H), **kind)
        self.key_projection = nn.DenseGeneral((2 * N, H), **kind)
        self.value_projection = nn.DenseGeneral((N, 2 * H), **kind)
        self.output_projection = nn.DenseGeneral(self.features, axis=(-2, -1), **kind)
        self.normalise = Normaliser(self.normaliser, 2 * N)
        self.scheme = self.position.make(2 * N, H, self.causal)
        self.factors = [self.param(name, nn.initializers.normal(0.1), (H,))
                        for name in ('query_factor_1', 'key_factor_1', 'query_factor_2', 'key_factor_2')]
        if self.head_norm:
            self.norm = nn.RMSNorm(dtype=self.dtype)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        memory = Memory(self.scheme.rotate(self.key_projection(source), places.position),
                        self.value_projection(source), places)
        return cache.by_heads(memory) if self.role == 'cross' else memory

    def start(self, memory: Memory, length: int) -> Carry:
        return cache.start(self, memory, length)

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D], weights [B, N, T, S], the differences."""
        memory, carry = cache.readable(memory, carry)
        queries = self.scheme.rotate(self.query_projection(query), places.position)
        scale = 1.0 / math.sqrt(self._width())
        _, weights = attend(
            queries, memory.keys, memory.keys, mask=readable(places, memory.places, causal=self.causal,
                                                             reach=self.reach),
            bias=self.scheme.bias(scale * queries, places, memory.places), scale=scale, normalise=self.normalise)
        weights = weights[:, 0::2] - self._lambda().astype(weights.dtype) * weights[:, 1::2]
        context = jnp.einsum('bnts,bsnh->btnh', weights.astype(memory.values.dtype), memory.values)
        if self.head_norm:
            context = self.norm(context) * (1.0 - first_lambda(self.layer))
        return Read(self.output_projection(cache.nan_past_the_end(context, carry)), weights, carry)

    def _lambda(self):
        a1, b1, a2, b2 = self.factors
        return jnp.exp(a1 @ b1) - jnp.exp(a2 @ b2) + first_lambda(self.layer)

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The four projections, logits of 2 N heads, weighted sums of N heads of 2 H, and the positions."""
        N, H = self.heads, self._width()
        return (4.0 * N * H * (2 * entries * source_width + queries * (query_width + self.features)
                               + 2 * queries * entries)
                + self.position.make(2 * N, H, self.causal).flops(queries, entries))
