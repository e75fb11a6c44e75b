"""What is added to embeddings: the formula, and what happens past the end of a table."""

import math

import jax
import numpy as np
import pytest

from research.attention.positions import learned, sinusoidal
from research.errors import UserError


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
