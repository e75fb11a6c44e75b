"""Pretrained word vectors: three formats that say the same, what is refused, and how vectors enter a table."""

import gzip
import math
import struct

import numpy as np
import pytest

from research.errors import UserError
from research.text import vectors
from research.text.vectors import coverage, initial, read

WORDS = ['the', ',', 'café', '3', '东京', '. . .']  # a number is a word, and GloVe has words with spaces
NUMBERS = [[0.5, -1.25, 3.0], [1e-3, 7.0, -0.1], [-2.0, 0.25, 1e10], [4.0, 5.0, 6.0], [0.0, -0.0, 1.0], [9.0, 8.0, 7.0]]


def text(words=WORDS, numbers=NUMBERS, header=False, end='\n'):
    """A file of GloVe, or with a header one of word2vec."""
    lines = [' '.join([word, *map(repr, row)]) for word, row in zip(words, numbers)]
    return ''.join(line + end for line in [f'{len(words)} {len(numbers[0])}'] * header + lines).encode()


def binary(words=WORDS[:5], numbers=NUMBERS, end=b'\n', count=None):
    """A binary file of word2vec, in which a space ends a word."""
    return f'{len(words) if count is None else count} {len(numbers[0])}\n'.encode() + b''.join(
        word.encode() + b' ' + struct.pack(f'<{len(row)}f', *row) + end for word, row in zip(words, numbers))


@pytest.fixture
def write(tmp_path):
    """Writes bytes to a file whose name says nothing about its format."""
    def writer(content):
        path = tmp_path / 'vectors'
        path.write_bytes(content)
        return path
    return writer


def refused(path, message, call=None):
    """Reading ends in one line that begins with the path and goes on with the message."""
    with pytest.raises(UserError) as caught:
        call() if call else read(path)
    assert '\n' not in str(caught.value)
    assert str(caught.value).startswith(f'{path}{message}'), caught.value


@pytest.mark.parametrize('pack', [bytes, gzip.compress], ids=['plain', 'gzip'])
@pytest.mark.parametrize(('content', 'words'), [
    (text(), 6), (text(header=True), 6), (text(header=True, end=' \n'), 6), (text(end='\r\n'), 6), (text()[:-1], 6),
    (binary(), 5), (binary(end=b''), 5), (binary()[:-1], 5)],
    ids=['glove', 'word2vec text', 'space at the end', 'carriage return', 'no line feed at the end', 'binary',
         'binary without line feeds', 'binary without the last line feed'])
def test_a_format_is_found_by_looking_and_all_say_the_same(write, pack, content, words):
    found = read(write(pack(content)))
    assert found.words == WORDS[:words]
    assert found.vectors.dtype == np.float32
    np.testing.assert_array_equal(found.vectors, np.array(NUMBERS[:words], np.float32))
    assert found.repeated == 0


@pytest.mark.parametrize('content', [text(), text(header=True), binary()])
def test_only_wanted_words_are_kept_in_the_order_of_the_file(write, content):
    found = read(write(content), {'3', 'the', 'dog', 'Café'})
    assert found.words == ['the', '3']
    assert found.vectors.tolist() == [NUMBERS[0], NUMBERS[3]]
    nothing = read(write(content), set())
    assert nothing.words == []
    assert nothing.vectors.shape == (0, 3)


@pytest.mark.parametrize('make', [text, binary])
def test_of_several_vectors_of_a_word_the_first_one_counts(write, make):
    found = read(write(make(['a', 'b', 'a', 'b', 'a'], NUMBERS[:5])))
    assert (found.words, found.repeated) == (['a', 'b'], 3)
    assert found.vectors.tolist() == NUMBERS[:1] + np.array(NUMBERS[1:2], np.float32).tolist()
    assert read(write(make(['a', 'b', 'a', 'b', 'a'], NUMBERS[:5])), {'b'}).repeated == 1


def test_binary_files_are_read_over_the_ends_of_blocks(write, monkeypatch):
    rng = np.random.default_rng(1)
    words = [f'{number}'.ljust(length, 'w') for number, length in enumerate(rng.integers(180, 200, size=400))]
    numbers = rng.standard_normal([400, 7]).astype(np.float32)
    numbers.view(np.uint8)[rng.random([400, 28]) < 0.2] = ord(' ')  # bytes that look like the end of a word
    path = write(binary(words, numbers))
    monkeypatch.setattr(vectors, 'BLOCK', 250)
    monkeypatch.setattr(vectors, 'LONGEST', 210)
    found = read(path)
    assert found.words == words
    np.testing.assert_array_equal(found.vectors, numbers)


