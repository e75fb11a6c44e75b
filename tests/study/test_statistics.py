"""Statistics of a few runs, against hand calculations, SciPy, statsmodels, rliable and the whole list of resamples.

Two simulations ask what all of it is for: of equal arms hardly any is called better or worse, and of others nearly all.
"""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from research.errors import UserError
from research.study import statistics
from research.study.statistics import Difference, paired_difference

SCORES = [0.612, 0.655, 0.598, 0.701, 0.640, 0.633, 0.672]

# Two arms of three tasks and ten runs each: tasks lie far apart, and some runs of both arms score the same.
RUN, TASK = np.arange(10), np.arange(3)[:, None]
ARMS = ((37 * RUN + 11 * TASK + 5) % 29 + 20 * TASK) / 100, ((23 * RUN + 7 * TASK) % 31 + 18 * TASK) / 100
THRESHOLDS = 0.1, 0.3, 0.46, 0.9  # one of them is a score, which is not above it
# rliable 1.2.0 with arch 7.2.0, NumPy 2.4.6 and 50,000 resamples, by `python -m tests.peers.oracle_rliable`, to which
# tests/peers/test_rliable.py gives the same arms: value, low and high.
RLIABLE = {
    'interquartile': (0.33625, 0.300625, 0.370625),  # of the first arm
    'difference': (-0.011333333333333327, -0.050666666666666652, 0.027333333333333341),
    'improvement': 0.46333333333333337,
    'profile': (0.8666666666666667, 0.5666666666666667, 0.26666666666666666, 0.0),
}


def reports(mean=0.02, low=0.01, high=0.03, p=2 ** -9, n=10, tasks=1, fewest=None):
    """A difference as `paired_difference` might have given it."""
    return Difference(mean, low, high, p, n, tasks, fewest or n // tasks, 2 ** n, 10_000, 0.95, 1)


def share_of_patterns(differences):
    """The two-sided p in exact arithmetic: every pattern of signs is tried."""
    sums = [abs(sum(s * d for s, d in zip(signs, differences)))
            for signs in itertools.product((1, -1), repeat=len(differences))]
    return sum(found >= sums[0] for found in sums) / len(sums)


def assert_close(interval, expected):
    """Ends of percentile intervals: of 10,000 draws an end has a standard error of 0.7 % of the interval's width."""
    assert interval == pytest.approx(expected, abs=0.03 * (expected[1] - expected[0]))


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


def test_interquartile_mean_is_that_of_all_tasks_together():
    a, _ = ARMS
    assert statistics.interquartile_mean(a) == pytest.approx(RLIABLE['interquartile'][0], abs=1e-12)
    unequal = {'recall': SCORES, 'parity': [0.5, 0.9, 0.51], 'copy': [0.1] * 5}
    everything = [score for scores in unequal.values() for score in scores]
    assert statistics.interquartile_mean(unequal) == pytest.approx(scipy.stats.trim_mean(everything, 0.25))


def test_stratified_intervals_are_those_of_rliable():
    a, b = ARMS
    assert_close(statistics.stratified_interval(a), RLIABLE['interquartile'][1:])
    found = paired_difference(a, b)
    assert found.mean == pytest.approx(RLIABLE['difference'][0], abs=1e-12)
    assert_close((found.low, found.high), RLIABLE['difference'][1:])
    pooled = paired_difference(a.ravel(), b.ravel())  # and one task of 30 runs would be drawn otherwise
    assert (pooled.mean, pooled.n, pooled.tasks, found.tasks) == (pytest.approx(found.mean), 30, 1, 3)
    low, high = statistics.bootstrap_interval(a.ravel(), statistic=lambda x, axis: scipy.stats.trim_mean(
        x, 0.25, axis=axis))
    assert high - low > 2 * np.diff(RLIABLE['interquartile'][1:])


def test_how_far_tasks_lie_apart_does_not_widen_the_interval():
    a, b = ARMS
    apart = np.array([[0.0], [5.0], [-20.0]])
    near, far = paired_difference(a, b), paired_difference(a + apart, b)
    assert np.subtract(far[:3], near[:3]) == pytest.approx(np.full(3, apart.mean()))


def test_tasks_are_a_mapping_or_a_sequence_and_names_pair_them():
    a, b = (dict(zip('xyz', arm.tolist())) for arm in ARMS)
    turned = {task: b[task] for task in 'zyx'}
    assert paired_difference(a, turned) == paired_difference(a, b) == paired_difference(*ARMS)
    assert paired_difference(a, turned) == paired_difference(list(a.values()), list(b.values()))
    assert statistics.stratified_interval(a) == statistics.stratified_interval(ARMS[0])
    assert paired_difference([SCORES], [SCORES[::-1]]) == paired_difference(SCORES, SCORES[::-1])


def test_every_pair_counts_once_where_tasks_have_different_numbers_of_runs():
    a, b = {'x': [1, 2, 4], 'y': [10, 20, 30, 40, 51]}, {'x': [0, 0, 0], 'y': [10, 20, 30, 40, 50]}
    found = paired_difference(a, b)
    assert (found.mean, found.n, found.tasks, found.fewest) == (1.0, 8, 2, 3)
    assert found.p == share_of_patterns([1, 2, 4, 0, 0, 0, 0, 1])


@pytest.mark.parametrize('n', [5, 8, 10, 14])
def test_p_is_that_of_scipys_permutation_of_signs(n):
    rng = np.random.default_rng(n)
    shared, effect = rng.normal(size=n), rng.normal(size=n) + 0.5
    a, b = shared + effect, shared
    expected = scipy.stats.permutation_test((a, b), lambda x, y, axis: np.mean(x - y, axis=axis), vectorized=True,
                                            permutation_type='samples', n_resamples=np.inf)
    found = paired_difference(a, b)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-12)
    assert 2 ** (1 - n) < found.p < 1
    assert (found.mean, found.n, found.patterns) == (pytest.approx(expected.statistic), n, 2 ** n)
    assert paired_difference(b, a).p == found.p


