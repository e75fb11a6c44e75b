"""Programs, compiled as many at once as there are cores."""

import concurrent.futures
import os
from collections.abc import Callable, Iterable

import jax


def cores() -> int:
    """How many cores this process may use: it can be pinned to some of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def compiled(lowered: Iterable[jax.stages.Lowered],
             progress: Callable[[int, int], None] = lambda number, done: None) -> list[jax.stages.Compiled]:
    """Compiles all of them and returns them in their order. The compiler itself uses one core most of its time.

    Args:
      lowered: an iterator is gone through here, while what it has given is being compiled.
      progress: called here, in the caller's thread, with the number of a program that is ready, from 0, and how many
        are. What it raises ends this, and no other program is begun.
    """
    pool = concurrent.futures.ThreadPoolExecutor(cores())
    try:
        numbers = {pool.submit(one.compile): number for number, one in enumerate(lowered)}
        for done, future in enumerate(concurrent.futures.as_completed(numbers), 1):
            future.result()
            progress(numbers[future], done)
        return [future.result() for future in numbers]
    finally:
        pool.shutdown(cancel_futures=True)
