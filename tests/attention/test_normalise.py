"""From logits to weights: sums, extremes, empty rows, types."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from research.attention.normalise import entmax, sigmoid, softmax, softmax_with_sink, sparsemax
from research.attention.normalisers import NORMALISERS

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


# ------------------------------------------------------------------------------------------------------ all normalisers

# A row that may read everything, some, one at either end, nothing, and one of which two logits are equal and highest.
ROWS = np.array([[1] * 9, [1, 0, 1, 1, 0, 0, 1, 1, 0], [0] * 8 + [1], [1] + [0] * 8, [0] * 9, [0, 1, 1] * 3], bool)
EMPTY = ~ROWS.any(axis=-1)
FUNCTIONS = {
    'softmax': softmax, 'sigmoid': sigmoid, 'sparsemax': sparsemax, 'entmax': entmax,
    **{f'sink_{sink}': functools.partial(softmax_with_sink, sink=jnp.full((), sink)) for sink in (-3.0, 0.0, 2.0)},
    **{f'entmax_{alpha}': functools.partial(entmax, alpha=alpha) for alpha in (1.1, 1.5, 1.7, 2.0, 3.0)}}
ALL = {name: jax.jit(function) for name, function in FUNCTIONS.items()}
ONE = [name for name in ALL if name.startswith(('softmax', 'sparsemax', 'entmax'))]
ALPHAS = {'sparsemax': 2.0, 'entmax': 1.5}


def logits_of(seed=0, scale=1.0):
    logits = np.random.default_rng(seed).normal(size=ROWS.shape, scale=scale)
    logits[5, 1:3] = logits[5].max() + scale / 4
    return logits


def searched(name, logits, mask):
    """In float64: of the sparse family, a root of the sum of the weights minus one, found by Brent's method."""
    weights = np.zeros(logits.shape)
    for row, may in enumerate(mask):
        here = logits[row][may]
        if not len(here):
            continue
        if name == 'sigmoid':
            weights[row][may] = 1.0 / (1.0 + len(here) * np.exp(-here))
        elif name == 'softmax' or name.startswith('sink_'):
            sinks = [] if name == 'softmax' else [float(name.removeprefix('sink_'))]
            weights[row][may] = np.exp(here - np.logaddexp.reduce([*here, *sinks]))
        else:
            power = (ALPHAS[name] if name in ALPHAS else float(name.removeprefix('entmax_'))) - 1.0

            def at(threshold, here=here, power=power):
                return np.maximum(power * here - threshold, 0.0)**(1.0 / power)
            highest = power * here.max()
            threshold = highest - 1.0 if len(here) == 1 else scipy.optimize.brentq(
                lambda threshold, at=at: at(threshold).sum() - 1.0, highest - 1.0, highest, xtol=1e-15)
            weights[row][may] = at(threshold)
    return weights


def every(names=ALL):
    return pytest.mark.parametrize('name', names)


def test_every_normaliser_that_a_config_can_name_is_tested_here():
    tested = {getattr(function, 'func', function) for function in FUNCTIONS.values()}
    assert {entry.function for entry in NORMALISERS.values()} == tested


