"""Keys and values that are made of one small vector a position, which is all that is kept."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from research.attention import cache, normalisers, positions
from research.attention.contract import Attention, Carry, Read
from research.attention.masks import readable
from research.attention.multi_head import attend, check_heads, width
from research.attention.normalisers import Normaliser
from research.errors import UserError, at_least
from research.shapes import Array, Places


class LatentMemory(NamedTuple):
    """What is kept of each position, for all heads together."""

    latent: Array   # [B, S, R]
    turned: Array   # [B, S, H_r]: the part of the keys that knows its position
    places: Places  # [B, S] each


class MultiHeadLatent(Attention, kw_only=True):
    """Keys and values of all heads from one normalised vector of width R, and a rotary key that the heads share.

        z = g * rms_normalised(x W_D);   k[n] = [z U_K[n]; rotary(x W_R)];   v[n] = z U_V[n]
        q[n] = [x W_Q[n]; rotary(x W_QR[n])];   logits = q k / sqrt(H + H_r)

    Path 'absorbed' never makes keys and values: `(q U_K^T) . z` and `(weights z) U_V`, the same numbers by another way.

    Source: DeepSeek-AI 2024, arXiv:2405.04434, section 2.1. Differs: queries are not compressed.

    Attributes:
      heads: N, at least 1.
      head_width: H, of values and of keys without their rotary part; 0 means D / N, which must then be a whole number.
      rank: R, at least 1.
      rotary_width: H_r, even; 0 = no rotary part, and in the cross role it must be.
      base: of the rotary wavelengths.
      normaliser: what makes weights of logits: one of attention/normalisers.py.
    """

    heads: int
    head_width: int
    rank: int
    rotary_width: int
    base: float
    normaliser: str

    def __post_init__(self):
        check_heads(self)
        normalisers.check(self.normaliser)
        at_least(1, rank=self.rank)
        if self.rotary_width < 0 or self.rotary_width % 2:
            raise UserError(f'rotary_width is {self.rotary_width}; it must be even, or 0 for none')
        if self.rotary_width and self.role != 'self':
            raise UserError(f"rotary_width is {self.rotary_width}; in role 'cross' it must be 0: positions of two "
                            'sequences cannot be compared')
        if not 0.0 < self.base < math.inf:
            raise UserError(f'base is {self.base}; it must be above 0 and finite')
        super().__post_init__()

    def setup(self):
        N, H, R = self.heads, width(self), self.rank
        kind = {'use_bias': False, 'dtype': self.dtype}
        self.query_projection = nn.DenseGeneral((N, H + self.rotary_width), **kind)
        self.down_projection = nn.Dense(R, **kind)
        self.latent_norm = nn.RMSNorm(dtype=self.dtype)
        if self.rotary_width:
            self.turned_projection = nn.Dense(self.rotary_width, **kind)
        up = nn.initializers.variance_scaling(1.0, 'fan_in', 'truncated_normal', in_axis=0, out_axis=(1, 2))
        self.key_up, self.value_up = (self.param(name, up, (R, N, H)) for name in ('key_up', 'value_up'))
        self.output_projection = nn.DenseGeneral(self.features, axis=(-2, -1), **kind)
        self.normalise = Normaliser(self.normaliser, N)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> LatentMemory:
        latent = self.latent_norm(self.down_projection(source))
        if not self.rotary_width:
            return LatentMemory(latent, latent[..., :0], places)
        return LatentMemory(latent, self._turn(self.turned_projection(source)[:, :, None], places)[:, :, 0], places)

    def start(self, memory: LatentMemory, length: int) -> Carry:
        return cache.start(self, memory, length)

    def __call__(self, query: Array, memory: LatentMemory, carry: Carry, places: Places,
                 rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D], weights [B, N, T, S]."""
        memory, carry = cache.readable(memory, carry)
        H, latent = width(self), memory.latent
        queries = self.query_projection(query)
        plain, turned = queries[..., :H], queries[..., H:]
        turned = self._turn(turned, places) if self.rotary_width else turned
        key_up, value_up = (up.astype(latent.dtype) for up in (self.key_up, self.value_up))
        if self.path == 'absorbed':
            compared = jnp.einsum('btnh,rnh->btnr', plain, key_up)
            keys = jnp.concatenate([latent, memory.turned], axis=-1)[:, :, None]
            values = latent[:, :, None]
        else:
            compared = plain
            shared = jnp.broadcast_to(memory.turned[:, :, None], (*latent.shape[:2], self.heads, self.rotary_width))
            keys = jnp.concatenate([jnp.einsum('bsr,rnh->bsnh', latent, key_up), shared], axis=-1)
            values = jnp.einsum('bsr,rnh->bsnh', latent, value_up)
        context, weights = attend(jnp.concatenate([compared, turned], axis=-1), keys, values,
                                  mask=readable(places, memory.places, causal=self.causal),
                                  scale=1.0 / math.sqrt(H + self.rotary_width), normalise=self.normalise)
        if self.path == 'absorbed':
            context, weights = jnp.einsum('btnr,rnh->btnh', context, value_up), None
        return Read(self.output_projection(cache.nan_past_the_end(context, carry)), weights, carry)

    def _turn(self, vectors, places):
        return positions.rotary(vectors, places.position, self.base)

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The projections down and up (on path 'absorbed' of queries and of what was read), logits, weighted sums."""
        N, H, R, turned = self.heads, width(self), self.rank, self.rotary_width
        common = (2.0 * entries * source_width * (R + turned) + 2.0 * queries * query_width * N * (H + turned)
                  + 2.0 * queries * N * H * self.features)
        if self.path == 'absorbed':
            return common + 4.0 * queries * N * H * R + 2.0 * queries * entries * N * (2 * R + turned)
        return common + 4.0 * entries * N * H * R + 2.0 * queries * entries * N * (2 * H + turned)
