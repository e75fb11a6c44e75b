"""Sampling: outputs drawn from the model, the same ones whatever else is in the batch."""

import math

import jax
import jax.numpy as jnp

from research.decoding.contract import Hypotheses, readable, require_positive
from research.decoding.greedy import left_to_right
from research.errors import UserError
from research.models.contract import EncoderDecoder, Params, encode
from research.shapes import Array, Places

COLDEST = 1e-6  # at a lower temperature float32 tells no other symbol from the most probable one either


def sample(model: EncoderDecoder, params: Params, source: Array, places: Places, *, length: int, key: Array,
           numbers: Array, samples: int = 1, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0,
           limits: Array | None = None, prefix: Array | None = None, with_weights: bool = False) -> Hypotheses:
    """Draws each symbol from what the model says of it given those before, until it is the end: ancestral sampling.

    y[t] ~ softmax(truncate(log p(v | y[< t], source) / temperature));  score = sum_t log p(y[t] | y[< t], source)

    One program; a sentence is encoded once for all of its samples. The random numbers of a symbol depend on `key`, the
    number of its sentence, the number of its sample and its position, and on nothing else: not on the other sentences
    of the batch, the count of samples, or how long an output may get.

    Args:
      model: what the five functions of models.contract call; static under jit.
      params: its parameters.
      source: [B, S] or [B, S, F], with its `places` [B, S].
      length: T, the most symbols that an output may get, the end symbol included; static.
      key: a random key.
      numbers: int32 [B], of the sentences, such as those of their lines; equal numbers and sources get equal samples.
      samples: W, outputs of each sentence; static.
      temperature: 1 draws from the model; less makes what is probable more so, 1e-6 is greedy search; static.
      top_k: of `truncate`; static.
      top_p: of `truncate`; static.
      limits: int32 [B], 1 to length: the same for each sentence; None = `length` for all.
      prefix: int32 [B, P], what the outputs begin with, of `force`; it counts in the scores. None = nothing is given.
      with_weights: also return what each symbol read; static.

    Returns:
      Hypotheses, W for each sentence in the order in which they were drawn. The scores are the model's, whatever the
      temperature and what is left out.

    Raises:
      UserError: length, samples or top_k is not positive, top_k is above V, top_p is not above 0 and at most 1,
        temperature is not finite or below 1e-6, P is not below T, or weights are asked of a model that has none.
    """
    require_positive('length', length)
    require_positive('samples', samples)
    if not (math.isfinite(temperature) and temperature >= COLDEST):
        raise UserError(f'decoding: temperature is {temperature!r}; it must be a finite number of at least {COLDEST}')
    if top_k is not None:
        require_positive('top_k', top_k)
    if not 0 < top_p <= 1:
        raise UserError(f'decoding: top_p is {top_p!r}; it must be above 0 and at most 1')
    B = source.shape[0]
    limits = jnp.full(B, length, jnp.int32) if limits is None else limits
    keys = jax.vmap(lambda number: jax.vmap(lambda j: jax.random.fold_in(jax.random.fold_in(key, number), j))(
        jnp.arange(samples)))(numbers).reshape(B * samples)
    memory, some, limits, prefix = jax.tree.map(lambda leaf: jnp.repeat(leaf, samples, axis=0), (
        encode(model, params, source, places), readable(places), limits, prefix))

    def drawn(gains: Array, position: Array, keys: Array) -> Array:
        tempered = (gains - jnp.max(gains, axis=-1, keepdims=True)) / temperature  # 0 at most: nothing overflows
        return jax.vmap(lambda key, row: jax.random.categorical(jax.random.fold_in(key, position), row))(
            keys, truncate(tempered, top_k, top_p))
    found = left_to_right(model, params, memory, some, drawn, length=length, limits=limits, prefix=prefix,
                          with_weights=with_weights, keys=keys)
    return jax.tree.map(lambda array: array.reshape(B, samples, *array.shape[1:]), found)


def truncate(scores: Array, top_k: int | None, top_p: float) -> Array:
    """Leaves out what is improbable: first all but the k best symbols, then what is not in the nucleus of these.

        p          0.4   0.3   0.2   0.1       top_k = 3:    0.4   0.3   0.2   -       which is 0.44  0.33  0.22
                                               top_p = 0.6:  0.4   0.3   -     -       0.44 is not enough

    The nucleus is the smallest set of the most probable symbols whose probabilities sum to top_p or more; of equally
    probable symbols the first are kept.

    Args:
      scores: [R, V], not normalised; -inf for what may not be written.
      top_k: so many symbols are kept, 1 to V; None = all.
      top_p: the nucleus, above 0; 1 = all.

    Returns:
      [R, V]: -inf for what is left out.

    Raises:
      UserError: top_k is above V.

    Source: Holtzman et al. 2020, arXiv:1904.09751, section 3.1 and, top_k, 3.2. Differs: the nucleus is that of the
    distribution it is given, which the caller has tempered.
    """
    V = scores.shape[-1]
    if top_k is not None and top_k > V:
        raise UserError(f'decoding: top_k is {top_k}, and there are {V} symbols; it must be at most that')
    if top_k is None and top_p == 1:
        return scores
    values, symbols = jax.lax.top_k(scores, V if top_k is None else top_k)
    if top_p < 1:
        probabilities = jax.nn.softmax(values, axis=-1)
        before = jnp.cumsum(probabilities, axis=-1) - probabilities
        values = jnp.where(before < top_p, values, -jnp.inf)
    return jnp.put_along_axis(jnp.full_like(scores, -jnp.inf), symbols, values, axis=-1, inplace=False)
