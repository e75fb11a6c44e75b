"""Scores of given right inputs: in the order of the pairs, and every sum by hand."""

import math

import jax
import numpy as np
import pytest

from configs import copy, labelled_recall
from research import build
from research.errors import UserError
from research.evaluation.forced import Positions, by_length, by_position, positions, scores
from research.models import contract
from research.study import arms
from research.text import labelled
from research.text.batches import BatchPlan, PackedPlan, filled
from research.training.loop import blank_batch
from research.training.step import measure_step, position_step, summed

# ------------------------------------------------------------------------------------------- from batches to the pairs

def a_plan(count=22, tokens=40, seed=None):
    """Pairs that carry their number: target [n, n, ...] of a length of its own, in buckets of three widths."""
    pairs = [(np.full(1 + n % 3, 4, np.int32), np.full(1 + 5 * n % 8, 4 + n, np.int32)) for n in range(count)]
    return pairs, BatchPlan(pairs, [(3, 3), (3, 5), (3, 8)], tokens, seed)


def told(params, batch):
    """A measurement whose answer is known: the loss is number and position, the even numbers are right."""
    asked = batch.target_places.segment > 0
    losses = np.where(asked, params * batch.targets + batch.target_places.position, 0.0)
    return asked, asked & (batch.targets % 2 == 0), losses.astype(np.float32)


def test_rows_stand_in_the_order_of_the_pairs_whatever_batch_they_were_in():
    pairs, plan = a_plan()
    assert len(plan.shapes) == 3
    assert sum((plan.ids(k) < 0).sum() for k in range(len(plan))) > 0, 'the premise: there are empty rows'
    found = positions(told, 100.0, plan)
    assert found.asked.shape == found.right.shape == found.losses.shape == (22, 8)
    assert (found.asked.dtype, found.right.dtype, found.losses.dtype) == (bool, bool, np.float32)
    for n, (_, target) in enumerate(pairs):
        t = len(target)
        np.testing.assert_array_equal(found.asked[n], np.arange(8) < t)
        np.testing.assert_array_equal(found.right[n], (np.arange(8) < t) & (n % 2 == 0))
        np.testing.assert_array_equal(found.losses[n], np.where(np.arange(8) < t, 100 * (4 + n) + np.arange(8), 0))


def test_a_plan_that_does_not_show_each_pair_once_is_refused():
    with pytest.raises(ValueError, match='has seed 5 and drops 0'):
        positions(told, 1.0, a_plan(seed=5)[1])
    pairs, _ = a_plan()
    with pytest.raises(ValueError, match=r'has seed None and drops \d+'):
        positions(told, 1.0, BatchPlan(pairs, [(3, 5)], 40))
    with pytest.raises(ValueError, match='packed'):
        positions(told, 1.0, PackedPlan(pairs, (9, 9), 2))


# -------------------------------------------------------------------------------------------------------- what it sums

