import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.training import optimisers

RATE, WARMUP, STEPS = 0.01, 10, 100


def by_formula(name, k):
    """As the docstring writes it."""
    if k < WARMUP:
        return RATE * (k + 1) / WARMUP
    return {'constant': RATE, 'inverse_square_root': RATE * np.sqrt(WARMUP / (k + 1)),
            'cosine': RATE * (1 + np.cos(np.pi * (k - WARMUP) / (STEPS - WARMUP))) / 2}[name]


@pytest.mark.parametrize('name', optimisers.SCHEDULES)
def test_the_schedule_is_the_formula(name):
    schedule = optimisers.schedule(name, RATE, WARMUP, STEPS)
    for k in (0, 1, 5, 9, 10, 11, 50, 99):
        assert float(schedule(k)) == pytest.approx(by_formula(name, k), rel=1e-5, abs=1e-6 * RATE), k


def test_a_warmup_of_one_step_begins_at_the_full_rate():
    assert float(optimisers.schedule('constant', RATE, 1, STEPS)(0)) == pytest.approx(RATE)


def test_adam_is_kingma_and_ba_after_clipping():
    """Algorithm 1 in float64, two steps, with a gradient whose norm is cut from 5 to 1."""
    transformation = optimisers.adam(optax.constant_schedule(0.1), b1=0.9, b2=0.98, epsilon=1e-9, clip=1.0)
    params = jnp.array([1.0, 2.0])
    state = transformation.init(params)
    mean, square, expected = np.zeros(2), np.zeros(2), np.array([1.0, 2.0])
    for t, gradient in enumerate((np.array([3.0, 4.0]), np.array([0.3, -0.4])), 1):
        updates, state = transformation.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        cut = gradient / max(1.0, np.linalg.norm(gradient))
        mean, square = 0.9 * mean + 0.1 * cut, 0.98 * square + 0.02 * cut**2
        expected = expected - 0.1 * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.98**t)) + 1e-9)
        np.testing.assert_allclose(params, expected, rtol=1e-5)


def test_clip_zero_cuts_nothing():
    big = jnp.array([300.0, 400.0])
    for clip, same in ((0.0, True), (1.0, False)):
        transformation = optimisers.adam(optax.constant_schedule(1.0), b1=0.0, b2=0.0, epsilon=1e3, clip=clip)
        update, _ = transformation.update(big, transformation.init(big))
        assert np.allclose(update, -big / (np.abs(big) + 1e3)) is same
