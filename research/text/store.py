"""Pairs of ids sorted by their lengths: in memory, or in files, where there may be any number of them.

    cell       (s, t): the pairs whose source has s ids and whose target has t; cells go by s, then by t
    number     i = 0, 1, ...: of a pair in the order of its cells, so that a cell is a range of numbers
    original   the number of the same pair in the order in which it was read

    <folder>/<split>/store.json     what the store holds, and size and sha256 of its files
    <folder>/<split>/ids            a block [count, variants, s + t] for each cell: equal lengths need no offsets
    <folder>/<split>/originals      int64 [n]
    <folder>/<split>.writing/       being written, or what a kill left of that: the next writer removes it

Files are read where a pair lies and not mapped: mapped pages would count as memory of the process that touched them.
"""

import abc
import collections
import contextlib
import functools
import operator
import os
import pathlib
import shutil
import weakref
from collections.abc import Iterator, Sequence

import numpy as np

from research.errors import UserError
from research.sealed import sealed, sha256, unsealed
from research.text.vocabulary import PAD

FORMAT = 1
MANIFEST, IDS, ORIGINALS = 'store.json', 'ids', 'originals'
ORIGINAL = np.dtype('<i8')
BLOCK = 1 << 20  # ids that a writer holds at once; what it needs besides grows with the number of cells only

Ids = tuple[np.ndarray, np.ndarray]  # of a source and of its target


class Store(abc.ABC):
    """Pairs sorted by cell: `store[i]` is pair i, `len(store)` how many there are.

    Attributes:
      cells: int64 [C, 3]: s, t and how many pairs have these lengths, ascending in (s, t), none of them 0.
      variants: how many versions there are of each pair, such as segmentations into subwords; 1 = the pair alone. The
        cell of a pair is that of the longest of each side.
    """

    cells: np.ndarray
    variants: int

    @functools.cached_property
    def first(self) -> np.ndarray:
        """The number of the first pair of each cell: int64 [C]."""
        return self.cells[:, 2].cumsum() - self.cells[:, 2]

    def __len__(self) -> int:
        """How many pairs there are."""
        return int(self.cells[:, 2].sum())

    def __getitem__(self, number: int) -> Ids:
        """The first version of a pair; IndexError when there is no such pair."""
        return self.variant(number, 0)

    @abc.abstractmethod
    def variant(self, number: int, which: int) -> Ids:
        """Version `which` of a pair: source ids [s], target ids [t], at most as long as its cell says."""

    @abc.abstractmethod
    def original(self, numbers: np.ndarray) -> np.ndarray:
        """The original numbers of some pairs: int64 [n] -> int64 [n]."""

    def in_order(self, chosen: np.ndarray) -> np.ndarray | None:
        """The numbers of all pairs of some cells, boolean [C], in the order in which the pairs were read: int64 [n].

        None = a number for each of them is too much to keep, and they go by their cells.
        """
        return None


class Pairs(Store):
    """Pairs in memory.

    Args of the constructor:
      pairs: (source ids [s], target ids [t]) each, in the order in which they were read.

    Raises:
      ValueError: a side of a pair has no id.
    """

    variants = 1

    def __init__(self, pairs: Sequence[Ids]):
        """Sorts the pairs by their lengths; those of equal lengths stay in their order."""
        lengths = np.array([(len(source), len(target)) for source, target in pairs], np.int64).reshape(-1, 2)
        if (lengths < 1).any():
            raise ValueError('Each side of a pair must have at least one id, its END.')
        self._pairs = pairs
        self._originals = np.lexsort((lengths[:, 1], lengths[:, 0]))
        different, counts = np.unique(lengths, axis=0, return_counts=True)
        self.cells = np.column_stack((different, counts))

    def variant(self, number: int, which: int) -> Ids:
        """A pair as it was given: there is one version of it."""
        return self._pairs[self._originals[_checked(number, len(self._pairs), which, self.variants)]]

    def original(self, numbers: np.ndarray) -> np.ndarray:
        """The places that some pairs had in what was given."""
        return self._originals[numbers]

    def in_order(self, chosen: np.ndarray) -> np.ndarray:
        """The numbers of all pairs of some cells in the order in which they were given."""
        numbers = np.flatnonzero(np.repeat(chosen, self.cells[:, 2]))
        return numbers[np.argsort(self._originals[numbers])]


