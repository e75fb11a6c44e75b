"""Labels: right ones, at the right positions, the same from the same seed."""

import collections

import numpy as np
import pytest

from research.errors import UserError
from research.text import labelled
from research.text.batches import BatchPlan

SIZES = {'train': 40, 'dev': 5, 'test': 7, 'lengths': (32, 32), 'symbols': 64, 'size': 4}
BIT = {'symbols': 2, 'size': 1}
BITS = ('parity', 'even_pairs')


def corpus(task, **changes):
    return labelled.make(task, **{**SIZES, **(BIT if task in BITS else {}), 'seed': 3, **changes})


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


def newest_values(symbols):
    """What was last written behind each key before each position, read from the left: [{key: values so far}]."""
    written, found = {}, []
    for at, symbol in enumerate(symbols):
        found.append({key: list(values) for key, values in written.items()})
        if at:
            written.setdefault(symbols[at - 1], []).append(symbol)
    return found


@pytest.mark.parametrize('size', [2, 4, 5])
def test_an_overwritten_key_is_asked_for_with_its_newest_value(size):
    for pair in corpus('overwritten_recall', size=size).train:
        symbols, labels = pair.source.split(), pair.target.split()
        before, again = newest_values(symbols), labelled.overwritten(pair)
        asked = [at for at, label in enumerate(labels) if label != '_']
        keys = symbols[:2 * size:2]
        assert sorted(symbols[at] for at in asked) == sorted(keys)
        assert len(set(keys)) == len(set(symbols[1:2 * size:2])) == size
        for at in asked:
            values = before[at][symbols[at]]
            assert labels[at] == values[-1]
            assert len(values) == 1 + again[at] <= 2
            assert len(set(values)) == len(values), 'the new value is another one'
            assert all(0 < int(symbols[at][1:]) < 32 <= int(value[1:]) < 64 for value in values)
        assert again.dtype == bool
        assert again.shape == (32,)
        assert again.sum() == size // 2
        assert set(np.flatnonzero(again)) <= set(asked)


def test_every_key_may_be_overwritten_and_every_other_value_may_be_the_new_one():
    places, values = np.zeros(4), np.zeros((5, 5))
    for pair in corpus('overwritten_recall', train=2000, symbols=10, lengths=(20, 20)).train:
        numbers = [int(symbol[1:]) for symbol in pair.source.split()]
        for at in (8, 10):
            place = numbers[:8:2].index(numbers[at])
            places[place] += 1
            values[numbers[2 * place + 1] - 5, numbers[at + 1] - 5] += 1
    assert (abs(places - 1000) < 4 * np.sqrt(2000 * 0.25)).all(), places
    assert (np.diag(values) == 0).all()
    assert (abs(values[~np.eye(5, dtype=bool)] - 200) < 4 * np.sqrt(200)).all(), values


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


def test_even_pairs_counts_the_changes_so_far():
    for pair in corpus('even_pairs').train:
        bits = [int(symbol[1:]) for symbol in pair.source.split()]
        changes = [sum(bits[k] != bits[k + 1] for k in range(at)) for at in range(32)]
        assert [int(label[1:]) for label in pair.target.split()] == [count % 2 for count in changes]


@pytest.mark.parametrize('task', BITS)
def test_half_of_all_bits_and_of_all_labels_are_one(task):
    made = corpus(task, train=1000).train
    for side in (0, 1):
        ones = sum(pair[side].split().count('s1') for pair in made)
        # Labels of even pairs: a line's first bit turns all of them at once, so lines and not bits are independent.
        assert abs(ones - 16_000) < 4 * np.sqrt(1000) * 16, (side, ones)


def test_window_reach_looks_back():
    for pair in corpus('window_reach').train:
        assert pair.target.split() == ['_'] * 4 + pair.source.split()[:-4]


@pytest.mark.parametrize('task', BITS)
def test_all_lengths_of_a_range_are_equally_likely_and_test_has_its_own(task):
    made = corpus(task, train=1200, dev=600, test=4000, lengths=(3, 8), test_lengths=(3, 12))
    for split, low, high in (made.train, 3, 8), (made.dev, 3, 8), (made.test, 3, 12):
        counts = collections.Counter(len(pair.source.split()) for pair in split)
        assert sorted(counts) == [*range(low, high + 1)]
        mean = len(split) / (high - low + 1)
        assert all(abs(count - mean) < 4 * np.sqrt(mean) for count in counts.values()), counts
    assert all(len(pair.source.split()) == len(pair.target.split()) for split in made for pair in split)


@pytest.mark.parametrize('task', labelled.TASKS)
def test_lines_of_one_length_are_the_draws_of_the_task_and_nothing_else_is_drawn(task):
    """So that corpora of before lengths had a range, and the runs on them, stay what they were."""
    sizes = (2, 1) if task in BITS else (64, 4)
    made = corpus(task)
    for stream, split in enumerate(made):
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(3, spawn_key=(stream,))))
        assert split == [labelled.TASKS[task](random, 32, *sizes) for _ in split]


@pytest.mark.parametrize(('task', 'changes', 'message'), [
    ('labelled_recall', {'lengths': (31, 31)}, 'even length'),
    ('labelled_recall', {'lengths': (14, 14)}, 'at least 16'),
    ('labelled_recall', {'symbols': 9}, 'at least 10 symbols'),
    ('overwritten_recall', {'lengths': (31, 31)}, 'even length'),
    ('overwritten_recall', {'lengths': (18, 18)}, 'at least 20, not 18'),
    ('overwritten_recall', {'symbols': 9}, 'at least 10 symbols'),
    ('overwritten_recall', {'size': 1}, 'at least 2 pairs'),
    ('selective_copying', {'lengths': (7, 7)}, 'at least 8'),
    ('even_pairs', {'size': 2}, 'even_pairs is one bit .* not 2 and 2'),
    ('parity', {'lengths': (5, 4)}, 'from 5 to 4'), ('parity', {'test_lengths': (0, 4)}, 'from 0 to 4'),
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
