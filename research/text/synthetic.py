"""Tasks that are made up, so that it is known which source symbol each target symbol comes from.

    copy            d a d c                ->  d a d c
    reverse         d a d c                ->  c d a d
    recall          c 1 a 0 b 1 | a b c    ->  0 1 1
    copy_distinct   d a b c                ->  d a b c

There is no option to read sources backwards: symbols are independent, so copy would become reverse and reverse copy.

Symbols are written as words: letters, from the 27th on letters with a number (a1, b1, ...); the values of recall are
numbers. A pair's alignment says for each target index which source index it is copied from.
"""

import collections
import math
import string
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from research.errors import UserError
from research.text.corpus import Corpus, Pair

ASK = '|'  # recall: between the pairs and the keys that are asked for


def copy(count: int, lengths: tuple[int, int], symbols: int, seed: int) -> list[Pair]:
    """Draws sequences of independent symbols; the target is the source.

    target[t] = source[t];  links (t, t).

    Args:
      count: pairs.
      lengths: (low, high) of the source, both inclusive; all lengths are equally likely.
      symbols: different ones.
      seed: of the draw.

    Returns:
      The pairs.

    Raises:
      UserError: count or symbols below 1, or lengths that do not go up from at least 1.
    """
    return _draw('copy', count, lengths, symbols, seed)


def reverse(count: int, lengths: tuple[int, int], symbols: int, seed: int) -> list[Pair]:
    """Draws sequences of independent symbols; the target is the source read backwards.

    target[t] = source[S - 1 - t];  links (S - 1 - t, t).  Arguments, result and errors are those of `copy`.
    """
    return _draw('reverse', count, lengths, symbols, seed)


def recall(count: int, pairs: tuple[int, int], symbols: int, seed: int) -> list[Pair]:
    """Draws lists of keys with values, then asks for each key once, in random order; the target is the values.

    source = k_0 v_0 k_1 v_1 ... | q_0 q_1 ...;  target[t] = v_i and the link is (2 i + 1, t), where k_i = q_t.

    Args:
      count: pairs of source and target.
      pairs: (low, high) keys in a source, both inclusive; all numbers are equally likely. A source has 3 n + 1 symbols.
      symbols: different ones; the smaller half is keys, of which none comes twice in a source, the rest is values,
        drawn independently.
      seed: of the draw.

    Returns:
      The pairs.

    Raises:
      UserError: count below 1, pairs that do not go up from at least 1, or fewer keys than a source needs.

    Source: Arora et al. 2024, Zoology, arXiv:2312.04927, section 3 (multi-query associative recall). Differs: a
    sequence with a target in place of labels at positions of one sequence; the keys are asked for after all pairs, at
    no random distance; values may come twice.
    """
    return _draw('recall', count, pairs, symbols, seed)


def copy_distinct(count: int, lengths: tuple[int, int], symbols: int, seed: int) -> list[Pair]:
    """Draws different symbols in random order; the target is the source. Who knows the symbols lacks only their order.

    target[t] = source[t], no symbol comes twice;  links (t, t).

    A model that reads which symbols there are but not where, given the right symbols up to each position, is right at
    position t with probability 1 / (S - t), t = 0 ... S - 1: one of the symbols that have not come yet.

    Args:
      count: pairs.
      lengths: (low, high) of the source, both inclusive; all lengths are equally likely.
      symbols: different ones, of which each source has some, or all where it is as long.
      seed: of the draw.

    Returns:
      The pairs.

    Raises:
      UserError: count below 1, lengths that do not go up from at least 1, or fewer symbols than the longest has.
    """
    return _draw('copy_distinct', count, lengths, symbols, seed)


class Task(NamedTuple):
    """How one pair is made."""

    draw: Callable[[np.random.Generator, int, int], Pair]  # (generator, length, symbols)
    sources: Callable[[int, int], int]                     # (length, symbols) -> how many different sources there are


