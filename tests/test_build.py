"""Values that a config may not have, and parts that do not fit: each refused in one line that names the key."""

import hashlib
import importlib
import json

import pytest
from ml_collections import ConfigDict

from configs import base, copy, data, labelled_recall, language_model, parallel, pronunciation
from research import build
from research.errors import UserError
from research.study import arms
from research.training import workdir

NAN = float('nan')
BAD = [  # words, changes, what the message must name
    ('additive', {'training.learning_rate': -0.001}, ['training.learning_rate', '-0.001', 'above 0']),
    ('additive', {'training.learning_rate': NAN}, ['training.learning_rate', 'nan', 'above 0']),
    ('additive', {'training.learning_rate': float('inf')}, ['training.learning_rate', 'inf']),
    ('additive', {'training.label_smoothing': 1.0}, ['training.label_smoothing', '1.0', 'below 1']),
    ('additive', {'training.schedule': 'linaer'}, ['training.schedule', 'linaer', 'linear, cosine']),
    ('additive', {'training.steps': 0}, ['training.steps', '0', 'at least 1']),
    ('additive', {'training.steps': True}, ['training.steps', 'True']),
    ('additive', {'encoder.dropout': 1.0}, ['encoder.dropout', '1.0']),
    ('additive', {'decoder.dropout': -0.1}, ['decoder.dropout', '-0.1']),
    ('additive', {'encoder.kind': 'convolutional'}, ['encoder.kind', 'convolutional', 'recurrent, transformer']),
    ('additive', {'encoder.cell': 'gruu'}, ['encoder.cell', 'gruu', 'gru_reset_before']),
    ('additive', {'encoder.features': 127, 'encoder.bidirectional': True}, ['encoder.features', '127', 'even']),
    ('additive', {'encoder.backward': True, 'encoder.bidirectional': True},
     ['encoder.backward', 'encoder.bidirectional', 'must be False']),
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
    ('additive', {'training.accumulate': 0}, ['training.accumulate', '0', 'at least 1']),
    ('additive', {'training.accumulate': 7}, ['training.accumulate', '7', 'training.steps', '4000', 'multiple']),
    ('additive', {'training.plateau_patience': 0}, ['training.plateau_patience', '0', 'at least 1']),
    ('additive', {'training.plateau_factor': 1.0}, ['training.plateau_factor', '1.0', 'below 1']),
    ('additive', {'training.weight_decay': -0.1}, ['training.weight_decay', '-0.1', 'at least 0']),
    ('additive', {'training.r_drop': -1.0}, ['training.r_drop', '-1.0', 'at least 0']),
    ('additive', {'training.scheduled_sampling': 'sigmoid'}, ['scheduled_sampling', 'sigmoid', 'inverse_sigmoid']),
    ('transformer', {'training.scheduled_sampling': 'linear'}, ['scheduled_sampling', 'linear', 'decoder.kind']),
    ('additive', {'training.sampling_steps': 0}, ['training.sampling_steps', '0', 'at least 1']),
    ('additive', {'training.sampling_floor': 1.5}, ['training.sampling_floor', '1.5', 'at most 1']),
    ('additive', {'training.ema': 1.0}, ['training.ema', '1.0', 'below 1']),
    ('additive', {'training.average': 0}, ['training.average', '0', 'at least 1']),
    ('additive', {'training.keep': 'chrf'}, ['training.keep', 'chrf', 'accuracy, loss, bleu']),
    ('additive', {'training.keep': 'bleu'}, ['training.keep', 'bleu', "data.task 'copy'", "'accuracy' or 'loss'"]),
    ('additive', {'training.patience': -1}, ['training.patience', '-1', 'at least 0']),
    ('additive', {'start_from': 'runs/other'}, ['start_from', 'runs/other', "data.task is 'copy'"]),
    ('additive', {'batches.packing': True}, ['batches.packing', 'recurrent encoder', 'recurrent decoder', 'False']),
    ('additive', {'batches.shape_seed': -1}, ['batches.shape_seed', '-1', 'at least 0']),
    ('transformer_to_recurrent', {'batches.packing': True}, ['batches.packing', 'recurrent decoder']),
    ('recurrent_to_transformer', {'batches.packing': True}, ['batches.packing', 'recurrent encoder']),
    ('transformer+fixed_context', {'batches.packing': True}, ['batches.packing', 'fixed_context', 'reads positions']),
    ('additive', {'decoding.penalise_by': 'gnmt'}, ['decoding.penalise_by', 'gnmt', 'wu', 'power']),
    ('additive', {'decoding.coverage_penalty': -0.2}, ['decoding.coverage_penalty', '-0.2', 'at least 0']),
    ('additive', {'decoding.patience': -1.0}, ['decoding.patience', '-1.0', 'at least 0']),
    ('additive', {'evaluation.tokenizer': '13b'}, ['evaluation.tokenizer', '13b', '13a']),
    ('transformer', {'encoder.share_embeddings': True}, ['encoder.share_embeddings', 'data.joint']),
    ('transformer', {'encoder.activation': 'tanh'}, ['encoder.activation', 'tanh', 'gelu']),
    ('transformer', {'decoder.epsilon': 0.0}, ['decoder.epsilon', '0.0', 'above 0']),
]
PAIRS = [  # the same of pairs to translate
    (None, {'training.r_drop': 1.0}, ['training.r_drop', '1.0', 'encoder.dropout or decoder.dropout', 'above 0']),
    (None, {'data.skip': 'empty,duplicates'}, ['data.skip', "'duplicates'", 'duplicate', 'joined by commas']),
    (None, {'data.longest_line': 0}, ['data.longest_line', '0', 'at least 1']),
    (None, {'data.remove_spaces': 'all'}, ['data.remove_spaces', 'all', 'none, source, target, both']),
    (None, {'data.joint': True, 'data.source_unit': 'bpe'}, ['data.joint', "data.source_unit 'bpe'", 'target_unit']),
    (None, {'data.joint': True, 'data.target_size': 9}, ['data.joint', 'data.source_size 30000', 'data.target_size 9']),
    (None, {'data.source_unit': 'wordpiece'}, ['data.source_unit', 'wordpiece', 'bpe, unigram']),
    (None, {'data.target_size': 4}, ['data.target_size', '4', 'at least 5']),
    (None, {'data.segmentations': -1}, ['data.segmentations', '-1', 'at least 0']),
    (None, {'data.segmentations': 2}, ['data.segmentations', '2', 'data.prepared']),
    (None, {'data.segmentations': 2, 'data.prepared': 'folder'}, ['data.segmentations', 'data.source_unit', 'words']),
    (None, {'data.segmentation_seed': -1}, ['data.segmentation_seed', '-1', 'at least 0']),
    (None, {'data.sampling': 0.0}, ['data.sampling', '0.0', 'above 0']),
    (None, {'data.source_vectors': 'v', 'start_from': 'run'}, ['data.source_vectors', 'start_from', "''"]),
    ('transformer', {'data.source_vectors': 'v', 'data.target_vectors': 'w', 'data.joint': True,
                     'encoder.share_embeddings': True}, ['data.source_vectors', 'data.target_vectors', "''"]),
    ('transformer', {'encoder.share_embeddings': True}, ['encoder.share_embeddings', 'data.joint', 'True']),
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


@pytest.mark.parametrize(('words', 'changes', 'names'), PAIRS, ids=[str(changes) for _, changes, _ in PAIRS])
def test_what_pairs_to_translate_cannot_be_is_refused_in_one_line(words, changes, names):
    refused_in_one_line(arms.override(parallel.get_config(words), changes), names)


@pytest.mark.parametrize(('words', 'changes'), [
    ('transformer', {'batches.packing': True}), ('additive', {'training.r_drop': 1.0, 'decoder.dropout': 0.1}),
    ('additive', {'training.scheduled_sampling': 'linear', 'training.keep': 'bleu'}),
    ('additive', {'data.joint': True, 'data.skip': 'empty,duplicate', 'encoder.share_embeddings': True}),
    ('additive', {'training.schedule': 'plateau', 'training.accumulate': 4, 'training.ema': 0.99}),
    ('additive', {'data.source_vectors': 'v', 'data.target_vectors': 'w'}), ('additive', {'start_from': 'run'})])
def test_what_differs_from_a_refused_value_in_one_thing_is_allowed(words, changes):
    build.validate(arms.override(parallel.get_config(words), changes))


@pytest.mark.parametrize(('words', 'changes', 'names'), [
    (None, {'decoder.causal': False}, ['decoder.causal', 'False', 'True']),
    (None, {'data.unit': 'letters'}, ['data.unit', 'letters', 'characters, words']),
    (None, {'data.size': 4}, ['data.size', '4', 'at least 5']),
    (None, {'data.length': -1}, ['data.length', '-1', 'at least 0']),
    (None, {'data.length': 8, 'data.test_length': -1}, ['data.test_length', '-1', 'at least 0']),
    (None, {'data.length': 8, 'data.unit': 'bytes'}, ['data.length is 8', "'bytes'", 'characters or words']),
    (None, {'data.test_length': 8}, ['data.test_length is 8', 'data.length 0', 'must be 0']),
    (None, {'decoder.mixer.name': 'cell'}, ['decoder.mixer.name', "'cell'", 'cell=lstm']),
    ('cell=lstm', {'decoder.mixer.cell': 'lstn'}, ["'lstn'", 'lstm']),
    ('position=rotary', {'decoder.mixer.position.base': float('inf')}, ['decoder.mixer.position.base', 'inf']),
    ('position=fire', {'decoder.mixer.position.threshold': float('nan')}, ['decoder.mixer.position.threshold', 'nan']),
    (None, {'batches.packing': True}, ['batches.packing', "decoder.kind is 'sequence'", 'False']),
    (None, {'training.keep': 'bleu'}, ['training.keep', 'bleu', "'language_model'"]),
    (None, {'training.scheduled_sampling': 'linear'}, ['training.scheduled_sampling', "decoder.kind is 'sequence'"]),
    (None, {'training.r_drop': 2.0}, ['training.r_drop', '2.0', 'dropout']),
    ('transformer', {}, ["decoder.kind is 'transformer'", "data.task is 'language_model'", "'sequence'"]),
    ('recurrent', {}, ["decoder.kind is 'recurrent'", "data.task is 'language_model'", "'sequence'"]),
], ids=str)
def test_what_a_language_model_cannot_be_is_refused_in_one_line(words, changes, names):
    config = arms.override(language_model.get_config(words), changes)
    refused_in_one_line(config, names)


@pytest.mark.parametrize(('changes', 'names'), [
    ({'data.shortest': -1}, ['data.shortest', '-1', 'at least 0']),
    ({'data.longest_test': -1}, ['data.longest_test', '-1', 'at least 0']),
    ({'data.shortest': 33}, ['data.shortest is 33', '33 positions at least and 32 at most', 'data.length is 32']),
    ({'data.longest_test': 31}, ['data.longest_test is 31', '32 positions at least and 31 at most']),
    ({'data.shortest': 8, 'data.longest_test': 7}, ['data.longest_test is 7', '8 positions at least and 7 at most']),
], ids=str)
def test_lengths_of_labelled_lines_that_do_not_go_up_are_refused_in_one_line(changes, names):
    refused_in_one_line(arms.override(labelled_recall.get_config(), changes), names)


@pytest.mark.parametrize(('changes', 'learned', 'tested'), [
    ({}, (12, 12), (12, 12)), ({'data.shortest': 3}, (3, 12), (3, 12)), ({'data.longest_test': 15}, (12, 12), (12, 15)),
    ({'data.shortest': 3, 'data.longest_test': 15}, (3, 12), (3, 15)),
    ({'data.shortest': 3, 'data.longest_test': 8}, (3, 12), (3, 8))], ids=str)
def test_labelled_lines_have_the_lengths_that_the_config_says(changes, learned, tested):
    config = labelled_recall.get_config()
    config.data = data.labelled('parity')
    config = arms.override(config, {'data.length': 12, 'data.train': 300, 'data.dev': 200, 'data.test': 300, **changes})
    build.validate(config)
    texts = build.data(config).corpus
    for split, (low, high) in zip(texts, (learned, learned, tested), strict=True):
        lengths = {len(pair.source.split()) for pair in split}
        assert (min(lengths), max(lengths)) == (low, high)


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


# What configs had for a digest when the keys of build.ADDED were not there: commit 00f8994.
DIGESTS = {
    ('copy', None): '2b4cfe3433249685', ('copy', 'transformer'): 'c04df46582c9647c',
    ('copy', 'recurrent_to_transformer+dot'): '9738a3b0f8f119e8', ('pronunciation', 'none'): '38fc33261a271d38',
    ('parallel', None): 'ff548ff558499e17', ('parallel', 'transformer'): 'bff8452f351577f9',
    ('language_model', None): '1c9282933ba00837', ('language_model', 'cell=lstm'): '807926d7c92cd8ae',
    ('labelled_recall', None): 'ebb848a6ad1775a7', ('recall', 'transformer_to_recurrent'): '17871ae9566f8e56',
}


def of_before(config):
    """The text of a config without the keys that were added."""
    values = json.loads(build.text(config))
    for section, kind, keys in build.ADDED:
        node = values[section] if section else values
        if kind in (None, node.get('kind'), node.get('task')):
            for key in keys:
                del node[key]
    return json.dumps(values, indent=2, sort_keys=True) + '\n'


@pytest.mark.parametrize(('name', 'words'), DIGESTS, ids=str)
def test_a_config_of_before_is_read_with_the_values_and_has_the_digest_of_before(name, words, tmp_path):
    """That the keys are taken away is sure: the sha256 of what is left is the digest of before."""
    config = importlib.import_module(f'configs.{name}').get_config(words)
    config.training.chunk = 4096  # as it was then
    stored, digest = of_before(config), DIGESTS[name, words]
    assert hashlib.sha256(stored.encode()).hexdigest()[:16] == digest
    (tmp_path / 'config.json').write_text(stored)
    loaded = build.load(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert build.digest(loaded) == build.digest(config) == digest
    with workdir.claimed(tmp_path, build.text(config), {}, build.completed):
        assert json.loads((tmp_path / 'config.json').read_text()) == config.to_dict()
    changed = arms.override(config, {'training.ema': 0.5})
    assert build.digest(changed) != digest
    with pytest.raises(UserError, match=r"training\.ema is 0\.0 there and 0\.5 here"), \
            workdir.claimed(tmp_path, build.text(changed), {}, build.completed):
        pass


@pytest.mark.parametrize(('changes', 'message'), [
    ({'data.source_unit': 'bpe', 'data.source_size': 8}, 'data.source_size is 8: a vocabulary of size 8 has no room'),
    ({'data.target_unit': 'unigram'}, 'data.target_size is 30000: a vocabulary of size 30000 is too large'),
    ({'data.target_unit': 'bytes', 'data.target_size': 99}, 'data.target_size is 99: .* at least 260'),
    ({'data.joint': True, 'data.source_unit': 'bpe', 'data.target_unit': 'bpe', 'data.source_size': 8,
      'data.target_size': 8}, 'data.source_size is 8: a vocabulary of size 8 has no room')])
def test_a_size_that_does_not_suit_the_text_is_refused_by_its_key(changes, message, tmp_path):
    (tmp_path / 'pairs.tsv').write_text('ein Hund\ta dog\neine Katze\ta cat\n')
    config = arms.override(parallel.get_config(), changes | {
        f'data.{split}': str(tmp_path / 'pairs.tsv') for split in ('train', 'dev', 'test')})
    with pytest.raises(UserError, match=message) as caught:
        build.data(config)
    assert '\n' not in str(caught.value)


def test_sources_can_be_reversed_and_written_without_spaces(tmp_path):
    (tmp_path / 'pairs.tsv').write_text('ein Hund\ta dog\n')
    config = arms.override(parallel.get_config(), {
        f'data.{split}': str(tmp_path / 'pairs.tsv') for split in ('train', 'dev', 'test')} | {
        'data.reverse_source': True, 'data.remove_spaces': 'target', 'data.target_unit': 'characters'})
    data = build.data(config)
    assert data.source.symbols(data.source.encode('ein Hund')) == ['Hund', 'ein']
    assert data.corpus.train[0][:2] == ('ein Hund', 'adog')
    assert build.source_line(config)('ein Hund') == 'ein Hund'
    assert build.source_line(arms.override(config, {'data.remove_spaces': 'both'}))('ein Hund') == 'einHund'


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


def test_what_training_is_told_is_what_the_config_says(monkeypatch):
    """Every option by its name, each with a value that no other has."""
    told = {}

    def listen(module, name, *values):
        monkeypatch.setattr(module, name, lambda *given, **named: told.update(
            named | dict(zip(values, given[len(given) - len(values):], strict=True))))
    listen(build.steps, 'train_step')
    listen(build.state, 'start')
    listen(build.optimisers, 'adam')
    listen(build.optimisers, 'schedule', 'name', 'highest', 'warmup', 'steps', 'accumulate')
    listen(build.optimisers, 'frozen', 'frozen')
    listen(build.scheduled_sampling, 'probability', 'decay', 'half', 'floor')
    listen(build.scheduled_sampling, 'train_step')
    values = {'label_smoothing': 0.11, 'chunk': 12, 'r_drop': 0.13, 'accumulate': 4, 'ema': 0.14, 'b1': 0.15,
              'b2': 0.16, 'epsilon': 0.17, 'clip': 0.18, 'weight_decay': 0.19, 'warmup': 21, 'steps': 24,
              'frozen': 'encoder,a.b', 'schedule': 'plateau', 'sampling_steps': 25, 'sampling_floor': 0.26,
              'scheduled_sampling': 'exponential', 'plateau_patience': 27, 'plateau_factor': 0.28, 'keep': 'bleu',
              'patience': 29, 'average': 31}
    config = arms.override(parallel.get_config(), {f'training.{key}': value for key, value in values.items()} | {
        'encoder.dropout': 0.1})
    build.validate(config)
    build.train_step(config, None, build.optimiser(config))
    build.begin(config, None, None, None, None, None)
    assert told == {
        **{key: values[key] for key in ('label_smoothing', 'chunk', 'r_drop', 'accumulate', 'ema', 'b1', 'b2',
                                        'epsilon', 'clip', 'weight_decay', 'warmup', 'steps')},
        'frozen': ('encoder', 'a.b'), 'name': 'plateau', 'highest': 1.0, 'decay': 'exponential', 'half': 25,
        'floor': 0.26, 'never': (0, 1)}
    loop = build.loop(config)._asdict()
    for key in ('keep', 'patience', 'average', 'plateau_patience', 'plateau_factor', 'steps'):
        assert loop[key] == values[key]
    assert build.loop(arms.override(config, {'training.schedule': 'cosine'})).plateau_patience is None


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
