"""Runs a study: trains its arms with several seeds, and writes results.jsonl, a card and report.html.

    python -m experiments.run forgetting --task pronunciation --arms none,additive --seeds 2 --profile demo

Started again, it skips what is finished and goes on in the middle of the run that was interrupted.
"""

import argparse
import pathlib
from collections.abc import Sequence

from experiments.forgetting import study as forgetting
from research import compiling, memory
from research.errors import UserError, one_line_errors
from research.study import runner

STUDIES = {'forgetting': forgetting.STUDY}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog='experiments.run', description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', choices=STUDIES)
    parser.add_argument('--task', help='what to learn (default: the first of the study)')
    parser.add_argument('--arms', help='names joined by commas (default: all)')
    parser.add_argument('--seeds', type=int, help='how many (default: as the profile says)')
    parser.add_argument('--profile', choices=('small', 'demo', 'cpu', 'full'), default='cpu',
                        help='how much: seconds, minutes, an hour or two on two cores, an accelerator')
    parser.add_argument('--workdir', help='default: runs/<study>/<task>/<profile>')
    options = parser.parse_args(arguments)
    with one_line_errors('experiments.run'):
        compiling.keep_programs()
        memory.keep_freed()
        study = STUDIES[options.study]
        task = options.task or next(iter(study.configs))
        if task not in study.configs:
            raise UserError(f'--task is {task!r}; it must be one of {", ".join(study.configs)}')
        known = [arm.name for arm in study.arms]
        names = options.arms.split(',') if options.arms else known
        for name in names:
            if name not in known:
                raise UserError(f'--arms names {name!r}; the arms are {", ".join(known)}')
        if options.seeds is not None and options.seeds < 1:
            raise UserError(f'--seeds is {options.seeds}; it must be at least 1')
        workdir = pathlib.Path(options.workdir or f'runs/{options.study}/{task}/{options.profile}')
        runner.run(study, task, options.profile, names, options.seeds, workdir)


if __name__ == '__main__':
    main()
