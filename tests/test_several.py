"""Seeds that are trained at once learn what each learns alone, leave the same behind, and go on where they stopped."""

import json
import os
import signal

import jax
import numpy as np
import pytest

import configs.copy
from research import build, several, train
from research.errors import DivergedError, UserError
from research.evaluate import Run
from research.several import ONE_BY_ONE, TOGETHER, Several
from research.study import arms
from tests.training import test_resume
from tests.training.test_resume import N, assert_equal, raw, reported

COMPILES = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: COMPILES.append(name) if 'backend_compile' in name else None)
SEEDS = (10, 11, 12)
STEPS = 2 * N


def config(words, **changes):
    """Two shapes of batches, dropout on both sides."""
    return arms.override(test_resume.config(words), {'batches.shape_seed': 1} | {
        key.replace('__', '.'): value for key, value in changes.items()})


def identity(trainer, seed, rate=None):
    chosen = build.with_seed(trainer.config, seed)
    return build.identity(chosen if rate is None else build.with_rate(chosen, rate), trainer.data.source,
                          trainer.data.target)


def checkpoints(trainer, folder, seed, rate=None):
    return train.Checkpoints(folder / str(seed) / 'checkpoints', identity=identity(trainer, seed, rate))


def saved(trainer, folder, seed, step, rate=None):
    """Everything in the checkpoint of a step of a seed."""
    return raw(checkpoints(trainer, folder, seed, rate).restore_step(step, trainer.example))


def folders(folder):
    return [folder / str(seed) for seed in SEEDS]


@pytest.fixture(scope='module')
def compiled():
    """Three places, and how many programs were compiled for them."""
    train.device.peak('float32')  # is measured once a process
    COMPILES.clear()
    group = Several(train.Trainer(config('additive')), len(SEEDS))
    group.compile(lambda text: None)
    return group, len(COMPILES)


@pytest.fixture(scope='module')
def together(compiled):
    """Three places."""
    return compiled[0]


@pytest.fixture(scope='module')
def whole(together, tmp_path_factory):
    """The folder of a training that was never stopped, what it returned, and how many more programs were compiled."""
    folder = tmp_path_factory.mktemp('whole')
    COMPILES.clear()
    outcomes = together.run(folders(folder), SEEDS, console=False)
    return folder, outcomes, len(COMPILES)


@pytest.fixture(scope='module')
def alone(together, tmp_path_factory):
    """The same seeds one after the other."""
    folder = tmp_path_factory.mktemp('alone')
    return folder, [together.trainer.run(folder / str(seed), seed, console=False) for seed in SEEDS]


# ------------------------------------------------------------------------------------------------------ what is learned

@pytest.mark.parametrize('words', ['additive', 'transformer'])
def test_the_first_losses_are_the_same_in_both_ways(words, together, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    group = together if words == 'additive' else Several(train.Trainer(config(words)), len(SEEDS))
    plan = group.trainer.plans.train
    assert {plan[k].source.shape for k in range(10)} == {(B, S) for B, S, _ in plan.shapes}
    assert len(plan.shapes) == 2
    one, other = (group.first_losses(SEEDS, way) for way in (ONE_BY_ONE, TOGETHER))
    assert one.losses.shape == other.losses.shape == (len(SEEDS), 10)
    np.testing.assert_allclose(one.losses, other.losses, rtol=0, atol=1e-5)
    assert np.abs(np.diff(one.losses, axis=0)).min() > 1e-4  # every seed is another
    assert min(one.seconds, other.seconds) > 0
    assert not list(tmp_path.iterdir())


def test_the_first_losses_are_those_of_the_training(together, tmp_path):
    """Reported step by step."""
    chosen = config('additive', training__steps=10, training__report_every=1)
    group = Several(train.Trainer(chosen), len(SEEDS))
    found = group.first_losses(SEEDS, TOGETHER)
    group.run(folders(tmp_path), SEEDS, console=False)
    for place, folder in enumerate(folders(tmp_path)):
        assert [line['loss'] for line in reported(folder) if line['kind'] == 'train'] == pytest.approx(
            found.losses[place].tolist(), rel=1e-6)


def test_what_is_asked_for_must_be_there(together, tmp_path):
    for seeds, way, steps in ((SEEDS[:2], TOGETHER, 10), (SEEDS, 'processes', 10), (SEEDS, TOGETHER, several.WARM)):
        with pytest.raises(ValueError, match='more than 3 steps of 3 seeds'):
            together.first_losses(seeds, way, steps)
    with pytest.raises(ValueError, match='3 work directories, 2 seeds and 3 rates are given, and 3 seeds are trained'):
        together.run(folders(tmp_path), SEEDS[:2], [0.1] * 3)
    with pytest.raises(ValueError, match='the number of seeds is 0'):
        Several(together.trainer, 0)


def test_each_seed_learns_what_it_learns_alone(together, whole, alone):
    for seed, mine, theirs in zip(SEEDS, whole[1], alone[1], strict=True):
        found = [saved(together.trainer, folder, seed, STEPS) for folder in (whole[0], alone[0])]
        assert found[0].keys() == found[1].keys()
        for name, leaf in found[0].items():
            if '.params' in name:
                np.testing.assert_allclose(leaf, found[1][name], rtol=0, atol=1e-4, err_msg=name)
        assert mine.best_step == theirs.best_step
        assert mine.best_loss == pytest.approx(theirs.best_loss, abs=1e-5)
        assert jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, rtol=0, atol=1e-4), mine.params, theirs.params))
    assert whole[1][0].best_loss != whole[1][1].best_loss