@every()
@pytest.mark.parametrize('scale', [0.1, 1.0, 30.0])
def test_it_is_what_a_search_finds(name, scale):
    logits = logits_of(scale=scale)
    with jax.enable_x64(True):
        ours = np.asarray(ALL[name](logits, ROWS))
    reference = searched(name, logits, ROWS)
    np.testing.assert_allclose(ours, reference, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(ALL[name](np.float32(logits), ROWS), reference, atol=3e-6)


@every()
def test_sums_are_one_or_at_most_one_and_no_weight_is_negative(name):
    with jax.enable_x64(True):
        weights = np.asarray(ALL[name](logits_of(scale=3.0), ROWS))
    assert weights.dtype == np.float64
    assert not np.any(weights < 0)
    assert not np.any(weights[~ROWS])
    sums = weights.sum(axis=-1)[~EMPTY]
    if name in ONE:
        np.testing.assert_allclose(sums, 1.0, rtol=1e-14)
    elif name != 'sigmoid':
        assert np.all(sums < 1.0)


@every()
def test_an_empty_row_is_zero_and_gradients_are_finite_and_zero_at_every_masked_entry(name):
    direction = np.float32(np.random.default_rng(1).normal(size=ROWS.shape))
    weights, pull = jax.vjp(lambda logits: ALL[name](logits, ROWS), np.float32(logits_of()))
    assert not np.any(weights[EMPTY])
    gradient = np.asarray(pull(direction)[0])
    assert np.all(np.isfinite(gradient))
    assert not np.any(gradient[~ROWS])
    assert np.any(gradient[0] != 0)


@pytest.mark.parametrize('sink', [-1e30, 0.0, 1e30])
def test_a_sink_gets_no_gradient_from_an_empty_row(sink):
    def weights(sink):
        return softmax_with_sink(np.float32(logits_of()), ROWS, sink)
    slopes = np.asarray(jax.jacfwd(weights)(jnp.float32(sink)))
    assert np.all(np.isfinite(slopes))
    assert not np.any(slopes[EMPTY])
    assert np.any(slopes != 0) == (sink == 0.0)


@every()
@pytest.mark.parametrize('hidden', [1e30, -1e30, np.finfo(np.float32).max, np.finfo(np.float32).min])
def test_no_normaliser_sees_what_is_masked_however_large(name, hidden):
    quiet = np.float32(logits_of())
    loud = np.where(ROWS, quiet, np.float32(hidden))

    @jax.jit
    def both(logits):
        weights, pull = jax.vjp(lambda logits: ALL[name](logits, ROWS), logits)
        return weights, pull(weights)[0]
    for ours, reference in zip(both(loud), both(quiet)):
        np.testing.assert_array_equal(ours, reference)


@every()
@pytest.mark.parametrize('scale', [1.0, 5.0])
def test_gradients_are_differences(name, scale):
    logits, step = logits_of(seed=4, scale=scale), 1e-6
    logits[5, 1] += 0.1  # at equal logits a support may end, and there is no slope
    random = np.random.default_rng(5)
    with jax.enable_x64(True):
        for _ in range(3):
            direction, moved = random.normal(size=ROWS.shape), random.normal(size=ROWS.shape)
            slope = np.sum(np.asarray(jax.vjp(lambda logits: ALL[name](logits, ROWS), logits)[1](direction)[0]) * moved)
            ends = [np.sum(searched(name, logits + sign * step * moved, ROWS) * direction) for sign in (1, -1)]
            np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-7)


@every()
@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_half_precision_gives_float32_weights(name, dtype):
    logits = jnp.asarray(logits_of(), dtype)
    weights = ALL[name](logits, ROWS)
    assert weights.dtype == jnp.float32
    np.testing.assert_array_equal(weights, ALL[name](logits.astype(jnp.float32), ROWS))


@every()
def test_a_mask_is_broadcast_and_no_position_is_no_weight(name):
    heads = np.float32(np.stack([logits_of(seed=seed) for seed in range(2)], axis=1))  # [B, N, S]
    weights = np.asarray(ALL[name](heads, ROWS[:, None]))
    for n in range(2):
        np.testing.assert_allclose(weights[:, n], ALL[name](heads[:, n], ROWS), atol=1e-6)
    assert ALL[name](jnp.zeros((2, 3, 0)), np.zeros((2, 3, 0), bool)).shape == (2, 3, 0)


@every(ONE)
@pytest.mark.parametrize('level', [-1e38, -1e4, 1e4, 1e38])
def test_at_every_level_equal_logits_have_equal_weights(name, level):
    np.testing.assert_allclose(ALL[name](jnp.full((1, 4), level, jnp.float32), np.ones((1, 4), bool)), 0.25, rtol=1e-5)


@every([name for name in ONE if name != 'softmax'])
def test_a_long_row_in_float32(name):
    logits, mask = np.random.default_rng(2).normal(size=(2, 3000), scale=3.0), np.ones((2, 3000), bool)
    mask[1, 5:] = False
    ours = np.asarray(ALL[name](np.float32(logits), mask))
    np.testing.assert_allclose(ours, searched(name, logits, mask), atol=1e-5)
    np.testing.assert_allclose(ours.sum(axis=-1), 1.0, rtol=1e-6)
    assert np.sum(ours[0] == 0) > (0 if name == 'entmax_1.1' else 2000)


# ------------------------------------------------------------------------------------------------------ one by one

@pytest.mark.parametrize(('logit', 'rest'), [(1e38, 0.0), (-1e38, 1.0), (0.0, 0.2)])
def test_a_sink_takes_its_share_at_every_level(logit, rest):
    """Of four equal logits and a sink of 0; also where exp overflows."""
    weights = softmax_with_sink(jnp.full((1, 4), logit, jnp.float32), np.ones((1, 4), bool), jnp.zeros(()))
    np.testing.assert_allclose(weights, (1.0 - rest) / 4.0, atol=1e-7)


def test_a_sink_of_each_head_is_one_more_logit():
    logits, sinks = np.float32(np.stack([logits_of(seed=seed) for seed in range(2)])), np.float32([0.5, -2.0])
    ours = softmax_with_sink(logits, ROWS, sinks[:, None, None])
    for n in range(2):
        longer = np.concatenate([logits[n], np.full((len(ROWS), 1), sinks[n])], axis=1)
        reference = softmax(longer, np.concatenate([ROWS, np.ones((len(ROWS), 1), bool)], axis=1))[:, :-1]
        np.testing.assert_allclose(ours[n], reference, atol=1e-6)


