"""Lines to ids and back."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.errors import UserError
from research.text.vocabulary import BEGIN, END, PAD, UNITS, UNKNOWN, UNKNOWN_SIGN, Characters, Vocabulary, Words

WORDS = st.text(st.characters(exclude_categories=['Cs'], exclude_characters=' '), min_size=1)
LINES = st.lists(st.lists(WORDS, min_size=1, max_size=7).map(' '.join), min_size=1, max_size=5)
TEXT = st.text(st.characters(exclude_categories=['Cs']))
TABLES = ('characters', 'words')


def test_special_symbols_come_first_and_padding_is_zero():
    assert (PAD, BEGIN, END, UNKNOWN) == (0, 1, 2, 3)


def test_a_line_becomes_the_ids_of_its_symbols_and_an_end():
    words = Vocabulary.build(['b b a', 'b c a'], 'words')
    assert words.encode('a b c').tolist() == [5, 4, 6, END]
    characters = Vocabulary.build(['ab a'], 'characters')
    assert characters.encode('ba ').tolist() == [6, 4, 5, END]
    for ids in (words.encode('a'), words.encode('')):
        assert ids.dtype == np.int32
        assert ids.ndim == 1
    assert words.encode('').tolist() == [END]


def test_ids_go_by_frequency_then_by_symbol():
    vocabulary = Vocabulary.build(['z z b', 'a b é Z', 'é'], 'words')
    assert [vocabulary.decode([number]) for number in range(4, len(vocabulary))] == ['b', 'z', 'é', 'Z', 'a']


def test_the_order_of_the_lines_decides_nothing():
    lines = ['c c a b', 'd b', 'e', 'a']
    assert len({Vocabulary.build(order, 'words').hash for order in (lines, lines[::-1], sorted(lines))}) == 1


def test_size_counts_the_special_symbols_and_cuts_the_rare_ones():
    lines = ['a a a b b c']
    assert len(Vocabulary.build(lines, 'words')) == 7
    assert len(Vocabulary.build(lines, 'words', 100)) == 7
    small = Vocabulary.build(lines, 'words', 6)
    assert len(small) == 6
    assert small.encode('a b c').tolist() == [4, 5, UNKNOWN, END]


@pytest.mark.parametrize('size', [4, 0, -1])
def test_a_size_without_room_for_text_is_refused(size):
    with pytest.raises(UserError, match=rf'size {size} .* at least 5'):
        Vocabulary.build(['a'], 'words', size)


def test_words_are_what_stands_between_spaces_and_only_spaces():
    vocabulary = Vocabulary.build(['  a\u00a0b  c\td ', ''], 'words')
    assert vocabulary.symbols(vocabulary.encode(' c\td   a\u00a0b')) == ['c\td', 'a\u00a0b']
    assert vocabulary.decode(vocabulary.encode(' c\td   a\u00a0b')) == 'c\td a\u00a0b'


@pytest.mark.parametrize('unit', TABLES)
@pytest.mark.parametrize('sign', ['<s>', '</s>', '<pad>', '<unk>', 'PAD', UNKNOWN_SIGN, '0'])
def test_text_that_looks_like_a_special_symbol_is_text(unit, sign):
    line = f'{sign} a {sign}'
    vocabulary = Vocabulary.build([line], unit)
    ids = vocabulary.encode(line)
    assert ids[:-1].min() > UNKNOWN
    assert vocabulary.decode(ids) == line
    unseen = Vocabulary.build(['ß'], unit).encode(sign)
    assert set(unseen[:-1].tolist()) == {UNKNOWN}


@given(LINES, st.sampled_from(TABLES))
def test_a_line_that_was_built_from_comes_back(lines, unit):
    vocabulary = Vocabulary.build(lines, unit)
    for line in lines:
        ids = vocabulary.encode(line)
        assert ids[-1] == END
        assert ids[:-1].min() > UNKNOWN
        assert vocabulary.decode(ids) == line


@given(LINES, TEXT, st.sampled_from(TABLES))
def test_any_line_becomes_as_many_ids_as_it_has_symbols_and_one(lines, other, unit):
    vocabulary = Vocabulary.build(lines, unit)
    count = len(other) if unit == 'characters' else sum(word != '' for word in other.split(' '))
    ids = vocabulary.encode(other)
    assert len(ids) == count + 1
    assert (ids[:-1] >= UNKNOWN).all()
    assert (ids < len(vocabulary)).all()


@given(LINES, st.sampled_from(TABLES))
def test_json_brings_the_same_vocabulary_back(lines, unit):
    vocabulary = Vocabulary.build(lines, unit)
    again = Vocabulary.from_json(vocabulary.to_json())
    assert (again.unit, len(again), again.hash) == (unit, len(vocabulary), vocabulary.hash)
    for line in lines:
        np.testing.assert_array_equal(again.encode(line), vocabulary.encode(line))


@pytest.mark.parametrize(('vocabulary', 'text'), [
    (Words(['b', 'é"']), '{\n"unit": "words",\n"symbols": [\n"b",\n"é\\""\n]\n}\n'),
    (Characters([' ', '▁']), '{\n"unit": "characters",\n"symbols": [\n" ",\n"▁"\n]\n}\n'),
    (Vocabulary.build([], 'bytes'), '{\n"unit": "bytes"\n}\n'),
], ids=lambda part: getattr(part, 'unit', ''))
def test_json_is_what_runs_of_old_have_kept(vocabulary, text):
    assert vocabulary.to_json() == text
    assert Vocabulary.from_json(text).to_json() == text


def test_json_can_be_read_by_people():
    assert '"é"' in Vocabulary.build(['é'], 'words').to_json().split('\n')


def test_decoding_stops_at_the_end_and_skips_padding_and_begin():
    vocabulary = Vocabulary.build(['a b'], 'words')
    assert vocabulary.symbols([BEGIN, 4, PAD, 5, END, 4, PAD]) == ['a', 'b']
    assert vocabulary.symbols(np.array([5, UNKNOWN], np.int32)) == ['b', UNKNOWN_SIGN]
    assert vocabulary.decode([BEGIN, END]) == ''


@pytest.mark.parametrize('number', [-1, 6])
def test_an_id_outside_of_the_vocabulary_is_no_symbol(number):
    with pytest.raises(ValueError, match=f'Id {number} '):
        Vocabulary.build(['a b'], 'words').symbols([4, number])


def test_what_has_no_id_is_named():
    vocabulary = Vocabulary.build(['a b a'], 'words')
    assert vocabulary.unknown('a x  y x') == ['x', 'y', 'x']
    assert vocabulary.unknown('b  a') == []
    assert Vocabulary.build(['ab'], 'characters').unknown('a b') == [' ']


def test_a_line_is_written_as_its_ids_would_be():
    words, letters = Vocabulary.build(['a b'], 'words'), Vocabulary.build(['a b'], 'characters')
    for line in ('a  b ', ' a b', 'b'):
        assert words.written(line) == words.decode(words.encode(line))
        assert letters.written(line) == letters.decode(letters.encode(line)) == line
    assert words.written(' x  b') == 'x b'  # unknown words stay as they are written


def test_the_hash_follows_unit_symbols_and_their_order():
    hashes = [vocabulary.hash for vocabulary in (
        Words(['a', 'b']), Words(['b', 'a']), Words(['a']), Words(['a', 'c']), Words(['ab']), Characters(['a', 'b']),
        Vocabulary.build([], 'bytes'))]
    assert len(set(hashes)) == len(hashes)
    assert all(len(digits) == 64 and int(digits, 16) >= 0 for digits in hashes)


def test_the_hash_is_the_same_in_another_process():
    code = "from research.text.vocabulary import Vocabulary; print(Vocabulary.build(['b a é a', 'c'], 'words').hash)"
    hashes = {subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True,
                             env={'PYTHONHASHSEED': seed, 'PYTHONPATH': ':'.join(sys.path)}).stdout for seed in '12'}
    assert hashes == {Vocabulary.build(['b a é a', 'c'], 'words').hash + '\n'}


def test_an_unknown_unit_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=rf"'syllables'.*{', '.join(UNITS)}"):
        Vocabulary.build(['a'], 'syllables')


@given(TEXT)
def test_bytes_are_those_of_utf_8_and_bring_every_line_back(line):
    vocabulary = Vocabulary.build([], 'bytes')
    ids = vocabulary.encode(line)
    assert ids.dtype == np.int32
    assert ids.tolist() == [*(byte + 4 for byte in line.encode('utf-8')), END]
    assert vocabulary.decode(ids) == vocabulary.written(line) == line
    assert vocabulary.unknown(line) == []


def test_bytes_are_always_all_of_them():
    for size in (None, 260, 8000):
        assert len(Vocabulary.build(['a'], 'bytes', size)) == 260
    with pytest.raises(UserError, match=r'size 259 .* at least 260'):
        Vocabulary.build(['a'], 'bytes', 259)
    again = Vocabulary.from_json(Vocabulary.build(['a'], 'bytes').to_json())
    assert (again.unit, again.encode('ä').tolist()) == ('bytes', [0xc3 + 4, 0xa4 + 4, END])


def test_bytes_are_shown_as_ascii_or_by_number_and_broken_ones_are_replaced():
    vocabulary = Vocabulary.build(['a'], 'bytes')
    shown = ['a', ' ', '~', '<0xC3>', '<0xA4>', '<0x09>', '<0x7F>']
    assert vocabulary.symbols(vocabulary.encode('a ~ä\t\x7f')) == shown
    broken = [BEGIN, 0xc3 + 4, ord('b') + 4, UNKNOWN, 0xc3 + 4, PAD, 0xa4 + 4, 0xff + 4, END, ord('a') + 4]
    assert vocabulary.decode(broken) == f'\ufffdb{UNKNOWN_SIGN}ä\ufffd'
    assert vocabulary.symbols([UNKNOWN, END]) == [UNKNOWN_SIGN]
    with pytest.raises(ValueError, match='Id 260 '):
        vocabulary.decode([260])


def test_text_without_a_symbol_is_refused():
    with pytest.raises(UserError, match='no symbol'):
        Vocabulary.build(['', '  '], 'words')


GOOD = json.loads(Vocabulary.build(['b b a'], 'words').to_json())


@pytest.mark.parametrize('text', [
    '', '{', json.dumps(GOOD)[:-1], '[]', '"words"', 'null', '{}', json.dumps({'unit': 'words'}),
    json.dumps(GOOD | {'size': 6}), json.dumps(GOOD | {'unit': 'word'}), json.dumps(GOOD | {'unit': None}),
    json.dumps(GOOD | {'unit': ['words']}), json.dumps(GOOD | {'symbols': []}), json.dumps(GOOD | {'symbols': 'ab'}),
    json.dumps(GOOD | {'symbols': {'a': 4}}), json.dumps(GOOD | {'symbols': ['a', 'a']}),
    json.dumps(GOOD | {'symbols': ['a', 5]}), json.dumps(GOOD | {'symbols': ['a', ['b']]}),
    json.dumps(GOOD | {'symbols': ['a', '']}), json.dumps(GOOD | {'symbols': ['a', 'b c']}),
    json.dumps(GOOD | {'symbols': ['a', '\ud800']}), json.dumps({'unit': 'characters', 'symbols': ['a', 'bc']}),
    json.dumps(GOOD | {'unit': 'bytes'}), json.dumps(GOOD | {'unit': 'bpe'}), json.dumps({'unit': 'unigram'}),
    json.dumps({'unit': 'words', 'model': ''}),
])
def test_a_damaged_vocabulary_is_refused_in_one_line(text):
    with pytest.raises(UserError) as caught:
        Vocabulary.from_json(text)
    assert 'vocabulary' in str(caught.value)
    assert '\n' not in str(caught.value)