HAND = Positions(asked=np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0], [0, 1, 0]], bool),
                 right=np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], bool),
                 losses=np.array([[0.5, 2.0, 0.0], [0.25, 0.25, 3.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.float32))


def record(tokens, right, loss):
    """By hand: three sums to what is said of them."""
    if tokens == 0:
        return {'tokens': 0, 'accuracy': None, 'loss': None, 'perplexity': None}
    return {'tokens': tokens, 'accuracy': pytest.approx(right / tokens), 'loss': pytest.approx(loss / tokens),
            'perplexity': pytest.approx(math.exp(loss / tokens))}


def test_scores_are_of_what_is_asked_for_and_chosen():
    assert scores(HAND) == record(6, 4, 7.0)
    assert scores(HAND, np.array([False, True, True])) == record(4, 2, 6.25)
    assert scores(HAND, np.array([[True], [False], [True], [True]])) == record(3, 2, 3.5)
    assert scores(HAND, ~HAND.right) == record(2, 0, 5.0)


def test_what_chooses_nothing_is_refused_rather_than_divided_by():
    with pytest.raises(UserError, match='of 6 positions that are asked for none is chosen'):
        scores(HAND, np.array([[False], [False], [True], [False]]))


def test_scores_by_length_are_those_of_the_pairs_of_that_length():
    found = by_length(HAND, [2, 3, 2, 7], (1, 3, 4, 6, 8))
    assert found == [{'low': 1, 'high': 2, 'count': 2, **record(2, 1, 2.5)},
                     {'low': 3, 'high': 3, 'count': 1, **record(3, 2, 3.5)},
                     {'low': 4, 'high': 5, 'count': 0, **record(0, 0, 0.0)},
                     {'low': 6, 'high': 7, 'count': 1, **record(1, 1, 1.0)}]
    chosen = by_length(HAND, [2, 3, 2, 7], (1, 8), np.array([True, False, False]))
    assert chosen == [{'low': 1, 'high': 7, 'count': 4, **record(2, 2, 0.75)}]
    with pytest.raises(UserError, match='lie outside'):
        by_length(HAND, [2, 3, 2, 7], (1, 7))


def test_scores_by_position_are_those_of_all_pairs_there():
    assert by_position(HAND) == [{'position': 0, **record(2, 2, 0.75)}, {'position': 1, **record(3, 2, 3.25)},
                                 {'position': 2, **record(1, 0, 3.0)}]
    assert by_position(HAND, np.array([[True], [False], [True], [False]])) == [
        {'position': 0, **record(1, 1, 0.5)}, {'position': 1, **record(1, 0, 2.0)},
        {'position': 2, **record(0, 0, 0.0)}]


# ------------------------------------------------------------------------------------------------------- of real models

DATA = {'data.train': 60, 'data.dev': 9, 'data.test': 31, 'batches.tokens': 300}
RUNS = {
    'recurrent': (copy, 'additive', {'data.longest': 9, 'data.longest_test': 14}),
    'Transformer, one table': (copy, 'transformer', {'data.longest': 9, 'data.longest_test': 14,
                                                     'decoder.tie_embeddings': True}),
    'labels': (labelled_recall, None, {'data.length': 16, 'data.longest_test': 24, 'data.task': 'window_reach'}),
}


@pytest.mark.parametrize('run', RUNS)
def test_positions_of_a_model_are_those_of_its_scores_in_float64(run):
    """Against the log-softmax of all scores of all pairs in one batch; in batches of several shapes, a few rows at a
    time. Of highest scores that are nearly equal either may be the highest.
    """
    file, words, changes = RUNS[run]
    config = arms.override(file.get_config(words), DATA | changes)
    data = build.data(config)
    model = build.model(config, len(data.source), len(data.target))
    params = contract.init(model, jax.random.key(0), blank_batch(2, 3, 3))
    plan = build.measuring_plan(data, data.corpus.test, build.plans(config, data))
    assert len(plan.shapes) > 1
    found = positions(jax.jit(position_step(model, chunk=17)), params, plan)

    lines = [(data.source.encode(pair.source), data.target.encode(pair.target)) for pair in data.corpus.test]
    if data.labelled:
        nothing = data.target.encode('_')[0]
        lines = [(line[:-1], np.where(labels == nothing, 0, labels)[:-1]) for line, labels in lines]
    N, S, T = len(lines), *(max(len(pair[side]) for pair in lines) for side in (0, 1))
    batch = filled((N, S, T), [[pair] for pair in lines], data.labelled)
    memory = contract.encode(model, params, batch.source, batch.source_places)
    hidden = contract.decode(model, params, memory, batch.inputs, batch.target_places).hidden
    logits = np.asarray(contract.logits(model, params, hidden), np.float64)
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    asked = batch.targets > 0
    losses = -np.take_along_axis(logs, batch.targets[..., None], axis=-1)[..., 0]
    first, second = np.sort(logs, axis=-1)[..., [-1, -2]].transpose(2, 0, 1)
    clear = first - second > 1e-4
    assert clear.mean() > 0.99

    np.testing.assert_array_equal(found.asked[:, :T], asked)
    assert not found.asked[:, T:].any()
    np.testing.assert_allclose(found.losses[:, :T], np.where(asked, losses, 0.0), atol=2e-5)
    np.testing.assert_array_equal(found.right[:, :T] & clear, asked & clear & (logs.argmax(axis=-1) == batch.targets))
    assert 0 < found.right.sum() < asked.sum()

    sums = summed(jax.jit(measure_step(model, with_right=True)), params, plan)
    said = scores(found)
    assert said['tokens'] == sums['tokens'] == asked.sum()
    assert said['loss'] == pytest.approx(sums['loss'] / sums['tokens'], rel=1e-5)
    assert said['accuracy'] == pytest.approx(sums['right'] / sums['tokens'], abs=1e-9)


def test_the_keys_that_were_overwritten_are_scored_apart():
    """As a study would: a model whose right answers are the first values alone is right of the untouched keys."""
    pairs = labelled.make('overwritten_recall', train=1, dev=1, test=12, lengths=(24, 24), symbols=64, size=4,
                          seed=1).test
    again = np.stack([labelled.overwritten(pair) for pair in pairs])
    asked = np.array([[label != '_' for label in pair.target.split()] for pair in pairs])
    first = np.zeros_like(asked)
    for row, pair in enumerate(pairs):
        symbols = pair.source.split()
        for at in np.flatnonzero(asked[row]):
            first[row, at] = symbols[symbols.index(symbols[at]) + 1] == pair.target.split()[at]
    found = Positions(asked, first, np.zeros(asked.shape, np.float32))
    assert scores(found, again)['accuracy'] == 0.0
    assert scores(found, ~again)['accuracy'] == 1.0
    assert scores(found, again)['tokens'] == scores(found, ~again)['tokens'] == 2 * 12
