"""Files to pairs: what is kept, what is refused with file and line, and what is left out and counted."""

import builtins
import collections
import contextlib
import gzip
import itertools
import json
import pathlib
import pickle
import random
import tempfile
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.errors import UserError
from research.text import corpus, pronunciation
from research.text.corpus import KINDS, Digests, Findings, LineError, Pair, pairs, read_lines, read_pairs, read_text


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


LONG = ' '.join(['sentence'] * 10_000)
FORMS = ('aligned', 'aligned.gz', 'tsv', 'tsv.gz', 'jsonl', 'jsonl.gz')


def line(form, source, target):
    """The bytes of a pair in a form: two lines of two files, a line with a tab, or a JSON object."""
    if form.startswith('aligned'):
        return f'{source}\n'.encode(), f'{target}\n'.encode()
    if form.startswith('tsv'):
        return f'{source}\t{target}\n'.encode()
    return json.dumps({'de': source, 'en': target}, ensure_ascii=False).encode() + b'\n'


def write_form(folder, form, lines):
    """Writes lines of a form; returns what names them all, and the names of the files of sources and of targets."""
    pack = gzip.compress if form.endswith('.gz') else bytes
    name = form.removeprefix('aligned')
    if form.startswith('aligned'):
        paths = folder / f'train.de{name}', folder / f'train.en{name}'
        for path, side in zip(paths, zip(*lines)):
            path.write_bytes(pack(b''.join(side)))
        return f'{paths[0]},{paths[1]}', paths
    path = folder / f'pairs.{form}'
    path.write_bytes(pack(b''.join(lines)))
    return str(path), (path, path)


def read(spec, **options):
    """All pairs of a spec, whose files are closed then, whatever happens."""
    with contextlib.closing(pairs(spec, source='de', target='en', **options)) as found:
        return list(found)


BOTH, TABLE, OBJECTS = FORMS[:2], FORMS[2:4], FORMS[4:]
BAD = [  # forms in which it can be, its kind, the line, 0 where the source is named and 1 where the target is, words
    (TABLE, 'columns', b'no tab here\n', 0, ['no tab']),
    (TABLE, 'columns', b'\n', 0, ['no tab']),
    (TABLE, 'columns', b'a\tb\tc\n', 0, ['3 columns', 'must have 2']),
    (TABLE, 'empty', b'a\t\n', 0, ['target is empty']),
    (TABLE, 'empty', ' \u3000\tb\n'.encode(), 0, ['source is empty']),
    (TABLE, 'not_utf8', 'a\tä\n'.encode('latin-1'), 0, ['not UTF-8', 'byte 3 of']),
    (TABLE, 'control', b'a\tb\r\n', 0, ['carriage return']),
    (TABLE, 'too_long', f'{LONG}\tb\n'.encode(), 0, ['source has 89,999 characters', 'at most 20,000']),
    (TABLE, 'too_long', f'a\t{LONG}\n'.encode(), 0, ['target has 89,999 characters']),
    (BOTH, 'empty', (b'\n', b'b\n'), 0, ['source is empty']),
    (BOTH, 'empty', (b'a\n', b'\n'), 1, ['target is empty']),
    (BOTH, 'empty', (b'\n', b'\n'), 0, ['source is empty']),
    (BOTH, 'not_utf8', (b'\xff\n', b'b\n'), 0, ['not UTF-8', 'byte 1 of']),
    (BOTH, 'not_utf8', (b'a\n', b'b\xc3\n'), 1, ['not UTF-8', 'byte 2 of']),
    (BOTH, 'control', (b'a\r\n', b'b\n'), 0, ['carriage return']),
    (BOTH, 'control', (b'a\n', b'b\rc\n'), 1, ['carriage return']),
    (BOTH, 'too_long', (f'{LONG}\n'.encode(), b'b\n'), 0, ['source has 89,999 characters']),
    (BOTH, 'too_long', (b'a\n', f'{LONG}\n'.encode()), 1, ['target has 89,999 characters']),
    (OBJECTS, 'columns', b'a\tb\n', 0, ['no JSON', "'de'", "'en'"]),
    (OBJECTS, 'columns', b'\n', 0, ['no JSON']),
    (OBJECTS, 'columns', b'{"de": "a", "en": "b"\n', 0, ['no JSON']),
    (OBJECTS, 'columns', b'["a", "b"]\n', 0, ['list is no object']),
    (OBJECTS, 'columns', b'[' * 100_000 + b'\n', 0, ['no JSON']),
    (OBJECTS, 'columns', b'{"de": ' + b'1' * 5000 + b'}\n', 0, ['no JSON']),
    (OBJECTS, 'columns', b'{"de": "a", "fr": "b", "id": 3}\n', 0, ["no 'en'", "there is 'de', 'fr', 'id'"]),
    (OBJECTS, 'columns', b'{"translation": {"fr": "b"}, "de": "a", "en": "b"}\n', 0, ["no 'de'", "there is 'fr'"]),
    (OBJECTS, 'columns', b'{}\n', 0, ["no 'de'", 'there is nothing']),
    (OBJECTS, 'columns', b'{"de": "a", "en": null}\n', 0, ["'en' is NoneType", "there is 'de', 'en'"]),
    (OBJECTS, 'columns', b'{"de": 7, "en": "b"}\n', 0, ["'de' is int"]),
    (OBJECTS, 'empty', b'{"de": "a", "en": " "}\n', 0, ['target is empty']),
    (OBJECTS, 'not_utf8', b'{"de": "a", "en": "\xff"}\n', 0, ['not UTF-8', 'byte 20 of']),
    (OBJECTS, 'not_utf8', b'{"de": "\\ud800", "en": "b"}\n', 0, ["'de' holds half of a surrogate pair"]),
    (OBJECTS, 'control', b'{"de": "a", "en": "b"}\r\n', 0, ['carriage return']),
    (OBJECTS, 'control', b'{"de": "a\\rb", "en": "b"}\n', 0, ["'de' holds a carriage return"]),
    (OBJECTS, 'control', b'{"de": "a", "en": "b\\nc"}\n', 0, ["'en' holds a line feed"]),
    (OBJECTS, 'too_long', json.dumps({'de': LONG, 'en': 'b'}).encode() + b'\n', 0, ['source has 89,999 characters']),
]
CASES = [(form, *case) for forms, *case in BAD for form in forms]