def test_what_a_run_is_to_begin_with_each_seed_begins_with(together, alone, tmp_path, monkeypatch):
    """As with the vectors of a file: parameters made of the random ones of each."""
    monkeypatch.setattr(train.Trainer, 'given', lambda self, report: lambda params: jax.tree.map(
        lambda leaf: 3 * np.asarray(leaf), params))
    together.run(folders(tmp_path / 'together'), SEEDS, console=False)
    together.trainer.run(tmp_path / 'alone', SEEDS[1], console=False)
    first, expected, other = (reported(folder)[0]['loss'] for folder in (
        tmp_path / 'together' / '11', tmp_path / 'alone', alone[0] / '11'))
    assert first == pytest.approx(expected, abs=1e-5)
    assert abs(first - other) > 0.01


def test_learning_rates_may_differ_and_so_may_seeds(together, tmp_path):
    """A seed twice with two rates, and another: each as alone."""
    seeds, rates = (10, 10, 12), (2e-3, 5e-4, 1e-3)
    outcomes = together.run([tmp_path / str(place) for place in range(3)], seeds, rates, console=False)
    for place, (seed, rate) in enumerate(zip(seeds, rates, strict=True)):
        expected = together.trainer.run(tmp_path / f'alone{place}', seed, rate, console=False)
        assert outcomes[place].best_loss == pytest.approx(expected.best_loss, abs=1e-5)
        assert (tmp_path / str(place) / 'config.json').read_text() == (
            tmp_path / f'alone{place}' / 'config.json').read_text()
    assert outcomes[0].best_loss != outcomes[1].best_loss


# -------------------------------------------------------------------------------------------------- what is left behind

