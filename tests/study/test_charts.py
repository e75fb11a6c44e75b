"""Charts: everything stands where its number is, and every tick is round and inside."""

import itertools
import math
import re

import pytest

from research.study import charts
from research.study.charts import Axis, Mark, Series


@pytest.mark.parametrize(('low', 'high'), [(0, 4.71), (0, 0.03), (0, 2000), (0, 1), (-1.2, 3.4), (0, 100_000), (5, 5),
                                           (-0.4, 0.4)])
def test_ticks_are_few_round_and_inside(low, high):
    ticks = charts.ticks(low, high)
    assert 1 <= len(ticks) <= 6
    assert all(low <= tick <= high + 1e-9 for tick in ticks)
    if high > low:
        assert len(ticks) >= 3
        assert f'{ticks[1] - ticks[0]:.6e}'[:8] in ('1.000000', '2.000000', '5.000000')


@pytest.mark.parametrize(('low', 'high', 'expected'), [
    (1e-4, 1e-2, [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]), (1, 12, [1, 2, 5, 10]), (1e3, 1e9, [1e4, 1e6, 1e8]),
    (3.1, 4.2, [3.1, 4.2]), (1e-5, 1e-1, [1e-5, 1e-4, 1e-3, 1e-2, 1e-1])])
def test_logarithmic_ticks_are_few_round_and_inside(low, high, expected):
    assert charts.log_ticks(low, high) == pytest.approx(expected)
    assert all(low <= tick <= high for tick in charts.log_ticks(low, high))


def test_a_logarithmic_side_has_equal_steps_for_equal_ratios():
    axis = charts.logarithmic([1e-4, 1e-2])
    assert axis.at(1e-3) == pytest.approx((axis.at(1e-4) + axis.at(1e-2)) / 2)
    assert 0 < axis.at(1e-4) < axis.at(1e-2) < 100
    assert charts.logarithmic([0.003]).at(0.003) == pytest.approx(50)


def test_zero_has_a_place_among_logarithms():
    axis = charts.from_zero([0, 128, 979])
    assert 0 < axis.at(0) < axis.at(128) < axis.at(979) < 100
    assert (axis.at(979) - axis.at(128)) / (axis.at(979) - axis.at(0)) == pytest.approx(
        (math.log(980) - math.log(129)) / math.log(980))
    assert axis.ticks[0] == (0, '0')
    one = charts.from_zero([400_101, 400_101])
    assert one.at(400_101) == pytest.approx(50)
    assert len(one.ticks) >= 1


def test_a_linear_side_says_values_in_its_unit():
    axis = charts.linear([-0.12, 0.05], scale=100)
    assert [text for _, text in axis.ticks] == ['−10', '−5', '0', '5']
    assert axis.ticks[0][0] == pytest.approx(-0.1)
    assert charts.linear([2.0, 4.0]).low == 0
    assert charts.linear([2.0, 4.0], zero=False).low > 1


def test_a_mean_and_its_band_go_as_far_as_every_curve_does():
    line, band = charts.middle_and_band([{0: 1.0, 10: 2.0, 20: 9.0}, {0: 3.0, 5: 7.0, 10: 2.5}])
    assert line == [(0, 2.0), (10, 2.25)]
    assert band == [(0, 1.0, 3.0), (10, 2.0, 2.5)]
    assert charts.middle_and_band([]) == ([], [])
    line, _ = charts.middle_and_band([{step: float(step) for step in range(5000)}])
    assert len(line) == charts.MOST_POINTS
    assert (line[0], line[-1]) == ((0, 0.0), (4999, 4999.0))


def test_shapes_and_markers_stand_where_their_numbers_are():
    side = Axis(0, 4, [(0, 'no'), (4, '<four>')])
    text = charts.chart(side, Axis(0, 10, [(5, 'five')]), [
        Series(2, [(0, 10), (4, 5)], [(0, 8, 10), (4, 0, 5)], [Mark(1, 2.5, 'at <1>', 'large')], 'an & arm')],
        'a "chart"')
    assert '<path class="series mean arm2" d="M0.00 0.00L100.00 50.00"/>' in text
    assert '<path class="series band arm2" d="M0.00 0.00L100.00 50.00L100.00 100.00L0.00 20.00z"/>' in text
    assert re.search(r'<svg class="series arm2" x="25.00%" y="75.00%"[^>]*><path class="mark large"[^>]*><title>at '
                     r'&lt;1&gt;</title>', text)
    for piece in ('&lt;four&gt;', 'an &amp; arm', 'aria-label="a &quot;chart&quot;"'):
        assert piece in text, piece


def test_names_at_the_end_of_lines_do_not_cover_each_other():
    moved = charts._apart([10, 11, 12, 50, 99, 100], 6)
    assert all(b - a >= 6 for a, b in itertools.pairwise(moved))
    assert moved[-1] <= 100
    assert moved[3] == 50


def test_each_arm_has_a_style_of_its_own_up_to_twenty():
    looks = re.findall(r'\.arm\d+\{(--c:[^}]*)\}', charts.arm_style(20))
    assert len(looks) == len(set(looks)) == 20
