"""Oracles of what carries a memory of fixed size: one matrix a head, one position after another."""

import numpy as np

from research.attention.linear import orthogonal_rows
from tests.attention.oracles.contract import Oracle, may_read
from tests.attention.oracles.multi_head import project, rotated


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


# ------------------------------------------------------------------------------------------- similarities of features

def phi(x, chosen):
    """The features of one vector."""
    if chosen['name'] == 'elu':
        return np.array([number + 1.0 if number > 0 else np.exp(number) for number in x])
    y = x / len(x)**0.25
    if chosen['name'] == 'taylor':
        return np.array([1.0, *y, *(one * other / np.sqrt(2.0) for one in y for other in y)])
    omega = orthogonal_rows(chosen['count'], len(x), chosen['seed'])
    return np.array([np.exp(row @ y - y @ y / 2.0) for row in omega]) / np.sqrt(chosen['count'])


def linear(params, query, source, query_places, source_places, role, causal, options):
    (B, T), S, context, weights = query.shape[:2], source.shape[1], 0.0, []
    for n in range(options['heads']):
        q, k, v = (project(params, array, name, n) for array, name in (
            (query, 'query_projection'), (source, 'key_projection'), (source, 'value_projection')))
        one, alignment = np.zeros_like(q), np.zeros((B, T, S))
        for b, t in np.ndindex(B, T):
            chosen = may_read(query_places, source_places, b, t, causal)
            if chosen:
                similar = np.array([phi(q[b, t], options['feature_map']) @ phi(k[b, s], options['feature_map'])
                                    for s in chosen])
                alignment[b, t, chosen] = similar / similar.sum()
                one[b, t] = alignment[b, t, chosen] @ v[b, chosen]
        context = context + one @ params['output_projection']['kernel'][n]
        weights.append(alignment)
    return context, np.stack(weights, axis=1)


# ------------------------------------------------------------------------------------------ memories that are rewritten

def each_position(places, q, k, v, decay, write):
    """Reads [B, T, H_v] of one head: decay [B, T, H_k or 1] of the rows, write: (M, k, v, b, t) -> M."""
    reads = np.zeros((*q.shape[:2], v.shape[-1]))
    for b in range(len(q)):
        memory, sentence = np.zeros((q.shape[-1], v.shape[-1])), 0
        for t in range(q.shape[1]):
            if places.segment[b, t] == 0:
                continue
            if places.segment[b, t] != sentence:
                memory, sentence = np.zeros_like(memory), places.segment[b, t]
            memory = write(decay[b, t][:, None] * memory, k[b, t], v[b, t], b, t)
            reads[b, t] = memory.T @ q[b, t]
    return reads


def add(memory, k, v, b, t):
    return memory + np.outer(k, v)


def replace(rate):
    """The delta rule, in the form with a matrix before the memory; rate [B, T]."""
    def write(memory, k, v, b, t):
        return (np.eye(len(k)) - rate[b, t] * np.outer(k, k)) @ memory + rate[b, t] * np.outer(k, v)
    return write


def normed(params, reads):
    return reads / np.sqrt((reads**2).mean(axis=-1, keepdims=True) + 1e-6) * params['norm']['scale']


def gated(params, reads, query, n):
    shown = normed(params, reads) * silu(project(params, query, 'gate_projection', n))
    return shown @ params['output_projection']['kernel'][n]


def retention(params, query, source, query_places, source_places, role, causal, options):
    context = 0.0
    for n in range(options['heads']):
        q = rotated(project(params, query, 'query_projection', n), query_places, options['base'])
        k = rotated(project(params, source, 'key_projection', n), source_places, options['base'])
        decay = np.full((*q.shape[:2], 1), 1.0 - 0.5**(5 + n))
        reads = each_position(source_places, q, k / np.sqrt(k.shape[-1]),
                              project(params, source, 'value_projection', n), decay, add)
        context = context + gated(params, reads, query, n)
    return context, None


def gated_linear(params, query, source, query_places, source_places, role, causal, options):
    context = 0.0
    for n in range(options['heads']):
        q, k, v = (project(params, array, name, n) for array, name in (
            (query, 'query_projection'), (source, 'key_projection'), (source, 'value_projection')))
        gates = source @ params['decay_down']['kernel'] @ params['decay_up']['kernel'][:, n]
        decay = sigmoid(gates + params['decay_up']['bias'][n])**(1.0 / 16.0)
        context = context + gated(params, each_position(source_places, q, k, v, decay, add), query, n)
    return context, None


