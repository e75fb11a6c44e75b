"""Checks a corpus of pairs, makes its vocabularies and writes its training pairs as ids into a folder, for any size.

    python -m research.prepare --config=configs/parallel.py --config.data.train=train.de,train.en ... \
        --config.data.prepared=prepared/de-en

Training with the same config then begins at once: it reads that folder. Every line that is wrong or suspicious is
counted by kind; all of them stand in findings.jsonl with file and line.
"""

import itertools
import sys
import time
from collections.abc import Iterable

from research import build, command_line
from research.errors import one_line_errors
from research.text import prepared

BARS = 40  # characters of the longest bar of the histogram


def main() -> None:
    """The command line."""
    with one_line_errors('research.prepare'):
        config = command_line.config_alone(__doc__)
        build.validate(config)
        found = build.prepare(config, Progress())
        for line in report(found, build.left_out(config), build.prepared_folder(config)):
            print(line)


def report(found: prepared.Prepared, left_out: frozenset[str], folder: str) -> Iterable[str]:
    """What there is to say of a prepared corpus: counts, what was found, lengths."""
    yield (f'{folder}: {len(found.pairs):,} training pairs; {len(found.source):,} source symbols, '
           f'{len(found.target):,} target symbols')
    for kind, count in sorted(found.found.items()):
        places = ', '.join(found.places.get(kind, ()))
        yield f'  {kind:<10} {count:>12,} {"left out" if kind in left_out else "kept"}: {places}' + (
            ', ...' if count > len(found.places.get(kind, ())) else '')
    if found.found:
        yield f'  all of them: {folder}/{prepared.FINDINGS}'
    for side, rows in found.histogram.items():
        yield f'{side} words a line'
        yield from histogram(rows)


def histogram(rows: Iterable[tuple[int, int]]) -> Iterable[str]:
    """Lines of a table: how many lines have 1 to 5, 6 to 10, 11 to 20, 21 to 40, ... words."""
    ranges = list(itertools.pairwise([0, 5, 10, 20, 40, 80, 160, sys.maxsize]))
    counts = [sum(count for words, count in rows if low < words <= high) for low, high in ranges]
    for (low, high), count in zip(ranges, counts):
        if count:
            name = f'{low + 1}-{high}' if high < sys.maxsize else f'over {low}'
            yield f'  {name:>8} {count:>12,}  {"#" * max(1, round(BARS * count / max(counts)))}'


class Progress:
    """Says on standard error, every few seconds, how far it is."""

    def __init__(self, every: float = 10.0):
        """Begins now."""
        self.every, self.said = every, time.monotonic()
        self.begin: dict[str, float] = {}

    def __call__(self, what: str, pairs: int) -> None:
        """After some pairs."""
        now = time.monotonic()
        begin = self.begin.setdefault(what, now)
        if now - self.said >= self.every:
            print(f'{what}: {pairs:,} pairs, {now - begin:.0f} s', file=sys.stderr)
            self.said = now


if __name__ == '__main__':
    main()
