"""Memories that overwrite: a new value takes the place of what its key finds."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.attention import recurrences
from research.attention.contract import Attention, Carry, Read
from research.attention.multi_head import check_heads, head_projections, width
from research.attention.recurrences import Written
from research.attention.retention import log_decay_rate, log_uniform_step
from research.errors import at_least
from research.shapes import Array, Places


def unit_silu(vectors: Array) -> Array:
    """`silu(x)` divided by its length, in float32 or better: [..., H] -> [..., H].

    Source: Yang et al. 2024, arXiv:2406.06484, section 3.3. Differs: 1e-6 is added to the square of the length.
    """
    vectors = jax.nn.silu(vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32)))
    return vectors * jax.lax.rsqrt(jnp.sum(vectors**2, axis=-1, keepdims=True) + 1e-6)


def replacement_rate(logits: Array, negative: bool) -> Array:
    """`sigmoid(x)`, or twice that where old values may be turned around: in float32 or better.

    Source: Yang et al. 2024, arXiv:2406.06484, section 2.2; negative: Grazzi et al. 2024, arXiv:2411.12537, section 4.
    Differs: none.
    """
    rate = jax.nn.sigmoid(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    return 2.0 * rate if negative else rate


class Delta(Attention, kw_only=True):
    """A memory in which a new value takes the place, in part or all of it, of what its key finds.

        M[t] = M[t-1] + rate[t] k[t] (v[t] - M[t-1]^T k[t])^T;   read[t] = M[t]^T q[t];   rate = sigmoid(x w), [B, T, N]
        context[t] = norm(read[t]) W_O
        q, k, v [B, T, N, H] are silu of projections without biases, q and k of length 1

    Self role, causal. Path 'explicit' goes position by position, 'chunked' chunk by chunk. What is carried has a fixed
    size, N H H.

    Source: Yang et al. 2024, arXiv:2406.06484, sections 2.2 and 3.3; negative: Grazzi et al. 2024, arXiv:2411.12537.
    Differs: no short convolution; the norm is a root mean square with factors shared by the heads.

    Attributes:
      heads: N, at least 1.
      head_width: H; 0 means D / N, which must then be a whole number.
      negative: whether the rate is up to 2, so that what a key finds may change its sign.
      chunk: C, how many positions path 'chunked' takes at a time.
    """

    heads: int
    head_width: int
    negative: bool
    chunk: int

    def __post_init__(self):
        check_heads(self)
        at_least(1, chunk=self.chunk)
        super().__post_init__()

    def setup(self):
        self.query_projection, self.key_projection, self.value_projection, self.output_projection = head_projections(
            self)
        self.rate_projection = nn.Dense(self.heads, use_bias=False, dtype=self.dtype)
        self.norm = nn.RMSNorm(dtype=self.dtype)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Written:
        keys, rate = unit_silu(self.key_projection(source)), self.rate_projection(source)
        return Written(keys, jax.nn.silu(self.value_projection(source)), jnp.zeros_like(keys[..., :1]),
                       replacement_rate(rate, self.negative), places)

    def start(self, memory: Written, length: int) -> Carry:
        return recurrences.start(memory, length)

    def __call__(self, query: Array, memory: Written, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D]."""
        reads, carry = recurrences.read(self, unit_silu(self.query_projection(query)), memory, carry)
        return Read(self.output_projection(self.norm(reads)), None, carry)

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The four projections, the rates and the memory."""
        N, H = self.heads, width(self)
        return (2.0 * N * H * (2 * entries * source_width + queries * (query_width + self.features))
                + 2.0 * N * entries * source_width + recurrences.flops(self, queries, H, H, rate=True))


class GatedDelta(Attention, kw_only=True):
    """The delta rule on a memory that decays by a gate of each head.

        M' = a[t] M[t-1];   M[t] = M' + rate[t] k[t] (v[t] - M'^T k[t])^T;   read[t] = M[t]^T q[t]
        a = exp(- exp(p) softplus(x w_a + r)), [B, T, N], p and r [N]
        context[t] = (swish(x[t] W_G) * norm(read[t])) W_O
        q, k, v and the rate are those of `Delta`

    Self role, causal. Path 'explicit' goes position by position, 'chunked' chunk by chunk. What is carried has a fixed
    size, N H H.

    Source: Yang, Kautz, Hatamizadeh 2024, arXiv:2412.06464, section 3; negative: Grazzi et al. 2024, arXiv:2411.12537.
    Differs: no short convolution; the norm is a root mean square with factors shared by the heads.

    Attributes:
      heads: N, at least 1.
      head_width: H; 0 means D / N, which must then be a whole number.
      negative: whether the rate is up to 2, so that what a key finds may change its sign.
      chunk: C, how many positions path 'chunked' takes at a time.
    """

    heads: int
    head_width: int
    negative: bool
    chunk: int

    def __post_init__(self):
        check_heads(self)
        at_least(1, chunk=self.chunk)
        super().__post_init__()

    def setup(self):
        self.query_projection, self.key_projection, self.value_projection, self.output_projection = head_projections(
            self)
        self.gate_projection = nn.DenseGeneral((self.heads, width(self)), use_bias=False, dtype=self.dtype)
        self.rate_projection = nn.Dense(self.heads, use_bias=False, dtype=self.dtype)
        self.step_projection = nn.Dense(self.heads, dtype=self.dtype, bias_init=log_uniform_step())
        self.log_decay_rate = self.param('log_decay_rate', log_decay_rate, (self.heads,))
        self.norm = nn.RMSNorm(dtype=self.dtype)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Written:
        keys, rate, step = (unit_silu(self.key_projection(source)), self.rate_projection(source),
                            self.step_projection(source))
        step = jax.nn.softplus(step.astype(keys.dtype))
        decay = -jnp.exp(self.log_decay_rate).astype(keys.dtype) * step
        return Written(keys, jax.nn.silu(self.value_projection(source)), decay[..., None],
                       replacement_rate(rate, self.negative), places)

    def start(self, memory: Written, length: int) -> Carry:
        return recurrences.start(memory, length)

    def __call__(self, query: Array, memory: Written, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D]."""
        reads, carry = recurrences.read(self, unit_silu(self.query_projection(query)), memory, carry)
        context = jax.nn.silu(self.gate_projection(query)) * self.norm(reads)
        return Read(self.output_projection(context), None, carry)

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The five projections, rates and gates, and the memory."""
        N, H = self.heads, width(self)
        return (2.0 * N * H * (2 * entries * source_width + queries * (2 * query_width + self.features))
                + 4.0 * N * entries * source_width + recurrences.flops(self, queries, H, H, rate=True))
