"""Seeds and sentences: resamples drawn one by one, an analysis of variance and the power of t tests by statsmodels."""

import math
import tracemalloc

import numpy as np
import pandas
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.power import TTestPower

from research.study import variance
from research.study.statistics import bootstrap_interval, paired_difference, runs_needed


def arms(seeds, sentences, seed, seed_sd=1.0, sentence_sd=1.0, residual_sd=1.0):
    """Two arms whose difference is made of parts of known size; what they share tells nothing."""
    rng = np.random.default_rng(seed)
    difference = (0.3 + seed_sd * rng.normal(size=[seeds, 1]) + sentence_sd * rng.normal(size=[1, sentences])
                  + residual_sd * rng.normal(size=[seeds, sentences]))
    shared = 10 * rng.normal(size=[seeds, sentences])
    return shared + difference, shared


def test_seeds_and_sentences_are_drawn_at_once():
    a, b = arms(6, 15, 1)
    table, rng = a - b, np.random.default_rng(2)
    drawn = [table[np.ix_(rng.integers(6, size=6), rng.integers(15, size=15))].mean() for _ in range(20_000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    found = variance.two_way_bootstrap(a, b)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03 * (high - low))
    assert found.mean == pytest.approx(table.mean())
    assert found[3:] == (6, 15, 10_000, 0.95, variance.SEED)
    narrow = variance.two_way_bootstrap(a, b, level=0.5)
    assert (narrow.low, narrow.high) == pytest.approx(np.quantile(drawn, [0.25, 0.75]), abs=0.03 * (high - low))


def test_where_only_seeds_or_only_sentences_vary_the_interval_is_that_of_drawing_them_alone():
    a, b = arms(8, 30, 3, sentence_sd=0, residual_sd=0)
    expected = paired_difference(a[:, 0], b[:, 0])
    width = expected.high - expected.low
    found = variance.two_way_bootstrap(a, b)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.03 * width)
    a, b = arms(8, 30, 4, seed_sd=0, residual_sd=0)
    low, high = bootstrap_interval((a - b)[0])
    found = variance.two_way_bootstrap(a, b)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03 * (high - low))


def test_blocks_of_resamples_change_nothing_but_the_draws_and_bound_the_memory(monkeypatch):
    a, b = arms(6, 400, 5)
    whole = variance.two_way_bootstrap(a, b, resamples=10_001)
    monkeypatch.setattr(variance, 'MOST_NUMBERS', 100_000)
    tracemalloc.start()
    parts = variance.two_way_bootstrap(a, b, resamples=10_001)  # not a whole number of blocks
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.03 * (whole.high - whole.low))
    assert peak < 8 * 10_001 * 400 / 4  # a quarter of all numbers at once
    monkeypatch.setattr(variance, 'MOST_NUMBERS', 1)
    assert math.isfinite(variance.two_way_bootstrap(a, b, resamples=3).low)


def test_parts_of_variance_are_those_of_an_analysis_of_variance():
    a, b = arms(5, 7, 6)
    rows, columns = np.indices(a.shape)
    frame = pandas.DataFrame({'d': (a - b).ravel(), 'seed': rows.ravel(), 'sentence': columns.ravel()})
    squares = anova_lm(ols('d ~ C(seed) + C(sentence)', frame).fit())
    of_seed, of_sentence, residual = squares['sum_sq'] / squares['df']
    found = variance.variance_parts(a, b)
    assert found == pytest.approx(((of_seed - residual) / 7, (of_sentence - residual) / 5, residual), rel=1e-8)
    assert min(found) > 0


def test_an_estimate_below_zero_is_zero():
    checks = np.array([[1.0, -1.0], [-1.0, 1.0]])  # all of it is residual
    assert variance.variance_parts(checks, np.zeros([2, 2])) == (0, 0, 4)


def test_the_standard_error_is_how_much_means_of_other_seeds_and_sentences_differ():
    parts = variance.Parts(0.5 ** 2, 2.0 ** 2, 3.0 ** 2)
    means = [np.subtract(*arms(6, 15, seed, 0.5, 2.0, 3.0)).mean() for seed in range(4000)]
    # The standard deviation of 4,000 has a standard error of 1.1 %.
    assert parts.standard_error(6, 15) == pytest.approx(np.std(means), rel=0.045)