def state_space(params, query, source, query_places, source_places, role, causal, options):
    context = 0.0
    c, b = query @ params['query_projection']['kernel'], source @ params['key_projection']['kernel']
    for n in range(options['heads']):
        x = project(params, source, 'value_projection', n)
        step = np.log1p(np.exp(source @ params['step_projection']['kernel'][:, n]
                               + params['step_projection']['bias'][n]))[..., None]
        decay = np.exp(-np.exp(params['log_decay_rate'][n]) * step)
        reads = each_position(source_places, c, b, step * x, decay, add)
        reads = reads + params['skip'][n] * x * (source_places.segment > 0)[..., None]
        context = context + gated(params, reads, query, n)
    return context, None


def written_by_delta(params, query, source, n, options):
    """q, k, v [B, T, H] of one head, and the rate [B, T]."""
    q, k, v = (silu(project(params, array, name, n)) for array, name in (
        (query, 'query_projection'), (source, 'key_projection'), (source, 'value_projection')))
    q, k = (x / np.sqrt((x**2).sum(axis=-1, keepdims=True) + 1e-6) for x in (q, k))
    rate = sigmoid(source @ params['rate_projection']['kernel'][:, n])
    return q, k, v, 2.0 * rate if options['negative'] else rate


def delta(params, query, source, query_places, source_places, role, causal, options):
    context = 0.0
    for n in range(options['heads']):
        q, k, v, rate = written_by_delta(params, query, source, n, options)
        reads = each_position(source_places, q, k, v, np.ones((*rate.shape, 1)), replace(rate))
        context = context + normed(params, reads) @ params['output_projection']['kernel'][n]
    return context, None


def gated_delta(params, query, source, query_places, source_places, role, causal, options):
    context = 0.0
    for n in range(options['heads']):
        q, k, v, rate = written_by_delta(params, query, source, n, options)
        step = np.log1p(np.exp(source @ params['step_projection']['kernel'][:, n]
                               + params['step_projection']['bias'][n]))
        decay = np.exp(-np.exp(params['log_decay_rate'][n]) * step)[..., None]
        context = context + gated(params, each_position(source_places, q, k, v, decay, replace(rate)), query, n)
    return context, None


SIMILAR = {'heads': 2, 'head_width': 3, 'feature_map': {'name': 'elu'}, 'chunk': 3, 'segments': 3}
TAYLOR, PERFORMER = {'name': 'taylor'}, {'name': 'performer', 'count': 5, 'seed': 7}
CARRIED = {'heads': 2, 'head_width': 3, 'chunk': 3}
NARROW = {'heads': 48, 'head_width': 2}  # the compiler counts one turn of a loop, so the loop must be small

ORACLES = {
    'linear': Oracle(linear, SIMILAR, (SIMILAR | {'heads': 1, 'head_width': 0},), large=SIMILAR | {'head_width': 128}),
    'taylor': Oracle(linear, SIMILAR | {'feature_map': TAYLOR}, large=SIMILAR | {'head_width': 16,
                                                                                'feature_map': TAYLOR}),
    'performer': Oracle(linear, SIMILAR | {'feature_map': PERFORMER},
                        large=SIMILAR | {'head_width': 128, 'feature_map': PERFORMER | {'count': 128}}),
    'retention': Oracle(retention, CARRIED | {'head_width': 2, 'base': 10.0},
                        (CARRIED | {'heads': 3, 'head_width': 4, 'base': 100.0},),
                        large=CARRIED | NARROW | {'base': 10.0}),
    'gated_linear': Oracle(gated_linear, CARRIED | {'rank': 5}, large=CARRIED | NARROW | {'rank': 5}),
    'state_space': Oracle(state_space, CARRIED | {'state_width': 5}, large=CARRIED | NARROW | {'state_width': 2}),
    'delta': Oracle(delta, CARRIED | {'negative': False}, (CARRIED | {'negative': True},),
                    large=CARRIED | NARROW | {'negative': False}),
    'gated_delta': Oracle(gated_delta, CARRIED | {'negative': False}, (CARRIED | {'negative': True},),
                          large=CARRIED | NARROW | {'negative': False}),
}
