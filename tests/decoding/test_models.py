"""The searches over real models: what a beam carries - caches, states, fed vectors - follows its hypothesis."""

import functools

import jax
import numpy as np
import pytest

from research import build
from research.attention.registry import VARIANTS
from research.decoding.beam import beam
from research.decoding.contract import penalise
from research.decoding.greedy import greedy
from research.decoding.scoring import score
from research.models import contract
from tests.decoding import toy
from tests.models.test_contract import SOURCE, TARGET, S, a_batch, small

B, LENGTH, W, COVERAGE = 64, 6, 4, 0.3


def sentences():
    """64 sources [B, S] of different lengths, and their places."""
    random = np.random.default_rng(0)
    return random.integers(2, SOURCE, (B, S)).astype(np.int32), toy.places(random.integers(1, S + 1, B), S)


def every_pair(source, places, result):
    """Each sentence with each of its hypotheses: a batch of B x W pairs."""
    source, places = jax.tree.map(lambda array: np.repeat(array, W, axis=0), (source, places))
    return toy.a_batch(source, places, result.tokens.reshape(-1, LENGTH), result.lengths.reshape(-1))


def far_from_uniform(model, seed):
    """Parameters with which hypotheses change places."""
    params = jax.jit(functools.partial(contract.init, model, batch=a_batch()))(jax.random.key(seed))
    return jax.tree.map(lambda leaf: 1.5 * leaf, params)


@pytest.mark.parametrize(('wiring', 'reader', 'one_by_one'), [
    ('recurrent', 'additive', True), ('recurrent, current, input feeding', 'multi_head_dot', False),
    ('recurrent, two layers of lstm, one way', 'none', False), ('transformer', 'multi_head_dot', True),
    ('transformer, post-norm, learned, tied, last', 'none', False)])
def test_hypotheses_have_their_forced_scores_and_coverage_and_do_not_see_their_neighbours(wiring, reader, one_by_one):
    model, (source, places) = build.model(small(wiring, reader), SOURCE, TARGET), sentences()
    params, coverage = far_from_uniform(model, 1), COVERAGE if VARIANTS[reader].weights else 0.0

    @jax.jit
    def searched(params, source, places):
        options = {'length': LENGTH, 'penalty': 0.6}
        return (beam(model, params, source, places, beams=W, coverage=coverage, **options),
                beam(model, params, source, places, beams=1, **options),
                greedy(model, params, source, places, length=LENGTH))

    @jax.jit
    def forced(params, pairs):
        memory = contract.encode(model, params, pairs.source, pairs.source_places)
        weights = contract.decode(model, params, memory, pairs.inputs, pairs.target_places).weights
        return score(model, params, pairs), weights
    wide, narrow, first = together = jax.device_get(searched(params, source, places))
    assert np.all(np.isfinite(wide.scores))
    assert len({tuple(row) for row in wide.tokens[0].tolist()}) == W
    pairs = every_pair(source, places, wide)
    scores, weights = jax.device_get(forced(params, pairs))
    np.testing.assert_allclose(wide.scores.reshape(-1), scores, rtol=1e-4, atol=1e-4)
    penalised = penalise(wide.scores, wide.lengths, 0.6).reshape(-1)
    if coverage:
        read = np.sum(np.mean(weights, axis=1), axis=1, where=(pairs.target_places.segment > 0)[..., None])
        read = np.where(pairs.source_places.segment > 0, np.minimum(read, 1), 1)
        penalised += coverage * np.sum(np.log(read), axis=1)
    np.testing.assert_allclose(wide.penalised.reshape(-1), penalised, rtol=1e-4, atol=1e-4)
    ended = narrow.finished[:, 0]  # a beam of one goes on behind an end that a longer hypothesis may still beat
    np.testing.assert_array_equal(narrow.tokens[ended], first.tokens[ended])
    if one_by_one:
        alone = [searched(params, *jax.tree.map(lambda array, b=b: array[b:b + 1], (source, places))) for b in range(B)]
        for one, other in zip(jax.tree.map(lambda *rows: np.concatenate(rows), *alone), together, strict=True):
            np.testing.assert_array_equal(one.tokens, other.tokens)
            np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5, atol=1e-5)
