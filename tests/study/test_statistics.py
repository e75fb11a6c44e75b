"""Statistics of a few runs, against hand calculations, SciPy and the whole list of resamples."""

import itertools

import numpy as np
import pytest
import scipy.stats

from research.study import statistics

SCORES = [0.612, 0.655, 0.598, 0.701, 0.640, 0.633, 0.672]


def test_mean_and_sd_are_those_of_a_sample():
    assert statistics.mean([1, 2, 6]) == 3
    assert statistics.sd([1, 2, 6]) == pytest.approx(np.sqrt((4 + 1 + 9) / 2))
    assert statistics.sd([0.5]) is None


@pytest.mark.parametrize(('values', 'expected'), [
    ([4, 1], 2.5), ([5, 1, 3], 3), ([1, 2, 4, 100], 3), ([9, 1, 2, 3, 4], 3), ([1, 1, 2, 3, 4, 9, 9, 9], 4.5)])
def test_interquartile_mean_drops_a_quarter_at_each_end_rounded_down(values, expected):
    assert statistics.interquartile_mean(values) == pytest.approx(expected)
    assert statistics.interquartile_mean(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25))


def test_interval_agrees_with_the_list_of_all_possible_resamples():
    values = SCORES[:5]
    everything = np.sort([np.mean(drawn) for drawn in itertools.product(values, repeat=5)])  # 3125 of equal chance
    low, high = statistics.bootstrap_interval(values)
    # The share of all resamples below an end is 2.5 %; 10,000 draws have a standard error of 0.16 %.
    for end, share in ((low, 0.025), (high, 0.975)):
        assert np.mean(everything < end - 1e-9) <= share + 0.0064
        assert np.mean(everything <= end + 1e-9) >= share - 0.0064


def test_interval_agrees_with_scipy():
    expected = scipy.stats.bootstrap((SCORES,), np.mean, n_resamples=10_000, method='percentile',
                                     rng=np.random.default_rng(5)).confidence_interval
    assert statistics.bootstrap_interval(SCORES) == pytest.approx(expected, abs=0.002)  # sd of the mean: 0.013
    narrower = statistics.bootstrap_interval(SCORES, level=0.5)
    assert expected[0] < narrower[0] < narrower[1] < expected[1]


def test_interval_is_the_same_each_time_and_another_with_another_seed():
    assert statistics.bootstrap_interval(SCORES) == statistics.bootstrap_interval(SCORES)
    assert statistics.bootstrap_interval(SCORES) != statistics.bootstrap_interval(SCORES, seed=1)


def test_summary_of_few_runs_gives_every_value_and_no_interval():
    record = statistics.summary([0.5, 0.75])
    assert record['values'] == [0.5, 0.75]
    assert (record['n'], record['mean'], record['interquartile_mean']) == (2, 0.625, 0.625)
    assert record['interval'] is None
    assert record['interquartile_interval'] is None


def test_summary_of_five_runs_gives_intervals_and_how_they_were_drawn():
    scores = [*SCORES, 0.1]  # one bad run, which moves the mean far more than the interquartile mean
    record = statistics.summary(scores, seed=3)
    assert record['interval'] == statistics.bootstrap_interval(scores, seed=3)
    assert record['interquartile_mean'] == pytest.approx(scipy.stats.trim_mean(scores, 0.25))
    expected = scipy.stats.bootstrap((scores,), lambda values, axis: scipy.stats.trim_mean(values, 0.25, axis=axis),
                                     n_resamples=10_000, method='percentile', rng=np.random.default_rng(5))
    assert record['interquartile_interval'] == pytest.approx(expected.confidence_interval, abs=0.01)
    assert record['bootstrap'] == {'resamples': 10_000, 'level': 0.95, 'seed': 3}
    assert statistics.summary(SCORES[:5])['interval']
    assert not statistics.summary(SCORES[:4])['interval']


def test_no_value_and_nan_are_refused():
    for values in ([], [0.5, float('nan')], [float('inf')], [[0.5]]):
        with pytest.raises(ValueError, match='finite values'):
            statistics.mean(values)
    with pytest.raises(ValueError, match='level'):
        statistics.bootstrap_interval(SCORES, level=95)
