"""The only file that reads a config: from values to data, model, optimiser, and the numbers of the loop."""

import contextlib
import functools
import hashlib
import itertools
import json
import math
import pathlib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from research.decoding.contract import LENGTH_PENALTIES
from research.errors import UserError, nearest
from research.evaluation.translation import TOKENIZERS
from research.layers.embedding import Embedding
from research.layers.feed_forward import ACTIVATIONS
from research.layers.residual import NORMS
from research.models import contract, recurrent, transformer
from research.models.encoder_decoder import SequenceToSequence
from research.models.sequence import CellMixer, SequenceModel
from research.shapes import Places
from research.text import batches, corpus, labelled, pieces, prepared, pronunciation, sources, synthetic
from research.text import reversed as reversing
from research.text.reversed import Reversed
from research.text.store import Pairs, Store
from research.text.vocabulary import BEGIN, PAD, SPECIAL, UNITS, Vocabulary
from research.training import optimisers, scheduled_sampling, state
from research.training import step as steps
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
    pieces: bool = False  # whether these lines are pieces of running text, whose end is not asked for
    train: Store | None = None  # the training pairs as ids, where they are prepared; then corpus.train is empty
    found: Mapping[str, Mapping[str, int]] = types.MappingProxyType({})  # split -> kind of finding -> lines


class Plans(NamedTuple):
    """The batches of a run."""

    train: batches.Plan                          # shuffled anew each epoch
    dev: batches.BatchPlan                       # in order, once
    measured: tuple[tuple[int, int, int], ...]   # (B, S, T) of dev and test batches
    tokens: int                                  # of those batches
    pairs: int                                   # to train with, those that are too long among them


class Loop(NamedTuple):
    """The training loop's own numbers, in steps."""

    steps: int
    report_every: int
    evaluate_every: int
    checkpoint_every: int
    dev_sample: int
    keep: str                      # what decides which parameters are best: accuracy, loss or bleu
    patience: int                  # measurements without a better one after which the run ends; 0 = never
    enough: float                  # accuracy on dev at which, two measurements in a row, the run ends; 0 = never
    average: int                   # the mean of the parameters at so many last measurements is measured too
    plateau_patience: int | None   # measurements without a better one after which the rate falls; None = never
    plateau_factor: float


class Decoding(NamedTuple):
    """How outputs are searched for."""

    beams: int
    length_penalty: float
    penalise_by: str       # 'wu' or 'power': what a score is divided by
    coverage_penalty: float
    maximum_ratio: float
    maximum_extra: int
    tokens: int
    patience: float = 0.0
    longest_source: int | None = None  # positions that the encoder has a vector for; None = any number
    longest_target: int | None = None  # the same of the decoder

    def limit(self, entries: int) -> int:
        """The most symbols that may be written for a source of so many; both count their end symbol."""
        limit = int(self.maximum_ratio * entries) + self.maximum_extra
        return limit if self.longest_target is None else min(limit, self.longest_target)

    def describe(self) -> str:
        """For a score line."""
        if self.beams == 1:
            return 'greedy'
        coverage = f', coverage penalty {self.coverage_penalty:g}' if self.coverage_penalty else ''
        patience = f', patience {self.patience:g}' if self.patience else ''
        return f'beam {self.beams}, length penalty {self.length_penalty:g} ({self.penalise_by}){coverage}{patience}'


class Pretrained(NamedTuple):
    """An embedding that begins with the vectors of a file."""

    side: str                # source or target
    path: str                # of the file
    vocabulary: Vocabulary
    name: tuple[str, ...]    # of the table among the parameters
    lowercase: bool          # a symbol without a vector gets that of its lower case


# ---------------------------------------------------------------------------------------------------------- validation

def _at_least(low):
    return f'at least {low}', lambda value: value >= low


_POSITIVE = 'above 0', lambda value: value > 0
_SHARE = 'at least 0 and below 1', lambda value: 0 <= value < 1
_FLAG = 'True or False', lambda value: isinstance(value, bool)


def _one_of(names):
    return f'one of {", ".join(names)}', lambda value: value in names


PARALLEL, LANGUAGE_MODEL = 'parallel', 'language_model'
SPLITS = ('train', 'dev', 'test')
PACKED = 4  # mean pairs that a packed row has room for, at least
WITHOUT_SOURCE = (*labelled.TASKS, LANGUAGE_MODEL)
TASKS = ('pronunciation', *synthetic.TASKS, PARALLEL, *WITHOUT_SOURCE)