def test_work_directories_hold_what_those_of_single_runs_hold(together, whole, alone):
    def names(folder):
        return {path.relative_to(folder) for path in folder.rglob('*') if 'arrays' not in path.parts
                and 'tensorboard' not in path.parts}
    for seed in SEEDS:
        mine, theirs = whole[0] / str(seed), alone[0] / str(seed)
        assert names(mine) == names(theirs)
        for name in ('config.json', *together.trainer.documents):
            assert (mine / name).read_text() == (theirs / name).read_text()
        lines = [[json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
                 for folder in (mine, theirs)]
        for one, other in zip(*lines, strict=True):
            assert one.keys() == other.keys()
            for name in ('step', 'kind', 'tokens', 'padding'):  # so the batches were the same
                assert one.get(name) == other.get(name)
            assert one['loss'] == pytest.approx(other['loss'], abs=1e-5)
        assert [line.keys() for line in map(json.loads, (mine / 'environment.jsonl').read_text().splitlines())] == [
            line.keys() for line in map(json.loads, (theirs / 'environment.jsonl').read_text().splitlines())]


def test_what_is_left_behind_is_evaluated_and_gone_on_with_alone(together, whole):
    folder, outcomes, _ = whole
    run = Run.load(folder / '11')
    assert run.step == outcomes[1].best_step
    assert_equal(raw(run.params), raw(outcomes[1].params))
    again = together.trainer.run(folder / '11', 11, console=False)
    assert again.best_loss == outcomes[1].best_loss


def test_as_many_programs_are_compiled_as_for_one_seed_and_two_more(compiled, whole, tmp_path):
    """However many seeds there are, none after the first step, and none for other seeds or to go on."""
    together, count = compiled
    assert count == sum(together.trainer.program_count().values()) + 2 == sum(together.program_count().values())
    assert together.trainer.program_count()['train'] == 2
    assert whole[2] == 0
    COMPILES.clear()
    together.run([tmp_path / str(seed) for seed in range(3)], range(3), console=False)
    assert not COMPILES
    together.run(folders(whole[0]), SEEDS, console=False)
    assert not COMPILES


def test_the_time_of_measuring_one_seed_is_in_no_window_of_another(together, tmp_path, monkeypatch):
    """Each measurement takes 1000 seconds by a clock that else stands nearly still."""
    now, original = [100.0], train.Measuring._scores

    def tick():
        now[0] += 1e-6
        return now[0]

    def scores(self, params):
        now[0] += 1000
        return original(self, params)
    monkeypatch.setattr(train.time, 'perf_counter', tick)
    monkeypatch.setattr(train.Measuring, '_scores', scores)
    together.run(folders(tmp_path), SEEDS, console=False)
    for folder in folders(tmp_path):
        lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
        assert max(line['seconds'] for line in lines if line['kind'] == 'train') < 1
        assert min(line['seconds'] for line in lines if line['kind'] == 'dev') > 999


# ------------------------------------------------------------------------------------------------------- stop and go on

def stopping(monkeypatch, how, step, calls=1):
    """At the so manieth checkpoint or look of this step, once."""
    original, seen = several._Lane.after, []

    def after(self, now, take, metrics):
        changed = original(self, now, take, metrics)
        if now == step:
            seen.append(self.seed)
            if len(seen) == calls:
                how()
        return changed
    monkeypatch.setattr(several._Lane, 'after', after)


@pytest.mark.parametrize('step', [5, N, 17])
def test_stopped_by_sigterm_they_end_as_if_they_had_not_been_stopped(step, together, whole, tmp_path, monkeypatch):
    """It comes between the first seed and the second: all are saved after the next step."""
    with monkeypatch.context() as patch:
        stopping(patch, lambda: os.kill(os.getpid(), signal.SIGTERM), step)
        with pytest.raises(train.Stopped) as caught:
            together.run(folders(tmp_path), SEEDS, console=False)
    assert caught.value.code == train.STOPPED
    assert [max(checkpoints(together.trainer, tmp_path, seed).steps()) for seed in SEEDS] == [step + 1] * len(SEEDS)
    outcomes = together.run(folders(tmp_path), SEEDS, console=False)
    ended_alike(together.trainer, whole, tmp_path, outcomes)


def ended_alike(trainer, whole, folder, outcomes, seeds=SEEDS):
    for seed, mine, theirs in zip(SEEDS, outcomes, whole[1], strict=True):
        if seed in seeds:
            assert_equal(saved(trainer, folder, seed, STEPS), saved(trainer, whole[0], seed, STEPS))
            assert_equal(raw(mine.params), raw(theirs.params))
            assert mine[1:] == theirs[1:]
            without = [[{key: value for key, value in line.items() if key != 'tokens'} for line in reported(where)
                        if line['kind'] != 'train'] for where in (folder / str(seed), whole[0] / str(seed))]
            assert without[0] == without[1]


@pytest.mark.parametrize('calls', [1, 2])
def test_killed_while_checkpoints_were_written_those_behind_go_on_first(calls, together, whole, tmp_path, monkeypatch):
    """One or two of them have the checkpoint of this step, the others none: they begin anew until they are there."""
    with monkeypatch.context() as patch:
        stopping(patch, lambda: (_ for _ in ()).throw(KeyboardInterrupt), N, calls)
        with pytest.raises(KeyboardInterrupt):
            together.run(folders(tmp_path), SEEDS, console=False)
    assert [checkpoints(together.trainer, tmp_path, seed).steps() for seed in SEEDS] == [[N]] * calls + [[]] * (
        len(SEEDS) - calls)
    updates, update = [], together._update
    monkeypatch.setattr(
        together, '_update', lambda stack, batch: updates.append(int(stack.step)) or update(stack, batch))
    outcomes = together.run(folders(tmp_path), SEEDS, console=False)
    assert updates == list(range(STEPS))  # from N on all together
    ended_alike(together.trainer, whole, tmp_path, outcomes)
    for seed in SEEDS:
        assert reported(tmp_path / str(seed)) == reported(whole[0] / str(seed))  # every line once, and the same


def test_a_signal_while_compiling_leaves_nothing_half_done(tmp_path, monkeypatch):
    group = Several(train.Trainer(config('additive')), 2)
    original = build.train_step

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)
    with monkeypatch.context() as patch:
        patch.setattr(build, 'train_step', interrupted)
        with pytest.raises(train.Stopped):
            group.run([tmp_path / '1', tmp_path / '2'], (1, 2), console=False)
    assert not (tmp_path / '1' / 'checkpoints').exists()


