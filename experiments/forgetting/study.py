"""Does a fixed vector forget the beginning of long inputs, and does attention mend it?

All arms have the same encoder, decoder, data, budget and seeds; they differ in how the decoder reads the source. The
last one is a Transformer of about the same size, to see where it stands.
"""

from configs import copy, pronunciation
from research.study.runner import Arm, Expectation, NotMeasuredError, Profile, Study

READER = ('decoder.reader',)
TRANSFORMER = tuple(f'{side}.{key}' for side, keys in {  # everything that a side is made of, its dropout not among it
    'encoder': 'kind layers features hidden mixer short_convolution norm activation epsilon position maximum_length '
               'summary scale_embeddings cell cell_path embedding_features bidirectional',
    'decoder': 'kind layers features hidden mixer short_convolution reader norm activation epsilon position '
               'maximum_length scale_embeddings softmax_bias cell cell_path embedding_features reads_with '
               'input_feeding start_state',
}.items() for key in keys.split())
ARMS = (
    Arm('none', 'starts from the vector and reads nothing', 'none', READER, control=True),
    Arm('fixed_context', 'reads the same vector at each step', 'fixed_context', READER, control=True),
    Arm('mean', 'reads the mean of all annotations', 'mean', READER, control=True),
    Arm('additive', "Bahdanau's energy, one head", 'additive', ()),
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
CPU = {
    'training.steps': 1500, 'training.warmup': 200, 'training.learning_rate': 3e-3,
    'training.evaluate_every': 250, 'training.checkpoint_every': 500,
}
COPY_CPU = CPU | {'training.steps': 4000, 'training.schedule': 'cosine', 'training.evaluate_every': 500}
FULL = {
    'training.steps': 20_000, 'training.warmup': 1000, 'training.learning_rate': 2e-3, 'batches.tokens': 9216,
    'training.evaluate_every': 1000, 'training.checkpoint_every': 2000,
}
MADE_UP_SMALL = {'data.train': 200, 'data.dev': 16, 'data.test': 40, 'data.longest': 6, 'data.longest_test': 9}
SIZES = 'Rates and sizes are those of one config for all arms; none was tuned for an arm.'


def _accuracy(runs: list[dict], low: int, high: int) -> float:
    """Mean over seeds of the share of right outputs for sources of low .. high symbols."""
    shares = []
    for run in runs:
        rows = [row for row in run['by_length'] if row['low'] >= low and row['high'] <= high]
        count = sum(row['count'] for row in rows)
        if not count:
            raise NotMeasuredError('no test pair of these lengths')
        shares.append(sum(row['right'] for row in rows) / count)
    return sum(shares) / len(shares)


def _short_words(runs):
    none, additive = (_accuracy(runs[arm], 1, 4) for arm in ('none', 'additive'))
    return abs(additive - none) < 0.10, f'none {100 * none:.1f} %, additive {100 * additive:.1f} %'


def _long_words(runs):
    none, additive = (_accuracy(runs[arm], 11, 10_000) for arm in ('none', 'additive'))
    times = f', {additive / none:.2f} times as much' if none else ''
    return additive > 0 and additive >= 1.5 * none, f'none {100 * none:.1f} %, additive {100 * additive:.1f} %{times}'


def _training_lengths(runs):
    additive = _accuracy(runs['additive'], 1, 20)
    return additive >= 0.95, f'{100 * additive:.1f} %'


def _falls(runs):
    short, long = _accuracy(runs['none'], 1, 5), _accuracy(runs['none'], 16, 20)
    return short - long >= 0.2, f'{100 * short:.1f} % up to 5 symbols, {100 * long:.1f} % from 16 to 20'


def _aligned(runs):
    scores = [run['alignment'] for run in runs['additive']]
    mean = sum(score['error_rate'] for score in scores) / len(scores)
    shifted = [f'seed {run["seed"]} reads the neighbour at {score["shift"]:+d}: {score["error_rate_shifted"]:.3f} with '
               'that shift' for run, score in zip(runs['additive'], scores, strict=True) if score['shift']]
    return mean < 0.05, '; '.join([f'{mean:.3f}', *shifted])


EXPECTATIONS = {
    'pronunciation': (
        Expectation('words of up to 4 letters: none and additive differ by less than 10 points of word accuracy',
                    ('none', 'additive'), _short_words),
        Expectation('words of 11 and more letters: additive gets at least 1.5 times the accuracy of none',
                    ('none', 'additive'), _long_words),
    ),
    'copy': (
        Expectation('additive copies at least 95 % of the sequences of training length (up to 20) without a fault',
                    ('additive',), _training_lengths),
        Expectation('none falls with length inside the training range: at least 20 points from lengths up to 5 to '
                    'lengths 16 to 20', ('none',), _falls),
        Expectation('alignment error rate of the most-read position, additive, below 0.05 (mean over seeds)',
                    ('additive',), _aligned),
    ),
}

STUDY = Study(
    name='forgetting',
    question='Does a fixed vector forget the beginning of long inputs, and does attention mend it?',
    configs={'pronunciation': pronunciation.get_config, 'copy': copy.get_config},
    arms=ARMS,
    profiles={
        'pronunciation': {
            'small': Profile(2, SMALL, 40, 'A rehearsal: every part runs, nothing is learned.'),
            'demo': Profile(2, DEMO, 2000, f'A first look: 1,000 steps, 2,000 test words. {SIZES}'),
            'cpu': Profile(2, CPU, None, SIZES),
            'full': Profile(10, FULL, None, SIZES),
        },
        'copy': {
            'small': Profile(2, SMALL | MADE_UP_SMALL, None, 'A rehearsal: every part runs, nothing is learned.'),
            'demo': Profile(2, DEMO, 1000, f'A first look: 1,000 steps. {SIZES}'),
            'cpu': Profile(2, COPY_CPU, None, SIZES),
            'full': Profile(10, FULL, None, SIZES),
        },
    },
    expectations=EXPECTATIONS,
    first_seed=10,
)
