"""Everything that a run must keep to go on exactly where it stopped."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from research.models import contract
from research.shapes import Array, Batch


class State(NamedTuple):
    """The training state. One batch is consumed a step, so `step` is also the position in the data."""

    step: Array      # int32 []: how many updates have been made
    params: Any      # a nested dict of float32 arrays
    optimiser: Any   # optax's state
    rng: Array       # a key, never advanced: step k uses fold_in(rng, k), so nothing half-used is ever stored
    rate: Array      # float32 []: the highest learning rate; a value, so that one program serves every rate


def start(model: contract.EncoderDecoder, optimiser: optax.GradientTransformation, rng: Array, rate: Array,
          batch: Batch) -> State:
    """Makes the state before the first step from one key; only the shapes of `batch` matter."""
    init_rng, train_rng = jax.random.split(rng)
    params = contract.init(model, init_rng, batch)
    return State(jnp.zeros((), jnp.int32), params, optimiser.init(params), train_rng, jnp.float32(rate))
