"""Which positions still work on text four times as long as in training? (R11 of the protocol)

A model of English letters, trained on pieces of 64 and tested on pieces of 256.
"""

import math

import numpy as np

from configs import profiles, studies
from research.evaluation import forced
from research.study import expected, testing
from research.study.definition import FEW_RATES, Arm, Expectation, Planned, Profile, Study, Task, rehearsal, whole
from research.study.records import Score

KEYS = ('decoder.position', 'decoder.mixer.position')
TRAINED, LIMITS = 64, {'sinusoidal': (1.5, math.inf), 'rotary': (1.1, math.inf), 'alibi': (0.0, 1.05)}


def ratio(trainer, params, pairs):
    """The perplexity of whole pieces over that of their first 64 symbols."""
    found = testing.forced(trainer, params, pairs)
    whole = forced.scores(found)['perplexity']
    within = forced.scores(found, np.arange(found.asked.shape[1]) < TRAINED)['perplexity']
    return {'perplexity_ratio': whole / within, 'perplexity_within': within}


def _limit(arm):
    low, high = LIMITS[arm]

    def measure(runs):
        value = expected.average(runs['letters', arm], expected.score('perplexity_ratio'))
        return low < value < high, f'{value:.3f}'
    return Expectation(f'{arm}: perplexity of 256 letters over that of 64 is '
                       + (f'above {low}' if low else f'below {high}'), (('letters', arm),), measure)


STUDY = Study(
    name='extrapolation',
    question='Which positions still work on text four times as long as in training?',
    tasks=(Task('letters', 'English letters, trained on pieces of 64, tested on pieces of 256', studies.letters,
                probe=ratio),),
    arms=(
        Arm('none', 'nothing is added and nothing compared', 'position=none', KEYS[:1], control=True),
        Arm('sinusoidal', 'waves are added to embeddings', '', ()),
        Arm('rotary', 'queries and keys are turned by their place', 'position=rotary', KEYS),
        Arm('alibi', 'energies fall with the distance', 'position=alibi', KEYS),
        Arm('t5_bias', 'a learned number for each distance', 'position=t5_bias', KEYS),
    ),
    base='sinusoidal',
    profiles={
        'small': rehearsal(profiles.rehearsal(), seeds=1, test_sample=20),
        'cpu': Profile(6, profiles.budget(1000) | {'batches.tokens': 4096}, claims=1, rates=FEW_RATES,
                       other_seeds=3, test_sample=400, hours=1.0),
        'full': whole(profiles.budget(20_000) | {'batches.tokens': 16_384}),
    },
    planned=(Planned('letters', 'alibi', 'sinusoidal'), Planned('letters', 'rotary', 'sinusoidal')),
    score=Score('perplexity_ratio', 'perplexity of 256 letters over that of 64', '', False, 10.0, 'loss'),
    expectations=tuple(_limit(arm) for arm in LIMITS),
)
