"""The card and the terminal's table: every number comes from the records, and no arm or run is dropped."""

import io
import math
import os
import re

import numpy as np
import pytest
import rich.console
import scipy.stats

from research.errors import UserError
from research.evaluation.translation import Comparison
from research.study import card
from research.study.records import Beside, Planned
from research.study.variance import TwoWay
from tests.study import made_up

NONE, FIXED, MEAN, ADDITIVE, GENERAL = made_up.ARMS[:5]


def section(text, heading):
    """What stands below a heading, up to the next one."""
    return re.split(r'\n##', re.split(rf'\n###? {re.escape(heading)}\n', text, maxsplit=1)[1])[0]


def table(text, heading):
    """The rows of the first table below a heading, as lists of cells."""
    below = section(text, heading)
    lines = next(part for part in below.split('\n\n') if part.strip().startswith('| ')).splitlines()
    rows = [[cell.strip() for cell in line.strip('|').split(' | ')] for line in lines if line.startswith('| ')]
    return [row for row in rows if '---' not in row]


def columns(text, heading):
    """The rows below a heading by the name of their arm, as {heading of the column: cell}."""
    headings, *rows = table(text, heading)
    found = [dict(zip(headings, row, strict=True)) for row in rows]
    return {row['arm'].removesuffix(' (control)').replace('\\', ''): row for row in found}


def printed(study, records, width=100):
    file = io.StringIO()
    for found in card.console_tables(study, records):
        rich.console.Console(file=file, width=width).print(found)
    return file.getvalue()


def test_the_ranking_is_by_mean_accuracy_and_arms_without_a_run_stand_behind_those_that_failed():
    runs = [made_up.run(NONE, 10, 0.3), made_up.run(ADDITIVE, 10, 0.6), made_up.run(ADDITIVE, 11, 0.7),
            made_up.run(MEAN, 10, 0.64), made_up.failed(FIXED, 10)]
    standings = card.ranking(made_up.study(), 'pronunciation', runs)
    assert [standing.arm.name for standing in standings] == [
        'additive', 'mean', 'none', 'fixed_context', 'general', 'scaled_dot', 'local_monotonic']
    assert [standing.state for standing in standings[:5]] == [
        '2 finished', '1 finished', '1 finished', '1 failed', 'not run']


def test_below_five_runs_every_value_is_shown_and_no_interval():
    runs = [made_up.run(ADDITIVE, 10, 0.6), made_up.run(ADDITIVE, 11, 0.7)]
    text = card.card(made_up.study(), runs)
    row = columns(text, 'Ranking')['additive']
    assert row['exactly right, %'] == '65.0'
    assert row['sd'] == '7.1'  # sqrt(2 x 0.05^2)
    assert row['95 % interval'] == '–'
    assert row['interquartile mean'] == '65.0'
    assert row['every run'] == '60.0, 70.0'
    assert row['symbols right, %'] == '82.5'  # mean of 80 and 85
    assert '\nNo interval (–) below 5 runs: every run is shown instead.\n' in text
    assert 'resamples' not in text


def test_from_five_runs_on_the_interval_is_shown_beside_every_value():
    scores = [0.60, 0.62, 0.61, 0.66, 0.63, 0.64]
    runs = [made_up.run(ADDITIVE, seed, score) for seed, score in enumerate(scores)]
    text = card.card(made_up.study(), runs)
    row = columns(text, 'Ranking')['additive']
    low, high = scipy.stats.bootstrap((scores,), np.mean, method='percentile',
                                      rng=np.random.default_rng(1)).confidence_interval
    shown = [float(end) / 100 for end in row['95 % interval'].split(' to ')]
    assert shown == pytest.approx([low, high], abs=0.0016)
    assert row['every run'] == '60.0, 62.0, 61.0, 66.0, 63.0, 64.0'
    drawn = '95 % interval: percentile bootstrap over runs, 10,000 resamples, seed 20140901.'
    assert f'\n{drawn} Below 10 runs it is too narrow.\n' in text
    text = card.card(made_up.study(), [*runs, made_up.run(NONE, 10)])
    assert f'{drawn} Below 10 runs it is too narrow. No interval (–) below 5 runs: every run is shown instead.' in text
    many = [made_up.run(ADDITIVE, seed, scores[seed % 6]) for seed in range(10)]
    assert 'too narrow' not in card.card(made_up.study(), many)


