"""What can be read without looking at what positions hold? (R4 of the protocol)"""

import functools

from configs import profiles, studies
from research.study import expected
from research.study.definition import FEW_RATES, Arm, Expectation, Planned, Profile, Study, Task, rehearsal, whole

READER = ('decoder.reader',)
FREE = ('location', 'mean', 'synthesizer_random')


def _location_copies(runs):
    value = expected.average(runs['fixed copy', 'location'], expected.score('accuracy'))
    return value >= 0.95, expected.percent(value)


def _content_is_needed(runs):
    value = expected.by_length(15, 20)
    base = expected.average(runs['reverse', 'additive'], value)
    found = {arm: expected.average(runs['reverse', arm], value) for arm in FREE}
    return base >= 0.95 and all(base - other >= 0.3 for other in found.values()), ', '.join(
        f'{arm} {expected.percent(other)}' for arm, other in {'additive': base, **found}.items())


STUDY = Study(
    name='content_free',
    question='What can be read without looking at what positions hold?',
    tasks=(Task('fixed copy', '12 symbols again, always as many', functools.partial(studies.content_free, 'copy'),
                floor=0.0),
           Task('reverse', '2 to 20 symbols backwards', functools.partial(studies.content_free, 'reverse'), floor=0.0)),
    arms=(
        Arm('none', 'starts from the last states and reads nothing', 'none', READER, control=True),
        Arm('mean', 'reads the mean of all annotations', 'mean', READER, control=True),
        Arm('location', 'chooses positions by the decoder alone', 'location', READER),
        Arm('synthesizer_random', 'learned weights, the same for every source', 'synthesizer_random', READER),
        Arm('additive', "Bahdanau's energy: looks at what positions hold", '', ()),
    ),
    base='additive',
    profiles={
        'small': rehearsal(profiles.rehearsal() | profiles.MADE_UP),
        'cpu': Profile(6, profiles.budget(2000), claims=1, rates=FEW_RATES, other_seeds=3, hours=0.5),
        'full': whole(profiles.budget(10_000)),
    },
    planned=(Planned('reverse', 'location', 'additive'), Planned('reverse', 'synthesizer_random', 'additive')),
    expectations=(
        Expectation('copies of a fixed length: location has at least 95 % of the sequences right',
                    (('fixed copy', 'location'),), _location_copies),
        Expectation('reversals of 15 to 20 symbols: additive has at least 95 % right, location, mean and '
                    'synthesizer_random at least 30 points less',
                    tuple(('reverse', arm) for arm in ('additive', *FREE)), _content_is_needed),
    ),
)
