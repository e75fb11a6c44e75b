"""What the runs of one arm say together, how two arms differ, and what may be claimed of that.

The values are one score a seed, of one task or of several: [n], or a mapping or sequence of tasks, each [n] of its own.
Two arms are paired: place i of both is the same task and seed. Of a score more is better; a loss is given negated.
Below FEWEST_FOR_INTERVAL values an interval would only pretend to know the spread: every value is reported instead.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from research.errors import UserError

FEWEST_FOR_INTERVAL = 5
FEWEST_OF_PHASE = 10  # seeds of a task that a run either breaks through or does not: fewer are exploratory
RESAMPLES = 10_000
LEVEL = 0.95
ALPHA = 0.05
SEED = 20_140_901  # of the bootstrap's resamples; card and page print it where they show an interval
MOST_EXACT = 14  # pairs: all 2^14 patterns of signs are tried
PATTERNS = 100_000  # of signs, drawn for more pairs than that
BLOCK = 10_000  # patterns at a time
ROUNDING = 1e-13  # of the sum of all scores' sizes: sums that differ by less are equal

Scores = Sequence[float] | Sequence[Sequence[float]] | Mapping[str, Sequence[float]]


class Difference(NamedTuple):
    """How two arms differ, and how sure that is."""

    mean: float    # of score of a - score of b, over all pairs
    low: float     # the bootstrap interval of the mean
    high: float
    p: float       # two-sided, of flipped signs
    n: int         # pairs of all tasks
    tasks: int
    fewest: int    # pairs of the task with the fewest
    patterns: int  # of signs behind p: 2^n means all of them
    resamples: int
    level: float
    seed: int      # of the generator


class Holm(NamedTuple):
    """What is left of p values when several questions are asked, in the order in which they were given."""

    adjusted: list[float]
    rejected: list[bool]  # adjusted is at most 0.05


class Improvement(NamedTuple):
    """How often a run of one arm beats a run of another."""

    probability: float
    low: float
    high: float
    resamples: int
    level: float
    seed: int


class Verdict(NamedTuple):
    """What may be said of one arm beside the base."""

    word: str  # better, worse, no difference shown, too few runs, exploratory
    difference: Difference
    adjusted: float  # p after Holm's correction
    needed: int      # the fewest pairs that can support a claim

    @property
    def text(self) -> str:
        """One line: `no difference shown (n = 10, -0.012 to 0.034)`."""
        n, low, high = self.difference.n, self.difference.low, self.difference.high
        return {'exploratory': f'exploratory, n = {self.difference.fewest} < {FEWEST_OF_PHASE}',
                'too few runs': f'too few runs (n = {n}, at least {self.needed} are needed to claim)',
                'no difference shown': f'no difference shown (n = {n}, {low:.3g} to {high:.3g})',
                }.get(self.word, f'{self.word} (n = {n}, {low:.3g} to {high:.3g}, adjusted p = {self.adjusted:.2g})')


def mean(values: Sequence[float]) -> float:
    """The mean: sum(values) / n. Raises ValueError when there is no value or one is not finite."""
    return float(_checked(values).mean())


def sd(values: Sequence[float]) -> float | None:
    """The standard deviation of a sample: sqrt(sum((value - mean)^2) / (n - 1)); None for a single value.

    Raises ValueError when there is no value or one is not finite.
    """
    values = _checked(values)
    return float(values.std(ddof=1)) if len(values) > 1 else None


def interquartile_mean(values: Scores) -> float:
    """The mean of what is left without the lowest and the highest quarter of the values, those of all tasks together.

    floor(n / 4) values fall away at each end. Raises ValueError when there is no value or one is not finite.

    Source: Agarwal et al. 2021, arXiv:2108.13264, section 4.3 (code: google-research/rliable). Differs: none.
    """
    return float(_middle_mean(np.concatenate(_tasks(values))))


def bootstrap_interval(values: Scores, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = SEED,
                       statistic=np.mean) -> tuple[float, float]:
    """The percentile bootstrap interval of a statistic over seeds; too narrow below ten values, so print n beside it.

    Each resample draws, within each task, n of its n values with replacement; the interval leaves (1 - level) / 2 of
    the resampled statistics out at each end. Tasks are not drawn: the interval speaks of other seeds on these tasks.

    Args:
      values: n scores, one a seed, or those of several tasks.
      resamples: how many; 10,000 by protocol.
      level: between 0 and 1.
      seed: of the draws; say it beside the interval.
      statistic: reduces the last axis: called as statistic(array [resamples, n of all tasks], axis=-1).

    Returns:
      (low, high).

    Raises:
      ValueError: no value, one that is not finite, or a level outside of 0 to 1.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; of several tasks Agarwal et al.
      2021, arXiv:2108.13264, section 4.1 (stratified bootstrap). Differs: none.
    """
    drawn = _drawn(_tasks(values), resamples, np.random.default_rng(seed))
    return percentile_interval(statistic(np.concatenate(drawn, axis=-1), axis=-1), level)


def stratified_interval(scores: Scores, resamples: int = RESAMPLES, level: float = LEVEL,
                        seed: int = SEED) -> tuple[float, float]:
    """The interval of the interquartile mean, seeds drawn within each task; arguments as of `bootstrap_interval`."""
    return bootstrap_interval(scores, resamples, level, seed, _middle_mean)


def percentile_interval(resampled: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """(low, high) that leave (1 - level) / 2 of the resampled statistics [resamples] out at each end.

    Raises ValueError when the level does not lie between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f'The level of an interval lies between 0 and 1: {level}.')
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summary(values: Sequence[float], seed: int = SEED) -> dict:
    """What a report says of one arm's scores.

    Returns:
      n, values (as given), mean, sd (None for one value), interquartile_mean; interval (low, high) of the mean and
      interquartile_interval of the interquartile mean, both None below FEWEST_FOR_INTERVAL values; bootstrap: the
      resamples, level and seed behind the intervals.

    Raises:
      ValueError: no value, or one that is not finite.
    """
    enough = len(values) >= FEWEST_FOR_INTERVAL
    return {'n': len(values), 'values': [float(value) for value in values], 'mean': mean(values), 'sd': sd(values),
            'interquartile_mean': interquartile_mean(values),
            'interval': bootstrap_interval(values, seed=seed) if enough else None,
            'interquartile_interval': stratified_interval(values, seed=seed) if enough else None,
            'bootstrap': {'resamples': RESAMPLES, 'level': LEVEL, 'seed': seed}}


