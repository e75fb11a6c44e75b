"""Compiling: how many programs a run needs and how long they take, anew and from the cache of an earlier process.

    python -m experiments.benchmark.compile WORDS      the process that is measured, of configs/benchmark.py:WORDS
"""

import collections
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import jax

from configs import benchmark as benchmark_config
from experiments.benchmark.timing import Row, row
from experiments.benchmark.train import MODELS
from research import build
from research.errors import one_line_errors
from research.train import Trainer
from research.translator import Translator

MISSES, HITS = '/jax/compilation_cache/cache_misses', '/jax/compilation_cache/cache_hits'
ANEW, AGAIN = 'first process', 'second process, warm cache'
NOTES = ("Two processes share a folder for JAX's persistent cache, which is empty before the first of them; programs "
         'that are found there are not compiled. Ratio: of the seconds of the first process to these.',)


def rows(models: Sequence[str], progress: Callable[[str], None]) -> Iterator[Row]:
    """What compiling takes in two processes with one cache, which is empty before the first.

    Args:
      models: of MODELS.
      progress: hears what is being done.
    """
    for name in models:
        words, title = MODELS[name]
        with tempfile.TemporaryDirectory() as cache:
            found = {}
            for process in (ANEW, AGAIN):
                progress(f'{name}: {process}')
                found[process] = programs(words, cache)
        yield from _rows(title, found)


def programs(words: str, cache: str) -> dict[str, dict[str, float]]:
    """What `compile_all` says in a process of its own with this cache."""
    environment = os.environ | {'JAX_COMPILATION_CACHE_DIR': cache, 'JAX_ENABLE_COMPILATION_CACHE': 'true',
                                'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
                                'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1'}
    done = subprocess.run([sys.executable, '-m', 'experiments.benchmark.compile', words], env=environment,
                          stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)  # it has said why
    return json.loads(done.stdout.splitlines()[-1])


def _rows(title, found):
    for purpose, first in found[ANEW].items():
        work = f'{title}: programs to {purpose}'
        for process, both in found.items():
            said = both[purpose]
            yield row('compile', work, process, 'programs compiled', [said['misses']],
                      note=f'{said["programs"]} programs, {said["hits"]} from the cache')
            yield row('compile', work, process, 's', [said['seconds']], [first['seconds']])


def compile_all(words: str) -> dict[str, dict[str, float]]:
    """Compiles what training and decoding the test set need; for each: programs, seconds, misses and hits of the cache.
    """
    events = collections.Counter()
    jax.monitoring.register_event_listener(lambda event, **_: events.update([event]))
    trainer = Trainer(benchmark_config.get_config(words))
    decoding = build.decoding(trainer.config)
    translator = Translator(trainer.model, trainer.data.source, trainer.data.target, decoding)
    shapes = translator.shapes([pair.source for pair in trainer.data.corpus.test])
    found = {}
    for purpose, work, count in (
            ('train and measure', lambda: trainer.compile(lambda text: None), sum(trainer.program_count().values())),
            (f'decode the test set, {decoding.describe()}',
             lambda: translator.compile(trainer.example.state.params, shapes), len(shapes))):
        events.clear()
        begin = time.perf_counter()
        work()
        found[purpose] = {'programs': count, 'seconds': time.perf_counter() - begin, 'misses': events[MISSES],
                          'hits': events[HITS]}
    return found


if __name__ == '__main__':
    with one_line_errors('experiments.benchmark.compile'):
        print(json.dumps(compile_all(sys.argv[1])))
