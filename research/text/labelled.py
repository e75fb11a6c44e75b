"""Tasks for a model without a source: a label at some positions of one sequence, which only what came before decides.

    recall              a p b q . b . a    ->   _ _ _ _ _ q _ p      the value that stood behind the key
    selective_copying   . a . . b | |      ->   _ _ _ _ _ a b        the symbols, without what stood between
    parity              1 0 1 1            ->   1 1 0 1              whether the ones so far are odd
    window_reach        a b c a            ->   _ _ a b              the symbol so many positions before

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
    line, labels = random.integers(0, symbols, length), [NOTHING] * length
    line[:2 * size] = np.stack([keys, values], axis=1).ravel()
    slots = np.arange(1, (length - 2 * size) // 2 + 1)
    odds = 0.01 * slots**(0.01 - 1.0)
    for slot, key, value in zip(random.choice(slots, size, replace=False, p=odds / odds.sum()) - 1, keys, values,
                                strict=True):
        at = 2 * size + 2 * slot
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
    _demand((symbols, size) == (2, 1), 'parity is one bit of zeros and ones: it needs symbols = 2 and size = 1, not '
            f'{symbols} and {size}')
    bits = random.integers(0, 2, length)
    return Pair(' '.join(f's{bit}' for bit in bits), ' '.join(f's{bit}' for bit in np.cumsum(bits) % 2))


def window_reach(random: np.random.Generator, length: int, symbols: int, size: int) -> Pair:
    """Random symbols; the label at each position is the symbol `size` positions before, where there is one."""
    _demand(length > size, f'a reach of {size} needs a length above it, not {length}')
    line = [f's{symbol}' for symbol in random.integers(0, symbols, length)]
    return Pair(' '.join(line), ' '.join([NOTHING] * size + line[:length - size]))


TASKS: dict[str, Callable[[np.random.Generator, int, int, int], Pair]] = {
    'labelled_recall': recall, 'selective_copying': selective_copying, 'parity': parity, 'window_reach': window_reach}


def make(task: str, *, train: int, dev: int, test: int, length: int, symbols: int, size: int, seed: int) -> Corpus:
    """Draws a corpus, each of its splits from a random stream of its own.

    Args:
      task: one of TASKS.
      train, dev, test: pairs.
      length: positions of a line.
      symbols: different ones.
      size: pairs of key and value, symbols to copy, or how far back.
      seed: of the draw.

    Raises:
      UserError: the task is unknown, or as the task itself.
    """
    _demand(task in TASKS, f'unknown labelled task {task!r}; it must be one of {", ".join(TASKS)}')
    splits = []
    for stream, count in enumerate((train, dev, test)):
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream,))))
        splits.append([TASKS[task](random, length, symbols, size) for _ in range(count)])
    return Corpus(*splits)


def _demand(holds: bool, message: str) -> None:
    if not holds:
        raise UserError(message)
