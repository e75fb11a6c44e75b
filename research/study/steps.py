"""How long until a run has learned: steps to a threshold, where runs that do not reach it count too.

A run that does not reach the threshold within the budget says `more than the budget`, never `cannot`: it is censored.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Reached(NamedTuple):
    """When the runs of one arm had learned."""

    count: int             # runs that reached the threshold
    runs: int
    median: float | None   # of steps, by Kaplan and Meier; None where under half of the runs reached it
    mean: float            # of `values`
    values: list[float]    # min(step, budget) of each run, as given: what arms are compared by, less is better
    budget: float

    @property
    def text(self) -> str:
        """One line: `3/10 reached it, median > 8000 steps, mean of min(step, 8000) 7120`."""
        median = f'> {self.budget:g}' if self.median is None else f'{self.median:g}'
        return (f'{self.count}/{self.runs} reached it, median {median} steps, mean of min(step, {self.budget:g}) '
                f'{self.mean:g}')


def steps_to_threshold(steps: Sequence[float], scores: Sequence[float], threshold: float,
                       budget: float) -> float | None:
    """The first step at which an evaluation and the one after it both score at least the threshold.

    The step is that of the first of the two: the second one only says that it was no accident. So the last evaluation
    of a run cannot be the first to reach it.

    Args:
      steps: k steps of evaluations, rising.
      scores: k scores; one that is not a number does not reach the threshold.
      threshold: what counts as learned.
      budget: evaluations after this step are not looked at.

    Returns:
      The step; None where there is none: the run is censored at the budget.

    Raises:
      ValueError: steps and scores differ in number, or the steps do not rise.
    """
    steps, scores = np.asarray(steps), np.asarray(scores, np.float64)
    if steps.shape != scores.shape or steps.ndim != 1 or (np.diff(steps) <= 0).any():
        raise ValueError(f'One score for each step is needed, and steps that rise: {steps.tolist()}, '
                         f'{scores.tolist()}.')
    high = (scores >= threshold) & (steps <= budget)
    found = np.flatnonzero(high[:-1] & high[1:])
    return steps[found[0]].item() if len(found) else None


def reached(steps: Sequence[float | None], budget: float) -> Reached:
    """How many runs reached the threshold, and when.

    S(t) = share of runs that have not reached it by step t;  median = the smallest t with S(t) <= 1/2

    As every run that did not reach it is censored at the same step, after all that did, this S is Kaplan and Meier's.

    Args:
      steps: of each run, None where it did not reach the threshold; a run that diverged did not.
      budget: the steps that each run had.

    Returns:
      What a report says of them.

    Raises:
      ValueError: no run, or a step after the budget.

    Source: Kaplan and Meier 1958, Nonparametric Estimation from Incomplete Observations. Differs: none.
    """
    found = sorted(step for step in steps if step is not None)
    if not len(steps) or (found and found[-1] > budget):
        raise ValueError(f'One or more steps within the budget of {budget} are needed: {list(steps)}.')
    half = math.ceil(len(steps) / 2)
    values = [float(budget if step is None else step) for step in steps]
    return Reached(len(found), len(steps), found[half - 1] if len(found) >= half else None, float(np.mean(values)),
                   values, budget)
