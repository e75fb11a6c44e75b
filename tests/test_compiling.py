"""Programs that are compiled side by side: their order, what is said meanwhile, and what a failure or a stop leaves."""

import threading
import time

import jax
import numpy as np
import pytest

from research import compiling


class Slow:
    """What `lower` returns, for a compiler that takes so many seconds."""

    def __init__(self, name, seconds=0.0, error=None):
        """Begun is set when it is being compiled."""
        self.name, self.seconds, self.error, self.begun = name, seconds, error, threading.Event()

    def compile(self):
        """Its name."""
        self.begun.set()
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return self.name


def test_programs_stand_in_their_order_and_compute_what_they_should():
    lowered = (jax.jit(lambda array, times=times: times * array).lower(np.float32(0)) for times in range(1, 6))
    assert [float(program(np.float32(2))) for program in compiling.compiled(lowered)] == [2, 4, 6, 8, 10]
    assert compiling.compiled([]) == []


def test_two_are_compiled_at_once_where_there_are_two_cores(monkeypatch):
    monkeypatch.setattr(compiling, 'cores', lambda: 2)
    met, said = threading.Barrier(2, timeout=30), []

    class Meeting(Slow):
        def compile(self):
            met.wait()
            return super().compile()
    assert compiling.compiled([Meeting('slow', 0.2), Meeting('quick')], lambda *what: said.append(what)) == [
        'slow', 'quick']
    assert said == [(1, 1), (0, 2)]


@pytest.mark.parametrize('stopped', [False, True], ids=['an error', 'a stop'])
def test_after_an_error_or_a_stop_no_other_program_is_begun(stopped, monkeypatch):
    monkeypatch.setattr(compiling, 'cores', lambda: 1)
    threads, programs = threading.active_count(), [
        Slow('first', error=None if stopped else ValueError('no')), Slow('second', 0.5), Slow('third')]

    def progress(number, done):
        raise ValueError('no')
    with pytest.raises(ValueError, match=r'^no$'):
        compiling.compiled(programs, progress)
    assert not programs[2].begun.is_set()
    assert threading.active_count() == threads


def test_a_process_uses_the_cores_that_it_may(monkeypatch):
    monkeypatch.setattr(compiling.os, 'sched_getaffinity', lambda process: {1, 5, 6}, raising=False)
    assert compiling.cores() == 3
    monkeypatch.delattr(compiling.os, 'sched_getaffinity')
    assert compiling.cores() == compiling.os.cpu_count()
