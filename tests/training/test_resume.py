"""Train 2N steps = train N, kill -9, go on for N more: parameters, optimiser, key and the next batches, bit for bit."""

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import configs.copy
from research import build, train
from research.errors import UserError
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
    chosen = configs.copy.get_config(words)
    there = flat(chosen)
    return arms.override(chosen, {key: value for key, value in (CHANGES | more).items() if key in there})


def flags(words):
    changes = arms.differences(configs.copy.get_config(words), config(words))
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


def reported(folder):
    """What metrics.jsonl says, without times."""
    lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    return [{key: line.get(key) for key in ('step', 'kind', 'loss', 'accuracy', 'tokens')} for line in lines]


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


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A trainer, and the work directory of a run that was never stopped."""
    folder, trainer = tmp_path_factory.mktemp('whole') / 'whole', train.Trainer(config('additive'))
    trainer.run(folder, console=False)
    return trainer, folder


def test_a_killed_run_ends_as_if_it_had_never_been_killed(whole, tmp_path):
    trainer, folder = whole
    environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
    options = [*flags('additive'), f'--workdir={tmp_path / "killed"}']
    killed = subprocess.run([sys.executable, '-c', KILLED, *options], cwd=REPOSITORY, env=environment,
                            capture_output=True, text=True, timeout=240)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert_equal(saved(trainer, folder, N), saved(trainer, tmp_path / 'killed', N))
    done = subprocess.run([sys.executable, '-m', 'research.train', *options], cwd=REPOSITORY, env=environment,
                          capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert f'going on from step {N}' in done.stdout + done.stderr
    assert_equal(saved(trainer, folder, 2 * N), saved(trainer, tmp_path / 'killed', 2 * N))
    assert reported(folder) == reported(tmp_path / 'killed')  # every measurement once, and the same
    starts = (tmp_path / 'killed' / 'environment.jsonl').read_text().splitlines()
    assert [json.loads(line)['versions']['jax'] for line in starts] == [jax.__version__] * 2


def test_what_a_run_has_gathered_averaged_and_counted_is_in_its_checkpoints(tmp_path, monkeypatch):
    """A Transformer with everything that has a state of its own: stopped in the middle of an update and of a plateau,
    before the second of the measurements whose mean is tried at the end.

    Measured are steps 4, 8, ..., 24, the first best: the rate falls after 12, behind the checkpoint of step 9, and 20.
    """
    changes = {'training.accumulate': 2, 'training.ema': 0.9, 'training.average': 3, 'training.schedule': 'plateau',
               'training.plateau_patience': 2, 'training.evaluate_every': 4, 'training.checkpoint_every': 9,
               'encoder.layers': 1, 'decoder.layers': 1, 'batches.buckets': 1}
    trainer, scores = train.Trainer(arms.override(config('transformer'), changes)), train.Measuring._scores
    monkeypatch.setattr(train.Measuring, '_scores', lambda self, params: scores(self, params) | {
        'accuracy': 0.5 if int(self.best.step) == 0 else 0.25})
    trainer.run(tmp_path / 'whole', console=False)

    def stop(self, step, state, metrics, original=train.Saving.__call__):
        original(self, step, state, metrics)
        if step == N + 1:
            raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(train.Saving, '__call__', stop)
        with pytest.raises(KeyboardInterrupt):
            trainer.run(tmp_path / 'stopped', console=False)
    assert train.Checkpoints(tmp_path / 'stopped' / 'checkpoints', identity={}).steps() == [9]
    trainer.run(tmp_path / 'stopped', console=False)
    for step in (18, 24):
        assert_equal(saved(trainer, tmp_path / 'whole', step), saved(trainer, tmp_path / 'stopped', step))
    assert reported(tmp_path / 'whole') == reported(tmp_path / 'stopped')
    last = saved(trainer, tmp_path / 'whole', 24)
    assert last['.state.rate'] == pytest.approx(0.25 * build.rate(trainer.config))
    assert last['.best.lowered'] == 20
    middle = saved(trainer, tmp_path / 'whole', 18)
    assert middle['.state.rate'] == pytest.approx(0.5 * build.rate(trainer.config))
    assert reported(tmp_path / 'whole')[-2]['kind'] == 'dev_averaged'


class Before(NamedTuple):
    """What a checkpoint said of the best measurement when there was neither BLEU nor a plateau."""

    accuracy: Any
    loss: Any
    step: Any


def test_a_run_of_before_goes_on(whole, tmp_path):
    """Its config lacks the keys and its checkpoint the numbers that were added since; else it is the same run."""
    trainer, folder = whole
    shutil.copytree(folder, tmp_path / 'run')
    values = json.loads((folder / 'config.json').read_text())
    for node, keys in build._added(values):
        for key in keys:
            del node[key]
    assert values != json.loads((folder / 'config.json').read_text())
    (tmp_path / 'run' / 'config.json').write_text(json.dumps(values))
    identity = build.identity(trainer.config, trainer.data.source, trainer.data.target)
    kept = train.Checkpoints(tmp_path / 'run' / 'checkpoints', keep=2, identity=identity)
    state, best = kept.restore_step(N, trainer.example)
    shutil.rmtree(tmp_path / 'run' / 'checkpoints')
    kept.save(N, train.Saved(state, Before(best.accuracy, best.loss, best.step)))
    trainer.run(tmp_path / 'run', console=False)
    assert_equal(saved(trainer, folder, 2 * N), saved(trainer, tmp_path / 'run', 2 * N))
    assert reported(folder) == reported(tmp_path / 'run')


def test_a_checkpoint_of_another_run_is_refused_by_what_is_wrong_with_it(whole, tmp_path):
    trainer, folder = whole
    shutil.copytree(folder, tmp_path / 'run')
    kept = train.Checkpoints(tmp_path / 'run' / 'checkpoints', keep=9, identity={'config': 'another'})
    kept.save(2 * N + 1, {'of': np.float32(1)})
    with pytest.raises(UserError, match='config is another there'):
        trainer.run(tmp_path / 'run', console=False)


def test_the_next_ten_batches_follow_from_the_step_alone(whole):
    """Of a run that reads its data anew, in the order that its own seed decides."""
    trainer, other = whole[0], train.Trainer(config('additive'))
    plan, again = trainer.plans.train, other.plans.train
    for start in (0, N, len(plan) - 3, 2 * len(plan) + 1):
        stream = batches.stream(again, start)
        for k, batch in zip(range(start, start + 10), stream, strict=False):
            np.testing.assert_array_equal(plan.ids(k), again.ids(k))
            for mine, theirs in zip(jax.tree.leaves(plan[k]), jax.tree.leaves(batch), strict=True):
                np.testing.assert_array_equal(mine, theirs)


def rank(keep):
    """How good a measurement is: of accuracy, loss and BLEU."""
    return lambda accuracy, loss, bleu=-1.0: train.Best(
        np.float32(accuracy), np.float32(loss), np.float32(bleu), np.int32(0), np.int32(0)).rank(keep)


@pytest.mark.parametrize('keep', ['accuracy', 'bleu'])
def test_of_equal_scores_the_lower_loss_is_better(keep):
    better = rank(keep)

    def best(score, loss):
        return better(score, loss) if keep == 'accuracy' else better(0.5, loss, score)
    assert best(0.6, 0.9) > best(0.5, 0.1)
    assert best(0.5, 0.1) > best(0.5, 0.2)
    assert not best(0.5, 0.1) > best(0.5, 0.1)
    assert not best(0.4, 0.0) > best(0.5, 0.1)


def test_where_losses_decide_the_lower_one_is_better():
    best = rank('loss')
    assert best(0.4, 0.1) > best(0.6, 0.2)
    assert best(0.6, 0.1) > best(0.5, 0.1)
    assert not best(0.5, 0.1) > best(0.5, 0.1)


@pytest.mark.parametrize('keep', ['accuracy', 'loss', 'bleu'])
def test_any_measurement_is_better_than_none(keep, whole):
    none = whole[0].example.best
    assert rank(keep)(0.0, 99.0, 0.0) > none.rank(keep)
    assert all(np.isfinite(number) for number in none)  # or no checkpoint could be written before the first measurement


def test_sigterm_saves_the_step_at_which_the_run_stops(whole, tmp_path):
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
    trainer = copy.copy(whole[0])  # whose programs know nothing of what is changed
    trainer.config = arms.override(config('additive'), changes)
    state = trainer._start(np.uint32(build.seed(trainer.config)), np.float32(build.rate(trainer.config)))
    plan = trainer.plans.train
    for k in range(stopped):
        state, _ = trainer._update(state, plan[k])
    found = saved(trainer, tmp_path / 'run', stopped)
    assert_equal(raw(state), {name.removeprefix('.state'): leaf for name, leaf in found.items() if '.state' in name})
