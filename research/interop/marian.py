"""A Marian checkpoint in the format of Hugging Face, to translate with or to train on.

    <folder>/config.json, model.safetensors    the model
    <folder>/source.spm, target.spm            what cuts the lines of each side
    <folder>/vocab.json                        piece -> id; target_vocab.json for the target where it has its own

Marian begins with its pad and never writes it, as BEGIN here: the row of Marian's pad becomes that of BEGIN. PAD is
a row of zeros that nothing reads, with a score that keeps its probability below 1e-30 beside others of usual size.

    id here     0    1             2     3      4, 5, ...
    Marian's    -    pad_token_id  </s>  <unk>  the other pieces, in the order of their ids
"""

import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from research.attention.positions import sinusoidal
from research.errors import UserError
from research.interop.portable import read_tensors, unflatten
from research.text.marian import Marian
from research.text.vocabulary import PAD

PAD_SCORE = -100.0
BEGIN, END, UNKNOWN = '<pad>', '</s>', '<unk>'
ACTIVATIONS = {'relu': 'relu', 'gelu': 'gelu', 'gelu_new': 'gelu_tanh', 'swish': 'swish', 'silu': 'swish'}
NUMBERS = ('d_model', 'vocab_size', 'max_position_embeddings', 'pad_token_id', 'eos_token_id', *(
    f'{side}_{what}' for side in ('encoder', 'decoder') for what in ('layers', 'ffn_dim', 'attention_heads')))
# What must stand in the config where the key is there at all: older files state what newer ones do not know.
FIXED = {'model_type': 'marian', 'is_encoder_decoder': True, 'normalize_before': False, 'normalize_embedding': False,
         'add_final_layer_norm': False, 'add_bias_logits': False, 'static_position_embeddings': True}
TYPES = ('float32', 'float16', 'bfloat16')


class Checkpoint(NamedTuple):
    """What a folder holds, in the terms of this project."""

    config: dict[str, Any]  # encoder and decoder, as sections of a run's config
    params: Any             # nested dicts of float32 arrays
    source: Marian
    target: Marian


def load(folder: str | os.PathLike) -> Checkpoint:
    """Reads a checkpoint as transformers' `save_pretrained` of model and tokenizer writes it.

    Returns:
      The sections encoder, decoder and share_embeddings of a config, the parameters of that model in float32, and
      both vocabularies, whose ids are those of its embeddings.

    Raises:
      UserError: a file is absent or damaged, the config says what no model here does (which key is named), or tensors
        are missing, are of another shape or type, or are left over (which are named).

    Source: transformers, models/marian/modeling_marian.py. Differs: any number of positions; one rate of dropout for
    all places, none for attention weights and whole layers; how it was decoded (beams, lengths) is not taken over.
    """
    folder = pathlib.Path(folder)
    said = _config(folder / 'config.json')
    shares = said['share_encoder_decoder_embeddings']
    source, source_rows = _vocabulary(folder / 'vocab.json', folder / 'source.spm', said, 'vocab_size')
    own = folder / 'target_vocab.json'
    target, target_rows = _vocabulary(folder / 'vocab.json' if shares or not own.is_file() else own,
                                      folder / 'target.spm', said, 'vocab_size' if shares else 'decoder_vocab_size')
    tensors = _Tensors(folder / 'model.safetensors')
    found = _parameters(tensors, said, source_rows, target_rows)
    tensors.none_left()
    return Checkpoint({'encoder': _side(said, 'encoder') | {'summary': 'mean'},
                       'decoder': _side(said, 'decoder') | {
                           'reader': _attention(said, 'decoder'), 'softmax_bias': True,
                           'tie_embeddings': said['tie_word_embeddings']},
                       'share_embeddings': shares},
                      unflatten(found, tensors.path), source, target)


