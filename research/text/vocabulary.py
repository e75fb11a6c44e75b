"""Lines of text to numbers and back; the special symbols are defined here and nowhere else."""

import collections
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np

from research.errors import UserError

PAD, BEGIN, END, UNKNOWN = 0, 1, 2, 3
SPECIAL = 4              # so many special symbols; the id of the first symbol of a text
UNKNOWN_SIGN = '⁇'       # how UNKNOWN is written for people (U+2047)
UNITS = ('characters', 'words')


class Vocabulary:
    """The symbols of one side of a corpus, each with its id.

        id      0    1      2    3        4   5   ...
        symbol  PAD  BEGIN  END  UNKNOWN  the symbols of the text, most frequent first

    A special symbol has an id and no spelling: text such as '<s>' is a symbol of the text like any other.

    Args of the constructor:
      unit: 'characters' (code points, the space among them) or 'words' (what stands between spaces, U+0020 alone).
      symbols: those of the text, in the order of their ids.

    Raises:
      UserError: the unit is unknown, there is no symbol, or one is there twice or cannot be a symbol of this unit.
    """

    def __init__(self, unit: str, symbols: Sequence[str]):
        """Checks the symbols: they may come from a file."""
        _check_unit(unit)
        if not symbols:
            raise UserError('vocabulary: there is no symbol; the text must have at least one')
        for symbol in symbols:
            if not _can_be(symbol, unit):
                raise UserError(f'vocabulary: {symbol!r} cannot be one of its {unit}')
        self.unit = unit
        self._symbols = tuple(symbols)
        self._ids = {symbol: number for number, symbol in enumerate(self._symbols, SPECIAL)}
        if len(self._ids) < len(self._symbols):
            twice = next(symbol for symbol, count in collections.Counter(self._symbols).items() if count > 1)
            raise UserError(f'vocabulary: {twice!r} is there more than once; each symbol has one id')

    @classmethod
    def build(cls, lines: Iterable[str], unit: str, size: int | None = None) -> 'Vocabulary':
        """Gives an id to the most frequent symbols of some lines; equally frequent ones go by their code points.

        Args:
          lines: of the training text.
          unit: 'characters' or 'words'.
          size: the most ids there may be, the special symbols counted; None = as many as there are symbols.

        Returns:
          The vocabulary; what it leaves out becomes UNKNOWN.

        Raises:
          UserError: the unit is unknown, the size leaves no room for a symbol, or there is no symbol in the lines.
        """
        _check_unit(unit)
        if size is not None and size <= SPECIAL:
            raise UserError(f'a vocabulary of size {size} has no room for text; it must be at least {SPECIAL + 1}, '
                            f'because {SPECIAL} symbols are special')
        counts = collections.Counter(symbol for line in lines for symbol in _split(line, unit))
        ordered = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
        return cls(unit, ordered if size is None else ordered[:size - SPECIAL])

    @classmethod
    def from_json(cls, text: str) -> 'Vocabulary':
        """Reads what to_json wrote; raises UserError when it is damaged."""
        try:
            content = json.loads(text)
        except ValueError as error:
            raise UserError(f'vocabulary: damaged, not JSON ({error})') from None
        if not isinstance(content, dict) or content.keys() != {'unit', 'symbols'}:
            raise UserError('vocabulary: damaged, it must have the keys unit and symbols and no other')
        if not isinstance(content['symbols'], list):
            raise UserError('vocabulary: damaged, its symbols must be a list')
        return cls(content['unit'], content['symbols'])

    def to_json(self) -> str:
        """The unit, and the symbols of the text in the order of their ids."""
        return json.dumps({'unit': self.unit, 'symbols': self._symbols}, ensure_ascii=False, indent=0) + '\n'

    @functools.cached_property
    def hash(self) -> str:
        """The sha256 of the content in hexadecimal digits: equal for equal vocabularies only."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __len__(self) -> int:
        """V, the special symbols counted."""
        return SPECIAL + len(self._symbols)

    def encode(self, line: str) -> np.ndarray:
        """The ids of a line: int32 [S], the last is END and no other."""
        return np.array([*(self._ids.get(symbol, UNKNOWN) for symbol in _split(line, self.unit)), END], np.int32)

    def symbols(self, ids: Iterable[int]) -> list[str]:
        """The symbols of a sequence up to its END, without PAD and BEGIN; ValueError for an id that is none."""
        found = []
        for number in map(int, ids):
            if not 0 <= number < len(self):
                raise ValueError(f'Id {number} is not one of a vocabulary of {len(self)}.')
            if number == END:
                break
            if number not in (PAD, BEGIN):
                found.append(UNKNOWN_SIGN if number == UNKNOWN else self._symbols[number - SPECIAL])
        return found

    def decode(self, ids: Iterable[int]) -> str:
        """The line of a sequence of ids: `symbols`, words joined by one space."""
        return {'characters': '', 'words': ' '}[self.unit].join(self.symbols(ids))

    def written(self, line: str) -> str:
        """A line as `decode` would write it: words with one space between them, characters as they are."""
        return line if self.unit == 'characters' else ' '.join(_split(line, self.unit))

    def unknown(self, line: str) -> list[str]:
        """The symbols of a line that have no id."""
        return [symbol for symbol in _split(line, self.unit) if symbol not in self._ids]


def _check_unit(unit):
    if unit not in UNITS:
        raise UserError(f'vocabulary: unknown unit {unit!r}; it must be one of {", ".join(UNITS)}')


def _split(line, unit):
    return list(line) if unit == 'characters' else [word for word in line.split(' ') if word]


def _can_be(symbol, unit):
    """Would this symbol come out of a line of text as it is?"""
    if not isinstance(symbol, str) or any('\ud800' <= letter <= '\udfff' for letter in symbol):
        return False  # half of a surrogate pair is no text: it cannot be written down
    return _split(symbol, unit) == [symbol]
