"""The slope of a gradient's logarithm, against SciPy and norms whose slope is known."""

import math

import numpy as np
import pytest
import scipy.stats

from research.analysis.gradients import decay


def test_the_slope_of_an_exponential_is_its_rate_however_large_each_sentence_s_gradients_are():
    norms = [math.exp(size) * np.exp(-0.3 * np.arange(length)) for size, length in ((0, 5), (-9, 9), (4, 20))]
    found = decay(norms)
    assert found['slope'] == pytest.approx(-0.3, abs=1e-12)
    assert found['slope_error'] == pytest.approx(0, abs=1e-12)
    assert (found['sentences'], found['distances']) == (3, list(range(20)))
    assert found['count'] == [3] * 5 + [2] * 4 + [1] * 11
    assert found['log_norms'][2] == pytest.approx((0 - 9 + 4) / 3 - 0.6)
    assert found['log_norms'][10] == pytest.approx(4 - 3.0)


def test_slope_and_error_are_the_mean_of_the_lines_that_scipy_fits():
    random = np.random.default_rng(3)
    norms = [np.exp(random.normal(-0.1 * np.arange(12), 0.5)) for _ in range(7)]
    slopes = [scipy.stats.linregress(np.arange(1, 12), np.log(row[1:])).slope for row in norms]
    found = decay(norms)
    assert found['slope'] == pytest.approx(np.mean(slopes))
    assert found['slope_error'] == pytest.approx(scipy.stats.sem(slopes))


def test_distance_0_is_not_part_of_the_slope():
    norms = np.exp(-0.5 * np.arange(6))
    norms[0] = 1e9
    assert decay([norms, norms])['slope'] == pytest.approx(-0.5)


def test_a_norm_of_0_is_none_as_a_logarithm_is_counted_and_has_no_part_in_the_slope():
    reach = np.exp(-0.2 * np.arange(8))
    reach[5:] = 0
    underflown = np.exp(-0.2 * np.arange(8))
    underflown[6] = 0
    found = decay([reach, underflown])
    assert found['zero'] == [0, 0, 0, 0, 0, 0.5, 1, 0.5]
    assert found['log_norms'][6] is None
    assert found['log_norms'][5] == pytest.approx(-1.0)
    assert found['slope'] == pytest.approx(-0.2)


def test_nothing_to_put_a_line_through_is_none_and_one_sentence_has_no_error():
    assert decay([])['slope'] is None
    assert decay([np.array([1.0, 0.5])])['slope'] is None
    assert decay([np.zeros(9)])['slope'] is None
    one = decay([np.exp(-0.1 * np.arange(4))])
    assert (one['slope'], one['slope_error']) == (pytest.approx(-0.1), None)


def test_what_is_no_norm_is_refused():
    for wrong in (np.array([1.0, -1.0]), np.array([np.nan])):
        with pytest.raises(ValueError, match='negative or not finite'):
            decay([wrong])
