"""A Transformer exported to CTranslate2: the same scores of the same words, the same outputs."""

import functools
import sys

import jax
import numpy as np
import pytest

from research import build
from research.decoding.beam import beam
from research.decoding.greedy import greedy
from research.decoding.scoring import score
from research.errors import UserError
from research.interop import ctranslate2 as interop
from research.shapes import Batch, Places
from research.text.vocabulary import BEGIN, END, PAD, SPECIAL, UNKNOWN, Vocabulary
from tests.interop.models import DECODER, ENCODER, HEADS, transformer, values

B, LENGTH, W = 24, 8, 5
SOURCE = Vocabulary.build(['abcdefghij'], 'characters')
TARGET = Vocabulary.build(['k l m n o p <s> q'], 'words')
POST = {'norm': 'post', 'epsilon': 0.3, 'activation': 'swish', 'position': 'sinusoidal_concatenated',
        'scale_embeddings': False, 'mixer': HEADS | {'projection_bias': True}}
GATED = {'norm': 'pre', 'epsilon': 0.3, 'activation': 'geglu', 'position': 'learned', 'layers': 1}
KINDS = {
    'pre-norm': (ENCODER, DECODER | {'layers': 1}, SOURCE, TARGET, False, 1.0),
    'post-norm, one table, biases': (
        ENCODER | POST, DECODER | POST | {'reader': HEADS | {'projection_bias': True}, 'tie_embeddings': True,
                                          'softmax_bias': True}, TARGET, TARGET, True, 2.0),
    'gated, learned and no positions, a bias': (
        ENCODER | GATED, DECODER | GATED | {'softmax_bias': True, 'position': 'none', 'activation': 'gelu_tanh'},
        SOURCE, TARGET, False, 1.5),
}


@functools.cache
def built(name):
    """A model and its parameters: it ends often and gives no probability to what is never written."""
    encoder, decoder, source, target, shares, factor = KINDS[name]
    model = transformer(encoder, decoder, len(source), len(target), shares)
    params = jax.tree.map(lambda leaf: factor * leaf, values(build.abstract_params(model), 1))
    if decoder.get('softmax_bias'):
        params['decoder']['scores_bias'][[PAD, BEGIN, END, UNKNOWN]] = -30.0, -30.0, 1.0, -30.0
    return model, params


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """exported(name) -> a translator."""
    ctranslate2 = pytest.importorskip('ctranslate2', reason='CTranslate2 is not installed')

    @functools.cache
    def made(name):
        folder = tmp_path_factory.mktemp('exported') / 'model'
        interop.export(*built(name), *KINDS[name][2:4], folder, positions=16)
        return ctranslate2.Translator(str(folder), compute_type='float32', intra_threads=1, inter_threads=1)
    return made


