"""What a training run compiles, reports, and does when it is asked to stop."""

import json
import os
import signal

import jax
import numpy as np
import pytest

from research import train
from research.errors import DivergedError, UserError
from research.study import arms
from research.training import loop
from tests.training.test_resume import config

COMPILES = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: COMPILES.append(name) if 'backend_compile' in name else None)


class Told:
    """Stands in for the report: keeps what it is told."""

    def __init__(self):
        self.lines = []

    def training(self, step, metrics):
        self.lines.append((step, metrics))


def metrics(loss=1.0, tokens=10.0):
    return {'loss': np.float32(loss), 'tokens': np.float32(tokens), 'gradient_norm': np.float32(0.5)}


def test_as_many_programs_are_compiled_as_are_announced_and_none_after_the_first_step(tmp_path, monkeypatch, capsys):
    trainer, first = train.Trainer(config('additive')), []
    COMPILES.clear()
    original = loop.train

    def count_and_train(*arguments):
        first.append(len(COMPILES))
        return original(*arguments)
    monkeypatch.setattr(loop, 'train', count_and_train)
    trainer.run(tmp_path / 'run')
    announced = sum(trainer.program_count().values())
    assert f'{announced} programs to compile: 1 to start, 2 to train, 2 to measure, 1 to decode' in \
        capsys.readouterr().err
    assert first == [announced]
    assert len(COMPILES) == announced == trainer.programs_compiled()
    trainer.run(tmp_path / 'another', seed=5, rate=1e-4, console=False)
    assert json.loads((tmp_path / 'another' / 'config.json').read_text())['training']['learning_rate'] == 1e-4
    trainer.run(tmp_path / 'run', console=False)
    assert len(COMPILES) == announced


def test_a_finished_run_compiles_nothing_and_says_so(tmp_path, capsys):
    short = arms.override(config('additive'), {'training.steps': 2, 'training.evaluate_every': 2})
    outcome = train.Trainer(short).run(tmp_path / 'run')
    COMPILES.clear()
    again = train.Trainer(short).run(tmp_path / 'run')
    assert not COMPILES
    assert 'all 2 steps are done' in capsys.readouterr().err
    assert again.best_step == outcome.best_step == 2
    jax.tree.map(np.testing.assert_array_equal, again.params, outcome.params)


def test_every_step_is_in_one_report_also_before_a_checkpoint_and_at_the_end(tmp_path):
    changes = {'training.report_every': 5, 'training.checkpoint_every': 7, 'training.evaluate_every': 12}
    train.Trainer(arms.override(config('additive'), changes | {'training.steps': 12})).run(tmp_path / 'run')
    lines = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines if line['kind'] == 'train'] == [5, 7, 10, 12]


def test_reports_are_sums_over_their_window_without_the_time_of_other_things(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(train.time, 'perf_counter', lambda: now[0])
    told = Told()
    reporting = train.Reporting(told, 2)
    for step, one in enumerate((metrics(1, 10), metrics(4, 20), metrics(2, 30)), 1):
        now[0] += 1
        reporting(step, None, one)
    (step, line), = told.lines  # one step late
    assert step == 2
    assert line['loss'] == pytest.approx(3.0)  # (1 x 10 + 4 x 20) / 30
    assert (line['tokens'], line['seconds'], line['tokens_per_second']) == (30, 3, 10)
    now[0] += 7
    reporting.leave_out(5)
    reporting.close(3)
    reporting.flush()
    assert told.lines[1][0] == 3
    assert told.lines[1][1]['seconds'] == 2
    reporting.close(3)
    reporting.flush()
    assert len(told.lines) == 2  # nothing is reported twice


def test_a_loss_that_is_not_finite_ends_the_run_and_says_between_which_steps():
    reporting = train.Reporting(Told(), 2)
    for step, loss in enumerate((1.0, np.nan), 1):
        reporting(step, None, metrics(loss))
    with pytest.raises(DivergedError, match=r'the loss became nan between steps 1 and 2: lower training\.'):
        reporting.flush()


@pytest.fixture
def interrupts():
    """SIGINT raises KeyboardInterrupt, also where the tests run in the background: there a shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('interrupts')
def test_the_first_signal_waits_for_the_step_and_the_second_acts_at_once():
    with train.Signals() as signals:
        signals.stop('before anything')
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(train.Stopped) as caught:
            signals.stop('at step 3')
        assert caught.value.code == train.STOPPED
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_while_compiling_stops_before_the_next_program(tmp_path, monkeypatch):
    original = loop.Programs.__init__

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        original(*arguments, **options)
    monkeypatch.setattr(loop.Programs, '__init__', interrupted)
    with pytest.raises(train.Stopped):
        train.Trainer(config('additive')).run(tmp_path / 'run', console=False)


def test_a_sequence_without_a_learned_position_is_refused_before_anything_compiles_or_is_written(tmp_path):
    COMPILES.clear()
    short = arms.override(config('transformer'), {'encoder.position': 'learned', 'encoder.maximum_length': 6})
    with pytest.raises(UserError, match='a sequence of 7 positions, but maximum_length is 6'):
        train.Trainer(short).run(tmp_path / 'run')
    assert not COMPILES
    assert not (tmp_path / 'run').exists()
