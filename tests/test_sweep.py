"""Sweeps: what is planned, what is refused before anything starts, and a real one with a run that diverges."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from configs import sweeps
from experiments import sweep
from research import build, train
from research.errors import UserError
from research.training import device
from research.training.report import read_jsonl
from tests.conftest import REPOSITORY

TINY = """
from configs import base, copy, sweeps

def get_config(words=None):
    config = copy.get_config(words)
    config.data.train, config.data.dev, config.data.test = 60, 10, 10
    config.data.longest = config.data.longest_test = 5
    config.batches.tokens, config.batches.buckets = 128, 1
    for side in (config.encoder, config.decoder):
        side.features = side.embedding_features = 8
    if 'energy_width' in config.decoder.reader:
        config.decoder.reader.energy_width = 8
    config.training.steps, config.training.warmup, config.training.report_every = 6, 2, 2
    config.training.evaluate_every = config.training.checkpoint_every = 3
    return config

sweep_seed, sweep_reader = sweeps.seed, sweeps.reader

def sweep_rate():
    return sweeps.grid('training.learning_rate', (1e-3, 1e30, 3e-3))  # the second one diverges

def sweep_one():
    yield {'training.learning_rate': 1e-3}

def sweep_pair():
    return sweeps.grid('seed', (3, 4))

def sweep_mistaken():
    return sweeps.grid('training.learning_rte', (1e-3,))

def sweep_impossible():
    return sweeps.grid('encoder.dropout', (0.5, 1.5))

def sweep_fraction():
    return sweeps.grid('training.steps', (4.5,))

def sweep_twice():
    return [{'seed': 3}, {'seed': 3}]

def sweep_nothing():
    return []

def sweep_broken():
    yield {'seed': 1 // 0}
"""


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """A config file of a user's own."""
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    path.write_text(TINY)
    return path


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Where research and configs are found by the workers; the width of a terminal."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv('COLUMNS', '200')


def plan(tiny, *names, given=(), words='', folder='runs'):
    return sweep.planned(f'{tiny}{words}', names, given, tiny.parent / folder)


@pytest.fixture(scope='module')
def swept(tiny, tmp_path_factory):
    """A sweep of three runs, two at a time, that has ended: its exit code and what it printed."""
    folder = tmp_path_factory.mktemp('sweep') / 'rate'
    done = subprocess.run([sys.executable, '-W', 'error', '-m', 'experiments.sweep', f'--config={tiny}', '--sweep=rate',
                           '--workers=2', f'--workdir={folder}'], cwd=REPOSITORY, timeout=300, capture_output=True,
                          text=True, env=os.environ | {'COLUMNS': '200'})
    return SimpleNamespace(folder=folder, code=done.returncode, out=done.stdout, err=done.stderr)


def lines(folder):
    return [json.loads(line) for line in (folder / 'sweep.jsonl').read_text().splitlines()]


def command(*arguments):
    return sweep.main([str(argument) for argument in arguments])


# ---------------------------------------------------------------------------------------------------------------- plan

def test_a_product_has_every_pair_and_the_last_changes_fastest():
    found = list(sweeps.product(sweeps.grid('a', (1, 2)), sweeps.grid('b.c', 'xy')))
    assert found == [{'a': 1, 'b.c': 'x'}, {'a': 1, 'b.c': 'y'}, {'a': 2, 'b.c': 'x'}, {'a': 2, 'b.c': 'y'}]
    assert list(sweeps.zipped(sweeps.grid('a', (1, 2)), sweeps.grid('b', (3, 4)))) == [{'a': 1, 'b': 3},
                                                                                      {'a': 2, 'b': 4}]


def test_sweeps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match='both change a'):
        list(sweeps.product(sweeps.grid('a', (1,)), sweeps.grid('a', (2,))))
    with pytest.raises(ValueError, match='shorter'):
        list(sweeps.zipped(sweeps.grid('a', (1, 2)), sweeps.grid('b', (3,))))


def test_words_are_joined():
    joined, = sweeps.product(sweeps.grid('words', ('dot',)), sweeps.grid('words', ('cell=lstm',)))
    assert joined == {'words': 'dot+cell=lstm'}


@pytest.mark.parametrize('name', ['copy', 'pronunciation', 'multi30k'])
def test_every_sweep_of_the_configs_is_one(name, tmp_path):
    readers = 7 if name == 'multi30k' else 8
    for one, count in (('learning_rate', 5), ('seed', 6), ('reader', readers)):
        runs = sweep.planned(f'configs/{name}.py', [one], [], tmp_path)
        assert len({run.name for run in runs}) == len(runs) == count
    assert len(sweep.planned(f'configs/{name}.py', ['reader', 'learning_rate'], [], tmp_path)) == 5 * readers


