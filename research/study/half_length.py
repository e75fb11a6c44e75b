"""How long a source may be before half of what an arm can do is lost."""

import itertools
import math
from collections.abc import Sequence


def half_length(lengths: Sequence[float], scores: Sequence[float], floor: float = 0.0) -> float | None:
    """The first length at which a score has lost half of what it has above guessing at the shortest length.

    half = floor + (scores[0] - floor) / 2;  the first x > lengths[0] with score(x) < half

    score(x) is a straight line between neighbouring lengths, and nothing is said beyond the last one. No curve is
    fitted: a study has few lengths, and forgetting need not follow any formula.

    Args:
      lengths: k lengths, rising; of a bucket its middle.
      scores: k scores, higher is better.
      floor: the score of guessing.

    Returns:
      The length; infinity where the score stays at half or above; None where the first score is not above the floor,
      so that there is nothing to lose.

    Raises:
      ValueError: no length, as many scores as lengths are not given, or the lengths do not rise.
    """
    if not lengths or len(lengths) != len(scores) or any(b <= a for a, b in itertools.pairwise(lengths)):
        raise ValueError(f'One score for each length is needed, and lengths that rise: {lengths}, {scores}.')
    if scores[0] <= floor:
        return None
    half = floor + (scores[0] - floor) / 2
    for n in range(1, len(scores)):
        if scores[n] < half:
            return lengths[n - 1] + (lengths[n] - lengths[n - 1]) * (scores[n - 1] - half) / (scores[n - 1] - scores[n])
    return math.inf
