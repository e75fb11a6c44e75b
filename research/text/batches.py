"""Pairs of ids to batches of few fixed shapes, in an order that can be entered at any place.

    batch      k = 0, 1, 2, ...;   epoch, index = divmod(k, len(plan))
    epoch      each pair once: shuffled within its bucket, then the batches of all buckets are shuffled
    bucket     a shape (S, T);  each batch of it has B = tokens // (S + T) rows
    packed     one shape (S, T); several pairs share a row, and pairs of equal lengths take each other's places

Nothing but the seed and k decides what batch k is, so a run that was stopped goes on with the batch it would have had.
No list of pairs is kept or shuffled: a bucket is the cells (s, t) that fit in it (research/text/store.py), and a
shuffled order is a function from places to pairs, so what a plan needs grows with the number of cells and not of pairs.
"""

import abc
import copy
import operator
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from research.errors import UserError
from research.shapes import Array, Batch, Places
from research.text.store import Ids, Pairs, Store
from research.text.vocabulary import BEGIN, PAD

KEYS = 16  # of an order, two a round: with fewer, orders of four or five things are not equally likely


def choose_buckets(lengths: Sequence[tuple[int, int]], count: int,
                   times: Sequence[int] | None = None) -> tuple[tuple[int, int], ...]:
    """Chooses the shapes that leave the fewest padded positions.

    A shape holds the pairs with s <= S and t <= T that no smaller shape holds. Of all choices of at most `count` shapes
    of which each has room for the one before it, S_1 <= S_2 <= ... and T_1 <= T_2 <= ..., a dynamic programme over
    (S, T) finds the one with the smallest sum over pairs of (S - s) + (T - t).

    Args:
      lengths: [n, 2]: s and t of each pair, or of each cell of a store.
      count: the most shapes there may be.
      times: [n]: how many pairs have these lengths, as the cells of a store say; None = one each.

    Returns:
      The shapes (S, T), smallest first; the last holds the longest pairs. Fewer than `count` where one more saves
      nothing. Where a side has more than 128 different lengths, 128 of them at even distances are tried.

    Raises:
      ValueError: the lengths are not [n, 2] and above 0, or there is another number of times.
      UserError: count is below 1, or there is no pair.
    """
    if count < 1:
        raise UserError(f'the number of buckets is {count}; it must be at least 1')
    if not len(lengths):
        raise UserError('there is no pair to choose buckets for')
    lengths = np.asarray(lengths)
    if lengths.ndim != 2 or lengths.shape[1] != 2 or lengths.min() < 1:
        raise ValueError(f'Lengths must be [n, 2] and above 0: shape {lengths.shape}, smallest {lengths.min()}.')
    if times is not None and len(times) != len(lengths):
        raise ValueError(f'There are {len(lengths)} lengths and {len(times)} times.')
    sources, targets = _candidates(lengths[:, 0]), _candidates(lengths[:, 1])
    held = np.zeros((len(sources), len(targets)), np.int64)  # [i, j]: pairs that sources[i], targets[j] has room for
    places = np.searchsorted(sources, lengths[:, 0]), np.searchsorted(targets, lengths[:, 1])
    np.add.at(held, places, 1 if times is None else times)
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


def choose_row(lengths: Sequence[tuple[int, int]], positions: int,
               times: Sequence[int] | None = None) -> tuple[int, int]:
    """Chooses how a packed row of so many positions is shared by its two sides: as the ids of all pairs are.

    Args:
      lengths: [n, 2]: s and t of each pair, or of each cell of a store.
      positions: S + T.
      times: [n]: how many pairs have these lengths; None = one each.

    Returns:
      (S, T), with room for the longest of each side.

    Raises:
      UserError: the positions have no room for the longest of both sides, or there is no pair.
    """
    if not len(lengths):
        raise UserError('there is no pair to choose a row for')
    lengths = np.asarray(lengths, np.int64)
    longest = lengths.max(axis=0).tolist()
    if positions < sum(longest):
        raise UserError(f'a row of {positions} positions has no room for sides of {longest[0]} and {longest[1]}: it '
                        f'must have at least {sum(longest)}')
    source, target = (lengths if times is None else lengths * np.asarray(times)[:, None]).sum(axis=0).tolist()
    S = (2 * positions * source + source + target) // (2 * (source + target))  # the nearest whole number
    S = min(max(S, longest[0]), positions - longest[1])
    return S, positions - S


