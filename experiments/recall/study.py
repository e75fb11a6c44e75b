"""How many pairs of key and value does a mixer remember, and does it forget what was overwritten? (R7, R8)

A task is a width and a number of pairs. A run ends when 90 % of the labels of dev are right twice in a row; so what is
compared is how many runs get there, and when.
"""

import functools

import numpy as np

from configs import profiles, studies
from research.evaluation import forced
from research.study import comparison, expected, testing
from research.study.definition import (
    FEW_RATES,
    Arm,
    Expectation,
    NotDecidableError,
    NotMeasuredError,
    Planned,
    Profile,
    Study,
    Task,
    rehearsal,
    whole,
)
from research.study.floors import at_floor
from research.study.records import Score
from research.text import labelled

WIDTHS, PAIRS, RUNS = (32, 64), (4, 8, 16), 10
OVERWRITTEN = 'overwritten'
THRESHOLD = 0.9
MIXER = ('decoder.mixer',)
CHUNKED = (('decoder.mixer.path', 'chunked'),)
FIXED = ('linear', 'retention', 'gated_linear', 'taylor', 'delta')  # memories of fixed size


def _cell(width, pairs):
    return f'{width} wide, {pairs} pairs'


EIGHT = tuple(_cell(width, 8) for width in WIDTHS)
CELLS = tuple(_cell(width, pairs) for width in WIDTHS for pairs in PAIRS)


def reached(trainer, params, pairs):
    """Whether the labels of test are right as often as the threshold asks."""
    return {'reached': float(forced.scores(testing.forced(trainer, params, pairs))['accuracy'] >= THRESHOLD)}


def untouched_and_overwritten(trainer, params, pairs):
    """The same, and the shares of right labels of keys that have got a new value and of the others."""
    found = testing.forced(trainer, params, pairs)
    again = np.zeros_like(found.asked)
    for row, pair in enumerate(pairs):
        overwritten = labelled.overwritten(pair)
        again[row, :len(overwritten)] = overwritten
    return {**reached(trainer, params, pairs), 'overwritten': forced.scores(found, again)['accuracy'],
            'untouched': forced.scores(found, ~again)['accuracy']}


def _most_pairs(runs, width, arm):
    """The most pairs at which at least half of the runs got there, 0 if none did."""
    counts = {pairs: sum(comparison.first_step(run, THRESHOLD) is not None for run in runs[_cell(width, pairs), arm])
              for pairs in PAIRS}
    return max((pairs for pairs, count in counts.items()
                if 2 * count >= len(runs[_cell(width, pairs), arm])), default=0)


def _softmax_remembers_more(runs):
    found = {width: [_most_pairs(runs, width, arm) for arm in ('softmax', 'linear')] for width in WIDTHS}
    text = '; '.join(f'{width} wide: softmax {softmax or "fewer than 4"}, linear {linear or "fewer than 4"} pairs'
                     for width, (softmax, linear) in found.items())
    if min(map(len, runs.values())) < RUNS:
        raise NotDecidableError(text)
    if all(max(PAIRS) == softmax == linear for softmax, linear in found.values()):
        raise NotMeasuredError(text + ': no more were tried')
    return all(softmax >= 2 * max(linear, min(PAIRS) / 2) for softmax, linear in found.values()), text


def _one_layer_guesses(runs):
    found = []
    for run in runs[_cell(64, 8), 'one_layer']:
        tokens = sum(row['tokens'] for row in run['by_length'])
        right = sum(row['tokens_right'] for row in run['by_length'])
        found.append((at_floor(right, tokens, 1 / 8), right / tokens))
    return all(floor for floor, _ in found), ', '.join(expected.percent(share) for _, share in found)


