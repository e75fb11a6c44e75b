"""The parts that models share, against float64 NumPy and by what they promise."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.layers.dropout import dropout, split
from research.layers.embedding import Embedding, Projection
from research.layers.feed_forward import ACTIVATIONS, FeedForward
from research.layers.residual import Residual

B, S, D, F, V = 3, 5, 7, 11, 13
RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(B, S, D)).astype(np.float32)


def layer_norm(inputs, scale, bias):
    mean, variance = inputs.mean(-1, keepdims=True), inputs.var(-1, keepdims=True)
    return (inputs - mean) / np.sqrt(variance + 1e-6) * scale + bias


def test_dropout_without_a_key_or_a_rate_changes_nothing():
    assert dropout(INPUTS, 0.5, None) is INPUTS
    assert dropout(INPUTS, 0.0, jax.random.key(0)) is INPUTS


def test_dropout_zeroes_the_stated_share_and_keeps_the_mean():
    ones = jnp.ones((200, 500))
    dropped = np.asarray(dropout(ones, 0.3, jax.random.key(1)))
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1) / np.float32(0.7)}
    assert np.mean(dropped == 0) == pytest.approx(0.3, abs=0.005)  # 3.5 standard deviations of 100,000 draws


def test_split_gives_different_keys_or_none_at_all():
    assert split(None, 3) == [None, None, None]
    draws = {float(jax.random.uniform(key)) for key in split(jax.random.key(0), 3)}
    assert len(draws) == 3


def test_embedding_looks_up_scaled_rows_and_scores_with_the_same_table():
    embedding, tokens = Embedding(V, D), np.array([[0, 12], [5, 5]], np.int32)
    params = embedding.init(jax.random.key(0), tokens)
    table = np.asarray(params['params']['table'], np.float64)
    np.testing.assert_allclose(embedding.apply(params, tokens), table[tokens] * np.sqrt(D), rtol=1e-6)
    np.testing.assert_allclose(embedding.apply(params, INPUTS, method='logits'), INPUTS @ table.T, rtol=1e-5, atol=1e-6)
    assert np.std(table) == pytest.approx(D**-0.5, rel=0.2)


def test_projection_scores_by_a_product_and_in_float32():
    projection = Projection(V)
    params = projection.init(jax.random.key(0), INPUTS)
    kernel = np.asarray(params['params']['kernel'], np.float64)
    np.testing.assert_allclose(projection.apply(params, INPUTS), INPUTS @ kernel, rtol=1e-5, atol=1e-6)
    low = INPUTS.astype(jnp.bfloat16)  # products of bfloat16, but their sums are not rounded to it
    scores = projection.apply(params, low)
    assert scores.dtype == np.float32
    rounded = np.asarray(low, np.float64) @ np.asarray(params['params']['kernel'].astype(jnp.bfloat16), np.float64)
    np.testing.assert_allclose(scores, rounded, rtol=1e-5, atol=1e-6)


def test_feed_forward_is_the_formula_and_counts_its_products():
    network = FeedForward(D, F)
    params = network.init(jax.random.key(0), INPUTS)
    inner, outer = params['params']['inner'], params['params']['outer']
    hidden = np.maximum(INPUTS.astype(np.float64) @ inner['kernel'] + inner['bias'], 0)
    np.testing.assert_allclose(network.apply(params, INPUTS), hidden @ outer['kernel'] + outer['bias'], rtol=1e-5,
                               atol=1e-6)
    assert network.flops() == 2 * D * F + 2 * F * D


@pytest.mark.parametrize('activation', ACTIVATIONS)
def test_each_activation_is_its_formula_and_only_gated_ones_have_a_third_matrix(activation):
    network = FeedForward(D, F, activation=activation)
    params = jax.tree.map(lambda leaf: RANDOM.normal(size=leaf.shape).astype(np.float32),
                          network.init(jax.random.key(0), INPUTS)['params'])
    x, gated = INPUTS.astype(np.float64), activation in ('reglu', 'geglu', 'swiglu')
    assert ('gate' in params) == gated
    inner, gate, outer = (in_float64(params, name) for name in ('inner', 'gate', 'outer'))
    before = x @ inner['kernel'] + inner['bias']
    normal = (1 + np.vectorize(math.erf)(before / math.sqrt(2))) / 2
    tanh = np.tanh(math.sqrt(2 / math.pi) * (before + 0.044715 * before**3))
    hidden = {'relu': before * (before > 0), 'gelu': before * normal, 'swish': before / (1 + np.exp(-before)),
              'gelu_tanh': before * (1 + tanh) / 2}
    hidden |= {'reglu': hidden['relu'], 'geglu': hidden['gelu'], 'swiglu': hidden['swish']}
    hidden = hidden[activation] * (x @ gate['kernel'] + gate['bias'] if gated else 1)
    np.testing.assert_allclose(network.apply({'params': params}, INPUTS), hidden @ outer['kernel'] + outer['bias'],
                               rtol=1e-4, atol=1e-4)
    assert network.flops() == (3 if gated else 2) * 2 * D * F


def in_float64(params, name):
    return {key: np.asarray(array, np.float64) for key, array in params[name].items()} if name in params else None


def test_an_unknown_activation_is_refused():
    with pytest.raises(UserError, match="activation is 'silu'; it must be one of relu, gelu, gelu_tanh, swish, reglu"):
        FeedForward(D, F, activation='silu').init(jax.random.key(0), INPUTS)


def test_an_embedding_that_is_not_scaled_gives_its_rows():
    embedding, tokens = Embedding(V, D, scaled=False), np.array([[0, 12], [5, 5]], np.int32)
    params = embedding.init(jax.random.key(0), tokens)
    np.testing.assert_array_equal(embedding.apply(params, tokens), np.asarray(params['params']['table'])[tokens])


@pytest.mark.parametrize('norm', ['pre', 'post'])
def test_residual_normalises_on_its_side(norm):
    residual = Residual(norm)

    def both(module, inputs):
        return module.after(inputs, 2.0 * module.before(inputs))
    params = residual.init(jax.random.key(0), INPUTS, method=both)
    scale, bias = (np.asarray(params['params']['layer_norm'][name], np.float64) for name in ('scale', 'bias'))
    inputs = INPUTS.astype(np.float64)
    expected = (inputs + 2 * layer_norm(inputs, scale, bias) if norm == 'pre'
                else layer_norm(inputs + 2 * inputs, scale, bias))
    np.testing.assert_allclose(residual.apply(params, INPUTS, method=both), expected, rtol=1e-4, atol=1e-5)
