"""Does a reader with a window read inside of it, and only there? (R3 of the protocol)

An annotation is the embedding of a symbol and of its place, so nothing of a symbol stands anywhere else, and symbols
are drawn independently. Position t of the output reads the places from t - C to t + C.

    copy       t is copied from place t: always inside
    reverse    t is copied from place S + 1 - t: inside where |S + 1 - 2 t| <= C; not yet where S + 1 - 2 t > C
"""

import functools

import numpy as np

from configs import profiles, studies
from research.evaluation import forced
from research.study import expected, testing
from research.study.definition import (
    FEW_RATES,
    TOKEN_ACCURACY,
    Arm,
    Expectation,
    Planned,
    Profile,
    Study,
    Task,
    rehearsal,
    whole,
)

READER = ('decoder.reader',)
WINDOW, SYMBOLS = 3, 16  # C and V of configs/studies.py


def by_side(trainer, params, pairs):
    """Shares of symbols right where reversal is inside of the window, not yet inside, and behind it."""
    found = testing.forced(trainer, params, pairs)
    S, t = np.array([[len(pair.source.split())] for pair in pairs]), 1 + np.arange(found.right.shape[1])
    side = S + 1 - 2 * t
    return {name: forced.scores(found, where & (t <= S))['accuracy'] for name, where in (  # without the end symbol
        ('inside', abs(side) <= WINDOW), ('not_yet', side > WINDOW), ('behind', side < -WINDOW))}


def _copies(runs):
    value = expected.average(runs['copy', 'local_monotonic'], expected.score('accuracy'))
    return value >= 0.95, expected.percent(value)


def _reads_inside_alone(runs):
    own = runs['reverse', 'local_monotonic']
    inside, not_yet, behind = (expected.average(own, expected.score(name)) for name in ('inside', 'not_yet', 'behind'))
    return inside >= 0.9 and not_yet <= 1 / SYMBOLS + 0.03, (
        f'inside {expected.percent(inside)}, not yet {expected.percent(not_yet)} (guessing {100 / SYMBOLS:.1f} %); '
        f'behind, where it may be remembered, {expected.percent(behind)}')


STUDY = Study(
    name='reading_window',
    question='Does a reader with a window read inside of it, and only there?',
    tasks=tuple(Task(task, summary, functools.partial(studies.windows, task), floor=1 / SYMBOLS,
                     probe=by_side)
                for task, summary in (('copy', '12 symbols again'), ('reverse', '12 symbols backwards'))),
    arms=(
        Arm('none', 'starts from the end symbol and reads nothing', 'none', READER, control=True),
        Arm('mean', 'reads the mean of all annotations', 'mean', READER, control=True),
        Arm('location', 'chooses positions by the decoder alone', 'location', READER, control=True),
        Arm('additive', 'reads everything', 'additive', READER, control=True),
        Arm('local_monotonic', f'reads {WINDOW} places to each side of the one that is written', '', ()),
    ),
    base='local_monotonic',
    profiles={
        'small': rehearsal(profiles.rehearsal() | profiles.MADE_UP),
        'cpu': Profile(6, profiles.budget(1500), claims=1, rates=FEW_RATES, other_seeds=3, hours=0.5),
        'full': whole(profiles.budget(6000)),
    },
    planned=(Planned('reverse', 'local_monotonic', 'additive'),),
    score=TOKEN_ACCURACY,
    expectations=(
        Expectation('copy: at least 95 % of the sequences are right', (('copy', 'local_monotonic'),), _copies),
        Expectation('reverse: at least 90 % of the symbols inside of the window are right, and those that are not yet '
                    'inside at most 3 points above guessing', (('reverse', 'local_monotonic'),), _reads_inside_alone),
    ),
)
