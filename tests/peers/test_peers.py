"""Values and gradients against implementations that this project did not write (make test-peers).

They live in an environment of their own, `.oracles/`, with torch, transformers, entmax and x-transformers; this one
never imports them: tests/peers/theirs.py runs there as a process, and arrays go back and forth in files. Theirs makes
random parameters, ours are made of them, and both compute in float64. What was compared stands in runs/peers.md.
"""

import os
import pathlib
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.attention import normalise, positions, registry
from research.cells import registry as cell_registry
from research.models.transformer import TransformerLayer
from research.shapes import Places

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PYTHON = REPOSITORY / '.oracles' / 'bin' / 'python'
pytestmark = [pytest.mark.peer, pytest.mark.skipif(
    not PYTHON.exists(), reason='no environment .oracles with torch, transformers, entmax and x-transformers')]

EXACT = 1e-11  # both in float64
SINGLE = 1e-5  # theirs takes the softmax or the angles in float32
B, T, S, D, N, H, F = 3, 7, 6, 12, 4, 6, 17
PLAIN = {'heads': N, 'key_value_heads': 0, 'head_width': H, 'projection_bias': False, 'position': {'name': 'none'},
         'reach': {'name': 'everything'}, 'normaliser': 'softmax', 'query_key_norm': 'none', 'softcap': 0.0,
         'gate': 'none'}


@pytest.fixture(scope='session')
def table(request):
    """Rows (implementation, what, largest relative difference): printed at the end and written to runs/peers.md."""
    rows = []
    yield rows
    lines = ['| implementation | what | largest relative difference |', '|---|---|---|']
    lines += [f'| {implementation} | {what} | {difference:.1e} |' for implementation, what, difference in rows]
    (REPOSITORY / 'runs').mkdir(exist_ok=True)
    (REPOSITORY / 'runs' / 'peers.md').write_text('\n'.join(lines) + '\n')
    with request.config.pluginmanager.getplugin('capturemanager').global_and_fixture_disabled():
        print('', *lines, sep='\n')


@pytest.fixture
def ask(tmp_path):
    """ask(case, **arrays) -> what theirs.py answers, as a dict of arrays."""
    def answer(case, **given):
        np.savez(tmp_path / 'given.npz', **given)
        files = [tmp_path / 'given.npz', tmp_path / 'answer.npz']
        run = subprocess.run([PYTHON, pathlib.Path(__file__).with_name('theirs.py'), case, *files], check=False,
                             capture_output=True, text=True, env=os.environ | {'OMP_NUM_THREADS': '1'})
        assert run.returncode == 0, run.stderr
        with np.load(files[1]) as file:
            return dict(file)
    return answer


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def agree(table):
    """agree(implementation, what, ours, theirs, given, tolerance): `ours(**given)` and its gradients are theirs."""
    def check(implementation, what, ours, theirs, given, tolerance=EXACT):
        def loss(given):
            answer = ours(**given)
            return jnp.sum(answer * jnp.cos(jnp.arange(answer.size, dtype=jnp.float64)).reshape(answer.shape)), answer
        (_, answer), gradients = jax.value_and_grad(loss, has_aux=True)({key: jnp.asarray(array)
                                                                         for key, array in given.items()})
        pairs = [(answer, theirs['answer'])]
        pairs += [(gradient, theirs[f'gradient.{key}']) for key, gradient in gradients.items()]
        assert all(one.shape == other.shape and np.abs(other).max() > 0.01 for one, other in pairs)
        difference = max(np.abs(one - other).max() / np.abs(other).max() for one, other in pairs)
        table.append((implementation, what, difference))
        assert difference < tolerance, f'{what} differs from {implementation} by {difference}'
    return check


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def places(lengths, width):
    position = np.broadcast_to(np.arange(width, dtype=np.int32), (len(lengths), width))
    return Places((position < np.array(lengths)[:, None]).astype(np.int32), position)