def plain(**changes):
    """A study that tests nothing."""
    return made_up.study(planned=(), **changes)


def test_the_answer_says_best_best_and_weakest_control_and_how_far_it_carries():
    runs = [made_up.run(arm, seed, score + seed / 100) for seed in (0, 2) for arm, score in (
        (NONE, 0.2), (MEAN, 0.4), (ADDITIVE, 0.7), (GENERAL, 0.1))]
    assert card.answer(plain(), runs) == (
        'additive has 71.0 % (exactly right); the best control, mean, 41.0 %; the weakest control, none, 21.0 % (mean '
        'of 2 runs an arm). No comparison was tested: these figures describe.')


def test_the_answer_speaks_of_the_best_control_only_among_several():
    runs = [made_up.run(ADDITIVE, 10, 0.7), made_up.run(NONE, 10, 0.2), made_up.run(GENERAL, 10, 0.1)]
    assert card.answer(plain(), runs) == (
        'additive has 70.0 % (exactly right); the control, none, 20.0 % (one run an arm). No comparison was tested: '
        'these figures describe.')


def test_the_answer_speaks_of_failed_runs_and_of_a_control_that_wins():
    runs = [made_up.run(MEAN, 10, 0.7), made_up.run(ADDITIVE, 10, 0.4), made_up.failed(ADDITIVE, 11),
            made_up.run(NONE, 10, 0.1), made_up.run(NONE, 11, 0.1)]
    assert card.answer(plain(), runs) == (
        'mean has 70.0 % (exactly right); the next arm, additive, 20.0 %; the weakest arm, none, 10.0 % (mean of 1 to '
        '2 runs an arm). No comparison was tested: these figures describe. 1 run failed and counts as 0.0 %.')


def test_the_answer_says_that_nothing_has_finished():
    assert card.answer(made_up.study(), []) == 'No run has finished yet.'
    assert card.answer(made_up.study(), [made_up.failed(NONE, 10), made_up.failed(MEAN, 10)]) == (
        'No run has finished yet.')


def test_the_answer_names_the_task_and_counts_what_was_tested():
    tasks = (made_up.task('copy'), made_up.task('reverse'))
    planned = (Planned('reverse', 'general', 'additive'), Planned('reverse', 'scaled_dot', 'additive'),
               Planned('copy', 'general', 'additive'))
    study = made_up.study(tasks=tasks, planned=planned)
    runs = [made_up.run(arm, seed, score + 0.002 * seed, task='reverse') for seed in range(10, 20) for arm, score in (
        (ADDITIVE, 0.6), (GENERAL, 0.5), (made_up.ARMS[5], 0.6))]
    said = card.answer(study, runs)
    assert said.startswith('On reverse additive has 62.9 % (exactly right)')  # as much as scaled_dot
    assert said.endswith('Of 3 planned comparisons: 1 worse, 1 no difference shown.')


def test_a_failed_run_counts_as_zero_everywhere_in_the_ranking():
    runs = [made_up.run(ADDITIVE, 10, 0.6), made_up.failed(ADDITIVE, 11), made_up.run(ADDITIVE, 12, 0.9),
            made_up.run(NONE, 10, 0.55), made_up.failed(GENERAL, 10)]
    text = card.card(made_up.study(), runs)
    rows = columns(text, 'Ranking')
    assert list(rows)[:3] == ['none', 'additive', 'general']  # without the failed run additive would lead
    row = rows['additive']
    assert (row['place'], row['runs']) == ('2', '2 finished, 1 failed')
    assert row['exactly right, %'] == '50.0'
    assert row['sd'] == '45.8'  # sqrt((0.1^2 + 0.5^2 + 0.4^2) / 2)
    assert row['every run'] == '60.0, 0.0 (failed), 90.0'
    assert (row['symbols right, %'], row['loss']) == ('87.5', '0.450')  # means of 80 and 95, of 0.6 and 0.3
    row = rows['general']
    assert (row['place'], row['exactly right, %'], row['every run']) == ('3', '0.0', '0.0 (failed)')
    assert (row['symbols right, %'], row['loss']) == ('–', '–')
    assert rows['mean']['exactly right, %'] == '–'


