"""What runs a study: every part runs once, nothing a user made is lost, and what cannot be compared is refused."""

import copy
import io
import json
import os
import signal
import types

import jax
import numpy as np
import pytest
import rich.console

from configs import parallel, studies
from research import build, train
from research.errors import DivergedError, UserError
from research.locked import locked
from research.several import Several
from research.study import card, definition, records, runner, testing, ways
from research.study.definition import Arm, Expectation, NotDecidableError, NotMeasuredError, Profile, Task
from research.study.records import Planned
from research.training.report import read_jsonl
from tests.study import tiny
from tests.study.tiny import NAMES, STUDY

COPIED = (*records.FINISHED, *records.OPTIONAL, 'outputs', 'metrics')


def folders(folder):
    """Results and work apart."""
    return runner.Folders(folder / 'results', folder / 'work')


def lines(folder, name='results.jsonl'):
    path = folders(folder).results / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run(folder, study=STUDY, profile='small', names=NAMES, way=ways.ONE_BY_ONE, command=None):
    return runner.run(study, profile, names, folders(folder), way=way, command=command)


def units(folder):
    return [(line['arm'], line['seed'], line['status']) for line in lines(folder)]


def with_profile(study=STUDY, name='small', **changes):
    """The same study with another profile of this name."""
    return study._replace(profiles={**study.profiles, name: study.profiles[name]._replace(**changes)})


def with_arm(**changes):
    """The same study with one more arm."""
    return STUDY._replace(arms=(*STUDY.arms, Arm('more', 'is one more', **({'words': '', 'declares': ()} | changes))))


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """The folder of a study that was run one by one, and what came of it."""
    folder = tmp_path_factory.mktemp('study')
    return folder, run(folder)


@pytest.fixture
def trained(finished, monkeypatch):
    """Nothing is trained or tested: the names of the work directories that were asked for, in order.

    A run's accuracy on dev is `at` its rate; what is tested is taken from a run that was.
    """
    fields = {line['arm']: {name: line[name] for name in COPIED if name in line} for line in lines(finished[0])}
    asked = types.SimpleNamespace(names=[], rates=[], at={})

    def train_one(trainer, workdir, seed, rate):
        asked.names.append('/'.join(workdir.parts[-4:]))
        asked.rates.append(rate)
        found = asked.at.get(rate, 0.5)
        if isinstance(found, Exception):
            raise found
        return train.Outcome(None, 6, found, 1.0, -1.0)

    def together(several, workdirs, seeds, rates):
        def one(*given):
            try:
                return train_one(several.trainer, *given)
            except DivergedError as error:
                return error
        return [one(*given) for given in zip(workdirs, seeds, rates, strict=True)]
    monkeypatch.setattr(train.Trainer, 'run', train_one)
    monkeypatch.setattr(Several, 'run', together)
    monkeypatch.setattr(testing, 'record', lambda trainer, workdir, *_: copy.deepcopy(
        fields.get(workdir.parent.name, fields['none'])))
    monkeypatch.setattr(runner._UnitRunner, '_shared', lambda self, seed: None)
    return asked


@pytest.fixture
def nothing_is_trained(monkeypatch):
    for kind in (train.Trainer, Several):
        for what in ('run', 'compile'):
            monkeypatch.setattr(kind, what, lambda *_, **__: pytest.fail('something was trained or compiled'))


def without_times(records):
    """What must be the same however often a study was interrupted, by run; also not how many cores it had."""
    left_out = ('time', 'seconds', 'machine', 'versions')
    return {(line['task'], line['arm'], line['seed']): {
        name: value for name, value in line.items() if name not in left_out} for line in records}


# ------------------------------------------------------------------------------------------------ all of it, one by one

def test_every_arm_runs_with_every_seed_and_is_recorded(finished):
    folder, _ = finished
    assert units(folder) == [(arm, seed, 'finished') for arm in NAMES for seed in (10, 11)]
    for line in lines(folder):
        assert line['steps'] == 6
        assert line['programs'] == 5  # to start, to train, to measure in two shapes, to decode
        assert sum(row['count'] for row in line['by_length']) == 12
        assert [example['rule'] for example in line['examples']] == ['longest', 'shortest', 'median', 'worst']
        assert len({tuple(example['source']) for example in line['examples']}) == 4
        assert [point['step'] for point in line['curve']] == [2, 3, 4, 6]
        assert line['seconds']['train'] > 0
        assert line['rate'] == {'value': 0.002, 'choice': 'fixed', 'on_edge': False, 'tried': 0}
        assert line['dev'].keys() == {'accuracy', 'loss'}
        assert (line['alignment'] is None) == (line['arm'] == 'none')
        assert (line['examples'][0]['weights'] is None) == (line['arm'] == 'none')
    assert [line['seconds']['compile'] > 0.1 for line in lines(folder)] == [True, False] * 2  # once an arm
    assert lines(folder)[0]['changes'] == {'decoder.reader.energy_width': None, 'decoder.reader.name': 'none',
                                            'decoder.reader.normaliser': None}
    assert lines(folder)[2]['changes'] == {}


def test_what_is_recorded_and_what_is_kept_of_the_runs_may_stand_apart(finished):
    results, work = folders(finished[0])
    assert {path.name for path in results.iterdir()} == {
        'README.md', 'lock', 'plan.json', 'report.html', 'results.jsonl', 'tables'}
    assert {'/'.join(path.parts[-3:]) for path in work.glob('runs/*/*/*')} == {
        f'copy/{arm}/{seed}' for arm in NAMES for seed in (10, 11)}
    assert {path.name for path in work.iterdir()} == {'runs'}


