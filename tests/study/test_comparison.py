"""Comparisons: paired by seed, tested where they were planned, the same seen from both arms."""

import numpy as np
import pytest
import scipy.stats

from research.study import comparison
from research.study.records import Planned
from tests.study import made_up

NONE, FIXED, MEAN, ADDITIVE, GENERAL = made_up.ARMS[:5]


def runs(seeds=range(10, 20), **scores):
    rng = np.random.default_rng(3)
    arms = {arm.name: arm for arm in made_up.ARMS}
    return [made_up.run(arms[name], seed, score + float(rng.normal(0, 0.02))) for name, score in scores.items()
            for seed in seeds]


def study(*planned, **changes):
    return made_up.study(planned=tuple(Planned('pronunciation', *pair) for pair in planned), **changes)


def test_runs_are_paired_by_seed_and_those_without_a_partner_are_left_out():
    found = [*runs(additive=0.6, general=0.5), made_up.run(ADDITIVE, 99, 0.0)]
    one = comparison.compare(study(('general', 'additive')), found)[0]
    by_arm = {name: np.array([run['scores']['accuracy'] for run in found if run['arm'] == name and run['seed'] < 20])
              for name in ('general', 'additive')}
    apart = by_arm['general'] - by_arm['additive']
    assert one.difference.n == 10
    assert one.difference.mean == pytest.approx(apart.mean())
    expected = scipy.stats.permutation_test((apart,), np.mean, permutation_type='samples', n_resamples=np.inf)
    assert one.difference.p == pytest.approx(expected.pvalue)
    assert one.text == 'worse (n = 10)'


def test_each_other_arm_is_set_beside_the_base_once_and_only_described():
    found = comparison.compare(study(('general', 'additive'), ('additive', 'none'), ('mean', 'none')),
                               runs(additive=0.6, general=0.5, none=0.2, mean=0.3))
    assert [(one.arm, one.against, one.verdict is not None) for one in found if one.difference] == [
        ('general', 'additive', True), ('additive', 'none', True), ('mean', 'none', True), ('mean', 'additive', False)]
    assert found[-1].text == comparison.DESCRIBED


def test_a_comparison_of_the_base_with_an_arm_is_the_same_seen_from_that_arm():
    planned = comparison.compare(study(('additive', 'none')), runs(additive=0.6, none=0.2))
    beside = comparison.of_task(planned, 'pronunciation', 'additive')['none']
    assert (beside.arm, beside.against, beside.text) == ('none', 'additive', 'worse (n = 10)')
    one = planned[0]
    assert one.text == 'better (n = 10)'
    assert (beside.difference.mean, beside.difference.low, beside.difference.high) == (
        -one.difference.mean, -one.difference.high, -one.difference.low)
    assert one.turned.turned == one
    assert comparison.of_task(planned, 'copy', 'additive') == {}


def test_of_a_loss_less_is_better():
    lower = study(('general', 'additive'), score=made_up.LOSS)
    one = comparison.compare(lower, runs(additive=0.5, general=0.7))[0]  # the loss is 1.2 - accuracy
    assert one.difference.mean == pytest.approx(-0.2, abs=0.03)
    assert one.text == 'better (n = 10)'


def test_a_failed_run_counts_as_the_study_says():
    found = [*runs(seeds=[10], additive=0.6), made_up.failed(GENERAL, 10)]
    one = comparison.compare(study(('general', 'additive')), found)[0]
    assert one.difference.mean == pytest.approx(-found[0]['scores']['accuracy'])


def test_a_study_that_plans_nothing_or_has_no_runs_has_no_verdicts():
    assert [one.verdict for one in comparison.compare(study(), runs(additive=0.6, general=0.5))] == [None] * 6
    found = comparison.compare(study(('general', 'additive')), [])
    assert [(one.difference, one.verdict) for one in found] == [(None, None)] * 6


def test_all_comparisons_that_were_planned_count_also_those_without_runs():
    alone = comparison.compare(study(('general', 'additive')), runs(additive=0.6, general=0.5))[0]
    among = comparison.compare(study(('general', 'additive'), ('mean', 'additive'), ('none', 'additive')),
                               runs(additive=0.6, general=0.5))[0]
    assert among.verdict.adjusted == pytest.approx(3 * alone.verdict.adjusted)
