"""Steps to a threshold: hand calculations, and SciPy's estimate of survival."""

import numpy as np
import pytest
import scipy.stats

from research.study.steps import reached, steps_to_threshold

STEPS = [100, 200, 300, 400, 500]


@pytest.mark.parametrize(('scores', 'expected'), [
    ([0.1, 0.95, 0.99, 0.2, 0.1], 200),   # the first of two in a row, whatever comes after
    ([0.95, 0.1, 0.95, 0.95, 0.95], 300),  # once is an accident
    ([0.9, 0.9, 0, 0, 0], 100),           # at the threshold is enough
    ([0.1, 0.2, 0.3, 0.4, 0.95], None),   # nothing comes after the last one
    ([0.95, 0, 0.95, 0, 0.95], None),
    ([float('nan')] * 5, None),
    ([0.95, float('nan'), 0.95, 0.95, 0], 300),
])
def test_the_step_is_the_first_of_two_evaluations_in_a_row(scores, expected):
    assert steps_to_threshold(STEPS, scores, 0.9, 500) == expected


def test_evaluations_after_the_budget_are_not_looked_at():
    scores = [0, 0, 0.95, 0.95, 0.95]
    assert [steps_to_threshold(STEPS, scores, 0.9, budget) for budget in (399, 400, 1000)] == [None, 300, 300]
    assert steps_to_threshold([], [], 0.9, 500) is None
    assert steps_to_threshold([100], [1.0], 0.9, 500) is None


def test_steps_that_do_not_rise_and_other_numbers_of_scores_are_refused():
    for steps, scores in (([1, 2], [0.5]), ([2, 1], [0, 0]), ([1, 1], [0, 0]), ([[1, 2]], [[0, 0]])):
        with pytest.raises(ValueError, match='steps that rise'):
            steps_to_threshold(steps, scores, 0.5, 10)


def test_runs_that_do_not_reach_it_count_as_the_budget():
    found = reached([300, None, 100, None, 200], 1000)
    assert (found.count, found.runs, found.median, found.mean) == (3, 5, 300, 520)
    assert found.values == [300, 1000, 100, 1000, 200]
    assert found.text == '3/5 reached it, median 300 steps, mean of min(step, 1000) 520'


def test_the_median_is_not_known_where_under_half_reached_it():
    assert reached([100, None, None], 8000).median is None
    assert reached([100, None, None], 8000).text == (
        '1/3 reached it, median > 8000 steps, mean of min(step, 8000) 5366.67')
    assert reached([100, 300, None, None], 8000).median == 300
    assert reached([None], 8000)[:4] == (0, 1, None, 8000)


@pytest.mark.parametrize('runs', [1, 2, 7, 10])
def test_the_median_is_that_of_kaplan_and_meier_in_scipy(runs):
    rng = np.random.default_rng(runs)
    known = set()
    for _ in range(40):
        times = rng.integers(1, 8, size=runs) * 100
        steps = [int(time) if time <= 400 else None for time in times]
        censored = scipy.stats.CensoredData.right_censored(np.minimum(times, 400), times > 400)
        survival = scipy.stats.ecdf(censored).sf
        below = survival.quantiles[survival.probabilities <= 0.5 + 1e-9]
        found = reached(steps, 400)
        assert found.median == (below[0] if len(below) else None)
        assert found.mean == np.minimum(times, 400).mean()
        known.add(found.median is None)
    assert known == {True, False}


def test_no_run_and_steps_after_the_budget_are_refused():
    for steps in ([], [100, 1001]):
        with pytest.raises(ValueError, match='within the budget of 1000'):
            reached(steps, 1000)
