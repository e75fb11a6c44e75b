"""Oracles of what has one head and reads a part of the source."""

import numpy as np

from tests.attention.oracles.contract import FEATURES, Oracle, may_read
from tests.attention.oracles.single_head import SOFTMAX, one_head


def location(params, query, source, query_places, source_places, role, causal, options):
    W = params['query_projection']['kernel']
    energies = np.zeros((*query.shape[:2], source.shape[1]))
    for b, t, s in np.ndindex(energies.shape):
        energies[b, t, s] = query[b, t] @ W[:, source_places.position[b, s]]
    return one_head(energies, source, query_places, source_places, params, options)


def products(params, query, source, options):
    W = np.eye(query.shape[-1]) if options['energy'] == 'dot' else params['key_projection']['kernel'].T
    return query @ W @ np.swapaxes(source, 1, 2)


def local_monotonic(params, query, source, query_places, source_places, role, causal, options):
    def allowed(b, t, s):
        return abs(int(source_places.position[b, s]) - int(query_places.position[b, t])) <= options['window']
    return one_head(products(params, query, source, options), source, query_places, source_places, params, options,
                    allowed)


def local_predictive(params, query, source, query_places, source_places, role, causal, options):
    C, centre = options['window'], np.zeros(query.shape[:2])
    for b, t in np.ndindex(centre.shape):
        hidden = np.tanh(query[b, t] @ params['position_projection']['kernel'])
        share = 1.0 / (1.0 + np.exp(-hidden @ params['position_vector']))
        centre[b, t] = len(may_read(query_places, source_places, b, t, False)) * share

    def allowed(b, t, s):
        return abs(source_places.position[b, s] - centre[b, t]) <= C
    _, weights = one_head(products(params, query, source, options), source, query_places, source_places, params,
                          options, allowed)
    for b, _, t, s in np.ndindex(weights.shape):
        distance, spread = source_places.position[b, s] - centre[b, t], C / 2
        weights[b, 0, t, s] *= np.exp(-distance**2 / (2 * spread**2))
    return weights[:, 0] @ source, weights


ORACLES = {
    'location': Oracle(location, {'maximum_length': 23, **SOFTMAX},
                       ({'maximum_length': 23, 'normaliser': 'sparsemax'},), large={'maximum_length': 71, **SOFTMAX}),
    'local_monotonic': Oracle(
        local_monotonic, {'window': 2, 'energy': 'general', **SOFTMAX},
        ({'window': 0, 'energy': 'dot', **SOFTMAX}, {'window': 3, 'energy': 'dot', 'normaliser': 'learned_sink'}),
        source_width=FEATURES),
    'local_predictive': Oracle(
        local_predictive, {'window': 3, 'energy': 'general', 'energy_width': 19, **SOFTMAX},
        ({'window': 2, 'energy': 'dot', 'energy_width': 19, 'normaliser': 'entmax'},), source_width=FEATURES),
}
