"""What a tested run is recorded with: which pairs it is tested on, which were right, its curve, its lengths."""

import numpy as np
import pytest

from research.evaluation.forced import Positions
from research.study import records, testing


@pytest.mark.parametrize('count', [1, 7, 8, 9, 200])
def test_bits_of_right_pairs_are_read_again_as_they_were(count):
    right = np.random.default_rng(count).random(count) < 0.4
    text = records.bits(right)
    assert len(text) == 2 * -(-count // 8)
    record = {'right': text, 'by_length': [{'count': count // 3}, {'count': count - count // 3}]}
    np.testing.assert_array_equal(records.right(record), right)


def test_the_first_pair_is_the_highest_bit():
    assert records.bits(np.array([True] + [False] * 8 + [True])) == '8040'


def test_a_sample_is_spread_over_all_pairs_and_has_both_ends():
    pairs = list(range(100))
    assert testing.spread(pairs, 4) == [0, 33, 66, 99]
    for most in (1, 2, 7, 50, 99):
        found = testing.spread(pairs, most)
        assert len(found) == len(set(found)) == most
        assert found == sorted(found)
        assert found[0] == 0
        gaps = np.diff([*found, 99] if most == 1 else found)
        assert max(gaps) - min(gaps) <= 1
        assert most == 1 or found[-1] == 99
        assert testing.spread(pairs, most) == found
    for most in (None, 100, 101):
        assert testing.spread(pairs, most) == pairs


def test_the_curve_has_one_point_for_each_step_in_their_order():
    def train(step, loss):
        return {'kind': 'train', 'step': step, 'loss': loss, 'seconds': 1.0}

    def dev(step, loss, accuracy):
        return {'kind': 'dev', 'step': step, 'loss': loss, 'accuracy': accuracy}
    lines = [train(50, 3.0), train(100, 2.0), dev(100, 2.5, 0.1), dev(75, 2.7, 0.05), {'kind': 'memory', 'step': 100},
             train(100, 2.1)]  # stopped after step 100 and gone on from 50: the last line counts
    assert testing.curve(lines) == [
        {'step': 50, 'train_loss': 3.0, 'dev_loss': None, 'dev_accuracy': None},
        {'step': 75, 'train_loss': None, 'dev_loss': 2.7, 'dev_accuracy': 0.05},
        {'step': 100, 'train_loss': 2.1, 'dev_loss': 2.5, 'dev_accuracy': 0.1}]
    assert testing.curve([]) == []


def forced(sizes):
    """Pairs with so many targets, of which every second one is right, with a loss of 1/4 for each."""
    asked = np.arange(max(sizes)) < np.array(sizes)[:, None]
    return Positions(asked, asked & (np.arange(max(sizes)) % 2 == 0), np.where(asked, 0.25, 0.0).astype(np.float32))


def test_by_length_counts_pairs_symbols_and_losses_of_each_bucket():
    sizes, targets = (2, 9, 3, 14, 4), (3, 8, 1, 6, 5)  # sources of 1 to 3, 4 to 8 and above; 4 is in the second
    rows = testing._by_length(sizes, (1, 4, 9), np.array([True, False, False, True, True]), forced(targets), None)
    assert rows == [
        {'low': 1, 'high': 3, 'count': 2, 'right': 1, 'tokens': 4, 'tokens_right': 3, 'loss': 1.0},
        {'low': 4, 'high': 8, 'count': 1, 'right': 1, 'tokens': 5, 'tokens_right': 3, 'loss': 1.25},
        {'low': 9, 'high': 14, 'count': 2, 'right': 1, 'tokens': 14, 'tokens_right': 7, 'loss': 3.5}]
    for row in rows:
        assert all(isinstance(row[name], int) for name in row if name != 'loss')


def test_a_bucket_without_a_pair_is_left_out_and_bleu_stays_with_its_own():
    scored = [{'bleu': 11.0}, {'bleu': None}, {'bleu': 33.0}, {}]
    rows = testing._by_length((2, 7), (1, 4, 6, 9), np.array([True, False]), forced((2, 3)), scored)
    assert [(row['low'], row['high'], row['count'], row['bleu']) for row in rows] == [(1, 3, 1, 11.0), (6, 8, 1, 33.0)]
    rows = testing._by_length((2, 7), (1, 4, 6, 9), np.array([True, False]), forced((2, 3)), None)
    assert not any('bleu' in row for row in rows)


def test_a_source_longer_than_all_edges_lies_in_the_last_bucket():
    row, = testing._by_length((50, 31), (1, 10, 31), np.array([True, True]), forced((1, 1)), None)
    assert (row['low'], row['high'], row['count']) == (31, 50, 2)