def test_everything_with_a_state_of_its_own_goes_on_and_the_rate_falls_for_each_seed(tmp_path, monkeypatch):
    """Gathered gradients, moving averages, the mean at the end, and a plateau: that of the second seed comes later.

    Measured are steps 4, 8, ..., 24. Best is the first of seed 10, whose rate falls after 12 and 20, and the second of
    seed 11, whose rate falls after 16 and 24, which is the end: it stays. Stopped after step 14, and gone on with.
    """
    changes = {'training.accumulate': 2, 'training.ema': 0.9, 'training.average': 3, 'training.schedule': 'plateau',
               'training.plateau_patience': 2, 'training.evaluate_every': 4, 'training.checkpoint_every': 9,
               'encoder.layers': 1, 'decoder.layers': 1, 'batches.buckets': 1}
    group, scores = Several(train.Trainer(arms.override(config('transformer'), changes)), 2), train.Measuring._scores
    trainer, seeds = group.trainer, SEEDS[:2]

    def scored(self, params):
        best_at = {'10': 4, '11': 8}[self.report.path.parent.name]
        steps = len([line for line in self.report.path.read_text().splitlines() if '"dev"' in line]) + 1
        return scores(self, params) | {'accuracy': 0.5 if 4 * steps == best_at else 0.25}
    monkeypatch.setattr(train.Measuring, '_scores', scored)

    def run(folder):
        return group.run([folder / str(seed) for seed in seeds], seeds, console=False)
    outcomes = run(tmp_path / 'whole')
    assert [outcome.best_step for outcome in outcomes] == [4, 8]
    with monkeypatch.context() as patch:
        stopping(patch, lambda: os.kill(os.getpid(), signal.SIGTERM), 13)
        with pytest.raises(train.Stopped):
            run(tmp_path / 'stopped')
    run(tmp_path / 'stopped')
    highest = build.rate(trainer.config)
    for seed, lowered, rate in zip(seeds, (20, 16), (0.25, 0.5), strict=True):
        last = saved(trainer, tmp_path / 'whole', seed, STEPS)
        assert_equal(saved(trainer, tmp_path / 'stopped', seed, STEPS), last)
        assert last['.best.lowered'] == lowered
        assert last['.state.rate'] == pytest.approx(rate * highest)
        trainer.run(tmp_path / 'alone' / str(seed), seed, console=False)
        for name, leaf in saved(trainer, tmp_path / 'alone', seed, STEPS).items():
            if '.params' in name or '.average' in name or '.rate' in name:
                np.testing.assert_allclose(last[name], leaf, rtol=0, atol=1e-4, err_msg=name)
        lines = [[(line['step'], line['kind']) for line in reported(tmp_path / where / str(seed))]
                 for where in ('whole', 'alone')]
        assert lines[0] == lines[1]
        assert lines[0][-2] == (STEPS, 'dev_averaged')


def test_who_gets_no_better_is_over_and_the_others_go_on(together, tmp_path, monkeypatch):
    """Seed 10 is best at once and over after two more measurements, seed 11 gets better until the end."""
    group = Several(train.Trainer(config('additive', training__patience=2, training__evaluate_every=4)), 2)
    scores = train.Measuring._scores

    def scored(self, params):
        first = self.report.path.parent.name == '10'
        return scores(self, params) | {'accuracy': 0.5 if first else 0.1 + float(self.best.accuracy)}
    monkeypatch.setattr(train.Measuring, '_scores', lambda self, params: scored(self, params) | (
        {'loss': 1.0} if self.report.path.parent.name == '10' else {}))

    def run():
        return group.run([tmp_path / '10', tmp_path / '11'], (10, 11), console=False)
    outcomes = run()
    assert [outcome.best_step for outcome in outcomes] == [4, STEPS]
    assert max(checkpoints(group.trainer, tmp_path, 10).steps()) == 12
    assert max(checkpoints(group.trainer, tmp_path, 11).steps()) == STEPS
    COMPILES.clear()
    assert [outcome.best_step for outcome in run()] == [4, STEPS]


