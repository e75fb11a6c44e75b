"""What every test shares: one device thread pool, no accelerator preallocation, the data folder where it is there."""

import functools
import gc
import importlib.metadata
import os
import pathlib
import sys
import tracemalloc
from unittest import mock

import pytest

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
# Most of the time of tests is compiling programs that run once: most of that is saved without optimising. jaxlib 0.10
# also has an older, quicker way of making fusions; others end the process at a flag that they do not know.
os.environ.setdefault('XLA_FLAGS', ' '.join([
    '--xla_backend_optimization_level=0', '--xla_llvm_disable_expensive_passes=true',
    '--xla_cpu_parallel_codegen_split_count=1',
    *['--xla_cpu_use_fusion_emitters=false'] * importlib.metadata.version('jaxlib').startswith('0.10.')]))
# Tests that start processes, and both workers, find the programs that another one has compiled.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(pathlib.Path(__file__).resolve().parent.parent / '.cache' / (
    f'jax-{sys.version_info.major}.{sys.version_info.minor}')))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')

import jax

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items):
    """Tests of one case of a battery stand together: its programs are compiled by one worker and then let go."""
    first = {}

    def place(number_and_item):
        number, item = number_and_item
        params = item.callspec.params if hasattr(item, 'callspec') else {}
        case = str(params['case']) if 'case' in params else (params.get('wiring'), params.get('reader'))
        whole = item.path if case != (None, None) else (item.path, number)
        return first.setdefault(item.path, number), first.setdefault((whole, case), number), number
    items[:] = [item for _, item in sorted(enumerate(items), key=place)]


@pytest.fixture(autouse=True)
def programs_are_let_go(request):
    """A process may hold some ten thousand programs' worth of memory maps, and then compiling ends it."""
    yield
    global _tests
    _tests += 1
    if _tests % 150 == 0:
        jax.clear_caches()
        gc.collect()


_tests = 0


@pytest.fixture(autouse=True, scope='session')
def freed_memory_goes_back():
    """A command line that is tested in this process must not have it keep what thousands of programs have used."""
    from research import memory
    with mock.patch.object(memory, 'keep_freed', return_value=False):
        yield


@pytest.fixture
def shared_data() -> pathlib.Path:
    """The folder of real corpora beside a checkout; tests that need it skip where it is absent."""
    folder = REPOSITORY.parent / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip(f'no folder {folder.name} of real corpora beside this checkout')
    return folder


@pytest.fixture
def traced():
    """Counts what is allocated during a test."""
    tracemalloc.start()
    yield tracemalloc
    tracemalloc.stop()


@pytest.fixture(scope='module')
def each_run_is_loaded_once():
    """A fifth of a second each time, and many command lines that are tested are refused soon after it."""
    from research import evaluate
    with mock.patch.object(evaluate.Run, 'load', functools.cache(evaluate.Run.load)):
        yield
