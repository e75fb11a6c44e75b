"""Beam search: the best of the hypotheses that can be reached by keeping W of them at every length."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.decoding import contract
from research.decoding.contract import (
    Hypotheses,
    force,
    never_written,
    penalise,
    readable,
    require_best,
    require_length_penalty,
    require_patience,
    require_penalty,
    require_positive,
    require_room,
    shape_of_weights,
    until_all_are_over,
)
from research.errors import UserError
from research.models.contract import Carry, EncoderDecoder, Memory, Params, encode, logits, longer, start, step
from research.shapes import Array, Places
from research.text.vocabulary import BEGIN, END, PAD

SPARE = 8  # symbols of an output, beyond those of its source, that a carry has room for before it has for all
CHUNK = 32  # symbols of the vocabulary that are looked at together


class Paths(NamedTuple):
    """Hypotheses of each sentence, K of them."""

    tokens: Array    # int32 [B, K, T]
    beams: Array     # int32 [B, K, T]: which live hypothesis of that step each symbol extends
    lengths: Array   # int32 [B, K]
    scores: Array    # float32 [B, K]: sums of log-probabilities; -inf: there is no such hypothesis
    coverage: Array  # float32 [B, K]: coverage penalties, 0 where none is asked for


class Given(NamedTuple):
    """What is known of each sentence before the search."""

    memory: Memory         # the model's, the same for all of a sentence; [B, K, ...] in every leaf
    places: Places         # [B, S] each, of the source
    limits: Array          # int32 [B]
    prefix: Array | None   # int32 [B, P]


class Search(NamedTuple):
    """What a step hands on, sentence by sentence: K = 1 live hypothesis before the first symbol, W from then on."""

    given: Given
    carry: Carry           # the model's; [B, K, ...] in every leaf
    live: Paths            # K that have no end symbol, the best by score
    finished: Paths        # W that have one, the best by penalised score
    ended: Array           # int32 [B]: how many hypotheses have got one
    totals: Array | None   # float32 [B, K, S]: how much each live hypothesis has read of each source position
    weights: Array | None  # [B, T, W, N, S]: what each live hypothesis read at each step


def beam(model: EncoderDecoder, params: Params, source: Array, places: Places, *, length: int, beams: int,
         penalty: float, penalise_by: str = 'wu', coverage: float = 0.0, patience: float = 0.0,
         limits: Array | None = None, prefix: Array | None = None, with_weights: bool = False,
         best: int | None = None) -> Hypotheses:
    """Extends the W best unfinished hypotheses of each sentence by every symbol, again and again.

        live       a        a dog      a big dog        the W best without an end, by score
                   the      a big      a dog that
        finished            a </s>     a dog </s>       the W best with one, by penalised score
                                       a </s>

    Of all W x V extensions the best 2W are candidates: at most W of them write the end symbol, so W are left to stay
    live. An end symbol finishes a hypothesis only as one of the W best extensions; so one beam without a penalty is
    greedy search, and with one it never ranks lower. A sentence is over when what is returned of it cannot improve
    (`settled`), or when patience ends. The first symbols are those of one hypothesis, so that step is of B rows, not of
    B x W. The model's carry follows the beams; its memory, the same for all beams of a sentence, is repeated once.

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
      patience: a sentence is over, too, when patience x W hypotheses have ended, rounded, at least one; 0 = only when
        it cannot improve; static. Toolkits stop at 1, and may miss what would have ranked higher.
      limits: int32 [B], 1 to length: the most symbols of each sentence; None = `length` for all.
      prefix: int32 [B, P], what the outputs begin with, of `force`; it counts in the scores. None = nothing is given.
      with_weights: also return what each symbol read; static.
      best: how many hypotheses are returned, 1 to W, None = W; static. They are the same whatever it is: where fewer
        are wanted, a sentence is over sooner.

    Returns:
      Hypotheses, `best` for each sentence.

    Raises:
      UserError: length or beams is not positive, a penalty or patience is negative or not finite, penalise_by is
        unknown, best is not 1 to W, P is not below T, or weights or coverage are asked of a model that has no weights.

    Source: Wu et al. 2016, arXiv:1609.08144, section 7; patience: Kasai et al. 2022, arXiv:2204.05424, section 2.
    Differs: no pruning by distance to the best; the search ends when nothing can improve.
    """
    require_positive('length', length)
    require_positive('beams', beams)
    require_penalty('length', penalty)
    require_length_penalty(penalise_by)
    require_penalty('coverage', coverage)
    require_patience(patience)
    best = beams if best is None else best
    require_best(best, beams)
    require_room(prefix, length)
    B, W = source.shape[0], beams
    limits = jnp.full(B, length, jnp.int32) if limits is None else limits
    memory = encode(model, params, source, places)
    rooms = (length,) if B <= contract.FEW else rooms_of(source.shape[1], length)
    carry = start(model, params, memory, rooms[0])
    totals = weights = None
    if with_weights or coverage:
        shape = shape_of_weights(model, params, memory, carry, jnp.full(B, BEGIN, jnp.int32))
        if with_weights:
            weights = jnp.zeros((B, length, W, *shape.shape[1:]), shape.dtype)
        if coverage:
            require_source_positions(shape, places)
            totals = jnp.zeros((B, 1, shape.shape[2]), jnp.float32)

    def step_of_all(position: Array, search: Search) -> Search:
        (memory, places, _, prefix), carry, live, totals, weights = (
            search.given, search.carry, search.live, search.totals, search.weights)
        goes_on = going(position, search)
        B, K = live.scores.shape
        token = jnp.where(position == 0, BEGIN, live.tokens[:, :, position - 1])
        hidden, read, carry = step(model, params, *together((memory, carry)), token.reshape(B * K))
        if with_weights:
            weights = weights.at[:, position, :K].set(read.reshape(B, K, *read.shape[1:]))
        if coverage:
            totals = totals + jnp.mean(read.astype(jnp.float32), axis=1).reshape(totals.shape)
            live = live._replace(coverage=coverage_penalty(totals, places, coverage))
        scores = logits(model, params, hidden)
        V = scores.shape[-1]
        scores, extensions = best_extensions(scores.reshape(B, K, V), live.scores, 2 * W, prefix, position)
        candidates = append(live, extensions // V, extensions % V, scores, position)
        ends = extensions % V == END
        finishing = keep(candidates, ends & (jnp.arange(2 * W) < W))
        finished = both(search.finished, finishing)
        finished = choose(finished, largest(rank(finished, penalty, penalise_by), W))
        live = keep(candidates, ~ends)
        live = choose(live, largest(live.scores, W))
        ended = search.ended + jnp.sum(finishing.scores > -jnp.inf, axis=1)
        live, finished, ended = within(goes_on, (live, finished, ended), (search.live, search.finished, search.ended))
        carry, totals = choose((apart(carry, K), totals), live.beams[:, :, position])
        return Search(search.given, carry, live, finished, ended, totals, weights)

    def going(position: Array, search: Search) -> Array:
        finished = rank(search.finished, penalty, penalise_by)[:, :best]
        over = settled(search.live.scores, finished, search.given.limits, penalty, penalise_by)
        if patience:
            over |= search.ended >= max(1, math.floor(patience * W + 0.5))
        return ~over & (position < search.given.limits)

    def roomier(search: Search, room: int) -> Search:
        carry = longer(model, params, *together((search.given.memory, search.carry)), room)
        return search._replace(carry=apart(carry, W))

    search = step_of_all(jnp.int32(0), Search(
        Given(apart(memory, 1), places, limits, prefix), apart(carry, 1), *beginning(places, W, length),
        jnp.zeros(B, jnp.int32), totals, weights))
    repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf, W, axis=1), search.given.memory)
    search = search._replace(given=search.given._replace(memory=repeated))
    search = until_all_are_over(going, step_of_all, search, 1, rooms, roomier)
    return ranked(search, penalty, penalise_by, best)


def rooms_of(entries: int, length: int) -> tuple[int, ...]:
    """For how many symbols a carry has room in turn: half as many as the source, some more than it, then `length`.

    What is read, written and moved at each step is as large as this room, and outputs are as long as sources or so.
    """
    return *(room for room in (entries // 2, entries + SPARE) if 0 < room < length), length


def best_extensions(logits: Array, live: Array, count: int, prefix: Array | None = None,
                    position: Array | None = None) -> tuple[Array, Array]:
    """The best of all K x V extensions of each sentence, of equal ones the first.

        live[w] + log softmax(logits[w])[v],  -inf where v may not be written

    They are read chunk by chunk. An extension outside the k chunks with the largest maxima stands behind each of these
    maxima, so it is none of the k best; and where the chunks are in their order, equal extensions are, too. What is
    done to a logit keeps their order, so maxima are those of the logits: they are read twice, once for their sum.

    Args:
      logits: [B, K, V], not normalised.
      live: float32 [B, K], the scores of what is extended.
      count: k; where it is more than K x V, the rest has score -inf.
      prefix, position: of `force`.

    Returns:
      Float32 [B, k], the largest first, and int32 [B, k], which are w V + v.
    """
    B, K, V = logits.shape
    logits, whole = logits.astype(jnp.float32), V // CHUNK * CHUNK
    spans = [span for span in ((0, whole, CHUNK), (whole, V, V - whole)) if span[0] < span[1]]

    def maxima(logits):
        return jnp.concatenate([jnp.max(logits[..., begin:end].reshape(B, K, -1, size), axis=-1)
                                for begin, end, size in spans], axis=-1)

    def writable(logits, symbols):
        return force(jnp.where(never_written(symbols), -jnp.inf, logits), prefix, position, symbols)

    def scores(logits, live, highest, total):
        return live + ((logits - highest) - total)
    best = maxima(logits)  # [B, K, chunks]
    highest = jnp.max(best, axis=-1, keepdims=True)
    rows = live[..., None], highest, jnp.log(jnp.sum(jnp.exp(logits - highest), axis=-1, keepdims=True))  # [B, K, 1]
    if prefix is None:  # what is never written stands in the first chunk
        first = logits[..., :CHUNK]
        best = best.at[..., 0].set(jnp.max(writable(first, jnp.arange(first.shape[-1])), axis=-1))
    else:
        best = maxima(writable(logits, jnp.arange(V)))
    chunks = best.shape[-1]
    chosen = jnp.sort(largest(scores(best, *rows).reshape(B, K * chunks), min(count, K * chunks)), axis=-1)
    beams, symbols = chosen // chunks, (chosen % chunks)[..., None] * CHUNK + jnp.arange(CHUNK)  # [B, k], [B, k, C]
    inside = jnp.minimum(symbols, V - 1)
    found = scores(logits[jnp.arange(B)[:, None, None], beams[..., None], inside], *choose(rows, beams))
    found = jnp.where(symbols < V, writable(found, inside), -jnp.inf).reshape(B, -1)
    best, at = jax.lax.top_k(found, min(count, found.shape[1]))
    places, more = jnp.take_along_axis((beams[..., None] * V + inside).reshape(B, -1), at, axis=1), count - at.shape[1]
    return jnp.pad(best, ((0, 0), (0, more)), constant_values=-jnp.inf), jnp.pad(places, ((0, 0), (0, more)))


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


def within(going: Array, new: Any, old: Any) -> Any:
    """What is new of the sentences that go on, bool [B], and what is old of the others; [B, ...] in every leaf."""
    return jax.tree.map(lambda one, other: jnp.where(going.reshape(-1, *(1,) * (one.ndim - 1)), one, other), new, old)


def settled(live: Array, finished: Array, limits: Array | int, penalty: float, penalise_by: str = 'wu') -> Array:
    """Which sentences have the k best hypotheses already.

    penalise(max_w live[w], limit) <= min_k finished[k]

    Exact: no log-probability is positive, so the score of a live hypothesis only falls; a score, being negative, is
    divided by most at the largest length; and no coverage penalty is positive. No hypothesis that is still to end can
    rank above the left side.

    Args:
      live: [B, W] scores of live hypotheses.
      finished: [B, k] penalised scores of the best finished ones; -inf for each that is still missing.
      limits: [B], the largest length of each sentence.
      penalty, penalise_by: of `penalise`.

    Returns:
      Bool [B].
    """
    return penalise(jnp.max(live, axis=1), limits, penalty, penalise_by) <= jnp.min(finished, axis=1)


def beginning(places: Places, beams: int, length: int) -> tuple[Paths, Paths]:
    """The live hypothesis and the W finished ones before the first symbol.

    The live one has no symbol; in a sentence without any source it is the first of the finished ones, and nothing is
    live.
    """
    B, some = places.segment.shape[0], readable(places)[:, None]

    def paths(count, here):
        symbols, first = jnp.full((B, count, length), PAD, jnp.int32), jnp.arange(count) == 0
        return Paths(symbols, jnp.zeros_like(symbols), jnp.zeros((B, count), jnp.int32),
                     jnp.where(first & here, 0.0, -jnp.inf), jnp.zeros((B, count), jnp.float32))
    return paths(1, some), paths(beams, ~some)


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


def apart(tree: Any, beams: int) -> Any:
    """Sentence by sentence: leaves [B x W, ...] -> leaves [B, W, ...]."""
    return jax.tree.map(lambda leaf: leaf.reshape(len(leaf) // beams, beams, *leaf.shape[1:]), tree)


def together(tree: Any) -> Any:
    """As the model sees them: leaves [B, W, ...] -> leaves [B x W, ...]."""
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]), tree)


def ranked(search: Search, penalty: float, penalise_by: str, best: int) -> Hypotheses:
    """The best of a search that is over: what is finished first, then what is not, each by penalised score."""
    B, W, T = search.live.tokens.shape
    paths = both(search.finished, search.live)
    finished = (jnp.arange(2 * W) < W) & (paths.scores > -jnp.inf)
    penalised = rank(paths, penalty, penalise_by)
    order = jnp.lexsort((-penalised, ~finished))[:, :best]
    paths, penalised, finished = choose((paths, penalised, finished), order)
    lengths = jnp.where(paths.scores > -jnp.inf, paths.lengths, 0)
    written = jnp.arange(T) < lengths[:, :, None]
    weights = None
    if search.weights is not None:
        weights = search.weights[jnp.arange(B)[:, None, None], jnp.arange(T), paths.beams]  # [B, W, T, N, S]
        weights = jnp.moveaxis(jnp.where(written[..., None, None], weights, 0), 2, 3)
    return Hypotheses(jnp.where(written, paths.tokens, PAD), lengths, paths.scores, penalised, finished, weights)
