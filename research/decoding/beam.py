"""Beam search: the best of the hypotheses that can be reached by keeping W of them at every length."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.decoding.contract import (
    Hypotheses,
    log_probabilities,
    penalise,
    readable,
    require_positive,
    shape_of_weights,
)
from research.errors import UserError
from research.models.contract import Carry, EncoderDecoder, Params, encode, logits, start, step
from research.shapes import Array, Places
from research.text.vocabulary import BEGIN, END, PAD


class Paths(NamedTuple):
    """Hypotheses of each sentence, K of them."""

    tokens: Array   # int32 [B, K, T]
    beams: Array    # int32 [B, K, T]: which live hypothesis of that step each symbol extends
    lengths: Array  # int32 [B, K]
    scores: Array   # float32 [B, K]: sums of log-probabilities; -inf: there is no such hypothesis


class Search(NamedTuple):
    """What the loop hands on."""

    position: Array        # int32 []: how many symbols the live hypotheses have
    carry: Carry           # the model's; [B x W, ...] in every leaf, sentence by sentence
    live: Paths            # W that have no end symbol, the best by score
    finished: Paths        # W that have one, the best by penalised score
    weights: Array | None  # [T, B, W, N, S]: what each live hypothesis read at each step


def beam(model: EncoderDecoder, params: Params, source: Array, places: Places, *, length: int, beams: int,
         penalty: float, limits: Array | None = None, with_weights: bool = False) -> Hypotheses:
    """Extends the W best unfinished hypotheses of each sentence by every symbol, again and again.

        live       a        a dog      a big dog        the W best without an end, by score
                   the      a big      a dog that
        finished            a </s>     a dog </s>       the W best with one, by penalised score
                                       a </s>

    Of all W x V extensions the best 2W are candidates: at most W of them write the end symbol, so W are left to stay
    live. An end symbol finishes a hypothesis only as one of the W best extensions; so one beam without a penalty is
    greedy search, and with one it never ranks lower. The loop stops when no sentence can improve (`settled`), which
    changes nothing in what is returned. The model's carry follows the beams; its memory, the same for all beams of a
    sentence, is repeated once.

    Args:
      model: what the five functions of models.contract call; static under jit.
      params: its parameters.
      source: [B, S] or [B, S, F], with its `places` [B, S].
      length: T, the most symbols that a sentence may get, the end symbol included; static.
      beams: W; static.
      penalty: of `penalise`, 0 or more; static.
      limits: int32 [B], 1 to length: the most symbols of each sentence; None = `length` for all.
      with_weights: also return what each symbol read; static.

    Returns:
      Hypotheses, W for each sentence.

    Raises:
      UserError: length or beams is not positive, penalty is negative or not finite, or weights are asked of a model
        that has none.

    Source: Wu et al. 2016, arXiv:1609.08144, section 7. Differs: no pruning by distance to the best, no coverage
    penalty; the search ends when nothing can improve.
    """
    require_positive('length', length)
    require_positive('beams', beams)
    if not (math.isfinite(penalty) and penalty >= 0):
        raise UserError(f'decoding: the length penalty is {penalty!r}; it must be a finite number, 0 or more')
    B, W = source.shape[0], beams
    limits = jnp.full(B, length, jnp.int32) if limits is None else limits
    memory = jax.tree.map(lambda leaf: jnp.repeat(leaf, W, axis=0), encode(model, params, source, places))
    carry = start(model, params, memory, length)
    weights = None
    if with_weights:
        shape = shape_of_weights(model, params, memory, carry, jnp.full(B * W, BEGIN, jnp.int32))
        weights = jnp.zeros((length, B, W, *shape.shape[1:]), shape.dtype)

    def extend(search: Search) -> Search:
        position, live = search.position, search.live
        token = jnp.where(position == 0, BEGIN, live.tokens[:, :, position - 1])
        hidden, read, carry = step(model, params, memory, search.carry, token.reshape(B * W))
        gains = log_probabilities(logits(model, params, hidden)).reshape(B, W, -1)
        V = gains.shape[-1]
        scores, extensions = jax.lax.top_k((live.scores[:, :, None] + gains).reshape(B, W * V), 2 * W)
        candidates = append(live, extensions // V, extensions % V, scores, position)
        ends = extensions % V == END
        finishing = keep(candidates, ends & (jnp.arange(2 * W) < W))
        finished = both(search.finished, finishing)
        finished = choose(finished, largest(penalise(finished.scores, finished.lengths, penalty), W))
        live = keep(candidates, ~ends)
        live = choose(live, largest(live.scores, W))
        live, finished = (within(position < limits, new, old) for new, old in (
            (live, search.live), (finished, search.finished)))
        carry = jax.tree.map(lambda leaf: reorder(leaf, live.beams[:, :, position]), carry)
        weights = search.weights
        if with_weights:
            weights = weights.at[position].set(read.reshape(weights.shape[1:]))
        return Search(position + 1, carry, live, finished, weights)

    def goes_on(search: Search) -> Array:
        penalised = penalise(search.finished.scores, search.finished.lengths, penalty)
        return (search.position < length) & ~jnp.all(
            settled(search.live.scores, penalised, limits, penalty) | (search.position >= limits))

    search = jax.lax.while_loop(goes_on, extend, Search(jnp.int32(0), carry, *beginning(places, W, length), weights))
    return ranked(search, penalty)


def within(going: Array, new: Paths, old: Paths) -> Paths:
    """The new paths of the sentences that may still grow, bool [B], and the old ones of the others."""
    return jax.tree.map(lambda one, other: jnp.where(going.reshape(-1, *(1,) * (one.ndim - 1)), one, other), new, old)


def settled(live: Array, finished: Array, limits: Array | int, penalty: float) -> Array:
    """Which sentences have the W best hypotheses already.

    max_w live[w] / ((5 + limit) / 6) ** penalty <= min_w finished[w]

    Exact: no log-probability is positive, so the score of a live hypothesis only falls; and a score, being negative,
    is divided by most at the largest length. No hypothesis that is still to end can rank above the left side.

    Args:
      live: [B, W] scores of live hypotheses.
      finished: [B, W] penalised scores of finished ones; -inf for each that is still missing.
      limits: [B], the largest length of each sentence.
      penalty: of `penalise`.

    Returns:
      Bool [B].
    """
    return penalise(jnp.max(live, axis=1), limits, penalty) <= jnp.min(finished, axis=1)


def beginning(places: Places, beams: int, length: int) -> tuple[Paths, Paths]:
    """The live and the finished hypotheses before the first symbol.

    One live hypothesis without a symbol, so that the first symbols differ; or, in a sentence without any source, one
    finished hypothesis without a symbol, and nothing that is live.
    """
    B = places.segment.shape[0]
    symbols, counts = jnp.full((B, beams, length), PAD, jnp.int32), jnp.zeros((B, beams), jnp.int32)
    first, some = jnp.arange(beams) == 0, readable(places)[:, None]
    return tuple(Paths(symbols, jnp.zeros_like(symbols), counts, jnp.where(first & here, 0.0, -jnp.inf))
                 for here in (some, ~some))


def append(paths: Paths, chosen: Array, tokens: Array, scores: Array, position: Array) -> Paths:
    """Some of the paths, chosen [B, k], each longer by one of tokens [B, k], with their new scores [B, k]."""
    paths = choose(paths, chosen)
    return Paths(paths.tokens.at[:, :, position].set(tokens), paths.beams.at[:, :, position].set(chosen),
                 paths.lengths + 1, scores)


def keep(paths: Paths, which: Array) -> Paths:
    """Only the paths where `which` [B, K] is true; the others keep their places, without a score."""
    return paths._replace(scores=jnp.where(which, paths.scores, -jnp.inf))


def both(one: Paths, other: Paths) -> Paths:
    """The paths of one and, after them, those of the other."""
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays, axis=1), one, other)


def largest(numbers: Array, count: int) -> Array:
    """Where the largest of [B, K] stand: int32 [B, count], the largest first, of equal ones the first."""
    return jax.lax.top_k(numbers, count)[1]


def choose(tree: Any, places: Array) -> Any:
    """Some of the K of each sentence: leaves [B, K, ...], places int32 [B, k] -> leaves [B, k, ...]."""
    return jax.tree.map(lambda leaf: jax.vmap(lambda row, at: row[at])(leaf, places), tree)


def reorder(leaf: Array, parents: Array) -> Array:
    """A leaf of a carry, [B x W, ...], so that each beam goes on from its parent, int32 [B, W]."""
    return choose(leaf.reshape(*parents.shape, *leaf.shape[1:]), parents).reshape(leaf.shape)


def ranked(search: Search, penalty: float) -> Hypotheses:
    """The W best of a search that is over: what is finished first, then what is not, each by penalised score."""
    B, W, T = search.live.tokens.shape
    paths = both(search.finished, search.live)
    finished = (jnp.arange(2 * W) < W) & (paths.scores > -jnp.inf)
    penalised = penalise(paths.scores, paths.lengths, penalty)
    order = jnp.lexsort((-penalised, ~finished))[:, :W]
    paths, penalised, finished = choose((paths, penalised, finished), order)
    lengths = jnp.where(paths.scores > -jnp.inf, paths.lengths, 0)
    written = jnp.arange(T) < lengths[:, :, None]
    weights = None
    if search.weights is not None:
        weights = search.weights[jnp.arange(T), jnp.arange(B)[:, None, None], paths.beams]  # [B, W, T, N, S]
        weights = jnp.moveaxis(jnp.where(written[..., None, None], weights, 0), 2, 3)
    return Hypotheses(jnp.where(written, paths.tokens, PAD), lengths, paths.scores, penalised, finished, weights)
