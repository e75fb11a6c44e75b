"""What a Transformer may be told beside its parts: activations, layouts of sinusoids, scale, epsilon, a softmax bias.

Each is compared with the oracle, all of them differing from their defaults by much, in a model without a source and in
one with it.
"""

import dataclasses

import jax
import numpy as np
import pytest

from research import build
from research.layers.embedding import Embedding
from research.models import contract
from tests.models import oracles, test_sequence
from tests.models.test_contract import SOURCE, a_batch, small

CONCATENATED = {'position': 'sinusoidal_concatenated', 'scale_embeddings': False}
OPTIONS = {
    'pre-norm, gated, a bias': (
        'pre', False, {'activation': 'swiglu', 'epsilon': 0.2, **CONCATENATED},
        {'activation': 'gelu', 'epsilon': 0.1, 'softmax_bias': True, 'position': 'sinusoidal_concatenated'}),
    'post-norm, one table for all, a bias': (
        'post', True, {'activation': 'swish', 'epsilon': 0.2, **CONCATENATED},
        {'activation': 'gelu_tanh', 'epsilon': 0.1, 'softmax_bias': True, **CONCATENATED})}


def with_options(model, config, side, options):
    """A model and its config, told the same of one side; a config need not know all of it."""
    part = config[side]
    with part.unlocked():
        part.update(options)
    return dataclasses.replace(model, **{side: dataclasses.replace(getattr(model, side), **options)}), config


@pytest.mark.parametrize('name', OPTIONS)
def test_every_option_of_a_transformer_is_that_of_the_oracle(name):
    norm, shares, encoder, decoder = OPTIONS[name]
    config = small('transformer', 'multi_head_dot', **{
        'encoder.norm': norm, 'decoder.norm': norm, 'decoder.tie_embeddings': shares})
    model = build.model(config, SOURCE, SOURCE)
    for side, options in (('encoder', encoder), ('decoder', decoder)):
        model, config = with_options(model, config, side, options)
    if shares:
        shared = Embedding(SOURCE, 8, model.encoder.dtype, scaled=False)
        model = dataclasses.replace(model, embedding=shared, **{
            side: dataclasses.replace(getattr(model, side), shared=shared) for side in ('encoder', 'decoder')})
    batch, random = a_batch(), np.random.default_rng(3)
    exact = jax.tree.map(lambda leaf: random.normal(0.1, 0.5, leaf.shape), build.abstract_params(model))

    @jax.jit
    def scores(params):
        memory = contract.encode(model, params, batch.source, batch.source_places)
        return contract.logits(model, params,
                               contract.decode(model, params, memory, batch.inputs, batch.target_places).hidden)
    found = np.asarray(scores(jax.tree.map(lambda leaf: leaf.astype(np.float32), exact)))
    assert ('embedding' in exact) == shares
    for side in ('encoder', 'decoder') if shares else ():  # the oracle looks for a table in each part
        exact[side]['entrance'] = {'embedding': exact['embedding']}
    real = batch.target_places.segment > 0
    np.testing.assert_allclose(found[real], oracles.decode(config, exact, batch)[1][real], atol=3e-5)


def test_every_option_of_a_model_without_a_source_is_that_of_the_oracle():
    config, options = test_sequence.small('mixer=multi_head_dot'), {
        'activation': 'geglu', 'epsilon': 0.2, **CONCATENATED}
    with config.decoder.unlocked():
        config.decoder.update(options)
    model = dataclasses.replace(build.model(test_sequence.small('mixer=multi_head_dot'), 9, 9), **options)
    random = np.random.default_rng(3)
    exact = jax.tree.map(lambda leaf: random.normal(0.1, 0.5, leaf.shape), build.abstract_params(model))
    found = jax.jit(lambda params: test_sequence.hidden(model, params))(
        jax.tree.map(lambda leaf: leaf.astype(np.float32), exact))
    places, tokens = test_sequence.FULL, test_sequence.TOKENS
    expected = oracles.layers(config.decoder, exact, tokens, places, config.decoder.causal)
    np.testing.assert_allclose(found, expected, atol=3e-5)
