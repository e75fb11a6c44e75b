"""What every search returns, what it counts by and how it goes on. It sees a model through its five functions only."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.errors import UserError, nearest
from research.models.contract import Carry, EncoderDecoder, Memory, Params, step
from research.shapes import Array, Places
from research.text.vocabulary import BEGIN, PAD

FEW = 8       # rows that stay together
HALVINGS = 2  # each of them is one more loop to compile
# By name, what is raised to the power of the penalty: it never falls as lengths grow, or `settled` would not be exact.
LENGTH_PENALTIES = {'wu': lambda lengths: (5.0 + lengths) / 6.0, 'power': lambda lengths: jnp.maximum(lengths, 1.0)}


class Hypotheses(NamedTuple):
    """What a search found for each sentence: W outputs, best first; greedy search finds W = 1, sampling draws W.

        tokens    a   dog  </s> <pad>       finished      3 symbols, the end among them
                  a   big  red  dog         unfinished    its limit of symbols was not enough

    A hypothesis that ends stands before every one that does not. Where there are fewer than W, the rest has score -inf,
    length 0 and is not finished. A sentence without any source has one hypothesis: no symbol, score 0, finished.
    Samples stand in the order in which they were drawn: two may be equal, and without a source all have no symbol.
    """

    tokens: Array           # int32 [B, W, T]: the end symbol included, PAD after it; T = the most that may be written
    lengths: Array          # int32 [B, W]: symbols written, the end symbol included
    scores: Array           # float32 [B, W]: sum of the log-probabilities of these symbols
    penalised: Array        # float32 [B, W]: what they are ranked by
    finished: Array         # bool [B, W]: the end symbol was written
    weights: Array | None   # [B, W, N, T, S]: what each symbol read, 0 after the last; None where not asked for


def log_probabilities(scores: Array) -> Array:
    """What each next symbol would add to a score: scores [..., V] -> float32 [..., V].

    log softmax(scores) over all V symbols, as in training; then -inf for what is never written.
    """
    result = jax.nn.log_softmax(scores.astype(jnp.float32), axis=-1)
    return jnp.where(never_written(jnp.arange(scores.shape[-1])), -jnp.inf, result)


def never_written(symbols: Array) -> Array:
    """Which symbols no output has: PAD and BEGIN. The unknown symbol is one like any other."""
    return (symbols == PAD) | (symbols == BEGIN)


def until_all_are_over(going: Callable[[Array, Any], Array], step: Callable[[Array, Any], Any], state: Any,
                       first: int = 0, rooms: Sequence[int] = (),
                       roomier: Callable[[Any, int], Any] = lambda state, room: state) -> Any:
    """Takes steps until no sentence goes on; when half of the rows are over, the others go on alone.

        rows of a step     # # # # # # # #                  sentences of 2, 3, 3, 3, 3, 5, 6 and 9 symbols
                           . . . . . . . .
                           # # # #  # # # #                 after 3 steps five are over, and four rows are enough
                           # # # #
                           # # # #

    One program: a loop follows a loop with half the rows, HALVINGS times at most and not below FEW. So a sentence that
    is long does not cost what a batch of such sentences would. Where the last room but one is over before half of the
    rows are, one half of them goes on after the other.

    Args:
      going: (position int32 [], state) -> bool [rows], which sentences go on.
      step: (position, state) -> the state after one more symbol. Of a sentence that does not go on it must leave what
        is returned as it is: such a sentence may still be among the rows or not.
      state: a tree with the sentences first in every leaf, with room for the first of `rooms`.
      first: the position of the next symbol.
      rooms: for how many symbols there is room in turn, the last for all; each but that is one more loop to compile, in
        which less is read and moved. () = there is room for all.
      roomier: (state, the next of `rooms`) -> the state with room for so many.

    Returns:
      The state after the last step.
    """
    def steps(position, state, few, last=None):
        def on(at):
            many = jnp.sum(going(*at)) > few
            return many if last is None else many & (at[0] < last)
        return jax.lax.while_loop(on, lambda at: (at[0] + 1, step(*at)), (position, state))

    def half(state, halvings):
        rows = jax.tree.leaves(state)[0].shape[0]
        return -(-rows // 2) if halvings and rows > max(FEW, 1) else 0

    def search(position, state, halvings):
        few = half(state, halvings)
        position, state = steps(position, state, few)
        return by_halves(position, state, halvings, 1) if few else state

    def by_halves(position, state, halvings, parts):
        """The state after the search of one half, that of the rows that go on, or of two, one after the other."""
        few = half(state, halvings)
        order = jnp.argsort(~going(position, state), stable=True)
        order = jnp.pad(order, (0, 2 * few - len(order)), mode='edge')  # of an odd number the last is twice there

        def part(number, state):
            rows = jax.lax.dynamic_slice_in_dim(order, number * few, few)
            found = search(position, jax.tree.map(lambda leaf: leaf[rows], state), halvings - 1)
            return jax.tree.map(lambda leaf, new: leaf.at[rows].set(new), state, found)
        return part(0, state) if parts == 1 else jax.lax.fori_loop(0, parts, part, state)
    position, state = jnp.int32(first), jax.tree.map(jnp.asarray, state)
    for room, more in itertools.pairwise(rooms):
        position, state = steps(position, state, half(state, HALVINGS), room)
        state = roomier(state, more)
    if len(rooms) > 1 and half(state, HALVINGS):
        return by_halves(position, state, HALVINGS, 2)
    return search(position, state, HALVINGS)


def force(gains: Array, prefix: Array | None, position: Array, symbols: Array | None = None) -> Array:
    """Leaves no choice where a prefix says what stands there.

        prefix          a    dog  <pad>         what may be written at positions 0, 1, 2, ...: only a, only dog, all
                        <pad> <pad> <pad>       all, everywhere

    Args:
      gains: [B, ..., V] of `log_probabilities`, or [B, ..., n] of some symbols.
      prefix: int32 [B, P], the symbols that each output begins with, PAD after them; None = nothing is given. It is
        the caller's to see that no END or BEGIN is among them and no PAD between them, and that there are fewer than
        the limit of their sentence: the symbols are unknown when a program is compiled.
      position: int32 [], counted from 0.
      symbols: int32, broadcast against gains: which they are of; None = all V.

    Returns:
      As gains: -inf for every symbol but the given one; the row as it is where none is given.
    """
    if prefix is None:
        return gains
    given = prefix.at[:, position].get(mode='fill', fill_value=PAD).reshape(-1, *(1,) * (gains.ndim - 1))
    symbols = jnp.arange(gains.shape[-1]) if symbols is None else symbols
    return jnp.where((given == PAD) | (given == symbols), gains, -jnp.inf)


def penalise(scores: Array, lengths: Array | int, penalty: float, penalise_by: str = 'wu') -> Array:
    """Makes scores of hypotheses of different lengths comparable; penalty = 0 leaves the sum of log-probabilities.

        wu       score / ((5 + length) / 6) ** penalty
        power    score / length ** penalty;  penalty = 1 is the mean of the log-probabilities

    Either divides by more the longer the hypothesis. What has no symbol is divided by 'power' as if it had one.

    Args:
      scores: [...].
      lengths: [...] or one number for all; the end symbol counts.
      penalty: alpha; the larger, the longer the outputs.
      penalise_by: one of LENGTH_PENALTIES.

    Source: 'wu': Wu et al. 2016, arXiv:1609.08144, equation 14, lp; its cp is beam.coverage_penalty. Differs: none.
    'power': none; what toolkits call length normalisation.
    """
    return scores / LENGTH_PENALTIES[penalise_by](jnp.asarray(lengths, scores.dtype)) ** penalty


def readable(places: Places) -> Array:
    """Which sentences have any source: places [B, S] -> bool [B]."""
    return jnp.any(places.segment > 0, axis=1)


def shape_of_weights(model: EncoderDecoder, params: Params, memory: Memory, carry: Carry,
                     token: Array) -> jax.ShapeDtypeStruct:
    """Shape [B, N, S] and type of the weights that `step` returns.

    Raises:
      UserError: it returns none.
    """
    def weights(params, memory, carry, token):
        return step(model, params, memory, carry, token)[1]
    shape = jax.eval_shape(weights, params, memory, carry, token)
    if shape is None:
        raise UserError("the model returns no weights: its reader has none, or its path is not 'explicit'")
    return shape


def require_positive(name: str, value: int) -> None:
    """Refuses a count that is not a positive integer.

    Raises:
      UserError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f'decoding: {name} is {value!r}; it must be a positive integer')


