"""The process whose memory is measured: it loads batches of a prepared corpus.

    python -m experiments.benchmark.loading FOLDER BATCHES

It prints the MiB that are resident before the corpus is opened, and the most that ever were.
"""

import itertools
import json
import pathlib
import sys

import grain  # noqa: F401 (what batches.stream imports is there before anything is measured)

from research.text import batches
from research.text.store import PreparedPairs

TOKENS, BUCKETS, SPLIT = 8192, 8, 'train'


def main(folder: str, count: int) -> None:
    """Opens the corpus, plans and reads so many batches."""
    before = resident('VmRSS')
    pairs = PreparedPairs(pathlib.Path(folder), SPLIT)
    buckets = batches.choose_buckets(pairs.cells[:, :2], BUCKETS, pairs.cells[:, 2])
    plan = batches.BatchPlan(pairs, buckets, TOKENS, seed=1)
    stream = batches.stream(plan)
    for _ in itertools.islice(stream, count):
        pass
    stream.close()
    print(json.dumps({'before': before, 'most': resident('VmHWM')}))


def resident(name: str) -> float:
    """MiB of this process that are in memory now (VmRSS), or were at its most (VmHWM): Linux says it.

    The most that getrusage knows is also that of the process that started this one.
    """
    lines = pathlib.Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f'{name}:')) / 1024


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
