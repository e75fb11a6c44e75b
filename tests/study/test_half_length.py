"""Half-length: where straight lines between lengths cross half of what there is above guessing."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.optimize

from research.study.half_length import half_length


def test_it_lies_where_the_line_crosses_half():
    assert half_length([2, 5, 8], [1.0, 0.8, 0.2]) == pytest.approx(6.5)
    assert half_length([2, 5, 8], [1.0, 0.4, 0.9]) == pytest.approx(4.5)  # the first crossing counts


def test_half_is_between_guessing_and_the_shortest():
    assert half_length([2, 6], [0.9, 0.1], floor=0.5) == pytest.approx(3.0)  # 0.7 is a quarter of the way down


def test_exactly_half_is_not_below_it():
    assert half_length([1, 2, 3], [1.0, 0.5, 0.5]) == math.inf
    assert half_length([1, 2, 3], [1.0, 0.5, 0.25]) == 2


def test_a_score_that_stays_up_has_none_within_the_lengths():
    assert half_length([1, 9], [0.9, 0.6]) == math.inf
    assert half_length([4], [0.9]) == math.inf


def test_what_is_not_above_guessing_has_nothing_to_lose():
    assert half_length([1, 2], [0.5, 0.1], floor=0.5) is None
    assert half_length([1, 2], [0.0, 0.0]) is None


@hypothesis.given(st.integers(2, 8), st.integers(0, 10_000), st.floats(0, 0.3))
def test_it_is_the_first_root_that_scipy_finds(count, seed, floor):
    rng = np.random.default_rng(seed)
    lengths, scores = np.cumsum(rng.uniform(0.5, 5, count)), rng.uniform(0.31, 1, count)
    scores[1:] -= 0.3 * (rng.random(count - 1) < 0.5)
    half = floor + (scores[0] - floor) / 2
    below = np.flatnonzero(scores < half)
    found = half_length(lengths.tolist(), scores.tolist(), floor)
    if not len(below):
        assert found == math.inf
    else:
        left, right = lengths[below[0] - 1], lengths[below[0]]
        root = scipy.optimize.brentq(lambda x: np.interp(x, lengths, scores) - half, left, right)
        assert found == pytest.approx(root, rel=1e-9)


@pytest.mark.parametrize(('lengths', 'scores'), [([], []), ([1, 2], [0.5]), ([2, 2], [0.5, 0.4]), ([2, 1], [0.5, 0.4])])
def test_lengths_that_do_not_rise_or_match_are_refused(lengths, scores):
    with pytest.raises(ValueError, match='lengths that rise'):
        half_length(lengths, scores)
