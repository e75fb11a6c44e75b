"""The searches over real models: what a beam carries - caches, states, fed vectors - follows its hypothesis."""

import functools

import jax
import numpy as np
import pytest

from research import build
from research.decoding.beam import beam
from research.decoding.greedy import greedy
from research.decoding.scoring import score
from research.models import contract
from tests.decoding import toy
from tests.models.test_contract import SOURCE, TARGET, a_batch, small

LENGTH, W = 6, 4


def every_pair(batch, result):
    """Each sentence with each of its hypotheses: a batch of B x W pairs."""
    source, places = jax.tree.map(lambda array: np.repeat(array, W, axis=0), (batch.source, batch.source_places))
    return toy.a_batch(source, places, result.tokens.reshape(-1, LENGTH), result.lengths.reshape(-1))


@pytest.mark.parametrize(('wiring', 'reader'), [
    ('recurrent', 'additive'), ('recurrent, current, input feeding', 'multi_head_dot'),
    ('recurrent, two layers of lstm, one way', 'none'), ('transformer', 'multi_head_dot'),
    ('transformer, post-norm, learned, tied, last', 'none')])
def test_scores_of_hypotheses_are_forced_scores(wiring, reader):
    model, batch = build.model(small(wiring, reader), SOURCE, TARGET), a_batch()
    params = jax.jit(functools.partial(contract.init, model, batch=batch))(jax.random.key(1))
    params = jax.tree.map(lambda leaf: 2.0 * leaf, params)  # far from uniform: hypotheses change places

    @jax.jit
    def searched(params):
        return (beam(model, params, batch.source, batch.source_places, length=LENGTH, beams=W, penalty=0.6),
                beam(model, params, batch.source, batch.source_places, length=LENGTH, beams=1, penalty=0.6),
                greedy(model, params, batch.source, batch.source_places, length=LENGTH))
    wide, narrow, first = jax.device_get(searched(params))
    assert np.all(np.isfinite(wide.scores))
    assert len({tuple(row) for row in wide.tokens[0].tolist()}) == W
    forced = jax.jit(functools.partial(score, model))(params, every_pair(batch, wide))
    np.testing.assert_allclose(wide.scores.reshape(-1), forced, rtol=1e-4, atol=1e-4)
    ended = narrow.finished[:, 0]  # a beam of one goes on behind an end that a longer hypothesis may still beat
    np.testing.assert_array_equal(narrow.tokens[ended], first.tokens[ended])
