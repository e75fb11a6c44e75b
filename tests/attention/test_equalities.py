"""Where two ways of saying the same thing must agree: variants among each other, paths, and other libraries."""

import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.attention import chunked, registry
from research.attention.chunked import CHUNK
from research.attention.masks import readable
from research.attention.multi_head import attend
from research.attention.normalise import softmax_with_sink
from research.errors import UserError
from research.shapes import Places

B, T, S, D, N, H = 2, 3, 5, 12, 4, 7
HEADS = {'heads': N, 'head_width': 0, 'projection_bias': False}
NEUTRAL = {'key_value_heads': 0, 'position': {'name': 'none'}, 'reach': {'name': 'everything'}, 'normaliser': 'softmax',
           'query_key_norm': 'none', 'softcap': 0.0, 'gate': 'none'}  # the other options of multi_head_dot
SOFTMAX = {'normaliser': 'softmax'}


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def places(lengths, width):
    position = np.broadcast_to(np.arange(width, dtype=np.int32), (len(lengths), width))
    return Places((position < np.array(lengths)[:, None]).astype(np.int32), position)


QUERY_PLACES, SOURCE_PLACES = places([T, 2], T), places([S, 3], S)


def read(module, params, query=None, source=None, query_places=QUERY_PLACES, source_places=SOURCE_PLACES):
    query = normal(B, T, D, seed=1) if query is None else query
    source = normal(B, S, D, seed=2) if source is None else source

    def call(module):
        memory = module.remember(source, source_places)
        return module(query, memory, module.start(memory, 0), query_places)
    return nn.apply(call, module)({'params': params})


def cross(name, **options):
    return registry.make(name, features=D, role='cross', **options)


def close(ours, reference, tolerance=1e-5):
    np.testing.assert_allclose(ours.context, reference.context, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours.weights, reference.weights, rtol=tolerance, atol=tolerance)


# -------------------------------------------------------------------------------------------- variants among each other

def test_one_head_with_identity_projections_is_scaled_dot():
    eye = np.eye(D, dtype=np.float32)
    params = {name: {'kernel': eye.reshape(D, 1, D)} for name in ('query_projection', 'key_projection',
                                                                  'value_projection')}
    params['output_projection'] = {'kernel': eye.reshape(1, D, D)}
    one_head = cross('multi_head_dot', **HEADS | {'heads': 1}, **NEUTRAL)
    close(read(one_head, params), read(cross('scaled_dot', scale='width', **SOFTMAX), {}))


def test_general_with_the_identity_and_scaled_dot_with_factor_one_are_dot():
    dot = read(cross('dot', **SOFTMAX), {})
    params = {'key_projection': {'kernel': np.eye(D, dtype=np.float32)}}
    close(read(cross('general', **SOFTMAX), params), dot)
    close(read(cross('scaled_dot', scale='learned', **SOFTMAX), {'factor': np.float32(1)}), dot)


def test_scaled_dot_is_dot_with_shorter_queries():
    query = normal(B, T, D, seed=1)
    close(read(cross('scaled_dot', scale='width', **SOFTMAX), {}, query),
          read(cross('dot', **SOFTMAX), {}, query / np.sqrt(np.float32(D))))


def test_energies_that_say_nothing_are_the_mean():
    mean = read(cross('mean'), {})
    close(read(cross('dot', **SOFTMAX), {}, query=np.zeros((B, T, D), np.float32)), mean)
    params = {'query_projection': {'kernel': normal(D, 5)}, 'key_projection': {'kernel': normal(D, 5)},
              'vector': np.zeros(5, np.float32)}
    close(read(cross('additive', energy_width=5, **SOFTMAX), params), mean)


