"""Layers of torch.nn."""

import torch
from torch import nn

from tests.peers.exchange import linear, load, projections, serve


def recurrent(kind, names):
    """Two layers over rows of several lengths, packed; `names` are those of the arrays of the state."""
    def case(given, directions):
        H = given[f'start/{names[0]}'].shape[-1]
        module = kind(given['inputs'].shape[-1], H, num_layers=2, batch_first=True, bidirectional=directions == 2)
        weights = {}
        for layer in range(2):
            for direction in range(directions):
                at, end = f'params/{layer}/{direction}', f'_l{layer}{"_reverse" * direction}'
                weights[f'weight_ih{end}'] = given[f'{at}/projection/kernel'].T
                weights[f'weight_hh{end}'] = given[f'{at}/kernel'].T
                bias = weights[f'bias_ih{end}'] = given[f'{at}/projection/bias']
                inside = given.get(f'{at}/candidate_bias')  # a GRU's, the last of three
                weights[f'bias_hh{end}'] = torch.zeros_like(bias) if inside is None else torch.cat(
                    [torch.zeros(2 * H), inside])
        packed = nn.utils.rnn.pack_padded_sequence(given['inputs'], given['real'].sum(1), batch_first=True,
                                                   enforce_sorted=False)
        start = tuple(given[f'start/{name}'] for name in names)
        outputs, final = load(module, weights)(packed, start if len(names) > 1 else start[0])
        outputs, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=given['real'].shape[1])
        final = final if len(names) > 1 else (final,)
        return {'outputs': outputs} | {f'final/{name}': array for name, array in zip(names, final, strict=True)}
    return case


def attention_weights(given, at, called):
    """The weights of nn.MultiheadAttention, which keeps three projections in one matrix."""
    three = projections(given, 'q', 'k', 'v', f'{called}out_proj', at)
    weights = {f'{called}in_proj_{part}': torch.cat([three.pop(f'{name}.{part}') for name in 'qkv'])
               for part in ('weight', 'bias')}
    return weights | three


def later(length):
    """What a causal query may not read, boolean [T, T]."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


def multi_head(given, causal):
    query = given['query']
    source, real = given.get('source', query), given['source_real' if 'source' in given else 'query_real']
    module = nn.MultiheadAttention(query.shape[-1], given['params/query_projection/kernel'].shape[1], batch_first=True)
    context, weights = load(module, attention_weights(given, 'params', ''))(
        query, source, source, key_padding_mask=~real, attn_mask=later(query.shape[1]) if causal else None,
        average_attn_weights=False)
    return {'context': context, 'weights': weights}


def layer(given, norm_first):
    """An encoder layer, or a decoder layer where there is a source."""
    query, reads = given['query'], 'source' in given
    heads, F = given['params/mixing/query_projection/kernel'].shape[1], given['params/network/inner/kernel'].shape[1]
    kind = nn.TransformerDecoderLayer if reads else nn.TransformerEncoderLayer
    module = kind(query.shape[-1], heads, F, dropout=0.0, layer_norm_eps=1e-6, batch_first=True, norm_first=norm_first)
    weights = attention_weights(given, 'params/mixing', 'self_attn.')
    norms = ['mixing', 'network']
    if reads:
        weights |= attention_weights(given, 'params/reading', 'multihead_attn.')
        norms = ['mixing', 'reading', 'network']
    for number, name in enumerate(norms, 1):
        weights[f'norm{number}.weight'] = given[f'params/{name}_residual/layer_norm/scale']
        weights[f'norm{number}.bias'] = given[f'params/{name}_residual/layer_norm/bias']
    weights |= linear(given, 'params/network/inner', 'linear1') | linear(given, 'params/network/outer', 'linear2')
    load(module, weights)
    if reads:
        return {'outputs': module(query, given['source'], tgt_mask=later(query.shape[1]),
                                  memory_key_padding_mask=~given['source_real'])}
    return {'outputs': module(query, src_key_padding_mask=~given['query_real'])}


if __name__ == '__main__':
    serve({'lstm': recurrent(nn.LSTM, ('output', 'cell')), 'gru': recurrent(nn.GRU, ('output',)),
           'multi_head': multi_head, 'layer': layer})