def test_a_failed_run_counts_in_the_interval():
    runs = [made_up.run(ADDITIVE, seed, 0.6) for seed in range(4)]
    row = columns(card.card(made_up.study(), [*runs, made_up.failed(ADDITIVE, 4)]), 'Ranking')['additive']
    low, high = (float(end) for end in row['95 % interval'].split(' to '))
    assert low < 48 < high == 60


def test_a_failed_run_is_in_the_card():
    text = card.card(made_up.study(), [made_up.run(ADDITIVE, 10), made_up.failed(ADDITIVE, 11, 'loss is | nan')])
    assert '| 1 finished, 1 failed |' in text
    assert '1 run failed and counts as 0.0 %.' in text


def test_tables_of_finished_runs_say_which_arms_have_others():
    known = {'error_rate': 0.9, 'shift': 1, 'error_rate_shifted': 0.03}
    runs = [made_up.run(ADDITIVE, 10, alignment=known), made_up.run(NONE, 10)]
    assert 'Finished runs only' not in card.card(made_up.study(), runs)
    text = card.card(made_up.study(), [*runs, made_up.failed(ADDITIVE, 11), made_up.failed(FIXED, 10)])
    said = 'Finished runs only; arms with failed runs: additive (1 finished, 1 failed), fixed\\_context (1 failed).'
    said_in = ('exactly right by length', 'Alignment', 'How it reads', 'What differs')
    assert [heading for heading in re.findall(r'\n###? (.*)', text) if said in section(text, heading)] == list(said_in)
    assert table(text, 'Alignment')[1:] == [['additive', '90.0', '+1', '3.0']]


def test_every_arm_stands_in_the_ranking_and_among_the_differences():
    text = card.card(made_up.study(), [made_up.run(ADDITIVE, 10)])
    for heading in ('Ranking', 'What differs', 'What was declared'):
        assert sorted(columns(text, heading)) == sorted(arm.name for arm in made_up.ARMS)
        assert len(table(text, heading)) == 1 + len(made_up.ARMS)


def bucket(low, high, count, right, tokens=0, tokens_right=0, loss=0.0, **more):
    return {'low': low, 'high': high, 'count': count, 'right': right, 'tokens': tokens, 'tokens_right': tokens_right,
            'loss': loss, **more}


@pytest.mark.parametrize(('lengths', 'expected'), [
    ('right', 0.25), ('tokens_right', 0.8), ('loss', 1.5), ('bleu', 31.2)])
def test_a_score_by_length_is_of_what_it_counts(lengths, expected):
    score = made_up.ACCURACY._replace(lengths=lengths)
    assert card.by_length(score, bucket(1, 3, 8, 2, 20, 16, 30.0, bleu=31.2)) == pytest.approx(expected)
    assert card.by_length(score, bucket(1, 3, 0, 0)) is None


def test_the_half_length_lies_where_the_mean_crosses_half_of_what_is_above_guessing():
    # middles 2, 4.5 and 8; mean 0.9, 0.7, 0.2; guessing 0.1: half is 0.5, crossed at 4.5 + 3.5 * 0.2 / 0.5
    runs = [made_up.run(ADDITIVE, seed, by_length=[bucket(1, 3, 100, 90 + by), bucket(4, 5, 100, 70 + by),
                                                   bucket(6, 10, 100, 20 + by)]) for seed, by in enumerate((-5, 5))]
    study = made_up.study(tasks=(made_up.task(floor=0.1),))
    assert table(card.card(study, runs), 'exactly right by length')[-1] == ['half-length', '–', '5.9']
    assert card.half_text(math.inf, [{'high': 40}]) == '> 40'
    assert card.half_text(None, [{'high': 40}]) == '–'
    worse = study._replace(score=made_up.LOSS)
    assert table(card.card(worse, runs), 'loss a symbol by length')[-1][0] == '6–10'  # a loss has no half