def paired_difference(a: Scores, b: Scores, resamples: int = RESAMPLES, level: float = LEVEL,
                      seed: int = SEED) -> Difference:
    """By how much arm a scores above arm b: mean, interval and p, all of the pairs' differences.

    d[i] = a[i] - b[i];  p = share of the patterns of signs s, each -1 or 1, with |sum s[i] d[i]| >= |sum d[i]|

    All 2^n patterns up to 14 pairs; beyond, 100,000 drawn ones, and then p = (1 + hits) / (1 + 100,000). Sums that
    differ by rounding alone are equal. A pair keeps together in each resample, which draws seeds within each task.

    Args:
      a, b: n scores each, one a seed; or those of several tasks, with the same tasks and as many seeds in both.
      resamples: of the interval of the mean.
      level: of the interval, between 0 and 1.
      seed: of the draws, of resamples and of signs.

    Returns:
      The difference; above 0 where a scores more.

    Raises:
      ValueError: no pair, a score that is not finite, a and b that are not paired, or a level outside of 0 to 1.

    Source: Fisher 1935, The Design of Experiments, section 21 (signs); Phipson and Smyth 2010, arXiv:1603.05766 (drawn
      patterns count the observed one). Differs: none.
    """
    pairs = _paired(a, b)
    differences = [x - y for x, y in pairs]
    pooled, rng = np.concatenate(differences), np.random.default_rng(seed)
    drawn = np.concatenate(_drawn(differences, resamples, rng), axis=-1)
    low, high = percentile_interval(drawn.mean(axis=-1), level)
    rounding = ROUNDING * sum(np.abs(x).sum() + np.abs(y).sum() for x, y in pairs)
    p, patterns = _sign_flips(pooled, rounding, rng)
    return Difference(float(pooled.mean()), low, high, p, len(pooled), len(differences), min(map(len, differences)),
                      patterns, resamples, level, seed)


