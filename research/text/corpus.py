"""Pairs of text, read from files; whatever is wrong is named by file and line, or counted by kind."""

import array
import collections
import contextlib
import gzip
import hashlib
import itertools
import json
import math
import os
import pathlib
import zlib
from collections.abc import Callable, Collection, Generator, Iterator
from typing import Any, NamedTuple

from research.errors import UserError, at_least, nearest

Path = str | os.PathLike[str]

# What can be wrong with a pair. The first five make it none, and are an error where they are not to be left out.
KINDS = ('columns', 'empty', 'not_utf8', 'control', 'too_long', 'duplicate', 'unequal')
FIRST_PLACES = 5          # of each kind are kept by Findings
LONGEST_LINE = 64 << 20   # bytes of memory that one line may need: what has a longer one is no file of lines
# A side is suspiciously long if it has more than RATIO times the characters of the other, and more than MORE more: the
# English of a Chinese sentence has about three times its characters, and one word may well be said in half a sentence.
RATIO, MORE = 4, 40


class LineError(UserError):
    """A line that cannot be a pair: `kind` is one of KINDS, `place` names it, and the message begins with the place."""

    def __init__(self, kind: str, place: str, what: str):
        super().__init__(kind, place, what)
        self.kind, self.place, self.what = kind, place, what

    def __str__(self):
        return f'{self.place}: {self.what}'


class Pair(NamedTuple):
    """A line of text and the line that it is to become."""

    source: str
    target: str
    others: tuple[str, ...] = ()                 # other right answers; for evaluation only
    alignment: tuple[tuple[int, int], ...] = ()  # known links (source index, target index) of symbols, counted from 0


class Corpus(NamedTuple):
    """What is learned from, chosen by, and reported on."""

    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]


class Origin(NamedTuple):
    """Where pairs come from: what stands there row after row, and how a row is read and named.

    Attributes:
      rows: a generator of them, whatever they are; what closes it closes its files.
      sides: (number of a row, counted from 1, the row) -> its source and its target; raises LineError.
      places: what stands before the number where a source and where a target is named, as `('train.de:', 'train.en:')`.
    """

    rows: Generator
    sides: Callable[[int, Any], tuple[str, str]]
    places: tuple[str, str]


class Findings:
    """What was wrong with the pairs that were read: how often each kind, and where first.

    A pair that is left out counts once, by the first kind that leaves it out; one that is kept may be a duplicate and
    unequal too. So there were as many rows as pairs that were kept and findings of the kinds that were left out.

    Attributes:
      duplicates: whether duplicates are looked for where they are not left out: their digests need memory (Digests).
      sink: called with kind and place of each finding.
      counts: kind -> how many.
      places: kind -> the first FIRST_PLACES places, each `file:line`.
    """

    def __init__(self, *, duplicates: bool = False, sink: Callable[[str, str], None] | None = None):
        self.duplicates, self.sink = duplicates, sink
        self.counts: collections.Counter[str] = collections.Counter()
        self.places: dict[str, list[str]] = collections.defaultdict(list)

    def add(self, kind: str, place: str) -> None:
        """Counts a finding, and hands it to the sink."""
        self.counts[kind] += 1
        if len(self.places[kind]) < FIRST_PLACES:
            self.places[kind].append(place)
        if self.sink is not None:
            self.sink(kind, place)


class Digests:
    """A set of digests of 8 bytes in one array, at most half full: 16 to 32 bytes each, 48 while it grows.

    A digest stands at the first free place from `digest mod size` on. A set of Python needs 60 to 90, and a sorted
    array could not be asked after every pair.

    n different texts have two of the same digest with a probability of about n^2 / 2^65: 1 in 15,000 for 50 million.
    """

    def __init__(self):
        self._count, self._table = 0, _empty(1024)

    def add(self, text: str) -> bool:
        """Puts a text in; returns whether it is new."""
        digest = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), 'little') or 1  # 0 is free
        if not _put(self._table, digest):
            return False
        self._count += 1
        if 2 * self._count > len(self._table):
            table = _empty(2 * len(self._table))
            for other in self._table:
                if other:
                    _put(table, other)
            self._table = table
        return True


