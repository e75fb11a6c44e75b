"""Attention on path 'chunked' over thousands of positions: as exact as the explicit one, in little memory."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import labelled_recall
from research import build
from research.models import contract
from research.shapes import Places
from research.study import arms
from research.training import step as steps
from research.training.loop import blank_batch
from tests.conftest import REPOSITORY

MODEL = {'decoder.features': 256, 'decoder.hidden': 512, 'decoder.layers': 2, 'decoder.mixer.heads': 4}
LONG = {'data.task': 'window_reach', 'data.length': 8192, 'data.symbols': 16, 'data.size': 1, 'data.train': 24,
        'data.dev': 1, 'data.test': 1, 'batches.tokens': 2 * 8192, 'batches.buckets': 1,
        'batches.maximum_source': 8192, 'batches.maximum_target': 8192, 'decoder.mixer.path': 'chunked',
        'training.steps': 20, 'training.warmup': 5, 'training.report_every': 1, 'training.evaluate_every': 20,
        'training.checkpoint_every': 20}
TRAIN = """
import json, resource, sys
from configs import labelled_recall
from research import train
from research.study import arms
train.Trainer(arms.override(labelled_recall.get_config(), json.loads(sys.argv[1]))).run(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_gradients_of_a_model_are_those_of_the_explicit_path():
    T = 512
    random = np.random.default_rng(0)
    inputs = random.integers(4, 20, (1, T)).astype(np.int32)
    places = Places((np.arange(T) < T - 3)[None].astype(np.int32), np.arange(T, dtype=np.int32)[None])
    batch = blank_batch(1, 1, T)._replace(inputs=inputs, targets=np.roll(inputs, 1, axis=1), target_places=places)

    def gradient(path):
        config = arms.override(labelled_recall.get_config(), MODEL | {'decoder.mixer.path': path})
        model = build.model(config, 20, 20)
        params = contract.init(model, jax.random.key(1), batch)
        loss = steps.one_pass(model, 0.0, 4096)
        return jax.jit(jax.grad(lambda params: loss(params, batch, jax.random.key(2))[0] / T))(params)
    explicit, chunked = gradient('explicit'), gradient('chunked')
    for (path, theirs), ours in zip(jax.tree.leaves_with_path(explicit), jax.tree.leaves(chunked), strict=True):
        assert np.any(theirs)
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * max(1.0, np.abs(theirs).max()), rtol=1e-3,
                                   err_msg=jax.tree_util.keystr(path))


@pytest.mark.slow
def test_eight_thousand_positions_are_trained_on_in_four_gigabytes(tmp_path, capsys):
    """Weights of 4 heads alone would take 1 GB a layer, and as much again for their gradients."""
    environment = {name: value for name, value in os.environ.items() if name != 'XLA_FLAGS'}  # compiled as for a user
    ran = subprocess.run([sys.executable, '-c', TRAIN, json.dumps(MODEL | LONG), str(tmp_path)], cwd=REPOSITORY,
                         env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    losses = [line['loss'] for line in lines if line['kind'] == 'train']
    kilobytes = int(ran.stdout.split()[-1])
    with capsys.disabled():
        print(f'\npeak {kilobytes / 1024:,.0f} MiB; {np.mean([line["seconds"] for line in lines[:-1]]):.1f} s a step; '
              'losses ' + ' '.join(f'{loss:.3f}' for loss in losses))
    assert len(losses) == 20
    assert kilobytes * 1024 < 4e9
    assert np.mean(losses[-5:]) < losses[0] - 0.3
