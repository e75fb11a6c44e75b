"""The only file that reads a config: from values to data, model, optimiser, and the numbers of the loop."""

import functools
import hashlib
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.attention import registry as attention
from research.attention.both_ways import BothWays
from research.attention.short_convolution import convolved
from research.cells import registry as cells
from research.errors import UserError
from research.layers.residual import NORMS
from research.models import contract, recurrent, transformer
from research.models.encoder_decoder import SequenceToSequence
from research.models.sequence import CellMixer, SequenceModel
from research.shapes import Places
from research.text import batches, corpus, labelled, pronunciation, synthetic
from research.text.vocabulary import PAD, SPECIAL, UNITS, Vocabulary
from research.training import optimisers
from research.training.loop import blank_batch

Config = Any  # an ml_collections.ConfigDict: parts never see one, so nothing here needs its class


class Data(NamedTuple):
    """What there is to learn, and how it is written down."""

    corpus: corpus.Corpus
    source: Vocabulary
    target: Vocabulary
    digest: str  # sixteen hexadecimal digits that name the corpus: what there is to learn and to test on
    labelled: bool = False  # whether a pair is a sequence and the labels of its positions, for a model without a source
    next_symbols: bool = False  # whether it is an empty source and a line, whose symbols are asked for one by one


class Plans(NamedTuple):
    """The batches of a run."""

    train: batches.BatchPlan                     # shuffled anew each epoch
    dev: batches.BatchPlan                       # in order, once
    measured: tuple[tuple[int, int, int], ...]   # (B, S, T) of dev and test batches
    tokens: int                                  # of those batches


class Loop(NamedTuple):
    """The training loop's own numbers, in steps."""

    steps: int
    report_every: int
    evaluate_every: int
    checkpoint_every: int
    dev_sample: int


class Decoding(NamedTuple):
    """How outputs are searched for."""

    beams: int
    length_penalty: float
    maximum_ratio: float
    maximum_extra: int
    tokens: int
    longest_source: int | None = None  # positions that the encoder has a vector for; None = any number
    longest_target: int | None = None  # the same of the decoder

    def limit(self, entries: int) -> int:
        """The most symbols that may be written for a source of so many; both count their end symbol."""
        limit = int(self.maximum_ratio * entries) + self.maximum_extra
        return limit if self.longest_target is None else min(limit, self.longest_target)

    def describe(self) -> str:
        """For a score line."""
        return 'greedy' if self.beams == 1 else f'beam {self.beams}, length penalty {self.length_penalty:g}'


# ---------------------------------------------------------------------------------------------------------- validation

def _at_least(low):
    return f'at least {low}', lambda value: value >= low


_POSITIVE = 'above 0', lambda value: value > 0
_SHARE = 'at least 0 and below 1', lambda value: 0 <= value < 1
_FLAG = 'True or False', lambda value: isinstance(value, bool)


def _one_of(names):
    return f'one of {", ".join(names)}', lambda value: value in names


LANGUAGE_MODEL = 'language_model'
WITHOUT_SOURCE = (*labelled.TASKS, LANGUAGE_MODEL)
TASKS = ('pronunciation', *synthetic.TASKS, 'parallel', *WITHOUT_SOURCE)

