"""The simple recurrent unit."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.cells.contract import Cell, CellState
from research.shapes import Array


def sru(state: CellState, projected: Array, peepholes: Array, biases: Array) -> CellState:
    """One step of a cell whose gates read the input and, each number for itself, the cell before.

    f, r = sigmoid(W x + v * c + b), each with its own W, v, b;  c = f * c + (1 - f) * (W x);  h = r * c + (1 - r) * x

    Args:
      state: (h, c), [B, H] each.
      projected: [B, 4H]: W x of the cell, of f and of r, and x itself, brought to width H.
      peepholes: [2H]: v of f, r.
      biases: [2H]: b of f, r.

    Returns:
      The next state, (h, c).

    Source: Lei et al. 2018, arXiv:1709.02755, section 3. Differs: the x that is mixed in is W x of width H, since x
    need not have that width, and is not rescaled.
    """
    _, c = state
    candidate, f, r, x = jnp.split(projected, 4, axis=-1)
    f, r = (jax.nn.sigmoid(gate + v * c + b) for gate, v, b in
            zip((f, r), jnp.split(peepholes, 2), jnp.split(biases, 2), strict=True))
    c = f * c + (1 - f) * candidate
    return r * c + (1 - r) * x, c


class Sru(Cell):
    """`sru` and its parameters. A decoder begins with a cell that is shown as it is, h = c."""

    gates = 4
    states = ('output', 'cell')
    biases = ()
    recurrence = staticmethod(sru)
    recurrent_flops = 0.0

    def arrays(self) -> tuple[Array, ...]:
        """What the gates see of the cell [2H], and their biases [2H]."""
        return (self.param('peepholes', nn.initializers.uniform(1.0), (2 * self.features,)),
                self.param('biases', nn.initializers.zeros, (2 * self.features,)))

    @property
    def start_width(self) -> int:
        """The width of what `start_from` reads: the cell."""
        return self.features

    def start_from(self, vector: Array) -> CellState:
        """The vector as output and as cell, since the output is not read by the next step."""
        return (vector.astype(self.state_dtype),) * 2
