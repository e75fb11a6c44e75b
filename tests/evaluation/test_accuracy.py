"""Whole outputs and symbol errors, against a textbook edit distance."""

import numpy as np
import pytest

from research.errors import UserError
from research.evaluation import accuracy


def textbook_distance(left, right):
    """Wagner and Fischer's table, one cell at a time."""
    table = np.zeros([len(left) + 1, len(right) + 1], int)
    table[:, 0], table[0] = np.arange(len(left) + 1), np.arange(len(right) + 1)
    for i in range(1, len(left) + 1):
        for j in range(1, len(right) + 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1,
                              table[i - 1, j - 1] + (left[i - 1] != right[j - 1]))
    return table[-1, -1]


def test_perplexity_is_how_many_equally_likely_symbols_there_would_be():
    assert accuracy.perplexity(np.log(7.0)) == pytest.approx(7.0)
    assert accuracy.perplexity(0.0) == 1.0
    assert accuracy.perplexity(1000.0) == np.inf
    assert np.isnan(accuracy.perplexity(np.nan))


def test_an_output_is_right_when_it_is_any_of_its_answers():
    right = accuracy.exact_match(['K AE T', 'D AO G', ''], [('K AE T',), ('D AA G', 'D AO G'), ('A',)])
    assert right.dtype == bool
    assert right.tolist() == [True, True, False]


def test_an_output_that_differs_in_case_or_space_is_not_right():
    assert not accuracy.exact_match(['k ae t', 'K AE T '], [('K AE T',)] * 2).any()


def test_token_error_rate_divides_the_edits_of_the_corpus_by_the_symbols_of_its_answers():
    # 'K AE' misses 1 of 3, 'D AO AO G' has 1 too many for 3, the last is wrong in 2 of 2: 4 edits for 8 symbols.
    outputs = ['K AE', 'D AO AO G', 'X Y']
    answers = [('K AE T',), ('D AO G',), ('A B',)]
    assert accuracy.token_error_rate(outputs, answers) == pytest.approx(4 / 8)


def test_symbols_are_characters_on_request():
    assert accuracy.token_error_rate(['kitten'], [('sitting',)], unit='characters') == pytest.approx(3 / 7)


def test_the_nearest_answer_counts_and_of_two_nearest_ones_the_first():
    edits, symbols = accuracy.edits(['A B C'] * 2, [('X Y Z W', 'A B D'), ('A B', 'A B C D')])
    assert edits.tolist() == [1, 1]
    assert symbols.tolist() == [3, 2]


def test_edits_agree_with_the_textbook_on_random_lines():
    rng = np.random.default_rng(7)
    lines = [' '.join(rng.choice(['a', 'bb', 'c'], size=rng.integers(0, 9))) for _ in range(80)]
    outputs, answers = lines[:40], [(line,) for line in lines[40:]]
    expected = [textbook_distance(left.split(), right.split()) for left, (right,) in zip(outputs, answers)]
    assert accuracy.edits(outputs, answers)[0].tolist() == expected


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UserError, match='Unknown unit'):
        accuracy.token_error_rate(['a'], [('a',)], unit='letters')
    with pytest.raises(UserError, match=r'Output 1 .* no right answer'):
        accuracy.exact_match(['a', 'b'], [('a',), ()])
    with pytest.raises(UserError, match='No symbol in any'):
        accuracy.token_error_rate(['a'], [('',)])
    with pytest.raises(ValueError, match='2 outputs, but 1'):
        accuracy.exact_match(['a', 'b'], [('a',)])
    with pytest.raises(ValueError, match='answer 0 is the string'):
        accuracy.exact_match(['a'], ['a'])
