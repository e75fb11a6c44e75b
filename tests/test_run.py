"""The command line of studies: what it hands on, and what is wrong in one line, before anything is read."""

import pathlib
import sys

import pytest

from experiments import run
from research.study import runner, ways
from tests.study import tiny


@pytest.fixture
def called(monkeypatch):
    """What the runner is asked for; nothing is run."""
    found = []
    for name in ('run', 'run_unit', 'rehearse'):
        monkeypatch.setattr(runner, name, lambda *given, name=name, **more: found.append((name, given, more)))
    monkeypatch.setattr(run.compiling, 'keep_programs', lambda: None)
    other = tiny.STUDY.tasks[0]._replace(name='other')
    profiles = tiny.STUDY.profiles | {'part': tiny.STUDY.profiles['small']._replace(tasks=('other',))}
    monkeypatch.setattr(run, 'STUDIES', {'tiny': tiny.STUDY._replace(
        tasks=(*tiny.STUDY.tasks, other), profiles=profiles,
        arms=tuple(arm._replace(tasks=('other',)) if arm.name == 'mean' else arm for arm in tiny.STUDY.arms))})
    return found


@pytest.mark.parametrize(('arguments', 'message'), [
    ('', 'the study is None; it must be one of tiny'),
    ('tinny', "the study is 'tinny'; it must be one of tiny"),
    ('tiny', "--profile is 'cpu'; tiny has small, other, tuned, part"),
    ('tiny --profile small --arms none,aditive', "--arms names 'aditive'; the arms are none, mean, additive"),
    ('tiny --profile small --workers 0', '--workers is 0; it must be at least 1'),
    ('tiny --profile small --way fast', "--way is 'fast'; it must be one of 'one by one', 'together', 'in processes'"),
    ('tiny --profile small --unit copi/none', "--unit is 'copi/none'; it must be a task and an arm of tiny that "
     'profile small has, such as copy/additive'),
    ('tiny --profile small --unit copy/transformer', "--unit is 'copy/transformer'; it must be"),
    ('tiny --profile small --unit copy/mean', "--unit is 'copy/mean'; it must be"),
    ('tiny --profile small --unit copy', "--unit is 'copy'; it must be"),
    ('tiny --profile part --unit copy/none', "--unit is 'copy/none'; it must be a task and an arm of tiny that profile "
     'part has, such as other/additive')])
def test_what_is_wrong_is_said_in_one_line(arguments, message, called, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run.main(arguments.split())
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.err.startswith(f'experiments.run: {message}')
    assert said.err.count('\n') == 1
    assert not said.out
    assert not called
    assert not list(tmp_path.iterdir())


def test_a_study_is_run_where_and_how_it_was_asked_for(called):
    run.main(['tiny', '--profile', 'small'])
    run.main(['tiny', '--profile', 'small', '--arms', 'none', '--results', 'here', '--workdir', 'there', '--way',
              'in processes', '--workers', '3'])
    (_, first, default), (_, second, more) = called
    assert first[1:] == ('small', ['none', 'mean', 'additive'], runner.Folders(*[pathlib.Path('runs/tiny/small')] * 2))
    assert second[1:] == ('small', ['none'], runner.Folders(pathlib.Path('here'), pathlib.Path('there')))
    assert (default['way'], default['workers'], more['way'], more['workers']) == (None, 2, ways.PROCESSES, 3)


def test_the_command_of_a_part_runs_that_part(called):
    """What a study starts in a process of its own is a command line that asks for this part, in the same folders."""
    run.main(['tiny', '--profile', 'part', '--results', 'here', '--workdir', 'there'])
    command = called[0][2]['command'](runner.Unit('other', 'mean'), ways.ONE_BY_ONE)
    assert command[:3] == (sys.executable, '-m', 'experiments.run')
    run.main(command[3:])
    name, (study, profile, unit, folders, way, _), _ = called[1]
    assert (name, study.name, profile, unit) == ('run_unit', 'tiny', 'part', runner.Unit('other', 'mean'))
    assert (folders, way) == (called[0][1][3], ways.ONE_BY_ONE)


def test_a_dry_run_is_a_rehearsal(called):
    run.main(['tiny', '--profile', 'small', '--arms', 'none,additive', '--dry_run'])
    (name, given, _), = called
    assert (name, given[1:3]) == ('rehearse', ('small', ['none', 'additive']))
