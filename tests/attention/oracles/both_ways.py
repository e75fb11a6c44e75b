"""What an encoder makes of a variant that is causal: its oracle forwards, plus its oracle over the flipped sequence."""

import numpy as np

from research.shapes import Places


def flipped(places):
    segment = places.segment[:, ::-1].copy()
    position = np.zeros_like(segment)
    for b, row in enumerate(segment):
        for at in range(1, len(row)):
            position[b, at] = position[b, at - 1] + 1 if row[at] == row[at - 1] else 0
    return Places(segment, position)


def both_ways(function):
    """The oracle of the sum of two copies."""
    def oracle(params, query, source, query_places, source_places, role, causal, options):
        forward, ahead = function(params['forward'], query, source, query_places, source_places, role, True, options)
        backward, behind = function(params['backward'], query[:, ::-1], source[:, ::-1], flipped(query_places),
                               flipped(source_places), role, True, options)
        weights = None if ahead is None else np.concatenate([ahead, behind[:, :, ::-1, ::-1]], axis=1)
        return forward + backward[:, ::-1], weights
    return oracle
