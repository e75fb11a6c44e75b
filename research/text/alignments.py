"""Pairs of text whose words people have aligned, and the word that each symbol of a line belongs to."""

import re
from typing import NamedTuple

from research.errors import UserError
from research.text.corpus import Pair, Path, read_lines
from research.text.reversed import Reversed
from research.text.vocabulary import MARIAN, UNKNOWN, UNKNOWN_SIGN, Vocabulary

BETWEEN = '|||'
_LINK = re.compile(r'([0-9]+)([-p])([0-9]+)')
_MARK = '▁'  # U+2581: at the beginning of a piece, a space


class Aligned(NamedTuple):
    """A pair and what people say of its words; links are (source word, target word), counted from 0."""

    pair: Pair
    sure: frozenset[tuple[int, int]]      # links that must be there
    possible: frozenset[tuple[int, int]]  # links that may be there, the sure ones among them


def read_aligned(path: Path, links: Path) -> list[Aligned]:
    """Reads pairs with gold alignments: a file of text and one of links, aligned by line.

        text     the house ||| la maison       words stand between spaces
        links    1-1 2-2 1p2                   counted from 1;  i-j is sure, ipj possible

    Args:
      path: of the file of pairs.
      links: of the file of their links; i is on the left side of the pair.

    Returns:
      One for each line.

    Raises:
      UserError: as corpus.read_lines; a line is no pair or no links; a word is named that the pair does not have; the
        files differ in their number of lines.

    Source: Mihalcea and Pedersen 2003, An Evaluation Exercise for Word Alignment, section 3 (sure and possible links).
    Differs: the format is the one of a line for each pair that aligners write (Pharaoh's), with p for possible.
    """
    lines, link_lines = list(read_lines(path)), list(read_lines(links))
    if len(lines) != len(link_lines):
        raise UserError(f'{path} has {len(lines)} lines and {links} {len(link_lines)}; both must have one for each '
                        'pair')
    found = []
    for number, (line, link_line) in enumerate(zip(lines, link_lines, strict=True), 1):
        sides = [side.split() for side in line.split(BETWEEN)]
        if len(sides) != 2 or not all(sides):
            raise UserError(f'{path}:{number}: no pair; a line must be words, {BETWEEN} and words')
        sure, possible = set(), set()
        for word in link_line.split():
            match = _LINK.fullmatch(word)
            if match is None:
                raise UserError(f'{links}:{number}: {word!r} is no link; it must be like 3-4 (sure) or 3p4 (possible)')
            link = int(match[1]) - 1, int(match[3]) - 1
            if not all(0 <= place < len(side) for place, side in zip(link, sides, strict=True)):
                raise UserError(f'{links}:{number}: {word!r} names a word that is not there; words are counted from 1, '
                                f'and the sides have {len(sides[0])} and {len(sides[1])}')
            possible.add(link)
            if match[2] == '-':
                sure.add(link)
        found.append(Aligned(Pair(*map(' '.join, sides)), frozenset(sure), frozenset(possible)))
    return found


def words_of(vocabulary: Vocabulary, line: str) -> list[int]:
    """Which word of a line each of its symbols belongs to: as many numbers as `encode` gives ids, counted from 0.

        pieces   '▁the' '▁hou' 'se' '▁' '⁇' END      the line 'the house €', no piece for its last word
        words    0      1      1    2   2   3

    A space belongs to the word behind it. The end symbol, and a space at the end, belong to a word that is not there:
    the number of words.

    Args:
      vocabulary: of any unit.
      line: with one space between its words.
    """
    if isinstance(vocabulary, Reversed):
        *words, end = words_of(vocabulary.forward, line)
        return [*words[::-1], end]
    ids = vocabulary.encode(line)[:-1]
    if vocabulary.unit == 'words':
        return [*range(len(ids) + 1)]
    marked = vocabulary.unit in ('bpe', 'unigram', MARIAN)
    words, word, inside = [], -1, False
    for number in ids:
        symbol = UNKNOWN_SIGN if number == UNKNOWN else vocabulary.symbol(int(number))
        for letter in ' ' + symbol[1:] if marked and symbol.startswith(_MARK) else symbol:
            word += letter != ' ' and not inside
            inside = letter != ' '
        words.append(word if inside else word + 1)
    return [*words, word + 1]