def test_seeds_are_paired_and_different():
    """Arms with the same seed see the same batches, and what they share starts equal; another seed changes both."""
    configs = runner.settled(STUDY, STUDY.profiles['small'], {}).configs
    trainers = [train.Trainer(configs[runner.Unit('copy', name)]) for name in NAMES]

    def begin(trainer, seed):
        plan = trainer.plans.train.with_seed(seed)
        return [plan.ids(k) for k in range(2 * len(plan))], {
            jax.tree_util.keystr(path): np.asarray(leaf)
            for path, leaf in jax.tree.leaves_with_path(trainer.initial(seed))}
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


def test_a_record_says_how_much_an_arm_shares_with_the_base_and_that_it_starts_equal(finished, monkeypatch):
    none, additive = lines(finished[0])[0], lines(finished[0])[2]
    assert none['starts_equal']['equal'] == none['starts_equal']['shared'] > 5
    assert additive['starts_equal']['shared'] > none['starts_equal']['shared']  # the base itself shares its reader, too
    unit = runner.Unit('copy', 'none')
    found = runner.settled(STUDY, STUDY.profiles['small'], {})
    one = runner._UnitRunner(STUDY, 'small', unit, folders(finished[0]), ways.ONE_BY_ONE, found, None)
    given = iter([{'a': np.zeros(3), 'b': np.ones(2), 'c': np.ones(2), 'mine': np.ones(1)},
                  {'a': np.zeros(3), 'b': np.ones(3), 'c': np.zeros(2)}])  # equal, of another shape, another value
    monkeypatch.setattr(train.Trainer, 'initial', lambda self, seed: next(given))
    assert one._shared(10) == {'shared': 2, 'equal': 1}


def test_card_page_and_tables_are_written_with_every_expectation(finished):
    folder, info = finished
    written, page = ((folders(folder).results / name).read_text() for name in ('README.md', 'report.html'))
    finding, = info.findings
    assert finding.mark == 'met'
    for text in (written, page):
        assert 'additive has a score' in text
        assert 'Nothing is learned.' in text
        assert 'python -m experiments.run tiny --profile small --arms none,additive' in text
    assert list((folders(folder).results / 'tables').iterdir())


def test_arms_of_other_sizes_are_marked_where_no_budget_was_declared(finished):
    """1,016 parameters without embeddings against 3,448; the base is not marked."""
    rows = [line for line in (folders(finished[0]).results / 'README.md').read_text().splitlines()
            if 'not matched' in line]
    assert rows
    assert all(row.startswith('| none') for row in rows)
    assert f'−{100 * (1 - 1016 / 3448):.1f} %, not matched' in rows[0]


@pytest.mark.usefixtures('nothing_is_trained')
def test_started_again_it_trains_nothing(finished):
    folder, info = finished
    before = (folders(folder).results / 'results.jsonl').read_bytes()
    again = run(folder)
    assert (folders(folder).results / 'results.jsonl').read_bytes() == before
    assert again.findings == info.findings


def test_the_table_is_printed(finished):
    console = rich.console.Console(file=io.StringIO(), width=160)
    runner.finish(STUDY, 'small', folders(finished[0]), console)
    text = console.file.getvalue()
    assert 'additive' in text
    assert 'met: additive has a score' in text
    assert f'report   {folders(finished[0]).results / "report.html"}\n' in text


def test_the_summary_has_a_line_for_each_study_that_was_recorded(finished, tmp_path):
    (tmp_path / 'tiny').mkdir()
    (tmp_path / 'tiny' / 'results.jsonl').write_bytes((folders(finished[0]).results / 'results.jsonl').read_bytes())
    rows = [line for line in runner.summary([STUDY._replace(name='never'), STUDY], tmp_path).splitlines()
            if line.startswith('| [')]
    assert len(rows) == 1
    assert rows[0].startswith('| [tiny](tiny/README.md) | Does it run? | 4 | 1 met |')


# ------------------------------------------------------------------------------------------------------ what is refused

@pytest.mark.usefixtures('nothing_is_trained')
@pytest.mark.parametrize('changes', [
    {'changes': {'training.clip': 0.5}}, {'changes': {'training.learning_rate': 0.5}}, {'test_sample': 5},
    {'rates': (2e-3,)}], ids=str)
@pytest.mark.parametrize('names', [NAMES, ['mean']], ids=['the same arms', 'another arm'])
def test_a_directory_with_runs_of_another_config_is_refused(names, changes, finished):
    before = (folders(finished[0]).results / 'results.jsonl').read_bytes()
    with pytest.raises(UserError, match=r"arm 'none' on copy with seed 10 and another config"):
        run(finished[0], with_profile(**changes), names=names)
    assert (folders(finished[0]).results / 'results.jsonl').read_bytes() == before


