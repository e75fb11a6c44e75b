"""What a decoder reads while it is trained on some symbols of its own, against the toy model in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.decoding.greedy import greedy
from research.errors import UserError
from research.models import contract
from research.text.vocabulary import BEGIN, END, PAD
from research.training import scheduled_sampling
from research.training.step import train_step
from tests.decoding import toy
from tests.training.test_step import Noisy, padded, parts, toy_batch, toy_state

NEVER = (PAD, BEGIN)


@functools.partial(jax.jit, static_argnames=('greedy', 'never'))
def toy_inputs(tables, batch, rng, probability, never=NEVER, greedy=False):
    memory = contract.encode(toy.MODEL, tables, batch.source, batch.source_places)
    return scheduled_sampling.inputs(toy.MODEL, tables, memory, batch, rng, probability, never=never, greedy=greedy)


def the_same(rows, T, word):
    """One sentence again and again, whose right symbols are all the same word."""
    source, source_places = toy.a_source([4] * rows, 5)
    return toy.a_batch(np.broadcast_to(source[:1], source.shape), source_places, np.full((rows, T), word), [T] * rows)


def softmax(gains):
    return np.exp(gains) / np.sum(np.exp(gains))


@pytest.mark.parametrize('decay', scheduled_sampling.DECAYS)
def test_the_probability_is_the_formula_half_at_half_and_never_below_its_floor(decay):
    k = 10.0
    half = k * np.log(k)
    formula = {'linear': lambda i: 1 - i / (2 * half), 'exponential': lambda i: (0.5 ** (1 / half)) ** i,
               'inverse_sigmoid': lambda i: k / (k + np.exp(i / k))}[decay]
    found = scheduled_sampling.probability(decay, half, 0.1)
    for i in (0, 1, 20, 22, 23, 24, 60, 2000):
        assert float(found(np.int32(i))) == pytest.approx(max(0.1, formula(np.float64(i))), rel=1e-5), i
    assert formula(half) == pytest.approx(0.5)
    assert float(found(10**9)) == pytest.approx(0.1)
    assert float(scheduled_sampling.probability(decay, half, 1.0)(2000)) == 1


@pytest.mark.parametrize(('arguments', 'message'), [
    (('liner', 10, 0.1), "Unknown decay 'liner'. Did you mean 'linear'"),
    (('linear', 0, 0.1), 'is 0; it must be at least 1'),
    (('linear', float('nan'), 0.1), 'is nan; it must be at least 1'),
    (('linear', 10, 1.5), 'is 1.5; it must be at least 0 and at most 1'),
])
def test_an_unknown_decay_and_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        scheduled_sampling.probability(*arguments)


def test_without_right_symbols_a_greedy_decoder_reads_what_it_would_write():
    tables, batch = toy.tables(1), toy_batch(3, toy.LENGTHS, 6)
    batch = batch._replace(target_places=toy.places([6, 6, 6], 6))
    found = toy_inputs(tables, batch, jax.random.key(0), 0.0, greedy=True)
    for row, length in enumerate(toy.LENGTHS):
        source, read = list(batch.source[row, :length]), ()
        for _ in range(5):
            read = (*read, int(np.argmax(toy.gains(tables, source, read))))
        assert found[row].tolist() == [BEGIN, *read]
    assert np.any(found != batch.inputs)


def test_of_a_recurrent_model_too():
    model, _, start = parts()
    batch = padded(3, 4, 5, ((4, 5), (2, 5), (3, 5)))

    @jax.jit
    def both(params):
        memory = contract.encode(model, params, batch.source, batch.source_places)
        return (scheduled_sampling.inputs(model, params, memory, batch, jax.random.key(0), 0.0, never=NEVER,
                                          greedy=True),
                greedy(model, params, batch.source, batch.source_places, length=4).tokens[:, 0])
    read, written = both(jax.tree.map(lambda leaf: 3 * leaf, start.params))  # clearer answers than at the start
    ended = np.cumsum(np.asarray(written) == END, axis=1) > 0
    assert np.all(ended[:, :-1] | (read[:, 2:] == written[:, 1:]))
    np.testing.assert_array_equal(read[:, 1], written[:, 0])
    assert len(np.unique(written)) > 1


def test_each_symbol_has_a_coin_of_its_own():
    """The right symbol is one that the model never writes, so that what is right can be counted."""
    rows, T, p = 2000, 7, 0.7
    word = toy.WRITABLE[-1]
    found = toy_inputs(toy.tables(1), the_same(rows, T, word), jax.random.key(0), p, never=(*NEVER, word))
    right = np.asarray(found[:, 1:] == word)
    assert np.all(found[:, 0] == BEGIN)
    share = np.sqrt(p * (1 - p) / rows)
    assert np.all(abs(np.mean(right, axis=0) - p) < 4.5 * share)  # at each position
    together = np.mean(right[:, 1:] & right[:, :-1], axis=0)
    assert np.all(abs(together - p**2) < 4.5 * np.sqrt(p**2 * (1 - p**2) / rows))  # neighbours know nothing of others
    counts = np.sum(right, axis=1)
    assert np.var(counts) == pytest.approx((T - 1) * p * (1 - p), rel=0.15)  # a coin a sentence: six times as much


def test_symbols_are_sampled_from_what_the_model_says_after_what_it_has_read():
    rows, tables = 6000, {name: table / 3 for name, table in toy.tables(1).items()}  # so that no answer is clear
    batch = the_same(rows, 3, toy.WRITABLE[-1])
    found = np.asarray(toy_inputs(tables, batch, jax.random.key(0), 0.0))
    source = list(batch.source[0, :4])

    def assert_follows(symbols, gains):
        expected = softmax(gains)
        shares = np.bincount(symbols, minlength=toy.V) / len(symbols)
        assert np.all(abs(shares - expected) <= 4.5 * np.sqrt(expected * (1 - expected) / len(symbols)))
    assert_follows(found[:, 1], toy.gains(tables, source, ()))
    for word in toy.WRITABLE:
        after = found[found[:, 1] == word, 2]
        assert len(after) > 300
        assert_follows(after, toy.gains(tables, source, (word,)))


def test_the_first_symbol_and_padding_stay():
    batch = toy_batch(3, toy.LENGTHS, 6)  # where there is padding, there are symbols all the same
    found = toy_inputs(toy.tables(1), batch, jax.random.key(0), 0.0, greedy=True)
    real = np.array(batch.target_places.segment > 0)
    real[:, 0] = False
    np.testing.assert_array_equal(found[~real], batch.inputs[~real])
    assert np.any(found[real] != batch.inputs[real])
    one = toy_batch(3, toy.LENGTHS, 1)
    np.testing.assert_array_equal(toy_inputs(toy.tables(1), one, jax.random.key(0), 0.0), one.inputs)


def test_no_gradient_passes_through_a_symbol_or_through_what_made_it():
    batch = toy_batch(3, toy.LENGTHS, 6)

    def read(tables):
        return jnp.sum(tables['sources']) + jnp.sum(toy_inputs(tables, batch, jax.random.key(0), 0.0))
    gradient = jax.grad(read)(jax.tree.map(jnp.asarray, toy.tables(1)))
    assert all(np.all(leaf == (name == 'sources')) for name, leaf in gradient.items())


def test_with_right_symbols_alone_the_step_is_the_plain_one_bit_for_bit():
    """Dropout too, and at a step that is not the first."""
    step = train_step(Noisy(), optax.scale(-1.0))
    now, batch = toy_state(optax.scale(-1.0), 0.5)._replace(step=np.int32(3)), toy_batch(3, toy.LENGTHS, 6)
    mixed = scheduled_sampling.train_step(Noisy(), step, lambda step: 1.0, never=NEVER)
    one, two = jax.jit(step)(now, batch), jax.jit(mixed)(now, batch)
    for mine, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        if jax.dtypes.issubdtype(mine.dtype, jax.dtypes.prng_key):
            mine, theirs = jax.random.key_data(mine), jax.random.key_data(theirs)
        np.testing.assert_array_equal(mine, theirs)


def test_a_mixed_step_follows_the_gradient_of_what_the_decoder_reads_and_its_own_step():
    step, now, batch = train_step(toy.MODEL, optax.scale(-1.0)), toy_state(optax.scale(-1.0), 1.0), toy_batch(
        3, toy.LENGTHS, 6)
    mixed = jax.jit(scheduled_sampling.train_step(toy.MODEL, step, lambda step: jnp.where(step == 3, 0.3, 1.0),
                                                  never=NEVER))
    read = np.asarray(toy_inputs(now.params, batch, jax.random.fold_in(jax.random.fold_in(now.rng, 3), 2), 0.3))
    assert np.any(read != batch.inputs)

    @jax.jit
    def value_and_gradient(tables, inputs):
        def loss(tables):
            memory = contract.encode(toy.MODEL, tables, batch.source, batch.source_places)
            hidden = contract.decode(toy.MODEL, tables, memory, inputs, batch.target_places).hidden
            gains = jnp.take_along_axis(jax.nn.log_softmax(hidden), batch.targets[..., None], axis=-1)[..., 0]
            return -jnp.sum(gains * (batch.target_places.segment > 0)) / sum(toy.LENGTHS)
        return jax.value_and_grad(loss)(tables)
    for k, inputs in ((2, batch.inputs), (3, read)):
        value, gradient = value_and_gradient(now.params, inputs)
        after, metrics = mixed(now._replace(step=np.int32(k)), batch)
        np.testing.assert_allclose(metrics['loss'], value, rtol=1e-6)
        for name in gradient:
            np.testing.assert_allclose(now.params[name] - after.params[name], gradient[name], rtol=1e-4, atol=1e-6)
