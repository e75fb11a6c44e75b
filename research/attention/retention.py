"""Memories that decay: by a constant, by gates of each channel, or by steps of a sampled state space."""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from research.attention import positions, recurrences
from research.attention.contract import Attention, Carry, Read
from research.attention.multi_head import check_heads, head_projections, width
from research.attention.recurrences import Written
from research.errors import UserError, at_least
from research.shapes import Array, Places

TEMPERATURE = 16.0  # a root that keeps gates near 1, so that memories last


def retention_decay(heads: int) -> np.ndarray:
    """`log(1 - 2^(-5 - n))`, n = 0 .. N - 1: float64 [N].

    Source: Sun et al. 2023, arXiv:2307.08621, section 2.2, equation 8. Differs: none.
    """
    return np.log1p(-2.0**(-5.0 - np.arange(heads)))


class Retention(Attention, kw_only=True):
    """A memory of each head decays at a constant rate of its own.

        M[t] = gamma[n] M[t-1] + k[t] v[t]^T;   read[t] = M[t]^T q[t];   gamma[n] = 1 - 2^(-5 - n)
        context[t] = (swish(x[t] W_G) * norm(read[t])) W_O
        q, k, v are projections [B, T, N, H] without biases; q and k are turned by their position, k divided by sqrt(H)

    Self role, causal. Path 'explicit' goes position by position, 'chunked' chunk by chunk. What is carried has a fixed
    size, N H H.

    Source: Sun et al. 2023, arXiv:2307.08621, sections 2.1 and 2.2. Differs: values are as wide as keys, H; the norm of
    a head is a root mean square with factors shared by the heads, where the paper has GroupNorm.

    Attributes:
      heads: N, at least 1.
      head_width: H, even; 0 means D / N, which must then be a whole number.
      base: of the wavelengths by which queries and keys are turned, above 0.
      chunk: C, how many positions path 'chunked' takes at a time.
    """

    heads: int
    head_width: int
    base: float
    chunk: int

    def __post_init__(self):
        check_heads(self)
        at_least(1, chunk=self.chunk)
        if width(self) % 2:
            raise UserError(f'positions turn pairs, so heads need an even width, not {width(self)}')
        if not 0.0 < self.base < math.inf:
            raise UserError(f'base is {self.base}; it must be above 0 and finite')
        super().__post_init__()

    def setup(self):
        kind, shape = {'use_bias': False, 'dtype': self.dtype}, (self.heads, width(self))
        self.query_projection, self.key_projection, self.value_projection, self.output_projection = head_projections(
            self)
        self.gate_projection = nn.DenseGeneral(shape, **kind)
        self.norm = nn.RMSNorm(dtype=self.dtype)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Written:
        keys = positions.rotary(self.key_projection(source), places.position, self.base) / math.sqrt(width(self))
        decay = jnp.asarray(retention_decay(self.heads), jnp.promote_types(keys.dtype, jnp.float32))
        decay = jnp.broadcast_to(decay[:, None], (*keys.shape[:3], 1))
        return Written(keys, self.value_projection(source), decay, None, places)

    def start(self, memory: Written, length: int) -> Carry:
        return recurrences.start(memory, length)

    def __call__(self, query: Array, memory: Written, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D]."""
        queries = positions.rotary(self.query_projection(query), places.position, self.base)
        reads, carry = recurrences.read(self, queries, memory, carry)
        context = jax.nn.silu(self.gate_projection(query)) * self.norm(reads)
        return Read(self.output_projection(context), None, carry)

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The five projections and the memory."""
        H = width(self)
        return (2.0 * self.heads * H * (2 * entries * source_width + queries * (2 * query_width + self.features))
                + recurrences.flops(self, queries, H, H))


class GatedLinear(Attention, kw_only=True):
    """A memory of which each channel decays by a gate that the input opens.

        M[t] = diag(a[t]) M[t-1] + k[t] v[t]^T;   read[t] = M[t]^T q[t];   a = sigmoid(x W_1 W_2 + b)^(1/16)
        context[t] = (swish(x[t] W_G) * norm(read[t])) W_O;   q, k, v are projections [B, T, N, H] without biases

    Self role, causal. Path 'explicit' goes position by position, 'chunked' chunk by chunk. What is carried has a fixed
    size, N H H.

    Source: Yang et al. 2023, arXiv:2312.06635, section 4.4. Differs: keys are as wide as values, H; the norm is a root
    mean square with factors shared by the heads; no bias of the output gate.

    Attributes:
      heads: N, at least 1.
      head_width: H; 0 means D / N, which must then be a whole number.
      rank: R, the inner width of the gates, at least 1.
      chunk: C, how many positions path 'chunked' takes at a time.
    """

    heads: int
    head_width: int
    rank: int
    chunk: int

    def __post_init__(self):
        check_heads(self)
        at_least(1, chunk=self.chunk, rank=self.rank)
        super().__post_init__()

    def setup(self):
        kind, shape = {'use_bias': False, 'dtype': self.dtype}, (self.heads, width(self))
        self.query_projection, self.key_projection, self.value_projection, self.output_projection = head_projections(
            self)
        self.gate_projection = nn.DenseGeneral(shape, **kind)
        self.decay_down = nn.Dense(self.rank, **kind)
        self.decay_up = nn.DenseGeneral(shape, dtype=self.dtype)
        self.norm = nn.RMSNorm(dtype=self.dtype)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Written:
        gates = _precise(self.decay_up(self.decay_down(source)))
        return Written(self.key_projection(source), self.value_projection(source),
                       jax.nn.log_sigmoid(gates) / TEMPERATURE, None, places)

    def start(self, memory: Written, length: int) -> Carry:
        return recurrences.start(memory, length)

    def __call__(self, query: Array, memory: Written, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D]."""
        reads, carry = recurrences.read(self, self.query_projection(query), memory, carry)
        context = jax.nn.silu(self.gate_projection(query)) * self.norm(reads)
        return Read(self.output_projection(context), None, carry)

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The five projections, the gates and the memory."""
        N, H = self.heads, width(self)
        return (2.0 * N * H * (2 * entries * source_width + queries * (2 * query_width + self.features))
                + 2.0 * entries * self.rank * (source_width + N * H)
                + recurrences.flops(self, queries, H, H, channels=True))


