"""The process whose memory is measured: it loads batches of a prepared corpus.

    python -m experiments.benchmark.loading FOLDER BATCHES

It prints the MiB that are resident before the corpus is opened, and the most that ever were.
"""

import itertools
import json
import pathlib
import resource
import sys

import grain  # noqa: F401 (what batches.stream imports is there before anything is measured)

from research.text import batches
from research.text.store import PreparedPairs

TOKENS, BUCKETS, SPLIT = 8192, 8, 'train'


def main(folder: str, count: int) -> None:
    """Opens the corpus, plans and reads so many batches."""
    before = resident()
    pairs = PreparedPairs(pathlib.Path(folder), SPLIT)
    buckets = batches.choose_buckets(pairs.cells[:, :2], BUCKETS, pairs.cells[:, 2])
    plan = batches.BatchPlan(pairs, buckets, TOKENS, seed=1)
    stream = batches.stream(plan)
    for _ in itertools.islice(stream, count):
        pass
    stream.close()
    print(json.dumps({'before': before, 'most': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def resident() -> float:
    """MiB of this process that are in memory now."""
    pages = int(pathlib.Path('/proc/self/statm').read_text(encoding='ascii').split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
