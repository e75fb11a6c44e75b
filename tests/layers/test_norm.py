"""Layer normalisation: values against NumPy in float64, gradients against autodiff of the formula."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.layers.norm import LayerNorm, layer_norm

EPSILON = 1e-6


def formula(inputs, scale, bias):
    mean = inputs.mean(-1, keepdims=True)
    variance = ((inputs - mean)**2).mean(-1, keepdims=True)
    return (inputs - mean) / (variance + EPSILON)**0.5 * scale + bias


def case(shape=(3, 5, 7)):
    random = np.random.default_rng(0)
    D = shape[-1]
    return random.normal(3.0, 2.0, shape), random.normal(size=D), random.normal(size=D), random.normal(size=shape)


def test_values_and_gradients_are_those_of_the_formula():
    *inputs, cotangent = case()
    with jax.enable_x64(True):
        expected, backward = jax.vjp(formula, *map(jnp.asarray, inputs))
        expected, gradients = np.asarray(expected), [np.asarray(part) for part in backward(cotangent)]
    np.testing.assert_allclose(expected, formula(*inputs), rtol=1e-12)
    found, backward = jax.vjp(lambda *given: layer_norm(*given, EPSILON),
                              *(jnp.asarray(part, jnp.float32) for part in inputs))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for part, wanted in zip(backward(jnp.asarray(cotangent, jnp.float32)), gradients, strict=True):
        np.testing.assert_allclose(part, wanted, rtol=1e-5, atol=5e-6)


def test_a_vector_of_equal_numbers_gives_the_bias_and_finite_gradients():
    scale, bias = jnp.full(4, 2.0), jnp.arange(4.0)
    value, backward = jax.vjp(lambda inputs: layer_norm(inputs, scale, bias, EPSILON), jnp.full((2, 4), 5.0))
    np.testing.assert_array_equal(value, np.tile(np.arange(4.0), (2, 1)))
    assert np.all(np.isfinite(backward(jnp.arange(8.0).reshape(2, 4))[0]))


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_it_has_the_parameters_and_the_type_of_flax_and_its_values(dtype):
    inputs = jnp.asarray(case()[0], dtype)
    mine, theirs = LayerNorm(EPSILON, jnp.dtype(dtype)), nn.LayerNorm(EPSILON, dtype=dtype)
    params = mine.init(jax.random.key(0), inputs)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), theirs.init(jax.random.key(0), inputs))
    found, expected = mine.apply(params, inputs), theirs.apply(params, inputs)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.astype(jnp.float32), expected.astype(jnp.float32),
                               atol=2e-6 if dtype == 'float32' else 0.02)


def test_only_the_inputs_are_kept_for_the_gradient():
    """And two numbers a vector: autodiff of the formula keeps several arrays as large as the inputs."""
    scale = jnp.ones(64)
    kept = jax.eval_shape(lambda inputs: jax.vjp(lambda given: layer_norm(given, scale, scale, EPSILON), inputs)[1],
                          jnp.zeros((32, 16, 64)))
    assert sum(leaf.size for leaf in jax.tree.leaves(kept)) <= 32 * 16 * (64 + 2) + 2 * 64
