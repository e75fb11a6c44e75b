"""Pairs from data sets and test sets, with stand-ins for what would need a network."""

import contextlib
import sys
import types
import urllib.error

import pytest
import sacrebleu

from research.errors import UserError
from research.text import sources
from research.text.corpus import KINDS, Findings, Pair
from tests.text.test_corpus import LONG, peak, refused

SPEC = 'huggingface:wmt/wmt14[de-en]@b199e40:train'


@pytest.fixture
def hub(monkeypatch):
    """A hub with one data set: put rows in; what was asked for stands in `asked`, an error in `fails` is raised."""
    stand_in = types.SimpleNamespace(rows=[], asked=[], fails=None, closed=0)

    def stream():
        try:
            yield from stand_in.rows
            if stand_in.fails:
                raise stand_in.fails
        finally:
            stand_in.closed += 1

    def load_dataset(*names, **options):
        stand_in.asked.append((names, options))
        if stand_in.fails and not stand_in.rows:
            raise stand_in.fails
        return stream()
    module = types.ModuleType('datasets')
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, 'datasets', module)
    return stand_in


@pytest.fixture
def test_set(monkeypatch, tmp_path):
    """Puts a test set de-en in the place of wmt20: bytes of its sources, and of each of its references."""
    def put(source, *references):
        paths = [tmp_path / f'wmt20.de-en.{name}' for name in ('src', *(f'ref-{n}' for n in range(len(references))))]
        for path, content in zip(paths, (source, *references)):
            path.write_bytes(content)
        monkeypatch.setattr(sacrebleu, 'get_source_file', lambda *names: asked(names) or str(paths[0]))
        monkeypatch.setattr(sacrebleu, 'get_reference_files', lambda *names: asked(names) or list(map(str, paths[1:])))

    def asked(names):
        assert names == ('wmt20', 'de-en')
    return put


def read(spec, **options):
    with contextlib.closing(sources.pairs(spec, **{'source': 'de', 'target': 'en'} | options)) as found:
        return list(found)


def test_files_are_read_as_files(tmp_path):
    for name, content in {'a': 'x\ny\n', 'b': 'u\nv\n', 'c.tsv': 'x\tu\t1\ny\tv\t2\n',
                          'd.jsonl': '{"de": "x", "en": "u"}\n{"de": "y", "en": "v"}\n'}.items():
        (tmp_path / name).write_text(content, encoding='utf-8')
    both = [Pair('x', 'u'), Pair('y', 'v')]
    assert read(f'{tmp_path / "a"},{tmp_path / "b"}', source='', target='') == both
    assert read(str(tmp_path / 'c.tsv'), columns=3, source='', target='') == both
    assert read(str(tmp_path / 'd.jsonl')) == both
    assert read(str(tmp_path / 'd.jsonl'), source='en', target='de') == [Pair('u', 'x'), Pair('v', 'y')]
    refused('d.jsonl:1: ', call=lambda: read(str(tmp_path / 'd.jsonl'), target='fr'))
    refused('c.tsv:1: ', '5 characters', call=lambda: read(f'{tmp_path / "a"},{tmp_path / "c.tsv"}', longest=4))


def test_a_data_set_is_streamed_by_name_config_revision_and_split(hub):
    hub.rows = [{'translation': {'de': 'ein Hund', 'en': 'a dog'}}, {'de': 'zwei', 'en': 'two', 'id': 7}]
    assert read(SPEC) == [Pair('ein Hund', 'a dog'), Pair('zwei', 'two')]
    assert read('huggingface:name@main:validation', source='en', target='de')[0] == Pair('a dog', 'ein Hund')
    assert hub.asked == [
        (('wmt/wmt14', 'de-en'), {'split': 'train', 'revision': 'b199e40', 'streaming': True}),
        (('name', None), {'split': 'validation', 'revision': 'main', 'streaming': True})]
    assert hub.closed == 2