def test_a_sink_far_below_is_the_softmax():
    logits = np.float32(logits_of())
    np.testing.assert_array_equal(softmax_with_sink(logits, ROWS, jnp.float32(-1e4)), softmax(logits, ROWS))


def test_sigmoid_counts_what_may_be_read():
    """At logits of zero each weight is 1 / (n + 1), whatever stands behind."""
    weights = np.asarray(sigmoid(jnp.zeros(ROWS.shape), ROWS))
    for row, may in enumerate(ROWS):
        np.testing.assert_allclose(weights[row][may], 1.0 / (may.sum() + 1), rtol=1e-6)
    logits = np.float32(logits_of())
    wide = [np.concatenate([array, np.full_like(array, fill)], axis=1) for array, fill in ((logits, 9), (ROWS, False))]
    np.testing.assert_array_equal(sigmoid(*wide)[:, :9], sigmoid(logits, ROWS))


def test_entmax_with_alpha_towards_one_is_the_softmax():
    """What is between them falls as alpha - 1 does."""
    logits = logits_of()
    with jax.enable_x64(True):
        away = [np.abs(np.asarray(entmax(logits, ROWS, 1.0 + step)) - np.asarray(softmax(logits, ROWS))).max()
                for step in (1e-3, 1e-4, 1e-5)]
        slopes = [np.asarray(jax.vjp(lambda logits, rule=rule: rule(logits, ROWS), logits)[1](logits)[0])
                  for rule in (softmax, functools.partial(entmax, alpha=1.0 + 1e-6))]
    assert away[2] < 1e-5
    np.testing.assert_allclose([away[0] / away[1], away[1] / away[2]], 10.0, rtol=0.02)
    np.testing.assert_allclose(*slopes, atol=1e-5)


def test_entmax_with_alpha_two_is_sparsemax_bit_for_bit():
    for scale in (0.1, 1.0, 30.0):
        logits = np.float32(logits_of(scale=scale))
        np.testing.assert_array_equal(entmax(logits, ROWS, 2.0), sparsemax(logits, ROWS))


@pytest.mark.parametrize('alpha', [1.5, 2.0])
@pytest.mark.parametrize('scale', [0.1, 1.0, 30.0])
def test_bisection_finds_what_sorting_finds(alpha, scale):
    """An alpha beside it is solved by bisection."""
    logits = logits_of(seed=3, scale=scale)
    with jax.enable_x64(True):
        np.testing.assert_allclose(entmax(logits, ROWS, alpha + 1e-11), entmax(logits, ROWS, alpha), atol=1e-9)
    np.testing.assert_allclose(entmax(np.float32(logits), ROWS, alpha + 1e-11),
                               entmax(np.float32(logits), ROWS, alpha), atol=3e-6)


def test_sparsemax_is_the_nearest_point_of_the_simplex():
    logits, random = logits_of(), np.random.default_rng(7)
    weights = np.asarray(sparsemax(np.float32(logits), ROWS))
    for row in np.flatnonzero(~EMPTY):
        may = ROWS[row]
        others = random.dirichlet(np.full(may.sum(), 0.3), size=500)
        others = np.concatenate([others, 0.99 * weights[row][may] + 0.01 * others])  # far from it and near it
        near = np.sum((weights[row][may] - logits[row][may])**2)
        assert np.all(np.sum((others - logits[row][may])**2, axis=-1) >= near - 1e-6)


def test_by_hand():
    """sparsemax: 0.75 = (1 + 0.5 - 0 + ..) / 2; 1.5-entmax of two logits d apart: sqrt(p) - sqrt(1 - p) = d / 2."""
    full = np.ones((1, 3), bool)
    np.testing.assert_allclose(sparsemax(np.float32([[1.0, 0.5, -1.0]]), full), [[0.75, 0.25, 0.0]], atol=1e-6)
    np.testing.assert_array_equal(sparsemax(np.float32([[2.0, 1.0, 0.5]]), full), [[1.0, 0.0, 0.0]])
    p = np.asarray(entmax(np.float32([[1.0, 0.0, -9.0]]), full))[0]
    np.testing.assert_allclose(np.sqrt(p[0]) - np.sqrt(p[1]), 0.5, atol=1e-6)
    assert p[2] == 0
    np.testing.assert_array_equal(entmax(np.float32([[2.0, 0.0, -9.0]]), full), [[1.0, 0.0, 0.0]])
