r"""Pretrained word vectors: files of GloVe, word2vec and fastText, and how they enter an embedding.

    GloVe text                 a line a word: `dog 0.11 -0.3 ...`
    word2vec text, fastText    the same below a first line `n D`
    word2vec binary            `n D`, line feed; then for each word: word, space, D float32 of 4 bytes with the lowest
                               first, and a line feed or none

Which of them a file is, and whether gzip has compressed it, is found by looking at its beginning, not at its name.
"""

import codecs
import collections
import contextlib
import gzip
import math
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from research.errors import UserError
from research.text.corpus import Path, file_named

BLOCK = 1 << 20          # bytes that are read at a time, and the most that the beginning of a file is looked at
LONGEST = 10_000         # bytes of a word in a binary file; where there is no space for longer, the file is damaged
FIRST_LINES = 10         # lines whose numbers are counted where no header says D
FORMATS = 'GloVe or word2vec or fastText text, or word2vec binary, plain or .gz'


class Vectors(NamedTuple):
    """The words of a file and their vectors."""

    words: list[str]     # n different words, in the order of the file
    vectors: np.ndarray  # float32 [n, D], the numbers of the file
    repeated: int        # vectors that were left out because their word had one already


class Coverage(NamedTuple):
    """How much of a text has a pretrained vector."""

    types: float   # share of the different symbols
    tokens: float  # share of all symbols, each as often as it stands in the text


def read(path: Path, wanted: Collection[str] | None = None) -> Vectors:
    """Reads the vectors of a file, or of those of its words that are wanted; of several for one word the first.

    Memory grows with what is kept and not with the file. Of a word that is not wanted it is only looked at where its
    vector ends, and its spelling need not be UTF-8 (word2vec cuts long words anywhere). A word of a text file may have
    spaces within: the last D fields of a line are its numbers. Where no header says D, it is that of most of the first
    10 lines.

    Args:
      path: of the file.
      wanted: words; None = every word. A word that the file does not have is not in the result.

    Returns:
      The words and their vectors.

    Raises:
      UserError: there is no such file, it cannot be read, it has another format, its .gz is damaged, it has more or
        fewer words than its header says, or a line (in a binary file: word, counted from 1) is damaged; a word that is
        kept is not UTF-8, or its vector has something that is no number or not finite.
    """
    form = _look(path)
    wanted = None if wanted is None else {word.encode('utf-8') for word in wanted}
    entries, where = (_binary_entries, ' word ') if form.binary else (_text_entries, '')
    found, places, values, repeated = {}, [], bytearray(), 0
    with _opened(path) as file, np.errstate(over='ignore'):  # what float32 cannot hold is named below
        for number, word, numbers in entries(path, file, form):
            if wanted is not None and word not in wanted:
                continue
            if word in found:
                repeated += 1
                continue
            try:
                found[word] = word.decode('utf-8')
                vector = (np.frombuffer(numbers, '<f4').astype(np.float32) if form.binary else
                          np.array([float(field) for field in numbers.split(b' ')], np.float32))
            except UnicodeDecodeError:
                raise UserError(f'{path}:{where}{number}: the word {word[:40]!r} is not UTF-8; to leave such words '
                                'out, say which are wanted') from None
            except ValueError:
                bad = next(field for field in numbers.split(b' ') if not _is_number(field)).decode('utf-8', 'replace')
                raise UserError(f'{path}:{where}{number}: {bad[:40]!r} is not a number; a line must be a word and '
                                f'{form.width} numbers, with one space before each') from None
            places.append(number)
            values += vector.tobytes()
    vectors = np.frombuffer(values, np.float32).reshape(len(places), form.width)
    for n in np.flatnonzero(~np.isfinite(vectors).all(axis=1))[:1]:
        raise UserError(f'{path}:{where}{places[n]}: a number is not finite in float32; each must be')
    return Vectors(list(found.values()), vectors, repeated)


