"""What diagnostics say of whole models: gradients against tables and finite differences, weights that are known."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from configs import base, copy, language_model
from configs import data as tasks
from research import build
from research.analysis import diagnostics, gradients
from research.models import contract, probes
from research.shapes import Batch, Places
from research.study import arms
from research.text.vocabulary import Vocabulary
from tests.models import oracles
from tests.test_translator import LETTERS, Copier

SMALL = {'data.train': 20, 'data.dev': 60, 'data.test': 10, 'data.symbols': 5, 'data.longest': 7,
         'data.longest_test': 7}
SIZES = {'features': 8, 'embedding_features': 6, 'hidden': 10, 'energy_width': 6, 'heads': 2, 'head_width': 4}
EXPECTED = ('entropy', 'entropy_share', 'support', 'mass', 'sink_first', 'sink_end', 'distance', 'coverage', 'heads')


def shrunk(node):
    """All sizes of a config, small."""
    for key in node.keys():  # noqa: SIM118 - a ConfigDict
        if hasattr(node[key], 'keys'):
            shrunk(node[key])
        elif key in SIZES:
            node[key] = SIZES[key]
    return node


def config_of(words, **changes):
    """Pairs to copy, or a sequence with labels where there is no source."""
    if words.startswith('sequence'):
        config = base.choose(base.get_config(), words)
        config.data = tasks.labelled('window_reach')
        sizes = {'data.train': 20, 'data.dev': 60, 'data.test': 10, 'data.symbols': 5, 'data.length': 12,
                 'data.size': 2}
    else:
        config, sizes = copy.get_config(words), SMALL
    config = arms.override(shrunk(config), sizes | changes)
    build.validate(config)
    return config


@functools.cache
def made(words, *changes, seed=0):
    """The model, its parameters and some batches of one shape."""
    config = config_of(words, **dict(changes))
    data = build.data(config)
    model = build.model(config, len(data.source), len(data.target))
    plan = build.sample_plan(data, data.corpus.dev)
    return model, jax.jit(functools.partial(contract.init, model, batch=plan[0]))(jax.random.key(seed)), plan


def places(lengths, width):
    position = np.broadcast_to(np.arange(width, dtype=np.int32), (len(lengths), width))
    return Places((position < np.array(lengths)[:, None]).astype(np.int32), position)


def batch_of(source, target):
    """One sentence, or several of equal lengths."""
    source, target = np.atleast_2d(source).astype(np.int32), np.atleast_2d(target).astype(np.int32)
    inputs = np.concatenate([np.ones_like(target[:, :1]), target[:, :-1]], axis=1)
    full = [places([array.shape[1]] * len(array), array.shape[1]) for array in (source, target)]
    return Batch(source, full[0], inputs, target, full[1])


# ----------------------------------------------------------------------------------------------------------- gradients

def norms_of(model, side):
    return jax.jit(lambda params, batch, positions: diagnostics.norms_at(model, params, batch, positions, side))


def all_norms_of(model, side):
    return jax.jit(lambda params, batch: diagnostics.gradient_norms(model, params, batch, side))


TABLES = {'recurrent': ('embedding',), 'transformer': ('entrance', 'embedding')}


@pytest.mark.parametrize(('words', 'side'), [
    ('additive', 'source'), ('additive', 'inputs'), ('none+cell=lstm', 'source'), ('transformer', 'source'),
    ('transformer', 'inputs'), ('transformer_to_recurrent+dot', 'source'), ('sequence', 'inputs'),
    ('sequence+cell=gru_reset_before', 'inputs')])
def test_norms_are_those_of_the_gradient_in_the_table_where_every_symbol_is_another(words, side):
    """An independent way: with each symbol once, its row of the table has the gradient of its position."""
    model, params, _ = made(words)
    batch = batch_of([4, 6, 8, 5, 2], [7, 4, 5, 2])
    if side == 'inputs':
        assert len(set(batch.inputs[0])) == 4
    config = config_of(words)
    kind = config.decoder.kind if side == 'inputs' else config.encoder.kind
    names = (() if words.startswith('sequence') else ('encoder' if side == 'source' else 'decoder',)) + (
        TABLES['transformer' if kind == 'sequence' else kind])

    def loss(table, t):
        changed = jax.tree.map(lambda leaf: leaf, params)
        node = changed
        for name in names:
            node = node[name]
        node['table'] = table
        memory = contract.encode(model, changed, batch.source, batch.source_places)
        scores = contract.logits(model, changed, contract.decode(model, changed, memory, batch.inputs,
                                                                 batch.target_places).hidden)
        return -jax.nn.log_softmax(scores)[0, t, jnp.asarray(batch.targets)[0, t]]
    table = functools.reduce(lambda node, name: node[name], names, params)['table']
    rows = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(table, np.arange(4))
    symbols = batch.source[0] if side == 'source' else batch.inputs[0]
    expected = np.linalg.norm(np.asarray(rows, np.float64), axis=-1)[:, symbols] / math.sqrt(table.shape[1])
    found = all_norms_of(model, side)(params, batch)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-7)
    assert (expected > 1e-6).any()


@pytest.mark.parametrize('words', ['additive', 'transformer'])
def test_a_norm_is_the_steepest_slope_by_finite_differences_of_the_float64_oracle(words):
    model, params, _ = made(words)
    config, batch = config_of(words), batch_of([4, 6, 8, 5, 2], [7, 4, 5, 2])
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    names = TABLES[config.encoder.kind]
    t, s = 2, 1
    row = functools.reduce(lambda node, name: node[name], names, exact['encoder'])['table'][batch.source[0, s]]
    before = row.copy()

    def loss(moved):
        row[:] = moved
        scores = oracles.decode(config, exact, batch)[1]
        return -scipy.special.log_softmax(scores[0, t])[batch.targets[0, t]]
    slopes = []
    for direction in np.eye(len(row)) / math.sqrt(len(row)):  # an embedding is the row times the root of its width
        slopes.append((loss(before + 1e-6 * direction) - loss(before - 1e-6 * direction)) / 2e-6)
    norms = norms_of(model, 'source')(params, batch, np.array([t]))
    assert float(norms[0, s]) == pytest.approx(np.linalg.norm(slopes), rel=1e-3)


def test_padding_has_no_gradient_and_changes_none():
    model, params, _ = made('additive')
    short = batch_of([4, 6, 5, 2], [4, 5, 2])
    padded = Batch(*jax.tree.map(lambda array: np.pad(array, ((0, 0), (0, 3))), short)[:])
    norms = [norms_of(model, 'source')(params, batch, np.array([2])) for batch in (short, padded)]
    np.testing.assert_allclose(norms[1][:, :4], norms[0], rtol=1e-5)
    assert (np.asarray(norms[1])[:, 4:] == 0).all()
    first, second = (diagnostics.gradient_reach(model, params, [batch]) for batch in (short, padded))
    np.testing.assert_allclose(first['log_norms'], second['log_norms'], rtol=1e-5)
    assert first['distances'] == second['distances'] == [0, 1, 2, 3]


@pytest.mark.parametrize('layers', [1, 2])
@pytest.mark.parametrize('width', [1, 3])
def test_a_sliding_window_reaches_as_far_as_its_layers_and_exactly_no_further(layers, width):
    model, params, plan = made('sequence+mixer=sliding_window', ('decoder.layers', layers),
                               ('decoder.mixer.reach.width', width))
    norms = np.asarray(all_norms_of(model, 'inputs')(params, plan[0]))
    back = np.arange(12)[:, None] - np.arange(12)
    reach = layers * (width - 1)
    assert (norms[:, (back < 0) | (back > reach)] == 0).all()
    asked = np.asarray(plan[0].targets) > 0
    assert (norms[:, (back >= 0) & (back <= reach)][asked[:, 2:].all(axis=1)] > 0).all()
    found = diagnostics.gradient_reach(model, params, plan)
    assert [share == 1 for share in found['zero']] == [distance > reach for distance in range(12)]
    assert [value is None for value in found['log_norms']] == [distance > reach for distance in range(12)]


def with_eigenvalue(params, value):
    """The parameters of a model with cells `lru`, whose states are all multiplied by this number at each step."""
    def change(path, leaf):
        name = path[-1].key
        if name == 'log_rate':
            return jnp.full_like(leaf, math.log(-math.log(value)))
        return jnp.full_like(leaf, -40.0) if name == 'log_angle' else leaf
    return jax.tree_util.tree_map_with_path(change, params)


@pytest.mark.parametrize('value', [0.5, 0.9])
@pytest.mark.parametrize('words', ['none+cell=lru', 'sequence+cell=lru'])
def test_the_slope_of_a_linear_recurrence_is_the_logarithm_of_its_eigenvalue(words, value):
    without = (('decoder.layers', 1), ('decoder.position', 'none')) if words.startswith('sequence') else ()
    model, params, plan = made(words, *without)
    batches = [plan[k] for k in range(len(plan))]
    if without:  # a norm stands before the cell, which scales each symbol's gradient by another number
        batches = [batch._replace(inputs=np.full_like(batch.inputs, 5)) for batch in batches]
    found = diagnostics.gradient_reach(model, with_eigenvalue(params, value), batches)
    assert found['slope'] == pytest.approx(math.log(value), abs=2e-3)
    assert found['slope_error'] < 1e-3
    assert found['sentences'] > 20
    falls = np.diff(found['log_norms'][1:]) if without else [math.log(value)]
    np.testing.assert_allclose(falls, math.log(value), atol=2e-3)


def test_small_gradients_are_not_taken_for_none():
    """A float32 holds 1e-30, but not its square."""
    model, params, plan = made('none+cell=lru')  # encoder and decoder take up to 15 steps
    tiny = diagnostics.gradient_reach(model, with_eigenvalue(params, 1e-2), plan)
    assert set(tiny['zero']) == {0}
    assert tiny['log_norms'][-1] < math.log(1e-23)
    assert tiny['slope'] == pytest.approx(math.log(1e-2), rel=1e-3)


def test_the_reach_is_of_the_last_target_and_counted_from_the_end_of_the_source():
    model, params, plan = made('additive')
    batch = plan[0]
    every = np.asarray(all_norms_of(model, 'source')(params, batch))
    rows = []
    for row in range(len(batch.source)):
        S, T = (np.sum(one.segment[row]) for one in (batch.source_places, batch.target_places))
        if T:
            rows.append(every[row, T - 1, [S - 1 - d for d in range(S)]])
    expected = gradients.decay(rows)
    found = diagnostics.gradient_reach(model, params, [batch])
    np.testing.assert_allclose(found['log_norms'], expected['log_norms'], rtol=1e-4)
    assert found['count'] == expected['count']


def test_without_a_source_the_reach_is_of_the_last_label_and_counted_from_it():
    model, params, plan = made('sequence+cell=gru_reset_before')
    batch = plan[0]
    targets = np.array(batch.targets)
    targets[:, 9:] = 0  # nothing is asked of the last three
    batch = batch._replace(targets=targets)
    every = np.asarray(all_norms_of(model, 'inputs')(params, batch))
    expected = gradients.decay([every[row, 8, 8::-1] for row in np.flatnonzero(batch.target_places.segment[:, 0])])
    found = diagnostics.gradient_reach(model, params, [batch])
    np.testing.assert_allclose(found['log_norms'], expected['log_norms'], rtol=1e-4)
    assert found['distances'] == list(range(9))


def test_a_side_that_is_not_there_is_refused():
    model, params, plan = made('sequence')
    with pytest.raises(ValueError, match='no side'):
        diagnostics.gradient_norms(model, params, plan[0], 'target')
    with pytest.raises(ValueError, match='embeds 0 sequences as its source'):
        diagnostics.gradient_norms(model, params, plan[0], 'source')


# ------------------------------------------------------------------------------------------------------------- reading

ALPHABET = Vocabulary.build([LETTERS], 'characters')


@pytest.mark.parametrize(('shift', 'distance', 'first', 'end'), [(0, 0, 1 / 5, 1 / 5), (1, 4 / 5, 0, 2 / 5)])
def test_a_reader_of_one_position_is_described_as_it_reads(shift, distance, first, end):
    batch = batch_of([ALPHABET.encode(line) for line in ('abcd', 'hgfe', 'jaja')],
                     [ALPHABET.encode(line) for line in ('abcd', 'hgfe', 'jaja')])
    found = diagnostics.reading(Copier(len(ALPHABET), shift), {}, [batch])
    assert found['entropy'] == found['entropy_share'] == 0
    assert found['support'] == found['mass'] == 1
    assert found['distance'] == pytest.approx(distance)
    assert (found['sink_first'], found['sink_end']) == (pytest.approx(first), pytest.approx(end))
    assert found['coverage'] == pytest.approx(1 - shift / 5)
    assert [(head['layer'], head['head']) for head in found['heads']] == [(0, 0)]


def test_the_mean_reader_has_the_numbers_of_even_weights_whatever_the_padding():
    model, params, plan = made('mean')
    found = diagnostics.reading(model, params, plan)
    sizes = [np.sum(segment) for k in range(len(plan)) for segment in plan[k].source_places.segment if segment.any()]
    assert len(sizes) == 60
    assert found['entropy_share'] == pytest.approx(1, abs=1e-6)
    assert found['entropy'] == pytest.approx(np.mean(np.log(sizes)), rel=1e-6)
    assert found['support'] == pytest.approx(np.mean(sizes))
    assert found['sink_first'] == found['sink_end'] == pytest.approx(np.mean(1 / np.array(sizes)), rel=1e-6)
    assert found['coverage'] == pytest.approx(1, rel=1e-6)  # of a copy, whose sides are equally long


def test_heads_stand_by_layer_and_have_the_numbers_of_the_weights_that_decode_returns():
    model, params, plan = made('transformer')
    found = diagnostics.reading(model, params, plan)
    assert [(head['layer'], head['head']) for head in found['heads']] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    entropies = []
    for k in range(len(plan)):
        batch = plan[k]
        memory = contract.encode(model, params, batch.source, batch.source_places)
        weights = np.asarray(contract.decode(model, params, memory, batch.inputs, batch.target_places).weights)
        for row in range(len(weights)):
            S, T = (np.sum(one.segment[row]) for one in (batch.source_places, batch.target_places))
            if T:
                entropies.append(scipy.stats.entropy(weights[row, :, :T, :S], axis=-1).mean(axis=-1))
    np.testing.assert_allclose([head['entropy'] for head in found['heads']], np.mean(entropies, axis=0), rtol=1e-5)
    assert found['entropy'] == pytest.approx(np.mean(entropies), rel=1e-5)


def without_queries(params):
    """The same parameters with all queries 0: every position reads all that it may, alike."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: 0 * leaf if any(getattr(part, 'key', '') == 'query_projection' for part in path) else leaf,
        params)