def read_lines(path: Path) -> Iterator[str]:
    r"""Reads a file of UTF-8 text line by line, plain or (where its name ends in .gz) compressed by gzip.

    Only `\n` ends a line, and a line keeps everything else, invisible characters too; nothing is normalised. Memory
    does not grow with the file. Who may stop before the last line (by an error, too) closes the generator, as
    contextlib.closing does: it holds the open file.

    Args:
      path: of the file.

    Yields:
      The lines in their order, without their ends.

    Raises:
      UserError: there is no such file, it cannot be read, it is empty, its .gz is damaged, a line has more than 64 MiB,
        is not UTF-8, or holds a carriage return (such as the line ends of Windows: no symbol of a text, and invisible),
        or the file begins with a byte order mark.
    """
    place = f'{path}:'
    with contextlib.closing(_lines(path)) as lines:
        for number, line in enumerate(lines, 1):
            yield _text(place, number, line)


def read_pairs(path: Path, target_path: Path | None = None, *, columns: int = 2) -> list[Pair]:
    r"""Reads pairs from two files aligned by line, or from one file of `source TAB target` lines.

    Quotation marks mean nothing: a line is split at every TAB and nowhere else. In two files a TAB is text.

    Args:
      path: the file of pairs, or of sources where there is a target_path.
      target_path: the file of targets.
      columns: of each line of a file of pairs; what stands after the second (often who wrote it) is not read.

    Returns:
      One Pair for each line.

    Raises:
      UserError: as read_lines; a line has no TAB or another number of columns; a side has nothing but white space; two
        files differ in their number of lines.
    """
    if target_path is not None:
        refuse_columns(f'{path},{target_path}', columns, 'two files of lines')
    files = _table(path, columns) if target_path is None else aligned(path, target_path)
    with contextlib.closing(files.rows):
        return [_pair(files, number, row, math.inf) for number, row in enumerate(files.rows, 1)]


def pairs(files: str, *, columns: int = 2, source: str = '', target: str = '', skip: Collection[str] = frozenset(),
          longest: int = 20_000, findings: Findings | None = None) -> Iterator[Pair]:
    """Reads pairs from files one by one; leaves out those with something wrong of the kinds in `skip`, and counts them.

    - `train.de,train.en`: two files aligned by line; a line that is left out is left out of both.
    - `pairs.jsonl`: a JSON object a line, with both sides by their languages: `{"de": "ein Hund", "en": "a dog"}`, or
      these as the value of "translation".
    - any other file: `source TAB target` in each line.

    Each may end in .gz, and each is read as read_lines does. What can be wrong with a pair, in the order of looking
    (the first counts):

    - `not_utf8`: a line is not UTF-8, or a side holds half of a surrogate pair (which JSON can spell).
    - `control`: a carriage return, a byte order mark at the beginning of a file, or a line feed in a side (in JSON).
    - `columns`: no tab, another number of columns, no JSON object, or one without a text by each language.
    - `empty`: a side has nothing but white space.
    - `too_long`: a side has more than `longest` characters.
    - `unequal`: a side has more than 4 times the characters of the other, and at least 41 more.
    - `duplicate`: the same two sides stood before, in a pair that was kept; looked for if it is to be left out or
      `findings` asks for it. It is the only thing whose memory grows with the corpus, see Digests.

    The first five are errors where they are not in `skip`. The last two may be right: they are kept where they are not
    in `skip`, and counted.

    Args:
      files: a file, or two joined by a comma.
      columns: of each line of a file of `source TAB target`; what stands after the second is not read.
      source: its language, the key of the sources in a JSON object.
      target: that of the targets.
      skip: kinds of pairs that are left out.
      longest: most characters of a side.
      findings: where to count what is wrong, by kind and place; it must be given where something is left out.

    Returns:
      A generator of pairs in their order; it holds the open files until it ends or is closed.

    Raises:
      UserError: at once, an argument has no meaning; while reading, as read_lines, a line is no pair (and is not to be
        left out), two files differ in their number of lines, or every pair was left out.
      ValueError: something is to be left out, but not to be counted.
    """
    return checked(origin(files, columns, source, target), skip=skip, longest=longest, findings=findings)


def origin(files: str, columns: int = 2, source: str = '', target: str = '') -> Origin:
    """One or two files, named as `pairs` names them: two of lines, one of JSON objects, or one with tabs."""
    names = files.split(',')
    if len(names) > 2 or not all(names):
        raise UserError(f'{files!r} names no corpus; it must be one file of pairs, or two files of lines joined by a '
                        'comma: SOURCE,TARGET')
    objects = [name for name in names if name.removesuffix('.gz').endswith('.jsonl')]
    if len(names) == 2:
        if objects:
            raise UserError(f'{files}: {objects[0]} holds both sides of its pairs; a .jsonl must be the only file')
        refuse_columns(files, columns, 'two files of lines')
        return aligned(*names)
    return _objects(files, columns, source, target) if objects else _table(files, columns)