def sentences(rows, size, seed):
    """Ids [rows, LENGTH] that end, and their places."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, LENGTH, rows)
    ids = random.integers(SPECIAL, size, (rows, LENGTH))
    position = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), ids.shape)
    ids = np.where(position == lengths[:, None] - 1, END, np.where(position < lengths[:, None], ids, PAD))
    return ids.astype(np.int32), Places((position < lengths[:, None]).astype(np.int32), position)


def called(ids, names):
    """The tokens of ids, without their end."""
    return [[names[number] for number in row if number not in (PAD, END)] for row in ids]


@pytest.mark.parametrize('name', KINDS)
def test_an_exported_model_gives_the_same_scores_to_the_same_words(exported, name):
    (model, params), (_, _, source, target, *_) = built(name), KINDS[name]
    names = interop.tokens(source, target)
    (ids, places), (targets, target_places) = sentences(B, len(source), 1), sentences(B, len(target), 2)
    inputs = np.concatenate([np.full((B, 1), BEGIN, np.int32), targets[:, :-1]], axis=1)
    ours = jax.jit(functools.partial(score, model))(params, Batch(ids, places, inputs, targets, target_places))
    theirs = exported(name).score_batch(called(ids, names[0]), called(targets, names[1]))
    np.testing.assert_allclose([sum(one.log_probs) for one in theirs], ours, atol=1e-4)


@pytest.mark.parametrize('name', ['post-norm, one table, biases', 'gated, learned and no positions, a bias'])
@pytest.mark.parametrize('beams', [1, W])
def test_an_exported_model_writes_the_same(exported, name, beams):
    (model, params), (_, _, source, target, *_) = built(name), KINDS[name]
    names, (ids, places) = interop.tokens(source, target), sentences(B, len(source), 1)
    found = exported(name).translate_batch(called(ids, names[0]), beam_size=beams, length_penalty=0.6, patience=40,
                                           return_end_token=True, min_decoding_length=0, max_decoding_length=LENGTH,
                                           return_scores=True)

    @jax.jit
    def written(params):
        if beams == 1:
            return greedy(model, params, ids, places, length=LENGTH)
        return beam(model, params, ids, places, beams=beams, length=LENGTH, penalty=0.6, penalise_by='power')
    ours = written(params)
    best, ended = np.asarray(ours.tokens[:, 0]), np.asarray(ours.finished[:, 0])
    same = np.array([[names[1][number] for number in row if number != PAD] == one.hypotheses[0]
                     for row, one in zip(best, found, strict=True)])
    theirs_ended = np.array([one.hypotheses[0][-1:] == ['</s>'] for one in found])
    # What ended stands before what has not ended: here, but not there.
    assert np.all(same | (ended & ~theirs_ended)) if beams > 1 else np.all(same)
    assert np.mean(same) > 0.7
    assert len({tuple(row) for row in best.tolist()}) > 4
    if beams > 1:
        scores = np.array([one.scores[0] for one in found])
        np.testing.assert_allclose(scores[same], np.asarray(ours.penalised[:, 0])[same], atol=1e-4)


def test_every_id_has_a_token_of_its_own():
    class Twins(type(TARGET)):
        def symbol(self, number):
            return {4: 'a', 5: 'a', 6: 'a#5', 7: '</s>'}.get(number, super().symbol(number))
    source, target = interop.tokens(Twins(['b', 'c', 'd', 'e']), TARGET)
    assert source == ['<pad>', '<<s>>', '<</s>>', '<unk>', 'a', 'a#5#5', 'a#5', '</s>']
    assert len(set(target)) == len(target) == len(TARGET)
    assert '<s>' in target


@pytest.mark.parametrize(('side', 'changes', 'said'), [
    ('encoder', {'mixer': HEADS | {'key_value_heads': 1}}, "encoder.mixer.key_value_heads is 1; it must be 0 or 2"),
    ('decoder', {'mixer': HEADS | {'softcap': 3.0}}, 'decoder.mixer.softcap is 3.0; it must be 0.0'),
    ('decoder', {'reader': HEADS | {'normaliser': 'sparsemax'}}, "decoder.reader.normaliser is 'sparsemax'"),
    ('encoder', {'mixer': HEADS | {'position': {'name': 'rotary', 'base': 10.0}}}, 'encoder.mixer.position.name'),
    ('encoder', {'mixer': HEADS | {'reach': {'name': 'window', 'width': 2}}}, 'encoder.mixer.reach.name'),
    ('encoder', {'short_convolution': 3}, 'encoder.mixer is ShortConvolution'),
    ('decoder', {'reader': {'name': 'additive', 'energy_width': 4, 'normaliser': 'softmax'}}, 'decoder.reader is Addi'),
    ('decoder', {'reader': HEADS | {'heads': 4}}, 'decoder.reader.heads is 4; it must be decoder.mixer.heads, 2'),
    ('decoder', {'epsilon': 0.1}, 'encoder.epsilon is 1e-06; it must be decoder.epsilon, 0.1'),
    ('decoder', {'features': 16}, 'encoder.features is 8; it must be decoder.features, 16')])
def test_what_cannot_be_represented_is_refused_by_name(side, changes, said):
    encoder, decoder = (part | (changes if name == side else {}) for name, part in (('encoder', ENCODER),
                                                                                    ('decoder', DECODER)))
    with pytest.raises(UserError, match=said):
        interop.check(transformer(encoder, decoder, 9, 9))


def test_a_recurrent_encoder_is_refused_by_name():
    from tests.models.test_contract import small
    with pytest.raises(UserError, match=r'encoder.kind is RecurrentEncoder; it must be a Transformer'):
        interop.check(build.model(small('recurrent_to_transformer', 'multi_head_dot'), 9, 9))


def test_without_the_library_it_is_said_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'ctranslate2.specs', None)
    with pytest.raises(UserError, match=r'pip install .seq2lab\[ctranslate2\]'):
        interop.export(*built('pre-norm'), SOURCE, TARGET, tmp_path / 'model')
