"""What every mixer costs: milliseconds and bytes between its projections, and how they grow with the length.

    python -m experiments.cost                                          everything
    python -m experiments.cost --mixers multi_head_dot,delta --markdown cost.md --json cost.jsonl

Every path of a variant that is our own is timed, each in a row. A cell is the median time of a call without the dense
layers before and behind it, and in brackets the time of these alone. Options are those of configs/attention.py, but
a sliding window is 128 wide here. Other work on the machine spoils the numbers.
"""

import argparse
import datetime
import functools
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import rich.box
import rich.console
import rich.progress
import rich.table

from experiments.cost import measure
from experiments.cost.measure import DIRECTIONS
from research import compiling
from research.errors import UserError, at_least, nearest, one_line_errors
from research.train import environment
from research.training import workdir

LENGTHS = (128, 512, 2048)
GROWTH = (512, 2048)   # between which lengths the expectations hold
FEWEST_ROUNDS = 5
VERDICTS = {True: 'met', False: 'not met', None: 'not measured'}


class Expectation(NamedTuple):
    """What was expected before anything was timed: of the exponent of time, in both directions."""

    mixer: str
    path: str
    bound: str     # 'at most' or 'at least'
    value: float


EXPECTED = (Expectation('linear', 'chunked', 'at most', 1.2), Expectation('retention', 'chunked', 'at most', 1.2),
            Expectation('delta', 'chunked', 'at most', 1.2), Expectation('sliding_window', 'blocks', 'at most', 1.2),
            Expectation('multi_head_dot', 'explicit', 'at least', 1.6))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog='experiments.cost', description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--mixers', help='names joined by commas (default: all)')
    parser.add_argument('--lengths', default=','.join(map(str, LENGTHS)), help='T, joined by commas, each longer than '
                        'the one before (default: %(default)s)')
    parser.add_argument('--batch', type=int, default=1, help='B (default: %(default)s)')
    parser.add_argument('--rounds', type=int, default=FEWEST_ROUNDS, help='of which medians are taken (default and '
                        'least: %(default)s)')
    parser.add_argument('--markdown', metavar='FILE', help='where the tables are written')
    parser.add_argument('--json', metavar='FILE', help='where the numbers are written, one line a row')
    options = parser.parse_args(arguments)
    with one_line_errors('experiments.cost'):
        compiling.keep_programs()
        rows, lengths = measure.rows(_mixers(options.mixers)), _lengths(options.lengths)
        at_least(1, **{'--batch': options.batch})
        at_least(FEWEST_ROUNDS, **{'--rounds': options.rounds})
        for path in filter(None, (options.markdown, options.json)):
            workdir.require_folder(path)
        for row in rows:  # what does not fit is refused before anything is compiled
            measure.mixer(row, lengths[-1])
        track = functools.partial(rich.progress.track, console=rich.console.Console(stderr=True), auto_refresh=False)
        when = {'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'), **environment()}
        records = [record | when for record in measure.measure(rows, lengths, options.batch, options.rounds, track)]
        if options.markdown:
            workdir.replace(pathlib.Path(options.markdown), markdown(records))
        if options.json:
            workdir.replace(pathlib.Path(options.json), ''.join(
                json.dumps(record, allow_nan=False) + '\n' for record in records))
        show(records)


def _mixers(words: str | None) -> Sequence[str]:
    known = measure.mixers()
    names = tuple(dict.fromkeys(words.split(','))) if words is not None else known
    for name in names:
        if name not in known:
            raise UserError(f'--mixers names {name!r}.{nearest(name, known)} It must be of: {", ".join(known)}')
    return names


def _lengths(words: str) -> tuple[int, ...]:
    parts = words.split(',')
    lengths = tuple(int(part) if part.isdecimal() else 0 for part in parts)
    if min(lengths) < 1 or list(lengths) != sorted(set(lengths)):
        raise UserError(f'--lengths is {words!r}; it must be whole numbers joined by commas, each above the one before')
    return lengths


