"""The attention of x-transformers."""

import functools

import torch
from x_transformers.x_transformers import AlibiPositionalBias, Attention

from tests.peers.exchange import linear, load, projections, serve


def attention(given, causal=False, alibi=False, **options):
    query, (_, N, H) = given['query'], given['params/query_projection/kernel'].shape
    K = given['params/key_projection/kernel'].shape[1]
    if torch.get_default_dtype() == torch.float64:  # its own softmax is float32 whatever comes in
        options['custom_attn_fn'] = functools.partial(torch.softmax, dim=-1)
    module = Attention(query.shape[-1], dim_head=H, heads=N, kv_heads=K, causal=causal, **options)
    # Query head n reads key head n mod K here, and n // (N / K) in what is given.
    order = torch.arange(N).reshape(K, -1).T.flatten()
    ordered = given | {'params/query_projection/kernel': given['params/query_projection/kernel'][:, order],
                       'params/output_projection/kernel': given['params/output_projection/kernel'][order]}
    weights = projections(ordered, 'to_q', 'to_k', 'to_v', 'to_out')
    if 'params/before' in given:  # the heads' own logits are added to what this makes of them
        weights['attend.pre_softmax_talking_heads.weight'] = (given['params/before'] - torch.eye(N))[..., None, None]
        weights['attend.post_softmax_talking_heads.weight'] = given['params/after'][..., None, None]
    if 'params/normalise/sink' in given:
        weights['attend.head_attn_sink'] = given['params/normalise/sink']
    if 'params/query_norm/scale' in given:  # one factor more than none, and each head its own
        weights |= {f'{letter}_rmsnorm.gamma': (given[f'params/{word}_norm/scale'] - 1.0).expand(N, 1, H)
                    for letter, word in (('q', 'query'), ('k', 'key'))}
    if options.get('data_dependent_alibi'):
        weights |= linear(given, 'params/gate_projection', 'data_dependent_alibi.to_forget_gates.0')
    elif 'params/gate_projection/kernel' in given:
        weights |= linear(given, 'params/gate_projection', 'to_v_gate')
    position = {'rel_pos': AlibiPositionalBias(N)} if alibi else {}
    found = load(module, weights)
    if 'params/scale' in given:
        found.attend.scale = given['params/scale']
    if 'source' in given:
        return {'context': found(query, context=given['source'], context_mask=given['source_real'])}
    return {'context': found(query, mask=given['query_real'], **position)}


def alibi_slopes(given):
    return {str(heads): AlibiPositionalBias(heads).slopes.flatten() for heads in given['heads'].tolist()}


if __name__ == '__main__':
    serve({'attention': attention, 'alibi_slopes': alibi_slopes})
