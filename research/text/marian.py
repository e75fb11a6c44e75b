"""The vocabulary of a Marian checkpoint: pieces cut by SentencePiece, ids by a table that both sides share."""

import base64
import collections
import json
from collections.abc import Iterable, Sequence

import numpy as np
import sentencepiece

from research.errors import UserError
from research.text.vocabulary import END, SPECIAL, UNKNOWN, UNKNOWN_SIGN, Vocabulary

_MARK = '▁'  # U+2581: SentencePiece writes a space so


class Marian(Vocabulary):
    """Pieces of one side of a Marian checkpoint; which side only decides which SentencePiece model cuts the lines.

        line      '>>fra<< a dog'
        pieces    ['>>fra<<', '▁a', '▁do', 'g']      a language code at the beginning of a line is a piece of its own

    A line is normalised as its SentencePiece model says: `written` gives what is left of it.

    Source: the files of Helsinki-NLP's OPUS-MT, as transformers reads them. Differs: the special symbols have our ids;
    punctuation is not normalised first (transformers does so where sacremoses is installed).

    Args of the constructor:
      symbols: the pieces, without the special ones, in the order of their ids.
      model: SentencePiece's.

    Raises:
      UserError: there is no piece, or one is there twice or is no text; the model is damaged.
    """

    unit = 'marian'

    def __init__(self, symbols: Sequence[str], model: bytes):
        """Checks both: they may come from a file."""
        if not symbols:
            raise UserError('vocabulary: there is no piece; there must be at least one')
        for symbol in symbols:
            if not isinstance(symbol, str) or not symbol or any('\ud800' <= letter <= '\udfff' for letter in symbol):
                raise UserError(f'vocabulary: {symbol!r} cannot be one of its pieces')
        self._symbols, self._model = tuple(symbols), model
        self._ids = {symbol: number for number, symbol in enumerate(self._symbols, SPECIAL)}
        if len(self._ids) < len(self._symbols):
            twice = next(symbol for symbol, count in collections.Counter(self._symbols).items() if count > 1)
            raise UserError(f'vocabulary: {twice!r} is there more than once; each piece has one id')
        try:
            self._processor = sentencepiece.SentencePieceProcessor.from_proto(model)
            self._processor.encode('a', out_type=str)
        except (RuntimeError, UnicodeDecodeError):
            raise UserError('vocabulary: damaged, its model is none of SentencePiece') from None

    @classmethod
    def from_text(cls, symbols: object, model: object) -> 'Marian':
        """The vocabulary of pieces and of a model in base64, as `to_json` writes them; UserError when it is damaged."""
        if not isinstance(symbols, list):
            raise UserError('vocabulary: damaged, its symbols must be a list')
        try:
            content = base64.b64decode(model, validate=True)
        except (TypeError, ValueError):
            raise UserError('vocabulary: damaged, its model must be a text in base64') from None
        return cls(symbols, content)

    def to_json(self) -> str:
        """The unit, the pieces in the order of their ids, and the model's bytes in base64."""
        content = {'unit': self.unit, 'symbols': self._symbols, 'model': base64.b64encode(self._model).decode()}
        return json.dumps(content, ensure_ascii=False, indent=0) + '\n'

    def __len__(self) -> int:
        """V, the special symbols counted."""
        return SPECIAL + len(self._symbols)

    def encode(self, line: str) -> np.ndarray:
        """The ids of a line: int32 [S], the last is END and no other."""
        return np.array([*(self._ids.get(piece, UNKNOWN) for piece in self._cut(line)), END], np.int32)

    def symbol(self, number: int) -> str:
        """The piece of an id, SPECIAL or above: the mark in it is a space."""
        return self._symbols[number - SPECIAL]

    def decode(self, ids: Iterable[int]) -> str:
        """The line of a sequence of ids: the pieces joined, marks as spaces, none at the ends."""
        return self._join(UNKNOWN_SIGN if number == UNKNOWN else self.symbol(number) for number in self.of_text(ids))

    def written(self, line: str) -> str:
        """A line as it is left by cutting and joining it."""
        return self._join(self._cut(line))

    def unknown(self, line: str) -> list[str]:
        """The pieces of a line that have no id."""
        return [piece for piece in self._cut(line) if piece not in self._ids]

    def _cut(self, line):
        code, end = [], line.find('<<')
        if line.startswith('>>') and end >= 0:
            code, line = [line[:end + 2]], line[end + 2:]
        return code + self._processor.encode(line, out_type=str)

    def _join(self, pieces):
        return self._processor.decode_pieces(list(pieces)).replace(_MARK, ' ').strip()
