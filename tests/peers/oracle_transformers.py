"""Attention layers of transformers, by the code of their models; also which positions they read is said by its code."""

import importlib
import math

import torch
from transformers import masking_utils

from tests.peers.exchange import linear, load, projections, serve


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


def turned_by(module, name, config, query):
    """Cosines and sines of the positions of a query, by the model's own rotary embedding."""
    return getattr(module, f'{name}RotaryEmbedding')(config)(query, torch.arange(query.shape[1])[None])


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
    turned = turned_by(module, name, config, query)
    if not rotary:  # turned by nothing
        turned = torch.ones_like(turned[0]), torch.zeros_like(turned[1])
    context, weights = load(attention, weights)(query, position_embeddings=turned, attention_mask=mask)
    return {'context': context, 'weights': weights}


def latent(given, rotary, outputs):
    """DeepSeek-V3, whose queries are not compressed here."""
    query, module = given['query'], modeling('deepseek_v3')
    (D, N, _), (R, _, H) = given['params/query_projection/kernel'].shape, given['params/key_up'].shape
    turned = given['params/turned_projection/kernel'].shape[1]
    config = module.DeepseekV3Config(
        hidden_size=D, num_attention_heads=N, num_key_value_heads=N, q_lora_rank=None, kv_lora_rank=R,
        qk_nope_head_dim=H, qk_rope_head_dim=turned, v_head_dim=H, rope_interleave=False, attention_dropout=0.0,
        rope_parameters={'rope_type': 'default', 'rope_theta': rotary}, attn_implementation='eager')
    weights = {
        **linear(given, 'params/query_projection', 'q_proj'),
        'kv_a_proj_with_mqa.weight': torch.cat([given['params/down_projection/kernel'],
                                                given['params/turned_projection/kernel']], dim=1).T,
        'kv_a_layernorm.weight': given['params/latent_norm/scale'],
        'kv_b_proj.weight': torch.cat([given['params/key_up'], given['params/value_up']], dim=2).reshape(R, -1).T,
        **linear(given, 'params/output_projection', 'o_proj', inputs=2)}
    mask = masking_utils.create_causal_mask(config=config, inputs_embeds=query, attention_mask=given['query_real'],
                                            cache=None)
    found = load(module.DeepseekV3Attention(config, 0), weights)(
        query, position_embeddings=turned_by(module, 'DeepseekV3', config, query), attention_mask=mask)
    return dict(zip(outputs, found))


def differential(given, rotary, layer):
    """DiffLlama: a pair is head n and head n + N, each with one half of the values; its norm has no factors."""
    query, module = given['query'], modeling('diffllama')
    D, heads, H = given['params/query_projection/kernel'].shape
    config = module.DiffLlamaConfig(
        hidden_size=D, num_attention_heads=heads, num_key_value_heads=heads, head_dim=H, attention_dropout=0.0,
        rms_norm_eps=1e-6, rope_parameters={'rope_type': 'default', 'rope_theta': rotary}, attn_implementation='eager')
    order = [*range(0, heads, 2), *range(1, heads, 2)]
    ordered = given | {f'params/{name}_projection/kernel': given[f'params/{name}_projection/kernel'][:, order]
                       for name in ('query', 'key')}
    values = given['params/value_projection/kernel'].reshape(D, heads // 2, 2, H)
    ordered['params/value_projection/kernel'] = values.transpose(1, 2).reshape(D, heads, H)
    ordered['params/output_projection/kernel'] = (given['params/norm/scale'][:, None]
                                                  * given['params/output_projection/kernel'])
    weights = projections(ordered, 'q_proj', 'k_proj', 'v_proj', 'o_proj') | {
        f'lambda_{letter}{number}': given[f'params/{word}_factor_{number}']
        for letter, word in (('q', 'query'), ('k', 'key')) for number in (1, 2)}
    mask = masking_utils.create_causal_mask(config=config, inputs_embeds=query, attention_mask=given['query_real'],
                                            cache=None)
    attention = load(module.DiffLlamaAttention(config, layer), weights)
    return {'context': attention(query, position_embeddings=turned_by(module, 'DiffLlama', config, query),
                                 attention_mask=mask)[0]}


def gated_delta(given, chunk):
    """The rule of Qwen3-Next, position by position (chunk = 0) or chunk by chunk; queries are divided by sqrt(H)."""
    arrays = [given[name] for name in ('query', 'keys', 'values', 'log_decay', 'rate')]
    module = modeling('qwen3_next')
    if chunk:
        return {'reads': module.torch_chunk_gated_delta_rule(*arrays, chunk_size=chunk)[0]}
    return {'reads': module.torch_recurrent_gated_delta_rule(*arrays)[0]}


def fnet(given):
    module = modeling('fnet')
    return {'context': module.FNetBasicFourierTransform(module.FNetConfig(use_tpu_fourier_optimizations=False))(
        given['query'])[0]}


if __name__ == '__main__':
    serve({'encoder_decoder': encoder_decoder, 't5': t5, 't5_buckets': t5_buckets, 'decoder': decoder,
           'latent': latent, 'differential': differential, 'gated_delta': gated_delta, 'fnet': fnet})
