"""Pairs to batches: every pair once, few shapes, and an order that can be entered anywhere and is kept nowhere."""

import collections
import gc
import itertools
import math
import threading
import time

import numpy as np
import pytest
import scipy.stats

from research.errors import UserError
from research.text import batches, corpus
from research.text.batches import KEYS, BatchPlan, PackedPlan, choose_buckets, choose_row, pack, shuffled, stream
from research.text.store import Pairs, PreparedPairs, Store, StoreWriter
from research.text.vocabulary import BEGIN, END, PAD


def made_up(lengths):
    """Pairs of ids of these lengths; each symbol says to which pair, side and place it belongs."""
    return [(np.array([*(10_000 + 100 * n + s for s in range(source - 1)), END], np.int32),
             np.array([*(50_000 + 100 * n + t for t in range(target - 1)), END], np.int32))
            for n, (source, target) in enumerate(lengths)]


LENGTHS = [tuple(row) for row in np.random.default_rng(0).integers(1, 14, (97, 2)).tolist()]
BUCKETS = ((5, 7), (11, 8), (13, 13))
TOKENS = 61


@pytest.fixture(scope='module')
def pairs():
    return made_up(LENGTHS)


@pytest.fixture(scope='module')
def plan(pairs):
    return BatchPlan(pairs, BUCKETS, TOKENS, seed=3)


def same(left, right):
    """Are two batches equal, bit for bit?"""
    def leaves(batch):
        return (batch.source, *batch.source_places, batch.inputs, batch.targets, *batch.target_places)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(leaves(left), leaves(right), strict=True))


class CellsAlone(Store):
    """A store of any size that holds nothing: a pair is as long as its cell says, and its first id says which it is."""

    def __init__(self, lengths, variants=1):
        different, counts = np.unique(lengths, axis=0, return_counts=True)
        self.cells, self.variants = np.column_stack((different, counts)), variants

    def variant(self, number, which):
        cell = self.first.searchsorted(number, side='right') - 1
        return tuple(np.full(size, 4 + self.variants * number + which) for size in self.cells[cell, :2].tolist())

    def original(self, numbers):
        return numbers


def captions(count):
    """Lengths as those of Multi30k's captions in words and their ends: 12 of 37 at most, both sides alike."""
    numbers = np.random.default_rng(1)
    source = numbers.gamma(9, 1.35, count).clip(2, 37).round().astype(int)
    target = (source * numbers.normal(0.95, 0.2, count)).clip(2, 39).round().astype(int)
    return np.column_stack((source, target)) + 1


# ------------------------------------------------------------------------------------------------------------- buckets

def padded(lengths, shapes):
    """Padded positions when each pair goes to the smallest shape that it fits in, one pair after the other."""
    total = 0
    for s, t in lengths:
        total += min(S + T for S, T in shapes if s <= S and t <= T) - s - t
    return total


def least_padded(lengths, count):
    """The same for the best of all choices of at most `count` nested shapes, by trying them all."""
    last = tuple(max(side) for side in zip(*lengths))
    grid = [(S, T) for S in sorted({s for s, _ in lengths}) for T in sorted({t for _, t in lengths})]
    choices = (chosen for size in range(count) for chosen in itertools.combinations(grid, size)
               if all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise([*chosen, last])))
    return min(padded(lengths, (*chosen, last)) for chosen in choices)


@pytest.mark.parametrize('count', [1, 2, 3, 4])
def test_no_other_choice_of_buckets_pads_less(count):
    numbers = np.random.default_rng(count)
    for _ in range(12):
        lengths = numbers.integers(1, 6, (numbers.integers(1, 12), 2)).tolist()
        shapes = choose_buckets(lengths, count)
        assert len(shapes) <= count
        assert padded(lengths, shapes) == least_padded(lengths, count)


def test_buckets_of_lengths_that_go_together_by_hand():
    """Many of 2, a few of 9 and 10: two shapes leave one position a side for each of the three pairs of 9."""
    lengths = [(2, 2)] * 50 + [(9, 9)] * 3 + [(10, 10)]
    assert choose_buckets(lengths, 1) == ((10, 10),)
    assert choose_buckets(lengths, 2) == ((2, 2), (10, 10))
    assert choose_buckets(lengths, 3) == ((2, 2), (9, 9), (10, 10))


def test_a_bucket_that_saves_nothing_is_not_made():
    assert choose_buckets([(3, 4)] * 7, 5) == ((3, 4),)
    assert choose_buckets([(3, 4), (5, 5)] * 7, 100) == ((3, 4), (5, 5))


def test_buckets_depend_on_the_lengths_and_not_on_their_order():
    assert choose_buckets(LENGTHS, 3) == choose_buckets(LENGTHS[::-1], 3) == choose_buckets(np.array(LENGTHS), 3)