def log_uniform_step(low: float = 1e-3, high: float = 0.1) -> Any:
    """An initialiser of x such that softplus(x) is log-uniform between two steps.

    Source: Gu and Dao 2023, arXiv:2312.00752, section 3.6. Differs: none.
    """
    def initialise(rng, shape, dtype=jnp.float32):
        step = jnp.exp(jax.random.uniform(rng, shape, dtype, math.log(low), math.log(high)))
        return step + jnp.log(-jnp.expm1(-step))
    return initialise


def log_decay_rate(rng: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """An initialiser of x such that exp(x) is uniform between 1 and 16.

    Source: Dao and Gu 2024, arXiv:2405.21060, and the authors' code. Differs: none.
    """
    return jnp.log(jax.random.uniform(rng, shape, dtype, 1.0, 16.0))


class Sampled(NamedTuple):
    """What new positions write, and what they show of themselves."""

    written: Written
    inputs: Array   # [B, S, N, H]


class StateSpace(Attention, kw_only=True):
    """A linear state space that is sampled in steps of a length that the input sets.

        M[t] = exp(step[t, n] p[n]) M[t-1] + step[t, n] b[t] x[t, n]^T;   step = softplus(h w + r),  p = - exp(.)
        read[t] = M[t]^T c[t] + d[n] x[t, n];   context[t] = (swish(h[t] W_G) * norm(read[t])) W_O
        h is the layer's input; x [B, T, N, H], b and c [B, T, R] are projections without biases, b and c for all heads

    Self role, causal. Path 'explicit' goes position by position, 'chunked' chunk by chunk. What is carried has a fixed
    size, N R H.

    Source: Dao and Gu 2024, arXiv:2405.21060, sections 2 and 7. Differs: no short convolution over x, b and c, nor the
    silu behind it; the norm is that of a head and comes before the gate.

    Attributes:
      heads: N, at least 1.
      head_width: H; 0 means D / N, which must then be a whole number.
      state_width: R, at least 1.
      chunk: C, how many positions path 'chunked' takes at a time.
    """

    heads: int
    head_width: int
    state_width: int
    chunk: int

    def __post_init__(self):
        check_heads(self)
        at_least(1, chunk=self.chunk, state_width=self.state_width)
        super().__post_init__()

    def setup(self):
        kind, shape = {'use_bias': False, 'dtype': self.dtype}, (self.heads, width(self))
        self.query_projection = nn.Dense(self.state_width, **kind)
        self.key_projection = nn.Dense(self.state_width, **kind)
        self.value_projection = nn.DenseGeneral(shape, **kind)
        self.gate_projection = nn.DenseGeneral(shape, **kind)
        self.output_projection = nn.DenseGeneral(self.features, axis=(-2, -1), **kind)
        self.step_projection = nn.Dense(self.heads, dtype=self.dtype, bias_init=log_uniform_step())
        self.log_decay_rate = self.param('log_decay_rate', log_decay_rate, (self.heads,))
        self.skip = self.param('skip', nn.initializers.ones, (self.heads,))
        self.norm = nn.RMSNorm(dtype=self.dtype)

    def _for_all_heads(self, vectors):
        return jnp.broadcast_to(vectors[:, :, None], (*vectors.shape[:2], self.heads, vectors.shape[-1]))

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Sampled:
        inputs, step = self.value_projection(source), jax.nn.softplus(_precise(self.step_projection(source)))[..., None]
        decay = -step * jnp.exp(self.log_decay_rate)[:, None].astype(step.dtype)
        return Sampled(Written(self._for_all_heads(self.key_projection(source)), step * inputs, decay, None, places),
                       jnp.where((places.segment > 0)[:, :, None, None], inputs, 0.0))

    def start(self, memory: Sampled, length: int) -> Carry:
        return recurrences.start(memory.written, length)

    def __call__(self, query: Array, memory: Sampled, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D]."""
        queries = self._for_all_heads(self.query_projection(query))
        reads, carry = recurrences.read(self, queries, memory.written, carry)
        reads = reads + self.skip[:, None].astype(reads.dtype) * memory.inputs
        context = jax.nn.silu(self.gate_projection(query)) * self.norm(reads)
        return Read(self.output_projection(context), None, carry)

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The projections and the memory."""
        N, H, R = self.heads, width(self), self.state_width
        return (2.0 * N * H * (entries * source_width + queries * (query_width + self.features))
                + 2.0 * (R * (entries * source_width + queries * query_width) + N * entries * source_width)
                + recurrences.flops(self, queries, R, H))


def _precise(array: Array) -> Array:
    """In float32 or better."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))
