"""A Transformer as a CTranslate2 model, which runs in float32 or smaller types on CPUs and GPUs.

Only what it can represent is exported: encoder and decoder Transformers, multi_head_dot without options inside and
between them. Its files are its own; it reads sentences of tokens, strings that `tokens` gives for ids, without the end
symbol, which it adds to the source itself.

It searches like `decoding.beam` with length penalty 'power', for the best hypothesis, where translate_batch is told

    beam_size = W, length_penalty = alpha
    return_end_token = True             the end symbol counts in the length
    patience                            it stops when round(W patience) hypotheses have ended, `beam` when none can be
                                        better any more: with the default, 1, it may stop before that
    min_decoding_length = 0             or no output is without a symbol, and the others get the probability of that one
    max_decoding_length = the limit     one for all sentences; what has not ended there is ranked with what has
    max_input_length = 0                long sources are not cut
    suppress_sequences = [['<pad>'], ['<s>']]    where a model gives these a probability worth speaking of

Both keep the best W of 2 W candidates, and what ends must be among the first W of them. Its `scores` are divided by
length^alpha. With alpha = 0 it stops when the best candidate has ended, which is exact.
"""

import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from research.attention.masks import Everything
from research.attention.multi_head import MultiHeadDot
from research.attention.positions import sinusoidal
from research.errors import UserError
from research.interop.portable import new_folder
from research.layers.feed_forward import GATED
from research.models.encoder_decoder import SequenceToSequence
from research.models.transformer import TransformerDecoder, TransformerEncoder
from research.text.vocabulary import SPECIAL, Vocabulary

SPELLINGS = ('<pad>', '<s>', '</s>', '<unk>')
ACTIVATIONS = {'relu': 'RELU', 'gelu': 'GELU', 'gelu_tanh': 'GELUTanh', 'swish': 'SWISH'}


def export(model: Any, params: Any, source: Vocabulary, target: Vocabulary, folder: str | os.PathLike,
           positions: int = 1024) -> None:
    """Writes a model into a new folder, which is there as a whole or not at all.

    Args:
      model: a SequenceToSequence of two Transformers.
      params: its parameters.
      source, target: the vocabularies that it was made for.
      folder: is made; it must not exist, or be empty.
      positions: how many have a vector where they are sinusoidal or none; CTranslate2 refuses longer sequences.

    Raises:
      UserError: CTranslate2 is not installed, or it cannot represent the model: what it is that it cannot is named.
    """
    try:
        from ctranslate2.specs import common_spec, transformer_spec
    except ImportError:
        raise UserError("CTranslate2 is not installed: pip install 'seq2lab[ctranslate2]'") from None
    check(model)
    encoder, decoder = model.encoder, model.decoder

    def options(part):
        heads = part.mixer(part is decoder, 0).heads
        return {'num_layers': part.layers, 'num_heads': heads, 'pre_norm': part.norm == 'pre',
                'activation': common_spec.Activation[ACTIVATIONS[GATED.get(part.activation, part.activation)]],
                'ffn_glu': part.activation in GATED}
    spec = transformer_spec.TransformerSpec(transformer_spec.TransformerEncoderSpec(**options(encoder)),
                                            transformer_spec.TransformerDecoderSpec(**options(decoder)))
    for side, part, name in ((spec.encoder, encoder, 'encoder'), (spec.decoder, decoder, 'decoder')):
        _side(side, part, params[name], positions)
    shared = params.get('embedding')
    tables = [_array((shared or params[name]['entrance']['embedding'])['table']) for name in ('encoder', 'decoder')]
    spec.encoder.embeddings[0].weight, spec.decoder.embeddings.weight = tables
    softmax = params['decoder'].get('softmax')
    spec.decoder.projection.weight = tables[1] if softmax is None else np.ascontiguousarray(_array(softmax['kernel']).T)
    if decoder.softmax_bias:
        spec.decoder.projection.bias = _array(params['decoder']['scores_bias'])
    sources, targets = tokens(source, target)
    spec.register_source_vocabulary(sources)
    spec.register_target_vocabulary(targets)
    said = spec.config
    said.layer_norm_epsilon, said.add_source_eos = encoder.epsilon, True
    _, said.bos_token, said.eos_token, said.unk_token = sources[:SPECIAL]
    said.decoder_start_token = said.bos_token
    spec.validate()
    spec.optimize()
    with new_folder(folder) as writing:
        spec.save(str(writing))


def tokens(source: Vocabulary, target: Vocabulary) -> tuple[list[str], list[str]]:
    """What each id of the source and of the target is called in an exported model: strings, each of them once.

    A symbol of a text has its own spelling, or one with a number behind it where another symbol has that; the special
    symbols are those of SPELLINGS, in more angle brackets where a text has such a symbol.
    """
    texts = [[vocabulary.symbol(number) for number in range(SPECIAL, len(vocabulary))]
             for vocabulary in (source, target)]
    special = []
    for name in SPELLINGS:
        while any(name in symbols for symbols in texts):
            name = f'<{name}>'
        special.append(name)
    return tuple([*special, *_unique(symbols)] for symbols in texts)


def _unique(symbols):
    taken, found = set(symbols), set()
    for number, symbol in enumerate(symbols, SPECIAL):
        if symbol in found:
            while symbol in taken:
                symbol = f'{symbol}#{number}'
            taken.add(symbol)
        found.add(symbol)
        yield symbol


