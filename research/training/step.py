"""One update, and one measurement, as pure functions of a state and a batch."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from research.models import contract
from research.shapes import Array, Batch
from research.training.loss import cross_entropy, right_answers
from research.training.state import State

Metrics = dict[str, Array]


def train_step(model: contract.EncoderDecoder, optimiser: optax.GradientTransformation, *, label_smoothing: float = 0.0,
               chunk: int = 4096) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """Makes the pure function (state, batch) -> (state, metrics) of one update.

    The gradient is that of the summed loss over real tokens divided by their count, so neither padding nor the size of
    a bucket changes it. The optimiser's update is multiplied by `state.rate`. Dropout at step k uses
    fold_in(state.rng, k).

    Metrics, scalars: `loss` (a token, with smoothing and penalties), `tokens` (real targets), `gradient_norm` (before
    clipping).
    """
    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        rng = jax.random.fold_in(state.rng, state.step)

        def loss(params):
            encode_rng, decode_rng = jax.random.split(rng)
            memory = contract.encode(model, params, batch.source, batch.source_places, encode_rng)
            decoded = contract.decode(model, params, memory, batch.inputs, batch.target_places, decode_rng)
            total, count = cross_entropy(decoded.hidden, lambda rows: contract.logits(model, params, rows),
                                         batch.targets, asked(batch),
                                         label_smoothing=label_smoothing, chunk=chunk)
            return (total + decoded.penalty) / jnp.maximum(count, 1.0), count

        (value, count), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, optax.tree.scale(state.rate, updates))
        metrics = {'loss': value, 'tokens': count, 'gradient_norm': optax.tree.norm(gradient)}
        return State(state.step + 1, params, optimiser_state, state.rng, state.rate), metrics
    return step


def asked(batch: Batch) -> Array:
    """The positions that have a target: bool [B, T]."""
    return (batch.target_places.segment > 0) & (batch.targets > 0)


def measure_step(model: contract.EncoderDecoder, *, chunk: int = 4096,
                 with_right: bool = False) -> Callable[[contract.Params, Batch], Metrics]:
    """Makes the pure function (params, batch) -> summed loss and token count: no dropout, no smoothing.

    `with_right` adds `right`, how many targets have the highest score, each given the right inputs.
    """
    def measure(params: contract.Params, batch: Batch) -> Metrics:
        memory = contract.encode(model, params, batch.source, batch.source_places)
        decoded = contract.decode(model, params, memory, batch.inputs, batch.target_places)

        def logits(rows):
            return contract.logits(model, params, rows)
        total, count = cross_entropy(decoded.hidden, logits, batch.targets, asked(batch), chunk=chunk)
        right = {'right': right_answers(decoded.hidden, logits, batch.targets, asked(batch), chunk=chunk)}
        return {'loss': total, 'tokens': count, **(right if with_right else {})}
    return measure


def summed(measure: Callable[[contract.Params, Batch], Metrics], params: contract.Params,
           batches: Sequence[Batch]) -> dict[str, float]:
    """What a measurement says of all batches together: each of its numbers, summed."""
    parts = [measure(params, batches[index]) for index in range(len(batches))]
    return {name: sum(float(part[name]) for part in parts) for name in parts[0]}
