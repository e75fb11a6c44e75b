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

    A shape holds the pairs with s <= S and t <= T that no smaller shape holds. Of all choices of at most `count` shapes
    of which each has room for the one before it, S_1 <= S_2 <= ... and T_1 <= T_2 <= ..., a dynamic programme over
    (S, T) finds the one with the smallest sum over pairs of (S - s) + (T - t).

    Args:
      lengths: [n, 2]: s and t of each pair.
      count: the most shapes there may be.

    Returns:
      The shapes (S, T), smallest first; the last holds the longest pairs. Fewer than `count` where one more saves
      nothing. Where a side has more than 128 different lengths, 128 of them at even distances are tried.

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
    sources, targets = _candidates(lengths[:, 0]), _candidates(lengths[:, 1])
    held = np.zeros((len(sources), len(targets)), np.int64)  # [i, j]: pairs that sources[i], targets[j] has room for
    np.add.at(held, (np.searchsorted(sources, lengths[:, 0]), np.searchsorted(targets, lengths[:, 1])), 1)
    held = held.cumsum(axis=0).cumsum(axis=1)
    sizes = sources[:, None] + targets

    # fewest[n][i, j]: positions that all pairs in [i, j] take in at most n + 1 shapes of which [i, j] is the last.
    # What is no padding is the same for every choice, so the fewest positions are the fewest padded ones.
    fewest, before = [held * sizes], []
    for _ in range(1, min(count, held.size)):
        positions, choices = np.empty_like(held), np.empty_like(held)
        for i, j in np.ndindex(held.shape):
            inner = slice(i + 1), slice(j + 1)
            options = fewest[-1][inner] + (held[i, j] - held[inner]) * sizes[i, j]
            choices[i, j] = options.argmin()
            positions[i, j] = options.flat[choices[i, j]]
        fewest.append(positions)
        before.append(choices)

    i, j = held.shape[0] - 1, held.shape[1] - 1
    shapes = [(int(sources[i]), int(targets[j]))]
    enough = int(np.argmin([positions[-1, -1] for positions in fewest]))  # the first of equal ones: no shape too many
    for choices in before[:enough][::-1]:
        i, j = np.unravel_index(choices[i, j], (i + 1, j + 1))
        shapes.append((int(sources[i]), int(targets[j])))
    return tuple(shapes[::-1])


class BatchPlan:
    """All batches of a run: `plan[k]` is batch k for any k >= 0, `len(plan)` is how many make an epoch.

    A pair goes to the bucket with the smallest S + T that it fits in. The last batch of a bucket is filled up with
    empty rows, not smaller. Memory besides the pairs grows with their number only.

    Args of the constructor:
      pairs: (source ids [s], target ids [t]) each; both end in END, unless they are labelled.
      buckets: shapes (S, T); T counts the target with its END.
      tokens: positions of a batch, padding and both sides counted; B = tokens // (S + T).
      seed: of the order; None = in the order of the pairs, bucket by bucket, one epoch and no more (for evaluation).
      labelled: a pair is symbols and as many labels, PAD where nothing is asked: the symbols are what the model reads
        at each position and the labels what it should say there, none of them moved.

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
                 tokens: int, seed: int | None = None, labelled: bool = False):
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
        self.seed, self._labelled = seed, labelled
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
            if self._labelled:
                inputs[row, :len(left)] = left
            else:
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


def _candidates(lengths):
    """At most 128 of the different lengths, the longest among them: the programme's time grows with their square."""
    different = np.unique(lengths)
    return different[np.linspace(0, len(different) - 1, min(len(different), 128)).round().astype(int)]


def _places(segment):
    return Places(segment, np.tile(np.arange(segment.shape[1], dtype=np.int32), (len(segment), 1)))


def _permutation(bits, count):
    """A random order of so many things."""
    # NumPy promises that a bit generator's bits stay what they are; the shuffles that it makes of them may change.
    return np.argsort(bits.random_raw(count), kind='stable')