@pytest.mark.parametrize('first', [0x0a, 0x20, 0x41])
def test_a_binary_file_is_not_taken_for_text_whatever_its_first_byte(write, first):
    numbers = np.random.default_rng(2).standard_normal([3, 8]).astype(np.float32)
    numbers.view(np.uint8)[0, 0] = first
    np.testing.assert_array_equal(read(write(binary(['a', 'b', 'c'], numbers))).vectors, numbers)


@pytest.mark.parametrize(('content', 'message'), [
    (b'', ': the file is empty; it must be GloVe'),
    (b'no numbers\nhere\n', ':1: neither a word and its numbers, nor how many'),
    (b'PK\x03\x04\x14\0\0\0\x08\0\xff\n', ':1: neither a word and its numbers, nor how many'),
    (b'0 3\n', ':1: 0 words of 3 numbers; both must be at least 1'),
    ('\ufeff'.encode() + text(), ':1: begins with a byte order mark'),
    (b'a 1 2 3\nb 1 2\nc 1 2 3\n', ':2: 2 numbers; a line must be a word and 3 numbers'),
    (b'a 1 2\nb 1 2 3\nc 1 2 3\n', ':1: 2 numbers; a line must be a word and 3 numbers'),
    (b'a 1 2 3\nb 1 2 3 4\nc 1 2 3\n', ':2: 4 numbers; a line must be a word and 3 numbers'),
    (b'a 1 2 3\n\nc 1 2 3\n', ':2: 0 numbers; a line must be a word and 3 numbers'),
    (b'a 1 2 3\nb\t1\t2\t3\n', ':2: 3 numbers; a line must be a word and 3 numbers, with one space'),
    (b'a 1 2 3\nb 1 x2 3\n', ":2: 'x2' is not a number"),
    (b'a 1 2 3\nb 1  2\n', ":2: '' is not a number"),
    (b'a 1 2 3\n 1 2 3\n', ':2: there is no word, or more than one space'),
    (b'a 1 2 3\nb  1 2 3\n', ':2: there is no word, or more than one space'),
    (b'a 1 2 3\nb 1 nan 3\n', ':2: a number is not finite'),
    (b'a 1 2 3\nb 1 1e39 3\n', ':2: a number is not finite'),
    (b'a 1 2 3\n\xff 1 2 3\n', ":2: the word b'\\xff' is not UTF-8"),
    (b'3 3\na 1 2 3\nb 1 2 3\n', ':3: the file ends after 2 words, and its header says 3'),
    (b'1 3\na 1 2 3\nb 1 2 3\n', ':3: the file ends after 2 words, and its header says 1'),
    (b'2 3\n', ':1: the file ends after 0 words, and its header says 2'),
    (b'2 3\na 1 2 3\nb 1 2\n', ':3: 2 numbers; a line must be a word and 3 numbers'),
    (binary()[:-3], ': word 5: the file ends within it, and its header says 5'),
    (binary(count=6), ': word 6: the file ends within it, and its header says 6'),
    (binary(count=4), ': word 5: the file goes on, and its header says 4'),
    (binary() + b'x', ': word 6: the file goes on, and its header says 5'),
    (binary(['a', '', 'c'], NUMBERS[:3]), ': word 2: it has no letter or no end'),
    (binary(['a', 'b' * 20_000], NUMBERS[:2]), ': word 2: it has no letter or no end'),
    (binary(['a', 'b'], [NUMBERS[0], [1.0, math.inf, 2.0]]), ': word 2: a number is not finite'),
    (binary(['a', 'b'], NUMBERS[:2]).replace(b'\nb ', b'\n\xe4 '), ": word 2: the word b'\\xe4' is not UTF-8"),
], ids=range(29))
def test_a_damaged_file_is_named_with_the_line_or_the_word(write, content, message):
    path = write(content)
    refused(path, message)


def test_a_word_that_is_not_wanted_may_have_any_bytes(write):
    path = write(b'a 1 2 3\n\xe4\xb8 4 x 6\nb 7 8 9\n')
    assert read(path, {'a', 'b'}).vectors.tolist() == [[1, 2, 3], [7, 8, 9]]
    refused(write(b'a 1 2 3\nb 4 5\n'), ':2: 2 numbers', lambda: read(path, {'a'}))  # but no line may be cut


