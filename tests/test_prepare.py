"""research.prepare from the command line, and training from what it has written: the same as training from memory."""

import collections
import gzip
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from configs import copy, parallel
from research import build, evaluate, prepare, train
from research.errors import UserError
from research.study import arms
from research.text.store import Pairs
from tests.conftest import REPOSITORY

TINY = {
    'batches.tokens': 256, 'batches.buckets': 1, 'encoder.features': 8, 'encoder.embedding_features': 8,
    'decoder.features': 8, 'decoder.embedding_features': 8, 'decoder.reader.energy_width': 8, 'training.steps': 2,
    'training.warmup': 2, 'training.report_every': 1, 'training.evaluate_every': 2, 'training.checkpoint_every': 2,
    'decoding.beams': 1}
NOUNS = {'Hund': 'dog', 'Kater': 'cat', 'Vogel': 'bird', 'Fisch': 'fish'}
VERBS = {'läuft': 'runs', 'schläft': 'sleeps', 'singt': 'sings'}
PAIRS = [(f'der {noun} {verb}' + ' nicht' * more, f'the {NOUNS[noun]} {VERBS[verb]}' + ' not' * more)
         for noun, verb, more in itertools.product(NOUNS, VERBS, range(2))]


def write(folder, name, pairs):
    """Two files aligned by line, as data.train and the others name them; a line may be bytes."""
    paths = [folder / f'{name}.{side}' for side in ('de', 'en')]
    for path, lines in zip(paths, zip(*pairs), strict=True):
        path.write_bytes(b''.join((line if isinstance(line, bytes) else line.encode()) + b'\n' for line in lines))
    return ','.join(map(str, paths))


