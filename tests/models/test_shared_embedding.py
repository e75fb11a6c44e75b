"""One table for encoder, decoder and softmax: what is learned, and that every function of the contract finds it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import build
from research.errors import UserError
from research.layers.embedding import Embedding
from research.models import contract
from tests.models.test_contract import SOURCE, T, a_batch, places, small

KINDS = ('recurrent, input feeding', 'transformer', 'transformer_to_recurrent')


@functools.lru_cache
def built(wiring, tied=True):
    """A model that shares, the same one that does not, parameters of the first, and those of the second that are equal.

    The second has tables of its own, equal ones: of the encoder, of the decoder, and of the softmax.
    """
    config = small(wiring, 'multi_head_dot', **{'decoder.tie_embeddings': tied})
    for part in (config.encoder, config.decoder):
        if part.kind == 'recurrent':
            part.embedding_features = 8
    apart = build.model(config, SOURCE, SOURCE)
    embedding = Embedding(SOURCE, 8, apart.encoder.dtype)
    together = dataclasses.replace(
        apart, embedding=embedding, encoder=dataclasses.replace(apart.encoder, shared=embedding),
        decoder=dataclasses.replace(apart.decoder, shared=embedding, tie_embeddings=tied))
    apart = dataclasses.replace(apart, decoder=dataclasses.replace(apart.decoder, tie_embeddings=False))
    params = jax.tree.map(lambda leaf: np.random.default_rng(0).normal(0.1, 0.4, leaf.shape).astype(np.float32),
                          build.abstract_params(together))
    table = params['embedding']['table']
    others = {side: dict(params[side]) for side in ('encoder', 'decoder')}
    for side, part in others.items():
        own = {'embedding': {'table': table}}
        part.update(own if config[side].kind == 'recurrent' else {'entrance': own})
    others['decoder'].setdefault('softmax', {'kernel': table.T})
    return together, apart, params, others


def scores(model, params, batch):
    memory = contract.encode(model, params, batch.source, batch.source_places)
    return contract.logits(model, params,
                           contract.decode(model, params, memory, batch.inputs, batch.target_places).hidden)


@pytest.mark.parametrize('wiring', KINDS)
def test_there_is_one_table(wiring):
    _, _, params, _ = built(wiring)
    tables = [jax.tree_util.keystr(path) for path, leaf in jax.tree.leaves_with_path(params)
              if SOURCE in leaf.shape]
    assert tables == ["['embedding']['table']"]


@pytest.mark.parametrize('wiring', KINDS)
def test_the_gradient_of_a_shared_table_is_the_sum_of_those_of_its_three_uses(wiring):
    together, apart, params, others = built(wiring)
    batch = a_batch()

    def compare(model):
        return jax.jit(jax.value_and_grad(lambda params: jnp.sum(jnp.sin(scores(model, params, batch)))))
    (one, whole), (same, parts) = compare(together)(params), compare(apart)(others)
    assert float(one) == pytest.approx(float(same), abs=1e-4)
    uses = [parts['decoder']['softmax']['kernel'].T,
            *(parts[side].get('entrance', parts[side])['embedding']['table'] for side in ('encoder', 'decoder'))]
    assert all(np.any(np.asarray(use)) for use in uses)
    np.testing.assert_allclose(whole['embedding']['table'], sum(uses), atol=2e-5)


@pytest.mark.parametrize('wiring', KINDS)
def test_step_by_step_a_model_with_a_shared_table_says_the_same_as_all_at_once(wiring):
    together, _, params, _ = built(wiring)
    batch = a_batch()._replace(target_places=places([T] * 3, T))
    memory = contract.encode(together, params, batch.source, batch.source_places)
    step = jax.jit(functools.partial(contract.step, together))
    carry, found = contract.start(together, params, memory, T), []
    for t in range(T):
        hidden, _, carry = step(params, memory, carry, batch.inputs[:, t])
        found.append(contract.logits(together, params, hidden))
    np.testing.assert_allclose(np.stack(found, axis=1), jax.jit(functools.partial(scores, together))(params, batch),
                               atol=2e-5)


def test_a_softmax_may_have_a_table_of_its_own_beside_a_shared_embedding():
    _, _, params, _ = built('transformer', tied=False)
    assert params['embedding']['table'].shape == (SOURCE, 8)
    assert params['decoder']['softmax']['kernel'].shape == (8, SOURCE)
    assert 'entrance' not in params['encoder']


def test_a_shared_embedding_that_does_not_fit_a_part_is_refused():
    together, _, params, _ = built('transformer')
    wrong = dataclasses.replace(together, encoder=dataclasses.replace(together.encoder, vocabulary=SOURCE + 1))
    with pytest.raises(UserError, match='a shared embedding of 13 symbols and width 8, in a part of 14 symbols'):
        contract.encode(wrong, params, a_batch().source, a_batch().source_places)
