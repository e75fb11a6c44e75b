"""What the functions sweep_<name> of config files are made of: values at dotted keys, one dict a run.

    def sweep_size():
        return sweeps.product(sweeps.grid('encoder.layers', (1, 2, 4)), sweeps.grid('training.steps', (2000, 4000)))

Besides the dotted keys of a config there is the key `words`: what stands after the colon of --config.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

WORDS = 'words'
READERS = ('none', 'fixed_context', 'mean',  # the controls: they read without choosing
           'additive', 'dot', 'scaled_dot', 'general', 'multi_head_dot')
Sweep = Iterable[dict[str, Any]]


def grid(key: str, values: Iterable[Any]) -> list[dict[str, Any]]:
    """One key with each of several values."""
    return [{key: value} for value in values]


def product(*sweeps: Sweep) -> Iterator[dict[str, Any]]:
    """Every run of one with every run of the others; the last changes fastest."""
    return (_merged(some) for some in itertools.product(*sweeps))


def zipped(*sweeps: Sweep) -> Iterator[dict[str, Any]]:
    """The first run of one with the first of the others, and so on; they are equally long."""
    return (_merged(some) for some in zip(*sweeps, strict=True))


def learning_rate() -> Sweep:
    """The rates among which each variant has its own."""
    return grid('training.learning_rate', (1e-4, 3e-4, 1e-3, 3e-3, 1e-2))


def seed() -> Sweep:
    """Six, the fewest that can show a difference of two variants; 0 and 1 are for choosing a rate."""
    return grid('seed', range(10, 16))


def reader(without: Iterable[str] = ()) -> Sweep:
    """READERS, but for those that have no place in a config."""
    return grid(WORDS, [name for name in READERS if name not in without])


def _merged(some: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The words of several are joined by +; another key has one value."""
    merged = {}
    for values in some:
        for key, value in values.items():
            if key in merged and key != WORDS:
                raise ValueError(f'two sweeps that are combined both change {key}')
            merged[key] = f'{merged[key]}+{value}' if key in merged else value
    return merged
