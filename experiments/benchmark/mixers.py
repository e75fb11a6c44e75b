"""Mixers: how long a token takes as sequences grow; the short form of experiments.cost, which measures it."""

import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from experiments.benchmark.timing import Row
from research import catalogue

LENGTHS = 128, 2048  # T
DIRECTION = 'forward_and_backward'
NOTES = ('The exponents between all lengths, forward alone and memory: python -m experiments.cost.',)


def rows(mixers: str | None, rounds: int) -> Iterator[Row]:
    """A figure for each path of the mixers.

    Args:
      mixers: names joined by commas; None = all.
      rounds: of experiments.cost.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, 'cost.jsonl')
        done = subprocess.run(
            [sys.executable, '-m', 'experiments.cost', '--lengths', ','.join(map(str, LENGTHS)), '--rounds',
             str(rounds), '--json', path, *([] if mixers is None else ['--mixers', mixers])],
            stdout=subprocess.DEVNULL)
        if done.returncode:
            raise SystemExit(done.returncode)  # it has said why
        records = [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]
    yield from map(of, records)


def of(record: dict) -> Row:
    """The row of a record of experiments.cost."""
    short, long = (entry['milliseconds'] / entry['length'] for entry in record[DIRECTION])
    entry = record[DIRECTION][-1]
    value, lowest, highest = (1000 * entry[key] / entry['length'] for key in ('milliseconds', 'lowest', 'highest'))
    growth, = (cost.flops_growth for cost in catalogue.costs(record['mixer'])
               if (cost.role, cost.path) == ('self', record['path']))
    times = f'{long / short:.2f} times that of T = {LENGTHS[0]}; ' if short > 0 else ''
    work = f'T = {LENGTHS[1]}, D = {record["features"]}, forward and backward between the projections'
    return Row('mixers', work, f'{record["mixer"]}, {record["path"]}', 'µs a token', value, lowest, highest, None,
               record['rounds'], f'{times}FLOPs a token by formula: {growth}')


