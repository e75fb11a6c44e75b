"""Oracles of what has one head and looks back at what it has read: one sentence and one query after another."""

import numpy as np

from tests.attention.oracles.contract import Oracle, may_read, normalise
from tests.attention.oracles.single_head import SOFTMAX


def queries(query_places, source_places):
    """Sentence, target position and what it may read, in order; targets without anything to read are left out."""
    for b, t in np.ndindex(query_places.segment.shape):
        chosen = may_read(query_places, source_places, b, t, False)
        if chosen:
            yield b, t, chosen


def shares(params, energies, options):
    """Weights of one row of readable energies."""
    sink = params['normalise']['sink'][0] if options['normaliser'] == 'learned_sink' else 0.0
    return normalise(options['normaliser'], energies, sink)


def hidden(params, query, source):
    """What the energy of one query and one annotation is computed from, without what looks back."""
    return (query @ params['query_projection']['kernel'] + source @ params['key_projection']['kernel']
            + params['bias'])


def coverage(params, query, source, query_places, source_places, role, causal, options):
    weights, covered = np.zeros((*query.shape[:2], source.shape[1])), np.zeros(source.shape[:2])
    for b, t, chosen in queries(query_places, source_places):
        energies = [params['vector'] @ np.tanh(hidden(params, query[b, t], source[b, s])
                                               + params['factors'] * covered[b, s]) for s in chosen]
        weights[b, t, chosen] = shares(params, np.array(energies), options)
        covered[b] += weights[b, t]
    return weights @ source, weights[:, None]


def location_sensitive(params, query, source, query_places, source_places, role, causal, options):
    weights, (taps, channels, filters) = np.zeros((*query.shape[:2], source.shape[1])), params['kernel'].shape
    last, total = np.zeros(source.shape[:2]), np.zeros(source.shape[:2])
    for b, t, chosen in queries(query_places, source_places):
        energies = []
        for s in chosen:
            found = np.zeros(filters)
            for tap in range(taps):
                neighbour = s + tap - taps // 2
                if neighbour in chosen:
                    found += last[b, neighbour] * params['kernel'][tap, 0]
                    if channels == 2:
                        found += total[b, neighbour] * params['kernel'][tap, 1]
            energies.append(params['vector'] @ np.tanh(hidden(params, query[b, t], source[b, s])
                                                       + found @ params['found_projection']))
        weights[b, t, chosen] = shares(params, np.array(energies), options)
        last[b, chosen] = weights[b, t, chosen]
        total[b] += weights[b, t]
    return weights @ source, weights[:, None]


def monotonic(params, query, source, query_places, source_places, role, causal, options):
    weights, before = np.zeros((*query.shape[:2], source.shape[1])), {}
    unit = params['vector'] / np.linalg.norm(params['vector'])
    for b, t, chosen in queries(query_places, source_places):
        energies = np.array([params['factor'] * unit @ np.tanh(hidden(params, query[b, t], source[b, s]))
                             + params['offset'] for s in chosen])
        sentence = b, query_places.segment[b, t]
        step = scanned if options['mode'] == 'hard' else expected
        stops, before[sentence] = step(energies, before.get(sentence))
        weights[b, t, chosen] = stops
    return weights @ source, weights[:, None]


def expected(energies, before):
    """Soft: how likely each position is, summed over where the query before may have stopped."""
    choice, stops = 1.0 / (1.0 + np.exp(-energies)), np.zeros(len(energies))
    before = np.eye(len(energies))[0] if before is None else before
    for begin, share in enumerate(before):
        for s in range(begin, len(energies)):
            stops[s] += share * np.prod(1.0 - choice[begin:s]) * choice[s]
    return stops, stops


def scanned(energies, last):
    """Hard: from the last index to the first energy above 0; beyond the end there is nothing for any later query."""
    stops, s = np.zeros(len(energies)), 0 if last is None else last
    while s < len(energies) and not energies[s] > 0:
        s += 1
    if s < len(energies):
        stops[s] = 1.0
    return stops, s


COVERAGE = {'energy_width': 19, 'penalty_weight': 0.5, **SOFTMAX}
LOCATION = {'energy_width': 19, 'filters': 5, 'width': 3, 'cumulative': True, **SOFTMAX}
MONOTONIC = {'energy_width': 19, 'mode': 'soft', 'noise': 0.7}

# Large: the compiler counts the body of a loop over positions once, so what stands in it is kept small.
ORACLES = {
    'coverage': Oracle(coverage, COVERAGE, (COVERAGE | {'normaliser': 'learned_sink'},
                                            COVERAGE | {'normaliser': 'entmax'}), large=COVERAGE | {'energy_width': 2}),
    'location_sensitive': Oracle(
        location_sensitive, LOCATION, (LOCATION | {'cumulative': False, 'width': 5, 'normaliser': 'learned_sink'},
                                       LOCATION | {'width': 29}),
        large={'energy_width': 2, 'filters': 1, 'width': 1, 'cumulative': False, **SOFTMAX}),
    'monotonic': Oracle(monotonic, MONOTONIC, (MONOTONIC | {'mode': 'hard'},), large=MONOTONIC | {'energy_width': 128}),
}
