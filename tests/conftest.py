"""What every test shares: one device thread pool, no accelerator preallocation, the data folder where it is there."""

import os
import pathlib

import pytest

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
# Most of the tests' time is compiling programs that run once: half of it is saved where speed is not tested.
os.environ.setdefault('XLA_FLAGS', '--xla_llvm_disable_expensive_passes=true')

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def shared_data() -> pathlib.Path:
    """The folder of real corpora beside a checkout; tests that need it skip where it is absent."""
    folder = REPOSITORY.parent / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip(f'no folder {folder.name} of real corpora beside this checkout')
    return folder
