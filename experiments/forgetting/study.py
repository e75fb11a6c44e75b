"""Does a fixed vector forget the beginning of long inputs, and does attention mend it?

All arms have the same encoder, decoder, data, budget and seeds; they differ in how the decoder reads the source. The
last one is a Transformer of about the same size, to see where it stands.
"""

from configs import copy, profiles, pronunciation
from research.study import expected
from research.study.definition import FEW_RATES, Arm, Expectation, Planned, Profile, Study, Task, rehearsal, whole

READER = ('decoder.reader',)
TRANSFORMER = tuple(f'{side}.{key}' for side, keys in {  # everything that a side is made of, its dropout not among it
    'encoder': 'kind layers features hidden mixer short_convolution norm activation epsilon position maximum_length '
               'summary scale_embeddings cell cell_path embedding_features bidirectional backward',
    'decoder': 'kind layers features hidden mixer short_convolution reader norm activation epsilon position '
               'maximum_length scale_embeddings softmax_bias cell cell_path embedding_features reads_with '
               'input_feeding start_state',
}.items() for key in keys.split())
ARMS = (
    Arm('none', 'starts from the vector and reads nothing', 'none', READER, control=True),
    Arm('fixed_context', 'reads the same vector at each step', 'fixed_context', READER, control=True),
    Arm('mean', 'reads the mean of all annotations', 'mean', READER, control=True),
    Arm('additive', "Bahdanau's energy, one head", '', ()),
    Arm('scaled_dot', 'product over the root of the width, one head', 'scaled_dot', READER),
    Arm('multi_head_dot', 'scaled products, four heads with projections', 'multi_head_dot', READER),
    Arm('transformer', 'Transformer encoder and decoder of about as many parameters', 'transformer', TRANSFORMER,
        changes=tuple((f'{side}.{key}', value) for side in ('encoder', 'decoder')
                      for key, value in (('features', 96), ('hidden', 128)))),
)

SMALL = {  # a rehearsal: every part runs, nothing is learned
    'batches.tokens': 512, 'batches.buckets': 2,
    'training.steps': 12, 'training.warmup': 4, 'training.report_every': 4, 'training.evaluate_every': 6,
    'training.checkpoint_every': 6, 'training.dev_sample': 16, 'decoding.maximum_ratio': 1.0,
}
DEMO = {
    'training.steps': 1000, 'training.warmup': 200, 'training.learning_rate': 3e-3,
    'training.evaluate_every': 250, 'training.checkpoint_every': 250, 'training.dev_sample': 300,
}
CPU = profiles.budget(2000) | {'training.learning_rate': 3e-3}
FULL = profiles.budget(20_000) | {'batches.tokens': 9216}
SIZES = 'Rates and sizes are those of one config for all arms; none was tuned for an arm.'
EVERYTHING = 10_000  # symbols


def _short_words(runs):
    none, additive = (expected.average(runs['pronunciation', arm], expected.by_length(1, 4))
                      for arm in ('none', 'additive'))
    return abs(additive - none) < 0.10, f'none {expected.percent(none)}, additive {expected.percent(additive)}'


def _long_words(runs):
    none, additive = (expected.average(runs['pronunciation', arm], expected.by_length(11, EVERYTHING))
                      for arm in ('none', 'additive'))
    times = f', {additive / none:.2f} times as much' if none else ''
    return additive > 0 and additive >= 1.5 * none, (
        f'none {expected.percent(none)}, additive {expected.percent(additive)}{times}')


def _training_lengths(runs):
    additive = expected.average(runs['copy', 'additive'], expected.by_length(1, 20))
    return additive >= 0.95, expected.percent(additive)


def _falls(runs):
    short, long = (expected.average(runs['copy', 'none'], expected.by_length(*ends)) for ends in ((1, 5), (16, 20)))
    return short - long >= 0.2, f'{expected.percent(short)} up to 5 symbols, {expected.percent(long)} from 16 to 20'


def _aligned(runs):
    own = runs['copy', 'additive']
    scores = [run['alignment'] for run in own]
    mean = sum(score['error_rate'] for score in scores) / len(scores)
    shifted = [f'seed {run["seed"]} reads the neighbour at {score["shift"]:+d}: {score["error_rate_shifted"]:.3f} with '
               'that shift' for run, score in zip(own, scores, strict=True) if score['shift']]
    return mean < 0.05, '; '.join([f'{mean:.3f}', *shifted])


STUDY = Study(
    name='forgetting',
    question='Does a fixed vector forget the beginning of long inputs, and does attention mend it?',
    tasks=(Task('pronunciation', 'letters to phones, CMUdict', pronunciation.get_config),
           Task('copy', 'the source again, 1 to 20 symbols', copy.get_config, floor=0.0)),
    arms=ARMS,
    base='additive',
    profiles={
        'small': rehearsal(SMALL, test_sample=40),
        'demo': Profile(2, DEMO, f'A first look: 1,000 steps, 2,000 test words. {SIZES}', test_sample=2000, claims=0,
                        tasks=('pronunciation',)),
        'cpu': Profile(6, CPU, claims=1, rates=FEW_RATES, other_seeds=3, hours=1.25),
        'full': whole(FULL),
    },
    planned=(Planned('pronunciation', 'additive', 'none'), Planned('copy', 'additive', 'none'),
             *(Planned(task, arm, 'additive') for arm in ('scaled_dot', 'multi_head_dot', 'transformer')
               for task in ('pronunciation', 'copy'))),
    expectations=(
        Expectation('words of up to 4 letters: none and additive differ by less than 10 points of word accuracy',
                    (('pronunciation', 'none'), ('pronunciation', 'additive')), _short_words),
        Expectation('words of 11 and more letters: additive gets at least 1.5 times the accuracy of none',
                    (('pronunciation', 'none'), ('pronunciation', 'additive')), _long_words),
        Expectation('additive copies at least 95 % of the sequences of training length (up to 20) without a fault',
                    (('copy', 'additive'),), _training_lengths),
        Expectation('none falls with length inside the training range: at least 20 points from lengths up to 5 to '
                    'lengths 16 to 20', (('copy', 'none'),), _falls),
        Expectation('alignment error rate of the most-read position, additive, below 0.05 (mean over seeds)',
                    (('copy', 'additive'),), _aligned),
    ),
)
