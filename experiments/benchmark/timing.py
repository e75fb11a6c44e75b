"""Contenders measured in turns, so that what slows the machine down slows all of them, and rows of a table of it."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

OURS = 'Seq2Lab'
WIDTH = 1024         # of the square matrices whose product tells the machine's rate
CALLS = 50           # products a turn

Track = Callable[[Sequence, str], Iterable]  # (what is gone through, words) -> the same, with progress shown


class Row(NamedTuple):
    """One figure of a table with its unit: the median over turns."""

    section: str
    work: str               # what is done, with its sizes
    by: str                 # who does it
    unit: str
    value: float | None     # None: it is not there
    lowest: float | None
    highest: float | None
    ratio: float | None     # ours over this one, the median over turns; None where nothing is compared
    turns: int
    note: str


def turns(contenders: Mapping[str, Callable[[], Any]], rounds: int, track: Track, words: str) -> dict[str, list]:
    """Calls each once a round, A B C A B C ...; returns what each of them gave, a list with one entry a round."""
    found = {name: [] for name in contenders}
    for name in track([name for _ in range(rounds) for name in contenders], words):
        found[name].append(contenders[name]())
    return found


def row(section: str, work: str, by: str, unit: str, values: Sequence[float], ours: Sequence[float] = (),
        note: str = '') -> Row:
    """Of what was measured in the rounds; no values = it is not there.

    Args:
      section, work, by, unit, note: of the row.
      values: one a round.
      ours: what ours gave in the same rounds; empty where nothing is compared.
    """
    ratio = statistics.median(one / other for one, other in zip(ours, values, strict=True)) if ours and values else None
    if not values:
        return Row(section, work, by, unit, None, None, None, None, 0, note)
    return Row(section, work, by, unit, statistics.median(values), min(values), max(values), ratio, len(values), note)


class Product:
    """The rate of a float32 product of two square matrices of WIDTH, compiled by XLA: the machine's limit."""

    name = f'product of two float32 matrices of {WIDTH} x {WIDTH} (XLA)'

    def __init__(self):
        """Compiles and warms it."""
        self._inputs = jax.random.normal(jax.random.key(0), (2, WIDTH, WIDTH))
        self._product = jax.jit(lambda inputs: inputs[0] @ inputs[1]).lower(self._inputs).compile()
        self()

    def __call__(self) -> float:
        """FLOPs a second, 2 for each multiply-add: that of the median call."""
        seconds = []
        for _ in range(CALLS):
            begin = time.perf_counter()
            jax.block_until_ready(self._product(self._inputs))
            seconds.append(time.perf_counter() - begin)
        return 2 * WIDTH ** 3 / statistics.median(seconds)
