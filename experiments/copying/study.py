"""Which readers copy and reverse without a fault, and how does that depend on length? (R1 of the protocol)

One-way GRUs of 64 units. `none` starts from the encoder's last state, in which the end of the source is freshest.
"""

import functools

from configs import profiles, studies
from research.study import expected
from research.study.definition import FEW_RATES, Arm, Expectation, Planned, Profile, Study, Task, rehearsal, whole

READER = ('decoder.reader',)
CONTENT = ('additive', 'general', 'scaled_dot', 'concat', 'multi_head_dot', 'multi_head_additive')
TASKS = ('copy', 'reverse')
ARMS = (
    Arm('none', 'starts from the last state and reads nothing', 'none', READER, control=True),
    Arm('fixed_context', 'reads the last state at each step', 'fixed_context', READER, control=True),
    Arm('mean', 'reads the mean of all annotations', 'mean', READER, control=True),
    Arm('location', 'chooses positions by the decoder alone, not by what they hold', 'location', READER, control=True),
    Arm('additive', "Bahdanau's energy, one head", '', ()),
    Arm('general', 'a product through a matrix, one head', 'general', READER),
    Arm('scaled_dot', 'a product over the root of the width, one head', 'scaled_dot', READER),
    Arm('concat', 'one projection of query and key together, one head', 'concat', READER),
    Arm('multi_head_dot', 'scaled products, four heads with projections', 'multi_head_dot', READER),
    Arm('multi_head_additive', "Bahdanau's energy, four heads with projections", 'multi_head_additive', READER),
)


def _content_is_right(runs):
    found = {f'{arm} on {task}': expected.average(own, expected.by_length(1, 20)) for (task, arm), own in runs.items()}
    return min(found.values()) >= 0.95, _worst(found, min)


def _content_is_aligned(runs):
    found = {f'{arm} on {task}': sum(run['alignment']['error_rate'] for run in own) / len(own)
             for (task, arm), own in runs.items()}
    return max(found.values()) < 0.05, _worst(found, max)


def _worst(found, which):
    name = which(found, key=found.get)
    return f'the worst, {name}, {expected.percent(found[name])}'


def _none_falls(runs):
    found = [(task, expected.average(own, expected.by_length(1, 5)), expected.average(own, expected.by_length(16, 20)))
             for (task, _), own in runs.items()]
    return all(short - long >= 0.2 for _, short, long in found), '; '.join(
        f'{task}: {expected.percent(short)} up to 5, {expected.percent(long)} from 16 to 20'
        for task, short, long in found)


def _mean_is_one_vector(runs):
    value = expected.score('token_accuracy')
    found = {task: expected.average(runs[task, 'mean'], value) - expected.average(runs[task, 'fixed_context'], value)
             for task in TASKS}
    return all(abs(gap) <= 0.15 for gap in found.values()), ', '.join(
        f'{task}: {100 * gap:+.1f} points' for task, gap in found.items())


def _last_comes_first(runs):
    value = expected.score('token_accuracy')
    copy, reverse = (expected.average(runs[task, 'none'], value) for task in TASKS)
    return reverse > copy, f'reverse {expected.percent(reverse)}, copy {expected.percent(copy)}'


STUDY = Study(
    name='copying',
    question='Which readers copy and reverse without a fault, and how does that depend on length?',
    tasks=tuple(Task(task, summary, functools.partial(studies.copying, task), floor=0.0) for task, summary in (
        ('copy', 'the source again'), ('reverse', 'the source backwards'))),
    arms=ARMS,
    base='additive',
    profiles={
        'small': rehearsal(profiles.rehearsal() | profiles.MADE_UP | {'data.longest': 6, 'data.longest_test': 9}),
        'cpu': Profile(6, profiles.budget(3000), claims=1, rates=FEW_RATES, other_seeds=3, hours=1.25),
        'full': whole(profiles.budget(20_000) | {'batches.tokens': 9216}),
    },
    planned=(Planned('reverse', 'additive', 'none'), Planned('copy', 'additive', 'none'),
             *(Planned(task, arm, 'additive') for arm in CONTENT[1:] for task in TASKS)),
    expectations=(
        Expectation('arms that compare what positions hold are right in at least 95 % of the sequences of training '
                    'length (up to 20)', tuple((task, arm) for task in TASKS for arm in CONTENT), _content_is_right),
        Expectation('their alignment error (most-read position, training lengths) is below 5 %',
                    tuple((task, arm) for task in TASKS for arm in CONTENT), _content_is_aligned),
        Expectation('none: at least 20 points fewer sequences right at lengths 16 to 20 than up to 5, on both tasks',
                    tuple((task, 'none') for task in TASKS), _none_falls),
        Expectation('mean and fixed_context differ by at most 15 points of symbols right',
                    tuple((task, arm) for task in TASKS for arm in ('mean', 'fixed_context')), _mean_is_one_vector),
        Expectation('one-way none: more symbols right on reverse, where the freshest symbol comes first, than on copy '
                    '(a source read backwards turns the tasks into one another)',
                    tuple((task, 'none') for task in TASKS), _last_comes_first),
    ),
)
