"""Pairs of ids to batches of few fixed shapes, in an order that can be entered at any place.

    batch      k = 0, 1, 2, ...;   epoch, index = divmod(k, len(plan))
    epoch      each pair once: shuffled within its bucket, then the batches of all buckets are shuffled
    bucket     a shape (S, T);  each batch of it has B = tokens // (S + T) rows

Nothing but the seed and k decides what batch k is, so a run that was stopped goes on with the batch it would have had.
"""

import copy
import operator
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from research.errors import UserError
from research.shapes import Batch, Places
from research.text.vocabulary import BEGIN, PAD


def choose_buckets(lengths: Sequence[tuple[int, int]], count: int) -> tuple[tuple[int, int], ...]:
    """Chooses the shapes that leave the fewest padded positions.

    The pairs are sorted by s + t and cut between different sums into at most `count` groups; a group's shape is its
    (max s, max t).  Minimised by a dynamic programme over the sums:  sum over pairs of (S - s) + (T - t).

    Args:
      lengths: [n, 2]: s and t of each pair.
      count: the most shapes there may be.

    Returns:
      The shapes (S, T), that of the shortest pairs first; fewer than `count` where one more saves nothing.

    Raises:
      ValueError: the lengths are not [n, 2] and above 0.
      UserError: count is below 1, or there is no pair.
    """
    if count < 1:
        raise UserError(f'the number of buckets is {count}; it must be at least 1')
    if not len(lengths):
        raise UserError('there is no pair to choose buckets for')
    lengths = np.asarray(lengths)
    if lengths.ndim != 2 or lengths.shape[1] != 2 or lengths.min() < 1:
        raise ValueError(f'Lengths must be [n, 2] and above 0: shape {lengths.shape}, smallest {lengths.min()}.')
    sums, which, counts = np.unique(lengths.sum(axis=1), return_inverse=True, return_counts=True)
    widest = np.zeros((len(sums), 2), np.int64)
    np.maximum.at(widest, which, lengths)

    # taken[i, j]: positions, padding counted, of one group that holds the sums i .. j. What is not padding is the same
    # for every choice, so the fewest positions are the fewest padded ones.
    taken = np.full((len(sums), len(sums)), np.inf)
    for first in range(len(sums)):
        shapes = np.maximum.accumulate(widest[first:], axis=0)
        taken[first, first:] = shapes.sum(axis=1) * np.cumsum(counts[first:])
    fewest, begins = [taken[0]], [np.zeros(len(sums), np.int64)]  # for one group more each: of the sums 0 .. j
    for _ in range(1, min(count, len(sums))):
        before = np.concatenate([[np.inf], fewest[-1][:-1]])
        options = before[:, None] + taken  # [i, j]: the last group is i .. j
        fewest.append(options.min(axis=0))
        begins.append(options.argmin(axis=0))

    groups = int(np.argmin([positions[-1] for positions in fewest]))  # the first of equal ones: the fewest groups
    buckets, end = [], len(sums)
    for begin in begins[groups::-1]:
        first = int(begin[end - 1])
        buckets.append(tuple(widest[first:end].max(axis=0).tolist()))
        end = first
    return tuple(buckets[::-1])


