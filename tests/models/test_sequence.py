"""The model without a source: what it computes, who sees whom, and that only the mixer carries anything across."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base, data
from research import build
from research.cells.registry import CELLS
from research.errors import UserError
from research.models import contract
from research.shapes import Batch, Places
from research.study import arms
from research.training.step import measure_step
from tests.models import oracles

B, T, V = 3, 7, 9
FULL = Places(np.ones((B, T), np.int32), np.tile(np.arange(T, dtype=np.int32), (B, 1)))
TOKENS = np.random.default_rng(0).integers(4, V, (B, T)).astype(np.int32)
KINDS = ('mixer=multi_head_dot', 'mixer=delta', 'cell=lstm', 'cell=mlstm', 'mixer=delta+short_convolution=3',
         'cell=lstm+short_convolution=3')
POST = {'decoder.norm': 'post', 'decoder.position': 'learned', 'decoder.tie_embeddings': True}
COMPARED = [(words, {'decoder.causal': causal} | ({} if causal else POST)) for causal in (True, False) for words in (
    *KINDS, 'mixer=sliding_window', 'mixer=linear', 'mixer=multi_head_dot+short_convolution=3',
    *(f'cell={cell}' for cell in CELLS if f'cell={cell}' not in KINDS))]
COMPARED += [(words, {'decoder.position': 'none'} | changes)
             for words in ('mixer=multi_head_dot', 'mixer=delta', 'cell=lstm')
             for changes in ({'decoder.norm': 'post'}, {'decoder.causal': False, 'decoder.tie_embeddings': True})]


def small(words, **changes):
    config = base.choose(base.get_config(), f'sequence+{words}')
    config.data = data.labelled('parity')
    config = arms.override(config, {'decoder.features': 8, 'decoder.hidden': 10} | changes)
    build.validate(config)
    return config


def made(words, **changes):
    model = build.model(small(words, **changes), V, V)
    return model, contract.init(model, jax.random.key(0), Batch(TOKENS, FULL, TOKENS, TOKENS, FULL))


def hidden(model, params, tokens=TOKENS, places=FULL):
    memory = contract.encode(model, params, tokens[:, :0], Places(places.segment[:, :0], places.position[:, :0]))
    return contract.decode(model, params, memory, tokens, places).hidden


@pytest.mark.parametrize(('words', 'changes'), [pytest.param(words, changes, id=', '.join(
    [words, *(f'{key.removeprefix("decoder.")}={value}' for key, value in changes.items())]))
    for words, changes in COMPARED])
def test_hidden_scores_and_gradients_are_those_of_the_oracle(words, changes):
    if words == 'mixer=sliding_window':
        changes = changes | {'decoder.mixer.reach.width': 2}
    config, random = small(words, **changes), np.random.default_rng(3)
    model = build.model(config, V, V)
    segment = np.array([[1] * T, [1] * 3 + [2 if model.packs() else 1] * 2 + [0] * 2, [1] + [0] * (T - 1)], np.int32)
    places = Places(segment, np.where(segment == 2, np.arange(T) - 3, np.arange(T)).astype(np.int32))
    batch, real = Batch(TOKENS, FULL, TOKENS, TOKENS, places), segment > 0
    exact = jax.tree.map(lambda leaf: random.normal(0.1, 0.5, leaf.shape), build.abstract_params(model))

    @jax.jit
    def probe(params):
        found, pull = jax.vjp(lambda params: hidden(model, params, TOKENS, places), params)
        # of the sum of sines over real positions: no two terms cancel by symmetry
        return found, contract.logits(model, params, found), pull(jnp.cos(found) * real[..., None])[0]
    found, scores, slopes = probe(jax.tree.map(lambda leaf: leaf.astype(np.float32), exact))
    expected = oracles.decode(config, exact, batch)
    for ours, reference in zip((found, scores), expected[:2], strict=True):
        np.testing.assert_allclose(np.asarray(ours)[real], reference[real], atol=3e-5)
    direction = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), exact)

    def total(step):
        moved = jax.tree.map(lambda leaf, way: leaf + step * way, exact, direction)
        return np.sum(np.sin(oracles.decode(config, moved, batch)[0][real]))
    slope = (total(1e-7) - total(-1e-7)) / 2e-7  # some units of the feed-forward network turn on 1e-6 away
    along = sum(np.sum(np.asarray(leaf, np.float64) * way) for leaf, way in zip(
        jax.tree.leaves(slopes), jax.tree.leaves(direction), strict=True))
    assert along == pytest.approx(slope, rel=2e-4, abs=2e-4)


def reach(model, params):
    """[T, T]: whether the hidden vector at t depends on the symbol at s."""
    changed = np.zeros((T, T), bool)
    before = np.asarray(hidden(model, params))
    for s in range(T):
        tokens = TOKENS.copy()
        tokens[:, s] = np.where(tokens[:, s] == 4, 5, 4)
        changed[:, s] = np.any(np.asarray(hidden(model, params, tokens)) != before, axis=(0, 2))
    return changed


@pytest.mark.parametrize('words', KINDS)
@pytest.mark.parametrize('causal', [True, False])
def test_a_position_sees_what_its_direction_allows(words, causal):
    np.testing.assert_array_equal(reach(*made(words, **{'decoder.causal': causal})),
                                  np.tri(T, dtype=bool) if causal else np.ones((T, T), bool))


@pytest.mark.parametrize('words', KINDS)
def test_nothing_but_the_mixer_moves_information_between_positions(words):
    model, params = made(words)
    silent = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * ('output_projection' not in jax.tree_util.keystr(path)), params)
    np.testing.assert_array_equal(reach(model, silent), np.eye(T, dtype=bool))


@pytest.mark.parametrize('words', KINDS)
def test_pads_change_nothing(words):
    model, params = made(words)
    padded = Places(FULL.segment * (np.arange(T) < 4), FULL.position)
    other = np.where(padded.segment > 0, TOKENS, 5)
    np.testing.assert_array_equal(np.asarray(hidden(model, params, TOKENS, padded))[:, :4],
                                  np.asarray(hidden(model, params, other, padded))[:, :4])


def test_a_window_reaches_one_window_less_one_a_layer():
    model, params = made('mixer=sliding_window', **{'decoder.mixer.reach.width': 3, 'decoder.position': 'none'})
    far = np.arange(T)[:, None] - np.arange(T)
    np.testing.assert_array_equal(reach(model, params), (far >= 0) & (far <= 2 * (3 - 1)))


def test_only_positions_that_are_asked_count():
    model, params = made('mixer=multi_head_dot')
    targets = np.where(np.arange(T) % 3 == 0, TOKENS, 0)
    batch = Batch(TOKENS, FULL, TOKENS, targets, FULL)
    measured = measure_step(model, with_right=True)(params, batch)
    assert float(measured['tokens']) == np.sum(targets > 0)
    scores = np.asarray(contract.logits(model, params, hidden(model, params)))
    losses = -np.asarray(jax.nn.log_softmax(jnp.asarray(scores)))[np.arange(B)[:, None], np.arange(T), targets]
    np.testing.assert_allclose(float(measured['loss']), losses[targets > 0].sum(), rtol=1e-5)
    assert float(measured['right']) == np.sum((scores.argmax(axis=-1) == targets) & (targets > 0))


def test_both_directions_cannot_write():
    model, params = made('mixer=multi_head_dot', **{'decoder.causal': False})
    memory = contract.encode(model, params, TOKENS, FULL)
    with pytest.raises(UserError, match='causal must be True'):
        contract.start(model, params, memory, T)


def test_flops_are_those_of_its_layers():
    model, params = made('mixer=multi_head_dot', **{'decoder.features': 64, 'decoder.hidden': 96})
    counted = jax.jit(lambda params: contract.logits(model, params, hidden(model, params))).lower(
        params).compile().cost_analysis()['flops'] / B
    assert build.flops(model, 0, T) == pytest.approx(counted, rel=0.06)


@pytest.mark.parametrize(('kind', 'task'), [('sequence', data.synthetic('copy')),
                                           ('recurrent', data.labelled('parity')),
                                           ('transformer', data.language_model())])
def test_a_task_without_a_source_and_a_model_without_a_source_need_each_other(kind, task):
    config = base.choose(base.get_config(), kind)
    config.data = task
    with pytest.raises(UserError, match='all three or none'):
        build.validate(config)
