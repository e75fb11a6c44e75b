"""Forced scores against float64 NumPy."""

import functools

import jax
import numpy as np
import pytest

from research.decoding.greedy import greedy
from research.decoding.scoring import score
from research.text.vocabulary import END
from tests.decoding import toy

T = 7
TARGET_LENGTHS = [7, 4, 0]
SCORE = jax.jit(functools.partial(score, toy.MODEL))


def some_pairs(seed):
    source, places = toy.a_source(seed=seed)
    tokens = np.random.default_rng(seed).integers(END + 1, toy.V, (len(source), T)).astype(np.int32)
    for row, length in enumerate(TARGET_LENGTHS):
        tokens[row, length - 1:length] = END
    return toy.a_batch(source, places, tokens, TARGET_LENGTHS)


@pytest.mark.parametrize('seed', range(3))
def test_a_score_is_the_sum_of_the_log_probabilities_of_the_real_targets(seed):
    tables, batch = toy.tables(seed), some_pairs(seed)
    scores = SCORE(tables, batch)
    assert scores.shape == (len(TARGET_LENGTHS),)
    assert scores.dtype == np.float32
    for b, (source_length, length) in enumerate(zip(toy.LENGTHS, TARGET_LENGTHS, strict=True)):
        expected = toy.total(tables, batch.source[b, :source_length], tuple(batch.targets[b, :length]))
        np.testing.assert_allclose(scores[b], expected, rtol=1e-5)
    assert scores[2] == 0


def test_targets_at_padding_count_nothing():
    tables, batch = toy.tables(0), some_pairs(0)
    real = batch.target_places.segment > 0
    other = batch._replace(targets=np.where(real, batch.targets, 5), inputs=np.where(real, batch.inputs, 4))
    np.testing.assert_array_equal(SCORE(tables, other), SCORE(tables, batch))


def test_the_score_of_greedy_search_is_its_forced_score():
    for seed in range(3):
        tables, (source, places) = toy.tables(seed), toy.a_source(seed=seed)
        search = jax.jit(functools.partial(greedy, toy.MODEL, length=T))
        result = jax.tree.map(np.asarray, search(tables, source, places))
        batch = toy.a_batch(source, places, result.tokens[:, 0], result.lengths[:, 0])
        np.testing.assert_allclose(result.scores[:, 0], SCORE(tables, batch), rtol=1e-5)


def test_seeds_under_vmap_are_single_seeds():
    batch, every = some_pairs(0), [toy.tables(seed) for seed in range(2)]
    together = jax.jit(jax.vmap(functools.partial(score, toy.MODEL), in_axes=(0, None)))(
        jax.tree.map(lambda *leaves: np.stack(leaves), *every), batch)
    for seed, tables in enumerate(every):
        np.testing.assert_allclose(together[seed], SCORE(tables, batch), rtol=1e-6)
