"""Does a source read backwards translate better, where nothing is read but a vector? (R2 of the protocol)

Two layers of one-way LSTMs, the last states of which start the decoder. Read backwards, the first words of a sentence
are the freshest when it begins to write.
"""

from configs import profiles, studies
from research.study import expected
from research.study.definition import BLEU, FEW_RATES, Arm, Expectation, Planned, Profile, Study, Task, rehearsal, whole

TASK = 'multi30k'


def _backward_is_better(runs):
    backward, forward = (runs[TASK, arm] for arm in ('backward', 'forward'))
    gap = expected.average(backward, expected.score('bleu')) - expected.average(forward, expected.score('bleu'))
    word, text = expected.differ(backward, forward, expected.score('bleu'))
    return gap >= 3 and word == 'better', text


STUDY = Study(
    name='source_order',
    question='Does a source read backwards translate better, where nothing is read but a vector?',
    tasks=(Task(TASK, 'German to English, captions of pictures', studies.order_of_source),),
    arms=(
        Arm('forward', 'reads from the first word to the last', '', ()),
        Arm('backward', 'reads from the last word to the first', '', ('encoder.backward',),
            changes=(('encoder.backward', True),)),
    ),
    base='forward',
    profiles={
        'small': rehearsal(profiles.rehearsal() | {'training.average': 1}, seeds=1, test_sample=20),
        'cpu': Profile(3, profiles.budget(2000) | {'training.average': 1},
                       'Descriptive: three seeds; the test of sentences speaks of the median seeds.',
                       rates=FEW_RATES, hours=2),
        'full': whole(profiles.budget(20_000) | {'batches.tokens': 9216}),
    },
    planned=(Planned(TASK, 'backward', 'forward'),),
    score=BLEU,
    expectations=(
        Expectation('backward has at least 3 BLEU more than forward, and differs',
                    ((TASK, 'backward'), (TASK, 'forward')), _backward_is_better),
    ),
)
