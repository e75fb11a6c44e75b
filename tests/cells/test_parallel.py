"""What is linear in its state, all positions at once: the same as one after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.cells import linear_unit
from research.cells.linear_scan import linear_scan
from research.cells.linear_unit import lru_terms, rg_lru_terms
from research.cells.minimal import minimal_gru_terms, minimal_lstm_terms
from research.cells.qrnn import qrnn_terms
from research.cells.registry import make
from research.cells.xlstm import mlstm_chunk
from tests.cells.test_contract import MASK, B, D, H, S, assert_near, built, drawn, drawn_state


def minimal_gru(params, projected, state, mask):
    return linear_scan(*minimal_gru_terms(projected), *state, mask)


def minimal_lstm(params, projected, state, mask):
    return linear_scan(*minimal_lstm_terms(projected), *state, mask)


def rg_lru(params, projected, state, mask):
    return linear_scan(*rg_lru_terms(projected, params['rate']), *state, mask)


def lru(params, projected, state, mask):
    decay, write = lru_terms(projected, params['log_rate'], params['log_angle'], params['log_gain'])
    h = linear_scan(jnp.broadcast_to(decay, write.shape), write, jax.lax.complex(*state[1:]), mask)
    return (linear_unit.real_part(h, params['output_real'], params['output_imaginary'])
            + jnp.split(projected, 3, axis=-1)[2])


def qrnn(params, projected, state, mask):
    """Padding stands at the end only, so that the position before is the one to the left."""
    _, cell, before = state
    now, later = jnp.split(projected, 2, axis=-1)
    gates = now + jnp.concatenate([before[:, None], later[:, :-1]], axis=1)
    return jax.nn.sigmoid(gates[..., 2 * H:]) * linear_scan(*qrnn_terms(gates), cell, mask)


@pytest.mark.parametrize('parallel', [minimal_gru, minimal_lstm, rg_lru, lru, qrnn], ids=lambda form: form.__name__)
def test_all_positions_at_once_are_one_after_the_other(parallel):
    name = parallel.__name__
    cell, variables, over = built(name)
    inputs, state = drawn(B, S, D), drawn_state(name)
    expected, _ = over(variables, inputs, MASK, state)
    projected = cell.apply(variables, inputs, method='project')
    found = jax.jit(parallel)(variables['params'], projected, state, MASK)
    assert_near(np.asarray(found)[MASK], np.asarray(expected)[MASK], atol=4e-6)


def test_a_scan_passes_its_state_through_padding():
    decay, write, start = np.abs(drawn(B, S, H)), drawn(B, S, H, seed=1), drawn(B, H, seed=2)
    mask = np.zeros((B, S), bool)
    mask[0, [1, 4, 5]] = True
    found, h = np.asarray(linear_scan(decay, write, start, mask)), start[0]
    for s in range(S):
        h = decay[0, s] * h + write[0, s] if mask[0, s] else h
        assert_near(found[0, s], h)
    np.testing.assert_array_equal(found[1], np.broadcast_to(start[1], (S, H)))


@pytest.mark.parametrize('widths', [[7], [3, 4], [1, 1, 2, 3], [1] * 7], ids=str)
def test_a_matrix_memory_in_chunks_is_that_of_one_step_after_the_other(widths):
    cell, variables, over = built('mlstm')
    inputs, state = drawn(B, S, D), drawn_state('mlstm')
    expected, (_, M, n, m) = over(variables, inputs, MASK, state)
    memory, outputs, chunk, s = state[1:], [], jax.jit(mlstm_chunk), 0
    projected = cell.apply(variables, inputs, method='project')
    for width in widths:
        here = slice(s, s + width)
        output, memory = chunk(memory, projected[:, here], MASK[:, here])
        outputs.append(output)
        s += width
    assert_near(np.concatenate(outputs, axis=1), expected, atol=4e-6)
    for found, array in ((memory[0] * np.exp(memory[2])[:, :, None], M * np.exp(m)[:, :, None]),
                         (memory[1] * np.exp(memory[2]), n * np.exp(m))):  # the scale of what is stored may differ
        assert_near(found, array, atol=4e-6)


def test_exponentials_of_large_inputs_do_not_overflow_in_a_chunk():
    projected = 100 * drawn(B, S, 4 * H + 2)
    memory = make('mlstm', H).start(B)[1:]
    found = mlstm_chunk(memory, projected, MASK)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))
    slope = jax.grad(lambda projected: jnp.sum(mlstm_chunk(memory, projected, MASK)[0]))(projected)
    assert np.all(np.isfinite(slope))


def test_decays_start_between_the_radii():
    """What is kept of a state when training starts: |lambda| of the complex unit, a of an open gate of the other."""
    low, high = linear_unit.RADII
    params = make('lru', 499).init(jax.random.key(0), drawn(B, S, D), MASK, make('lru', 499).start(B), method='over')
    params = params['params']
    kept = np.exp(-np.exp(np.float64(params['log_rate'])))
    np.testing.assert_allclose(np.exp(2 * np.float64(params['log_gain'])) + kept**2, 1, atol=1e-5)
    rate = np.float64(linear_unit.rates(jax.random.key(0), (499,)))
    for radii, middle in ((kept, np.sqrt((low**2 + high**2) / 2)), ((1 + np.exp(rate))**-8.0, (low + high) / 2)):
        assert np.all((radii > low - 1e-5) & (radii < high + 1e-5))
        assert abs(np.mean(radii) - middle) < 0.005
    angles = np.exp(params['log_angle'])
    assert np.min(angles) > 0
    assert abs(np.mean(angles) - np.pi) < 0.3


def test_the_slope_of_a_root_is_bounded():
    for x, slope in ((4.0, 0.25), (0.0, 1000.0), (1e-12, 1000.0)):
        assert jax.grad(linear_unit.root)(x) == pytest.approx(slope)
        assert linear_unit.root(x) == pytest.approx(np.sqrt(x))
