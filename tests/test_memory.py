"""Freed memory is kept: a program that runs again touches no new page."""

import platform
import subprocess
import sys

import pytest

CODE = '''
import resource, sys
from research import memory
if sys.argv[1] == 'kept':
    assert memory.keep_freed()
import jax
import jax.numpy as jnp

program = jax.jit(lambda x, w: jnp.maximum(x @ w, 0.0) @ w.T)  # makes an array of 64 MiB on the way
inputs = jnp.ones((2**14, 64)), jnp.ones((64, 2**10))
for _ in range(20):
    program(*inputs).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    program(*inputs).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
'''


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='malloc is not that of glibc')
def test_a_program_that_runs_again_makes_no_page_anew():
    faults = {how: int(subprocess.run([sys.executable, '-c', CODE, how], capture_output=True, text=True,
                                      check=True).stdout) for how in ('kept', 'not kept')}
    assert faults['not kept'] > 20 * 2**26 / 4096 / 2  # if this fails, memory.py is no longer needed
    assert faults['kept'] < faults['not kept'] / 10  # not none: results that live may stand in the way of a block


def test_another_library_is_left_alone():
    code = ("import platform; platform.libc_ver = lambda: ('', ''); from research import memory; "
            'assert memory.keep_freed() is False')
    subprocess.run([sys.executable, '-c', code], check=True)
