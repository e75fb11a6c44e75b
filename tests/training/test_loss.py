import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.training.loss import consistent_cross_entropy, cross_entropy

B, T, D, V = 3, 5, 7, 11


def case(seed=0):
    random = np.random.default_rng(seed)
    return (random.normal(size=(B, T, D)).astype(np.float32), random.normal(size=(D, V)).astype(np.float32),
            random.integers(0, V, (B, T)).astype(np.int32), random.random((B, T)) < 0.7)


def by_formula(hidden, table, targets, real, smoothing):
    """Float64, one position after the other."""
    total = 0.0
    for b in range(B):
        for t in range(T):
            if real[b, t]:
                scores = hidden[b, t].astype(np.float64) @ table.astype(np.float64)
                logs = scores - np.log(np.sum(np.exp(scores)))
                wanted = np.full(V, smoothing / V)
                wanted[targets[b, t]] += 1 - smoothing
                total -= np.sum(wanted * logs)
    return total, np.sum(real)


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('chunk', [1000, 15, 4, 1])
def test_it_is_the_formula_however_the_rows_are_cut(smoothing, chunk):
    hidden, table, targets, real = case()

    @jax.jit
    def loss(hidden, table):
        return cross_entropy(hidden, lambda rows: rows @ table, targets, real, label_smoothing=smoothing, chunk=chunk)
    total, count = loss(hidden, table)
    expected = by_formula(hidden, table, targets, real, smoothing)
    np.testing.assert_allclose([total, count], expected, rtol=2e-6)
    gradient = jax.grad(lambda hidden, table: loss(hidden, table)[0], argnums=(0, 1))(hidden, table)
    random = np.random.default_rng(1)
    directions = random.normal(size=(B, T, D)), random.normal(size=(D, V))
    step = 1e-6
    there, back = (by_formula(hidden.astype(np.float64) + sign * step * directions[0],
                              table.astype(np.float64) + sign * step * directions[1], targets, real, smoothing)[0]
                   for sign in (1, -1))
    found = sum(np.sum(np.asarray(part, np.float64) * direction)
                for part, direction in zip(gradient, directions, strict=True))
    np.testing.assert_allclose(found, (there - back) / (2 * step), rtol=1e-4)


def test_padding_changes_neither_the_sum_nor_the_gradient():
    hidden, table, targets, real = case()
    garbage = np.where(real[..., None], hidden, 1e6).astype(np.float32)

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradient(chunk, hidden):
        def loss(table):
            return cross_entropy(hidden, lambda rows: rows @ table, targets, real, chunk=chunk)[0]
        return jax.value_and_grad(loss)(table)
    for chunk in (100, 4):
        for mine, theirs in zip(jax.tree.leaves(value_and_gradient(chunk, garbage)),
                                jax.tree.leaves(value_and_gradient(chunk, hidden)), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6)


def test_nothing_real_is_a_loss_of_zero_with_a_gradient_of_zero():
    hidden, table, targets, _ = case()
    nothing = np.zeros((B, T), bool)
    value, gradient = jax.value_and_grad(
        lambda table: cross_entropy(hidden, lambda rows: rows @ table, targets, nothing)[0])(jnp.asarray(table))
    assert value == 0
    assert not np.any(gradient)


# --------------------------------------------------------------------------------------------------- two passes at once

ALPHA = 3.0


def two_passes_by_formula(hidden, table, targets, real, smoothing):
    """Float64: half of R-Drop's loss, whose own formula this is, from that of each pass."""
    each = [by_formula(hidden[:, :, i], table, targets, real, smoothing)[0] for i in (0, 1)]
    scores = hidden.astype(np.float64) @ table.astype(np.float64)
    logs = scores - np.log(np.sum(np.exp(scores), axis=-1, keepdims=True))
    apart = sum(np.sum(np.exp(logs[:, :, i]) * (logs[:, :, i] - logs[:, :, 1 - i]), axis=-1) for i in (0, 1))
    return (sum(each) + ALPHA / 2 * np.sum(apart[real])) / 2, np.sum(real)


def two_passes_case():
    hidden, table, targets, real = case()
    other = hidden + np.random.default_rng(5).normal(size=hidden.shape).astype(np.float32)
    return np.stack([hidden, other], axis=2), table, targets, real


@pytest.mark.parametrize(('smoothing', 'chunk'), [(0.0, 1000), (0.1, 8), (0.0, 1)])
def test_two_passes_are_the_formula_however_the_rows_are_cut(smoothing, chunk):
    hidden, table, targets, real = two_passes_case()
    most = []

    @jax.jit
    def value_and_gradient(hidden, table):
        def loss(hidden, table):
            def scores(rows):
                most.append(rows.shape[0] * rows.shape[1])
                return rows @ table
            return consistent_cross_entropy(hidden, scores, targets, real, alpha=ALPHA, label_smoothing=smoothing,
                                            chunk=chunk)
        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(hidden, table)
    (total, count), gradient = value_and_gradient(hidden, table)
    expected = two_passes_by_formula(hidden, table, targets, real, smoothing)
    np.testing.assert_allclose([total, count], expected, rtol=2e-6)
    assert max(most) <= max(2, chunk)
    random = np.random.default_rng(1)
    directions = random.normal(size=hidden.shape), random.normal(size=(D, V))
    step = 1e-6
    there, back = (two_passes_by_formula(hidden.astype(np.float64) + sign * step * directions[0],
                                         table.astype(np.float64) + sign * step * directions[1], targets, real,
                                         smoothing)[0] for sign in (1, -1))
    found = sum(np.sum(np.asarray(part, np.float64) * direction)
                for part, direction in zip(gradient, directions, strict=True))
    np.testing.assert_allclose(found, (there - back) / (2 * step), rtol=1e-4)


def test_two_passes_that_are_the_same_cost_what_one_costs_whatever_alpha_is():
    hidden, table, targets, real = case()

    def scores(rows):
        return rows @ table

    @jax.jit
    def both(hidden):
        return (cross_entropy(hidden, scores, targets, real, label_smoothing=0.1),
                consistent_cross_entropy(jnp.stack([hidden, hidden], axis=2), scores, targets, real, alpha=7.0,
                                         label_smoothing=0.1))
    expected, found = both(hidden)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_padding_changes_nothing_in_two_passes():
    hidden, table, targets, real = two_passes_case()
    garbage = np.where(real[..., None, None], hidden, 1e6).astype(np.float32)

    @jax.jit
    def value_and_gradient(hidden):
        return jax.value_and_grad(lambda table: consistent_cross_entropy(
            hidden, lambda rows: rows @ table, targets, real, alpha=ALPHA)[0])(jnp.asarray(table))
    for mine, theirs in zip(value_and_gradient(garbage), value_and_gradient(hidden), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