def aligned(path: Path, target_path: Path, places: tuple[str, str] | None = None) -> Origin:
    """Two files aligned by line; `places` are those of an Origin where they are not the names of the files."""
    places = places or (f'{path}:', f'{target_path}:')

    def sides(number, lines):
        return _text(places[0], number, lines[0]), _text(places[1], number, lines[1])
    return Origin(_side_by_side(path, target_path), sides, places)


def by_languages(place: str, row: Any, source: str, target: str) -> tuple[str, str]:
    """Both sides of an object that has them by their languages, itself or as its "translation"; raises LineError."""
    if not isinstance(row, dict):
        raise LineError('columns', place, f'{type(row).__name__} is no object; it must hold {source!r} and {target!r}')
    texts = row['translation'] if isinstance(row.get('translation'), dict) else row
    for key in (source, target):
        if key not in texts:
            raise LineError('columns', place, f'there is no {key!r}; there is {_few(texts)}')
        if not isinstance(texts[key], str):
            raise LineError('columns', place, f'{key!r} is {type(texts[key]).__name__}, not a text; there is '
                                              f'{_few(texts)}')
        for sign, name in ('\n', 'line feed'), ('\r', 'carriage return'):
            if sign in texts[key]:
                raise LineError('control', place, f'{key!r} holds a {name}; a side must be one line')
        try:
            texts[key].encode()
        except UnicodeEncodeError:
            raise LineError('not_utf8', place, f'{key!r} holds half of a surrogate pair; it is no character') from None
    return texts[source], texts[target]


def demand_languages(name: str, source: str, target: str) -> None:
    """Raises UserError where one is not given: the pairs of `name` are found by their languages."""
    if not source or not target:
        raise UserError(f"{name}: data.source_language is {source!r} and data.target_language {target!r}; it needs "
                        "both, such as 'de' and 'en'")


def refuse_columns(name: str, columns: int, what: str) -> None:
    """Raises UserError where columns are asked for, which only a file of `source TAB target` has; `name` is `what`."""
    if columns != 2:
        raise UserError(f'columns is {columns}, but {name} is {what}; it is for one file of pairs, with tabs')


def checked(origin: Origin, *, skip: Collection[str], longest: int, findings: Findings | None) -> Iterator[Pair]:
    """The pairs of any origin one by one, with what `pairs` says of `skip`, `longest` and `findings`."""
    at_least(1, longest=longest)
    for kind in skip:
        if kind not in KINDS:
            raise UserError(f'data.skip names {kind!r}; it may name {", ".join(KINDS)}.{nearest(kind, KINDS)}')
    if skip and findings is None:
        raise ValueError('nothing is left out without being counted: skip needs findings')
    return _checked(origin, frozenset(skip), longest, findings)


def read_text(path: Path) -> list[Pair]:
    """Reads lines that stand for themselves: each becomes a pair whose source is empty and whose target is the line.

    Args:
      path: of the file, plain or .gz.

    Returns:
      One Pair for each line.

    Raises:
      UserError: as read_lines; a line has nothing but white space.
    """
    with contextlib.closing(read_lines(path)) as lines:
        return [Pair('', _line(path, number, line)) for number, line in enumerate(lines, 1)]


def one_line(error: BaseException) -> str:
    """What an error of somebody else says, in one line."""
    return ' '.join(str(error).split())


@contextlib.contextmanager
def file_named(path: Path, place: Callable[[], str] | None = None) -> Iterator[None]:
    """Turns what goes wrong with a file while it is read, plain or .gz, into a UserError.

    Args:
      path: of the file.
      place: says how far it was read, where that is known.
    """
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f'{path if place is None else place()}: damaged .gz ({one_line(error)}); fetch the file '
                        'again') from None
    except FileNotFoundError:
        raise UserError(f'{path}: there is no such file') from None
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from None


def as_text(path: Path, number: int, line: bytes) -> str:
    """A line of a file without its end; raises LineError naming file and line as `read_lines` does."""
    return _text(f'{path}:', number, line)


def _text(place, number, line):
    try:
        text = line.removesuffix(b'\n').decode('utf-8')
    except UnicodeDecodeError as error:
        raise LineError('not_utf8', f'{place}{number}',
                        f'not UTF-8 ({error.reason} at byte {error.start + 1} of the line)') from None
    if '\r' in text:
        raise LineError('control', f'{place}{number}', 'holds a carriage return; lines must end in a line feed alone '
                                                       '(dos2unix changes them)')
    if number == 1 and text.startswith('\ufeff'):
        raise LineError('control', f'{place}1', 'begins with a byte order mark; UTF-8 needs none (dos2unix takes it '
                                                'away)')
    return text