RULES = {
    'seed': ('at least 0 and below 2**32', lambda value: 0 <= value < 2**32),  # jax.random.key takes 32 bits
    'dtype': _one_of(('float32', 'bfloat16')),
    'data.task': _one_of(TASKS),
    'batches.tokens': _at_least(2),
    'batches.buckets': _at_least(1),
    'batches.maximum_source': _at_least(1),
    'batches.maximum_target': _at_least(1),
    'training.steps': _at_least(1),
    'training.learning_rate': _POSITIVE,
    'training.schedule': _one_of(optimisers.SCHEDULES),
    'training.warmup': _at_least(1),
    'training.label_smoothing': _SHARE,
    'training.clip': _at_least(0),
    'training.b1': _SHARE,
    'training.b2': _SHARE,
    'training.epsilon': _POSITIVE,
    'training.chunk': _at_least(1),
    'training.report_every': _at_least(1),
    'training.evaluate_every': _at_least(1),
    'training.checkpoint_every': _at_least(1),
    'training.dev_sample': _at_least(1),
    'decoding.beams': _at_least(1),
    'decoding.length_penalty': _at_least(0),
    'decoding.maximum_ratio': _at_least(0),
    'decoding.maximum_extra': _at_least(1),
    'decoding.tokens': _at_least(1),
}
SYNTHETIC_RULES = {
    'data.seed': _at_least(0),
    'data.symbols': _at_least(1),
    'data.shortest': _at_least(1),
    'data.longest': _at_least(1),
    'data.longest_test': _at_least(1),
    'data.train': _at_least(1),
    'data.dev': _at_least(1),
    'data.test': _at_least(1),
}
LABELLED_RULES = {f'data.{key}': _at_least(1) for key in ('symbols', 'length', 'size', 'train', 'dev', 'test')} | {
    'data.seed': _at_least(0)}
_TEXT = 'text', lambda value: isinstance(value, str)
PRONUNCIATION_RULES = {'data.file': _TEXT}
PARALLEL_RULES = {
    'data.train': _TEXT,
    'data.dev': _TEXT,
    'data.test': _TEXT,
    'data.columns': _at_least(2),
    'data.source_unit': _one_of(UNITS),
    'data.target_unit': _one_of(UNITS),
    'data.source_size': _at_least(SPECIAL + 1),
    'data.target_size': _at_least(SPECIAL + 1),
}
LANGUAGE_MODEL_RULES = {
    'data.train': _TEXT,
    'data.dev': _TEXT,
    'data.test': _TEXT,
    'data.unit': _one_of(UNITS),
    'data.size': _at_least(SPECIAL + 1),
}
RECURRENT_RULES = {
    'cell': _one_of(tuple(cells.CELLS)),
    'layers': _at_least(1),
    'features': _at_least(1),
    'embedding_features': _at_least(1),
    'dropout': _SHARE,
}
TRANSFORMER_RULES = {
    'layers': _at_least(1),
    'features': _at_least(1),
    'hidden': _at_least(1),
    'short_convolution': ('0 (none) or at least 2', lambda value: value == 0 or value >= 2),
    'norm': _one_of(NORMS),
    'position': _one_of(transformer.POSITIONS),
    'maximum_length': _at_least(1),
    'dropout': _SHARE,
}
SIDE_RULES = {
    ('encoder', 'recurrent'): RECURRENT_RULES | {'bidirectional': _FLAG},
    ('encoder', 'transformer'): TRANSFORMER_RULES | {'summary': _one_of(transformer.SUMMARIES)},
    ('decoder', 'recurrent'): RECURRENT_RULES | {
        'reads_with': _one_of(recurrent.READS_WITH), 'input_feeding': _FLAG,
        'start_state': _one_of(recurrent.START_STATES), 'tie_embeddings': _FLAG},
    ('decoder', 'transformer'): TRANSFORMER_RULES | {'tie_embeddings': _FLAG},
    ('encoder', 'nothing'): {},
    ('decoder', 'sequence'): TRANSFORMER_RULES | {'tie_embeddings': _FLAG, 'causal': _FLAG},
}


