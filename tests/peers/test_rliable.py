"""The statistics of arms beside rliable, and the values of rliable that other tests compare with beside rliable too."""

import numpy as np
import pytest

from research.study import statistics
from tests.study.test_statistics import ARMS, RLIABLE, THRESHOLDS

pytestmark = pytest.mark.peer


def test_statistics_of_several_tasks_are_those_of_rliable(ask):
    a, b = ARMS
    theirs = ask('rliable', 'all', {}, {'a': a, 'b': b, 'thresholds': np.array(THRESHOLDS)})
    for name, expected in RLIABLE.items():
        assert theirs[name] == pytest.approx(np.array(expected), abs=1e-12)
    found = statistics.paired_difference(a, b)
    for name, ours in (('interquartile', (statistics.interquartile_mean(a), *statistics.stratified_interval(a))),
                       ('difference', (found.mean, found.low, found.high))):
        assert ours[0] == pytest.approx(theirs[name][0], abs=1e-12)
        # Of 10,000 draws an end has a standard error of 0.7 % of the interval's width, of their 50,000 of 0.3 %.
        assert ours[1:] == pytest.approx(theirs[name][1:], abs=0.03 * (theirs[name][2] - theirs[name][1]))
    assert statistics.probability_of_improvement(a, b).probability == pytest.approx(theirs['improvement'], abs=1e-12)
    assert statistics.performance_profile(a, THRESHOLDS) == pytest.approx(theirs['profile'], abs=1e-12)
