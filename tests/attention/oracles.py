"""What every attention computes, a second time: float64 NumPy, written from the formula, one position after another.

An oracle is called as function(params, query, source, query_places, source_places, role, causal, options) and returns
(context [B, T, ...], weights [B, N, T, S] or None). Energies may be computed for all positions; what may be read is
decided position by position, here and nowhere else.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

FEATURES = 13  # D, the width of the queries


class Oracle(NamedTuple):
    """A reference and what the battery needs to know to build the variant that it is for."""

    function: Callable
    options: dict[str, Any]                # tiny; all sizes distinct primes, without a projection bias
    others: tuple[dict[str, Any], ...] = ()  # further options, compared with the oracle in the first role only
    source_width: int = 17                 # D_s in the cross role
    large: dict[str, Any] | None = None    # options with which matrix products dominate; None = `options`


def may_read(query_places, source_places, b, t, causal):
    """The source positions that query t of sentence b may read."""
    segment, position = query_places.segment[b, t], query_places.position[b, t]
    return [s for s in range(source_places.segment.shape[1])
            if segment > 0 and source_places.segment[b, s] == segment
            and not (causal and source_places.position[b, s] > position)]


def read(energies, values, query_places, source_places, causal=False):
    """Energies [B, T, S] and values [B, S, D] -> what softmax attention reads [B, T, D], and its weights [B, T, S]."""
    B, T, S = energies.shape
    weights, context = np.zeros((B, T, S)), np.zeros((B, T, values.shape[-1]))
    for b in range(B):
        for t in range(T):
            chosen = may_read(query_places, source_places, b, t, causal)
            if chosen:
                exponentials = np.exp(energies[b, t, chosen] - energies[b, t, chosen].max())
                weights[b, t, chosen] = exponentials / exponentials.sum()
                context[b, t] = weights[b, t, chosen] @ values[b, chosen]
    return context, weights


def one_head(energies, source, query_places, source_places):
    context, weights = read(energies, source, query_places, source_places)
    return context, weights[:, None]


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


def additive(params, query, source, query_places, source_places, role, causal, options):
    W, U = params['query_projection']['kernel'], params['key_projection']['kernel']
    energies = np.zeros((*query.shape[:2], source.shape[1]))
    for b, t, s in np.ndindex(energies.shape):
        energies[b, t, s] = np.tanh(query[b, t] @ W + source[b, s] @ U) @ params['vector']
    return one_head(energies, source, query_places, source_places)


def dot(params, query, source, query_places, source_places, role, causal, options):
    energies = query @ np.swapaxes(source, 1, 2)
    return one_head(energies, source, query_places, source_places)


def scaled_dot(params, query, source, query_places, source_places, role, causal, options):
    factor = params['factor'] if options['scale'] == 'learned' else query.shape[-1]**-0.5
    energies = factor * (query @ np.swapaxes(source, 1, 2))
    return one_head(energies, source, query_places, source_places)


def general(params, query, source, query_places, source_places, role, causal, options):
    W = params['key_projection']['kernel'].T
    energies = query @ W @ np.swapaxes(source, 1, 2)
    return one_head(energies, source, query_places, source_places)


def multi_head_dot(params, query, source, query_places, source_places, role, causal, options):
    def project(array, name, n):
        return array @ params[name]['kernel'][:, n] + (params[name]['bias'][n] if options['projection_bias'] else 0.0)
    context, weights = 0.0, []
    for n in range(options['heads']):
        q, k, v = (project(array, name, n) for array, name in (
            (query, 'query_projection'), (source, 'key_projection'), (source, 'value_projection')))
        energies = q @ np.swapaxes(k, 1, 2) / np.sqrt(q.shape[-1])
        one, alignment = read(energies, v, query_places, source_places, causal)
        context = context + one @ params['output_projection']['kernel'][n]
        weights.append(alignment)
    return context + (params['output_projection']['bias'] if options['projection_bias'] else 0.0), np.stack(weights, 1)


ORACLES = {
    'none': Oracle(none, {}),
    'fixed_context': Oracle(fixed_context, {}),
    'mean': Oracle(mean, {}),
    'additive': Oracle(additive, {'energy_width': 19}, large={'energy_width': 128}),
    'dot': Oracle(dot, {}, source_width=FEATURES),
    'scaled_dot': Oracle(scaled_dot, {'scale': 'width'}, ({'scale': 'learned'},), source_width=FEATURES),
    'general': Oracle(general, {}),
    'multi_head_dot': Oracle(
        multi_head_dot, {'heads': 2, 'head_width': 3, 'projection_bias': False},
        ({'heads': 2, 'head_width': 3, 'projection_bias': True},
         {'heads': 1, 'head_width': 0, 'projection_bias': False}),
        large={'heads': 2, 'head_width': 128, 'projection_bias': False}),
}