@pytest.mark.parametrize(('form', 'kind', 'bad', 'side', 'words'), CASES, ids=lambda value: repr(value)[:30])
def test_what_is_no_pair_is_named_or_left_out_and_counted(tmp_path, form, kind, bad, side, words):
    good = [Pair(f'ein {number}', f'a {number}') for number in range(3)]
    lines = [line(form, *pair[:2]) for pair in good]
    spec, paths = write_form(tmp_path, form, [*lines[:2], bad, lines[2]])
    place = f'{paths[side]}:3'
    refused(f'{place}: ', *words, f"data.skip = '{kind}' leaves such lines out", call=lambda: read(spec))
    others = frozenset(KINDS) - {kind}
    refused(f'{place}: ', call=lambda: read(spec, skip=others, findings=Findings()))
    findings = Findings()
    assert read(spec, skip={kind}, findings=findings) == good
    assert findings.counts == {kind: 1}
    assert findings.places == {kind: [place]}


@pytest.mark.parametrize('form', FORMS)
def test_a_byte_order_mark_costs_the_first_pair_of_any_form(tmp_path, form):
    lines = [line(form, '\ufeffein', 'a'), line(form, 'zwei', 'two')]
    if form in OBJECTS:
        lines[0] = b'\xef\xbb\xbf' + line(form, 'ein', 'a')
    spec, paths = write_form(tmp_path, form, lines)
    refused(f'{paths[0]}:1: begins with a byte order mark', call=lambda: read(spec))
    findings = Findings()
    assert read(spec, skip={'control'}, findings=findings) == [Pair('zwei', 'two')]
    assert findings.places == {'control': [f'{paths[0]}:1']}


