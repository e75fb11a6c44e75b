"""Learning rates: every arm tries the same ones with the same seeds, and the best mean on dev is chosen."""

import math

import pytest

from research.study import tuning

RATES, SEEDS = (3e-3, 1e-3, 1e-2), (0, 1)  # not in their order


def tried(rate, seed, accuracy=0.5, loss=1.0, **dev):
    return {'rate': rate, 'seed': seed, 'status': 'finished', 'dev': {'accuracy': accuracy, 'loss': loss, **dev}}


def failed(rate, seed):
    return {'rate': rate, 'seed': seed, 'status': 'failed', 'error': 'loss is nan'}


def search(accuracy_of, rates=RATES, seeds=SEEDS, keep='accuracy'):
    """Tries what is missing until a choice can be made; returns the records, round by round."""
    records, rounds = [], []
    while due := tuning.missing(rates, seeds, records, keep):
        assert len(rounds) < 10
        rounds.append(due)
        records += [tried(rate, seed, accuracy_of(rate, seed)) for rate, seed in due]
    return records, rounds


def near(best):
    """Accuracy that falls with the distance from a rate, in logarithms."""
    return lambda rate, seed: 0.9 - 0.1 * abs(math.log10(rate / best)) + 0.01 * seed


def test_every_arm_tries_all_rates_with_all_seeds_and_no_more_if_the_best_lies_inside():
    for best in (2.5e-3, 3e-3, 4e-3):
        records, rounds = search(near(best))
        assert rounds == [[(1e-3, 0), (1e-3, 1), (3e-3, 0), (3e-3, 1), (1e-2, 0), (1e-2, 1)]]
        assert tuning.chosen(records, 'accuracy') == (3e-3, 'tuned', False, 6)


def test_the_mean_over_seeds_decides_and_not_the_best_seed():
    records = [tried(1e-3, 0, 0.95), tried(1e-3, 1, 0.05), tried(3e-3, 0, 0.6), tried(3e-3, 1, 0.5),
               tried(1e-2, 0, 0.2), tried(1e-2, 1, 0.2)]
    assert tuning.chosen(records, 'accuracy').value == 3e-3
    assert tuning.missing(RATES, SEEDS, records, 'accuracy') == []
    means = tuning.by_rate(records[::-1], 'accuracy')
    assert list(means) == [1e-3, 3e-3, 1e-2]
    assert [mean for mean, _ in means.values()] == pytest.approx([0.5, 0.55, 0.2])


@pytest.mark.parametrize('order', [1, -1], ids=['rising', 'falling'])
def test_of_equal_rates_the_lowest_is_chosen_in_whichever_order_they_ran(order):
    records = [tried(rate, 0, accuracy) for rate, accuracy in ((1e-3, 0.4), (3e-3, 0.6), (1e-2, 0.6), (3e-2, 0.4))]
    assert tuning.chosen(records[::order], 'accuracy').value == 3e-3
    assert tuning.missing((1e-3, 3e-3, 1e-2, 3e-2), (0,), records[::order], 'accuracy') == []


@pytest.mark.parametrize(('keep', 'best'), [('accuracy', 1e-3), ('loss', 3e-3), ('bleu', 1e-2)])
def test_what_keeps_the_best_step_chooses_the_rate_too(keep, best):
    records = [tried(1e-3, 0, 0.7, 0.9, bleu=10.0), tried(3e-3, 0, 0.6, 0.8, bleu=11.0),
               tried(1e-2, 0, 0.5, 1.0, bleu=12.0)]
    assert tuning.chosen(records, keep).value == best


@pytest.mark.parametrize(('keep', 'same', 'other'), [
    ('accuracy', {'accuracy': 0.5}, 'loss'), ('bleu', {'bleu': 20.0}, 'loss'), ('loss', {'loss': 1.0}, 'accuracy')])
