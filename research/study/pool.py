"""Worker processes on this machine: so many at a time, started again where they died, and none left behind."""

import datetime
import itertools
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from research.study import worker
from research.training.report import duration

STOPPED = os.EX_TEMPFAIL  # 75, as research.train ends when it was asked to stop: it has saved, and can go on
USERS_ERROR = 2           # as every command line here ends (research.errors): another try would say the same
POLL = 0.1                # seconds between two looks at the workers


class Job(NamedTuple):
    """A command that can be started again: it goes on where it was."""

    name: str                  # no two are the same
    command: tuple[str, ...]
    log: pathlib.Path          # what it says is added here
    done: Callable[[], bool]   # whether there is nothing to do; asked once, before anything starts


class Ended(NamedTuple):
    """How a job ended."""

    status: str       # finished, failed or stopped
    code: int | None  # of the last try; below 0 = the signal that ended it; None = it was done before
    tries: int
    seconds: float    # of all tries of this pool
    error: str        # the last line of the log, and the signal; '' where it finished


def run(jobs: Sequence[Job], workers: int, retries: int = 1, console: Console | None = None,
        on_end: Callable[[Job, Ended], None] | None = None) -> dict[str, Ended]:
    """Runs what is not done, `workers` commands at a time, and goes on when one of them fails.

    A command that ends with another code than 0 is started again, up to `retries` times, unless it is 2: a mistake of
    the user's. More than one worker share the cores of this process, each has its own (where the system can do that).
    SIGTERM or SIGINT to this process is handed on as SIGTERM and the commands are waited for; the second one kills
    them. If this process itself is killed, Linux kills them; another system lets them finish what they are at.

    Args:
      jobs: in the order in which they start.
      workers: how many commands run at a time.
      retries: how often a job may be started again.
      console: for a line when a job ends and, on a terminal, what is running; None = standard error.
      on_end: called with each job that ran, when it has ended.

    Returns:
      How each job ended, by name; with `tries` 0 where it was done before.

    Raises:
      SystemExit: with code 75, when a signal left jobs unfinished; `on_end` was called with those that had begun.
    """
    if len({job.name for job in jobs}) < len(jobs):
        raise ValueError('two jobs have the same name')
    if workers < 1 or retries < 0:
        raise ValueError(f'workers is {workers} and retries {retries}; they must be at least 1 and 0')
    console = console or Console(stderr=True)
    ended = {job.name: Ended('finished', None, 0, 0.0, '') for job in jobs if job.done()}
    waiting = deque(job for job in jobs if job.name not in ended)
    free, running, asked = deque(shares(cores(), workers)), [], False
    with _Signals() as signals, _Progress(console, len(waiting)) as progress:
        progress.say(f'{len(jobs)} jobs, {len(ended)} of them done already, {workers} at a time')
        try:
            while waiting or running:
                if signals.received and not asked:
                    asked, signals.received = True, 1  # one may come twice at once, to a process and to its group
                    waiting.clear()
                    progress.say(f'stopping {len(running)} jobs, to go on when started again; a second signal kills')
                    for one in running:
                        one.process.terminate()
                if signals.received > 1:
                    for one in running:
                        one.process.kill()
                while waiting and free:
                    running.append(_Worker(waiting.popleft(), free.popleft()))
                    progress.show(running)
                for one in list(running):
                    code = one.process.poll()
                    if code is None:
                        continue
                    if code not in (0, USERS_ERROR) and one.tries <= retries and not asked:
                        progress.say(f'{one.job.name}: started again: {one.error(code)}')
                        one.start()
                        continue
                    running.remove(one)
                    free.append(one.cores)
                    ended[one.job.name] = one.ended(code, asked)
                    if on_end is not None:
                        on_end(one.job, ended[one.job.name])
                    progress.end(one.job.name, ended[one.job.name])
                    progress.show(running)
                time.sleep(POLL)
        finally:  # nobody is here but after an exception
            for one in running:
                one.process.kill()
                one.process.wait()
        if asked and any(job.name not in ended or ended[job.name].status == 'stopped' for job in jobs):
            raise SystemExit(STOPPED)
    return {job.name: ended[job.name] for job in jobs}


