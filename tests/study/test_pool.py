"""A pool of worker processes: whatever dies is started again or said, and whoever goes leaves nobody behind."""

import contextlib
import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from research.study import pool
from tests.conftest import REPOSITORY

# A worker that counts its starts, does what is asked of it and, at the end, leaves its result.
WORKER = """
import os, pathlib, signal, sys, time
folder, name, what = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with open(folder / f'{name}.starts', 'a') as file:
    print(os.getpid(), file=file)
start = len((folder / f'{name}.starts').read_text().split())
print(f'{name} at work, start {start}', flush=True)

def stop(number, frame):
    (folder / f'{name}.saved').touch()
    print('saved', flush=True)
    sys.exit(75)

if what == 'waits':
    signal.signal(signal.SIGTERM, stop)
    (folder / f'{name}.ready').touch()
    while not (folder / 'go').exists():
        time.sleep(0.01)
elif what == 'deaf':
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / f'{name}.ready').touch()
    time.sleep(60)
elif what == 'cores':
    (folder / f'{name}.cores').write_text(' '.join(map(str, sorted(os.sched_getaffinity(0)))))
elif what == 'killed once' and start == 1:
    os.kill(os.getpid(), signal.SIGKILL)
elif what.startswith('exits'):
    codes = what.split()[1:]
    code = int(codes[min(start, len(codes)) - 1])
    if code:
        print(f'no luck at start {start}', file=sys.stderr)
    sys.exit(code)
(folder / f'{name}.result').touch()
"""
# A process that runs a pool of two jobs, two at a time.
POOL = """
import pathlib, sys
from research.study import pool
from tests.study.test_pool import job
folder = pathlib.Path(sys.argv[1])
def note(job, ended):
    with open(folder / 'ended', 'a') as file:
        print(job.name, ended.status, ended.code, file=file)
pool.run([job(folder, name, what) for name, what in zip('abc', sys.argv[2:])], 2, on_end=note)
print('all ended')
"""


def job(folder, name, what):
    """A worker's job; it is done when its result is there."""
    (folder / 'worker.py').write_text(WORKER)
    return pool.Job(name, (sys.executable, str(folder / 'worker.py'), str(folder), name, what),
                    folder / 'logs' / f'{name}.log', (folder / f'{name}.result').exists)


def run(folder, jobs, workers=2, **options):
    """Runs jobs {name: what}; returns how they ended, and what was said."""
    said = io.StringIO()
    ended = pool.run([job(folder, *one) for one in jobs.items()], workers, console=Console(file=said, width=200),
                     **options)
    return ended, said.getvalue()


