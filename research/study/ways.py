"""How the seeds of an arm are run: one after the other, together in one program, or in processes side by side.

All three make the same runs: with `batches.shape_seed` every seed sees the same shapes at the same steps, and each its
own pairs. Which one is fastest depends on the machine and the model: a short measurement says.
"""

import multiprocessing
import os
from collections.abc import Sequence
from typing import Any

from research import several, train
from research.study import pool

ONE_BY_ONE, TOGETHER, PROCESSES = WAYS = ('one by one', 'together', 'in processes')


def measured(config: Any, seeds: Sequence[int], workers: int) -> dict[str, float]:
    """Seconds in which all seeds have made one step, in each way, compiling and data apart.

    Args:
      config: of the base of a study.
      seeds: of its runs.
      workers: processes that run side by side, each on its share of the cores.
    """
    trainer = train.Trainer(config)
    return {ONE_BY_ONE: len(seeds) * seconds_per_step(trainer),
            TOGETHER: several.first_losses(trainer, seeds, way='together').seconds,
            PROCESSES: len(seeds) / workers * _beside(config, workers)}


def seconds_per_step(trainer: train.Trainer) -> float:
    """Of one seed, in this process; the median of a few steps once it is warm."""
    return several.first_losses(trainer, [0], way='one_by_one').seconds


def _beside(config: Any, workers: int) -> float:
    """Seconds of a step where so many processes train at once: the mean over them."""
    spawned = multiprocessing.get_context('spawn')  # JAX has threads: a fork of them may wait for ever
    work = [(config, share) for share in pool.shares(pool.cores(), workers)]
    with spawned.Pool(workers) as processes:
        return sum(processes.starmap(_alone, work, chunksize=1)) / workers


def _alone(config: Any, cores: Sequence[int]) -> float:
    """What one of the processes measures, on its cores."""
    if cores:
        os.sched_setaffinity(0, cores)
    return seconds_per_step(train.Trainer(config))