def _forgets(arms, holds, text):
    def measure(runs):
        found = {}
        for arm in arms:
            untouched, again = (expected.average(runs[OVERWRITTEN, arm], expected.score(name))
                                for name in ('untouched', 'overwritten'))
            found[arm] = untouched, again
        shown = ', '.join(f'{arm}: untouched {expected.percent(one)}, overwritten {expected.percent(other)}'
                          for arm, (one, other) in found.items())
        if any(one < 0.9 for one, _ in found.values()):
            raise NotMeasuredError(f'{shown}: untouched keys did not reach 90 %')
        return all(holds(other - one) for one, other in found.values()), shown
    return Expectation(text, tuple((OVERWRITTEN, arm) for arm in arms), measure)


STUDY = Study(
    name='recall',
    question='How many pairs of key and value does a mixer remember, and does it forget what was overwritten?',
    tasks=(*(Task(_cell(width, pairs), f'{pairs} pairs of 128 symbols in 64 positions',
                  functools.partial(studies.recalling, width, pairs), floor=0.0, probe=reached)
             for width in WIDTHS for pairs in PAIRS),
           Task(OVERWRITTEN, '8 pairs, half of which get another value', functools.partial(studies.overwritten, 8),
                floor=0.0, probe=untouched_and_overwritten)),
    arms=(
        Arm('one_layer', 'softmax, one layer: it cannot look for a key and then beside it', '',
            ('decoder.layers',), control=True, changes=(('decoder.layers', 1),), tasks=(_cell(64, 8),)),
        Arm('no_position', 'softmax without positions', 'position=none', ('decoder.position',), control=True,
            tasks=(_cell(64, 8),)),
        Arm('softmax', 'multi-head attention: keeps every position', '', ()),
        Arm('linear', 'a sum of products of keys and values', 'mixer=linear', MIXER, changes=CHUNKED),
        Arm('retention', 'the same sum, fading with the distance', 'mixer=retention', MIXER, changes=CHUNKED,
            tasks=EIGHT),
        Arm('gated_linear', 'the same sum, fading as the input says', 'mixer=gated_linear', MIXER, changes=CHUNKED,
            tasks=EIGHT),
        Arm('taylor', 'the same sum of second-order features', 'mixer=taylor', MIXER, changes=CHUNKED, tasks=EIGHT),
        Arm('delta', 'writes what a key does not yet give', 'mixer=delta', MIXER, changes=CHUNKED,
            tasks=(*EIGHT, OVERWRITTEN)),
        Arm('gated_delta', 'the same, fading as the input says', 'mixer=gated_delta', MIXER, changes=CHUNKED,
            tasks=(OVERWRITTEN,)),
    ),
    base='softmax',
    profiles={
        'small': rehearsal(profiles.rehearsal() | profiles.MADE_UP, tasks=(_cell(64, 8), OVERWRITTEN)),
        'cpu': Profile(RUNS, profiles.budget(1500, 15) | {'batches.tokens': 2048, 'data.test': 500},
                       rates=FEW_RATES, ends_at_threshold=True, hours=1.25),
        'full': whole(profiles.budget(20_000, 40),
                        ends_at_threshold=True),
    },
    planned=(*(Planned(cell, arm, 'softmax') for arm in FIXED for cell in EIGHT),
             Planned(OVERWRITTEN, 'delta', 'linear'), Planned(OVERWRITTEN, 'gated_delta', 'linear')),
    score=Score('reached', 'runs that reached 90 %', '%', True, 0.0, 'tokens_right'),
    phase=True,
    threshold=THRESHOLD,
    expectations=(
        Expectation('the most pairs at which at least 5 of 10 runs reach 90 %: softmax at least twice those of linear, '
                    'at each width', tuple((cell, arm) for cell in CELLS for arm in ('softmax', 'linear')),
                    _softmax_remembers_more),
        Expectation('softmax of one layer guesses among the values: 1/8', ((_cell(64, 8), 'one_layer'),),
                    _one_layer_guesses),
        _forgets(('delta', 'gated_delta'), lambda gap: gap >= -0.05, 'where untouched keys reach 90 %: delta and '
                 'gated_delta are at most 5 points worse at overwritten ones'),
        _forgets(('linear',), lambda gap: gap <= -0.2, 'where untouched keys reach 90 %: linear is at least 20 points '
                 'worse at overwritten ones'),
    ),
)
