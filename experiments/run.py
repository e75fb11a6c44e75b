"""Runs a study: tunes and trains its arms with several seeds, and writes records, a card, report.html and tables.

    python -m experiments.run forgetting --profile demo --arms none,additive
    python -m experiments.run copying --profile cpu --results experiments/copying
    python -m experiments.run copying --profile cpu --dry_run

Started again, it skips what is finished and goes on in the middle of the runs that were interrupted.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

import rich.console

from experiments.attention_on_translation import study as attention_on_translation
from experiments.content_free import study as content_free
from experiments.copying import study as copying
from experiments.energy_scale import study as energy_scale
from experiments.extrapolation import study as extrapolation
from experiments.forgetting import study as forgetting
from experiments.gradient_reach import study as gradient_reach
from experiments.key_value_heads import study as key_value_heads
from experiments.parity import study as parity
from experiments.positions import study as positions
from experiments.reading_window import study as reading_window
from experiments.recall import study as recall
from experiments.selective_copying import study as selective_copying
from experiments.source_order import study as source_order
from experiments.window_reach import study as window_reach
from research import compiling, memory
from research.errors import UserError, one_line_errors
from research.study import runner, ways
from research.study.definition import Study

STUDIES = {module.STUDY.name: module.STUDY for module in (
    forgetting, copying, content_free, reading_window, positions, energy_scale, gradient_reach, key_value_heads,
    window_reach, recall, selective_copying, parity, extrapolation, source_order, attention_on_translation)}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog='experiments.run', description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', nargs='?', help=', '.join(STUDIES))
    parser.add_argument('--summary', action='store_true', help='only say what the recorded studies have found')
    parser.add_argument('--profile', default='cpu', help='how much: small (seconds), demo (minutes), cpu (an hour or '
                        'two on two cores) or full (an accelerator)')
    parser.add_argument('--arms', help='names joined by commas (default: all)')
    parser.add_argument('--workdir', help='of checkpoints and metrics (default: runs/<study>/<profile>)')
    parser.add_argument('--results', help='of records, card, report and tables (default: the work directory)')
    parser.add_argument('--way', help=f'how seeds are run: {", ".join(map(repr, ways.WAYS))} (default: the fastest on '
                        'this machine)')
    parser.add_argument('--workers', type=int, default=2, help='processes side by side')
    parser.add_argument('--dry_run', action='store_true', help='say what would run, and about how long')
    parser.add_argument('--unit', metavar='TASK/ARM', help='only this part, without card and report: what a study '
                        'starts in processes of their own')
    options = parser.parse_args(arguments)
    with one_line_errors('experiments.run'):
        compiling.keep_programs()
        memory.keep_freed()
        if options.summary:
            print(runner.summary(STUDIES.values(), pathlib.Path('experiments')), end='')
            return
        if options.study not in STUDIES:
            raise UserError(f'the study is {options.study!r}; it must be one of {", ".join(STUDIES)}')
        study = STUDIES[options.study]
        if options.profile not in study.profiles:
            raise UserError(f'--profile is {options.profile!r}; {study.name} has {", ".join(study.profiles)}')
        known = [arm.name for arm in study.arms]
        names = options.arms.split(',') if options.arms else known
        for name in names:
            if name not in known:
                raise UserError(f'--arms names {name!r}; the arms are {", ".join(known)}')
        if options.workers < 1:
            raise UserError(f'--workers is {options.workers}; it must be at least 1')
        if options.way not in (None, *ways.WAYS):
            raise UserError(f'--way is {options.way!r}; it must be one of {", ".join(map(repr, ways.WAYS))}')
        workdir = pathlib.Path(options.workdir or f'runs/{options.study}/{options.profile}')
        folders = runner.Folders(pathlib.Path(options.results or workdir), workdir)
        if options.unit:
            runner.run_unit(study, options.profile, unit_of(study, options.profile, options.unit), folders,
                            options.way or ways.ONE_BY_ONE, rich.console.Console())
        elif options.dry_run:
            runner.rehearse(study, options.profile, names, folders, rich.console.Console())
        else:
            runner.run(study, options.profile, names, folders, way=options.way, workers=options.workers,
                       command=lambda unit, way: (
                           sys.executable, '-m', 'experiments.run', study.name, '--profile', options.profile,
                           '--results', str(folders.results), '--workdir', str(workdir), '--way', way,
                           '--unit', str(unit)))


def unit_of(study: Study, profile: str, text: str) -> runner.Unit:
    """'copy/additive' as a unit of a study; raises UserError where it has none of that name."""
    task, _, arm = text.partition('/')
    tasks = study.profiles[profile].tasks or [one.name for one in study.tasks]
    if task not in tasks or arm not in [one.name for one in study.takes_part(task)]:
        raise UserError(f'--unit is {text!r}; it must be a task and an arm of {study.name} that profile {profile} has, '
                        f'such as {tasks[0]}/{study.base}')
    return runner.Unit(task, arm)


if __name__ == '__main__':
    main()
