"""Lines of text to numbers and back; the special symbols are defined here and nowhere else."""

import abc
import collections
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from research.errors import UserError

PAD, BEGIN, END, UNKNOWN = 0, 1, 2, 3
SPECIAL = 4              # so many special symbols; the id of the first symbol of a text
UNKNOWN_SIGN = '⁇'       # how UNKNOWN is written for people (U+2047)
UNITS = ('characters', 'words', 'bytes', 'bpe', 'unigram')
MARIAN = 'marian'        # the unit of a vocabulary that came with a model: read, never made here


class Vocabulary(abc.ABC):
    """Abstract: the symbols of one side of a corpus, each with its id; `build` and `from_json` make one of any unit.

        id      0    1      2    3        4   5   ...
        symbol  PAD  BEGIN  END  UNKNOWN  the symbols of the text

        unit        symbols
        characters  code points, the space among them
        words       what stands between spaces, U+0020 alone
        bytes       the 256 bytes of UTF-8, always all of them
        bpe         pieces of words, merged from characters: research/text/subwords.py
        unigram     pieces of words, the likeliest ones: research/text/subwords.py

    A special symbol has an id and no spelling: text such as '<s>' is text like any other.

    Attributes:
      unit: what its symbols are, of UNITS.
    """

    unit: str

    @staticmethod
    def build(lines: Iterable[str], unit: str, size: int | None = None) -> 'Vocabulary':
        """Makes the vocabulary of some lines; one for both sides of a corpus is built from the lines of both.

        Characters and words get their ids by how frequent they are, equally frequent ones by their code points.

        Args:
          lines: of the training text.
          unit: one of UNITS.
          size: ids, the special symbols counted. Characters and words: the most there may be, None = as many as there
            are symbols. Bytes: always 260; None, or what has room for them. bpe and unigram: exactly so many.

        Returns:
          The vocabulary; what it leaves out becomes UNKNOWN.

        Raises:
          UserError: the unit is unknown, the size does not suit it, or there is no symbol in the lines.
        """
        _check_unit(unit)
        if unit in ('bpe', 'unigram'):
            from research.text import subwords  # its classes are vocabularies: it imports this file
            return subwords.build(lines, unit, size)
        if unit == 'bytes':
            if size is not None and size < len(Bytes()):
                raise UserError(f'a vocabulary of size {size} has no room for all bytes; it must be at least '
                                f'{len(Bytes())}, 256 and {SPECIAL} special symbols')
            return Bytes()
        if size is not None and size <= SPECIAL:
            raise UserError(f'a vocabulary of size {size} has no room for text; it must be at least {SPECIAL + 1}, '
                            f'because {SPECIAL} symbols are special')
        table = {'characters': Characters, 'words': Words}[unit]
        counts = collections.Counter(symbol for line in lines for symbol in table.split(line))
        ordered = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
        return table(ordered if size is None else ordered[:size - SPECIAL])

    @staticmethod
    def from_json(text: str) -> 'Vocabulary':
        """Reads what to_json wrote; raises UserError when it is damaged."""
        try:
            content = json.loads(text)
        except ValueError as error:
            raise UserError(f'vocabulary: damaged, not JSON ({error})') from None
        if not isinstance(content, dict) or 'unit' not in content:
            raise UserError('vocabulary: damaged, it must have the key unit')
        unit = content.pop('unit')
        _check_unit(unit, (*UNITS, MARIAN))
        held = {'bytes': (), 'bpe': ('model',), 'unigram': ('model',),
                MARIAN: ('symbols', 'model')}.get(unit, ('symbols',))
        if content.keys() != set(held):
            raise UserError(f'vocabulary: damaged, one of {unit} must have the keys {" and ".join(("unit", *held))} '
                            'and no other')
        if unit == 'bytes':
            return Bytes()
        if unit in ('bpe', 'unigram'):
            from research.text import subwords
            return subwords.from_text(unit, content['model'])
        if unit == MARIAN:
            from research.text import marian
            return marian.Marian.from_text(**content)
        if not isinstance(content['symbols'], list):
            raise UserError('vocabulary: damaged, its symbols must be a list')
        return {'characters': Characters, 'words': Words}[unit](content['symbols'])

    @abc.abstractmethod
    def to_json(self) -> str:
        """All that it is, as `from_json` reads it."""

    @functools.cached_property
    def hash(self) -> str:
        """The sha256 of the content in hexadecimal digits: equal for equal vocabularies only."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @abc.abstractmethod
    def __len__(self) -> int:
        """V, the special symbols counted."""

    @abc.abstractmethod
    def encode(self, line: str) -> np.ndarray:
        """The ids of a line: int32 [S], the last is END and no other."""

    @abc.abstractmethod
    def symbol(self, number: int) -> str:
        """How the symbol of an id, SPECIAL or above, is written for people."""

    @abc.abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The line of a sequence of ids up to its END, UNKNOWN written as its sign; ValueError as for `symbols`."""

    @abc.abstractmethod
    def written(self, line: str) -> str:
        """A line as `decode` would write it if nothing in it were unknown."""

    @abc.abstractmethod
    def unknown(self, line: str) -> list[str]:
        """What has no id in a line: as many parts of it as `encode` gives UNKNOWN."""

    def symbols(self, ids: Iterable[int]) -> list[str]:
        """The symbols of a sequence up to its END, without PAD and BEGIN; ValueError for an id that is none."""
        return [UNKNOWN_SIGN if number == UNKNOWN else self.symbol(number) for number in self.of_text(ids)]

    def of_text(self, ids: Iterable[int]) -> Iterator[int]:
        """The ids of a sequence up to its END, without PAD and BEGIN; ValueError for one that is none."""
        for number in map(int, ids):
            if not 0 <= number < len(self):
                raise ValueError(f'Id {number} is not one of a vocabulary of {len(self)}.')
            if number == END:
                break
            if number not in (PAD, BEGIN):
                yield number