def findings(records: Sequence[dict]) -> list[tuple[str, str]]:
    """A verdict and what was expected, with what was measured, for each of EXPECTED."""
    found = []
    for expected in EXPECTED:
        text = (f'time of {expected.mixer} on path {expected.path} grows with T to the power of {expected.bound} '
                f'{expected.value} from {GROWTH[0]} to {GROWTH[1]}')
        exponents = [value for record in records for value in record['exponents'].values()
                     if (record['mixer'], record['path']) == (expected.mixer, expected.path)
                     and tuple(entry['length'] for entry in record['forward'][-2:]) == GROWTH]
        met = None
        if exponents and None not in exponents:
            met = all(value <= expected.value if expected.bound == 'at most' else value >= expected.value
                      for value in exponents)
            text += f': {exponents[0]:.2f} forward, {exponents[1]:.2f} forward and backward'
        found.append((VERDICTS[met], text))
    return found


def header(records: Sequence[dict], direction: str) -> list[str]:
    """The columns of a table of one direction."""
    lengths = [entry['length'] for entry in records[0][direction]]
    growth = ' to '.join(map(str, lengths[-2:])) if len(lengths) > 1 else ''
    return ['mixer', 'path', *(f'ms, T = {T}' for T in lengths), f'exponent {growth}'.strip(),
            *(f'MiB, T = {T}' for T in lengths)]


def cells(record: dict, direction: str) -> list[str]:
    """One row of it."""
    entries, exponent = record[direction], record['exponents'][direction]
    return [record['mixer'] + ('' if record['causal'] else ' (not causal)'), record['path'],
            *(f'{entry["milliseconds"]:.2f} (+ {entry["projections"]:.2f})' for entry in entries),
            '-' if exponent is None else f'{exponent:.2f}',
            *(f'{sum(entry["bytes"].values()) / 2**20:.1f}' for entry in entries)]


def notes(records: Sequence[dict]) -> list[str]:
    """What a reader of the tables must know."""
    first = records[0]
    versions = ', '.join(f'{name} {version}' for name, version in first['versions'].items())
    return [f'B = {first["batch"]}, D = {first["features"]}, medians of {first["rounds"]} interleaved rounds.',
            'ms: between projected queries, keys and values and the context before the output projection (+ the '
            'projections of query, gate and output alone, which were taken off).',
            'Backward: the gradient of the query and of what in the memory depends on the source.',
            'MiB: arguments, outputs and temporary buffers by the plan of the compiler; the projections of query, gate '
            'and output are part of it.',
            f'{first["machine"]}; {versions}; {first["time"]}.']


def markdown(records: Sequence[dict]) -> str:
    """The tables as text."""
    parts = ['# Cost of mixers', '\n'.join(f'- {note}' for note in notes(records)), '## Expectations',
             '\n'.join(f'- {verdict}: {text}' for verdict, text in findings(records))]
    for direction in DIRECTIONS:
        names = header(records, direction)
        lines = [names, ['---', '---', *['---:'] * (len(names) - 2)], *(cells(record, direction) for record in records)]
        parts += [f'## {_words(direction)}', '\n'.join(f'| {" | ".join(line)} |' for line in lines)]
    return '\n\n'.join(parts) + '\n'


def show(records: Sequence[dict]) -> None:
    """Prints the tables, and which expectations are met."""
    console = rich.console.Console()
    if not console.is_terminal:
        console.width = 180
    for direction in DIRECTIONS:
        table = rich.table.Table(title=_words(direction), title_justify='left', box=rich.box.SIMPLE_HEAD)
        for number, name in enumerate(header(records, direction)):
            table.add_column(name, justify='left' if number < 2 else 'right', no_wrap=number < 2)
        for record in records:
            table.add_row(*cells(record, direction))
        console.print(table)
    for line in (*notes(records), *(f'{verdict}: {text}' for verdict, text in findings(records))):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _words(direction: str) -> str:
    return direction.replace('_', ' ').capitalize()


if __name__ == '__main__':
    main()
