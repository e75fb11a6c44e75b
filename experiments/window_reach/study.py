"""How far do layers of a window see? (R6 of the protocol)

A window of C = 4 positions sees C - 1 = 3 back, and L = 2 layers see L (C - 1) = 6. A task is a distance: each label is
the symbol so many positions before.
"""

import functools

import numpy as np

from configs import profiles, studies
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

LAYERS, WINDOW, SYMBOLS = 2, 4, 16
EDGE = LAYERS * (WINDOW - 1)
DISTANCES = (WINDOW - 1, EDGE, EDGE + 1, 12)


def before_training(trainer, params, pairs):
    """How far back the gradient of a loss is not exactly 0, with parameters as they begin: the farthest such."""
    norms = testing.input_gradients(trainer, trainer.initial(0), pairs[:8])  # [B, T, T]
    there = np.array([[t - s for t in range(norms.shape[1]) for s in range(t + 1) if norms[row, t, s] > 0]
                      for row in range(len(norms))], dtype=object)
    return {'gradient_reaches': float(max(max(row) for row in there))}


def _edge_is_exact(runs):
    found = {run['scores']['gradient_reaches'] for own in runs.values() for run in own}
    return found == {float(EDGE)}, ', '.join(f'{value:.0f}' for value in sorted(found))


def _inside(runs):
    value = expected.average(runs[str(WINDOW - 1), 'sliding_window'], expected.score('token_accuracy'))
    return value >= 0.9, expected.percent(value)


def _beyond(runs):
    found = {task: expected.average(own, expected.score('token_accuracy')) for (task, _), own in runs.items()}
    return all(abs(value - 1 / SYMBOLS) <= 0.03 for value in found.values()), ', '.join(
        f'{task} back {expected.percent(value)}' for task, value in found.items()) + (
        f'; guessing {100 / SYMBOLS:.1f} %')


STUDY = Study(
    name='window_reach',
    question='How far do layers of a window see?',
    tasks=tuple(Task(str(distance), f'the symbol {distance} positions before',
                     functools.partial(studies.reaching, distance), floor=1 / SYMBOLS, probe=before_training)
                for distance in DISTANCES),
    arms=(
        Arm('everything', 'multi-head attention to all positions before', 'mixer=multi_head_dot', ('decoder.mixer',),
            control=True),
        Arm('sliding_window', f'multi-head attention to {WINDOW} positions, its own among them', '', ()),
    ),
    base='sliding_window',
    profiles={
        'small': rehearsal(profiles.rehearsal() | profiles.MADE_UP),
        'cpu': Profile(6, profiles.budget(600), claims=1, rates=FEW_RATES, other_seeds=3, hours=0.4),
        'full': whole(profiles.budget(5000)),
    },
    planned=tuple(Planned(str(distance), 'everything', 'sliding_window') for distance in DISTANCES[2:]),
    score=TOKEN_ACCURACY,
    expectations=(
        Expectation(f'before training the gradient is exactly 0 beyond L (C - 1) = {EDGE} positions, and is not there',
                    tuple((str(distance), 'sliding_window') for distance in DISTANCES), _edge_is_exact),
        Expectation(f'at least 90 % of the symbols C - 1 = {WINDOW - 1} back are right',
                    ((str(WINDOW - 1), 'sliding_window'),), _inside),
        Expectation('beyond the edge symbols are guessed: 1/16 within 3 points',
                    tuple((str(distance), 'sliding_window') for distance in DISTANCES[2:]), _beyond),
    ),
)