class BatchPlan:
    """All batches of a run: `plan[k]` is batch k for any k >= 0, `len(plan)` is how many make an epoch.

    A pair goes to the bucket with the smallest S + T that it fits in. The last batch of a bucket is filled up with
    empty rows, not smaller. Memory besides the pairs grows with their number only.

    Args of the constructor:
      pairs: (source ids [s], target ids [t]) each; both end in END.
      buckets: shapes (S, T); T counts the target with its END.
      tokens: positions of a batch, padding and both sides counted; B = tokens // (S + T).
      seed: of the order; None = in the order of the pairs, bucket by bucket, one epoch and no more (for evaluation).

    Attributes:
      shapes: (B, S, T) of each bucket that holds a pair: all the shapes that a batch may have.
      padding: share of the positions of an epoch that hold no symbol, those of empty rows counted.
      dropped: int [n], indices of the pairs that fit in no bucket.
      seed: of the order.

    Raises:
      ValueError: a side of a pair has no id.
      UserError: a bucket has no room for one pair in a batch, or no pair fits in any bucket.
    """

    def __init__(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]], buckets: Sequence[tuple[int, int]],
                 tokens: int, seed: int | None = None):
        """Finds the bucket of each pair; makes no batch yet."""
        buckets = sorted(buckets, key=lambda bucket: (sum(bucket), bucket))
        for S, T in buckets:
            if tokens < S + T:
                raise UserError(f'bucket ({S}, {T}) takes {S + T} positions a pair, and a batch has {tokens}: tokens '
                                f'must be at least {S + T}')
        lengths = np.array([(len(source), len(target)) for source, target in pairs], np.int64).reshape(-1, 2)
        if (lengths < 1).any():
            raise ValueError('Each side of a pair must have at least one id, its END.')
        home = np.full(len(lengths), -1)
        for number in reversed(range(len(buckets))):
            home[(lengths <= buckets[number]).all(axis=1)] = number
        held = [(bucket, np.flatnonzero(home == number)) for number, bucket in enumerate(buckets)]
        self._buckets = [((tokens // (S + T), S, T), members) for (S, T), members in held if len(members)]
        if not self._buckets:
            raise UserError(f'none of {len(lengths)} pairs fits in a bucket; the buckets are {buckets}')
        self._pairs = pairs
        self._length = sum(-(-len(members) // B) for (B, _, _), members in self._buckets)
        self._kept = None
        self.seed = seed
        self.shapes = tuple(shape for shape, _ in self._buckets)
        self.dropped = np.flatnonzero(home < 0)
        positions = sum(-(-len(members) // B) * B * (S + T) for (B, S, T), members in self._buckets)
        self.padding = 1 - int(lengths[home >= 0].sum()) / positions

    def with_seed(self, seed: int | None) -> 'BatchPlan':
        """The same pairs in the same shapes, in another order."""
        plan = copy.copy(self)
        plan.seed, plan._kept = seed, None
        return plan

    def __len__(self) -> int:
        """Batches an epoch."""
        return self._length

    def __getitem__(self, k: int) -> Batch:
        """Batch k; IndexError when there is none."""
        (B, S, T), ids = self._batch(k)
        source, source_segment = np.full((B, S), PAD, np.int32), np.zeros((B, S), np.int32)
        inputs, targets = np.full((B, T), PAD, np.int32), np.full((B, T), PAD, np.int32)
        target_segment = np.zeros((B, T), np.int32)
        for row, index in enumerate(ids[ids >= 0]):
            left, right = self._pairs[index]
            source[row, :len(left)], source_segment[row, :len(left)] = left, 1
            inputs[row, 0], inputs[row, 1:len(right)] = BEGIN, right[:-1]
            targets[row, :len(right)], target_segment[row, :len(right)] = right, 1
        return Batch(source, _places(source_segment), inputs, targets, _places(target_segment))

    def ids(self, k: int) -> np.ndarray:
        """Which pair stands in which row of batch k: int [B], -1 for an empty row."""
        return self._batch(k)[1].copy()

    def _batch(self, k):
        k = operator.index(k)
        if k < 0 or (self.seed is None and k >= len(self)):
            raise IndexError(f'There is no batch {k} in a plan of {len(self)} batches an epoch.')
        epoch, index = divmod(k, len(self))
        kept = self._kept  # read once: a stream's thread may be in another epoch and put its own here
        if kept is None or kept[0] != epoch:
            kept = self._kept = epoch, self._arrange(epoch)
        return kept[1][index]

    def _arrange(self, epoch):
        """The batches of an epoch: [(shape, ids [B])]."""
        bits = None if self.seed is None else np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=(epoch,)))
        batches = []
        for shape, members in self._buckets:
            B = shape[0]
            ids = np.full(-(-len(members) // B) * B, -1)
            ids[:len(members)] = members if bits is None else members[_permutation(bits, len(members))]
            batches.extend((shape, row) for row in ids.reshape(-1, B))
        return batches if bits is None else [batches[index] for index in _permutation(bits, len(batches))]


def stream(plan: BatchPlan, start: int = 0, prefetch: int = 4) -> Iterator[Batch]:
    """Yields plan[start], plan[start + 1], ..., prepared ahead in a thread.

    Args:
      plan: of the batches; without a seed the stream ends with its epoch, otherwise never.
      start: the first batch.
      prefetch: batches that are prepared before they are asked for.

    Yields:
      Batches. `close()` ends the thread, and so does dropping the last reference.
    """
    import grain  # slow to import, and nothing else here needs it
    numbers = grain.MapDataset.range(start, len(plan) if plan.seed is None else sys.maxsize)
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=prefetch)
    batches = iter(numbers.map(lambda k: plan[k]).to_iter_dataset(options))
    try:
        yield from batches
    finally:
        batches.close()


def _places(segment):
    return Places(segment, np.tile(np.arange(segment.shape[1], dtype=np.int32), (len(segment), 1)))


def _permutation(bits, count):
    """A random order of so many things."""
    # NumPy promises that a bit generator's bits stay what they are; the shuffles that it makes of them may change.
    return np.argsort(bits.random_raw(count), kind='stable')