REAL = places([S, 2, 4], S)  # of a source with padding
WHOLE = places([T] * B, T)


# ----------------------------------------------------------------------------------------- their parameters in our tree

def state(theirs, prefix=''):
    """Their parameters below a prefix."""
    start = f'state.{prefix}'
    return {key[len(start):]: array for key, array in theirs.items() if key.startswith(start)}


def heads(weight, bias=None, count=N):
    """Their [N H, D] -> our kernel [D, N, H]."""
    params = {'kernel': weight.T.reshape(weight.shape[1], count, -1)}
    return params if bias is None else params | {'bias': bias.reshape(count, -1)}


def output(weight, bias=None, count=N):
    """Their [D, N H] -> our kernel [N, H, D]."""
    params = {'kernel': weight.T.reshape(count, -1, weight.shape[0])}
    return params if bias is None else params | {'bias': bias}


def projections(found, names, count=N, groups=N):
    """Four linear layers of those names, in the order query, key, value, output."""
    query, key, value, out = ((found[f'{name}.weight'], found.get(f'{name}.bias')) for name in names)
    return {'query_projection': heads(*query, count), 'key_projection': heads(*key, groups),
            'value_projection': heads(*value, groups), 'output_projection': output(*out, count)}


def torch_attention(found, prefix=''):
    """The parameters of torch.nn.MultiheadAttention."""
    found = {key.removeprefix(prefix): array for key, array in found.items() if key.startswith(prefix)}
    if 'in_proj_weight' in found:
        weights = np.split(found['in_proj_weight'], 3)
    else:
        weights = [found[f'{name}_proj_weight'] for name in 'qkv']
    query, key, value = map(heads, weights, np.split(found['in_proj_bias'], 3))
    return {'query_projection': query, 'key_projection': key, 'value_projection': value,
            'output_projection': output(found['out_proj.weight'], found['out_proj.bias'])}


def linear(found, name):
    return {'kernel': found[f'{name}.weight'].T, 'bias': found[f'{name}.bias']}


def norm(found, name):
    return {'layer_norm': {'scale': found[f'{name}.weight'], 'bias': found[f'{name}.bias']}}


# ----------------------------------------------------------------------------------------------- our attention, applied

def cross(params, options):
    module = registry.make('multi_head_dot', features=D, role='cross', **PLAIN | options)

    def call(module, inputs, source):
        memory = module.remember(source, REAL)
        return module(inputs, memory, module.start(memory, 0), WHOLE).context
    return lambda inputs, source: nn.apply(call, module)({'params': params}, inputs, source)


def mix(params, options, name='multi_head_dot', causal=True, path='explicit'):
    options = PLAIN | options if name == 'multi_head_dot' else options
    module = registry.make(name, features=D, role='self', causal=causal, path=path, **options)

    def call(module, inputs):
        memory = module.remember(inputs, places([inputs.shape[1]] * B, inputs.shape[1]))
        return module(inputs, memory, module.start(memory, 0), memory.places).context
    return lambda inputs: nn.apply(call, module)({'params': params}, inputs)


# ---------------------------------------------------------------------------------------------------------------- torch

@pytest.mark.parametrize(('case', 'name', 'peer'), [('torch_lstm', 'lstm', 'torch.nn.LSTM'),
                                                    ('torch_gru', 'gru_reset_after', 'torch.nn.GRU')])