def test_who_has_enough_is_over_and_the_others_go_on(tmp_path, monkeypatch):
    """Measured are steps 4, 8, ..., 24: seed 10 has enough at 4 and 8, seed 11 at 12 and 16; stopped before each."""
    group = Several(train.Trainer(config('additive', training__enough=0.5, training__evaluate_every=4,
                                         training__checkpoint_every=4)), 2)
    scores, enough = train.Measuring._scores, {'10': (4, 8), '11': (4, 12, 16)}

    def scored(self, params):
        step = 4 * (1 + len([line for line in reported(self.report.path.parent) if line['kind'] == 'dev']))
        return scores(self, params) | {'accuracy': 0.5 if step in enough[self.report.path.parent.name] else 0.25}
    monkeypatch.setattr(train.Measuring, '_scores', scored)

    def run(folder):
        return group.run([folder / '10', folder / '11'], (10, 11), console=False)
    outcomes = run(tmp_path / 'whole')
    for step in (6, 14):
        with monkeypatch.context() as patch:
            stopping(patch, lambda: os.kill(os.getpid(), signal.SIGTERM), step)
            with pytest.raises(train.Stopped):
                run(tmp_path / 'stopped')
    ended = run(tmp_path / 'stopped')
    for seed, last, mine, theirs in zip((10, 11), (8, 16), ended, outcomes, strict=True):
        for folder in (tmp_path / 'whole', tmp_path / 'stopped'):
            assert max(checkpoints(group.trainer, folder, seed).steps()) == last
        assert_equal(saved(group.trainer, tmp_path / 'whole', seed, last),
                     saved(group.trainer, tmp_path / 'stopped', seed, last))
        assert mine[1:] == theirs[1:]
    COMPILES.clear()
    monkeypatch.setattr(train.loop, 'train', lambda *_: pytest.fail('trained further'))
    assert [outcome.best_step for outcome in run(tmp_path / 'whole')] == [outcome.best_step for outcome in outcomes]
    assert not COMPILES


# ---------------------------------------------------------------------------------------------------------- what fails

def test_one_that_diverges_is_said_to_and_changes_nothing_of_the_others(together, whole, tmp_path, capsys):
    """Bit for bit; the first is the one that is shown, and the next takes its place. Again: the same."""
    rates = (1e38, None, None)
    for again in (False, True):
        failed, *others = together.run(folders(tmp_path), SEEDS, rates)
        assert isinstance(failed, DivergedError)
        assert 'the loss became nan between steps 1 and 2' in str(failed)
        ended_alike(together.trainer, whole, tmp_path, [failed, *others], SEEDS[1:])
        said = capsys.readouterr().err
        assert 'seed 10 is over: the loss became nan between steps 1 and 2' in said
        assert ('step 24/24' in said) != again
    with pytest.raises(DivergedError, match='the loss became nan between steps 1 and 2'):
        together.trainer.run(tmp_path / 'alone', 10, 1e38, console=False)


def test_where_all_diverge_all_are_said_to(together, tmp_path, capsys):
    found = together.run(folders(tmp_path), SEEDS, [1e38] * 3)
    assert [type(one) for one in found] == [DivergedError] * 3
    said = capsys.readouterr().err
    for seed in SEEDS:
        assert f'seed {seed} is over: the loss became nan' in said


def test_what_one_program_cannot_train_is_refused_before_anything_compiles(tmp_path):
    COMPILES.clear()
    with pytest.raises(UserError, match=r'batches\.shape_seed is 0, so the 2 shapes .* least 1, or batches\.buckets 1'):
        Several(train.Trainer(config('additive', batches__shape_seed=0)), 2)
    Several(train.Trainer(config('additive', batches__shape_seed=0, batches__buckets=1)), 2)
    lstm = configs.copy.get_config('cell=lstm')
    lstm.batches.shape_seed = 1
    plan = train.Trainer(config('additive')).plans.train
    build.check_several(lstm, plan)
    lstm.encoder.cell_path = 'cudnn'
    with pytest.raises(UserError, match=r"encoder\.cell_path is 'cudnn', which trains one seed .* must be 'scan'"):
        build.check_several(lstm, plan)
    assert not COMPILES


def test_a_work_directory_that_is_given_twice_is_refused(together, tmp_path):
    with pytest.raises(UserError, match='in use'):
        together.run([tmp_path / '1', tmp_path / '2', tmp_path / '1'], (1, 2, 1), console=False)


def test_a_seed_whose_shapes_come_in_the_order_of_all_is_trained_on_its_own_pairs(together):
    """Shapes are the same at each step, pairs are not."""
    plans = [together.trainer.plans.train.with_seed(seed) for seed in SEEDS]
    for k in range(2 * len(plans[0])):
        assert len({plan[k].source.shape for plan in plans}) == 1
        assert len({tuple(plan.ids(k)) for plan in plans}) == len(SEEDS)
