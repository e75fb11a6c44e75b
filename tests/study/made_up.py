"""Made-up studies for the tests of records, card and page. No number here was measured."""

import numpy as np

from research.study.records import ArmInfo, Finding, Planned, Score, StudyInfo, TaskInfo

ACCURACY = Score('accuracy', 'exactly right', '%', True, 0.0, 'right')
BLEU = Score('bleu', 'BLEU', 'BLEU', True, 0.0, 'bleu')
LOSS = Score('loss', 'loss a symbol', 'nats', False, 9.0, 'loss')
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
    Finding('additive is right at least 0.2 more often than none on words of 10 letters and more', 'met',
            '71.2 % against 30.4 %'),
    Finding('mean and fixed_context differ by at most 0.15', 'not met', '40.1 % against 58.0 %'),
    Finding('the order holds with twice the data', 'not measured', ''),
    Finding('additive and general differ', 'not decidable at n = 2', '71.2 % against 70.5 %'),
)
PLANNED = (Planned('pronunciation', 'none', 'additive'), Planned('pronunciation', 'mean', 'fixed_context'))
WORDS = ('a', 'though', 'xylophone', 'internationalization', 'rhythm', 'queue', 'colonel', 'antidisestablishment')
RULES = ('shortest', 'median', 'median', 'longest', 'worst', 'median', 'worst', 'longest')
BUCKETS = ((1, 3, 211), (4, 5, 803), (6, 7, 1204), (8, 9, 977), (10, 12, 402), (13, 20, 37))
SCORES = (0.29, 0.41, 0.44, 0.712, 0.705, 0.66, 0.51)  # of the arms above
RATES = (1e-3, 3e-3, 1e-2)


def task(name='pronunciation', arms=ARMS, floor=None):
    return TaskInfo(name, f'what is learned of {name}', floor, tuple(arm.name for arm in arms))


def study(arms=ARMS, tasks=None, **changes):
    question = 'Does a fixed vector forget the beginning of long words, and does attention mend it?'
    names = {arm.name for arm in arms}
    planned = tuple(one for one in PLANNED if {one.arm, one.against} <= names)
    base = 'additive' if 'additive' in names else arms[0].name
    info = StudyInfo('forgetting', question, 'cpu', ACCURACY, tasks or (task(arms=arms),), arms, base, planned, False,
                     None, '', FINDINGS, ('pip install -e .', 'python -m experiments.run forgetting --profile cpu'),
                     ('Two seeds and one rate: this profile describes, it does not test.',))
    return info._replace(**changes)


def examples(rng, right, heads=1, words=WORDS):
    """Of each word one; heads = 0 reads no positions."""
    made = []
    for rule, word in zip(RULES, words):
        output = [f'{letter.upper()}{n % 3 if letter in "aeiou" else ""}' for n, letter in enumerate(word)]
        T, S = len(output) + 1, len(word) + 1
        near = np.exp(-2.0 * (np.arange(S) - np.arange(T)[:, None] - rng.normal(0, 0.4, [heads, 1, 1])) ** 2) + 0.002
        near = near / near.sum(axis=-1, keepdims=True)
        good = bool(rng.random() < right)
        made.append({'rule': rule, 'source': list(word), 'answer': output, 'right': good,
                     'output': output if good else ['K', *output[1:]],
                     'weights': near.round(3).tolist() if heads else None})
    return made


def diagnostics(rng, heads=1, slope=-0.2):
    """As research/analysis/diagnostics.py has them."""
    per_head = [{'layer': n // 2, 'head': n % 2, 'entropy': 1.2 + n / 10, 'entropy_share': 0.5, 'sink_first': 0.02,
                 'sink_end': 0.04, 'distance': 0.8} for n in range(heads)]
    read = per_head[0] if heads else {}
    return {'entropy': read.get('entropy'), 'entropy_share': read.get('entropy_share'),
            'sink_first': read.get('sink_first'), 'sink_end': read.get('sink_end'), 'distance': read.get('distance'),
            'heads': per_head or None, 'mixing': {'source': None, 'inputs': None},
            'gradient_reach': {'distances': list(range(12)), 'slope': slope, 'slope_error': 0.01, 'log_norms': [
                *(float(slope * n + rng.normal(0, 0.05)) for n in range(11)), None]},
            'memory_probe': {'distance': [1, 3, 5, 9], 'accuracy': [0.9, 0.7, 0.5, 0.2], 'baseline': [0.1] * 4,
                             'count': [80] * 4}}