def test_where_the_first_score_is_the_same_the_other_one_decides(keep, same, other):
    worse, better = ({'loss': 1.2}, {'loss': 0.8}) if other == 'loss' else ({'accuracy': 0.2}, {'accuracy': 0.3})
    records = [tried(1e-3, 0, **same | worse), tried(3e-3, 0, **same | better), tried(1e-2, 0, **same | worse)]
    assert tuning.chosen(records, keep).value == 3e-3


@pytest.mark.parametrize('keep', ['accuracy', 'loss', 'bleu'])
def test_a_run_that_failed_is_worse_than_any_that_did_not(keep):
    hopeless = tried(3e-3, 0, 0.0, 1e9, bleu=0.0)
    assert tuning.rank(failed(1e-3, 0), keep) < tuning.rank(hopeless, keep)
    records = [tried(1e-3, 0, 1.0, 0.0, bleu=100.0), failed(1e-3, 1), hopeless, hopeless | {'seed': 1}, failed(1e-2, 0),
               failed(1e-2, 1)]
    assert tuning.chosen(records, keep).value == 3e-3  # one seed of the other two rates failed, or both did


def test_where_every_run_failed_lower_rates_are_tried_and_the_search_ends():
    records, rounds = [], 0
    while due := tuning.missing(RATES, SEEDS, records, 'accuracy'):
        records += [failed(rate, seed) for rate, seed in due]
        rounds += 1
        assert rounds <= 3
    assert rounds == 3
    assert min(record['rate'] for record in records) < 1e-3
    assert tuning.chosen(records, 'accuracy').on_edge


@pytest.mark.parametrize(('rates', 'best', 'more', 'on_edge'), [
    ((1e-4, 3e-4, 1e-3), 1e-4, [3e-5], False), ((3e-4, 1e-4), 3e-5, [3e-5, 9e-6], False),
    ((1e-3, 3e-3, 1e-2), 1e-2, [3e-2], False), ((1e-2, 3e-3), 3e-2, [3e-2, 9e-2], False),
    ((1e-4, 3e-4), 1e-9, [3e-5, 9e-6], True), ((1e-4, 1e-3), 1e-9, [1e-5, 1e-6], True),
    ((1e-3, 3e-3, 1e-2), 1e3, [3e-2, 9e-2], True)])
def test_a_best_rate_on_the_edge_is_followed_by_one_more_on_its_side_twice_at_most(rates, best, more, on_edge):
    records, rounds = search(near(best), rates)
    assert rounds == [[(rate, seed) for rate in sorted(rates) for seed in SEEDS],
                      *([(rate, seed) for seed in SEEDS] for rate in more)]
    everything = (*rates, *more)
    nearest = min(everything, key=lambda rate: abs(math.log10(rate / best)))
    assert tuning.chosen(records, 'accuracy') == (nearest, 'tuned', on_edge, len(SEEDS) * len(everything))


def test_a_single_rate_was_not_searched_and_has_no_edge():
    records, rounds = search(near(1.0), rates=(1e-3,))
    assert rounds == [[(1e-3, 0), (1e-3, 1)]]
    assert tuning.chosen(records, 'accuracy') == (1e-3, 'tuned', False, 2)


def test_what_is_there_is_not_tried_again_wherever_the_search_stopped():
    whole, _ = search(near(1e-9))
    for stopped in range(len(whole)):
        kept = [record for n, record in enumerate(whole) if n != stopped]  # any one of them is lost
        due = tuning.missing(RATES, SEEDS, kept, 'accuracy')
        assert due == [(whole[stopped]['rate'], whole[stopped]['seed'])]
        records = whole[:stopped]  # as far as it came
        while due := tuning.missing(RATES, SEEDS, records, 'accuracy'):
            assert not {(record['rate'], record['seed']) for record in records} & set(due)
            records = records + [tried(rate, seed, near(1e-9)(rate, seed)) for rate, seed in due]
        assert tuning.chosen(records, 'accuracy') == tuning.chosen(whole, 'accuracy')


def test_a_choice_without_a_run_is_refused():
    with pytest.raises(ValueError, match='No run has tried a rate'):
        tuning.chosen([], 'accuracy')
