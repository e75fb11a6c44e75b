"""Checks a corpus of pairs, makes its vocabularies and writes its training pairs as ids into a folder, for any size.

    python -m research.prepare --config=configs/parallel.py --config.data.train=train.de,train.en ... \
        --config.data.prepared=prepared/de-en

Training with the same config then begins at once: it reads that folder. Every line that is wrong or suspicious is
counted by kind, in dev and test too; all of the training lines among them stand in findings.jsonl with file and line.
"""

import itertools
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from research import build, command_line
from research.errors import UserError, one_line_errors
from research.text import prepared
from research.text.corpus import Findings

BARS = 40  # characters of the longest bar of the histogram


def main() -> None:
    """The command line."""
    with one_line_errors('research.prepare'):
        config = command_line.config_alone(__doc__)
        build.validate(config)
        if build.tokenizer(config) is None:
            raise UserError("research.prepare is for pairs to translate: data.task must be 'parallel', as in "
                            'configs/parallel.py')
        others = {split: check(config, split) for split in ('dev', 'test')}  # first: they are small
        found = build.prepare(config, Progress())
        for line in report(found, others, build.left_out(config), build.prepared_folder(config)):
            print(line)


def check(config: Any, split: str) -> tuple[int, Findings]:
    """Reads a split to its end: how many pairs are kept, and what was found."""
    findings = Findings(duplicates=True)
    return sum(1 for _ in build.read_split(config, split, findings)), findings


def report(found: prepared.Prepared, others: Mapping[str, tuple[int, Findings]], left_out: Collection[str],
           folder: str) -> Iterable[str]:
    """What there is to say of a prepared corpus: counts, what was found in each split, lengths.

    Args:
      found: the training pairs and their vocabularies.
      others: split -> pairs that are kept, and what was found.
      left_out: kinds of findings whose lines are left out.
      folder: of the prepared corpus.

    Yields:
      Lines.
    """
    yield (f'{folder}: {len(found.pairs):,} training pairs; {len(found.source):,} source symbols, '
           f'{len(found.target):,} target symbols')
    yield f'train: {len(found.pairs):,} pairs' + (
        f', {found.pairs.variants} segmentations each' if found.pairs.variants > 1 else '')
    yield from _kinds(found.found, found.places, left_out)
    if found.found:
        yield f'  all of them: {folder}/{prepared.FINDINGS}'
    for split, (count, findings) in others.items():
        yield f'{split}: {count:,} pairs'
        yield from _kinds(findings.counts, findings.places, left_out)
    for side, rows in found.histogram.items():
        yield f'{side} words a training line'
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
    """Says on standard error what is being done: when it begins and ends, and every few seconds how far it is."""

    def __init__(self, every: float = 10.0):
        """Nothing is being done yet."""
        self.every, self.said, self.begin = every, 0.0, 0.0

    def __call__(self, what: str, pairs: int, count: int | None) -> None:
        """After some pairs of `count` (None = nobody knows yet); after 0 the clock begins anew."""
        now = time.monotonic()
        if pairs == 0:
            self.begin = now
        elif pairs != count and now - self.said < self.every:
            return
        self.said = now
        print(f'{what}: {self._how_far(pairs, count, now - self.begin)}', file=sys.stderr)

    @staticmethod
    def _how_far(pairs: int, count: int | None, seconds: float) -> str:
        if pairs == 0:
            return 'begins' if count is None else f'{count:,} pairs'
        if pairs == count:
            return f'all {count:,} pairs, {seconds:.0f} s'
        if count is None:
            return f'{pairs:,} pairs, {seconds:.0f} s'
        return f'{pairs:,} of {count:,} pairs, about {seconds / pairs * (count - pairs):.0f} s left'


def _kinds(counts: Mapping[str, int], places: Mapping[str, list[str]], left_out: Collection[str]) -> Iterable[str]:
    for kind, count in sorted(counts.items()):
        yield f'  {kind:<10} {count:>12,} {"left out" if kind in left_out else "kept"}: {", ".join(places[kind])}' + (
            ', ...' if count > len(places[kind]) else '')


if __name__ == '__main__':
    main()
