"""The learning rate of each arm: the same rates and seeds for all, chosen by the mean score on dev.

    a best rate on the edge      one more value on that side, at most EXTENSIONS times; then it is marked
    an arm that is not tuned     takes the rate of the base, marked `rate_not_tuned`
    a run that failed            is worse than any that did not
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

EXTENSIONS = 2


class Choice(NamedTuple):
    """The learning rate of an arm on a task."""

    value: float
    choice: str    # tuned, not_tuned or fixed
    on_edge: bool  # the best of the rates that were tried was the last on its side
    tried: int     # runs that chose it


def rank(record: dict, keep: str) -> tuple[float, float]:
    """How good a tuning run was on dev, higher is better: by what decides its best step, and then the other."""
    if record['status'] != 'finished':
        return -math.inf, -math.inf
    dev = record['dev']
    return {'accuracy': (dev['accuracy'], -dev['loss']), 'bleu': (dev.get('bleu', -1.0), -dev['loss']),
            'loss': (-dev['loss'], dev['accuracy'])}[keep]


def by_rate(records: Sequence[dict], keep: str) -> dict[float, tuple[float, float]]:
    """The mean rank of each rate over its seeds, by rate, the lowest first."""
    ranks: dict[float, list[tuple[float, float]]] = {}
    for record in records:
        ranks.setdefault(record['rate'], []).append(rank(record, keep))
    return {rate: tuple(sum(part) / len(part) for part in zip(*found, strict=True))
            for rate, found in sorted(ranks.items())}


def missing(rates: Sequence[float], seeds: Sequence[int], records: Sequence[dict],
            keep: str) -> list[tuple[float, int]]:
    """The (rate, seed) that must still be tried, [] when the choice can be made.

    First all given rates; then, while the best one is at an edge, one more on that side: its neighbour times the ratio
    of the last two, rounded to one digit. A single rate has no edge: it was not searched.

    Args:
      rates: that every arm tries.
      seeds: of each rate.
      records: of tuning.jsonl, of one arm on one task.
      keep: accuracy, loss or bleu: what decides on dev.
    """
    there = {(record['rate'], record['seed']) for record in records}
    wanted, low, high = sorted(rates), 0, 0
    while True:
        due = [(rate, seed) for rate in wanted for seed in seeds if (rate, seed) not in there]
        if due or len(rates) < 2:
            return due
        means = by_rate([record for record in records if record['rate'] in wanted], keep)
        best = max(wanted, key=lambda rate: means[rate])
        if best == wanted[0] and low < EXTENSIONS:
            wanted, low = [_beyond(wanted[0], wanted[1]), *wanted], low + 1
        elif best == wanted[-1] and high < EXTENSIONS:
            wanted, high = [*wanted, _beyond(wanted[-1], wanted[-2])], high + 1
        else:
            return []


def _beyond(edge: float, inner: float) -> float:
    """As far beyond the edge as the value inside of it is before it, in logarithms: 1e-4, 3e-4 -> 3e-5."""
    return float(f'{edge * edge / inner:.0e}')


def chosen(records: Sequence[dict], keep: str) -> Choice:
    """The best rate of all that were tried; of equal ones the lowest. ValueError without a record."""
    means = by_rate(records, keep)
    if not means:
        raise ValueError('No run has tried a rate.')
    best = max(means, key=lambda rate: means[rate])
    return Choice(best, 'tuned', len(means) > 1 and best in (min(means), max(means)), len(records))