@pytest.mark.usefixtures('nothing_is_trained')
@pytest.mark.parametrize('name', ['results.jsonl', 'tuning.jsonl'])
@pytest.mark.parametrize('way', ways.WAYS)
def test_a_directory_with_runs_on_other_data_is_refused_before_anything_is_trained(way, name, finished, tmp_path):
    results = folders(tmp_path).results
    results.mkdir()
    numbers = {'rate': 1e-3, 'steps': 6, 'best_step': 6, 'seconds': 1.0}
    there = [line if name == 'results.jsonl' else line | numbers for line in lines(finished[0])]
    (results / name).write_text(''.join(json.dumps(line | {'data': 'other'}) + '\n' for line in there))
    with pytest.raises(UserError, match=f'{name} holds runs on other data than there is now'):
        run(tmp_path, names=['mean'], way=way, command=lambda *_: pytest.fail('a process was started'))
    with pytest.raises(UserError, match=f'{name} holds runs on other data than there is now'):
        runner.run_unit(STUDY, 'small', runner.Unit('copy', 'mean'), folders(tmp_path), ways.ONE_BY_ONE, None)


def test_two_processes_cannot_run_one_study(tmp_path):
    with locked(folders(tmp_path).results), pytest.raises(UserError, match=r'in use: .* choose another --results'):
        run(tmp_path)


@pytest.mark.parametrize(('arm', 'message'), [
    ({'words': 'mean'}, r"arm 'more' changes decoder\.reader\.energy_width to None, which it does not declare"),
    ({'words': 'mean', 'declares': tiny.READER, 'changes': (('training.clip', 0.5),)},
     r"arm 'more' changes training\.clip to 0\.5, which it does not declare\. It declares: decoder\.reader"),
    ({'declares': ('data.longest',), 'changes': (('data.longest', 4),)},
     r"arm 'more' changes data\.longest; all arms learn from and are tested on the same batches"),
    ({'declares': ('decoding.beams',), 'changes': (('decoding.beams', 3),)}, r"'more' changes decoding\.beams; all"),
    ({'declares': ('training.label_smoothing',), 'changes': (('training.label_smoothing', 2.0),)},
     r'training\.label_smoothing')],
    ids=['undeclared words', 'an undeclared value', 'its data', 'its decoding', 'a value that is not allowed'])
@pytest.mark.usefixtures('nothing_is_trained')
def test_an_arm_that_does_not_keep_to_what_is_compared_is_refused(arm, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run(tmp_path, with_arm(**arm))
    assert not (folders(tmp_path).results / 'plan.json').exists()


@pytest.mark.usefixtures('nothing_is_trained')
def test_a_base_that_is_not_the_config_without_words_is_refused(tmp_path):
    with pytest.raises(UserError, match="its base, none, must be the config that no words choose"):
        run(tmp_path, STUDY._replace(base='none'))


@pytest.mark.usefixtures('nothing_is_trained')
def test_a_budget_that_an_arm_cannot_meet_is_refused_before_anything_compiles(tmp_path):
    """A width that is a multiple of eight comes no nearer than 9 %."""
    study = STUDY._replace(budget=definition.parameters('decoder.features', multiple=8))
    with pytest.raises(UserError, match=r"arm 'none' on copy, by decoder\.features, cannot meet the budget: at the "
                                        r'nearest size, 24, it has 3,768 where the base has 3,448 \(\+9\.3 %, and'):
        run(tmp_path, study)
    assert not (folders(tmp_path).results / 'plan.json').exists()


def test_sizes_that_meet_a_budget_are_solved_once_and_recorded(trained, tmp_path, monkeypatch):
    study = STUDY._replace(budget=definition.parameters('decoder.features'),
                           arms=tuple(arm for arm in STUDY.arms if arm.name != 'mean'))
    study = study._replace(budget=study.budget._replace(tolerance=0.05))
    run(tmp_path, study)
    sizes = json.loads((folders(tmp_path).results / 'plan.json').read_text())['sizes']
    size = sizes['copy/none']['decoder.features']
    assert sizes == {'copy/none': {'decoder.features': size}}
    assert size > 8
    assert [line['changes'].get('decoder.features') for line in lines(tmp_path)] == [size, size, None, None]
    configs = runner.settled(study, study.profiles['small'], sizes).configs
    without = [build.parameters(build.model(config, 12, 12))[1] for config in configs.values()]
    assert abs(without[0] / without[1] - 1) <= 0.05
    monkeypatch.setattr(runner, 'solved', lambda *_: pytest.fail('solved again'))
    (folders(tmp_path).results / 'results.jsonl').unlink()
    run(tmp_path, study)
    assert len(lines(tmp_path)) == 4


# ------------------------------------------------------------------------------------------------------------- the plan

def test_the_plan_is_made_before_the_first_run_and_kept(trained, tmp_path, monkeypatch):
    measured = iter([{ways.ONE_BY_ONE: 3.0, ways.TOGETHER: 1.0, ways.PROCESSES: 2.0}])
    monkeypatch.setattr(ways, 'measured', lambda config, seeds, workers: next(measured))
    plan = folders(tmp_path).results / 'plan.json'
    original = Several.run

    def stops(self, *given):
        assert json.loads(plan.read_text())['way'] == ways.TOGETHER
        assert not lines(tmp_path)
        original(self, *given)
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(Several, 'run', stops)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, way=None)
    before = plan.read_text()
    assert json.loads(before)['ways'] == {ways.ONE_BY_ONE: 3.0, ways.TOGETHER: 1.0, ways.PROCESSES: 2.0}
    assert json.loads(before)['profile'] == 'small'
    assert {'machine', 'versions'} <= json.loads(before).keys()
    run(tmp_path, way=None)  # and measures nothing: there is no second measurement
    run(tmp_path, way=ways.TOGETHER)
    assert plan.read_text() == before
    assert len(lines(tmp_path)) == 4
    with pytest.raises(UserError, match="--way is 'one by one', and this study was begun with 'together'"):
        run(tmp_path, way=ways.ONE_BY_ONE)
    for started in (lambda: run(tmp_path, profile='other', way=None),
                    lambda: runner.rehearse(STUDY, 'other', NAMES, folders(tmp_path), None),
                    lambda: runner.run_unit(STUDY, 'other', runner.Unit('copy', 'none'), folders(tmp_path), '', None)):
        with pytest.raises(UserError, match=r'plan\.json was made with profile small\. Choose another --results'):
            started()
    assert len(lines(tmp_path)) == 4