def _config(path):
    """The config, complete: every key that is read stands in it."""
    said = _read_json(path)
    for key, wanted in FIXED.items():
        if said.get(key, wanted) != wanted:
            raise UserError(f'{path}: {key} is {said[key]!r}; only {wanted!r} can be read')
    said = {'share_encoder_decoder_embeddings': True, 'tie_word_embeddings': True, 'scale_embedding': False} | said
    said['decoder_vocab_size'] = said.get('decoder_vocab_size') or said.get('vocab_size')
    said.setdefault('decoder_start_token_id', said.get('pad_token_id'))
    for key in (*NUMBERS, 'decoder_vocab_size'):
        if type(said.get(key)) is not int or said[key] < 0:
            raise UserError(f'{path}: {key} is {said.get(key)!r}; it must be a whole number')
    for key in ('share_encoder_decoder_embeddings', 'tie_word_embeddings', 'scale_embedding'):
        if type(said[key]) is not bool:
            raise UserError(f'{path}: {key} is {said[key]!r}; it must be true or false')
    if said.get('activation_function') not in ACTIVATIONS:
        raise UserError(f'{path}: activation_function is {said.get("activation_function")!r}; it must be one of '
                        f'{", ".join(ACTIVATIONS)}')
    if said['decoder_start_token_id'] != said['pad_token_id']:
        raise UserError(f'{path}: decoder_start_token_id is {said["decoder_start_token_id"]!r}; only that of the pad '
                        f'({said["pad_token_id"]}) can be read')
    for side in ('encoder', 'decoder'):
        if said['d_model'] % 2 or not said[f'{side}_attention_heads'] or \
                said['d_model'] % said[f'{side}_attention_heads']:
            raise UserError(f'{path}: d_model is {said["d_model"]}; it must be even and a multiple of '
                            f'{side}_attention_heads ({said[f"{side}_attention_heads"]})')
    dropout = said.setdefault('dropout', 0.0)
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        raise UserError(f'{path}: dropout is {dropout!r}; it must be in [0, 1)')
    return said


def _read_json(path):
    if not path.is_file():
        raise UserError(f'there is no file {path}')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise UserError(f'{path} is damaged: {error}') from None
    if not isinstance(content, dict):
        raise UserError(f'{path} is damaged: it must hold a JSON object')
    return content


def _vocabulary(path, model, said, size):
    """One side's vocabulary, and which row of Marian's tables stands in each row of ours after the first."""
    table = _read_json(path)
    if sorted(map(repr, table.values())) != sorted(map(repr, range(said[size]))):
        raise UserError(f'{path}: its ids must be 0 to {said[size] - 1}, each of them once: {size} of the config is '
                        f'{said[size]}')
    pieces = sorted(table, key=table.get)
    if UNKNOWN not in table:
        raise UserError(f'{path} has no {UNKNOWN!r}; it must have one')
    for piece, key in ((BEGIN, 'pad_token_id'), (END, 'eos_token_id')):
        if table.get(piece) != said[key]:
            raise UserError(f'{path}: the id of {piece!r} is {table.get(piece)}; it must be {key} of the config, '
                            f'{said[key]}')
    special = [table[BEGIN], table[END], table[UNKNOWN]]
    others = [number for number in range(len(pieces)) if number not in special]
    if not model.is_file():
        raise UserError(f'there is no file {model}')
    return Marian([pieces[number] for number in others], model.read_bytes()), np.array(special + others)


def _attention(said, side):
    return {'name': 'multi_head_dot', 'heads': said[f'{side}_attention_heads'], 'key_value_heads': 0, 'head_width': 0,
            'projection_bias': True, 'position': {'name': 'none'}, 'reach': {'name': 'everything'},
            'normaliser': 'softmax', 'query_key_norm': 'none', 'softcap': 0.0, 'gate': 'none'}


def _side(said, side):
    return {'kind': 'transformer', 'layers': said[f'{side}_layers'], 'features': said['d_model'],
            'hidden': said[f'{side}_ffn_dim'], 'mixer': _attention(said, side), 'short_convolution': 0, 'norm': 'post',
            'position': 'sinusoidal_concatenated', 'maximum_length': said['max_position_embeddings'],
            'dropout': float(said['dropout']), 'scale_embeddings': said['scale_embedding'], 'epsilon': 1e-5,
            'activation': ACTIVATIONS[said['activation_function']]}


class _Tensors:
    """The tensors of a file, each to be taken once."""

    def __init__(self, path):
        self.path, self.left = path, read_tensors(path)

    def take(self, name, *shape):
        """A tensor as float32, which all these types are contained in."""
        if name not in self.left:
            raise UserError(f'{self.path} has no tensor {name!r}, which its config asks for')
        tensor = self.left.pop(name)
        if tensor.shape != shape or tensor.dtype.name not in TYPES:
            raise UserError(f'{self.path}: tensor {name!r} has the shape {tensor.shape} and the type '
                            f'{tensor.dtype.name}; it must have the shape {shape} and one of the types '
                            f'{", ".join(TYPES)}')
        return tensor.astype(np.float32)

    def take_equal(self, names, *shape):
        """One of several names of the same tensor, as far as they are there."""
        there = [name for name in names if name in self.left] or names[:1]
        first, *others = (self.take(name, *shape) for name in there)
        for name, other in zip(there[1:], others, strict=True):
            if not np.array_equal(first, other):
                raise UserError(f'{self.path}: tensors {there[0]!r} and {name!r} differ, but its config says that they '
                                'are one')
        return first

    def none_left(self):
        if self.left:
            raise UserError(f'{self.path} has tensors that its config does not ask for: '
                            f'{", ".join(map(repr, sorted(self.left)))}')