def shares(cores: Sequence[int], workers: int) -> list[tuple[int, ...]]:
    """Which cores each worker has: neighbours, about as many for each; () = it is not bound to any.

        4 cores, 2 workers: (0, 1) (2, 3)        2 cores, 3 workers: (0,) (1,) (0,)
    """
    if workers == 1 or not cores:
        return [()] * workers
    if workers >= len(cores):
        return [(cores[number % len(cores)],) for number in range(workers)]
    edges = [number * len(cores) // workers for number in range(workers + 1)]
    return [tuple(cores[low:high]) for low, high in itertools.pairwise(edges)]


def cores() -> list[int]:
    """Those that this process may use; none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []


class _Worker:
    """A job that runs, and what it takes to start it again."""

    def __init__(self, job: Job, cores: tuple[int, ...]):
        self.job, self.cores, self.tries, self.begin = job, cores, 0, time.monotonic()
        job.log.parent.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        """In a process group of its own: Ctrl-C on the terminal reaches the pool, which asks the workers once."""
        self.tries += 1
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
        with open(self.job.log, 'ab') as log:
            log.write(f'--- {now}, try {self.tries}: {shlex.join(self.job.command)}\n'.encode())
            log.flush()
            self.said_before = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, '-I', '-S', worker.__file__, str(os.getpid()), ','.join(map(str, self.cores)),
                 *self.job.command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)

    def ended(self, code: int, asked: bool) -> Ended:
        """How the job ended with the code of this try; `asked` = it was to stop."""
        stopped = code == STOPPED or (asked and code not in (0, USERS_ERROR))
        return Ended('stopped' if stopped else 'failed' if code else 'finished', code, self.tries,
                     time.monotonic() - self.begin, self.error(code))

    def error(self, code: int) -> str:
        """Why this try ended with a code: its last words, which a signal cut off."""
        if code == 0:
            return ''
        with open(self.job.log, 'rb') as log:
            log.seek(max(self.said_before, self.job.log.stat().st_size - 10_000))
            lines = log.read().decode(errors='replace').splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), '')
        if code < 0:
            return f'ended by signal {-code} ({signal.strsignal(-code)})' + (f' after: {last}' if last else '')
        return last or f'exit code {code}'


class _Signals:
    """While open, SIGTERM and SIGINT are counted."""

    def __enter__(self) -> '_Signals':
        def count(number, frame):
            self.received += 1
        self.received = 0
        self.before = {number: signal.signal(number, count) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


class _Progress:
    """A line for each job that ends and, on a terminal, what is running."""

    def __init__(self, console: Console, total: int):
        self.console, self.total, self.count, self.begin = console, total, 0, time.monotonic()
        self.live = console.status('') if console.is_interactive and total else None

    def __enter__(self) -> '_Progress':
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_) -> None:
        if self.live is not None:
            self.live.stop()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def show(self, running: Sequence[_Worker]) -> None:
        if self.live is not None:
            self.live.update(Text(f'{self.count} of {self.total} ended{self._left()}; running: '
                                  + ', '.join(one.job.name for one in running)))

    def end(self, name: str, ended: Ended) -> None:
        self.count += 1
        self.say(f'{self.count} of {self.total}: {name}: {ended.status} in {duration(ended.seconds)}'
                 + (f', tries: {ended.tries}' if ended.tries > 1 else '')
                 + (f': {ended.error}' if ended.error else '') + ('' if ended.status == 'stopped' else self._left()))

    def _left(self) -> str:
        """From the mean of what has ended: at work side by side, a job takes so long that one ends so often."""
        if not 0 < self.count < self.total:
            return ''
        each = (time.monotonic() - self.begin) / self.count
        return f'; about {duration(each * (self.total - self.count))} left'
