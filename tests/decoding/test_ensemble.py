"""Ensembles: one model twice is that model, two are the mean of their probabilities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import build
from research.decoding.beam import beam
from research.decoding.ensemble import Ensemble, ensemble, mean_weights
from research.decoding.greedy import greedy
from research.decoding.sampling import sample
from research.decoding.scoring import score
from research.errors import UserError
from research.models import contract
from tests.decoding import toy
from tests.decoding.test_models import LENGTH, W, every_pair, far_from_uniform, sentences
from tests.decoding.test_search import assert_hypotheses_are
from tests.models.test_contract import SOURCE, TARGET, small

T = 11


@functools.partial(jax.jit, static_argnums=0)
def searches(model, params, source, places):
    options = {'length': T, 'with_weights': True}
    return (greedy(model, params, source, places, **options),
            beam(model, params, source, places, beams=3, penalty=0.6, **options),
            sample(model, params, source, places, samples=3, key=jax.random.key(0), numbers=jnp.arange(len(source)),
                   **options))


def searched(*arguments):
    """Every search over a model."""
    return jax.tree.map(np.asarray, searches(*arguments))


FORCED = jax.jit(score, static_argnums=0)


def test_an_ensemble_of_one_model_twice_is_that_model():
    tables, (source, places) = toy.tables(0), toy.a_source()
    model, params = ensemble([(toy.MODEL, tables)] * 2)
    expected = searched(toy.MODEL, tables, source, places)
    for one, other in zip(searched(model, params, source, places), expected, strict=True):
        np.testing.assert_allclose(one.weights[:, :, 0], other.weights.mean(axis=2), atol=1e-6)
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5),
                     one._replace(weights=None), other._replace(weights=None))
    batch = toy.a_batch(source, places, expected[0].tokens[:, 0], expected[0].lengths[:, 0])
    np.testing.assert_allclose(FORCED(model, params, batch), expected[0].scores[:, 0], rtol=1e-5)


def test_an_ensemble_of_two_is_the_mean_of_their_probabilities():
    """Two sets of parameters of one object: neither is taken for the other."""
    tables, (source, places) = [toy.tables(0), toy.tables(1)], toy.a_source()
    model, params = ensemble([(toy.MODEL, tables[0]), (toy.MODEL, tables[1])])
    first, wide, drawn = searched(model, params, source, places)
    for b, size in enumerate(toy.LENGTHS):
        tokens, total = toy.greedy(tables, source[b, :size], T)
        assert tuple(first.tokens[b, 0, :first.lengths[b, 0]]) == tokens
        np.testing.assert_allclose(first.scores[b, 0], total, rtol=1e-5)
        assert_hypotheses_are(wide, b, toy.beam(tables, source[b, :size], T, 3, 0.6))
        for tokens, length, total in zip(drawn.tokens[b], drawn.lengths[b], drawn.scores[b]):
            np.testing.assert_allclose(total, toy.total(tables, source[b, :size], tuple(tokens[:length])), rtol=1e-5)
    batch = toy.a_batch(source, places, first.tokens[:, 0], first.lengths[:, 0])
    np.testing.assert_allclose(FORCED(model, params, batch), first.scores[:, 0], rtol=1e-5)
    weights = np.mean([toy.forced_weights(one, batch) for one in tables], axis=(0, 2))
    for b, length in enumerate(first.lengths[:, 0]):
        np.testing.assert_allclose(first.weights[b, 0, 0, :length], weights[b, :length], atol=1e-6)


def test_logits_are_the_logarithms_of_probabilities():
    model, params = ensemble([(toy.MODEL, toy.tables(0))] * 3)
    hidden = tuple(np.random.default_rng(0).normal(size=(3, 4, toy.V)) * 5)
    logits = np.asarray(contract.logits(model, params, hidden))
    expected = np.mean([np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in hidden], axis=0)
    np.testing.assert_allclose(np.exp(logits), expected, rtol=1e-4)
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1, rtol=1e-5)


def test_an_ensemble_has_weights_only_where_every_model_has_them_over_the_same_positions():
    model, params = ensemble([(toy.MODEL, toy.tables(0)), (toy.Toy(explicit=False), toy.tables(1))])
    with pytest.raises(UserError, match='the model returns no weights'):
        greedy(model, params, *toy.a_source(), length=3, with_weights=True)
    one, other = np.float32([[[0.2, 0.8], [0.6, 0.4]]]), np.float32([[[1.0, 0.0]]])
    np.testing.assert_allclose(mean_weights([one, other]), [[[0.7, 0.3]]], atol=1e-6)
    assert mean_weights([one, None]) is None
    assert mean_weights([one, other[..., :1]]) is None


def test_an_ensemble_of_nothing_or_of_one_object_twice_is_a_mistake():
    with pytest.raises(ValueError, match='An ensemble of 0 models; it needs one or more'):
        ensemble([])
    with pytest.raises(ValueError, match='An ensemble of 2 models; it needs one or more, each its own object'):
        Ensemble((toy.MODEL, toy.MODEL))


def test_a_recurrent_model_and_a_transformer_write_together():
    source, places = jax.tree.map(lambda array: array[:5], sentences())
    models = [build.model(small(*kind), SOURCE, TARGET) for kind in (('recurrent', 'additive'),
                                                                     ('transformer', 'multi_head_dot'))]
    model, params = ensemble([(member, far_from_uniform(member, seed)) for seed, member in enumerate(models)])
    assert model.reads_source()
    assert model.packs() == all(member.packs() for member in models)
    result = jax.device_get(jax.jit(functools.partial(beam, model, length=LENGTH, beams=W, penalty=0.6))(
        params, source, places))
    pairs = every_pair(source, places, result)

    @jax.jit
    def forced(params):
        """The scores, and the mean of what the members say apart of every target: probabilities [B x W, T, V]."""
        each = []
        for number, member in enumerate(models):
            own = params[f'models_{number}']
            memory = contract.encode(member, own, pairs.source, pairs.source_places)
            hidden = contract.decode(member, own, memory, pairs.inputs, pairs.target_places).hidden
            each.append(jax.nn.softmax(contract.logits(member, own, hidden)))
        return score(model, params, pairs), sum(each) / 2
    scores, probabilities = jax.device_get(forced(params))
    gains = np.take_along_axis(np.log(np.float64(probabilities)), pairs.targets[..., None], axis=-1)[..., 0]
    for found in (scores, result.scores.reshape(-1)):
        np.testing.assert_allclose(found, np.sum(gains, axis=1, where=pairs.target_places.segment > 0), rtol=1e-4)