def test_accuracy_by_length_is_right_over_count_with_the_range_of_the_runs():
    runs = [made_up.run(ADDITIVE, seed, by_length=[bucket(1, 3, 200, right), bucket(4, 4, 0, 0)])
            for seed, right in enumerate((100, 120, 170))]
    rows = table(card.card(made_up.study(), runs), 'exactly right by length')
    assert rows == [['length', 'test pairs', 'additive'], ['1–3', '200', '65.0 (50.0 to 85.0)'], ['4', '0', '–'],
                    ['half-length', '–', '\\> 4']]


def test_each_expectation_has_its_verdict_and_its_numbers():
    rows = table(card.card(made_up.study(), made_up.runs()), 'Expectations')[1:]
    assert [row[1] for row in rows] == ['met', 'not met', 'not measured', 'not decidable at n = 2']
    assert rows[0][2] == '71.2 % against 30.4 %'


def test_the_card_says_how_to_repeat_and_with_what():
    text = card.card(made_up.study(), [*made_up.runs(), made_up.run(ADDITIVE, 12, machine='another machine')])
    for part in ('```\npip install -e .\npython -m experiments.run forgetting --profile cpu\n```', '5fec' * 16,
                 'machine: a made-up machine, 2 cores; another machine', 'seq2lab: 0.0.1, commit 0123456789ab',
                 'python: 3.99.1', 'jax: 0.0.0', 'seeds: 10, 11, 12', 'decoder.attention.window = 5', '2.51 M',
                 '412,345'):
        assert part in text.replace('\\', ''), part


def test_what_only_the_base_has_is_collected_at_the_end():
    changes = {'decoder.cell': None, 'decoder.kind': 'transformer', 'decoder.layers': None}
    assert card.changes(changes) == ["decoder.kind = 'transformer'", 'without decoder.cell, decoder.layers']
    assert card.changes({'decoder.cell': None}) == ['without decoder.cell']
    assert card.changes({}) == ['none (the base)']


def test_parameters_are_held_against_the_arm_without_changes():
    sizes = (69_300, 110_200, 101_000, 100_000, 99_990)
    runs = [made_up.run(arm, 10, parameters_non_embedding=size) for arm, size in zip(made_up.ARMS, sizes)]
    rows = columns(card.card(made_up.study(), runs), 'What differs')
    assert [rows[arm.name]['against the base'] for arm in made_up.ARMS[:6]] == [
        '−30.7 %, not matched', '+10.2 %, not matched', '+1.0 %', '0.0 %', '0.0 %', '–']
    for base in ([], [made_up.failed(ADDITIVE, 10)]):
        rows = columns(card.card(made_up.study(), [made_up.run(NONE, 10), *base]), 'What differs')
        assert rows['none']['against the base'] == '–'


def test_compiling_is_counted_once_an_arm_and_the_other_seconds_are_means():
    runs = [made_up.run(ADDITIVE, seed, seconds={'compile': compiling, 'train': train, 'evaluate': 3 * train,
                                                 'step': train / 100})
            for seed, compiling, train in ((10, 20.0, 1.0), (11, 0.0, 2.0))]
    text = card.card(made_up.study(), runs)
    row = columns(text, 'What differs')['additive']
    assert (row['seconds: compile (once)'], row['train'], row['evaluate'], row['step']) == (
        '20.0', '1.5', '4.5', '0.0150')
    assert 'seconds: train without measuring and saving, evaluate without compiling, step: one warm step' in text


def test_a_card_of_several_tasks_has_a_section_for_each_that_ran():
    assert card.card(made_up.study(), []).startswith('# forgetting, profile cpu\n\n**Does a fixed')
    tasks = tuple(made_up.task(name) for name in ('copy', 'reverse', 'recall'))
    runs = [made_up.run(ADDITIVE, 10, task=name) for name in ('copy', 'recall')]
    headings = re.findall(r'\n## (.*)', card.card(plain(tasks=tasks), runs))
    assert headings == ['Expectations', 'copy: what is learned of copy', 'recall: what is learned of recall',
                        'What was declared', 'How to repeat', 'Notes']


def test_a_card_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / 'card.md'
    study = made_up.study(question='half a character: \ud800')
    card.write(path, study, [])
    assert path.read_text(encoding='utf-8') == card.card(made_up.study(question='half a character: &#55296;'), [])
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(UserError, match='No space left'):
        card.write(path, study, made_up.runs())
    assert path.read_bytes() == before


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