def _lines(path):
    path = pathlib.Path(path)
    number = 0
    with file_named(path, lambda: f'{path}:{number + 1}'), \
            gzip.open(path) if path.suffix == '.gz' else open(path, 'rb') as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b''), 1):
            if len(line) == LONGEST_LINE and not line.endswith(b'\n'):
                raise UserError(f'{path}:{number}: more than {LONGEST_LINE:,} bytes and no line feed; a corpus has '
                                'a sentence in each line')
            yield line
    if number == 0:
        raise UserError(f'{path}: the file is empty; it must hold at least one line')


def _side_by_side(path, target_path):
    with contextlib.closing(_lines(path)) as sources, contextlib.closing(_lines(target_path)) as targets:
        for number, (source, target) in enumerate(itertools.zip_longest(sources, targets), 1):
            if source is None or target is None:
                ended, other = (path, target_path) if source is None else (target_path, path)
                raise UserError(f'{ended}:{number}: there is no such line, but {other} has one; aligned files must '
                                'have equally many lines')
            yield source, target


def _table(path, columns):
    if columns < 2:
        raise UserError(f'columns is {columns}; {path} needs at least 2, source and target')
    place = f'{path}:'

    def sides(number, line):
        fields = _text(place, number, line).split('\t')
        if len(fields) == 1:
            raise LineError('columns', f'{place}{number}', 'no tab; a line must be source, tab, target')
        if len(fields) != columns:
            raise LineError('columns', f'{place}{number}',
                            f'{len(fields)} columns; each line must have {columns} (set by columns)')
        return fields[0], fields[1]
    return Origin(_lines(path), sides, (place, place))


def _objects(path, columns, source, target):
    refuse_columns(path, columns, 'a file of JSON objects')
    demand_languages(path, source, target)
    place = f'{path}:'

    def sides(number, line):
        text = _text(place, number, line)
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python reads
            raise LineError('columns', f'{place}{number}', f'no JSON ({one_line(error)}); a line must be an object '
                                                           f'with {source!r} and {target!r}') from None
        return by_languages(f'{place}{number}', row, source, target)
    return Origin(_lines(path), sides, (place, place))


def _few(texts):
    keys = [repr(key)[:40] for key in itertools.islice(texts, 8)]
    return ', '.join(keys + ['...'] * (len(texts) > len(keys))) or 'nothing'


def _checked(origin, skip, longest, findings):
    digests = Digests() if 'duplicate' in skip or (findings is not None and findings.duplicates) else None
    number, kept = 0, False
    with contextlib.closing(origin.rows):
        for number, row in enumerate(origin.rows, 1):
            try:
                pair = _pair(origin, number, row, longest)
            except LineError as error:
                if error.kind not in skip:
                    raise UserError(f'{error}; data.skip = {error.kind!r} leaves such lines out') from None
                findings.add(error.kind, error.place)
                continue
            for kind in _suspicions(pair, digests):
                if findings is not None:
                    findings.add(kind, f'{origin.places[0]}{number}')
                if kind in skip:
                    break
            else:
                kept = True
                yield pair
    if not kept:
        raise UserError(f'{origin.places[0]}{number}: no pair is left up to this one, the last; data.skip leaves out '
                        'every one')


def _suspicions(pair, digests):
    """Lazy: a pair that is left out because of the first of these stands nowhere, and is nobody's duplicate."""
    less, more = sorted((len(pair.source), len(pair.target)))
    if more > RATIO * less and more > less + MORE:
        yield 'unequal'
    if digests is not None and not digests.add(f'{pair.source}\n{pair.target}'):  # no side holds a line feed
        yield 'duplicate'


def _pair(origin, number, row, longest):
    sides = origin.sides(number, row)
    for place, name, text in zip(origin.places, Pair._fields, sides):
        if not text.strip():
            raise LineError('empty', f'{place}{number}', f'the {name} is empty; both sides of a pair must have text')
        if len(text) > longest:
            raise LineError('too_long', f'{place}{number}', f'the {name} has {len(text):,} characters; at most '
                                                            f'{longest:,} are read (set by data.longest_line)')
    return Pair(*sides)


def _empty(size):
    return array.array('Q', [0]) * size


def _put(table, digest):
    """Whether a digest is new; it stands in the table then."""
    last = len(table) - 1  # the size is a power of two
    place = digest & last
    while table[place]:
        if table[place] == digest:
            return False
        place = (place + 1) & last
    table[place] = digest
    return True


def _line(path, number, text):
    if not text.strip():
        raise UserError(f'{path}:{number}: the line is empty; each line must have text')
    return text
