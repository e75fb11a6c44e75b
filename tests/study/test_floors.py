"""Floors of guessing: enumerated guesses, and the interval of Clopper and Pearson by the beta distribution."""

import itertools
from fractions import Fraction

import pytest
from statsmodels.stats.proportion import proportion_confint

from research.study.floors import at_floor, copying_floor, order_floor, parity_floor, recall_floor


@pytest.mark.parametrize('S', [1, 2, 3, 5])
def test_order_floor_is_what_a_guess_among_the_symbols_left_scores(S):
    right = places = 0
    for symbols in itertools.permutations(range(S)):
        for place in range(S):
            right += min(symbols[place:]) == symbols[place]  # a fixed guess: orders are all as probable
            places += 1
    assert order_floor(S) == pytest.approx(float(Fraction(right, places)), rel=1e-12)


def test_the_other_floors_are_one_in_as_many_as_there_are():
    assert recall_floor(8) == 1 / 8
    assert copying_floor(26) == 1 / 26
    assert parity_floor() == 0.5
    for floor in (recall_floor, copying_floor, order_floor, lambda count: at_floor(0, count, 0.5)):
        with pytest.raises(ValueError, match='at least 1: 0'):
            floor(0)


@pytest.mark.parametrize('floor', [0.5, 1 / 8, 1 / 26])
def test_at_floor_is_where_the_exact_interval_contains_it(floor):
    told = set()
    for count in (1, 20, 500):
        for right in range(0, count + 1, max(1, count // 20)):
            low, high = proportion_confint(right, count, 0.05, method='beta')
            assert at_floor(right, count, floor) == (low <= floor <= high)
            told.add(at_floor(right, count, floor))
    assert told == {True, False}


def test_a_score_far_below_the_floor_is_not_at_it():
    assert at_floor(50, 100, 0.5)
    assert not at_floor(10, 100, 0.5)
    assert not at_floor(90, 100, 0.5)
