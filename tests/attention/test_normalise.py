"""From logits to weights: sums, extremes, empty rows, types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.attention.normalise import softmax

MASK = np.array([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]], bool)


def reference(logits, mask):
    weights = np.zeros(logits.shape)
    for row, may in zip(np.ndindex(logits.shape[:-1]), mask.reshape(-1, mask.shape[-1])):
        if may.any():
            exponentials = np.exp(logits[row][may] - logits[row][may].max())
            weights[row][may] = exponentials / exponentials.sum()
    return weights


def a_row(seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(size=MASK.shape, scale=scale)


@pytest.mark.parametrize('scale', [1.0, 300.0])
def test_it_is_the_formula(scale):
    """Also where exp of the logits themselves overflows."""
    logits = a_row(scale=scale)
    np.testing.assert_allclose(softmax(jnp.float32(logits), MASK), reference(logits, MASK), rtol=2e-4, atol=1e-7)
    with jax.enable_x64(True):
        weights = softmax(jnp.asarray(logits), MASK)
        assert weights.dtype == jnp.float64
        np.testing.assert_allclose(weights, reference(logits, MASK), rtol=1e-12, atol=1e-15)


def test_a_row_that_may_read_nothing_is_zero_with_zero_gradients():
    def total(logits):
        return jnp.sum(softmax(logits, MASK) * np.arange(15.0, dtype=np.float32).reshape(3, 5))
    logits = jnp.float32(a_row())
    assert not np.any(softmax(logits, MASK)[1])
    gradient = np.asarray(jax.grad(total)(logits))
    assert np.all(np.isfinite(gradient))
    assert not np.any(gradient[~MASK])
    assert np.all(gradient[0][MASK[0]] != 0)


@pytest.mark.parametrize('hidden', [1e30, -1e30, np.finfo(np.float32).max])
def test_what_is_masked_changes_no_bit_however_large(hidden):
    logits = np.float32(a_row())
    loud = np.where(MASK, logits, np.float32(hidden))
    np.testing.assert_array_equal(softmax(loud, MASK), softmax(logits, MASK))
    gradient = jax.grad(lambda logits: jnp.sum(softmax(logits, MASK)**2))
    np.testing.assert_array_equal(gradient(loud), gradient(logits))


@pytest.mark.parametrize('level', [-1e38, -1e4, 0.0, 1e4, 1e38])
def test_only_differences_of_logits_matter(level):
    np.testing.assert_allclose(softmax(jnp.full((1, 4), level, jnp.float32), np.ones((1, 4), bool)), 0.25)


def test_no_position_at_all_is_no_weight():
    assert softmax(jnp.zeros((2, 3, 0)), np.zeros((2, 3, 0), bool)).shape == (2, 3, 0)


def test_bfloat16_logits_give_float32_weights():
    weights = softmax(jnp.zeros((1, 3), jnp.bfloat16), np.ones((1, 3), bool))
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(weights, 1 / 3, rtol=1e-6)


def test_the_mask_is_broadcast_over_heads():
    logits = np.float32(np.random.default_rng(1).normal(size=(2, 3, 5)))
    np.testing.assert_allclose(softmax(logits, MASK[None]), reference(logits, np.stack([MASK] * 2)), atol=1e-6)
