"""The gated unit and the long short-term memory with gates that do not look at the state: linear in what they keep."""

import jax
import jax.numpy as jnp

from research.cells.contract import Cell, CellState
from research.shapes import Array


def positive(x: Array) -> Array:
    """A candidate that is above zero: x + 1/2 for x >= 0, else sigmoid(x)."""
    return jnp.where(x >= 0, x + 0.5, jax.nn.sigmoid(x))


def minimal_gru_terms(projected: Array) -> tuple[Array, Array]:
    """What a minimal GRU keeps of its state and what it adds to it: [..., 2H] -> a and b, [..., H] each."""
    z, candidate = jnp.split(projected, 2, axis=-1)
    return jax.nn.sigmoid(-z), jax.nn.sigmoid(z) * positive(candidate)


def minimal_gru(state: CellState, projected: Array) -> CellState:
    """One step of a GRU without reset, whose update gate and candidate read the input alone.

    z = sigmoid(W_z x + b);  h = (1 - z) * h + z * g(W_h x + b)
    g(x) = x + 1/2 for x >= 0, else sigmoid(x)

    Args:
      state: (h,), [B, H].
      projected: [B, 2H]: W x + b of z and of the candidate.

    Returns:
      The next state, (h,).

    Source: Feng et al. 2024, arXiv:2410.01201, section 3.1 and appendix B. Differs: a start state is kept as it is, and
    need not be positive, since nothing is computed in log space. z keeps the candidate, as in the paper; it keeps the
    old state in the GRUs of this project.
    """
    decay, write = minimal_gru_terms(projected)
    return (decay * state[0] + write,)


def minimal_lstm_terms(projected: Array) -> tuple[Array, Array]:
    """What a minimal LSTM keeps of its state and what it adds to it: [..., 3H] -> a and b, [..., H] each."""
    f, i, candidate = jnp.split(projected, 3, axis=-1)
    # f / (f + i), of two gates that may both be too small to be told from zero.
    odds = jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i)
    return jax.nn.sigmoid(odds), jax.nn.sigmoid(-odds) * positive(candidate)


def minimal_lstm(state: CellState, projected: Array) -> CellState:
    """One step of an LSTM whose gates read the input alone and share out what is kept and what is added.

    f, i = sigmoid(W x + b), each with its own W, b;  f' = f / (f + i);  i' = i / (f + i)
    h = f' * h + i' * g(W_h x + b)
    g(x) = x + 1/2 for x >= 0, else sigmoid(x)

    Args:
      state: (h,), [B, H].
      projected: [B, 3H]: W x + b of f, of i and of the candidate.

    Returns:
      The next state, (h,).

    Source: Feng et al. 2024, arXiv:2410.01201, section 3.2 and appendix B. Differs: a start state is kept as it is, and
    need not be positive, since nothing is computed in log space.
    """
    decay, write = minimal_lstm_terms(projected)
    return (decay * state[0] + write,)


class MinimalGru(Cell):
    """`minimal_gru`; it has no parameters but the projection."""

    gates = 2
    states = ('output',)
    biases = (0.0, 0.0)
    recurrence = staticmethod(minimal_gru)
    recurrent_flops = 0.0

    def arrays(self) -> tuple[Array, ...]:
        """None: no gate reads the state."""
        return ()


class MinimalLstm(Cell):
    """`minimal_lstm`; it has no parameters but the projection."""

    gates = 3
    states = ('output',)
    biases = (0.0, 0.0, 0.0)
    recurrence = staticmethod(minimal_lstm)
    recurrent_flops = 0.0

    def arrays(self) -> tuple[Array, ...]:
        """None: no gate reads the state."""
        return ()
