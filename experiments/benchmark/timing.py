"""Contenders measured in turns, so that what slows the machine down slows all of them, and rows of a table of it."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from research.training import device

OURS = 'Seq2Lab'
PRODUCT = f'product of two float32 matrices of {device.SIZE} x {device.SIZE} (XLA)'  # tells the machine's rate
SECONDS = 0.5        # of products a turn

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


def product() -> float:
    """The machine's limit, FLOPs a second: of PRODUCT, for a while."""
    return device.matrix_product_rate('float32', SECONDS)
