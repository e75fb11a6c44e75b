"""Where readers with an energy of their own must agree with simpler ones, and what each of them refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.attention import registry
from research.attention.additive import QUERIES, additive_energies
from research.attention.monotonic import monotonic_weights
from research.attention.multi_head_additive import multi_head_additive_energies
from research.errors import UserError
from research.shapes import Places
from tests.attention.test_equalities import (
    QUERY_PLACES,
    SOURCE_PLACES,
    B,
    D,
    H,
    N,
    S,
    T,
    close,
    cross,
    normal,
    places,
    read,
)

A = 6
SOFTMAX = {'normaliser': 'softmax'}
ADDITIVE = {'energy_width': A, **SOFTMAX}
PARAMS = {'query_projection': {'kernel': normal(D, A, seed=3)}, 'key_projection': {'kernel': normal(D, A, seed=4)},
          'vector': normal(A, seed=5)}
BIASED = {**PARAMS, 'bias': np.zeros(A, np.float32)}
LOCATION = {'filters': 4, 'width': 3, **ADDITIVE}
MONOTONIC = {'energy_width': A, 'mode': 'soft', 'noise': 1.0}
STOPPING = {**BIASED, 'factor': np.float32(1.5), 'offset': np.float32(-0.5)}


def additive(params=PARAMS):
    return read(cross('additive', **ADDITIVE), params)


# ---------------------------------------------------------------------------------------------- energies of one network

def formula(query, keys, vectors):
    """All at once: [B, T, N, A] and [B, S, N, A] -> [B, N, T, S]."""
    return jnp.einsum('btsna,na->bnts', jnp.tanh(query[:, :, None] + keys[:, None]), vectors)


@pytest.mark.parametrize('T', [QUERIES, QUERIES + 1, 2 * QUERIES, 3 * QUERIES - 5])
def test_energies_in_blocks_of_queries_are_those_of_all_at_once_and_so_are_their_gradients(T):
    with jax.enable_x64(True):
        arrays = [jnp.asarray(normal(*shape, seed=at), jnp.float64)
                  for at, shape in enumerate(((2, T, N, A), (2, S, N, A), (N, A)))]
        direction = jnp.asarray(normal(2, N, T, S, seed=9), jnp.float64)

        def gradients(energies, *given):
            return jax.jit(jax.value_and_grad(lambda given: jnp.sum(direction * energies(*given))))(given)
        ours, reference = (gradients(energies, *arrays) for energies in (multi_head_additive_energies, formula))
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-11), ours, reference)
        one_head = [arrays[0][:, :, 0], arrays[1][:, :, 0], arrays[2][0]]
        np.testing.assert_allclose(additive_energies(*one_head), formula(*arrays)[:, 0], atol=1e-11)


def test_energies_in_blocks_of_queries_do_not_keep_those_of_all():
    def size(energies):
        shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, 512, 1, 64), (4, 512, 1, 64), (1, 64))]
        program = jax.jit(jax.grad(lambda *given: jnp.sum(jax.nn.softmax(energies(*given))**2), argnums=(0, 1, 2)))
        return program.lower(*shapes).compile().memory_analysis().temp_size_in_bytes
    assert size(multi_head_additive_energies) < size(formula) / 3


def test_concat_is_additive_under_the_split_of_w():
    close(read(cross('concat', source_projection='learned', **ADDITIVE), PARAMS), additive())


def test_concat_without_a_source_projection_is_additive_with_the_identity_there():
    params = {**PARAMS, 'query_projection': {'kernel': normal(D, D)}, 'vector': normal(D)}
    options = {'energy_width': D, **SOFTMAX}
    params['key_projection'] = {'kernel': np.eye(D, dtype=np.float32)}
    reference = read(cross('additive', **options), params)
    del params['key_projection']
    close(read(cross('concat', source_projection='identity', **options), params), reference)


def test_additive_normalised_is_additive_with_a_vector_of_that_length_whatever_its_own_length_is():
    unit = PARAMS['vector'] / np.linalg.norm(PARAMS['vector'])
    reference = additive({**PARAMS, 'vector': np.float32(1.7) * unit})
    for length in (0.2, 30.0):
        params = {**BIASED, 'vector': np.float32(length) * unit, 'factor': np.float32(1.7)}
        close(read(cross('additive_normalised', **ADDITIVE), params), reference)


def test_coverage_whose_factors_are_zero_is_additive():
    params = {**BIASED, 'factors': np.zeros(A, np.float32)}
    close(read(cross('coverage', penalty_weight=1.0, **ADDITIVE), params), additive())


@pytest.mark.parametrize('cumulative', [False, True])
def test_location_sensitive_whose_filters_are_zero_is_additive(cumulative):
    params = {**BIASED, 'kernel': np.zeros((3, 1 + cumulative, 4), np.float32), 'found_projection': normal(4, A)}
    close(read(cross('location_sensitive', cumulative=cumulative, **LOCATION), params), additive())


def test_location_sensitive_whose_one_filter_sees_the_sum_of_the_own_position_is_coverage():
    kernel = np.zeros((3, 2, 1), np.float32)
    kernel[1, 1] = 1.0
    factors = 4 * normal(1, A)
    ours = read(cross('location_sensitive', cumulative=True, **LOCATION | {'filters': 1}),
                {**BIASED, 'kernel': kernel, 'found_projection': factors})
    reference = read(cross('coverage', penalty_weight=0.0, **ADDITIVE), {**BIASED, 'factors': factors[0]})
    close(ours, reference)
    assert np.max(np.abs(ours.weights - additive().weights)) > 0.01


def test_one_head_of_multi_head_additive_with_identities_behind_it_is_additive():
    eye = np.eye(D, dtype=np.float32)
    params = {'query_projection': {'kernel': PARAMS['query_projection']['kernel'][:, None]},
              'key_projection': {'kernel': PARAMS['key_projection']['kernel'][:, None]},
              'vector': PARAMS['vector'][None], 'value_projection': {'kernel': eye[:, None]},
              'output_projection': {'kernel': eye[None]}}
    close(read(cross('multi_head_additive', heads=1, head_width=0, projection_bias=False, **ADDITIVE), params),
          additive())


def test_heads_of_multi_head_additive_have_the_weights_of_additive_and_the_values_of_multi_head_dot():
    a = 2
    shapes = {'query_projection': (D, N, a), 'key_projection': (D, N, a), 'value_projection': (D, N, H),
              'output_projection': (N, H, D)}
    params = {name: {'kernel': normal(*shape, seed=seed)} for seed, (name, shape) in enumerate(shapes.items())}
    params['vector'] = normal(N, a)
    ours = read(cross('multi_head_additive', heads=N, head_width=H, energy_width=N * a, projection_bias=False,
                      **SOFTMAX), params)
    values = np.einsum('bsd,dnh->bsnh', normal(B, S, D, seed=2), params['value_projection']['kernel'])
    context = np.einsum('bnts,bsnh,nhd->btd', ours.weights, values, params['output_projection']['kernel'])
    np.testing.assert_allclose(ours.context, context, rtol=1e-4, atol=1e-4)
    for n in range(N):
        one = {name: {'kernel': params[name]['kernel'][:, n]} for name in ('query_projection', 'key_projection')}
        alone = read(cross('additive', energy_width=a, **SOFTMAX), {**one, 'vector': params['vector'][n]})
        np.testing.assert_allclose(ours.weights[:, n], alone.weights[:, 0], rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------ products, parts, and places

def test_key_value_memory_is_general_of_one_half_and_reads_the_other():
    source, kernel = normal(B, S, 2 * H), normal(H, D)
    params = {'key_projection': {'kernel': kernel}}
    ours = read(cross('key_value_memory', **SOFTMAX), params, source=source)
    reference = read(cross('general', **SOFTMAX), params, source=source[..., :H])
    np.testing.assert_allclose(ours.weights, reference.weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.context, np.einsum('bts,bsd->btd', reference.weights[:, 0], source[..., H:]),
                               rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('energy', 'params'), [('dot', {}), ('general', {'key_projection': {'kernel': normal(D, D)}})])
def test_a_window_over_everything_is_no_window(energy, params):
    reference = read(cross(energy, **SOFTMAX), params)
    close(read(cross('local_monotonic', window=S, energy=energy, **SOFTMAX), params), reference)
    centre = {'position_projection': {'kernel': normal(D, A)}, 'position_vector': normal(A)}
    wide = cross('local_predictive', window=100_000, energy=energy, **ADDITIVE)  # the Gaussian is one then
    close(read(wide, params | centre), reference)


def test_a_window_of_nothing_else_reads_the_own_position_and_beyond_the_source_nothing():
    module = cross('local_monotonic', window=0, energy='dot', **SOFTMAX)
    weights = np.asarray(read(module, {}, query=normal(B, S, D), query_places=places([S, S], S)).weights)
    np.testing.assert_array_equal(weights[0, 0], np.eye(S))
    np.testing.assert_array_equal(weights[1, 0], np.diag(np.arange(S) < 3))


def test_a_predicted_centre_is_a_share_of_the_length_of_the_own_source():
    """With a vector of zeros it is the middle: 2.5 of five positions, 1.5 of three."""
    module = cross('local_predictive', window=1, energy='dot', **ADDITIVE)
    params = {'position_projection': {'kernel': normal(D, A)}, 'position_vector': np.zeros(A, np.float32)}
    weights = np.asarray(read(module, params, query=np.zeros((B, T, D), np.float32)).weights)
    gaussian = np.exp(-0.5**2 / (2 * 0.5**2))
    np.testing.assert_allclose(weights[0, 0, 0], gaussian * np.array([0, 0, 0.5, 0.5, 0]), rtol=1e-6)
    np.testing.assert_allclose(weights[1, 0, 0], gaussian * np.array([0, 0.5, 0.5, 0, 0]), rtol=1e-6)


def test_location_reads_by_place_whatever_stands_there():
    module, params = cross('location', maximum_length=8, **SOFTMAX), {'query_projection': {'kernel': normal(D, 8)}}
    ours, other = read(module, params), read(module, params, source=normal(B, S, D, seed=9))
    np.testing.assert_array_equal(ours.weights, other.weights)
    order = np.array([3, 1, 4, 0, 2])
    turned = read(module, params, source=normal(B, S, D, seed=2)[:, order],
                  source_places=Places(*(part[:, order] for part in SOURCE_PLACES)))
    np.testing.assert_allclose(turned.context, ours.context, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(turned.weights, np.asarray(ours.weights)[..., order], rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------ what was read before

COVERING = {**BIASED, 'factors': normal(A, seed=6)}
FILTERED = {**BIASED, 'kernel': normal(3, 2, 4), 'found_projection': normal(4, A)}
LOOKING_BACK = [('coverage', {'penalty_weight': 1.0, **ADDITIVE}, COVERING),
                ('location_sensitive', {'cumulative': True, **LOCATION}, FILTERED), ('monotonic', MONOTONIC, STOPPING)]


def test_the_penalty_is_what_is_read_again():
    result = read(cross('coverage', penalty_weight=0.3, **ADDITIVE), COVERING)
    weights = np.asarray(result.weights)[:, 0]
    before = np.cumsum(weights, axis=1) - weights
    np.testing.assert_allclose(result.penalty, 0.3 * np.minimum(weights, before).sum(axis=-1), rtol=1e-4, atol=1e-6)
    assert not np.any(np.asarray(result.penalty)[:, 0]), 'nothing was read before the first'
    assert not np.any(np.asarray(result.penalty)[QUERY_PLACES.segment == 0])
    assert not np.any(read(cross('coverage', penalty_weight=0.0, **ADDITIVE), COVERING).penalty)
    np.testing.assert_allclose(result.carry.coverage, weights.sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize(('name', 'options', 'params'), LOOKING_BACK)
def test_a_pad_hands_on_what_it_was_given(name, options, params):
    module, pads = cross(name, **options), Places(np.zeros((B, T), np.int32), QUERY_PLACES.position)

    def call(module):
        memory = module.remember(normal(B, S, D, seed=2), SOURCE_PLACES)
        first = module(normal(B, T, D, seed=1), memory, module.start(memory, 2 * T), QUERY_PLACES)
        return first.carry, module(normal(B, T, D, seed=1), memory, first.carry, pads).carry
    before, after = nn.apply(call, module)({'params': params})
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.any(one)


@pytest.mark.parametrize(('name', 'options', 'params'), LOOKING_BACK)
def test_what_is_read_depends_on_what_was_read_before(name, options, params):
    """Else the tests of chunks would show nothing: the same query twice reads twice something else."""
    query = np.repeat(normal(B, 1, D), T, axis=1)
    weights = np.asarray(read(cross(name, **options), params, query=query).weights)
    assert np.max(np.abs(weights[0, 0, 1] - weights[0, 0, 0])) > 0.001


# ------------------------------------------------------------------------------------------------- from left to right

def energies(params=STOPPING):
    """[B, T, S] of monotonic, written down a second time."""
    query = normal(B, T, D, seed=1) @ params['query_projection']['kernel']
    keys = normal(B, S, D, seed=2) @ params['key_projection']['kernel']
    unit = params['vector'] / np.linalg.norm(params['vector'])
    return params['factor'] * np.tanh(query[:, :, None] + keys[:, None]) @ unit + params['offset']


def test_the_mass_of_the_first_step_is_what_is_not_passed_everywhere_and_later_it_only_shrinks():
    weights = np.asarray(read(cross('monotonic', **MONOTONIC), STOPPING).weights)[:, 0]
    passed = np.where(SOURCE_PLACES.segment > 0, 1.0 / (1.0 + np.exp(energies()[:, 0])), 1.0)
    np.testing.assert_allclose(weights[:, 0].sum(axis=-1), 1.0 - passed.prod(axis=-1), rtol=1e-5)
    behind = np.cumsum(weights, axis=-1)[0]  # how far the reading has come: never back
    assert np.all(behind[1:] <= behind[:-1] + 1e-6)


def test_hard_is_what_soft_becomes_when_it_is_certain():
    certain = {**STOPPING, 'factor': np.float32(1e4), 'offset': np.float32(-0.5e4 / 1.5)}
    hard = read(cross('monotonic', **MONOTONIC | {'mode': 'hard'}), STOPPING)
    close(read(cross('monotonic', **MONOTONIC), certain), hard)
    assert set(np.unique(hard.weights)) == {0.0, 1.0}


def test_a_hard_reading_that_finds_nothing_more_is_at_its_end():
    """The picture in the docstring of monotonic_weights."""
    choice = jnp.array([[[0, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]]], jnp.float32)
    weights, after = monotonic_weights(choice, jnp.ones((1, 4, 4), bool), jnp.eye(4)[:1])
    np.testing.assert_array_equal(weights[0], [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    assert not np.any(after)


def test_noise_is_for_training_in_mode_soft():
    def weights(mode, noise, rng):
        def call(module):
            memory = module.remember(normal(B, S, D, seed=2), SOURCE_PLACES)
            return module(normal(B, T, D, seed=1), memory, module.start(memory, T), QUERY_PLACES, rng).weights
        return np.asarray(nn.apply(call, cross('monotonic', energy_width=A, mode=mode, noise=noise))(
            {'params': STOPPING}))
    key = jax.random.key(3)
    for mode, noise in (('soft', 0.0), ('hard', 1.0)):
        np.testing.assert_array_equal(weights(mode, noise, key), weights(mode, noise, None))
    np.testing.assert_array_equal(weights('soft', 1.0, key), weights('soft', 1.0, key))
    assert np.max(np.abs(weights('soft', 1.0, key) - weights('soft', 1.0, None))) > 0.01


# ------------------------------------------------------------------------------------------------------ what is refused

LOCAL = {'window': 2, 'energy': 'dot', **SOFTMAX}
PREDICTIVE = {**LOCAL, 'energy_width': A}
SENSITIVE = {'cumulative': False, **LOCATION}
HEADS = {'heads': 2, 'head_width': 0, 'projection_bias': False, **ADDITIVE}


@pytest.mark.parametrize(('name', 'options', 'message'), [
    ('additive_normalised', ADDITIVE | {'energy_width': 0}, 'energy_width is 0; it must be at least 1'),
    ('additive_normalised', ADDITIVE | {'normaliser': 'softmin'}, "normaliser is 'softmin'; it must be one of softmax"),
    ('concat', {'source_projection': 'none', **ADDITIVE}, "source_projection is 'none'; it must be one of learned"),
    ('concat', {'source_projection': 'learned', **ADDITIVE, 'energy_width': 0}, 'energy_width is 0'),
    ('concat', {'source_projection': 'learned', **ADDITIVE, 'normaliser': ''}, "normaliser is ''"),
    ('key_value_memory', {'normaliser': ''}, "normaliser is ''"),
    ('location', {'maximum_length': 0, **SOFTMAX}, 'maximum_length is 0; it must be at least 1'),
    ('location', {'maximum_length': 9, 'normaliser': ''}, "normaliser is ''"),
    ('local_monotonic', LOCAL | {'window': -1}, 'window is -1; it must be at least 0'),
    ('local_monotonic', LOCAL | {'energy': 'additive'}, "energy is 'additive'; it must be one of dot, general"),
    ('local_predictive', PREDICTIVE | {'window': 0}, 'window is 0; it must be at least 1'),
    ('local_predictive', PREDICTIVE | {'energy_width': 0}, 'energy_width is 0; it must be at least 1'),
    ('local_predictive', PREDICTIVE | {'energy': ''}, "energy is ''; it must be one of dot, general"),
    ('local_predictive', PREDICTIVE | {'normaliser': ''}, "normaliser is ''"),
    ('coverage', {'penalty_weight': -0.1, **ADDITIVE}, 'penalty_weight is -0.1; it must be at least 0.0, and finite'),
    ('coverage', {'penalty_weight': float('nan'), **ADDITIVE}, 'penalty_weight is nan'),
    ('coverage', {'penalty_weight': 1.0, **ADDITIVE, 'energy_width': 0}, 'energy_width is 0'),
    ('location_sensitive', SENSITIVE | {'energy_width': 0}, 'energy_width is 0; it must be at least 1'),
    ('location_sensitive', SENSITIVE | {'filters': 0}, 'filters is 0; it must be at least 1'),
    ('location_sensitive', SENSITIVE | {'width': 4}, 'width is 4; it must be odd'),
    ('location_sensitive', SENSITIVE | {'width': -1}, 'width is -1; it must be odd, and at least 1'),
    ('monotonic', MONOTONIC | {'energy_width': 0}, 'energy_width is 0; it must be at least 1'),
    ('monotonic', MONOTONIC | {'mode': 'parallel'}, "mode is 'parallel'; it must be one of soft, hard"),
    ('monotonic', MONOTONIC | {'noise': float('inf')}, 'noise is inf; it must be at least 0.0, and finite'),
    ('multi_head_additive', HEADS | {'energy_width': 5}, 'energy_width is 5; it must be a multiple of heads = 2'),
    ('multi_head_additive', HEADS | {'energy_width': 0}, 'energy_width is 0; it must be a multiple of heads = 2'),
    ('multi_head_additive', HEADS | {'heads': 5}, 'heads is 5, which does not divide the width 12'),
    ('multi_head_additive', HEADS | {'normaliser': ''}, "normaliser is ''"),
])
def test_a_wrong_option_is_refused_in_one_line(name, options, message):
    with pytest.raises(UserError) as caught:
        cross(name, **options)
    assert f'Attention {name!r}: {message}' in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('name', 'options', 'width', 'message'), [
    ('location', {'maximum_length': S - 1, **SOFTMAX}, D, 'a source of 5 positions, but maximum_length is 4: raise'),
    ('key_value_memory', SOFTMAX, 7, 'annotations of width 7 cannot be split'),
    ('concat', {'source_projection': 'identity', **ADDITIVE}, 7, 'needs energy_width = 7, the width of the anno'),
    ('local_monotonic', LOCAL, 7, 'width 7 with queries of width 12'),
    ('local_predictive', PREDICTIVE, 7, 'width 7 with queries of width 12'),
])
def test_a_source_that_does_not_fit_is_refused_when_it_is_seen(name, options, width, message):
    module = registry.make(name, features=D, role='cross', **options)
    with pytest.raises(UserError, match=message):
        jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((B, S, width)), SOURCE_PLACES,
                                           method='remember'))
