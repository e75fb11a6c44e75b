"""What users type, and what they get wrong: one line that names what and where, exit code 2, nothing compiled."""

import io
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import research.evaluate
import research.train
import research.translate
from research.attention.registry import VARIANTS
from research.cells.registry import CELLS
from tests.conftest import REPOSITORY
from tests.test_translate import ran

TINY = ['--config.data.train=60', '--config.data.dev=10', '--config.data.test=12', '--config.data.longest=5',
        '--config.data.longest_test=7', '--config.batches.tokens=128', '--config.batches.buckets=2',
        '--config.encoder.features=8', '--config.encoder.embedding_features=8', '--config.decoder.features=8',
        '--config.decoder.embedding_features=8', '--config.decoder.reader.energy_width=8',
        '--config.training.steps=6', '--config.training.warmup=2', '--config.training.report_every=2',
        '--config.training.evaluate_every=3', '--config.training.checkpoint_every=3']


def command(*arguments, text='', folder=REPOSITORY, timeout=240):
    """Runs python -m arguments; `text` is standard input."""
    return subprocess.run([sys.executable, '-W', 'error', '-m', *arguments], input=text, capture_output=True,
                          cwd=folder, timeout=timeout, **({'text': True} if isinstance(text, str) else {}))


def train(*arguments):
    return command('research.train', *arguments)


@pytest.fixture
def train_here(monkeypatch, capsys):
    """The same in this process, for mistakes that are found in a moment: (exit code, standard error)."""
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['research.train', *arguments])
        with pytest.raises(SystemExit) as caught:
            research.train.main()
        return SimpleNamespace(returncode=caught.value.code, stdout='', stderr=capsys.readouterr().err)
    monkeypatch.chdir(REPOSITORY)
    return run


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """A finished tiny run."""
    folder = tmp_path_factory.mktemp('run') / 'copy'
    done = train('--config=configs/copy.py', f'--workdir={folder}', *TINY)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_keeps_its_numbers_and_is_done_when_started_again(workdir):
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines if line['kind'] == 'train'] == [2, 3, 4, 6]
    assert [line['step'] for line in lines if line['kind'] == 'dev'] == [3, 6]
    again = train('--config=configs/copy.py', f'--workdir={workdir}', *TINY)
    assert again.returncode == 0, again.stderr
    assert 'all 6 steps are done' in again.stderr
    assert again.stdout.startswith('best dev accuracy')


def test_evaluate_prints_the_score_and_writes_the_reading_down(workdir):
    done = command('research.evaluate', f'--workdir={workdir}', '--split=test')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('test accuracy ')
    assert 'n = 12' in done.stdout
    assert 'greedy' in done.stdout
    reading = json.loads((workdir / 'evaluations.jsonl').read_text().splitlines()[-1])
    assert reading['split'] == 'test'
    assert len((workdir / 'test_outputs.txt').read_text().splitlines()) == 12


def test_translate_answers_line_for_line_also_to_an_empty_line(workdir, tmp_path):
    source = (workdir / 'source_vocabulary.json').read_text()
    word = json.loads(source)['symbols'][-1]
    done = command('research.translate', f'--workdir={workdir}', text=f'{word} {word}\n\n{word}\n')
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split('\n')) == 4
    beams = ran(research.translate.main, [
        f'--workdir={workdir}', '--beams=3', f'--attention_picture={tmp_path / "picture.png"}'],
        f'{word} {word}\n\n{word}\n'.encode())
    assert len(beams.lines) == 3
    for name in ('picture.png', 'picture-3.png'):
        assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')
    assert len(list(tmp_path.iterdir())) == 2  # an empty line has none


def test_the_catalogue_names_every_variant_and_cell():
    done = command('research.catalogue')
    assert done.returncode == 0, done.stderr
    for name in (*VARIANTS, *CELLS):
        assert name in done.stdout


