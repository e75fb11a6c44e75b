"""How fast, and beside what? Speeds as ratios to the machine's own limit and to what one would run instead.

    python -m experiments.benchmark train                      on real batches, and without padding
    python -m experiments.benchmark train --markdown train.md --json train.jsonl

Contenders take turns, warm, and a figure is a median over the turns. The peers live in an environment of their own,
which --peers names; without it their columns stay empty. Other work on the machine spoils the numbers.
"""

import argparse
import contextlib
import datetime
import functools
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence

import rich.box
import rich.console
import rich.progress
import rich.table

from experiments.benchmark import process, train
from experiments.benchmark.timing import Row
from research.errors import UserError, one_line_errors
from research.train import environment
from research.training import workdir

SECTIONS = {'train': 'Training'}
FEWEST_ROUNDS = 1
HEADER = ('work', 'by', 'median', 'lowest to highest', 'unit', 'ours / this', 'note')


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog='experiments.benchmark', description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('section', choices=SECTIONS)
    parser.add_argument('--models', default=','.join(train.MODELS), help='train: joined by commas (default: '
                        '%(default)s)')
    parser.add_argument('--rounds', type=int, default=FEWEST_ROUNDS, help='turns, of which medians are taken (default '
                        'and least: %(default)s)')
    parser.add_argument('--steps', type=int, default=10, help='train: our batches of a turn (default: %(default)s)')
    parser.add_argument('--peers', default='.peers', help='the environment that has them (default: %(default)s)')
    parser.add_argument('--markdown', metavar='FILE', help='where the table is written')
    parser.add_argument('--json', metavar='FILE', help='where the numbers are written, one line a row')
    options = parser.parse_args(arguments)
    with one_line_errors('experiments.benchmark'):
        for name, least in (('rounds', FEWEST_ROUNDS), ('steps', 1)):
            if getattr(options, name) < least:
                raise UserError(f'--{name} is {getattr(options, name)}; it must be at least {least}')
        for path in filter(None, (options.markdown, options.json)):
            if not pathlib.Path(path).parent.is_dir():
                raise UserError(f'{path}: there is no such folder')
        rows = list(measure(options))
        when = {'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'), **environment()}
        records = [row._asdict() | {'rounds': options.rounds} | when for row in rows]
        if options.markdown:
            workdir.replace(pathlib.Path(options.markdown), markdown(records))
        if options.json:
            workdir.replace(pathlib.Path(options.json), ''.join(
                json.dumps(record, allow_nan=False) + '\n' for record in records))
        show(records)


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """The figures of the section that is asked for."""
    track = functools.partial(rich.progress.track, console=rich.console.Console(stderr=True), auto_refresh=False)
    progress = functools.partial(print, file=sys.stderr)
    python = process.interpreter(options.peers)
    if python is None:
        progress(f'{options.peers} is not there, so nothing is compared with peers; they are installed by\n'
                 f'{process.INSTALL}')
    yield from train.rows(options.models.split(','), options.rounds, options.steps, python, track, progress)


def cells(record: dict) -> list[str]:
    """One row of the table."""
    value, ratio = record['value'], record['ratio']
    return [record['work'], record['by'], '-' if value is None else number(value),
            '-' if value is None else f'{number(record["lowest"])} to {number(record["highest"])}', record['unit'],
            '-' if ratio is None else f'{ratio:.2f}', record['note']]


def number(value: float) -> str:
    """Three digits or more."""
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'


def notes(records: Sequence[dict]) -> list[str]:
    """What a reader of the table must know."""
    first = records[0]
    versions = ', '.join(f'{name} {version}' for name, version in first['versions'].items())
    return [f'{first["machine"]}; {versions}; {first["time"]}.',
            f'Medians of {first["rounds"]} turns, in which everything that is compared was measured one after another; '
            'a ratio is the median of those of the turns. "-": it is not there.',
            'Figures of a machine that did other work meanwhile are void.']


def markdown(records: Sequence[dict]) -> str:
    """The table as text."""
    lines = [HEADER, ['---', '---', '---:', '---:', '---', '---:', '---'], *map(cells, records)]
    return '\n\n'.join([f'# {SECTIONS[records[0]["section"]]}', '\n'.join(f'- {note}' for note in notes(records)),
                        '\n'.join(f'| {" | ".join(line)} |' for line in lines)]) + '\n'


def show(records: Sequence[dict]) -> None:
    """Prints it."""
    console = rich.console.Console()
    if not console.is_terminal:
        console.width = 180
    table = rich.table.Table(title=SECTIONS[records[0]['section']], title_justify='left', box=rich.box.SIMPLE_HEAD)
    for place, name in enumerate(HEADER):
        table.add_column(name, justify='right' if place in (2, 3, 5) else 'left')
    for record in records:
        table.add_row(*cells(record))
    console.print(table)
    for line in notes(records):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == '__main__':
    main()
