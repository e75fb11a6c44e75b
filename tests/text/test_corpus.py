"""Files to pairs: what is kept, and what is refused with file and line."""

import builtins
import contextlib
import gzip
import itertools

import pytest

from research.errors import UserError
from research.text import corpus, pronunciation
from research.text.corpus import Pair, read_lines, read_pairs, read_text


@pytest.fixture
def write(tmp_path):
    """Writes bytes to a file of this name; a name that ends in .gz is compressed."""
    def writer(name, content):
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith('.gz') else content)
        return path
    return writer


def refused(*names, call):
    """The call raises one line that holds every name."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert '\n' not in message
    for name in names:
        assert str(name) in message, message


@pytest.mark.parametrize('name', ['pairs.tsv', 'pairs.tsv.gz'])
def test_a_line_with_a_tab_is_a_pair(write, name):
    path = write(name, b'ein Hund\ta dog\nzwei Hunde\ttwo dogs\n')
    assert read_pairs(path) == [Pair('ein Hund', 'a dog'), Pair('zwei Hunde', 'two dogs')]
    assert read_pairs(str(path)) == read_pairs(path)


def test_two_files_are_aligned_by_line(write):
    source, target = write('train.de.gz', b'ein Hund\nzwei\n'), write('train.en', b'a dog\ntwo\n')
    assert read_pairs(source, target) == [Pair('ein Hund', 'a dog'), Pair('zwei', 'two')]


def test_a_pair_from_a_file_has_one_answer_and_no_alignment(write):
    pair, = read_pairs(write('pairs.tsv', b'a\tb\n'))
    assert (pair.others, pair.alignment) == ((), ())


@pytest.mark.parametrize('name', ['text.txt', 'text.txt.gz'])
def test_a_line_of_text_is_a_target_without_a_source(write, name):
    assert read_text(write(name, b'a dog\n a\ttab \n')) == [Pair('', 'a dog'), Pair('', ' a\ttab ')]


@pytest.mark.parametrize(('content', 'names'), [
    (b'', ['the file is empty']), (b'a\n \nb\n', [':2', 'the line is empty']), (b'a\n\xff\n', [':2', 'UTF-8'])])
def test_text_that_cannot_be_read_is_named(write, content, names):
    path = write('text.txt', content)
    refused(path, *names, call=lambda: read_text(path))


def test_the_last_line_needs_no_line_feed(write):
    assert read_pairs(write('pairs.tsv', b'a\tb\nc\td')) == [Pair('a', 'b'), Pair('c', 'd')]


# Each of these would split a line, or be trimmed, by str.splitlines, str.split() or str.strip(); or is not seen at all.
@pytest.mark.parametrize('invisible', ['\x0b', '\x0c', '\x1c', '\x85', '\xa0', '\u2028', '\u2029', '\u200b', '\u3000'])
def test_invisible_characters_stay_where_they_are(write, invisible):
    path = write('pairs.tsv', f'x{invisible}y {invisible}\ta{invisible}b\nc\td\n'.encode())
    assert read_pairs(path) == [Pair(f'x{invisible}y {invisible}', f'a{invisible}b'), Pair('c', 'd')]


def test_quotation_marks_mean_nothing(write):
    path = write('pairs.tsv', b'"a\tb"\n\'"\t""\nc""c\t"d"\n')
    assert read_pairs(path) == [Pair('"a', 'b"'), Pair('\'"', '""'), Pair('c""c', '"d"')]


def test_nothing_is_normalised_or_trimmed(write):
    path = write('pairs.tsv', ' e\u0301 \u00e9 \t ﬁ  x \n'.encode())
    assert read_pairs(path) == [Pair(' e\u0301 \u00e9 ', ' ﬁ  x ')]


def test_columns_after_the_second_are_left_out_only_when_their_number_is_said(write):
    path = write('tatoeba.tsv', b'a b\tx y\tCC-BY 2.0\n')
    assert read_pairs(path, columns=3) == [Pair('a b', 'x y')]
    refused(f'{path}:1', '3 columns', 'must have 2', call=lambda: read_pairs(path))
    refused(f'{path}:1', '3 columns', 'must have 4', call=lambda: read_pairs(path, columns=4))
    refused('columns is 1', call=lambda: read_pairs(path, columns=1))
    refused('columns is 3', 'two files', call=lambda: read_pairs(path, path, columns=3))


def test_a_tab_is_text_in_two_files(write):
    assert read_pairs(write('a', b'x\ty\n'), write('b', b'z\n')) == [Pair('x\ty', 'z')]


@pytest.mark.parametrize(('content', 'names'), [
    (b'a\tb\nno tab here\n', [':2:', 'no tab']),
    (b'a\tb\n\nc\td\n', [':2:', 'no tab']),
    (b'a\tb\tc\n', [':1:', '3 columns']),
    (b'a\tb\nc\t\n', [':2:', 'target is empty']),
    (b'a\tb\n\td\n', [':2:', 'source is empty']),
    ('a\tb\nc\t \u00a0\n'.encode(), [':2:', 'target is empty']),
    (b'a\tb\n\xff\tc\n', [':2:', 'not UTF-8', 'byte 1 of']),
    ('a\tä\n'.encode('latin-1'), [':1:', 'not UTF-8', 'byte 3 of']),
    (b'a\tb\r\nc\td\r\n', [':1:', 'carriage return', 'dos2unix']),
    (b'a\tb\rc\td\r', [':1:', 'carriage return']),
    (b'a\rx\tb\n', [':1:', 'carriage return']),
    (b'\xef\xbb\xbfa\tb\n', [':1:', 'byte order mark']),
    (b'', ['empty']),
], ids=repr)
@pytest.mark.parametrize('name', ['pairs.tsv', 'pairs.tsv.gz'])
def test_a_bad_line_is_named_by_file_and_number(write, name, content, names):
    path = write(name, content)
    refused(path, *names, call=lambda: read_pairs(path))


def test_a_byte_order_mark_is_a_character_anywhere_else(write):
    assert read_pairs(write('pairs.tsv', 'a\ufeff\tb\n\ufeffc\td\n'.encode())) == [
        Pair('a\ufeff', 'b'), Pair('\ufeffc', 'd')]


def test_a_bad_line_of_the_second_file_is_named_too(write):
    source, target = write('a', b'x\ny\n'), write('b', b'u\n\xc3\n')
    refused(f'{target}:2:', 'not UTF-8', call=lambda: read_pairs(source, target))
    refused(f'{target.with_name("c")}:1:', 'target is empty', call=lambda: read_pairs(source, write('c', b'\nv\n')))
    refused(f'{target.with_name("d")}:2:', 'source is empty', call=lambda: read_pairs(write('d', b'x\n \n'), source))


def test_files_of_unequal_length_are_refused_whichever_is_shorter(write):
    short, long = write('short', b'a\nb\n'), write('long', b'a\nb\nc\n')
    refused(f'{short}:3:', long, 'equally many', call=lambda: read_pairs(short, long))
    refused(f'{short}:3:', long, 'equally many', call=lambda: read_pairs(long, short))


def test_a_missing_file_and_a_folder_are_no_corpus(tmp_path):
    refused(tmp_path / 'none.tsv', 'there is no such file', call=lambda: read_pairs(tmp_path / 'none.tsv'))
    refused(tmp_path / 'none.gz', 'there is no such file', call=lambda: read_pairs(tmp_path / 'none.gz'))
    refused(tmp_path, 'cannot be read', 'directory', call=lambda: read_pairs(tmp_path))


def damaged():
    """Ways in which a download of twenty thousand different lines goes wrong."""
    whole = gzip.compress(b''.join(b'%d\t%d\n' % (number, number * number) for number in range(20_000)))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xff
    checksum = bytearray(whole)
    checksum[-6] ^= 0xff
    return {'cut off': whole[:len(whole) // 2], 'no known way of packing': whole[:10] + b'\xff' + whole[11:],
            'a byte is another': bytes(flipped), 'wrong checksum': bytes(checksum), 'not compressed': b'a\tb\n',
            'rubbish at its end': whole + b'rubbish', 'only the beginning': whole[:5]}


@pytest.mark.parametrize(('way', 'content'), damaged().items(), ids=list(damaged()))
def test_a_damaged_gz_is_named(tmp_path, way, content):
    path = tmp_path / 'pairs.tsv.gz'
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_pairs(path)
    message = str(caught.value)
    assert message.startswith(f'{path}:'), message
    assert 'damaged' in message or way == 'a byte is another'  # that may make a bad line before it breaks the rest
    if way == 'cut off':
        assert int(message.removeprefix(f'{path}:').split(':')[0]) > 1000, 'not the line up to which it was good'


def test_lines_are_read_one_by_one(tmp_path):
    """The generator holds no more than a buffer: a bad line far behind is met only when it is reached."""
    path = tmp_path / 'lines'
    path.write_bytes(b'good\n' * 100_000 + b'\xff\n')
    lines = read_lines(path)
    assert list(itertools.islice(lines, 100_000)) == ['good'] * 100_000
    refused(f'{path}:100001:', call=lambda: next(lines))


def test_empty_lines_are_lines(tmp_path):
    path = tmp_path / 'lines'
    path.write_bytes(b'\na\n\n')
    assert list(read_lines(path)) == ['', 'a', '']


def test_an_error_of_the_reader_of_the_lines_stays_what_it_is(write):
    def consume():
        with contextlib.closing(read_lines(write('lines', b'a\nb\n'))) as lines:
            for _ in lines:
                raise OSError('mine')
    with pytest.raises(OSError, match=r'^mine$'):
        consume()


@pytest.mark.parametrize('suffix', ['', '.gz'])
def test_a_refused_file_is_closed_at_once(write, monkeypatch, suffix):
    """Not when the error is forgotten, whose traceback holds the frames that read the file."""
    opened = []

    def noted(opens):
        return lambda *arguments: opened.append(opens(*arguments)) or opened[-1]

    monkeypatch.setattr(corpus, 'open', noted(builtins.open), raising=False)
    monkeypatch.setattr(gzip, 'open', noted(gzip.open))
    bad, good = write(f'bad{suffix}', b'\n\n'), write(f'good{suffix}', b'a\nb\n')
    for number, read in enumerate([
            lambda: read_pairs(bad), lambda: read_text(bad), lambda: read_pairs(bad, good),
            lambda: read_pairs(good, bad), lambda: pronunciation.read(bad)]):
        with pytest.raises(UserError, match=':1:') as caught:
            read()
        assert opened, number
        assert all(file.closed for file in opened), (number, caught)
        opened.clear()


@pytest.mark.parametrize(('name', 'count'), [
    ('wikidata_translit/katakana.train.tsv.gz', 63_246), ('wikidata_translit/russian.train.tsv.gz', 105_371),
    ('pydocs/en-es.train.tsv.gz', 38_218), ('cmudict/train.tsv.gz', 128_584)])
def test_real_tables_have_as_many_pairs_as_they_are_known_to_have(shared_data, name, count):
    assert len(read_pairs(shared_data / name)) == count


def test_real_aligned_files_keep_their_tab_and_their_no_break_spaces(shared_data):
    pairs = read_pairs(shared_data / 'multi30k' / 'train.en.gz', shared_data / 'multi30k' / 'train.de.gz')
    assert len(pairs) == 29_000
    assert [number for number, pair in enumerate(pairs, 1) if '\t' in pair.target] == [7366]
    assert sum('\u00a0' in pair.target for pair in pairs) == 44


def test_a_third_column_of_a_real_table_is_left_out(shared_data):
    pairs = read_pairs(shared_data / 'cogs' / 'dev.tsv', columns=3)
    assert len(pairs) == 3000
    refused('cogs', ':1:', '3 columns', call=lambda: read_pairs(shared_data / 'cogs' / 'dev.tsv'))