def test_mixing_is_what_each_side_reads_of_itself_and_knows_what_it_could_have_read():
    model, params, plan = made('transformer')
    found = diagnostics.reading(model, params, plan)
    assert all(side['entropy_share'] < 1 - 1e-4 for side in found['mixing'].values())
    found = diagnostics.reading(model, without_queries(params), plan)
    sizes = np.array([np.sum(segment) for k in range(len(plan)) for segment in plan[k].source_places.segment
                      if segment.any()])
    encoder, decoder = found['mixing']['source'], found['mixing']['inputs']
    for side in (encoder, decoder):
        assert side['entropy_share'] == pytest.approx(1, abs=1e-6)
        assert [(head['layer'], head['head']) for head in side['heads']] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert encoder['support'] == pytest.approx(np.mean(sizes))
    assert decoder['support'] == pytest.approx(np.mean((sizes + 1) / 2))  # 1, 2, ..., n
    assert decoder['distance'] == pytest.approx(np.mean((sizes - 1) / 4), rel=1e-5)  # t / 2, the mean over t
    assert found['entropy_share'] == pytest.approx(1, abs=1e-6)


def test_a_mixer_of_both_ways_is_one_and_has_the_heads_of_both():
    model, params, plan = made('transformer+mixer=forgetting', ('encoder.layers', 1), ('decoder.layers', 1))
    found = diagnostics.reading(model, params, plan)['mixing']
    assert [(head['layer'], head['head']) for head in found['source']['heads']] == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert [(head['layer'], head['head']) for head in found['inputs']['heads']] == [(0, 0), (0, 1)]