def starts(folder, name):
    """The process ids of a worker's starts."""
    path = folder / f'{name}.starts'
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def wait_until(holds, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, 'it did not come to that'
        time.sleep(0.01)


def alive(pid):
    """A process that has ended and that nobody has waited for is not alive."""
    try:
        return pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def pool_process(folder, *whats):
    """A pool in a process of its own, in a session of its own, when its workers are at work."""
    process = subprocess.Popen([sys.executable, '-W', 'error', '-c', POOL, str(folder), *whats], cwd=REPOSITORY,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_until(lambda: all((folder / f'{name}.ready').exists() for name in 'ab'[:len(whats)]))
        yield process
    finally:
        process.kill()
        process.communicate()
        for path in folder.glob('*.starts'):
            for pid in starts(folder, path.stem):
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)


def test_what_is_done_is_skipped_and_the_rest_runs_once(tmp_path):
    (tmp_path / 'a.result').touch()
    told = []
    ended, said = run(tmp_path, {'a': 'works', 'b': 'works', 'c': 'works'},
                      on_end=lambda job, one: told.append((job.name, one)))
    assert [(name, one.status, one.code, one.tries) for name, one in ended.items()] == [
        ('a', 'finished', None, 0), ('b', 'finished', 0, 1), ('c', 'finished', 0, 1)]
    assert sorted(told) == [('b', ended['b']), ('c', ended['c'])]
    assert (starts(tmp_path, 'a'), len(starts(tmp_path, 'b')), len(starts(tmp_path, 'c'))) == ([], 1, 1)
    assert '3 jobs, 1 of them done already, 2 at a time' in said
    assert re.search(r'^2 of 2: [bc]: finished in \d+ s$', said, re.MULTILINE)


def test_one_worker_runs_one_job_after_the_other(tmp_path):
    (tmp_path / 'go').touch()
    seen = []
    jobs = [job(tmp_path, name, 'waits')._replace(done=lambda: False) for name in 'abcd']
    pool.run(jobs, 1, console=Console(file=io.StringIO()),
             on_end=lambda job, ended: seen.append((job.name, [name for name in 'abcd' if starts(tmp_path, name)])))
    assert seen == [('a', ['a']), ('b', ['a', 'b']), ('c', ['a', 'b', 'c']), ('d', ['a', 'b', 'c', 'd'])]


def test_a_worker_that_dies_is_started_again_and_finishes(tmp_path):
    ended, said = run(tmp_path, {'a': 'exits 1 0'})
    assert (ended['a'].status, ended['a'].code, ended['a'].tries, ended['a'].error) == ('finished', 0, 2, '')
    assert 'a: started again: no luck at start 1' in said
    assert len(starts(tmp_path, 'a')) == 2


def test_one_that_is_killed_is_started_again(tmp_path):
    ended, said = run(tmp_path, {'a': 'killed once'})
    assert (ended['a'].status, ended['a'].tries) == ('finished', 2)
    assert 'a: started again: ended by signal 9 (Killed) after: a at work, start 1' in said


def test_one_that_fails_again_is_recorded_and_the_rest_goes_on(tmp_path):
    ended, said = run(tmp_path, {'a': 'exits 1 3 0', 'b': 'works', 'c': 'works'}, workers=1)
    assert ended['a'][:3] == ('failed', 3, 2)
    assert ended['a'].error == 'no luck at start 2'
    assert [ended[name].status for name in 'bc'] == ['finished', 'finished']
    assert '1 of 3: a: failed in' in said
    assert 'tries: 2: no luck at start 2; about' in said


def test_as_many_retries_as_are_asked_for(tmp_path):
    ended, _ = run(tmp_path, {'a': 'exits 1', 'b': 'exits 1 1 1 0'}, retries=3)
    assert (ended['a'].status, ended['a'].tries) == ('failed', 4)
    assert (ended['b'].status, ended['b'].tries) == ('finished', 4)
    ended, _ = run(tmp_path, {'c': 'exits 1 0'}, retries=0)
    assert (ended['c'].status, ended['c'].tries) == ('failed', 1)


def test_a_mistake_of_the_user_is_not_tried_again(tmp_path):
    ended, _ = run(tmp_path, {'a': 'exits 2 0'})
    assert ended['a'][:3] == ('failed', 2, 1)
    assert ended['a'].error == 'no luck at start 1'


def test_one_that_somebody_stops_goes_on_and_stopped_again_is_no_failure(tmp_path):
    ended, _ = run(tmp_path, {'a': 'exits 75 0', 'b': 'exits 75'})
    assert ended['a'][:3] == ('finished', 0, 2)
    assert ended['b'][:3] == ('stopped', 75, 2)


def test_a_command_that_is_not_there_is_a_failure(tmp_path):
    missing = pool.Job('a', (str(tmp_path / 'nothing'),), tmp_path / 'a.log', lambda: False)
    ended = pool.run([missing], 1, console=Console(file=io.StringIO()))
    assert ended['a'].status == 'failed'
    assert ended['a'].error.startswith('FileNotFoundError')


def test_logs_are_added_to(tmp_path):
    (tmp_path / 'logs').mkdir()
    (tmp_path / 'logs' / 'a.log').write_text('said on another day\n')
    run(tmp_path, {'a': 'exits 1 0'})
    first, *said = (tmp_path / 'logs' / 'a.log').read_text().splitlines()
    assert first == 'said on another day'
    assert [line for line in said if not line.startswith('---')] == [
        'a at work, start 1', 'no luck at start 1', 'a at work, start 2']
    assert [line.rpartition('try ')[2].split(':')[0] for line in said if line.startswith('---')] == ['1', '2']


def test_an_old_word_in_the_log_is_not_why_it_ended_now(tmp_path):
    (tmp_path / 'a.log').write_text('an old trouble\n')
    silent = pool.Job('a', (sys.executable, '-c', 'raise SystemExit(4)'), tmp_path / 'a.log', lambda: False)
    assert pool.run([silent], 1, console=Console(file=io.StringIO()))['a'].error == 'exit code 4'


@pytest.mark.parametrize(('cores', 'workers', 'expected'), [
    ([0, 1, 2, 3], 2, [(0, 1), (2, 3)]), ([0, 1, 2, 3, 4], 2, [(0, 1), (2, 3, 4)]), ([2, 5], 2, [(2,), (5,)]),
    ([0, 1], 3, [(0,), (1,), (0,)]), ([0, 1, 2, 3], 1, [()]), ([], 3, [(), (), ()])])
def test_workers_share_the_cores_and_one_alone_is_not_bound(cores, workers, expected):
    assert pool.shares(cores, workers) == expected


@pytest.mark.skipif(not hasattr(os, 'sched_getaffinity') or len(os.sched_getaffinity(0)) < 2, reason='needs two cores')
def test_each_of_two_workers_has_its_own_cores_and_this_process_keeps_all(tmp_path):
    here = os.sched_getaffinity(0)
    run(tmp_path, {'a': 'cores', 'b': 'cores'})
    found = [{int(core) for core in (tmp_path / f'{name}.cores').read_text().split()} for name in 'ab']
    assert found[0] | found[1] == here
    assert not found[0] & found[1]
    assert os.sched_getaffinity(0) == here
    run(tmp_path, {'c': 'cores'}, workers=1)
    assert {int(core) for core in (tmp_path / 'c.cores').read_text().split()} == here


def test_two_jobs_of_one_name_and_no_workers_are_a_programmers_mistake(tmp_path):
    with pytest.raises(ValueError, match='same name'):
        pool.run([job(tmp_path, 'a', 'works'), job(tmp_path, 'a', 'works')], 1)
    with pytest.raises(ValueError, match='workers is 0'):
        pool.run([job(tmp_path, 'a', 'works')], 0)


def test_what_goes_wrong_here_leaves_no_worker(tmp_path):
    def fail(job, ended):
        raise OSError('disk full')
    with pytest.raises(OSError, match='disk full'):
        run(tmp_path, {'a': 'deaf', 'b': 'exits 2'}, on_end=fail)
    assert not any(alive(pid) for name in 'ab' for pid in starts(tmp_path, name))


@pytest.mark.parametrize('numbers', [(signal.SIGTERM,), (signal.SIGINT,), (signal.SIGTERM, signal.SIGINT)],
                         ids=['SIGTERM', 'SIGINT', 'both at once'])
def test_a_signal_has_the_workers_save_and_started_again_they_finish(numbers, tmp_path):
    with pool_process(tmp_path, 'waits', 'waits', 'works') as process:
        for number in numbers:
            os.killpg(process.pid, number)  # as Ctrl-C on a terminal does: to the whole group
        out, err = process.communicate(timeout=30)
    assert process.returncode == 75, err
    assert out == ''
    assert 'stopping 2 jobs' in err
    for name in 'ab':
        assert (tmp_path / f'{name}.saved').exists()
        assert 'saved' in (tmp_path / 'logs' / f'{name}.log').read_text()
    assert sorted((tmp_path / 'ended').read_text().splitlines()) == ['a stopped 75', 'b stopped 75']
    assert not starts(tmp_path, 'c')
    (tmp_path / 'go').touch()
    ended, _ = run(tmp_path, {'a': 'waits', 'b': 'waits', 'c': 'works'})
    assert [one.status for one in ended.values()] == ['finished'] * 3


def test_a_second_signal_kills_what_does_not_stop(tmp_path):
    with pool_process(tmp_path, 'deaf', 'deaf') as process:
        process.terminate()
        time.sleep(1)
        assert process.poll() is None  # it waits
        process.terminate()
        _, err = process.communicate(timeout=30)
        assert process.returncode == 75, err
        assert sorted((tmp_path / 'ended').read_text().splitlines()) == ['a stopped -9', 'b stopped -9']
        assert not any(alive(pid) for name in 'ab' for pid in starts(tmp_path, name))


@pytest.mark.skipif(sys.platform != 'linux', reason='the kernel does that on Linux alone')
def test_a_killed_pool_leaves_no_worker_and_started_again_it_goes_on(tmp_path):
    with pool_process(tmp_path, 'waits', 'deaf', 'works') as process:
        workers = [pid for name in 'ab' for pid in starts(tmp_path, name)]
        assert len(workers) == 2
        assert all(alive(pid) for pid in workers)
        process.kill()
        process.wait()
        wait_until(lambda: not any(alive(pid) for pid in workers), seconds=5)
    (tmp_path / 'go').touch()
    ended, _ = run(tmp_path, {'a': 'waits', 'b': 'works', 'c': 'works'})
    assert [(one.status, one.tries) for one in ended.values()] == [('finished', 1)] * 3


def test_a_worker_that_is_killed_from_outside_finishes_at_its_next_start(tmp_path):
    with pool_process(tmp_path, 'waits', 'waits') as process:
        os.kill(starts(tmp_path, 'a')[0], signal.SIGKILL)
        wait_until(lambda: len(starts(tmp_path, 'a')) == 2)
        (tmp_path / 'go').touch()
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert out == 'all ended\n'
        assert 'a: started again: ended by signal 9 (Killed)' in err
        assert sorted((tmp_path / 'ended').read_text().splitlines()) == ['a finished 0', 'b finished 0']
