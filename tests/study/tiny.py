"""A study of seconds, for the tests of what runs it; as a program it runs one, or a part of one, in a process.

    python -m tests.study.tiny PROFILE RESULTS WORKDIR WAY [--unit TASK/ARM] [--strikes "WHOM SIGNAL" AT MARK]

With --strikes a worker sends a signal once, while it trains: to itself or to the process that started it.
"""

import argparse
import os
import pathlib
import signal
import sys
import time

import rich.console

from configs import copy
from research import train
from research.study import expected, runner
from research.study.definition import Arm, Expectation, Planned, Profile, Study, Task

CHANGES = {
    'data.train': 60, 'data.dev': 8, 'data.test': 12, 'data.longest': 5, 'data.longest_test': 6, 'data.symbols': 8,
    'evaluation.lengths': '3', 'batches.tokens': 96, 'batches.buckets': 1, 'batches.shape_seed': 1,
    'encoder.features': 8, 'encoder.embedding_features': 8, 'decoder.features': 8, 'decoder.embedding_features': 8,
    'training.steps': 6, 'training.warmup': 2, 'training.report_every': 2, 'training.evaluate_every': 3,
    'training.checkpoint_every': 2, 'training.dev_sample': 8,
}
READER = ('decoder.reader',)


def _reads(runs):
    return True, f'{expected.average(runs["copy", "additive"], expected.score("accuracy")):.3f}'


STUDY = Study(
    name='tiny', question='Does it run?',
    tasks=(Task('copy', 'the source again', copy.get_config, CHANGES),),
    arms=(Arm('none', 'reads nothing', 'none', READER, control=True),
          Arm('mean', 'reads the mean', 'mean', READER, control=True),
          Arm('additive', "Bahdanau's energy", '', ())),
    base='additive',
    profiles={'small': Profile(2, {}, 'Nothing is learned.'),
              'other': Profile(2, {}),
              'tuned': Profile(3, {}, rates=(1e-3, 3e-3, 1e-2), tuning_seeds=(0, 1), other_seeds=2)},
    expectations=(Expectation('additive has a score', (('copy', 'additive'),), _reads),),
    planned=(Planned('copy', 'additive', 'none'),))
NAMES = ['none', 'additive']  # the arms that are run, unless others are asked for


def command(profile, folders, strikes=()):
    """What makes the command that runs a unit of this study in a process."""
    return lambda unit, way: (sys.executable, '-m', 'tests.study.tiny', profile, str(folders.results),
                              str(folders.workdir), way, '--unit', str(unit), *strikes)


def strike(whom: str, number: signal.Signals, at: str, mark: pathlib.Path) -> None:
    """Sends a signal once, after a step named as <arm>/<seed>/<step>; then `mark` holds the id of this process."""
    original = train.Saving.__call__

    def save(self, step, state, metrics):
        original(self, step, state, metrics)
        *_, arm, seed, _ = self.measuring.report.path.parts
        if f'{arm}/{seed}/{step}' == at and not mark.exists():
            mark.write_text(f'{os.getpid()}')
            os.kill(os.getpid() if whom == 'worker' else os.getppid(), number)
            while whom == 'runner':
                time.sleep(1)  # this process ends with that one
    train.Saving.__call__ = save


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser()
    for name in ('profile', 'results', 'workdir', 'way'):
        parser.add_argument(name)
    parser.add_argument('--unit')
    parser.add_argument('--strikes', nargs=3, default=())
    given = parser.parse_args()
    folders = runner.Folders(pathlib.Path(given.results), pathlib.Path(given.workdir))
    strikes = ('--strikes', *given.strikes) if given.strikes else ()
    if given.unit:
        if strikes:
            whom, number = given.strikes[0].split()
            strike(whom, signal.Signals[number], given.strikes[1], pathlib.Path(given.strikes[2]))
        runner.run_unit(STUDY, given.profile, runner.Unit(*given.unit.split('/')), folders, given.way,
                        rich.console.Console())
    else:
        runner.run(STUDY, given.profile, NAMES, folders, way=given.way,
                   command=command(given.profile, folders, strikes))


if __name__ == '__main__':
    main()
