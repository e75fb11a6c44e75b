"""Words to drop by: as likely, and as little alike, as those of jax.random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from research.layers.dropout import dropout, random_words


def words(key, shape):
    return np.asarray(random_words(jax.random.key(key), shape))


def by_hand(first, second, place):
    """In whole numbers of Python."""
    x = (place * 0x9E3779B9 + first) % 2**32
    x = (x ^ x >> 16) * 0x21F0AAAD % 2**32
    x = (x ^ x >> 15 ^ second) * 0xD35A2D97 % 2**32
    return x ^ x >> 15


def test_words_are_the_formula_and_places_are_counted_row_by_row():
    first, second = (int(word) for word in jax.random.bits(jax.random.key(5), (2,), jnp.uint32))
    found = words(5, (3, 4, 5))
    assert found.dtype == np.uint32
    assert found.ravel().tolist() == [by_hand(first, second, place) for place in range(60)]


@pytest.mark.parametrize('key', [0, 1, 2])
def test_every_bit_is_as_often_set_and_so_is_every_byte_of_each_place(key):
    found = words(key, (2**18,))
    for shift in range(0, 32, 8):
        counts = np.bincount(found >> shift & 0xFF, minlength=256)
        assert scipy.stats.chisquare(counts).pvalue > 1e-4
    assert np.abs(np.unpackbits(found.view(np.uint8)).mean() - 0.5) < 4 * 0.5 / np.sqrt(32 * 2**18)


@pytest.mark.parametrize('rate', [0.1, 0.5])
def test_what_is_dropped_in_one_place_says_nothing_of_another(rate):
    """Correlations of neighbours in a row and a column, at distances of powers of two, and of keys, of 2^20 places."""
    shape, margin = (1024, 1024), 4.5 / 1024  # standard deviations of a correlation of that many
    dropped = [np.asarray(dropout(jnp.ones(shape), rate, key) == 0) for key in
               (jax.random.key(0), *jax.random.split(jax.random.key(0)), jax.random.fold_in(jax.random.key(0), 7))]
    for mask in dropped:
        assert abs(mask.mean() - rate) < 4.5 * np.sqrt(rate * (1 - rate)) / 1024
        flat = mask.ravel()
        for distance in (1, 2, 3, 4, 8, 16, 64, 256, 1024, 4096, 65536):
            assert abs(np.corrcoef(flat[:-distance], flat[distance:])[0, 1]) < margin
    for one in range(4):
        for other in range(one):
            for shift in (0, 1, 1024):
                assert abs(np.corrcoef(dropped[one].ravel(), np.roll(dropped[other].ravel(), shift))[0, 1]) < margin


def test_the_number_dropped_of_a_row_is_as_spread_as_that_of_independent_draws():
    dropped = np.asarray(dropout(jnp.ones((4096, 256)), 0.1, jax.random.key(7)) == 0).sum(axis=1)
    counts = np.bincount(dropped, minlength=60)
    likely = 4096 * scipy.stats.binom.pmf(np.arange(60), 256, 0.1)
    inside = slice(14, 40)  # where at least five are expected
    ends = [(counts[:14].sum(), likely[:14].sum()), (counts[40:].sum(), 4096 - likely[:40].sum())]
    observed = [*counts[inside], *(count for count, _ in ends)]
    expected = [*likely[inside], *(count for _, count in ends)]
    assert scipy.stats.chisquare(observed, np.array(expected) * sum(observed) / sum(expected)).pvalue > 1e-4


def test_the_gradient_is_dropped_as_the_numbers_were():
    key, inputs = jax.random.key(3), jnp.full((50, 70), 2.0)
    dropped, backward = jax.vjp(lambda inputs: dropout(inputs, 0.4, key), inputs)
    np.testing.assert_array_equal(backward(jnp.ones_like(inputs))[0], dropped / 2.0)


def test_keys_of_a_batch_drop_as_each_alone():
    keys, inputs = jax.random.split(jax.random.key(1), 3), jnp.ones((3, 8, 9))
    together = jax.vmap(lambda inputs, key: dropout(inputs, 0.5, key))(inputs, keys)
    for row, key, alone in zip(together, keys, inputs):
        np.testing.assert_array_equal(row, dropout(alone, 0.5, key))
