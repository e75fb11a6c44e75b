"""What a mixer makes of inputs that have seen their neighbours: its oracle behind a convolution."""

import numpy as np


def convolved(function):
    """The oracle of a mixer whose query and source are both the source, each position with those before it."""
    def oracle(params, query, source, query_places, source_places, role, causal, options):
        B, S, _ = source.shape
        inputs = np.zeros(source.shape)
        for b in range(B):
            for s in range(S):
                own = [i for i in range(s + 1) if source_places.segment[b, i] == source_places.segment[b, s]]
                for weight, i in zip(params['kernel'], reversed(own)):
                    inputs[b, s] += weight * source[b, i]
        inputs = inputs / (1.0 + np.exp(-inputs))
        return function(params['mixer'], inputs, inputs, source_places, source_places, role, causal, options)
    return oracle