BAD_TRAIN = {
    'an unknown config key': (['--config.training.learning_rat=0.1'], ['learning_rat', 'learning_rate']),
    'a key of nothing': (['--config.decoder.foo=3'], ['no such key', 'foo', 'choose a kind in words']),
    'a key of another kind': (['--config.decoder.mixer.path=xla'], ['no such key', 'mixer', 'choose a kind in words']),
    'a number without end': (['--config.decoder.dropout=0.1', '--config.training.clip=inf'],
                             ['training.clip', 'inf', 'finite']),
    'a value of another type': (['--config.training.steps=many'], ['training.steps']),
    'an unknown attention': (['--config.decoder.reader.name=aditive'], ["'aditive'", "Did you mean 'additive'"]),
    'a negative learning rate': (['--config.training.learning_rate=-1'], ['training.learning_rate', '-1']),
    'a learning rate of nan': (['--config.training.learning_rate=nan'], ['training.learning_rate', 'nan']),
    'an unknown choice': (['--config=configs/copy.py:aditive'], ["'aditive'", "Did you mean 'additive'"]),
    'another kind without its keys': (['--config.encoder.kind=transformer'], ['encoder.hidden', 'a kind in words']),
    'another task without its keys': (['--config.data.task=pronunciation'], ['data.file', 'by its config file']),
    'a seed of more than 32 bits': (['--config.seed=4294967296'], ['seed', '2**32']),
    'an unknown option': (['--configs.seed=3'], ['configs.seed']),
    'a word that is no option': (['now'], ['now']),
}


@pytest.mark.parametrize('name', BAD_TRAIN)
def test_bad_training_arguments_end_in_one_line(name, tmp_path, train_here):
    arguments, names = BAD_TRAIN[name]
    first = [] if any(argument.startswith('--config=') for argument in arguments) else ['--config=configs/copy.py']
    begin = time.monotonic()
    refused(train_here(*first, f'--workdir={tmp_path / "run"}', *arguments), *names)
    assert time.monotonic() - begin < 2
    assert not (tmp_path / 'run').exists()


def test_a_mistake_ends_a_real_process_with_exit_code_2_and_one_line(tmp_path):
    begin = time.monotonic()
    refused(train('--config=configs/copy.py', f'--workdir={tmp_path / "run"}', '--config.training.learning_rate=nan'),
            'training.learning_rate', 'nan')
    assert time.monotonic() - begin < 20


def test_heads_that_do_not_divide_the_width(tmp_path, train_here):
    refused(train_here('--config=configs/copy.py:multi_head_dot', '--config.decoder.reader.heads=3',
                  f'--workdir={tmp_path / "run"}'), 'heads', '3', '128')


@pytest.mark.parametrize(('text', 'names'), [
    ('def get_config(:\n', [':1: not Python']), ("def get_config():\n    return {}['abc']\n", [':2: KeyError: abc'])])
def test_a_config_file_with_a_mistake_in_it_is_named_with_its_line(text, names, tmp_path, train_here):
    (tmp_path / 'mine.py').write_text(text)
    refused(train_here(f'--config={tmp_path / "mine.py"}', f'--workdir={tmp_path / "run"}'), 'mine.py', *names)


def test_a_corpus_that_has_changed_is_not_trained_on_and_the_run_stays_readable(tmp_path, train_here):
    for split in ('train', 'dev', 'test'):
        (tmp_path / f'{split}.tsv').write_text('a b\tx y\nb\ty\n')
    options = ['--config=configs/parallel.py', f'--workdir={tmp_path / "run"}',
               *(f'--config.data.{split}={tmp_path / split}.tsv' for split in ('train', 'dev', 'test')),
               *(option for option in TINY if '.data.' not in option)]
    done = train(*options)
    assert done.returncode == 0, done.stderr
    (tmp_path / 'train.tsv').write_text('a b\tx y\nc\tz\n')
    refused(train_here(*options), 'holds a run on other data', 'corpus')
    scored = ran(research.evaluate.main, [f'--workdir={tmp_path / "run"}', '--split=test'])
    assert scored.code == 2
    assert 'the corpus has changed' in scored.err
    assert len(ran(research.translate.main, [f'--workdir={tmp_path / "run"}'], b'a\n').lines) == 1


def test_a_config_file_that_is_not_there(tmp_path, train_here):
    refused(train_here('--config=configs/copi.py', f'--workdir={tmp_path / "run"}'), 'configs/copi.py')


def test_a_work_directory_or_a_config_is_missing(tmp_path, train_here):
    refused(train_here('--config=configs/copy.py'), '--workdir')
    refused(train_here(f'--workdir={tmp_path / "run"}'), '--config')


def test_a_work_directory_that_holds_another_config(workdir, train_here):
    refused(train_here('--config=configs/copy.py', f'--workdir={workdir}', *TINY, '--config.training.steps=7'),
            str(workdir), 'training.steps', '6', '7')