def initial(symbols: Sequence[str | None], path: Path, lowercase: bool, table: np.ndarray) -> tuple[
        np.ndarray, np.ndarray]:
    """Puts pretrained vectors into the table of an embedding; rows whose symbol has none keep their random start.

    table[v] = vector[symbols[v]] / sqrt(D m);  m is the mean square of all numbers that are put in. An embedding
    multiplies its rows by sqrt(D), so what enters a model is the vectors of the file times one number, with mean square
    1 as that of random rows. Nothing is random: the same symbols and file give the same bits, and what freezes the
    covered rows must leave these bits.

    Args:
      symbols: V, one for each row; None for a special symbol, which has no spelling.
      path: of a file that `read` reads.
      lowercase: a symbol that the file does not have gets the vector of its lower-case form.
      table: [V, D], the random start.

    Returns:
      The table, float32 [V, D], and covered, bool [V]: whose rows are from the file.

    Raises:
      ValueError: there is not one symbol for each row.
      UserError: as `read`; the vectors have another width than the table, no symbol has a vector, or all are zero.
    """
    table = np.array(table, np.float32)
    if len(symbols) != len(table):
        raise ValueError(f'{len(symbols)} symbols for {len(table)} rows.')
    width = _look(path).width
    if width != table.shape[1]:
        raise UserError(f'{path}: its vectors have {width} numbers and the embedding has {table.shape[1]} features; '
                        f'they must be equally many: choose a width of {width}, or another file')
    spellings = [() if symbol is None else (symbol, symbol.lower()) if lowercase else (symbol,) for symbol in symbols]
    words, vectors, _ = read(path, {spelling for each in spellings for spelling in each})
    place = {word: n for n, word in enumerate(words)}
    rows = np.array([next((place[spelling] for spelling in each if spelling in place), -1) for each in spellings])
    covered = rows >= 0
    if not covered.any():
        raise UserError(f'{path}: has no vector for any symbol, such as {[each[0] for each in spellings if each][:3]}; '
                        'it must be of the language and the unit of the vocabulary')
    chosen = vectors[rows[covered]].astype(np.float64)
    # Exact sums: those of NumPy depend on the machine, and so would the last bit of each row.
    square = math.fsum(math.fsum((vector * vector).tolist()) for vector in chosen) / chosen.size
    if square == 0:
        raise UserError(f'{path}: the vectors of all {len(chosen)} symbols that it has are zero; some must not be')
    table[covered] = chosen / np.sqrt(width * square)
    return table, covered


def coverage(covered: np.ndarray, counts: np.ndarray) -> Coverage:
    """How much of a text has a pretrained vector: rare symbols often have none, so the two shares differ.

    types = #(counts > 0 and covered) / #(counts > 0);  tokens = sum of counts[covered] / sum of counts.

    Args:
      covered: bool [V].
      counts: int [V], how often each symbol stands in the text; 0 for those that are not of it, such as PAD and END.

    Returns:
      Both shares, 0 to 1.

    Raises:
      ValueError: the shapes differ, a count is below 0, or all are 0.
    """
    covered, counts = np.asarray(covered, bool), np.asarray(counts)
    if covered.shape != counts.shape or (counts < 0).any() or not counts.any():
        raise ValueError(f'Counts must be [V] and some above 0: covered {covered.shape}, counts {counts.shape}.')
    return Coverage(float(covered[counts > 0].mean()), float(counts[covered].sum() / counts.sum()))


class _Form(NamedTuple):
    binary: bool
    count: int | None  # of the words, as the header says; None without a header
    width: int         # D


@contextlib.contextmanager
def _opened(path):
    """The bytes of a file, taken out of gzip where it begins like one."""
    with file_named(path):
        with open(path, 'rb') as file:
            packed = file.read(2) == b'\x1f\x8b'
        with gzip.open(path) if packed else open(path, 'rb') as file:
            yield file