def test_additive_with_two_units_in_their_linear_range_is_a_sum():
    """tanh(x) = x for tiny x: then the query's share is the same for all s, and the softmax does not see it."""
    query, source = normal(B, T, D, seed=1), normal(B, S, D, seed=2)
    tiny, kernel = np.float32(1e-3), normal(D, 2)
    params = {'query_projection': {'kernel': tiny * normal(D, 2, seed=5)}, 'key_projection': {'kernel': tiny * kernel},
              'vector': np.ones(2, np.float32) / tiny}
    ours = read(cross('additive', energy_width=2, **SOFTMAX), params, query, source)
    energies = (source @ kernel).sum(axis=-1)
    exponentials = np.exp(energies) * SOURCE_PLACES.segment
    weights = exponentials / exponentials.sum(axis=-1, keepdims=True)
    for b, t in ((0, 0), (0, 2), (1, 1)):
        np.testing.assert_allclose(ours.weights[b, 0, t], weights[b], rtol=1e-3, atol=1e-5)


def test_fixed_context_is_the_same_at_each_position_and_asks_nothing():
    params = {'projection': {'kernel': normal(9, D)}}
    summary, ones = normal(B, 1, 9), places([1, 1], 1)
    first = read(cross('fixed_context'), params, source=summary, source_places=ones)
    other = read(cross('fixed_context'), params, query=normal(B, T, D, seed=8), source=summary, source_places=ones)
    np.testing.assert_array_equal(first.context, other.context)
    np.testing.assert_array_equal(first.context[0], np.broadcast_to(first.context[0, 0], (T, D)))
    np.testing.assert_allclose(first.context[:, 0], np.tanh(summary[:, 0] @ params['projection']['kernel']), rtol=1e-5)
    assert first.weights is None


def test_a_sequence_without_positions_is_a_bag():
    """Self-attention without causality: another order of the positions is another order of the result."""
    module = registry.make('multi_head_dot', features=D, role='self', **HEADS, **NEUTRAL)
    params, sequence, order = linen_and_ours()[2], normal(B, S, D, seed=3), np.array([3, 1, 4, 0, 2])
    full = places([S, S], S)
    ours = read(module, params, sequence, sequence, full, full).context
    turned = read(module, params, sequence[:, order], sequence[:, order], full, full).context
    np.testing.assert_allclose(turned, np.asarray(ours)[:, order], atol=1e-5)


# --------------------------------------------------------------------------------------------------------- a full cache

def test_a_cache_can_be_filled_to_its_end_and_beyond_it_there_is_nan():
    module = registry.make('multi_head_dot', features=D, role='self', causal=True, **HEADS, **NEUTRAL)
    params, sequence, where = linen_and_ours()[2], normal(B, S, D, seed=3), places([S, S], S)

    def contexts(module):
        carry, result = module.start(module.remember(sequence, where), 4), []
        for s in range(S):
            here, at = sequence[:, s:s + 1], Places(*(part[:, s:s + 1] for part in where))
            read = module(here, module.remember(here, at), carry, at)
            carry = read.carry
            result.append(read.context)
        return jnp.concatenate(result, axis=1)
    context = np.asarray(jax.jit(nn.apply(contexts, module))({'params': params}))
    assert np.all(np.isfinite(context[:, :4]))
    assert np.all(np.isnan(context[:, 4]))


# ------------------------------------------------------------------------------------------------------ other libraries

@functools.cache
def linen_and_ours(bias=False):
    """Flax's module, its parameters, and the same numbers as our parameters."""
    theirs = nn.MultiHeadDotProductAttention(num_heads=N, qkv_features=D, out_features=D, use_bias=bias)
    shapes = jax.eval_shape(theirs.init, jax.random.key(0), jnp.zeros((B, T, D)), jnp.zeros((B, S, D)))['params']
    leaves, structure = jax.tree.flatten(shapes)
    params = structure.unflatten([normal(*leaf.shape, seed=seed) for seed, leaf in enumerate(leaves)])
    names = {'query': 'query_projection', 'key': 'key_projection', 'value': 'value_projection',
             'out': 'output_projection'}
    return theirs, params, {names[name]: part for name, part in params.items()}


