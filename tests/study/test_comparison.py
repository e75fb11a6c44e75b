"""Comparisons: paired by seed, tested where planned, the same seen from both arms; what stands beside them."""

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from research.evaluation import translation
from research.study import comparison, records
from research.study.records import Beside, Planned
from research.study.variance import two_way_bootstrap
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


def test_holm_corrects_for_all_that_were_planned():
    """Ten seeds: p of what always differs is 2 / 2^10; of the others what signs of noise leave."""
    planned = [(name, 'additive') for name in ('general', 'mean', 'none', 'fixed_context', 'scaled_dot')]
    found = comparison.compare(study(*planned), runs(additive=0.6, general=0.59, mean=0.61, none=0.2))
    p = [one.difference.p if one.difference else 1.0 for one in found[:5]]
    assert [one.verdict is not None for one in found[:5]] == [True, True, True, False, False]
    expected = multipletests(p, method='holm')[1][:3]
    assert [one.verdict.adjusted for one in found[:3]] == pytest.approx(expected)
    assert found[2].difference.p == 2 / 2 ** 10


@pytest.mark.parametrize(('seeds', 'planned', 'phase', 'text'), [
    (5, 1, False, 'too few runs (n = 5, at least 6 are needed to claim)'), (6, 1, False, 'better (n = 6)'),
    (7, 4, False, 'too few runs (n = 7, at least 8 are needed to claim)'), (8, 4, False, 'better (n = 8)'),
    (9, 1, True, 'exploratory, n = 9 < 10'), (10, 1, True, 'better (n = 10)')])
def test_a_claim_from_too_few_runs_is_refused(seeds, planned, phase, text):
    others = [('mean', 'none'), ('fixed_context', 'none'), ('general', 'none')]
    found = comparison.compare(study(('additive', 'none'), *others[:planned - 1], phase=phase),
                               runs(range(10, 10 + seeds), additive=0.6, none=0.2))
    assert found[0].text == text


def test_a_seed_on_which_one_arm_failed_is_a_pair_and_one_that_was_not_run_is_none():
    found = [*runs(range(10, 16), additive=0.6), *runs(range(11, 15), general=0.5), made_up.failed(GENERAL, 15)]
    one = comparison.compare(study(('general', 'additive')), found)[0]
    scores = {run['seed']: comparison.value(made_up.ACCURACY, run) for run in found if run['arm'] == 'general'}
    assert scores[15] == 0.0
    base = {run['seed']: run['scores']['accuracy'] for run in found if run['arm'] == 'additive'}
    assert one.difference.n == 5
    assert one.difference.mean == pytest.approx(np.mean([scores[seed] - base[seed] for seed in range(11, 16)]))


def test_a_failed_run_has_the_loss_that_the_study_says():
    assert comparison.value(made_up.LOSS, made_up.failed(GENERAL, 10)) == 9.0
    found = [*runs(range(10, 16), additive=0.6), *(made_up.failed(GENERAL, seed) for seed in range(10, 16))]
    one = comparison.compare(study(('general', 'additive'), score=made_up.LOSS), found)[0]
    assert one.difference.mean == pytest.approx(9 - 0.6, abs=0.05)
    assert one.text == 'worse (n = 6)'


# ------------------------------------------------------------------------------------------------- what stands beside

def sentences(difference, p):
    return Beside(translation.Comparison(20.0 + difference, 20.0, difference, p, ''), None, None)


@pytest.mark.parametrize(('score', 'difference', 'p', 'text'), [
    (made_up.BLEU, 2.0, 0.04, 'better (n = 10)'), (made_up.BLEU, 2.0, 0.06, 'no difference shown (n = 10)'),
    (made_up.BLEU, -2.0, 0.001, 'no difference shown (n = 10)'),
    (made_up.BLEU, None, None, 'no difference shown (n = 10)'),
    (made_up.LOSS, 2.0, 0.04, 'better (n = 10)'),  # of BLEU more is better, whatever the study is about
    (made_up.LOSS, -2.0, 0.001, 'no difference shown (n = 10)'), (made_up.ACCURACY, None, None, 'better (n = 10)')])
def test_of_translations_a_claim_needs_that_sentences_say_the_same(score, difference, p, text):
    planned = Planned('pronunciation', 'general', 'none')
    beside = Beside(None, None, None) if difference is None else sentences(difference, p)
    found = runs(general=0.7, none=0.5)
    assert comparison.compare(study(planned[1:], score=score, beside={planned: beside}), found)[0].text == text
    turned, = comparison.compare(study(('none', 'general'), score=score, beside={
        Planned('pronunciation', 'none', 'general'): beside if difference is None else sentences(-difference, p)}),
        found)[:1]
    assert turned.text == text.replace('better', 'worse')


