"""Greedy search: always the most probable next symbol."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.decoding.contract import (
    Hypotheses,
    force,
    log_probabilities,
    readable,
    require_positive,
    require_room,
    shape_of_weights,
    until_all_are_over,
)
from research.models.contract import Carry, EncoderDecoder, Memory, Params, encode, logits, start, step
from research.shapes import Array, Places
from research.text.vocabulary import BEGIN, END, PAD


class Given(NamedTuple):
    """What is known of each row before the first symbol."""

    memory: Memory         # of `encode`
    limits: Array          # int32 [B]
    prefix: Array | None   # int32 [B, P]
    keys: Array | None     # [B]: what its symbols are drawn with


class Search(NamedTuple):
    """What the loop hands on, row by row."""

    given: Given
    carry: Carry           # the model's
    token: Array           # int32 [B]: the symbol written last
    going: Array           # bool [B]: goes on writing
    ended: Array           # bool [B]: wrote the end symbol, or has no source
    tokens: Array          # int32 [B, T]
    lengths: Array         # int32 [B]
    scores: Array          # float32 [B]
    weights: Array | None  # [B, N, T, S]


def greedy(model: EncoderDecoder, params: Params, source: Array, places: Places, *, length: int,
           limits: Array | None = None, prefix: Array | None = None, with_weights: bool = False) -> Hypotheses:
    """Writes the most probable symbol until it is the end, in every sentence, or until there are `length`.

    y[t] = argmax_v log p(v | y[< t], source);  score = sum_t log p(y[t] | y[< t], source)

    One program; a sentence that has ended costs nothing more once half of the others have, too.

    Args:
      model: what the five functions of models.contract call; static under jit.
      params: its parameters.
      source: [B, S] or [B, S, F], with its `places` [B, S].
      length: T, the most symbols that a sentence may get, the end symbol included; static.
      limits: int32 [B], 1 to length: the same for each sentence; None = `length` for all.
      prefix: int32 [B, P], what the outputs begin with, of `force`; it counts in the scores. None = nothing is given.
      with_weights: also return what each symbol read; static.

    Returns:
      Hypotheses with W = 1.

    Raises:
      UserError: length is not positive, P is not below T, or weights are asked of a model that has none.
    """
    def most_probable(gains: Array, position: Array, keys: None) -> Array:
        return jnp.argmax(gains, axis=-1)
    require_positive('length', length)
    limits = jnp.full(source.shape[0], length, jnp.int32) if limits is None else limits
    found = left_to_right(model, params, encode(model, params, source, places), readable(places), most_probable,
                          length=length, limits=limits, prefix=prefix, with_weights=with_weights)
    return jax.tree.map(lambda array: array[:, None], found)


def left_to_right(model: EncoderDecoder, params: Params, memory: Memory, some: Array,
                  choose: Callable[[Array, Array, Array | None], Array], *, length: int, limits: Array,
                  prefix: Array | None, with_weights: bool, keys: Array | None = None) -> Hypotheses:
    """Writes one output for each row of a memory, symbol after symbol, as `choose` says.

    Args:
      memory: of `encode`; B first in every leaf.
      some: bool [B], which rows have a source.
      choose: (log-probabilities float32 [B, V], -inf for what may not be written; position int32 []; keys) -> symbols
        [B]. What it says of a row must not depend on the others, some of which may be missing.
      length, limits, prefix, with_weights, and the rest: of `greedy`.
      keys: [B], what `choose` gets of each row.

    Returns:
      Hypotheses without their axis W: [B, ...].
    """
    require_room(prefix, length)
    B = some.shape[0]
    carry, token = start(model, params, memory, length), jnp.full(B, BEGIN, jnp.int32)
    weights = None
    if with_weights:
        shape = shape_of_weights(model, params, memory, carry, token)
        weights = jnp.zeros((B, shape.shape[1], length, shape.shape[2]), shape.dtype)

    def write(position: Array, search: Search) -> Search:
        hidden, read, carry = step(model, params, search.given.memory, search.carry, search.token)
        gains = force(log_probabilities(logits(model, params, hidden)), search.given.prefix, position)
        chosen = choose(gains, position, search.given.keys).astype(jnp.int32)
        gain = jnp.take_along_axis(gains, chosen[:, None], axis=-1)[:, 0]
        token = jnp.where(search.going, chosen, PAD)
        ended = search.ended | (token == END)
        weights = search.weights
        if with_weights:
            weights = weights.at[:, :, position].set(jnp.where(search.going[:, None, None], read, 0))
        return Search(
            search.given, carry, token, search.going & ~ended & (position + 1 < search.given.limits), ended,
            search.tokens.at[:, position].set(token), search.lengths + search.going,
            search.scores + jnp.where(search.going, gain, 0.0), weights)

    search = until_all_are_over(lambda _, search: search.going, write, Search(
        Given(memory, limits, prefix, keys), carry, token, some, ~some, jnp.full((B, length), PAD, jnp.int32),
        jnp.zeros(B, jnp.int32), jnp.zeros(B, jnp.float32), weights))
    return Hypotheses(search.tokens, search.lengths, search.scores, search.scores, search.ended, search.weights)
