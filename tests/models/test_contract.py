"""The battery of every model: any encoder, any reader, any decoder, through the five functions of the contract."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import attention, base, positions
from research import build
from research.attention.registry import VARIANTS
from research.layers import feed_forward, residual
from research.models import contract, recurrent, transformer
from research.shapes import Batch, Places
from research.study import arms
from tests.models import oracles

B, S, T = 3, 7, 5
SOURCE, TARGET = 13, 11  # symbols
SMALL_SIDE = {'features': 8, 'embedding_features': 6, 'hidden': 10}
OPTIONS = {'energy_width': 6, 'heads': 2, 'window': 2, 'rank': 3, 'maximum_length': 16, 'filters': 3, 'width': 3,
           'chunk': 2, 'key_value_heads': 0}
WIRINGS = {
    'recurrent': {},
    'recurrent, current': {'decoder.reads_with': 'current'},
    'recurrent, input feeding': {'decoder.input_feeding': True},
    'recurrent, current, input feeding': {'decoder.reads_with': 'current', 'decoder.input_feeding': True},
    'recurrent, between': {'decoder.reads_with': 'between'},
    'recurrent, between, input feeding': {'decoder.reads_with': 'between', 'decoder.input_feeding': True},
    'recurrent, between, three layers of lstm': {
        'encoder.cell': 'lstm', 'decoder.cell': 'lstm', 'decoder.layers': 3, 'decoder.reads_with': 'between'},
    'recurrent, between, qrnn to two of lru, input feeding': {
        'encoder.cell': 'qrnn', 'decoder.cell': 'lru', 'decoder.layers': 2, 'decoder.reads_with': 'between',
        'decoder.input_feeding': True},
    'recurrent, between, mlstm to qrnn, zero start': {
        'encoder.cell': 'mlstm', 'decoder.cell': 'qrnn', 'decoder.start_state': 'zero',
        'decoder.reads_with': 'between'},
    'recurrent, two layers of lstm, one way': {
        'encoder.layers': 2, 'encoder.cell': 'lstm', 'encoder.bidirectional': False, 'decoder.layers': 2,
        'decoder.cell': 'lstm'},
    'recurrent, lstm of three layers to two of gru, tied': {
        'encoder.layers': 3, 'encoder.cell': 'lstm', 'decoder.layers': 2, 'decoder.cell': 'gru_reset_after',
        'decoder.tie_embeddings': True, 'decoder.embedding_features': 8},
    'recurrent, one layer to two of plain, zero start': {
        'decoder.layers': 2, 'decoder.cell': 'plain', 'decoder.start_state': 'zero'},
    'recurrent, one layer to three, one way': {'encoder.bidirectional': False, 'decoder.layers': 3},
    'recurrent, two layers from the end': {
        'encoder.bidirectional': False, 'encoder.backward': True, 'encoder.layers': 2},
    'recurrent, mlstm to slstm': {'encoder.cell': 'mlstm', 'decoder.cell': 'slstm'},
    'recurrent, slstm to two of mlstm, current': {
        'encoder.cell': 'slstm', 'decoder.cell': 'mlstm', 'decoder.layers': 2, 'decoder.reads_with': 'current'},
    'recurrent, minimal_gru to lru': {'encoder.cell': 'minimal_gru', 'decoder.cell': 'lru'},
    'recurrent, qrnn to two of slstm, zero start': {
        'encoder.cell': 'qrnn', 'decoder.cell': 'slstm', 'decoder.layers': 2, 'decoder.start_state': 'zero'},
    'transformer': {},
    'transformer, post-norm, learned, tied, last': {
        'encoder.norm': 'post', 'encoder.position': 'learned', 'encoder.summary': 'last', 'decoder.norm': 'post',
        'decoder.position': 'learned', 'decoder.tie_embeddings': True},
    'recurrent_to_transformer': {},
    'transformer_to_recurrent': {},
}


def small(wiring: str, reader: str, **more):
    """A config of this wiring with tiny sizes; what stands behind 'with' is a word of the config argument."""
    kind, _, word = wiring.split(',')[0].partition(' with ')
    words = '+'.join(filter(None, (kind, reader, word)))
    config = base.choose(base.get_config(), words)
    if word.startswith('mixer') and True not in VARIANTS[word.split('=')[1]].causal:
        config.decoder.mixer = attention.get('multi_head_dot')
    for side in (config.encoder, config.decoder):
        for key, value in SMALL_SIDE.items():
            if key in side:
                side[key] = value
        for node in ('mixer', 'reader'):
            for key, value in OPTIONS.items():
                if node in side and key in side[node]:
                    side[node][key] = value
    if word == 'mixer=retention':  # what narrow heads read is at times next to nothing, and then it is normalised
        config.encoder.mixer.head_width = config.decoder.mixer.head_width = 32
    if reader == 'key_value_memory' and config.decoder.kind == 'transformer':  # it reads one half of an annotation
        config.encoder.features = 2 * config.decoder.features
    return arms.override(config, WIRINGS.get(wiring, {}) | more)


def refused(wiring, reader):
    """Combinations that mean nothing: each is refused by build.validate (tests/test_build.py)."""
    settings, reads = WIRINGS.get(wiring, {}), VARIANTS[reader].reads
    reads_with = settings.get('decoder.reads_with', 'previous')
    return ((reads == 'summary' and reads_with != 'previous')
            or (reads == 'nothing' and (reads_with == 'between' or settings.get('decoder.start_state') == 'zero')))


def classes(role):
    """One name for each class that has the role: those that share one differ in options only (tests/attention)."""
    return list({variant.attention: name for name, variant in reversed(VARIANTS.items())
                 if role in variant.roles}.values())[::-1]


def combinations(wirings):
    """Every reader in two wirings, a few in the others, since those do not touch the energies; and every mixer."""
    few, both = ('none', 'multi_head_dot'), ('none', 'fixed_context', 'mean', 'additive', 'coverage', 'multi_head_dot')
    readers = {'recurrent': CROSS, 'transformer': CROSS, 'recurrent, between': both, 'recurrent_to_transformer': both,
               'transformer_to_recurrent': both}
    return [pytest.param(wiring, reader, id=f'{wiring}: {reader}') for wiring in wirings
            for reader in readers.get(wiring, few[1:] if ' with ' in wiring else few) if not refused(wiring, reader)]


CROSS = classes('cross')
MIXED = [f'transformer with mixer={name}' for name in classes('self') if name != 'multi_head_dot'] + [
    f'transformer with position={name}' for name in positions.OPTIONS] + ['transformer with short_convolution=3']
COMBINATIONS = combinations([*WIRINGS, *MIXED])


def places(lengths, width):
    position = np.broadcast_to(np.arange(width, dtype=np.int32), (len(lengths), width))
    return Places((position < np.array(lengths)[:, None]).astype(np.int32), position)


def a_batch(seed=0):
    random = np.random.default_rng(seed)
    source, inputs = random.integers(4, SOURCE, (B, S)), random.integers(4, TARGET, (B, T))
    return Batch(source.astype(np.int32), places([S, 4, 1], S), inputs.astype(np.int32), inputs.astype(np.int32),
                 places([T, T, 2], T))


class Probe(NamedTuple):
    """What one compiled program says of a model."""

    scores: jax.Array
    weights: jax.Array | None
    step_scores: jax.Array
    step_weights: jax.Array | None
    at: dict      # gradient of hidden[:, 2]
    whole: dict   # gradient of all hidden


@functools.lru_cache(maxsize=8)
def built(wiring, reader):
    """The model, its parameters, and one compiled program with everything that is asked of it."""
    model = build.model(small(wiring, reader), SOURCE, TARGET)
    params = jax.jit(functools.partial(contract.init, model, batch=a_batch()))(jax.random.key(1))

    def decode(params, batch):
        memory = contract.encode(model, params, batch.source, batch.source_places)
        return contract.decode(model, params, memory, batch.inputs, batch.target_places)

    def stepwise(params, batch):
        memory = contract.encode(model, params, batch.source, batch.source_places)

        def one(carry, token):
            hidden, weights, carry = contract.step(model, params, memory, carry, token)
            return carry, (contract.logits(model, params, hidden), weights)
        _, (scores, weights) = jax.lax.scan(one, contract.start(model, params, memory, T), batch.inputs.T)
        return jnp.moveaxis(scores, 0, 1), None if weights is None else jnp.moveaxis(weights, 0, 2)

    @jax.jit
    def probe(params, batch):
        hidden, pull, weights = jax.vjp(lambda params: (lambda decoded: (decoded.hidden, decoded.weights))(
            decode(params, batch)), params, has_aux=True)
        # of the sum of sines over real positions: no two terms cancel by symmetry
        slope = jnp.cos(hidden) * (batch.target_places.segment > 0)[..., None]
        return Probe(contract.logits(model, params, hidden), weights, *stepwise(params, batch),
                     pull(slope * (jnp.arange(T) == 2)[:, None])[0], pull(slope)[0])
    return model, params, probe


@pytest.mark.parametrize(('wiring', 'reader'), COMBINATIONS)
def test_scores_weights_and_gradients_are_those_of_the_oracle(wiring, reader):
    _, params, probe = built(wiring, reader)
    config, batch, random = small(wiring, reader), a_batch(), np.random.default_rng(3)
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) + random.normal(0, 0.1, leaf.shape), params)
    found = probe(jax.tree.map(lambda leaf: leaf.astype(np.float32), exact), batch)
    _, scores, weights = oracles.decode(config, exact, batch)
    real = batch.target_places.segment > 0
    np.testing.assert_allclose(np.asarray(found.scores)[real], scores[real], atol=3e-5)
    assert (weights is None) == (found.weights is None)
    if weights is not None:
        both = (np.moveaxis(np.asarray(array), 2, 1)[real] for array in (found.weights, weights))
        np.testing.assert_allclose(*both, atol=1e-5)
    direction = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), exact)

    def total(step):
        moved = jax.tree.map(lambda leaf, way: leaf + step * way, exact, direction)
        return np.sum(np.sin(oracles.decode(config, moved, batch)[0][real]))
    slope = (total(1e-6) - total(-1e-6)) / 2e-6
    along = sum(np.sum(np.asarray(leaf, np.float64) * way) for leaf, way in zip(
        jax.tree.leaves(found.whole), jax.tree.leaves(direction), strict=True))
    assert along == pytest.approx(slope, rel=2e-4, abs=2e-4)


@pytest.mark.parametrize(('wiring', 'reader'), COMBINATIONS)
def test_step_by_step_is_all_at_once(wiring, reader):
    _, params, probe = built(wiring, reader)
    found = probe(params, a_batch()._replace(target_places=places([T] * B, T)))
    np.testing.assert_allclose(found.step_scores, found.scores, atol=2e-5)
    assert (found.weights is None) == (found.step_weights is None) == (not VARIANTS[reader].weights)
    if found.weights is not None:
        np.testing.assert_allclose(found.step_weights, found.weights, atol=2e-5)
        assert found.weights.shape[0] == B
        assert found.weights.shape[2:] == (T, S)


@pytest.mark.parametrize(('wiring', 'reader'), COMBINATIONS)
def test_padding_and_neighbours_in_the_batch_change_nothing(wiring, reader):
    _, params, probe = built(wiring, reader)
    batch = a_batch()

    def decode(batch):
        return np.asarray(probe(params, batch).scores)
    scores = decode(batch)
    real = batch.target_places.segment > 0
    pads = batch._replace(source=np.where(batch.source_places.segment > 0, batch.source, 5).astype(np.int32),
                          inputs=np.where(real, batch.inputs, 5).astype(np.int32))
    np.testing.assert_array_equal(decode(pads)[real], scores[real])
    order = np.array([2, 0, 1])
    turned = jax.tree.map(lambda leaf: leaf[order], batch)
    np.testing.assert_allclose(decode(turned)[real[order]], scores[order][real[order]], atol=1e-6)
    others = batch._replace(source=np.concatenate([batch.source[:1], a_batch(seed=9).source[1:]]))
    np.testing.assert_array_equal(decode(others)[0], scores[0])


@pytest.mark.parametrize(('wiring', 'reader'), [
    (wiring, 'multi_head_dot') for wiring in WIRINGS if small(wiring, 'multi_head_dot').decoder.kind == 'recurrent'])
def test_a_pad_between_two_words_changes_no_state_of_a_recurrent_decoder(wiring, reader):
    _, params, probe = built(wiring, reader)
    together, order = a_batch()._replace(target_places=places([3] * B, T)), np.array([0, 3, 1, 4, 2])
    apart = together._replace(inputs=together.inputs[:, order],
                              target_places=Places(*(array[:, order] for array in together.target_places)))
    words = order < 3
    np.testing.assert_allclose(probe(params, apart).scores[:, words], probe(params, together).scores[:, :3], atol=1e-6)


@pytest.mark.parametrize(('wiring', 'reader'), COMBINATIONS)
def test_a_row_without_source_gives_finite_scores_and_gradients(wiring, reader):
    _, params, probe = built(wiring, reader)
    batch = a_batch()._replace(source_places=places([S, 0, 1], S))
    found = probe(params, batch)
    for leaf in jax.tree.leaves(found):
        assert np.all(np.isfinite(leaf))
    if found.weights is not None:
        assert not np.any(found.weights[1])


@pytest.mark.parametrize(('wiring', 'reader'), COMBINATIONS)
def test_packed_sentences_are_separate_where_the_model_says_so(wiring, reader):
    model, params, probe = built(wiring, reader)
    lone = a_batch()._replace(source_places=places([3, 4, 1], S), target_places=places([2, 3, 1], T))
    packed = jax.tree.map(np.copy, lone)  # its first row holds the first two sentences
    for lengths, own, there, fields in ((3, 4), lone.source_places, packed.source_places, ('source',)), (
            (2, 3), lone.target_places, packed.target_places, ('inputs',)):
        first, both = lengths[0], sum(lengths)
        there.segment[0, first:both], there.position[0, first:both] = 2, own.position[1, :lengths[1]]
        for field in fields:
            getattr(packed, field)[0, first:both] = getattr(lone, field)[1, :lengths[1]]
    together, apart = (np.asarray(probe(params, batch).scores) for batch in (packed, lone))
    same = np.allclose(together[0, :2], apart[0, :2], atol=1e-5) and np.allclose(together[0, 2:5], apart[1, :3],
                                                                                 atol=1e-5)
    assert model.packs() == same
    assert model.packs() == (wiring.startswith('transformer') and 'to' not in wiring.split('_')
                             and VARIANTS[reader].reads == 'source')


@pytest.mark.parametrize(('wiring', 'reader'), COMBINATIONS)
def test_no_word_depends_on_a_later_one_and_every_parameter_is_used(wiring, reader):
    """By gradients: of the hidden vector at one position with respect to the embedding of each input symbol."""
    _, params, probe = built(wiring, reader)
    tokens = np.arange(4, 4 + T, dtype=np.int32)[None].repeat(B, axis=0)  # a symbol of its own for each position
    found = probe(params, a_batch()._replace(inputs=tokens, target_places=places([T] * B, T)))
    decoder = found.at['decoder']
    table = decoder['entrance']['embedding']['table'] if 'entrance' in decoder else decoder['embedding']['table']
    assert not np.any(np.asarray(table)[4 + 3:4 + T]), 'a later word is read'
    assert np.all(np.any(np.asarray(table)[4 + 1:4 + 3] != 0, axis=1)), 'one of the two words before is not read'
    for path, leaf in jax.tree.leaves_with_path(found.whole):
        name = jax.tree_util.keystr(path)
        # A reader that ignores its query also leaves idle the norm that a query passes.
        idle = reader in ('mean', 'fixed_context', 'synthesizer_random') and 'reading_residual' in name
        if 'softmax' not in name and not idle:
            assert np.any(leaf), f'{name} is never used'


@pytest.mark.parametrize('wiring', [name for name in WIRINGS if not refused(name, 'none')])
def test_with_reader_none_only_the_start_knows_the_source(wiring):
    """Sutskever: nothing but the first state (or the begin symbol's vector) depends on the source."""
    model, params, _ = built(wiring, 'none')
    batch = a_batch()
    memory = contract.encode(model, params, batch.source, batch.source_places)
    start = contract.start(model, params, memory, T)
    _, weights, carry = contract.step(model, params, memory, start, batch.inputs[:, 0])
    assert weights is None
    other = contract.encode(model, params, a_batch(seed=5).source, batch.source_places)
    again = contract.step(model, params, other, carry, batch.inputs[:, 1])[0]
    np.testing.assert_array_equal(again, contract.step(model, params, memory, carry, batch.inputs[:, 1])[0])


@pytest.mark.parametrize('wiring', ['recurrent', 'transformer', 'recurrent_to_transformer', 'transformer_to_recurrent'])
def test_with_reader_fixed_context_every_step_reads_the_vector(wiring):
    """Cho: c enters every step, and it is the same vector at all of them."""
    model, params, _ = built(wiring, 'fixed_context')
    batch = a_batch()
    memory = contract.encode(model, params, batch.source, batch.source_places)
    carry = contract.step(model, params, memory, contract.start(model, params, memory, T), batch.inputs[:, 0])[2]
    other = contract.encode(model, params, a_batch(seed=5).source, batch.source_places)
    here, there = (contract.step(model, params, which, carry, batch.inputs[:, 1])[0] for which in (memory, other))
    assert np.all(np.any(np.asarray(here) != np.asarray(there), axis=1))


@pytest.mark.parametrize(('wiring', 'reader'), [
    ('recurrent', 'additive'), ('recurrent, input feeding', 'multi_head_dot'), ('recurrent, between', 'additive'),
    ('transformer', 'multi_head_dot'),
    ('recurrent_to_transformer', 'additive'), ('transformer_to_recurrent', 'fixed_context')])
def test_dropout_needs_a_key_and_depends_on_it(wiring, reader):
    model = build.model(small(wiring, reader, **{'encoder.dropout': 0.3, 'decoder.dropout': 0.3}), SOURCE, TARGET)
    _, params, probe = built(wiring, reader)
    batch = a_batch()

    @jax.jit
    def hidden(params, rng):
        memory = contract.encode(model, params, batch.source, batch.source_places, rng)
        return contract.decode(model, params, memory, batch.inputs, batch.target_places, rng).hidden
    first, same, other = (np.asarray(hidden(params, jax.random.key(seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert np.mean(first != other) > 0.8  # of 120 numbers 0.3^2 are zero in both: 0.91 on average, sd 0.026
    memory = contract.encode(model, params, batch.source, batch.source_places)
    still = contract.logits(model, params,
                            contract.decode(model, params, memory, batch.inputs, batch.target_places).hidden)
    np.testing.assert_allclose(still, probe(params, batch).scores, atol=1e-5)  # no key: as if there were no dropout


@pytest.mark.parametrize(('wiring', 'count'), [
    ('recurrent, current', 2 + 1 + 1 + 1),      # the encoder's layers, embedding, between layers, hidden
    ('transformer', 2 * (1 + 2 * 3) + 2)])      # on each side entrance and 2 layers of 3 (mixed, inner, outer); + read
def test_no_key_of_dropout_is_used_twice(wiring, count, monkeypatch):
    changes = {f'{side}.{key}': value for side in ('encoder', 'decoder')
               for key, value in (('dropout', 0.3), ('layers', 2))}
    model, batch, keys = build.model(small(wiring, 'multi_head_dot', **changes), SOURCE, TARGET), a_batch(), []
    params = jax.jit(functools.partial(contract.init, model, batch=batch))(jax.random.key(1))

    def record(inputs, rate, rng):
        keys.append(tuple(jax.random.key_data(rng).tolist()))
        return inputs
    for module in (recurrent, transformer, feed_forward, residual):
        monkeypatch.setattr(module, 'dropout', record)
    memory = contract.encode(model, params, batch.source, batch.source_places, jax.random.key(0))
    contract.decode(model, params, memory, batch.inputs, batch.target_places, jax.random.key(1))
    assert len(keys) == len(set(keys)) == count


@pytest.mark.parametrize(('wiring', 'reader'), [('recurrent', 'additive'), ('transformer', 'multi_head_dot')])
def test_vmapped_seeds_are_single_runs(wiring, reader):
    model, _, probe = built(wiring, reader)
    rngs = jax.random.split(jax.random.key(3), 3)
    init = functools.partial(contract.init, model, batch=a_batch())
    many = jax.jit(jax.vmap(init))(rngs)
    scores = jax.jit(jax.vmap(lambda params: probe(params, a_batch()).scores))(many)
    for seed in range(3):
        one = jax.tree.map(lambda leaf, seed=seed: leaf[seed], many)
        np.testing.assert_allclose(probe(one, a_batch()).scores, scores[seed], atol=1e-5)


@pytest.mark.parametrize(('wiring', 'reader'), [('recurrent', 'additive'), ('transformer', 'multi_head_dot')])
def test_bfloat16_computes_near_float32_and_keeps_float32_parameters(wiring, reader):
    model = build.model(small(wiring, reader, dtype='bfloat16'), SOURCE, TARGET)
    params = jax.jit(functools.partial(contract.init, model, batch=a_batch()))(jax.random.key(1))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype('float32')}
    batch = a_batch()

    @jax.jit
    def decode(params):
        memory = contract.encode(model, params, batch.source, batch.source_places)
        hidden = contract.decode(model, params, memory, batch.inputs, batch.target_places).hidden
        return hidden, contract.logits(model, params, hidden)
    hidden, scores = decode(params)
    assert hidden.dtype == jnp.bfloat16
    assert scores.dtype == jnp.float32
    real = batch.target_places.segment > 0
    exact = np.asarray(built(wiring, reader)[2](params, batch).scores)
    np.testing.assert_allclose(np.asarray(scores)[real], exact[real], atol=0.08)


@pytest.mark.parametrize(('wiring', 'reader'), [
    ('recurrent', 'additive'), ('recurrent, current, input feeding', 'multi_head_dot'),
    ('recurrent, between', 'additive'), ('transformer', 'multi_head_dot')])
def test_without_jit_and_in_bfloat16_step_by_step_it_says_the_same(wiring, reader):
    model, params, probe = built(wiring, reader)
    batch = a_batch()
    with jax.disable_jit():
        memory = contract.encode(model, params, batch.source, batch.source_places)
        hidden = contract.decode(model, params, memory, batch.inputs, batch.target_places).hidden
        scores = contract.logits(model, params, hidden)
    np.testing.assert_allclose(scores, probe(params, batch).scores, atol=1e-5)
    low = build.model(small(wiring, reader, dtype='bfloat16'), SOURCE, TARGET)
    memory = contract.encode(low, params, batch.source, batch.source_places)
    carry, hidden = contract.start(low, params, memory, T), []
    types = jax.tree.map(lambda leaf: leaf.dtype, carry)
    for t in range(2):
        one, _, carry = contract.step(low, params, memory, carry, batch.inputs[:, t])
        hidden.append(one)
    assert jax.tree.map(lambda leaf: leaf.dtype, carry) == types
    whole = contract.decode(low, params, memory, batch.inputs, places([T] * B, T)).hidden
    np.testing.assert_allclose(np.stack(hidden, axis=1).astype(np.float32), whole[:, :2].astype(np.float32), atol=0.04)


def test_a_model_lacking_a_function_of_the_contract_cannot_be_made():
    class Half(contract.EncoderDecoder):
        def encode(self, source, places, rng=None):
            return source
    with pytest.raises(TypeError, match='abstract method'):
        Half()


def test_an_encoder_without_positions_does_not_see_order():
    """Attention catalogue, equality 13: permuting the source permutes the annotations."""
    config = small('transformer', 'multi_head_dot', **{'encoder.position': 'none'})
    encoder = build.model(config, SOURCE, TARGET).encoder
    source, order = np.arange(4, 4 + S, dtype=np.int32)[None], np.array([3, 0, 6, 1, 5, 2, 4])
    params = jax.jit(functools.partial(nn.Module.init, encoder))(jax.random.key(0), source, places([S], S))
    encode = jax.jit(lambda source: encoder.apply(params, source, places([S], S)).annotations)
    np.testing.assert_allclose(encode(source[:, order]), encode(source)[:, order], atol=1e-6)


@pytest.mark.parametrize(('wiring', 'reader'), [
    *combinations(['recurrent', 'transformer']), ('recurrent_to_transformer', 'fixed_context'),
    ('recurrent, between', 'additive'), ('recurrent, between, input feeding', 'multi_head_dot'),
    ('recurrent, between, three layers of lstm', 'multi_head_dot'),
    ('recurrent, between, mlstm to qrnn, zero start', 'multi_head_dot'),
    ('transformer_to_recurrent', 'general'), ('recurrent, current, input feeding', 'multi_head_dot'),
    ('recurrent, minimal_gru to lru', 'multi_head_dot'),
    ('recurrent, lstm of three layers to two of gru, tied', 'multi_head_dot')])
def test_flops_are_those_that_the_compiler_counts(wiring, reader):
    """At S = T = 1 a scan has one turn, so the compiler, which counts a scan's body once, counts everything."""
    config = small(wiring, reader)
    free = reader in ('none', 'fixed_context', 'multi_head_dot') or (
        config.decoder.kind == 'recurrent' and reader in ('mean', 'additive', 'general'))  # may differ in width
    half = reader == 'key_value_memory' and config.decoder.kind == 'transformer'
    for side, features, other in (('encoder', 64, 80), ('decoder', 112 if free else 32 if half else 64, 96)):
        config = arms.override(config, {f'{side}.features': features})
        if config[side].kind == 'transformer':
            config = arms.override(config, {f'{side}.hidden': other})
        elif not (side == 'decoder' and config.decoder.tie_embeddings):
            config = arms.override(config, {f'{side}.embedding_features': other})
        else:
            config = arms.override(config, {f'{side}.embedding_features': features})
    model = build.model(config, SOURCE, 251)
    scans = 'recurrent' in (config.encoder.kind, config.decoder.kind)
    source, target = (1, 1) if scans else (5, 3)
    batch = Batch(np.ones((16, source), np.int32), places([source] * 16, source), np.ones((16, target), np.int32),
                  np.ones((16, target), np.int32), places([target] * 16, target))
    params = build.abstract_params(model)

    def decode(params, batch):
        memory = contract.encode(model, params, batch.source, batch.source_places)
        decoded = contract.decode(model, params, memory, batch.inputs, batch.target_places)
        return contract.logits(model, params, decoded.hidden)
    counted = jax.jit(decode).lower(params, batch).compile().cost_analysis()['flops'] / 16
    assert build.flops(model, source, target) == pytest.approx(counted, rel=0.05)


def test_flops_of_a_recurrent_model_double_with_the_length():
    model = build.model(small('recurrent', 'fixed_context'), SOURCE, TARGET)
    constant = 2 * build.flops(model, 5, 5) - build.flops(model, 10, 10)  # bridges and the vector: once a sentence
    assert build.flops(model, 20, 20) - constant == pytest.approx(2 * (build.flops(model, 10, 10) - constant))