BAD = [('columns', {'de': 'a'}, ["no 'en'", "there is 'de'"]),
       ('columns', {'de': 'a', 'en': None}, ["'en' is NoneType"]),
       ('columns', {'translation': {'en': 'b'}}, ["no 'de'", "there is 'en'"]),
       ('empty', {'de': ' ', 'en': 'b'}, ['source is empty']), ('control', {'de': 'a\n', 'en': 'b'}, ['line feed']),
       ('control', {'de': 'a', 'en': 'b\r'}, ['carriage return']),
       ('too_long', {'de': 'a', 'en': LONG}, ['target has 89,999 characters'])]


@pytest.mark.parametrize(('kind', 'bad', 'words'), BAD, ids=lambda value: repr(value)[:30])
def test_a_bad_row_is_named_or_left_out_and_counted(hub, kind, bad, words):
    hub.rows = [{'de': 'a', 'en': 'b'}, bad, {'de': 'c', 'en': 'd'}]
    refused(f'{SPEC} row 2: ', *words, f"data.skip = '{kind}'", call=lambda: read(SPEC))
    findings = Findings()
    assert read(SPEC, skip={kind}, findings=findings) == [Pair('a', 'b'), Pair('c', 'd')]
    assert findings.counts == {kind: 1}
    assert findings.places == {kind: [f'{SPEC} row 2']}
    assert hub.closed == 2


def test_a_row_that_stood_before_is_a_duplicate(hub):
    hub.rows = [{'de': 'a', 'en': 'b'}, {'translation': {'de': 'a', 'en': 'b'}}]
    findings = Findings()
    assert read(SPEC, skip={'duplicate'}, findings=findings) == [Pair('a', 'b')]
    assert findings.places == {'duplicate': [f'{SPEC} row 2']}


@pytest.mark.parametrize(('spec', 'words'), [
    ('huggingface:wmt/wmt14:train', ['names no revision', 'NAME@REVISION:SPLIT']),
    ('huggingface:wmt/wmt14@:train', ['NAME@REVISION:SPLIT']),
    ('huggingface:wmt/wmt14@b199e40', ['NAME@REVISION:SPLIT']),
    ('huggingface:@b199e40:train', ['NAME@REVISION:SPLIT']), ('huggingface:', ['names no revision']),
    ('huggingface:wmt/wmt14[]@b199e40:train', ['NAME[CONFIG]@REVISION:SPLIT']),
    ('huggingface:wmt/wmt14[de-en@b199e40:train', ['NAME[CONFIG]@REVISION:SPLIT'])])
def test_a_data_set_without_a_revision_or_in_another_form_is_refused(hub, spec, words):
    refused(f'{spec}: ', *words, call=lambda: sources.pairs(spec, source='de', target='en'))
    assert not hub.asked


def test_what_would_be_forgotten_is_refused(hub, tmp_path, monkeypatch):
    refused(SPEC, 'columns is 3', call=lambda: read(SPEC, columns=3))
    refused('sacrebleu:wmt20', 'columns is 3', call=lambda: read('sacrebleu:wmt20', columns=3))
    refused(SPEC, 'data.source_language', call=lambda: read(SPEC, source=''))
    refused('sacrebleu:wmt20', 'data.target_language', call=lambda: read('sacrebleu:wmt20', target=''))
    refused("data.skip names 'x'", call=lambda: read(SPEC, skip={'x'}, findings=Findings()))
    (tmp_path / 'wmt').mkdir()
    monkeypatch.chdir(tmp_path)
    refused('huggingface:wmt@b1:train', 'no revisions', call=lambda: read('huggingface:wmt@b1:train'))


def test_a_missing_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'datasets', None)
    refused(SPEC, "pip install 'seq2lab[huggingface]'", call=lambda: read(SPEC))


