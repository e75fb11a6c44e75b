"""The cost of mixers: the command, and what it keeps; with the marker `cost`, that time grows as it should.

The marked test needs a machine that does nothing else.
"""

import json
import os
import subprocess
import sys

import jax.numpy as jnp
import pytest

from experiments.cost import __main__ as command
from experiments.cost import measure
from research.attention.registry import VARIANTS
from tests.conftest import REPOSITORY

RECORD = {'mixer': str, 'path': str, 'causal': bool, 'batch': int, 'features': int, 'rounds': int, 'forward': list,
          'forward_and_backward': list, 'exponents': dict, 'time': str, 'machine': str, 'versions': dict}
ENTRY = {'length': int, 'milliseconds': float, 'lowest': float, 'highest': float, 'whole': float, 'projections': float,
         'bytes': dict}


def test_the_command_times_one_mixer_and_writes_every_field_down(tmp_path, capsys):
    command.main(['--mixers', 'linear', '--lengths', '8,16', '--batch', '2', '--json', str(tmp_path / 'cost.jsonl'),
                  '--markdown', str(tmp_path / 'cost.md')])
    printed, page = capsys.readouterr().out, (tmp_path / 'cost.md').read_text(encoding='utf-8')
    records = [json.loads(line) for line in (tmp_path / 'cost.jsonl').read_text(encoding='utf-8').splitlines()]
    assert [(record['mixer'], record['path']) for record in records] == [('linear', 'explicit'), ('linear', 'chunked')]
    for record in records:
        assert {name: type(value) for name, value in record.items()} == RECORD
        assert (record['causal'], record['batch'], record['features'], record['rounds']) == (True, 2, 256, 5)
        assert set(record['exponents']) == set(measure.DIRECTIONS)
        for direction in measure.DIRECTIONS:
            assert [entry['length'] for entry in record[direction]] == [8, 16]
            for entry in record[direction]:
                assert {name: type(value) for name, value in entry.items()} == ENTRY
                assert entry['lowest'] <= entry['milliseconds'] <= entry['highest']
                assert min(entry['whole'], entry['projections']) > 0.0
                assert set(entry['bytes']) == {'argument', 'output', 'temporary'}
                assert entry['bytes']['output'] >= 4 * 2 * entry['length'] * 256  # the context
        for text in (printed, page):
            assert 'not measured: time of linear on path chunked' in text
            assert record['path'] in text
    assert page.count('| linear | chunked |') == 2


@pytest.mark.parametrize(('arguments', 'names'), [
    (['--mixers', 'multi_head_dott'], ["'multi_head_dott'", "Did you mean 'multi_head_dot'"]),
    (['--mixers', 'additive'], ["'additive'", 'multi_head_dot']), (['--lengths', '512,128'], ["'512,128'"]),
    (['--lengths', '0'], ["'0'"]), (['--lengths', '128,many'], ["'128,many'"]), (['--batch', '0'], ['--batch', '0']),
    (['--rounds', '4'], ['--rounds', '4', '5']), (['--json', 'nowhere/cost.jsonl'], ['nowhere/cost.jsonl'])])
def test_a_mistake_ends_in_one_line_before_anything_is_compiled(arguments, names, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    told = capsys.readouterr().err
    assert caught.value.code == 2
    assert told.count('\n') == 1
    for name in names:
        assert name in told


def test_every_mixer_is_timed_on_every_path_that_is_our_own():
    rows = measure.rows(measure.mixers())
    assert {row.mixer for row in rows} == {name for name, variant in VARIANTS.items() if 'self' in variant.roles}
    for row in rows:
        assert row.path in VARIANTS[row.mixer].paths
        assert measure.mixer(row, 2048).path == row.path
    for name, path in (('multi_head_dot', 'chunked'), ('sliding_window', 'blocks'), ('delta', 'explicit')):
        assert measure.Row(name, path) in rows
    assert 'xla' not in {row.path for row in rows}


def test_what_projects_in_a_call_is_taken_off_and_nothing_else():
    kernels = {'query_projection': (256, 4, 16), 'gate_projection': (256, 4), 'output_projection': (4, 16, 256),
               'inner': (16, 8)}
    params = {'params': {name: {'kernel': jnp.zeros(shape)} for name, shape in kernels.items()}
              | {'norm': {'scale': jnp.zeros(256)}}}
    assert sorted(matrix.shape for matrix in measure.projections(params)) == [(64, 256), (256, 4), (256, 64)]


def entries(*times):
    return [{'length': length, 'milliseconds': value} for length, value in zip((128, 512, 2048), times)]


def test_the_exponent_is_that_of_the_last_two_lengths():
    assert measure.exponent(entries(1.0, 2.0, 32.0)) == pytest.approx(2.0)
    assert measure.exponent(entries(5.0, 3.0, 12.0)) == pytest.approx(1.0)
    assert measure.exponent(entries(1.0, -0.1, 1.0)) is None
    assert measure.exponent(entries(1.0)) is None


def test_an_expectation_is_met_when_both_directions_meet_it():
    def verdicts(mixer, path, *exponents):
        record = {'mixer': mixer, 'path': path, 'forward': entries(1.0, 1.0, 1.0),
                  'exponents': dict(zip(measure.DIRECTIONS, exponents))}
        return [verdict for verdict, text in command.findings([record]) if f'{mixer} on path {path}' in text]
    assert verdicts('linear', 'chunked', 1.0, 1.1) == ['met']
    assert verdicts('linear', 'chunked', 1.0, 1.3) == ['not met']
    assert verdicts('multi_head_dot', 'explicit', 1.9, 1.7) == ['met']
    assert verdicts('multi_head_dot', 'explicit', 1.5, 1.7) == ['not met']
    assert verdicts('multi_head_dot', 'explicit', None, 1.7) == ['not measured']


@pytest.mark.cost
def test_time_grows_as_it_was_expected_to(tmp_path):
    mixers, lengths = dict.fromkeys(expected.mixer for expected in command.EXPECTED), map(str, command.GROWTH)
    done = subprocess.run(
        [sys.executable, '-m', 'experiments.cost', '--mixers', ','.join(mixers), '--lengths', ','.join(lengths),
         '--json', str(tmp_path / 'cost.jsonl')], cwd=REPOSITORY, env=os.environ | {'XLA_FLAGS': ''},
        capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / 'cost.jsonl').read_text(encoding='utf-8').splitlines()]
    found = command.findings(records)
    assert [verdict for verdict, _ in found] == ['met'] * len(command.EXPECTED), done.stdout