def test_buckets_of_cells_are_those_of_all_their_pairs():
    lengths = LENGTHS + LENGTHS[:40] + LENGTHS[:7] * 5
    cells = Pairs(made_up(lengths)).cells
    assert len(cells) < len(set(lengths)) + 1
    for count in (1, 2, 3):
        assert choose_buckets(cells[:, :2], count, cells[:, 2]) == choose_buckets(lengths, count)
    assert choose_buckets(cells[:, :2], 2) != choose_buckets(lengths, 2)


def test_buckets_are_nested_and_hold_every_pair():
    shapes = choose_buckets(LENGTHS, 4)
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(shapes))
    assert shapes[-1] == tuple(np.max(LENGTHS, axis=0))
    assert all(type(size) is int for shape in shapes for size in shape)


def test_many_different_lengths_are_thinned_out_and_the_longest_kept():
    lengths = [(s, 2 * s) for s in range(1, 400)]
    shapes = choose_buckets(lengths, 2)
    assert shapes[-1] == (399, 798)
    assert padded(lengths, shapes) <= 1.02 * min(padded(lengths, ((s, 2 * s), (399, 798))) for s in range(1, 400))


def test_buckets_of_nothing_are_refused():
    with pytest.raises(UserError, match='no pair'):
        choose_buckets([], 3)
    with pytest.raises(UserError, match='buckets is 0'):
        choose_buckets([(1, 1)], 0)
    with pytest.raises(ValueError, match='above 0'):
        choose_buckets([(0, 1)], 1)
    with pytest.raises(ValueError, match='2 lengths and 1 times'):
        choose_buckets([(1, 1), (2, 2)], 1, [5])


# --------------------------------------------------------------------------------------------------------------- batch

def test_a_batch_holds_its_pairs_and_nothing_else(plan, pairs):
    for k in range(len(plan)):
        batch, ids = plan[k], plan.ids(k)
        rows = zip(ids, batch.source, *batch.source_places, batch.inputs, batch.targets, *batch.target_places,
                   strict=True)
        for index, source, segment, position, inputs, targets, target_segment, target_position in rows:
            left, right = pairs[index] if index >= 0 else ([], [])
            s, t = len(left), len(right)
            assert source.tolist() == [*left, *[PAD] * (len(source) - s)]
            assert segment.tolist() == [1] * s + [0] * (len(source) - s)
            assert targets.tolist() == [*right, *[PAD] * (len(targets) - t)]
            assert target_segment.tolist() == [1] * t + [0] * (len(targets) - t)
            assert inputs[:t].tolist() == ([BEGIN, *right[:-1]] if t else [])
            assert (inputs[t:] == PAD).all()
            assert position[:s].tolist() == list(range(s))
            assert target_position[:t].tolist() == list(range(t))


def test_every_array_of_a_batch_is_int32(plan):
    batch = plan[0]
    for array in (batch.source, *batch.source_places, batch.inputs, batch.targets, *batch.target_places):
        assert array.dtype == np.int32


def test_batches_have_the_shapes_of_the_plan_and_no_others(plan):
    seen = set()
    for k in range(2 * len(plan)):
        batch = plan[k]
        B, S = batch.source.shape
        assert batch.inputs.shape == batch.targets.shape == (B, batch.inputs.shape[1])
        assert batch.source_places.segment.shape == batch.source_places.position.shape == (B, S)
        assert batch.target_places.segment.shape == batch.target_places.position.shape == batch.inputs.shape
        seen.add((B, S, batch.inputs.shape[1]))
    assert seen == set(plan.shapes)
    assert len(plan.shapes) == len(BUCKETS)


def test_tokens_are_the_same_in_every_bucket_up_to_one_row(plan):
    for B, S, T in plan.shapes:
        assert TOKENS - (S + T) < B * (S + T) <= TOKENS


def smallest(index):
    """The number of the bucket with the fewest positions that a pair fits in."""
    return min((sum(bucket), number) for number, bucket in enumerate(BUCKETS)
               if all(length <= room for length, room in zip(LENGTHS[index], bucket)))[1]


def test_a_pair_is_in_the_smallest_bucket_that_it_fits_in_or_went_up_with_those_that_were_left(plan):
    """By hand: what does not fill a batch of its bucket goes up to the next, in which each of these has room."""
    homes = [smallest(index) for index in range(len(LENGTHS))]
    counts, left = [homes.count(number) for number in range(len(BUCKETS))], []
    for number, (B, _, _) in enumerate(plan.shapes[:-1]):
        left.append(counts[number] % B)
        counts[number + 1] += left[-1]
    assert all(left)
    for number in (0, 1, 2):
        moved = np.zeros((len(BUCKETS), len(BUCKETS)), int)
        for k, ids in enumerate(epoch(plan, number)):
            shape = plan[number * len(plan) + k].source.shape[1], plan[number * len(plan) + k].inputs.shape[1]
            for index in ids[ids >= 0]:
                moved[homes[index], BUCKETS.index(shape)] += 1
        assert np.tril(moved, -1).sum() == 0
        assert [moved[:end, end:].sum() for end in (1, 2)] == left