def test_a_work_directory_that_holds_something_else(tmp_path, train_here):
    (tmp_path / 'thesis.txt').write_text('mine')
    refused(train_here('--config=configs/copy.py', f'--workdir={tmp_path}', *TINY), str(tmp_path), 'not empty')
    assert (tmp_path / 'thesis.txt').read_text() == 'mine'


@pytest.mark.parametrize(('content', 'names'), [
    (None, ['there is no such file']), (b'a b\tx\nno tab here\n', [':2', 'tab']), (b'a\tb\n\xff\tc\n', [':2', 'UTF-8']),
], ids=['missing file', 'line without a tab', 'not UTF-8'])
def test_bad_corpus_files(content, names, tmp_path, train_here):
    path = tmp_path / 'train.tsv'
    if content is not None:
        path.write_bytes(content)
    (tmp_path / 'dev.tsv').write_text('a\tb\n')
    done = train_here('--config=configs/parallel.py', f'--workdir={tmp_path / "run"}', f'--config.data.train={path}',
                 f'--config.data.dev={tmp_path / "dev.tsv"}', f'--config.data.test={tmp_path / "dev.tsv"}')
    refused(done, 'train.tsv', *(names if content is not None else []))


@pytest.mark.parametrize(('content', 'words', 'more', 'names'), [
    (b'', '', [], ['train.txt', 'the file is empty']), (b'a\n\nb\n', '', [], ['train.txt:2', 'the line is empty']),
    (None, '', [], ['train.txt', 'there is no such file']),
    (b'a\n', '', ['--config.data.dev='], ['data.dev', 'a file of text']),
    (b'a\n', '', ['--config.data.unit=letters'], ['data.unit', 'letters', 'characters, words']),
    (b'a\n', ':recurrent', [], ["decoder.kind is 'recurrent'", 'language_model']),
    (b'a\n', '', ['--config.decoder.causal=False'], ['decoder.causal', 'False', 'True'])],
    ids=['empty file', 'empty line', 'missing file', 'no name', 'unit', 'kind', 'both directions'])
def test_a_language_model_that_cannot_be_trained(content, words, more, names, tmp_path, train_here):
    path = tmp_path / 'train.txt'
    if content is not None:
        path.write_bytes(content)
    done = train_here(f'--config=configs/language_model.py{words}', f'--workdir={tmp_path / "run"}',
                      *(f'--config.data.{split}={path}' for split in ('train', 'dev', 'test')), *more)
    refused(done, *names)
    assert not (tmp_path / 'run').exists()


@pytest.fixture
def translate_here(monkeypatch, capsys, workdir):
    """Translates bytes in this process: (exit code, standard output, standard error)."""
    def run(data, *arguments):
        monkeypatch.setattr(sys, 'stdin', SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False))
        code = 0
        try:
            research.translate.main([f'--workdir={workdir}', *arguments])
        except SystemExit as caught:
            code = caught.code
        told = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=told.out, stderr=told.err)
    return run


@pytest.mark.parametrize(('data', 'names'), [
    (b'a b\nc\n\xff\n', ['standard input:3', 'UTF-8']), (b'a b\r\n', ['standard input:1', 'carriage return']),
    (b'\xef\xbb\xbfa\n', ['standard input:1', 'byte order mark'])])
def test_input_that_is_no_text_is_named_by_its_line(data, names, translate_here):
    refused(translate_here(data), *names)


@pytest.mark.parametrize('name', ['picture.gif', 'nowhere/picture.png'])
def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_read(name, translate_here, tmp_path):
    refused(translate_here(b'', f'--attention_picture={tmp_path / name}'), name)


def test_standard_output_is_utf8_and_unknown_symbols_are_told(workdir):
    done = subprocess.run([sys.executable, '-m', 'research.translate', f'--workdir={workdir}'], cwd=REPOSITORY,
                          input='\N{SNOWMAN}\n\n'.encode(), capture_output=True, timeout=240,
                          env=os.environ | {'PYTHONIOENCODING': 'ascii', 'PYTHONUTF8': '0'})
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.decode('utf-8').split('\n')) == 3
    assert b'1 unknown source symbols in 1 of 2 lines' in done.stderr


def test_a_study_that_is_not_there_is_refused(tmp_path):
    refused(command('experiments.run', 'forgeting', '--workdir', str(tmp_path / 'study')), 'forgeting', 'forgetting')


def refused(done, *names):
    """Exit code 2 and one line on standard error that holds every name."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.count('\n') == 1, done.stderr
    for name in names:
        assert name in done.stderr, done.stderr
