"""Numbers of attention weights, against SciPy and weights whose numbers are known by hand."""

import math

import numpy as np
import pytest
import scipy.stats

from research.analysis import weights

RANDOM = np.random.default_rng(5)
N, T, S = 2, 5, 7
DRAWN = RANDOM.dirichlet(np.ones(S), (N, T))
EVEN = np.full((1, T, S), 1 / S)
DIAGONAL = np.eye(T)[None]


def test_entropy_is_that_of_scipy_averaged_over_target_positions():
    expected = scipy.stats.entropy(DRAWN, axis=-1).mean(axis=-1)
    np.testing.assert_allclose(weights.entropy(DRAWN), expected, rtol=1e-12)
    np.testing.assert_allclose(weights.entropy_share(DRAWN), expected / math.log(S), rtol=1e-12)


def test_one_position_has_entropy_0_and_all_alike_the_whole_share():
    assert weights.entropy(DIAGONAL) == weights.entropy_share(DIAGONAL) == 0
    assert weights.entropy(EVEN) == pytest.approx(math.log(S))
    assert weights.entropy_share(EVEN) == pytest.approx(1)


def test_the_share_counts_what_each_position_could_read_and_leaves_out_who_has_no_choice():
    looking_back = (np.tril(np.ones((T, T))) / np.arange(1, T + 1)[:, None])[None]
    assert weights.entropy_share(looking_back, 1 + np.arange(T)) == pytest.approx(1)
    assert weights.entropy_share(looking_back) < 0.9
    looking_back[0, 1] = [1, 0, 0, 0, 0]  # one of the four that have a choice
    assert weights.entropy_share(looking_back, 1 + np.arange(T)) == pytest.approx(3 / 4)
    assert np.isnan(weights.entropy_share(np.ones((1, 3, 1)))).all()


def test_sinks_are_the_mean_weight_of_their_position():
    np.testing.assert_allclose(weights.sink_mass(DRAWN, 0), DRAWN[:, :, 0].mean(axis=1))
    np.testing.assert_allclose(weights.sink_mass(DRAWN, -1), DRAWN[:, :, -1].mean(axis=1))
    sunk = np.zeros((1, T, S))
    sunk[..., 0], sunk[..., -1] = 0.7, 0.3
    assert (weights.sink_mass(sunk, 0), weights.sink_mass(sunk, -1)) == (pytest.approx(0.7), pytest.approx(0.3))


def test_mass_says_what_went_to_no_position_and_support_how_many_have_any():
    half = 0.5 * DIAGONAL
    half[0, 0] = 0
    assert weights.mass(half) == pytest.approx(0.5 * (T - 1) / T)
    assert weights.support(half) == 1
    assert weights.support(EVEN) == S
    np.testing.assert_allclose(weights.mass(DRAWN), 1)


def test_the_diagonal_goes_from_corner_to_corner_whatever_the_lengths():
    assert weights.diagonal_distance(DIAGONAL) == 0
    assert weights.diagonal_distance(DIAGONAL[:, ::-1]) == pytest.approx((4 + 2 + 0 + 2 + 4) / 5)  # reversed
    stretched = np.zeros((1, 3, 5))
    stretched[0, [0, 1, 2], [0, 2, 4]] = 1
    assert weights.diagonal_distance(stretched) == 0
    stretched[0, 1] = [0, 0.5, 0, 0, 0.5]  # centre of mass 2.5
    assert weights.diagonal_distance(stretched) == pytest.approx(0.5 / 3)
    assert weights.diagonal_distance(np.eye(4)[None, :1]) == 0


def test_the_read_distance_is_how_far_back_a_causal_mixer_looks():
    back = np.eye(T, k=-2)[None] + np.array([1, 1, 0, 0, 0])[:, None] * np.eye(T)
    assert weights.read_distance(back) == pytest.approx(2 * 3 / 5)
    assert weights.read_distance(np.eye(T, k=2)[None, :3]) == 2  # as far ahead
    expected = [[sum(DRAWN[n, t, s] * abs(t - s) for s in range(T)) / DRAWN[n, t, :T].sum() for t in range(T)]
                for n in range(N)]
    np.testing.assert_allclose(weights.read_distance(DRAWN[:, :, :T]), np.mean(expected, axis=1))


def test_coverage_is_1_where_everything_was_read_and_does_not_count_what_is_read_twice():
    assert weights.coverage(DIAGONAL) == 1
    assert weights.coverage(np.eye(T)[None, :, :1] * 0 + 1) == 1
    stuck = np.zeros((1, T, S))
    stuck[..., 2] = 1
    assert weights.coverage(stuck) == pytest.approx(1 / S)
    assert weights.coverage(EVEN) == pytest.approx(T / S)


def test_rows_that_read_nothing_are_left_out_and_a_head_without_any_row_is_nan():
    with_hole = DRAWN.copy()
    with_hole[0, 2] = 0
    others = np.delete(DRAWN, 2, axis=1)
    for number in (weights.entropy, weights.entropy_share, weights.support, lambda one: weights.sink_mass(one, 0)):
        assert number(with_hole)[0] == pytest.approx(number(others)[0])
        assert number(with_hole)[1] == pytest.approx(number(DRAWN)[1])
        assert np.isnan(number(np.zeros((1, T, S)))).all()
    assert weights.mass(with_hole)[0] == pytest.approx(0.8)


def test_weights_that_are_no_distribution_are_brought_to_shares():
    scale = RANDOM.uniform(0.1, 3, (N, T, 1))
    sign = RANDOM.choice([-1, 1], DRAWN.shape)
    for number in (weights.entropy, weights.entropy_share, weights.diagonal_distance, weights.coverage):
        np.testing.assert_allclose(number(DRAWN * scale * sign), number(DRAWN), rtol=1e-12)


def test_weights_of_a_batch_or_with_nan_are_refused():
    for wrong in (DRAWN[0], DRAWN[None], np.full((1, 2, 3), np.nan)):
        with pytest.raises(ValueError, match=r'finite and \[N, T, S\]'):
            weights.entropy(wrong)
