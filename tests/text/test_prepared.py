"""A prepared corpus: what is in the folder is what was read, and what is not whole or not the same is not believed."""

import collections
import hashlib
import json
import os
import pathlib

import pytest

from research.errors import UserError
from research.locked import locked
from research.text import corpus, prepared, subwords
from research.text.corpus import Corpus, Pair
from research.text.prepared import Prepared, prepare
from research.text.reversed import Reversed
from research.text.vocabulary import Vocabulary

SOURCES = ['ein Hund', 'zwei  Hunde', 'ein Hund', 'der Hund läuft\u2028weg', 'ja', 'die Hunde laufen und laufen']
TARGETS = ['a dog', 'two dogs', 'a dog', 'the dog runs\taway', 'y' * 50, 'the dogs run and run']
VALUES = {'data.train': 'train', 'data.sampling': 0.1}
SKIP = frozenset({'duplicate'})


class Case:
    """Two files of lines, and all that `prepare` is told of them."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.files = folder / 'prepared', [str(folder / 'train.de'), str(folder / 'train.en')]
        self.write(SOURCES, TARGETS)
        self.heard, self.stop = [], None  # what progress hears; what is being done when it is stopped

    def write(self, sources, targets):
        for name, lines in zip(self.files, (sources, targets), strict=True):
            pathlib.Path(name).write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')

    def pairs(self, findings=None):
        return corpus.pairs(','.join(self.files), skip=SKIP, findings=findings or corpus.Findings())

    def progress(self, *said):
        self.heard.append(said)
        if said[0] == self.stop:
            raise KeyboardInterrupt

    def prepare(self, unit='words', segmentations=0, seed=1, values=VALUES, vocabularies=None):
        def build(pairs):
            size = {'bpe': 24, 'unigram': 24}.get(unit)
            return tuple(Vocabulary.build((pair[side] for pair in pairs()), unit, size) for side in (0, 1))
        return prepare(self.folder, values, self.pairs, vocabularies or build, self.files, segmentations, 0.3, seed,
                       self.progress)

    def manifest(self):
        return self.folder / 'prepared.json'


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


def refused(*words, folder, values=VALUES):
    """Opening ends in one line that holds these words."""
    with pytest.raises(UserError) as caught:
        Prepared.open(folder, values)
    assert '\n' not in str(caught.value)
    for word in words:
        assert word in str(caught.value), caught.value


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def test_every_pair_that_is_kept_is_there_as_ids_in_the_order_of_the_store(case):
    found = case.prepare()
    assert sorted(path.name for path in case.folder.iterdir()) == [
        'findings.jsonl', 'lock', 'prepared.json', 'source_vocabulary.json', 'target_vocabulary.json', 'train']
    kept = [0, 1, 3, 4, 5]
    assert sorted(found.pairs.original(range(5))) == [0, 1, 2, 3, 4]
    for number, original in enumerate(found.pairs.original(range(5)).tolist()):
        source, target = found.pairs[number]
        assert found.source.decode(source) == found.source.written(SOURCES[kept[original]])
        assert found.target.decode(target) == TARGETS[kept[original]]
    assert found.pairs.variants == 1
    words = collections.Counter(word for number in kept for word in SOURCES[number].split(' ') if word)
    assert [found.source.symbol(number) for number in range(4, len(found.source))] == sorted(
        words, key=lambda word: (-words[word], word))


def test_findings_are_counted_and_each_stands_in_the_file_with_its_place(case):
    found = case.prepare()
    de = case.files[0]
    assert found.found == {'duplicate': 1, 'unequal': 1}
    assert found.places == {'duplicate': [f'{de}:3'], 'unequal': [f'{de}:5']}
    lines = [json.loads(line) for line in (case.folder / 'findings.jsonl').read_text(encoding='utf-8').splitlines()]
    assert lines == [{'kind': 'duplicate', 'place': f'{de}:3'}, {'kind': 'unequal', 'place': f'{de}:5'}]


def test_more_findings_than_places_are_all_in_the_file(case):
    case.write(['ja', *['ja'] * 20], ['yes', *['yes'] * 20])
    found = case.prepare()
    assert (found.found, len(found.places['duplicate'])) == ({'duplicate': 20}, corpus.FIRST_PLACES)
    assert len((case.folder / 'findings.jsonl').read_text().splitlines()) == 20


def test_the_histogram_counts_the_words_of_lines_that_are_kept(case):
    found = case.prepare()
    assert found.histogram == {'source': [[1, 1], [2, 2], [4, 1], [5, 1]], 'target': [[1, 1], [2, 2], [4, 1], [5, 1]]}


def test_the_digest_is_that_of_the_same_texts_in_memory(case):
    found = case.prepare()
    train, rest = list(case.pairs()), [[Pair('a', 'b', ('c', 'd'))], [Pair('e', 'f')]]
    assert found.train_digest == prepared.split_digest(train)
    assert found.digest(Corpus([], *rest)) == prepared.corpus_digest(
        [prepared.split_digest(pairs) for pairs in (train, *rest)])
    by_hand = hashlib.sha256(''.join(f'{source}\t{target}\t\n' for source, target, *_ in train).encode()).hexdigest()
    assert found.train_digest == by_hand
    assert prepared.split_digest(train[::-1]) != by_hand
    assert prepared.split_digest([Pair('a', 'b', ('c', 'd'))]) == hashlib.sha256(b'a\tb\tc|d\n').hexdigest()


def test_the_pairs_are_read_once_to_their_end_however_often_the_vocabularies_ask(case):
    begun = []
    original = case.pairs

    def pairs(findings=None):
        begun.append(0)
        for pair in original(findings):
            begun[-1] += 1
            yield pair
    case.pairs = pairs
    case.prepare()
    assert begun == [1, 5]  # the first pair, before anything is replaced; all of them


def test_progress_hears_what_is_done_and_of_how_many_pairs_once_that_is_known(case, monkeypatch):
    monkeypatch.setattr(prepared, 'EVERY', 2)
    case.prepare()
    counting = [0, 2, 4, 5]
    assert case.heard == [
        *(('check', pairs, 5 if pairs == 5 else None) for pairs in counting),
        *(('read for the vocabularies', pairs, 5) for pairs in counting * 2),
        *(('write', pairs, 5) for pairs in counting),
        ('sort', 0, 5)]


# ------------------------------------------------------------------------------------------------ what is not believed

@pytest.mark.parametrize('stage', ['check', 'read for the vocabularies', 'write', 'sort'])
def test_a_preparation_that_is_stopped_is_not_believed_and_the_next_one_replaces_it(case, stage):
    whole = contents(case.prepare() and case.folder)
    case.stop = stage
    with pytest.raises(KeyboardInterrupt):
        case.prepare()
    assert not case.manifest().exists()
    refused('prepared.json', 'was not finished', 'research.prepare', folder=case.folder)
    case.stop = None
    case.prepare()
    assert contents(case.folder) == whole


def test_a_stop_while_the_old_files_are_removed_leaves_a_folder_that_can_be_prepared(case, monkeypatch):
    whole = contents(case.prepare() and case.folder)
    removed = []

    def stop(path, *_):
        removed.append(path.name)
        raise KeyboardInterrupt
    monkeypatch.setattr(prepared.shutil, 'rmtree', stop)
    with pytest.raises(KeyboardInterrupt):
        case.prepare()
    assert removed == ['train']
    refused('prepared.json', folder=case.folder)
    monkeypatch.undo()
    case.prepare()
    assert contents(case.folder) == whole


@pytest.mark.parametrize('name', ['notes.txt', 'train/ids', 'source_vocabulary.json'])
def test_a_folder_that_holds_something_else_is_refused_and_not_touched(case, name):
    path = case.folder / name
    path.parent.mkdir(parents=True)
    path.write_text('mine')
    with pytest.raises(UserError, match=rf'holds something else .*\({name.split("/")[0]}\).*data\.prepared'):
        case.prepare()
    assert contents(case.folder) == {name: b'mine'}


def test_a_stranger_among_prepared_files_is_not_touched_and_neither_are_they(case):
    case.prepare()
    (case.folder / 'notes.txt').write_text('mine')
    before = contents(case.folder)
    with pytest.raises(UserError, match=r'holds something else .*notes\.txt'):
        case.prepare()
    assert contents(case.folder) == before


def test_one_process_at_a_time_prepares_a_folder(case):
    case.prepare()
    before = contents(case.folder)
    with locked(case.folder), pytest.raises(UserError, match=rf'{case.folder} is in use.*data\.prepared'):
        case.prepare()
    assert contents(case.folder) == before
    case.prepare()


def test_what_cannot_be_read_is_refused_before_an_earlier_preparation_is_replaced(case):
    case.prepare()
    before = contents(case.folder)
    os.rename(case.files[1], case.files[1] + '.away')
    with pytest.raises(UserError, match=r'train\.en: there is no such file'):
        case.prepare()
    assert contents(case.folder) == before


def test_a_file_in_the_place_of_the_folder_is_refused(case):
    case.folder.write_text('mine')
    with pytest.raises(UserError, match=f'{case.folder}.*File exists'):
        case.prepare()
    assert case.folder.read_text() == 'mine'


def test_a_full_disk_ends_in_one_line_and_nothing_that_is_believed(case, monkeypatch):
    def full(*_, **__):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(prepared.json, 'dumps', full)
    with pytest.raises(UserError, match=f'{case.folder}: No space left on device') as caught:
        case.prepare()
    assert '\n' not in str(caught.value)
    monkeypatch.undo()
    refused('was not finished', folder=case.folder)


def test_a_folder_that_is_not_there_says_what_makes_it(tmp_path):
    refused('no prepared corpus', 'python -m research.prepare', folder=tmp_path / 'nowhere')


def test_values_that_have_changed_are_named_with_both(case):
    case.prepare()
    refused('data.sampling = 0.1', 'it is 0.2', 'data.prepared', folder=case.folder,
            values=VALUES | {'data.sampling': 0.2})
    refused('data.skip = None', "it is 'empty'", folder=case.folder, values=VALUES | {'data.skip': 'empty'})


@pytest.mark.parametrize('change', ['longer', 'absent', 'folder'])
def test_files_that_have_changed_are_named(case, change):
    case.prepare()
    path = pathlib.Path(case.files[1])
    size = path.stat().st_size
    if change == 'longer':
        path.write_text(path.read_text() + 'more\n')
    else:
        path.unlink()
    if change == 'folder':
        path.mkdir()
    refused(case.files[1], f'{size:,} bytes', 'prepare it again', folder=case.folder)


def damaged(text):
    content = json.loads(text)
    yield ''
    yield text[:len(text) // 2]
    yield '[]'
    yield '5'
    yield '{}'
    yield 'ä' + text
    for key in content:
        yield json.dumps({name: value for name, value in content.items() if name != key})
        yield json.dumps(content | {key: 'something else'})
    yield text.replace('"duplicate": 1', '"duplicate": 2')


def test_a_damaged_manifest_is_named(case):
    case.prepare()
    texts = list(damaged(case.manifest().read_text(encoding='utf-8')))
    assert len(texts) > 20
    for text in texts:
        case.manifest().write_text(text, encoding='utf-8')
        refused('prepared.json is damaged', 'again', folder=case.folder)
    case.manifest().write_bytes(b'\xff')
    refused('prepared.json is damaged', folder=case.folder)
    case.prepare()
    Prepared.open(case.folder, VALUES)


def test_another_format_is_named(case, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(prepared, 'FORMAT', 2)
        case.prepare()
    refused('format_version is 2', 'reads 1', folder=case.folder)


def test_a_vocabulary_or_a_store_of_another_preparation_is_named(case):
    case.prepare()
    path = case.folder / 'target_vocabulary.json'
    good = path.read_text(encoding='utf-8')
    path.write_text(good.replace('"dog"', '"cat"'), encoding='utf-8')
    refused('target_vocabulary.json is not what was written', folder=case.folder)
    path.write_text('{', encoding='utf-8')
    refused('target_vocabulary.json', 'damaged', folder=case.folder)
    path.unlink()
    refused('target_vocabulary.json', 'No such file', folder=case.folder)
    path.write_text(good, encoding='utf-8')
    other = Case(case.folder.parent)
    other.folder = case.folder.parent / 'other'
    other.write(SOURCES[::-1], TARGETS[::-1])
    other.prepare()
    other.write(SOURCES, TARGETS)
    (case.folder / 'train').rename(case.folder.parent / 'away')
    (other.folder / 'train').rename(case.folder / 'train')
    refused('train is not what was written', folder=case.folder)


# -------------------------------------------------------------------------------------------------------- segmentations

@pytest.mark.parametrize('unit', prepared.SAMPLED)
def test_a_pair_has_as_many_random_cuts_as_are_asked_for_and_the_seed_alone_decides_them(case, unit):
    found = case.prepare(unit, segmentations=8, seed=3)
    assert found.pairs.variants == 8
    kept, different = [pair for number, pair in enumerate(zip(SOURCES, TARGETS)) if number != 2], []
    for number, original in enumerate(found.pairs.original(range(5)).tolist()):
        cuts = [found.pairs.variant(number, which) for which in range(8)]
        for side, vocabulary in enumerate((found.source, found.target)):
            expected = vocabulary.samples(kept[original][side], 8, (3, side, original), 0.3)
            assert [cut[side].tolist() for cut in cuts] == [ids.tolist() for ids in expected]
            assert {vocabulary.decode(cut[side]) for cut in cuts} == {kept[original][side]}
            different.append(len({cut[side].tobytes() for cut in cuts}) > 1)
    assert sum(different) > 2
    digest = found.pairs.digest
    assert case.prepare(unit, segmentations=8, seed=3).pairs.digest == digest
    assert case.prepare(unit, segmentations=8, seed=4).pairs.digest != digest
    assert case.prepare(unit).pairs.variants == 1


def test_a_vocabulary_without_random_cuts_is_refused_where_they_are_asked_for(case):
    with pytest.raises(UserError, match=r"data\.segmentations is 2, .*'words'.* bpe and unigram alone"):
        case.prepare('words', segmentations=2)
    assert not case.manifest().exists()


def test_a_source_that_is_read_from_its_end_has_random_cuts_too(case):
    def vocabularies(pairs):
        both = Vocabulary.build((line for pair in pairs() for line in pair[:2]), 'bpe', 40)
        return Reversed(both), both
    found = case.prepare(segmentations=2, vocabularies=vocabularies)
    assert type(found.source) is Reversed
    original = found.pairs.original([0]).item()
    kept = [source for number, source in enumerate(SOURCES) if number != 2]
    assert found.source.decode(found.pairs.variant(0, 1)[0]) == kept[original]


@pytest.mark.parametrize('unit', prepared.SAMPLED)
def test_what_is_kept_of_words_does_not_change_their_cuts(unit, monkeypatch):
    built, alphas = Vocabulary.build([*SOURCES, *TARGETS], unit, 40), (0.1, 0.9, 0.1)

    def cuts(vocabulary, alpha):
        return [ids.tolist() for line in (*SOURCES, *TARGETS) for ids in vocabulary.samples(line, 3, 7, alpha)]
    kept = [cuts(built, alpha) for alpha in alphas]
    assert kept[0] != kept[1]
    assert kept == [cuts(Vocabulary.from_json(built.to_json()), alpha) for alpha in alphas]
    monkeypatch.setattr(subwords, 'MERGES_KEPT', 1)
    monkeypatch.setattr(subwords, 'WORDS_KEPT', 1)
    assert kept == [cuts(Vocabulary.from_json(built.to_json()), alpha) for alpha in alphas]
