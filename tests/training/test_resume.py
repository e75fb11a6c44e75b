"""Train 2N steps = train N, kill -9, go on for N more: parameters, optimiser, key and the next batches, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from configs import copy
from research import build, train
from research.study import arms
from tests.conftest import REPOSITORY

N = 24
CHANGES = {
    'data.train': 90, 'data.dev': 8, 'data.test': 8, 'data.longest': 6, 'data.longest_test': 6,
    'batches.tokens': 96, 'batches.buckets': 2, 'encoder.features': 8, 'encoder.embedding_features': 8,
    'decoder.features': 8, 'decoder.embedding_features': 8, 'encoder.dropout': 0.2, 'decoder.dropout': 0.2,
    'training.steps': 2 * N, 'training.warmup': 3, 'training.report_every': 2, 'training.evaluate_every': 8,
    'training.checkpoint_every': N,
}


def config(words):
    more = {'decoder.reader.energy_width': 8} if words == 'additive' else {
        'encoder.mixer.heads': 2, 'decoder.mixer.heads': 2, 'decoder.reader.heads': 2, 'encoder.hidden': 8,
        'decoder.hidden': 8}
    chosen = copy.get_config(words)
    there = arms.leaves(chosen)
    return arms.override(chosen, {key: value for key, value in (CHANGES | more).items() if key in there})


def flags(words):
    changes = arms.differences(copy.get_config(words), config(words))
    return [f'--config={REPOSITORY}/configs/copy.py:{words}',
            *(f'--config.{key}={value}' for key, value in changes.items())]


def saved(trainer, workdir):
    """Everything in the newest checkpoint, as bytes."""
    identity = build.identity(trainer.config, trainer.data.source, trainer.data.target)
    example = train.Saved(trainer._start(jax.random.key(0)), train.Best(np.float32(0), np.float32(0), np.int32(0)))
    step, found = train.Checkpoints(workdir / 'checkpoints', keep=2, identity=identity).restore(example)

    def raw(leaf):
        return np.asarray(jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
    return step, {jax.tree_util.keystr(path): raw(leaf) for path, leaf in jax.tree.leaves_with_path(found)}


@pytest.mark.parametrize('words', ['additive', 'transformer'])
def test_a_killed_run_ends_as_if_it_had_never_been_killed(words, tmp_path):
    trainer = train.Trainer(config(words))
    trainer.run(tmp_path / 'whole', console=False)

    environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
    command = [sys.executable, '-m', 'research.train', *flags(words), f'--workdir={tmp_path / "killed"}']
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not any((tmp_path / 'killed' / 'checkpoints').glob(f'{N}*/manifest.json')) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    middle, _ = saved(trainer, tmp_path / 'killed')
    assert middle in (N, 2 * N)  # it may have been quick; the first kill is meant to hit the middle

    if middle == 2 * N:
        pytest.fail('the run ended before it could be killed: make it longer')
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert f'going on from step {N}' in done.stdout + done.stderr
    (step, whole), (other_step, resumed) = saved(trainer, tmp_path / 'whole'), saved(trainer, tmp_path / 'killed')
    assert step == other_step == 2 * N
    assert whole.keys() == resumed.keys()
    for name, leaf in whole.items():
        np.testing.assert_array_equal(leaf, resumed[name], err_msg=name)
        assert leaf.dtype == resumed[name].dtype

    lines = {name: [json.loads(line) for line in (tmp_path / name / 'metrics.jsonl').read_text().splitlines()]
             for name in ('whole', 'killed')}
    kept = ('step', 'kind', 'loss', 'accuracy', 'tokens')
    whole, resumed = ([{key: line.get(key) for key in kept} for line in lines[name]] for name in ('whole', 'killed'))
    assert whole == resumed  # every measurement once, and the same


def test_the_next_ten_batches_follow_from_the_step_alone():
    trainer = train.Trainer(config('additive'))
    from research.text import batches
    plan, again = trainer.plans.train, build.plans(trainer.config, trainer.data).train
    for start in (0, N, len(plan) - 3, 2 * len(plan) + 1):
        stream = batches.stream(again, start)
        for k, batch in zip(range(start, start + 10), stream, strict=False):
            np.testing.assert_array_equal(plan.ids(k), again.ids(k))
            for mine, theirs in zip(jax.tree.leaves(plan[k]), jax.tree.leaves(batch), strict=True):
                np.testing.assert_array_equal(mine, theirs)


def test_of_equal_accuracies_the_lower_loss_is_better():
    def best(accuracy, loss):
        return train.Best(np.float32(accuracy), np.float32(loss), np.int32(0))
    assert best(0.5, 0.1).beaten_by(best(0.6, 0.9))
    assert best(0.5, 0.2).beaten_by(best(0.5, 0.1))
    assert not best(0.5, 0.1).beaten_by(best(0.5, 0.1))
    assert not best(0.5, 0.1).beaten_by(best(0.4, 0.0))


def test_sigterm_saves_and_the_run_goes_on(tmp_path):
    """The documented exit code, a checkpoint at the step where it was asked to stop, and the same end."""
    command = [sys.executable, '-m', 'research.train', *flags('additive'), '--config.training.steps=4000',
               '--config.training.checkpoint_every=4000', '--config.training.evaluate_every=4000',
               f'--workdir={tmp_path / "run"}']
    with subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | {'JAX_PLATFORMS': 'cpu'},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            if 'step' in line and 'loss' in line:
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == train.STOPPED, rest
    assert 'start again to go on' in rest
    assert any((tmp_path / 'run' / 'checkpoints').glob('*/manifest.json'))