def validate(config: Config) -> None:
    """Checks every value that can be checked without data; raises UserError naming key, value and what is allowed."""
    _check(config, RULES)
    others = LABELLED_RULES if config.data.task in labelled.TASKS else SYNTHETIC_RULES
    _check(config, {'parallel': PARALLEL_RULES, 'pronunciation': PRONUNCIATION_RULES,
                    LANGUAGE_MODEL: LANGUAGE_MODEL_RULES}.get(config.data.task, others))
    for side in ('encoder', 'decoder'):
        kind = _value(config, f'{side}.kind')
        _demand(f'{side}.kind', kind, _one_of([known for where, known in SIDE_RULES if where == side]))
        _check(config, {f'{side}.{key}': rule for key, rule in SIDE_RULES[side, kind].items()})
    _check_finite(config)
    length_edges(config)
    encoder, decoder = config.encoder, config.decoder
    for one, key, said in ((encoder.kind == 'nothing', 'encoder.kind', encoder.kind),
                           (config.data.task in WITHOUT_SOURCE, 'data.task', config.data.task)):
        if one != (decoder.kind == 'sequence'):
            raise UserError(f'decoder.kind is {decoder.kind!r} and {key} is {said!r}; a model without a source has '
                            "encoder.kind 'nothing', decoder.kind 'sequence' and a task without one "
                            f'({", ".join(WITHOUT_SOURCE)}), all three or none')
    if config.data.task == LANGUAGE_MODEL and not decoder.causal:
        raise UserError('decoder.causal is False; a language model must have True: it would see the symbols that it is '
                        'to say')
    if encoder.kind == 'recurrent' and encoder.bidirectional and encoder.features % 2:
        raise UserError(f'encoder.features is {encoder.features}; a bidirectional encoder has half of it in each '
                        'direction, so it must be even')
    for side in ('encoder', 'decoder'):
        part = config[side]
        if part.kind in ('transformer', 'sequence') and part.position == 'sinusoidal' and part.features % 2:
            raise UserError(f'{side}.features is {part.features}; sinusoidal positions need an even width')
    for part, causal in ((encoder, False), (decoder, True)):
        if part.kind == 'transformer':
            _mixer(part, causal)
    if decoder.kind == 'sequence':
        _mixer(decoder, decoder.causal)
        return
    _reader(decoder)
    reads = attention.VARIANTS[decoder.reader.name].reads
    if decoder.kind == 'recurrent':
        if reads == 'summary' and decoder.reads_with != 'previous':
            raise UserError(f'decoder.reader.name is {decoder.reader.name!r}, whose vector the cell reads at each '
                            "step: decoder.reads_with must be 'previous'")
        if reads == 'nothing' and decoder.reads_with == 'between':
            raise UserError("decoder.reader.name is 'none' and decoder.reads_with is 'between': the second cell of the "
                            "pair would read nothing; decoder.reads_with must be 'previous' or 'current'")
        if reads == 'nothing' and decoder.start_state == 'zero':
            raise UserError("decoder.reader.name is 'none' and decoder.start_state is 'zero': the decoder would know "
                            "nothing of the source; decoder.start_state must be 'final'")
        if decoder.tie_embeddings and decoder.embedding_features != decoder.features:
            raise UserError(f'decoder.tie_embeddings needs decoder.embedding_features ({decoder.embedding_features}) '
                            f'= decoder.features ({decoder.features})')


def _value(config: Config, key: str) -> Any:
    node = config
    for part in key.split('.'):
        if part not in node.keys():  # noqa: SIM118 - a ConfigDict's own `in` takes dotted keys apart
            raise UserError(f'the config has no key {key}. Another kind or task has other keys: choose a kind in words '
                            '(--config=FILE.py:transformer) and a task by its config file')
        node = node[part]
    return node


def _check_finite(node: Config, above: str = '') -> None:
    for key in node.keys():  # noqa: SIM118 - as in _value
        value = node[key]
        if hasattr(value, 'keys'):
            _check_finite(value, f'{above}{key}.')
        elif isinstance(value, float) and not math.isfinite(value):
            raise UserError(f'{above}{key} is {value!r}; it must be a finite number')


def _demand(key: str, value: Any, rule: tuple) -> None:
    wanted, holds = rule
    if not holds(value):
        raise UserError(f'{key} is {value!r}; it must be {wanted}')