def shuffled(places: Array, counts: Array, keys: Array) -> Array:
    """A random order of [0, n) that is computed place by place: a bijection, and nothing is kept of it.

        a rectangle      rows = floor(sqrt n) + 1, columns = ceil(n / rows);   x = row columns + column
        a round          row <- row + mix(column + key) mod rows;   column <- column + mix(row + next key) mod columns
        once more        while the outcome is not below n: few are not, rows columns - n < rows

    Whole numbers alone, so that it stays what it is with any NumPy.

    Args:
      places: uint64 [n], each below its count.
      counts: uint64 [n] or [1]: how many things are in order.
      keys: uint64 [KEYS, n] or [KEYS, 1]: the order.

    Returns:
      What stands in these places, uint64 [n].

    Raises:
      ValueError: a place is not below its count: it could walk for ever.

    Source: Black, Rogaway 2002, "Ciphers with arbitrary finite domains" (generalised Feistel, cycle walking); the round
    function is the mixer of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
    Differs: the rounds are to mix and not to keep a secret.
    """
    counts, keys = np.broadcast_to(counts, places.shape), np.broadcast_to(keys, (KEYS, *places.shape))
    if (places >= counts).any():
        raise ValueError(f'A place must be below its count: {places.max()} of {counts.max()}.')
    # The square root of a float64 is rounded alike everywhere, and any number of rows would do.
    rows = np.sqrt(counts.astype(np.float64)).astype(np.uint64) + np.uint64(1)
    columns = (counts + rows - np.uint64(1)) // rows
    found = _mixed_places(places, rows, columns, keys)
    while (outside := np.flatnonzero(found >= counts)).size:
        found[outside] = _mixed_places(found[outside], rows[outside], columns[outside], keys[:, outside])
    return found