@pytest.mark.parametrize('n', [1, 5, 6, 14])
def test_the_smallest_p_is_that_of_pairs_which_all_agree(n):
    found = paired_difference(np.arange(n) + 0.9, np.arange(n))
    assert found.p == statistics.smallest_p(n) == 2 ** (1 - n)


def test_more_than_fourteen_pairs_draw_their_patterns_and_count_the_observed_one():
    rng = np.random.default_rng(16)
    a, b = rng.normal(size=16) + 0.4, rng.normal(size=16)
    expected = scipy.stats.permutation_test((a, b), lambda x, y, axis: np.mean(x - y, axis=axis), vectorized=True,
                                            permutation_type='samples', n_resamples=np.inf).pvalue
    found = paired_difference(a, b)
    assert 0.01 < expected < 0.5
    assert found.p == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 100_000))
    assert found.patterns == 100_000
    assert paired_difference(np.full(40, 2.0), np.full(40, 1.0)).p == 1 / 100_001


def test_sums_that_differ_by_rounding_alone_are_equal():
    rng = np.random.default_rng(3)
    for n in (4, 7, 9):
        for _ in range(20):
            hundredths, base = rng.integers(-3, 4, size=n), rng.integers(1000, size=n)
            expected = share_of_patterns([Fraction(int(number), 100) for number in hundredths])
            assert paired_difference((base + hundredths) / 100, base / 100).p == expected


def test_no_difference_at_all_has_a_p_of_one():
    found = paired_difference(SCORES, SCORES)
    assert found[:5] == (0, 0, 0, 1, 7)
    assert paired_difference(np.ones(20), np.ones(20)).p == 1