@pytest.fixture
def chosen(tmp_path):
    """Values of the data section: files in a folder, some of their lines bad."""
    train = [*PAIRS, PAIRS[0], ('', 'nothing'), (b'\xff', 'bytes'), ('ja', 'yes ' * 20)]
    return {'data.train': write(tmp_path, 'train', train),
            'data.dev': write(tmp_path, 'dev', [*PAIRS[3:8], (' ', 'a')]),
            'data.test': write(tmp_path, 'test', [*PAIRS[9:12], PAIRS[9]]), 'data.skip': 'empty,not_utf8,duplicate'}


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs research.prepare in this process: (exit code, standard output, standard error)."""
    def run(values, config='configs/parallel.py'):
        monkeypatch.setattr(sys, 'argv', ['research.prepare', f'--config={REPOSITORY / config}',
                                          *(f'--config.{key}={value}' for key, value in values.items())])
        try:
            prepare.main()
        except SystemExit as stopped:
            return stopped.code, *capsys.readouterr()
        return 0, *capsys.readouterr()
    return run


def settled(changes):
    return arms.override(parallel.get_config(), TINY | changes)


def ids_of(store):
    """The pairs of a store and how often each is there."""
    return collections.Counter(tuple(side.tobytes() for side in store[number]) for number in range(len(store)))


# ------------------------------------------------------------------------------------------------------- what it says

def test_the_report_counts_every_split_and_names_what_was_found(chosen, tmp_path, command):
    code, said, progress = command(chosen | {'data.prepared': tmp_path / 'made'})
    assert code == 0, progress
    lines = said.split('\n')
    assert lines[0] == f'{tmp_path / "made"}: 25 training pairs; 14 source symbols, 14 target symbols'
    de = tmp_path / 'train.de'
    assert lines[1:7] == [
        'train: 25 pairs',
        f'  duplicate             1 left out: {de}:25',
        f'  empty                 1 left out: {de}:26',
        f'  not_utf8              1 left out: {de}:27',
        f'  unequal               1 kept: {de}:28',
        f'  all of them: {tmp_path / "made"}/findings.jsonl']
    assert lines[7:11] == ['dev: 5 pairs', f'  empty                 1 left out: {tmp_path / "dev.de"}:6',
                           'test: 3 pairs', f'  duplicate             1 left out: {tmp_path / "test.de"}:4']
    assert lines[11:14] == ['source words a training line', f'       1-5           25  {"#" * 40}',
                            'target words a training line']
    assert lines[15:17] == ['     11-20            1  ##', '']
    found = [json.loads(line) for line in (tmp_path / 'made' / 'findings.jsonl').read_text().splitlines()]
    assert found == [{'kind': kind, 'place': f'{de}:{line}'} for kind, line in (
        ('duplicate', 25), ('empty', 26), ('not_utf8', 27), ('unequal', 28))]
    assert [line.split(':')[0] for line in progress.splitlines()] == [
        'check', 'check', *['read for the vocabularies'] * 4, 'write', 'write', 'sort']


def test_duplicates_are_looked_for_where_they_are_kept_too(chosen):
    count, found = prepare.check(settled(chosen | {'data.skip': 'empty,not_utf8'}), 'test')
    assert (count, found.counts) == (4, {'duplicate': 1})


def test_a_histogram_has_ranges_of_words_and_a_bar_for_each():
    rows = [(1, 2), (5, 6), (6, 4), (40, 16), (41, 1), (500, 1)]
    assert list(prepare.histogram(rows)) == [
        f'       1-5            8  {"#" * 20}', f'      6-10            4  {"#" * 10}',
        f'     21-40           16  {"#" * 40}', '     41-80            1  ##', '  over 160            1  ##']


def test_progress_says_when_a_part_begins_and_ends_and_in_between_what_is_left(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(prepare.time, 'monotonic', lambda: now[0])
    progress = prepare.Progress(every=10)
    for seconds, *said in ((0, 'check', 0, None), (5, 'check', 1000, None), (6, 'check', 2000, None),
                           (1, 'check', 2500, 2500), (50, 'write', 0, 2500), (12, 'write', 1000, 2500),
                           (5, 'write', 2000, 2500), (1, 'write', 2500, 2500), (0, 'sort', 0, 2500)):
        now[0] += seconds
        progress(*said)
    assert capsys.readouterr().err.splitlines() == [
        'check: begins', 'check: 2,000 pairs, 11 s', 'check: all 2,500 pairs, 12 s', 'write: 2,500 pairs',
        'write: 1,000 of 2,500 pairs, about 18 s left', 'write: all 2,500 pairs, 18 s', 'sort: 2,500 pairs']


BAD = {  # what is changed; what the line must name
    'no folder to write': ({}, ['data.prepared is not set', '--config.data.prepared=']),
    'no train': ({'data.prepared': 'made', 'data.train': ''}, ["data.train is ''", 'SOURCE,TARGET']),
    'no dev': ({'data.prepared': 'made', 'data.dev': ''}, ["data.dev is ''"]),
    'a missing file': ({'data.prepared': 'made', 'data.train': 'gone.de,gone.en'}, ['gone.de: there is no such file']),
    'a bad line of test': ({'data.prepared': 'made', 'data.skip': 'duplicate'}, ['dev.de:6: the source is empty',
                                                                                 "data.skip = 'empty'"]),
    'a bad line of train': ({'data.prepared': 'made', 'data.skip': 'empty'}, ['train.de:27: not UTF-8']),
    'a size too small': ({'data.prepared': 'made', 'data.source_unit': 'bpe', 'data.source_size': 9}, ['size', '9']),
    'a folder that holds something else': ({'data.prepared': '.'}, ['holds something else', 'dev.de']),
}


@pytest.mark.parametrize('case', BAD)
def test_what_is_wrong_ends_in_one_line_with_exit_code_2(case, chosen, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes, names = BAD[case]
    code, said, wrong = command(chosen | changes)
    last = wrong.splitlines()[-1]
    assert (code, said) == (2, '')
    assert last.startswith('research.prepare: ')
    assert 'Traceback' not in wrong
    for name in names:
        assert name in last, last


def test_a_task_that_is_no_translation_is_refused(command):
    code, _, wrong = command({}, 'configs/copy.py')
    assert (code, wrong.count('\n')) == (2, 1)
    assert "data.task must be 'parallel'" in wrong


@pytest.mark.parametrize(('changes', 'names'), [
    ({'data.segmentations': 8, 'data.source_unit': 'bpe', 'data.target_unit': 'bpe'},
     ['data.segmentations is 8', "data.prepared ''", 'research.prepare']),
    *(({'data.segmentations': 8, 'data.prepared': 'made', 'data.source_unit': 'bpe', 'data.target_unit': unit},
       ['data.segmentations is 8', f"data.target_unit '{unit}'", 'bpe or unigram'])
      for unit in ('words', 'characters', 'bytes')),
    ({'data.segmentations': 8, 'data.prepared': 'made', 'data.joint': True},
     ['data.segmentations is 8', "data.source_unit 'words'", 'bpe or unigram']),
])
def test_segmentations_that_cannot_be_are_refused_before_anything_is_read(changes, names):
    with pytest.raises(UserError) as caught:
        build.validate(settled(changes))
    assert '\n' not in str(caught.value)
    for name in names:
        assert name in str(caught.value)


@pytest.mark.parametrize('changes', [
    {'data.source_unit': 'bpe', 'data.target_unit': 'unigram'}, {'start_from': 'runs/other'}], ids=str)
def test_segmentations_that_can_be_are_not(changes):
    build.validate(settled({'data.segmentations': 8, 'data.prepared': 'made', **changes}))
    build.validate(copy.get_config())


# ------------------------------------------------------------------------------------------------ training from a cache

@pytest.mark.parametrize('changes', [
    {}, {'data.source_unit': 'bpe', 'data.target_unit': 'unigram', 'data.source_size': 30, 'data.target_size': 26,
         'data.reverse_source': True},
    {'data.source_unit': 'bpe', 'data.target_unit': 'bpe', 'data.source_size': 40, 'data.target_size': 40,
     'data.joint': True, 'data.remove_spaces': 'target'}], ids=str)
def test_a_cache_gives_the_vocabularies_the_digest_and_the_pairs_that_memory_gives(changes, chosen, tmp_path):
    values = chosen | changes
    build.prepare(settled(values | {'data.prepared': str(tmp_path / 'made')}), lambda *_: None)
    memory, cached = (build.data(settled(values | more)) for more in ({}, {'data.prepared': str(tmp_path / 'made')}))
    assert (cached.source.hash, cached.target.hash) == (memory.source.hash, memory.target.hash)
    assert cached.digest == memory.digest
    assert cached.corpus._replace(train=memory.corpus.train) == memory.corpus
    encoded = Pairs([(memory.source.encode(pair.source), memory.target.encode(pair.target))
                     for pair in memory.corpus.train])
    assert ids_of(cached.train) == ids_of(encoded)
    assert cached.found == memory.found
    plans = [build.plans(settled(values), data) for data in (memory, cached)]
    assert plans[0].train.shapes == plans[1].train.shapes
    epochs = [collections.Counter(row.tobytes() for k in range(len(plan.train)) for row in np.concatenate(
        [plan.train[k].source, plan.train[k].targets], axis=1)) for plan in plans]
    assert epochs[0] == epochs[1]


def test_segmentations_are_trained_on_and_dev_is_cut_the_best_way(chosen, tmp_path):
    config = settled(chosen | {'data.source_unit': 'bpe', 'data.target_unit': 'bpe', 'data.source_size': 30,
                               'data.target_size': 30, 'data.segmentations': 8, 'data.sampling': 0.5,
                               'data.prepared': str(tmp_path / 'made')})
    build.prepare(config, lambda *_: None)
    data = build.data(config)
    assert data.train.variants == 8
    plans = build.plans(config, data)
    shown = set()
    for k in range(8 * len(plans.train)):
        batch = plans.train[k]
        shown.update((data.source.decode(row), row.tobytes()) for row in batch.source)
    texts = collections.Counter(text for text, _ in shown if text)
    assert texts.keys() == {source for source, _ in PAIRS} | {'ja'}
    assert sum(texts.values()) > 3 * len(texts)
    for row, number in zip(plans.dev[0].source, plans.dev.ids(0)):
        best = data.source.encode(data.corpus.dev[number].source) if number >= 0 else []
        assert row[row > 0].tolist() == list(best)


def test_a_run_from_a_cache_is_trained_and_evaluated(chosen, tmp_path, capsys):
    config = settled(chosen | {'data.prepared': str(tmp_path / 'made')})
    build.prepare(config, lambda *_: None)
    train.Trainer(config).run(tmp_path / 'run')
    said = capsys.readouterr().err
    assert '25 training pairs' in said
    assert '1 empty (left out)' in said
    evaluate.main([f'--workdir={tmp_path / "run"}', '--split=test'])
    assert capsys.readouterr().out.startswith('test BLEU')
    (tmp_path / 'train.de').write_text('other\n')
    with pytest.raises(SystemExit):
        evaluate.main([f'--workdir={tmp_path / "run"}', '--split=test'])
    assert re.search(r'research\.evaluate: \S+train\.de is not the file of \d+ bytes', capsys.readouterr().err)


# ------------------------------------------------------------------------------------------------------- two millions

LINES, EACH = 2_000_000, 100  # every hundredth line is bad: of one kind after the other
LENGTHS = {2: 1, 4: 5, 6: 52, 8: 103, 10: 116, 12: 90, 14: 60, 16: 34, 18: 18, 20: 10, 25: 9, 30: 1, 39: 1}  # weights
SYLLABLES = [consonant + vowel for consonant in 'bdfghklmnprstwz' for vowel in 'aeiouäü']
WORDS = [''.join(parts) for size in (2, 3) for parts in itertools.product(SYLLABLES, repeat=size)][:30_000]
BADLY = {  # kind -> what becomes of a good line (source, target), of which `before` was the last; bytes without its end
    'columns': lambda source, target, before: f'{source} {target}'.encode(),
    'empty': lambda source, target, before: f'{source}\t'.encode(),
    'not_utf8': lambda source, target, before: f'{source}\t{target}'.encode() + b'\xff',
    'control': lambda source, target, before: f'{source}\t{target}\r'.encode(),
    'too_long': lambda source, target, before: f'{source * 300}\t{target}'.encode(),
    'duplicate': lambda source, target, before: before,
    'unequal': lambda source, target, before: f'{WORDS[0]}\t{target} {target} {" ".join(WORDS[:20])}'.encode(),
}
# A process that was forked begins with the peak of its parent, so a small one stands in between.
MEASURE = ('import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; '
           'used = resource.getrusage(resource.RUSAGE_CHILDREN); '
           'print(used.ru_maxrss, round(used.ru_utime + used.ru_stime)); sys.exit(code)')


def word_counts():
    """How many words a German sentence of Multi30k has, and how often it does; roughly, where the corpus is absent."""
    path = REPOSITORY.parent / 'shared' / 'data' / 'multi30k' / 'train.de.gz'
    if not path.is_file():
        return LENGTHS
    with gzip.open(path, 'rt', encoding='utf-8', newline='\n') as file:
        return collections.Counter(len(line.split()) for line in file)


@pytest.fixture(scope='module')
def two_millions(tmp_path_factory):
    """A file of pairs, no two of them equal but for those that are to be, and how many are bad of each kind."""
    path, rng, bad = tmp_path_factory.mktemp('many') / 'train.tsv', np.random.default_rng(0), collections.Counter()
    lengths = word_counts()
    shares, likely = np.cumsum(list(lengths.values())), np.cumsum(1 / np.arange(3, len(WORDS) + 3))
    kinds, before = itertools.cycle(BADLY), None
    with open(path, 'wb') as file:
        for first in range(0, LINES, 50_000):
            sizes = np.array(list(lengths))[np.searchsorted(shares, rng.random(50_000) * shares[-1], side='right')]
            drawn = np.searchsorted(likely, rng.random(2 * sizes.sum()) * likely[-1], side='right').tolist()
            for number, size in enumerate(sizes.tolist(), first):
                sides = [[WORDS[drawn.pop()] for _ in range(size - 1)] for _ in range(2)]
                high, low = divmod(number, len(WORDS))
                source, target = ' '.join([*sides[0], WORDS[low]]), ' '.join([*sides[1], WORDS[high]])
                line = f'{source}\t{target}'.encode()
                if number % EACH == EACH - 1:
                    kind = next(kinds)
                    bad[kind] += 1
                    line = BADLY[kind](source, target, before)
                file.write(line + b'\n')
                before = line
    yield path, dict(bad)
    path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize(('unit', 'size'), [('words', 8000), ('bpe', 8000), ('unigram', 1000)])  # made-up words are few
def test_two_million_pairs_need_less_than_a_gigabyte_and_training_begins_at_once(unit, size, two_millions, tmp_path,
                                                                                 capsys):
    path, bad = two_millions
    small = write(tmp_path, 'dev', PAIRS)
    values = {'data.train': path, 'data.dev': small, 'data.test': small, 'data.skip': ','.join(BADLY),
              'data.longest_line': 1000, 'data.source_unit': unit, 'data.target_unit': unit, 'data.source_size': size,
              'data.target_size': size, 'data.prepared': tmp_path / 'made', **TINY}
    options = ['--config=configs/parallel.py', *(f'--config.{key}={value}' for key, value in values.items())]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(('XLA_', 'JAX_COMPILATION'))}

    begin = time.monotonic()
    done = subprocess.run([sys.executable, '-c', MEASURE, sys.executable, '-m', 'research.prepare', *options],
                          capture_output=True, text=True, cwd=REPOSITORY, env=environment, timeout=3600)
    seconds = time.monotonic() - begin
    assert done.returncode == 0, done.stderr
    *report, used = done.stdout.splitlines()
    kibibytes, busy = map(int, used.split())
    assert report[0].startswith(f'{tmp_path / "made"}: {LINES - sum(bad.values()):,} training pairs; ')
    assert {line.split()[0]: int(line.split()[1].replace(',', '')) for line in report[2:2 + len(bad)]} == bad
    with open(tmp_path / 'made' / 'findings.jsonl', encoding='utf-8') as file:
        found = [json.loads(line) for line in file]
    kinds = itertools.cycle(BADLY)
    assert found == [{'kind': next(kinds), 'place': f'{path}:{number}'} for number in range(EACH, LINES + 1, EACH)]

    begin = time.monotonic()
    with subprocess.Popen([sys.executable, '-m', 'research.train', *options, f'--workdir={tmp_path / "run"}'],
                          stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=REPOSITORY,
                          env=environment) as process:
        heard = [(line, time.monotonic() - begin) for line in process.stderr]
    said = ''.join(line for line, _ in heard)
    assert process.returncode == 0, said
    loaded, first = (next(when for line, when in heard if what in line) for what in ('training pairs', 'step 1/'))
    compiling = float(re.search(r'compiled \d+ programs in ([\d.]+) s', said)[1])  # of the model, whatever the data
    with capsys.disabled():
        print(f'\n{unit}: prepared in {seconds:.0f} s ({busy} s of a core) with {kibibytes / 1024:.0f} MiB; training: '
              f'data and model after {loaded:.1f} s, the first step after {first:.1f} s, {compiling:.1f} s of them '
              'compiling')
    shutil.rmtree(tmp_path / 'made')
    assert kibibytes * 1024 < 10 ** 9
    assert first - compiling < 20
