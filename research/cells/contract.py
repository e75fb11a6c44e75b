"""The contract of a recurrent cell: a state that reads one input after the other.

    state = cell.start(batch)                               zeros, one array [B, H] for each name in `cell.states`
    outputs, state = cell.over(inputs, mask, state)         all positions: inputs [B, S, D], mask [B, S]
    state = cell.step(state, inputs)                        one position: inputs [B, D]
    state = cell.advance(state, cell.project(inputs))       the same in two halves, so that a caller can hoist the first

A position that the mask calls padding changes nothing: the state passes through and the output is zero.

    inputs    a      b      pad    pad
    mask      1      1      0      0
    state     h1     h2     h2     h2
    output    h1     h2     0      0
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.shapes import Array

CellState = tuple[Array, ...]  # [B, H] each; the first is the output


class Cell(nn.Module, abc.ABC):
    """Abstract: a cell inherits from this class, says its sizes, and supplies its arrays and its recurrence.

    The state is computed in its own type, which `start` makes float32 or better; only what does not depend on it, the
    projection of the inputs, is computed in `dtype`, and so are the outputs that leave.

    Attributes:
      features: H, the width of each array of the state.
      dtype: of projections and outputs; None means the type that inputs and parameters promote to.
      gates: G = gates * H numbers are projected from an input.
      states: what the arrays of the state are called; the first is the output.
      biases: what each gate's bias is at the start.
      recurrence: (state, projected [B, G], *arrays) -> state, a pure function of arrays.
    """

    features: int
    dtype: Any = None

    gates: ClassVar[int]
    states: ClassVar[tuple[str, ...]]
    biases: ClassVar[tuple[float, ...]]
    recurrence: ClassVar[Callable[..., CellState]]

    def setup(self):
        self.projection = nn.Dense(self.gates * self.features, dtype=self.dtype,
                                   bias_init=bias_for_each_gate(self.biases))
        self.recurrent = self.arrays()

    @abc.abstractmethod
    def arrays(self) -> tuple[Array, ...]:
        """Makes the parameters that the recurrence reads; called once, by `setup`."""

    def start(self, batch: int) -> CellState:
        """The state before the first position: zeros [B, H] each, in float32 or better."""
        dtype = jnp.promote_types(self.dtype or jnp.float32, jnp.float32)
        return tuple(jnp.zeros((batch, self.features), dtype) for _ in self.states)

    def project(self, inputs: Array) -> Array:
        """All that does not depend on the state: inputs [..., D] -> [..., G]."""
        return self.projection(inputs)

    def advance(self, state: CellState, projected: Array) -> CellState:
        """Reads one position that is already projected, [B, G] -> the next state."""
        dtype = state[0].dtype
        return self.recurrence(state, projected.astype(dtype), *(array.astype(dtype) for array in self.recurrent))

    def step(self, state: CellState, inputs: Array) -> CellState:
        """Reads one position, [B, D] -> the next state."""
        return self.advance(state, self.project(inputs))

    def over(self, inputs: Array, mask: Array, state: CellState, reverse: bool = False) -> tuple[Array, CellState]:
        """Reads all positions.

        Args:
          inputs: [B, S, D].
          mask: [B, S] boolean; False is padding.
          state: [B, H] each, before the first position that is read.
          reverse: read from the last position to the first; outputs stay where their inputs are.

        Returns:
          Outputs [B, S, H], zero at padding, and the state after the last position that is read; a row of padding
          returns the state it was given.
        """
        projected = self.project(inputs)
        # The loop sees plain arrays and a pure function, no module: nothing in it can be made or looked up twice.
        recurrence, dtype = self.recurrence, state[0].dtype
        arrays = tuple(array.astype(dtype) for array in self.recurrent)

        def position(state, at):
            projected, real = at
            following = recurrence(state, projected.astype(dtype), *arrays)
            state = tuple(jnp.where(real[:, None], new, old) for new, old in zip(following, state, strict=True))
            return state, jnp.where(real[:, None], following[0], 0).astype(outputs_dtype)

        outputs_dtype = projected.dtype
        state, outputs = jax.lax.scan(position, state, (jnp.moveaxis(projected, 1, 0), mask.T), reverse=reverse)
        return jnp.moveaxis(outputs, 0, 1), state

    def flops(self, input_width: int) -> float:
        """Forward FLOPs a position, 2 per multiply-add: the products of all gates with the input and with the state."""
        return 2.0 * self.gates * self.features * (input_width + self.features)


def orthogonal_for_each_gate(rng: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """An initial recurrent kernel [H, gates * H]: side by side, an orthogonal matrix for each gate.

    Source: Saxe, McClelland, Ganguli 2014, arXiv:1312.6120. Differs: none.
    """
    H, width = shape
    keys = jax.random.split(rng, width // H)
    return jnp.concatenate([nn.initializers.orthogonal()(key, (H, H), dtype) for key in keys], axis=1)


def bias_for_each_gate(biases: tuple[float, ...]) -> Callable[..., Array]:
    """Makes the initialiser of a bias [gates * H] that is the same number all over a gate."""
    def initialise(rng, shape, dtype=jnp.float32):
        return jnp.repeat(jnp.asarray(biases, dtype), shape[0] // len(biases))
    return initialise
