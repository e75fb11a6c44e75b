"""What every variant is to learn, how far is far enough, and what was stated about it before any run."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from configs import base, data, labelled_recall
from research.attention.registry import VARIANTS
from research.study import arms

RATES = (1e-3, 3e-3, 1e-2)   # the same sweep for all, with one seed each
TUNING_SEED = 1
SEEDS = (11, 12, 13)         # fresh: none was used to choose a rate


class Case(NamedTuple):
    """One variant and one task."""

    name: str         # of the variant, or of what is done to one
    task: str
    stated: str       # 'learns', 'fails' or 'open', before any run
    threshold: float  # accuracy on dev from which on it has learned: exact match, or share of labels
    config: Any


def cases() -> Iterator[Case]:
    """Readers write copies and reversals; mixers recall; and what cannot see far enough, or no order, is to fail."""
    for name, variant in VARIANTS.items():
        if 'cross' in variant.roles:
            for task in ('copy', 'reverse'):
                yield Case(name, task, _stated(name, task), 0.95, writing(task, name))
    for name, variant in VARIANTS.items():
        if 'self' in variant.roles:
            yield Case(name, 'recall', _stated(name, 'recall'), 0.9, recalling(name))
    yield Case('transformer', 'reverse', 'learns', 0.95, writing('reverse', 'transformer'))
    yield Case('transformer, encoder without positions', 'reverse', 'fails', 0.95, arms.override(
        writing('reverse', 'transformer'), {'encoder.position': 'none'}))
    for distance, stated in ((4, 'learns'), (12, 'fails')):  # two layers of a window of 4 reach 6 positions back
        yield Case(f'sliding_window of 4, {distance} back', 'window_reach', stated, 0.9, reaching(distance))


def _stated(name: str, task: str) -> str:
    variant = VARIANTS[name]
    return 'fails' if task in variant.fails else 'open' if task in variant.open else 'learns'


def writing(task: str, words: str) -> Any:
    """Copy or reverse: lengths 2 to 12, 16 symbols, 64 units, 1,500 steps."""
    config = base.choose(base.get_config(), words)
    config.data = data.synthetic(task)
    values = {'data.symbols': 16, 'data.shortest': 2, 'data.longest': 12, 'data.longest_test': 12,
              'training.steps': 1500, 'training.warmup': 100, 'training.evaluate_every': 100,
              'training.checkpoint_every': 1500, 'training.report_every': 100, 'decoding.maximum_ratio': 1.0}
    for side in ('encoder', 'decoder'):
        for key in ('features', 'embedding_features', 'hidden'):
            if key in config[side]:
                values[f'{side}.{key}'] = 64
    for option, value in {'energy_width': 64, 'window': 2, 'maximum_length': 16}.items():
        if option in config.decoder.reader:
            values[f'decoder.reader.{option}'] = value
    return arms.override(config, values)


def recalling(name: str) -> Any:
    """Recall of 4 pairs of 64 symbols in 32 positions, width 64, 2 layers, no source, at most 3,000 steps."""
    config = labelled_recall.get_config(f'mixer={name}')
    return arms.override(config, {
        'training.steps': 3000, 'training.warmup': 100, 'training.checkpoint_every': 3000,
        'training.report_every': 100, 'decoder.causal': True in VARIANTS[name].causal})


def reaching(distance: int) -> Any:
    """The symbol so many positions before, through two layers of a window of 4."""
    config = recalling('sliding_window')
    config.data = data.labelled('window_reach')
    return arms.override(config, {'data.symbols': 16, 'data.size': distance, 'training.steps': 1500,
                                  'training.checkpoint_every': 1500, 'decoder.mixer.reach.width': 4})
