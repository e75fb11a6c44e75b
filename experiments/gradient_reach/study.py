"""How fast does a gradient fade with the distance that it goes back? (R16 of the protocol)

The loss of the last symbol that is written, in the embedding of each source symbol: between them lie as many steps of
the cells as symbols, and two of attention.
"""

from configs import profiles, studies
from research.study import expected, testing
from research.study.definition import FEW_RATES, Arm, Expectation, Planned, Profile, Study, Task, rehearsal, whole
from research.study.records import Score

READ = (('plain', 'lstm'), ('lstm', 'attention'))  # each is steeper than the next


def slopes(trainer, params, pairs):
    """The slope of the logarithm of the gradient a position, before training and after it."""
    return {'slope_before': testing.gradient_slope(trainer, trainer.initial(0), pairs[:100]),
            'slope': testing.gradient_slope(trainer, params, pairs[:100])}


def _steeper(name):
    def measure(runs):
        found = {arm: expected.average(own, expected.score(name)) for (_, arm), own in runs.items()}
        said = [expected.differ(runs['copy', less], runs['copy', more], expected.score(name))[0] for less, more in READ]
        return set(said) == {'worse'}, _shown(found)
    return measure


def _does_not_fade(runs):
    found = {name: expected.average(runs['copy', 'attention'], expected.score(name)) for name in (
        'slope_before', 'slope')}
    return min(found.values()) > -0.02, _shown(found)


def _shown(found):
    return ', '.join(f'{name} {value:+.3f}' for name, value in found.items())


CELLS = ('encoder.cell', 'decoder.cell')
ALL = tuple(('copy', arm) for arm in ('plain', 'lstm', 'attention'))
STUDY = Study(
    name='gradient_reach',
    question='How fast does a gradient fade with the distance that it goes back?',
    tasks=(Task('copy', 'the source again, 1 to 20 symbols', studies.states, probe=slopes),),
    arms=(
        Arm('plain', 'plain cells, nothing is read', 'none+cell=plain', CELLS),
        Arm('gru', 'GRUs, nothing is read', 'none+cell=gru_reset_after', CELLS),
        Arm('lstm', 'LSTMs whose forget gates begin open, nothing is read', '', ()),
        Arm('attention', "LSTMs that read by Bahdanau's energy", 'additive+cell=lstm', ('decoder.reader',)),
    ),
    base='lstm',
    profiles={
        'small': rehearsal(profiles.rehearsal() | profiles.MADE_UP | {'data.longest': 6, 'data.longest_test': 9}),
        'cpu': Profile(8, profiles.budget(1000), rates=FEW_RATES, other_seeds=3, hours=0.5),
        'full': whole(profiles.budget(5000)),
    },
    planned=(Planned('copy', 'plain', 'lstm'), Planned('copy', 'attention', 'lstm')),
    score=Score('slope', 'gradient, ln a position', '', True, -1.0, 'right'),
    expectations=(
        Expectation('before training plain is steeper than lstm and lstm than attention, and all differ', ALL,
                    _steeper('slope_before')),
        Expectation('the same after training', ALL, _steeper('slope')),
        Expectation('attention: the slope is above -0.02, before and after', (('copy', 'attention'),), _does_not_fade),
    ),
)
