"""The card and the terminal's table: every number comes from the records, and no arm or run is dropped."""

import io

import numpy as np
import pytest
import rich.console
import scipy.stats

from research.study import card
from tests.study import made_up

NONE, FIXED, MEAN, ADDITIVE, GENERAL = made_up.ARMS[:5]


def table(text, heading):
    """The rows below a heading, as lists of cells."""
    lines = text.split(f'## {heading}\n', 1)[1].split('\n## ')[0].splitlines()
    rows = [[cell.strip() for cell in line.strip('|').split(' | ')] for line in lines if line.startswith('| ')]
    return [row for row in rows if '---' not in row]


def printed(study, records, width=100):
    file = io.StringIO()
    rich.console.Console(file=file, width=width).print(card.console_table(study, records))
    return file.getvalue()


def test_the_ranking_is_by_mean_accuracy_and_arms_without_a_run_stand_last():
    runs = [made_up.run(NONE, 10, 0.3), made_up.run(ADDITIVE, 10, 0.6), made_up.run(ADDITIVE, 11, 0.7),
            made_up.run(MEAN, 10, 0.64), made_up.failed(FIXED, 10)]
    standings = card.ranking(made_up.study(), runs)
    assert [standing.arm.name for standing in standings] == [
        'additive', 'mean', 'none', 'fixed_context', 'general', 'scaled_dot', 'local_monotonic']
    assert [standing.state for standing in standings[:5]] == [
        '2 finished', '1 finished', '1 finished', '1 failed', 'not run']


def test_below_five_runs_every_value_is_shown_and_no_interval():
    runs = [made_up.run(ADDITIVE, 10, 0.6), made_up.run(ADDITIVE, 11, 0.7)]
    rows = table(card.card(made_up.study(), runs), 'Ranking')
    row = dict(zip(rows[0], rows[1]))
    assert row['accuracy %'] == '65.0'
    assert row['sd'] == '7.1'  # sqrt(2 x 0.05^2)
    assert row['95 % interval'] == '–'
    assert row['every run'] == '60.0, 70.0'
    assert row['token error %'] == '8.8'  # mean of 10 and 7.5


def test_from_five_runs_on_the_interval_is_shown_beside_every_value():
    scores = [0.60, 0.62, 0.61, 0.66, 0.63, 0.64]
    runs = [made_up.run(ADDITIVE, seed, score) for seed, score in enumerate(scores)]
    rows = table(card.card(made_up.study(), runs), 'Ranking')
    row = dict(zip(rows[0], rows[1]))
    low, high = scipy.stats.bootstrap((scores,), np.mean, method='percentile',
                                      rng=np.random.default_rng(1)).confidence_interval
    shown = [float(end) / 100 for end in row['95 % interval'].split(' to ')]
    assert shown == pytest.approx([low, high], abs=0.0016)
    assert row['every run'] == '60.0, 62.0, 61.0, 66.0, 63.0, 64.0'


def test_the_answer_says_best_best_control_weakest_and_how_far_it_carries():
    runs = [made_up.run(arm, seed, score + seed / 100) for seed in (0, 2) for arm, score in (
        (NONE, 0.2), (MEAN, 0.4), (ADDITIVE, 0.7), (GENERAL, 0.1))]
    assert card.answer(card.ranking(made_up.study(), runs)) == (
        'additive gets 71.0 % of the test set exactly right; the best control, mean, gets 41.0 %; the weakest, none, '
        '21.0 % (mean of 2 runs an arm). Fewer than 6 runs an arm describe; they do not support a claim.')


def test_the_answer_speaks_of_failed_runs_and_of_a_control_that_wins():
    runs = [made_up.run(MEAN, 10, 0.7), made_up.run(ADDITIVE, 10, 0.4), made_up.failed(ADDITIVE, 11)]
    sentence = card.answer(card.ranking(made_up.study(), runs))
    assert sentence.startswith('mean gets 70.0 % of the test set exactly right; the next arm, additive, gets 40.0 % '
                               '(one run an arm). 1 run failed and is in none of these means.')
    assert card.answer(card.ranking(made_up.study(), [])) == 'No run has finished yet.'