def smallest_p(n: int) -> float:
    """The smallest two-sided p that n pairs can have: 2^(1 - n), two patterns of all, however large the difference."""
    return 2.0 ** (1 - n)


def runs_needed(comparisons: int) -> int:
    """The fewest pairs that can support a claim: the smallest n >= 1 + log2(comparisons / 0.05), so 6 for one."""
    if comparisons < 1:
        raise ValueError(f'At least one comparison is made: {comparisons}.')
    return math.ceil(1 + math.log2(comparisons / ALPHA))


def holm(p_values: Sequence[float], count: int | None = None) -> Holm:
    """Holm's correction: the chance of any wrong claim stays below 0.05, however many comparisons were planned.

    sorted, p[1] <= ... <= p[k]:  adjusted[i] = max over j <= i of min(1, (m - j + 1) p[j]);  rejected: at most 0.05

    Args:
      p_values: k of them, in any order.
      count: m, fixed before the runs; None = k. A comparison without runs counts as one that is not rejected.

    Returns:
      Adjusted values and what is rejected, in the order given.

    Raises:
      ValueError: a value outside of 0 to 1, or fewer comparisons than values.

    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure. Differs: none.
    """
    values = np.asarray(p_values, np.float64)
    count = len(values) if count is None else count
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f'p values lie between 0 and 1: {values.tolist()}.')
    if count < len(values):
        raise ValueError(f'{len(values)} p values, but only {count} comparisons were fixed before the runs.')
    order = np.argsort(values)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * (count - np.arange(len(values)))))
    return Holm(adjusted.tolist(), (adjusted <= ALPHA).tolist())


def verdicts(differences: Mapping[str, Difference], comparisons: int, phase: bool = False) -> dict[str, Verdict]:
    """What may be said of each arm: better and worse need an interval without 0 and a p that survives Holm.

    Args:
      differences: of each arm from the base (arm - base), by name.
      comparisons: how many were fixed before the runs, controls excluded; those without runs count too.
      phase: the task is one that a run either breaks through or does not: recall, selective copying, parity.

    Returns:
      By name; of a translation the test over sentences must agree as well before anything is claimed.

    Raises:
      ValueError: fewer comparisons than differences.
    """
    needed, corrected = runs_needed(comparisons), holm([found.p for found in differences.values()], comparisons)
    return {name: Verdict(_word(found, rejected, needed, phase), found, adjusted, needed)
            for (name, found), adjusted, rejected in zip(differences.items(), *corrected, strict=True)}


def claim(difference: Difference, comparisons: int, phase: bool = False) -> None:
    """Refuses a claim that no result could support: raises UserError when the runs are too few; see `verdicts`."""
    tasks = 'one task' if difference.tasks == 1 else f'{difference.tasks} tasks'
    refused = f'a claim from {difference.n} runs on {tasks} is refused'
    needed = runs_needed(comparisons)
    if phase and difference.fewest < FEWEST_OF_PHASE:
        raise UserError(f'{refused}: a task that runs break through or do not has {difference.fewest} seeds, and at '
                        f'least {FEWEST_OF_PHASE} are needed')
    if difference.n < needed:
        raise UserError(f'{refused}: their smallest p is {smallest_p(difference.n):.4g}, and at least {needed} are '
                        f'needed for {comparisons} comparison{"s" if comparisons > 1 else ""}')


