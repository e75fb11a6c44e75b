"""Running text in pieces of so many symbols, so that a model that learned from short ones is tested on long ones.

    length 4, stride 4     the cat sat on | the mat
    length 4, stride 2     the cat sat on | sat on THE MAT      two symbols of the second count, two are only read

The lines of the text are joined by a space, so a piece is a line as any other. Nothing is left out: the last piece is
as long as what is left.
"""

from collections.abc import Iterable
from typing import NamedTuple

from research.errors import UserError, at_least
from research.text.vocabulary import Characters, Words

TABLES = {'characters': Characters, 'words': Words}  # units whose symbols stand in any piece as they stand in the text


class Piece(NamedTuple):
    """A part of the text."""

    text: str
    first: int  # the position, counted from 0, from which on its symbols count


def pieces(lines: Iterable[str], unit: str, length: int, stride: int | None = None) -> list[Piece]:
    """Cuts the running text of some lines.

    Piece k holds the symbols k stride ... k stride + length - 1; those from its position length - stride on count, in
    the first piece all of them. So each symbol of the text counts once, and but for the first piece each that counts
    has at least length - stride symbols before it.

    Args:
      lines: the text.
      unit: what a symbol is: 'characters', the joining spaces among them, or 'words'.
      length: symbols of a piece; the last may have fewer.
      stride: from the beginning of a piece to that of the next; None = length, so that all symbols of each count.

    Returns:
      The pieces in the order of the text.

    Raises:
      UserError: another unit, length below 1, or a stride below 1 or above the length.

    Source: Press, Smith, Lewis 2022, arXiv:2108.12409, appendix B (sliding window evaluation). Differs: none.
    """
    if unit not in TABLES:
        raise UserError(f'text in {unit!r} cannot be cut into pieces of so many symbols: it must be in '
                        f'{" or ".join(TABLES)}, whose symbols do not depend on what stands beside them')
    at_least(1, length=length)
    stride = length if stride is None else stride
    if not 1 <= stride <= length:
        raise UserError(f'stride is {stride}; it must be at least 1 and at most the length {length} of a piece')
    table = TABLES[unit]
    symbols = table.split(' '.join(lines))
    behind = max(0, len(symbols) - length)  # the first piece
    begins = range(0, behind + stride if symbols else 0, stride)
    return [Piece(table.join(symbols[begin:begin + length]), length - stride if begin else 0) for begin in begins]
