"""Oracles of what has one head and one energy."""

import numpy as np

from research.attention.normalisers import NORMALISERS
from tests.attention.oracles.contract import FEATURES, Oracle, read

SOFTMAX = {'normaliser': 'softmax'}


def one_head(energies, source, query_places, source_places, params=None, options=None, allowed=None):
    """What is read with these energies by the normaliser that the options name, softmax where they name none."""
    name = (options or {}).get('normaliser', 'softmax')
    sink = params['normalise']['sink'][0] if name == 'learned_sink' else 0.0
    context, weights = read(energies, source, query_places, source_places, False, name, sink, allowed)
    return context, weights[:, None]


def additive(params, query, source, query_places, source_places, role, causal, options):
    W, U = params['query_projection']['kernel'], params['key_projection']['kernel']
    energies = np.zeros((*query.shape[:2], source.shape[1]))
    for b, t, s in np.ndindex(energies.shape):
        energies[b, t, s] = np.tanh(query[b, t] @ W + source[b, s] @ U) @ params['vector']
    return one_head(energies, source, query_places, source_places, params, options)


def additive_normalised(params, query, source, query_places, source_places, role, causal, options):
    W, U = params['query_projection']['kernel'], params['key_projection']['kernel']
    unit = params['vector'] / np.linalg.norm(params['vector'])
    energies = np.zeros((*query.shape[:2], source.shape[1]))
    for b, t, s in np.ndindex(energies.shape):
        energies[b, t, s] = params['factor'] * unit @ np.tanh(query[b, t] @ W + source[b, s] @ U + params['bias'])
    return one_head(energies, source, query_places, source_places, params, options)


def concat(params, query, source, query_places, source_places, role, causal, options):
    U = np.eye(source.shape[-1]) if options['source_projection'] == 'identity' else params['key_projection']['kernel']
    W = np.concatenate([params['query_projection']['kernel'], U])
    energies = np.zeros((*query.shape[:2], source.shape[1]))
    for b, t, s in np.ndindex(energies.shape):
        energies[b, t, s] = params['vector'] @ np.tanh(np.concatenate([query[b, t], source[b, s]]) @ W)
    return one_head(energies, source, query_places, source_places, params, options)


def key_value_memory(params, query, source, query_places, source_places, role, causal, options):
    keys, values = np.split(source, 2, axis=-1)
    energies = query @ params['key_projection']['kernel'].T @ np.swapaxes(keys, 1, 2)
    return one_head(energies, values, query_places, source_places, params, options)


def dot(params, query, source, query_places, source_places, role, causal, options):
    energies = query @ np.swapaxes(source, 1, 2)
    return one_head(energies, source, query_places, source_places, params, options)


def scaled_dot(params, query, source, query_places, source_places, role, causal, options):
    factor = params['factor'] if options['scale'] == 'learned' else query.shape[-1]**-0.5
    energies = factor * (query @ np.swapaxes(source, 1, 2))
    return one_head(energies, source, query_places, source_places, params, options)


def general(params, query, source, query_places, source_places, role, causal, options):
    W = params['key_projection']['kernel'].T
    energies = query @ W @ np.swapaxes(source, 1, 2)
    return one_head(energies, source, query_places, source_places, params, options)


ORACLES = {
    'additive': Oracle(additive, {'energy_width': 19, **SOFTMAX},
                       tuple({'energy_width': 19, 'normaliser': name} for name in NORMALISERS if name != 'softmax'),
                       large={'energy_width': 128, **SOFTMAX}),
    'dot': Oracle(dot, SOFTMAX, source_width=FEATURES),
    'scaled_dot': Oracle(scaled_dot, {'scale': 'width', **SOFTMAX}, ({'scale': 'learned', **SOFTMAX},),
                         source_width=FEATURES),
    'general': Oracle(general, SOFTMAX),
    'concat': Oracle(concat, {'energy_width': 19, 'source_projection': 'learned', **SOFTMAX},
                     ({'energy_width': 17, 'source_projection': 'identity', **SOFTMAX},
                      {'energy_width': 19, 'source_projection': 'learned', 'normaliser': 'learned_sink'}),
                     large={'energy_width': 128, 'source_projection': 'learned', **SOFTMAX}),
    'additive_normalised': Oracle(additive_normalised, {'energy_width': 19, **SOFTMAX},
                                  ({'energy_width': 19, 'normaliser': 'entmax'},),
                                  large={'energy_width': 128, **SOFTMAX}),
    'key_value_memory': Oracle(key_value_memory, SOFTMAX, ({'normaliser': 'learned_sink'},), source_width=2 * 17),
}
