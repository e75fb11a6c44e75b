"""One update: what it may depend on, and how often it is compiled."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from research import build, compiling
from research.attention.additive import Additive
from research.errors import UserError
from research.layers.dropout import dropout
from research.models import contract
from research.shapes import Batch, Places
from research.study import arms
from research.training import loop, optimisers, state
from research.training.step import measure_step, train_step
from tests.decoding import toy

SOURCE, TARGET = 11, 9
SIZES = {'encoder.features': 8, 'encoder.embedding_features': 8, 'decoder.features': 8,
         'decoder.embedding_features': 8, 'decoder.reader.energy_width': 8, 'training.warmup': 2}


@functools.cache
def parts(**changes):
    config = arms.override(base.choose(base.get_config(), 'additive'), SIZES | changes)
    model = build.model(config, SOURCE, TARGET)
    optimiser = build.optimiser(config)
    make = jax.jit(functools.partial(state.start, model, optimiser, batch=loop.blank_batch(2, 3, 3)))
    return model, optimiser, make(jax.random.key(0), rate=np.float32(build.rate(config)))


def padded(rows, S, T, lengths):
    """The same sentences in a batch of any size: what is added is padding."""
    random = np.random.default_rng(3)
    sentences = [(random.integers(4, SOURCE, s), random.integers(4, TARGET, t)) for s, t in lengths]
    arrays = [np.zeros((rows, width), np.int32) for width in (S, S, T, T, T)]
    source, source_segment, inputs, targets, target_segment = arrays
    for row, (left, right) in enumerate(sentences):
        source[row, :len(left)], source_segment[row, :len(left)] = left, 1
        targets[row, :len(right)], target_segment[row, :len(right)] = right, 1
        inputs[row, :len(right)] = [1, *right[:-1]]

    def places(segment):
        return Places(segment, np.broadcast_to(np.arange(segment.shape[1], dtype=np.int32), segment.shape))
    return Batch(source, places(source_segment), inputs, targets, places(target_segment))


LENGTHS = ((4, 3), (2, 5), (3, 1))


def test_neither_padding_nor_the_size_of_a_bucket_changes_the_update():
    model, optimiser, start = parts()
    step = train_step(model, optimiser)
    small, small_metrics = jax.jit(step)(start, padded(3, 4, 5, LENGTHS))
    large, large_metrics = jax.jit(step)(start, padded(5, 7, 9, LENGTHS))
    assert float(small_metrics['tokens']) == float(large_metrics['tokens']) == 9
    np.testing.assert_allclose(small_metrics['loss'], large_metrics['loss'], rtol=1e-5)
    np.testing.assert_allclose(small_metrics['gradient_norm'], large_metrics['gradient_norm'], rtol=1e-4)
    measured = jax.jit(measure_step(model))(start.params, padded(5, 7, 9, LENGTHS))
    np.testing.assert_allclose(measured['loss'] / measured['tokens'], small_metrics['loss'], rtol=1e-5)
    assert int(small.step) == int(large.step) == 1


def test_dropout_follows_the_step_and_the_key_of_the_state_alone():
    model, optimiser, start = parts(**{'encoder.dropout': 0.4, 'decoder.dropout': 0.4})
    step, batch = jax.jit(train_step(model, optimiser)), padded(3, 4, 5, LENGTHS)
    losses = [float(step(start._replace(step=np.int32(k)), batch)[1]['loss']) for k in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    other = float(step(start._replace(rng=jax.random.key(99)), batch)[1]['loss'])
    assert other != losses[0]


def test_an_update_is_proportional_to_the_rate_which_is_a_value_of_the_state():
    model, optimiser, start = parts()
    step, batch = jax.jit(train_step(model, optimiser)), padded(3, 4, 5, LENGTHS)
    one, two = (step(start._replace(rate=np.float32(rate)), batch)[0] for rate in (1e-2, 2e-2))
    assert step._cache_size() == 1
    for begin, near, far in zip(*(jax.tree.leaves(found.params) for found in (start, one, two)), strict=True):
        np.testing.assert_allclose(far - begin, 2 * (near - begin), rtol=1e-3, atol=1e-6)
    moved = max(float(abs(near - begin).max()) for begin, near in zip(
        *(jax.tree.leaves(found.params) for found in (start, one)), strict=True))
    assert moved == pytest.approx(1e-2 / 2, rel=1e-3)  # Adam's first step is the rate itself, here half way warmed up


def programs_of(function, tree, shapes, donate):
    return loop.Programs(compiling.compiled(loop.lowering(function, tree, shapes, donate=donate)))


def test_a_step_is_compiled_once_a_shape_and_refuses_any_other():
    model, optimiser, start = parts()
    programs = programs_of(train_step(model, optimiser), start, [(3, 4, 5), (2, 6, 6)], donate=False)
    assert len(programs) == 2
    for _ in range(2):
        programs(start, padded(3, 4, 5, LENGTHS))
    with pytest.raises(KeyError):
        programs(start, padded(5, 7, 9, LENGTHS))


def test_the_state_is_donated():
    model, optimiser, start = parts()
    programs = programs_of(train_step(model, optimiser), start, [(3, 4, 5)], donate=True)
    mine = jax.tree.map(lambda leaf: leaf.copy(), start)
    programs(mine, padded(3, 4, 5, LENGTHS))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(mine.params))


def test_the_loop_goes_on_from_the_state_and_says_when_the_data_ends():
    calls = []

    def step(state, batch):
        return state._replace(step=state.step + 1), {'batch': batch}
    begin = state.State(np.int32(2), None, None, None, None)
    last = loop.train(begin, 'cdefgh', step, 5, [lambda *seen: calls.append((seen[0], seen[2]['batch']))])
    assert calls == [(3, 'c'), (4, 'd'), (5, 'e')]
    assert int(last.step) == 5
    assert loop.train(last, 'xyz', step, 5, []) is last
    with pytest.raises(UserError, match='the data ended after 4 of 9 steps'):
        loop.train(begin, 'cd', step, 9, [])


def test_what_an_attention_adds_to_the_loss_is_in_the_loss_and_in_the_gradient(monkeypatch):
    """A penalty of a tenth of the first hidden unit at each real position, as a variant would return it."""
    plain = Additive.__call__

    def with_penalty(self, query, memory, carry, places, rng=None):
        read = plain(self, query, memory, carry, places, rng)
        return read._replace(penalty=0.1 * query[:, :, 0] + 3.0)
    model, optimiser, start = parts()
    batch, step = padded(4, 5, 6, LENGTHS), train_step(model, optimiser)
    _, before = jax.jit(step)(start, batch)
    monkeypatch.setattr(Additive, '__call__', with_penalty)
    decoded = contract.decode(model, start.params, contract.encode(model, start.params, batch.source,
                                                                   batch.source_places),
                              batch.inputs, batch.target_places)
    _, after = jax.jit(train_step(model, optimiser))(start, batch)
    assert 2.5 * 9 < float(decoded.penalty) < 3.5 * 9
    np.testing.assert_allclose(float(after['loss']), float(before['loss']) + float(decoded.penalty) / 9, rtol=1e-5)
    assert float(after['gradient_norm']) != float(before['gradient_norm'])


# ------------------------------------------------------------------------- a model that is a few tables, quickly made

class Charging(toy.Toy):
    """A variant that adds a tenth of the first score of each real position to the loss."""

    def decode(self, memory, inputs, places, rng=None):
        decoded = super().decode(memory, inputs, places, rng)
        return decoded._replace(penalty=0.1 * jnp.sum(jnp.where(places.segment > 0, decoded.hidden[:, :, 0], 0)))


class Noisy(Charging):
    """The same, with dropout on what the penalty is of."""

    def decode(self, memory, inputs, places, rng=None):
        decoded = super().decode(memory, inputs, places, rng)
        hidden = dropout(decoded.hidden, 0.4, rng)
        return decoded._replace(hidden=hidden, penalty=0.1 * jnp.sum(jnp.where(places.segment > 0, hidden[:, :, 0], 0)))


def toy_batch(seed, lengths, T):
    """Random pairs; a length of 0 is a row without a sentence."""
    source, places = toy.a_source(lengths, 5, seed)
    targets = np.random.default_rng(seed).choice(toy.WRITABLE, (len(lengths), T)).astype(np.int32)
    return toy.a_batch(source, places, targets, lengths)


def union(*batches):
    """All rows in one batch, the shorter ones filled up."""
    def fill(leaf, width):
        return np.pad(leaf, ((0, 0), (0, width - leaf.shape[1])))
    return jax.tree.map(lambda *leaves: np.concatenate([fill(leaf, max(part.shape[1] for part in leaves))
                                                        for leaf in leaves]), *batches)


def toy_state(optimiser, rate, **options):
    """What `state.start` decides to keep, with random tables."""
    kept = state.start(toy.MODEL, optimiser, jax.random.key(5), rate, toy_batch(0, [1], 4), **options)
    params = jax.tree.map(jnp.asarray, toy.tables(2))
    return kept._replace(params=params, average=kept.average and jax.tree.map(jnp.copy, params))


def copied(now):
    return jax.tree.map(jnp.copy, now)


def assert_close(found, expected, **tolerances):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, **tolerances)


def test_an_update_of_several_batches_is_that_of_their_union_and_the_average_moves_with_updates():
    """Plain gradient descent, whose update is proportional to its gradient; three updates, one after the other."""
    groups = [(toy_batch(1, [5, 2], 6), toy_batch(2, [4], 4)), (toy_batch(3, [1, 1], 6), toy_batch(4, [4], 4)),
              (toy_batch(5, [0, 0], 6), toy_batch(6, [3], 4))]
    optimiser = optax.scale_by_learning_rate(optimisers.schedule('linear', 1.0, 2, 8, accumulate=2))
    now = toy_state(optimiser, 0.5, accumulate=2, ema=0.25)
    programs = programs_of(train_step(Charging(), optimiser, accumulate=2, ema=0.25), now, [(2, 5, 6), (1, 5, 4)],
                           donate=True)  # refuses a state that holds one array twice
    descent = jax.jit(train_step(Charging(), optax.scale(-1.0)))
    params, average = now.params, jax.tree.map(np.float64, now.params)
    rates = (0.5 * 1 / 2, 0.5, 0.5 * (1 - 2 / 6))  # of steps 0, 2 and 4
    for update, ((first, second), rate, decay) in enumerate(zip(groups, rates, (2 / 11, 3 / 12, 0.25), strict=True)):
        expected, whole = descent(state.State(np.int32(0), params, optax.EmptyState(), now.rng, np.float32(rate)),
                                  union(first, second))
        now, alone = programs(copied(now), first)
        assert_close(now.params, params, rtol=0)  # nothing moves before the group is whole
        assert int(now.step) == 2 * update + 1
        assert float(now.gathered.count) == float(alone['tokens'])
        now, metrics = programs(copied(now), second)
        assert float(metrics['tokens'] + alone['tokens']) == float(whole['tokens'])
        assert_close(now.params, expected.params, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(metrics['gradient_norm'], whole['gradient_norm'], rtol=1e-5)
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(now.gathered))
        params = now.params
        average = jax.tree.map(lambda mean, new, d=decay: d * mean + (1 - d) * np.float64(new), average, params)
        assert_close(state.evaluated(now), average, rtol=1e-5, atol=1e-6)
    assert float(alone['tokens']) == 0  # of the last group one batch has nothing: the other one decides alone
    assert float(whole['gradient_norm']) > 0.1


def test_what_a_state_keeps_is_what_its_step_asks_for():
    plain, more = (toy_state(optax.identity(), 1.0, **options) for options in ({}, {'accumulate': 3, 'ema': 0.9}))
    assert plain.gathered == plain.average == ()
    assert state.evaluated(plain) is plain.params
    assert state.evaluated(more) is more.average
    make = jax.jit(functools.partial(state.start, toy.MODEL, optax.identity(), batch=toy_batch(0, [1], 4), ema=0.9))
    for started in (make(jax.random.key(0), rate=1.0),
                    state.start(toy.MODEL, optax.identity(), jax.random.key(0), 1.0, toy_batch(0, [1], 4), ema=0.9)):
        given = jax.jit(lambda kept: kept, donate_argnums=0)(started)  # refuses one array that is there twice
        assert_close(given.average, given.params, rtol=0)
    for options, kept in (({}, more), ({'accumulate': 3, 'ema': 0.9}, plain), ({'ema': 0.9}, plain)):
        with pytest.raises(ValueError, match='not started with accumulate'):
            train_step(toy.MODEL, optax.identity(), **options)(kept, toy_batch(0, [1], 4))


def test_an_average_of_what_stays_stays_bit_for_bit():
    now = toy_state(optax.set_to_zero(), 1.0, ema=0.9)
    later, _ = jax.jit(train_step(toy.MODEL, optax.set_to_zero(), ema=0.9))(now, toy_batch(0, [3], 4))
    assert_close(later.average, now.params, rtol=0)


def test_frozen_parameters_stay_bit_for_bit_and_count_in_no_norm():
    """Adam with clipping and decay over the other tables alone, from gradients of all, says the rest."""
    def adam():
        return optimisers.adam(optax.constant_schedule(1.0), b1=0.9, b2=0.98, epsilon=1e-9, clip=0.1, weight_decay=0.3)
    names, batch = ('sources', 'positions'), toy_batch(1, [5, 2], 6)
    optimiser = optimisers.frozen(adam(), names)
    now = toy_state(optimiser, 0.01)
    step = jax.jit(train_step(toy.MODEL, optimiser, frozen=names))
    later, metrics = step(now, batch)
    everything, _ = jax.jit(train_step(toy.MODEL, optax.scale(-1.0)))(
        now._replace(optimiser=optax.EmptyState(), rate=np.float32(1.0)), batch)
    gradient = jax.tree.map(lambda begin, end: begin - end, now.params, everything.params)
    assert optax.tree.norm({name: gradient[name] for name in names}) > 0.1
    others, gradient = ({name: tree[name] for name in tree if name not in names} for tree in (now.params, gradient))
    np.testing.assert_allclose(metrics['gradient_norm'], optax.tree.norm(gradient), rtol=1e-5)
    updates, kept = adam().update(gradient, adam().init(others), others)
    expected = jax.tree.map(lambda begin, change: begin + 0.01 * change, others, updates)
    assert_close({name: later.params[name] for name in others}, expected, rtol=1e-4, atol=1e-6)
    for name in names:
        np.testing.assert_array_equal(later.params[name], now.params[name])
    assert sorted(map(np.shape, jax.tree.leaves(later.optimiser))) == sorted(map(np.shape, jax.tree.leaves(kept)))


def test_r_drop_is_the_mean_of_two_passes_with_keys_of_their_own_and_their_divergence():
    """Each pass by itself, and the formula in float64."""
    alpha, smoothing, batch = 3.0, 0.1, toy_batch(1, [5, 2, 0], 6)
    now = toy_state(optax.identity(), 1.0)
    _, metrics = jax.jit(train_step(Noisy(), optax.identity(), r_drop=alpha, label_smoothing=smoothing, chunk=8))(
        now, batch)
    total, logs = 0.0, []
    for key in jax.random.split(jax.random.fold_in(now.rng, now.step)):
        encode_rng, decode_rng = jax.random.split(key)
        memory = contract.encode(Noisy(), now.params, batch.source, batch.source_places, encode_rng)
        decoded = contract.decode(Noisy(), now.params, memory, batch.inputs, batch.target_places, decode_rng)
        scores = np.float64(decoded.hidden)
        logs.append(scores - np.log(np.sum(np.exp(scores), axis=-1, keepdims=True)))
        total += float(decoded.penalty) / 2
    real = batch.target_places.segment > 0
    wanted = np.where(np.arange(toy.V) == batch.targets[..., None], 1 - smoothing, 0) + smoothing / toy.V
    for mine, other in (logs, logs[::-1]):
        total -= np.sum((wanted * mine)[real]) / 2
        total += alpha / 4 * np.sum((np.exp(mine) * (mine - other))[real])
    assert float(metrics['tokens']) == 7
    np.testing.assert_allclose(metrics['loss'], total / 7, rtol=1e-5)
    assert np.max(abs(logs[0] - logs[1])[real]) > 0.1


def test_r_drop_without_dropout_is_the_plain_step():
    now, batch = toy_state(optax.scale(-1.0), 1.0), toy_batch(1, [5, 2], 6)
    one, two = (jax.jit(train_step(Charging(), optax.scale(-1.0), r_drop=alpha))(now, batch) for alpha in (0.0, 5.0))
    assert_close(two[1], one[1], rtol=1e-5)
    assert_close(two[0].params, one[0].params, rtol=1e-5, atol=1e-6)


def test_in_bfloat16_what_is_kept_and_the_loss_are_float32():
    model, optimiser, start = parts(dtype='bfloat16')
    batch = padded(3, 4, 5, LENGTHS)
    after, metrics = jax.jit(train_step(model, optimiser))(start, batch)
    hidden = jax.eval_shape(lambda params: contract.decode(
        model, params, contract.encode(model, params, batch.source, batch.source_places), batch.inputs,
        batch.target_places).hidden, start.params)
    assert hidden.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {np.dtype('float32')}
    assert {leaf.dtype for leaf in jax.tree.leaves(after.optimiser)} == {np.dtype('float32'), np.dtype('int32')}
    assert metrics['loss'].dtype == metrics['gradient_norm'].dtype == np.float32
    assert 0.5 * np.log(TARGET) < float(metrics['loss']) < 2 * np.log(TARGET)  # a guess, before anything is learned
    moved = [np.max(abs(near - begin)) for begin, near in zip(*(jax.tree.leaves(found.params) for found in (
        start, after)), strict=True)]
    assert max(moved) == pytest.approx(float(start.rate) / 2, rel=1e-2)  # Adam's first step, half way warmed up


def test_a_hook_may_put_another_state_in_the_place_of_the_current_one():
    seen = []

    def step(now, batch):
        return now._replace(step=now.step + 1), {}

    def halve(position, now, metrics):
        return now._replace(rate=now.rate / 2) if position == 3 else None

    def note(position, now, metrics):
        seen.append((position, now.rate))
    begin = state.State(np.int32(0), None, None, None, 8.0)
    last = loop.train(begin, 'abcdef', step, 5, [note, halve, note])
    assert seen == [(1, 8), (1, 8), (2, 8), (2, 8), (3, 8), (3, 4), (4, 4), (4, 4), (5, 4), (5, 4)]
    assert last.rate == 4
    assert int(last.step) == 5
