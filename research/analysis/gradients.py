"""How a gradient gets smaller with the distance that it has come."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def decay(norms: Sequence[np.ndarray]) -> dict[str, Any]:
    """The norms of gradients against distance, and the slope of their logarithm: what a position more costs.

        log_norms[d] = mean over sentences of ln norm[d], those with a norm of 0 left out
        slope        = mean over sentences of the least-squares slope of ln norm[d] in d, over d >= 1, norms above 0
        slope_error  = standard deviation of these slopes / sqrt(number of sentences)

    Each sentence has a slope of its own, because sentences differ in how large their gradients are and the positions of
    one sentence are not independent. Distance 0 is not part of the slope: there a position meets itself, or the end of
    the source. Where a norm is exactly 0 nothing comes from there, or less than a float can hold; `zero` counts it.

    Args:
      norms: of each sentence, [longest distance + 1]: norms[d] is the one at distance d.

    Returns:
      distances [0, 1, ...] and for each of them log_norms (None where all norms are 0), zero (the share of sentences
      whose norm is 0) and count (sentences that are long enough); slope and slope_error, in nats a position (None with
      no, or with one sentence that has two norms above 0 to put a line through); sentences, of that slope.

    Raises:
      ValueError: a norm is negative or not finite.
    """
    norms = [np.asarray(row, np.float64) for row in norms]
    if not all(np.isfinite(row).all() and (row >= 0).all() for row in norms):
        raise ValueError('A norm is negative or not finite.')
    longest = max((len(row) for row in norms), default=0)
    by_distance = [np.array([row[d] for row in norms if len(row) > d]) for d in range(longest)]
    slopes = [slope for slope in map(_slope, norms) if slope is not None]
    return {
        'distances': list(range(longest)),
        'log_norms': [float(np.log(there[there > 0]).mean()) if (there > 0).any() else None for there in by_distance],
        'zero': [float((there == 0).mean()) for there in by_distance],
        'count': [len(there) for there in by_distance],
        'slope': float(np.mean(slopes)) if slopes else None,
        'slope_error': float(np.std(slopes, ddof=1) / math.sqrt(len(slopes))) if len(slopes) > 1 else None,
        'sentences': len(slopes),
    }


def _slope(norms):
    distances = 1 + np.flatnonzero(norms[1:] > 0)
    return np.polyfit(distances, np.log(norms[distances]), 1)[0] if len(distances) > 1 else None
