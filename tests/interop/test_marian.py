"""A Marian checkpoint, made here, beside Marian's formulas in float64; tests/peers has one that transformers wrote."""

import json
import math
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from research import build
from research.errors import UserError
from research.interop import marian
from research.models import contract
from research.shapes import Places
from research.text.vocabulary import BEGIN, END, PAD, UNKNOWN
from tests.interop.models import transformer
from tests.text.test_marian import MODEL, PIECES

D, F, N, V = 8, 12, 2, len(PIECES) + 3
TABLE = {piece: number for number, piece in enumerate(
    [*PIECES[:5], '</s>', *PIECES[5:9], '<pad>', *PIECES[9:], '<unk>'])}
CONFIG = {'model_type': 'marian', 'd_model': D, 'vocab_size': V, 'max_position_embeddings': 9, 'encoder_layers': 1,
          'pad_token_id': TABLE['<pad>'], 'eos_token_id': TABLE['</s>'], 'decoder_start_token_id': TABLE['<pad>'],
          'decoder_layers': 2, 'encoder_ffn_dim': F, 'decoder_ffn_dim': F, 'encoder_attention_heads': N,
          'decoder_attention_heads': N, 'activation_function': 'swish', 'scale_embedding': True, 'dropout': 0.1,
          'static_position_embeddings': True, 'normalize_before': False}
SOURCE, INPUTS = np.array([[3, 7, 1, TABLE['</s>']]]), np.array([[TABLE['<pad>'], 2, 8, 9, 4]])


def tensors(config, random):
    """The tensors of a checkpoint with one table, in float32."""
    shapes = {'model.shared.weight': (V, D), 'final_logits_bias': (1, V)}
    for side, attentions in (('encoder', ['self_attn']), ('decoder', ['self_attn', 'encoder_attn'])):
        for layer in range(config[f'{side}_layers']):
            at = f'model.{side}.layers.{layer}'
            sizes = {f'{name}.{letter}_proj': (D, D) for name in attentions for letter in ('q', 'k', 'v', 'out')}
            sizes |= {'fc1': (F, D), 'fc2': (D, F)}
            shapes |= {f'{at}.{name}.weight': size for name, size in sizes.items()}
            shapes |= {f'{at}.{name}.bias': size[:1] for name, size in sizes.items()}
            shapes |= {f'{at}.{name}_layer_norm.{kind}': (D,) for name in (*attentions, 'final')
                       for kind in ('weight', 'bias')}
    return {name: random.normal(1.0 if 'norm.weight' in name else 0.0, 0.4, shape).astype(np.float32)
            for name, shape in shapes.items()}


def write(folder, config=CONFIG, changes=None, table=TABLE):
    """A whole checkpoint, one file after the other."""
    folder.mkdir(exist_ok=True)
    (folder / 'config.json').write_text(json.dumps(config))
    (folder / 'vocab.json').write_text(json.dumps(table))
    for side in ('source', 'target'):
        (folder / f'{side}.spm').write_bytes(MODEL)
    found = tensors(CONFIG, np.random.default_rng(0)) | (changes or {})
    save_file({name: array for name, array in found.items() if array is not None}, folder / 'model.safetensors')
    return folder


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return write(tmp_path_factory.mktemp('marian') / 'checkpoint')