def _check(config: Config, rules: dict[str, tuple]) -> None:
    for key, rule in rules.items():
        value = _value(config, key)
        if rule[1] is not _FLAG[1] and isinstance(value, bool):
            raise UserError(f'{key} is {value!r}; it must be {rule[0]}')
        _demand(key, value, rule)


# ---------------------------------------------------------------------------------------------------------------- data

def data(config: Config) -> Data:
    """Reads or makes the corpus, and builds its vocabularies from the training pairs."""
    section = config.data
    if section.task == 'pronunciation':
        texts = pronunciation.read(section.file)
        units, sizes = ('characters', 'words'), (None, None)
    elif section.task == 'parallel':
        texts = corpus.Corpus(*(_files(key, section[key], section.columns) for key in ('train', 'dev', 'test')))
        units, sizes = (section.source_unit, section.target_unit), (section.source_size, section.target_size)
    elif section.task in labelled.TASKS:
        texts = labelled.make(section.task, train=section.train, dev=section.dev, test=section.test,
                              length=section.length, symbols=section.symbols, size=section.size, seed=section.seed)
        both = Vocabulary.build((line for pair in texts.train for line in pair[:2]), 'words')
        return Data(texts, both, both, _corpus_digest(texts), labelled=True)
    elif section.task == LANGUAGE_MODEL:
        texts = corpus.Corpus(*(_lines(key, section[key]) for key in ('train', 'dev', 'test')))
        both = Vocabulary.build((pair.target for pair in texts.train), section.unit, section.size)
        return Data(texts, both, both, _corpus_digest(texts), next_symbols=True)
    else:
        texts = synthetic.make(section.task, train=section.train, dev=section.dev, test=section.test,
                               lengths=(section.shortest, section.longest),
                               test_lengths=(section.shortest, section.longest_test),
                               symbols=section.symbols, seed=section.seed)
        units, sizes = ('words', 'words'), (None, None)
    return Data(texts, Vocabulary.build((pair.source for pair in texts.train), units[0], sizes[0]),
                Vocabulary.build((pair.target for pair in texts.train), units[1], sizes[1]),
                _corpus_digest(texts))


def _corpus_digest(texts: corpus.Corpus) -> str:
    digest = hashlib.sha256()
    for pairs in texts:
        for pair in pairs:
            digest.update(f'{pair.source}\t{pair.target}\t{"|".join(pair.others)}\n'.encode())
    return digest.hexdigest()[:16]


def _files(key: str, paths: str, columns: int) -> list[corpus.Pair]:
    names = [name for name in paths.split(',') if name]
    if len(names) not in (1, 2):
        raise UserError(f'data.{key} is {paths!r}; it must name one file with a tab in each line, or two files joined '
                        'by a comma: SOURCE,TARGET')
    return corpus.read_pairs(*names, columns=columns)


def _lines(key: str, path: str) -> list[corpus.Pair]:
    if not path:
        raise UserError(f'data.{key} is {path!r}; it must name a file of text, plain or .gz, with a line for each '
                        'sequence')
    return corpus.read_text(path)


def plans(config: Config, texts: Data) -> Plans:
    """The batches of a run: the same few shapes to train and to measure, and one more where dev or test is longer."""
    section = config.batches
    train = _ids(texts, texts.corpus.train)
    fits = [(len(source), len(target)) for source, target in train
            if len(source) <= section.maximum_source and len(target) <= section.maximum_target]
    if not fits:
        raise UserError('every training pair is longer than batches.maximum_source or batches.maximum_target')
    buckets = batches.choose_buckets(fits, section.buckets)
    dev, test = _ids(texts, texts.corpus.dev), _ids(texts, texts.corpus.test)
    wider = tuple(max(sizes) for sizes in zip(*buckets, *((len(pair[0]), len(pair[1])) for pair in (*dev, *test)),
                                              strict=True))
    wide = buckets if wider in buckets else (*buckets, wider)
    tokens = max(section.tokens, sum(wider))
    dev_plan = batches.BatchPlan(dev, wide, tokens, labelled=texts.labelled)
    shapes = dict.fromkeys((*dev_plan.shapes, *batches.BatchPlan(test, wide, tokens).shapes))
    return Plans(batches.BatchPlan(train, buckets, section.tokens, config.seed, texts.labelled), dev_plan,
                 tuple(shapes), tokens)