def test_tables_that_are_not_of_the_same_seeds_and_sentences_are_refused():
    for a, b in ((np.ones([2, 3]), np.ones([3, 2])), (np.ones(3), np.ones(3)), (np.ones([2, 0]), np.ones([2, 0])),
                 (np.full([2, 2], np.nan), np.ones([2, 2])), (np.ones([2, 2]), np.full([2, 2], np.inf))):
        for function in (variance.two_way_bootstrap, variance.variance_parts):
            with pytest.raises(ValueError, match='same seeds and sentences'):
                function(a, b)
    with pytest.raises(ValueError, match='2 or more of each'):
        variance.variance_parts(np.ones([1, 5]), np.ones([1, 5]))
    with pytest.raises(ValueError, match='level'):
        variance.two_way_bootstrap(np.ones([2, 2]), np.ones([2, 2]), level=95)


@pytest.mark.parametrize('comparisons', [1, 10])
@pytest.mark.parametrize(('effect', 'power'), [(0.2, 0.8), (0.5, 0.8), (0.5, 0.95), (1.0, 0.8), (3.0, 0.8)])
def test_runs_to_show_are_those_of_a_paired_t_test(effect, power, comparisons):
    differences = np.array([0.0, 2.0, 1.0, 1.0, 1.0, 1.0]) / np.sqrt(0.4) * 3  # standard deviation 3
    n = variance.runs_to_show(differences, 3 * effect, power, comparisons)
    assert n == variance.runs_to_show(differences, -3 * effect, power, comparisons)

    def power_of(n):
        return TTestPower().power(effect, n, 0.05 / comparisons)
    assert n >= runs_needed(comparisons)
    assert power_of(n) >= power
    assert n == runs_needed(comparisons) or power_of(n - 1) < power
    least = variance.detectable(n, 3.0, power, comparisons)
    assert TTestPower().power(least / 3, n, 0.05 / comparisons) == pytest.approx(power, abs=1e-6)
    assert least <= 3 * effect


def test_the_effect_is_the_mean_of_the_differences_where_none_is_named():
    differences = [0.1, 0.5, 0.3, -0.2, 0.4, 0.6]
    found = variance.runs_to_show(differences)
    assert found == variance.runs_to_show(differences, np.mean(differences))
    expected = TTestPower().solve_power(np.mean(differences) / np.std(differences, ddof=1), alpha=0.05, power=0.8)
    assert found == math.ceil(expected) > runs_needed(1)


def test_what_no_number_of_runs_shows_is_none():
    assert variance.runs_to_show([1.0, -1.0]) is None
    assert variance.runs_to_show([1.0, -1.0], 1e-3) is None
    assert variance.runs_to_show([1.0, 1.0], comparisons=5) == 8  # no spread at all
    assert variance.runs_to_show([1.0, 1.0], 0.0) is None
    assert variance.detectable(5, 1.0) is None
    assert variance.detectable(7, 1.0, comparisons=5) is None
    assert variance.detectable(6, 0.0) == 0


@pytest.mark.parametrize('noise', [1e-17, 1e-12, 1e-9])
def test_a_spread_of_rounding_alone_takes_no_more_runs_than_none(noise):
    """0.1 + 0.2 is not 0.3: arms that differ by the same in every seed have such spreads."""
    differences = [0.1, 0.1 + noise, 0.1 - noise, 0.1, 0.1 + noise]
    assert len(set(differences)) > 1
    assert variance.runs_to_show(differences, comparisons=5) == variance.runs_to_show([0.1] * 5, comparisons=5) == 8


def test_one_difference_and_powers_out_of_reach_are_refused():
    with pytest.raises(ValueError, match='Two or more'):
        variance.runs_to_show([1.0])
    with pytest.raises(ValueError, match='finite'):
        variance.runs_to_show([1.0, float('nan')])
    for power in (0.01, 1.0, 80):
        with pytest.raises(ValueError, match='power'):
            variance.runs_to_show([1.0, 2.0], power=power)
        with pytest.raises(ValueError, match='power'):
            variance.detectable(10, 1.0, power)
