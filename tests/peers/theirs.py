"""What other implementations answer: `python theirs.py CASE INPUT.npz OUTPUT.npz`, with an interpreter that has them.

It knows nothing of this project. A case makes a module and says how it is called on the arrays of the input file. All
is computed in float64, with random parameters. The output file has the answer, its gradients in all inputs that are
not integers (of a loss that weighs each number of the answer by the cosine of its index), and the parameters.
"""

import os
import sys

import numpy as np

os.environ['HF_HUB_OFFLINE'] = '1'

import torch
from torch import nn


def causal(length, fill):
    """What is added to logits, [1, 1, T, T]."""
    return torch.full((length, length), fill, dtype=torch.float64).triu(1)[None, None]


def padding(real, fill):
    """What is added to logits, [B, 1, 1, S]."""
    return torch.where(real > 0, 0.0, fill).double()[:, None, None]


# ---------------------------------------------------------------------------------------------------------------- torch

def recurrent(kind):
    def case(given):
        module = kind(given['inputs'].shape[-1], int(given['features']), batch_first=True, bidirectional=True)

        def call(inputs, real, features):
            packed = nn.utils.rnn.pack_padded_sequence(inputs, real.sum(1), batch_first=True, enforce_sorted=False)
            outputs, last = module(packed)
            outputs, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])
            last = last if isinstance(last, tuple) else (last,)
            return torch.cat([outputs.flatten(), *(array.flatten() for array in last)])
        return module, call
    return case


def torch_cross(given):
    width = given['source'].shape[-1]
    module = nn.MultiheadAttention(given['inputs'].shape[-1], int(given['heads']), kdim=width, vdim=width,
                                   batch_first=True)
    return module, lambda inputs, source, real, heads: module(inputs, source, source, key_padding_mask=real == 0)[0]


def torch_causal(given):
    module = nn.MultiheadAttention(given['inputs'].shape[-1], int(given['heads']), batch_first=True)

    def call(inputs, heads):
        later = torch.ones(inputs.shape[1], inputs.shape[1], dtype=torch.bool).triu(1)
        return module(inputs, inputs, inputs, attn_mask=later)[0]
    return module, call


def torch_encoder_layer(norm_first):
    def case(given):
        module = nn.TransformerEncoderLayer(given['inputs'].shape[-1], int(given['heads']), int(given['hidden']), 0.0,
                                            layer_norm_eps=1e-6, batch_first=True, norm_first=norm_first)
        return module, lambda inputs, real, heads, hidden: (
            module(inputs, src_key_padding_mask=real == 0) * (real > 0)[..., None])
    return case


def torch_decoder_layer(norm_first):
    def case(given):
        module = nn.TransformerDecoderLayer(given['inputs'].shape[-1], int(given['heads']), int(given['hidden']), 0.0,
                                            layer_norm_eps=1e-6, batch_first=True, norm_first=norm_first)

        def call(inputs, source, real, heads, hidden):
            later = torch.ones(inputs.shape[1], inputs.shape[1], dtype=torch.bool).triu(1)
            return module(inputs, source, tgt_mask=later, memory_key_padding_mask=real == 0)
        return module, call
    return case


# --------------------------------------------------------------------------------------------------------- transformers

def t5(decoder):
    def case(given):
        from transformers.models.t5.modeling_t5 import T5Attention, T5Config
        config = T5Config(d_model=given['inputs'].shape[-1], d_kv=int(given['width']), num_heads=int(given['heads']),
                          relative_attention_num_buckets=int(given['buckets']), is_decoder=decoder, dropout_rate=0.0,
                          relative_attention_max_distance=int(given['maximum_distance']), attn_implementation='eager')
        module = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)

        def call(inputs, **_):
            bias = module.compute_bias(inputs.shape[1], inputs.shape[1])
            mask = causal(inputs.shape[1], -1e30) if decoder else None
            return module(inputs, mask=None, position_bias=bias if mask is None else bias + mask)[0]
        return module, call
    return case


def t5_buckets(both):
    def case(given):
        from transformers.models.t5.modeling_t5 import T5Attention
        return None, lambda distance, buckets, maximum_distance: T5Attention._relative_position_bucket(
            distance.long(), both, int(buckets), int(maximum_distance))
    return case


def rotary_attention(file, name, **more):
    """The family of Llama: rotary positions, grouped queries, causal."""
    def case(given):
        import importlib
        modeling = importlib.import_module(f'transformers.models.{file}.modeling_{file}')
        options = {'hidden_size': given['inputs'].shape[-1], 'num_attention_heads': int(given['heads']),
                   'num_key_value_heads': int(given['key_value_heads']), 'head_dim': int(given['width']),
                   'attention_bias': False, 'attention_dropout': 0.0, 'attn_implementation': 'eager',
                   'num_hidden_layers': 2,
                   'rope_parameters': {'rope_type': 'default', 'rope_theta': float(given['base'])}}
        config = getattr(modeling, f'{name}Config')(**options | more)
        attention = getattr(modeling, f'{name}Attention')(config, 1)  # layer 1 reads everything in all of them
        rotary = getattr(modeling, f'{name}RotaryEmbedding')(config)

        def call(inputs, **_):
            position = torch.arange(inputs.shape[1])[None]
            return attention(inputs, position_embeddings=rotary(inputs, position),
                             attention_mask=causal(inputs.shape[1], -1e30))[0]
        return attention, call
    return case