def test_a_line_with_several_faults_counts_once(write):
    path = write('pairs.tsv', b'\xff\r\n' b'one\r\n' b' \t' + LONG.encode() + b'\n' b'a\tb\n')
    findings = Findings()
    assert read(str(path), skip=KINDS, findings=findings) == [Pair('a', 'b')]
    assert findings.places == {'not_utf8': [f'{path}:1'], 'control': [f'{path}:2'], 'empty': [f'{path}:3']}


@pytest.mark.parametrize('form', FORMS)
def test_what_concerns_a_whole_file_is_never_left_out(tmp_path, form):
    def refused_all_the_same(*names):
        refused(*names, call=lambda: read(spec, skip=KINDS, findings=Findings()))

    lines = [line(form, f'ein {number}', f'a {number * number}') for number in range(5000)]
    spec, paths = write_form(tmp_path, form, lines)
    whole = paths[0].read_bytes()
    if form.endswith('.gz'):
        paths[0].write_bytes(whole[:len(whole) // 2])
        refused_all_the_same(f'{paths[0]}:', 'damaged .gz')
    paths[0].write_bytes(gzip.compress(b'') if form.endswith('.gz') else b'')
    refused_all_the_same(f'{paths[0]}: the file is empty')
    paths[0].unlink()
    refused_all_the_same(f'{paths[0]}: there is no such file')
    if form in BOTH:
        paths[0].write_bytes(whole)
        short = [target for _, target in lines[:-1]]
        paths[1].write_bytes(gzip.compress(b''.join(short)) if form.endswith('.gz') else b''.join(short))
        refused_all_the_same(f'{paths[1]}:5000: ', f'but {paths[0]} has one', 'equally many')


def test_a_corpus_of_which_nothing_is_left_is_refused(write):
    path = write('pairs.tsv', b'a\nb\n')
    refused(f'{path}:2: ', 'data.skip', call=lambda: read(str(path), skip={'columns'}, findings=Findings()))


def test_a_line_that_would_fill_the_memory_is_refused(write, monkeypatch):
    monkeypatch.setattr(corpus, 'LONGEST_LINE', 6)
    assert read_pairs(write('good.tsv', b'abc\td\nabc\td')) == [Pair('abc', 'd')] * 2
    path = write('bad.tsv', b'a\tb\nabc\tdef\n')
    refused(f'{path}:2: ', 'more than 6 bytes', call=lambda: read(str(path), skip=KINDS, findings=Findings()))


@pytest.mark.parametrize('form', FORMS)
def test_duplicates_and_unequal_pairs_are_kept_and_counted_or_left_out(tmp_path, form):
    rows = [('a', 'b'), ('a', 'c'), ('a', 'b'), ('x', 'y' * 41), ('x', 'y' * 42), ('x' * 56, 'y' * 14),
            ('x' * 54, 'y' * 13), ('a', 'b'), ('x', 'y' * 42), ('ab', '')]
    spec, (path, target_path) = write_form(tmp_path, form, [line(form, *row) for row in rows])
    whole = [Pair(*row) for row in rows]
    findings = Findings()
    assert read(spec, skip={'empty'}, findings=findings) == whole[:-1]
    assert findings.counts == {'unequal': 3, 'empty': 1}, 'duplicates are not looked for unasked'
    findings = Findings(duplicates=True)
    assert read(spec, skip={'empty'}, findings=findings) == whole[:-1]
    assert findings.places == {'duplicate': [f'{path}:3', f'{path}:8', f'{path}:9'], 'empty': [f'{target_path}:10'],
                               'unequal': [f'{path}:5', f'{path}:7', f'{path}:9']}
    findings = Findings()
    assert read(spec, skip={'empty', 'duplicate'}, findings=findings) == [whole[n] for n in (0, 1, 3, 4, 5, 6)]
    assert findings.counts == {'duplicate': 3, 'unequal': 3, 'empty': 1}
    findings = Findings(duplicates=True)
    assert read(spec, skip={'empty', 'unequal'}, findings=findings) == [whole[n] for n in (0, 1, 2, 3, 5, 7)]
    assert findings.counts == {'duplicate': 2, 'unequal': 3, 'empty': 1}, 'what was left out is nobody\'s duplicate'


def test_a_duplicate_is_both_sides_of_a_pair(write):
    path = write('pairs.tsv', b'ab\tc\na\tbc\nc\tab\nab\tc\n')
    findings = Findings()
    assert len(read(str(path), skip={'duplicate'}, findings=findings)) == 3
    assert findings.places == {'duplicate': [f'{path}:4']}


def test_suspicions_are_no_errors_where_nobody_counts(write):
    assert len(read(str(write('pairs.tsv', b'a\t' + b'b' * 99 + b'\n')))) == 1


def test_findings_keep_few_places_and_hand_on_all(write):
    path = write('pairs.tsv', b'a\tb\n' + b'none\n' * 8)
    told = []
    findings = Findings(sink=lambda *finding: told.append(finding))
    read(str(path), skip={'columns'}, findings=findings)
    assert findings.counts['columns'] == 8
    assert findings.places['columns'] == [f'{path}:{number}' for number in range(2, 7)]
    assert told == [('columns', f'{path}:{number}') for number in range(2, 10)]


def test_nothing_is_left_out_without_being_counted(write):
    with pytest.raises(ValueError, match='findings'):
        pairs(str(write('pairs.tsv', b'a\tb\n')), skip={'empty'})


def test_arguments_without_a_meaning_are_refused_at_once(tmp_path):
    refused("data.skip names 'emty'", "Did you mean 'empty'?", call=lambda: pairs('a', skip={'emty'}))
    refused('longest is 0', call=lambda: pairs('a', longest=0))
    for spec in ('', 'a,', ',b', 'a,b,c'):
        refused(repr(spec), 'SOURCE,TARGET', call=lambda spec=spec: pairs(spec))
    refused('columns is 3', 'a,b', 'two files', call=lambda: pairs('a,b', columns=3))
    refused('columns is 3', 'JSON', call=lambda: pairs('a.jsonl', columns=3, source='de', target='en'))
    refused('columns is 1', call=lambda: pairs('a.tsv', columns=1))
    refused('a.jsonl.gz', 'data.source_language', call=lambda: pairs('a.jsonl.gz', target='en'))
    refused('a.jsonl', 'data.target_language', call=lambda: pairs('a.jsonl', source='de'))
    refused('b.jsonl', 'only file', call=lambda: pairs('a,b.jsonl', source='de', target='en'))


def test_more_columns_and_a_longer_longest_are_read_when_asked_for(write):
    path = write('pairs.tsv', f'a\t{LONG}\tCC-BY\n'.encode())
    assert read(str(path), columns=3, longest=len(LONG)) == [Pair('a', LONG)]
    refused('89,999', '89,998', call=lambda: read(str(path), columns=3, longest=len(LONG) - 1))
    assert read_pairs(path, columns=3) == [Pair('a', LONG)]


def test_both_ways_of_writing_an_object_are_read(write):
    path = write('pairs.jsonl', '{"id": 1, "de": "süß\\t", "en": "swe\\u0065t"}\n'
                                '{"translation": {"en": "\\ud83d\\ude00", "de": "zwei", "fr": "deux"}}\n'
                                ' {"translation": "x", "en": "b", "de": "a"} \n'.encode())
    assert read(str(path)) == [Pair('süß\t', 'sweet'), Pair('zwei', '😀'), Pair('a', 'b')]
    assert [pair[:2] for pair in pairs(str(path), source='en', target='de')][0::2] == [('sweet', 'süß\t'), ('b', 'a')]
    other = write('other.jsonl', b'{"text": "a", "translation": "b"}\n')
    assert list(pairs(str(other), source='text', target='translation')) == [Pair('a', 'b')]


SIDES = st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\n\r\t'), min_size=1, max_size=9).filter(
    lambda text: text.strip() and text[0] != '\ufeff')


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMS), st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=6))
def test_any_text_comes_back_as_it_was_written(form, rows):
    with tempfile.TemporaryDirectory() as folder:
        spec, _ = write_form(pathlib.Path(folder), form, [line(form, *row) for row in rows])
        assert read(spec) == [Pair(*row) for row in rows]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMS), st.lists(st.integers(0, 30), max_size=12))
