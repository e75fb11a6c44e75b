"""Links from weights, their error rate and the constant shift, against counts made by hand."""

import numpy as np
import pytest

from research.errors import UserError
from research.evaluation import alignment


def test_a_link_joins_each_target_position_with_the_source_position_it_reads_most():
    weights = np.array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0], [0.0, 0.1, 0.9], [0.0, 0.9, 0.1]])
    assert alignment.links(weights) == {(1, 0), (0, 1), (2, 2), (1, 3)}


def test_a_position_that_reads_nothing_has_no_link():
    assert alignment.links(np.array([[0.0, 0.0], [0.0, 1.0]])) == {(1, 1)}
    assert alignment.links(np.zeros([0, 3])) == set()


def test_weights_of_several_heads_or_with_nan_are_refused():
    for weights in (np.zeros([2, 3, 5]), np.array([[0.5, np.nan]])):
        with pytest.raises(ValueError, match='finite and'):
            alignment.links(weights)


def test_words_are_linked_where_any_of_their_pieces_are_and_the_end_of_the_source_is_no_word():
    source, target = [0, 0, 1, 2, 3], [0, 1, 1, 2, 3]  # the last is the end symbol's
    assert alignment.word_links({(0, 0), (1, 1), (2, 2), (4, 3)}, source, target) == {(0, 0), (0, 1), (1, 1), (3, 2)}
    assert alignment.word_links({(0, 1), (1, 2)}, source, target) == {(0, 1)}
    assert alignment.word_links(set(), source, target) == set()


def test_error_rate_counts_sure_and_possible_links_as_och_and_ney_do():
    A, S = {(0, 0), (1, 1), (2, 2)}, {(0, 0), (1, 2)}
    P = S | {(1, 1)}
    # 1 sure and 2 possible links found; 3 found, 2 sure: 1 - 3 / 5.
    assert alignment.error_rate([A], [S], [P]) == pytest.approx(0.4)
    # Without possible links: 1 - (1 + 1) / 5.
    assert alignment.error_rate([A], [S]) == pytest.approx(0.6)


def test_error_rate_sums_the_counts_of_all_sentences_before_it_divides():
    found = [{(0, 0)}, {(0, 0), (1, 1), (2, 2)}]
    gold = [{(0, 0)}, {(3, 0), (3, 1), (3, 2)}]
    assert alignment.error_rate(found, gold) == pytest.approx(1 - 2 / 8)  # and not the mean of 0 and 1


def test_error_rate_is_0_for_the_gold_and_1_for_its_complement():
    gold = [{(s, 4 - s) for s in range(5)}]
    assert alignment.error_rate(gold, gold) == 0
    assert alignment.error_rate([{(s, s + 1) for s in range(5)}], gold) == 1


def test_a_sure_link_that_is_not_possible_is_refused():
    with pytest.raises(UserError, match=r'Sentence 1: sure link \(2, 2\)'):
        alignment.error_rate([set(), set()], [{(1, 1)}, {(2, 2)}], [{(1, 1)}, {(1, 1)}])
    with pytest.raises(UserError, match='No link found'):
        alignment.error_rate([set()], [set()])
    with pytest.raises(ValueError, match='1 sentences found, 2 sure'):
        alignment.error_rate([set()], [set(), set()])


@pytest.mark.parametrize('shift', [-2, -1, 0, 1, 2])
def test_a_reader_of_the_neighbour_is_explained_by_its_shift(shift):
    gold = [{(s, s) for s in range(7)}, {(4 - s, s) for s in range(5)}]
    found = [{(min(max(s + shift, 0), 7), t) for s, t in pairs} for pairs in gold]  # columns 0 to 7: 7 is the end
    best, rate = alignment.best_shift(found, gold)
    assert best == shift
    # Only the links that were pressed back onto the source are wrong.
    pressed = sum(not 0 <= s + shift <= 7 for pairs in gold for s, _ in pairs)
    assert rate == pytest.approx(pressed / 12)


def test_of_equally_good_shifts_the_smallest_wins():
    assert alignment.best_shift([{(5, 0)}], [{(0, 0)}]) == (0, 1.0)
    with pytest.raises(ValueError, match='No shift'):
        alignment.best_shift([{(5, 0)}], [{(0, 0)}], shifts=())