def test_sentences_make_no_claim_that_seeds_do_not_make():
    planned = Planned('pronunciation', 'general', 'none')
    found = runs(range(10, 15), general=0.7, none=0.5)
    for apart, text in ((0.7, 'too few runs'), (0.5, 'too few runs')):
        one = comparison.compare(study(planned[1:], score=made_up.BLEU, beside={planned: sentences(apart, 0.001)}),
                                 found)[0]
        assert one.text.startswith(text)
    noise = runs(general=0.5, none=0.5)
    one = comparison.compare(study(planned[1:], score=made_up.BLEU, beside={planned: sentences(9.0, 0.001)}), noise)[0]
    assert one.text == 'no difference shown (n = 10)'


def with_bits(arm, seed, right):
    """A run whose test pairs are right as given; a bucket of 3 pairs and one of the others."""
    bits = ''.join(str(int(one)) for one in right)
    padded = bits + '0' * (-len(bits) % 8)
    by_length = [{'low': low, 'high': low, 'count': len(part), 'right': sum(part), 'tokens': 9, 'tokens_right': 9,
                  'loss': 1.0} for low, part in ((1, right[:3]), (2, right[3:]))]
    return made_up.run(arm, seed, sum(right) / len(right), by_length=by_length,
                       right=f'{int(padded, 2):0{len(padded) // 4}x}')


def test_bits_are_the_pairs_in_their_order():
    right = [True, False, False, True, True, False, True, True, False, False, True]
    run = with_bits(ADDITIVE, 10, right)
    assert run['right'] == '9b20'  # 1001 1011 001(0 0000)
    assert records.right(run).tolist() == right
    assert records.right(run).dtype == bool


def test_the_interval_of_seeds_and_test_pairs_is_of_the_bits_of_the_pairs_of_runs():
    rng = np.random.default_rng(4)
    general, additive = (rng.random([5, 11]) < share for share in (0.8, 0.4))
    found = [with_bits(arm, seed, right.tolist()) for arm, bits in ((GENERAL, general), (ADDITIVE, additive))
             for seed, right in zip((14, 11, 10, 13, 12), bits, strict=True)]  # in no order
    found.append(with_bits(ADDITIVE, 99, [True] * 11))  # without a partner
    planned = Planned('pronunciation', 'general', 'additive')
    beside = comparison.beside(study(planned[1:]), found, {}, None)[planned]
    order = [2, 1, 4, 3, 0]  # of the seeds above
    assert beside.both == two_way_bootstrap(general[order], additive[order], comparison.RESAMPLES)
    assert (beside.both.seeds, beside.both.sentences) == (5, 11)
    assert beside.both.mean == pytest.approx(general.mean() - additive.mean())
    assert beside.sentences is None


def test_there_is_no_such_interval_of_other_scores_or_where_a_run_failed_or_has_no_bits():
    planned = Planned('pronunciation', 'general', 'additive')
    good = [with_bits(arm, seed, [True, False] * 4) for arm in (GENERAL, ADDITIVE) for seed in (10, 11)]
    none = [good[0] | {'right': None}, *good[1:]]
    failed = [made_up.failed(GENERAL, 10), *good[1:]]
    for found, score in ((good, made_up.LOSS), (none, made_up.ACCURACY), (failed, made_up.ACCURACY)):
        assert comparison.beside(study(planned[1:], score=score), found, {}, None)[planned].both is None
    assert comparison.beside(study(planned[1:]), good, {}, None)[planned].both.mean == 0


def test_runs_that_it_takes_are_of_the_differences_of_pairs_and_of_all_planned_comparisons():
    planned = [('general', 'additive'), ('mean', 'additive'), ('none', 'additive')]
    scores = {'general': [0.60, 0.52, 0.68, 0.61], 'additive': [0.52, 0.55, 0.50, 0.53]}
    arms = {'general': GENERAL, 'additive': ADDITIVE}
    found = [made_up.run(arms[name], 10 + n, one) for name, own in scores.items() for n, one in enumerate(own)]
    found += [made_up.failed(MEAN, 10), made_up.run(ADDITIVE, 20, 0.9)]
    beside = comparison.beside(study(*planned), found, {}, None)
    general, mean = (beside[Planned('pronunciation', name, 'additive')] for name in ('general', 'mean'))
    d = np.subtract(scores['general'], scores['additive'])
    size = abs(d.mean()) / d.std(ddof=1)
    tests = [scipy.stats.nct.sf(scipy.stats.t.isf(0.025 / 3, n - 1), n - 1, size * n ** 0.5) for n in (
        general.needed - 1, general.needed)]
    assert tests[0] < 0.8 <= tests[1]
    assert general.needed > 7  # the fewest for three comparisons, 1 + log2(3 / 0.05) = 6.9
    assert mean.needed is None  # of one pair no spread is known
    assert Planned('pronunciation', 'none', 'additive') not in beside  # nothing has run


