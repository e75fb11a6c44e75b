"""The experiment that asks whether everything learns: it runs, goes on where it stopped, and says what is wrong."""

import json

import pytest

from configs import copy
from experiments.learning import __main__ as learning
from experiments.learning.tasks import RATES, SEEDS, Case, cases
from research import build
from research.attention.registry import VARIANTS
from research.study import arms


@pytest.mark.parametrize(('main', 'arguments', 'message'), [
    (learning.main, ['--names', 'aditive'], "'aditive'"),
    (learning.main, ['--part', '3/2'], "'3/2'")])
def test_what_is_wrong_ends_in_one_line(main, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count('\n') == 1


def test_every_variant_has_a_case_and_every_config_of_a_case_is_one():
    everything = list(cases())
    named = {case.name for case in everything}
    assert set(VARIANTS) <= named
    for name, variant in VARIANTS.items():
        tasks = {case.task for case in everything if case.name == name}
        assert tasks == ({'copy', 'reverse'} if 'cross' in variant.roles else set()) | (
            {'recall'} if 'self' in variant.roles else set())
        assert set(variant.fails) | set(variant.open) <= tasks, name
        assert not set(variant.fails) & set(variant.open), name
    for case in everything:
        build.validate(case.config)


@pytest.fixture
def few(monkeypatch):
    """Two cases, one of them with a reader, with few data and a layer: nothing is to be learned."""
    little = {'data.train': 200, 'data.dev': 20, 'data.test': 20, 'batches.buckets': 1, 'decoder.layers': 1}
    chosen = [case._replace(config=arms.override(case.config, little))
              for case in cases() if (case.name, case.task) in (('fourier', 'recall'), ('synthesizer_random', 'copy'))]
    monkeypatch.setattr(learning, 'cases', lambda: chosen)
    return {case.name: case for case in chosen}


@pytest.mark.usefixtures('few')
def test_learning_tries_the_rates_and_then_the_seeds_and_goes_on_where_it_stopped(tmp_path, capsys):
    arguments = ['--names', 'fourier', '--tasks', 'recall', '--steps', '2', '--workdir', str(tmp_path)]
    learning.main(arguments)
    first = (tmp_path / 'results.jsonl').read_text()
    lines = [json.loads(line) for line in first.splitlines()]
    assert [line['rate'] for line in lines[:3]] == list(RATES)
    assert [line['seed'] for line in lines[3:]] == list(SEEDS)
    assert len({line['rate'] for line in lines[3:]}) == 1
    table = (tmp_path / 'README.md').read_text()
    assert table.startswith('A rehearsal: 2 steps a run')
    assert '| fourier | recall | fails | fails |' in table
    with open(tmp_path / 'results.jsonl', 'a') as file:
        file.write('{"half')
    learning.main(arguments)
    assert (tmp_path / 'results.jsonl').read_text() == first + '{"half'
    assert 'the last line was cut off' in capsys.readouterr().err


def test_a_case_that_cannot_run_is_named_and_does_not_stop_the_others(tmp_path, capsys, monkeypatch, few):
    bad = few['synthesizer_random']
    bad.config.decoder.reader.maximum_length = 16  # less than may be written
    monkeypatch.setattr(learning, 'cases', lambda: [bad, few['fourier']])
    with pytest.raises(SystemExit) as caught:
        learning.main(['--steps', '2', '--workdir', str(tmp_path)])
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert 'cases that could not run: 1; the first: synthesizer_random, copy: a sequence of 26 positions' in said.err
    assert '| fourier | recall |' in said.out
    assert len((tmp_path / 'results.jsonl').read_text().splitlines()) == 6


def test_the_table_says_what_is_not_as_stated():
    case = Case('x', 'copy', 'learns', 0.9, copy.get_config())
    runs = [{'name': 'x', 'task': 'copy', 'seed': seed, 'steps_to_threshold': steps, 'rate': 0.001, 'accuracy': 0.5,
             'config': learning.identity(case, 0.001, seed)} for seed, steps in zip(SEEDS, (100, None, None))]
    assert '| 1 of 3 seeds (**not as stated**) | 0.001 | 100, -, - |' in learning.markdown([case], runs)
    assert '| learns |' in learning.markdown([case], [run | {'steps_to_threshold': 100} for run in runs])


def test_lines_of_another_config_do_not_count():
    case = Case('x', 'copy', 'learns', 0.9, copy.get_config())
    runs = [{'name': 'x', 'task': 'copy', 'seed': seed, 'steps_to_threshold': 100, 'rate': 0.001, 'accuracy': 1.0,
             'config': learning.identity(case, 0.001, seed)} for seed in SEEDS]
    others = [run | {'steps_to_threshold': None, 'config': learning.identity(learning.rehearsal(case, 2), 0.001,
                                                                             run['seed'])} for run in runs]
    assert '| learns | learns |' in learning.markdown([case], others + runs)
    assert '| x |' not in learning.markdown([case], others)