def measuring_plan(texts: Data, pairs: Sequence[corpus.Pair], planned: Plans) -> batches.BatchPlan:
    """Batches of any dev or test pairs, in order, in the shapes that a run measures with."""
    return batches.BatchPlan(_ids(texts, pairs), [(S, T) for _, S, T in planned.measured], planned.tokens,
                             labelled=texts.labelled)


def _ids(texts: Data, pairs: Sequence[corpus.Pair]) -> list[tuple]:
    if texts.labelled:  # no position is added: the end is not asked for
        nothing = texts.target.encode(labelled.NOTHING)[0]
        found = [(texts.source.encode(pair.source)[:-1], texts.target.encode(pair.target)[:-1]) for pair in pairs]
        return [(symbols, np.where(labels == nothing, PAD, labels)) for symbols, labels in found]
    return [(texts.source.encode(pair.source), texts.target.encode(pair.target)) for pair in pairs]


# --------------------------------------------------------------------------------------------------------------- model

def model(config: Config, source_size: int, target_size: int) -> contract.EncoderDecoder:
    """The model for vocabularies of the given sizes."""
    dtype, part = jnp.dtype(config.dtype), config.decoder
    if part.kind == 'sequence':
        packs = part.mixer.name != 'cell' and attention.VARIANTS[part.mixer.name].packing
        return SequenceModel(target_size, part.features, part.hidden, part.layers,
                             functools.partial(_mixer, part, dtype=dtype), part.causal, part.norm, part.position,
                             part.maximum_length, part.tie_embeddings, packs, part.dropout, dtype)
    reads = attention.VARIANTS[config.decoder.reader.name].reads
    return SequenceToSequence(_encoder(config.encoder, source_size, dtype),
                              _decoder(config.decoder, target_size, reads, dtype), reads)


def _encoder(part: Config, size: int, dtype: Any) -> Any:
    if part.kind == 'recurrent':
        return recurrent.RecurrentEncoder(
            size, part.embedding_features, part.features, part.layers,
            functools.partial(cells.make, part.cell, dtype=dtype), part.bidirectional, part.dropout, dtype)
    return transformer.TransformerEncoder(
        size, part.features, part.hidden, part.layers, functools.partial(_mixer, part, dtype=dtype), part.norm,
        part.position, part.maximum_length, part.summary, part.dropout, dtype)


def _decoder(part: Config, size: int, reads: str, dtype: Any) -> Any:
    reader = functools.partial(_reader, part, dtype=dtype)
    if part.kind == 'recurrent':
        return recurrent.RecurrentDecoder(
            size, part.embedding_features, part.features, part.layers,
            functools.partial(cells.make, part.cell, dtype=dtype), reader, part.reads_with, part.input_feeding,
            part.start_state, part.tie_embeddings, part.dropout, dtype)
    return transformer.TransformerDecoder(
        size, part.features, part.hidden, part.layers, functools.partial(_mixer, part, dtype=dtype), reader, reads,
        part.norm, part.position, part.maximum_length, part.tie_embeddings, part.dropout, dtype)


