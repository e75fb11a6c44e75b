"""Pairs of text, read from files; whatever is wrong is named by file and line."""

import contextlib
import gzip
import itertools
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from research.errors import UserError

Path = str | os.PathLike[str]


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
      UserError: there is no such file, it cannot be read, it is empty, its .gz is damaged, or a line is not UTF-8,
        holds a carriage return (such as the line ends of Windows: no symbol of a text, and invisible) or a byte order
        mark at its beginning.
    """
    path = pathlib.Path(path)
    number = 0
    try:
        with gzip.open(path) if path.suffix == '.gz' else open(path, 'rb') as file:
            for number, line in enumerate(file, 1):
                yield as_text(path, number, line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f'{path}:{number + 1}: damaged .gz ({_one_line(error)}); fetch the file again') from None
    except FileNotFoundError:
        raise UserError(f'{path}: there is no such file') from None
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from None
    if number == 0:
        raise UserError(f'{path}: the file is empty; it must hold at least one line')


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
        if columns != 2:
            raise UserError(f'columns is {columns}, but {path} and {target_path} are two files of one column; it is '
                            'for one file of pairs')
        with (contextlib.closing(read_lines(path)) as sources, contextlib.closing(read_lines(target_path)) as targets):
            return list(_aligned(path, sources, target_path, targets))
    if columns < 2:
        raise UserError(f'columns is {columns}; {path} needs at least 2, source and target')
    with contextlib.closing(read_lines(path)) as lines:
        return [_pair(path, number, line, columns) for number, line in enumerate(lines, 1)]


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


def as_text(path: Path, number: int, line: bytes) -> str:
    """A line of a file without its end; raises UserError naming file and line as `read_lines` does."""
    try:
        text = line.removesuffix(b'\n').decode('utf-8')
    except UnicodeDecodeError as error:
        raise UserError(f'{path}:{number}: not UTF-8 ({error.reason} at byte {error.start + 1} of the line)') from None
    if '\r' in text:
        raise UserError(f'{path}:{number}: holds a carriage return; lines must end in a line feed alone (dos2unix '
                        'changes them)')
    if number == 1 and text.startswith('\ufeff'):
        raise UserError(f'{path}:1: begins with a byte order mark; UTF-8 needs none (dos2unix takes it away)')
    return text


def _one_line(error):
    return ' '.join(str(error).split())


def _pair(path, number, line, columns):
    fields = line.split('\t')
    if len(fields) == 1:
        raise UserError(f'{path}:{number}: no tab; a line must be source, tab, target')
    if len(fields) != columns:
        raise UserError(f'{path}:{number}: {len(fields)} columns; each line must have {columns} (set by columns)')
    source, target, *_ = fields
    return Pair(_side(path, number, source, 'source'), _side(path, number, target, 'target'))


def _aligned(path, sources, target_path, targets):
    for number, (source, target) in enumerate(itertools.zip_longest(sources, targets), 1):
        if source is None or target is None:
            ended, other = (path, target_path) if source is None else (target_path, path)
            raise UserError(f'{ended}:{number}: there is no such line, but {other} has one; aligned files must have '
                            'equally many lines')
        yield Pair(_side(path, number, source, 'source'), _side(target_path, number, target, 'target'))


def _side(path, number, text, name):
    if not text.strip():
        raise UserError(f'{path}:{number}: the {name} is empty; both sides of a pair must have text')
    return text


def _line(path, number, text):
    if not text.strip():
        raise UserError(f'{path}:{number}: the line is empty; each line must have text')
    return text