def probability_of_improvement(a: Scores, b: Scores, resamples: int = RESAMPLES, level: float = LEVEL,
                               seed: int = SEED) -> Improvement:
    """How often a run of arm a beats a run of arm b, whichever seeds they have: shown, not tested.

    mean over tasks of the mean over all i, j of (1 where a[i] > b[j], 1/2 where they are equal, 0 elsewhere)

    Args:
      a, b: as of `paired_difference`.
      resamples: of the interval; each draws the same seeds of both arms, within each task.
      level: of the interval, between 0 and 1.
      seed: of the draws.

    Returns:
      The probability and its interval, between 0 and 1; 1/2 where neither arm is better.

    Raises:
      ValueError: as `paired_difference`.

    Source: Agarwal et al. 2021, arXiv:2108.13264, section 4.3 (code: google-research/rliable).
    Differs: their arms are drawn apart from each other; ours share seeds, and so do the draws.
    """
    pairs, rng = _paired(a, b), np.random.default_rng(seed)
    wins = [(np.sign(x[:, None] - y) + 1) / 2 for x, y in pairs]
    drawn = [rng.integers(len(won), size=[resamples, len(won)]) for won in wins]
    found = np.mean([won[i[:, :, None], i[:, None, :]].mean(axis=(1, 2)) for won, i in zip(wins, drawn)], axis=0)
    probability = float(np.mean([won.mean() for won in wins]))
    return Improvement(probability, *percentile_interval(found, level), resamples, level, seed)


def performance_profile(scores: Scores, thresholds: Sequence[float]) -> np.ndarray:
    """The share of runs that score above each threshold, those of all tasks together: shown, not tested.

    Args:
      scores: n scores, one a seed, or those of several tasks.
      thresholds: k of them.

    Returns:
      float64 [k], between 0 and 1.

    Raises:
      ValueError: no score, or one that is not finite.

    Source: Agarwal et al. 2021, arXiv:2108.13264, section 4.2 (run-score distribution). Differs: none.
    """
    return (np.concatenate(_tasks(scores)) > np.asarray(thresholds, np.float64)[:, None]).mean(axis=-1)


def _word(difference, rejected, needed, phase):
    if phase and difference.fewest < FEWEST_OF_PHASE:
        return 'exploratory'
    if difference.n < needed:
        return 'too few runs'
    if rejected and difference.low > 0:
        return 'better'
    if rejected and difference.high < 0:
        return 'worse'
    return 'no difference shown'


def _sign_flips(differences, rounding, rng):
    """(p, patterns) of |sum of differences| among those with signs flipped."""
    n, observed = len(differences), abs(differences.sum()) - rounding
    if n <= MOST_EXACT:
        signs = 1 - 2 * (np.arange(2 ** n)[:, None] >> np.arange(n) & 1)
        return float(np.mean(np.abs(signs @ differences) >= observed)), 2 ** n
    hits = sum(int((np.abs((1 - 2 * rng.integers(2, size=[BLOCK, n])) @ differences) >= observed).sum())
               for _ in range(PATTERNS // BLOCK))
    return (1 + hits) / (1 + PATTERNS), PATTERNS


def _drawn(tasks, resamples, rng):
    """Each task's n values drawn anew, with replacement: [resamples, n] each."""
    return [values[rng.integers(len(values), size=[resamples, len(values)])] for values in tasks]


def _middle_mean(values, axis=-1):
    cut = values.shape[axis] // 4
    return np.sort(values, axis=axis).take(range(cut, values.shape[axis] - cut), axis=axis).mean(axis=axis)


def _checked(values):
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f'One or more finite values are needed: {values.tolist()}.')
    return values


def _tasks(scores):
    """The scores of each task: a list of float64 [n]."""
    if isinstance(scores, Mapping):
        scores = list(scores.values())
    several = len(scores) and np.ndim(scores[0]) > 0
    return [_checked(values) for values in (scores if several else [scores])]


def _paired(a, b):
    """For each task the scores of both arms: a list of pairs of float64 [n]."""
    if isinstance(a, Mapping) != isinstance(b, Mapping) or (isinstance(a, Mapping) and a.keys() != b.keys()):
        raise ValueError(f'Both arms have scores of the same tasks: {a}, {b}.')
    if isinstance(a, Mapping):
        a, b = list(a.values()), [b[task] for task in a]
    a, b = _tasks(a), _tasks(b)
    if list(map(len, a)) != list(map(len, b)):
        raise ValueError(f'Both arms have a score of the same seeds: {list(map(len, a))} and {list(map(len, b))} of '
                         'them, task by task.')
    return list(zip(a, b, strict=True))
