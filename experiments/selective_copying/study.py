"""Does a recurrent cell need its state in its gates to choose what it keeps? (R9 of the protocol)"""

import functools

from configs import profiles, studies
from research.study import expected
from research.study.definition import (
    ACCURACY,
    FEW_RATES,
    Arm,
    Expectation,
    Planned,
    Profile,
    Study,
    Task,
    rehearsal,
    whole,
)

CELL = ('decoder.mixer',)
SIZES = ((32, 4), (32, 8), (64, 4))


def _name(length, tokens):
    return f'{tokens} of {length}'


def _gru_is_better(runs):
    found = {(length, tokens): expected.differ(runs[_name(length, tokens), 'gru'], runs[
        _name(length, tokens), 'minimal_gru'], expected.score('accuracy'), phase=True)
        for length, tokens in SIZES[:2]}
    return all(word == 'better' for word, _ in found.values()), '; '.join(
        f'{_name(*size)}: {text}' for size, (_, text) in found.items())


def _gap_follows_tokens(runs):
    gaps = {size: expected.average(runs[_name(*size), 'gru'], expected.score('accuracy')) - expected.average(
        runs[_name(*size), 'minimal_gru'], expected.score('accuracy')) for size in SIZES}
    few, many, long = (gaps[size] for size in SIZES)
    return abs(long - few) < abs(many - few), ', '.join(
        f'{_name(*size)}: {100 * gap:.1f} points' for size, gap in gaps.items())


STUDY = Study(
    name='selective_copying',
    question='Does a recurrent cell need its state in its gates to choose what it keeps?',
    tasks=tuple(Task(_name(*size), f'{size[1]} of 16 symbols out of {size[0]} positions',
                     functools.partial(studies.selecting, *size), floor=16.0 ** -size[1]) for size in SIZES),
    arms=(
        Arm('plain', 'a plain recurrent cell', 'cell=plain', CELL, control=True),
        Arm('gru', 'gates that see input and state', '', ()),
        Arm('lstm', 'gates that see input and state, and a cell of its own', 'cell=lstm', CELL),
        Arm('minimal_gru', 'a gate that sees the input alone', 'cell=minimal_gru', CELL),
        Arm('minimal_lstm', 'gates that see the input alone', 'cell=minimal_lstm', CELL),
        Arm('two_minimal_gru', 'minimal_gru, two layers', 'cell=minimal_gru', (*CELL, 'decoder.layers'),
            changes=(('decoder.layers', 2),)),
    ),
    base='gru',
    profiles={
        'small': rehearsal(profiles.rehearsal() | profiles.MADE_UP),
        'cpu': Profile(10, profiles.budget(600), rates=FEW_RATES, claims=2, other_seeds=3, hours=0.75),
        'full': whole(profiles.budget(2000)),
    },
    planned=tuple(Planned(_name(*size), 'minimal_gru', 'gru') for size in SIZES[:2]) + tuple(
        Planned(_name(*size), arm, 'gru') for size in SIZES for arm in ('minimal_lstm', 'two_minimal_gru', 'lstm')),
    score=ACCURACY,
    phase=True,
    expectations=(
        Expectation('gru has more sequences right than minimal_gru and differs from it, with 4 and with 8 tokens of 32',
                    tuple((_name(*size), arm) for size in SIZES[:2] for arm in ('gru', 'minimal_gru')),
                    _gru_is_better),
        Expectation('the gap follows the number of tokens and not the length: 4 of 64 is nearer to 4 of 32 than 8 of '
                    '32 is', tuple((_name(*size), arm) for size in SIZES for arm in ('gru', 'minimal_gru')),
                    _gap_follows_tokens),
    ),
)
