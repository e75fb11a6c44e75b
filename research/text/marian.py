"""The vocabulary of a Marian checkpoint: pieces cut by SentencePiece, ids by a table that both sides share."""

import base64
import json
from collections.abc import Iterable, Sequence

import sentencepiece

from research.errors import UserError
from research.text.subwords import model_of
from research.text.vocabulary import Table, is_text

_MARK = '▁'  # U+2581: SentencePiece writes a space so


class Marian(Table):
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

    unit, one, many = 'marian', 'piece', 'pieces'

    def __init__(self, symbols: Sequence[str], model: bytes):
        """Checks both: they may come from a file."""
        super().__init__(symbols)
        self._model = model
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
        return cls(symbols, model_of(model))

    def to_json(self) -> str:
        """The unit, the pieces in the order of their ids, and the model's bytes in base64."""
        content = {'unit': self.unit, 'symbols': self._symbols, 'model': base64.b64encode(self._model).decode()}
        return json.dumps(content, ensure_ascii=False, indent=0) + '\n'

    def split(self, line: str) -> list[str]:
        """The pieces of a line: its language code, where it begins with one, and those of SentencePiece."""
        code, end = [], line.find('<<')
        if line.startswith('>>') and end >= 0:
            code, line = [line[:end + 2]], line[end + 2:]
        return code + self._processor.encode(line, out_type=str)

    def join(self, symbols: Iterable[str]) -> str:
        """The pieces joined, marks as spaces, none at the ends."""
        return self._processor.decode_pieces(list(symbols)).replace(_MARK, ' ').strip()

    def _can_be(self, symbol):
        return is_text(symbol) and bool(symbol)