@pytest.mark.usefixtures('nothing_is_trained')
def test_seeds_that_cannot_be_trained_together_are_refused_before_there_is_a_plan(tmp_path):
    study = with_profile(changes={'batches.shape_seed': 0, 'batches.buckets': 2})
    with pytest.raises(UserError, match=r'batches\.shape_seed is 0'):
        run(tmp_path, study, way=ways.TOGETHER)
    assert not (folders(tmp_path).results / 'plan.json').exists()


def test_every_way_that_can_be_gone_is_measured(monkeypatch):
    """Not together where shapes come in another order for each seed; in processes only as many as there are workers."""
    config = runner.settled(STUDY, STUDY.profiles['small'], {}).configs[runner.Unit('copy', 'none')]
    beside = []
    monkeypatch.setattr(ways, '_beside', lambda config, workers: beside.append(workers) or 4.0)
    monkeypatch.setattr(ways, 'seconds_per_step', lambda trainer: 2.0)
    monkeypatch.setattr(Several, 'first_losses', lambda self, seeds, way: types.SimpleNamespace(
        seconds={ways.TOGETHER: 5.0}[way] * len(seeds) / 3))
    assert ways.measured(config, [10, 11, 12], 2) == {ways.ONE_BY_ONE: 6.0, ways.TOGETHER: 5.0, ways.PROCESSES: 6.0}
    config = runner.arms.override(config, {'batches.shape_seed': 0, 'batches.buckets': 2})
    assert ways.measured(config, [10, 11, 12], 3) == {ways.ONE_BY_ONE: 6.0, ways.PROCESSES: 4.0}
    assert beside == [2, 3]


def test_a_measurement_takes_every_way_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = runner.settled(STUDY, STUDY.profiles['small'], {}).configs[runner.Unit('copy', 'none')]
    found = ways.measured(config, [10, 11], 2)
    assert list(found) == list(ways.WAYS)
    assert all(0 < seconds < 60 for seconds in found.values())
    assert not list(tmp_path.iterdir())


def test_a_part_can_be_run_by_itself(trained, tmp_path):
    """As each line of a card says how; the plan is made where there is none, and the study goes on from there."""
    runner.run_unit(STUDY, 'small', runner.Unit('copy', 'additive'), folders(tmp_path), ways.ONE_BY_ONE,
                    rich.console.Console())
    assert json.loads((folders(tmp_path).results / 'plan.json').read_text())['way'] == ways.ONE_BY_ONE
    assert units(tmp_path) == [('additive', 10, 'finished'), ('additive', 11, 'finished')]
    run(tmp_path)
    assert trained.names == [f'runs/copy/{arm}/{seed}' for arm in ('additive', 'none') for seed in (10, 11)]


# ----------------------------------------------------------------------------------------------------------- ways alike

def test_together_gives_the_records_of_one_by_one(finished, tmp_path):
    run(tmp_path, way=ways.TOGETHER)
    alike(lines(finished[0]), lines(tmp_path))


def alike(some, others):
    """Records of two ways: the same numbers but for rounding, the same texts but for times."""
    some, others = without_times(some), without_times(others)
    assert some.keys() == others.keys()
    for key in some:
        near(some[key], others[key], key)


def near(one, other, where):
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            near(one[key], other[key], (*where, key))
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for place, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            near(mine, theirs, (*where, place))
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4), where
    else:
        assert one == other, where


# --------------------------------------------------------------------------------------------------------------- tuning

@pytest.mark.parametrize('way', [ways.ONE_BY_ONE, ways.TOGETHER])
def test_rates_are_tried_before_the_runs_and_the_best_on_dev_is_used(way, trained, tmp_path):
    """The arms of the planned comparison each; the third takes the rate of the base, and has fewer seeds."""
    trained.at = {1e-3: 0.2, 3e-3: 0.8, 1e-2: 0.4}
    run(tmp_path, profile='tuned', names=['none', 'mean', 'additive'], way=way)
    tried = [f'{rate}-{seed}' for rate in ('0.001', '0.003', '0.01') for seed in (0, 1)]
    assert trained.names == [
        *(name for arm in NAMES for name in (*(f'tuning/copy/{arm}/{one}' for one in tried),
                                             *(f'runs/copy/{arm}/{seed}' for seed in (10, 11, 12)))),
        'runs/copy/mean/10', 'runs/copy/mean/11']
    assert trained.rates[6:9] == [3e-3] * 3
    found = lines(tmp_path, 'tuning.jsonl')
    assert [(line['arm'], line['rate'], line['seed'], line['dev']['accuracy']) for line in found] == [
        (arm, rate, seed, trained.at[rate]) for arm in NAMES for rate in (1e-3, 3e-3, 1e-2) for seed in (0, 1)]
    assert records.read_tuning(folders(tmp_path).results / 'tuning.jsonl') == found
    tuned = {'value': 3e-3, 'choice': 'tuned', 'on_edge': False, 'tried': 6}
    assert [(line['arm'], line['seed'], line['rate']) for line in lines(tmp_path)] == [
        *((arm, seed, tuned) for arm in NAMES for seed in (10, 11, 12)),
        *(('mean', seed, tuned | {'choice': 'not_tuned'}) for seed in (10, 11))]
    assert len({line['run'] for line in (*found, *lines(tmp_path))}) == 12 + 8
    trained.names.clear()
    run(tmp_path, profile='tuned', names=['none', 'mean', 'additive'], way=way)
    assert not trained.names