def test_layers_that_are_made_again_for_gradients_are_read_all_the_same():
    """With a shared embedding, which the copy of the model without remat must still share."""
    config = arms.override(shrunk(copy.get_config('transformer')), SMALL | {
        'encoder.share_embeddings': True, 'encoder.layers': 1, 'decoder.layers': 1})
    batch, found = batch_of([4, 6, 8, 5, 2], [7, 4, 5, 2]), []
    for remat in ('none', 'layers'):
        config.training.remat = remat
        model = build.model(config, 9, 9)
        params = jax.jit(functools.partial(contract.init, model, batch=batch))(jax.random.key(0))
        assert 'embedding' in params
        found.append(diagnostics.reading(model, params, [batch]))
    assert found[0]['mixing']['source'] is not None
    assert found[0] == found[1]


# -------------------------------------------------------------------------------------------------------------- memory

def test_the_source_vector_is_what_fixed_context_would_read():
    model, params, plan = made('transformer')
    vector = probes.source_vector(model, params, plan[0].source, plan[0].source_places)
    encoded = model.bind({'params': params}).encoder(plan[0].source, plan[0].source_places)
    real = np.asarray(plan[0].source_places.segment) > 0
    rows = real.any(axis=1)
    means = [np.asarray(encoded.annotations)[row][real[row]].mean(axis=0) for row in np.flatnonzero(rows)]
    np.testing.assert_allclose(np.asarray(vector)[rows], means, atol=1e-5)


