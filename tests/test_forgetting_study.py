"""The first study: its expectations are read off the runs by the rule, and its arms are dropped out alike."""

import pytest

from experiments.forgetting.study import STUDY
from research import build
from research.study import runner

TASKS = ('pronunciation', 'copy')


def a_run(task, arm, seed, accuracy, **more):
    """by_length in the buckets of the task: {(low, high): share}."""
    return {'task': task, 'arm': arm, 'seed': seed, 'status': 'finished', 'alignment': None,
            'by_length': [{'low': low, 'high': high, 'count': 1000, 'right': round(1000 * share)}
                          for (low, high), share in accuracy.items()], **more}


def marks(task, runs):
    """What came of the expectations that need nothing but one task, in their order."""
    found = runner.findings(STUDY, STUDY.profiles['cpu']._replace(tasks=(task,)), runs)
    assert len(found) == {'pronunciation': 2, 'copy': 3}[task]
    return [finding.mark for finding in found], found


def words(short, long):
    return {(1, 4): short, (5, 7): 0.5, (8, 10): 0.4, (11, 20): long}


def test_expectations_on_pronunciation_are_read_off_by_the_rule():
    """The figures of the trial that the expectation was written after: 70 against 72 %, 13.5 against 31.7 %."""
    trial = [a_run('pronunciation', 'none', 10, words(0.70, 0.135)),
             a_run('pronunciation', 'additive', 10, words(0.72, 0.317))]
    found, findings = marks('pronunciation', trial)
    assert found == ['met', 'met']
    assert findings[1].measured == 'none 13.5 %, additive 31.7 %, 2.35 times as much'
    weaker = a_run('pronunciation', 'none', 10, words(0.60, 0.25))
    assert marks('pronunciation', [weaker, trial[1]])[0] == ['not met', 'not met']
    assert marks('pronunciation', [a_run('pronunciation', 'none', 10, words(1, 1))])[0] == ['not measured'] * 2
    short = [a_run('pronunciation', arm, 10, {(1, 4): 0.5, (5, 7): 0.5}) for arm in ('none', 'additive')]
    found, findings = marks('pronunciation', short)  # no long word: no verdict
    assert found == ['met', 'not measured']
    assert findings[1].measured == 'no test pair of these lengths'


@pytest.mark.parametrize(('none', 'additive', 'mark'), [
    (0.2, 0.301, 'met'), (0.2, 0.299, 'not met'), (0.0, 0.001, 'met'), (0.0, 0.0, 'not met')])
def test_one_and_a_half_times_nothing_is_something(none, additive, mark):
    runs = [a_run('pronunciation', 'none', 10, words(0.5, none)),
            a_run('pronunciation', 'additive', 10, words(0.5, additive))]
    assert marks('pronunciation', runs)[0][1] == mark


def copies(additive, none_long, rate, shift=0):
    scores = {'error_rate': rate, 'shift': shift, 'error_rate_shifted': 0.01}
    return [a_run('copy', 'additive', 10, {(1, 5): 1.0, (6, 10): 1.0, (11, 15): 1.0, (16, 20): additive, (21, 25): 0.0},
                  alignment=scores),
            a_run('copy', 'none', 10, {(1, 5): 0.9, (6, 10): 0.8, (11, 15): 0.5, (16, 20): none_long, (21, 25): 0.0})]


def test_expectations_on_copy_are_read_off_by_the_rule():
    assert marks('copy', copies(0.9, 0.6, 0.04))[0] == ['met', 'met', 'met']
    found, findings = marks('copy', copies(0.7, 0.8, 0.9, shift=1))
    assert found == ['not met', 'not met', 'not met']
    assert 'seed 10 reads the neighbour at +1: 0.010 with that shift' in findings[2].measured


def test_expectations_are_of_means_over_runs_and_a_failed_run_counts():
    runs = copies(0.9, 0.6, 0.04)
    more = [runs[0], runs[0] | {'seed': 11, 'alignment': {'error_rate': 0.07, 'shift': 0}}, *runs[1:]]
    assert marks('copy', more)[0] == ['met', 'met', 'not met']  # (0.04 + 0.07) / 2
    found, findings = marks('copy', [*runs, {'task': 'copy', 'arm': 'none', 'seed': 11, 'status': 'failed'}])
    assert found == ['met', 'not met', 'met']
    assert findings[1].measured == '1 of 2 runs of copy/none failed'


def test_runs_of_one_task_say_nothing_of_the_other():
    both = runner.findings(STUDY, STUDY.profiles['cpu'], copies(0.9, 0.6, 0.04))
    assert [finding.mark for finding in both] == ['not measured', 'not measured', 'met', 'met', 'met']
    assert [expectation.text for expectation in STUDY.expectations] == [finding.text for finding in both]


@pytest.mark.parametrize('name', STUDY.profiles)
def test_every_arm_is_dropped_out_alike_and_can_be_built(name):
    found = runner.settled(STUDY, STUDY.profiles[name], {})
    assert {unit.task for unit in found.configs} == set(STUDY.profiles[name].tasks or TASKS)
    for unit, config in found.configs.items():
        assert (config.encoder.dropout, config.decoder.dropout) == ((0.2,) * 2 if unit.task == 'copy' else (0.0,) * 2)
        assert build.parameters(build.model(config, 30, 30))[0] > 0
