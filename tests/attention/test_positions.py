"""What is added to embeddings and what compares distances: the formula, and what happens past the end of a table."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.attention.positions import (
    alibi_slopes,
    distances,
    kerple_log,
    kerple_power,
    learned,
    rotary,
    sinusoidal,
    t5_buckets,
)
from research.attention.schemes import SCHEMES, scheme
from research.errors import UserError
from research.shapes import Places


def test_sinusoidal_is_the_formula_number_by_number():
    position = np.array([[0, 1, 2], [7, 100, 4999]], np.int32)
    vectors = sinusoidal(position, 6)
    assert vectors.shape == (2, 3, 6)
    assert vectors.dtype == np.float32
    for row, column in np.ndindex(2, 3):
        for i in range(3):
            angle = int(position[row, column]) / 10000**(2 * i / 6)
            # the angle is in float32: 6e-8 of it is lost
            for entry, wave in ((2 * i, math.sin), (2 * i + 1, math.cos)):
                assert abs(float(vectors[row, column, entry]) - wave(angle)) < 1e-6 + 2e-7 * angle


def test_a_shift_of_the_position_is_a_rotation():
    """Vaswani et al. 2017, section 3.5: PE at pos + k is a linear function of PE at pos, whatever pos is."""
    products = [float(sinusoidal(np.array([p]), 8)[0] @ sinusoidal(np.array([p + 5]), 8)[0]) for p in (0, 3, 40)]
    np.testing.assert_allclose(products, products[0], rtol=1e-5)


def test_an_odd_width_is_refused():
    with pytest.raises(UserError, match='even width, not 7'):
        sinusoidal(np.zeros((1, 2), np.int32), 7)


def test_learned_takes_rows_and_their_gradient_returns_to_them():
    table = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    position = np.array([[0, 4, 4], [2, 0, 1]], np.int32)
    np.testing.assert_array_equal(learned(table, position), table[position])
    gradient = jax.grad(lambda table: learned(table, position).sum())(table)
    np.testing.assert_array_equal(gradient[:, 0], [2, 1, 1, 0, 2])


def test_past_the_table_is_nan_and_never_its_last_row():
    vectors = learned(np.ones((5, 3), np.float32), np.array([[4, 5]], np.int32))
    assert not np.any(np.isnan(vectors[0, 0]))
    assert np.all(np.isnan(vectors[0, 1]))


# --------------------------------------------------------------------------------------------------------------- rotary

def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


@pytest.mark.parametrize('base', [10000.0, 10.0])
def test_rotary_multiplies_complex_numbers(base):
    """The pair (i, i + H/2) is one number, and its angle grows by base^(-2 i / H) with each position."""
    position, vectors = np.array([[0, 1, 2], [7, 100, 4999]], np.int32), normal(2, 3, 2, 6)
    numbers = vectors[..., :3] + 1j * vectors[..., 3:]
    numbers = numbers * np.exp(1j * position[:, :, None, None] * base**(-2 * np.arange(3) / 6))
    reference = np.concatenate([numbers.real, numbers.imag], axis=-1)
    with jax.enable_x64(True):
        ours = rotary(jnp.asarray(vectors), position, base)
        assert ours.dtype == jnp.float64
        np.testing.assert_allclose(ours, reference, atol=1e-11)
    # the angle is in float32: of 4999 radians 3e-4 are lost
    ours = rotary(np.float32(vectors), position, base)
    np.testing.assert_allclose(ours, reference, atol=2e-3)
    np.testing.assert_allclose(ours[0], reference[0], atol=1e-6)


def test_a_product_of_rotated_vectors_depends_on_their_distance_only():
    query, key = normal(1, 1, 1, 8), normal(1, 1, 1, 8, seed=1)

    def product(t, s):
        turned = [rotary(jnp.asarray(vector), np.full((1, 1), at, np.int32), 100.0)
                  for vector, at in ((query, t), (key, s))]
        return float(jnp.sum(turned[0] * turned[1]))
    with jax.enable_x64(True):
        for distance in (-3, 0, 5):
            products = [product(t, t + distance) for t in (3, 4, 70, 1000)]
            np.testing.assert_allclose(products, products[0], rtol=1e-11)
        np.testing.assert_allclose(product(9, 9), np.sum(query * key), rtol=1e-12)
        assert abs(product(3, 3) - product(3, 4)) > 1e-2
        assert abs(product(3, 4) - product(4, 3)) > 1e-2, 'earlier and later are told apart'


def test_rotary_keeps_lengths_and_the_type():
    vectors = jnp.asarray(normal(2, 3, 2, 6), jnp.bfloat16)
    turned = rotary(vectors, np.array([[0, 1, 2], [7, 100, 499]], np.int32), 100.0)
    assert turned.dtype == jnp.bfloat16
    np.testing.assert_array_equal(turned[0, 0], vectors[0, 0])
    lengths = [np.linalg.norm(np.asarray(array, np.float32), axis=-1) for array in (turned, vectors)]
    np.testing.assert_allclose(*lengths, rtol=0.01)


# ---------------------------------------------------------------------------------------------------------------- alibi

def published_slopes(heads):
    """The rule of the paper in its words: a geometric sequence whose start and ratio are 2^(-8 / n)."""
    if heads & (heads - 1) == 0:
        ratio = 2.0**(-8.0 / heads)
        return [ratio * ratio**i for i in range(heads)]
    lower = 1
    while 2 * lower < heads:
        lower *= 2
    return published_slopes(lower) + published_slopes(2 * lower)[0::2][:heads - lower]


@pytest.mark.parametrize('heads', range(1, 17))
def test_alibi_slopes_are_the_published_ones(heads):
    slopes = alibi_slopes(heads)
    assert slopes.shape == (heads,)
    np.testing.assert_allclose(slopes, published_slopes(heads), rtol=1e-12)


def test_alibi_slopes_by_hand():
    np.testing.assert_array_equal(alibi_slopes(8), [1/2, 1/4, 1/8, 1/16, 1/32, 1/64, 1/128, 1/256])
    np.testing.assert_array_equal(alibi_slopes(1), [2.0**-8])
    np.testing.assert_allclose(alibi_slopes(12), 2.0**-np.array([1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]))


# -------------------------------------------------------------------------------------------------------------- buckets

def published_bucket(distance, buckets, maximum, causal):
    """In whole numbers: bucket e + j begins where (d / e)^(n - e) reaches (maximum / e)^j."""
    before, bucket = -distance, 0
    if not causal:
        buckets //= 2
        bucket, before = buckets * (distance > 0), abs(distance)
    before, exact = max(before, 0), buckets // 2
    if before < exact:
        return bucket + before
    steps = max(j for j in range(buckets - exact) if before**(buckets - exact) * exact**j
                >= maximum**j * exact**(buckets - exact))
    return bucket + exact + steps


@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize(('buckets', 'maximum'), [
    (32, 128), (8, 16), (8, 20), (4, 3), (6, 5), (64, 256), (16, 1000),
    (8, 9), (16, 18), (32, 18)])  # here float32 alone puts a distance that begins a bucket into the one before
def test_t5_buckets_are_the_published_ones(buckets, maximum, causal):
    far = np.arange(-300, 301, dtype=np.int32)
    ours = np.asarray(t5_buckets(far, buckets, maximum, causal))
    assert [int(bucket) for bucket in ours] == [published_bucket(int(d), buckets, maximum, causal) for d in far]
    assert set(ours) <= set(range(buckets))


def test_t5_buckets_by_hand():
    far = np.array([0, -1, 1, -7, 7, -8, 8, -12, -16, 16, -32, -64, -127, -128, 128, -10000, 10000], np.int32)
    np.testing.assert_array_equal(t5_buckets(far, 32, 128, False),
                                  [0, 1, 17, 7, 23, 8, 24, 9, 10, 26, 12, 14, 15, 15, 31, 15, 31])
    far = np.array([0, 5, -15, -16, -128, -10000], np.int32)
    np.testing.assert_array_equal(t5_buckets(far, 32, 128, True), [0, 0, 15, 16, 31, 31])


# --------------------------------------------------------------------------------------------------------------- kerple

FAR = np.array([[[0, 1, -1, -4, 30]]], np.int32)  # [B, T, S]


def test_kerple_is_the_formula():
    power, factor = np.float32([0.5, 1.0, 1.7]), np.float32([2.0, 0.3, 1.0])
    d = np.abs(FAR)[:, None].astype(np.float64)
    p, a = (array[:, None, None].astype(np.float64) for array in (power, factor))
    np.testing.assert_allclose(kerple_log(FAR, power, factor), -p * np.log(1 + a * d), rtol=1e-5)
    np.testing.assert_allclose(kerple_power(FAR, power, factor), -a * d**p, rtol=1e-5)


def test_kerple_keeps_its_factors_in_their_range():
    low, high = np.float32([-1.0, 0.0]), np.float32([0.01, 0.01])
    for function in (kerple_log, kerple_power):
        np.testing.assert_array_equal(function(FAR, low, low), function(FAR, high, high))
    np.testing.assert_array_equal(kerple_power(FAR, np.float32([3.0]), high[:1]),
                                  kerple_power(FAR, np.float32([2.0]), high[:1]))


@pytest.mark.parametrize('function', [kerple_log, kerple_power])
@pytest.mark.parametrize('power', [0.5, 1.5])
def test_kerple_has_finite_slopes_also_at_distance_zero(function, power):
    slopes = jax.jacrev(function, argnums=(1, 2))(FAR, jnp.float32([power]), jnp.float32([0.7]))
    for slope in slopes:
        assert np.all(np.isfinite(slope))
        assert not np.any(slope[..., 0, :])
        assert np.all(slope[..., 3:, :] < 0)


# -------------------------------------------------------------------------------------------------------------- schemes

N, H = 2, 4
QUERY, KEY = (Places(np.ones((1, len(at)), np.int32), np.array([at], np.int32)) for at in ([0, 3, 4], [0, 1, 3, 7, 4]))
OPTIONS = {'none': {}, 'rotary': {'base': 10.0}, 'alibi': {}, 't5_bias': {'buckets': 8, 'maximum_distance': 9},
           'shaw': {'distance': 2}, 'kerple_log': {}, 'kerple_power': {}, 'fire': {'hidden': 5, 'threshold': 2.0}}


def made(name, causal=False, **options):
    """A scheme for N heads of H, and parameters that no initialiser would give."""
    module = scheme(name, **OPTIONS[name] | options).make(N, H, causal)
    shapes = jax.eval_shape(lambda rng: module.init(rng, jnp.zeros((1, 3, N, H)), QUERY, KEY, method='bias'),
                            jax.random.key(0))
    leaves, structure = jax.tree.flatten(shapes)
    values = [jnp.float32(normal(*leaf.shape, seed=seed)) for seed, leaf in enumerate(leaves)]
    return module, structure.unflatten(values)


def test_every_scheme_is_tested_here():
    assert set(OPTIONS) == set(SCHEMES)


@pytest.mark.parametrize('name', [name for name in OPTIONS if name != 'fire'])  # it also sees what share that is
def test_a_scheme_sees_distances_only(name):
    """What it adds to logits, to products and to what is read is the same when all positions shift."""
    module, params = made(name)
    query, keys = np.float32(normal(1, 3, N, H)), np.float32(normal(1, 5, N, H, seed=1))
    weights = np.float32(normal(1, N, 3, 5))

    @jax.jit
    def all_of(shift):
        places = [places._replace(position=places.position + shift) for places in (QUERY, KEY)]
        turned = [module.apply(params, array, there.position, method='rotate')
                  for array, there in zip((query, keys), places)]
        return (module.apply(params, query, *places, method='bias'), jnp.einsum('btnh,bsnh->bnts', *turned),
                module.apply(params, weights, *places, method='read'))
    here, there = all_of(0), all_of(41)
    for ours, reference in zip(here, there):
        assert (ours is None) == (reference is None)
        if ours is not None:
            np.testing.assert_allclose(ours, reference, atol=2e-5)
    assert (here[0] is None) == (name in ('none', 'rotary'))
    assert here[0] is None or here[0].shape == (1, N, 3, 5)
    assert (here[2] is None) == (name != 'shaw')


def test_schemes_add_what_their_formula_says():
    far = distances(QUERY.position, KEY.position)
    np.testing.assert_array_equal(far[0], [[0, 1, 3, 7, 4], [-3, -2, 0, 4, 1], [-4, -3, -1, 3, 0]])
    query = np.float32(normal(1, 3, N, H))
    module, params = made('alibi')
    np.testing.assert_allclose(module.apply(params, query, QUERY, KEY, method='bias'),
                               np.abs(far)[:, None] * np.array([-2.0**-4, -2.0**-8])[:, None, None])
    for causal in (False, True):
        module, params = made('t5_bias', causal)
        table, ours = params['params']['table'], module.apply(params, query, QUERY, KEY, method='bias')
        for n, t, s in np.ndindex(N, 3, 5):
            assert ours[0, n, t, s] == table[n, published_bucket(int(far[0, t, s]), 8, 9, causal)]


def test_fire_is_the_formula_and_sees_shares_of_what_is_behind():
    module, params = made('fire')
    c, factor, w_1, b_1, W_2, b_2 = (np.asarray(params['params'][name], np.float64) for name in (
        'curvature', 'factor', 'inner_kernel', 'inner_bias', 'outer_kernel', 'outer_bias'))
    ours = module.apply(params, np.zeros((1, 3, N, H)), QUERY, KEY, method='bias')
    for n, t, s in np.ndindex(N, 3, 5):
        at = int(QUERY.position[0, t])
        far = abs(int(KEY.position[0, s]) - at)
        share = np.log(1 + abs(c) * far) / (np.log(1 + abs(c) * max(at, abs(2.0 * factor))) + 1e-6)
        hidden = np.maximum(share * w_1[0] + b_1, 0)
        np.testing.assert_allclose(ours[0, n, t, s], hidden @ W_2[:, n] + b_2[n], rtol=1e-4)
    start = module.init(jax.random.key(0), jnp.zeros((1, 3, N, H)), QUERY, KEY, method='bias')
    # all of what is behind is the same share wherever the query stands
    first = Places(np.ones((1, 1), np.int32), np.zeros((1, 1), np.int32))
    far = [module.apply(start, np.zeros((1, 1, N, H)), first._replace(position=first.position + at), first,
                        method='bias') for at in (2, 30, 1000)]
    np.testing.assert_allclose(far[1], far[0], rtol=1e-4)
    np.testing.assert_allclose(far[2], far[0], rtol=1e-4)


@pytest.mark.parametrize('options', [{'hidden': 0}, {'threshold': 0.0}, {'threshold': float('nan')}])
def test_a_fire_without_a_network_or_a_threshold_is_refused(options):
    with pytest.raises(UserError, match=f'position.{next(iter(options))} is'):
        scheme('fire', **OPTIONS['fire'] | options)


@pytest.mark.parametrize('C', [0, 1, 2, 9])
def test_shaw_is_the_formula_and_with_distance_zero_a_bag(C):
    module, params = made('shaw', distance=C)
    keys, values = params['params']['key_table'], params['params']['value_table']
    assert keys.shape == values.shape == (2 * C + 1, H)
    query, weights = np.float32(normal(1, 3, N, H)), np.float32(normal(1, N, 3, 5))
    bias = module.apply(params, query, QUERY, KEY, method='bias')
    read = module.apply(params, weights, QUERY, KEY, method='read')
    expected = np.zeros((1, 3, N, H))
    for n, t, s in np.ndindex(N, 3, 5):
        entry = int(np.clip(KEY.position[0, s] - QUERY.position[0, t], -C, C)) + C
        np.testing.assert_allclose(bias[0, n, t, s], query[0, t, n] @ keys[entry], atol=1e-5)
        expected[0, t, n] += weights[0, n, t, s] * values[entry]
    np.testing.assert_allclose(read, expected, atol=1e-5)
    if C == 0:
        assert np.all(np.asarray(bias) == np.asarray(bias)[..., :1]), 'no distance is told from another'