MANY = (('data.dev', 400), ('data.shortest', 7))


def test_an_encoder_that_keeps_nothing_forgets_every_symbol_and_one_that_keeps_half_of_each_state_does_not():
    model, params, plan = made('none+cell=plain', *MANY, ('encoder.layers', 1))
    forgetful = jax.tree_util.tree_map_with_path(
        lambda path, leaf: 0 * leaf if path[-1].key == 'kernel' and path[-2].key.startswith('forwards') else leaf,
        params)
    found = diagnostics.memory_probe(model, forgetful, plan)
    assert found['distance'] == [1, 2, 3, 4, 5, 6, 7]
    for accuracy, count in zip(found['accuracy'], found['count'], strict=True):
        assert abs(accuracy - 1 / 5) < 5 * math.sqrt(0.25 / count)
    model, params, plan = made('none+cell=lru', *MANY)
    found = diagnostics.memory_probe(model, with_eigenvalue(params, 0.5), plan)
    assert found['accuracy'][0] > 0.95
    assert found['accuracy'][0] > found['accuracy'][-1] + 0.2


def test_without_a_source_the_vector_is_the_last_one_that_is_asked_and_distance_counts_back_from_it():
    """A window of two positions and one layer: the position before is known and what is farther back is not."""
    model, params, plan = made('sequence+mixer=sliding_window', ('decoder.layers', 1),
                               ('decoder.mixer.reach.width', 2), ('data.dev', 600))
    found = diagnostics.memory_probe(model, params, plan)
    assert found['distance'] == list(range(1, 12))
    assert found['accuracy'][0] > 0.5
    for accuracy, count in zip(found['accuracy'][1:], found['count'][1:], strict=True):
        assert abs(accuracy - 1 / 5) < 5 * math.sqrt(0.25 / count)


