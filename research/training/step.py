"""One update, and one measurement, as pure functions of a state and a batch."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from research.models import contract
from research.shapes import Array, Batch
from research.training import optimisers
from research.training.loss import consistent_cross_entropy, cross_entropy, of_positions, right_answers
from research.training.state import Gathered, State, nothing_gathered

Metrics = dict[str, Array]
Loss = Callable[[contract.Params, Batch, Array], tuple[Array, Array]]  # of a batch and a key: sum and count


def train_step(model: contract.EncoderDecoder, optimiser: optax.GradientTransformation, *, label_smoothing: float = 0.0,
               chunk: int = 512, r_drop: float = 0.0, frozen: Sequence[str] = (), accumulate: int = 1,
               ema: float = 0.0) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """Makes the pure function (state, batch) -> (state, metrics) of one batch, and of an update each `accumulate`.

    The gradient is that of the summed loss over real tokens divided by their count, so neither padding nor the size of
    a bucket changes it. The optimiser's update is multiplied by `state.rate`. Dropout at step k uses
    fold_in(state.rng, k).

    With `accumulate` = n, steps k n, ..., k n + n - 1 make update k; sum and count are those of all n batches, as if
    they were one. optax.MultiSteps would weigh each batch the same, however many tokens it has. In the steps before the
    last of a group the parameters stay as they are, so what a run gathers after its last whole group is never used:
    the number of steps must be a multiple of n. The optimiser counts updates, the state counts steps:
    `optimisers.schedule` knows n.

    With `ema` = d, after update u = 1, 2, ... (TensorFlow's ExponentialMovingAverage, with num_updates = u):

        average = average + (1 - min(d, (1 + u) / (10 + u))) (params - average)

    Metrics, scalars: `loss` (a token of this batch, with smoothing and penalties), `tokens` (real targets of this
    batch), `gradient_norm` (before clipping; of the mean over all that is gathered so far, this batch included).

    Args:
      model: what the functions of models.contract call.
      optimiser: what turns a gradient into an update.
      label_smoothing: see `loss.cross_entropy`.
      chunk: see `loss.cross_entropy`.
      r_drop: alpha of `loss.consistent_cross_entropy`: two passes with different dropout; 0 = one pass.
      frozen: the names given to `optimisers.frozen`. These parameters have no gradient here, so nothing is computed for
        it and `gradient_norm` knows nothing of them.
      accumulate: n, batches of an update; at least 1.
      ema: d, in [0, 1); 0 = no average.
    """
    loss = one_pass(model, label_smoothing, chunk) if r_drop == 0 else two_passes(model, r_drop, label_smoothing, chunk)

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        _require_what_is_kept(state, accumulate, ema)
        rng = jax.random.fold_in(state.rng, state.step)

        def mean(params):
            total, count = loss(optimisers.without_gradient(params, frozen), batch, rng)
            return total / jnp.maximum(count, 1.0), count
        (value, count), gradient = jax.value_and_grad(mean, has_aux=True)(state.params)
        if accumulate > 1:
            state = state._replace(gathered=gathered_with(state.gathered, gradient, count))
            gradient = optax.tree.scale(1.0 / jnp.maximum(state.gathered.count, 1.0), state.gathered.gradient)
            state = jax.lax.cond((state.step + 1) % accumulate == 0, updated, lambda state, gradient: state,
                                 state, gradient)
        else:
            state = updated(state, gradient)
        metrics = {'loss': value, 'tokens': count, 'gradient_norm': optax.tree.norm(gradient)}
        return state._replace(step=state.step + 1), metrics

    def updated(state: State, gradient: contract.Params) -> State:
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, optax.tree.scale(state.rate, updates))
        return state._replace(
            params=params, optimiser=optimiser_state,
            gathered=nothing_gathered(params) if accumulate > 1 else (),
            average=moved(state.average, params, ema, (state.step + 1) // accumulate) if ema else ())
    return step


def one_pass(model: contract.EncoderDecoder, label_smoothing: float, chunk: int) -> Loss:
    """Makes the loss (params, batch, rng) -> sum, count of `loss.cross_entropy`, what the variants add included."""
    def loss(params: contract.Params, batch: Batch, rng: Array) -> tuple[Array, Array]:
        hidden, penalty = _read(model, params, batch, rng)
        total, count = cross_entropy(hidden, lambda rows: contract.logits(model, params, rows), batch.targets,
                                     asked(batch), label_smoothing=label_smoothing, chunk=chunk)
        return total + penalty, count
    return loss


def two_passes(model: contract.EncoderDecoder, alpha: float, label_smoothing: float, chunk: int) -> Loss:
    """Makes the loss (params, batch, rng) -> sum, count of `loss.consistent_cross_entropy`: R-Drop.

    The passes differ in their key. What the variants add is the mean of both. Twice the time and memory of one pass.
    """
    def loss(params: contract.Params, batch: Batch, rng: Array) -> tuple[Array, Array]:
        hidden, penalties = jax.vmap(lambda key: _read(model, params, batch, key),
                                     out_axes=(2, 0))(jax.random.split(rng))
        total, count = consistent_cross_entropy(
            hidden, lambda rows: contract.logits(model, params, rows), batch.targets, asked(batch), alpha=alpha,
            label_smoothing=label_smoothing, chunk=chunk)
        return total + jnp.mean(penalties), count
    return loss


def _read(model, params, batch, rng):
    """Hidden [B, T, D] and penalty [] of a batch, with dropout."""
    encode_rng, decode_rng = jax.random.split(rng)
    memory = contract.encode(model, params, batch.source, batch.source_places, encode_rng)
    decoded = contract.decode(model, params, memory, batch.inputs, batch.target_places, decode_rng)
    return decoded.hidden, decoded.penalty


def gathered_with(gathered: Gathered, gradient: contract.Params, count: Array) -> Gathered:
    """Adds a batch of so many real tokens, whose gradient is that of their mean loss."""
    return Gathered(jax.tree.map(lambda total, mean: total + count * mean, gathered.gradient, gradient),
                    gathered.count + count)


def moved(average: contract.Params, params: contract.Params, decay: float, updates: Array) -> contract.Params:
    """Moves the average towards the parameters after so many updates; where both are equal, it stays bit for bit."""
    share = 1.0 - jnp.minimum(decay, (1.0 + updates) / (10.0 + updates))
    return jax.tree.map(lambda mean, now: mean + share * (now - mean), average, params)


def _require_what_is_kept(state, accumulate, ema):
    """Nothing that a state has gathered or averaged is lost because a step does not know of it."""
    if (state.gathered == ()) != (accumulate == 1) or (state.average == ()) != (ema == 0):
        raise ValueError(f'the state was not started with accumulate = {accumulate} and ema = {ema}, as this step is')


def asked(batch: Batch) -> Array:
    """The positions that have a target: bool [B, T]."""
    return (batch.target_places.segment > 0) & (batch.targets > 0)


def measure_step(model: contract.EncoderDecoder, *, chunk: int = 512,
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


def position_step(model: contract.EncoderDecoder, *,
                  chunk: int = 512) -> Callable[[contract.Params, Batch], tuple[Array, Array, Array]]:
    """Makes the pure function (params, batch) -> what a model says at each position, given the right inputs.

    No dropout, no smoothing. Returned are, [B, T] each: whether a target is asked for, bool; whether it has the highest
    score, bool; its cross-entropy in nats, float32. The last two are False and 0 where nothing is asked for.
    """
    def measure(params: contract.Params, batch: Batch) -> tuple[Array, Array, Array]:
        memory = contract.encode(model, params, batch.source, batch.source_places)
        decoded = contract.decode(model, params, memory, batch.inputs, batch.target_places)
        losses, right = of_positions(decoded.hidden, lambda rows: contract.logits(model, params, rows), batch.targets,
                                     chunk=chunk)
        real = asked(batch)
        return real, right & real, jnp.where(real, losses, 0.0)
    return measure


def summed(measure: Callable[[contract.Params, Batch], Metrics], params: contract.Params,
           batches: Sequence[Batch]) -> dict[str, float]:
    """What a measurement says of all batches together: each of its numbers, summed."""
    parts = [measure(params, batches[index]) for index in range(len(batches))]
    return {name: sum(float(part[name]) for part in parts) for name in parts[0]}