class PreparedPairs(Store):
    """The pairs that a StoreWriter has written: opening reads their cells, and `store[i]` the ids of one pair.

    Args of the constructor:
      folder: of the stores of a corpus.
      split: the name of this one.

    Attributes:
      digest: the sha256 of all that is stored, in hexadecimal digits: equal for equal pairs in equal order only.

    Raises:
      UserError: there is no such store, it is of another format, or a file of it is damaged, absent or has another
        size than was written. Bytes are compared by `verify` alone.
    """

    def __init__(self, folder: str | os.PathLike[str], split: str):
        """Opens the files and compares their sizes."""
        self._place = folder, split
        self._folder = pathlib.Path(folder) / split
        content = _read_manifest(self._folder)
        self.digest, self._files = content['sha256'], content['files']
        for name, expected in self._files.items():
            path = self._folder / name
            if not path.is_file():
                raise UserError(f'{path}: there is no such file; the store must be prepared again')
            if path.stat().st_size != expected['bytes']:
                raise UserError(f'{path}: has {path.stat().st_size:,} bytes and {expected["bytes"]:,} were written; '
                                'the store must be prepared again')
        self.cells, self.variants = np.array(content['cells'], np.int64), content['variants']
        self._dtype = np.dtype(content['dtype'])
        self._length = super().__len__()
        self._begins = _begins(self.cells, self.variants)
        self._ids, self._originals = self._open(IDS), self._open(ORIGINALS)

    def __reduce__(self):
        """A copy, in another process too, opens the files anew."""
        return type(self), self._place

    def __len__(self) -> int:
        """How many pairs there are."""
        return self._length

    def variant(self, number: int, which: int) -> Ids:
        """One version of a pair, int32; its padding is cut off."""
        number = _checked(number, self._length, which, self.variants)
        cell = self.first.searchsorted(number, side='right') - 1
        s, t, _ = self.cells[cell].tolist()
        row = (number - int(self.first[cell])) * self.variants + which
        ids = self._read(IDS, self._ids, self._dtype, int(self._begins[cell]) + row * (s + t), s + t).astype(np.int32)
        source, target = ids[:s], ids[s:]
        if self.variants == 1:
            return source, target  # PAD may stand in it: where a label asks for nothing
        return source[:np.count_nonzero(source)], target[:np.count_nonzero(target)]

    def original(self, numbers: np.ndarray) -> np.ndarray:
        """The places that some pairs had among those that were written."""
        found = [self._read(ORIGINALS, self._originals, ORIGINAL, number, 1) for number in np.asarray(numbers).tolist()]
        return np.concatenate([np.zeros(0, np.int64), *found])

    def verify(self) -> None:
        """Reads every byte; raises UserError, naming it, for a file that is not what was written."""
        for name, expected in self._files.items():
            if sha256(self._folder / name) != expected['sha256']:
                raise UserError(f'{self._folder / name}: is not what was written, its sha256 differs; the store must '
                                'be prepared again')

    def _open(self, name):
        file = os.open(self._folder / name, os.O_RDONLY)
        weakref.finalize(self, os.close, file)
        return file

    def _read(self, name, file, dtype, begin, count):
        """Reads `count` numbers from the one at `begin` on; has no position that threads could disturb."""
        content = os.pread(file, count * dtype.itemsize, begin * dtype.itemsize)
        if len(content) < count * dtype.itemsize:
            raise UserError(f'{self._folder / name}: ends before byte {(begin + count) * dtype.itemsize:,}; it was cut '
                            'off after it had been opened')
        return np.frombuffer(content, dtype)