def test_every_line_is_a_pair_or_a_finding(form, picked):
    """Any mixture of bad lines in any form: the good ones survive in order, each bad one is counted where it stands."""
    bad = [case[1:4] for case in CASES if case[0] == form and case[1] != 'too_long']
    rows = [(None, line(form, 'ein Hund', 'a dog'), 0)]
    for number, pick in enumerate(picked):
        rows.append((None, line(form, f'{number}', f'{number}'), 0) if pick % 3 == 0 else bad[pick % len(bad)])
    with tempfile.TemporaryDirectory() as folder:
        spec, paths = write_form(pathlib.Path(folder), form, [row for _, row, _ in rows])
        told = []
        findings = Findings(sink=lambda *finding: told.append(finding))
        kept = read(spec, skip=set(KINDS) - {'duplicate'}, findings=findings)
    assert [pair.source for pair in kept] == ['ein Hund', *(
        f'{number}' for number, (kind, *_) in enumerate(rows[1:]) if kind is None)]
    assert told == [(kind, f'{paths[side]}:{number}') for number, (kind, _, side) in enumerate(rows, 1) if kind]
    assert findings.counts == collections.Counter(kind for kind, _, _ in rows if kind)


@pytest.mark.parametrize('form', FORMS)
def test_pairs_are_read_one_by_one_and_their_files_are_closed_at_once(tmp_path, monkeypatch, form):
    opened = []

    def noted(opens):
        return lambda *arguments: opened.append(opens(*arguments)) or opened[-1]

    bad = (b'\xff\n', b'c\n') if form in BOTH else b'\xff\n'
    spec, paths = write_form(tmp_path, form, [line(form, 'a', 'b'), bad, line(form, 'c', 'd')])
    monkeypatch.setattr(corpus, 'open', noted(builtins.open), raising=False)
    monkeypatch.setattr(gzip, 'open', noted(gzip.open))
    count = 2 if form in BOTH else 1
    unread = pairs(spec, source='de', target='en')
    assert not opened, 'nothing is opened before it is read'
    unread.close()
    found = pairs(spec, source='de', target='en')
    assert next(found) == Pair('a', 'b')
    assert [file.closed for file in opened] == [False] * count
    with pytest.raises(UserError) as caught:
        next(found)
    assert [file.closed for file in opened] == [True] * count, caught
    found = pairs(spec, source='de', target='en')
    next(found)
    found.close()
    assert [file.closed for file in opened] == [True] * 2 * count
    read(spec, skip={'not_utf8'}, findings=Findings())
    assert [file.closed for file in opened] == [True] * 3 * count
    if form in BOTH:
        paths[1].unlink()
        with pytest.raises(UserError) as caught:
            next(pairs(spec))
        assert all(file.closed for file in opened), caught


