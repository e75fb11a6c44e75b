"""Every model once more in float64 NumPy, written from the formulas: one position after another, nothing hoisted.

What attentions and cells compute is taken from their own oracles; here stands what a model makes of them. `config` is
the model's config, `params` its parameters as nested dicts of float64 arrays.
"""

import math

import numpy as np

from research.attention.registry import VARIANTS
from research.shapes import Places
from tests.attention import oracles as attention
from tests.attention.oracles import both_ways, convolved
from tests.cells import oracles as cells


def decode(config, params, batch):
    """The hidden vectors [B, T, D], the scores [B, T, V] and the weights [B, N, T, S] or None of a model."""
    if config.decoder.kind == 'sequence':
        hidden = layers(config.decoder, params, batch.inputs, batch.target_places, config.decoder.causal)
        return hidden, hidden @ scoring_table(config.decoder, params), None
    encode = {'recurrent': recurrent_encoder, 'transformer': transformer_encoder}[config.encoder.kind]
    write = {'recurrent': recurrent_decoder, 'transformer': transformer_decoder}[config.decoder.kind]
    annotations, summary, finals = encode(config.encoder, params['encoder'], batch.source, batch.source_places)
    source, places = annotations, batch.source_places
    if VARIANTS[config.decoder.reader.name].reads == 'summary':
        segment = places.segment.max(axis=1, keepdims=True)
        source, places = summary[:, None], Places(segment, 0 * segment)
    hidden, weights = write(config.decoder, params['decoder'], batch.inputs, batch.target_places, source, places,
                            summary, finals)
    scores = hidden @ scoring_table(config.decoder, params['decoder'])
    return hidden, scores + params['decoder'].get('scores_bias', 0), weights


def scoring_table(part, params):
    """What the hidden vectors are multiplied by, [D, V]."""
    if part.tie_embeddings:
        return params.get('entrance', params)['embedding']['table'].T
    return params['softmax']['kernel']


def embed(params, tokens, scaled=True):
    table = params['embedding']['table']
    return table[tokens] * (np.sqrt(table.shape[1]) if scaled else 1)


def read(part, params, query, source, query_places, source_places, role='cross', causal=False, layer=0):
    """What the part's reader (or mixer) says: its own oracle."""
    chosen = part.reader if role == 'cross' else part.mixer
    options = {key: value for key, value in chosen.items() if key not in ('name', 'path')}
    convolution = role == 'self' and part.short_convolution > 0
    if chosen.name == 'cell':
        function = convolved(cell_mixer) if convolution else cell_mixer
        function = function if causal else both_ways(function)
    else:
        function = attention.oracle_of(chosen.name, role, causal, convolution)
    return function(params, query, source, query_places, source_places, role, causal, options | {'layer': layer})


def cell_mixer(params, query, source, query_places, source_places, role, causal, options):
    """A cell in the place of a mixer, in the form of an attention's oracle: it reads one word after another."""
    context, start = np.zeros(source.shape), cells.ORACLES[options['cell']].start(source.shape[-1])
    for b, segment in enumerate(source_places.segment):
        words = np.flatnonzero(segment)  # of a flipped sequence the pads stand first
        outputs, _ = cells.over(options['cell'], params['mixing'], source[b:b + 1, words], [len(words)],
                                batch_of(start, 1))
        context[b, words] = outputs[0] @ params['output_projection']['kernel']
    return context, None


# ------------------------------------------------------------------------------------------------------------ recurrent

def recurrent_encoder(part, params, source, places):
    lengths, outputs, finals = (places.segment > 0).sum(axis=1), embed(params, source), []
    width = part.features // 2 if part.bidirectional else part.features
    start, final = batch_of(cells.ORACLES[part.cell].start(width), len(source)), cells.ORACLES[part.cell].final
    for layer in range(part.layers):
        forward, state = cells.over(part.cell, params[f'forwards_{layer}'], outputs, lengths, start,
                                    reverse=part.backward)
        if part.bidirectional:
            backward, other = cells.over(part.cell, params[f'backwards_{layer}'], outputs, lengths, start, reverse=True)
            forward = np.concatenate([forward, backward], axis=-1)
        outputs = forward
        states = [state, other] if part.bidirectional else [state]
        finals.append(np.stack([np.concatenate([final([array[b] for array in one]) for one in states])
                                for b in range(len(source))]))
    return outputs, finals[-1], finals


