"""Programs that are compiled side by side, what a failure or a stop leaves, and what the next process finds."""

import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from importlib.metadata import version

import jax
import numpy as np
import pytest

from research import compiling, train
from tests.conftest import REPOSITORY
from tests.training.test_resume import N, assert_equal, config, flags, reported, saved


class Slow:
    """What is made ready for a compiler that takes so many seconds, or fails."""

    def __init__(self, seconds=0.0, error=None):
        """Begun is set when it is being compiled."""
        self.seconds, self.error, self.begun = seconds, error, threading.Event()

    def __call__(self):
        return self

    def compile(self):
        """How long it took."""
        self.begun.set()
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return self.seconds


def test_programs_stand_under_their_keys_in_their_order_and_compute_what_they_should():
    lowering = {f'times {times}': lambda times=times: jax.jit(lambda array: times * array).lower(np.float32(0))
                for times in (3, 1, 2)}
    found = compiling.compiled(lowering)
    assert [(key, float(program(np.float32(2)))) for key, program in found.items()] == [
        ('times 3', 6), ('times 1', 2), ('times 2', 4)]
    assert compiling.compiled({}) == {}


def test_two_are_compiled_at_once_where_there_are_two_cores(monkeypatch):
    monkeypatch.setattr(compiling, 'cores', lambda: 2)
    met, said = threading.Barrier(2, timeout=30), []

    class Meeting(Slow):
        def compile(self):
            met.wait()
            return super().compile()
    found = compiling.compiled({'slow': Meeting(0.2), 'quick': Meeting()}, lambda *what: said.append(what))
    assert list(found.items()) == [('slow', 0.2), ('quick', 0.0)]
    assert said == [('quick', 1), ('slow', 2)]


def test_what_is_ready_is_said_before_the_rest_is_made_ready():
    said, first = [], Slow()

    def second():
        first.begun.wait()
        time.sleep(0.2)
        return Slow()

    def third():
        assert said == ['first']
        return Slow()
    compiling.compiled({'first': first, 'second': second, 'third': third}, lambda key, done: said.append(key))
    assert sorted(said) == ['first', 'second', 'third']


@pytest.mark.parametrize('stopped', [False, True], ids=['an error', 'a stop'])
def test_after_an_error_or_a_stop_no_other_program_is_begun(stopped, monkeypatch):
    monkeypatch.setattr(compiling, 'cores', lambda: 1)
    threads, programs = threading.active_count(), [
        Slow(error=None if stopped else ValueError('no')), Slow(0.5), Slow()]

    def progress(key, done):
        raise ValueError('no')
    with pytest.raises(ValueError, match=r'^no$'):
        compiling.compiled(dict(enumerate(programs)), progress)
    assert not programs[2].begun.is_set()
    assert threading.active_count() == threads


def test_a_process_uses_the_cores_that_it_may(monkeypatch):
    monkeypatch.setattr(compiling.os, 'sched_getaffinity', lambda process: {1, 5, 6}, raising=False)
    assert compiling.cores() == 3
    monkeypatch.delattr(compiling.os, 'sched_getaffinity')
    assert compiling.cores() == compiling.os.cpu_count()


# ------------------------------------------------------------------------------------------ what the next process finds

COUNTED = """
import atexit, runpy, sys
import jax
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name.split('/')[-1]))
jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: events.append(name.split('/')[-1]))
atexit.register(lambda: print('programs', events.count('backend_compile_duration'),
                              'found', events.count('cache_hits'), file=sys.stderr))
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name='__main__')
"""
ONE = 'import jax; from research import compiling; compiling.keep_programs(); print(jax.jit(lambda x: 2 * x)(1.5))'
FOLDER = pathlib.Path('seq2lab', f'jaxlib-{version("jaxlib")}')


