"""Oracles of the controls."""

import numpy as np

from tests.attention.oracles.contract import Oracle, may_read


def none(params, query, source, query_places, source_places, role, causal, options):
    return np.zeros((*query.shape[:2], 0)), None


def fixed_context(params, query, source, query_places, source_places, role, causal, options):
    vectors = np.tanh(source @ params['projection']['kernel'])
    context = np.zeros((*query.shape[:2], vectors.shape[-1]))
    for b, t in np.ndindex(query.shape[:2]):
        for s in may_read(query_places, source_places, b, t, False):
            context[b, t] = vectors[b, s]
    return context, None


def mean(params, query, source, query_places, source_places, role, causal, options):
    B, T, S = *query.shape[:2], source.shape[1]
    weights, context = np.zeros((B, 1, T, S)), np.zeros((B, T, source.shape[-1]))
    for b, t in np.ndindex(B, T):
        chosen = may_read(query_places, source_places, b, t, False)
        if chosen:
            weights[b, 0, t, chosen] = 1.0 / len(chosen)
            context[b, t] = source[b, chosen].mean(axis=0)
    return context, weights


ORACLES = {
    'none': Oracle(none, {}),
    'fixed_context': Oracle(fixed_context, {}),
    'mean': Oracle(mean, {}),
}
