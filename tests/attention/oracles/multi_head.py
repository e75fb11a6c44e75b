"""Oracles of what has several heads."""

import math

import numpy as np

from research.attention.normalisers import NORMALISERS
from tests.attention.oracles.contract import Oracle, may_read, read


def project(params, array, name, n, bias=False):
    return array @ params[name]['kernel'][:, n] + (params[name]['bias'][n] if bias else 0.0)


def rotated(vectors, places, base):
    """Each pair (i, i + H/2) as a complex number, times e^(i angle)."""
    half = vectors.shape[-1] // 2
    turned = np.zeros_like(vectors)
    for b, t in np.ndindex(places.position.shape):
        for i in range(half):
            number = complex(vectors[b, t, i], vectors[b, t, i + half])
            number *= np.exp(1j * places.position[b, t] * base**(-2 * i / vectors.shape[-1]))
            turned[b, t, i], turned[b, t, i + half] = number.real, number.imag
    return turned


def slope(n, heads):
    """ALiBi's m of head n, counted from 1."""
    power = 2**math.floor(math.log2(heads))
    return 2.0**(-8.0 * n / power) if n <= power else 2.0**(-8.0 * (2 * (n - power) - 1) / (2 * power))


def bucket(distance, buckets, maximum, causal):
    """T5's bucket of s - t."""
    count, after = (buckets, 0) if causal else (buckets // 2, buckets // 2 * (distance > 0))
    far, exact = max(-distance, 0) if causal else abs(distance), count // 2
    if far < exact:
        return after + far
    grown = exact + math.floor(math.log(far / exact) / math.log(maximum / exact) * (count - exact) + 1e-9)
    return after + min(grown, count - 1)


def added(scheme, params, n, heads, query, position, distance, causal):
    """What a scheme adds to one logit of the query at that position."""
    if scheme['name'] == 'alibi':
        return -slope(n + 1, heads) * abs(distance)
    if scheme['name'] == 't5_bias':
        return params['table'][n, bucket(distance, scheme['buckets'], scheme['maximum_distance'], causal)]
    if scheme['name'] == 'shaw':
        C = scheme['distance']
        return query @ params['key_table'][int(np.clip(distance, -C, C)) + C] / np.sqrt(len(query))
    if scheme['name'] == 'kerple_log':
        return -max(params['power'][n], 0.01) * np.log(1.0 + max(params['factor'][n], 0.01) * abs(distance))
    if scheme['name'] == 'kerple_power':
        return -max(params['factor'][n], 0.01) * abs(distance)**float(np.clip(params['power'][n], 0.01, 2.0))
    if scheme['name'] == 'fire':
        longest = max(position, abs(scheme['threshold'] * params['factor']))
        share = np.log(abs(params['curvature'] * distance) + 1.0)
        share = share / (np.log(abs(params['curvature'] * longest) + 1.0) + 1e-6)
        hidden = np.maximum(params['inner_kernel'][0] * share + params['inner_bias'], 0.0)
        return hidden @ params['outer_kernel'][:, n] + params['outer_bias'][n]
    return 0.0


def drawn(reach, t, s):
    """Big Bird's random blocks: the last steps of xxh32 over the two block numbers."""
    number = (reach['seed'] * 2654435761 + t // reach['block'] * 2246822519 + s // reach['block'] * 3266489917) % 2**32
    for shift, factor in ((15, 2246822519), (13, 3266489917)):
        number = (number ^ (number >> shift)) * factor % 2**32
    return (number ^ (number >> 16)) < round(reach['share'] * (2**32 - 1))


def within(reach, t, s):
    """Whether position t may read position s."""
    near = reach['name'] == 'everything' or abs(s - t) < reach['width']
    if reach['name'] == 'strided':
        return near or (s - t) % reach['stride'] == 0
    if reach['name'] in ('global_window', 'big_bird'):
        near = near or s < reach['leaders'] or t < reach['leaders']
        return near or (reach['name'] == 'big_bird' and drawn(reach, t, s))
    return near


def normed(vectors, how, params):
    if how == 'rms':
        return vectors / np.sqrt((vectors**2).mean(axis=-1, keepdims=True) + 1e-6) * params['scale']
    if how == 'layer':
        centred = vectors - vectors.mean(axis=-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6) * params['scale']
    if how == 'unit':
        return vectors / np.sqrt((vectors**2).sum(axis=-1, keepdims=True) + 1e-6)
    return vectors


def queries_and_keys(params, query, source, query_places, source_places, n, options):
    """Of head n, [B, T, H] and [B, S, H], normed and turned; and the scale of their products."""
    N, K = options['heads'], options['key_value_heads'] or options['heads']
    how, bias = options['query_key_norm'], options['projection_bias']
    q = normed(project(params, query, 'query_projection', n, bias), how, params.get('query_norm'))
    k = normed(project(params, source, 'key_projection', n // (N // K), bias), how, params.get('key_norm'))
    if options['position']['name'] == 'rotary':
        base = options['position']['base']
        q, k = rotated(q, query_places, base), rotated(k, source_places, base)
    return q, k, params['scale'] if how == 'unit' else q.shape[-1]**-0.5


def logits_of(params, query, source, query_places, source_places, n, causal, options):
    """[B, T, S] of head n."""
    q, k, scale = queries_and_keys(params, query, source, query_places, source_places, n, options)
    logits = scale * q @ np.swapaxes(k, 1, 2)
    if options['position']['name'] not in ('none', 'rotary'):
        for b, t, s in np.ndindex(logits.shape):
            distance = int(source_places.position[b, s]) - int(query_places.position[b, t])
            logits[b, t, s] += added(options['position'], params.get('scheme'), n, options['heads'], q[b, t],
                                     int(query_places.position[b, t]), distance, causal)
    return options['softcap'] * np.tanh(logits / options['softcap']) if options['softcap'] else logits


def allowed_by(reach, query_places, source_places):
    return lambda b, t, s: within(reach, int(query_places.position[b, t]), int(source_places.position[b, s]))


def multi_head_dot(params, query, source, query_places, source_places, role, causal, options):
    N, K = options['heads'], options['key_value_heads'] or options['heads']
    context, weights = 0.0, []
    for n in range(N):
        logits = logits_of(params, query, source, query_places, source_places, n, causal, options)
        v = project(params, source, 'value_projection', n // (N // K), options['projection_bias'])
        sink = params['normalise']['sink'][n] if options['normaliser'] == 'learned_sink' else 0.0
        one, alignment = read(logits, v, query_places, source_places, causal, options['normaliser'], sink,
                              allowed_by(options['reach'], query_places, source_places))
        if options['position']['name'] == 'shaw':
            C = options['position']['distance']
            for b, t, s in np.ndindex(logits.shape):
                distance = int(source_places.position[b, s]) - int(query_places.position[b, t])
                one[b, t] += alignment[b, t, s] * params['scheme']['value_table'][int(np.clip(distance, -C, C)) + C]
        if options['gate'] != 'none':
            one = one / (1.0 + np.exp(-project(params, query, 'gate_projection', n, options['projection_bias'])))
        context = context + one @ params['output_projection']['kernel'][n]
        weights.append(alignment)
    if options['projection_bias']:
        context = context + params['output_projection']['bias']
    return context, np.stack(weights, 1)



def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def sink_of(params, options, n):
    return params['normalise']['sink'][n] if options['normaliser'] == 'learned_sink' else 0.0


NEUTRAL = {'key_value_heads': 0, 'query_key_norm': 'none', 'softcap': 0.0, 'projection_bias': False,
           'position': {'name': 'none'}, 'reach': {'name': 'everything'}}


def all_logits(params, query, source, query_places, source_places, causal, options, heads):
    return np.stack([logits_of(params, query, source, query_places, source_places, n, causal,
                               NEUTRAL | dict(options) | {'heads': heads}) for n in range(heads)], axis=1)


def out(params, reads):
    """Heads [B, T, H] each, joined and projected."""
    return sum(one @ params['output_projection']['kernel'][n] for n, one in enumerate(reads))


def talking_heads(params, query, source, query_places, source_places, role, causal, options):
    N, bias = options['heads'], options['projection_bias']
    logits = all_logits(params, query, source, query_places, source_places, causal, options, N)
    said = np.einsum('mn,bnts->bmts', params['before'], logits)
    allowed = allowed_by(options['reach'], query_places, source_places)
    between = np.stack([read(said[:, n], source, query_places, source_places, causal, options['normaliser'],
                             sink_of(params, options, n), allowed)[1] for n in range(N)], axis=1)
    weights = np.einsum('mn,bnts->bmts', params['after'], between)
    reads = [weights[:, n] @ project(params, source, 'value_projection', n, bias) for n in range(N)]
    return out(params, reads) + (params['output_projection']['bias'] if bias else 0.0), weights


def differential(params, query, source, query_places, source_places, role, causal, options):
    N, bias = options['heads'], options['projection_bias']
    logits = all_logits(params, query, source, query_places, source_places, causal, options, 2 * N)
    allowed = allowed_by(options['reach'], query_places, source_places)
    each = [read(logits[:, n], source, query_places, source_places, causal, options['normaliser'],
                 sink_of(params, options, n), allowed)[1] for n in range(2 * N)]
    first = 0.8 - 0.6 * np.exp(-0.3 * options.get('layer', 0))
    share = (np.exp(params['query_factor_1'] @ params['key_factor_1'])
             - np.exp(params['query_factor_2'] @ params['key_factor_2']) + first)
    weights, reads = [], []
    for n in range(N):
        weights.append(each[2 * n] - share * each[2 * n + 1])
        one = weights[-1] @ project(params, source, 'value_projection', n, bias)
        if options['head_norm']:
            one = (1.0 - first) * one / np.sqrt((one**2).mean(axis=-1, keepdims=True) + 1e-6) * params['norm']['scale']
        reads.append(one)
    return out(params, reads) + (params['output_projection']['bias'] if bias else 0.0), np.stack(weights, axis=1)


def with_bias(params, query, source, query_places, source_places, options, bias):
    """Causal attention with something added to the logits: bias [B, N, T, S]."""
    N = options['heads']
    logits = bias + all_logits(params, query, source, query_places, source_places, True, options, N)
    reads, weights = [], []
    for n in range(N):
        one, alignment = read(logits[:, n], project(params, source, 'value_projection', n), query_places, source_places,
                              True, options['normaliser'], sink_of(params, options, n))
        reads.append(one)
        weights.append(alignment)
    return out(params, reads), np.stack(weights, axis=1)


def forgetting(params, query, source, query_places, source_places, role, causal, options):
    N, (B, T) = options['heads'], query.shape[:2]
    gates = sigmoid(source @ params['gate_projection']['kernel'] + params['gate_projection']['bias'])
    bias = np.zeros((B, N, T, T))
    for b, n, t, s in np.ndindex(bias.shape):
        if s <= t and source_places.segment[b, s] == source_places.segment[b, t]:
            bias[b, n, t, s] = np.log(gates[b, s + 1:t + 1, n]).sum()
    return with_bias(params, query, source, query_places, source_places, options, bias)


def selective(params, query, source, query_places, source_places, role, causal, options):
    N, (B, T) = options['heads'], query.shape[:2]
    first = all_logits(params, query, source, query_places, source_places, True, options, N)[:, 0]
    masked = np.zeros((B, N, T, T))
    for b in range(B):
        for t in range(T):
            for earlier in range(t):
                for s in may_read(query_places, source_places, b, earlier, True):
                    own = query_places.position[b, earlier] == source_places.position[b, s]
                    if not own and source_places.position[b, s] != 0:
                        masked[b, :, t, s] += max(first[b, earlier, s], 0.0)
    return with_bias(params, query, source, query_places, source_places, options, -masked)


def multi_head_latent(params, query, source, query_places, source_places, role, causal, options):
    H, turn = params['key_up'].shape[2], options['rotary_width']
    down = source @ params['down_projection']['kernel']
    z = down / np.sqrt((down**2).mean(axis=-1, keepdims=True) + 1e-6) * params['latent_norm']['scale']
    reads, weights = [], []
    for n in range(options['heads']):
        q = query @ params['query_projection']['kernel'][:, n]
        logits = q[..., :H] @ np.swapaxes(z @ params['key_up'][:, n], 1, 2)
        if turn:
            k = rotated(source @ params['turned_projection']['kernel'], source_places, options['base'])
            logits = logits + rotated(q[..., H:], query_places, options['base']) @ np.swapaxes(k, 1, 2)
        one, alignment = read(logits / np.sqrt(H + turn), z @ params['value_up'][:, n], query_places, source_places,
                              causal, options['normaliser'], sink_of(params, options, n))
        reads.append(one)
        weights.append(alignment)
    return out(params, reads), np.stack(weights, axis=1)


def synthesizer(params, query, source, query_places, source_places, role, causal, options):
    """Dense where there is a query projection, else random."""
    reads, weights = [], []
    for n in range(options['heads']):
        logits = np.zeros((*query.shape[:2], source.shape[1]))
        for b, t, s in np.ndindex(logits.shape):
            at, there = query_places.position[b, t], source_places.position[b, s]
            if 'query_projection' in params:
                hidden = np.maximum(query[b, t] @ params['query_projection']['kernel'][:, n], 0.0)
                logits[b, t, s] = hidden @ params['table'][n][:, there]
            else:
                logits[b, t, s] = params['table'][n][at, there]
        one, alignment = read(logits, project(params, source, 'value_projection', n), query_places, source_places,
                              causal, options['normaliser'], sink_of(params, options, n))
        reads.append(one)
        weights.append(alignment)
    return out(params, reads), np.stack(weights, axis=1)


def fourier(params, query, source, query_places, source_places, role, causal, options):
    context = np.zeros((*query.shape[:2], source.shape[-1]))
    for b in range(len(query)):
        for segment in set(source_places.segment[b]) - {0}:
            here = np.flatnonzero(source_places.segment[b] == segment)
            context[b, here] = np.fft.fft2(source[b, here]).real
    return context, None


PLAIN = {'heads': 2, 'key_value_heads': 0, 'head_width': 3, 'projection_bias': False, 'position': {'name': 'none'},
         'reach': {'name': 'everything'}, 'normaliser': 'softmax', 'query_key_norm': 'none', 'softcap': 0.0,
         'gate': 'none'}
LARGE = PLAIN | {'head_width': 128}
SCHEMES = ({'name': 'rotary', 'base': 100.0}, {'name': 'alibi'},
           {'name': 't5_bias', 'buckets': 6, 'maximum_distance': 5}, {'name': 'shaw', 'distance': 2},
           {'name': 'kerple_log'}, {'name': 'kerple_power'}, {'name': 'fire', 'hidden': 5, 'threshold': 3.0})
WIDE = {'head_width': 128}
PAIRED = {'heads': 2, 'head_width': 3, 'projection_bias': False, 'position': {'name': 'none'},
          'reach': {'name': 'everything'}, 'normaliser': 'softmax'}
SMALL = {'heads': 2, 'head_width': 3, 'projection_bias': False, 'normaliser': 'softmax'}
LATENT = {'heads': 2, 'head_width': 3, 'rank': 5, 'rotary_width': 0, 'base': 10.0, 'normaliser': 'softmax'}
TABLE = {'heads': 2, 'head_width': 3, 'maximum_length': 17, 'normaliser': 'softmax'}


def oracle(others=(), **changes):
    return Oracle(multi_head_dot, PLAIN | changes, tuple(PLAIN | changes | other for other in others),
                  large=LARGE | changes)


ORACLES = {
    'multi_head_dot': Oracle(
        multi_head_dot, PLAIN,
        (PLAIN | {'projection_bias': True}, PLAIN | {'heads': 1, 'head_width': 0},
         *(PLAIN | {'normaliser': name} for name in NORMALISERS if name != 'softmax')), large=LARGE,
        in_self_role=(
            *(PLAIN | {'head_width': 2, 'heads': 3, 'position': scheme} for scheme in SCHEMES),
            PLAIN | {'heads': 6, 'key_value_heads': 3, 'head_width': 2, 'position': {'name': 'rotary', 'base': 10.0},
                     'reach': {'name': 'window', 'width': 3}, 'normaliser': 'learned_sink', 'query_key_norm': 'rms',
                     'softcap': 2.0, 'gate': 'head'},)),
    'multi_query': oracle(key_value_heads=1, heads=3),
    'grouped_query': oracle(key_value_heads=2, heads=6),
    'sliding_window': oracle(reach={'name': 'window', 'width': 3}),
    'strided': oracle(reach={'name': 'strided', 'width': 2, 'stride': 3}),
    'global_window': oracle(reach={'name': 'global_window', 'width': 2, 'leaders': 1}),
    'big_bird': oracle(reach={'name': 'big_bird', 'width': 2, 'leaders': 1, 'block': 2, 'share': 0.3, 'seed': 5}),
    'qk_norm': oracle(query_key_norm='rms', others=({'query_key_norm': 'layer'}, {'query_key_norm': 'unit'})),
    'softcap': oracle(softcap=1.5),
    'learned_sink': oracle(normaliser='learned_sink'),
    'softmax_one': oracle(normaliser='softmax_one'),
    'sigmoid': oracle(normaliser='sigmoid'),
    'sparsemax': oracle(normaliser='sparsemax'),
    'entmax': oracle(normaliser='entmax'),
    'gated': oracle(gate='element', others=({'gate': 'head'},)),
    'talking_heads': Oracle(
        talking_heads, PAIRED, (PAIRED | {'projection_bias': True, 'normaliser': 'entmax'},), large=PAIRED | WIDE,
        in_self_role=(PAIRED | {'head_width': 2, 'position': {'name': 'rotary', 'base': 10.0},
                                'reach': {'name': 'window', 'width': 3}},)),
    'differential': Oracle(
        differential, PAIRED | {'head_norm': True},
        (PAIRED | {'head_norm': False, 'projection_bias': True, 'normaliser': 'learned_sink'},),
        large=PAIRED | WIDE | {'head_norm': True},
        in_self_role=(PAIRED | {'head_width': 2, 'head_norm': True, 'position': {'name': 'alibi'}},)),
    'forgetting': Oracle(forgetting, SMALL, (SMALL | {'normaliser': 'softmax_one'},), large=SMALL | WIDE),
    'selective': Oracle(selective, SMALL, (SMALL | {'normaliser': 'sparsemax'},), large=SMALL | WIDE),
    'multi_head_latent': Oracle(
        multi_head_latent, LATENT, large=LATENT | WIDE | {'rank': 61},
        in_self_role=(LATENT | {'rotary_width': 2, 'normaliser': 'learned_sink'},)),
    'synthesizer_dense': Oracle(synthesizer, TABLE, (TABLE | {'normaliser': 'sigmoid'},),
                                large=TABLE | WIDE | {'maximum_length': 61}),
    'synthesizer_random': Oracle(synthesizer, TABLE, (TABLE | {'normaliser': 'learned_sink'},),
                                 large=TABLE | WIDE | {'maximum_length': 67}),
    'fourier': Oracle(fourier, {}),
}
