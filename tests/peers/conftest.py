"""What tests of peers share: a comparison, and the table of all of them at the end."""

import json
import os
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import REPOSITORY

PEERS = REPOSITORY / '.oracles' / 'bin' / 'python'
# Both sides sum the same some dozens of numbers, of size one, in another order: 1e-7 or 1e-16 at a time. A hundred to
# a hundred thousand times that is left for logits of ten, which the exponential makes relative differences of, and for
# layers and steps behind each other. A wrong formula differs by 1e-2 and more.
TOLERANCES = {'float32': 2e-5, 'float64': 1e-11}
COLUMNS = ('implementation', 'what', 'type', 'largest relative difference: outputs', 'gradients')


def difference(ours, theirs, scale=None):
    """The largest difference of two arrays, relative to the largest number of the second, or to `scale`."""
    assert ours.shape == theirs.shape
    assert np.all(np.isfinite(theirs))
    scale = np.abs(theirs).max() if scale is None else scale
    assert scale > 0.0, 'nothing is compared'
    return float(np.abs(np.asarray(ours, np.float64) - theirs).max() / scale)


@pytest.fixture
def ask(tmp_path):
    """ask(program, case, options, given, types) -> all that a peer answers, by name; see tests/peers/exchange.py."""
    if not PEERS.exists():
        pytest.skip('no environment .oracles with torch, transformers, entmax and x-transformers')

    def ask(program, case, options, given, types=('float64',)):
        paths = tmp_path / 'given.npz', tmp_path / 'answer.npz'
        np.savez(paths[0], **given)
        done = subprocess.run(
            [PEERS, '-m', f'tests.peers.oracle_{program}', case, json.dumps({**options, 'types': types}), *paths],
            cwd=REPOSITORY, env=os.environ | {'OMP_NUM_THREADS': '1'}, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        with np.load(paths[1]) as file:
            return dict(file)
    return ask


@pytest.fixture
def agree(ask, record_property):
    """Asserts that a function of arrays and a peer have the same outputs and gradients.

    agree(peer, what, (program, case, options), ours, given): `ours` takes the arrays of `given`, by name, to outputs by
    name. `kept` has a boolean array for each output of which not all is compared. `level` names arrays whose gradient
    is next to rounding, or zero but for it: it is compared with the largest of all, the others each with their own.
    """
    def agree(peer, what, question, ours, given, *, kept=None, level=(), types=tuple(TOLERANCES)):
        kept, found = kept or {}, {}
        random = np.random.default_rng(1)
        with jax.enable_x64(True):
            shapes = jax.eval_shape(ours, {name: jnp.asarray(array) for name, array in given.items()})
        weights = {f'cotangent/{name}': random.normal(size=output.shape) * kept.get(name, True)
                   for name, output in shapes.items()}
        theirs = ask(*question, given | weights, types)
        for dtype in types:
            outputs, gradients = _ours(ours, given, weights, dtype)
            assert all(array.dtype == dtype for array in (outputs | gradients).values())
            assert {f'{dtype}/output/{name}' for name in outputs} == {name for name in theirs
                                                                      if name.startswith(f'{dtype}/output/')}
            read = {name: np.broadcast_to(kept.get(name, True), output.shape) for name, output in outputs.items()}
            apart = max(difference(output[read[name]], theirs[f'{dtype}/output/{name}'][read[name]])
                        for name, output in outputs.items())
            largest = max(np.abs(theirs[f'{dtype}/gradient/{name}']).max() for name in gradients)
            turned = max(difference(gradient, theirs[f'{dtype}/gradient/{name}'], largest if name in level else None)
                         for name, gradient in gradients.items())
            record_property('peer', (peer, what, dtype, apart, turned))
            found[dtype] = apart, turned
        assert all(max(found[dtype]) < TOLERANCES[dtype] for dtype in types), found
    return agree


def _ours(function, given, weights, dtype):
    """Outputs, and gradients of their weighed sum in all floats that are given; NumPy arrays by name."""
    with jax.enable_x64(dtype == 'float64'):
        floats = {name: jnp.asarray(array, dtype) for name, array in given.items() if array.dtype.kind == 'f'}
        others = {name: array for name, array in given.items() if name not in floats}

        def total(floats):
            outputs = function(floats | others)
            return sum(jnp.sum(output * jnp.asarray(weights[f'cotangent/{name}'], dtype))
                       for name, output in outputs.items()), outputs
        gradients, outputs = jax.jit(jax.grad(total, has_aux=True))(floats)
        return ({name: np.asarray(array) for name, array in outputs.items()},
                {name: np.asarray(array) for name, array in gradients.items()})


def pytest_terminal_summary(terminalreporter):
    """Prints the table."""
    rows = [value for outcome in ('passed', 'failed') for report in terminalreporter.stats.get(outcome, ())
            for name, value in getattr(report, 'user_properties', ()) if name == 'peer']
    if rows:
        terminalreporter.section('peers')
        terminalreporter.write_line(f'| {" | ".join(COLUMNS)} |')
        terminalreporter.write_line('|' + '---|' * len(COLUMNS))
    for *words, outputs, gradients in sorted(map(tuple, rows)):
        numbers = ('-' if number is None else f'{number:.1e}' for number in (outputs, gradients))
        terminalreporter.write_line(f'| {" | ".join((*words, *numbers))} |')