def test_a_pair_stays_together_when_it_is_drawn():
    rng = np.random.default_rng(12)
    seeds = rng.normal(size=12)  # what both arms share is ten times what tells them apart
    a, b = seeds + 0.1 * rng.normal(size=12), seeds + 0.1 * rng.normal(size=12)
    expected = scipy.stats.bootstrap((a, b), lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
                                     paired=True, n_resamples=50_000, method='percentile', rng=rng)
    found = paired_difference(a, b)
    assert_close((found.low, found.high), expected.confidence_interval)
    assert_close(paired_difference(a, b, level=0.5)[1:3], scipy.stats.bootstrap(
        (a - b,), np.mean, n_resamples=50_000, method='percentile', confidence_level=0.5, rng=rng).confidence_interval)


def test_a_difference_says_how_it_was_drawn():
    found = paired_difference(SCORES, SCORES[::-1], resamples=500, level=0.9, seed=4)
    assert (found.resamples, found.level, found.seed) == (500, 0.9, 4)
    assert found == paired_difference(SCORES, SCORES[::-1], resamples=500, level=0.9, seed=4)
    assert found[1:3] != paired_difference(SCORES, SCORES[::-1], resamples=500, level=0.9, seed=5)[1:3]


def test_arms_that_are_not_paired_are_refused():
    for a, b in (([1, 2], [1]), ({'x': [1]}, {'y': [1]}), ({'x': [1]}, [1]), ([[1, 2], [1]], [[1], [1, 2]])):
        with pytest.raises(ValueError, match='Both arms have'):
            paired_difference(a, b)
    for a in ([], {}, [[]], [float('nan')], {'x': [1], 'y': []}):
        with pytest.raises(ValueError, match='finite values'):
            paired_difference(a, a)
    with pytest.raises(ValueError, match='level'):
        paired_difference([1], [1], level=95)


def test_runs_needed_are_those_of_the_protocol():
    assert [statistics.runs_needed(m) for m in (1, 5, 10, 25)] == [6, 8, 9, 10]
    for m in range(1, 200):
        n = statistics.runs_needed(m)
        assert m * statistics.smallest_p(n) <= 0.05 < m * statistics.smallest_p(n - 1)
    with pytest.raises(ValueError, match='comparison'):
        statistics.runs_needed(0)


def test_holm_is_that_of_statsmodels():
    rng = np.random.default_rng(7)
    counts = set()
    for missing in [0, 3] * 13:
        p = np.round(rng.random(rng.integers(1, 9)) ** 4, 2)  # some are equal, many are small
        rejected, adjusted, *_ = multipletests([*p, *[1.0] * missing], 0.05, method='holm')
        found = statistics.holm(p, len(p) + missing if missing else None)
        assert found.adjusted == pytest.approx(adjusted[:len(p)], abs=1e-12)
        assert found.rejected == rejected[:len(p)].tolist()
        counts.add(sum(found.rejected))
    assert {0, 1, 2, 3} <= counts


def test_p_values_that_are_none_and_too_many_of_them_are_refused():
    for p in ([-0.1], [1.1], [0.5, float('nan')]):
        with pytest.raises(ValueError, match='between 0 and 1'):
            statistics.holm(p)
    with pytest.raises(ValueError, match='2 p values, but only 1 comparisons'):
        statistics.holm([0.1, 0.2], 1)


