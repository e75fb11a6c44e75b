"""The contract of a recurrent cell: a state that reads one input after the other.

    state = cell.start(batch)                               an array for each name in `cell.states`, B first
    outputs, state = cell.over(inputs, mask, state)         all positions: inputs [B, S, D], mask [B, S]
    state = cell.step(state, inputs)                        one position: inputs [B, D]
    state = cell.advance(state, cell.project(inputs))       the same in two halves, so that a caller can hoist the first
    vector = cell.final(state)                              what an encoder hands on, [B, E]
    state = cell.start_from(vector)                         what a decoder begins with, made from a vector [B, E']

A position that the mask calls padding changes nothing: the state passes through and the output is zero.

    inputs    a      b      pad    pad
    mask      1      1      0      0
    state     h1     h2     h2     h2
    output    h1     h2     0      0
"""

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from research.shapes import Array

CellState = tuple[Array, ...]  # [B, ...] each; the first is the output, [B, H]


class Cell(nn.Module, abc.ABC):
    """Abstract: a cell inherits from this class, says its sizes, and supplies its arrays and its recurrence.

    The state is computed in its own type, which `start` makes float32 or better; only what does not depend on it, the
    projection of the inputs, is computed in `dtype`, and so are the outputs that leave.

    A cell whose state is more than vectors of width H, or whose state a decoder cannot begin with as it comes out of a
    bridge, says so by its own `shapes`, `start`, `final` or `start_from`.

    Attributes:
      features: H, the width of the output.
      dtype: of projections and outputs; None means the type that inputs and parameters promote to. The state is float32
        unless it is float64.
      gates: how many vectors are projected from an input; side by side they have G numbers.
      states: what the arrays of the state are called; the first is the output.
      biases: what each gate's bias is at the start; () means that the projection has none.
      recurrence: (state, projected [B, G], *arrays) -> state, a pure function of arrays.
    """

    features: int
    dtype: Any = None

    gates: ClassVar[int]
    states: ClassVar[tuple[str, ...]]
    biases: ClassVar[tuple[float, ...]]
    recurrence: ClassVar[Callable[..., CellState]]

    def setup(self):
        self.projection = nn.Dense(self.projected_width, use_bias=bool(self.biases), dtype=self.dtype,
                                   bias_init=bias_for_each_gate(self.biases, self.widths))
        self.recurrent = self.arrays()

    @abc.abstractmethod
    def arrays(self) -> tuple[Array, ...]:
        """Makes the parameters that the recurrence reads; called once, by `setup`."""

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of each projected vector: H each."""
        return (self.features,) * self.gates

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each array of the state, without B: H each."""
        return ((self.features,),) * len(self.states)

    @property
    def state_dtype(self) -> Any:
        """The type of the state: float32 or better."""
        return jnp.promote_types(self.dtype or jnp.float32, jnp.float32)

    @property
    def projected_width(self) -> int:
        """G, how many numbers are projected from an input."""
        return sum(self.widths)

    @property
    def final_width(self) -> int:
        """E, the width of `final`: all that the state holds."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def start_width(self) -> int:
        """The width of what `start_from` reads: all that the state holds."""
        return sum(math.prod(shape) for shape in self.shapes)

    def start(self, batch: int) -> CellState:
        """The state before the first position: zeros, in float32 or better."""
        return tuple(jnp.zeros((batch, *shape), self.state_dtype) for shape in self.shapes)

    def final(self, state: CellState) -> Array:
        """What an encoder hands on of its last state, [B, E]: its arrays side by side."""
        return jnp.concatenate([array.reshape(array.shape[0], -1) for array in state], axis=-1)

    def start_from(self, vector: Array) -> CellState:
        """The state that a decoder begins with, from a vector [B, start_width] in (-1, 1): cut into arrays."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1]
        return tuple(part.reshape(-1, *shape) for part, shape in
                     zip(jnp.split(vector.astype(self.state_dtype), ends, axis=-1), self.shapes, strict=True))

    @property
    def start_flops(self) -> float:
        """Forward FLOPs of `start_from`, once a sentence: none where the vector is only cut."""
        return 0.0

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
          state: before the first position that is read.
          reverse: read from the last position to the first; outputs stay where their inputs are.

        Returns:
          Outputs [B, S, H], zero at padding, and the state after the last position that is read; a row of padding
          returns the state it was given.
        """
        # What stands at padding never enters the recurrence: what is thrown away later has a gradient of 0 * inf.
        projected = jnp.where(mask[:, :, None], self.project(inputs), 0)
        # The loop sees plain arrays and a pure function, no module: nothing in it can be made or looked up twice. It
        # also serves the cells that `linear_scan` could: measured on one CPU core (not on accelerators), forward and
        # backward of minimal_gru at B, S, H = 64, 64, 256 take 90 ms here and 106 ms there.
        recurrence, dtype = self.recurrence, state[0].dtype
        arrays = tuple(array.astype(dtype) for array in self.recurrent)

        def position(state, at):
            projected, real = at
            following = recurrence(state, projected.astype(dtype), *arrays)
            return hold(real, following, state), jnp.where(real[:, None], following[0], 0).astype(outputs_dtype)

        outputs_dtype = projected.dtype
        state, outputs = jax.lax.scan(position, state, (jnp.moveaxis(projected, 1, 0), mask.T), reverse=reverse)
        return jnp.moveaxis(outputs, 0, 1), state

    def flops(self, input_width: int) -> float:
        """Forward FLOPs a position, 2 per multiply-add: the products with the input and those of the recurrence."""
        return 2.0 * self.projected_width * input_width + self.recurrent_flops

    @property
    def recurrent_flops(self) -> float:
        """Forward FLOPs of the recurrence, 2 per multiply-add: the products of all gates with the state."""
        return 2.0 * self.gates * self.features**2


def hold(real: Array, following: CellState, state: CellState) -> CellState:
    """`following` where a position is real, boolean [B]; `state` as it was where it is padding."""
    return tuple(jnp.where(real.reshape(-1, *(1,) * (old.ndim - 1)), new, old)
                 for new, old in zip(following, state, strict=True))


def orthogonal_for_each_gate(rng: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """An initial recurrent kernel [H, gates * H]: side by side, an orthogonal matrix for each gate.

    Source: Saxe, McClelland, Ganguli 2014, arXiv:1312.6120. Differs: none.
    """
    H, width = shape
    keys = jax.random.split(rng, width // H)
    return jnp.concatenate([nn.initializers.orthogonal()(key, (H, H), dtype) for key in keys], axis=1)


def bias_for_each_gate(biases: tuple[float, ...], widths: tuple[int, ...]) -> Callable[..., Array]:
    """Makes the initialiser of a bias [G] that is the same number all over a gate."""
    def initialise(rng, shape, dtype=jnp.float32):
        return jnp.asarray(np.repeat(biases, widths), dtype)
    return initialise