def test_what_is_left_is_not_the_same_each_epoch(plan):
    longest = BUCKETS[-1][0]
    up = [frozenset(index for k, ids in enumerate(epoch(plan, number)) for index in ids[ids >= 0].tolist()
                    if plan[number * len(plan) + k].source.shape[1] == longest and smallest(index) < 2)
          for number in range(4)]
    assert len(set(up)) == 4


def test_what_is_left_goes_to_a_shape_that_holds_it():
    """(9, 2) has no room for the three that (4, 4) leaves, (10, 10) has."""
    plan = BatchPlan(made_up([(4, 4)] * 7 + [(9, 2)] * 3 + [(10, 10)] * 2), ((4, 4), (9, 2), (10, 10)), 32, seed=1)
    assert plan.shapes == ((4, 4, 4), (2, 9, 2), (1, 10, 10))
    shapes = sorted(plan[k].source.shape for k in range(len(plan)))
    assert shapes == [(1, 10)] * 6 + [(2, 9), (4, 4)]  # three that were left of 7, one of 3, and two
    everything(plan, 12)


def everything(plan, count):
    """Each pair comes once."""
    ids = np.concatenate([plan.ids(k).ravel() for k in range(len(plan))])
    assert sorted(ids[ids >= 0].tolist()) == list(range(count))


def test_a_bucket_without_a_pair_has_no_shape():
    plan = BatchPlan(made_up([(2, 2)] * 5), ((2, 2), (9, 9)), 20, seed=1)
    assert plan.shapes == ((5, 2, 2),)


def test_padding_is_the_share_of_positions_without_a_symbol(plan):
    real = total = 0
    for k in range(len(plan)):
        segments = plan[k].source_places.segment, plan[k].target_places.segment
        real += sum(int(segment.sum()) for segment in segments)
        total += sum(segment.size for segment in segments)
    assert plan.padding == pytest.approx(1 - real / total)


def test_the_last_batch_of_the_last_bucket_is_filled_up_with_empty_rows():
    plan = BatchPlan(made_up([(2, 3)] * 7), ((2, 3),), 20, seed=1)
    assert plan.shapes == ((4, 2, 3),)
    sizes = sorted((plan.ids(k) >= 0).sum() for k in range(len(plan)))
    assert sizes == [3, 4]


# ------------------------------------------------------------------------------------------------------------ an epoch

def epoch(plan, number=0):
    return [plan.ids(number * len(plan) + k) for k in range(len(plan))]


@pytest.mark.parametrize('number', [0, 1, 5])
def test_every_pair_comes_exactly_once_an_epoch(plan, number):
    ids = np.concatenate(epoch(plan, number))
    assert sorted(ids[ids >= 0].tolist()) == list(range(len(LENGTHS)))


def test_epochs_and_seeds_have_orders_of_their_own(plan):
    orders = [[ids.tolist() for ids in epoch(one, number)]
              for one in (plan, plan.with_seed(4), plan.with_seed(2 ** 40)) for number in (0, 1, 2)]
    assert all(a != b for a, b in itertools.combinations(orders, 2))


def test_batches_of_all_buckets_are_mixed_and_pairs_within_them(plan):
    shapes = [plan[k].source.shape for k in range(len(plan))]
    changes = sum(a != b for a, b in itertools.pairwise(shapes))
    assert changes > 2 * len(BUCKETS)
    assert any(sorted(ids.tolist()) != ids.tolist() for ids in epoch(plan) if (ids >= 0).all())


def test_every_place_of_an_epoch_is_as_likely_for_a_pair():
    """One bucket of 7 pairs in rows of one: over 210 epochs each pair is in each place about 30 times."""
    plan = BatchPlan(made_up([(1, 1)] * 7), ((1, 1),), 2, seed=0)
    counts = np.zeros((7, 7))
    for number in range(210):
        for k, ids in enumerate(epoch(plan, number)):
            counts[k, ids[0]] += 1
    statistic = ((counts - 30) ** 2 / 30).sum()
    assert statistic < 67.99, '0.1 % point of chi squared with 36 degrees of freedom'


def test_a_batch_is_decided_by_seed_and_number_alone(plan, pairs):
    """Asked for in any order, after any other, by any object."""
    numbers = [2 * len(plan) + 1, 0, len(plan) - 1, len(plan), 5, 0]
    again = BatchPlan(pairs, BUCKETS, TOKENS, seed=9).with_seed(3)
    for k in numbers:
        assert same(plan[k], again[k])
        assert plan.ids(k).tolist() == BatchPlan(pairs, BUCKETS, TOKENS, seed=3).ids(k).tolist()


def test_with_seed_is_a_plan_of_that_seed_and_leaves_the_first_as_it_is(plan, pairs):
    before = [ids.tolist() for ids in epoch(plan)]
    other = plan.with_seed(8)
    assert (plan.seed, other.seed) == (3, 8)
    assert [ids.tolist() for ids in epoch(other)] == [ids.tolist() for ids in epoch(BatchPlan(
        pairs, BUCKETS, TOKENS, seed=8))]
    assert [ids.tolist() for ids in epoch(plan)] == before
    assert (other.shapes, len(other), other.padding) == (plan.shapes, len(plan), plan.padding)


