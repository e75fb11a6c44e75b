"""The benchmark: its turns, tables and mistakes, and that it measures what it says; with the marker `peer`, that our
parameters give JoeyNMT the same scores.

No figure is checked: only a machine that does nothing else can give one.
"""

import contextlib
import itertools
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import benchmark as benchmark_config
from configs.benchmark import get_config
from experiments.benchmark import __main__ as command
from experiments.benchmark import compile as compiling
from experiments.benchmark import data, decode, joeynmt, mixers, process, timing, train
from research import build, evaluate
from research.errors import UserError
from research.interop import ctranslate2
from research.models import contract
from research.study.arms import override
from research.text.vocabulary import Vocabulary
from research.training import device
from research.training.loop import blank_batch
from research.translator import Translation
from tests.conftest import REPOSITORY

TINY = {'encoder.features': 8, 'decoder.features': 8, 'encoder.hidden': 16, 'decoder.hidden': 16,
        'encoder.layers': 2, 'decoder.layers': 2}
ECHO = '''
import json, sys
print(json.dumps({'name': 'Echo 1'}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked.get('fail'):
        sys.exit('no such thing')
    print(json.dumps(asked), flush=True)
'''


def tiny():
    return override(get_config('transformer'), TINY)


@pytest.fixture
def peer(tmp_path, monkeypatch):
    """A script that answers with what it was asked."""
    (tmp_path / 'echo.py').write_text(ECHO, encoding='utf-8')
    monkeypatch.setattr(process, 'SCRIPTS', tmp_path)
    with process.Peer(pathlib.Path(sys.executable), 'echo') as peer:
        yield peer


def test_contenders_take_turns():
    order = []

    def contender(name):
        def measure():
            order.append(name)
            return len(order)
        return measure
    found = timing.turns({name: contender(name) for name in 'abc'}, 3, lambda given, words: given, 'words')
    assert order == list('abcabcabc')
    assert found == {'a': [1, 4, 7], 'b': [2, 5, 8], 'c': [3, 6, 9]}


def test_a_row_has_the_median_its_range_and_the_median_of_the_ratios_of_the_turns():
    row = timing.row('train', 'work', 'other', 'tokens/s', [10.0, 40.0, 20.0], [10.0, 20.0, 60.0], 'a note')
    assert row == ('train', 'work', 'other', 'tokens/s', 20.0, 10.0, 40.0, 1.0, 3, 'a note')  # ratios 1, 0.5 and 3
    assert timing.row('train', 'work', 'other', 'tokens/s', [1.0, 2.0]).ratio is None
    assert timing.row('train', 'work', 'other', 'tokens/s', [], [1.0]).value is None


def test_the_rate_is_that_of_the_products_that_were_made(monkeypatch):
    monkeypatch.setattr(device, 'SIZE', 8)
    clock = iter(range(10**6))  # each call takes a second
    monkeypatch.setattr(device.time, 'perf_counter', lambda: float(next(clock)))
    assert timing.product() == 2 * 8 ** 3


def test_a_peer_answers_and_what_it_dies_of_is_said(peer):
    assert peer.name == 'Echo 1'
    assert peer.ask(steps=3) == {'steps': 3}
    with pytest.raises(UserError, match='echo ended with exit code 1: no such thing'):
        peer.ask(fail=True)


def test_a_peer_that_cannot_start_is_said(tmp_path, monkeypatch):
    (tmp_path / 'broken.py').write_text('import nothing_of_that_name', encoding='utf-8')
    monkeypatch.setattr(process, 'SCRIPTS', tmp_path)
    with pytest.raises(UserError, match='broken ended with exit code 1: ModuleNotFoundError'):
        process.Peer(pathlib.Path(sys.executable), 'broken')


