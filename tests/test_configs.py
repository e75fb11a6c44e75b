"""Every config builds, every key is read by build.py, and no key is read that is not there."""

import importlib
import itertools
import pathlib

import jax
import pytest

from configs import attention, base, positions
from research import build
from research.attention import registry, schemes
from research.cells.registry import CELLS
from research.study import arms
from research.text import prepared
from research.training.loop import blank_batch
from research.training.workdir import flat

FILES = [path.stem for path in sorted(pathlib.Path(__file__).parent.parent.joinpath('configs').glob('*.py'))
         if hasattr(importlib.import_module(f'configs.{path.stem}'), 'get_config')
         and path.stem not in ('base', 'fine_tune')]  # which needs a run to go on from: tests of command lines
WITHOUT_SOURCE = ('labelled_recall', 'language_model')  # for a model without one, and for no other
KINDS = [None, *base.KINDS, 'none', 'recurrent_to_transformer+additive', 'transformer+position=rotary']
CHOICES = [(name, words) for name in FILES if name not in WITHOUT_SOURCE for words in KINDS if words != 'sequence'] + [
    (name, words) for name in WITHOUT_SOURCE for words in (None, 'sequence', 'mixer=delta', 'cell=lstm',
                                                           'position=rotary')] + [
    ('reverse', words) for words in (
    *(name for name, variant in registry.VARIANTS.items() if 'cross' in variant.roles),
    *(f'transformer+position={name}' for name in (*base.EMBEDDED, *positions.OPTIONS)),
    *(f'recurrent+cell={name}' for name in CELLS))]
READ = [(name, words) for name in FILES if name not in WITHOUT_SOURCE
        for words in ('recurrent', 'transformer')] + [(name, words) for name in WITHOUT_SOURCE
                                                      for words in (None, 'cell=lstm')]
PARALLEL = {'data.train': 'train.tsv', 'data.dev': 'dev.tsv', 'data.test': 'test.tsv'}
SMALL_DATA = {'data.train': 30, 'data.dev': 5, 'data.test': 5, 'data.longest': 3, 'data.longest_test': 4}


class Recorder:
    """A config that remembers which keys were read."""

    def __init__(self, config, seen, above=''):
        self._config, self._seen, self._above = config, seen, above

    def __getattr__(self, name):
        return self[name]

    def __getitem__(self, name):
        value, key = self._config[name], f'{self._above}{name}'
        if hasattr(value, 'items'):
            return Recorder(value, self._seen, f'{key}.')
        self._seen.add(key)
        return value

    def keys(self):
        return self._config.keys()


def settle(name, words, folder):
    """A config of this file with data small enough for a test."""
    config = importlib.import_module(f'configs.{name}').get_config(words)
    if config.data.task in (build.PARALLEL, build.LANGUAGE_MODEL):
        for split in ('train', 'dev', 'test'):
            (folder / f'{split}.tsv').write_text('a b\tx y\nb\ty\n' * 5, encoding='utf-8')
        changes = {'data.source_unit': 'words', 'data.target_unit': 'words'} if 'joint' in config.data else {}
        return arms.override(config, changes | {key: str(folder / value) for key, value in PARALLEL.items()})
    if name == 'pronunciation':
        (folder / 'dictionary').write_text(''.join(f'{word} {phones}\n' for word, phones in zip(
            (first + second for first in 'abcdefghijklmnopqrst' for second in 'abcdefghijklmnopqrst'),
            ['AH0', 'B AH1', 'K'] * 200, strict=False)), encoding='utf-8')
        return arms.override(config, {'data.file': str(folder / 'dictionary')})
    if name in WITHOUT_SOURCE:
        return arms.override(config, {'data.train': 30, 'data.dev': 5, 'data.test': 5})
    return arms.override(config, {key: value for key, value in SMALL_DATA.items() if key.split('.')[1] in config.data})


@pytest.mark.parametrize(('name', 'words'), CHOICES)
def test_every_config_builds_with_every_choice(name, words):
    config = importlib.import_module(f'configs.{name}').get_config(words)
    build.validate(config)
    build.abstract_params(build.model(config, 10, 10 if config.data.get('joint') else 12))


