"""Train 2N steps = train N, kill -9, go on for N more: parameters, optimiser, key and the next batches, bit for bit."""

import json
import os
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import copy
from research import build, train
from research.study import arms
from research.text import batches
from research.training.workdir import flat
from tests.conftest import REPOSITORY

N = 12
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
    there = flat(chosen)
    return arms.override(chosen, {key: value for key, value in (CHANGES | more).items() if key in there})


def flags(words):
    changes = arms.differences(copy.get_config(words), config(words))
    return [f'--config={REPOSITORY}/configs/copy.py:{words}',
            *(f'--config.{key}={value}' for key, value in changes.items())]


def raw(tree):
    """Every leaf by name, as bytes."""
    def bits(leaf):
        return np.asarray(jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
    return {jax.tree_util.keystr(path): bits(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def saved(trainer, workdir, step):
    """Everything in the checkpoint of a step."""
    identity = build.identity(trainer.config, trainer.data.source, trainer.data.target)
    kept = train.Checkpoints(workdir / 'checkpoints', keep=2, identity=identity)
    return raw(kept.restore_step(step, trainer.example))


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, leaf in one.items():
        np.testing.assert_array_equal(leaf, other[name], err_msg=name)
        assert leaf.dtype == other[name].dtype, name


KILLED = f"""
import os, signal
from research import train
original = train.Saving.__call__
def save(self, step, state, metrics):
    original(self, step, state, metrics)
    if step == {N + 5}:
        os.kill(os.getpid(), signal.SIGKILL)
train.Saving.__call__ = save
train.main()
"""


@pytest.mark.parametrize('words', ['additive', 'transformer'])
def test_a_killed_run_ends_as_if_it_had_never_been_killed(words, tmp_path):
    trainer = train.Trainer(config(words))
    trainer.run(tmp_path / 'whole', console=False)

    environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
    options = [*flags(words), f'--workdir={tmp_path / "killed"}']
    killed = subprocess.run([sys.executable, '-c', KILLED, *options], cwd=REPOSITORY, env=environment,
                            capture_output=True, text=True, timeout=240)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert_equal(saved(trainer, tmp_path / 'whole', N), saved(trainer, tmp_path / 'killed', N))
    done = subprocess.run([sys.executable, '-m', 'research.train', *options], cwd=REPOSITORY, env=environment,
                          capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert f'going on from step {N}' in done.stdout + done.stderr
    assert_equal(saved(trainer, tmp_path / 'whole', 2 * N), saved(trainer, tmp_path / 'killed', 2 * N))

    lines = {name: [json.loads(line) for line in (tmp_path / name / 'metrics.jsonl').read_text().splitlines()]
             for name in ('whole', 'killed')}
    kept = ('step', 'kind', 'loss', 'accuracy', 'tokens')
    whole, resumed = ([{key: line.get(key) for key in kept} for line in lines[name]] for name in ('whole', 'killed'))
    assert whole == resumed  # every measurement once, and the same
    starts = (tmp_path / 'killed' / 'environment.jsonl').read_text().splitlines()
    assert [json.loads(line)['versions']['jax'] for line in starts] == [jax.__version__] * 2


def test_the_next_ten_batches_follow_from_the_step_alone():
    """Of a run that reads its data anew, in the order that its own seed decides."""
    trainer, other = train.Trainer(config('additive')), train.Trainer(config('additive'))
    plan, again = trainer.plans.train, other.plans.train
    for start in (0, N, len(plan) - 3, 2 * len(plan) + 1):
        stream = batches.stream(again, start)
        for k, batch in zip(range(start, start + 10), stream, strict=False):
            np.testing.assert_array_equal(plan.ids(k), again.ids(k))
            for mine, theirs in zip(jax.tree.leaves(plan[k]), jax.tree.leaves(batch), strict=True):
                np.testing.assert_array_equal(mine, theirs)


def best(accuracy, loss):
    return train.Best(np.float32(accuracy), np.float32(loss), np.int32(0))


def test_of_equal_accuracies_the_lower_loss_is_better():
    rank = train.Best.by_accuracy
    assert rank(best(0.6, 0.9)) > rank(best(0.5, 0.1))
    assert rank(best(0.5, 0.1)) > rank(best(0.5, 0.2))
    assert not rank(best(0.5, 0.1)) > rank(best(0.5, 0.1))
    assert not rank(best(0.4, 0.0)) > rank(best(0.5, 0.1))


def test_of_language_models_the_lower_loss_is_better_and_any_is_better_than_none():
    rank = train.Best.by_loss
    assert rank(best(0.4, 0.1)) > rank(best(0.6, 0.2))
    assert rank(best(0.6, 0.1)) > rank(best(0.5, 0.1))
    assert not rank(best(0.5, 0.1)) > rank(best(0.5, 0.1))
    none = train.Trainer(config('additive')).example.best
    assert rank(best(0.0, 99.0)) > rank(none)
    assert np.isfinite(none.loss)  # or no checkpoint could be written before the first measurement


def test_sigterm_saves_the_step_at_which_the_run_stops(tmp_path):
    """The documented exit code, and a checkpoint that is, bit for bit, so many updates from the start."""
    changes = {'training.steps': 4000, 'training.checkpoint_every': 4000, 'training.evaluate_every': 4000}
    command = [sys.executable, '-m', 'research.train', *flags('additive'),
               *(f'--config.{key}={value}' for key, value in changes.items()), f'--workdir={tmp_path / "run"}']
    with subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | {'JAX_PLATFORMS': 'cpu'},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            if 'step' in line and 'loss' in line:
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == train.STOPPED, rest
    stopped = int(re.search(r'at step (\d+); start again to go on', rest)[1])
    trainer = train.Trainer(arms.override(config('additive'), changes))
    trainer.compile(lambda text: None)
    state = trainer._start(np.uint32(build.seed(trainer.config)), np.float32(build.rate(trainer.config)))
    plan = trainer.plans.train
    for k in range(stopped):
        state, _ = trainer._update(state, plan[k])
    found = saved(trainer, tmp_path / 'run', stopped)
    assert_equal(raw(state), {name.removeprefix('.state'): leaf for name, leaf in found.items() if '.state' in name})