def test_a_run_has_a_name_that_says_what_it_is_and_the_options_that_make_it(tiny):
    first, second = plan(tiny, 'pair', 'one', given=['--config.training.steps=4'], words=':dot')
    assert (first.name, second.name) == ('learning_rate=0.001+seed=3', 'learning_rate=0.001+seed=4')
    assert first.folder == tiny.parent / 'runs' / first.name
    assert first.options == (f'--config={tiny}:dot', '--config.training.steps=4', '--config.seed=3',
                             '--config.training.learning_rate=0.001')
    assert first.config.decoder.reader.name == 'dot'
    assert (first.config.seed, first.config.training.steps, first.config.training.learning_rate) == (3, 4, 1e-3)
    read = plan(tiny, 'reader', 'pair', words=':cell=lstm')[0]
    assert (read.name, read.options[0]) == ('none+seed=3', f'--config={tiny}:cell=lstm+none')
    assert (read.config.encoder.cell, read.config.decoder.reader.name) == ('lstm', 'none')


def test_the_order_of_sweeps_does_not_change_a_name(tiny):
    assert {run.name for run in plan(tiny, 'pair', 'one')} == {run.name for run in plan(tiny, 'one', 'pair')}


@pytest.mark.parametrize(('overrides', 'name'), [
    ({'training.learning_rate': 1e-4, 'seed': 3}, 'learning_rate=0.0001+seed=3'),
    ({'training.learning_rate': 1e-5}, 'learning_rate=1e-05'),
    ({'data.seed': 1, 'seed': 2}, 'data.seed=1+seed=2'),              # seed alone would be another one
    ({'encoder.dropout': 0.1}, 'encoder.dropout=0.1'),
    ({'decoder.reader.name': 'dot'}, 'name=dot'),
    ({'words': 'transformer+dot', 'seed': 2}, 'transformer+dot+seed=2'),
    ({}, 'base')])
def test_a_key_is_as_short_as_it_can_be_in_its_config(overrides, name):
    keys = ('seed', 'data.seed', 'encoder.dropout', 'decoder.dropout', 'training.learning_rate', 'decoder.reader.name')
    assert sweep.run_name(overrides, keys) == name


def test_a_name_that_no_folder_can_have_gets_a_hash():
    keys = ('data.train', 'seed')
    names = [sweep.run_name({'data.train': value}, keys) for value in (
        'a/b', 'a:b', 'a,b', '../b', 'x' * 300, 'x' * 299 + 'y')] + [sweep.run_name({'words': 'logs'}, keys),
                                                                 sweep.run_name({'words': '..'}, keys)]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r'[A-Za-z0-9_=+-]{3,200}', name)
    assert names[0].startswith('train=a_b+')
    assert names[0] == sweep.run_name({'data.train': 'a/b'}, keys)


@pytest.mark.parametrize(('names', 'given', 'words', 'message'), [
    (['rte'], [], '', r"has no function sweep_rte. Did you mean 'rate'\?"),
    (['mistaken'], [], '', r"changes training.learning_rte, .*Did you mean 'training.learning_rate'\?"),
    (['impossible'], [], '', r'run encoder.dropout=1.5: encoder.dropout is 1.5; it must be'),
    (['fraction'], [], '', r'run steps=4.5: .*4.5'),
    (['twice'], [], '', 'yields the same run twice'),
    (['nothing'], [], '', 'yields no run'),
    (['broken'], [], '', r'sweep_broken: --config=.*tiny.py:44: ZeroDivisionError'),
    (['pair', 'seed'], [], '', 'both change seed'),
    (['reader'], [], ':dot', "the reader is said twice: 'dot' and 'none'"),
    (['pair'], ['--config.seed=7'], '', 'one of the two'),
    (['pair'], ['--config.sed=7'], '', 'no such key.*sed'),
    (['pair'], ['--worker=2'], '', "Unknown command line flag 'worker'")])
def test_what_is_wrong_is_said_before_anything_starts(names, given, words, message, tiny, monkeypatch, capsys):
    monkeypatch.setattr(sweep.pool, 'run', lambda *_, **__: pytest.fail('something started'))
    folder = tiny.parent / 'refused'
    with pytest.raises(SystemExit) as caught:
        command(f'--config={tiny}{words}', f'--sweep={",".join(names)}', f'--workdir={folder}', *given)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert said.count('\n') == 1
    assert not folder.exists()


def test_a_value_that_arrives_as_another_one_is_refused(tmp_path):
    path = tmp_path / 'text.py'
    path.write_text(TINY + "\ndef sweep_text():\n    return sweeps.grid('training.steps', ('4',))\n")
    with pytest.raises(UserError, match=r"training.steps is to be '4', and the config makes 4 of it"):
        plan(path, 'text')


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r'--config=.*none.py: there is no such file'):
        plan(tmp_path / 'none.py', 'seed')


