"""The study machinery on the small profile: every part runs, nothing runs twice, nothing a user made is lost."""

import io
import json

import jax
import numpy as np
import pytest
import rich.console

from experiments.forgetting import study as forgetting
from research import build, train
from research.errors import DivergedError, UserError
from research.locked import locked
from research.study import runner

NAMES = ['none', 'additive']
TINY = {'encoder.features': 8, 'encoder.embedding_features': 8, 'decoder.features': 8, 'decoder.embedding_features': 8,
        'batches.buckets': 1}


@pytest.fixture(scope='module')
def study():
    """The recurrent arms of the first study, tiny: what is tested here is the machinery."""
    profile = forgetting.STUDY.profiles['copy']['small']
    return forgetting.STUDY._replace(
        arms=tuple(arm for arm in forgetting.ARMS if arm.name != 'transformer'),
        profiles={'copy': {'small': profile._replace(changes=profile.changes | TINY)}})


def changed(study, **changes):
    """The same study with other values at keys of its profile (double underscores for dots)."""
    profile = study.profiles['copy']['small']
    changes = {key.replace('__', '.'): value for key, value in changes.items()}
    return study._replace(profiles={'copy': {'small': profile._replace(changes=profile.changes | changes)}})


@pytest.fixture(scope='module')
def finished(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp('study')
    return folder, runner.run(study, 'copy', 'small', NAMES, None, folder)


def lines(folder):
    return [json.loads(line) for line in (folder / 'results.jsonl').read_text().splitlines()]


def test_every_arm_runs_with_every_seed_and_is_recorded(finished):
    folder, _ = finished
    assert [(line['arm'], line['seed'], line['status']) for line in lines(folder)] == [
        (arm, seed, 'finished') for arm in NAMES for seed in (10, 11)]
    for line in lines(folder):
        assert line['steps'] == 12
        assert sum(row['count'] for row in line['by_length']) == 40
        assert len(line['examples']) == 8
        assert [example['rule'] for example in line['examples']] == [
            rule for rule in ('longest', 'shortest', 'median', 'worst') for _ in range(2)]
        assert len({tuple(example['source']) for example in line['examples']}) == 8
        assert line['seconds']['train'] > 0
        assert (line['alignment'] is None) == (line['arm'] == 'none')
        assert (line['examples'][0]['weights'] is None) == (line['arm'] == 'none')
    assert [line['seconds']['compile'] > 0.1 for line in lines(folder)] == [True, False] * 2  # once an arm
    assert lines(folder)[0]['changes'] == {'decoder.reader.energy_width': None, 'decoder.reader.name': 'none',
                                            'decoder.reader.normaliser': None}


def test_seeds_are_paired_and_different(study):
    """Arms with the same seed see the same batches, and what they share starts equal; another seed changes both."""
    configs, _ = runner.settled(study, 'copy', study.profiles['copy']['small'])
    trainers = [train.Trainer(configs[name]) for name in NAMES]

    def begin(trainer, seed):
        plan = trainer.plans.train.with_seed(seed)
        params = jax.jit(trainer._begin)(np.uint32(seed), np.float32(1e-3)).params
        return [plan.ids(k) for k in range(2 * len(plan))], {
            jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(params)}
    (ids, params), (same_ids, same), (other_ids, other) = (
        begin(trainers[0], 10), begin(trainers[1], 10), begin(trainers[0], 11))
    for mine, theirs in zip(ids, same_ids, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert any(not np.array_equal(mine, theirs) for mine, theirs in zip(ids, other_ids, strict=True))
    shared = [name for name in params if name in same and params[name].shape == same[name].shape]
    assert any('encoder' in name for name in shared)
    assert any('decoder' in name for name in shared)
    for name in shared:
        np.testing.assert_array_equal(params[name], same[name], err_msg=name)
    assert np.any(params["['encoder']['embedding']['table']"] != other["['encoder']['embedding']['table']"])


def test_card_and_page_are_written_with_every_expectation(finished):
    folder, info = finished
    card, page = (folder / 'card.md').read_text(), (folder / 'report.html').read_text()
    assert len(info.findings) == 3
    for finding in info.findings:
        assert finding.met is not None or finding.measured == 'no test pair of these lengths'
        assert finding.text in card
    assert 'additive' in page


def test_started_again_it_trains_nothing(study, finished, monkeypatch):
    folder, _ = finished
    before = (folder / 'results.jsonl').read_bytes()
    monkeypatch.setattr(train.Trainer, 'run', lambda *_: pytest.fail('a finished run was trained again'))
    runner.run(study, 'copy', 'small', NAMES, None, folder)
    assert (folder / 'results.jsonl').read_bytes() == before


@pytest.mark.parametrize('names', [NAMES, ['mean']], ids=['the same arms', 'another arm'])
def test_a_directory_with_runs_of_another_config_is_refused(names, study, finished):
    folder, _ = finished
    before = (folder / 'results.jsonl').read_bytes()
    with pytest.raises(UserError, match=r"arm 'none' with seed 10 and another config"):
        runner.run(changed(study, training__learning_rate=0.5), 'copy', 'small', names, None, folder)
    assert (folder / 'results.jsonl').read_bytes() == before


def test_a_directory_with_runs_on_other_data_is_refused_before_anything_is_trained(study, finished, tmp_path,
                                                                                    monkeypatch):
    folder, _ = finished
    (tmp_path / 'results.jsonl').write_text(''.join(
        json.dumps(line | {'data': 'other'}) + '\n' for line in lines(folder)))
    monkeypatch.setattr(train.Trainer, 'run', lambda *_: pytest.fail('trained on other data'))
    with pytest.raises(UserError, match='runs on other data than there is now'):
        runner.run(study, 'copy', 'small', ['mean'], 1, tmp_path)


def test_two_processes_cannot_run_one_study(study, tmp_path):
    with locked(tmp_path), pytest.raises(UserError, match='in use'):
        runner.run(study, 'copy', 'small', NAMES, None, tmp_path)


def test_an_arm_may_not_change_the_data(study, tmp_path):
    arm = runner.Arm('longer', 'learns from longer sequences', 'additive', ('data.longest',),
                     changes=(('data.longest', 5),))
    with pytest.raises(UserError, match=r"arm 'longer' changes data\.longest; all arms learn from"):
        runner.run(study._replace(arms=(*study.arms, arm)), 'copy', 'small', NAMES, None, tmp_path)


@pytest.mark.parametrize(('task', 'profile'), [
    (task, profile) for task, profiles in forgetting.STUDY.profiles.items() for profile in profiles])
def test_every_arm_of_the_study_differs_in_what_it_declares_and_is_dropped_out_alike(task, profile):
    configs, changes = runner.settled(forgetting.STUDY, task, forgetting.STUDY.profiles[task][profile])
    for name, config in configs.items():
        build.validate(config)
        build.abstract_params(build.model(config, 30, 30))
        assert (config.encoder.dropout, config.decoder.dropout) == ((0.2, 0.2) if task == 'copy' else (0.0, 0.0))
        assert bool(changes[name]) == (name != 'additive')


def test_the_transformer_arm_runs_on_real_words(tmp_path):
    runner.run(forgetting.STUDY, 'pronunciation', 'small', ['transformer'], 1, tmp_path)
    line, = lines(tmp_path)
    assert (line['arm'], line['status']) == ('transformer', 'finished')
    assert len(line['examples'][0]['weights'][0]) == len(line['examples'][0]['source']) + 1


def test_a_run_that_diverges_is_recorded_as_failed_and_the_rest_goes_on(study, tmp_path, monkeypatch):
    original = train.Trainer.run

    def diverge(trainer, workdir, seed):
        if seed == 10:
            raise DivergedError('the loss became nan')
        return original(trainer, workdir, seed)
    monkeypatch.setattr(train.Trainer, 'run', diverge)
    info = runner.run(study, 'copy', 'small', ['none'], None, tmp_path)
    assert [(line['seed'], line['status'], line['error']) for line in lines(tmp_path)] == [
        (10, 'failed', 'the loss became nan'), (11, 'finished', None)]
    assert [finding.met for finding in info.findings] == [None, False, None]
    assert info.findings[1].measured == '1 of 2 runs of none failed'
    assert 'the loss became nan' in (tmp_path / 'report.html').read_text()
    monkeypatch.setattr(train.Trainer, 'run', lambda *_: pytest.fail('a recorded run was trained again'))
    runner.run(study, 'copy', 'small', ['none'], None, tmp_path)
    assert len(lines(tmp_path)) == 2


def a_run(arm, seed, accuracy, **more):
    """by_length in the buckets of the task: {(low, high): share}."""
    return {'arm': arm, 'seed': seed, 'status': 'finished', 'alignment': None,
            'by_length': [{'low': low, 'high': high, 'count': 1000, 'right': round(1000 * share)}
                          for (low, high), share in accuracy.items()], **more}


def words(short, long):
    return {(1, 4): short, (5, 7): 0.5, (8, 10): 0.4, (11, 20): long}


def test_expectations_on_pronunciation_are_read_off_by_the_rule():
    """The figures of the trial that the expectation was written after: 70 against 72 %, 13.5 against 31.7 %."""
    expectations = forgetting.EXPECTATIONS['pronunciation']
    trial = [a_run('none', 10, words(0.70, 0.135)), a_run('additive', 10, words(0.72, 0.317))]
    found = runner.findings(expectations, trial)
    assert [finding.met for finding in found] == [True, True]
    assert found[1].measured == 'none 13.5 %, additive 31.7 %, 2.35 times as much'
    found = runner.findings(expectations, [a_run('none', 10, words(0.60, 0.25)), trial[1]])
    assert [finding.met for finding in found] == [False, False]
    assert [finding.met for finding in runner.findings(expectations, [a_run('none', 10, words(1, 1))])] == [None, None]
    empty = [a_run(arm, 10, {(1, 4): 0.5, (5, 7): 0.5}) for arm in ('none', 'additive')]
    assert [finding.met for finding in runner.findings(expectations, empty)] == [True, None]  # no long word: no verdict


def test_expectations_on_copy_are_read_off_by_the_rule():
    expectations = forgetting.EXPECTATIONS['copy']

    def runs(additive, none_long, rate, shift=0):
        scores = {'error_rate': rate, 'shift': shift, 'error_rate_shifted': 0.01}
        return [a_run('additive', 10, {(1, 5): 1.0, (6, 10): 1.0, (11, 15): 1.0, (16, 20): additive, (21, 25): 0.0},
                      alignment=scores),
                a_run('none', 10, {(1, 5): 0.9, (6, 10): 0.8, (11, 15): 0.5, (16, 20): none_long, (21, 25): 0.0})]
    assert [finding.met for finding in runner.findings(expectations, runs(0.9, 0.6, 0.04))] == [True, True, True]
    found = runner.findings(expectations, runs(0.7, 0.8, 0.9, shift=1))
    assert [finding.met for finding in found] == [False, False, False]
    assert 'seed 10 reads the neighbour at +1: 0.010 with that shift' in found[2].measured


def test_the_table_is_printed(study, finished):
    folder, _ = finished
    console = rich.console.Console(file=io.StringIO(), width=160)
    runner.finish(study, 'copy', 'small', folder, console)
    text = console.file.getvalue()
    assert 'additive' in text
    assert f'report   {folder / "report.html"}\n' in text


def test_what_repeats_the_runs_names_their_arms_and_seeds(study):
    found = [{'arm': arm, 'seed': seed} for arm, count in (('none', 2), ('mean', 2), ('additive', 3))
             for seed in range(10, 10 + count)]
    assert runner.commands(study, 'copy', 'cpu', found) == (
        'python -m experiments.run forgetting --task copy --arms none,mean --seeds 2 --profile cpu',
        'python -m experiments.run forgetting --task copy --arms additive --seeds 3 --profile cpu')