def test_a_best_rate_on_the_edge_has_one_more_tried_beside_it(trained, tmp_path):
    trained.at = {1e-3: 0.2, 3e-3: 0.4, 1e-2: 0.8, 3e-2: 0.9, 9e-2: 0.1}
    run(tmp_path, profile='tuned', names=['additive'])
    assert [line['rate'] for line in lines(tmp_path, 'tuning.jsonl')][::2] == [1e-3, 3e-3, 1e-2, 3e-2, 9e-2]
    assert lines(tmp_path)[0]['rate'] == {'value': 3e-2, 'choice': 'tuned', 'on_edge': False, 'tried': 10}


@pytest.mark.parametrize('way', [ways.ONE_BY_ONE, ways.TOGETHER])
def test_a_rate_that_diverges_is_recorded_and_loses(way, trained, tmp_path):
    trained.at = {1e-3: 0.0, 3e-3: DivergedError('the loss became nan'), 1e-2: DivergedError('the loss became nan'),
                  3e-4: 0.0, 9e-5: 0.0}
    run(tmp_path, profile='tuned', names=['additive'], way=way)
    found = lines(tmp_path, 'tuning.jsonl')
    assert [(line['rate'], line['error']) for line in found if line['status'] == 'failed'] == [
        (rate, 'the loss became nan') for rate in (3e-3, 1e-2) for _ in range(2)]
    assert {line['rate']['value'] for line in lines(tmp_path)} <= {9e-5, 3e-4, 1e-3}


def test_a_tuning_that_was_interrupted_goes_on_and_trains_nothing_twice(trained, tmp_path, monkeypatch):
    trained.at = {1e-3: 0.2, 3e-3: 0.8, 1e-2: 0.4}
    original = train.Trainer.run

    def stops(trainer, workdir, seed, rate):
        if (seed, rate) == (1, 3e-3):
            raise KeyboardInterrupt
        return original(trainer, workdir, seed, rate)
    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, 'run', stops)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, profile='tuned', names=['additive'])
    assert [line['rate'] for line in lines(tmp_path, 'tuning.jsonl')] == [1e-3, 1e-3, 3e-3]
    assert not lines(tmp_path)
    monkeypatch.setattr(ways, 'seconds_per_step', lambda trainer: 10.0)
    console = rich.console.Console(file=io.StringIO(), width=300)
    runner.rehearse(STUDY, 'tuned', ['additive'], folders(tmp_path), console)
    assert console.file.getvalue().startswith('copy/additive: 3 runs and 3 to tune, 3,736 parameters, about 6 min (')
    run(tmp_path, profile='tuned', names=['additive'])
    assert len(trained.names) == len(set(trained.names)) == 6 + 3


def test_runs_with_another_rate_than_the_one_that_is_best_now_are_refused(trained, tmp_path):
    """As when a line of the tuning was lost, and its rate tried again."""
    trained.at = {1e-3: 0.2, 3e-3: 0.8, 1e-2: 0.4}
    run(tmp_path, profile='tuned', names=['additive'])
    results = folders(tmp_path).results
    for name in ('results.jsonl', 'tuning.jsonl'):
        (results / name).write_text('\n'.join((results / name).read_text().splitlines()[:2]) + '\n')
    trained.at |= {3e-3: 0.1, 1e-2: 0.7}
    with pytest.raises(UserError, match=r'holds runs of copy/additive with rate 0\.003, and now 0\.01 is the best'):
        run(tmp_path, profile='tuned', names=['additive'])


def test_an_arm_that_takes_the_rate_of_a_base_that_has_none_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match='copy/mean takes the rate of copy/additive, which has none yet: run additive'):
        run(tmp_path, profile='tuned', names=['mean'])
    assert not trained.names


# ----------------------------------------------------------------------------------------------------------- what fails

@pytest.mark.parametrize('way', [ways.ONE_BY_ONE, ways.TOGETHER])
def test_a_run_that_diverges_is_recorded_as_failed_and_the_rest_goes_on(way, trained, tmp_path, monkeypatch):
    original = train.Trainer.run

    def diverge(trainer, workdir, seed, rate):
        if workdir.parts[-2:] == ('additive', '10'):
            raise DivergedError('the loss became nan')
        return original(trainer, workdir, seed, rate)
    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, 'run', diverge)
        if way == ways.TOGETHER:
            both = Several.run
            patch.setattr(Several, 'run', lambda self, workdirs, seeds, rates: [
                DivergedError('the loss became nan') if workdir.parts[-2:] == ('additive', '10') else outcome
                for workdir, outcome in zip(workdirs, both(self, workdirs, seeds, rates), strict=True)])
        info = run(tmp_path, names=['additive', 'none'], way=way)
    assert {(line['arm'], line['seed'], line['status'], line['error']) for line in lines(tmp_path)} == {
        ('additive', 10, 'failed', 'the loss became nan'), ('additive', 11, 'finished', None),
        ('none', 10, 'finished', None), ('none', 11, 'finished', None)}
    assert info.findings[0][1:] == ('not met', '1 of 2 runs of copy/additive failed')
    assert 'the loss became nan' in (folders(tmp_path).results / 'report.html').read_text()
    trained.names.clear()
    run(tmp_path, names=['additive', 'none'], way=way)
    assert not trained.names
    assert len(lines(tmp_path)) == 4


