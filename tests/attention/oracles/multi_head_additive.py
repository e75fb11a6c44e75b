"""The oracle of several heads with additive energies."""

import numpy as np

from tests.attention.oracles.contract import Oracle, read
from tests.attention.oracles.multi_head import project
from tests.attention.oracles.single_head import SOFTMAX


def multi_head_additive(params, query, source, query_places, source_places, role, causal, options):
    context, weights, bias = 0.0, [], options['projection_bias']
    for n in range(options['heads']):
        q, k, v = (project(params, array, f'{name}_projection', n, bias)
                   for array, name in ((query, 'query'), (source, 'key'), (source, 'value')))
        energies = np.zeros((*query.shape[:2], source.shape[1]))
        for b, t, s in np.ndindex(energies.shape):
            energies[b, t, s] = params['vector'][n] @ np.tanh(q[b, t] + k[b, s])
        sink = params['normalise']['sink'][n] if options['normaliser'] == 'learned_sink' else 0.0
        one, alignment = read(energies, v, query_places, source_places, False, options['normaliser'], sink)
        context = context + one @ params['output_projection']['kernel'][n]
        weights.append(alignment)
    return context + (params['output_projection']['bias'] if bias else 0.0), np.stack(weights, axis=1)


HEADS = {'heads': 2, 'head_width': 3, 'energy_width': 2 * 19, 'projection_bias': False, **SOFTMAX}

ORACLES = {
    'multi_head_additive': Oracle(
        multi_head_additive, HEADS, (HEADS | {'projection_bias': True, 'normaliser': 'learned_sink'},
                                     HEADS | {'heads': 1, 'head_width': 0}), large=HEADS | {'head_width': 128}),
}
