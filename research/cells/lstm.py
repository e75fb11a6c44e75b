"""The long short-term memory, plain and with layer normalisation."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.cells import cudnn
from research.cells.contract import Cell, CellState, bias_for_each_gate, orthogonal_for_each_gate
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

    path: str = 'scan'  # over all positions: one of registry.PATHS

    gates = 4
    states = ('output', 'cell')
    biases = (0.0, 1.0, 0.0, 0.0)
    recurrence = staticmethod(lstm)

    def arrays(self) -> tuple[Array, ...]:
        """The recurrent kernel [H, 4H]."""
        return (self.param('kernel', orthogonal_for_each_gate, (self.features, 4 * self.features)),)

    def over(self, inputs: Array, mask: Array, state: CellState, reverse: bool = False) -> tuple[Array, CellState]:
        """As the contract says; on path 'cudnn' the real positions of a row must stand first."""
        if self.path == 'scan':
            return super().over(inputs, mask, state, reverse)
        cudnn.check(jnp.result_type(inputs, state[0]))
        if self.is_initializing():
            return super().over(inputs, mask, state, reverse)  # makes the parameters
        projection = self.projection.variables['params']
        return cudnn.over(inputs, mask, state, projection['kernel'], projection['bias'], self.recurrent[0], reverse)


def layer_norm_lstm(state: CellState, projected: Array, kernel: Array, scales: Array, biases: Array,
                    cell_scale: Array, cell_bias: Array) -> CellState:
    """One step of an LSTM that normalises what its gates read and what it shows.

    i, f, o = sigmoid(LN(W x + U h));  g = tanh(LN(W x + U h)), each with its own W, U, LN
    c = f * c + i * g
    h = o * tanh(LN(c));  LN(a) = scale * (a - mean) / sqrt(variance + 1e-6) + bias, over the H numbers of a

    Args:
      state: (h, c), [B, H] each.
      projected: [B, 4H]: W x of i, f, g, o.
      kernel: [H, 4H]: U of i, f, g, o.
      scales: [4H]: of the norms of i, f, g, o.
      biases: [4H]: of the norms of i, f, g, o.
      cell_scale: [H]: of the norm of c.
      cell_bias: [H]: of the norm of c.

    Returns:
      The next state, (h, c).

    Source: Ba, Kiros, Hinton 2016, arXiv:1607.06450, supplementary material, equations 20 to 22. Differs: W x + U h has
    one norm for each gate, where the paper has one for W x and one for U h, each over all gates.
    """
    h, c = state
    H = h.shape[-1]
    gates = normalised((projected + h @ kernel).reshape(-1, 4, H)) * scales.reshape(4, H) + biases.reshape(4, H)
    i, f, g, o = jnp.moveaxis(gates, 1, 0)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(normalised(c) * cell_scale + cell_bias), c


def normalised(x: Array) -> Array:
    """The last axis with mean 0 and, but for 1e-6, variance 1."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-6)


class LayerNormLstm(Cell):
    """`layer_norm_lstm` and its parameters; the forget gate starts open, with bias 1."""

    gates = 4
    states = ('output', 'cell')
    biases = ()
    recurrence = staticmethod(layer_norm_lstm)

    def arrays(self) -> tuple[Array, ...]:
        """The recurrent kernel [H, 4H], scales and biases of the gates [4H] and of the cell [H]."""
        H, ones, zeros = self.features, nn.initializers.ones, nn.initializers.zeros
        return (self.param('kernel', orthogonal_for_each_gate, (H, 4 * H)),
                self.param('scales', ones, (4 * H,)),
                self.param('biases', bias_for_each_gate(Lstm.biases, (H,) * 4), (4 * H,)),
                self.param('cell_scale', ones, (H,)), self.param('cell_bias', zeros, (H,)))
