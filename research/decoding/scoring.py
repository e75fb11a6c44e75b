"""How probable given targets are: forced decoding."""

import jax
import jax.numpy as jnp

from research.models.contract import EncoderDecoder, Params, decode, encode, logits
from research.shapes import Array, Batch


def score(model: EncoderDecoder, params: Params, batch: Batch) -> Array:
    """The log-probability of each sentence's targets; of a hypothesis of a search, the score that the search gave it.

    score[b] = sum over the real t of log p(targets[t] | inputs[<= t], source)

    The scores of all symbols are made for one position at a time: no [B, T, V] is kept.

    Args:
      model: what the five functions of models.contract call; static under jit.
      params: its parameters.
      batch: pairs; several sentences packed into one row are summed.

    Returns:
      Float32 [B]; 0 in a row without targets.
    """
    return forced(model, params, batch)[0]


def forced(model: EncoderDecoder, params: Params, batch: Batch) -> tuple[Array, Array | None]:
    """The scores [B] of `score`, and the weights [B, N, T, S] with which the targets read, None of a model without."""
    memory = encode(model, params, batch.source, batch.source_places)
    hidden, weights, _ = decode(model, params, memory, batch.inputs, batch.target_places)

    def position(at):
        hidden, targets, segment = at
        gains = jax.nn.log_softmax(logits(model, params, hidden).astype(jnp.float32), axis=-1)
        gains = jnp.take_along_axis(gains, targets[:, None], axis=-1)[:, 0]
        return jnp.where(segment > 0, gains, 0.0)
    gains = jax.lax.map(position, jax.tree.map(
        lambda array: jnp.moveaxis(array, 1, 0), (hidden, batch.targets, batch.target_places.segment)))
    return jnp.sum(gains, axis=0), weights