# ------------------------------------------------------------------------------------------------------------- dry run

def test_a_dry_run_prints_what_would_run_and_runs_nothing(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep.pool, 'run', lambda *_, **__: pytest.fail('something started'))
    monkeypatch.setattr(device, 'peak', lambda dtype: device.Peak(1e6, False, ''))
    assert command(f'--config={tiny}', '--sweep=reader,pair', f'--workdir={tmp_path / "runs"}', '--dry_run') == 0
    said = capsys.readouterr().out
    assert '16 runs, 0 of them finished' in said
    run = next(run for run in plan(tiny, 'reader', 'pair') if run.name == 'additive+seed=3')
    count, _ = build.parameters(train.Trainer(run.config).model)
    assert re.search(rf'^additive\+seed=3 +words=additive, seed=3 +{count:,} *$', said, re.MULTILINE)
    assert re.search(r'estimate: \d+ (s|min|h)', said)
    assert not (tmp_path / 'runs').exists()


# --------------------------------------------------------------------------------------------------------- a real sweep

def test_a_sweep_trains_every_run_and_shows_the_one_that_diverged_last(swept):
    assert swept.code == 1, swept.err
    by_name = {line['name']: line for line in lines(swept.folder)}
    assert {name: line['status'] for name, line in by_name.items()} == {
        'learning_rate=0.001': 'finished', 'learning_rate=1e+30': 'failed', 'learning_rate=0.003': 'finished'}
    failed = by_name['learning_rate=1e+30']
    assert 'the loss became' in failed['error']
    assert failed['overrides'] == {'training.learning_rate': 1e30}
    rows = swept.out.splitlines()
    assert re.search(r'^learning_rate=1e\+30 .* failed: research.train: the loss became', rows[3]), swept.out
    good = [by_name[row.split()[0]] for row in rows[1:3]]
    assert [line['status'] for line in good] == ['finished', 'finished']
    ranks = [(line['dev']['accuracy'], -line['dev']['loss']) for line in good]
    assert ranks[0] >= ranks[1]
    assert 'time' in rows[0]
    assert f'results  {swept.folder}/sweep.jsonl' in swept.out


def test_what_is_recorded_is_what_the_run_kept(swept):
    for line in lines(swept.folder):
        if line['status'] == 'finished':
            folder = swept.folder / line['name']
            assert line['step'] == max(int(path.name) for path in (folder / 'best').iterdir() if path.name.isdigit())
            log = (swept.folder / 'logs' / f'{line["name"]}.log').read_text()
            said = re.search(r'best dev accuracy ([\d.]+) % at step (\d+)', log)
            assert (f'{100 * line["dev"]["accuracy"]:.1f}', line['step']) == (said[1], int(said[2]))
            assert line['kept_by'] == 'accuracy'
            assert json.loads((folder / 'config.json').read_text())['training']['learning_rate'] == \
                line['overrides']['training.learning_rate']
            reported, _ = read_jsonl(folder / 'metrics.jsonl')
            assert line['seconds'] == pytest.approx(sum(one['seconds'] for one in reported), abs=0.01)


def test_started_again_a_finished_run_is_not_started(swept, tiny, tmp_path, monkeypatch, capsys):
    folder = tmp_path / 'copy'
    shutil.copytree(swept.folder, folder)
    before = (folder / 'sweep.jsonl').read_bytes()
    monkeypatch.setattr(sweep.pool.subprocess, 'Popen', lambda *_, **__: pytest.fail('a process started'))
    assert command(f'--config={tiny}', '--sweep=one', f'--workdir={folder}') == 0
    said = capsys.readouterr().out
    assert 'learning_rate=0.001' in said
    assert 'learning_rate=0.003' not in said
    assert (folder / 'sweep.jsonl').read_bytes() == before


def test_a_run_of_another_config_is_refused_by_the_run_itself_and_shown_as_failed(swept, tiny, tmp_path, capsys):
    folder = tmp_path / 'copy'
    shutil.copytree(swept.folder, folder)
    arguments = f'--config={tiny}', '--sweep=one', f'--workdir={folder}', '--config.training.steps=9'
    assert command(*arguments) == 1
    assert 'failed: research.train' in (said := capsys.readouterr().out)
    assert 'training.steps is 6 there and 9 here' in ' '.join(said.split())
    assert len(lines(folder)) == 3  # runs of other sweeps stay recorded
    assert len(read_jsonl(folder / 'learning_rate=0.001' / 'metrics.jsonl')[0]) == len(
        read_jsonl(swept.folder / 'learning_rate=0.001' / 'metrics.jsonl')[0])


