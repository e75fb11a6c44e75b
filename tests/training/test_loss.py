import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
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


def by_autodiff(hidden, table, targets, real, smoothing):
    """The same by optax, all rows at once, and gradients by autodiff."""
    def loss(hidden, table):
        scores = (hidden @ table).astype(jnp.float32)
        wanted = optax.smooth_labels(jax.nn.one_hot(targets, V), smoothing)
        return jnp.sum(jnp.where(real, optax.softmax_cross_entropy(scores, wanted), 0.0))
    return jax.value_and_grad(loss, argnums=(0, 1))(hidden, table)


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('chunk', [100, 4, 1])
def test_gradients_made_in_the_pass_are_those_of_autodiff(smoothing, chunk):
    hidden, table, targets, real = case(2)

    @jax.jit
    def found(hidden, table):
        return jax.value_and_grad(lambda hidden, table: 3.0 * cross_entropy(
            hidden, lambda rows: rows @ table, targets, real, label_smoothing=smoothing, chunk=chunk)[0],
            argnums=(0, 1))(hidden, table)
    value, gradients = found(hidden, table)
    wanted, wanted_gradients = by_autodiff(hidden, table, targets, real, smoothing)
    np.testing.assert_allclose(value, 3.0 * wanted, rtol=1e-5)
    for mine, theirs in zip(gradients, wanted_gradients, strict=True):
        np.testing.assert_allclose(mine, 3.0 * theirs, rtol=1e-5, atol=1e-6)


def test_chunks_of_padding_alone_are_not_made():
    """A row costs as much as scoring it: the callback counts the chunks."""
    hidden, table, targets, _ = case()
    real = np.zeros((B, T), bool)
    real[1, :3] = real[2, 4] = True
    made = []

    def logits(rows):
        jax.debug.callback(lambda: made.append(1))
        return rows @ table
    jax.block_until_ready(jax.jit(lambda: cross_entropy(hidden, logits, targets, real, chunk=2))())
    jax.effects_barrier()
    assert len(made) == 2  # of eight


def test_in_bfloat16_the_loss_is_float32_and_gradients_have_the_types_of_what_they_are_of():
    hidden, table, targets, real = case()
    hidden = jnp.asarray(hidden, jnp.bfloat16)

    def loss(hidden, table):
        return cross_entropy(hidden, lambda rows: jnp.matmul(
            rows, table.astype(rows.dtype), preferred_element_type=jnp.float32), targets, real, chunk=4)[0]
    value, (of_hidden, of_table) = jax.value_and_grad(loss, argnums=(0, 1))(hidden, table)
    assert (value.dtype, of_hidden.dtype, of_table.dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)
    wanted, wanted_gradients = by_autodiff(hidden.astype(jnp.float32), table, targets, real, 0.0)
    np.testing.assert_allclose(value, wanted, rtol=0.02)
    np.testing.assert_allclose(of_table, wanted_gradients[1], atol=0.05)


def test_what_has_no_gradient_gets_none():
    """A frozen table beside a bias that learns, and nothing that learns at all."""
    hidden, table, targets, real = case()

    def loss(bias, table):
        return cross_entropy(hidden, lambda rows: rows @ jax.lax.stop_gradient(table) + bias, targets, real, chunk=4)[0]
    of_bias, of_table = jax.grad(loss, argnums=(0, 1))(jnp.zeros(V), jnp.asarray(table))
    assert np.any(of_bias)
    assert not np.any(of_table)


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