@pytest.mark.parametrize(('given', 'comparisons', 'phase', 'text'), [
    ({}, 1, False, 'better (n = 10, 0.01 to 0.03, adjusted p = 0.002)'),
    ({'mean': -0.02, 'low': -0.03, 'high': -0.01}, 1, False, 'worse (n = 10, -0.03 to -0.01, adjusted p = 0.002)'),
    ({'low': -0.012, 'high': 0.034}, 1, False, 'no difference shown (n = 10, -0.012 to 0.034)'),
    ({'low': 0.0}, 1, False, 'no difference shown (n = 10, 0 to 0.03)'),
    ({'p': 0.051}, 1, False, 'no difference shown (n = 10, 0.01 to 0.03)'),
    ({'p': 0.01}, 5, False, 'better (n = 10, 0.01 to 0.03, adjusted p = 0.05)'),
    ({'p': 0.01}, 6, False, 'no difference shown (n = 10, 0.01 to 0.03)'),
    ({'n': 5, 'p': 0.0625}, 1, False, 'too few runs (n = 5, at least 6 are needed to claim)'),
    ({'n': 9}, 25, False, 'too few runs (n = 9, at least 10 are needed to claim)'),
    ({'n': 8, 'p': 2 ** -7}, 5, False, 'better (n = 8, 0.01 to 0.03, adjusted p = 0.039)'),
    ({'n': 6, 'p': 2 ** -5}, 1, True, 'exploratory, n = 6 < 10'),
    ({'n': 5, 'p': 0.0625}, 1, True, 'exploratory, n = 5 < 10'),
    ({'n': 18, 'tasks': 2}, 1, True, 'exploratory, n = 9 < 10'),
    ({'n': 10}, 1, True, 'better (n = 10, 0.01 to 0.03, adjusted p = 0.002)'),
    ({'n': 10}, 26, True, 'too few runs (n = 10, at least 11 are needed to claim)'),
])
def test_a_verdict_needs_runs_an_interval_without_zero_and_a_p_that_survives(given, comparisons, phase, text):
    verdict = statistics.verdicts({'arm': reports(**given)}, comparisons, phase)['arm']
    assert verdict.text == text
    assert text.startswith(verdict.word)


def test_verdicts_of_several_arms_are_corrected_together():
    p = {'first': 0.02, 'second': 0.004, 'third': 0.012, 'fourth': 0.03}
    found = statistics.verdicts({name: reports(p=value) for name, value in p.items()}, 6)
    _, adjusted, *_ = multipletests([*p.values(), 1.0, 1.0], 0.05, method='holm')
    assert [verdict.adjusted for verdict in found.values()] == pytest.approx(adjusted[:4])
    assert {name: verdict.word for name, verdict in found.items()} == {
        'first': 'no difference shown', 'second': 'better', 'third': 'no difference shown',
        'fourth': 'no difference shown'}
    assert statistics.verdicts({name: reports(p=value) for name, value in p.items()}, 4)['third'].word == 'better'
    assert statistics.verdicts({}, 4) == {}
    with pytest.raises(ValueError, match='4 p values, but only 3'):
        statistics.verdicts({name: reports() for name in p}, 3)


def test_a_claim_from_too_few_runs_is_refused():
    statistics.claim(paired_difference(range(1, 7), [0] * 6), 1)
    statistics.claim(reports(n=12, tasks=2), 25)
    statistics.claim(reports(n=10), 1, phase=True)
    for difference, comparisons, phase, message in (
            (paired_difference(range(1, 6), [0] * 5), 1, False, 'a claim from 5 runs on one task is refused: their '
             'smallest p is 0.0625, and at least 6 are needed for 1 comparison'),
            (reports(n=8, tasks=2), 10, False, 'a claim from 8 runs on 2 tasks is refused: their smallest p is '
             '0.007812, and at least 9 are needed for 10 comparisons'),
            (reports(n=6), 1, True, 'a claim from 6 runs on one task is refused: a task that runs break through or do '
             'not has 6 seeds, and at least 10 are needed')):
        with pytest.raises(UserError) as caught:
            statistics.claim(difference, comparisons, phase)
        assert str(caught.value) == message


def test_probability_of_improvement_is_that_of_rliable_and_of_mann_and_whitney():
    a, b = ARMS
    assert statistics.probability_of_improvement(a, b).probability == pytest.approx(RLIABLE['improvement'], abs=1e-12)
    for x, y in zip(a, b):
        expected = scipy.stats.mannwhitneyu(x, y).statistic / 100
        assert statistics.probability_of_improvement(x, y).probability == pytest.approx(expected)
    assert statistics.probability_of_improvement(a, a).probability == 0.5
    assert statistics.probability_of_improvement([2, 3], [0, 1])[:3] == (1, 1, 1)
    unequal = statistics.probability_of_improvement({'x': [1], 'y': [1, 2, 3]}, {'x': [0], 'y': [4, 5, 6]})
    assert unequal.probability == 0.5  # a task counts as much as another