# -------------------------------------------------------------------------------------------------------- all of them

KINDS = {  # what makes weights: the reader, and the mixers of each side
    'none': (False, False, False), 'fixed_context': (False, False, False), 'mean': (True, False, False),
    'additive': (True, False, False), 'transformer+differential': (True, True, True),
    'transformer+none': (False, True, True), 'recurrent_to_transformer': (True, False, True),
    'transformer_to_recurrent': (True, True, False), 'sequence': (False, False, True),
    'sequence+cell=lstm': (False, False, False)}


@pytest.mark.parametrize('words', KINDS)
def test_every_kind_of_model_is_diagnosed_in_what_json_can_hold(words):
    model, params, plan = made(words, *((f'{side}.layers', 1) for side in ('encoder', 'decoder')
                                        if words not in ('sequence', 'sequence+cell=lstm')))
    found = diagnostics.diagnose(model, params, plan)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {*EXPECTED, 'mixing', 'gradient_reach', 'memory_probe'}
    reader, *mixers = KINDS[words]
    for key in EXPECTED:
        assert (found[key] is not None) == reader, key
    assert [found['mixing'][side] is not None for side in ('source', 'inputs')] == mixers
    assert found['gradient_reach']['slope'] is not None
    assert found['memory_probe']['distance'][0] == 1


def test_a_language_model_is_diagnosed(tmp_path):
    config = language_model.get_config('cell=lstm')
    for split, seed in (('train', 0), ('dev', 1), ('test', 2)):
        random = np.random.default_rng(seed)
        (tmp_path / split).write_text(''.join(' '.join(random.choice(list('abcd'), 6)) + '\n' for _ in range(60)))
        config.data[split] = str(tmp_path / split)
    config = shrunk(config)
    data = build.data(config)
    model = build.model(config, len(data.source), len(data.target))
    plan = build.sample_plan(data, data.corpus.dev)
    params = contract.init(model, jax.random.key(0), plan[0])
    found = diagnostics.diagnose(model, params, plan)
    json.dumps(found, allow_nan=False)
    assert found['entropy'] is None
    assert found['gradient_reach']['zero'] == [0.0] * 7
    assert found['gradient_reach']['distances'] == list(range(7))  # six symbols and the begin symbol


def test_only_as_many_batches_as_are_needed_are_looked_at():
    model, params, plan = made('additive')
    assert len(plan) == 2
    one, both = (diagnostics.diagnose(model, params, plan, sentences=count) for count in (32, 33))
    assert max(one['gradient_reach']['count']) == 32
    assert max(both['gradient_reach']['count']) == 60
    assert one['memory_probe'] == both['memory_probe']


def test_a_sample_plan_holds_every_pair_once_in_order_in_the_shapes_that_are_asked_for():
    config = config_of('additive')
    data = build.data(config)
    for shapes in (1, 2):
        plan = build.sample_plan(data, data.corpus.dev, rows=7, shapes=shapes)
        assert len(plan.shapes) == shapes
        assert min(rows for rows, _, _ in plan.shapes) >= 7
        ids = np.concatenate([plan.ids(k) for k in range(len(plan))])
        assert sorted(ids[ids >= 0]) == list(range(60))