def batch_of(state, B):
    return [np.stack([array] * B) for array in state]


def recurrent_decoder(part, params, inputs, places, source, source_places, summary, finals):
    B, T = inputs.shape
    D, cell, none = part.features, cells.ORACLES[part.cell], VARIANTS[part.reader.name].reads == 'nothing'
    states = []  # of each layer, bottom to top: arrays [B, ...]
    for layer in range(part.layers):
        if part.start_state == 'zero':
            states.append(batch_of(cell.start(D), B))
        else:
            final = finals[max(0, len(finals) - part.layers + layer)]  # the tops stand side by side
            bridge = params[f'bridges_{layer}']
            rows = np.tanh(final @ bridge['kernel'] + bridge['bias'])
            started = [cell.start_from(params[f'cells_{layer}'], row) for row in rows]
            states.append([np.stack(arrays) for arrays in zip(*started, strict=True)])
    first = dict(params['cells_0'])  # the bottom cell reads [E y; what was read; what was fed] with one matrix
    if 'feedback' in params:
        projection = first['projection']
        first['projection'] = projection | {'kernel': np.concatenate([projection['kernel'],
                                                                       params['feedback']['kernel']])}

    def stepped(own, state, x):
        new = [cell.step(own, [array[b] for array in state], x[b]) for b in range(B)]
        return [np.stack(arrays) for arrays in zip(*new, strict=True)]
    embedded, fed = embed(params, inputs), np.zeros((B, D if part.input_feeding else 0))
    hiddens, alignments, asked = np.zeros((B, T, D)), [], []
    for t in range(T):
        at = Places(places.segment[:, :t + 1], places.position[:, :t + 1])

        def ask(query, at=at):
            if none:
                return np.zeros((B, 0)), None
            asked.append(query)  # a reader may look back at what it has read: it gets all queries so far
            context, weights = read(part, params.get('reading', {}), np.stack(asked, axis=1), source, at, source_places)
            return context[:, -1], None if weights is None else weights[:, :, -1:]
        if part.reads_with == 'previous':
            context, weights = ask(states[-1][0])
            below = np.concatenate([embedded[:, t], context, fed], axis=1)
        else:
            below = np.concatenate([embedded[:, t], fed], axis=1)
        for layer in range(part.layers):
            own = first if layer == 0 else params[f'cells_{layer}']
            states[layer] = stepped(own, states[layer], below)
            if layer == 0 and part.reads_with == 'between':
                context, weights = ask(states[0][0])
                states[0] = stepped(params['second'], states[0], context)
            below = states[layer][0]
        if part.reads_with == 'current':
            context, weights = ask(states[-1][0])
            joined = np.concatenate([states[-1][0], context], axis=1)
        else:
            joined = np.concatenate([states[-1][0], embedded[:, t], context], axis=1)
        hiddens[:, t] = np.tanh(joined @ params['readout']['kernel'])
        fed = hiddens[:, t] if part.input_feeding else fed
        alignments.append(weights)
    return hiddens, None if alignments[0] is None else np.concatenate(alignments, axis=2)


# ---------------------------------------------------------------------------------------------------------- transformer

# What each of the activations makes of a number; a gated one multiplies that with what a third matrix makes of x.
normal = np.vectorize(lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))))
ACTIVATIONS = {'relu': lambda x: np.maximum(x, 0), 'gelu': normal, 'swish': lambda x: x / (1 + np.exp(-x)),
               'gelu_tanh': lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))}