def run(arm, seed, accuracy=0.6, rng=None, heads=None, **changes):
    """One finished record; changes replaces fields of it."""
    rng = rng or np.random.default_rng([seed, len(arm.name)])
    falls = 0.06 if arm.control else 0.01
    heads = (0 if arm.name in ('none', 'fixed_context') else 1) if heads is None else heads
    by_length = []
    for low, high, count in BUCKETS:
        rate = np.clip(accuracy + falls * (7 - high) + rng.normal(0, 0.01), 0, 1)
        by_length.append({'low': low, 'high': high, 'count': count, 'right': int(count * rate), 'tokens': 5 * count,
                          'tokens_right': int(5 * count * rate ** 0.5), 'loss': float(5 * count * (1.2 - rate)),
                          'bleu': float(100 * rate)})
    record = {
        'study': 'forgetting', 'task': 'pronunciation', 'profile': 'cpu', 'arm': arm.name, 'seed': seed,
        'run': f'{arm.name}-{seed:04x}', 'status': 'finished', 'error': None, 'changes': arm.changes,
        'rate': {'value': 0.003, 'choice': 'tuned', 'on_edge': False, 'tried': 6},
        'parameters': 412_345, 'parameters_non_embedding': 400_101, 'flops_per_token': 2.513e6,
        'readable_floats': {'none': 0.0, 'fixed_context': 128.0, 'local_monotonic': 640.0}.get(arm.name, 979.2),
        'state_bytes': 4096, 'padding': 0.12, 'steps': 2000, 'best_step': 1800, 'programs': 6,
        'seconds': {'compile': 21.04, 'train': 301.5 + seed, 'evaluate': 12.25, 'step': 0.1512},
        'scores': {'accuracy': accuracy, 'token_accuracy': (1 + accuracy) / 2, 'token_error_rate': (1 - accuracy) / 4,
                   'loss': 1.2 - accuracy, 'bleu': 100 * accuracy},
        'by_length': by_length,
        'curve': [{'step': step, 'train_loss': 4 * np.exp(-step / 500) + 0.8 - accuracy / 2 + rng.random() / 20,
                   'dev_loss': 4 * np.exp(-step / 500) + 1 - accuracy / 2,
                   'dev_accuracy': accuracy * (1 - np.exp(-step / 400)) if step % 400 == 0 else None}
                  for step in range(0, 2001, 200)],
        'right': 'f0', 'alignment': None, 'diagnostics': diagnostics(rng, heads, -0.3 if arm.control else -0.02),
        'examples': examples(rng, accuracy, heads),
        'machine': 'a made-up machine, 2 cores', 'data': '5fec' * 16, 'time': '2026-01-02T03:04:05+00:00',
        'versions': {'seq2lab': '0.0.1, commit 0123456789ab', 'python': '3.99.1', 'jax': '0.0.0'},
    }
    return record | changes


def failed(arm, seed, error='loss is not finite at step 400', **changes):
    kept = ('study', 'task', 'profile', 'arm', 'seed', 'run', 'changes', 'rate', 'machine', 'versions', 'data', 'time')
    whole = run(arm, seed)
    return {key: whole[key] for key in kept} | {'status': 'failed', 'error': error} | changes


def runs(seeds=(10, 11), arms=ARMS, **changes):
    return [run(arm, seed, SCORES[n % 7] + 0.004 * (seed % 5), **changes) for n, arm in enumerate(arms)
            for seed in seeds]


def tried(arm, rate, seed=0, accuracy=0.5, **changes):
    """One run that was to choose a rate."""
    whole = run(arm, seed)
    kept = ('study', 'task', 'profile', 'arm', 'seed', 'run', 'data', 'machine', 'versions', 'time')
    return {key: whole[key] for key in kept} | {
        'status': 'finished', 'error': None, 'rate': rate, 'steps': 2000, 'best_step': 1800, 'seconds': 99.5,
        'dev': {'accuracy': accuracy, 'loss': 1 - accuracy}} | changes


def search(arms=ARMS, rates=RATES, seeds=(0, 1), **changes):
    """Runs that chose the rates: each arm is best in the middle."""
    return [tried(arm, rate, seed, SCORES[n % 7] - 0.05 * abs(m - 1) + 0.01 * seed, **changes)
            for n, arm in enumerate(arms) for m, rate in enumerate(rates) for seed in seeds]


def several(arms=12, seeds=10, tasks=('copy', 'reverse', 'recall'), heads=4, planned=4):
    """A large study: (study, records, runs that chose the rates)."""
    named = [ARMS[n % 7] if n < 7 else ARMS[3 + n % 4]._replace(name=f'{ARMS[3 + n % 4].name}_{n}', changes={
        'decoder.attention.name': ARMS[3 + n % 4].name, 'decoder.attention.heads': n}) for n in range(arms)]
    infos = tuple(task(name, named, floor) for name, floor in zip(tasks, (0.031, None, 0.125), strict=False))
    info = study(tuple(named), infos, planned=tuple(
        Planned(infos[0].name, arm.name, 'additive') for arm in named[4:4 + planned]), threshold=0.5)
    records = []
    for name in tasks:
        for n, arm in enumerate(named):
            rng = np.random.default_rng([n, len(name)])
            for seed in range(10, 10 + seeds):
                accuracy = float(np.clip(SCORES[n % 7] + rng.normal(0, 0.03), 0, 1))
                records.append(run(arm, seed, accuracy, rng, heads if n > 1 else 0, task=name))
    return info, records, [one for name in tasks for one in search(tuple(named), task=name)]