def _parameters(tensors, said, source_rows, target_rows):
    """All parameters by their dotted names."""
    D, found = said['d_model'], {}
    names = {side: f'model.{side}.embed_tokens.weight' for side in ('encoder', 'decoder')}
    shares, ties = said['share_encoder_decoder_embeddings'], said['tie_word_embeddings']
    softmax = ('lm_head.weight',)
    if shares:
        tables = {'embedding.table': (('model.shared.weight', *names.values(), *softmax * ties), source_rows)}
    else:
        tables = {'encoder.entrance.embedding.table': ((names['encoder'],), source_rows),
                  'decoder.entrance.embedding.table': ((names['decoder'], *softmax * ties), target_rows)}
    for ours, (theirs, rows) in tables.items():
        found[ours] = _with_pad(tensors.take_equal(theirs, len(rows), D)[rows])
    if not ties:
        found['decoder.softmax.kernel'] = _with_pad(tensors.take('lm_head.weight', len(target_rows), D)[target_rows]).T
    bias = np.zeros(len(target_rows), np.float32)
    if 'final_logits_bias' in tensors.left:
        bias = tensors.take('final_logits_bias', 1, len(target_rows))[0]
    found['decoder.scores_bias'] = np.concatenate([np.float32([PAD_SCORE]), bias[target_rows]])
    for side in ('encoder', 'decoder'):
        _check_positions(tensors, f'model.{side}.embed_positions.weight', said)
        for layer in range(said[f'{side}_layers']):
            found |= {f'{side}.stack_{layer}.{name}': array for name, array in _layer(
                tensors, f'model.{side}.layers.{layer}', said, side).items()}
    return found


def _with_pad(table):
    """A table [V - 1, D] behind a row of zeros."""
    return np.pad(table, ((PAD + 1, 0), (0, 0)))


def _check_positions(tensors, name, said):
    """Older files hold the sinusoids."""
    if name in tensors.left:
        D, length = said['d_model'], said['max_position_embeddings']
        table = np.asarray(sinusoidal(np.arange(length, dtype=np.int32)[None], D, concatenated=True))[0]
        if not np.allclose(tensors.take(name, length, D), table, atol=1e-3):  # float16 keeps three digits
            raise UserError(f'{tensors.path}: tensor {name!r} does not hold sines and cosines of the positions; '
                            'learned ones cannot be read')


def _layer(tensors, at, said, side):
    """One layer's parameters by their dotted names."""
    D, F, found = said['d_model'], said[f'{side}_ffn_dim'], {}

    def linear(ours, theirs, inputs, outputs):
        found[f'{ours}.kernel'] = tensors.take(f'{at}.{theirs}.weight', outputs, inputs).T
        found[f'{ours}.bias'] = tensors.take(f'{at}.{theirs}.bias', outputs)

    def norm(ours, theirs):
        for name, called in (('scale', 'weight'), ('bias', 'bias')):
            found[f'{ours}.layer_norm.{name}'] = tensors.take(f'{at}.{theirs}.{called}', D)
    N = said[f'{side}_attention_heads']
    for ours, theirs in (('mixing', 'self_attn'), ('reading', 'encoder_attn'))[:1 if side == 'encoder' else 2]:
        for word, letter in (('query', 'q'), ('key', 'k'), ('value', 'v'), ('output', 'out')):
            name = f'{ours}.{word}_projection'
            linear(name, f'{theirs}.{letter}_proj', D, D)
            heads = (N, D // N, D) if word == 'output' else (D, N, D // N)
            found[f'{name}.kernel'] = found[f'{name}.kernel'].reshape(heads)
            if word != 'output':
                found[f'{name}.bias'] = found[f'{name}.bias'].reshape(N, D // N)
        norm(f'{ours}_residual', f'{theirs}_layer_norm')
    linear('network.inner', 'fc1', D, F)
    linear('network.outer', 'fc2', F, D)
    norm('network_residual', 'final_layer_norm')
    return found