RULES = {
    'seed': ('at least 0 and below 2**32', lambda value: 0 <= value < 2**32),  # jax.random.key takes 32 bits
    'dtype': _one_of(('float32', 'bfloat16')),
    'start_from': ('text', lambda value: isinstance(value, str)),
    'data.task': _one_of(TASKS),
    'batches.tokens': _at_least(2),
    'batches.buckets': _at_least(1),
    'batches.packing': _FLAG,
    'batches.shape_seed': _at_least(0),
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
    'training.accumulate': _at_least(1),
    'training.plateau_patience': _at_least(1),
    'training.plateau_factor': ('above 0 and below 1', lambda value: 0 < value < 1),
    'training.weight_decay': _at_least(0),
    'training.r_drop': _at_least(0),
    'training.scheduled_sampling': _one_of(('none', *scheduled_sampling.DECAYS)),
    'training.sampling_steps': _at_least(1),
    'training.sampling_floor': ('at least 0 and at most 1', lambda value: 0 <= value <= 1),
    'training.ema': _SHARE,
    'training.average': _at_least(1),
    'training.remat': _one_of(('none', 'layers')),
    'training.frozen': ('text', lambda value: isinstance(value, str)),
    'training.keep': _one_of(('accuracy', 'loss', 'bleu')),
    'training.patience': _at_least(0),
    'training.enough': ('from 0 (never) to 1', lambda value: 0 <= value <= 1),
    'training.chunk': _at_least(1),
    'training.report_every': _at_least(1),
    'training.evaluate_every': _at_least(1),
    'training.checkpoint_every': _at_least(1),
    'training.dev_sample': _at_least(1),
    'decoding.beams': _at_least(1),
    'decoding.length_penalty': _at_least(0),
    'decoding.penalise_by': _one_of(tuple(LENGTH_PENALTIES)),
    'decoding.coverage_penalty': _at_least(0),
    'decoding.patience': _at_least(0),
    'decoding.maximum_ratio': _at_least(0),
    'decoding.maximum_extra': _at_least(1),
    'decoding.tokens': _at_least(1),
    'evaluation.tokenizer': _one_of(TOKENIZERS),
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
    f'data.{key}': _at_least(0) for key in ('seed', 'shortest', 'longest_test')}
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
    'data.source_language': _TEXT,
    'data.target_language': _TEXT,
    'data.skip': _TEXT,
    'data.longest_line': _at_least(1),
    'data.remove_spaces': _one_of(('none', 'source', 'target', 'both')),
    'data.reverse_source': _FLAG,
    'data.joint': _FLAG,
    'data.segmentations': _at_least(0),
    'data.segmentation_seed': _at_least(0),
    'data.sampling': ('above 0 and at most 1', lambda value: 0 < value <= 1),
    'data.source_vectors': _TEXT,
    'data.target_vectors': _TEXT,
    'data.lowercase_vectors': _FLAG,
    'data.prepared': _TEXT,
}
LANGUAGE_MODEL_RULES = {
    'data.train': _TEXT,
    'data.dev': _TEXT,
    'data.test': _TEXT,
    'data.unit': _one_of(UNITS),
    'data.size': _at_least(SPECIAL + 1),
    'data.length': _at_least(0),
    'data.test_length': _at_least(0),
}
RECURRENT_RULES = {
    'cell': _one_of(tuple(cells.CELLS)),
    'cell_path': _one_of(cells.PATHS),
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
    'activation': _one_of(ACTIVATIONS),
    'epsilon': _POSITIVE,
    'scale_embeddings': _FLAG,
}
SIDE_RULES = {
    ('encoder', 'recurrent'): RECURRENT_RULES | {'bidirectional': _FLAG, 'backward': _FLAG, 'share_embeddings': _FLAG},
    ('encoder', 'transformer'): TRANSFORMER_RULES | {'layers': _at_least(0), 'summary': _one_of(transformer.SUMMARIES),
                                                     'share_embeddings': _FLAG},
    ('decoder', 'recurrent'): RECURRENT_RULES | {
        'reads_with': _one_of(recurrent.READS_WITH), 'input_feeding': _FLAG,
        'start_state': _one_of(recurrent.START_STATES), 'tie_embeddings': _FLAG},
    ('decoder', 'transformer'): TRANSFORMER_RULES | {'tie_embeddings': _FLAG, 'softmax_bias': _FLAG},
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
    _check_training(config)
    _check_cell_paths(config)
    _check_corpus(config)
    if config.data.task == LANGUAGE_MODEL and not decoder.causal:
        raise UserError('decoder.causal is False; a language model must have True: it would see the symbols that it is '
                        'to say')
    if encoder.kind == 'recurrent' and encoder.bidirectional and encoder.backward:
        raise UserError('encoder.backward and encoder.bidirectional are True; an encoder of both directions reads '
                        'backward already: one of them must be False')
    if encoder.kind == 'recurrent' and encoder.bidirectional and encoder.features % 2:
        raise UserError(f'encoder.features is {encoder.features}; a bidirectional encoder has half of it in each '
                        'direction, so it must be even')
    for side in ('encoder', 'decoder'):
        part = config[side]
        if part.kind in ('transformer', 'sequence') and part.position.startswith('sinusoidal') and part.features % 2:
            raise UserError(f'{side}.features is {part.features}; sinusoidal positions need an even width')
    for part, causal in ((encoder, False), (decoder, True)):
        if part.kind == 'transformer':
            _mixer(part, causal)
    if decoder.kind == 'sequence':
        _mixer(decoder, decoder.causal)
        return
    _reader(decoder)
    reads = attention.VARIANTS[decoder.reader.name].reads
    if config.batches.packing and not model(config, SPECIAL + 1, SPECIAL + 1).packs():
        raise UserError(f'batches.packing is True, but in a {encoder.kind} encoder and a {decoder.kind} decoder with '
                        f'decoder.reader.name {decoder.reader.name!r} the sentences of a row would not stay apart: it '
                        'must be False, or both sides Transformers and the reader one that reads positions')
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


def _check_cell_paths(config: Config) -> None:
    for side in ('encoder', 'decoder'):
        part = config[side]
        if part.kind != 'recurrent' or part.cell_path == 'scan':
            continue
        cells.make(part.cell, part.features, config.dtype, part.cell_path)
        if side == 'decoder' and (part.reads_with != 'current' or part.input_feeding):
            raise UserError(f"decoder.cell_path is {part.cell_path!r}, and what is read enters the decoder's cell: it "
                            "must be 'scan', or decoder.reads_with 'current' and decoder.input_feeding False")
        if config.training.r_drop:
            raise UserError(f'{side}.cell_path is {part.cell_path!r}, which cannot make the two passes of '
                            f"training.r_drop = {config.training.r_drop} at once: it must be 'scan'")


def _check_training(config: Config) -> None:
    section = config.training
    if section.steps % section.accumulate:
        raise UserError(f'training.steps is {section.steps} and training.accumulate {section.accumulate}: what is '
                        'gathered after the last update would be lost; the first must be a multiple of the second')
    if config.start_from and config.data.task != PARALLEL:
        raise UserError(f'start_from is {config.start_from!r}, which is for pairs to translate, and data.task is '
                        f"{config.data.task!r}: it must be ''")
    if section.keep == 'bleu' and config.data.task != PARALLEL:
        raise UserError(f"training.keep is 'bleu', and data.task {config.data.task!r} has no translations to score: it "
                        "must be 'accuracy' or 'loss'")
    if section.r_drop and not any(part.dropout for part in (config.encoder, config.decoder) if part.kind != 'nothing'):
        raise UserError(f'training.r_drop is {section.r_drop} and no side has dropout: two passes would be the same, '
                        'at twice the cost; encoder.dropout or decoder.dropout must be above 0, or training.r_drop 0')
    if section.scheduled_sampling != 'none' and config.decoder.kind != 'recurrent':
        raise UserError(f'training.scheduled_sampling is {section.scheduled_sampling!r}, which is for recurrent '
                        f"decoders, and decoder.kind is {config.decoder.kind!r}: it must be 'none'")
    if section.remat != 'none' and not {config.encoder.kind, config.decoder.kind} & {'transformer', 'sequence'}:
        raise UserError(f'training.remat is {section.remat!r}, which is for Transformer layers, and both sides are '
                        "recurrent: it must be 'none'")
    if config.decoder.kind == 'sequence':
        if config.batches.packing:
            raise UserError("batches.packing is True, which is for pairs, and decoder.kind is 'sequence': it must be "
                            'False')
        return
    if config.encoder.share_embeddings and not (config.data.task == PARALLEL and (
            config.data.joint or config.start_from)):
        raise UserError('encoder.share_embeddings is True, but source and target have a vocabulary each: data.joint '
                        'must be True, too')


def _check_corpus(config: Config) -> None:
    section = config.data
    if section.task in labelled.TASKS:
        shortest, longest, longest_test = _labelled_lengths(section)
        for key, most in (('shortest', longest), ('longest_test', longest_test)):
            if shortest > most:
                raise UserError(f'data.{key} is {section[key]}: lines would have {shortest} positions at least and '
                                f'{most} at most; data.length is {section.length}, and data.shortest must not be above '
                                'it nor above data.longest_test')
    if section.task == LANGUAGE_MODEL:
        if section.length and section.unit not in pieces.TABLES:
            raise UserError(f'data.length is {section.length} and data.unit {section.unit!r}: running text is cut into '
                            f'pieces of {" or ".join(pieces.TABLES)} alone; data.length must be 0, or data.unit one of '
                            'these')
        if section.test_length and not section.length:
            raise UserError(f'data.test_length is {section.test_length} and data.length 0: where a line is a line to '
                            'learn from, it is one in test; data.test_length must be 0, or data.length above it')
    if section.task != PARALLEL:
        return
    for kind in left_out(config):
        if kind not in corpus.KINDS:
            raise UserError(f'data.skip is {section.skip!r} and {kind!r} is no kind; it must be some of '
                            f'{", ".join(corpus.KINDS)}, joined by commas.{nearest(kind, corpus.KINDS)}')
    if section.joint and not config.start_from:
        for key in ('unit', 'size'):
            if section[f'source_{key}'] != section[f'target_{key}']:
                raise UserError(f'data.joint is True, data.source_{key} {section[f"source_{key}"]!r} and '
                                f'data.target_{key} {section[f"target_{key}"]!r}: one vocabulary for both sides has '
                                f'one {key}, so they must be the same')
    filled = [f'data.{side}_vectors' for side in ('source', 'target') if section[f'{side}_vectors']]
    if filled and config.start_from:
        raise UserError(f'{filled[0]} and start_from both say what the embedding begins with: one must be '
                        "''")
    if filled[1:] and config.encoder.share_embeddings:
        raise UserError(f'{" and ".join(filled)} are for one embedding, because encoder.share_embeddings is True: one '
                        "must be ''")
    if not section.segmentations:
        return
    if not section.prepared:
        raise UserError(f"data.segmentations is {section.segmentations} and data.prepared '': research.prepare makes "
                        'them in the folder that data.prepared names')
    # What another run has is known when its vocabularies are read.
    for key in () if config.start_from else ('source_unit', 'target_unit'):
        if section[key] not in prepared.SAMPLED:
            raise UserError(f'data.segmentations is {section.segmentations} and data.{key} {section[key]!r}, which '
                            f'cuts a line in one way: it must be {" or ".join(prepared.SAMPLED)}')


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

def data(config: Config, made: tuple[Vocabulary, Vocabulary] | None = None) -> Data:
    """Reads or makes the corpus, and builds its vocabularies from the training pairs.

    `made` are those of a run on pairs to translate, whose subwords would take long to make anew.
    """
    section = config.data
    if section.task == PARALLEL:
        return _prepared(config) if section.prepared else _parallel(config, made)
    if section.task == 'pronunciation':
        return _pairs(pronunciation.read(section.file), 'characters')
    if section.task in labelled.TASKS:
        shortest, longest, longest_test = _labelled_lengths(section)
        texts = labelled.make(section.task, train=section.train, dev=section.dev, test=section.test,
                              lengths=(shortest, longest), test_lengths=(shortest, longest_test),
                              symbols=section.symbols, size=section.size, seed=section.seed)
        both = Vocabulary.build((line for pair in texts.train for line in pair[:2]), 'words')
        return Data(texts, both, both, _corpus_digest(texts), labelled=True)
    if section.task == LANGUAGE_MODEL:
        texts = corpus.Corpus(*(_lines(key, section[key]) for key in SPLITS))
        if section.length:
            sizes = (section.length, section.length, section.test_length or section.length)
            texts = corpus.Corpus(*(_cut(pairs, section.unit, size) for pairs, size in zip(texts, sizes)))
        both = _vocabulary('data.size', (pair.target for pair in texts.train), section.unit, section.size)
        return Data(texts, both, both, _corpus_digest(texts), next_symbols=True, pieces=section.length > 0)
    return _pairs(synthetic.make(section.task, train=section.train, dev=section.dev, test=section.test,
                                 lengths=(section.shortest, section.longest),
                                 test_lengths=(section.shortest, section.longest_test),
                                 symbols=section.symbols, seed=section.seed), 'words')


def _labelled_lengths(section: Config) -> tuple[int, int, int]:
    """The fewest positions of a line, the most, and the most in test: 0 stands for data.length."""
    return section.shortest or section.length, section.length, section.longest_test or section.length


def _pairs(texts: corpus.Corpus, source_unit: str) -> Data:
    """Pairs whose targets are words, all of whose symbols have an id."""
    source, target = (Vocabulary.build((pair[side] for pair in texts.train), unit)
                      for side, unit in enumerate((source_unit, 'words')))
    return Data(texts, source, target, _corpus_digest(texts))


def _parallel(config: Config, made: tuple[Vocabulary, Vocabulary] | None) -> Data:
    """Everything in memory."""
    findings = {split: corpus.Findings() for split in SPLITS}
    texts = corpus.Corpus(*(list(read_split(config, split, findings[split])) for split in SPLITS))
    source, target = made or vocabularies(config, lambda: iter(texts.train))
    return Data(texts, source, target, prepared.corpus_digest([prepared.split_digest(pairs) for pairs in texts]),
                found=_counted(findings))


def _prepared(config: Config) -> Data:
    """The training pairs from the folder that research.prepare wrote; dev and test, which are small, from files."""
    folder = prepared.Prepared.open(config.data.prepared, preparation(config))
    findings = {split: corpus.Findings() for split in SPLITS[1:]}
    rest = [list(read_split(config, split, findings[split])) for split in SPLITS[1:]]
    texts = corpus.Corpus([], *rest)
    return Data(texts, folder.source, folder.target, folder.digest(texts), train=folder.pairs,
                found={'train': folder.found} | _counted(findings))


def preparation(config: Config) -> dict[str, Any]:
    """What decides a prepared corpus: the data section but for dev and test, and the seed of what is random in it."""
    other = ('task', 'dev', 'test', 'prepared', 'source_vectors', 'target_vectors', 'lowercase_vectors')
    values = {f'data.{key}': config.data[key] for key in config.data.keys() if key not in other}  # noqa: SIM118
    return values | {'start_from': config.start_from}


def prepare(config: Config, progress: prepared.Progress) -> prepared.Prepared:
    """Writes the folder data.prepared; raises UserError where there is none to write, or as `prepared.prepare`."""
    section = config.data
    if section.task != PARALLEL or not section.prepared:
        raise UserError('data.prepared is not set: say with --config.data.prepared=FOLDER where the prepared corpus is '
                        'to be; the config must be one for pairs to translate (data.task = parallel)')
    names = [] if section.train.startswith((sources.HUGGING_FACE, sources.SACREBLEU)) else section.train.split(',')
    return prepared.prepare(section.prepared, preparation(config),
                            lambda findings: read_split(config, 'train', findings),
                            lambda pairs: vocabularies(config, pairs), names, section.segmentations, section.sampling,
                            section.segmentation_seed, progress)


def _counted(findings):
    return {split: dict(found.counts) for split, found in findings.items() if found.counts}


def read_split(config: Config, split: str, findings: corpus.Findings | None) -> Iterator[corpus.Pair]:
    """The pairs of train, dev or test to translate, one after another; what is wrong with a line goes to `findings`."""
    section = config.data
    if not section[split]:
        raise UserError(f"data.{split} is ''; it must be SOURCE,TARGET (two files aligned by line), a .tsv or .jsonl "
                        'file, huggingface:NAME@REVISION:SPLIT or sacrebleu:TESTSET')
    found = sources.pairs(section[split], columns=section.columns, source=section.source_language,
                          target=section.target_language,
                          skip=left_out(config), longest=section.longest_line,
                          findings=corpus.Findings() if findings is None else findings)
    source, target = source_line(config), target_line(config)
    with contextlib.closing(found):  # whoever stops before the end leaves no file open
        for pair in found:
            yield corpus.Pair(source(pair.source), target(pair.target), pair.others, pair.alignment)


def prepared_folder(config: Config) -> str:
    """Where the prepared corpus is, or is to be."""
    return config.data.prepared


def left_out(config: Config) -> frozenset[str]:
    """The kinds of bad lines that are left out of the corpus."""
    return frozenset(kind for kind in config.data.skip.split(',') if kind)


def vocabularies(config: Config, pairs: Callable[[], Iterable[corpus.Pair]]) -> tuple[Vocabulary, Vocabulary]:
    """Those of both sides; `pairs` gives the training pairs anew each time."""
    section = config.data
    if config.start_from:
        return _vocabularies_of(config)
    if section.joint:
        both = _vocabulary('data.source_size', (line for pair in pairs() for line in pair[:2]), section.source_unit,
                           section.source_size)
        source, target = both, both
    else:
        source, target = (_vocabulary(f'data.{name}_size', (pair[side] for pair in pairs()), section[f'{name}_unit'],
                                      section[f'{name}_size']) for side, name in enumerate(('source', 'target')))
    return (Reversed(source) if section.reverse_source else source), target


def _vocabulary(key: str, lines: Iterable[str], unit: str, size: int) -> Vocabulary:
    """Of some lines; what does not suit them is the size, which has this key."""
    try:
        return Vocabulary.build(lines, unit, size)
    except UserError as error:
        raise UserError(f'{key} is {size}: {error}') from None


def _vocabularies_of(config: Config) -> tuple[Vocabulary, Vocabulary]:
    """Those of the run that this one starts from."""
    source, target = (vocabulary_file(pathlib.Path(config.start_from) / f'{side}_vocabulary.json')
                      for side in ('source', 'target'))
    if isinstance(source, Reversed) != config.data.reverse_source:
        raise UserError(f'data.reverse_source is {config.data.reverse_source}, and the source of {config.start_from} '
                        f'is {"" if isinstance(source, Reversed) else "not "}reversed: both must be the same')
    return source, target


def vocabulary_file(path: pathlib.Path) -> Vocabulary:
    """A vocabulary of a work directory."""
    if not path.is_file():
        raise UserError(f'{path} is missing: the run in this work directory is not whole')
    try:
        return reversing.from_json(path.read_text(encoding='utf-8'))
    except (UserError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: {error}') from None


def source_line(config: Config) -> Callable[[str], str]:
    """What becomes of a line of the source's text before it is read: as with the sources of the corpus."""
    return _line_of(config, 'source')


def target_line(config: Config) -> Callable[[str], str]:
    """The same of a line of the target's text: of a prefix, or of what is scored."""
    return _line_of(config, 'target')


def _line_of(config: Config, side: str) -> Callable[[str], str]:
    if config.data.task == PARALLEL and config.data.remove_spaces in (side, 'both'):
        return lambda line: line.replace(' ', '')
    return lambda line: line


def _corpus_digest(texts: corpus.Corpus) -> str:
    return prepared.split_digest(itertools.chain(*texts))[:16]


def _lines(key: str, path: str) -> list[corpus.Pair]:
    if not path:
        raise UserError(f'data.{key} is {path!r}; it must name a file of text, plain or .gz, with a line for each '
                        'sequence')
    return corpus.read_text(path)


def _cut(pairs: list[corpus.Pair], unit: str, length: int) -> list[corpus.Pair]:
    return [corpus.Pair('', piece.text) for piece in pieces.pieces((pair.target for pair in pairs), unit, length)]


def symbol_counts(texts: Data, side: str, most: int = 100_000) -> np.ndarray:
    """How often each symbol stands on a side of the training text, special ones never: int64 [V].

    Of more than `most` pairs so many at even distances are counted.
    """
    where, vocabulary = ('source', 'target').index(side), getattr(texts, side)
    count = len(texts.corpus.train) if texts.train is None else len(texts.train)
    chosen = np.linspace(0, count - 1, min(count, most)).astype(int)
    lines = (vocabulary.encode(texts.corpus.train[index][where]) if texts.train is None else texts.train[index][where]
             for index in chosen)
    counts = sum(np.bincount(ids, minlength=len(vocabulary)) for ids in lines)
    counts[:SPECIAL] = 0
    return counts


def plans(config: Config, texts: Data) -> Plans:
    """The batches of a run: the same few shapes to train and to measure, and one more where dev or test is longer."""
    section = config.batches
    train = Pairs(encoded(texts, texts.corpus.train)) if texts.train is None else texts.train
    fits = train.cells[(train.cells[:, :2] <= (section.maximum_source, section.maximum_target)).all(axis=1)]
    if not len(fits):
        raise UserError('every training pair is longer than batches.maximum_source or batches.maximum_target')
    buckets = batches.choose_buckets(fits[:, :2], section.buckets, fits[:, 2])
    dev, test = encoded(texts, texts.corpus.dev), encoded(texts, texts.corpus.test)
    wider = tuple(max(sizes) for sizes in zip(*buckets, *((len(pair[0]), len(pair[1])) for pair in (*dev, *test)),
                                              strict=True))
    wide = buckets if wider in buckets else (*buckets, wider)
    tokens = max(section.tokens, sum(wider))
    dev_plan = batches.BatchPlan(dev, wide, tokens, labelled=texts.labelled)
    shapes = dict.fromkeys((*dev_plan.shapes, *batches.BatchPlan(test, wide, tokens).shapes))
    if section.packing:
        positions = _row(fits, section.tokens)
        if section.tokens < positions:
            raise UserError(f'batches.tokens is {section.tokens}, and a packed row of the longest source and the '
                            f'longest target takes {positions}; it must be at least that')
        S, T = batches.choose_row(fits[:, :2], positions, fits[:, 2])
        plan = batches.PackedPlan(train, (S, T), section.tokens // (S + T), config.seed,
                                  (section.maximum_source, section.maximum_target))
    else:
        plan = batches.BatchPlan(train, buckets, section.tokens, config.seed, texts.labelled,
                                 section.shape_seed or None)
    return Plans(plan, dev_plan, tuple(shapes), tokens, len(train))


def _row(cells: np.ndarray, most: int) -> int:
    """Positions of a packed row: those of PACKED mean pairs but not above `most`, and what the longest sides need."""
    lengths, times = cells[:, :2], cells[:, 2]
    longest = int(lengths.max(axis=0).sum())
    mean = float((lengths.sum(axis=1) * times).sum() / times.sum())
    return max(longest, min(most, math.ceil(PACKED * mean)))


def measuring_plan(texts: Data, pairs: Sequence[corpus.Pair], planned: Plans) -> batches.BatchPlan:
    """Batches of any dev or test pairs, in order, in the shapes that a run measures with."""
    return batches.BatchPlan(encoded(texts, pairs), [(S, T) for _, S, T in planned.measured], planned.tokens,
                             labelled=texts.labelled)


def sample_plan(texts: Data, pairs: Sequence[corpus.Pair], rows: int = 32, shapes: int = 1) -> batches.BatchPlan:
    """Batches of any pairs, in order, in at most so many shapes, at least `rows` a batch: to look at a model."""
    ids = encoded(texts, pairs)
    buckets = batches.choose_buckets([(len(left), len(right)) for left, right in ids], shapes)
    return batches.BatchPlan(ids, buckets, rows * max(sum(bucket) for bucket in buckets), labelled=texts.labelled)


def encoded(texts: Data, pairs: Sequence[corpus.Pair]) -> list[tuple]:
    """Source and target ids of pairs, as training and measuring see them."""
    if texts.labelled:  # no position is added: the end is not asked for
        nothing = texts.target.encode(labelled.NOTHING)[0]
        found = [(texts.source.encode(pair.source)[:-1], texts.target.encode(pair.target)[:-1]) for pair in pairs]
        return [(symbols, np.where(labels == nothing, PAD, labels)) for symbols, labels in found]
    if texts.pieces:
        return [(texts.source.encode(pair.source), texts.target.encode(pair.target)[:-1]) for pair in pairs]
    return [(texts.source.encode(pair.source), texts.target.encode(pair.target)) for pair in pairs]


# --------------------------------------------------------------------------------------------------------------- model

def model(config: Config, source_size: int, target_size: int) -> contract.EncoderDecoder:
    """The model for vocabularies of the given sizes."""
    dtype, part, remat = jnp.dtype(config.dtype), config.decoder, config.training.remat == 'layers'
    if part.kind == 'sequence':
        packs = part.mixer.name != 'cell' and attention.VARIANTS[part.mixer.name].packing
        return SequenceModel(target_size, part.features, part.hidden, part.layers,
                             functools.partial(_mixer, part, dtype=dtype), part.causal, part.norm, part.position,
                             part.maximum_length, part.tie_embeddings, packs, part.dropout, dtype,
                             part.scale_embeddings, part.activation, part.epsilon, remat)
    reads = attention.VARIANTS[config.decoder.reader.name].reads
    shared = None
    if config.encoder.share_embeddings:
        width, scaled = ((part.embedding_features, True) if part.kind == 'recurrent' else
                         (part.features, part.scale_embeddings))
        shared = Embedding(target_size, width, dtype, scaled)
    return SequenceToSequence(_encoder(config.encoder, source_size, dtype, shared, remat),
                              _decoder(config.decoder, target_size, reads, dtype, shared, remat), reads,
                              embedding=shared)


def _encoder(part: Config, size: int, dtype: Any, shared: Embedding | None, remat: bool) -> Any:
    if part.kind == 'recurrent':
        return recurrent.RecurrentEncoder(
            size, part.embedding_features, part.features, part.layers,
            functools.partial(cells.make, part.cell, dtype=dtype, path=part.cell_path), part.bidirectional,
            part.dropout, dtype, shared, part.backward)
    return transformer.TransformerEncoder(
        size, part.features, part.hidden, part.layers, functools.partial(_mixer, part, dtype=dtype), part.norm,
        part.position, part.maximum_length, part.summary, part.dropout, dtype, shared, part.scale_embeddings,
        part.activation, part.epsilon, remat)


def _decoder(part: Config, size: int, reads: str, dtype: Any, shared: Embedding | None, remat: bool) -> Any:
    reader = functools.partial(_reader, part, dtype=dtype)
    if part.kind == 'recurrent':
        return recurrent.RecurrentDecoder(
            size, part.embedding_features, part.features, part.layers,
            functools.partial(cells.make, part.cell, dtype=dtype, path=part.cell_path), reader, part.reads_with,
            part.input_feeding, part.start_state, part.tie_embeddings, part.dropout, dtype, shared)
    return transformer.TransformerDecoder(
        size, part.features, part.hidden, part.layers, functools.partial(_mixer, part, dtype=dtype), reader, reads,
        part.norm, part.position, part.maximum_length, part.tie_embeddings, part.dropout, dtype, shared,
        part.scale_embeddings, part.activation, part.epsilon, part.softmax_bias, remat)


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
    return jax.eval_shape(lambda: contract.init(model, jax.random.key(0), blank_batch(2, source, target)))


def check_params(expected: Any, found: Any) -> None:
    """Raises UserError where found parameters have other names, shapes or types than those that a model expects."""
    shapes = [{jax.tree_util.keystr(path, simple=True, separator='.'): f'{leaf.dtype}{list(leaf.shape)}'
               for path, leaf in jax.tree.leaves_with_path(tree)} for tree in (expected, found)]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        here, there = (side.get(name, 'absent') for side in shapes)
        if here != there:
            raise UserError(f'parameter {name} is {there} there and {here} in this model: encoder and decoder must be '
                            'those of the run or checkpoint that is gone on from')


def parameters(model: contract.EncoderDecoder) -> tuple[int, int]:
    """How many numbers are learned: all, and without embeddings and the projection to the vocabulary."""
    sizes = {jax.tree_util.keystr(path): math.prod(leaf.shape)
             for path, leaf in jax.tree.leaves_with_path(abstract_params(model))}
    lexical = sum(size for name, size in sizes.items() if any(
        part in name for part in ('embedding', 'softmax', 'scores_bias')))
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


def step_flops(config: Config, model: contract.EncoderDecoder) -> Callable[[tuple[int, int, int]], float]:
    """Makes the function (B, S, T) -> model FLOPs of a step of training on a batch of this shape.

    Of all positions that are computed, padding among them: B flops(S, T) forward and twice that backward; that of two
    passes with R-Drop, and one more forward where the decoder reads its own symbols. What is made again (the scores of
    each chunk, `path` chunked, remat) and the optimiser are not counted; a frozen parameter counts as any other.

    Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B (model FLOPs utilisation). Differs: embeddings cost
    nothing, and what an architecture has beside matrix products is counted as its part says.
    """
    section = config.training
    passes = 3 * (2 if section.r_drop else 1) + (section.scheduled_sampling != 'none')
    return functools.cache(lambda shape: passes * shape[0] * flops(model, *shape[1:]))


def dtype(config: Config) -> str:
    """What is computed in."""
    return config.dtype


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

    def kept():
        batch = blank_batch(1, entries, targets)
        params = contract.init(model, jax.random.key(0), batch)
        memory = contract.encode(model, params, batch.source, batch.source_places)
        return memory, contract.start(model, params, memory, targets)
    shapes = jax.eval_shape(kept)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def _context_width(reader: Any, source_width: int) -> int:
    def read():
        def call(reader):
            ones = np.ones((1, 1), np.int32)
            places = Places(ones, 0 * ones)
            memory = reader.remember(jnp.zeros((1, 1, source_width)), places)
            return reader(jnp.zeros((1, 1, reader.features)), memory, reader.start(memory, 1), places).context
        return nn.init_with_output(call, reader)(jax.random.key(0))[0]
    return jax.eval_shape(read).shape[-1]


# ------------------------------------------------------------------------------------------------ training and decoding

def optimiser(config: Config) -> optax.GradientTransformation:
    """Adam with the config's schedule, which has its highest value at 1: the rate is part of the state."""
    section = config.training
    schedule = optimisers.schedule(section.schedule, 1.0, section.warmup, section.steps, section.accumulate)
    adam = optimisers.adam(schedule, b1=section.b1, b2=section.b2, epsilon=section.epsilon, clip=section.clip,
                           weight_decay=section.weight_decay)
    return optimisers.frozen(adam, _frozen(section.frozen))


def _frozen(names: str) -> tuple[str, ...]:
    return tuple(name for name in names.split(',') if name)


def check_frozen(config: Config, params: Any) -> None:
    """Raises UserError where training.frozen names no parameter, or leaves none to learn; only names count."""
    names = _frozen(config.training.frozen)
    try:
        stays = jax.tree.leaves(optimisers.chosen(params, names))
    except UserError as error:
        raise UserError(f'training.frozen is {config.training.frozen!r}: {error}') from None
    if all(stays):
        raise UserError(f'training.frozen is {config.training.frozen!r}, which is every parameter: one must be left to '
                        'learn')


def begin(config: Config, model: contract.EncoderDecoder, optimiser: optax.GradientTransformation, rng: Any, rate: Any,
          batch: Any) -> state.State:
    """The state before the first step; only the shapes of the batch matter."""
    return state.start(model, optimiser, rng, rate, batch, accumulate=config.training.accumulate,
                       ema=config.training.ema)


def train_step(config: Config, model: contract.EncoderDecoder, optimiser: optax.GradientTransformation) -> Callable:
    """The function (state, batch) -> (state, metrics) of one batch."""
    section = config.training
    step = steps.train_step(model, optimiser, label_smoothing=section.label_smoothing, chunk=section.chunk,
                            r_drop=section.r_drop, frozen=_frozen(section.frozen), accumulate=section.accumulate,
                            ema=section.ema)
    if section.scheduled_sampling == 'none':
        return step
    share = scheduled_sampling.probability(section.scheduled_sampling, section.sampling_steps, section.sampling_floor)
    return scheduled_sampling.train_step(model, step, share, never=(PAD, BEGIN))


def check_several(config: Config, plan: batches.Plan) -> None:
    """Raises UserError where several seeds cannot be trained in one program."""
    if not plan.shapes_without_seed:
        raise UserError(f'batches.shape_seed is {config.batches.shape_seed}, so the {len(plan.shapes)} shapes of '
                        'batches come in another order with each seed: for several seeds in one program it must be at '
                        'least 1, or batches.buckets 1')
    for side in ('encoder', 'decoder'):
        if config[side].kind == 'recurrent' and config[side].cell_path != 'scan':
            raise UserError(f'{side}.cell_path is {config[side].cell_path!r}, which trains one seed at a time: for '
                            "several in one program it must be 'scan'")


def chunk(config: Config) -> int:
    """Rows of [B x T, V] scores made at a time."""
    return config.training.chunk


def pretrained(config: Config, source: Vocabulary, target: Vocabulary) -> list[Pretrained]:
    """Which embeddings begin with the vectors of a file."""
    if config.data.task != PARALLEL:
        return []
    section, found = config.data, []
    shared = config.encoder.share_embeddings
    for side, vocabulary in (('source', source), ('target', target)):
        path = section[f'{side}_vectors']
        part = config['encoder' if side == 'source' else 'decoder']
        inner = ('embedding',) if part.kind == 'recurrent' else ('entrance', 'embedding')
        name = ('embedding',) if shared else ('encoder' if side == 'source' else 'decoder', *inner)
        if path:
            found.append(Pretrained(side, path, vocabulary, (*name, 'table'), section.lowercase_vectors))
    return found


def loop(config: Config) -> Loop:
    """The loop's own numbers."""
    section = config.training
    return Loop(section.steps, section.report_every, section.evaluate_every, section.checkpoint_every,
                section.dev_sample, section.keep, section.patience, section.enough, section.average,
                section.plateau_patience if section.schedule == 'plateau' else None, section.plateau_factor)


def decoding(config: Config) -> Decoding:
    """How outputs are searched for."""
    section = config.decoding
    longest = (part.maximum_length if part.kind in ('transformer', 'sequence') and part.position == 'learned' else None
               for part in (config.encoder, config.decoder))
    return Decoding(section.beams, section.length_penalty, section.penalise_by, section.coverage_penalty,
                    section.maximum_ratio, section.maximum_extra, section.tokens, section.patience, *longest)


def tokenizer(config: Config) -> str | None:
    """sacreBLEU's tokenizer for the outputs; None where they are no translations."""
    name = config.evaluation.tokenizer
    return name if config.data.task == PARALLEL else None


def target_language(config: Config) -> str:
    """Of the outputs; '' where it is not said."""
    return config.data.target_language


def averaged(config: Config, mean: bool) -> str:
    """How kept parameters were averaged, for a score line; `mean` says whether they are a mean of measurements."""
    parts = [f'mean of the last {config.training.average} measurements'] if mean else []
    parts += [f'moving average {config.training.ema:g}'] if config.training.ema else []
    return ', '.join(parts)


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


def start_from(config: Config) -> str:
    """The work directory of the run that this one goes on from; '' = none."""
    return config.start_from


def with_model(config: Config, sections: dict[str, Any]) -> Config:
    """The same config with the encoder and the decoder of a checkpoint."""
    config = config.copy_and_resolve_references()
    sections = json.loads(json.dumps(sections))
    sections['encoder']['share_embeddings'] = sections.pop('share_embeddings')
    with config.unlocked():
        config.encoder, config.decoder = sections['encoder'], sections['decoder']
        config.data.joint = sections['encoder']['share_embeddings']
    return config


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
    return _json(json.loads(config.to_json()))


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + '\n'


# Keys that were added after the first configs were written, and the value that means what was before there were any.
# A digest does not know of them where they have it, so it stays what it was; an old config is read as if it had them.
ADDED = (  # section ('' = none), kind or task of it (None = any), keys
    ('', None, {'start_from': ''}),
    ('data', PARALLEL, {
        'source_language': '', 'target_language': '', 'skip': '', 'longest_line': 20_000, 'remove_spaces': 'none',
        'reverse_source': False, 'joint': False, 'segmentations': 0, 'segmentation_seed': 1, 'sampling': 0.1,
        'source_vectors': '',
        'target_vectors': '', 'lowercase_vectors': False, 'prepared': ''}),
    ('data', LANGUAGE_MODEL, {'length': 0, 'test_length': 0}),
    *(('data', task, {'shortest': 0, 'longest_test': 0}) for task in labelled.TASKS),
    ('batches', None, {'packing': False, 'shape_seed': 0}),
    ('encoder', 'recurrent', {'share_embeddings': False, 'cell_path': 'scan', 'backward': False}),
    ('decoder', 'recurrent', {'cell_path': 'scan'}),
    ('encoder', 'transformer', {'share_embeddings': False, 'scale_embeddings': True, 'activation': 'relu',
                                'epsilon': 1e-6}),
    ('decoder', 'transformer', {'scale_embeddings': True, 'activation': 'relu', 'epsilon': 1e-6,
                                'softmax_bias': False}),
    ('decoder', 'sequence', {'scale_embeddings': True, 'activation': 'relu', 'epsilon': 1e-6}),
    ('training', None, {
        'accumulate': 1, 'plateau_patience': 3, 'plateau_factor': 0.5, 'weight_decay': 0.0, 'r_drop': 0.0,
        'scheduled_sampling': 'none', 'sampling_steps': 2000, 'sampling_floor': 0.5, 'ema': 0.0, 'average': 1,
        'frozen': '', 'keep': 'accuracy', 'patience': 0, 'enough': 0.0, 'remat': 'none'}),
    ('decoding', None, {'penalise_by': 'wu', 'coverage_penalty': 0.0, 'patience': 0.0}),
    ('evaluation', None, {'tokenizer': '13a'}),
)


def _added(config: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The sections of a config, as dicts, that keys were added to, and these keys with their values of before."""
    for section, kind, keys in ADDED:
        node = config[section] if section else config
        if kind in (None, node.get('kind', node.get('task'))):
            if section == 'training' and config['data']['task'] == LANGUAGE_MODEL:
                keys = keys | {'keep': 'loss'}  # a language model was always kept by its loss
            yield node, keys


def digest(config: Config) -> str:
    """Sixteen hexadecimal digits that name this config."""
    values = json.loads(config.to_json())
    for node, keys in _added(values):
        for key, value in keys.items():
            if key in node and node[key] == value:
                del node[key]
    return hashlib.sha256(_json(values).encode()).hexdigest()[:16]


def identity(config: Config, source: Vocabulary, target: Vocabulary) -> dict[str, str]:
    """What a checkpoint must agree in with the run that loads it."""
    return {'config': digest(config), 'source vocabulary': source.hash, 'target vocabulary': target.hash}


def completed(stored: str) -> str:
    """A stored config with the keys that were added since it was written; ValueError and others where it is damaged."""
    values = json.loads(stored)
    for node, keys in _added(values):
        node.update({key: value for key, value in keys.items() if key not in node})
    return _json(values)


def load(workdir: str | pathlib.Path) -> Any:
    """The config of the run in a work directory; raises UserError when there is none."""
    from ml_collections import ConfigDict
    path = pathlib.Path(workdir) / 'config.json'
    if not path.is_file():
        raise UserError(f'{workdir} holds no run: there is no {path.name} in it. '
                        'Train one with python -m research.train --config=... --workdir=...')
    try:
        return ConfigDict(json.loads(completed(path.read_text(encoding='utf-8'))))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f'{path} is damaged: {error}') from None
