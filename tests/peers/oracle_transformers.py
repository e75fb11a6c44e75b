"""Attention layers of transformers, by the code of their models; also which positions they read is said by its code."""

import importlib
import math

import torch
from transformers import masking_utils

from tests.peers.exchange import load, projections, serve


def modeling(model):
    """The file with a model's layers."""
    return importlib.import_module(f'transformers.models.{model}.modeling_{model}')


def encoder_decoder(given, model, name):
    """BART and its like, which read another sequence, or their own in both directions."""
    query, module = given['query'], modeling(model)
    config = getattr(module, f'{name}Config')(attn_implementation='eager')
    attention = getattr(module, f'{name}Attention')(
        query.shape[-1], given['params/query_projection/kernel'].shape[1], config=config)
    load(attention, projections(given, 'q_proj', 'k_proj', 'v_proj', 'out_proj'))
    reads = 'source' in given
    mask = masking_utils.create_bidirectional_mask(
        config=config, inputs_embeds=query, attention_mask=given['source_real' if reads else 'query_real'],
        encoder_hidden_states=given['source'] if reads else None)
    context, weights = attention(query, key_value_states=given.get('source'), attention_mask=mask)
    return {'context': context, 'weights': weights}


def t5(given, causal, buckets, maximum_distance):
    query, module = given['query'], modeling('t5')
    _, N, H = given['params/query_projection/kernel'].shape
    config = module.T5Config(
        d_model=query.shape[-1], d_kv=H, num_heads=N, relative_attention_num_buckets=buckets, is_decoder=causal,
        relative_attention_max_distance=maximum_distance, dropout_rate=0.0, attn_implementation='eager')
    attention = module.T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    weights = projections(given, 'q', 'k', 'v', 'o', factor=1.0 / math.sqrt(H))  # its logits are not divided
    load(attention, weights | {'relative_attention_bias.weight': given['params/scheme/table'].T})
    make = masking_utils.create_causal_mask if causal else masking_utils.create_bidirectional_mask
    mask = make(config=config, inputs_embeds=query, attention_mask=given['query_real'],
                **({'cache': None} if causal else {}))
    context, _, weights = attention(query, mask=mask)
    return {'context': context, 'weights': weights}


def t5_buckets(given, causal, buckets, maximum_distance):
    found = modeling('t5').T5Attention._relative_position_bucket(
        given['distance'].long(), not causal, buckets, maximum_distance)
    return {'buckets': found}


def decoder(given, model, name, rotary, window=0, key_norm=False, **more):
    """Llama and its like: rotary positions, groups of queries, causal."""
    query, module = given['query'], modeling(model)
    (_, N, H), K = given['params/query_projection/kernel'].shape, given['params/key_projection/kernel'].shape[1]
    if window:
        more |= {'sliding_window': window, 'layer_types': ['sliding_attention']}
    elif model in ('gpt_oss', 'gemma2'):
        more |= {'layer_types': ['full_attention']}
    config = getattr(module, f'{name}Config')(
        hidden_size=query.shape[-1], num_hidden_layers=1, num_attention_heads=N, num_key_value_heads=K, head_dim=H,
        attention_bias='params/query_projection/bias' in given, attention_dropout=0.0, attn_implementation='eager',
        rope_parameters={'rope_type': 'default', 'rope_theta': rotary or 1.0}, **more)
    attention = getattr(module, f'{name}Attention')(config, 0)
    weights = projections(given, 'q_proj', 'k_proj', 'v_proj', 'o_proj')
    if 'params/normalise/sink' in given:
        weights['sinks'] = given['params/normalise/sink']
    if key_norm:
        weights |= {f'{letter}_norm.weight': given[f'params/{word}_norm/scale']
                    for letter, word in (('q', 'query'), ('k', 'key'))}
    make = masking_utils.create_sliding_window_causal_mask if window else masking_utils.create_causal_mask
    mask = make(config=config, inputs_embeds=query, attention_mask=given['query_real'], cache=None)
    turned = getattr(module, f'{name}RotaryEmbedding')(config)(query, torch.arange(query.shape[1])[None])
    if not rotary:  # turned by nothing
        turned = torch.ones_like(turned[0]), torch.zeros_like(turned[1])
    context, weights = load(attention, weights)(query, position_embeddings=turned, attention_mask=mask)
    return {'context': context, 'weights': weights}


def fnet(given):
    module = modeling('fnet')
    return {'context': module.FNetBasicFourierTransform(module.FNetConfig(use_tpu_fourier_optimizations=False))(
        given['query'])[0]}


if __name__ == '__main__':
    serve({'encoder_decoder': encoder_decoder, 't5': t5, 't5_buckets': t5_buckets, 'decoder': decoder, 'fnet': fnet})
