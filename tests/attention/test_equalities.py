"""Where two ways of saying the same thing must agree: variants among each other, paths, and other libraries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.attention import registry
from research.attention.masks import readable
from research.attention.multi_head import attend
from research.errors import UserError
from research.shapes import Places

B, T, S, D, N, H = 2, 3, 5, 12, 4, 7


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
    one_head = cross('multi_head_dot', heads=1, head_width=0, projection_bias=False)
    close(read(one_head, params), read(cross('scaled_dot', scale='width'), {}))


def test_general_with_the_identity_and_scaled_dot_with_factor_one_are_dot():
    dot = read(cross('dot'), {})
    close(read(cross('general'), {'key_projection': {'kernel': np.eye(D, dtype=np.float32)}}), dot)
    close(read(cross('scaled_dot', scale='learned'), {'factor': np.float32(1)}), dot)


def test_scaled_dot_is_dot_with_shorter_queries():
    query = normal(B, T, D, seed=1)
    close(read(cross('scaled_dot', scale='width'), {}, query), read(cross('dot'), {}, query / np.sqrt(np.float32(D))))


def test_energies_that_say_nothing_are_the_mean():
    mean = read(cross('mean'), {})
    close(read(cross('dot'), {}, query=np.zeros((B, T, D), np.float32)), mean)
    params = {'query_projection': {'kernel': normal(D, 5)}, 'key_projection': {'kernel': normal(D, 5)},
              'vector': np.zeros(5, np.float32)}
    close(read(cross('additive', energy_width=5), params), mean)


def test_additive_with_two_units_in_their_linear_range_is_a_sum():
    """tanh(x) = x for tiny x: then the query's share is the same for all s, and the softmax does not see it."""
    query, source = normal(B, T, D, seed=1), normal(B, S, D, seed=2)
    tiny, kernel = np.float32(1e-3), normal(D, 2)
    params = {'query_projection': {'kernel': tiny * normal(D, 2, seed=5)}, 'key_projection': {'kernel': tiny * kernel},
              'vector': np.ones(2, np.float32) / tiny}
    ours = read(cross('additive', energy_width=2), params, query, source)
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
    module = registry.make('multi_head_dot', features=D, role='self', heads=N, head_width=0, projection_bias=False)
    params, sequence, order = linen_and_ours()[2], normal(B, S, D, seed=3), np.array([3, 1, 4, 0, 2])
    full = places([S, S], S)
    ours = read(module, params, sequence, sequence, full, full).context
    turned = read(module, params, sequence[:, order], sequence[:, order], full, full).context
    np.testing.assert_allclose(turned, np.asarray(ours)[:, order], atol=1e-5)


# --------------------------------------------------------------------------------------------------------- a full cache

def test_a_cache_can_be_filled_to_its_end_and_beyond_it_there_is_nan():
    module = registry.make('multi_head_dot', features=D, role='self', causal=True, heads=N, head_width=0,
                           projection_bias=False)
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
    module = cross('multi_head_dot', heads=N, head_width=0, projection_bias=bias)
    query, source = normal(B, T, D, seed=1), normal(B, S, D, seed=2)
    mask = np.asarray(readable(QUERY_PLACES, SOURCE_PLACES))[:, None]
    reference = theirs.apply({'params': their_params}, query, source, mask=mask)
    real = QUERY_PLACES.segment > 0  # theirs reads everything where nothing may be read
    np.testing.assert_allclose(np.asarray(read(module, params).context)[real], np.asarray(reference)[real], rtol=1e-4,
                               atol=1e-4)


def test_causal_self_attention_is_that_of_flax():
    theirs, their_params, params = linen_and_ours()
    module = registry.make('multi_head_dot', features=D, role='self', causal=True, heads=N, head_width=0,
                           projection_bias=False)
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
    for path in ('explicit', 'xla'):
        context, _ = attend(query, keys, values, mask=mask, bias=bias, scale=0.3, path=path)
        np.testing.assert_allclose(context, reference, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------------- paths

@functools.cache
def forward_and_gradients(path, K, with_bias, dtype):
    """Context and the gradients of query, keys, values and bias; the second sentence has empty rows."""
    arrays = [normal(B, T, N, H), normal(B, S, K, H, seed=1), normal(B, S, K, H, seed=2)]
    arrays = [array.astype(dtype) for array in arrays] + ([normal(B, N, T, S).astype(dtype)] if with_bias else [None])
    mask, direction = np.asarray(readable(QUERY_PLACES, SOURCE_PLACES)).copy(), normal(B, T, N, H, seed=4)
    mask[0, 1] = False

    def total(arrays):
        query, keys, values, bias = arrays
        context, _ = attend(query, keys, values, mask=mask, bias=bias, scale=0.4, path=path)
        return jnp.sum(context * direction), context
    gradients, context = jax.jit(jax.grad(total, has_aux=True))(arrays)
    return mask, context, [gradient for gradient in gradients if gradient is not None]


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize(('K', 'with_bias'), [(N, False), (2, True)])
def test_every_path_is_the_explicit_one_forward_and_backward(K, with_bias, dtype):
    mask, context, gradients = forward_and_gradients('xla', K, with_bias, dtype)
    _, reference, their_gradients = forward_and_gradients('explicit', K, with_bias, 'float32')
    assert context.dtype == dtype
    # bfloat16 keeps 8 bits: each number is off by up to 0.4 %, and a sum of such by a few times that of its largest
    tolerance = 2e-6 if dtype == 'float32' else 0.02
    for ours, theirs in zip([context, *gradients], [reference, *their_gradients], strict=True):
        theirs = np.asarray(theirs)
        np.testing.assert_allclose(np.asarray(ours, np.float32), theirs, atol=tolerance * np.abs(theirs).max(), rtol=0)
    empty = ~mask.any(axis=-1)
    assert np.sum(empty) == 2
    assert not np.any(np.asarray(context)[empty])
    assert not np.any(np.asarray(gradients[0])[empty])
    if with_bias:
        assert not np.any(np.moveaxis(np.asarray(gradients[3]), 1, 3)[~mask])


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'path': 'cudnn'}, "no path 'cudnn'. It has: explicit, xla"),
    ({'K': 3}, '4 query heads cannot share 3 key heads'),
])
def test_what_attend_cannot_do_raises(arguments, message):
    K = arguments.get('K', N)
    keys = jnp.zeros((B, S, K, H))
    with pytest.raises(UserError, match=message):
        attend(jnp.zeros((B, T, N, H)), keys, keys, mask=jnp.ones((B, T, S), bool), scale=1.0,
               path=arguments.get('path', 'explicit'))


def test_the_library_path_refuses_float64_because_its_softmax_is_float32():
    with jax.enable_x64(True):
        query, keys = jnp.zeros((B, T, N, H), jnp.float64), jnp.zeros((B, S, N, H), jnp.float64)
        mask = jnp.ones((B, T, S), bool)
        with pytest.raises(UserError, match="float64 needs path 'explicit'"):
            attend(query, keys, keys, mask=mask, scale=1.0, path='xla')
        assert attend(query, keys, keys, mask=mask, scale=1.0)[1].dtype == jnp.float64