def test_cells_in_both_directions_over_padded_sequences(ask, agree, case, name, peer):
    given = {'inputs': normal(B, S, D)}
    theirs = ask(case, real=REAL.segment, features=np.array(5), **given)
    found, cell, mask = state(theirs), cell_registry.make(name, 5), REAL.segment > 0

    def params(end):
        w, u, b, d = (found[f'{kind}_l0{end}'] for kind in ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh'))
        if name == 'lstm':
            return {'projection': {'kernel': w.T, 'bias': b + d}, 'kernel': u.T}
        inside = np.arange(15) >= 10  # d of the candidate stands inside the reset
        return {'projection': {'kernel': w.T, 'bias': b + np.where(inside, 0.0, d)}, 'kernel': u.T,
                'candidate_bias': d[10:]}

    def ours(inputs):
        def over(cell, reverse):
            start = tuple(array.astype(jnp.float64) for array in cell.start(B))
            return cell.over(inputs, mask, start, reverse)
        forwards, backwards = (nn.apply(over, cell)({'params': params(end)}, bool(end)) for end in ('', '_reverse'))
        last = [jnp.stack([one, other]).reshape(-1) for one, other in zip(forwards[1], backwards[1], strict=True)]
        return jnp.concatenate([jnp.concatenate([forwards[0], backwards[0]], axis=-1).reshape(-1), *last])
    agree(peer, f'cell {name}, both directions, padding, last states', ours, theirs, given)


def test_cross_attention_of_torch(ask, agree):
    given = {'inputs': normal(B, T, D), 'source': normal(B, S, 9)}
    theirs = ask('torch_cross', real=REAL.segment, heads=np.array(N), **given)
    ours = cross(torch_attention(state(theirs)), {'projection_bias': True, 'head_width': 0})
    agree('torch.nn.MultiheadAttention', 'multi_head_dot, cross, padded keys of another width', ours, theirs, given)


def test_causal_attention_of_torch(ask, agree):
    given = {'inputs': normal(B, T, D)}
    theirs = ask('torch_causal', heads=np.array(N), **given)
    for path in ('explicit', 'chunked'):
        ours = mix(torch_attention(state(theirs)), {'projection_bias': True, 'head_width': 0}, path=path)
        agree('torch.nn.MultiheadAttention', f'multi_head_dot, self, causal, path {path}', ours, theirs, given)


def layer(found, side, causal, reads):
    """Our layer of a Transformer and its parameters, from those of torch."""
    options = PLAIN | {'projection_bias': True, 'head_width': 0}
    module = TransformerLayer(
        D, F, lambda: registry.make('multi_head_dot', features=D, role='self', causal=causal, **options),
        (lambda: registry.make('multi_head_dot', features=D, role='cross', **options)) if reads else None, side)
    params = {'mixing': torch_attention(found, 'self_attn.'), 'mixing_residual': norm(found, 'norm1'),
              'network': {'inner': linear(found, 'linear1'), 'outer': linear(found, 'linear2')},
              'network_residual': norm(found, 'norm3' if reads else 'norm2')}
    if reads:
        params |= {'reading': torch_attention(found, 'multihead_attn.'), 'reading_residual': norm(found, 'norm2')}
    return module, params


@pytest.mark.parametrize('side', ['post', 'pre'])
def test_encoder_layer_of_torch(ask, agree, side):
    given = {'inputs': normal(B, S, D)}
    theirs = ask(f'torch_encoder_layer_{side}', real=REAL.segment, heads=np.array(N), hidden=np.array(F), **given)
    module, params = layer(state(theirs), side, causal=False, reads=False)
    agree('torch.nn.TransformerEncoderLayer', f'TransformerLayer, norm {side}, padding',
          lambda inputs: module.apply({'params': params}, inputs, REAL).outputs * REAL.segment[..., None],
          theirs, given)


@pytest.mark.parametrize('side', ['post', 'pre'])
def test_decoder_layer_of_torch(ask, agree, side):
    given = {'inputs': normal(B, T, D), 'source': normal(B, S, D)}
    theirs = ask(f'torch_decoder_layer_{side}', real=REAL.segment, heads=np.array(N), hidden=np.array(F), **given)
    module, params = layer(state(theirs), side, causal=True, reads=True)

    def ours(inputs, source):
        def call(module):
            return module(inputs, WHOLE, memory=module.remember(source, REAL)).outputs
        return nn.apply(call, module)({'params': params})
    agree('torch.nn.TransformerDecoderLayer', f'TransformerLayer, norm {side}, causal, with a reader', ours, theirs,
          given)


# --------------------------------------------------------------------------------------------------------- transformers

@pytest.mark.parametrize('side', ['encoder', 'decoder'])
def test_attention_of_t5(ask, agree, side):
    given = {'inputs': normal(B, 40, D)}
    sizes = {'heads': N, 'width': H, 'buckets': 8, 'maximum_distance': 20}
    theirs = ask(f't5_{side}', **{key: np.array(size) for key, size in sizes.items()}, **given)
    found = state(theirs)
    params = projections(found, 'qkvo') | {'scheme': {'table': found['relative_attention_bias.weight'].T}}
    params['query_projection']['kernel'] = params['query_projection']['kernel'] * np.sqrt(H)  # T5 does not scale
    scheme = {'name': 't5_bias', 'buckets': 8, 'maximum_distance': 20}
    ours = mix(params, {'position': scheme}, causal=side == 'decoder')
    agree('transformers T5Attention', f'multi_head_dot, t5_bias, {side}', ours, theirs, given)


@pytest.mark.parametrize(('buckets', 'maximum_distance'), [(32, 128), (8, 20)])
@pytest.mark.parametrize('causal', [False, True])
def test_buckets_of_t5(ask, table, causal, buckets, maximum_distance):
    distance = np.arange(-200, 201, dtype=np.int32)
    theirs = ask('t5_buckets_causal' if causal else 't5_buckets_both', distance=distance, buckets=np.array(buckets),
                 maximum_distance=np.array(maximum_distance))['answer']
    with jax.enable_x64(False):
        ours = np.asarray(positions.t5_buckets(jnp.asarray(distance), buckets, maximum_distance, causal))
    table.append(('transformers T5Attention', f't5_buckets {buckets}/{maximum_distance}, '
                  f'{"causal" if causal else "both directions"}', np.abs(ours - theirs).max() / buckets))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(('case', 'peer', 'options', 'sections'), [
    ('llama', 'LlamaAttention', {}, {}),
    ('gpt_oss', 'GptOssAttention', {'normaliser': 'learned_sink'}, {'normalise': {'sink': 'sinks'}}),
    ('qwen3', 'Qwen3Attention', {'query_key_norm': 'rms'}, {'query_norm': {'scale': 'q_norm.weight'},
                                                            'key_norm': {'scale': 'k_norm.weight'}}),
    ('gemma2', 'Gemma2Attention', {'softcap': 1.5}, {})])
def test_attention_of_language_models(ask, agree, case, peer, options, sections):
    given = {'inputs': normal(B, T, D)}
    theirs = ask(case, heads=np.array(N), key_value_heads=np.array(2), width=np.array(H), base=np.array(100), **given)
    found = state(theirs)
    params = projections(found, ('q_proj', 'k_proj', 'v_proj', 'o_proj'), groups=2)
    params |= {name: {ours: found[key] for ours, key in section.items()} for name, section in sections.items()}
    what = ', '.join(['multi_head_dot, rotary, grouped queries', *(f'{key} {value}' for key, value in options.items())])
    options = {'key_value_heads': 2, 'position': {'name': 'rotary', 'base': 100.0}} | options
    for path in ('explicit', 'chunked'):
        agree(f'transformers {peer}', f'{what}, path {path}', mix(params, options, path=path), theirs, given, SINGLE)


@pytest.mark.parametrize(('case', 'peer'), [('bart', 'BartAttention'), ('marian', 'MarianAttention')])
def test_cross_attention_of_translation_models(ask, agree, case, peer):
    given = {'inputs': normal(B, T, D), 'source': normal(B, S, D)}
    theirs = ask(case, real=REAL.segment, heads=np.array(N), **given)
    params = projections(state(theirs), ('q_proj', 'k_proj', 'v_proj', 'out_proj'))
    agree(f'transformers {peer}', 'multi_head_dot, cross, padding',
          cross(params, {'projection_bias': True, 'head_width': 0}), theirs, given)


# --------------------------------------------------------------------------------------------------------------- entmax

@pytest.mark.parametrize(('case', 'ours', 'tolerance'), [
    ('sparsemax', normalise.sparsemax, EXACT),
    ('entmax15', normalise.entmax, EXACT),
    ('entmax_bisect_1.5', normalise.entmax, 1e-8),
    ('entmax_bisect_1.25', lambda logits, mask: normalise.entmax(logits, mask, 1.25), 1e-8)])
def test_sparse_normalisers(ask, agree, case, ours, tolerance):
    given = {'logits': np.concatenate([scale * normal(20, 11, seed=9) for scale in (0.1, 1.0, 5.0)])}
    name = getattr(ours, '__name__', '').replace('<lambda>', 'entmax, alpha = 1.25')
    agree(f'entmax {case}', name, lambda logits: ours(logits, jnp.ones(logits.shape, bool)), ask(case, **given), given,
          tolerance)


# ------------------------------------------------------------------------------------------------------- x-transformers

def test_alibi(ask, table):
    counts = (1, 4, 6, 8, 12, 20)
    theirs = ask('x_alibi', heads=np.array(counts), length=np.array(9))['answer']
    far = np.abs(positions.distances(np.arange(9)[None], np.arange(9)[None]))
    ours = np.concatenate([-positions.alibi_slopes(count)[:, None, None] * far for count in counts])
    difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
    table.append(('x-transformers AlibiPositionalBias', f'alibi_slopes of {counts} heads', difference))
    np.testing.assert_allclose(ours, theirs, rtol=SINGLE)


@pytest.mark.parametrize(('case', 'options', 'more'), [
    ('x_plain', {}, lambda found: {}),
    ('x_with_alibi', {'position': {'name': 'alibi'}}, lambda found: {}),
    ('x_softcap', {'softcap': 1.5}, lambda found: {}),
    ('x_unit_norm', {'query_key_norm': 'unit'}, lambda found: {'scale': np.array(10.0)}),
    ('x_sink', {'normaliser': 'learned_sink'}, lambda found: {'normalise': {'sink': found['attend.head_attn_sink']}}),
    ('x_gate_element', {'gate': 'element'}, lambda found: {'gate_projection': heads(found['to_v_gate.weight'])}),
    ('x_gate_head', {'gate': 'head'}, lambda found: {'gate_projection': heads(found['to_v_gate.weight'])})])
def test_attention_of_x_transformers(ask, agree, case, options, more):
    given = {'inputs': normal(B, T, D)}
    theirs = ask(case, heads=np.array(N), width=np.array(H), **given)
    found = state(theirs)
    params = projections(found, ('to_q', 'to_k', 'to_v', 'to_out')) | more(found)
    what = ', '.join(['multi_head_dot, causal', *(f'{key} {value}' for key, value in options.items())])
    agree('x-transformers Attention', what, mix(params, options), theirs, given, SINGLE)


def test_talking_heads_of_x_transformers(ask, agree):
    """Theirs adds what heads say to what they had: P = 1 + W."""
    given = {'inputs': normal(B, T, D)}
    theirs = ask('x_talking_heads', heads=np.array(N), width=np.array(H), **given)
    found = state(theirs)
    before, after = (found[f'attend.{side}_softmax_talking_heads.weight'][:, :, 0, 0] for side in ('pre', 'post'))
    params = projections(found, ('to_q', 'to_k', 'to_v', 'to_out')) | {'before': np.eye(N) + before, 'after': after}
    options = {key: PLAIN[key] for key in ('heads', 'head_width', 'projection_bias', 'position', 'reach', 'normaliser')}
    agree('x-transformers Attention', 'talking_heads, causal', mix(params, options, 'talking_heads'), theirs, given,
          SINGLE)
