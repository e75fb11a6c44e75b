import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.errors import UserError
from research.training import optimisers

RATE, WARMUP, STEPS = 0.01, 10, 100


def by_formula(name, k):
    """As the docstring writes it."""
    if k < WARMUP:
        return RATE * (k + 1) / WARMUP
    return {'constant': RATE, 'plateau': RATE, 'inverse_square_root': RATE * np.sqrt(WARMUP / (k + 1)),
            'linear': RATE * (1 - (k - WARMUP) / (STEPS - WARMUP)),
            'cosine': RATE * (1 + np.cos(np.pi * (k - WARMUP) / (STEPS - WARMUP))) / 2}[name]


@pytest.mark.parametrize('name', optimisers.SCHEDULES)
def test_the_schedule_is_the_formula(name):
    schedule = optimisers.schedule(name, RATE, WARMUP, STEPS)
    for k in (0, 1, 5, 9, 10, 11, 50, 99):
        assert float(schedule(k)) == pytest.approx(by_formula(name, k), rel=1e-5, abs=1e-6 * RATE), k


@pytest.mark.parametrize('name', optimisers.SCHEDULES)
def test_an_update_of_several_batches_has_the_rate_of_the_first_of_them(name):
    schedule = optimisers.schedule(name, RATE, WARMUP, STEPS, accumulate=4)
    for update in (0, 1, 2, 3, 10, 24):
        assert float(schedule(jnp.int32(update))) == pytest.approx(by_formula(name, 4 * update), rel=1e-5), update


def test_a_linear_fall_ends_at_zero():
    assert float(optimisers.schedule('linear', RATE, WARMUP, STEPS)(STEPS)) == 0
    assert float(optimisers.schedule('linear', RATE, WARMUP, STEPS)(WARMUP)) == pytest.approx(RATE)


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


def test_decay_takes_its_share_off_matrices_alone_and_is_no_part_of_the_gradient():
    """Loshchilov and Hutter's algorithm 2 in float64, two steps; the clip sees the gradient without it."""
    params = {'kernel': jnp.array([[1.0, -2.0]]), 'bias': jnp.array([3.0])}
    optimiser = optimisers.adam(optax.constant_schedule(0.1), b1=0.9, b2=0.98, epsilon=1e-9, clip=1.0, weight_decay=0.5)
    update, state, expected = jax.jit(optimiser.update), optimiser.init(params), {
        name: np.float64(leaf) for name, leaf in params.items()}
    mean, square = ({name: np.zeros_like(leaf) for name, leaf in expected.items()} for _ in range(2))
    for t, gradient in enumerate(({'kernel': np.array([[2.0, -1.0]]), 'bias': np.array([2.0])},
                                  {'kernel': np.array([[-0.1, 0.2]]), 'bias': np.array([0.3])}), 1):
        updates, state = update(jax.tree.map(jnp.float32, gradient), state, params)
        params = optax.apply_updates(params, updates)
        norm = np.sqrt(sum(np.sum(part**2) for part in gradient.values()))
        for name, part in gradient.items():
            cut = part / max(1.0, norm)
            mean[name] = 0.9 * mean[name] + 0.1 * cut
            square[name] = 0.98 * square[name] + 0.02 * cut**2
            direction = (mean[name] / (1 - 0.9**t)) / (np.sqrt(square[name] / (1 - 0.98**t)) + 1e-9)
            decay = 0.5 * expected[name] if name == 'kernel' else 0.0
            expected[name] = expected[name] - 0.1 * (direction + decay)
            np.testing.assert_allclose(params[name], expected[name], rtol=1e-5, err_msg=name)


def test_without_decay_the_state_is_what_it_was():
    params, rate = {'kernel': jnp.ones((2, 3))}, optax.constant_schedule(1.0)
    options = {'b1': 0.9, 'b2': 0.98, 'epsilon': 1e-9, 'clip': 1.0}
    plain = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.scale_by_learning_rate(rate))
    for optimiser in (optimisers.adam(rate, **options), optimisers.adam(rate, **options, weight_decay=0.0),
                      optimisers.frozen(optimisers.adam(rate, **options), ())):
        assert jax.tree.structure(optimiser.init(params)) == jax.tree.structure(plain.init(params))


PARAMS = {'encoder': {'layer_1': {'kernel': np.ones((2, 3))}, 'layer_10': {'kernel': np.ones((2, 3))}},
          'decoder': {'embedding': {'table': np.ones((5, 2)), 'scale': np.ones(2)}}}


def test_a_name_means_whole_parts_of_a_dotted_name():
    found = optimisers.chosen(PARAMS, ('encoder.layer_1', 'decoder.embedding.table'))
    assert found == {'encoder': {'layer_1': {'kernel': True}, 'layer_10': {'kernel': False}},
                     'decoder': {'embedding': {'table': True, 'scale': False}}}


@pytest.mark.parametrize(('name', 'message'), [
    ('decoder.embeding', "No parameter 'decoder.embeding' to freeze. Did you mean 'decoder.embedding'?"),
    ('encoder.layer_', "Did you mean 'encoder.layer_1"),
    ('', "No parameter '' to freeze. Names begin with: decoder, encoder"),
])
def test_an_unknown_name_is_refused_where_the_parameters_are_known(name, message):
    optimiser = optimisers.frozen(optax.sgd(1.0), ('encoder', name))
    with pytest.raises(UserError) as e:
        optimiser.init(PARAMS)
    assert message in str(e.value)
    assert '\n' not in str(e.value)


def test_frozen_parameters_keep_their_bits_and_have_no_moments():
    optimiser = optimisers.frozen(optimisers.adam(optax.constant_schedule(1.0), b1=0.9, b2=0.98, epsilon=1e-9, clip=1.0,
                                                  weight_decay=0.1), ('encoder', 'decoder.embedding.scale'))
    params = jax.tree.map(lambda leaf: jnp.float32(leaf / 3), PARAMS)
    state = optimiser.init(params)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(state) if leaf.ndim) == [(5, 2), (5, 2)]
    updates, _ = optimiser.update(jax.tree.map(jnp.ones_like, params), state, params)
    after = optax.apply_updates(params, updates)
    for left, right in ((after['encoder'], params['encoder']), (after['decoder']['embedding']['scale'],
                                                               params['decoder']['embedding']['scale'])):
        for mine, theirs in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert np.all(after['decoder']['embedding']['table'] != params['decoder']['embedding']['table'])
