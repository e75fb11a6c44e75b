"""Values that a config may not have, and parts that do not fit: each refused in one line that names the key."""

import pytest
from ml_collections import ConfigDict

from configs import base, copy, labelled_recall, language_model, pronunciation
from research import build
from research.errors import UserError
from research.study import arms

NAN = float('nan')
BAD = [  # words, changes, what the message must name
    ('additive', {'training.learning_rate': -0.001}, ['training.learning_rate', '-0.001', 'above 0']),
    ('additive', {'training.learning_rate': NAN}, ['training.learning_rate', 'nan', 'above 0']),
    ('additive', {'training.learning_rate': float('inf')}, ['training.learning_rate', 'inf']),
    ('additive', {'training.label_smoothing': 1.0}, ['training.label_smoothing', '1.0', 'below 1']),
    ('additive', {'training.schedule': 'linear'}, ['training.schedule', 'linear', 'cosine']),
    ('additive', {'training.steps': 0}, ['training.steps', '0', 'at least 1']),
    ('additive', {'training.steps': True}, ['training.steps', 'True']),
    ('additive', {'encoder.dropout': 1.0}, ['encoder.dropout', '1.0']),
    ('additive', {'decoder.dropout': -0.1}, ['decoder.dropout', '-0.1']),
    ('additive', {'encoder.kind': 'convolutional'}, ['encoder.kind', 'convolutional', 'recurrent, transformer']),
    ('additive', {'encoder.cell': 'gruu'}, ['encoder.cell', 'gruu', 'gru_reset_before']),
    ('additive', {'encoder.features': 127, 'encoder.bidirectional': True}, ['encoder.features', '127', 'even']),
    ('additive', {'decoder.reader.name': 'aditive'}, ["Unknown attention 'aditive'", "Did you mean 'additive'"]),
    ('additive', {'decoder.reader.name': 'dot'}, ["'dot'", 'energy_width']),
    ('additive', {'decoder.reader.energy_width': 0}, ['energy_width', '0']),
    ('additive', {'decoder.reader.path': 'xla'}, ['additive', 'xla', 'explicit']),
    ('multi_head_dot', {'decoder.reader.heads': 3}, ['heads', '3', '128']),
    ('transformer', {'encoder.mixer.heads': 5}, ['heads', '5', '128']),
    ('transformer', {'encoder.mixer.name': 'additive'}, ['additive', 'self']),
    ('transformer', {'encoder.position': 'sinusoid'}, ['encoder.position', 'sinusoid', 'sinusoidal']),
    ('transformer', {'decoder.norm': 'sandwich'}, ['decoder.norm', 'sandwich', 'pre, post']),
    ('fixed_context', {'decoder.reads_with': 'current'}, ['fixed_context', 'decoder.reads_with', 'previous']),
    ('fixed_context', {'decoder.reads_with': 'between'}, ['fixed_context', 'decoder.reads_with', "'previous'"]),
    ('none', {'decoder.reads_with': 'between'}, ['none', 'between', 'decoder.reads_with', "'previous' or 'current'"]),
    ('additive', {'decoder.reads_with': 'after'}, ['decoder.reads_with', 'after', 'previous, current, between']),
    ('none', {'decoder.start_state': 'zero'}, ['none', 'decoder.start_state', 'final']),
    ('additive', {'decoder.tie_embeddings': True, 'decoder.features': 64}, ['tie_embeddings', '128', '64']),
    ('additive', {'decoding.beams': 0}, ['decoding.beams', '0']),
    ('additive', {'dtype': 'float16'}, ['dtype', 'float16', 'bfloat16']),
    ('additive', {'evaluation.lengths': '4,4'}, ['evaluation.lengths', '4,4']),
    ('additive', {'data.longest': 0}, ['data.longest', '0']),
    ('additive', {'data.task': 'sort'}, ['data.task', 'sort', 'copy']),
]


def refused_in_one_line(config, names):
    """By validate, with every name in the message."""
    with pytest.raises(UserError) as caught:
        build.validate(config)
    message = str(caught.value)
    assert '\n' not in message
    for name in names:
        assert name in message, message


@pytest.mark.parametrize(('words', 'changes', 'names'), BAD, ids=[str(changes) for _, changes, _ in BAD])
def test_a_bad_value_is_refused_in_one_line_that_names_it(words, changes, names):
    config = arms.override(copy.get_config(words), changes)
    refused_in_one_line(config, names)


