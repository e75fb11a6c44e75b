"""Every study of experiments/run.py in every profile: what it declares, plans and expects holds before it runs."""

import collections
import itertools
import math

import pytest

from experiments.run import STUDIES
from research import build
from research.study import arms, records, runner, ways
from research.study.definition import NotDecidableError, NotMeasuredError
from research.study.runner import Unit
from research.study.statistics import FEWEST_OF_PHASE, runs_needed

PROFILES = [(name, profile) for name, study in STUDIES.items() for profile in study.profiles]
REHEARSAL = 'small'
HOURS = 15  # of all studies on two cores


@pytest.mark.parametrize(('name', 'profile'), PROFILES)
def test_arms_are_the_base_and_declared_differences_to_it(name, profile):
    """Also where the data of a study is not there: nothing is read."""
    study, profile = STUDIES[name], STUDIES[name].profiles[profile]
    assert set(profile.tasks) <= {task.name for task in study.tasks}
    found = runner.settled(study, profile, {})
    for unit, config in found.configs.items():
        base = found.configs[Unit(unit.task, study.base)]
        task, arm = study.task(unit.task), study.arm(unit.arm)
        without_words = arms.override(task.get_config(None), {**task.changes, **profile.changes})
        ignored = {'training.enough'} if profile.ends_at_threshold else set()
        assert set(arms.differences(base, without_words)) <= ignored
        changed = arms.differences(base, config)
        assert changed == found.changes[unit]
        assert bool(changed) == (unit.arm != study.base)
        assert all(any(f'{key}.'.startswith(f'{declared}.') for declared in arm.declares) for key in changed)
        assert not {key.split('.')[0] for key in changed} & set(runner.SAME)
    assert len({str(config.to_dict()) for unit, config in found.configs.items()}) == len(found.configs)


@pytest.mark.parametrize('name', STUDIES)
def test_every_name_in_a_study_is_that_of_something(name):
    study = STUDIES[name]
    units = {(task.name, arm.name) for task in study.tasks for arm in study.takes_part(task.name)}
    tasks = {task.name for task in study.tasks}
    assert study.name == name
    assert study.question
    assert study.base in {arm.name for arm in study.arms}
    assert all((task, study.base) in units for task in tasks)
    assert len({arm.name for arm in study.arms}) == len(study.arms)
    assert all(set(arm.tasks) <= tasks for arm in study.arms)
    for one in study.planned:
        assert {(one.task, one.arm), (one.task, one.against)} <= units, one
        assert one.arm != one.against
    assert len({(one.task, frozenset(one[1:])) for one in study.planned}) == len(study.planned)
    for expectation in study.expectations:
        assert expectation.needs
        assert set(expectation.needs) <= units, expectation.text
    controls = [arm.control for arm in study.arms]
    assert controls == sorted(controls, reverse=True), 'controls stand first'
    assert not any(arm.control for arm in study.arms if arm.name == study.base)


@pytest.mark.parametrize(('name', 'profile'), PROFILES)
def test_a_profile_has_the_runs_that_its_claims_take_or_says_that_it_describes(name, profile):
    study, profile = STUDIES[name], STUDIES[name].profiles[profile]
    claimed = study.claimed(profile)
    assert bool(claimed) == (profile.claims != 0 and bool(study.planned))
    assert profile.claims is None or len(claimed) == profile.claims
    describes = profile.note.startswith(('A rehearsal', 'A first look', 'Descriptive'))
    for one in claimed:
        mine, theirs = (runner.seeds(study, profile, Unit(one.task, arm)) for arm in (one.arm, one.against))
        assert mine == theirs
        assert describes == (len(mine) < (FEWEST_OF_PHASE if study.phase else runs_needed(len(claimed))))


@pytest.mark.parametrize(('name', 'profile'), PROFILES)
def test_no_run_has_a_seed_that_chose_a_rate(name, profile):
    study, profile = STUDIES[name], STUDIES[name].profiles[profile]
    for unit in (Unit(task.name, arm.name) for task in study.tasks for arm in study.takes_part(task.name)):
        seeds = runner.seeds(study, profile, unit)
        assert len(seeds) == len(set(seeds)) > 0
        assert not set(seeds) & set(profile.tuning_seeds)
    assert len(profile.rates) != 1, 'one rate is that of the config'


def test_all_studies_take_no_more_hours_on_two_cores_than_are_to_be_had():
    hours = {name: study.profiles['cpu'].hours for name, study in STUDIES.items()}
    assert all(hours.values()), 'every study says how long it takes'
    assert sum(hours.values()) <= HOURS