def test_the_terminal_shows_every_run_where_there_is_no_interval():
    runs = [made_up.run(ADDITIVE, 1, 0.6), made_up.failed(ADDITIVE, 2), *[made_up.run(NONE, n, 0.1) for n in range(5)]]
    text = printed(made_up.study(), runs, width=120)
    assert '60.0, 0.0 (failed)' in text
    assert '10.0 to 10.0' in text


def test_the_terminal_names_arms_that_were_not_run_below_the_table():
    arms = (*made_up.ARMS[:4], GENERAL._replace(name='[b]'))
    text = printed(made_up.study(arms=arms), [made_up.run(NONE, 10), made_up.failed(ADDITIVE, 10)])
    assert 'not run: fixed_context, mean, [b]' in text
    assert text.count('not run') == text.count('fixed_context') == 1
    assert '1 failed' in text
    assert 'not run' not in printed(made_up.study(), made_up.runs())


@pytest.mark.parametrize(('value', 'text'), [
    (0, '0'), (12.5, '12.5'), (999, '999'), (1500, '1.5 k'), (999.6, '1 k'), (999_499, '999 k'), (999_999, '1 M'),
    (9.999e14, '1000 T'), (0.00251, '0.00251'), (2.513e6, '2.51 M'), (4e9, '4 G'), (1.25e13, '12.5 T')])
def test_large_numbers_are_shortened(value, text):
    assert card.short(value) == text


def test_planned_comparisons_stand_first_with_their_p_and_what_may_be_said():
    planned = (Planned('pronunciation', 'general', 'additive'), Planned('pronunciation', 'mean', 'none'),
               Planned('pronunciation', 'scaled_dot', 'additive'), Planned('pronunciation', 'additive', 'mean'))
    runs = [made_up.run(arm, seed, score + 0.001 * seed) for seed in range(10, 20) for arm, score in (
        (ADDITIVE, 0.6), (GENERAL, 0.5), (MEAN, 0.3))] + [made_up.run(NONE, 10, 0.25)]
    both = TwoWay(-0.1, -0.125, -0.08, 10, 200, 2000, 0.95, 1)
    beside = {planned[0]: Beside(Comparison(29.0, 31.5, -2.5, 0.0123, ''), both, 1234),
              planned[1]: Beside(None, None, None), planned[3]: Beside(None, None, None)}
    rows = table(card.card(made_up.study(planned=planned, beside=beside), runs), 'Planned comparisons')[1:]
    # 2 of the 2^10 patterns of signs are as far from 0; 4 comparisons were planned, and one run can show nothing
    assert rows[0] == ['pronunciation', 'general', 'additive', '−10.0 (−10.0 to −10.0)', '10', '0.0020', '0.0078',
                       'worse (n = 10)', '−12.5 to −8.0', '-2.5 BLEU, p = 0.012', '1,234']
    assert rows[1][4:] == ['1', '1.0000', '1.0000', 'too few runs (n = 1, at least 8 are needed to claim)',
                           '–', '–', '–']
    assert rows[2] == ['pronunciation', 'scaled\\_dot', 'additive', '–', '0', '–', '–', 'not run', '–', '–', '–']
    assert rows[3][7:] == ['better (n = 10)', '–', '–', 'more than can be counted']


def test_a_loss_is_better_when_it_is_lower_and_its_difference_keeps_its_sign():
    runs = [made_up.run(arm, seed, accuracy + 0.001 * seed) for seed in range(10, 20) for arm, accuracy in (
        (ADDITIVE, 0.6), (GENERAL, 0.7))]
    study = made_up.study(planned=(Planned('pronunciation', 'general', 'additive'),), score=made_up.LOSS)
    text = card.card(study, [*runs, made_up.failed(NONE, 10)])
    row, = table(text, 'Planned comparisons')[1:]
    assert (row[3], row[7]) == ('−0.100 (−0.100 to −0.100)', 'better (n = 10)')
    rows = columns(text, 'Ranking')
    assert list(rows)[:3] == ['general', 'additive', 'none']
    assert rows['none']['loss a symbol, nats'] == '9.000'  # what a failed run counts as