def _look(path):
    """What kind of file it is, from its beginning."""
    with _opened(path) as file:
        first = file.readline(BLOCK)
        if not first:
            raise UserError(f'{path}: the file is empty; it must be {FORMATS}')
        if first.startswith(codecs.BOM_UTF8):
            raise UserError(f'{path}:1: begins with a byte order mark; UTF-8 needs none (dos2unix takes it away)')
        header = re.fullmatch(rb'([0-9]+) ([0-9]+)\s*', first)
        if header is None:
            widths = collections.Counter(_trailing_numbers(line) for line in [
                first, *(file.readline(BLOCK) for _ in range(FIRST_LINES - 1))] if line)
            width = widths.most_common(1)[0][0]
            if width == 0:
                raise UserError(f'{path}:1: neither a word and its numbers, nor how many words there are of how many '
                                f'numbers; the file must be {FORMATS}')
            return _Form(False, None, width)
        count, width = map(int, header.groups())
        if not count or not width:
            raise UserError(f'{path}:1: {count} words of {width} numbers; both must be at least 1')
        return _Form(_is_binary(file.read(BLOCK).partition(b' ')[2][:4 * width]), count, width)


def _trailing_numbers(line):
    """So many fields at the end of a line are numbers; the first is a word, whatever it is."""
    fields = line.split()
    words = [n for n, field in enumerate(fields) if n == 0 or not _is_number(field)]
    return len(fields) - 1 - words[-1] if words else 0


def _is_number(field):
    try:
        float(field)
    except ValueError:
        return False
    return True


def _is_binary(numbers):
    """Are these bytes after the first word no text? D float32 are hardly ever UTF-8 without control characters."""
    try:
        text = codecs.getincrementaldecoder('utf-8')().decode(numbers)  # the end may be within a character
    except UnicodeDecodeError:
        return True
    return any(letter < ' ' and letter not in '\t\r\n' for letter in text)


def _text_entries(path, file, form):
    """Each line of a text file: its number, the bytes of its word, those of its numbers."""
    before = 0 if form.count is None else 1
    for _ in range(before):
        file.readline()
    number = before
    for number, line in enumerate(file, 1 + before):
        line = line.rstrip()  # some writers end each line in a space, or in a carriage return
        fields = line.count(b' ')
        if fields == form.width:
            word, numbers = line.split(b' ', 1)
        else:
            word = line.rsplit(b' ', form.width)[0]
            numbers = line[len(word) + 1:]
            if fields < form.width or _is_number(word.split(b' ')[-1]):
                raise UserError(f'{path}:{number}: {_trailing_numbers(line)} numbers; a line must be a word and '
                                f'{form.width} numbers, with one space before each')
        if word != word.strip() or not word:
            raise UserError(f'{path}:{number}: there is no word, or more than one space after it; a line must be a '
                            f'word and {form.width} numbers, with one space before each')
        yield number, word, numbers
    if form.count is not None and number - before != form.count:
        raise UserError(f'{path}:{number}: the file ends after {number - before} words, and its header says '
                        f'{form.count}; fetch the file again')


def _binary_entries(path, file, form):
    """Each word of a binary file: its number, its bytes, those of its numbers."""
    file.readline()
    buffer, start, size = b'', 0, 4 * form.width
    for number in range(1, form.count + 1):
        if len(buffer) - start < LONGEST + size:
            buffer, start = buffer[start:] + file.read(BLOCK), 0
        space = buffer.find(b' ', start, start + LONGEST)
        word = buffer[start:space].removeprefix(b'\n')
        if (space < 0 and len(buffer) - start >= LONGEST) or (space >= 0 and not word):
            raise UserError(f'{path}: word {number}: it has no letter or no end; it must be less than {LONGEST} bytes, '
                            f'a space, and {form.width} float32')
        if space < 0 or len(buffer) <= space + size:
            raise UserError(f'{path}: word {number}: the file ends within it, and its header says {form.count} words; '
                            'fetch the file again')
        yield number, word, buffer[space + 1:space + 1 + size]
        start = space + 1 + size
    if buffer[start:].removeprefix(b'\n') or file.read(1):
        raise UserError(f'{path}: word {form.count + 1}: the file goes on, and its header says {form.count} words; '
                        'fetch the file again')
