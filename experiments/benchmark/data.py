"""Data: whether steps wait for batches, how much of these is padding, and whether memory grows with the corpus."""

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from configs import benchmark as benchmark_config
from experiments.benchmark.loading import SPLIT
from experiments.benchmark.timing import OURS, Row, Track, row, turns
from experiments.benchmark.train import MODELS, Training
from research import build
from research.study.arms import override
from research.text.store import StoreWriter
from research.text.vocabulary import END, SPECIAL

NAME = 'transformer'
BATCHES = 200          # that the process whose memory is measured reads
VOCABULARY = 8000      # of the synthetic pairs
BLOCK = 10_000         # of them that are made at once
NOTES = ('Batches are made in a thread while the device computes; steps are to wait for them no more than 3 % of their '
         'time.',
         'Memory: what the process that loads them has more at its most than before it opens the corpus.')


def rows(steps: int, sizes: Sequence[int], rounds: int, track: Track, progress: Callable[[str], None]) -> Iterator[Row]:
    """All figures of loading.

    Args:
      steps: batches of a turn.
      sizes: pairs of the synthetic corpora, ascending.
      rounds: turns.
      track: shows what is gone through.
      progress: hears what is being done.
    """
    words, title = MODELS[NAME]
    config = benchmark_config.get_config(words)
    data = build.data(config)
    with contextlib.closing(Training(config, data, progress)) as training:
        found = turns({OURS: lambda: training.window(steps)}, rounds, track, 'loading')[OURS]
        yield row('data', f'{title}: waiting for batches of Multi30k', OURS, '% of the time of the steps',
                  [100 * window.waiting / window.seconds for window in found], note=f'{steps} batches a turn')
        yield padding(f'{len(training.plan.shapes)} shapes', training.plan)
    yield padding('packed', build.plans(override(config, {'batches.packing': True}), data).train)
    for size in track(list(sizes), 'memory'):
        yield memory(size)


def padding(by: str, plan) -> Row:
    """How much of the batches of a plan holds no symbol."""
    positions = sorted({B * (S + T) for B, S, T in plan.shapes})
    return row('data', 'padding in the batches of Multi30k', by, '% of the positions', [100 * plan.padding],
               note=f'{positions[0]:,} to {positions[-1]:,} positions a batch')


def memory(size: int) -> Row:
    """The most memory of a process that loads a synthetic corpus of so many pairs."""
    with tempfile.TemporaryDirectory() as folder:
        write(pathlib.Path(folder), size)
        bytes_ = sum(path.stat().st_size for path in pathlib.Path(folder).rglob('*') if path.is_file())
        done = subprocess.run([sys.executable, '-m', 'experiments.benchmark.loading', folder, str(BATCHES)], check=True,
                              capture_output=True, text=True)
    found = json.loads(done.stdout)
    return row('data', f'memory to load {BATCHES} batches', f'{size:,} pairs', 'MiB', [found['most'] - found['before']],
               note=f'above {found["before"]:.0f} MiB before it opens the corpus, {bytes_ / 2**20:,.0f} MiB of files')


def write(folder: pathlib.Path, size: int) -> None:
    """A prepared corpus of random symbols, 4 to 32 a side."""
    rng = np.random.default_rng(0)
    with StoreWriter(folder, SPLIT, VOCABULARY) as writer:
        for begin in range(0, size, BLOCK):
            lengths = rng.integers(4, 33, (min(BLOCK, size - begin), 2))
            symbols = rng.integers(SPECIAL, VOCABULARY, (len(lengths), 2, 32), np.int32)
            for (s, t), (source, target) in zip(lengths.tolist(), symbols):
                source[s - 1] = target[t - 1] = END
                writer.add((source[:s], target[:t]))
