"""Pairs sorted by their lengths: what was added comes back, from files too, and no half store is ever opened."""

import copy
import gc
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.errors import UserError
from research.text import store
from research.text.store import Pairs, PreparedPairs, StoreWriter
from tests.conftest import REPOSITORY


def made_up(lengths, versions=1):
    """Pairs of ids of these lengths, no two alike; a later version has fewer ids, down to one a side."""
    return [[tuple(np.arange(size, dtype=np.int32) + 4 + 1000 * n + 100 * v + 50 * side
                   for side, size in enumerate((max(source - v, 1), max(target - 2 * v, 1))))
             for v in range(versions)] for n, (source, target) in enumerate(lengths)]


LENGTHS = [tuple(row) for row in np.random.default_rng(0).integers(1, 9, (60, 2)).tolist()]


def write(folder, pairs, size=60_000, split='train', block=store.BLOCK):
    """A store of pairs, each a list of versions."""
    with mock.patch.object(store, 'BLOCK', block), \
            StoreWriter(folder, split, size, variants=len(pairs[0])) as writer:
        for versions in pairs:
            writer.add(*versions)
    return PreparedPairs(folder, split)


def assert_holds(found, pairs):
    """The store is these pairs, each a list of versions, sorted as it is to be."""
    lengths = [tuple(max(len(version[side]) for version in versions) for side in (0, 1)) for versions in pairs]
    order = sorted(range(len(pairs)), key=lambda number: lengths[number])  # stable
    assert len(found) == len(pairs)
    assert found.original(np.arange(len(pairs))).tolist() == order
    assert found.cells.tolist() == [[*cell, len(list(same))] for cell, same in itertools.groupby(
        lengths[number] for number in order)]
    for number, original in enumerate(order):
        for which, version in enumerate(pairs[original]):
            for side, expected in zip(found.variant(number, which), version, strict=True):
                np.testing.assert_array_equal(side, expected)


def test_pairs_in_memory_are_sorted_by_their_lengths_and_equal_ones_keep_their_order():
    pairs = made_up(LENGTHS)
    found = Pairs([pair for pair, in pairs])
    assert_holds(found, pairs)
    assert all(found[number] is pairs[original][0] for number, original in enumerate(found.original(np.arange(60))))


def test_pairs_in_memory_know_the_order_in_which_they_were_read():
    found = Pairs([pair for pair, in made_up([(2, 2), (1, 1), (2, 2), (1, 2), (1, 1)])])
    assert found.cells.tolist() == [[1, 1, 2], [1, 2, 1], [2, 2, 2]]
    numbers = found.in_order(np.array([True, False, True]))
    assert found.original(numbers).tolist() == [0, 1, 2, 4]
    assert numbers.tolist() == [3, 0, 4, 1]


def test_there_is_no_pair_outside_of_a_store(tmp_path):
    pairs = made_up([(2, 2)] * 3, versions=2)
    for found in (Pairs([versions[0] for versions in pairs]), write(tmp_path, pairs)):
        assert len(list(found)) == 3
        for number in (3, -1):
            with pytest.raises(IndexError, match=f'no pair {number} in a store of 3'):
                found[number]
        with pytest.raises(IndexError, match='no variant 2'):
            found.variant(0, 2)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.lists(st.integers(0, 299), min_size=1, max_size=6)] * 2), min_size=1, max_size=30),
       st.integers(1, 60), st.sampled_from([300, 70_000]))
def test_what_is_written_comes_back(tmp_path_factory, pairs, block, size):
    """PAD too, which stands in labels; in blocks of any size."""
    pairs = [[tuple(np.array(side, np.int32) for side in pair)] for pair in pairs]
    found = write(tmp_path_factory.mktemp('store'), pairs, size, block=block)
    assert_holds(found, pairs)
    assert all(side.dtype == np.int32 for side in found[0])


@pytest.mark.parametrize('block', [1, 50, store.BLOCK])
def test_every_version_of_a_pair_comes_back_without_its_padding(tmp_path, block):
    pairs = made_up(LENGTHS, versions=3)
    found = write(tmp_path, pairs, block=block)
    assert found.variants == 3
    assert_holds(found, pairs)


