"""How much of multi-head attention do fewer keys and values keep? (R15 of the protocol)

The arms have as many parameters: the feed-forward networks of those with fewer projections are wider.
"""

from configs import profiles, studies
from research.study import expected, testing
from research.study.definition import (
    FEW_RATES,
    Arm,
    Expectation,
    Planned,
    Profile,
    Study,
    Task,
    parameters,
    rehearsal,
    whole,
)
from research.study.records import Score

PARTS = ('encoder.mixer', 'decoder.mixer', 'decoder.reader')
HEADS, WIDTH = 4, 16
FEWER = tuple((f'{part}.{key}', value) for part in PARTS for key, value in (('heads', 1), ('head_width', WIDTH)))
KEPT = {'multi_head': HEADS, 'grouped_query': 2, 'multi_query': 1}  # heads of keys and values


def bytes_a_position(trainer, params, pairs):
    """What one written symbol more adds to the state of decoding."""
    return {'bytes_a_position': float(testing.bytes_a_position(trainer))}


def _exact(runs):
    found = {arm: {run['scores']['bytes_a_position'] for run in own} for (_, arm), own in runs.items()}
    whole, = found['multi_head']
    return all(values == {whole * KEPT[arm] / HEADS} for arm, values in found.items()), ', '.join(
        f'{arm} {max(values):.0f}' for arm, values in found.items()) + ' bytes a position'


def _as_good(runs):
    losses = {arm: expected.average(own, expected.score('loss')) for (_, arm), own in runs.items()}
    return all(losses[arm] - losses['multi_head'] <= 0.05 for arm in ('grouped_query', 'multi_query')), _shown(losses)


def _better_than_fewer(runs):
    losses = {arm: expected.average(own, expected.score('loss')) for (_, arm), own in runs.items()}
    return losses['multi_query'] < losses['one_head'], _shown(losses)


def _shown(losses):
    return ', '.join(f'{arm} {loss:.4f}' for arm, loss in losses.items()) + ' nats'


STUDY = Study(
    name='key_value_heads',
    question='How much of multi-head attention do fewer keys and values keep?',
    tasks=(Task('reverse', 'the source backwards, 1 to 20 symbols', studies.heads, probe=bytes_a_position),),
    arms=(
        Arm('none', 'starts from a mean of the annotations and reads nothing', 'none', ('decoder.reader',),
            control=True),
        Arm('multi_head', f'{HEADS} heads, each with its own keys and values', '', ()),
        Arm('grouped_query', f'{HEADS} heads, 2 of keys and values', 'grouped_query+mixer=grouped_query', PARTS),
        Arm('multi_query', f'{HEADS} heads, one of keys and values', 'multi_query+mixer=multi_query', PARTS),
        Arm('one_head', 'one head of the same width: the state of multi_query', '', PARTS, changes=FEWER),
    ),
    base='multi_head',
    profiles={
        'small': rehearsal(profiles.rehearsal() | profiles.MADE_UP | {'data.longest': 6, 'data.longest_test': 9}),
        'cpu': Profile(6, profiles.budget(1500) | {'data.longest_test': 20}, claims=1, rates=FEW_RATES,
                       other_seeds=3, hours=0.6),
        'full': whole(profiles.budget(10_000) | {'data.longest_test': 20}),
    },
    planned=(Planned('reverse', 'multi_query', 'multi_head'), Planned('reverse', 'multi_query', 'one_head'),
             Planned('reverse', 'grouped_query', 'multi_head')),
    score=Score('loss', 'loss', 'nats a symbol', False, 3.5, 'loss'),  # ln 33 = 3.5: of guessing
    budget=parameters('encoder.hidden', 'decoder.hidden'),
    expectations=(
        Expectation('decoding keeps exactly K / N of the bytes of multi-head attention for a position', tuple(
            ('reverse', arm) for arm in KEPT), _exact),
        Expectation('with as many parameters grouped_query and multi_query are at most 0.05 nat worse', tuple(
            ('reverse', arm) for arm in KEPT), _as_good),
        Expectation('multi_query is better than one head, which keeps as much', tuple(
            ('reverse', arm) for arm in ('multi_query', 'one_head')), _better_than_fewer),
    ),
)