def test_without_peers_their_rows_stay_empty_and_ours_do_not(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark_config, 'get_config', lambda words=None: tiny())
    rows = list(train.dense('transformer', 20, 1, None, lambda given, words: given, print, sentences=3, length=4))
    assert [row.by.split()[0] for row in rows] == ['Seq2Lab', 'PyTorch', 'product', 'Seq2Lab,']
    assert [row.value is None for row in rows] == [False, True, False, False]
    assert '3 sentences of 4 + 4' in rows[0].work
    flops = 3 * build.flops(build.model(tiny(), 20, 20), 4, 4) / 4  # of a target, backward 2 x forward
    assert rows[3].value == pytest.approx(100 * rows[0].value * flops / (1e9 * rows[2].value))
    records = [row._asdict() | {'machine': 'M', 'time': 'now', 'versions': {'jax': '1'}} for row in rows]
    page = command.markdown(records)
    command.show(records)
    for text in (page, capsys.readouterr().out):
        assert 'M; jax 1; now' in text
        assert 'GFLOP/s' in text
        assert 'void' in text
    assert '| PyTorch | - | - | target tokens/s | - |' in page
    assert page.count('3 sentences of 4 + 4') == 1  # what is the same is said once


def test_what_a_symbol_costs_is_said_for_each_batch_beside_the_smallest(monkeypatch):
    seconds = {2: 3e-6, 4: 12e-6}

    class Dense:
        def __init__(self, config, vocabulary, sentences, length):
            self.sentences = sentences

        def seconds(self, steps):
            return train.DENSE_STEPS * 5 * seconds[self.sentences]
    monkeypatch.setattr(train, 'Dense', Dense)
    rows = list(train.growth('lstm', 20, 3, lambda given, words: given, print, sizes=(2, 4), length=5))
    assert [(row.unit, row.value, row.turns, row.ratio) for row in rows] == [
        ('µs a target symbol', pytest.approx(1.5), 3, None), ('µs a target symbol', pytest.approx(3.0), 3, None)]
    assert [row.note for row in rows] == ['1.00 times that of 2 sentences', '2.00 times that of 2 sentences']


@pytest.fixture
def small_data(tmp_path):
    """A config and the data of a dozen pairs of letters."""
    lines = [' '.join('abcdef'[:1 + number % 6]) for number in range(24)]
    for split in ('train', 'dev', 'test'):
        (tmp_path / f'{split}.txt').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    files = {f'data.{split}': f'{tmp_path / split}.txt,{tmp_path / split}.txt' for split in ('train', 'dev', 'test')}
    config = override(tiny(), {**files, 'data.source_unit': 'characters', 'data.target_unit': 'characters',
                               'batches.tokens': 48, 'batches.buckets': 2})
    return config, build.data(config)


def test_a_window_counts_the_real_targets_of_the_batches_of_the_plan(small_data):
    config, texts = small_data
    training = train.Training(config, texts)
    try:
        windows = [training.window(3) for _ in range(2)]
    finally:
        training.close()
    batches = [training.plan[k] for k in range(train.WARM, train.WARM + 6)]
    counts = [float((batch.targets > 0).sum()) for batch in batches]
    assert [window.tokens for window in windows] == [sum(counts[:3]), sum(counts[3:])]
    for window in windows:
        assert 0.0 < window.waiting < window.seconds


def test_joeynmt_gets_our_symbols_in_its_order(tmp_path):
    vocabulary = Vocabulary.build(['a b <s>', 'b c'], 'words')
    path = joeynmt.write_training(tmp_path, 'lstm', vocabulary, [('a b', 'c'), ('c zzz', 'b a')], [('a', 'b')], 5)
    lines = (tmp_path / 'vocabulary.txt').read_text(encoding='utf-8').split('\n')
    settings = json.loads(path.read_text(encoding='utf-8'))
    names = settings['data']['special_symbols']
    assert lines[:4] == [names[f'{word}_token'] for word in ('unk', 'pad', 'bos', 'eos')]
    assert [names[f'{word}_id'] for word in ('unk', 'pad', 'bos', 'eos')] == [0, 1, 2, 3]
    assert len(set(lines[:-1])) == len(vocabulary)
    assert (tmp_path / 'train.source').read_text(encoding='utf-8') == f'a b\nc {lines[0]}\n'
    assert (tmp_path / 'train.target').read_text(encoding='utf-8') == 'c\nb a\n'
    assert settings['training']['logging_freq'] == 5
    assert settings['model']['encoder']['bidirectional']