def _mixer(part: Config, causal: bool, layer: int = 0, dtype: Any = None) -> Any:
    if part.mixer.name == 'cell':
        if set(part.mixer.keys()) != {'name', 'cell'}:
            raise UserError("decoder.mixer.name is 'cell', which has one other key, cell, and not the options of an "
                            'attention: choose it in words (--config=FILE.py:cell=lstm)')
        cell = functools.partial(cells.make, part.mixer.cell, dtype=dtype)
        cell(part.features)  # an unknown name is refused here
        common = {'features': part.features, 'role': 'self', 'causal': causal, 'layer': layer, 'dtype': dtype}
        copies = [convolved(CellMixer(**common | {'causal': True}, cell=cell), part.short_convolution)
                  for _ in range(1 if causal else 2)]
        return copies[0] if causal else BothWays(**common, forward=copies[0], backward=copies[1])
    return attention.make(features=part.features, role='self', causal=causal, layer=layer, dtype=dtype,
                          short_convolution=part.short_convolution, **_plain(part.mixer))


def _reader(part: Config, layer: int = 0, dtype: Any = None) -> Any:
    return attention.make(features=part.features, role='cross', layer=layer, dtype=dtype,
                          **_plain(part.reader))


def _plain(node: Config) -> dict[str, Any]:
    """A section as dicts."""
    return {key: _plain(node[key]) if hasattr(node[key], 'keys') else node[key] for key in node.keys()}  # noqa: SIM118


def abstract_params(model: contract.EncoderDecoder, source: int = 3, target: int = 3) -> Any:
    """Shapes and dtypes of the parameters. Parts that do not fit together raise here, before anything compiles.

    Args:
      model: of which nothing is computed.
      source, target: lengths S and T of a batch that it must be able to read: the longest that a run has.
    """
    return jax.eval_shape(lambda rng: contract.init(model, rng, blank_batch(2, source, target)), jax.random.key(0))


def parameters(model: contract.EncoderDecoder) -> tuple[int, int]:
    """How many numbers are learned: all, and without embeddings and the projection to the vocabulary."""
    sizes = {jax.tree_util.keystr(path): math.prod(leaf.shape)
             for path, leaf in jax.tree.leaves_with_path(abstract_params(model))}
    lexical = sum(size for name, size in sizes.items() if 'embedding' in name or 'softmax' in name)
    return sum(sizes.values()), sum(sizes.values()) - lexical


def flops(model: contract.EncoderDecoder, entries: int, targets: int) -> float:
    """Forward FLOPs of one pair with S = entries source and T = targets target positions; backward costs twice that.

    Matrix products and energies, 2 for each multiply-add, summed from the formula that every part states.
    """
    if isinstance(model, SequenceModel):
        return model.flops(targets)
    encoder, decoder = model.encoder, model.decoder
    finals = encoder.final_widths()
    readable, width = {'source': (entries, encoder.features), 'summary': (1, finals[-1]),
                       'nothing': (0, 0)}[model.reads]
    return encoder.flops(entries) + decoder.flops(targets, readable, width, _context_width(decoder.reader(), width),
                                                  finals)


def readable_floats(model: contract.EncoderDecoder, entries: int) -> int:
    """Floats of the source that the decoder may read at each step, for S = entries positions."""
    if isinstance(model, SequenceModel):
        return 0
    width = {'source': entries * model.encoder.features, 'summary': model.decoder.features, 'nothing': 0}
    return width[model.reads]


def kept_bytes(model: contract.EncoderDecoder, entries: int, targets: int) -> int | None:
    """Bytes kept of one sentence while it is decoded: the memory of S = entries, the carry of T = targets positions.

    None where the model cannot write step by step. Only shapes are computed.
    """
    if isinstance(model, SequenceModel) and not model.causal:
        return None

    def kept(rng):
        batch = blank_batch(1, entries, targets)
        params = contract.init(model, rng, batch)
        memory = contract.encode(model, params, batch.source, batch.source_places)
        return memory, contract.start(model, params, memory, targets)
    shapes = jax.eval_shape(kept, jax.random.key(0))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def _context_width(reader: Any, source_width: int) -> int:
    def read(rng):
        def call(reader):
            ones = np.ones((1, 1), np.int32)
            places = Places(ones, 0 * ones)
            memory = reader.remember(jnp.zeros((1, 1, source_width)), places)
            return reader(jnp.zeros((1, 1, reader.features)), memory, reader.start(memory, 1), places).context
        return nn.init_with_output(call, reader)(rng)[0]
    return jax.eval_shape(read, jax.random.key(0)).shape[-1]