def test_anything_else_that_goes_wrong_stops_it_and_is_no_result(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(testing, 'record', lambda *_: (_ for _ in ()).throw(OSError('disk full')))
    with pytest.raises(OSError, match='disk full'):
        run(tmp_path)
    assert not lines(tmp_path)


def test_a_process_that_keeps_dying_is_said_and_does_not_stop_the_rest(finished, tmp_path, capsys):
    """One of two parts always dies; the other adds its lines to the records. Then the first one can."""
    added = {arm: tmp_path / f'{arm}.jsonl' for arm in NAMES}
    for arm, path in added.items():
        path.write_text(''.join(json.dumps(line) + '\n' for line in lines(finished[0]) if line['arm'] == arm))

    def command(dying):
        return lambda unit, way: ('sh', '-c', 'echo out of luck; kill -9 $$') if unit.arm == dying else (
            'sh', '-c', f'cat {added[unit.arm]} >> {folders(tmp_path).results / "results.jsonl"}')
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, way=ways.PROCESSES, command=command('none'))
    assert caught.value.code == runner.FAILED
    assert units(tmp_path) == [('additive', 10, 'finished'), ('additive', 11, 'finished')]
    said = 'copy/none: its process failed (ended by signal 9 (Killed) after: out of luck). Start the study again'
    assert said in (folders(tmp_path).results / 'README.md').read_text()
    assert said in capsys.readouterr().out
    assert (folders(tmp_path).workdir / 'logs' / 'copy-none.log').read_text().count('\nout of luck') == 2
    info = run(tmp_path, way=ways.PROCESSES, command=command('additive'))  # which has nothing left to do
    assert len(lines(tmp_path)) == 4
    assert said not in (folders(tmp_path).results / 'README.md').read_text()
    assert info.notes == ('Nothing is learned.',)


# ------------------------------------------------------------------------------------------------------- stop and go on

def test_stopped_in_the_middle_of_a_training_it_goes_on_and_ends_with_the_same_records(finished, tmp_path, monkeypatch):
    """By SIGTERM after step 3 of the second seed; the curve has that step, too, where a checkpoint was written."""
    original, before = train.Saving.__call__, signal.getsignal(signal.SIGTERM)

    def save(self, step, state, metrics):
        if step == 3 and self.measuring.report.path.parent.name == '11':
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, step, state, metrics)
    with monkeypatch.context() as patch:
        patch.setattr(train.Saving, '__call__', save)
        with pytest.raises(train.Stopped) as caught:
            run(tmp_path, names=['none'])
    assert caught.value.code == 75
    assert signal.getsignal(signal.SIGTERM) == before
    assert units(tmp_path) == [('none', 10, 'finished')]
    run(tmp_path, names=['none'])
    for (key, expected), found in zip(without_times(lines(finished[0])[:2]).items(),
                                      without_times(lines(tmp_path)).values(), strict=True):
        curves = [[point['dev_loss'] for point in one.pop('curve') if point['dev_loss']] for one in (expected, found)]
        assert curves[0] == curves[1]
        assert found == expected, key
    reported, _ = read_jsonl(folders(tmp_path).workdir / 'runs' / 'copy' / 'none' / '11' / 'metrics.jsonl')
    assert [line['step'] for line in reported if line['kind'] == 'train'] == [2, 3, 4, 6]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_stopped_between_two_trainings_it_ends_in_the_same_way(number, trained, tmp_path, monkeypatch, capsys):
    original = testing.record

    def record(trainer, workdir, *given):
        if workdir.name == '11':
            os.kill(os.getpid(), number)
        return original(trainer, workdir, *given)
    with monkeypatch.context() as patch:
        patch.setattr(testing, 'record', record)
        with pytest.raises(SystemExit) as caught:
            run(tmp_path, names=['none'])
    assert caught.value.code == 75
    assert f'stopped by signal {number}; start again to go on' in capsys.readouterr().err
    assert units(tmp_path) == [('none', 10, 'finished')]
    run(tmp_path, names=['none'])
    assert len(lines(tmp_path)) == 2


def test_stopped_while_processes_work_it_ends_in_the_same_way(tmp_path):
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, way=ways.PROCESSES, command=lambda *_: ('sh', '-c', 'kill -TERM $PPID; exec sleep 60'))
    assert caught.value.code == 75
    assert not (folders(tmp_path).results / 'README.md').exists()


# ------------------------------------------------------------------------------------------------ ends at the threshold

def test_runs_that_are_to_end_at_the_threshold_know_it():
    study = with_profile(STUDY._replace(threshold=0.9), ends_at_threshold=True)
    configs = runner.settled(study, study.profiles['small'], {}).configs
    assert [build.loop(config).enough for config in configs.values()] == [0.9] * 3
    assert build.loop(runner.settled(STUDY, STUDY.profiles['small'], {}).configs['copy', 'none']).enough == 0


