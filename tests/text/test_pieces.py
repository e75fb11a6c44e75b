"""Pieces of running text: nothing is lost, every symbol counts once."""

import pytest

from research.errors import UserError
from research.text.pieces import Piece, pieces

LINES = ['the cat sat', 'on  the mat', 'é ß']


def test_pieces_by_hand():
    assert pieces(['abc', 'de'], 'characters', 4) == [Piece('abc ', 0), Piece('de', 0)]
    assert pieces(['abc', 'de'], 'characters', 4, 2) == [Piece('abc ', 0), Piece('c de', 2)]
    assert pieces(['abc', 'de'], 'characters', 4, 1) == [Piece('abc ', 0), Piece('bc d', 3), Piece('c de', 3)]
    assert pieces(['the cat', 'sat on the mat'], 'words', 4) == [Piece('the cat sat on', 0), Piece('the mat', 0)]
    assert pieces(['abcd'], 'characters', 4, 1) == pieces(['abcd'], 'characters', 4) == [Piece('abcd', 0)]
    assert pieces([], 'characters', 4) == []


@pytest.mark.parametrize('unit', ['characters', 'words'])
@pytest.mark.parametrize('length', [1, 2, 3, 5, 7, 24, 25, 26, 40])
def test_every_symbol_counts_once_with_the_symbols_before_it(unit, length):
    """Worked out symbol by symbol: where it must stand, and what must be before it."""
    text = ' '.join(LINES)
    symbols = list(text) if unit == 'characters' else text.split()
    for stride in range(1, length + 1):
        found = pieces(LINES, unit, length, stride)
        cut = [list(piece.text) if unit == 'characters' else piece.text.split(' ') for piece in found]
        counted = [symbol for held, piece in zip(cut, found, strict=True) for symbol in held[piece.first:]]
        assert counted == symbols
        for number, (held, piece) in enumerate(zip(cut, found, strict=True)):
            assert held == symbols[number * stride:number * stride + length]
            assert piece.first == (length - stride if number else 0)
        assert all(len(held) == length for held in cut[:-1])


@pytest.mark.parametrize(('unit', 'length', 'stride', 'message'), [
    ('bytes', 4, None, r"'bytes' cannot be cut .* characters or words"), ('words', 0, None, 'length is 0'),
    ('words', 4, 0, 'stride is 0'), ('words', 4, 5, 'stride is 5; it must be at least 1 and at most the length 4')])
def test_what_cannot_be_cut_is_refused(unit, length, stride, message):
    with pytest.raises(UserError, match=message):
        pieces(LINES, unit, length, stride)