@pytest.mark.parametrize('bias', [False, True])
def test_multi_head_dot_is_that_of_flax(bias):
    theirs, their_params, params = linen_and_ours(bias)
    module = cross('multi_head_dot', **HEADS | {'projection_bias': bias}, **NEUTRAL)
    query, source = normal(B, T, D, seed=1), normal(B, S, D, seed=2)
    mask = np.asarray(readable(QUERY_PLACES, SOURCE_PLACES))[:, None]
    reference = theirs.apply({'params': their_params}, query, source, mask=mask)
    real = QUERY_PLACES.segment > 0  # theirs reads everything where nothing may be read
    np.testing.assert_allclose(np.asarray(read(module, params).context)[real], np.asarray(reference)[real], rtol=1e-4,
                               atol=1e-4)


def test_causal_self_attention_is_that_of_flax():
    theirs, their_params, params = linen_and_ours()
    module = registry.make('multi_head_dot', features=D, role='self', causal=True, **HEADS, **NEUTRAL)
    sequence, full = normal(B, S, D, seed=3), places([S, S], S)
    reference = theirs.apply({'params': their_params}, sequence, sequence, mask=np.tril(np.ones((1, 1, S, S), bool)))
    ours = read(module, params, sequence, sequence, full, full)
    np.testing.assert_allclose(ours.context, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('K', [1, 2])
def test_attend_is_that_of_jax_also_with_shared_key_heads(K):
    """Neighbouring query heads share a key head: n reads k = n // (N / K)."""
    query, keys, values = normal(B, T, N, H), normal(B, S, K, H, seed=1), normal(B, S, K, H, seed=2)
    bias, mask = normal(1, N, T, S), np.ones((B, T, S), bool)
    repeated = [np.repeat(array, N // K, axis=2) for array in (keys, values)]
    reference = jax.nn.dot_product_attention(query, *repeated, bias, scale=0.3, implementation='xla')
    for path in ('explicit', 'xla', 'chunked'):
        ours = functools.partial(attend, mask=mask, bias=bias, scale=0.3, path=path)
        context, _ = jax.jit(ours)(query, keys, values)
        np.testing.assert_allclose(context, reference, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------------- paths

class Asked(NamedTuple):
    """What is asked of `attend`, besides its path."""

    K: int = N
    extras: tuple[str, ...] = ()   # of 'bias', 'softcap', 'sink'
    bias: tuple[int, int] = (B, N)  # its first two sizes; its last two are T and S
    S: int = S
    H_v: int = H                   # width of the values

    def __str__(self):
        return f'K{self.K}-S{self.S}-{"-".join(self.extras)}{self.bias if "bias" in self.extras else ""}-H{self.H_v}'


@functools.cache
def some_may_be_read(S):
    """[B, T, S]: two empty rows, one that may read the first position only, one the last only."""
    mask = np.random.default_rng(6).random((B, T, S)) < 0.6
    mask[0, 1] = mask[1, 2] = False
    mask[0, 0], mask[1, 0] = np.arange(S) == S - 1, np.arange(S) == 0
    return mask


@functools.cache
def forward_and_gradients(path, asked, dtype):
    """Context and the gradients of query, keys, values, bias and sink, where they are."""
    S, mask, direction = asked.S, some_may_be_read(asked.S), normal(B, T, N, asked.H_v, seed=4)
    arrays = {'query': normal(B, T, N, H), 'keys': normal(B, S, asked.K, H, seed=1),
              'values': normal(B, S, asked.K, asked.H_v, seed=2), 'bias': normal(*asked.bias, T, S),
              'sink': normal(N, 1, 1)}
    arrays = {name: array.astype(dtype) for name, array in arrays.items()
              if name in ('query', 'keys', 'values', *asked.extras)}

    def total(arrays):
        options = {'softcap': 1.5 if 'softcap' in asked.extras else 0.0}
        if 'sink' in asked.extras:
            options |= {'sink': arrays['sink'],
                        'normalise': lambda logits, mask: softmax_with_sink(logits, mask, arrays['sink'])}
        context, _ = attend(arrays['query'], arrays['keys'], arrays['values'], mask=mask, bias=arrays.get('bias'),
                            scale=0.4, path=path, **options)
        return jnp.sum(context * direction), context
    with jax.enable_x64(dtype == 'float64'):
        gradients, context = jax.jit(jax.grad(total, has_aux=True))(arrays)
        return np.asarray(context), jax.tree.map(np.asarray, gradients)


def agree(path, asked, dtype, tolerance):
    """A path has the context and the gradients of the explicit one, and zeros where nothing may be read."""
    context, gradients = forward_and_gradients(path, asked, dtype)
    reference, their_gradients = forward_and_gradients('explicit', asked, 'float64')
    assert context.dtype == dtype
    for name, theirs in ('context', reference), *their_gradients.items():
        ours = context if name == 'context' else gradients[name]
        size = max(1.0, np.abs(theirs).max())  # where all weight is on one position, a gradient of 0 is 1 - 1
        np.testing.assert_allclose(ours.astype(np.float64), theirs, atol=tolerance * size, rtol=0, err_msg=name)
    mask = some_may_be_read(asked.S)
    empty = ~mask.any(axis=-1)
    assert np.sum(empty) == 2
    assert not np.any(context[empty])
    assert not np.any(gradients['query'][empty])
    if 'bias' in asked.extras and asked.bias == (B, N):
        assert not np.any(np.moveaxis(gradients['bias'], 1, 3)[~mask])


ASKED = [Asked(), Asked(K=2, extras=('bias',)), Asked(K=1, extras=('bias', 'sink'), bias=(1, N)),
         Asked(extras=('sink',)), Asked(extras=('bias',), bias=(B, 1))]
CHUNKED = [Asked(K=2, extras=('bias', 'softcap', 'sink')), Asked(K=2, extras=('softcap',), H_v=3),
           Asked(K=2, extras=('bias', 'sink'), S=2 * CHUNK + 5), Asked(extras=('softcap',), S=CHUNK),
           Asked(K=1, extras=('bias',), bias=(1, 1), S=CHUNK + 1)]


# bfloat16 keeps 8 bits: each number is off by up to 0.4 %, and a sum of such by a few times that of its largest
TOLERANCES = {'float64': 1e-13, 'float32': 2e-6, 'bfloat16': 0.02}


@pytest.mark.parametrize(('path', 'dtype', 'asked'), [
    *(('xla', 'float32', asked) for asked in ASKED), *(('xla', 'bfloat16', asked) for asked in ASKED[:3]),
    *(('chunked', 'float64', asked) for asked in ASKED + CHUNKED),
    *(('chunked', dtype, CHUNKED[at]) for dtype in ('float32', 'bfloat16') for at in (0, 2)),
    ('explicit', 'float32', CHUNKED[0]), ('explicit', 'bfloat16', CHUNKED[0])], ids=str)
def test_every_path_is_the_explicit_one_forward_and_backward(path, dtype, asked):
    agree(path, asked, dtype, TOLERANCES[dtype])


@pytest.mark.skipif(jax.default_backend() != 'gpu', reason='cudnn needs an NVIDIA GPU')
@pytest.mark.parametrize(('K', 'T', 'S', 'with_bias'), [(N, 16, 24, False), (N, 16, 24, True), (2, 16, 24, True),
                                                        (2, 15, 23, True), (N, 16, 23, False)])
def test_cudnn_is_the_explicit_path_on_a_gpu(K, T, S, with_bias):
    arrays = [normal(B, T, N, 64), normal(B, S, K, 64, seed=1), normal(B, S, K, 64, seed=2)]
    arrays = [array.astype(jnp.bfloat16) for array in arrays] + [normal(B, N, T, S) if with_bias else None]
    mask, direction = np.random.default_rng(6).random((B, T, S)) < 0.6, normal(B, T, N, 64, seed=4)
    mask[0, 1] = False

    def total(arrays, path):
        query, keys, values, bias = arrays
        context, _ = attend(query, keys, values, mask=mask, bias=bias, scale=0.125, path=path)
        return jnp.sum(context * direction), context
    (gradients, context), (their_gradients, reference) = (
        jax.jit(jax.grad(functools.partial(total, path=path), has_aux=True))(arrays) for path in ('cudnn', 'explicit'))
    for ours, theirs in zip(jax.tree.leaves((context, gradients)), jax.tree.leaves((reference, their_gradients))):
        theirs = np.asarray(theirs, np.float32)
        np.testing.assert_allclose(np.asarray(ours, np.float32), theirs, atol=0.03 * np.abs(theirs).max(), rtol=0)
    assert not np.any(context[0, 1])
    assert not np.any(gradients[0][0, 1])


@pytest.mark.parametrize(('asked', 'length'), [(Asked(), 3), (Asked(K=2, extras=('bias', 'sink')), 3),
                                               (Asked(extras=('bias',), bias=(B, 1)), 2)], ids=str)
def test_cudnn_sees_even_lengths_whatever_they_are(asked, length, monkeypatch):
    """Its mask is a bias, and with a bias it cannot train with odd ones; here the library computes on the CPU.

    The gradient of a bias comes in the type of the query: a bias of another type would get its bits misread.
    """
    mask, query = some_may_be_read(asked.S)[:, :length], normal(B, length, N, 8).astype(jnp.bfloat16)
    keys, values = (normal(B, asked.S, asked.K, 8, seed=seed).astype(jnp.bfloat16) for seed in (1, 2))
    more = {'sink': normal(N, 1, 1, seed=3)} if 'sink' in asked.extras else {}
    if 'bias' in asked.extras:
        more['bias'] = normal(*asked.bias, length, asked.S, seed=5)
    original, seen = jax.nn.dot_product_attention, []

    def library(query, keys, values, bias, mask, *, scale, implementation):
        seen.append((implementation, query.shape[1] % 2, keys.shape[1] % 2, values.shape[1] % 2, mask.shape[2] % 2,
                     mask.shape[3] % 2, bias is not None and bias.shape[2:] != mask.shape[2:]))
        assert bias is None or bias.dtype == query.dtype
        return original(query, keys, values, bias, mask, scale=scale, implementation='xla')
    there, _ = attend(query, keys, values, mask=mask, scale=0.4, path='xla', **more)
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    monkeypatch.setattr(jax.nn, 'dot_product_attention', library)
    here, _ = attend(query, keys, values, mask=mask, scale=0.4, path='cudnn', **more)
    assert seen == [('cudnn', 0, 0, 0, 0, 0, False)]
    np.testing.assert_allclose(here.astype(np.float32), there.astype(np.float32), atol=0.02)


@pytest.mark.parametrize('path', ['explicit', 'xla', 'chunked'])
def test_a_bias_of_fewer_axes_is_one_for_all(path):
    query, keys, mask = normal(B, T, N, H), normal(B, S, N, H, seed=1), some_may_be_read(S)
    bias = normal(N, T, S, seed=2)
    for one, whole in ((bias, bias[None]), (bias[0], bias[None, :1])):
        np.testing.assert_allclose(attend(query, keys, keys, mask=mask, bias=one, scale=0.3, path=path)[0],
                                   attend(query, keys, keys, mask=mask, bias=whole, scale=0.3, path=path)[0], atol=1e-6)


@pytest.mark.parametrize('path', ['explicit', 'xla', 'chunked'])
def test_a_source_of_no_position_is_read_as_zero(path):
    nothing, mask = np.zeros((B, 0, N, H), np.float32), np.zeros((B, T, 0), bool)
    context, _ = attend(normal(B, T, N, H), nothing, nothing, mask=mask, scale=1.0, path=path)
    np.testing.assert_array_equal(context, np.zeros((B, T, N, H)))


@pytest.mark.parametrize('asked', [CHUNKED[0], CHUNKED[2], CHUNKED[4]._replace(bias=(1, N)), Asked()], ids=str)
def test_chunks_of_queries_are_all_of_them_forward_and_backward(asked, monkeypatch):
    """3 queries, at most 2 at a time: of two blocks the second is filled."""
    monkeypatch.setattr(chunked, 'QUERIES', 2)
    agree('chunked', asked, 'float64', TOLERANCES['float64'])


def test_one_row_of_biases_for_all_queries_gets_the_gradient_of_each(monkeypatch):
    monkeypatch.setattr(chunked, 'QUERIES', 2)
    query, keys, mask = normal(B, T, N, H), normal(B, S, N, H, seed=1), some_may_be_read(S)
    bias, direction = normal(1, N, 1, S, seed=2), normal(B, T, N, H, seed=3)

    def total(bias, path):
        return jnp.sum(direction * attend(query, keys, keys, mask=mask, bias=bias, scale=0.3, path=path)[0])
    np.testing.assert_allclose(jax.grad(total)(bias, 'chunked'), jax.grad(total)(bias, 'explicit'), atol=1e-6)


def test_chunks_of_keys_do_not_make_the_weights_of_all():
    """The largest array of a long row has T x CHUNK logits, and not T x S of them, forwards and backwards."""
    T, S = 64, 16 * CHUNK
    query, keys, mask = normal(1, T, 1, 8), normal(1, S, 1, 8), np.ones((1, T, S), bool)

    def largest(path):
        def total(query, keys):
            return jnp.sum(attend(query, keys, keys, mask=mask, scale=1.0, path=path)[0])
        return jax.jit(jax.grad(total, (0, 1))).lower(query, keys).compile().memory_analysis().temp_size_in_bytes
    assert largest('chunked') < largest('explicit') / 2


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'path': 'fast'}, "no path 'fast'. It has: explicit, xla, cudnn, chunked"),
    ({'K': 3}, '4 query heads cannot share 3 key heads'),
    ({'K': 3, 'path': 'chunked'}, '4 query heads cannot share 3 key heads'),
    ({'path': 'xla', 'softcap': 2.0}, "path 'xla' has no softcap; choose path 'explicit' or 'chunked'"),
    ({'path': 'cudnn', 'softcap': 2.0}, "path 'cudnn' has no softcap"),
    ({'path': 'xla', 'H_v': 3}, "path 'xla' needs values as wide as keys, not 3 and 7"),
    ({'path': 'cudnn', 'H_v': 3}, "path 'cudnn' needs values as wide as keys, not 3 and 7"),
])
def test_what_attend_cannot_do_raises(arguments, message):
    given = {'path': 'explicit', 'K': N, 'softcap': 0.0, 'H_v': H} | arguments
    keys, values = jnp.zeros((B, S, given['K'], H)), jnp.zeros((B, S, given['K'], given['H_v']))
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        attend(jnp.zeros((B, T, N, H)), keys, values, mask=jnp.ones((B, T, S), bool), scale=1.0, path=given['path'],
               softcap=given['softcap'])
    assert '\n' not in str(caught.value)


