"""What expectations are read off the records with: shares by length, means over runs, and whether arms differ."""

import numpy as np
import pytest

from research.study import expected
from research.study.definition import NotDecidableError, NotMeasuredError


def bucket(low, high, count, right, tokens=0, tokens_right=0):
    return {'low': low, 'high': high, 'count': count, 'right': right, 'tokens': tokens, 'tokens_right': tokens_right}


RUN = {'by_length': [bucket(1, 5, 10, 9, 40, 38), bucket(6, 10, 30, 15, 200, 160), bucket(11, 15, 0, 0),
                     bucket(16, 40, 10, 1, 250, 100)], 'scores': {'bleu': 21.5, 'loss': 0.5}}


@pytest.mark.parametrize(('ends', 'share'), [
    ((1, 5), 9 / 10), ((1, 10), 24 / 40), ((1, 15), 24 / 40), ((6, 40), 16 / 40), ((1, 40), 25 / 50),
    ((16, 10_000), 1 / 10)])
def test_a_share_by_length_is_of_all_pairs_of_the_buckets_that_lie_within(ends, share):
    assert expected.by_length(*ends)(RUN) == pytest.approx(share)


def test_a_bucket_that_lies_only_partly_within_is_left_out():
    assert expected.by_length(1, 9)(RUN) == pytest.approx(9 / 10)
    assert expected.by_length(2, 10)(RUN) == pytest.approx(15 / 30)


def test_symbols_are_counted_where_they_are_asked_for():
    assert expected.by_length(1, 10, 'tokens_right', 'tokens')(RUN) == pytest.approx(198 / 240)


@pytest.mark.parametrize('ends', [(11, 15), (41, 50), (2, 4)])
def test_lengths_without_a_test_pair_were_not_measured(ends):
    with pytest.raises(NotMeasuredError, match='no test pair of these lengths'):
        expected.by_length(*ends)(RUN)


def test_an_average_is_over_runs_and_not_over_pairs():
    few = {'by_length': [bucket(1, 5, 2, 0)]}
    assert expected.average([RUN, few], expected.by_length(1, 5)) == pytest.approx(0.45)
    assert expected.average([RUN, RUN | {'scores': {'bleu': 22.5}}], expected.score('bleu')) == 22.0


def test_a_percentage_has_one_digit():
    assert [expected.percent(value) for value in (0.7123, 1.0, 0.0)] == ['71.2 %', '100.0 %', '0.0 %']


def arms(n, apart, first=10):
    """So many runs of two arms that differ by about as much in every seed, and in which seeds differ by far more."""
    rng = np.random.default_rng(5)
    of_seed, noise = 3 * rng.normal(size=n), 0.05 * rng.normal(size=n)
    return ([{'seed': first + seed, 'scores': {'x': apart + of_seed[seed] + noise[seed]}} for seed in range(n)],
            [{'seed': first + seed, 'scores': {'x': of_seed[seed]}} for seed in range(n)])


@pytest.mark.parametrize(('n', 'phase', 'decidable'), [
    (1, False, False), (5, False, False), (6, False, True), (6, True, False), (9, True, False), (10, True, True)])
def test_whether_arms_differ_needs_six_seeds_and_ten_of_a_task_that_runs_break_through(n, phase, decidable):
    better, worse = arms(n, 1.0)
    if decidable:
        word, text = expected.differ(better, worse[::-1], expected.score('x'), phase)
        assert word == 'better'
        assert expected.differ(worse, better, expected.score('x'), phase)[0] == 'worse'
    else:
        with pytest.raises(NotDecidableError) as caught:
            expected.differ(better, worse[::-1], expected.score('x'), phase)
        text = str(caught.value)
    mean = np.mean([one['scores']['x'] - other['scores']['x'] for one, other in zip(better, worse, strict=True)])
    assert text.startswith(f'difference {mean:+.3f} (')
    assert text.endswith(f', n = {n})')


def test_arms_that_do_not_differ_are_not_said_to():
    a, b = arms(8, 0.0)
    assert expected.differ(a, b, expected.score('x'))[0] == 'no difference shown'


def test_seeds_that_only_one_arm_has_do_not_count():
    a, b = arms(7, 1.0)
    with pytest.raises(NotDecidableError, match=r'n = 5\)'):
        expected.differ(a[:6], b[1:], expected.score('x'))
    with pytest.raises(NotDecidableError, match='no seed in common'):
        expected.differ(a[:3], b[3:], expected.score('x'))
