"""Who counts beyond the lengths seen in training? (R14 of the protocol)"""

import functools

import numpy as np

from configs import profiles, studies
from research.evaluation import forced
from research.study import expected, testing
from research.study.definition import FEW_RATES, Arm, Expectation, Planned, Profile, Study, Task, rehearsal, whole
from research.study.records import Score

MIXER = ('decoder.mixer', 'decoder.layers', 'decoder.position')
CELL = ('decoder.mixer',)
COUNT = ('plain', 'lstm', 'gru')           # their gates see the state
DO_NOT = ('softmax', 'minimal_gru', 'rg_lru', 'delta')
LONG = 90                                  # positions of a line, of 100 at most


def last(trainer, params, pairs):
    """The share of long lines whose last label is right: the state of everything before."""
    found = testing.forced(trainer, params, pairs)
    sizes = found.asked.sum(axis=1)[:, None]
    last = np.arange(found.asked.shape[1]) == sizes - 1
    return {'last': forced.scores(found, last & (sizes >= LONG))['accuracy']}


def _counts(runs):
    found = {arm: expected.average(own, expected.score('last')) for (_, arm), own in runs.items()}
    return all(value >= 0.95 for value in found.values()), _shown(found)


def _guesses(runs):
    found = {arm: expected.average(own, expected.score('last')) for (_, arm), own in runs.items()}
    return all(abs(value - 0.5) <= 0.05 for value in found.values()), _shown(found)


def _shown(found):
    return ', '.join(f'{arm} {expected.percent(value)}' for arm, value in found.items())


STUDY = Study(
    name='parity',
    question='Who counts beyond the lengths seen in training?',
    tasks=(Task('parity', 'whether the ones so far are odd; trained on 1 to 40 bits, tested to 100',
                functools.partial(studies.counting, 'parity'), floor=0.5, probe=last),
           Task('even pairs', 'whether a bit differs from the first one; the same lengths',
                functools.partial(studies.counting, 'even_pairs'), floor=0.5, probe=last)),
    arms=(
        Arm('softmax_no_position', 'multi-head attention, two layers, without positions',
            'mixer=multi_head_dot+position=none', MIXER[:2], control=True),
        Arm('plain', 'a plain recurrent cell', 'cell=plain', CELL),
        Arm('lstm', 'an LSTM', '', ()),
        Arm('gru', 'a GRU', 'cell=gru_reset_after', CELL),
        Arm('minimal_gru', 'a gate that sees the input alone', 'cell=minimal_gru', CELL),
        Arm('rg_lru', 'a linear recurrence whose rates are real and see the input alone', 'cell=rg_lru', CELL),
        Arm('delta', 'the delta rule, beta below 1; two layers', 'mixer=delta', MIXER,
            changes=(('decoder.mixer.path', 'chunked'),)),
        Arm('softmax', 'multi-head attention, two layers, sinusoidal positions', 'mixer=multi_head_dot', MIXER),
    ),
    base='lstm',
    profiles={
        'small': rehearsal(profiles.rehearsal() | profiles.MADE_UP),
        'cpu': Profile(10, profiles.budget(2000) | {'batches.tokens': 2048}, rates=FEW_RATES, claims=4,
                       other_seeds=3, hours=1.25),
        'full': whole(profiles.budget(20_000)),
    },
    planned=tuple(Planned('parity', arm, 'lstm') for arm in DO_NOT),
    score=Score('last', 'last label of 90 to 100 bits right', '%', True, 0.0, 'tokens_right'),
    phase=True,
    expectations=(
        Expectation('parity: plain, lstm and gru have at least 95 % of the last labels of long lines right',
                    tuple(('parity', arm) for arm in COUNT), _counts),
        Expectation('parity: softmax, minimal_gru, rg_lru and delta guess them: 50 % within 5 points',
                    tuple(('parity', arm) for arm in DO_NOT), _guesses),
        Expectation('even pairs, the easy control: softmax has at least 95 % of them right',
                    (('even pairs', 'softmax'),), _counts),
    ),
)