def test_what_the_hub_says_is_told_in_one_line(hub):
    hub.fails = ConnectionError("Couldn't reach\nthe Hub")
    refused(f'{SPEC}: cannot be opened', "ConnectionError: Couldn't reach the Hub", call=lambda: read(SPEC))
    hub.rows = [{'de': 'a', 'en': 'b'}]
    refused(f'{SPEC} row 2: cannot be read', 'ConnectionError', call=lambda: read(
        SPEC, skip=KINDS, findings=Findings()))


def test_a_split_without_rows_or_of_which_none_is_left_is_refused(hub):
    refused(f'{SPEC} row 1: ', 'at least one row', call=lambda: read(SPEC))
    hub.rows = [{'de': 'a', 'en': ''}]
    refused(f'{SPEC} row 1: ', 'data.skip', call=lambda: read(SPEC, skip={'empty'}, findings=Findings()))


def test_a_data_set_that_is_not_read_to_its_end_is_closed_at_once(hub):
    hub.rows = [{'de': 'a', 'en': 'b'}, {'de': '', 'en': ''}]
    found = sources.pairs(SPEC, source='de', target='en')
    next(found)
    found.close()
    assert hub.closed == 1
    found = sources.pairs(SPEC, source='de', target='en')
    next(found)
    with pytest.raises(UserError) as caught:
        next(found)
    assert hub.closed == 2, caught


def test_rows_are_not_kept(hub):
    hub.rows = ({'de': f'ein {number} ' + 'x' * 1000, 'en': 'y' * 1000} for number in range(3000))

    def consume():
        for _ in sources.pairs(SPEC, source='de', target='en'):
            pass
    assert peak(consume) < 200_000


def test_a_test_set_is_two_files_of_sacrebleu(test_set):
    test_set(b'ein Hund\nzwei\n', b'a dog\ntwo\n')
    assert read('sacrebleu:wmt20') == [Pair('ein Hund', 'a dog'), Pair('zwei', 'two')]


def test_a_bad_line_of_a_test_set_is_named_or_left_out_and_counted(test_set):
    test_set(b'a\n\nc\nd\nd\n', b'b\nx\n\xff\ne\ne\n')
    refused('sacrebleu:wmt20 line 2: ', 'source is empty', call=lambda: read('sacrebleu:wmt20'))
    findings = Findings()
    assert read('sacrebleu:wmt20', skip=KINDS, findings=findings) == [Pair('a', 'b'), Pair('d', 'e')]
    assert findings.places == {'empty': ['sacrebleu:wmt20 line 2'], 'not_utf8': ['sacrebleu:wmt20 line 3'],
                               'duplicate': ['sacrebleu:wmt20 line 5']}


def test_a_test_set_that_is_not_whole_is_refused(test_set):
    test_set(b'a\nb\n', b'c\n')
    refused('ref-0:2: ', 'equally many', call=lambda: read('sacrebleu:wmt20', skip=KINDS, findings=Findings()))


@pytest.mark.parametrize('references', [(), (b'b\n', b'c\n')])
def test_a_test_set_has_one_reference(test_set, references):
    test_set(b'a\n', *references)
    refused('sacrebleu:wmt20', f'{len(references)} references', call=lambda: read('sacrebleu:wmt20'))


def test_a_test_set_that_is_not_there_is_refused():
    refused('sacrebleu:wmt20/tworef: ', "Did you mean 'wmt20/tworefs'?", call=lambda: read('sacrebleu:wmt20/tworef'))
    refused('sacrebleu:wmt20', 'has not de-xx', 'de-en', call=lambda: read('sacrebleu:wmt20', target='xx'))


@pytest.mark.parametrize('error', [urllib.error.URLError('no route\nto host'), SystemExit(1), EOFError('cut off')])
def test_a_test_set_that_cannot_be_fetched_is_refused(monkeypatch, error):
    def fail(*names):
        raise error
    monkeypatch.setattr(sacrebleu, 'get_source_file', fail)
    refused('sacrebleu:wmt20: sacreBLEU cannot fetch it', type(error).__name__, call=lambda: read('sacrebleu:wmt20'))
