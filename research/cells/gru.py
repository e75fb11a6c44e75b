"""The gated recurrent unit, in two conventions that do not convert into each other. In both, z keeps the old state."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.cells.contract import Cell, CellState, orthogonal_for_each_gate
from research.shapes import Array


def gru_reset_before(state: CellState, projected: Array, gates_kernel: Array, candidate_kernel: Array) -> CellState:
    """One step of a GRU that resets the state before the product.

    r, z = sigmoid(W x + U h + b);  n = tanh(W x + U (r * h) + b), each with its own W, U, b
    h = z * h + (1 - z) * n

    Args:
      state: (h,), [B, H].
      projected: [B, 3H]: W x + b of r, z, n.
      gates_kernel: [H, 2H]: U of r, z.
      candidate_kernel: [H, H]: U of n.

    Returns:
      The next state, (h,).

    Source: Cho et al. 2014, arXiv:1406.1078, section 2.3. Differs: with biases.
    """
    (h,) = state
    H = h.shape[-1]
    r, z = jnp.split(jax.nn.sigmoid(projected[:, :2 * H] + h @ gates_kernel), 2, axis=-1)
    n = jnp.tanh(projected[:, 2 * H:] + (r * h) @ candidate_kernel)
    return (z * h + (1 - z) * n,)


def gru_reset_after(state: CellState, projected: Array, kernel: Array, candidate_bias: Array) -> CellState:
    """One step of a GRU that resets the product: one product a step, the convention of cuDNN.

    r, z = sigmoid(W x + U h + b);  n = tanh(W x + b + r * (U h + d)), each with its own W, U, b
    h = z * h + (1 - z) * n

    Args:
      state: (h,), [B, H].
      projected: [B, 3H]: W x + b of r, z, n.
      kernel: [H, 3H]: U of r, z, n.
      candidate_bias: [H]: d.

    Returns:
      The next state, (h,).

    Source: Cho et al. 2014, arXiv:1406.1078, section 2.3. Differs: U (r * h) is r * (U h + d), with biases.
    """
    (h,) = state
    H = h.shape[-1]
    product = h @ kernel
    r, z = jnp.split(jax.nn.sigmoid(projected[:, :2 * H] + product[:, :2 * H]), 2, axis=-1)
    n = jnp.tanh(projected[:, 2 * H:] + r * (product[:, 2 * H:] + candidate_bias))
    return (z * h + (1 - z) * n,)


class GruResetBefore(Cell):
    """`gru_reset_before` and its parameters."""

    gates = 3
    states = ('output',)
    biases = (0.0, 0.0, 0.0)
    recurrence = staticmethod(gru_reset_before)

    def arrays(self) -> tuple[Array, ...]:
        """The recurrent kernels of the gates [H, 2H] and of the candidate [H, H]."""
        return (self.param('gates_kernel', orthogonal_for_each_gate, (self.features, 2 * self.features)),
                self.param('candidate_kernel', orthogonal_for_each_gate, (self.features, self.features)))


class GruResetAfter(Cell):
    """`gru_reset_after` and its parameters."""

    gates = 3
    states = ('output',)
    biases = (0.0, 0.0, 0.0)
    recurrence = staticmethod(gru_reset_after)

    def arrays(self) -> tuple[Array, ...]:
        """The recurrent kernel [H, 3H] and the bias inside the candidate's reset [H]."""
        return (self.param('kernel', orthogonal_for_each_gate, (self.features, 3 * self.features)),
                self.param('candidate_bias', nn.initializers.zeros, (self.features,)))