def test_blocks_of_any_size_make_the_same_files(tmp_path):
    pairs = made_up(LENGTHS)
    digests = {write(tmp_path / str(block), pairs, block=block).digest for block in (1, 7, 50, store.BLOCK)}
    assert len(digests) == 1
    assert write(tmp_path / 'other', pairs[::-1]).digest not in digests


@pytest.mark.parametrize(('size', 'width'), [(65_536, 2), (65_537, 4)])
def test_an_id_takes_two_bytes_as_long_as_all_fit(tmp_path, size, width):
    last = np.array([size - 1, 2])
    found = write(tmp_path, [[(last, last[1:])]], size)
    assert (tmp_path / 'train' / 'ids').stat().st_size == 3 * width
    assert [side.tolist() for side in found[0]] == [[size - 1, 2], [2]]


def test_splits_stand_beside_each_other(tmp_path):
    for split, count in (('train', 3), ('dev', 1)):
        write(tmp_path, made_up([(2, 2)] * count), split=split)
    assert (len(PreparedPairs(tmp_path, 'train')), len(PreparedPairs(str(tmp_path), 'dev'))) == (3, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['dev', 'train']
    assert sorted(path.name for path in (tmp_path / 'dev').iterdir()) == ['ids', 'originals', 'store.json']


def test_a_copy_opens_the_files_anew_and_each_store_closes_its_own(tmp_path):
    found = write(tmp_path, made_up(LENGTHS))
    again = [copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found))]
    file = found._ids
    assert file not in [other._ids for other in again]
    del found
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(file)
    for other in again:
        assert_holds(other, made_up(LENGTHS))


# ------------------------------------------------------------------------------------------------------------- damage

def refused(*words, folder, split='train'):
    """Opening ends in one line that holds these words."""
    with pytest.raises(UserError) as caught:
        PreparedPairs(folder, split)
    assert '\n' not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize('name', ['ids', 'originals'])
def test_a_file_that_was_cut_off_is_named(tmp_path, name):
    write(tmp_path, made_up(LENGTHS))
    path = tmp_path / 'train' / name
    size = path.stat().st_size
    os.truncate(path, size - 1)
    refused(str(path), f'{size - 1:,} bytes', f'{size:,} were written', folder=tmp_path)
    path.unlink()
    refused(str(path), 'no such file', folder=tmp_path)


def test_a_file_that_is_cut_off_while_it_is_open_is_named(tmp_path):
    found = write(tmp_path, made_up(LENGTHS))
    for name in ('ids', 'originals'):
        os.truncate(tmp_path / 'train' / name, 3)
    with pytest.raises(UserError, match=r'ids: ends before byte'):
        found[59]
    with pytest.raises(UserError, match=r'originals: ends before byte 24'):
        found.original(np.array([2]))


def test_a_changed_byte_is_found_when_all_are_read(tmp_path):
    found = write(tmp_path, made_up(LENGTHS))
    found.verify()
    path = tmp_path / 'train' / 'ids'
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match='ids: is not what was written'):
        PreparedPairs(tmp_path, 'train').verify()


def test_a_manifest_that_is_not_what_was_written_is_refused(tmp_path):
    write(tmp_path, made_up(LENGTHS))
    path = tmp_path / 'train' / 'store.json'
    text = path.read_text()
    for damaged in (text[:-20], '[]', '{}', 'no', text.replace('"pairs": 60', '"pairs": 61'), '\udcff'):
        path.write_bytes(damaged.encode('utf-8', 'surrogateescape'))
        refused(str(path), 'not what was written', folder=tmp_path)
    content = json.loads(text)
    del content['sha256']
    path.write_bytes(store.sealed(content | {'format_version': 2}))
    refused(str(path), 'format_version is 2, and this program reads 1', folder=tmp_path)


def test_what_is_no_store_is_said_to_be_none(tmp_path):
    refused('train', 'no prepared split', folder=tmp_path)
    refused('train', 'no prepared split', folder=tmp_path / 'nowhere')


KILLED = '''
import os, signal, sys
import numpy as np
from research.text import store

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(*{'first pass': (store.StoreWriter, '_publish', die), 'between': (store.StoreWriter, '_distribute', die),
          'second pass': (np, 'split', die), 'behind': (store, 'sealed', die)}[sys.argv[2]])
with store.StoreWriter(sys.argv[1], 'train', 100) as writer:
    for _ in range(50):
        writer.add((np.array([4, 2]), np.array([5, 2])))
'''