def encoder_decoder_attention(file, name):
    def case(given):
        import importlib
        modeling = importlib.import_module(f'transformers.models.{file}.modeling_{file}')
        config = getattr(modeling, f'{name}Config')(attn_implementation='eager')
        module = getattr(modeling, f'{name}Attention')(given['inputs'].shape[-1], int(given['heads']), config=config)
        return module, lambda inputs, source, real, heads: module(
            inputs, key_value_states=source, attention_mask=padding(real, -1e30))[0]
    return case


# --------------------------------------------------------------------------------------------------------------- entmax

def sparse(name, **options):
    def case(given):
        import entmax
        return None, lambda logits: getattr(entmax, name)(logits, dim=-1, **options)
    return case


# ------------------------------------------------------------------------------------------------------- x-transformers

def x_attention(alibi=False, **options):
    def case(given):
        from x_transformers.x_transformers import AlibiPositionalBias, Attention
        heads = int(given['heads'])
        module = Attention(given['inputs'].shape[-1], dim_head=int(given['width']), heads=heads, causal=True, **options)
        position = AlibiPositionalBias(heads).double() if alibi else None
        return module, lambda inputs, **_: module(inputs, rel_pos=position)
    return case


def x_alibi(given):
    from x_transformers.x_transformers import AlibiPositionalBias
    return None, lambda heads, length: torch.cat([
        AlibiPositionalBias(int(count)).double()(int(length), int(length)) for count in heads])


CASES = {
    'torch_lstm': recurrent(nn.LSTM),
    'torch_gru': recurrent(nn.GRU),
    'torch_cross': torch_cross,
    'torch_causal': torch_causal,
    'torch_encoder_layer_post': torch_encoder_layer(False),
    'torch_encoder_layer_pre': torch_encoder_layer(True),
    'torch_decoder_layer_post': torch_decoder_layer(False),
    'torch_decoder_layer_pre': torch_decoder_layer(True),
    't5_encoder': t5(False),
    't5_decoder': t5(True),
    't5_buckets_both': t5_buckets(True),
    't5_buckets_causal': t5_buckets(False),
    'llama': rotary_attention('llama', 'Llama'),
    'gpt_oss': rotary_attention('gpt_oss', 'GptOss'),
    'qwen3': rotary_attention('qwen3', 'Qwen3', rms_norm_eps=1e-6),
    'gemma2': rotary_attention('gemma2', 'Gemma2', attn_logit_softcapping=1.5, query_pre_attn_scalar=6),
    'bart': encoder_decoder_attention('bart', 'Bart'),
    'marian': encoder_decoder_attention('marian', 'Marian'),
    'sparsemax': sparse('sparsemax'),
    'entmax15': sparse('entmax15'),
    'entmax_bisect_1.25': sparse('entmax_bisect', alpha=1.25, n_iter=60),
    'entmax_bisect_1.5': sparse('entmax_bisect', alpha=1.5, n_iter=60),
    'x_alibi': x_alibi,
    'x_plain': x_attention(),
    'x_with_alibi': x_attention(alibi=True),
    'x_softcap': x_attention(softclamp_logits=True, logit_softclamp_value=1.5),
    'x_unit_norm': x_attention(qk_norm=True, qk_norm_scale=10),
    'x_talking_heads': x_attention(pre_talking_heads=True, post_talking_heads=True),
    'x_sink': x_attention(head_learned_sink=True),
    'x_gate_element': x_attention(gate_values=True),
    'x_gate_head': x_attention(gate_values=True, gate_values_headwise=True),
}


def main(name, given_path, answer_path):
    with np.load(given_path) as file:
        given = {key: torch.tensor(value) for key, value in file.items()}
    module, call = CASES[name](given)
    state = {}
    if module is not None:
        module.double().eval()
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        state = {f'state.{key}': value.detach().numpy() for key, value in module.state_dict().items()}
    floating = {key: value.requires_grad_() for key, value in given.items() if value.is_floating_point()}
    answer = call(**given)
    gradients = {}
    if floating:
        weights = torch.cos(torch.arange(answer.numel(), dtype=torch.float64)).reshape(answer.shape)
        (answer * weights).sum().backward()
        gradients = {f'gradient.{key}': value.grad.numpy() for key, value in floating.items()}
    np.savez(answer_path, answer=answer.detach().numpy(), **gradients, **state)


if __name__ == '__main__':
    main(*sys.argv[1:])