def test_a_run_ends_at_the_threshold_and_is_not_trained_further(tmp_path, monkeypatch):
    """Measured are steps 3, 6, 9, ...; seed 10 reaches it at 6 and 9, seed 11 from the first one on."""
    study = with_profile(STUDY._replace(threshold=0.9), ends_at_threshold=True, changes={'training.steps': 30})
    scores = train.Measuring._scores

    def scored(self, params):
        seen = [line for line in read_jsonl(self.report.path)[0] if line['kind'] == 'dev']
        reached = self.report.path.parent.name == '11' or bool(seen)
        return scores(self, params) | {'accuracy': 0.9 if reached else 0.8}
    monkeypatch.setattr(train.Measuring, '_scores', scored)
    run(tmp_path, study, names=['none'], way=ways.TOGETHER)
    assert [[point['step'] for point in line['curve'] if point['dev_accuracy'] is not None]
            for line in lines(tmp_path)] == [[3, 6, 9], [3, 6]]
    first = (folders(tmp_path).results / 'results.jsonl').read_text()
    (folders(tmp_path).results / 'results.jsonl').unlink()  # as if it was killed before they were recorded
    monkeypatch.setattr(train.loop, 'train', lambda *_: pytest.fail('trained further'))
    run(tmp_path, study, names=['none'], way=ways.TOGETHER)
    assert without_times(map(json.loads, first.splitlines())) == without_times(lines(tmp_path))


# ---------------------------------------------------------------------------------------------------------- a rehearsal

@pytest.mark.usefixtures('nothing_is_trained')
def test_a_rehearsal_says_what_is_missing_and_about_how_long_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(ways, 'seconds_per_step', lambda trainer: 10.0)
    console = rich.console.Console(file=io.StringIO(), width=300)
    runner.rehearse(STUDY, 'tuned', ['none', 'mean', 'additive'], folders(tmp_path), console)
    said = console.file.getvalue().splitlines()
    assert not list(tmp_path.iterdir())
    assert said[0].startswith('copy/none: 3 runs and 6 to tune, 1,304 parameters, about ')
    assert "(decoder.reader.name = 'none', without decoder.reader.energy_width" in said[0]
    assert said[1].startswith('copy/mean: 2 runs, ')
    assert said[2] == 'copy/additive: 3 runs and 6 to tune, 3,736 parameters, about 9 min (none (the base))'  # 540 s
    assert said[3].startswith('nothing was run; one after the other this takes about ')


@pytest.mark.usefixtures('nothing_is_trained')
def test_a_rehearsal_counts_what_is_there(finished, monkeypatch):
    monkeypatch.setattr(ways, 'seconds_per_step', lambda trainer: 10.0)
    console = rich.console.Console(file=io.StringIO(), width=300)
    runner.rehearse(STUDY, 'small', ['none', 'mean'], folders(finished[0]), console)
    said = console.file.getvalue().splitlines()
    assert said[0].startswith('copy/none: 0 runs, ')
    assert said[1].startswith('copy/mean: 2 runs, ')
    with pytest.raises(UserError, match='another config'):
        runner.rehearse(with_profile(test_sample=5), 'small', NAMES, folders(finished[0]), console)


# ---------------------------------------------------------------------------------------------- other kinds of problems

def test_a_study_of_labels_runs_to_its_end(tmp_path):
    """A model without a source: nothing is written, each label counts; and a single rate, which is tried."""
    def probe(trainer, params, pairs):
        return {'probed': len(pairs) + testing.forced(trainer, params, pairs).right.mean()}
    task = Task('parity', 'whether the ones so far are odd', lambda words: studies.counting('parity', words), floor=0.5,
                probe=probe, changes={
        'data.train': 40, 'data.dev': 8, 'data.test': 20, 'data.length': 6, 'data.longest_test': 8,
        'evaluation.lengths': '6', 'batches.tokens': 96, 'decoder.features': 8,
        **{key: value for key, value in tiny.CHANGES.items() if key.startswith(('training', 'batches.'))}})
    study = STUDY._replace(tasks=(task,), base='lstm', arms=(Arm('lstm', 'an LSTM', '', ()),), expectations=(),
                           planned=(), score=definition.TOKEN_ACCURACY,
                           profiles={'small': Profile(1, {}, rates=(1e-3,), test_sample=10)})
    run(tmp_path, study, names=['lstm'])
    line, = records.read(folders(tmp_path).results / 'results.jsonl')
    tried, = records.read_tuning(folders(tmp_path).results / 'tuning.jsonl')
    assert (tried['rate'], tried['seed'], tried['status'], tried['best_step']) == (1e-3, 0, 'finished', 6)
    assert (line['status'], line['examples'], line['alignment'], line['outputs']) == ('finished', [], None, None)
    assert 10 <= line['scores']['probed'] <= 11
    assert sum(row['count'] for row in line['by_length']) == 10
    right, asked = (sum(row[name] for row in line['by_length']) for name in ('tokens_right', 'tokens'))
    assert line['scores']['token_accuracy'] == pytest.approx(right / asked)
    assert line['rate']['choice'] == 'tuned'
    assert 'parity' in (folders(tmp_path).results / 'README.md').read_text()


WORDS = {'ein': 'a', 'zwei': 'two', 'Hund': 'dog', 'Katze': 'cat', 'läuft': 'runs'}


