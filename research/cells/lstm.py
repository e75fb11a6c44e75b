"""The long short-term memory."""

import jax
import jax.numpy as jnp

from research.cells.contract import Cell, CellState, orthogonal_for_each_gate
from research.shapes import Array


def lstm(state: CellState, projected: Array, kernel: Array) -> CellState:
    """One step of a cell whose content is kept, added to and shown as three gates say.

    i, f, o = sigmoid(W x + U h + b);  g = tanh(W x + U h + b), each with its own W, U, b
    c = f * c + i * g
    h = o * tanh(c)

    Args:
      state: (h, c), [B, H] each.
      projected: [B, 4H]: W x + b of i, f, g, o.
      kernel: [H, 4H]: U of i, f, g, o.

    Returns:
      The next state, (h, c).

    Source: Hochreiter and Schmidhuber 1997, Long short-term memory; f: Gers, Schmidhuber, Cummins 2000, Learning to
    forget. Differs: no peepholes, one cell a block, tanh in place of the papers' scaled logistic functions.
    """
    h, c = state
    i, f, g, o = jnp.split(projected + h @ kernel, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


class Lstm(Cell):
    """`lstm` and its parameters; the forget gate starts open, with bias 1.

    Source of the bias: Jozefowicz, Zaremba, Sutskever 2015, An empirical exploration of recurrent network
    architectures.
    """

    gates = 4
    states = ('output', 'cell')
    biases = (0.0, 1.0, 0.0, 0.0)
    recurrence = staticmethod(lstm)

    def arrays(self) -> tuple[Array, ...]:
        """The recurrent kernel [H, 4H]."""
        return (self.param('kernel', orthogonal_for_each_gate, (self.features, 4 * self.features)),)
