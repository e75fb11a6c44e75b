"""The states of several seeds as one, and the step that moves them all: pure functions, each one compiled program.

    stack = stacked([state of seed 1, ..., state of seed n])      every array [n, ...] but the step, which they share
    stack, metrics = step(stack, batches)                         metrics[i] are those of seed i
    taken(stack, i)                                               its state

No seed's numbers meet another's: what becomes of one does not depend on what the others are, only on how many there
are, because the program for another number may add in another order.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from research.shapes import Array, Batch
from research.training.state import State
from research.training.step import Metrics

AXES = State(step=None, params=0, optimiser=0, rng=0, rate=0, gathered=0, average=0)  # of the seeds, in a stack


def stacked(states: Sequence[State]) -> State:
    """The states of n seeds, all after the same step, as one whose arrays are [n, ...]; its step is a number still."""
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    return stack._replace(step=states[0].step)


def taken(stack: State, place: Array) -> State:
    """The state of the seed in one place, int32 []."""
    state = jax.tree.map(lambda leaves: leaves[place], stack._replace(step=()))
    return state._replace(step=stack.step)


def batch(batches: Sequence[Batch]) -> Batch:
    """The batches of n seeds, all of one shape, as one whose arrays are [n, ...]; made by NumPy."""
    return jax.tree.map(lambda *parts: np.stack(parts), *batches)


def train_step(step: Callable[[State, Batch], tuple[State, Metrics]],
               count: int) -> Callable[[State, Batch], tuple[State, list[Metrics]]]:
    """Makes the step of n seeds of one seed's: (stack, batches) -> (stack, the metrics of each).

        state_i, metrics_i = step(state_i, batch_i)    for all i at once, by jax.vmap

    Args:
      step: what `training.step.train_step` makes.
      count: n. The metrics come apart in the program, so that nobody has to do it later.
    """
    together = jax.vmap(step, in_axes=(AXES, 0), out_axes=(AXES, 0))

    def several(stack: State, batches: Batch) -> tuple[State, list[Metrics]]:
        stack, metrics = together(stack, batches)
        return stack, [{name: values[place] for name, values in metrics.items()} for place in range(count)]
    return several
