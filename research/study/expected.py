"""Numbers that expectations are read off the records with: means over runs, and whether two arms differ."""

from collections.abc import Callable, Sequence

from research.study.definition import NotDecidableError, NotMeasuredError
from research.study.statistics import FEWEST_OF_PHASE, mean, paired_difference, runs_needed, verdicts

Value = Callable[[dict], float]  # of a run


def score(name: str) -> Value:
    """One of the scores of a run."""
    return lambda run: run['scores'][name]


def by_length(low: int, high: int, part: str = 'right', whole: str = 'count') -> Value:
    """The share of a run that is right for lengths of low .. high symbols: of pairs, or `tokens_right` of `tokens`.

    NotMeasuredError where nothing of these lengths was tested.
    """
    def value(run):
        rows = [row for row in run['by_length'] if row['low'] >= low and row['high'] <= high]
        count = sum(row[whole] for row in rows)
        if not count:
            raise NotMeasuredError('no test pair of these lengths')
        return sum(row[part] for row in rows) / count
    return value


def average(runs: Sequence[dict], value: Value) -> float:
    """The mean over runs."""
    return mean([value(run) for run in runs])


def percent(value: float) -> str:
    """0.7123 -> '71.2 %'."""
    return f'{100 * value:.1f} %'


def differ(mine: Sequence[dict], theirs: Sequence[dict], value: Value, phase: bool = False) -> tuple[str, str]:
    """What may be said of two arms by the protocol, as one comparison: better, worse or no difference shown.

    Raises:
      NotDecidableError: they share too few seeds to say anything; the message holds the difference.
    """
    first, second = ({run['seed']: value(run) for run in runs} for runs in (mine, theirs))
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise NotDecidableError('no seed in common')
    found = paired_difference([first[seed] for seed in seeds], [second[seed] for seed in seeds])
    text = f'difference {found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f}, n = {found.n})'
    if found.n < (FEWEST_OF_PHASE if phase else runs_needed(1)):
        raise NotDecidableError(text)
    return verdicts({'': found}, 1, phase)[''].word, text