def test_the_order_follows_from_the_words_that_numpy_promises_to_keep():
    """By hand, in whole numbers of Python: first which batch of all buckets, then which pairs of its bucket."""
    def keys(*place):
        return np.random.SeedSequence(11, spawn_key=place).generate_state(KEYS, np.uint64).tolist()

    plan = BatchPlan(made_up([(2, 1)] * 3 + [(1, 1)] * 5), ((1, 1), (2, 1)), 4, seed=11)
    short = [[3, 4, 5, 6, 7][by_hand(m, 5, keys(2, 0))] for m in range(5)]
    long = [0, 1, 2, short[4]]  # two batches of two; the fifth goes up
    long = [[long[by_hand(m, 4, keys(2, 1))]] for m in range(4)]
    wanted = [short[0:2], short[2:4], *long]
    assert [ids.tolist() for ids in epoch(plan, 2)] == [wanted[by_hand(k, 6, keys(2))] for k in range(6)]


@pytest.mark.parametrize(('seed', 'shape_seed'), [(3, None), (2 ** 40, None), (3, 9), (3, 3)])
def test_three_buckets_come_in_the_order_that_whole_numbers_of_python_say(seed, shape_seed, pairs):
    """By the rule in words: the batches of all buckets in an order of the shapes' seed, where there is one;
    what stands in a bucket's batches, and what goes up from it, in orders of the seed.
    """
    def keys(seed, *place):
        return np.random.SeedSequence(seed, spawn_key=place).generate_state(KEYS, np.uint64).tolist()

    def in_order(things, *place):
        return [things[by_hand(m, len(things), keys(seed, *place))] for m in range(len(things))]
    own: list[list[int]] = [[] for _ in BUCKETS]
    for number, (s, t) in enumerate(LENGTHS):
        own[min(index for index, (S, T) in enumerate(BUCKETS) if s <= S and t <= T)].append(number)
    # Members stand in the order of the pairs. (5, 7) fits in (11, 8), and that in (13, 13).
    plan = BatchPlan(pairs, BUCKETS, TOKENS, seed=seed, shape_seed=shape_seed)
    for number in (0, 1, 6):
        wanted, below = [], []
        for bucket, (members, (S, T)) in enumerate(zip(own, BUCKETS, strict=True)):
            B = TOKENS // (S + T)
            ordered = in_order([*members, *below], number, bucket)
            full = len(ordered) if bucket == len(BUCKETS) - 1 else len(ordered) // B * B
            wanted += [ordered[first:first + B] for first in range(0, full, B)]
            below = ordered[full:]
        order = keys(seed if shape_seed is None else shape_seed, number)
        found = [ids[ids >= 0].tolist() for ids in epoch(plan, number)]
        assert found == [wanted[by_hand(k, len(wanted), order)] for k in range(len(wanted))]


def test_with_one_seed_of_shapes_other_seeds_have_other_pairs_in_the_same_shapes(plan, pairs):
    first, second = (BatchPlan(pairs, BUCKETS, TOKENS, seed=seed, shape_seed=9) for seed in (3, 4))
    places = range(3 * len(first))

    def shapes(plan):
        return [(plan[k].source.shape, plan[k].inputs.shape) for k in places]
    assert shapes(first) == shapes(second) == shapes(first.with_seed(2 ** 40))
    assert shapes(first)[:len(first)] != shapes(first)[len(first):2 * len(first)]  # each epoch has an order of its own
    assert shapes(plan) != shapes(plan.with_seed(4))  # what they are without
    for number in range(3):
        everything_of = [np.concatenate(epoch(one, number)) for one in (first, second)]
        for ids in everything_of:
            assert sorted(ids[ids >= 0].tolist()) == list(range(len(LENGTHS)))
        assert sum(np.array_equal(*both) for both in zip(epoch(first, number), epoch(second, number), strict=True)) < 3
    assert (first.shapes_without_seed, plan.shapes_without_seed) == (True, False)
    assert BatchPlan(made_up([(2, 2)] * 5), ((2, 2),), 20, seed=1).shapes_without_seed
    ordered = first.with_seed(None)
    assert [ids.tolist() for ids in epoch(ordered)] == [ids.tolist() for ids in epoch(plan.with_seed(None))]


def test_what_ids_returns_is_the_callers_own(plan):
    before = plan.ids(0)
    plan.ids(0)[:] = 0
    np.testing.assert_array_equal(plan.ids(0), before)


# ---------------------------------------------------------------------------------------------------------------- order

