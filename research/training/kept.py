"""The parameters that a run keeps beside its checkpoints: what it is evaluated and goes on with."""

import pathlib

from research.models.contract import Params
from research.training import averaging
from research.training.checkpoint import Checkpoints


class Kept:
    """The parameters that a run keeps: the best measured, the last few measured, and the mean of those if it is best.

        best/        the best so far
        recent/      those of the last `count` measurements; only where there is more than one
        averaged/    their mean at the end of the run, where it measured better than everything in best/
    """

    def __init__(self, workdir: pathlib.Path, count: int, identity: dict[str, str]):
        """Neither reads nor writes anything."""
        self.count = count
        self.best = Checkpoints(workdir / 'best', keep=2, identity=identity)
        self.recent = Checkpoints(workdir / 'recent', keep=max(1, count), identity=identity)
        self.averaged = Checkpoints(workdir / 'averaged', keep=1, identity=identity)

    def save(self, step: int, params: Params) -> None:
        """Keeps the best parameters so far."""
        self.best.save(step, params)

    def note(self, step: int, params: Params) -> None:
        """Keeps the parameters of a measurement."""
        if self.count > 1:
            self.recent.save(step, params)

    def mean(self, step: int, params: Params) -> Params:
        """The mean of the last measured parameters, of which `params` at this step are the last."""
        steps = [other for other in self.recent.steps() if other <= step][-self.count:]
        return averaging.mean(self.recent.restore_step(step, params) for step in steps)

    def save_mean(self, step: int, params: Params) -> None:
        """Keeps the mean: it is the best."""
        self.averaged.save(step, params)

    def newest(self, example: Params) -> tuple[int, Params, bool] | None:
        """The best parameters there are: their step, they themselves, and whether they are a mean; None = none yet."""
        for where in (self.averaged, self.best):
            found = where.restore(example)
            if found is not None:
                return *found, where is self.averaged
        return None

    def restore(self, step: int, example: Params) -> Params:
        """The best parameters: those measured at this step, or the mean that was."""
        where = self.averaged if step in self.averaged.steps() else self.best
        return where.restore_step(step, example)
