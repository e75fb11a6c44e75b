"""Our layers beside implementations that this project did not write, with the same weights and inputs.

The peers live in an environment of their own, which is called as a process; arrays travel in files. Random weights have
our shapes and names, an oracle makes its peer's out of them, and so gradients come back by our names too.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from configs.attention import OPTIONS
from research.attention import normalise, positions, recurrences
from research.attention import registry as attentions
from research.cells import registry as cells
from research.models.transformer import TransformerLayer
from research.shapes import Places
from tests.peers.conftest import TOLERANCES, difference

pytestmark = pytest.mark.peer

B, T, S, D, N, H, F = 3, 11, 7, 20, 4, 6, 13
REAL = {'query_real': np.arange(T) < np.array([[T], [8], [3]]), 'source_real': np.arange(S) < np.array([[4], [S], [1]])}
BIASED = {'projection_bias': True}


def places(real):
    """Places of rows that begin at position 0."""
    position = jnp.arange(real.shape[1], dtype=jnp.int32)
    return Places(jnp.asarray(real, jnp.int32), jnp.broadcast_to(position, real.shape))


def draw(shape, seed, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=shape)


def parameters(module, call):
    """Random values for all parameters, `params/<path>` each; kernels keep what they read about as large as it was."""
    shapes = jax.eval_shape(lambda rng: nn.init(call, module)(rng)['params'], jax.random.key(0))
    return {f'params/{name}': 1.0 + draw(leaf.shape, seed, 0.3) if name.endswith('scale') else
            draw(leaf.shape, seed, leaf.shape[0]**-0.5 if name.endswith('kernel') else 0.5)
            for seed, (name, leaf) in enumerate(flatten_dict(shapes, sep='/').items(), 100)}


def tree(given):
    """The parameters again as a tree."""
    return unflatten_dict({name.removeprefix('params/'): array for name, array in given.items()
                           if name.startswith('params/')}, sep='/')


def make(name, role, causal=False, **options):
    return attentions.make(name, features=D, role=role, causal=causal, **{**OPTIONS[name], **options})


def words(options):
    """What a row of the table says of options."""
    return [f'{key} {" ".join(map(str, option.values())) if isinstance(option, dict) else option}'
            for key, option in options.items()]


def reading(module, outputs=('context', 'weights'), length=1.0, **more):
    """(a function of arrays that reads once with the module, random arrays for it); inputs are `length` long."""
    def call(module, given):
        places_of_query, cross = places(given['query_real']), module.role == 'cross'
        source, places_of_source = ((given['source'], places(given['source_real'])) if cross
                                    else (given['query'], places_of_query))
        memory = module.remember(source, places_of_source)
        return module(given['query'], memory, module.start(memory, T if cross else 0), places_of_query)

    def ours(given):
        read = nn.apply(call, module)({'params': tree(given)}, given)
        return {name: getattr(read, name) for name in outputs}
    given = {'query': draw((B, T, D), 1, length), **REAL}
    if module.role == 'cross':
        given['source'] = draw((B, S, D), 2, length)
    else:
        del given['source_real']
    small = {name: jnp.asarray(array, jnp.float32) if array.dtype.kind == 'f' else array
             for name, array in given.items()}
    params = parameters(module, lambda module: call(module, small))
    return ours, given | params | {f'params/{name}': np.asarray(value) for name, value in more.items()}


KEPT = {'context': REAL['query_real'][:, :, None], 'weights': REAL['query_real'][:, None, :, None],
        'outputs': REAL['query_real'][:, :, None]}
# A bias of the keys moves all logits of a row by the same, which a softmax does not see.
LEVEL = ('params/key_projection/bias', 'params/mixing/key_projection/bias', 'params/reading/key_projection/bias')


# ------------------------------------------------------------------------------------------------------------- torch.nn

@pytest.mark.parametrize('directions', [1, 2])
@pytest.mark.parametrize(('name', 'peer'), [('lstm', 'LSTM'), ('gru_reset_after', 'GRU')])
def test_cells_are_those_of_torch(agree, name, peer, directions):
    H = 6
    cell = cells.make(name, H)
    given = {'inputs': draw((B, S, D), 1), 'real': REAL['source_real']}
    given |= {f'start/{state}': draw((2 * directions, B, H), seed, 0.5) for seed, state in enumerate(cell.states, 2)}
    for layer in range(2):
        inputs = jnp.zeros((B, S, directions * H if layer else D))
        for direction in range(directions):
            found = parameters(cell, lambda cell: cell.over(inputs, given['real'], cell.start(B)))  # noqa: B023
            given |= {name.replace('params', f'params/{layer}/{direction}'): array + draw(array.shape, layer, 0.1)
                      for name, array in found.items()}

    def ours(given):
        params, outputs, finals = tree(given), given['inputs'], []
        for layer in range(2):
            sides = []
            for direction in range(directions):
                start = tuple(given[f'start/{state}'][layer * directions + direction] for state in cell.states)
                side, final = cell.apply({'params': params[str(layer)][str(direction)]}, outputs, given['real'], start,
                                         bool(direction), method='over')
                sides.append(side)
                finals.append(final)
            outputs = jnp.concatenate(sides, axis=-1)
        return {'outputs': outputs} | {f'final/{state}': jnp.stack(arrays) for state, arrays in
                                       zip(cell.states, zip(*finals, strict=True), strict=True)}
    agree(f'torch.nn.{peer}', f'{name}, 2 layers, {"both directions" if directions == 2 else "forwards"}, padded',
          ('torch', peer.lower(), {'directions': directions}), ours, given)


@pytest.mark.parametrize(('role', 'causal'), [('cross', False), ('self', False), ('self', True)])
def test_many_heads_are_those_of_torch(agree, role, causal):
    ours, given = reading(make('multi_head_dot', role, causal, heads=N, **BIASED))
    agree('torch.nn.MultiheadAttention', f'multi_head_dot, {"causal " * causal}{role}, padded',
          ('torch', 'multi_head', {'causal': causal}), ours, given, kept=KEPT, level=LEVEL)


@pytest.mark.parametrize('norm', ['post', 'pre'])
@pytest.mark.parametrize('reads', [False, True])
def test_transformer_layers_are_those_of_torch(agree, reads, norm):
    def reader():
        return make('multi_head_dot', 'cross', heads=N, **BIASED)
    module = TransformerLayer(D, F, lambda: make('multi_head_dot', 'self', reads, heads=N, **BIASED),
                              reader if reads else None, norm)

    def call(module, given):
        memory = module.remember(given['source'], places(given['source_real'])) if reads else None
        return {'outputs': module(given['query'], places(given['query_real']), memory=memory).outputs}
    given = {'query': draw((B, T, D), 1), **REAL, 'source': draw((B, S, D), 2)}
    if not reads:
        del given['source'], given['source_real']
    given |= parameters(module, lambda module: call(module, given))
    agree(f'torch.nn.Transformer{"Decoder" if reads else "Encoder"}Layer', f'TransformerLayer, {norm}-norm, padded',
          ('torch', 'layer', {'norm_first': norm == 'pre'}),
          lambda given: nn.apply(call, module)({'params': tree(given)}, given), given, kept=KEPT, level=LEVEL)


# --------------------------------------------------------------------------------------------------------- transformers

@pytest.mark.parametrize('role', ['cross', 'self'])
@pytest.mark.parametrize(('model', 'name'), [('bart', 'Bart'), ('marian', 'Marian')])
def test_many_heads_are_those_of_encoder_decoders(agree, model, name, role):
    ours, given = reading(make('multi_head_dot', role, heads=N, **BIASED))
    agree(f'transformers {name}Attention', f'multi_head_dot, {role}, padded',
          ('transformers', 'encoder_decoder', {'model': model, 'name': name}), ours, given, kept=KEPT, level=LEVEL)


T5 = {'buckets': 8, 'maximum_distance': 10}  # so few that 11 positions reach the logarithmic ones and the last


@pytest.mark.parametrize('causal', [False, True])
def test_biases_of_distances_are_those_of_t5(agree, causal):
    ours, given = reading(make('multi_head_dot', 'self', causal, heads=N, head_width=H,
                               position={'name': 't5_bias', **T5}))
    agree('transformers T5Attention', f'multi_head_dot, t5_bias, {"causal " * causal}self, padded',
          ('transformers', 't5', {'causal': causal, **T5}), ours, given, kept=KEPT)


@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize(('buckets', 'maximum_distance'), [(32, 128), (32, 100), (8, 20), (64, 256)])
def test_buckets_are_those_of_t5(ask, record_property, causal, buckets, maximum_distance):
    distance = np.arange(-200, 201, dtype=np.int32)
    theirs = ask('transformers', 't5_buckets', {'causal': causal, 'buckets': buckets,
                                                'maximum_distance': maximum_distance}, {'distance': distance})
    ours = np.asarray(positions.t5_buckets(distance, buckets, maximum_distance, causal))
    wrong = distance[ours != theirs['float64/output/buckets']]
    record_property('peer', ('transformers T5Attention', f't5_buckets {buckets}/{maximum_distance}, '
                             f'{"causal" if causal else "both directions"}', 'int32', float(len(wrong)), None))
    assert not len(wrong), f'other buckets at distances {wrong}'


# Angles are float32 in all of them, and of all but gpt-oss the softmax too: float64 would compare nothing more.
@pytest.mark.parametrize(('model', 'name', 'options', 'more'), [
    ('llama', 'Llama', {}, {}),
    ('llama', 'Llama', BIASED, {}),
    ('qwen3', 'Qwen3', {'query_key_norm': 'rms'}, {'key_norm': True, 'rms_norm_eps': 1e-6}),
    ('gemma2', 'Gemma2', {'softcap': 1.5}, {'attn_logit_softcapping': 1.5, 'query_pre_attn_scalar': H}),
    ('gemma2', 'Gemma2', {'softcap': 1.5, 'reach': {'name': 'window', 'width': 3}},
     {'attn_logit_softcapping': 1.5, 'query_pre_attn_scalar': H, 'window': 3}),
    ('gpt_oss', 'GptOss', {'normaliser': 'learned_sink', **BIASED}, {}),
    ('gpt_oss', 'GptOss', {'normaliser': 'learned_sink', **BIASED, 'reach': {'name': 'window', 'width': 3}},
     {'window': 3}),
], ids=str)
def test_grouped_queries_and_rotary_positions_are_those_of_decoders(agree, model, name, options, more):
    ours, given = reading(make('grouped_query', 'self', True, heads=N, key_value_heads=2, head_width=H,
                               position={'name': 'rotary', 'base': 100.0}, **options))
    agree(f'transformers {name}Attention', ', '.join(['grouped_query, rotary', *words(options), 'padded']),
          ('transformers', 'decoder', {'model': model, 'name': name, 'rotary': 100.0, **more}), ours, given, kept=KEPT,
          types=('float32',))


@pytest.mark.parametrize('width', [0, 1, 3])
def test_sinks_are_those_of_gpt_oss(agree, width):
    reach = {'name': 'window', 'width': width} if width else {'name': 'everything'}
    ours, given = reading(make('learned_sink', 'self', True, heads=N, key_value_heads=2, head_width=H, reach=reach,
                               **BIASED))
    agree('transformers GptOssAttention', f'learned_sink, {f"window {width}" if width else "everything"}, padded',
          ('transformers', 'decoder', {'model': 'gpt_oss', 'name': 'GptOss', 'rotary': 0.0, 'window': width}),
          ours, given, kept=KEPT)


@pytest.mark.parametrize('path', ['explicit', 'absorbed'])
def test_keys_and_values_of_a_small_vector_are_those_of_deepseek(agree, path):
    outputs = ('context', 'weights') if path == 'explicit' else ('context',)
    ours, given = reading(make('multi_head_latent', 'self', True, path=path, heads=N, head_width=H, rank=5,
                               rotary_width=4, base=100.0), outputs)
    agree('transformers DeepseekV3Attention', f'multi_head_latent, path {path}, causal self, padded',
          ('transformers', 'latent', {'rotary': 100.0, 'outputs': outputs}), ours, given, kept=KEPT,
          types=('float32',))


@pytest.mark.parametrize('layer', [0, 3])
def test_the_difference_of_attentions_is_that_of_diffllama(agree, layer):
    ours, given = reading(make('differential', 'self', True, heads=2, head_width=H, layer=layer,
                               position={'name': 'rotary', 'base': 100.0}), ('context',))
    # The slopes of all four are that of lambda, a sum over everything read that nearly cancels.
    factors = tuple(f'params/{word}_factor_{number}' for word in ('query', 'key') for number in (1, 2))
    agree('transformers DiffLlamaAttention', f'differential, rotary, layer {layer}, causal self, padded',
          ('transformers', 'differential', {'rotary': 100.0, 'layer': layer}), ours, given, kept=KEPT,
          level=factors, types=('float32',))


@pytest.mark.parametrize('chunk', [0, 4, 64])
def test_a_memory_that_overwrites_is_that_of_qwen3_next(agree, chunk):
    given = {name: draw((B, T, N, H), seed, 0.5) for seed, name in enumerate(('query', 'keys', 'values'), 1)}
    random = np.random.default_rng(4)
    given |= {'log_decay': -random.uniform(0.01, 1.0, (B, T, N)), 'rate': random.uniform(0.1, 0.9, (B, T, N))}

    def ours(given):
        rule = functools.partial(recurrences.chunked, chunk=chunk) if chunk else recurrences.recurrent
        reads, _ = rule(given['query'], given['keys'], given['values'], given['log_decay'][..., None],
                        jnp.zeros((B, T), bool), jnp.zeros((B, N, H, H), given['query'].dtype), given['rate'])
        return {'reads': reads / np.sqrt(H).astype(reads.dtype)}
    agree('transformers Qwen3NextGatedDeltaNet', f'gated_delta, {f"chunks of {chunk}" if chunk else "by position"}',
          ('transformers', 'gated_delta', {'chunk': chunk}), ours, given, types=('float32',))


def test_the_fourier_transform_is_that_of_fnet(agree):
    module = make('fourier', 'self')
    given = {'query': draw((B, T, D), 1)}

    def ours(given):
        def call(module):
            memory = module.remember(given['query'], places(np.ones((B, T), bool)))
            return module(given['query'], memory, module.start(memory, 0), places(np.ones((B, T), bool)))
        return {'context': nn.apply(call, module)({}).context}
    agree('transformers FNetBasicFourierTransform', 'fourier', ('transformers', 'fnet', {}), ours, given)


# --------------------------------------------------------------------------------------------------------------- entmax

@pytest.mark.parametrize(('function', 'alpha'), [
    ('sparsemax', 2.0), ('entmax15', 1.5), *(('entmax_bisect', alpha) for alpha in (1.05, 1.25, 1.5, 1.75, 2.0, 2.5))])
def test_sparse_weights_are_those_of_entmax(agree, function, alpha):
    given = {'logits': np.concatenate([draw((6, 12), 1), draw((6, 12), 2, 10.0), draw((6, 12), 3, 0.1)]),
             'mask': draw((18, 12), 4) < 1.0}

    def ours(given):
        chosen = normalise.sparsemax if function == 'sparsemax' else normalise.entmax
        return {'weights': chosen(given['logits'], given['mask'], *(() if function == 'sparsemax' else (alpha,)))}
    options = {'alpha': alpha, 'n_iter': 60} if function == 'entmax_bisect' else {}
    agree(f'entmax {function}', f'{"sparsemax" if function == "sparsemax" else "entmax"}, alpha = {alpha}, masked',
          ('entmax', 'normaliser', {'function': function, **options}), ours, given)


# ------------------------------------------------------------------------------------------------------- x-transformers

@pytest.mark.parametrize(('name', 'role', 'causal', 'options', 'theirs', 'length'), [
    ('multi_head_dot', 'self', False, {}, {}, 1.0),
    ('multi_head_dot', 'cross', False, {}, {}, 1.0),
    ('multi_query', 'self', True, {}, {}, 1.0),
    ('multi_head_dot', 'self', True, {'position': {'name': 'alibi'}}, {'alibi': True}, 1.0),
    ('multi_head_dot', 'self', False, {'position': {'name': 'alibi'}, 'heads': 3}, {'alibi': True}, 1.0),
    ('grouped_query', 'self', True, {'key_value_heads': 2}, {}, 1.0),
    ('sliding_window', 'self', True, {'reach': {'name': 'window', 'width': 3}}, {'max_attend_past': 2}, 1.0),
    ('softcap', 'self', True, {'softcap': 1.5}, {'softclamp_logits': True, 'logit_softclamp_value': 1.5}, 1.0),
    ('softcap', 'self', True, {'softcap': 1.5, 'position': {'name': 'alibi'}},
     {'softclamp_logits': True, 'logit_softclamp_value': 1.5, 'alibi': True}, 1.0),
    # Ours adds 1e-6 to squared lengths and theirs nothing: of vectors of length a thousand that is nothing too.
    ('qk_norm', 'self', True, {'query_key_norm': 'unit'}, {'qk_norm': True}, 1e4),
    ('qk_norm', 'cross', False, {'query_key_norm': 'unit'}, {'qk_norm': True}, 1e4),
    ('qk_norm', 'self', True, {'query_key_norm': 'rms'}, {'qk_rmsnorm': True}, 1e4),
    ('talking_heads', 'self', True, {}, {'pre_talking_heads': True, 'post_talking_heads': True}, 1.0),
    ('talking_heads', 'cross', False, {}, {'pre_talking_heads': True, 'post_talking_heads': True}, 1.0),
    ('learned_sink', 'self', True, {}, {'head_learned_sink': True}, 1.0),
    ('softmax_one', 'self', True, {}, {'add_zero_kv': True}, 1.0),
    ('gated', 'self', True, {'gate': 'element'}, {'gate_values': True}, 1.0),
    ('gated', 'self', True, {'gate': 'head'}, {'gate_values': True, 'gate_values_headwise': True}, 1.0),
    ('forgetting', 'self', True, {}, {'data_dependent_alibi': True}, 1.0),
    ('selective', 'self', True, {}, {'selective': True}, 1.0),
], ids=str)
def test_attention_is_that_of_x_transformers(agree, name, role, causal, options, theirs, length):
    ours, given = reading(make(name, role, causal, **{'heads': N, 'head_width': H, **options}), ('context',), length)
    agree('x-transformers Attention', ', '.join([name, *words(options), f'{"causal " * causal}{role}, padded']),
          ('x_transformers', 'attention', {'causal': causal, **theirs}), ours, given, kept=KEPT)


def test_slopes_are_those_of_x_transformers(ask, record_property):
    theirs = ask('x_transformers', 'alibi_slopes', {}, {'heads': np.arange(1, 33)})
    found = max(difference(positions.alibi_slopes(heads), theirs[f'float64/output/{heads}']) for heads in range(1, 33))
    record_property('peer', ('x-transformers AlibiPositionalBias', 'alibi_slopes, 1 to 32 heads', 'float64', found,
                             None))
    assert found < TOLERANCES['float64']