def require_best(best: int, beams: int) -> None:
    """Refuses more hypotheses than a search holds.

    Raises:
      UserError: best is not 1 to beams.
    """
    require_positive('best', best)
    if best > beams:
        raise UserError(f'decoding: best is {best}, and a search with {beams} beams holds so many; best must be at '
                        'most that')


def require_penalty(name: str, value: float) -> None:
    """Refuses a penalty that is not a finite number, 0 or more.

    Raises:
      UserError: it is not.
    """
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f'decoding: the {name} penalty is {value!r}; it must be a finite number, 0 or more')


def require_patience(patience: float) -> None:
    """Refuses a patience that is not a finite number, 0 or more.

    Raises:
      UserError: it is not.
    """
    if not (math.isfinite(patience) and patience >= 0):
        raise UserError(f'decoding: patience is {patience!r}; it must be a finite number, 0 or more (0 = until nothing '
                        'can improve)')


def require_length_penalty(name: str) -> None:
    """Refuses a length penalty that is not there.

    Raises:
      UserError: it is not one of LENGTH_PENALTIES.
    """
    if name not in LENGTH_PENALTIES:
        raise UserError(f'decoding: unknown length penalty {name!r}.{nearest(name, LENGTH_PENALTIES)} '
                        f'Known: {", ".join(LENGTH_PENALTIES)}')


def require_room(prefix: Array | None, length: int) -> None:
    """Refuses prefixes that may be as long as the outputs: at least the end symbol is to be written.

    Raises:
      UserError: P is not below T.
    """
    if prefix is not None and prefix.shape[1] >= length:
        raise UserError(f'decoding: a prefix may have {prefix.shape[1]} symbols and an output {length}; a prefix must '
                        'be shorter than its output')