ACTIVATIONS |= {'reglu': ACTIVATIONS['relu'], 'geglu': ACTIVATIONS['gelu'], 'swiglu': ACTIVATIONS['swish']}


def transform(part, params, x):
    inner, outer = params['inner'], params['outer']
    hidden = ACTIVATIONS[part.get('activation', 'relu')](x @ inner['kernel'] + inner['bias'])
    if 'gate' in params:
        hidden = hidden * (x @ params['gate']['kernel'] + params['gate']['bias'])
    return hidden @ outer['kernel'] + outer['bias']


def normalise(part, params, x):
    centred, epsilon = x - x.mean(axis=-1, keepdims=True), part.get('epsilon', 1e-6)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon) * params['scale'] + params['bias']


def around(part, params, x, sublayer):
    """A residual connection around a sublayer, its norm inside (pre) or outside (post)."""
    if part.norm == 'pre':
        return x + sublayer(normalise(part, params['layer_norm'], x))
    return normalise(part, params['layer_norm'], x + sublayer(x))


def enter(part, params, tokens, places, begin):
    vectors = embed(params, tokens, part.get('scale_embeddings', True))
    for b, t in np.ndindex(tokens.shape):
        p = places.position[b, t]
        if begin is not None and p == 0:
            vectors[b, t] = begin[b]
        for d in range(part.features):
            if part.position == 'sinusoidal':
                angle = p / 10000.0 ** (2 * (d // 2) / part.features)
                vectors[b, t, d] += np.cos(angle) if d % 2 else np.sin(angle)
            elif part.position == 'sinusoidal_concatenated':
                half = part.features // 2
                angle = p / 10000.0 ** (2 * (d % half) / part.features)
                vectors[b, t, d] += np.sin(angle) if d < half else np.cos(angle)
            elif part.position == 'learned':
                vectors[b, t, d] += params['positions'][p, d]
    return vectors


def transformer_layer(part, params, x, places, causal, reading=None, layer=0):
    """Mix, read where there is a reader, transform; `reading` maps a query to (context, weights)."""
    weights = None
    x = around(part, params['mixing_residual'], x, lambda y: read(
        part, params.get('mixing', {}), y, y, places, places, 'self', causal, layer)[0])
    if reading is not None:
        def keep(y):
            nonlocal weights
            context, weights = reading(params.get('reading', {}), y)
            return context
        x = around(part, params['reading_residual'], x, keep)
    x = around(part, params['network_residual'], x, lambda y: transform(part, params['network'], y))
    return x, weights


def layers(part, params, tokens, places, causal):
    """The whole stack, where nothing else is read."""
    x = enter(part, params['entrance'], tokens, places, None)
    for layer in range(part.layers):
        x, _ = transformer_layer(part, params[f'stack_{layer}'], x, places, causal, layer=layer)
    return normalise(part, params['last_norm'], x) if part.norm == 'pre' else x


def transformer_encoder(part, params, source, places):
    x = layers(part, params, source, places, False)
    summary = np.zeros((len(source), part.features))
    for b, length in enumerate((places.segment > 0).sum(axis=1)):
        if length:
            summary[b] = {'mean': x[b, :length].mean(axis=0), 'first': x[b, 0], 'last': x[b, length - 1]}[part.summary]
    return x, summary, [summary]


def transformer_decoder(part, params, inputs, places, source, source_places, summary, finals):
    reads = VARIANTS[part.reader.name].reads
    begin = None if reads == 'source' else summary @ params['begin']['kernel']
    x, found = enter(part, params['entrance'], inputs, places, begin), []
    for layer in range(part.layers):
        reading = None if reads == 'nothing' else lambda own, query, layer=layer: read(
            part, own, query, source, places, source_places, layer=layer)
        x, weights = transformer_layer(part, params[f'stack_{layer}'], x, places, True, reading, layer)
        found.append(weights)
    if part.norm == 'pre':
        x = normalise(part, params['last_norm'], x)
    return x, None if found[0] is None else np.concatenate(found, axis=1)
