"""Tasks for a model without a source: a label at some positions of one sequence, which only what came before decides.

    recall              a p b q . b . a        ->   _ _ _ _ _ q _ p          the value that stood behind the key
    overwritten_recall  a p b q a r . b . a    ->   _ _ _ _ _ _ _ q _ r      the value that stood there last
    selective_copying   . a . . b | |          ->   _ _ _ _ _ a b            the symbols, without what stood between
    parity              1 0 1 1                ->   1 1 0 1                  whether the ones so far are odd
    even_pairs          1 0 1 1                ->   0 1 0 0                  whether it differs from the first
    window_reach        a b c a                ->   _ _ a b                  the symbol so many positions before

A pair is a line of symbols and a line of as many labels; `_` asks for nothing.
"""

from collections.abc import Callable

import numpy as np

from research.errors import UserError
from research.text.corpus import Corpus, Pair

NOTHING = '_'    # no label at this position
BLANK, COPY = '.', '|'


def recall(random: np.random.Generator, length: int, symbols: int, size: int) -> Pair:
    """Multi-query associative recall: keys with values, then each key once more at a distance.

    `size` keys are drawn from the first half of the symbols without replacement, as many values from the second half.
    The line begins k v k v ...; what is left is slots of two positions, of which each key takes one, drawn without
    replacement with probability proportional to a g^(a - 1), a = 0.01, for slot g = 1, 2, ...; the key stands first in
    its slot, its label is its value. All other positions are random symbols.

    Raises:
      UserError: fewer symbols or positions than `size` keys need.

    Source: Arora et al. 2024, Zoology, arXiv:2312.04927, appendix; the authors' multiquery_ar.py. Differs: none.
    """
    _demand(symbols >= 2 * (size + 1), f'recall of {size} pairs needs at least {2 * (size + 1)} symbols, not {symbols}')
    _demand(length >= 4 * size and length % 2 == 0,
            f'recall of {size} pairs needs an even length of at least {4 * size}, not {length}')
    half = symbols // 2
    keys = random.choice(np.arange(1, half), size, replace=False)
    values = random.choice(np.arange(half, symbols), size, replace=False)
    line = random.integers(0, symbols, length)
    line[:2 * size] = np.stack([keys, values], axis=1).ravel()
    return _asked(random, line, 2 * size, keys, values)


def overwritten_recall(random: np.random.Generator, length: int, symbols: int, size: int) -> Pair:
    """Recall in which half of the keys are written again with another value: the label is the newest one.

    The line begins with `size` keys and as many values, as in `recall`; then size // 2 of the keys, drawn without
    replacement, come again, each with one of the other values. After that each key is asked for once, as in `recall`.
    All other positions are random symbols that are no key of this line. So a label is what stands behind the last
    occurrence of its key before; `overwritten` says of which labels that is not the first value.

    Raises:
      UserError: a size below 2, fewer symbols or positions than its keys need.

    Source: Arora et al. 2024, Zoology, arXiv:2312.04927, the authors' forgetting_mqar.py. Differs: half of the keys are
    overwritten, whatever their number; a new value is another than that of its own key, where theirs may be the same;
    what fills the line is never a key.
    """
    again = size // 2
    written = 2 * (size + again)
    _demand(size >= 2, f'overwritten recall needs at least 2 pairs, not {size}: half of the keys are written again')
    _demand(symbols >= 2 * (size + 1),
            f'overwritten recall of {size} pairs needs at least {2 * (size + 1)} symbols, not {symbols}')
    _demand(length >= written + 2 * size and length % 2 == 0,
            f'overwritten recall of {size} pairs needs an even length of at least {written + 2 * size}, not {length}')
    half = symbols // 2
    keys = random.choice(np.arange(1, half), size, replace=False)
    values = random.choice(np.arange(half, symbols), size, replace=False)
    chosen = random.choice(size, again, replace=False)
    newest, count = values.copy(), symbols - half
    newest[chosen] = half + (values[chosen] - half + random.integers(1, count, again)) % count  # any other one
    line = random.choice(np.setdiff1d(np.arange(symbols), keys), length)
    line[:written] = np.stack([np.concatenate([keys, keys[chosen]]),
                               np.concatenate([values, newest[chosen]])], axis=1).ravel()
    return _asked(random, line, written, keys, newest)


def overwritten(pair: Pair) -> np.ndarray:
    """The labels of a line of `overwritten_recall` whose key was written more than once: bool [positions].

    overwritten[t] = t has a label, and the symbol at t stands at least twice before t

    The other labels, those of untouched keys, are where there is a label and this is False.
    """
    line = pair.source.split(' ')
    return np.array([label != NOTHING and line[:at].count(line[at]) > 1
                     for at, label in enumerate(pair.target.split(' '))])