@pytest.mark.parametrize('moment', ['first pass', 'between', 'second pass', 'behind'])
def test_a_kill_leaves_nothing_that_opens_and_the_next_writer_removes_it(tmp_path, moment):
    done = subprocess.run([sys.executable, '-c', KILLED, str(tmp_path), moment], cwd=REPOSITORY, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ['train.writing']
    refused('no prepared split', 'was not finished', folder=tmp_path)
    assert_holds(write(tmp_path, made_up(LENGTHS)), made_up(LENGTHS))
    assert [path.name for path in tmp_path.iterdir()] == ['train']


# ------------------------------------------------------------------------------------------------------------ writing

def test_an_error_while_pairs_come_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), StoreWriter(tmp_path, 'train', 100) as writer:  # noqa: PT012
        writer.add(([4, 2], [5, 2]))
        raise RuntimeError('a bad line')
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_there_stays_as_it_is(tmp_path):
    write(tmp_path, made_up(LENGTHS))
    with pytest.raises(UserError, match='train: is there already; remove it'):
        StoreWriter(tmp_path, 'train', 100)
    assert_holds(PreparedPairs(tmp_path, 'train'), made_up(LENGTHS))


def test_a_store_of_nothing_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match='no pair to store'), StoreWriter(tmp_path, 'train', 100):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=r'file.train: cannot be written \(Not a directory\)'):
        StoreWriter(tmp_path / 'file', 'train', 100)
    with pytest.raises(UserError, match=r'cannot be written .*No space left.*; nothing of it was kept'), \
            mock.patch.object(os, 'fsync', side_effect=OSError(28, 'No space left on device')):
        write(tmp_path, made_up(LENGTHS))
    assert [path.name for path in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize(('versions', 'variants', 'message'), [
    ([([4, 2], [])], 1, 'at least one id'),
    ([([4, 2], [100])], 1, 'below 100: int64, 2 to 100'),
    ([([4, 2], [-1])], 1, 'below 100'),
    ([([4, 2], [1.5])], 1, 'whole numbers'),
    ([([4, 2], [2]), ([4, 2], [2])], 1, '2 versions and the store 1 variants'),
    ([([4, 0], [2]), ([4, 2], [2])], 2, 'PAD')])
def test_what_is_no_pair_of_ids_is_refused(tmp_path, versions, variants, message):
    with pytest.raises(ValueError, match=message), StoreWriter(tmp_path, 'train', 100, variants) as writer:
        writer.add(*versions)
    assert list(tmp_path.iterdir()) == []


def test_sizes_that_no_store_can_have_are_refused(tmp_path):
    for size, variants in ((0, 1), (2 ** 31 + 1, 1), (100, 0)):
        with pytest.raises(ValueError, match='below 1 to'):
            StoreWriter(tmp_path, 'train', size, variants)


def test_memory_does_not_grow_with_the_pairs_that_are_written(tmp_path, traced):
    """200,000 pairs in blocks of 2^16 ids take what 20,000 take; all ids together are 14 MB."""
    ids = np.arange(4, 104, dtype=np.int32)
    sides = [ids[:size] for size in range(1, 51)]
    peaks = {}
    for count in (20_000, 200_000):
        traced.clear_traces()
        with mock.patch.object(store, 'BLOCK', 1 << 16), StoreWriter(tmp_path / str(count), 'train', 200) as writer:
            for number in range(count):
                writer.add((sides[number % 50], sides[number % 10 + 5]))
        found = PreparedPairs(tmp_path / str(count), 'train')
        peaks[count] = traced.get_traced_memory()[1]
    assert os.path.getsize(tmp_path / '200000' / 'train' / 'ids') > 1e7
    assert peaks[200_000] < 1.2 * peaks[20_000] < 1.2 * 3e6
    for number in (0, 1, 99_999, 199_999):
        original = int(found.original(np.array([number]))[0])
        assert [len(side) for side in found[number]] == [original % 50 + 1, original % 10 + 6]
