"""Everything that a run must keep to go on exactly where it stopped."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from research.models import contract
from research.shapes import Array, Batch


class Gathered(NamedTuple):
    """What the batches since the last update add up to, where an update is made from several."""

    gradient: Any  # a tree like the parameters: of the summed loss
    count: Array   # float32 []: real tokens


class State(NamedTuple):
    """The training state. One batch is consumed a step, so `step` is also the position in the data."""

    step: Array         # int32 []: how many batches have been consumed; `accumulate` of them make an update
    params: Any         # a nested dict of float32 arrays
    optimiser: Any      # optax's state
    rng: Array          # a key, never advanced: step k uses fold_in(rng, k), so nothing half-used is ever stored
    rate: Array         # float32 []: the highest learning rate; a value, so that one program serves every rate
    gathered: Any = ()  # Gathered; () where each batch makes an update
    average: Any = ()   # the moving average of params; () where there is none


def start(model: contract.EncoderDecoder, optimiser: optax.GradientTransformation, rng: Array, rate: Array,
          batch: Batch, *, accumulate: int = 1, ema: float = 0.0) -> State:
    """Makes the state before the first step from one key; only the shapes of `batch` matter.

    `accumulate` and `ema` are those of `step.train_step`: they decide what the state holds.
    """
    init_rng, train_rng = jax.random.split(rng)
    params = contract.init(model, init_rng, batch)
    return State(jnp.zeros((), jnp.int32), params, optimiser.init(params), train_rng, jnp.float32(rate),
                 nothing_gathered(params) if accumulate > 1 else (),
                 jax.tree.map(jnp.copy, params) if ema else ())  # a copy: both are given away to the first step


def nothing_gathered(params: contract.Params) -> Gathered:
    """What is gathered right after an update."""
    return Gathered(jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.float32))


def evaluated(state: State) -> contract.Params:
    """The parameters to measure, keep and decode with: the moving average where there is one, else `params`."""
    return state.params if state.average == () else state.average