def mixed(x):
    """SplitMix64's mixer in whole numbers of Python."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2 ** 64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2 ** 64
    return x ^ (x >> 31)


def by_hand(place, count, keys):
    """What is in a place of a shuffled order, in whole numbers of Python."""
    rows = math.isqrt(count) + 1
    columns = math.ceil(count / rows)
    while True:
        row, column = divmod(place, columns)
        for n in range(0, len(keys), 2):
            row = (row + mixed((column + keys[n]) % 2 ** 64)) % rows
            column = (column + mixed((row + keys[n + 1]) % 2 ** 64)) % columns
        place = row * columns + column
        if place < count:
            return place


def some_keys(orders, seed=0):
    return np.random.default_rng(seed).integers(0, 2 ** 64, (KEYS, orders), np.uint64)


def some_orders(count, orders, seed=0):
    """Whole orders of so many things: [orders, count]."""
    keys, places = some_keys(orders, seed), np.tile(np.arange(count, dtype=np.uint64), orders)
    return shuffled(places, np.array([count], np.uint64), np.repeat(keys, count, axis=1)).reshape(orders, count)


def test_the_mixer_is_that_of_splitmix64():
    """The first numbers of its generator for the seed 1234567, which other implementations state."""
    states = (1234567 + np.arange(1, 6, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    wanted = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert batches._mixed(states).tolist() == wanted == [mixed(state) for state in states.tolist()]


def test_a_shuffled_order_has_everything_once():
    """Of all small numbers of things, and of all around a square, where the rectangle changes."""
    for count in sorted({*range(1, 200), *(root ** 2 + more for root in range(14, 45) for more in (-1, 0, 1))}):
        found, = some_orders(count, 1, seed=count)
        assert found.dtype == np.uint64
        assert np.array_equal(np.sort(found), np.arange(count))


@pytest.mark.parametrize('count', [1, 2, 3, 8, 1000, 2 ** 31 + 11, 2 ** 52 + 1])
def test_a_shuffled_order_equals_that_in_whole_numbers_of_python(count):
    """With an order of its own for each place."""
    places, keys = np.random.default_rng(count).integers(0, count, 20).astype(np.uint64), some_keys(20, 5)
    found = shuffled(places, np.full(20, count, np.uint64), keys)
    assert found.tolist() == [by_hand(place, count, column) for place, column in zip(places.tolist(), keys.T.tolist())]


def test_a_place_that_an_order_does_not_have_is_refused():
    with pytest.raises(ValueError, match='below its count: 3 of 3'):
        shuffled(np.array([1, 3], np.uint64), np.array([3], np.uint64), some_keys(1))


@pytest.mark.parametrize('count', [2, 3, 4, 5, 6])
def test_every_order_of_few_things_is_as_likely(count):
    """12,000 keys: chi squared over all orders there are."""
    _, counts = np.unique(some_orders(count, 12_000, seed=count), axis=0, return_counts=True)
    assert len(counts) == math.factorial(count)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize('count', [7, 30, 101])
def test_every_place_is_as_likely_and_neighbours_do_not_stay_together(count):
    """Chi squared over things and places, and over how far apart 0 and 1 are, around the end."""
    orders = some_orders(count, 3000, seed=count).astype(int)
    table = np.stack([np.bincount(column, minlength=count) for column in orders.T])
    statistic = ((table - 3000 / count) ** 2 / (3000 / count)).sum()
    assert scipy.stats.chi2.sf(statistic, (count - 1) ** 2) > 1e-3
    apart = np.bincount((orders[:, 0] - orders[:, 1]) % count, minlength=count)
    assert apart[0] == 0
    assert scipy.stats.chisquare(apart[1:]).pvalue > 1e-3


# ---------------------------------------------------------------------------------------------------------- evaluation

def test_without_a_seed_the_pairs_come_in_order_and_once(pairs):
    plan = BatchPlan(pairs, BUCKETS, TOKENS)
    ids = np.concatenate([plan.ids(k) for k in range(len(plan))])
    assert sorted(ids[ids >= 0].tolist()) == list(range(len(LENGTHS)))
    for number, shape in enumerate(plan.shapes):
        inside = [index for k in range(len(plan)) for index in plan.ids(k) if plan[k].source.shape[1] == shape[1]]
        inside = [index for index in inside if index >= 0 and smallest(index) == number]
        assert inside == sorted(inside)
    assert len(list(plan)) == len(plan)
    for k in (len(plan), -1):
        with pytest.raises(IndexError):
            plan[k]


def test_there_is_no_batch_before_the_first(plan):
    with pytest.raises(IndexError, match='-1'):
        plan[-1]


def test_pairs_that_fit_nowhere_are_counted_and_named():
    plan = BatchPlan(made_up([(2, 2), (9, 2), (2, 2), (2, 9)]), ((3, 3),), 12, seed=1)
    assert plan.dropped.tolist() == list(plan.dropped) == plan.dropped[:5] == [1, 3]
    assert (len(plan.dropped), plan.dropped[0], plan.dropped[-1]) == (2, 1, 3)
    with pytest.raises(IndexError):
        plan.dropped[2]
    assert sorted(plan.ids(0).tolist()) == [0, 2]
    assert plan.padding == pytest.approx(1 - 8 / 12)
    assert BatchPlan(made_up([(2, 2)]), ((3, 3),), 12).dropped.tolist() == []


def test_a_bucket_without_room_for_one_pair_is_named(pairs):
    with pytest.raises(UserError, match=r'bucket \(13, 13\) takes 26 .* has 25: .* at least 26'):
        BatchPlan(pairs, BUCKETS, 25, seed=1)
    assert (1, 13, 13) in BatchPlan(pairs, BUCKETS, 26, seed=1).shapes


def test_a_plan_of_nothing_is_refused():
    with pytest.raises(UserError, match='none of 0 pairs'):
        BatchPlan([], BUCKETS, TOKENS)
    with pytest.raises(UserError, match='none of 1 pairs'):
        BatchPlan(made_up([(20, 2)]), BUCKETS, TOKENS)
    with pytest.raises(ValueError, match='END'):
        BatchPlan([(np.array([], np.int32), np.array([END], np.int32))], BUCKETS, TOKENS)


# --------------------------------------------------------------------------------------------------------------- stores

def prepare(folder, pairs, variants=1):
    """A store in files; each pair is a list of its versions."""
    with StoreWriter(folder, 'train', 2 ** 20, variants) as writer:
        for versions in pairs:
            writer.add(*versions)
    return PreparedPairs(folder, 'train')


def test_pairs_in_files_make_the_same_batches_but_for_the_order(pairs, plan, tmp_path):
    prepared = BatchPlan(prepare(tmp_path, [[pair] for pair in pairs]), BUCKETS, TOKENS, seed=3)
    assert (prepared.shapes, len(prepared), prepared.padding) == (plan.shapes, len(plan), plan.padding)
    test_a_batch_holds_its_pairs_and_nothing_else(prepared, pairs)
    for number in (0, 1):
        ids = np.concatenate(epoch(prepared, number))
        assert sorted(ids[ids >= 0].tolist()) == list(range(len(LENGTHS)))
    found = prepared.with_seed(None)
    lengths = [[LENGTHS[index] for k in range(len(found)) for index in found.ids(k)
                if index >= 0 and found[k].source.shape[1] == S and smallest(index) == number]
               for number, (_, S, _) in enumerate(found.shapes)]
    assert lengths == [sorted(inside) for inside in lengths]
    few = BatchPlan(prepare(tmp_path / 'few', [[pair] for pair in pairs]), BUCKETS[:1], TOKENS)
    assert sorted(few.dropped.tolist()) == [n for n, (s, t) in enumerate(LENGTHS) if s > 5 or t > 7]


def test_each_epoch_shows_another_version_and_all_come_once(tmp_path):
    versions = [[tuple(np.array([4 + 100 * n + 10 * side + v] * (3 - v) + [END]) for side in (0, 1)) for v in range(3)]
                for n in range(20)]
    store = prepare(tmp_path, versions, variants=3)

    def shown(plan, number):
        """Of each pair, the version that an epoch shows, of both sides."""
        found = {}
        for k in range(number * len(plan), (number + 1) * len(plan)):
            batch, ids = plan[k], plan.ids(k)
            place = np.argwhere(ids >= 0)
            for index in place:
                segment = 1 + (index[1] if len(index) == 2 else 0)
                row = index[0]
                source = batch.source[row][batch.source_places.segment[row] == segment].tolist()
                target = batch.targets[row][batch.target_places.segment[row] == segment].tolist()
                which, = (v for v in range(3) if source == versions[ids[tuple(index)]][v][0].tolist())
                assert target == versions[ids[tuple(index)]][which][1].tolist()
                found[int(ids[tuple(index)])] = which
        return [found[n] for n in range(20)]

    for plan in (BatchPlan(store, ((4, 4),), 24, seed=2), PackedPlan(store, (8, 8), 2, seed=2)):
        epochs = [shown(plan, number) for number in range(4)]
        assert all(sorted(column) == [0, 1, 2] for column in zip(*epochs[:3]))
        assert epochs[3] == epochs[0]
        assert set(epochs[0]) == {0, 1, 2}
        assert shown(plan.with_seed(3), 0) != epochs[0]
        assert shown(plan.with_seed(None), 0) == [0] * 20


@pytest.mark.parametrize('make', [lambda store: BatchPlan(store, [(20, 20), (40, 40)], 4096, seed=5),
                                  lambda store: PackedPlan(store, (128, 128), 16, seed=5)])
def test_a_plan_of_five_million_pairs_takes_no_memory_and_starts_anywhere(make, traced):
    store = CellsAlone(captions(10_000))
    store.cells[:, 2] *= 500
    assert len(store) == 5_000_000
    plan = make(store)
    for k in (0, 10 ** 9 + 7, len(plan) - 1):
        ids, batch = plan.ids(k), plan[k]
        assert set(batch.source[batch.source > 0].tolist()) == set((4 + ids[ids >= 0]).tolist())
        assert len(np.unique(ids[ids >= 0])) == (ids >= 0).sum() > 0
    assert traced.get_traced_memory()[1] < 2e6


# --------------------------------------------------------------------------------------------------------------- packed

@pytest.fixture(scope='module')
def packed(pairs):
    return PackedPlan(pairs, (30, 28), 3, seed=3)


def test_a_packed_row_holds_its_pairs_one_after_the_other(packed, pairs):
    most = 0
    for k in range(2 * len(packed)):
        batch, ids = packed[k], packed.ids(k)
        assert ids.shape[0] == 3
        for row in range(3):
            source, inputs, targets = [], [], []
            segments, positions = ([], []), ([], [])
            inside = [index for index in ids[row] if index >= 0]
            assert inside == ids[row][:len(inside)].tolist()
            most = max(most, len(inside))
            for segment, index in enumerate(inside, 1):
                left, right = (side.tolist() for side in pairs[index])
                source, inputs, targets = [*source, *left], [*inputs, BEGIN, *right[:-1]], [*targets, *right]
                for side, ids_of_side in enumerate((left, right)):
                    segments[side].extend([segment] * len(ids_of_side))
                    positions[side].extend(range(len(ids_of_side)))
            for found, expected, size in (
                    (batch.source, source, 30), (batch.inputs, inputs, 28), (batch.targets, targets, 28),
                    (batch.source_places.segment, segments[0], 30), (batch.target_places.segment, segments[1], 28)):
                assert found.dtype == np.int32
                assert found[row].tolist() == expected + [0] * (size - len(expected))
            for places, expected in zip((batch.source_places, batch.target_places), positions, strict=True):
                assert places.position[row].tolist()[:len(expected)] == expected
                assert places.position.min() >= 0
    assert most > 3


@pytest.mark.parametrize('number', [0, 1, 5])
def test_every_pair_comes_exactly_once_an_epoch_of_packed_rows(packed, number):
    ids = np.concatenate(epoch(packed, number))
    assert sorted(ids[ids >= 0].tolist()) == list(range(len(LENGTHS)))


def test_packed_rows_are_decided_by_seed_and_number_alone(packed, pairs):
    again = PackedPlan(pairs, (30, 28), 3, seed=9).with_seed(3)
    assert again.shapes_without_seed
    for k in (2 * len(packed) + 1, 0, len(packed) - 1, 0):
        assert same(packed[k], again[k])
    orders = [[ids.tolist() for ids in epoch(one, number)] for one, number in (
        (packed, 0), (packed, 1), (packed.with_seed(4), 0), (packed.with_seed(4), 1), (packed.with_seed(None), 0))]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    ordered = packed.with_seed(None)
    assert len(list(ordered)) == len(ordered)
    with pytest.raises(IndexError):
        ordered[len(ordered)]


def test_packed_pairs_have_other_neighbours_each_epoch():
    """Pairs of equal lengths: two that shared a row share one again about as rarely as chance has it."""
    plan = PackedPlan(CellsAlone([(3, 3)] * 400), (12, 12), 5, seed=1)

    def neighbours(number):
        rows = np.concatenate(epoch(plan, number))
        return {pair for row in rows.tolist() for pair in itertools.combinations(sorted(row), 2) if pair[0] >= 0}
    before, after = neighbours(0), neighbours(1)
    assert len(before) == len(after) == 100 * 6
    assert len(before & after) < 20  # 600 * 600 / 79,800 = 4.5 expected


@pytest.mark.parametrize('lengths', [[(7, 7)] * 7, [(s, 7) for s in range(1, 8)]], ids=['equal', 'different'])
def test_every_row_of_a_packed_epoch_is_as_likely_for_a_pair(lengths):
    """7 pairs in rows of one: over 140 epochs each is in each place about 20 times."""
    plan = PackedPlan(CellsAlone(lengths), (7, 7), 7, seed=0)
    counts = np.zeros((7, 7))
    for number in range(140):
        counts[np.arange(7), plan.ids(number)[:, 0]] += 1
    assert ((counts - 20) ** 2 / 20).sum() < 67.99, '0.1 % point of chi squared with 36 degrees of freedom'


def test_padding_of_packed_rows_is_the_share_of_positions_without_a_symbol(packed):
    real = total = 0
    for k in range(len(packed)):
        for places in (packed[k].source_places, packed[k].target_places):
            real, total = real + (places.segment > 0).sum(), total + places.segment.size
    assert packed.padding == pytest.approx(1 - real / total)


def test_packed_captions_have_little_padding():
    lengths = captions(29_000)
    plan = PackedPlan(CellsAlone(lengths), choose_row(lengths, 128), 64, seed=1)
    assert plan.padding < 0.04
    assert BatchPlan(CellsAlone(lengths), choose_buckets(lengths, 4), 8192).padding > 0.2


def test_packed_pairs_of_multi30k_have_little_padding(shared_data):
    sides = [list(corpus.read_lines(shared_data / 'multi30k' / f'train.{language}.gz')) for language in ('en', 'de')]
    lengths = np.column_stack([[len(line.split()) + 1 for line in lines] for lines in sides])
    plan = PackedPlan(CellsAlone(lengths), choose_row(lengths, 128), 64, seed=1)
    assert sum(plan.shapes[0][1:]) == 128
    assert len(plan.dropped) == 0
    assert plan.padding < 0.03


def test_a_row_has_room_for_each_side_as_both_need_it():
    assert choose_row([(3, 1), (3, 1), (2, 1)], 22) == (16, 6)
    assert choose_row([(3, 1), (2, 1)], 21, [2, 1]) == choose_row([(3, 1), (3, 1), (2, 1)], 21) == (15, 6)
    assert choose_row([(1, 1)] * 30 + [(2, 9)], 12) == (3, 9)
    assert choose_row([(1, 1)] * 30 + [(9, 2)], 11) == (9, 2)
    with pytest.raises(UserError, match=r'row of 10 positions has no room for sides of 9 and 2: .* at least 11'):
        choose_row([(9, 1), (1, 2)], 10)
    with pytest.raises(UserError, match='no pair'):
        choose_row([], 10)


def test_packing_puts_every_pair_into_one_row_that_has_room_for_it():
    numbers = np.random.default_rng(2)
    for _ in range(50):
        store = CellsAlone(numbers.integers(1, 9, (numbers.integers(1, 60), 2)))
        holds, times = pack(store.cells, (10, 12))
        used = collections.Counter()
        for row, count in zip(holds.tolist(), times.tolist(), strict=True):
            row = [cell for cell in row if cell >= 0]
            assert count > 0
            assert row
            assert (store.cells[row, :2].sum(axis=0) <= (10, 12)).all()
            used.update({cell: count * row.count(cell) for cell in row})
        assert [used[cell] for cell in range(len(store.cells))] == store.cells[:, 2].tolist()


def test_packing_by_hand():
    """Two rows hold (7, 7) with (3, 3), and one two of (5, 5): nothing is empty."""
    holds, times = pack(np.array([[3, 3, 2], [5, 5, 2], [7, 7, 2]]), (10, 10))
    assert holds.tolist() == [[0, 2], [1, 1]]
    assert times.tolist() == [2, 1]


def test_pairs_that_fit_in_no_row_are_counted_and_named():
    plan = PackedPlan(made_up([(2, 2), (9, 2), (2, 2), (2, 9)]), (4, 4), 1, seed=1)
    assert plan.dropped.tolist() == [1, 3]
    assert sorted(plan.ids(0)[0].tolist()) == [0, 2]
    with pytest.raises(UserError, match=r'none of 1 pairs fits in a row of \(3, 3\)'):
        PackedPlan(made_up([(4, 1)]), (3, 3), 1)
    with pytest.raises(UserError, match='none of 0 pairs'):
        PackedPlan([], (3, 3), 1)
    with pytest.raises(ValueError, match='at least one row'):
        PackedPlan(made_up([(1, 1)]), (3, 3), 0)


# -------------------------------------------------------------------------------------------------------------- stream

@pytest.mark.parametrize('start', [0, 1, 13, 1000])
def test_a_stream_entered_anywhere_goes_on_as_the_plan_does(plan, start):
    found = stream(plan, start)
    for k in range(start, start + len(plan) + 3):  # across the end of an epoch
        assert same(next(found), plan[k])
    found.close()


def test_a_stream_of_packed_rows_goes_on_as_their_plan_does(packed):
    found = stream(packed, len(packed) - 1)
    for k in range(3):
        assert same(next(found), packed[len(packed) - 1 + k])
    found.close()


def test_a_stream_without_a_seed_ends_with_its_epoch(pairs):
    plan = BatchPlan(pairs, BUCKETS, TOKENS)
    assert len(list(stream(plan))) == len(plan)
    assert len(list(stream(plan, len(plan) - 2))) == 2
    assert list(stream(plan, len(plan))) == []


def test_a_stream_that_is_closed_or_forgotten_leaves_no_thread(plan):
    next(stream(plan))  # grain keeps a thread or two of its own
    gc.collect()
    before = threading.active_count()
    for _ in range(5):
        found = stream(plan)
        next(found)
        found.close()
        with pytest.raises(StopIteration):
            next(found)
    for _ in range(5):
        next(stream(plan))
    gc.collect()
    deadline = time.monotonic() + 10  # a thread that is told to end takes a moment on a busy machine
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_stream_does_not_disturb_a_reader_of_the_same_plan(plan, pairs):
    """The thread of a stream is in one epoch and the reader in another."""
    expected = BatchPlan(pairs, BUCKETS, TOKENS, seed=3)
    found = stream(plan, 7 * len(plan))
    for k in range(2 * len(plan)):
        assert same(next(found), expected[7 * len(plan) + k])
        assert same(plan[k], expected[k])
    found.close()


def test_an_error_while_a_batch_is_made_reaches_the_reader():
    class Broken(list):
        def __getitem__(self, index):
            raise RuntimeError('broken pair')
    found = stream(BatchPlan(Broken(made_up([(1, 1)])), ((1, 1),), 2, seed=0))
    with pytest.raises(RuntimeError, match='broken pair'):
        next(found)