def tiny_params():
    model = build.model(tiny(), 12, 12)
    return model, contract.init(model, jax.random.key(0), blank_batch(2, 3, 3))


def test_every_parameter_gets_a_place_in_joeynmt():
    _, params = tiny_params()
    state = joeynmt.state(params)
    table = np.asarray(params['embedding']['table'])
    for name in ('src_embed.lut', 'trg_embed.lut', 'decoder.output_layer'):
        np.testing.assert_array_equal(state[f'{name}.weight'], table[[3, 0, 1, 2, *range(4, 12)]])
    own = {name: array for name, array in state.items() if not name.startswith(('src_embed', 'trg_embed'))
           and name != 'decoder.output_layer.weight'}
    zeros = sum(array.size for array in own.values() if not array.any() and 'att' in name_of(own, array))
    assert sum(array.size for array in own.values()) + table.size - zeros == sum(
        leaf.size for leaf in jax.tree.leaves(params))
    query = params['decoder']['stack_1']['reading']['query_projection']['kernel']
    np.testing.assert_array_equal(state['decoder.layers.1.src_trg_att.q_layer.weight'],
                                  np.asarray(query).reshape(8, -1).T)


def name_of(arrays, array):
    return next(name for name, other in arrays.items() if other is array)


@pytest.mark.peer
@pytest.mark.parametrize('seed', range(3))
def test_joeynmt_and_ctranslate2_write_what_we_write_with_our_parameters(tmp_path, seed):
    python = process.interpreter(REPOSITORY / '.peers')
    if python is None:
        pytest.skip(f'there is no .peers; to install it: {process.INSTALL}')
    config, vocabulary = benchmark_config.get_config('transformer'), Vocabulary.build(['abcdefghijkl'], 'characters')
    model = build.model(config, len(vocabulary), len(vocabulary))
    params = contract.init(model, jax.random.key(seed), blank_batch(2, 3, 3))
    # Layer norms and biases that matter; embeddings are small, so that layers decide what is written; special symbols,
    # which not all may write, score 0 and never win.
    leaves, tree = jax.tree.flatten(params)
    params = tree.unflatten(leaf + 0.1 * jax.random.normal(jax.random.key(number), leaf.shape)
                            for number, leaf in enumerate(leaves))
    params['embedding']['table'] = 0.2 * params['embedding']['table'].at[:4].set(0.0)
    run = evaluate.Run('run', config, model, vocabulary, vocabulary, params, 0, '')
    sources, (names, _) = ['abcabcab', 'lk', 'g', 'aaaabbbb'], ctranslate2.tokens(vocabulary, vocabulary)
    ours = decode.symbols_of(decode.Ours(run, sources, 1, 'wu', 0.0).found, vocabulary, names)
    with contextlib.ExitStack() as stack:
        theirs = decode.Theirs(run, sources, names, python, tmp_path, stack)
        theirs.ctranslate2_speed(1, theirs.best(1))
        both = json.loads(theirs.outputs.read_text(encoding='utf-8')), theirs.joeynmt_speed(1, 0, 1)[1]
    assert len(set(map(tuple, ours))) > 1  # the source matters, and so do all parameters that read it
    assert len(set(itertools.chain(*ours))) > 1
    for outputs in both:  # none ends by itself, and limits differ
        for mine, other in zip(ours, outputs, strict=True):
            length = min(len(mine), len(other))
            assert length >= 10
            assert mine[:length] == other[:length]


def test_outputs_agree_where_all_symbols_do():
    vocabulary = Vocabulary.build(['a b c'], 'words')
    names = ['<pad>', '<s>', '</s>', '<unk>', *(vocabulary.symbol(number) for number in range(4, 7))]
    outputs = [Translation('', symbols, [], [], 0.0, True, None, 0.0) for symbols in (['a', 'b'], ['⁇'], ['c'])]
    ours = decode.symbols_of(outputs, vocabulary, names)
    assert ours == [['a', 'b'], ['<unk>'], ['c']]
    assert decode.agreeing(ours, [['a', 'b', '</s>'], ['<unk>'], ['b', '</s>']]) == 2