def make(task: str, *, train: int, dev: int, test: int, lengths: tuple[int, int], symbols: int, seed: int,
         test_lengths: tuple[int, int] | None = None) -> Corpus:
    """Draws a corpus, each of its splits from a random stream of its own.

    A source of dev or test that occurred in an earlier split is drawn again, at the same length, wherever at least
    twice as many different sources of that length are possible as the earlier splits hold. So only short sources can
    be in train too, where there are so few that train holds most of them and the rest would be an odd choice. Train
    does not depend on the sizes of the other splits.

    Args:
      task: one of TASKS.
      train: pairs.
      dev: pairs.
      test: pairs.
      lengths: of train and dev, (low, high); for recall the number of keys.
      symbols: different ones.
      seed: of the draw.
      test_lengths: of test; None = those of train.

    Returns:
      The corpus.

    Raises:
      UserError: the task is unknown, or as the task itself.
    """
    if task not in TASKS:
        raise UserError(f'unknown synthetic task {task!r}; it must be one of {", ".join(TASKS)}')
    splits = []
    for stream, (count, bounds) in enumerate([(train, lengths), (dev, lengths), (test, test_lengths or lengths)]):
        splits.append(_draw(task, count, bounds, symbols, seed, stream, [pair for split in splits for pair in split]))
    return Corpus(*splits)


def _draw(name, count, lengths, symbols, seed, stream=0, before: Iterable[Pair] = ()):
    """`count` pairs of lengths (low, high); `before`: pairs of the same task whose sources are to be avoided."""
    task, (low, high) = TASKS[name], lengths
    if count < 1:
        raise UserError(f'{name}: {count} pairs are asked for; it must be at least 1')
    if not 1 <= low <= high:
        raise UserError(f'{name}: lengths from {low} to {high}; they must go up from at least 1')
    if symbols < 1 or task.sources(high, symbols) == 0:
        needed = {'recall': f'{2 * high}, {high} keys and as many values', 'copy_distinct': high}.get(name, 1)
        raise UserError(f'{name}: {symbols} symbols are too few for length {high}; it needs at least {needed}')
    seen = {pair.source: len(pair.alignment) for pair in before}
    held = collections.Counter(seen.values())
    avoidable = {length: task.sources(length, symbols) >= 2 * held[length] for length in range(low, high + 1)}
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream,))))
    pairs = []
    for _ in range(count):
        length = int(generator.integers(low, high, endpoint=True))
        pair = task.draw(generator, length, symbols)
        while avoidable[length] and pair.source in seen:
            pair = task.draw(generator, length, symbols)
        pairs.append(pair)
    return pairs


def _copied(generator, length, symbols):
    source = _sequence(generator, length, symbols)
    return _pair(source, range(length))


def _reversed(generator, length, symbols):
    source = _sequence(generator, length, symbols)
    return _pair(source, range(length - 1, -1, -1))


def _recalled(generator, length, symbols):
    keys = [_letter(key) for key in generator.permutation(symbols // 2)[:length]]
    values = [str(value) for value in generator.integers(symbols - symbols // 2, size=length)]
    asked = generator.permutation(length).tolist()
    listed = [symbol for both in zip(keys, values) for symbol in both]
    return _pair([*listed, ASK, *(keys[index] for index in asked)], [2 * index + 1 for index in asked])


def _copied_distinct(generator, length, symbols):
    return _pair([_letter(number) for number in generator.permutation(symbols)[:length]], range(length))


def _sequence(generator, length, symbols):
    return [_letter(number) for number in generator.integers(symbols, size=length)]


def _pair(source, places):
    """The pair whose target is the source symbols at these places, in this order."""
    return Pair(' '.join(source), ' '.join(source[place] for place in places),
                alignment=tuple((place, t) for t, place in enumerate(places)))


def _letter(number):
    turn, letter = divmod(int(number), len(string.ascii_lowercase))
    return f'{string.ascii_lowercase[letter]}{turn or ""}'


def _sequences(length, symbols):
    return symbols ** length


def _recalls(length, symbols):
    keys, values = symbols // 2, symbols - symbols // 2
    return math.perm(keys, length) * values ** length * math.factorial(length)


TASKS = {
    'copy': Task(_copied, _sequences),
    'reverse': Task(_reversed, _sequences),
    'recall': Task(_recalled, _recalls),
    'copy_distinct': Task(_copied_distinct, lambda length, symbols: math.perm(symbols, length)),
}
