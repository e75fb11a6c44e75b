"""One update: what it may depend on, and how often it is compiled."""

import functools

import jax
import numpy as np
import pytest

from configs import base
from research import build
from research.attention.additive import Additive
from research.errors import UserError
from research.models import contract
from research.shapes import Batch, Places
from research.study import arms
from research.training import loop, state
from research.training.step import measure_step, train_step

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


def test_a_step_is_compiled_once_a_shape_and_refuses_any_other():
    model, optimiser, start = parts()
    said = []
    programs = loop.Programs(train_step(model, optimiser), start, [(3, 4, 5), (2, 6, 6)], purpose='train',
                             donate=False, progress=said.append)
    assert len(programs) == len(said) == 2
    for _ in range(2):
        programs(start, padded(3, 4, 5, LENGTHS))
    with pytest.raises(KeyError):
        programs(start, padded(5, 7, 9, LENGTHS))


def test_the_state_is_donated():
    model, optimiser, start = parts()
    programs = loop.Programs(train_step(model, optimiser), start, [(3, 4, 5)], purpose='train', donate=True)
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