@pytest.mark.parametrize(('name', 'words'), READ)
def test_every_key_is_read_and_only_by_build(name, words, tmp_path, monkeypatch):
    config, seen = settle(name, words, tmp_path), set()
    recorder = Recorder(config, seen)
    build.validate(recorder)
    seen.clear()  # a key that is only checked decides nothing
    data = build.data(recorder)
    model, planned = build.model(recorder, len(data.source), len(data.target)), build.plans(recorder, data)
    optimiser = build.optimiser(recorder)
    jax.eval_shape(lambda rng: build.begin(recorder, model, optimiser, rng, 1.0, blank_batch(*planned.train.shapes[0])),
                   jax.random.key(0))  # readers, mixers and cells are made here
    for read in (build.chunk, build.loop, build.decoding, build.length_edges, build.seed, build.rate, build.tokenizer,
                 build.start_from):
        read(recorder)

    def switched(**changes):
        """The same with an option on that others belong to."""
        return Recorder(arms.override(config, {key.replace('__', '.'): value for key, value in changes.items()}), seen)
    build.loop(switched(training__schedule='plateau'))
    build.train_step(switched(training__scheduled_sampling='linear'), model, optimiser)
    if config.data.task == build.LANGUAGE_MODEL:
        build.data(switched(data__length=4))
    if config.data.task == build.PARALLEL:
        for read in (build.target_language, build.left_out, build.source_line, build.prepared_folder):
            read(recorder)
        build.vocabularies(switched(data__joint=False), lambda: iter(data.corpus.train))
        build.pretrained(switched(data__source_vectors='v', data__target_vectors='w'), data.source, data.target)
        monkeypatch.setattr(build, 'preparation', lambda config: {})  # takes every key and decides nothing by itself
        monkeypatch.setattr(prepared, 'prepare', lambda *arguments: None)
        build.prepare(switched(data__prepared='folder'), lambda *said: None)
    assert set(flat(config)) - seen == set(), 'keys that nothing reads'


def test_every_variant_has_a_line_of_options_and_no_other():
    assert set(attention.OPTIONS) == set(registry.VARIANTS)
    for name, values in attention.OPTIONS.items():
        assert set(values) == set(registry.options(name)), name


@pytest.mark.parametrize('name', [name for name, variant in registry.VARIANTS.items() if 'self' in variant.roles])
def test_every_mixer_builds_in_the_encoder_and_in_the_decoder_if_it_can_be_causal(name):
    config = importlib.import_module('configs.reverse').get_config(f'transformer+mixer={name}')
    if True not in registry.VARIANTS[name].causal:
        config.decoder.mixer = attention.get('multi_head_dot')
    build.validate(config)
    build.abstract_params(build.model(config, 10, 12))


def test_every_scheme_of_positions_has_a_line_of_options_and_no_other():
    assert {'none', *positions.OPTIONS} == set(schemes.SCHEMES)
    for name in positions.OPTIONS:
        schemes.scheme(**positions.get(name))


@pytest.mark.parametrize(('words', 'message'), [
    ('transformer+mixer=retentoin', "Unknown mixer 'retentoin'.* Did you mean 'retention'"),
    ('transformer+position=rotari', "Unknown position 'rotari'.* Did you mean 'rotary'"),
    ('transformer+mixr=retention', "Unknown part 'mixr'.* Did you mean 'mixer'"),
    ('recurrent+mixer=retention', 'neither encoder nor decoder has a mixer'),
    ('transformer+cell=lstm', 'neither encoder nor decoder has a cell'),
    ('recurrent+short_convolution=4', 'neither encoder nor decoder has a short_convolution'),
    ('transformer+short_convolution=wide', 'short_convolution=wide .* must be a whole number'),
    ('transformer+mixer=fourier+position=rotary', "mixer 'fourier' has no option position"),
    ('position=rotary+mixer=fourier+transformer', "mixer 'fourier' has no option position"),
    ('additive+dot', "the reader is said twice: 'additive' and 'dot'"),
    ('transformer+recurrent', "the kind is said twice: 'transformer' and 'recurrent'"),
    ('transformer+mixer=delta+mixer=linear', "the mixer is said twice: 'delta' and 'linear'"),
    ('sequence+coverage', 'neither encoder nor decoder has a reader'),
    ('sequence+mixer=delta+cell=lstm', 'cell=lstm and mixer=delta .* one of them'),
    ('sequence+cell=lstm+position=rotary', "mixer 'cell' has no option position")])
def test_a_word_that_means_nothing_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        importlib.import_module('configs.reverse').get_config(words)


@pytest.mark.parametrize('words', [
    'transformer+multi_query+mixer=grouped_query+position=rotary+short_convolution=3',
    'recurrent_to_transformer+dot+cell=lstm+mixer=sliding_window+position=alibi',
    'sequence+cell=lstm+position=learned'])
def test_words_mean_the_same_in_any_order(words):
    expected = base.choose(base.get_config(), words).to_json()
    for order in itertools.permutations(words.split('+')):
        assert base.choose(base.get_config(), '+'.join(order)).to_json() == expected


def test_a_config_without_a_source_keeps_its_kind_unless_a_word_says_another():
    for words, kind in ((None, 'sequence'), ('mixer=delta', 'sequence'), ('transformer', 'transformer')):
        for name in WITHOUT_SOURCE:
            assert importlib.import_module(f'configs.{name}').get_config(words).decoder.kind == kind


def test_base_states_its_choices_in_its_docstring():
    for kind in base.KINDS:
        assert kind in base.__doc__