class StoreWriter:
    """Writes pairs in any order into a store; memory grows with the number of cells, not with that of pairs.

        with StoreWriter(folder, 'train', size=len(vocabulary)) as writer:
            writer.add((source, target))

    Pairs go into one file as they come and, when all are there, into the blocks of their cells, so for a while the disk
    holds them twice. The store appears under its name when it is whole; after an error nothing is left. One process
    writes.

    Args of the constructor:
      folder: of the stores of a corpus; made if it is missing.
      split: the name of this one.
      size: V, the larger one of both vocabularies: up to 65,536 an id takes two bytes, otherwise four.
      variants: how many versions of each pair `add` gets.

    Raises:
      UserError: there is a store of that name, the disk refuses, or nothing was added.
    """

    def __init__(self, folder: str | os.PathLike[str], split: str, size: int, variants: int = 1):
        """Makes an empty folder for what is not whole yet."""
        if not 1 <= size <= 1 << 31 or variants < 1:
            raise ValueError(f'A store is of ids below 1 to 2^31 and of 1 or more variants, not {size} and {variants}.')
        self._folder = pathlib.Path(folder) / split
        self._writing = pathlib.Path(folder) / f'{split}.writing'
        self._size, self._variants = size, variants
        self._dtype = np.dtype('<u2' if size <= 1 << 16 else '<i4')
        self._sides: list[Sequence[int]] = []  # of the pairs that are not in the spool yet: source, target, source, ...
        self._waiting = 0                      # ids in them
        self._counts = collections.Counter()   # (s, t) -> pairs
        with self._named():
            if self._folder.exists():
                raise UserError(f'{self._folder}: is there already; remove it, or choose another folder')
            if self._writing.exists():
                shutil.rmtree(self._writing)
            self._writing.mkdir(parents=True)
            self._spool = open(self._writing / 'spool', 'w+b')  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> 'StoreWriter':
        """The writer itself."""
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Publishes the store, or after an error removes what there is of it."""
        try:
            with self._named():
                if kind is None:
                    self._publish()
        finally:
            self._spool.close()
            shutil.rmtree(self._writing, ignore_errors=True)

    def add(self, *versions: Ids) -> None:
        """Adds a pair; its original number is how many were added before.

        Args:
          versions: (source ids [s], target ids [t]), as many as the store has variants; both end in END, unless they
            are labelled. They may be read later: what is changed in them is changed in the store.

        Raises:
          ValueError: another number of versions; or, of any pair up to this one: a side has no id, an id is no whole
            number below the size of the vocabulary, or PAD is one of several versions.
          UserError: the disk refuses.
        """
        if len(versions) != self._variants:
            raise ValueError(f'A pair has {len(versions)} versions and the store {self._variants} variants.')
        for source, target in versions:
            self._sides += source, target
            self._waiting += len(source) + len(target)
        if self._waiting >= BLOCK:
            with self._named():
                self._write_block()

    @contextlib.contextmanager
    def _named(self):
        try:
            yield
        except OSError as error:
            raise UserError(f'{self._folder}: cannot be written ({error.strerror}); nothing of it was kept') from None

    def _write_block(self):
        """Appends the pairs that wait to the spool: how many, how many ids, their cells and their ids."""
        if not self._sides:
            return
        lengths = np.fromiter(map(len, self._sides), np.int64, len(self._sides))
        if not lengths.all():
            raise ValueError('Each side of a pair must have at least one id, its END.')
        ids = np.concatenate(self._sides)
        if ids.dtype.kind not in 'iu' or ids.min() < 0 or ids.max() >= self._size:
            raise ValueError(f'Ids are whole numbers below {self._size}: {ids.dtype}, {ids.min()} to {ids.max()}.')
        if self._variants > 1 and not ids.all():
            raise ValueError('PAD cannot be told from padding where a pair has several versions.')
        begins = lengths.cumsum() - lengths
        longest = lengths.reshape(-1, self._variants, 2).max(axis=1)
        room = longest.sum(axis=1).repeat(self._variants)  # of each version: s + t
        places = np.column_stack((room.cumsum() - room, room.cumsum() - room + longest[:, 0].repeat(self._variants)))
        padded = np.full(room.sum(), PAD, self._dtype)
        padded[np.repeat(places.ravel() - begins, lengths) + np.arange(len(ids))] = ids
        cells, counts = np.unique(longest, axis=0, return_counts=True)
        self._counts.update(dict(zip(map(tuple, cells.tolist()), counts.tolist())))
        for part in (np.array([len(longest), len(padded)], np.int64), longest, padded):
            self._spool.write(part.tobytes())
        self._sides, self._waiting = [], 0

    def _read_blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The blocks of the spool: cells int64 [n, 2] and ids."""
        self._spool.seek(0)
        while header := self._spool.read(16):
            pairs, ids = np.frombuffer(header, np.int64).tolist()
            yield (np.frombuffer(self._spool.read(16 * pairs), np.int64).reshape(-1, 2),
                   np.frombuffer(self._spool.read(ids * self._dtype.itemsize), self._dtype))

    def _publish(self):
        self._write_block()
        if not self._counts:
            raise UserError(f'{self._folder}: there is no pair to store')
        cells = np.array([(*cell, count) for cell, count in sorted(self._counts.items())], np.int64)
        with open(self._writing / IDS, 'wb') as ids, open(self._writing / ORIGINALS, 'wb') as originals:
            self._distribute(cells, ids, originals)
            for file in (ids, originals):
                file.flush()
                os.fsync(file.fileno())
        self._spool.close()
        (self._writing / 'spool').unlink()
        (self._writing / MANIFEST).write_bytes(sealed({
            'format_version': FORMAT,
            'pairs': int(cells[:, 2].sum()),
            'variants': self._variants,
            'dtype': self._dtype.str,
            'cells': cells.tolist(),
            'files': {name: {'bytes': (self._writing / name).stat().st_size, 'sha256': sha256(self._writing / name)}
                      for name in (IDS, ORIGINALS)},
        }))
        self._writing.rename(self._folder)

    def _distribute(self, cells, ids, originals):
        """Counting sort: the pairs of a block that share a cell go behind those of it that were there before."""
        widths, begins = self._variants * (cells[:, 0] + cells[:, 1]), _begins(cells, self._variants)
        filled = cells[:, 2].cumsum() - cells[:, 2]  # of each cell: the number that its next pair has
        firsts, keys, number = filled.copy(), _keys(cells), 0
        for lengths, block in self._read_blocks():
            cell = np.searchsorted(keys, _keys(lengths))
            starts = widths[cell].cumsum() - widths[cell]
            order = np.argsort(cell, kind='stable')
            for group in np.split(order, np.flatnonzero(np.diff(cell[order])) + 1):
                here = cell[group[0]]
                width = int(widths[here])
                ids.seek(int(begins[here] + (filled[here] - firsts[here]) * width) * self._dtype.itemsize)
                ids.write(block[starts[group][:, None] + np.arange(width)].tobytes())
                originals.seek(int(filled[here]) * ORIGINAL.itemsize)
                originals.write((number + group).astype(ORIGINAL).tobytes())
                filled[here] += len(group)
            number += len(lengths)


def _keys(lengths):
    """One number for each (s, t), in the same order."""
    return lengths[:, 0] << 32 | lengths[:, 1]


def _begins(cells, variants):
    """Where the block of each cell begins in the file of ids, in ids."""
    sizes = cells[:, 2] * variants * (cells[:, 0] + cells[:, 1])
    return sizes.cumsum() - sizes


def _checked(number, length, which, variants):
    number = operator.index(number)
    if not 0 <= number < length:
        raise IndexError(f'There is no pair {number} in a store of {length}.')
    if not 0 <= which < variants:
        raise IndexError(f'There is no variant {which} in a store of {variants}.')
    return number


def _read_manifest(folder):
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        unfinished = folder.with_name(f'{folder.name}.writing').exists()
        raise UserError(f'{path}: there is no such file; {folder} is no prepared split'
                        + (', its preparation was not finished' if unfinished else '')) from None
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from None
    content = unsealed(text)
    if content is None:
        raise UserError(f'{path}: is not what was written; the store must be prepared again')
    if content['format_version'] != FORMAT:
        raise UserError(f'{path}: format_version is {content["format_version"]}, and this program reads {FORMAT}')
    return content