def test_a_dry_run_says_what_is_finished_and_takes_its_time_for_an_estimate(swept, tiny, capsys):
    mean = sum(line['seconds'] for line in lines(swept.folder) if line['status'] == 'finished') / 2
    assert command(f'--config={tiny}', '--sweep=rate', f'--workdir={swept.folder}', '--dry_run') == 0
    said = capsys.readouterr().out
    assert '3 runs, 2 of them finished' in said
    assert re.search(r'^learning_rate=0.001 .* finished *$', said, re.MULTILINE)
    assert not re.search(r'^learning_rate=1e\+30 .* finished *$', said, re.MULTILINE)
    assert f'took {sweep.duration(mean)} each' in said


def test_the_flops_of_an_estimate_are_those_that_the_run_reported(swept, tiny):
    """All batches of this data have one shape, so the mean of a few is that of all."""
    run, *_ = plan(tiny, 'one')
    reported, _ = read_jsonl(swept.folder / run.name / 'metrics.jsonl')
    done = sum(line['flops_per_second'] * line['seconds'] for line in reported if line['kind'] == 'train')
    assert sweep._training_flops(train.Trainer(run.config)) == pytest.approx(done)


def test_a_sweep_that_another_process_holds_is_refused(swept, tiny, capsys):
    with sweep.locked(swept.folder), pytest.raises(SystemExit) as caught:
        command(f'--config={tiny}', '--sweep=one', f'--workdir={swept.folder}')
    assert caught.value.code == 2
    assert 'is in use' in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- records

@pytest.mark.parametrize(('keep', 'step'), [('accuracy', 4), ('loss', 2), ('bleu', 8)])
def test_the_best_measurement_is_the_one_that_the_run_keeps(keep, step, tiny, tmp_path):
    """Equal accuracies are decided by the loss; a mean of parameters counts, what is not finite does not."""
    config = 'configs/multi30k.py' if keep == 'bleu' else tiny
    first, *_ = sweep.planned(str(config), ['seed'], [f'--config.training.keep={keep}'], tmp_path)
    run = first._replace(folder=tmp_path)
    rows = [{'step': 2, 'kind': 'dev', 'loss': 0.5, 'accuracy': 0.1, 'bleu': 3.0},
            {'step': 2, 'kind': 'train', 'loss': 0.1},
            {'step': 4, 'kind': 'dev', 'loss': 0.7, 'accuracy': 0.9, 'bleu': 1.0},
            {'step': 6, 'kind': 'dev', 'loss': 0.8, 'accuracy': 0.9, 'bleu': 2.0},
            {'step': 8, 'kind': 'dev', 'loss': None, 'accuracy': 1.0, 'bleu': 9.0, 'not_finite': {'loss': 'nan'}},
            {'step': 8, 'kind': 'dev_averaged', 'loss': 0.9, 'accuracy': 0.5, 'bleu': 4.0}]
    (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(row | {'seconds': 0.5}) + '\n' for row in rows))
    found = sweep.record(run, 'finished', '')
    assert (found['step'], found['kept_by'], found['seconds']) == (step, keep, 3.0)
    assert found['dev'] == {name: value for name, value in next(
        row for row in rows if row['step'] == step and row['kind'].startswith('dev') and 'not_finite' not in row
    ).items() if name not in ('step', 'kind')}


def test_a_run_that_never_measured_is_recorded_with_nothing(tiny, tmp_path):
    run = plan(tiny, 'one')[0]._replace(folder=tmp_path / 'nothing')
    found = sweep.record(run, 'failed', 'no memory')
    assert (found['dev'], found['step'], found['seconds'], found['error']) == (None, None, 0, 'no memory')
    assert 'failed: no memory' in rendered([found])


def rendered(found):
    file = io.StringIO()
    Console(file=file, width=200).print(sweep.results(found))
    return file.getvalue()


def test_the_table_is_sorted_by_what_runs_are_kept_by_and_failed_ones_stand_last():
    def line(name, status, keep, loss, accuracy):
        return {'name': name, 'status': status, 'kept_by': keep, 'dev': {'loss': loss, 'accuracy': accuracy}, 'step': 1,
                'seconds': 1.0, 'error': 'oh' if status == 'failed' else ''}
    for keep, order in (('accuracy', 'cab'), ('loss', 'bac')):
        said = rendered([line('a', 'finished', keep, 0.5, 0.5), line('b', 'finished', keep, 0.1, 0.1),
                         line('f', 'failed', keep, 0.01, 0.99), line('c', 'finished', keep, 0.9, 0.9)])
        assert [row.split()[0] for row in said.splitlines()[1:]] == [*order, 'f']
