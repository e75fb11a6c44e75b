"""A study whose processes are killed: started again, it ends with what it would have ended with undisturbed."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import rich.console

from research.evaluate import Run
from research.study import runner, ways
from tests.conftest import REPOSITORY
from tests.study import tiny
from tests.study.test_runner import alike, folders, lines, units, without_times
from tests.study.tiny import NAMES, STUDY
from tests.training.test_resume import raw


def run(folder, names=NAMES, strikes=()):
    """In processes, each of which works on one arm."""
    return runner.run(STUDY, 'small', names, folders(folder), way=ways.PROCESSES,
                      command=tiny.command('small', folders(folder), strikes))


def ended_alike(folder, other, names=NAMES):
    """Every record but for times, and every parameter that was kept, bit for bit."""
    mine, theirs = (without_times(line for line in lines(where) if line['arm'] in names) for where in (folder, other))
    assert mine == theirs
    for _, arm, seed in theirs:
        mine, theirs = (raw(Run.load(folders(where).workdir / 'runs' / 'copy' / arm / f'{seed}').params)
                        for where in (folder, other))
        assert mine.keys() == theirs.keys()
        for name, leaf in mine.items():
            np.testing.assert_array_equal(leaf, theirs[name], err_msg=f'{arm}, seed {seed}: {name}')


def starts(folder, arm, seed):
    """How often a run was begun or gone on with."""
    return len((folders(folder).workdir / 'runs' / 'copy' / arm / f'{seed}' / 'environment.jsonl').read_text()
               .splitlines())


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp('undisturbed')
    run(folder)
    return folder


def test_processes_give_the_records_of_one_by_one(undisturbed, tmp_path):
    assert sorted(units(undisturbed)) == [(arm, seed, 'finished') for arm in sorted(NAMES) for seed in (10, 11)]
    plan = json.loads((folders(undisturbed).results / 'plan.json').read_text())
    assert plan['way'] == ways.PROCESSES
    folders(tmp_path).results.mkdir()
    runner.run_unit(STUDY, 'small', runner.Unit('copy', 'none'), folders(tmp_path), ways.ONE_BY_ONE,
                    rich.console.Console())
    alike([line for line in lines(undisturbed) if line['arm'] == 'none'], lines(tmp_path))


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere workers outlive a runner that is killed')
def test_a_runner_that_is_killed_ends_with_the_same_results_when_it_is_started_again(undisturbed, tmp_path):
    """The worker at seed 11 of additive kills it after step 5; what was saved last is step 4."""
    given = folders(tmp_path)
    killed = subprocess.run(
        [sys.executable, '-m', 'tests.study.tiny', 'small', str(given.results), str(given.workdir), ways.PROCESSES,
         '--strikes', 'runner SIGKILL', 'additive/11/5', str(tmp_path / 'struck')],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=240)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert ('additive', 10, 'finished') in units(tmp_path)
    assert ('additive', 11, 'finished') not in units(tmp_path)
    pid, = map(int, (tmp_path / 'struck').read_text().split())
    assert not (given.results / 'README.md').exists()
    before = units(tmp_path)
    run(tmp_path)
    assert not os.path.exists(f'/proc/{pid}')
    assert units(tmp_path)[:len(before)] == before
    assert starts(tmp_path, 'additive', 10) == 1
    assert starts(tmp_path, 'additive', 11) == 2
    assert 'going on from step 4' in (given.workdir / 'logs' / 'copy-additive.log').read_text()
    ended_alike(tmp_path, undisturbed)


def test_a_worker_that_is_killed_is_started_again_and_ends_with_the_same_results(undisturbed, tmp_path):
    """At seed 11, after step 5."""
    run(tmp_path, ['none'], ('--strikes', 'worker SIGKILL', 'none/11/5', str(tmp_path / 'struck')))
    said = (folders(tmp_path).workdir / 'logs' / 'copy-none.log').read_text()
    assert said.count(', try ') == 2
    assert 'going on from step 4' in said
    assert (starts(tmp_path, 'none', 10), starts(tmp_path, 'none', 11)) == (1, 2)
    ended_alike(tmp_path, undisturbed, ['none'])
