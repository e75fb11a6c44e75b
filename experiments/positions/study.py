"""What does a Transformer know of order, and how far beyond what it was trained on? (R5 and R10 of the protocol)"""

from configs import profiles, studies
from research.study import expected
from research.study.definition import (
    FEW_RATES,
    Arm,
    Expectation,
    NotMeasuredError,
    Planned,
    Profile,
    Study,
    Task,
    rehearsal,
    whole,
)

ADDED = ('encoder.position', 'decoder.position')  # to embeddings
KEYS = (*ADDED, 'encoder.mixer.position', 'decoder.mixer.position')
RELATIVE = ('rotary', 'alibi', 't5_bias', 'shaw')
SCHEMES = ('sinusoidal', 'learned', *RELATIVE)
FLOOR = sum(1 / n for n in range(1, 9)) / 8  # of 8 symbols whose order is unknown, given those before: 0.340


def _unordered(runs):
    value = expected.average(runs['order', 'none'], _symbols)
    return abs(value - FLOOR) <= 0.03, f'{expected.percent(value)}; without order {expected.percent(FLOOR)}'


def _symbols(run):
    """The share of symbols right without the end symbol, which is known by their number."""
    row, = (row for row in run['by_length'] if row['count'])
    return (row['tokens_right'] - row['count']) / (row['tokens'] - row['count'])


def _ordered(runs):
    found = {arm: expected.average(own, _symbols) for (_, arm), own in runs.items()}
    worst = min(found, key=found.get)
    return found[worst] >= 0.99, f'the worst, {worst}, {expected.percent(found[worst])}'


def _within(runs):
    found = {arm: expected.average(own, expected.by_length(1, 16)) for (_, arm), own in runs.items()}
    return all(value >= 0.98 for value in found.values()), ', '.join(
        f'{arm} {expected.percent(value)}' for arm, value in found.items())


def _falls(runs):
    found = {arm: [expected.average(own, expected.by_length(n, n)) for n in (17, 18, 20)]
             for (_, arm), own in runs.items()}
    falling = all(first >= second >= third for first, second, third in found.values())
    lowest = all(found['rotary'][0] < found[arm][0] for arm in ('alibi', 'sinusoidal', 'none'))
    return falling and lowest, '; '.join(f'{arm} ' + ', '.join(map(expected.percent, values))
                                         for arm, values in found.items())


def _ends(runs):
    found = {arm: expected.average(own, expected.by_length(24, 24)) for (_, arm), own in runs.items()}
    if not found:
        raise NotMeasuredError('no run')
    return all(value <= 0.05 for value in found.values()), ', '.join(
        f'{arm} {expected.percent(value)}' for arm, value in found.items())


STUDY = Study(
    name='positions',
    question='What does a Transformer know of order, and how far beyond the lengths it was trained on?',
    tasks=(Task('order', 'copies of 8 different symbols', studies.order, floor=FLOOR),
           Task('extrapolation', 'copies of 1 to 16 symbols, tested to 24', studies.extrapolation, floor=0.0)),
    arms=(
        Arm('none', 'nothing is added and nothing compared', 'position=none', ADDED, control=True),
        Arm('sinusoidal', 'waves are added to embeddings', '', ()),
        Arm('learned', 'a learned vector is added to each embedding', 'position=learned', ADDED, tasks=('order',)),
        Arm('rotary', 'queries and keys are turned by their place', 'position=rotary', KEYS),
        Arm('alibi', 'energies fall with the distance', 'position=alibi', KEYS),
        Arm('t5_bias', 'a learned number for each distance', 'position=t5_bias', KEYS),
        Arm('shaw', 'a learned vector for each distance', 'position=shaw', KEYS),
    ),
    base='sinusoidal',
    profiles={
        'small': rehearsal(profiles.rehearsal() | profiles.MADE_UP),
        'cpu': Profile(6, profiles.budget(2000), claims=1, rates=FEW_RATES, other_seeds=3, hours=0.5),
        'full': whole(profiles.budget(10_000)),
    },
    planned=(Planned('extrapolation', 'alibi', 'sinusoidal'), Planned('extrapolation', 'rotary', 'sinusoidal')),
    expectations=(
        Expectation('none: the share of symbols right is within 3 points of what order alone leaves, (1 + 1/2 + ... + '
                    '1/8) / 8 = 34.0 %', (('order', 'none'),), _unordered),
        Expectation('every other scheme: at least 99 % of the symbols right', tuple(
            ('order', arm) for arm in SCHEMES), _ordered),
        Expectation('copies of 1 to 16 symbols: every scheme has at least 98 % of the sequences right', tuple(
            ('extrapolation', arm) for arm in ('none', 'sinusoidal', *RELATIVE)), _within),
        Expectation('beyond the training lengths, at 17, 18 and 20, accuracy falls; at 17 rotary is below alibi, '
                    'sinusoidal and none', tuple(('extrapolation', arm) for arm in (
                        'none', 'sinusoidal', 'rotary', 'alibi')), _falls),
        Expectation('at 24 symbols at most 5 % of the sequences are right', tuple(
            ('extrapolation', arm) for arm in ('none', 'sinusoidal', *RELATIVE)), _ends),
    ),
)
