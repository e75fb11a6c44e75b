"""Beam search: the best of the hypotheses that can be reached by keeping W of them at every length."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.decoding.contract import (
    Hypotheses,
    force,
    log_probabilities,
    penalise,
    readable,
    require_length_penalty,
    require_penalty,
    require_positive,
    require_room,
    shape_of_weights,
)
from research.errors import UserError
from research.models.contract import Carry, EncoderDecoder, Params, encode, logits, start, step
from research.shapes import Array, Places
from research.text.vocabulary import BEGIN, END, PAD


class Paths(NamedTuple):
    """Hypotheses of each sentence, K of them."""

    tokens: Array    # int32 [B, K, T]
    beams: Array     # int32 [B, K, T]: which live hypothesis of that step each symbol extends
    lengths: Array   # int32 [B, K]
    scores: Array    # float32 [B, K]: sums of log-probabilities; -inf: there is no such hypothesis
    coverage: Array  # float32 [B, K]: coverage penalties, 0 where none is asked for


class Search(NamedTuple):
    """What the loop hands on."""

    position: Array        # int32 []: how many symbols the live hypotheses have
    carry: Carry           # the model's; [B x W, ...] in every leaf, sentence by sentence
    live: Paths            # W that have no end symbol, the best by score
    finished: Paths        # W that have one, the best by penalised score
    totals: Array | None   # float32 [B x W, S]: how much each live hypothesis has read of each source position
    weights: Array | None  # [T, B, W, N, S]: what each live hypothesis read at each step


def beam(model: EncoderDecoder, params: Params, source: Array, places: Places, *, length: int, beams: int,
         penalty: float, penalise_by: str = 'wu', coverage: float = 0.0, limits: Array | None = None,
         prefix: Array | None = None, with_weights: bool = False) -> Hypotheses:
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
      penalise_by: of `penalise`, one of LENGTH_PENALTIES; static.
      coverage: beta of `coverage_penalty`, 0 or more; static. It counts where hypotheses are ranked; which of them
        stay live is decided by score.
      limits: int32 [B], 1 to length: the most symbols of each sentence; None = `length` for all.
      prefix: int32 [B, P], what the outputs begin with, of `force`; it counts in the scores. None = nothing is given.
      with_weights: also return what each symbol read; static.

    Returns:
      Hypotheses, W for each sentence.

    Raises:
      UserError: length or beams is not positive, a penalty is negative or not finite, penalise_by is unknown, P is not
        below T, or weights or coverage are asked of a model that has no weights.

    Source: Wu et al. 2016, arXiv:1609.08144, section 7. Differs: no pruning by distance to the best; the search ends
    when nothing can improve.
    """
    require_positive('length', length)
    require_positive('beams', beams)
    require_penalty('length', penalty)
    require_length_penalty(penalise_by)
    require_penalty('coverage', coverage)
    require_room(prefix, length)
    B, W = source.shape[0], beams
    limits = jnp.full(B, length, jnp.int32) if limits is None else limits
    memory = jax.tree.map(lambda leaf: jnp.repeat(leaf, W, axis=0), encode(model, params, source, places))
    carry = start(model, params, memory, length)
    totals = weights = None
    if with_weights or coverage:
        shape = shape_of_weights(model, params, memory, carry, jnp.full(B * W, BEGIN, jnp.int32))
        if with_weights:
            weights = jnp.zeros((length, B, W, *shape.shape[1:]), shape.dtype)
        if coverage:
            require_source_positions(shape, places)
            totals = jnp.zeros((B * W, shape.shape[2]), jnp.float32)

    def extend(search: Search) -> Search:
        position, live, totals = search.position, search.live, search.totals
        token = jnp.where(position == 0, BEGIN, live.tokens[:, :, position - 1])
        hidden, read, carry = step(model, params, memory, search.carry, token.reshape(B * W))
        gains = force(log_probabilities(logits(model, params, hidden)).reshape(B, W, -1), prefix, position)
        if coverage:
            totals = totals + jnp.mean(read.astype(jnp.float32), axis=1)
            live = live._replace(coverage=coverage_penalty(totals.reshape(B, W, -1), places, coverage))
        V = gains.shape[-1]
        scores, extensions = jax.lax.top_k((live.scores[:, :, None] + gains).reshape(B, W * V), 2 * W)
        candidates = append(live, extensions // V, extensions % V, scores, position)
        ends = extensions % V == END
        finishing = keep(candidates, ends & (jnp.arange(2 * W) < W))
        finished = both(search.finished, finishing)
        finished = choose(finished, largest(rank(finished, penalty, penalise_by), W))
        live = keep(candidates, ~ends)
        live = choose(live, largest(live.scores, W))
        live, finished = (within(position < limits, new, old) for new, old in (
            (live, search.live), (finished, search.finished)))
        carry, totals = jax.tree.map(lambda leaf: reorder(leaf, live.beams[:, :, position]), (carry, totals))
        weights = search.weights
        if with_weights:
            weights = weights.at[position].set(read.reshape(weights.shape[1:]))
        return Search(position + 1, carry, live, finished, totals, weights)

    def goes_on(search: Search) -> Array:
        finished = rank(search.finished, penalty, penalise_by)
        return (search.position < length) & ~jnp.all(
            settled(search.live.scores, finished, limits, penalty, penalise_by) | (search.position >= limits))

    search = jax.lax.while_loop(goes_on, extend, Search(
        jnp.int32(0), carry, *beginning(places, W, length), totals, weights))
    return ranked(search, penalty, penalise_by)


def rank(paths: Paths, penalty: float, penalise_by: str) -> Array:
    """What hypotheses are ranked by, float32 [B, K]: the score made comparable, and the coverage penalty."""
    return penalise(paths.scores, paths.lengths, penalty, penalise_by) + paths.coverage


def coverage_penalty(totals: Array, places: Places, coverage: float) -> Array:
    """What a hypothesis loses for every source position that it has not read as much as one symbol can.

    cp = coverage * sum over the real s of log(min(totals[s], 1)),  totals[s] = sum_t a[t, s]

    The sum is over every symbol, the end symbol among them; a is the mean over the heads and layers.

    Args:
      totals: float32 [B, K, S].
      places: [B, S] of the source.
      coverage: beta; the larger, the less is left out.

    Returns:
      Float32 [B, K], not positive.

    Source: Wu et al. 2016, arXiv:1609.08144, equation 14. Differs: of a position that nothing read, the smallest normal
    number counts as read (log: -87.3) and not 0, so that hypotheses which leave one out stay comparable.
    """
    covered = jnp.log(jnp.clip(totals, jnp.finfo(totals.dtype).tiny, 1.0))
    return coverage * jnp.sum(jnp.where(places.segment[:, None] > 0, covered, 0.0), axis=-1)


def require_source_positions(weights: jax.ShapeDtypeStruct, places: Places) -> None:
    """Refuses weights [B, N, S] that are not over the positions of the source.

    Raises:
      UserError: their last axis has another size.
    """
    if weights.shape[2] != places.segment.shape[1]:
        raise UserError(f'decoding: the coverage penalty needs weights over the {places.segment.shape[1]} positions of '
                        f'the source, and those of this model are over {weights.shape[2]}')


def within(going: Array, new: Paths, old: Paths) -> Paths:
    """The new paths of the sentences that may still grow, bool [B], and the old ones of the others."""
    return jax.tree.map(lambda one, other: jnp.where(going.reshape(-1, *(1,) * (one.ndim - 1)), one, other), new, old)


def settled(live: Array, finished: Array, limits: Array | int, penalty: float, penalise_by: str = 'wu') -> Array:
    """Which sentences have the W best hypotheses already.

    penalise(max_w live[w], limit) <= min_w finished[w]

    Exact: no log-probability is positive, so the score of a live hypothesis only falls; a score, being negative, is
    divided by most at the largest length; and no coverage penalty is positive. No hypothesis that is still to end can
    rank above the left side.

    Args:
      live: [B, W] scores of live hypotheses.
      finished: [B, W] penalised scores of finished ones; -inf for each that is still missing.
      limits: [B], the largest length of each sentence.
      penalty, penalise_by: of `penalise`.

    Returns:
      Bool [B].
    """
    return penalise(jnp.max(live, axis=1), limits, penalty, penalise_by) <= jnp.min(finished, axis=1)


def beginning(places: Places, beams: int, length: int) -> tuple[Paths, Paths]:
    """The live and the finished hypotheses before the first symbol.

    One live hypothesis without a symbol, so that the first symbols differ; or, in a sentence without any source, one
    finished hypothesis without a symbol, and nothing that is live.
    """
    B = places.segment.shape[0]
    symbols, counts = jnp.full((B, beams, length), PAD, jnp.int32), jnp.zeros((B, beams), jnp.int32)
    first, some = jnp.arange(beams) == 0, readable(places)[:, None]
    return tuple(Paths(symbols, jnp.zeros_like(symbols), counts, jnp.where(first & here, 0.0, -jnp.inf),
                       jnp.zeros((B, beams), jnp.float32))
                 for here in (some, ~some))


def append(paths: Paths, chosen: Array, tokens: Array, scores: Array, position: Array) -> Paths:
    """Some of the paths, chosen [B, k], each longer by one of tokens [B, k], with their new scores [B, k]."""
    paths = choose(paths, chosen)
    return Paths(paths.tokens.at[:, :, position].set(tokens), paths.beams.at[:, :, position].set(chosen),
                 paths.lengths + 1, scores, paths.coverage)


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


def ranked(search: Search, penalty: float, penalise_by: str) -> Hypotheses:
    """The W best of a search that is over: what is finished first, then what is not, each by penalised score."""
    B, W, T = search.live.tokens.shape
    paths = both(search.finished, search.live)
    finished = (jnp.arange(2 * W) < W) & (paths.scores > -jnp.inf)
    penalised = rank(paths, penalty, penalise_by)
    order = jnp.lexsort((-penalised, ~finished))[:, :W]
    paths, penalised, finished = choose((paths, penalised, finished), order)
    lengths = jnp.where(paths.scores > -jnp.inf, paths.lengths, 0)
    written = jnp.arange(T) < lengths[:, :, None]
    weights = None
    if search.weights is not None:
        weights = search.weights[jnp.arange(T), jnp.arange(B)[:, None, None], paths.beams]  # [B, W, T, N, S]
        weights = jnp.moveaxis(jnp.where(written[..., None, None], weights, 0), 2, 3)
    return Hypotheses(jnp.where(written, paths.tokens, PAD), lengths, paths.scores, penalised, finished, weights)
