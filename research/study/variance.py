"""Seeds and sentences: from which of the two the doubt about a difference comes, and how many seeds would end it.

A difference of two arms is a table [seeds, sentences]: score of a - score of b, of the models trained with the same
seed, on the same sentence.
"""

import bisect
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.stats

from research.study.statistics import ALPHA, LEVEL, RESAMPLES, SEED, percentile_interval, runs_needed, sd

MOST_NUMBERS = 2 ** 20  # that one block of resamples holds
MOST_RUNS = 10_000
CERTAIN = 1000.0  # standard errors: a power of 1 for any number of runs; far beyond it SciPy's is no number


class TwoWay(NamedTuple):
    """The mean difference, and its interval over other seeds and other sentences at once."""

    mean: float
    low: float
    high: float
    seeds: int
    sentences: int
    resamples: int
    level: float
    seed: int  # of the generator


class Parts(NamedTuple):
    """The variance of one difference, that of one seed on one sentence, and what it is made of."""

    seed: float      # between seeds: other seeds, another difference
    sentence: float  # between sentences
    residual: float  # of a seed on a sentence, beyond both

    def standard_error(self, seeds: int, sentences: int) -> float:
        """Of a mean difference over so many: sqrt(seed / seeds + sentence / sentences + residual / (their product))."""
        return math.sqrt(self.seed / seeds + self.sentence / sentences + self.residual / (seeds * sentences))


def two_way_bootstrap(a: np.ndarray, b: np.ndarray, resamples: int = RESAMPLES, level: float = LEVEL,
                      seed: int = SEED) -> TwoWay:
    """The percentile interval of a mean difference, with seeds and sentences drawn anew at once.

    mean over i, j of d[I[i], J[j]],  d = a - b;  I draws seeds and J sentences, both with replacement

    Args:
      a, b: [seeds, sentences] scores of the two arms; a row is one seed of both, a column one sentence.
      resamples: how many.
      level: between 0 and 1.
      seed: of the draws.

    Returns:
      Mean and interval; no memory of resamples times sentences is needed.

    Raises:
      ValueError: a and b are no such tables of finite numbers, or a level outside of 0 to 1.

    Source: Owen 2007, The Pigeonhole Bootstrap, Annals of Applied Statistics 1(2). Differs: none. It errs on the wide
      side.
    """
    table = _table(a, b, 1)
    seeds, sentences = table.shape
    rng, block = np.random.default_rng(seed), max(1, MOST_NUMBERS // sentences)
    found = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        times = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=size)  # how often each seed is drawn
        drawn = rng.integers(sentences, size=[size, sentences])
        found.append(np.take_along_axis(times @ table / seeds, drawn, axis=1).mean(axis=1))
    low, high = percentile_interval(np.concatenate(found), level)
    return TwoWay(float(table.mean()), low, high, seeds, sentences, resamples, level, seed)


def variance_parts(a: np.ndarray, b: np.ndarray) -> Parts:
    """How much of the variance of differences lies between seeds, between sentences, and in neither.

    d[i, j] = mean + seed[i] + sentence[j] + residual[i, j], all random;  I seeds, J sentences
    residual = MS(residual);  seed = (MS(seed) - residual) / J;  sentence = (MS(sentence) - residual) / I

    Args:
      a, b: [seeds, sentences] as of `two_way_bootstrap`, two of each at least.

    Returns:
      Three variances; an estimate below zero is given as 0.

    Raises:
      ValueError: a and b are no such tables of finite numbers.

    Source: Searle, Casella and McCulloch 1992, Variance Components, chapter 4 (analysis of variance, one observation a
      cell). Differs: floored at 0.
    """
    table = _table(a, b, 2)
    seeds, sentences = table.shape
    of_seed = table.mean(axis=1, keepdims=True) - table.mean()
    of_sentence = table.mean(axis=0, keepdims=True) - table.mean()
    left = table - table.mean() - of_seed - of_sentence
    residual = float((left ** 2).sum()) / ((seeds - 1) * (sentences - 1))
    between = sentences * float((of_seed ** 2).sum()) / (seeds - 1)
    across = seeds * float((of_sentence ** 2).sum()) / (sentences - 1)
    return Parts(max(0.0, (between - residual) / sentences), max(0.0, (across - residual) / seeds), residual)


def runs_to_show(differences: Sequence[float], effect: float | None = None, power: float = 0.8,
                 comparisons: int = 1) -> int | None:
    """How many seeds are needed to show a difference, judging by the spread of those that are there.

    The smallest n from `runs_needed(comparisons)` on at which a paired t test, two-sided at 0.05 / comparisons, finds
    the effect with that power:  P(t' > t[1 - 0.05 / (2 comparisons)]) >= power,  both with n - 1 degrees of freedom,
    t' not central by sqrt(n) |effect| / sd.

    Args:
      differences: one a seed, two at least: score of a - score of b.
      effect: the true difference that is to be found; None = their mean, and then the answer is a rough one.
      power: the chance to find it.
      comparisons: how many are made.

    Returns:
      n; None where more than 10,000 would be needed.

    Raises:
      ValueError: less than two differences, one that is not finite, or a power outside of 0.05 / comparisons to 1.

    Source: Cohen 1988, Statistical Power Analysis, chapter 2. Differs: the test that is made flips signs instead; the
      other tail of t', a finding of the wrong sign, is left out.
    """
    if len(differences) < 2:
        raise ValueError(f'Two or more differences are needed to know their spread: {list(differences)}.')
    _check_power(power, comparisons)
    spread, effect = sd(differences), abs(float(np.mean(differences)) if effect is None else effect)
    needed = runs_needed(comparisons)
    if effect == 0:
        return None
    if spread == 0:
        return needed
    tried = range(needed, MOST_RUNS + 1)
    found = bisect.bisect_left(tried, True, key=lambda n: _power(effect / spread, n, comparisons) >= power)
    return tried[found] if found < len(tried) else None


def detectable(n: int, spread: float, power: float = 0.8, comparisons: int = 1) -> float | None:
    """The smallest true difference that n seeds show with that power; the inverse of `runs_to_show`.

    Args:
      n: seeds.
      spread: the standard deviation of paired differences between seeds.
      power: the chance to find it.
      comparisons: how many are made.

    Returns:
      In units of the score; None where n seeds cannot support a claim at all.

    Raises:
      ValueError: a power outside of 0.05 / comparisons to 1.
    """
    _check_power(power, comparisons)
    if n < runs_needed(comparisons):
        return None
    most = 1.0
    while _power(most, n, comparisons) < power:
        most *= 2
    return spread * float(scipy.optimize.brentq(lambda size: _power(size, n, comparisons) - power, 0.0, most))


def _power(size, n, comparisons):
    """The chance that n pairs show a difference of `size` standard deviations."""
    edge = scipy.stats.t.isf(ALPHA / comparisons / 2, n - 1)
    return scipy.stats.nct.sf(edge, n - 1, min(size * math.sqrt(n), CERTAIN))


def _check_power(power, comparisons):
    if not ALPHA / comparisons <= power < 1:
        raise ValueError(f'A power lies between {ALPHA / comparisons} and 1: {power}.')


def _table(a, b, fewest):
    """a - b, [seeds, sentences]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 2 or min(a.shape) < fewest or not (np.isfinite(a) & np.isfinite(b)).all():
        raise ValueError(f'Two tables of the same seeds and sentences, {fewest} or more of each, all finite, are '
                         f'needed: {a.shape} and {b.shape}.')
    return a - b