# ------------------------------------------------------------------------------------------------ training and decoding

def optimiser(config: Config) -> optax.GradientTransformation:
    """Adam with the config's schedule, which has its highest value at 1: the rate is part of the state."""
    section = config.training
    schedule = optimisers.schedule(section.schedule, 1.0, section.warmup, section.steps)
    return optimisers.adam(schedule, b1=section.b1, b2=section.b2, epsilon=section.epsilon, clip=section.clip)


def loss_options(config: Config) -> dict[str, Any]:
    """The keyword arguments of training.step.train_step."""
    return {'label_smoothing': config.training.label_smoothing, 'chunk': config.training.chunk}


def loop(config: Config) -> Loop:
    """The loop's own numbers."""
    section = config.training
    return Loop(section.steps, section.report_every, section.evaluate_every, section.checkpoint_every,
                section.dev_sample)


def decoding(config: Config) -> Decoding:
    """How outputs are searched for."""
    section = config.decoding
    longest = (part.maximum_length if part.kind in ('transformer', 'sequence') and part.position == 'learned' else None
               for part in (config.encoder, config.decoder))
    return Decoding(section.beams, section.length_penalty, section.maximum_ratio, section.maximum_extra,
                    section.tokens, *longest)


def length_edges(config: Config) -> tuple[int, ...]:
    """Where the buckets of source length begin: '4,7' -> (1, 5, 8)."""
    words = config.evaluation.lengths.split(',')
    if not all(word.isascii() and word.isdigit() for word in words) or \
            any(int(low) >= int(high) for low, high in zip(['0', *words], words, strict=False)):
        raise UserError(f'evaluation.lengths is {config.evaluation.lengths!r}; it must be rising numbers joined by '
                        "commas, such as '4,7,10'")
    return (1, *(int(word) + 1 for word in words))


def seed(config: Config) -> int:
    """The seed of initial values, dropout and the order of the data."""
    return config.seed


def rate(config: Config) -> float:
    """The highest learning rate."""
    return config.training.learning_rate


def with_seed(config: Config, seed: int) -> Config:
    """The same config with another seed."""
    config = config.copy_and_resolve_references()
    config.seed = seed
    return config


def with_rate(config: Config, rate: float) -> Config:
    """The same config with another learning rate."""
    config = config.copy_and_resolve_references()
    config.training.learning_rate = rate
    return config


# ------------------------------------------------------------------------------------------------------------ identity

def text(config: Config) -> str:
    """The config as JSON with sorted keys: what is stored with a run."""
    return json.dumps(json.loads(config.to_json()), indent=2, sort_keys=True, allow_nan=False) + '\n'


def digest(config: Config) -> str:
    """Sixteen hexadecimal digits that name this config."""
    return hashlib.sha256(text(config).encode()).hexdigest()[:16]


def identity(config: Config, source: Vocabulary, target: Vocabulary) -> dict[str, str]:
    """What a checkpoint must agree in with the run that loads it."""
    return {'config': digest(config), 'source vocabulary': source.hash, 'target vocabulary': target.hash}


def load(workdir: str | pathlib.Path) -> Any:
    """The config of the run in a work directory; raises UserError when there is none."""
    from ml_collections import ConfigDict
    path = pathlib.Path(workdir) / 'config.json'
    if not path.is_file():
        raise UserError(f'{workdir} holds no run: there is no {path.name} in it. '
                        'Train one with python -m research.train --config=... --workdir=...')
    try:
        return ConfigDict(json.loads(path.read_text(encoding='utf-8')))
    except (ValueError, TypeError) as error:
        raise UserError(f'{path} is damaged: {error}') from None
