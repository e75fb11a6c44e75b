"""How the seeds of an arm are run: one after the other, together in one program, or in processes side by side.

All three make the same runs: with `batches.shape_seed` every seed sees the same shapes at the same steps, and each its
own pairs. Which one is fastest depends on the machine and the model: a short measurement says.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Sequence
from typing import Any

from research import compiling, several, train
from research.errors import UserError
from research.study import pool

ONE_BY_ONE, TOGETHER, PROCESSES = WAYS = ('one by one', 'together', 'in processes')


def measured(config: Any, seeds: Sequence[int], workers: int) -> dict[str, float]:
    """Seconds in which all seeds have made one step, in each way, compiling and data apart.

    A way that the config cannot go is left out: seeds whose shapes come in different orders are not trained together.

    Args:
      config: of the base of a study.
      seeds: of its runs.
      workers: processes that run side by side, each on its share of the cores.
    """
    trainer = train.Trainer(config)
    found = {ONE_BY_ONE: len(seeds) * seconds_per_step(trainer)}
    with contextlib.suppress(UserError):
        found[TOGETHER] = several.Several(trainer, len(seeds)).first_losses(seeds, several.TOGETHER).seconds
    return found | {PROCESSES: len(seeds) / workers * _beside(config, workers)}


def seconds_per_step(trainer: train.Trainer) -> float:
    """Of one seed, in this process; the median of a few steps once it is warm."""
    return several.Several(trainer, 1).first_losses([0], several.ONE_BY_ONE).seconds


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
    compiling.keep_programs()
    return seconds_per_step(train.Trainer(config))