def test_every_study_has_a_rehearsal_and_one_for_two_cores_and_one_for_an_accelerator():
    for study in STUDIES.values():
        assert {REHEARSAL, 'cpu', 'full'} <= study.profiles.keys()


# -------------------------------------------------------------------------------------------------------- expectations

class Scores(collections.UserDict):
    """Any score there may be, all of them this number."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def __missing__(self, name):
        return self.value


def a_run(study, unit, config, seed, share):
    """A finished run whose every score and length has this share right, in the buckets of its config."""
    edges = build.length_edges(config)
    longest = config.data.get('longest_test') or config.data.get('test_length') or config.data.get('length', 30)
    ends = [*(edge for edge in edges if edge <= longest), longest + 1]
    by_length = [{'low': low, 'high': after - 1, 'count': 100, 'right': round(100 * share), 'tokens': 1000,
                  'tokens_right': round(1000 * share), 'loss': 100.0} for low, after in itertools.pairwise(ends)]
    curve = [{'step': step, 'train_loss': None, 'dev_loss': 1.0, 'dev_accuracy': share} for step in (10, 20, 30)]
    return {'task': unit.task, 'arm': unit.arm, 'seed': seed, 'status': 'finished', 'scores': Scores(share),
            'by_length': by_length, 'curve': curve, 'steps': 100,
            'alignment': {'error_rate': 1 - share, 'shift': 0, 'error_rate_shifted': 1 - share}}


@pytest.mark.parametrize('share', [0.95, 0.2])
@pytest.mark.parametrize('profile', ['cpu', 'full'])
@pytest.mark.parametrize('name', STUDIES)
def test_every_expectation_can_be_read_off_the_runs_that_the_profile_makes(name, profile, share):
    """Its lengths are those of buckets, and it decides, or says why more runs are needed."""
    study, profile = STUDIES[name], STUDIES[name].profiles[profile]
    configs = runner.settled(study, profile, {}).configs
    runs = {unit: [a_run(study, unit, config, seed, share) for seed in runner.seeds(study, profile, unit)]
            for unit, config in configs.items()}
    for expectation in study.expectations:
        try:
            met, text = expectation.measure({need: runs[Unit(*need)] for need in expectation.needs})
        except NotDecidableError as why:
            assert min(len(runs[Unit(*need)]) for need in expectation.needs) < 10
            text = str(why)
        except NotMeasuredError as why:
            text = str(why)
            assert 'no test pair' not in text, expectation.text
            assert name == 'recall'  # it says of some sizes that nothing was to be seen there
        else:
            assert met in (True, False)
        assert text


# ------------------------------------------------------------------------------------------------------ rehearsed whole

@pytest.mark.parametrize(('name', 'task', 'arm'), [
    ('reading_window', 'reverse', 'local_monotonic'),  # written, with a probe of positions
    ('recall', 'overwritten', 'linear'),               # labelled, without a source; with a probe of keys
    ('gradient_reach', 'copy', 'attention')])
def test_a_rehearsal_runs_from_beginning_to_end(name, task, arm, tmp_path):
    study, profile = STUDIES[name], STUDIES[name].profiles[REHEARSAL]
    fewer_programs = profile.changes | {'batches.buckets': 1}
    study = study._replace(profiles={REHEARSAL: profile._replace(seeds=1, tasks=(task,), changes=fewer_programs)})
    folders = runner.Folders(tmp_path, tmp_path / 'work')
    info = runner.run(study, REHEARSAL, [arm], folders, way=ways.ONE_BY_ONE, command=None)
    record, = records.read(tmp_path / runner.RESULTS)
    assert (record['task'], record['arm'], record['status'], record['steps']) == (task, arm, 'finished', 12)
    assert math.isfinite(record['scores'][study.score.name])
    assert sum(row['count'] for row in record['by_length']) == 40
    marks = []
    for expectation, finding in zip((one for one in study.expectations if {need[0] for need in one.needs} == {task}),
                                    info.findings, strict=True):
        assert finding.text == expectation.text
        if set(expectation.needs) == {(task, arm)}:  # the names of its scores are those that were recorded
            marks.append(finding.mark)
            assert finding.measured
        else:
            assert (finding.mark, finding.measured) == ('not measured', '')
    assert len(marks) == 1
    for part in ('README.md', 'report.html'):
        assert study.question in (tmp_path / part).read_text(encoding='utf-8')