class Table(Vocabulary):
    """Abstract: symbols into which a line is cut by rule, those that have an id kept in a table.

    Args of the constructor:
      symbols: those of the text, in the order of their ids.

    Raises:
      UserError: there is no symbol, or one is there twice or cannot be a symbol of this unit.
    """

    one = 'symbol'  # what messages call one of them

    @property
    def many(self) -> str:
        """What messages call several of them."""
        return self.unit

    def __init__(self, symbols: Sequence[str]):
        """Checks the symbols: they may come from a file."""
        if not symbols:
            raise UserError(f'vocabulary: there is no {self.one}; the text must have at least one')
        for symbol in symbols:
            if not self._can_be(symbol):
                raise UserError(f'vocabulary: {symbol!r} cannot be one of its {self.many}')
        self._symbols = tuple(symbols)
        self._ids = {symbol: number for number, symbol in enumerate(self._symbols, SPECIAL)}
        if len(self._ids) < len(self._symbols):
            twice = next(symbol for symbol, count in collections.Counter(self._symbols).items() if count > 1)
            raise UserError(f'vocabulary: {twice!r} is there more than once; each {self.one} has one id')

    @abc.abstractmethod
    def split(self, line: str) -> list[str]:
        """The symbols of a line."""

    @abc.abstractmethod
    def join(self, symbols: Iterable[str]) -> str:
        """The line of some symbols."""

    def to_json(self) -> str:
        """The unit, and the symbols of the text in the order of their ids."""
        return json.dumps({'unit': self.unit, 'symbols': self._symbols}, ensure_ascii=False, indent=0) + '\n'

    def __len__(self) -> int:
        return SPECIAL + len(self._symbols)

    def encode(self, line: str) -> np.ndarray:
        """The ids of a line: int32 [S], the last is END and no other."""
        return np.array([*(self._ids.get(symbol, UNKNOWN) for symbol in self.split(line)), END], np.int32)

    def symbol(self, number: int) -> str:
        """The symbol of an id, SPECIAL or above."""
        return self._symbols[number - SPECIAL]

    def decode(self, ids: Iterable[int]) -> str:
        """The line of a sequence of ids: its `symbols`, joined."""
        return self.join(self.symbols(ids))

    def written(self, line: str) -> str:
        """A line as `decode` would write it: its symbols, joined."""
        return self.join(self.split(line))

    def unknown(self, line: str) -> list[str]:
        """The symbols of a line that have no id."""
        return [symbol for symbol in self.split(line) if symbol not in self._ids]

    def _can_be(self, symbol):
        """Would this symbol come out of a line of text as it is?"""
        return is_text(symbol) and self.split(symbol) == [symbol]


class Characters(Table):
    """Code points, the space among them: a line is written as it is."""

    unit = 'characters'

    @staticmethod
    def split(line: str) -> list[str]:
        """Each code point."""
        return list(line)

    @staticmethod
    def join(symbols: Iterable[str]) -> str:
        """One after the other."""
        return ''.join(symbols)


class Words(Table):
    """What stands between spaces, U+0020 alone: a line is written with one space between its words."""

    unit = 'words'

    @staticmethod
    def split(line: str) -> list[str]:
        """What stands between spaces."""
        return [word for word in line.split(' ') if word]

    @staticmethod
    def join(symbols: Iterable[str]) -> str:
        """With one space between them."""
        return ' '.join(symbols)


class Bytes(Vocabulary):
    """The bytes of UTF-8, of which every text is made: nothing is unknown, and a line is written as it is.

    Byte b has the id SPECIAL + b. Bytes that are no UTF-8, which only a model can give, are decoded as U+FFFD.
    """

    unit = 'bytes'

    def to_json(self) -> str:
        """The unit alone: nothing else could differ."""
        return json.dumps({'unit': self.unit}, indent=0) + '\n'

    def __len__(self) -> int:
        return SPECIAL + 256

    def encode(self, line: str) -> np.ndarray:
        """The ids of a line: int32 [S], the last is END and no other."""
        numbers = np.frombuffer(line.encode(), np.uint8).astype(np.int32) + SPECIAL
        return np.append(numbers, np.int32(END))

    def symbol(self, number: int) -> str:
        """Visible ASCII and the space as they are, any other byte by its number, such as <0xE4>."""
        byte = number - SPECIAL
        return chr(byte) if 0x20 <= byte < 0x7f else f'<0x{byte:02X}>'

    def decode(self, ids: Iterable[int]) -> str:
        """The line of a sequence of ids."""
        parts = (UNKNOWN_SIGN.encode() if number == UNKNOWN else bytes([number - SPECIAL])
                 for number in self.of_text(ids))
        return b''.join(parts).decode(errors='replace')

    def written(self, line: str) -> str:
        """The line itself."""
        return line

    def unknown(self, line: str) -> list[str]:
        """Nothing."""
        return []


def is_text(symbol: object) -> bool:
    """Whether it can be written down: half of a surrogate pair is no text."""
    return isinstance(symbol, str) and not any('\ud800' <= letter <= '\udfff' for letter in symbol)


def _check_unit(unit, known=UNITS):
    if unit not in known:
        raise UserError(f'vocabulary: unknown unit {unit!r}; it must be one of {", ".join(known)}')