def check(model: Any) -> None:
    """Raises UserError, naming it, for the first thing that CTranslate2 cannot represent."""
    if not isinstance(model, SequenceToSequence):
        raise UserError('export to CTranslate2: only encoders with decoders can be exported, not a model without a '
                        'source')
    for name, part, kind in (('encoder', model.encoder, TransformerEncoder),
                             ('decoder', model.decoder, TransformerDecoder)):
        if not isinstance(part, kind):
            _refuse(f'{name}.kind', type(part).__name__, 'a Transformer')
        for layer in range(part.layers):
            _check_attention(f'{name}.mixer', part.mixer(name == 'decoder', layer), part)
    encoder, decoder = model.encoder, model.decoder
    if model.reads != 'source':
        _refuse('decoder.reader', f'one of {model.reads}', 'multi_head_dot')
    for layer in range(decoder.layers):
        _check_attention('decoder.reader', decoder.reader(layer), decoder)
    for key, ours, theirs in (('features', encoder.features, decoder.features),
                              ('epsilon', encoder.epsilon, decoder.epsilon)):
        if ours != theirs:
            _refuse(f'encoder.{key}', ours, f'decoder.{key}, {theirs}')
    mixing, reading = decoder.mixer(True, 0).heads, decoder.reader(0).heads
    if mixing != reading:
        _refuse('decoder.reader.heads', reading, f'decoder.mixer.heads, {mixing}')


def _check_attention(name, attention, part):
    if type(attention) is not MultiHeadDot:
        _refuse(name, type(attention).__name__, 'multi_head_dot (and no short convolution before it)')
    wanted = {'key_value_heads': (0, attention.heads), 'head_width': (0, part.features // attention.heads),
              'normaliser': ('softmax',), 'query_key_norm': ('none',), 'softcap': (0.0,), 'gate': ('none',)}
    for option, values in wanted.items():
        if getattr(attention, option) not in values:
            _refuse(f'{name}.{option}', repr(getattr(attention, option)), ' or '.join(map(repr, values)))
    if part.features % attention.heads:
        _refuse(f'{name}.heads', attention.heads, f'a divisor of features, {part.features}')
    if attention.position.name != 'none':
        _refuse(f'{name}.position.name', repr(attention.position.name), "'none'")
    if not isinstance(attention.reach, Everything):
        _refuse(f'{name}.reach.name', repr(type(attention.reach).__name__), "'everything'")


def _refuse(what, value, wanted):
    raise UserError(f'export to CTranslate2: {what} is {value}; it must be {wanted}')


def _side(spec, part, params, positions):
    """All but the tables of symbols."""
    spec.scale_embeddings = part.scale_embeddings
    spec.position_encodings.encodings = _positions(part, params, positions)
    if part.norm == 'pre':
        _norm(spec.layer_norm, params['last_norm'])
    for number, block in enumerate(spec.layer):
        layer = params[f'stack_{number}']
        _norm(block.self_attention.layer_norm, layer['mixing_residual']['layer_norm'])
        _linear(block.self_attention.linear[0], *_heads(layer['mixing'], 'query', 'key', 'value'))
        _linear(block.self_attention.linear[1], *_output(layer['mixing']))
        if 'reading' in layer:
            _norm(block.attention.layer_norm, layer['reading_residual']['layer_norm'])
            _linear(block.attention.linear[0], *_heads(layer['reading'], 'query'))
            _linear(block.attention.linear[1], *_heads(layer['reading'], 'key', 'value'))
            _linear(block.attention.linear[2], *_output(layer['reading']))
        _norm(block.ffn.layer_norm, layer['network_residual']['layer_norm'])
        network = {name: (_array(dense['kernel']), _array(dense['bias'])) for name, dense in layer['network'].items()}
        _linear(block.ffn.linear_0, *network['inner'])
        _linear(block.ffn.linear_1, *network['outer'])
        if 'gate' in network:
            _linear(block.ffn.linear_0_noact, *network['gate'])


def _positions(part, params, positions):
    """What is added to the embeddings, [P, D]."""
    if part.position == 'learned':
        return _array(params['entrance']['positions'])
    if part.position == 'none':
        return np.zeros((positions, part.features), np.float32)
    concatenated = part.position == 'sinusoidal_concatenated'
    return np.asarray(sinusoidal(jnp.arange(positions)[None], part.features, concatenated))[0]


def _heads(params, *words):
    """The kernels of some projections to all heads side by side, [D, N H] each, and their biases."""
    found = [params[f'{word}_projection'] for word in words]
    kernels = [_array(one['kernel']).reshape(len(one['kernel']), -1) for one in found]
    bias = np.concatenate([_array(one['bias']).ravel() for one in found]) if 'bias' in found[0] else None
    return np.concatenate(kernels, axis=1), bias


def _output(params):
    found = params['output_projection']
    kernel = _array(found['kernel'])
    return kernel.reshape(-1, kernel.shape[-1]), _array(found['bias']) if 'bias' in found else None


def _linear(spec, kernel, bias):
    spec.weight = np.ascontiguousarray(kernel.T)
    spec.bias = np.zeros(kernel.shape[1], np.float32) if bias is None else bias


def _norm(spec, params):
    spec.gamma, spec.beta = _array(params['scale']), _array(params['bias'])


def _array(leaf):
    return np.asarray(leaf, np.float32)
