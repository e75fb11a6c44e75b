"""Pairs to batches: every pair once, few shapes, and an order that can be entered anywhere."""

import gc
import itertools
import threading
import time

import numpy as np
import pytest

from research.errors import UserError
from research.text.batches import BatchPlan, choose_buckets, stream
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


def test_a_pair_is_in_the_smallest_bucket_that_it_fits_in(plan):
    for k in range(len(plan)):
        for index in plan.ids(k):
            if index >= 0:
                fitting = [bucket for bucket in BUCKETS
                           if LENGTHS[index][0] <= bucket[0] and LENGTHS[index][1] <= bucket[1]]
                assert plan[k].source.shape[1] + plan[k].inputs.shape[1] == min(map(sum, fitting))


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


def test_the_last_batch_of_a_bucket_is_filled_up_with_empty_rows():
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
    """One bucket of 7 pairs in rows of one: over 700 epochs each pair is in each place about 100 times."""
    plan = BatchPlan(made_up([(1, 1)] * 7), ((1, 1),), 2, seed=0)
    counts = np.zeros((7, 7))
    for number in range(700):
        for k, ids in enumerate(epoch(plan, number)):
            counts[k, ids[0]] += 1
    statistic = ((counts - 100) ** 2 / 100).sum()
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


def test_the_order_follows_from_the_bits_that_numpy_promises_to_keep():
    """By hand: ranks of the raw numbers of PCG64, first for the pairs of each bucket, then for the batches."""
    plan = BatchPlan(made_up([(1, 1)] * 5), ((1, 1),), 4, seed=11)
    bits = np.random.PCG64(np.random.SeedSequence(11, spawn_key=(2,)))
    members, batches = ([value for _, value in sorted(zip(bits.random_raw(n).tolist(), range(n)))] for n in (5, 3))
    rows = [*members, -1]
    assert [ids.tolist() for ids in epoch(plan, 2)] == [rows[2 * b:2 * b + 2] for b in batches]


def test_what_ids_returns_is_the_callers_own(plan):
    before = plan.ids(0)
    plan.ids(0)[:] = 0
    np.testing.assert_array_equal(plan.ids(0), before)


# ---------------------------------------------------------------------------------------------------------- evaluation

def test_without_a_seed_the_pairs_come_in_order_and_once(pairs):
    plan = BatchPlan(pairs, BUCKETS, TOKENS)
    ids = np.concatenate([plan.ids(k) for k in range(len(plan))])
    assert sorted(ids[ids >= 0].tolist()) == list(range(len(LENGTHS)))
    for shape in plan.shapes:
        inside = [index for k in range(len(plan)) for index in plan.ids(k) if plan[k].source.shape[1] == shape[1]]
        inside = [index for index in inside if index >= 0]
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
    assert plan.dropped.tolist() == [1, 3]
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


# -------------------------------------------------------------------------------------------------------------- stream

@pytest.mark.parametrize('start', [0, 1, 13, 1000])
def test_a_stream_entered_anywhere_goes_on_as_the_plan_does(plan, start):
    batches = stream(plan, start)
    for k in range(start, start + len(plan) + 3):  # across the end of an epoch
        assert same(next(batches), plan[k])
    batches.close()


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
        batches = stream(plan)
        next(batches)
        batches.close()
        with pytest.raises(StopIteration):
            next(batches)
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
    batches = stream(plan, 7 * len(plan))
    for k in range(2 * len(plan)):
        assert same(next(batches), expected[7 * len(plan) + k])
        assert same(plan[k], expected[k])
    batches.close()


def test_an_error_while_a_batch_is_made_reaches_the_reader():
    class Broken(list):
        def __getitem__(self, index):
            raise RuntimeError('broken pair')
    batches = stream(BatchPlan(Broken(made_up([(1, 1)])), ((1, 1),), 2, seed=0))
    with pytest.raises(RuntimeError, match='broken pair'):
        next(batches)