def test_a_file_that_is_absent_or_of_damaged_gzip_is_named(tmp_path, write):
    refused(tmp_path / 'none', ': there is no such file')
    refused(tmp_path, ': cannot be read (Is a directory)')
    packed = gzip.compress(text(WORDS * 500, NUMBERS * 500))
    refused(write(packed[:len(packed) // 2]), ': damaged .gz')


def test_rows_of_symbols_that_the_file_has_are_replaced_and_others_keep_their_bits(write):
    symbols = [None, None, 'dog', 'The', 'café', 'the', 'the cat', None]
    start = np.random.default_rng(3).standard_normal([8, 3]).astype(np.float32)
    before = start.copy()
    table, covered = initial(symbols, write(text()), lowercase=False, table=start)
    assert covered.tolist() == [False, False, False, False, True, True, False, False]
    np.testing.assert_array_equal(table[~covered], start[~covered])
    np.testing.assert_array_equal(start, before)
    entering = table[covered].astype(float) * math.sqrt(3)  # as an embedding multiplies them
    assert np.mean(entering**2) == pytest.approx(1, rel=1e-6)
    ratio = entering / np.array([NUMBERS[2], NUMBERS[0]])
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-6)
    again, _ = initial(symbols, write(binary()), lowercase=False, table=np.zeros([8, 3]))
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again[covered], table[covered])


def test_a_symbol_as_it_is_goes_before_its_lower_case_form(write):
    path = write(b'us 1 1\nUS 2 0\nit 3 1\n')
    table, covered = initial(['US', 'us', 'It', 'IT', 'x'], path, lowercase=True, table=np.zeros([5, 2]))
    assert covered.tolist() == [True, True, True, True, False]
    factor = table[0, 0] / 2
    np.testing.assert_allclose(table / factor, [[2, 0], [1, 1], [3, 1], [3, 1], [0, 0]], rtol=1e-6)
    assert initial(['US', 'It'], path, lowercase=False, table=np.zeros([2, 2]))[1].tolist() == [True, False]


def test_what_cannot_be_put_into_a_table_is_refused(write):
    path = write(text())
    refused(path, ': its vectors have 3 numbers and the embedding has 4 features',
            lambda: initial(['the'], path, False, np.zeros([1, 4])))
    refused(path, ": has no vector for any symbol, such as ['The', 'dog']",
            lambda: initial([None, 'The', 'dog'], path, False, np.zeros([3, 3])))
    refused(path, ': the vectors of all 1 symbols that it has are zero',
            lambda: initial(['a'], write(b'a 0 0 0\n'), False, np.zeros([1, 3])))
    with pytest.raises(ValueError, match='1 symbols for 2 rows'):
        initial(['the'], path, False, np.zeros([2, 3]))


def test_coverage_counts_symbols_once_and_as_often_as_they_stand_in_the_text():
    found = coverage(np.array([True, True, False, False, True]), np.array([6, 1, 2, 1, 0]))
    assert found == (2 / 4, 7 / 10)
    for covered, counts in (([True], [0]), ([True], [1, 2]), ([True, False], [2, -1])):
        with pytest.raises(ValueError, match='Counts must be'):
            coverage(covered, counts)


def test_real_files_of_the_three_formats_say_the_same(shared_data):
    folder = shared_data / 'glove_50d'
    glove, text_form, binary_form = (read(folder / name) for name in (
        'tiny_glove_500.txt', 'tiny_word2vec_500.vec', 'tiny_word2vec_500.bin'))
    assert glove.words == text_form.words == binary_form.words
    assert len(glove.words) == 500
    np.testing.assert_array_equal(glove.vectors, np.loadtxt(folder / 'tiny_glove_500.txt', np.float32, comments=None,
                                                            usecols=range(1, 51)))
    np.testing.assert_array_equal(text_form.vectors, glove.vectors)
    np.testing.assert_array_equal(binary_form.vectors, glove.vectors)
    few = read(folder / 'glove.6B.50d.top20k_plus_multi30k.txt.gz', {'the', ','})
    np.testing.assert_array_equal(few.vectors, glove.vectors[:2])