def _asked(random, line, begin, keys, values):
    """A line of numbers in which each key is asked for once, at random slots of two positions from `begin` on."""
    labels = [NOTHING] * len(line)
    slots = np.arange(1, (len(line) - begin) // 2 + 1)
    odds = 0.01 * slots**(0.01 - 1.0)
    for slot, key, value in zip(random.choice(slots, len(keys), replace=False, p=odds / odds.sum()) - 1, keys, values,
                                strict=True):
        at = begin + 2 * slot
        line[at], labels[at] = key, f's{value}'
    return Pair(' '.join(f's{symbol}' for symbol in line), ' '.join(labels))


def selective_copying(random: np.random.Generator, length: int, symbols: int, size: int) -> Pair:
    """Symbols at random places among blanks, then as many marks, whose labels are the symbols in their order.

    Source: Gu and Dao 2023, arXiv:2312.00752, section 4.1.1. Differs: none.
    """
    _demand(length >= 2 * size, f'selective copying of {size} symbols needs a length of at least {2 * size}')
    places = np.sort(random.choice(length - size, size, replace=False))
    chosen = [f's{symbol}' for symbol in random.integers(0, symbols, size)]
    line = [BLANK] * (length - size) + [COPY] * size
    for place, symbol in zip(places, chosen, strict=True):
        line[place] = symbol
    return Pair(' '.join(line), ' '.join([NOTHING] * (length - size) + chosen))


def parity(random: np.random.Generator, length: int, symbols: int, size: int) -> Pair:
    """Zeros and ones; the label at each position is whether the ones up to it are odd.

    Raises:
      UserError: not 2 symbols, or a size other than 1: one bit is kept.

    Source: Hahn 2020, arXiv:1906.06755, section 3. Differs: asked at each position.
    """
    bits = _bits('parity', random, length, symbols, size)
    return Pair(' '.join(f's{bit}' for bit in bits), ' '.join(f's{bit}' for bit in np.cumsum(bits) % 2))


def even_pairs(random: np.random.Generator, length: int, symbols: int, size: int) -> Pair:
    """Zeros and ones; the label at each position is whether the changes up to it are odd: it differs from the first.

    The control of `parity`: what the first position says is enough, and no state has to follow every symbol.

    Raises:
      UserError: as `parity`.

    Source: Deletang et al. 2022, arXiv:2207.02098, appendix, task Even Pairs. Differs: asked at each position.
    """
    bits = _bits('even_pairs', random, length, symbols, size)
    return Pair(' '.join(f's{bit}' for bit in bits), ' '.join(f's{bit}' for bit in bits ^ bits[0]))


def _bits(task, random, length, symbols, size):
    _demand((symbols, size) == (2, 1), f'{task} is one bit of zeros and ones: it needs symbols = 2 and size = 1, not '
            f'{symbols} and {size}')
    return random.integers(0, 2, length)


def window_reach(random: np.random.Generator, length: int, symbols: int, size: int) -> Pair:
    """Random symbols; the label at each position is the symbol `size` positions before, where there is one."""
    _demand(length > size, f'a reach of {size} needs a length above it, not {length}')
    line = [f's{symbol}' for symbol in random.integers(0, symbols, length)]
    return Pair(' '.join(line), ' '.join([NOTHING] * size + line[:length - size]))


TASKS: dict[str, Callable[[np.random.Generator, int, int, int], Pair]] = {
    'labelled_recall': recall, 'selective_copying': selective_copying, 'parity': parity, 'window_reach': window_reach,
    'overwritten_recall': overwritten_recall, 'even_pairs': even_pairs}


def make(task: str, *, train: int, dev: int, test: int, lengths: tuple[int, int], symbols: int, size: int, seed: int,
         test_lengths: tuple[int, int] | None = None) -> Corpus:
    """Draws a corpus, each of its splits from a random stream of its own.

    Args:
      task: one of TASKS.
      train, dev, test: pairs.
      lengths: positions of a line of train and dev, (low, high), both inclusive; all lengths are equally likely.
      symbols: different ones.
      size: pairs of key and value, symbols to copy, or how far back.
      seed: of the draw.
      test_lengths: of a line of test; None = those of train.

    Raises:
      UserError: the task is unknown, lengths do not go up from at least 1, or as the task itself.
    """
    _demand(task in TASKS, f'unknown labelled task {task!r}; it must be one of {", ".join(TASKS)}')
    splits = []
    for stream, (count, (low, high)) in enumerate([(train, lengths), (dev, lengths), (test, test_lengths or lengths)]):
        _demand(1 <= low <= high, f'{task}: lengths from {low} to {high}; they must go up from at least 1')
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream,))))
        splits.append([TASKS[task](random, _length(random, low, high), symbols, size) for _ in range(count)])
    return Corpus(*splits)


def _length(random, low, high):
    """Nothing is drawn where there is one length: lines of one length are the same with and without a range."""
    return low if low == high else int(random.integers(low, high, endpoint=True))


def _demand(holds: bool, message: str) -> None:
    if not holds:
        raise UserError(message)
