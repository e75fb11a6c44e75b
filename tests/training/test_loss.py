import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.training.loss import cross_entropy

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
