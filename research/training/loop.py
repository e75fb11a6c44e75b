"""The training loop, and the programs it runs: one for each shape of batch, all compiled before the first step."""

import functools
import pathlib
from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np

from research.errors import UserError
from research.shapes import Batch, Places
from research.training.state import State
from research.training.step import Metrics

Shape = tuple[int, int, int]  # B, S, T of a batch
Hook = Callable[[int, State, Metrics], State | None]


class Programs:
    """A function of (tree, batch) compiled once for each shape of batch, and never again.

    Calling it with a batch of any other shape raises KeyError: the number of programs is known before training. Axes
    before B, such as that of several seeds, do not count as shape.

    Args of the constructor:
      programs: for each (B, S, T) its program: what `lowering` makes, compiled.
    """

    def __init__(self, programs: Mapping[Shape, jax.stages.Compiled]):
        """Compiles nothing."""
        self._programs = {((B, S), (B, T)): program for (B, S, T), program in programs.items()}

    def __len__(self) -> int:
        return len(self._programs)

    @property
    def bytes(self) -> int:
        """What the largest program needs while it runs: arguments, results that take no argument's place, and what it
        makes on the way.
        """
        needs = (program.memory_analysis() for program in self._programs.values())
        return max(need.argument_size_in_bytes + need.output_size_in_bytes - need.alias_size_in_bytes
                   + need.temp_size_in_bytes for need in needs)

    def __call__(self, tree, batch: Batch):
        return self._programs[batch.source_places.segment.shape[-2:], batch.inputs.shape[-2:]](tree, batch)


def blank_batch(B: int, S: int, T: int) -> Batch:
    """A batch of this shape with nothing in it: what a program is compiled for."""
    def zeros(length):
        return np.zeros((B, length), np.int32)
    return Batch(zeros(S), Places(zeros(S), zeros(S)), zeros(T), zeros(T), Places(zeros(T), zeros(T)))


def lowering(function: Callable, tree, shapes: Iterable[Shape], *, donate: bool,
             blank: Callable[[int, int, int], Batch] = blank_batch) -> dict[Shape, Callable[[], jax.stages.Lowered]]:
    """What makes `function` ready to be compiled for trees like `tree`, of which only shapes count, and each shape.

    `donate`: the tree is given away, and the result takes its memory. `blank` makes an empty batch of a shape.
    """
    jitted = jax.jit(function, donate_argnums=(0,) if donate else ())
    return {shape: functools.partial(jitted.lower, tree, blank(*shape)) for shape in shapes}


def free_bytes() -> int | None:
    """What the device has for programs: all of an accelerator's memory, what is left of a CPU's; None = unknown."""
    device = jax.devices()[0]
    if device.platform != 'cpu':
        return (device.memory_stats() or {}).get('bytes_limit')
    try:
        lines = pathlib.Path('/proc/meminfo').read_text(encoding='ascii').splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith('MemAvailable:')), None)


def train(state: State, batches: Iterable[Batch], step: Callable[[State, Batch], tuple[State, Metrics]], steps: int,
          hooks: Iterable[Hook]) -> State:
    """Steps until `steps` batches have been consumed; after each, every hook gets (step, state, metrics).

    A hook that returns a state puts it in the place of the current one, for the hooks after it and for the next step:
    this is how the learning rate falls, `state._replace(rate=...)`. Shapes and dtypes must stay, and the step too; None
    changes nothing. Nothing here waits for the device; a hook that reads a number does. `batches` begins at the state's
    own position.
    """
    position = int(state.step)
    if position < steps:
        for batch in batches:
            state, metrics = step(state, batch)
            position += 1
            for hook in hooks:
                changed = hook(position, state, metrics)
                state = state if changed is None else changed
            if position == steps:
                break
        else:
            raise UserError(f'the data ended after {position} of {steps} steps')
    return state