def test_the_interval_of_the_probability_of_improvement_draws_pairs():
    rng = np.random.default_rng(6)
    seeds = rng.normal(size=12)
    a, b = seeds + 0.3 * rng.normal(size=12) + 0.2, seeds + 0.3 * rng.normal(size=12)

    def improvement(x, y, axis):
        return np.mean(x[..., :, None] > y[..., None, :], axis=(-2, -1))
    expected = scipy.stats.bootstrap((a, b), improvement, paired=True, n_resamples=20_000, method='percentile', rng=rng,
                                     batch=2000).confidence_interval
    found = statistics.probability_of_improvement(a, b)
    assert_close((found.low, found.high), expected)
    assert found.low < found.probability < found.high
    assert (found.resamples, found.level, found.seed) == (10_000, 0.95, statistics.SEED)


def test_performance_profile_is_that_of_rliable():
    assert statistics.performance_profile(ARMS[0], THRESHOLDS) == pytest.approx(RLIABLE['profile'], abs=1e-12)
    found = statistics.performance_profile({'x': [1], 'y': [1, 2, 3]}, [0, 1, 2.5, 3])
    assert found.tolist() == [1, 0.5, 0.25, 0]


# Runs of simulated arms: each arm has its own noise of standard deviation 1 on each seed, and all arms of a seed share
# another. Limits: of 2,000 simulated studies without a difference at most 6.2 % show one (5 % is the promise, and 1.2 %
# are two and a half standard errors of 2,000), and of 100 with a difference of three standard deviations of an arm's
# seeds at least 95.


def compared(rng, shared, effect):
    """The word for an arm that is better by `effect`, of ten seeds."""
    a, b = shared * rng.normal(size=10) + rng.normal(size=[2, 10])
    return statistics.verdicts({'arm': paired_difference(a + effect, b)}, 1)['arm'].word


def test_equal_arms_are_seldom_told_apart():
    rng = np.random.default_rng(2014)
    words = [compared(rng, 1, 0) for _ in range(2000)]
    assert set(words) == {'better', 'worse', 'no difference shown'}
    assert 2000 - words.count('no difference shown') <= 0.062 * 2000


@pytest.mark.parametrize('shared', [0, 1])
def test_arms_that_are_three_standard_deviations_apart_are_told_apart(shared):
    rng = np.random.default_rng(2014)
    assert [compared(rng, shared, 3 * np.hypot(1, shared)) for _ in range(100)].count('better') >= 95
    assert [compared(rng, shared, -3 * np.hypot(1, shared)) for _ in range(100)].count('worse') >= 95


def test_ten_equal_arms_against_one_base_are_seldom_told_apart():
    rng = np.random.default_rng(2015)
    signs = 1 - 2 * (np.arange(1024)[:, None] >> np.arange(10) & 1)
    shown = 0
    for _ in range(2000):
        base, *arms = rng.normal(size=10) + rng.normal(size=[11, 10])
        sums = np.abs((np.array(arms) - base) @ signs.T)
        p = (sums >= sums[:, :1] - 1e-9).mean(axis=1)
        # An arm whose own p is above 0.05 is never claimed, and leaves the others' correction as it is.
        found = statistics.verdicts({n: paired_difference(arms[n], base) for n in np.flatnonzero(p <= 0.05)}, 10)
        assert all(verdict.difference.p == p[n] for n, verdict in found.items())
        shown += any(verdict.word != 'no difference shown' for verdict in found.values())
    assert 0 < shown <= 0.062 * 2000
