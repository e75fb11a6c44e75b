"""What every variant is to learn, how far is far enough, and what was stated about it before any run."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from configs import learning
from research.attention.registry import VARIANTS

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
                yield Case(name, task, _stated(name, task), 0.95, learning.writing(task, name))
    for name, variant in VARIANTS.items():
        if 'self' in variant.roles:
            # What goes position by position on path 'explicit' is trained in chunks: the same numbers, much faster.
            path = 'chunked' if variant.causal == (True,) and not variant.weights else 'explicit'
            yield Case(name, 'recall', _stated(name, 'recall'), 0.9,
                       learning.recalling(name, True in variant.causal, path))
    yield Case('transformer', 'reverse', 'learns', 0.95, learning.writing('reverse', 'transformer'))
    yield Case('transformer, encoder without positions', 'reverse', 'fails', 0.95,
               learning.writing_without_positions('reverse'))
    for distance, stated in ((4, 'learns'), (12, 'fails')):  # two layers of a window of 4 reach 6 positions back
        yield Case(f'sliding_window of 4, {distance} back', 'window_reach', stated, 0.9, learning.reaching(distance))


def _stated(name: str, task: str) -> str:
    variant = VARIANTS[name]
    return 'fails' if task in variant.fails else 'open' if task in variant.open else 'learns'