def expected(found, config, source, inputs):
    """What Marian says of one pair without pads: logits [T, V], in Marian's own ids."""
    found = {name: array.astype(np.float64) for name, array in found.items()}

    def linear(name, x):
        return x @ found[f'{name}.weight'].T + found[f'{name}.bias']

    def norm(name, x):
        centred = x - x.mean(axis=-1, keepdims=True)
        return (centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * found[f'{name}.weight']
                + found[f'{name}.bias'])

    def attend(name, x, y, causal):
        q, k, v = (linear(f'{name}.{letter}_proj', z).reshape(len(z), N, D // N)
                   for letter, z in (('q', x), ('k', y), ('v', y)))
        logits = np.einsum('tnh,snh->nts', q, k) / math.sqrt(D // N)
        if causal:
            logits = np.where(np.tri(len(x)), logits, -np.inf)
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return linear(f'{name}.out_proj', np.einsum('nts,snh->tnh', weights, v).reshape(len(x), D))

    def enter(ids):
        angles = np.arange(len(ids))[:, None] / 10000.0 ** (np.arange(0, D, 2) / D)
        return found['model.shared.weight'][ids] * math.sqrt(D) + np.concatenate([np.sin(angles), np.cos(angles)], 1)

    def layers(side, x, annotations):
        for layer in range(config[f'{side}_layers']):
            at = f'model.{side}.layers.{layer}'
            x = norm(f'{at}.self_attn_layer_norm', x + attend(f'{at}.self_attn', x, x, annotations is not None))
            if annotations is not None:
                x = norm(f'{at}.encoder_attn_layer_norm', x + attend(f'{at}.encoder_attn', x, annotations, False))
            inner = linear(f'{at}.fc1', x)
            x = norm(f'{at}.final_layer_norm', x + linear(f'{at}.fc2', inner / (1 + np.exp(-inner))))
        return x
    x = layers('decoder', enter(inputs), layers('encoder', enter(source), None))
    return x @ found['model.shared.weight'].T + found['final_logits_bias'][0]


def ids_here(table):
    """The id here of each of Marian's."""
    special = {table['<pad>']: BEGIN, table['</s>']: END, table['<unk>']: UNKNOWN}
    others = iter(range(4, V + 1))
    return np.array([special[number] if number in special else next(others) for number in range(V)])


def test_a_checkpoint_says_what_marian_says(checkpoint):
    config, params, source, target = marian.load(checkpoint)
    here = ids_here(TABLE)
    model = transformer(config['encoder'], config['decoder'], len(source), len(target), config['share_embeddings'])
    shapes, found = ({jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(tree)}
                     for tree in (build.abstract_params(model), params))
    assert shapes == found
    places = [Places(np.ones(ids.shape, np.int32), np.arange(ids.shape[1], dtype=np.int32)[None])
              for ids in (SOURCE, INPUTS)]

    @jax.jit
    def scores(params):
        memory = contract.encode(model, params, here[SOURCE].astype(np.int32), places[0])
        hidden = contract.decode(model, params, memory, here[INPUTS].astype(np.int32), places[1]).hidden
        return contract.logits(model, params, hidden)
    ours = np.asarray(scores(params))[0]
    np.testing.assert_allclose(
        ours[:, here], expected(load_file(checkpoint / 'model.safetensors'), CONFIG, SOURCE[0], INPUTS[0]), atol=2e-5)
    assert np.all(ours[:, PAD] == marian.PAD_SCORE)
    assert len(source) == len(target) == V + 1
    assert [source.symbol(here[TABLE[piece]]) for piece in PIECES] == PIECES


def test_sixteen_bits_absent_biases_and_tensors_said_twice_are_read(tmp_path):
    half = {name: array.astype(np.float16) for name, array in tensors(CONFIG, np.random.default_rng(0)).items()}
    angles = np.arange(9)[:, None] / 10000.0 ** (np.arange(0, D, 2) / D)
    sinusoids = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float16)
    params = marian.load(write(tmp_path / 'half', changes=half | {
        'final_logits_bias': None, 'lm_head.weight': half['model.shared.weight'],
        'model.encoder.embed_positions.weight': sinusoids})).params
    np.testing.assert_array_equal(params['embedding']['table'][ids_here(TABLE)], half['model.shared.weight'])
    assert params['embedding']['table'].dtype == np.float32
    assert params['decoder']['scores_bias'].tolist() == [marian.PAD_SCORE] + [0.0] * V


def test_a_softmax_with_a_table_of_its_own_and_one_for_each_side_are_read(tmp_path):
    random, own = np.random.default_rng(1), {'share_encoder_decoder_embeddings': False, 'tie_word_embeddings': False}
    tables = {name: random.normal(size=(V, D)).astype(np.float32) for name in (
        'model.encoder.embed_tokens.weight', 'model.decoder.embed_tokens.weight', 'lm_head.weight')}
    found = marian.load(write(tmp_path / 'apart', CONFIG | own, tables | {'model.shared.weight': None}))
    assert (found.config['share_embeddings'], found.config['decoder']['tie_embeddings']) == (False, False)
    read = [*(found.params[side]['entrance']['embedding']['table'] for side in ('encoder', 'decoder')),
            found.params['decoder']['softmax']['kernel'].T]
    for ours, theirs in zip(read, tables.values(), strict=True):
        np.testing.assert_array_equal(ours[ids_here(TABLE)], theirs)


@pytest.mark.parametrize(('changes', 'said'), [
    ({'normalize_before': True}, 'normalize_before is True; only False can be read'),
    ({'static_position_embeddings': False}, 'static_position_embeddings is False'),
    ({'add_final_layer_norm': True}, 'add_final_layer_norm is True'), ({'model_type': 'bart'}, "model_type is 'bart'"),
    ({'activation_function': 'quick_gelu'}, "activation_function is 'quick_gelu'; it must be one of relu, gelu"),
    ({'decoder_start_token_id': 0}, 'decoder_start_token_id is 0; only that of the pad'),
    ({'d_model': None}, 'd_model is None; it must be a whole number'), ({'encoder_layers': -1}, 'encoder_layers is -1'),
    ({'encoder_attention_heads': 3}, 'd_model is 8; it must be even and a multiple of encoder_attention_heads'),
    ({'encoder_attention_heads': 0}, 'encoder_attention_heads'), ({'dropout': 1.5}, 'dropout is 1.5'),
    ({'scale_embedding': 1}, 'scale_embedding is 1; it must be true or false'),
    ({'eos_token_id': 0}, "the id of '</s>' is 5; it must be eos_token_id of the config, 0"),
    ({'pad_token_id': 0, 'decoder_start_token_id': 0}, "the id of '<pad>' is 10; it must be pad_token_id"),
    ({'vocab_size': V + 1}, f'its ids must be 0 to {V}'), ({'encoder_layers': 2}, r'no tensor .model.encoder.layers.1'),
    ({'decoder_layers': 1}, r'does not ask for: .model.decoder.layers.1.encoder_attn.k_proj.bias'),
    ({'encoder_ffn_dim': 5}, r"tensor .*fc1.weight' has the shape \(12, 8\)"),
    ({'tie_word_embeddings': False}, "no tensor 'lm_head.weight'"),
    ({'share_encoder_decoder_embeddings': False}, "no tensor 'model.encoder.embed_tokens.weight'")])
def test_what_a_config_says_and_no_model_here_does_is_refused(checkpoint, tmp_path, changes, said):
    shutil.copytree(checkpoint, tmp_path / 'changed')
    (tmp_path / 'changed' / 'config.json').write_text(json.dumps(CONFIG | changes))
    with pytest.raises(UserError, match=said):
        marian.load(tmp_path / 'changed')


@pytest.mark.parametrize(('changes', 'said'), [
    ({'model.decoder.layers.0.fc2.bias': None}, "no tensor 'model.decoder.layers.0.fc2.bias'"),
    ({'more': np.zeros(2, np.float32)}, "does not ask for: 'more'"),
    ({'final_logits_bias': np.zeros((1, V), np.int32)}, 'the type int32'),
    ({'lm_head.weight': np.ones((V, D), np.float32)}, "'model.shared.weight' and 'lm_head.weight' differ"),
    ({'model.decoder.embed_positions.weight': np.zeros((9, D), np.float32)}, 'learned ones cannot be read')])
def test_tensors_that_do_not_fit_are_named(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        marian.load(write(tmp_path / 'changed', changes=changes))


@pytest.mark.parametrize('name', ['config.json', 'vocab.json', 'source.spm', 'model.safetensors'])
def test_a_file_that_is_absent_or_damaged_is_named(checkpoint, tmp_path, name):
    shutil.copytree(checkpoint, tmp_path / 'changed')
    (tmp_path / 'changed' / name).write_bytes(b'[3]')
    with pytest.raises(UserError):
        marian.load(tmp_path / 'changed')
    (tmp_path / 'changed' / name).unlink()
    with pytest.raises(UserError, match=f'there is no file .*{name}'):
        marian.load(tmp_path / 'changed')


@pytest.mark.parametrize('table', [TABLE | {'a': 0}, TABLE | {'>>deu<<': '0'}, {piece.replace('<unk>', '<?>'): number
                                                                              for piece, number in TABLE.items()}])
def test_a_table_of_pieces_that_is_none_is_refused(tmp_path, table):
    with pytest.raises(UserError, match=r'vocab\.json'):
        marian.load(write(tmp_path / 'changed', table=table))
