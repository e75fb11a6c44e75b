"""What does attention buy in translation? (R13 of the protocol)

From no reading at all to a Transformer, on Multi30k with 4,000 subwords.
"""

import itertools

from configs import profiles, studies
from research.study import expected
from research.study.definition import (
    BLEU,
    FEW_RATES,
    Arm,
    Expectation,
    NotDecidableError,
    Planned,
    Profile,
    Study,
    Task,
    rehearsal,
    whole,
)

TASK, READER = 'multi30k', ('decoder.reader',)
ORDER = ('none', 'fixed_context', 'additive', 'transformer')
STEPS = tuple(itertools.pairwise(ORDER))


def _ordered(runs):
    found = [expected.average(runs[TASK, arm], expected.score('bleu')) for arm in ORDER]
    shown = ', '.join(f'{arm} {value:.1f}' for arm, value in zip(ORDER, found))
    if found != sorted(found):
        return False, shown
    try:
        said = {expected.differ(runs[TASK, more], runs[TASK, less], expected.score('bleu'))[0]
                for less, more in STEPS[:2]}
    except NotDecidableError:
        raise NotDecidableError(f'the order is kept: {shown}; whether the first two steps differ takes more runs'
                                ) from None
    return said == {'better'}, shown


def _perplexities(runs):
    found = [expected.average(runs[TASK, arm], expected.score('loss')) for arm in ORDER]
    return found == sorted(found, reverse=True), ', '.join(
        f'{arm} {value:.3f}' for arm, value in zip(ORDER, found)) + ' nats a subword'


STUDY = Study(
    name='attention_on_translation',
    question='What does attention buy in translation?',
    tasks=(Task(TASK, 'German to English, captions of pictures', studies.translating),),
    arms=(
        Arm('none', 'starts from the last states and reads nothing', 'none', READER, control=True),
        Arm('fixed_context', 'reads the last states at each step', 'fixed_context', READER, control=True),
        Arm('additive', "Bahdanau's energy, one head", '', ()),
        Arm('scaled_dot', 'a product over the root of the width, one head', 'scaled_dot', READER),
        Arm('multi_head_dot', 'scaled products, four heads with projections', 'multi_head_dot', READER),
        Arm('transformer', 'Transformer encoder and decoder', 'transformer', ('encoder', 'decoder', 'training')),
    ),
    base='additive',
    profiles={
        'small': rehearsal(profiles.rehearsal() | {'training.average': 1}, seeds=1, test_sample=20),
        'cpu': Profile(3, profiles.budget(2000) | {'training.average': 1},
                       'Descriptive: three seeds; the test of sentences speaks of the median seeds.', claims=1,
                       rates=FEW_RATES, hours=2.5),
        'full': whole(profiles.budget(20_000) | {'batches.tokens': 9216}),
    },
    planned=(Planned(TASK, 'additive', 'fixed_context'), *(Planned(TASK, more, less) for less, more in STEPS
                                                             if less != 'fixed_context')),
    score=BLEU,
    expectations=(
        Expectation('BLEU: none < fixed_context < additive < transformer, and the first two steps differ',
                    tuple((TASK, arm) for arm in ORDER), _ordered),
        Expectation('perplexity of the given right answers: the same order',
                    tuple((TASK, arm) for arm in ORDER), _perplexities),
    ),
)