def test_an_error_of_a_line_can_be_sent_to_another_process():
    error = pickle.loads(pickle.dumps(LineError('empty', 'a:1', 'the source is empty')))
    assert (error.kind, error.place, str(error)) == ('empty', 'a:1', 'a:1: the source is empty')


def test_digests_are_a_set():
    numbers = random.Random(3).choices(range(4000), k=8000)
    digests, seen = Digests(), set()
    for number in numbers:
        assert digests.add(f'{number}') == (number not in seen)
        seen.add(number)


def peak(work):
    """Most bytes that were allocated at once while this ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_digests_need_48_bytes_each_while_they_grow():
    def fill():
        digests = Digests()
        for number in range(33_000):  # 32,768 are half of 65,536 places
            digests.add(f'{number}')
    assert 131_072 * 8 < peak(fill) < 33_000 * 49 + 10_000


def test_memory_does_not_grow_with_the_file(write):
    """100,000 pairs, a fifth of them bad: no more than a buffer of the file is held, and a few places."""
    path = write('pairs.tsv.gz', b''.join(b'ein Hund %d\t%s\n' % (number, b'a dog' if number % 5 else b'')
                                          for number in range(100_000)))
    count = 0

    def consume():
        nonlocal count
        with contextlib.closing(pairs(str(path), skip={'empty'}, findings=Findings())) as found:
            for _ in found:
                count += 1
    assert peak(consume) < 500_000
    assert count == 80_000


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