@pytest.mark.skipif(jax.default_backend() == 'gpu', reason='says what is said without a GPU')
def test_cudnn_without_a_gpu_is_refused():
    arrays, mask = jnp.zeros((B, T, N, 8), jnp.bfloat16), jnp.ones((B, T, T), bool)
    with pytest.raises(UserError, match="'cudnn' needs an NVIDIA GPU, and this is a cpu: choose path 'xla' or 'chunk"):
        attend(arrays, arrays, arrays, mask=mask, scale=1.0, path='cudnn')


@pytest.mark.parametrize(('dtype', 'width'), [('float32', 8), ('bfloat16', 12), ('bfloat16', 264)])
def test_cudnn_computes_in_half_precision_with_heads_of_a_multiple_of_eight(dtype, width, monkeypatch):
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')  # refused before anything is computed
    arrays, mask = jnp.zeros((B, T, N, width), dtype), jnp.ones((B, T, T), bool)
    with pytest.raises(UserError, match='in bfloat16 or float16, with heads of a multiple of 8 and at most 256, not '
                                        f'in {dtype} with {width}'):
        attend(arrays, arrays, arrays, mask=mask, scale=1.0, path='cudnn')


@pytest.mark.parametrize('path', ['xla', 'cudnn'])
def test_the_library_paths_refuse_float64_because_their_softmax_is_float32(path):
    with jax.enable_x64(True):
        query, keys = jnp.zeros((B, T, N, H), jnp.float64), jnp.zeros((B, S, N, H), jnp.float64)
        mask = jnp.ones((B, T, S), bool)
        with pytest.raises(UserError, match="float64 needs path 'explicit'"):
            attend(query, keys, keys, mask=mask, scale=1.0, path=path)
        assert attend(query, keys, keys, mask=mask, scale=1.0)[1].dtype == jnp.float64