def test_a_failed_run_is_in_the_card_with_its_error():
    text = card.card(made_up.study(), [made_up.run(ADDITIVE, 10), made_up.failed(ADDITIVE, 11, 'loss is | nan')])
    assert '| 1 finished, 1 failed |' in text
    assert '| additive | 11 | loss is \\| nan |' in text


def test_every_arm_stands_in_the_ranking_and_among_the_differences():
    text = card.card(made_up.study(), [made_up.run(ADDITIVE, 10)])
    for heading, column in (('Ranking', 1), ('What differs', 0)):
        names = [row[column].removesuffix(' (control)').replace('\\', '') for row in table(text, heading)[1:]]
        assert sorted(names) == sorted(arm.name for arm in made_up.ARMS)


def test_accuracy_by_length_is_right_over_count_with_the_range_of_the_runs():
    runs = [made_up.run(ADDITIVE, seed, by_length=[{'low': 1, 'high': 3, 'count': 200, 'right': right},
                                                   {'low': 4, 'high': 4, 'count': 0, 'right': 0}])
            for seed, right in enumerate((100, 120, 170))]
    rows = table(card.card(made_up.study(), runs), 'Accuracy by source length')
    assert rows == [['source length', 'test pairs', 'additive'],
                    ['1–3', '200', '65.0 (50.0 to 85.0)'], ['4', '0', '–']]


def test_each_expectation_has_its_verdict_and_its_numbers():
    rows = table(card.card(made_up.study(), made_up.runs()), 'Expectations')[1:]
    assert [row[1] for row in rows] == ['met', 'not met', 'not run']
    assert rows[0][2] == '71.2 % against 30.4 %'


def test_the_card_says_how_to_repeat_and_with_what():
    text = card.card(made_up.study(), [*made_up.runs(), made_up.run(ADDITIVE, 12, machine='another machine')])
    for part in ('python -m experiments.run forgetting --profile cpu', 'a made-up machine, 2 cores', 'another machine',
                 '5fec' * 16, 'jax: 0.0.0', 'seeds: 10, 11, 12', 'decoder.attention.window = 5', '2.51 M', '412,345'):
        assert part in text.replace('\\', ''), part


def test_alignment_stands_in_the_card_where_it_is_known():
    known = {'error_rate': 0.9, 'shift': 1, 'error_rate_shifted': 0.03}
    assert '## Alignment' not in card.card(made_up.study(), made_up.runs())
    rows = table(card.card(made_up.study(), [
        made_up.run(ADDITIVE, 10, alignment=known), made_up.run(ADDITIVE, 11, alignment=known | {'shift': 0}),
        made_up.run(NONE, 10)]), 'Alignment')
    assert rows[1:] == [['additive', '90.0', '+1, 0', '3.0']]


def test_hostile_text_cannot_break_the_table():
    study = made_up.study(arms=(made_up.ARMS[3]._replace(name='a|b\n<script>[x](y)'),))
    text = card.card(study, [made_up.run(study.arms[0], 10)])
    assert '| a\\|b \\<script\\>\\[x\\](y) |' in text


def test_the_terminal_shows_names_in_full_and_takes_brackets_as_text():
    assert 'local_monotonic' in printed(made_up.study(), made_up.runs(), width=80)
    study = made_up.study(arms=(made_up.ARMS[3]._replace(name='[red]a[/blue]'),))
    assert '[red]a[/blue]' in printed(study, [made_up.run(study.arms[0], 10, 0.5)])
    assert '60.0, 70.0' in printed(made_up.study(), [made_up.run(ADDITIVE, 1, 0.6), made_up.run(ADDITIVE, 2, 0.7)])


@pytest.mark.parametrize(('value', 'text'), [
    (0, '0'), (12.5, '12.5'), (999, '999'), (1500, '1.5 k'), (2.513e6, '2.51 M'), (4e9, '4 G'), (1.25e13, '12.5 T')])
def test_large_numbers_are_shortened(value, text):
    assert card.short(value) == text
