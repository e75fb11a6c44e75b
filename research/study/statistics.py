"""What several runs of one arm say together. The values are one score a seed.

Below FEWEST_FOR_INTERVAL values an interval would only pretend to know the spread: every value is reported instead.
"""

from collections.abc import Sequence

import numpy as np

FEWEST_FOR_INTERVAL = 5
RESAMPLES = 10_000
LEVEL = 0.95
SEED = 20_140_901  # of the bootstrap's resamples; card and page print it where they show an interval


def mean(values: Sequence[float]) -> float:
    """The mean: sum(values) / n. Raises ValueError when there is no value or one is not finite."""
    return float(_checked(values).mean())


def sd(values: Sequence[float]) -> float | None:
    """The standard deviation of a sample: sqrt(sum((value - mean)^2) / (n - 1)); None for a single value.

    Raises ValueError when there is no value or one is not finite.
    """
    values = _checked(values)
    return float(values.std(ddof=1)) if len(values) > 1 else None


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean of what is left without the lowest and the highest quarter of the values.

    floor(n / 4) values fall away at each end. Raises ValueError when there is no value or one is not finite.

    Source: Agarwal et al. 2021, arXiv:2108.13264, section 4.3 (code: google-research/rliable).
    Differs: none; their runs of all tasks are pooled by the caller.
    """
    return float(_middle_mean(_checked(values)))


def bootstrap_interval(values: Sequence[float], resamples: int = RESAMPLES, level: float = LEVEL, seed: int = SEED,
                       statistic=np.mean) -> tuple[float, float]:
    """The percentile bootstrap interval of a statistic over seeds; too narrow below ten values, so print n beside it.

    Each resample draws n of the n values with replacement; the interval leaves (1 - level) / 2 of the resampled
    statistics out at each end.

    Args:
      values: n scores, one a seed.
      resamples: how many; 10,000 by protocol.
      level: between 0 and 1.
      seed: of the draws; say it beside the interval.
      statistic: reduces the last axis: called as statistic(array [resamples, n], axis=-1).

    Returns:
      (low, high).

    Raises:
      ValueError: no value, one that is not finite, or a level outside of 0 to 1.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13. Differs: none.
    """
    values = _checked(values)
    if not 0 < level < 1:
        raise ValueError(f'The level of an interval lies between 0 and 1: {level}.')
    drawn = np.random.default_rng(seed).integers(len(values), size=[resamples, len(values)])
    low, high = np.quantile(statistic(values[drawn], axis=-1), [(1 - level) / 2, (1 + level) / 2])
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
            'interquartile_interval': bootstrap_interval(values, seed=seed, statistic=_middle_mean) if enough else None,
            'bootstrap': {'resamples': RESAMPLES, 'level': LEVEL, 'seed': seed}}


def _middle_mean(values, axis=-1):
    cut = values.shape[axis] // 4
    return np.sort(values, axis=axis).take(range(cut, values.shape[axis] - cut), axis=axis).mean(axis=axis)


def _checked(values):
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f'One or more finite values are needed: {values.tolist()}.')
    return values
