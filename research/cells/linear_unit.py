"""Units that decay, each number of the state at its own rate: one complex and fixed, one real and gated."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.cells.contract import Cell, CellState
from research.shapes import Array

SHARPNESS = 8.0          # c of the gated unit, how far its gate may close
RADII = (0.9, 0.999)     # how much of a state is kept, at the start of training, by the shortest and the longest memory
STEEPEST = 1000.0        # slope of a root near zero


@jax.custom_jvp
def root(x: Array) -> Array:
    """The square root, with a slope of STEEPEST at most."""
    return jnp.sqrt(x)


@root.defjvp
def _root_slope(primals, tangents):
    y = jnp.sqrt(primals[0])
    return y, tangents[0] * 0.5 / jnp.maximum(y, 0.5 / STEEPEST)


def rg_lru_terms(projected: Array, rate: Array) -> tuple[Array, Array]:
    """What the gated unit keeps of its state and what it adds: [..., 3H], [H] -> a and b, [..., H] each."""
    x, r, i = jnp.split(projected, 3, axis=-1)
    log_decay = -SHARPNESS * jax.nn.sigmoid(r) * jax.nn.softplus(rate)
    return jnp.exp(log_decay), root(-jnp.expm1(2 * log_decay)) * jax.nn.sigmoid(i) * x


def rg_lru(state: CellState, projected: Array, rate: Array) -> CellState:
    """One step of a decay that an input may hold up, which adds the less the more it keeps.

    r, i = sigmoid(W x + b), each with its own W, b;  log a = -8 r * softplus(rate)
    h = a * h + sqrt(1 - a^2) * i * (W x + b)

    Args:
      state: (h,), [B, H].
      projected: [B, 3H]: W x + b of what is added, of r and of i.
      rate: [H].

    Returns:
      The next state, (h,).

    Source: De et al. 2024, arXiv:2402.19427, section 2.4 and appendix A. Differs: what is added is W x + b of width H,
    and the gates read x itself, where the paper's x has width H and has passed a convolution; their matrices are dense,
    not block-diagonal; the first position is added like any other, where the authors' code sets its factor to 1.
    """
    decay, write = rg_lru_terms(projected, rate)
    return (decay * state[0] + write,)


def lru_terms(projected: Array, log_rate: Array, log_angle: Array, log_gain: Array) -> tuple[Array, Array]:
    """What the complex unit keeps of its state and what it adds: [..., 3H], [H] each -> [H] and [..., H], complex."""
    real, imaginary, _ = jnp.split(projected, 3, axis=-1)
    decay = jnp.exp(jax.lax.complex(-jnp.exp(log_rate), jnp.exp(log_angle)))
    return decay, jnp.exp(log_gain) * jax.lax.complex(real, imaginary)


def lru(state: CellState, projected: Array, log_rate: Array, log_angle: Array, log_gain: Array,
        output_real: Array, output_imaginary: Array) -> CellState:
    """One step of complex numbers that each turn by an angle and shrink, and of their reading.

    h = exp(-exp(log_rate) + i exp(log_angle)) * h + exp(log_gain) * (B x), complex
    y = Re(C h) + D x

    Args:
      state: (y, Re h, Im h), [B, H] each.
      projected: [B, 3H]: Re(B) x, Im(B) x and D x.
      log_rate: [H].
      log_angle: [H].
      log_gain: [H].
      output_real: [H, H]: Re(C), transposed.
      output_imaginary: [H, H]: Im(C), transposed.

    Returns:
      The next state, (y, Re h, Im h).

    Source: Orvieto et al. 2023, arXiv:2303.06349, section 3 and appendix A. Differs: D is a matrix, since x need not
    have width H; h has that width too; B and D start as every projection here does; no norm or MLP around the unit.
    """
    decay, write = lru_terms(projected, log_rate, log_angle, log_gain)
    h = decay * jax.lax.complex(*state[1:]) + write
    return (real_part(h, output_real, output_imaginary) + jnp.split(projected, 3, axis=-1)[2], h.real, h.imag)


def real_part(h: Array, output_real: Array, output_imaginary: Array) -> Array:
    """Re(C h): complex [..., H] -> [..., H]."""
    return h.real @ output_real - h.imag @ output_imaginary


class RgLru(Cell):
    """`rg_lru` and its parameters; with an open gate it keeps from 0.9 to 0.999 of a number of its state."""

    gates = 3
    states = ('output',)
    biases = (0.0, 0.0, 0.0)
    recurrence = staticmethod(rg_lru)
    recurrent_flops = 0.0

    def arrays(self) -> tuple[Array, ...]:
        """The rate [H]."""
        return (self.param('rate', rates, (self.features,)),)


class Lru(Cell):
    """`lru` and its parameters; at first each number keeps 0.9 to 0.999 of itself and turns by any angle.

    A decoder begins with h and what C reads of it, since the output is not read by the next step.
    """

    gates = 3
    states = ('output', 'real', 'imaginary')
    biases = ()
    recurrence = staticmethod(lru)

    def arrays(self) -> tuple[Array, ...]:
        """The logarithms of rate, angle and gain [H] each, and the real and the imaginary output matrix [H, H]."""
        log_rate = self.param('log_rate', log_rates, (self.features,))
        output = nn.initializers.normal(self.features ** -0.5)
        return (log_rate, self.param('log_angle', log_angles, (self.features,)),
                self.param('log_gain', lambda rng: 0.5 * jnp.log(-jnp.expm1(-2 * jnp.exp(log_rate)))),
                self.param('output_real', output, (self.features, self.features)),
                self.param('output_imaginary', output, (self.features, self.features)))

    @property
    def start_width(self) -> int:
        """The width of what `start_from` reads: the real and the imaginary part of h."""
        return 2 * self.features

    def start_from(self, vector: Array) -> CellState:
        """Re(C h), Re h and Im h, from [Re h; Im h]."""
        h = jax.lax.complex(*jnp.split(vector.astype(self.state_dtype), 2, axis=-1))
        return (real_part(h, *(array.astype(self.state_dtype) for array in self.recurrent[-2:])), h.real, h.imag)

    @property
    def start_flops(self) -> float:
        """Forward FLOPs of `start_from`: the products of C with both parts of h."""
        return 4.0 * self.features**2

    @property
    def recurrent_flops(self) -> float:
        """Forward FLOPs of the recurrence: the products of C with both parts of h."""
        return 4.0 * self.features**2


def rates(rng: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """Initial rates [H] of the gated unit: a is uniform in RADII where r = 1.

    Source: De et al. 2024, arXiv:2402.19427, section 2.4. Differs: none.
    """
    kept = jax.random.uniform(rng, shape, dtype, *RADII)
    return jnp.log(jnp.expm1(-jnp.log(kept) / SHARPNESS))


def log_rates(rng: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """Initial logarithms of the complex unit's rates [H]: numbers exp(-rate) uniform in a ring between RADII.

    Source: Orvieto et al. 2023, arXiv:2303.06349, lemma 3.2. Differs: none.
    """
    low, high = RADII
    return jnp.log(-0.5 * jnp.log(jax.random.uniform(rng, shape, dtype, low**2, high**2)))


def log_angles(rng: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """Initial logarithms of the complex unit's angles [H]: angles uniform in a turn.

    Source: Orvieto et al. 2023, arXiv:2303.06349, lemma 3.2. Differs: none is below 1e-3, whose logarithm has no end.
    """
    return jnp.log(jax.random.uniform(rng, shape, dtype, 1e-3, 2 * math.pi))
