"""What JoeyNMT needs to train on our pairs, and to decode with our parameters: files of symbols, a config, a state."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from research.interop import ctranslate2
from research.text.vocabulary import Vocabulary

SPECIAL = (3, 0, 1, 2)  # <unk>, <pad>, <s>, </s>: where JoeyNMT, which has them at 0, 1, 2, 3, finds them in ours
BATCH = 4096            # positions a side of a batch, padding counted


def special_symbols(names: Sequence[str]) -> dict[str, Any]:
    """The section of a config; `names` are those of our first ids."""
    words = 'unk', 'pad', 'bos', 'eos'
    return {**{f'{word}_token': names[ours] for word, ours in zip(words, SPECIAL)},
            **{f'{word}_id': number for number, word in enumerate(words)}}


def vocabulary_lines(names: Sequence[str]) -> list[str]:
    """Its symbols in the order of its ids, of ours in the order of ours."""
    return [*(names[ours] for ours in SPECIAL), *names[len(SPECIAL):]]


def model(kind: str, features: int = 256, hidden: int = 1024, layers: int = 3, heads: int = 4) -> dict[str, Any]:
    """The section of a config for 'transformer', of these sizes, or 'lstm'; by default as in configs/benchmark.py."""
    def side(**more):
        embeddings = {'embedding_dim': features, 'scale': kind == 'transformer', 'dropout': 0.1}
        return {'embeddings': embeddings, 'hidden_size': features, 'dropout': 0.1, **more}
    if kind == 'transformer':
        stack = {'type': 'transformer', 'num_layers': layers, 'num_heads': heads, 'ff_size': hidden,
                 'layer_norm': 'pre'}
        embeddings = {'embed_initializer': 'xavier_uniform', 'embed_init_gain': 1.0, 'tied_softmax': True}
        encoder = decoder = stack
    else:
        stack = {'type': 'recurrent', 'rnn_type': 'lstm', 'num_layers': 1}
        embeddings = {'embed_initializer': 'normal', 'embed_init_weight': 0.1, 'tied_softmax': False}
        encoder = {**stack, 'bidirectional': True}
        decoder = {**stack, 'hidden_dropout': 0.1, 'input_feeding': True, 'init_hidden': 'bridge',
                   'attention': 'bahdanau'}
    return {'initializer': 'xavier_uniform', 'bias_initializer': 'zeros', 'tied_embeddings': True, **embeddings,
            'encoder': side(**encoder), 'decoder': side(**decoder)}


def write_training(folder: pathlib.Path, kind: str, vocabulary: Vocabulary, train: Sequence[tuple[str, str]],
                   dev: Sequence[tuple[str, str]], updates: int) -> pathlib.Path:
    """Writes pairs as symbols with spaces between, the vocabulary of both sides, and a config; returns its path.

    Symbols are those of ours, so that both count the same target tokens, and JoeyNMT has nothing to cut into pieces.

    Args:
      folder: that is there.
      kind: of `model`.
      vocabulary: of both sides.
      train, dev: source and target text.
      updates: between two lines of its log.
    """
    names, _ = ctranslate2.tokens(vocabulary, vocabulary)
    (folder / 'vocabulary.txt').write_text('\n'.join(vocabulary_lines(names)) + '\n', encoding='utf-8')
    for split, pairs in (('train', train), ('dev', dev)):
        for side, language in enumerate(('source', 'target')):
            lines = (' '.join(names[number] for number in vocabulary.encode(pair[side])[:-1]) for pair in pairs)
            (folder / f'{split}.{language}').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    languages = {key: {'lang': language, 'max_length': 100, 'level': 'word', 'voc_file': str(folder / 'vocabulary.txt')}
                 for key, language in (('src', 'source'), ('trg', 'target'))}
    settings = {
        'name': kind, 'joeynmt_version': '2.3.0', 'model_dir': str(folder / 'model'), 'use_cuda': False, 'fp16': False,
        'random_seed': 42,
        'data': {'train': str(folder / 'train'), 'dev': str(folder / 'dev'), 'dataset_type': 'plain', **languages,
                 'special_symbols': special_symbols(names)},
        'testing': {'n_best': 1, 'beam_size': 5, 'beam_alpha': 1.0, 'eval_metrics': ['bleu'], 'max_output_length': 60,
                    'batch_size': 64, 'batch_type': 'sentence', 'sacrebleu_cfg': {'tokenize': '13a'}},
        'training': {
            'optimizer': 'adamw', 'learning_rate': 0.0005, 'learning_rate_min': 0.0, 'label_smoothing': 0.1,
            'normalization': 'tokens', 'clip_grad_norm': 1.0, 'batch_size': BATCH, 'batch_type': 'token',
            'scheduling': 'warmupinversesquareroot', 'learning_rate_warmup': 1000, 'early_stopping_metric': 'bleu',
            'epochs': 1000, 'validation_freq': 1_000_000 * updates, 'logging_freq': updates, 'overwrite': True,
            'shuffle': True, 'print_valid_sents': [0], 'keep_best_ckpts': 1},
        'model': model(kind)}
    path = folder / 'config.yaml'
    path.write_text(json.dumps(settings, indent=1), encoding='utf-8')  # JSON is YAML
    return path


def state(params: Any) -> dict[str, np.ndarray]:
    """Our parameters of a Transformer under JoeyNMT's names, all but the tables of positions, which are no parameters.

    Args:
      params: of 'encoder' and 'decoder', which share one table of embeddings with the softmax; pre-norm.

    Returns:
      Matrices [outputs, inputs], vectors, and the table with the special symbols in JoeyNMT's order.
    """
    table = np.asarray(params['embedding']['table'], np.float32)
    table = np.concatenate([table[list(SPECIAL)], table[len(SPECIAL):]])
    found = {'src_embed.lut.weight': table, 'trg_embed.lut.weight': table, 'decoder.output_layer.weight': table}

    def dense(name, kernel, bias):
        found[f'{name}.weight'] = np.ascontiguousarray(kernel.T)
        found[f'{name}.bias'] = np.zeros(kernel.shape[1], np.float32) if bias is None else bias

    def norm(name, part):
        found[f'{name}.weight'], found[f'{name}.bias'] = np.asarray(part['scale']), np.asarray(part['bias'])

    def attention(name, part):
        for letter, word in (('q', 'query'), ('k', 'key'), ('v', 'value')):
            kernel, bias = _dense(part[f'{word}_projection'])
            dense(f'{name}.{letter}_layer', kernel.reshape(len(kernel), -1), None if bias is None else bias.ravel())
        kernel, bias = _dense(part['output_projection'])
        dense(f'{name}.output_layer', kernel.reshape(-1, kernel.shape[-1]), bias)

    mixing = {'encoder': ('src_src_att', 'layer_norm'), 'decoder': ('trg_trg_att', 'x_layer_norm')}
    for side in ('encoder', 'decoder'):
        layers = [name for name in params[side] if name.startswith('stack_')]
        for number in range(len(layers)):
            layer, name = params[side][f'stack_{number}'], f'{side}.layers.{number}'
            attention(f'{name}.{mixing[side][0]}', layer['mixing'])
            norm(f'{name}.{mixing[side][1]}', layer['mixing_residual']['layer_norm'])
            if 'reading' in layer:
                attention(f'{name}.src_trg_att', layer['reading'])
                norm(f'{name}.dec_layer_norm', layer['reading_residual']['layer_norm'])
            norm(f'{name}.feed_forward.layer_norm', layer['network_residual']['layer_norm'])
            for place, word in ((0, 'inner'), (3, 'outer')):
                dense(f'{name}.feed_forward.pwff_layer.{place}', *_dense(layer['network'][word]))
        norm(f'{side}.layer_norm', params[side]['last_norm'])
    return found


def _dense(part):
    return np.asarray(part['kernel']), np.asarray(part['bias']) if 'bias' in part else None
