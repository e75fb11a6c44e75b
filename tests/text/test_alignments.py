"""Gold alignments: what a file says, what is refused, and which word each symbol of a line belongs to."""

import gzip

import pytest

from research.errors import UserError
from research.text.alignments import read_aligned, words_of
from research.text.corpus import Pair
from research.text.reversed import Reversed
from research.text.vocabulary import UNITS, Vocabulary

TEXT = 'the house ||| la maison  \nwhat is it ?   ||| qu\' est - ce ?\n'
LINKS = '1-1 2-2 1p2\n1-1 2p3 4-5\n'


def read(folder, text=TEXT, links=LINKS):
    (folder / 'text').write_text(text)
    (folder / 'links').write_text(links)
    return read_aligned(folder / 'text', folder / 'links')


def test_links_count_from_0_and_the_sure_ones_are_possible(tmp_path):
    first, second = read(tmp_path)
    assert first.pair == Pair('the house', 'la maison')
    assert first.sure == {(0, 0), (1, 1)}
    assert first.possible == {(0, 0), (1, 1), (0, 1)}
    assert second.pair == Pair('what is it ?', "qu' est - ce ?")
    assert (second.sure, second.possible) == ({(0, 0), (3, 4)}, {(0, 0), (1, 2), (3, 4)})


def test_a_pair_may_have_no_link_and_files_may_be_compressed(tmp_path):
    for name, text in (('text.gz', 'a ||| b\n'), ('links.gz', '\n')):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    only, = read_aligned(tmp_path / 'text.gz', tmp_path / 'links.gz')
    assert (only.sure, only.possible) == (set(), set())


@pytest.mark.parametrize(('text', 'links', 'message'), [
    (TEXT, LINKS + '1-1\n', 'has 2 lines and .*links 3'),
    ('a b\n', '1-1\n', r'text:1: no pair'),
    ('a ||| \n', '1-1\n', r'text:1: no pair'),
    ('a ||| b ||| c\n', '1-1\n', r'text:1: no pair'),
    (TEXT, '1-1\n1-1 2?3\n', r"links:2: '2\?3' is no link; it must be like 3-4"),
    (TEXT, '0-1\n1-1\n', r"links:1: '0-1' names a word that is not there"),
    (TEXT, '1-1\n1p6\n', r"links:2: '1p6' .* the sides have 4 and 5"),
])
def test_what_is_no_alignment_is_named_by_file_and_line(tmp_path, text, links, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text, links)


@pytest.mark.parametrize(('name', 'pairs', 'sure', 'possible'), [('enfr', 447, 4038, 13400), ('roen', 248, 6198, 0)])
def test_the_published_sets_have_the_numbers_of_their_description(shared_data, name, pairs, sure, possible):
    folder = shared_data / 'gold_alignments'
    if not folder.is_dir():
        pytest.skip(f'no folder {folder.name} of gold alignments there')
    found = read_aligned(folder / f'{name}.src-tgt', folder / f'{name}.gold')
    assert len(found) == pairs
    assert sum(len(one.sure) for one in found) == sure
    assert sum(len(one.possible) for one in found) == sure + possible


LINES = ['the house of the lords', 'a lord', 'there and here', 'this is how a word is cut into its pieces']


@pytest.mark.parametrize('unit', UNITS)
@pytest.mark.parametrize('turned', [False, True])
def test_the_symbols_of_a_word_spell_it_whatever_the_unit_and_the_order(unit, turned):
    made = Vocabulary.build(LINES, unit, 30 if unit in ('bpe', 'unigram') else None)
    vocabulary = Reversed(made) if turned else made
    for line in LINES:
        ids, words = vocabulary.encode(line), words_of(vocabulary, line)
        assert len(words) == len(ids)
        assert words[-1] == len(line.split(' '))
        for number, word in enumerate(line.split(' ')):
            own = [int(symbol) for symbol, place in zip(ids, words, strict=True) if place == number]
            assert made.decode(own[::-1] if turned else own).strip() == word


def test_unknown_symbols_belong_to_their_word_and_a_lone_mark_to_the_one_behind_it():
    pieces = Vocabulary.build(LINES, 'bpe', 40)
    line = 'a €€ lord'
    symbols = pieces.symbols(pieces.encode(line))
    assert symbols[1:3] == ['▁', '⁇']
    assert words_of(pieces, line)[:4] == [0, 1, 1, 2]
    words = Vocabulary.build(LINES, 'words')
    assert words_of(words, line) == [0, 1, 2, 3]
    assert words_of(Vocabulary.build(LINES, 'characters'), 'a € ') == [0, 1, 1, 2, 2]
