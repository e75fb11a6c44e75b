"""Does a product of wide vectors need its scale? (R12 of the protocol)

A task is a width of all parts, and with it of keys and queries: the product of two random ones grows with its root.
"""

import functools

from configs import profiles, studies
from research.study import comparison
from research.study.definition import FEW_RATES, Arm, Expectation, Planned, Profile, Study, Task, rehearsal, whole

READER = ('decoder.reader',)
WIDTHS = (16, 64, 512)


def _steps(runs):
    """Mean steps to the threshold, the budget where it was not reached, and how many reached it."""
    found = [comparison.first_step(run, THRESHOLD) for run in runs]
    return sum(run['steps'] if steps is None else steps for run, steps in zip(runs, found, strict=True)) / len(runs), \
        sum(steps is not None for steps in found)


def _dot_is_slower(runs):
    (narrow, _), (wide, reached) = (_steps(runs[f'width {width}', 'dot']) for width in (64, 512))
    censored = reached < len(runs['width 512', 'dot'])
    return censored or wide >= 2 * narrow, f'{narrow:.0f} steps at 64, {wide:.0f} at 512, where {reached} of ' \
        f'{len(runs["width 512", "dot"])} runs reached it'


def _others_are_not(runs):
    found = {arm: [_steps(runs[f'width {width}', arm])[0] for width in (64, 512)] for arm in ('scaled_dot', 'additive')}
    return all(wide <= 1.5 * narrow for narrow, wide in found.values()), '; '.join(
        f'{arm}: {narrow:.0f} and {wide:.0f} steps' for arm, (narrow, wide) in found.items())


THRESHOLD = 0.9
STUDY = Study(
    name='energy_scale',
    question='Does a product of wide vectors need its scale?',
    tasks=tuple(Task(f'width {width}', f'copies, all parts {width} wide', functools.partial(studies.widths, width))
                for width in WIDTHS),
    arms=(
        Arm('none', 'starts from the last state and reads nothing', 'none', READER, control=True,
            tasks=('width 64',)),
        Arm('additive', "Bahdanau's energy", '', ()),
        Arm('dot', 'a product', 'dot', READER),
        Arm('scaled_dot', 'a product over the root of the width', 'scaled_dot', READER),
    ),
    base='additive',
    profiles={
        'small': rehearsal(profiles.rehearsal() | profiles.MADE_UP, tasks=('width 16', 'width 64')),
        'cpu': Profile(6, profiles.budget(800, 20), claims=1, rates=FEW_RATES, other_seeds=3, hours=0.75),
        'full': whole(profiles.budget(4000, 40)),
    },
    planned=(Planned('width 64', 'scaled_dot', 'dot'), Planned('width 512', 'scaled_dot', 'dot')),
    threshold=THRESHOLD,
    expectations=(
        Expectation('dot needs at least twice as many steps to 90 % of dev at width 512 as at 64, or does not get '
                    'there', tuple((f'width {width}', 'dot') for width in (64, 512)), _dot_is_slower),
        Expectation('scaled_dot and additive need at most 1.5 times as many', tuple(
            (f'width {width}', arm) for width in (64, 512) for arm in ('scaled_dot', 'additive')), _others_are_not),
    ),
)
