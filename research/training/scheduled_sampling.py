"""Scheduled sampling: a decoder that is trained reads symbols of its own now and then, in place of the right ones."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from research.errors import UserError, nearest
from research.models import contract
from research.shapes import Array, Batch
from research.training.state import State
from research.training.step import Metrics

DECAYS = ('linear', 'exponential', 'inverse_sigmoid')


def probability(decay: str, half: float, floor: float) -> Callable[[Array], Array]:
    """How often a symbol that the decoder reads is the right one, as a function of the step i, counted from 0.

        linear           max(floor, 1 - i / (2 half))
        exponential      max(floor, k^i)                     k = 2^(-1 / half)
        inverse_sigmoid  max(floor, k / (k + exp(i / k)))    k ln k = half; begins at k / (k + 1)

    Args:
      decay: one of DECAYS.
      half: the step at which it would be 1/2; at least 1.
      floor: never less than this; 1 = always the right symbol.

    Returns:
      A function: int32 [] -> float32 [].

    Raises:
      UserError: the name is unknown, or a number is out of its range.

    Source: Bengio et al. 2015, arXiv:1506.03099, section 2.4. Differs: one number, of the same meaning for all three,
    stands for the constants of each (the paper's k, and the slope of the line, which begins at 1); the floor, there for
    the line only, holds for all.
    """
    if decay not in DECAYS:
        raise UserError(f'Unknown decay {decay!r}.{nearest(decay, DECAYS)} Known: {", ".join(DECAYS)}')
    if not 1 <= half < math.inf:
        raise UserError(f'the step at which half of the symbols are right is {half}; it must be at least 1')
    if not 0 <= floor <= 1:
        raise UserError(f'the least probability of the right symbol is {floor}; it must be at least 0 and at most 1')
    from scipy.special import lambertw  # here, because importing it is slow
    k = math.exp(lambertw(half).real)
    fall = {'linear': lambda i: 1.0 - i / (2.0 * half),
            'exponential': lambda i: jnp.exp2(-i / half),
            'inverse_sigmoid': lambda i: jax.nn.sigmoid(math.log(k) - i / k)}[decay]
    return lambda step: jnp.maximum(jnp.float32(floor), fall(jnp.asarray(step, jnp.float32)))


def inputs(model: contract.EncoderDecoder, params: contract.Params, memory: contract.Memory, batch: Batch, rng: Array,
           probability: Array, *, never: Sequence[int], greedy: bool = False) -> Array:
    """What the decoder reads: at each position the right symbol or, by a coin of its own, the model's.

        x'[b, 0] = x[b, 0]
        x'[b, t] = x[b, t] with probability p, else y ~ P(y | x'[b, <= t - 1], source)

    so a symbol of the model follows from what it has read before, right or not. The first position of a sentence, where
    the begin symbol stands, is always right, and padding stays. The model steps without dropout. No gradient passes
    through a symbol, which is a whole number. One loop over T with a `step` and the scores of one position in each,
    whatever p is: about as much as to decode the batch greedily to its full length T.

    Args:
      model: what the functions of models.contract call.
      params: its parameters.
      memory: of the batch's sources.
      batch: a sentence a row; `inputs` are the right symbols x int32 [B, T].
      rng: a key.
      probability: p, float32 [] in [0, 1].
      never: symbols that the model never writes: padding and the begin symbol.
      greedy: the model's most probable symbol in place of a sample.

    Returns:
      x' int32 [B, T].

    Source: Bengio et al. 2015, arXiv:1506.03099, section 2.4: a coin for each token, and a sample or the argmax.
    Differs: the model's symbols are made without dropout, and only of what is ever written.
    """
    T = batch.inputs.shape[1]
    coins, samples = jax.random.split(rng)
    right = jax.random.bernoulli(coins, probability, batch.inputs.shape)
    right |= (batch.target_places.segment == 0) | (batch.target_places.position == 0)

    def position(before, at):
        carry, token = before
        truth, right, rng = at
        hidden, _, carry = contract.step(model, params, memory, carry, token)
        scores = contract.logits(model, params, hidden).at[:, jnp.array(never, jnp.int32)].set(-jnp.inf)
        said = jnp.argmax(scores, axis=-1) if greedy else jax.random.categorical(rng, scores)
        token = jnp.where(right, truth, said.astype(truth.dtype))
        return (carry, token), token
    truth = jnp.asarray(batch.inputs)
    begin = contract.start(model, params, memory, T), truth[:, 0]
    _, rest = jax.lax.scan(position, begin, (truth[:, 1:].T, right[:, 1:].T, jax.random.split(samples, T - 1)))
    return jnp.concatenate([truth[:, :1], rest.T], axis=1)


def train_step(model: contract.EncoderDecoder, step: Callable[[State, Batch], tuple[State, Metrics]],
               probability: Callable[[Array], Array], *, never: Sequence[int],
               greedy: bool = False) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """Makes a step, any that `training.step.train_step` makes, learn from the inputs of `inputs`.

    The batch is changed before the step sees it, so the update is exactly that of teacher forcing on other inputs. The
    cost is an encoding of the sources without dropout, and `inputs`. At step k the key follows from fold_in(rng, k).

    Args:
      model: the one that the step trains.
      step: (state, batch) -> (state, metrics).
      probability: of the right symbol, as a function of the state's step, which counts batches.
      never: see `inputs`.
      greedy: see `inputs`.
    """
    def mixed(state: State, batch: Batch) -> tuple[State, Metrics]:
        rng = jax.random.fold_in(jax.random.fold_in(state.rng, state.step), 2)  # 0 and 1 may be the two of a split
        memory = contract.encode(model, state.params, batch.source, batch.source_places)
        return step(state, batch._replace(inputs=inputs(
            model, state.params, memory, batch, rng, probability(state.step), never=never, greedy=greedy)))
    return mixed