def python(code, *arguments, text='', **more):
    """Standard output and standard error of a process that has JAX's own settings only where they are given here."""
    mine = {name: value for name, value in os.environ.items() if not re.match('JAX_(COMPILATION|PERSISTENT)_CA', name)}
    done = subprocess.run([sys.executable, '-c', code, *map(str, arguments)], cwd=REPOSITORY, env=mine | {
        name: str(value) for name, value in more.items()}, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def counted(said):
    """How many programs a process had, and how many of them it found."""
    return tuple(map(int, re.search(r'^programs (\d+) found (\d+)$', said, re.MULTILINE).groups()))


@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    """The folder of caches, and what two trainings of one config said: the first compiled for the second."""
    folder = tmp_path_factory.mktemp('kept')
    said = [python(COUNTED, 'research.train', *flags('additive'), f'--workdir={folder}/{run}',
                   XDG_CACHE_HOME=folder / 'cache')[1] for run in ('first', 'second')]
    return folder, said


def test_the_first_training_compiles_what_it_announces_and_the_second_nothing(kept):
    folder, said = kept
    announced = int(re.search(r'(\d+) programs to compile', said[0])[1])
    announced += 1  # the product of matrices that FLOPs a second are compared with, where no peak is known
    assert [counted(text) for text in said] == [(announced, 0), (announced, announced)]
    assert len(list((folder / 'cache' / FOLDER).iterdir())) == announced
    for path in (FOLDER, FOLDER.parent):
        assert stat.S_IMODE((folder / 'cache' / path).stat().st_mode) == 0o700


def test_programs_that_were_found_train_bit_for_bit_the_same_also_from_the_middle_on(kept):
    """Compiled and whole; found and whole; found and going on from the checkpoint in the middle: every leaf saved."""
    folder, _ = kept
    shutil.copytree(folder / 'first', folder / 'resumed')
    shutil.rmtree(folder / 'resumed' / 'checkpoints' / f'{2 * N}')
    _, said = python(COUNTED, 'research.train', *flags('additive'), f'--workdir={folder}/resumed',
                     XDG_CACHE_HOME=folder / 'cache')
    assert f'going on from step {N}' in said
    programs, found = counted(said)
    assert programs == found > 0
    trainer = train.Trainer(config('additive'))
    for other in ('second', 'resumed'):
        assert_equal(saved(trainer, folder / 'first', 2 * N), saved(trainer, folder / other, 2 * N))
        assert reported(folder / 'first') == reported(folder / other)


@pytest.mark.parametrize('options', [['--beams=2'], ['--sample=2', '--json']], ids=['search', 'sampling'])
def test_translating_compiles_one_program_and_then_none(kept, options):
    folder, _ = kept
    for found in (0, 1):
        _, said = python(COUNTED, 'research.translate', f'--workdir={folder}/first', *options, text='a b c\n',
                         XDG_CACHE_HOME=folder / 'cache')
        assert counted(said) == (1, found)


def test_evaluating_finds_what_another_has_compiled(kept):
    folder, _ = kept
    for run in ('first', 'second'):
        _, said = python(COUNTED, 'research.evaluate', f'--workdir={folder}/{run}', '--split=test',
                         XDG_CACHE_HOME=folder / 'cache')
    programs, found = counted(said)
    assert programs == found > 0


def test_jax_s_own_settings_go_before(tmp_path):
    cache, other = tmp_path / 'cache', tmp_path / 'other'
    assert python(ONE, XDG_CACHE_HOME=cache, JAX_ENABLE_COMPILATION_CACHE=0) == ('3.0\n', '')
    assert not cache.exists()
    python(ONE, XDG_CACHE_HOME=cache, JAX_COMPILATION_CACHE_DIR=other)
    assert not cache.exists()
    assert len(list(other.iterdir())) == 1
    python(ONE, XDG_CACHE_HOME=cache, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=60)
    assert list((cache / FOLDER).iterdir()) == []
    python(ONE, XDG_CACHE_HOME='relative', HOME=tmp_path)
    assert len(list((tmp_path / '.cache' / FOLDER).iterdir())) == 1


def test_a_folder_that_cannot_be_used_costs_one_line(tmp_path):
    (tmp_path / 'file').write_text('')
    output, said = python(ONE, XDG_CACHE_HOME=tmp_path / 'file')
    assert output == '3.0\n'
    assert re.fullmatch(r"compiled programs are not kept: .*'\S+/file\S*'\n", said)
    output, said = python(ONE, JAX_COMPILATION_CACHE_DIR=tmp_path / 'file')
    assert output == '3.0\n'
    assert re.fullmatch(r'kept programs in \S+/file: Error .* File exists: .*\n', said)


@pytest.mark.parametrize('path', [FOLDER, FOLDER.parent], ids=['folder', 'parent'])
@pytest.mark.parametrize('mode', [0o770, 0o707])
def test_what_others_may_write_to_is_not_executed(tmp_path, path, mode):
    (tmp_path / FOLDER).mkdir(parents=True)
    for each in (FOLDER.parent, FOLDER):
        (tmp_path / each).chmod(mode if each == path else 0o755)
    output, said = python(ONE, XDG_CACHE_HOME=tmp_path)
    assert output == '3.0\n'
    assert re.fullmatch(rf'compiled programs are not kept: {tmp_path / path} belongs .* \(chmod 700 \S+\)\n', said)
    assert list((tmp_path / FOLDER).iterdir()) == []


@pytest.mark.parametrize('how', ['it is read-only', "it is somebody else's"])
def test_a_folder_of_another_kind_is_not_used(how, tmp_path, monkeypatch, capsys):
    updates = []
    monkeypatch.setattr(compiling.jax.config, 'update', lambda name, value: updates.append(name))
    monkeypatch.setattr(type(jax.config), 'jax_compilation_cache_dir', None)
    monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    if how == 'it is read-only':
        monkeypatch.setattr(compiling.os, 'access', lambda path, mode: False)
    else:
        monkeypatch.setattr(compiling.os, 'getuid', lambda: os.stat(tmp_path).st_uid + 1)
    compiling.keep_programs()
    assert capsys.readouterr().err.count('\n') == 1
    assert 'jax_compilation_cache_dir' not in updates


def test_damaged_programs_are_compiled_and_cost_one_line(tmp_path):
    two = ONE + '; print(jax.jit(lambda x: 3 * x)(1.5))'
    python(two, XDG_CACHE_HOME=tmp_path)
    files = list((tmp_path / FOLDER).iterdir())
    assert len(files) == 2
    for path, damage in zip(files, (lambda data: data[:len(data) // 2], lambda data: b'nothing'), strict=True):
        path.write_bytes(damage(path.read_bytes()))
    output, said = python(two, XDG_CACHE_HOME=tmp_path)
    assert output == '3.0\n4.5\n'
    assert re.fullmatch(rf'kept programs in {tmp_path / FOLDER}: Error reading .*\n', said)


def test_other_warnings_are_shown_as_before(capsys):
    shown = []
    show = compiling._in_one_line(lambda message, *where: shown.append(message))
    for message in ('something else', 'Error reading persistent compilation cache entry for a:\n b',
                    'Error writing persistent compilation cache entry for c'):
        show(message, UserWarning, 'file', 1)
    assert shown == ['something else']
    assert re.fullmatch(r'kept programs in .*: Error reading persistent compilation cache entry for a: b\. .*\n',
                        capsys.readouterr().err)
