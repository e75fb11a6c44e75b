"""What guessing scores: the floor of each made-up task, and whether a score is still on it."""

import math

from scipy.stats import binomtest


def recall_floor(pairs: int) -> float:
    """The accuracy of a guess among the values of the pairs shown, as if the key were not read: 1 / pairs."""
    _check(pairs=pairs)
    return 1 / pairs


def copying_floor(V: int) -> float:
    """The accuracy at a place of a copy, of a guess among all V symbols: 1 / V."""
    _check(V=V)
    return 1 / V


def order_floor(S: int) -> float:
    """The accuracy at a place of a copy, of a reader that knows which symbols there are but not their order.

    (1 + 1/2 + ... + 1/S) / S: with i distinct symbols left, of those S that the right ones so far leave over, a guess
    among them is right once in i.

    Args:
      S: distinct symbols of a source.

    Returns:
      Between 0 and 1, the mean over places, teacher-forced.

    Raises:
      ValueError: S is below 1.
    """
    _check(S=S)
    return math.fsum(1 / i for i in range(1, S + 1)) / S


def parity_floor() -> float:
    """The accuracy of a guess whether a count is odd: 1/2."""
    return 1 / 2


def at_floor(right: int, count: int, floor: float) -> bool:
    """Whether a score could be a guess: the 95 % interval of its accuracy contains the floor.

    The interval is Clopper and Pearson's, which is never too narrow: of guesses at most 5 % are taken for knowledge.
    It holds for answers that are right or wrong apart from each other; the tokens of one sentence are not.

    Args:
      right: answers that are right.
      count: answers.
      floor: the accuracy of a guess.

    Returns:
      True where a table prints `at floor`; a score surely below it is not at it.

    Raises:
      ValueError: no answer, or more right ones than answers.

    Source: Clopper and Pearson 1934, The Use of Confidence or Fiducial Limits. Differs: none, SciPy counts.
    """
    _check(count=count)
    interval = binomtest(right, count).proportion_ci(0.95, method='exact')
    return bool(interval.low <= floor <= interval.high)


def _check(**sizes):
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f'{name} is at least 1: {size}.')