TEXTS = [('a cat sat on the mat .',), ('two dogs run in the snow .',), ('a man reads a long book .',),
         ('she has a red hat and a coat .',), ('they play in the park today .',), ('it rains on the old town .',)]


def translated(arm, seed, bleu, right):
    """A run that translated the first sentences without a fault; `bleu` is that on dev."""
    outputs = [line if n < right else 'a b c d e' for n, (line,) in enumerate(TEXTS)]
    return made_up.run(arm, seed, right / 6, outputs=outputs, dev={'accuracy': 0.0, 'loss': 1.0, 'bleu': bleu})


@pytest.mark.parametrize(('dev', 'median'), [
    ({10: 20.0, 11: 30.0, 12: 10.0}, 10), ({10: 40.0, 11: 30.0, 12: 10.0, 13: 20.0}, 13), ({10: 20.0, 11: 10.0}, 11)])
def test_sentences_are_those_of_the_runs_in_the_middle_by_bleu_on_dev(dev, median):
    """Their scores on test, which would be another choice, go the other way."""
    right = {seed: rank for rank, seed in enumerate(sorted(dev, key=dev.get, reverse=True), 1)}
    found = [translated(GENERAL, seed, bleu, right[seed]) for seed, bleu in dev.items()]
    found += [translated(NONE, seed, bleu, 6) for seed, bleu in dev.items()]
    planned = Planned('pronunciation', 'general', 'none')
    beside = comparison.beside(study(planned[1:], score=made_up.BLEU), found, {'pronunciation': TEXTS}, '13a')[planned]
    mine = translated(GENERAL, 0, 0.0, right[median])['outputs']
    assert beside.sentences == translation.approximate_randomisation(
        mine, [line for line, in TEXTS], TEXTS, '13a')
    assert beside.sentences.difference < 0
    assert beside.both is None


def test_sentences_of_a_task_without_references_are_not_compared():
    found = [translated(arm, 10, 10.0, 3) for arm in (GENERAL, NONE)]
    planned = Planned('pronunciation', 'general', 'none')
    assert comparison.beside(study(planned[1:]), found, {'another task': TEXTS}, '13a')[planned].sentences is None


def test_an_arm_whose_runs_all_failed_has_no_sentences_and_no_claim_is_made_of_it():
    seeds = range(10, 20)
    found = [*(translated(GENERAL, seed, 20.0, 5) for seed in seeds), *(made_up.failed(NONE, seed) for seed in seeds)]
    planned = Planned('pronunciation', 'general', 'none')
    about = study(planned[1:], score=made_up.BLEU)
    about = about._replace(beside=comparison.beside(about, found, {'pronunciation': TEXTS}, '13a'))
    assert about.beside[planned].sentences is None
    assert comparison.compare(about, found)[0].text == 'no difference shown (n = 10)'
    some = [*found[:-1], translated(NONE, 19, 5.0, 1)]  # one did not fail: it is in the middle
    assert comparison.beside(about, some, {'pronunciation': TEXTS}, '13a')[planned].sentences.difference > 0


def test_the_first_step_is_that_of_two_measurements_in_a_row_within_the_steps_of_the_run():
    def run(*points, steps=1000):
        return {'steps': steps, 'curve': [{'step': step, 'train_loss': 1.0, 'dev_loss': None, 'dev_accuracy': value}
                                          for step, value in points]}
    reached = run((0, None), (100, 0.95), (150, None), (200, 0.2), (300, 0.9), (350, None), (400, 0.91))
    assert comparison.first_step(reached, 0.9) == 300
    assert comparison.first_step(reached, 0.92) is None
    assert comparison.first_step(reached | {'steps': 399}, 0.9) is None
    assert comparison.first_step(run((100, 0.1), (200, 0.95)), 0.9) is None  # the last one says it alone
    assert comparison.first_step(run((100, None)), 0.9) is None
    assert comparison.first_step(run(), 0.9) is None
