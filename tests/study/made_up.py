"""Made-up studies for the tests of records, card and page. No number here was measured."""

import numpy as np

from research.study.records import ArmInfo, Finding, StudyInfo

ARMS = (
    ArmInfo('none', 'reads nothing: starts from the last state of the encoder', True,
            {'decoder.attention.energy_width': None, 'decoder.attention.name': 'none'}),
    ArmInfo('fixed_context', 'reads one vector, the same at every step', True,
            {'decoder.attention.name': 'fixed_context'}),
    ArmInfo('mean', 'reads all positions, weighs them alike', True, {'decoder.attention.name': 'mean'}),
    ArmInfo('additive', 'weighs positions by what they hold', False, {}),
    ArmInfo('general', 'compares through one matrix', False, {'decoder.attention.name': 'general'}),
    ArmInfo('scaled_dot', 'compares without parameters', False, {'decoder.attention.name': 'scaled_dot'}),
    ArmInfo('local_monotonic', 'reads a window that moves', False,
            {'decoder.attention.name': 'local_monotonic', 'decoder.attention.window': 5}),
)
FINDINGS = (
    Finding('additive is right at least 0.2 more often than none on words of 10 letters and more', True,
            '71.2 % against 30.4 %'),
    Finding('mean and fixed_context differ by at most 0.15', False, '40.1 % against 58.0 %'),
    Finding('the order holds with twice the data', None, ''),
)
WORDS = ('a', 'though', 'xylophone', 'internationalization', 'rhythm', 'queue', 'colonel', 'antidisestablishment')
RULES = ('shortest', 'median', 'median', 'longest', 'worst', 'median', 'worst', 'longest')
BUCKETS = ((1, 3, 211), (4, 5, 803), (6, 7, 1204), (8, 9, 977), (10, 12, 402), (13, 20, 37))


def study(arms=ARMS, **changes):
    question = 'Does a fixed vector forget the beginning of long words, and does attention mend it?'
    info = StudyInfo('forgetting', question, 'pronunciation', 'cpu', arms, FINDINGS,
                     ('pip install -e .', 'python -m experiments.run forgetting --profile cpu'),
                     ('Two seeds and one rate: this profile describes, it does not test.',))
    return info._replace(**changes)


def examples(rng, right, weights=True, words=WORDS):
    made = []
    for rule, word in zip(RULES, words):
        output = [f'{letter.upper()}{n % 3 if letter in "aeiou" else ""}' for n, letter in enumerate(word)]
        T, S = len(output) + 1, len(word) + 1
        near = np.exp(-2.0 * (np.arange(S) - np.arange(T)[:, None] - rng.normal(0, 0.4)) ** 2) + 0.002
        near = near / near.sum(axis=1, keepdims=True)
        good = bool(rng.random() < right)
        made.append({'rule': rule, 'source': list(word), 'answer': output, 'right': good,
                     'output': output if good else ['K', *output[1:]],
                     'weights': near.round(3).tolist() if weights else None})
    return made


def run(arm, seed, accuracy=0.6, rng=None, **changes):
    """One finished record; changes replaces fields of it."""
    rng = rng or np.random.default_rng([seed, len(arm.name)])
    steps = range(0, 2001, 200)
    falls = 0.06 if arm.control else 0.01
    record = {
        'study': 'forgetting', 'task': 'pronunciation', 'profile': 'cpu', 'arm': arm.name, 'seed': seed,
        'run': f'{arm.name}-{seed:04x}', 'status': 'finished', 'error': None, 'changes': arm.changes,
        'parameters': 412_345, 'parameters_non_embedding': 400_101, 'flops_per_token': 2.513e6,
        'readable_floats': {'none': 0.0, 'fixed_context': 128.0, 'local_monotonic': 640.0}.get(arm.name, 979.2),
        'steps': 2000, 'best_step': 1800, 'programs': 6,
        'seconds': {'compile': 21.04, 'train': 301.5 + seed, 'evaluate': 12.25},
        'scores': {'accuracy': accuracy, 'token_error_rate': (1 - accuracy) / 4, 'loss': 1.2 - accuracy},
        'by_length': [{'low': low, 'high': high, 'count': count,
                       'right': int(count * np.clip(accuracy + falls * (7 - high) + rng.normal(0, 0.01), 0, 1))}
                      for low, high, count in BUCKETS],
        'curve': [{'step': step, 'train_loss': 4 * np.exp(-step / 500) + 0.8 - accuracy / 2 + rng.random() / 20,
                   'dev_loss': 4 * np.exp(-step / 500) + 1 - accuracy / 2,
                   'dev_accuracy': accuracy * (1 - np.exp(-step / 400)) if step % 400 == 0 else None}
                  for step in steps],
        'alignment': None,
        'examples': examples(rng, accuracy, weights=arm.name not in ('none', 'fixed_context')),
        'machine': 'a made-up machine, 2 cores', 'data': '5fec' * 16, 'time': '2026-01-02T03:04:05+00:00',
        'versions': {'seq2lab': '0.0.1, commit 0123456789ab', 'python': '3.99.1', 'jax': '0.0.0'},
    }
    return record | changes


def failed(arm, seed, error='loss is not finite at step 400'):
    kept = ('study', 'task', 'profile', 'arm', 'seed', 'run', 'changes', 'machine', 'versions', 'data', 'time')
    whole = run(arm, seed)
    return {key: whole[key] for key in kept} | {'status': 'failed', 'error': error}


def runs(seeds=(10, 11), arms=ARMS):
    accuracies = (0.29, 0.41, 0.44, 0.712, 0.705, 0.66, 0.51)
    return [run(arm, seed, accuracies[n % 7] + 0.004 * (seed % 5)) for n, arm in enumerate(arms) for seed in seeds]
