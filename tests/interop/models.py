"""Transformers made without a config, and small ones with random numbers in them."""

import functools

import numpy as np

from research.attention import registry as attention
from research.layers.embedding import Embedding
from research.models.encoder_decoder import SequenceToSequence
from research.models.transformer import TransformerDecoder, TransformerEncoder

HEADS = {'name': 'multi_head_dot', 'heads': 2, 'key_value_heads': 0, 'head_width': 0, 'projection_bias': False,
         'position': {'name': 'none'}, 'reach': {'name': 'everything'}, 'normaliser': 'softmax',
         'query_key_norm': 'none', 'softcap': 0.0, 'gate': 'none'}
SIDE = {'layers': 2, 'features': 8, 'hidden': 12, 'mixer': HEADS, 'norm': 'pre', 'position': 'sinusoidal',
        'maximum_length': 16, 'short_convolution': 0, 'dropout': 0.0}
ENCODER, DECODER = SIDE | {'summary': 'mean'}, SIDE | {'reader': HEADS, 'tie_embeddings': False}


def transformer(encoder, decoder, source, target, shares=False):
    """The model of the sections of a config, for vocabularies of the given sizes."""
    shared = Embedding(source, encoder['features'], scaled=encoder.get('scale_embeddings', True)) if shares else None

    def options(section):
        known = ('scale_embeddings', 'activation', 'epsilon', 'softmax_bias')
        return {'shared': shared} | {key: section[key] for key in known if key in section}

    def common(section):
        mixer = functools.partial(_make, section, section['mixer'])
        return {'features': section['features'], 'hidden': section['hidden'], 'layers': section['layers'],
                'mixer': mixer, 'norm': section['norm'], 'position': section['position'],
                'maximum_length': section['maximum_length'], 'dropout': section['dropout'], **options(section)}
    return SequenceToSequence(
        TransformerEncoder(source, summarise=encoder['summary'], **common(encoder)),
        TransformerDecoder(target, reader=functools.partial(_read, decoder), reads='source',
                           tie_embeddings=decoder['tie_embeddings'], **common(decoder)), embedding=shared)


def _make(section, options, causal, layer):
    return attention.make(features=section['features'], role='self', causal=causal, layer=layer,
                          short_convolution=section['short_convolution'], **options)


def _read(section, layer):
    return attention.make(features=section['features'], role='cross', layer=layer, **section['reader'])


def values(shapes, seed):
    """Random numbers for parameters of these shapes: nested dicts of float32, large enough that outputs differ."""
    random = np.random.default_rng(seed)
    return _fill(shapes, random)


def _fill(node, random, name=''):
    if hasattr(node, 'items'):
        return {key: _fill(child, random, key) for key, child in node.items()}
    mean = 1.0 if name == 'scale' else 0.0
    return random.normal(mean, 0.4, node.shape).astype(np.float32)