def pack(cells: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Puts pairs together into rows of one shape so that few positions stay empty.

    A row begins with the longest pair that is left and takes, as long as one fits, the pair that leaves the least:
    `max(u / S, v / T)` where u and v positions of its sides stay empty. What fills a row are cells, and it is made as
    often as there are pairs for it: time grows with the square of the number of cells, and not with that of pairs.

    Args:
      cells: int64 [C, 3]: s, t and how many pairs have these lengths, ascending in s; each fits in the shape.
      shape: (S, T) of a row.

    Returns:
      (holds, times): int64 [P, W], the cells of the pairs that share a row, -1 where there is none; int64 [P], how
      many rows are like this.

    Source: Panigrahy, Talwar, Uyeda, Wieder 2011, "Heuristics for vector bin packing" (norm-based greedy, row by row).
    Differs: the norm is the largest share, the first pair of a row is the longest, and equal rows are made at once.
    """
    S, T = shape
    holds, times = [], []
    number = np.arange(len(cells))
    s, t, left = cells.T.copy()
    while len(number):
        s_left, t_left = S, T
        taken: list[int] = []
        choice = int(np.argmax(s / S + t / T))  # the longest
        while True:
            taken.append(choice)
            left[choice] -= 1
            s_left, t_left = s_left - int(s[choice]), t_left - int(t[choice])
            end = np.searchsorted(s, s_left, side='right')
            fits = np.flatnonzero((t[:end] <= t_left) & (left[:end] > 0))
            if not len(fits):
                break
            empty = np.maximum((s_left - s[fits]) / S, (t_left - t[fits]) / T)
            choice = int(fits[np.argmin(empty)])
        different, count = np.unique(taken, return_counts=True)
        more = int((left[different] // count).min())
        left[different] -= more * count
        holds.append(number[np.sort(taken)])
        times.append(1 + more)
        if not left[different].all():
            kept = left > 0
            number, s, t, left = number[kept], s[kept], t[kept], left[kept]
    rows = np.full((len(holds), max(map(len, holds))), -1)
    for row, taken in zip(rows, holds, strict=True):
        row[:len(taken)] = taken
    return rows, np.array(times)


class Members(Sequence):
    """The pairs of some cells: `members[m]` is the original number of member m, looked up when it is asked for.

    They are in the order in which they were read where the store knows it, otherwise they go by their cells.

    Args of the constructor:
      store: of the pairs.
      chosen: boolean [C], the cells.
    """

    def __init__(self, store: Store, chosen: Array):
        """Finds where the cells begin; memory grows with the number of cells where that of the store does."""
        counts = store.cells[chosen, 2]
        self._store, self._order = store, store.in_order(chosen)
        self._ends = counts.cumsum()
        self._shifts = store.first[chosen] - (self._ends - counts)  # number in the store - number of the member
        self._length = int(counts.sum())

    def __len__(self) -> int:
        """How many pairs there are."""
        return self._length

    def __getitem__(self, places):
        """The original number of a member, or a list of them for a slice; IndexError when there is no such member."""
        found = range(len(self))[places]
        if isinstance(found, range):
            return self._store.original(self.numbers(np.array(found, np.int64))).tolist()
        return int(self._store.original(self.numbers(np.array([found])))[0])

    def tolist(self) -> list[int]:
        """The original numbers of all members."""
        return self[:]

    def numbers(self, places: Array) -> Array:
        """The numbers that some members have in the store: int64 [n] -> int64 [n]."""
        if self._order is not None:
            return self._order[places]
        return places + self._shifts[np.searchsorted(self._ends, places, side='right')]


class Plan(abc.ABC):
    """All batches of a run: `plan[k]` is batch k for any k >= 0, `len(plan)` is how many make an epoch.

    Of a pair with several variants an epoch shows one, and the next epoch the next: each once in so many epochs, begun
    with one that the seed decides for each pair. Without a seed it is the first.

    Attributes:
      shapes: (B, S, T): all the shapes that a batch may have.
      padding: share of the positions of an epoch that hold no symbol, those of empty rows counted; where pairs have
        variants, as if the longest of each side were shown.
      dropped: Members: the original numbers of the pairs that fit nowhere, found when they are asked for.
      seed: of the order; None = one epoch and no more.
      shape_seed: of the order in which the shapes come; None = as the seed.
    """

    shapes: tuple[tuple[int, int, int], ...]
    padding: float
    dropped: Members
    seed: int | None
    shape_seed: int | None
    _store: Store
    _length: int
    _labelled: bool

    def with_seed(self, seed: int | None) -> 'Plan':
        """The same pairs in the same shapes, in another order."""
        plan = copy.copy(self)
        plan.seed = seed
        return plan

    @property
    def shapes_without_seed(self) -> bool:
        """Whether batch k has the same shape with every seed."""
        return len(self.shapes) == 1 or self.shape_seed is not None

    def __len__(self) -> int:
        """Batches an epoch."""
        return self._length

    def __getitem__(self, k: int) -> Batch:
        """Batch k; IndexError when there is none."""
        epoch, (B, S, T), numbers = self._batch(k)
        which = self._variants(epoch, numbers)
        rows = [[self._store.variant(*pair) for pair in zip(row, versions) if pair[0] >= 0]
                for row, versions in zip(numbers.reshape(B, -1).tolist(), which.reshape(B, -1).tolist())]
        return filled((B, S, T), rows, self._labelled)

    def ids(self, k: int) -> np.ndarray:
        """Which pair stands where in batch k: the original numbers, -1 where there is none."""
        _, _, numbers = self._batch(k)
        numbers[numbers >= 0] = self._store.original(numbers[numbers >= 0])
        return numbers

    @abc.abstractmethod
    def _rows(self, epoch: int, index: int) -> tuple[tuple[int, int, int], np.ndarray]:
        """The shape (B, S, T) of a batch and the numbers of its pairs, [B] or [B, most in a row], -1 for none."""

    def _batch(self, k):
        k = operator.index(k)
        if k < 0 or (self.seed is None and k >= len(self)):
            raise IndexError(f'There is no batch {k} in a plan of {len(self)} batches an epoch.')
        epoch, index = divmod(k, len(self))
        return epoch, *self._rows(epoch, index)

    def _variants(self, epoch, numbers):
        if self.seed is None or self._store.variants == 1:
            return np.zeros_like(numbers)
        begin = _mixed(numbers.astype(np.uint64) + _keys(self.seed)[0]) % np.uint64(self._store.variants)
        return (begin.astype(np.int64) + epoch) % self._store.variants

    def _shuffled(self, places, count, *place_of_keys, of_shapes=False):
        """Things at some places of an order of the seed; without one each thing is in its own place."""
        if self.seed is None:
            return places
        keys = _keys(self.shape_seed if of_shapes and self.shape_seed is not None else self.seed, *place_of_keys)
        return shuffled(places.astype(np.uint64), np.array([count], np.uint64), keys[:, None]).astype(np.int64)


class BatchPlan(Plan):
    """Batches with a pair a row, in a few shapes.

    A pair goes to the bucket with the smallest S + T that it fits in. Those that are left when a bucket's batches are
    full go up to the next larger shape that holds theirs, other ones each epoch; only where there is none is the last
    batch filled up with empty rows. All batches of a shape have the same size.

        bucket    rows    own pairs    from below    batches    left
        (8, 8)      4        10            0            2         2       which go up
        (12, 9)     3         9            2            3         2
        (16, 16)    2         3            2            3         0       of 2 rows, the last with one empty

    Args of the constructor:
      pairs: a store, or (source ids [s], target ids [t]) each; both end in END, unless they are labelled or the end is
        not asked for.
      buckets: shapes (S, T); T counts the target with its END.
      tokens: positions of a batch, padding and both sides counted; B = tokens // (S + T).
      seed: of the order; None = bucket by bucket, one epoch and no more (for evaluation): in the order of the pairs, or
        of their cells where the store knows no other.
      labelled: a pair is symbols and as many labels, PAD where nothing is asked: the symbols are what the model reads
        at each position and the labels what it should say there, none of them moved.
      shape_seed: of the order in which the batches of all buckets come; which pairs stand in them is the seed's alone.
        Plans of several seeds with the same one have the same shape at each place. None = as the seed; without a seed
        it means nothing.

    Attributes:
      shapes: (B, S, T) of each bucket that holds a pair.

    `ids(k)` is int64 [B].

    Raises:
      ValueError: a side of a pair has no id.
      UserError: a bucket has no room for one pair in a batch, or no pair fits in any bucket.
    """

    def __init__(self, pairs: Store | Sequence[Ids], buckets: Sequence[tuple[int, int]], tokens: int,
                 seed: int | None = None, labelled: bool = False, shape_seed: int | None = None):
        """Finds the bucket of each cell; makes no batch yet."""
        buckets = sorted(buckets, key=lambda bucket: (sum(bucket), bucket))
        for S, T in buckets:
            if tokens < S + T:
                raise UserError(f'bucket ({S}, {T}) takes {S + T} positions a pair, and a batch has {tokens}: tokens '
                                f'must be at least {S + T}')
        self._store = store = pairs if isinstance(pairs, Store) else Pairs(pairs)
        self.seed, self.shape_seed, self._labelled = seed, shape_seed, labelled
        lengths = store.cells[:, :2]
        home = np.full(len(lengths), -1)
        for number in reversed(range(len(buckets))):
            home[(lengths <= buckets[number]).all(axis=1)] = number
        used = np.unique(home[home >= 0]).tolist()
        if not used:
            raise UserError(f'none of {len(store)} pairs fits in a bucket; the buckets are {buckets}')
        self._buckets = [Members(store, home == number) for number in used]
        self.dropped = Members(store, home < 0)
        self.shapes = tuple((tokens // (S + T), S, T) for S, T in (buckets[number] for number in used))
        self._below: list[list[int]] = [[] for _ in used]  # the buckets whose last pairs come up to each
        self._counts, self._left = [len(members) for members in self._buckets], [0] * len(used)
        batches = []
        for bucket, (B, S, T) in enumerate(self.shapes):
            above = next((number for number, (_, wide, long) in enumerate(self.shapes[bucket + 1:], bucket + 1)
                          if wide >= S and long >= T), None)
            self._left[bucket] = 0 if above is None else self._counts[bucket] % B
            if self._left[bucket]:
                self._below[above].append(bucket)
                self._counts[above] += self._left[bucket]
            batches.append(-(-(self._counts[bucket] - self._left[bucket]) // B))
        self._ends = np.cumsum(batches)  # of the batches of each bucket
        self._length = sum(batches)
        positions = sum(count * B * (S + T) for count, (B, S, T) in zip(batches, self.shapes))
        self.padding = 1 - _symbols(store.cells[home >= 0]) / positions

    def _rows(self, epoch, index):
        index = int(self._shuffled(np.array([index]), len(self), epoch, of_shapes=True)[0])
        bucket = int(np.searchsorted(self._ends, index, side='right'))
        shape = self.shapes[bucket]
        B = shape[0]
        first = (index - (int(self._ends[bucket - 1]) if bucket else 0)) * B
        places = np.arange(first, min(first + B, self._counts[bucket]))
        numbers = np.full(B, -1)
        numbers[:len(places)] = self._numbers(epoch, bucket, places)
        return shape, numbers

    def _numbers(self, epoch, bucket, places):
        """The pairs at some places of a bucket's order; its own and those from below are shuffled together."""
        members, numbers = self._buckets[bucket], np.empty(len(places), np.int64)
        found = self._shuffled(places, self._counts[bucket], epoch, bucket)
        numbers[found < len(members)] = members.numbers(found[found < len(members)])
        first = len(members)
        for below in self._below[bucket]:  # the last places of its order are those that were left
            here = (first <= found) & (found < first + self._left[below])
            if here.any():
                left = self._counts[below] - self._left[below] + found[here] - first
                numbers[here] = self._numbers(epoch, below, left)
            first += self._left[below]
        return numbers


class PackedPlan(Plan):
    """Batches of one shape in which several pairs share a row: segments 1, 2, ... in the source and in the target.

        source    ein Hund </s> ja </s> <pad>      segment  1 1 1 2 2 0      position  0 1 2 0 1 2
        inputs    <s> a dog <s> yes <pad>          segment  1 1 1 2 2 0      position  0 1 2 0 1 2

    Which lengths share a row is found once, by `pack`; which pairs of these lengths they are, and which rows make a
    batch, seed and epoch decide. For models in which a position sees its own segment and nothing else.

    Args of the constructor:
      pairs: a store, or (source ids [s], target ids [t]) each; both end in END.
      shape: (S, T) of a row; T counts the targets with their ENDs.
      rows: B.
      seed: of the order; None = one epoch and no more (for evaluation), rows of equal lengths one after the other.
      longest: (s, t): a longer pair is dropped, though the row may have room for it; None = the row decides alone.

    `ids(k)` is int64 [B, most pairs in a row], in the order of the segments.

    Raises:
      ValueError: a side of a pair has no id, or B is below 1.
      UserError: no pair fits in a row.
    """

    def __init__(self, pairs: Store | Sequence[Ids], shape: tuple[int, int], rows: int, seed: int | None = None,
                 longest: tuple[int, int] | None = None):
        """Packs; makes no batch yet."""
        if rows < 1:
            raise ValueError(f'A batch has at least one row, not {rows}.')
        self._store = store = pairs if isinstance(pairs, Store) else Pairs(pairs)
        self.seed, self.shape_seed, self._labelled = seed, None, False  # there is one shape
        S, T = shape
        room = np.minimum((S, T), longest or (S, T))
        fits = (store.cells[:, :2] <= room).all(axis=1)
        if not fits.any():
            raise UserError(f'none of {len(store)} pairs fits in a row of ({S}, {T})')
        self.dropped = Members(store, ~fits)
        self._cells, self._first = store.cells[fits], store.first[fits]
        self._holds, times = pack(self._cells, (S, T))
        self._ends = times.cumsum()  # of the rows of each kind
        self._begins = self._ends - times
        self._steps, self._used = _slots(self._holds, times, len(self._cells))
        self.shapes = ((rows, S, T),)
        self._length = -(-int(self._ends[-1]) // rows)
        self.padding = 1 - _symbols(self._cells) / (self._length * rows * (S + T))

    def _rows(self, epoch, index):
        (B, _, _), count = self.shapes[0], int(self._ends[-1])
        places = self._shuffled(np.arange(index * B, min((index + 1) * B, count)), count, epoch)
        kinds = np.searchsorted(self._ends, places, side='right')
        cells, numbers = self._holds[kinds], np.full((B, self._holds.shape[1]), -1)
        there = cells >= 0
        slots = self._used[kinds] + (places - self._begins[kinds])[:, None] * self._steps[kinds]
        numbers[:len(places)][there] = self._first[cells[there]] + self._within(epoch, cells[there], slots[there])
        return self.shapes[0], numbers

    def _within(self, epoch, cells, slots):
        """Which pair of its cell is in each slot: each cell has an order of its own."""
        if self.seed is None:
            return slots
        keys = _mixed(_keys(self.seed, epoch, 0)[:, None] + cells.astype(np.uint64))
        counts = self._cells[cells, 2].astype(np.uint64)
        return shuffled(slots.astype(np.uint64), counts, keys).astype(np.int64)


def filled(shape: tuple[int, int, int], rows: Sequence[Sequence[Ids]], labelled: bool = False) -> Batch:
    """A batch (B, S, T) of at most B rows of pairs; positions count on over the padding behind a pair."""
    B, S, T = shape
    source, inputs, targets = (np.full((B, size), PAD, np.int32) for size in (S, T, T))
    source_places, target_places = (
        Places(np.zeros((B, size), np.int32), np.tile(np.arange(size, dtype=np.int32), (B, 1))) for size in (S, T))
    for row, pairs in enumerate(rows):
        s = t = 0
        for segment, (left, right) in enumerate(pairs, 1):
            s_end, t_end = s + len(left), t + len(right)
            source[row, s:s_end], targets[row, t:t_end] = left, right
            if labelled:
                inputs[row, t:t_end] = left
            else:
                inputs[row, t], inputs[row, t + 1:t_end] = BEGIN, right[:-1]
            source_places.segment[row, s:s_end], target_places.segment[row, t:t_end] = segment, segment
            if segment > 1:
                source_places.position[row, s:], target_places.position[row, t:] = np.arange(S - s), np.arange(T - t)
            s, t = s_end, t_end
    return Batch(source, source_places, inputs, targets, target_places)


def stream(plan: Plan, start: int = 0, prefetch: int = 4) -> Iterator[Batch]:
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


def _slots(holds, times, cells):
    """Where in its cell the pair at each place of a kind of row is: `used + row of the kind * step`, [P, W] each.

    A kind that holds a cell twice takes two pairs of it a row, behind those that the kinds before it took.
    """
    steps, used, taken = np.ones_like(holds), np.zeros_like(holds), np.zeros(cells, np.int64)
    for kind, row in enumerate(holds):
        row = row[row >= 0]
        different, inverse, count = np.unique(row, return_inverse=True, return_counts=True)
        # Cells stand sorted in a row, so those that are alike are side by side.
        steps[kind, :len(row)] = count[inverse]
        used[kind, :len(row)] = taken[row] + np.arange(len(row)) - (count.cumsum() - count)[inverse]
        taken[different] += times[kind] * count
    return steps, used


def _symbols(cells):
    """Ids in all pairs of some cells."""
    return int((cells[:, :2].sum(axis=1) * cells[:, 2]).sum())


def _keys(seed, *place):
    """The keys of an order: uint64 [KEYS]; NumPy promises that a seed sequence's words stay what they are."""
    return np.random.SeedSequence(seed, spawn_key=place).generate_state(KEYS, np.uint64)


def _mixed_places(places, rows, columns, keys):
    """All rounds of an order over a rectangle."""
    row, column = places // columns, places % columns
    for first, second in zip(keys[::2], keys[1::2]):
        row = (row + _mixed(column + first) % rows) % rows
        column = (column + _mixed(row + second) % columns) % columns
    return row * columns + column


def _mixed(x):
    """Each bit of a uint64 to all bits of another; arithmetic is modulo 2^64."""
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)