def test_a_mixer_has_its_time_a_token_and_what_the_catalogue_says():
    entries = [{'length': 128, 'milliseconds': 1.28, 'lowest': 1.0, 'highest': 2.0},
               {'length': 2048, 'milliseconds': 40.96, 'lowest': 20.48, 'highest': 81.92}]
    row = mixers.of({'mixer': 'linear', 'path': 'explicit', 'features': 256, 'rounds': 5,
                     'forward_and_backward': entries})
    assert (row.value, row.lowest, row.highest) == pytest.approx((20.0, 10.0, 40.0))
    assert row.note.startswith('2.00 times that of T = 128')
    assert row.note.endswith(': constant') or row.note.endswith(': linear')


def test_padding_is_that_of_the_plan(small_data):
    config, texts = small_data
    plan = build.plans(config, texts).train
    assert data.padding('2 shapes', plan).value == 100 * plan.padding


def test_memory_is_that_of_a_process_that_loads(tmp_path):
    row = data.memory(300)
    assert (row.by, row.unit) == ('300 pairs', 'MiB')
    assert 0.0 < row.value < 100.0  # this process has some hundreds


def test_what_two_processes_compiled_stands_in_rows():
    found = {compiling.ANEW: {'train': {'programs': 3, 'seconds': 6.0, 'misses': 3, 'hits': 0}},
             compiling.AGAIN: {'train': {'programs': 3, 'seconds': 2.0, 'misses': 0, 'hits': 3}}}
    rows = list(compiling._rows('Transformer', found))
    assert [(row.by, row.unit, row.value) for row in rows] == [
        (compiling.ANEW, 'programs compiled', 3), (compiling.ANEW, 's', 6.0),
        (compiling.AGAIN, 'programs compiled', 0), (compiling.AGAIN, 's', 2.0)]
    assert rows[3].ratio == 3.0


@pytest.mark.parametrize(('arguments', 'names'), [
    (['train', '--models', 'transformers'], ["'transformers'", "Did you mean 'transformer'"]),
    (['train', '--rounds', '2'], ['--rounds', '2', '5']), (['data', '--steps', '0'], ['--steps', '0']),
    (['decode', '--beams', '1,none'], ['--beams', "'1,none'"]), (['data', '--sizes', '0'], ['--sizes', "'0'"]),
    (['decode', '--lines', '0'], ['--lines', '0']), (['decode', '--workdir', 'nowhere'], ['nowhere']),
    (['train', '--json', 'nowhere/train.jsonl'], ['nowhere/train.jsonl'])])
def test_a_mistake_ends_in_one_line_before_anything_is_compiled(arguments, names, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main([*arguments, '--peers', str(REPOSITORY / '.peers')])
    told = capsys.readouterr().err.splitlines()[-1]
    assert caught.value.code == 2
    assert told.startswith('experiments.benchmark: ')
    for name in names:
        assert name in told


def test_the_command_writes_every_field_down(tmp_path, monkeypatch, capsys):
    row = timing.row('compile', 'work', 'first process', 's', [2.0], [4.0], 'a note')
    monkeypatch.setattr(command.compiling, 'rows', lambda models, progress: [row])
    command.main(['compile', '--json', str(tmp_path / 'rows.jsonl'), '--markdown', str(tmp_path / 'page.md')])
    record, = (json.loads(line) for line in (tmp_path / 'rows.jsonl').read_text(encoding='utf-8').splitlines())
    assert {name: record[name] for name in row._fields} == row._asdict()
    assert {name: type(record[name]) for name in ('time', 'machine', 'versions')} == {
        'time': str, 'machine': str, 'versions': dict}
    page = (tmp_path / 'page.md').read_text(encoding='utf-8')
    assert page.startswith('# Compiling')
    assert '| work | first process | 2 | - | s | 2.00 | a note |' in page
    assert 'a note' in capsys.readouterr().out


def test_no_peer_is_imported():
    done = subprocess.run([sys.executable, '-c', 'import sys, experiments.benchmark.__main__; '
                           'print({"torch", "joeynmt"} & set(sys.modules))'], cwd=REPOSITORY, capture_output=True,
                          text=True, check=True)
    assert done.stdout == 'set()\n'