def test_arms_that_were_not_planned_are_set_beside_the_base_and_only_described():
    rows = columns(card.card(made_up.study(), made_up.runs()), 'Ranking')
    assert rows['general']['verdict'] == 'not planned: describes'
    assert rows['general']['against additive'] == '−0.7 (−0.7 to −0.7)'
    assert rows['additive']['verdict'] == 'the base'
    assert rows['none']['verdict'] == 'too few runs (n = 2, at least 7 are needed to claim)'


def test_a_run_that_failed_did_not_reach_the_threshold():
    def curve(*reached):
        return [{'step': 100 * n, 'train_loss': None, 'dev_loss': 1.0, 'dev_accuracy': float(one)}
                for n, one in enumerate(reached)]
    runs = [made_up.run(ADDITIVE, 10, curve=curve(0, 1, 1)), made_up.run(ADDITIVE, 11, curve=curve(0, 0, 1)),
            made_up.run(NONE, 10, curve=[]), made_up.failed(ADDITIVE, 12)]
    assert '### Steps to threshold' not in card.card(made_up.study(), runs)
    rows = columns(card.card(made_up.study(threshold=0.9), runs), 'Steps to threshold')
    assert list(rows['additive'].values())[1:] == ['1 of 3', '\\> 2,000', '1,367']  # (100 + 2000 + 2000) / 3
    assert list(rows['none'].values())[1:] == ['0 of 1', '\\> 2,000', '2,000']


def test_learning_rates_say_best_and_mean_over_rates_and_whether_it_is_on_an_edge():
    rate = {'value': 0.01, 'choice': 'tuned', 'on_edge': True, 'tried': 4}
    tried = [made_up.tried(ADDITIVE, rate, seed, accuracy) for rate, seed, accuracy in (
        (0.001, 0, 0.1), (0.001, 1, 0.3), (0.01, 0, 0.5), (0.01, 1, 0.7))]
    other = made_up.tried(ADDITIVE, 1.0, task='copy')
    text = card.card(made_up.study(), [made_up.run(ADDITIVE, 10, rate=rate)], [*tried, other])
    assert table(text, 'Learning rates')[1:] == [['pronunciation', 'additive', '0.01 rate\\_on\\_edge', '60.0', '40.0',
                                                  '4', '0.001: 20.0, 0.01: 60.0']]
    assert columns(text, 'Ranking')['additive']['learning rate'] == '0.01 rate\\_on\\_edge'


def test_how_an_arm_reads_is_the_mean_of_its_runs():
    known = made_up.run(ADDITIVE, 10)['diagnostics']
    runs = [made_up.run(ADDITIVE, 10), made_up.run(ADDITIVE, 11, diagnostics=known | {
        'entropy': 1.4, 'sink_first': None, 'gradient_reach': None})]
    row = columns(card.card(made_up.study(), runs), 'How it reads')['additive']
    assert (row['entropy, nats'], row['on the first, %'], row['gradient, ln a position']) == (
        '1.300', '2.0', '-0.020')
    none = dict.fromkeys(known)
    itself = {'source': None, 'inputs': {'entropy': 0.7, 'entropy_share': None, 'distance': 3.25, 'heads': []}}
    runs = [made_up.run(ADDITIVE, 10), made_up.run(GENERAL, 10, diagnostics=none | {'mixing': itself}),
            made_up.run(MEAN, 10, diagnostics=none | {'gradient_reach': {'slope': -1.5}})]
    rows = columns(card.card(made_up.study(), [runs[0] | {'diagnostics': known | {'mixing': itself}}, *runs[1:]]),
                   'How it reads')
    assert list(rows['general'].values())[1:] == ['output reads itself', '0.700', '–', '–', '–', '3.250', '–']
    assert list(rows['mean'].values())[1:] == ['–'] * 6 + ['-1.500']
    assert list(rows['additive'].values())[1:] == ['output reads itself', '0.700', '–', '–', '–', '3.250', '–']
    assert '### How it reads' not in card.card(made_up.study(), [made_up.run(ADDITIVE, 10, diagnostics=none)])
