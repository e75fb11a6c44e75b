"""How fast, and beside what? Speeds as ratios to the machine's own limit and to what one would run instead.

    python -m experiments.benchmark train         steps on real batches, and on batches without padding
    python -m experiments.benchmark decode        a trained run's translations of the test set
    python -m experiments.benchmark mixers        a token as sequences grow, the short form of experiments.cost
    python -m experiments.benchmark data          waiting for batches, padding, memory
    python -m experiments.benchmark compile       programs, anew and from a cache

Contenders take turns, warm, and a figure is a median over the turns. The peers live in an environment of their own,
which --peers names; without it their columns stay empty. Other work on the machine spoils the numbers.
"""

import argparse
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

from experiments.benchmark import compile as compiling
from experiments.benchmark import data, decode, mixers, process, train
from experiments.benchmark.timing import Row
from research import memory
from research.errors import UserError, at_least, nearest, one_line_errors
from research.train import environment
from research.training import workdir

SECTIONS = {'train': ('Training', train.NOTES), 'decode': ('Decoding', decode.NOTES),  # title and notes
            'mixers': ('Mixers', mixers.NOTES), 'data': ('Loading data', data.NOTES),
            'compile': ('Compiling', compiling.NOTES)}
SIZES = 30_000, 300_000, 3_000_000  # pairs of synthetic corpora
FEWEST_ROUNDS = 5
HEADER = ('work', 'by', 'median', 'lowest to highest', 'unit', 'ratio', 'note')


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog='experiments.benchmark', description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('section', choices=SECTIONS)
    parser.add_argument('--rounds', type=int, default=FEWEST_ROUNDS, help='turns, of which medians are taken (default '
                        'and least: %(default)s)')
    parser.add_argument('--models', default=','.join(train.MODELS), help='train, compile: joined by commas (default: '
                        '%(default)s)')
    parser.add_argument('--steps', type=int, default=8, help='train, data: batches of a turn (default: %(default)s)')
    parser.add_argument('--workdir', default='runs/benchmark/transformer', help='decode: a trained run of '
                        'configs/benchmark.py:transformer (default: %(default)s)')
    parser.add_argument('--beams', default='1,5', help='decode: W joined by commas, 1 = greedy (default: %(default)s)')
    parser.add_argument('--lines', type=int, help='decode: so many of the test set, the first (default: all)')
    parser.add_argument('--mixers', help='mixers: names joined by commas (default: all)')
    parser.add_argument('--sizes', default=','.join(map(str, SIZES)), help='data: pairs of synthetic corpora, joined '
                        'by commas (default: %(default)s)')
    parser.add_argument('--peers', default='.peers', help='train, decode: the environment that has them (default: '
                        '%(default)s)')
    parser.add_argument('--markdown', metavar='FILE', help='where the table is written')
    parser.add_argument('--json', metavar='FILE', help='where the numbers are written, one line a row')
    options = parser.parse_args(arguments)
    with one_line_errors('experiments.benchmark'):
        memory.keep_freed()
        at_least(FEWEST_ROUNDS, **{'--rounds': options.rounds})
        at_least(1, **{'--steps': options.steps, '--lines': 1 if options.lines is None else options.lines})
        for path in filter(None, (options.markdown, options.json)):
            workdir.require_folder(path)
        rows = []
        for row in measure(options):
            rows.append(row)
            if row.value is not None:  # what has been measured is not lost when the rest is interrupted
                print(f'{row.work}; {row.by}: {number(row.value)} {row.unit}', file=sys.stderr)
        when = {'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'), **environment()}
        records = [row._asdict() | when for row in rows]
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
    models = _chosen('models', options.models, tuple(train.MODELS))
    beams, sizes = (_numbers(name, getattr(options, name)) for name in ('beams', 'sizes'))
    python = process.interpreter(options.peers)
    if python is None and options.section in ('train', 'decode'):
        progress(f'{options.peers} is not there, so nothing is compared with peers; to install them:\n'
                 f'{process.INSTALL}')
    common = options.rounds, python, track, progress
    match options.section:
        case 'train':
            yield from train.rows(models, options.steps, *common)
        case 'decode':
            yield from decode.rows(options.workdir, beams, *common, options.lines)
        case 'mixers':
            yield from mixers.rows(options.mixers, options.rounds)
        case 'data':
            yield from data.rows(options.steps, sizes, options.rounds, track, progress)
        case 'compile':
            yield from compiling.rows(models, progress)


def _chosen(option: str, words: str, known: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(words.split(',')))
    for name in names:
        if name not in known:
            raise UserError(f'--{option} names {name!r}.{nearest(name, known)} It must be of: {", ".join(known)}')
    return names


def _numbers(option: str, words: str) -> list[int]:
    numbers = [int(word) if word.isdecimal() else 0 for word in words.split(',')]
    if min(numbers) < 1:
        raise UserError(f'--{option} is {words!r}; it must be whole numbers above 0, joined by commas')
    return numbers


def lines(records: Sequence[dict]) -> Iterator[list[str]]:
    """The cells of the table; work that is that of the row above is not said again."""
    before = None
    for record in records:
        work, ratio, figures = record['work'], record['ratio'], ['-', '-']
        if record['value'] is not None:
            figures[0] = number(record['value'])
        if record['turns'] > 1:
            figures[1] = f'{number(record["lowest"])} to {number(record["highest"])}'
        yield ['' if work == before else work, record['by'], *figures, record['unit'],
               '-' if ratio is None else f'{ratio:.2f}', record['note']]
        before = work


def number(value: float) -> str:
    """Three digits or more."""
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'


def notes(records: Sequence[dict]) -> list[str]:
    """What a reader of the table must know."""
    first = records[0]
    versions = ', '.join(f'{name} {version}' for name, version in first['versions'].items())
    most = max(record['turns'] for record in records)
    return [f'{first["machine"]}; {versions}; {first["time"]}.',
            f'Medians of up to {most} turns; all that is compared was measured in each, one after another. "-": '
            'it is not there.',
            *SECTIONS[first['section']][1], 'Figures of a machine that did other work meanwhile are void.']


def markdown(records: Sequence[dict]) -> str:
    """The table as text."""
    table = [HEADER, ['---', '---', '---:', '---:', '---', '---:', '---'], *lines(records)]
    return '\n\n'.join([f'# {SECTIONS[records[0]["section"]][0]}', '\n'.join(f'- {note}' for note in notes(records)),
                        '\n'.join(f'| {" | ".join(line)} |' for line in table)]) + '\n'


def show(records: Sequence[dict]) -> None:
    """Prints it."""
    console = rich.console.Console()
    if not console.is_terminal:
        console.width = 180
    table = rich.table.Table(title=SECTIONS[records[0]['section']][0], title_justify='left', box=rich.box.SIMPLE_HEAD)
    for place, name in enumerate(HEADER):
        table.add_column(name, justify='right' if place in (2, 3, 5) else 'left')
    for line in lines(records):
        table.add_row(*line)
    console.print(table)
    for line in notes(records):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == '__main__':
    main()