@pytest.mark.parametrize(('words', 'changes', 'names'), [
    (None, {'decoder.causal': False}, ['decoder.causal', 'False', 'True']),
    (None, {'data.unit': 'letters'}, ['data.unit', 'letters', 'characters, words']),
    (None, {'data.size': 4}, ['data.size', '4', 'at least 5']),
    (None, {'decoder.mixer.name': 'cell'}, ['decoder.mixer.name', "'cell'", 'cell=lstm']),
    ('cell=lstm', {'decoder.mixer.cell': 'lstn'}, ["'lstn'", 'lstm']),
    ('position=rotary', {'decoder.mixer.position.base': float('inf')}, ['decoder.mixer.position.base', 'inf']),
    ('position=fire', {'decoder.mixer.position.threshold': float('nan')}, ['decoder.mixer.position.threshold', 'nan']),
    ('transformer', {}, ["decoder.kind is 'transformer'", "data.task is 'language_model'", "'sequence'"]),
    ('recurrent', {}, ["decoder.kind is 'recurrent'", "data.task is 'language_model'", "'sequence'"]),
], ids=str)
def test_what_a_language_model_cannot_be_is_refused_in_one_line(words, changes, names):
    config = arms.override(language_model.get_config(words), changes)
    refused_in_one_line(config, names)


@pytest.mark.parametrize(('words', 'changes', 'names'), [
    ('dot', {'encoder.features': 64}, ['dot', '64', '128']),
    ('transformer+additive', {'encoder.features': 64}, ['64', '128', 'encoder.features']),
])
def test_parts_that_do_not_fit_are_refused_before_anything_compiles(words, changes, names):
    config = arms.override(copy.get_config(words), changes)
    build.validate(config)
    with pytest.raises(UserError) as caught:
        build.abstract_params(build.model(config, 10, 10))
    assert '\n' not in str(caught.value)
    for name in names:
        assert name in str(caught.value), caught.value


def test_unknown_words_are_refused_with_what_is_known():
    with pytest.raises(ValueError, match=r"Unknown choice 'aditive'.*additive"):
        copy.get_config('transformer+aditive')


def test_the_digest_follows_every_value_and_nothing_else():
    one, same = copy.get_config(), copy.get_config()
    assert build.digest(one) == build.digest(same)
    assert build.digest(build.with_seed(one, 5)) != build.digest(one)
    assert build.digest(ConfigDict(one.to_dict())) == build.digest(one)


def test_parameters_without_embeddings_leave_out_tables_and_softmax():
    """By hand: a plain recurrent model, one layer, one way, reader none."""
    config = arms.override(base.choose(base.get_config(), 'none'), {
        'encoder.cell': 'plain', 'decoder.cell': 'plain', 'encoder.bidirectional': False, 'encoder.features': 5,
        'encoder.embedding_features': 3, 'decoder.features': 7, 'decoder.embedding_features': 4})
    total, without = build.parameters(build.model(config, 11, 13))
    encoder, decoder = (3 + 5 + 1) * 5, (4 + 7 + 1) * 7
    bridge, readout = (5 + 1) * 7, (7 + 4) * 7
    assert without == encoder + decoder + bridge + readout
    assert total == without + 11 * 3 + 13 * 4 + 7 * 13


def test_length_edges_begin_the_buckets():
    assert build.length_edges(pronunciation.get_config()) == (1, 5, 8, 11)


def test_learned_positions_limit_what_is_read_and_written_and_nothing_else_does():
    config = copy.get_config('transformer')
    assert build.decoding(config)[-2:] == (None, None)
    learned = arms.override(config, {'encoder.position': 'learned', 'encoder.maximum_length': 30,
                                     'decoder.position': 'learned', 'decoder.maximum_length': 20})
    decoding = build.decoding(learned)
    assert (decoding.longest_source, decoding.longest_target) == (30, 20)
    assert [decoding.limit(entries) for entries in (5, 40)] == [15, 20]  # maximum_ratio 1, maximum_extra 10
    assert build.decoding(copy.get_config())[-2:] == (None, None)


@pytest.mark.parametrize(('words', 'source', 'target'), [
    # a position of the source: annotation and its projection of 128 each; of a memory of heads keys and values
    ('additive', 4 * 2 * 128 + 8, 0), ('none', 0, 0), ('multi_head_dot', 4 * 2 * 128 + 8, 0),
    # and of two layers, and as much for each position that is written
    ('transformer', 2 * (4 * 2 * 128 + 8), 2 * (4 * 2 * 128 + 8)),
    ('transformer+mixer=multi_query', 2 * (4 * 2 * 128 + 8), 2 * (4 * 2 * 32 + 8)),
    ('transformer+mixer=retention', 2 * (4 * 2 * 128 + 8), 0)])
def test_bytes_that_are_kept_grow_with_what_is_read_and_written(words, source, target):
    model = build.model(copy.get_config(words), 10, 12)
    base = build.kept_bytes(model, 20, 30)
    assert build.kept_bytes(model, 21, 30) - base == source
    assert build.kept_bytes(model, 20, 31) - base == target


def test_what_cannot_write_keeps_nothing():
    config = arms.override(labelled_recall.get_config(), {'decoder.causal': False})
    assert build.kept_bytes(build.model(config, 10, 12), 5, 5) is None
