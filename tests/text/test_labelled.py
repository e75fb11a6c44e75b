"""Labels: right ones, at the right positions, the same from the same seed."""

import numpy as np
import pytest

from research.errors import UserError
from research.text import labelled
from research.text.batches import BatchPlan

SIZES = {'train': 40, 'dev': 5, 'test': 7, 'length': 32, 'symbols': 64, 'size': 4}
BIT = {'symbols': 2, 'size': 1}


def corpus(task, **changes):
    return labelled.make(task, **{**SIZES, **(BIT if task == 'parity' else {}), 'seed': 3, **changes})


@pytest.mark.parametrize('task', labelled.TASKS)
def test_a_line_has_as_many_labels_as_symbols_and_the_seed_decides_them(task):
    made = corpus(task)
    assert [len(split) for split in made] == [40, 5, 7]
    for split in made:
        for pair in split:
            assert len(pair.source.split()) == len(pair.target.split()) == 32
    assert made == corpus(task)
    assert made.train[:5] == corpus(task, train=5).train
    assert made.train != corpus(task, seed=4).train


def test_recall_asks_for_each_key_once_and_its_label_is_its_value():
    for pair in corpus('labelled_recall').train:
        symbols, labels = pair.source.split(), pair.target.split()
        keys, values = symbols[0:8:2], symbols[1:8:2]
        assert len(set(keys)) == len(set(values)) == 4
        assert all(0 < int(key[1:]) < 32 for key in keys)
        assert all(32 <= int(value[1:]) < 64 for value in values)
        asked = {at: label for at, label in enumerate(labels) if label != '_'}
        assert sorted(symbols[at] for at in asked) == sorted(keys)
        assert all(at >= 8 and at % 2 == 0 and label == values[keys.index(symbols[at])] for at, label in asked.items())


def test_recall_asks_near_more_often_than_far():
    """Slots have odds of g^-0.99, so of twelve the first three are asked more than twice as often as the last six."""
    counts = np.zeros(32)
    for pair in corpus('labelled_recall', train=300).train:
        counts += np.array([label != '_' for label in pair.target.split()])
    assert counts[8:14:2].mean() > 2 * counts[20::2].mean()


def test_selective_copying_asks_for_the_symbols_in_order():
    for pair in corpus('selective_copying').train:
        symbols, labels = pair.source.split(), pair.target.split()
        assert symbols[-4:] == ['|'] * 4
        assert labels[:-4] == ['_'] * 28
        assert labels[-4:] == [symbol for symbol in symbols if symbol not in ('.', '|')]


def test_parity_is_that_of_the_ones_so_far():
    for pair in corpus('parity').train:
        bits = [int(symbol[1:]) for symbol in pair.source.split()]
        assert [int(label[1:]) for label in pair.target.split()] == [sum(bits[:at + 1]) % 2 for at in range(32)]


def test_window_reach_looks_back():
    for pair in corpus('window_reach').train:
        assert pair.target.split() == ['_'] * 4 + pair.source.split()[:-4]


@pytest.mark.parametrize(('task', 'changes', 'message'), [
    ('labelled_recall', {'length': 31}, 'even length'), ('labelled_recall', {'length': 14}, 'at least 16'),
    ('labelled_recall', {'symbols': 9}, 'at least 10 symbols'), ('selective_copying', {'length': 7}, 'at least 8'),
    ('window_reach', {'size': 32}, 'needs a length above it'),
    ('parity', {'symbols': 64}, 'needs symbols = 2 and size = 1, not 64 and 1'),
    ('recal', {}, "unknown labelled task 'recal'")])
def test_what_cannot_be_drawn_is_refused(task, changes, message):
    with pytest.raises(UserError, match=message):
        corpus(task, **changes)


def test_a_labelled_batch_moves_nothing():
    pairs = [(np.array([5, 6, 7], np.int32), np.array([0, 0, 5], np.int32))]
    batch = BatchPlan(pairs, [(4, 4)], 16, labelled=True)[0]
    np.testing.assert_array_equal(batch.inputs, [[5, 6, 7, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(batch.targets, [[0, 0, 5, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(batch.target_places.segment, [[1, 1, 1, 0], [0, 0, 0, 0]])