@pytest.fixture
def translating(tmp_path):
    """A study that translates sentences of three to five words."""
    for split, count in (('train', 30), ('dev', 6), ('test', 8)):
        sentences = [[list(WORDS)[(n + place * n) % 5] for place in range(3 + n % 3)] for n in range(count)]
        (tmp_path / f'{split}.tsv').write_text(''.join(
            f'{" ".join(line)}\t{" ".join(WORDS[word] for word in line)}\n' for line in sentences), encoding='utf-8')
    task = Task('words', 'word by word', parallel.get_config, {
        **{f'data.{split}': str(tmp_path / f'{split}.tsv') for split in ('train', 'dev', 'test')},
        **{key: value for key, value in tiny.CHANGES.items() if not key.startswith(('data', 'evaluation'))},
        'training.keep': 'bleu', 'training.average': 1, 'decoding.beams': 1, 'evaluation.lengths': '4'})
    return STUDY._replace(tasks=(task,), expectations=(), score=definition.BLEU,
                          planned=(Planned('words', 'additive', 'none'),),
                          profiles={'small': Profile(1, {}, test_sample=7)})


def test_a_study_of_translations_keeps_what_was_written_and_tests_its_sentences(translating, tmp_path):
    info = run(tmp_path, translating)
    found = records.read(folders(tmp_path).results / 'results.jsonl')
    kept = json.loads((folders(tmp_path).results / 'references-words.json').read_text())
    assert not list(folders(tmp_path).results.glob('references-words-*'))
    test = [line.split('\t')[1] for line in (tmp_path / 'test.tsv').read_text(encoding='utf-8').splitlines()]
    assert kept['references'] == [[test[place]] for place in np.linspace(0, 7, 7).astype(int)]
    for line in found:
        assert len(line['outputs']) == 7
        assert all(isinstance(text, str) for text in line['outputs'])
        assert line['scores']['bleu'] == line['metrics'][0]['value']
        assert 'signature' in line['metrics'][0]
        assert 0 <= line['dev']['bleu'] <= 100
    beside = info.beside[translating.planned[0]]
    assert beside.sentences.a == pytest.approx(found[1]['scores']['bleu'])
    assert beside.sentences.b == pytest.approx(found[0]['scores']['bleu'])
    assert 0 < beside.sentences.p <= 1
    failed = {name: value for name, value in found[0].items() if name in records.ALWAYS} | {
        'status': 'failed', 'error': 'the loss became nan'}
    (folders(tmp_path).results / 'results.jsonl').write_text(json.dumps(failed) + '\n' + json.dumps(found[1]) + '\n')
    info = runner.finish(translating, 'small', folders(tmp_path), rich.console.Console(file=io.StringIO()))
    assert info.beside[translating.planned[0]].sentences is None
    assert 'the loss became nan' in (folders(tmp_path).results / 'report.html').read_text()


# ---------------------------------------------------------------------------------------------------- what was expected

def test_expectations_are_held_against_the_runs_that_are_there():
    def measured(what):
        def measure(runs):
            if isinstance(what, Exception):
                raise what
            return what
        return measure
    other = ('words', 'none')  # a task that the profile leaves out
    wanted = (((True, '1 of 1'), 'met', '1 of 1'), ((False, '0 of 1'), 'not met', '0 of 1'),
              (NotMeasuredError('no long word'), 'not measured', 'no long word'),
              (NotDecidableError('+0.1'), 'not decidable at n = 2', '+0.1'))
    study = STUDY._replace(expectations=(
        *(Expectation(f'{mark}', (('copy', 'additive'),), measured(what)) for what, mark, _ in wanted),
        Expectation('needs another', (('copy', 'mean'),), measured((True, ''))),
        Expectation('left out', (('copy', 'additive'), other), measured((True, '')))))
    runs = [{'task': 'copy', 'arm': 'additive', 'seed': seed, 'status': 'finished'} for seed in (11, 10)]
    found = runner.findings(study, study.profiles['small'], runs)
    assert [finding[1:] for finding in found] == [*((mark, text) for _, mark, text in wanted), ('not measured', '')]
    found = runner.findings(study, study.profiles['small'], [runs[0], runs[1] | {'status': 'failed'}])
    assert [finding[1:] for finding in found[:4]] == [('not met', '1 of 2 runs of copy/additive failed')] * 4


def test_what_repeats_the_runs_names_their_arms():
    def commands(*names):
        return runner.commands(STUDY, 'small', [{'arm': arm} for arm in names])
    assert commands('additive', 'none', 'none') == (
        'python -m experiments.run tiny --profile small --arms none,additive',)
    assert commands('none', 'mean', 'additive') == ('python -m experiments.run tiny --profile small',)


def test_the_command_of_a_part_is_what_the_command_line_takes(finished):
    assert card.command(finished[1], 'copy', 'none') == (
        'python -m experiments.run tiny --profile small --unit copy/none')


def test_card_and_page_show_the_resolved_difference_with_the_size_that_meets_the_budget(finished):
    folder, _ = finished
    found = [line | {'changes': line['changes'] | {'encoder.features': 12}} if line['arm'] == 'none' else line
             for line in lines(folder)]
    info = runner.described(STUDY, 'small', found)
    changes = {arm.name: arm.changes for arm in info.arms}
    assert changes['none']['encoder.features'] == 12
    assert changes['none'].keys() > {'decoder.reader.name', 'encoder.features'}
    assert changes[STUDY.base] == {}
