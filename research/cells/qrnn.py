"""The quasi-recurrent cell, with a window of two positions."""

import jax
import jax.numpy as jnp

from research.cells.contract import Cell, CellState
from research.shapes import Array


def qrnn_terms(gates: Array) -> tuple[Array, Array]:
    """What the cell keeps and what is added to it: z, f, o before their nonlinearities [..., 3H] -> a and b."""
    z, f, _ = jnp.split(gates, 3, axis=-1)
    return jax.nn.sigmoid(f), jax.nn.sigmoid(-f) * jnp.tanh(z)


def qrnn(state: CellState, projected: Array) -> CellState:
    """One step of a cell whose candidate and gates read this input and the one before, and no state.

    z = tanh(W x_t + V x_{t-1});  f, o = sigmoid(W x_t + V x_{t-1}), each with its own W, V
    c = f * c + (1 - f) * z;  h = o * c

    Args:
      state: (h, c, V x_{t-1} of z, f, o), [B, H], [B, H] and [B, 3H].
      projected: [B, 6H]: W x of z, f, o, then V x of z, f, o.

    Returns:
      The next state, (h, c, V x_t).

    Source: Bradbury et al. 2017, arXiv:1611.01576, section 2, fo-pooling, k = 2. Differs: none.
    """
    _, c, before = state
    now, later = jnp.split(projected, 2, axis=-1)
    gates = now + before
    decay, write = qrnn_terms(gates)
    c = decay * c + write
    return jax.nn.sigmoid(jnp.split(gates, 3, axis=-1)[2]) * c, c, later


class Qrnn(Cell):
    """`qrnn`; it has no parameters but the projection.

    An encoder hands on output and cell. A decoder begins with a cell that is shown as it is, h = c, after no input.
    """

    gates = 6
    states = ('output', 'cell', 'before')
    biases = ()
    recurrence = staticmethod(qrnn)
    recurrent_flops = 0.0

    def arrays(self) -> tuple[Array, ...]:
        """None: no gate reads the state."""
        return ()

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Output and cell of width H, and what the position before gives to z, f and o."""
        return (self.features,), (self.features,), (3 * self.features,)

    @property
    def final_width(self) -> int:
        """The width of `final`: output and cell."""
        return 2 * self.features

    @property
    def start_width(self) -> int:
        """The width of what `start_from` reads: the cell."""
        return self.features

    def final(self, state: CellState) -> Array:
        """Output and cell, [B, 2H]."""
        return jnp.concatenate(state[:2], axis=-1)

    def start_from(self, vector: Array) -> CellState:
        """The vector as output and as cell, since the output is not read by the next step; before it stands nothing."""
        vector = vector.astype(self.state_dtype)
        return vector, vector, self.start(vector.shape[0])[2]
