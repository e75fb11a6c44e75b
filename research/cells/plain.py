"""The plain recurrent cell."""

import jax.numpy as jnp

from research.cells.contract import Cell, CellState, orthogonal_for_each_gate
from research.shapes import Array


def plain(state: CellState, projected: Array, kernel: Array) -> CellState:
    """One step of a layer that reads itself.

    h = tanh(W x + U h + b)

    Args:
      state: (h,), [B, H].
      projected: [B, H]: W x + b.
      kernel: [H, H]: U.

    Returns:
      The next state, (h,).

    Source: Elman 1990, Finding structure in time, section 2. Differs: tanh in place of the logistic function.
    """
    (h,) = state
    return (jnp.tanh(projected + h @ kernel),)


class Plain(Cell):
    """`plain` and its parameters."""

    gates = 1
    states = ('output',)
    biases = (0.0,)
    recurrence = staticmethod(plain)

    def arrays(self) -> tuple[Array, ...]:
        """The recurrent kernel [H, H]."""
        return (self.param('kernel', orthogonal_for_each_gate, (self.features, self.features)),)
