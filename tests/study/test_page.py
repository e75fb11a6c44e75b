"""report.html: it needs nothing from outside, shows every arm and number, and no word can become code."""

import base64
import hashlib
import html.parser
import json
import os
import re
import resource
import time
import zlib

import numpy as np
import pytest

from research.errors import UserError
from research.study import page, page_parts, page_weights
from research.study.page_parts import Cell
from research.study.page_script import SCRIPT
from research.study.records import Beside, Planned
from tests.study import made_up

NONE, FIXED, MEAN, ADDITIVE, GENERAL = made_up.ARMS[:5]
HOSTILE = ('<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '&amp;', "'", '\ud800',
           '</style></title><b onclick=x>', ' ')
VOID = ('meta', 'input', 'br')


class Page(html.parser.HTMLParser):
    """Collects tags with their attributes and the text between them; tags must close in the order they opened in."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.code, self.data, self.open = [], '', {'script': '', 'style': ''}, {}, []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag, (tag, self.getpos())

    def handle_data(self, data):
        inside, attributes = self.open[-1] if self.open else ('', {})
        if attributes.get('type') == 'application/json':
            self.data[attributes['id']] = self.data.get(attributes['id'], '') + data
        elif inside in self.code:
            self.code[inside] += data
        else:
            self.text += data

    def all(self, tag, **attributes):
        return [found for name, found in self.tags
                if name == tag and all(found.get(key.rstrip('_')) == value for key, value in attributes.items())]


def examples(found, number=0, arm=0, run=0):
    """What the viewer of a task unpacks of a run."""
    packed = json.loads(found.data[f'packed{number}'])[arm]['runs'][run]['data']
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def section(text, name):
    """One section of a page, as HTML."""
    return text.split(f'<section id="{name}">')[1].split('</section>')[0]


def rows(text):
    """The rows of each table in a piece of HTML: lists of the text of their cells."""
    plain = [[[' '.join(re.sub(r'<title>.*?</title>|<[^>]*>', ' ', cell).split()) for cell in
               re.findall(r'<t[dh][^>]*>(.*?)</t[dh]>', row, re.DOTALL)] for row in re.findall(r'<tr>(.*?)</tr>', table,
                                                                                          re.DOTALL)]
             for table in re.findall(r'<table class="data">(.*?)</table>', text, re.DOTALL)]
    return plain


@pytest.fixture(scope='module')
def seven() -> Page:
    return Page(page.page(made_up.study(), made_up.runs(), made_up.search()))


@pytest.fixture(scope='module')
def several() -> str:
    return page.page(*made_up.several(arms=7, seeds=3))


def hostile_page():
    arms = tuple(ADDITIVE._replace(name=word, summary=word, changes={word: word}) for word in HOSTILE)
    finding = made_up.FINDINGS[0]._replace(text=HOSTILE[1], measured=HOSTILE[0], mark=HOSTILE[5])
    tasks = tuple(made_up.task(word, arms)._replace(summary=word) for word in HOSTILE[:3])
    study = made_up.study(arms, tasks, question=HOSTILE[0], findings=(finding,), commands=HOSTILE[:2], notes=HOSTILE,
                          name=HOSTILE[5], profile=HOSTILE[0], planned=(Planned(HOSTILE[0], HOSTILE[1], HOSTILE[0]),),
                          score=made_up.ACCURACY._replace(title=HOSTILE[0], unit=HOSTILE[1]))
    symbols = list(HOSTILE)
    example = {'rule': HOSTILE[0], 'source': symbols, 'answer': symbols, 'output': symbols[:2], 'right': False,
               'weights': np.full([2, 3, len(symbols)], 0.125).tolist()}
    place = {'study': HOSTILE[5], 'profile': HOSTILE[0], 'machine': HOSTILE[1], 'run': HOSTILE[0], 'time': HOSTILE[1],
             'versions': {HOSTILE[1]: HOSTILE[0]}}
    runs = [made_up.run(arm, 10, examples=[example, example | {'weights': None}], task=task, **place) for arm in arms
            for task in HOSTILE[:2]]
    tried = [made_up.tried(arm, 0.1, task=HOSTILE[0], **place) for arm in arms]
    return study, [*runs, made_up.failed(arms[0], 11, HOSTILE[0], task=HOSTILE[0], **place)], tried


# Nothing from outside, nothing becomes code.


def test_the_page_refers_to_nothing_outside_of_itself(seven):
    loading = {'src', 'srcset', 'data', 'action', 'poster', 'background', 'formaction', 'xlink:href'}
    for tag, attributes in seven.tags:
        assert tag not in ('link', 'iframe', 'object', 'embed', 'img', 'base', 'audio', 'video')
        assert not loading & set(attributes), (tag, attributes)
        assert attributes.get('href', '#').startswith('#')
    assert not re.search(r'url\(|@import|https?:|fetch|XMLHttp|import\(', seven.code['style'] + seven.code['script'])


def test_the_policy_forbids_every_load_and_every_other_script(seven):
    policy, = [found['content'] for found in seven.all('meta') if found.get('http-equiv') == 'Content-Security-Policy']
    digest = base64.b64encode(hashlib.sha256(seven.code['script'].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert [found.get('type') for found in seven.all('script')] == ['application/json', None]


def test_the_script_writes_no_word_as_html():
    assert not re.search(r'innerHTML|outerHTML|insertAdjacent|document\.write|eval|Function\(|setAttribute', SCRIPT)


def test_no_word_becomes_code(tmp_path):
    study, runs, tried = hostile_page()
    page.write(tmp_path / 'report.html', study, runs, tried)
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    found = Page(text)
    assert len(found.all('script')) == 3  # ours, and two of data
    assert len(found.all('style')) == 1
    assert not found.all('img')
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith('on')]
    assert found.code['script'] == SCRIPT
    assert found.text.count('<script>alert(1)</script>') > 20  # it is all there to be read
    assert examples(found)[0]['source'] == list(HOSTILE)


def test_data_cannot_end_its_script():
    assert '<' not in page_weights.script_json(['</script><!--', {'<': '<'}])
    assert json.loads(page_weights.script_json(['</script>', '\ud800\u2028'])) == ['</script>', '\ud800\u2028']


def test_ids_are_unique_and_every_anchor_leads_somewhere(seven, several):
    for found in (seven, Page(several), Page(page.page(*hostile_page()))):
        ids = [attributes['id'] for _, attributes in found.tags if 'id' in attributes]
        assert len(ids) == len(set(ids))
        assert {one['href'][1:] for one in found.all('a')} <= set(ids)


# What is over all tasks.


def test_sections_stand_in_order(seven, several):
    assert [found['id'] for found in seven.all('section')] == [
        'expectations', 'comparisons', 'ranking0', 'differences0', 'lengths0', 'learning0', 'budget0', 'rates0',
        'reading0', 'weights0', 'declared', 'repeat']
    names = [found['id'] for found in Page(several).all('section')]
    assert names[:3] == ['expectations', 'comparisons', 'overview']
    assert [name for name in names if name.startswith('ranking')] == ['ranking0', 'ranking1', 'ranking2']


def test_each_task_has_its_choice_and_the_first_is_chosen(several):
    found = Page(several)
    buttons = found.all('input', type='radio', name='task')
    assert [button['id'] for button in buttons] == ['task-0', 'task-1', 'task-2']
    assert ['checked' in button for button in buttons] == [True, False, False]
    for number in (1, 2, 3):
        assert f'label:nth-of-type({number})>input:checked)>.panels>.panel:nth-child({number}){{display:block}}' in (
            found.code['style'])
    assert not Page(page.page(made_up.study(), [])).all('input', type='radio', name='task')


def test_a_style_that_hides_is_for_screens_that_can_choose(several):
    style = Page(several).code['style']
    hides = style[style.index('.panels>.panel:not(:only-child){display:none}') - 200:]
    assert '@media screen{@supports selector(:has(a)){.panels>' in hides


def test_expectations_differ_in_sign_and_word_not_only_in_colour():
    text = section(page.page(made_up.study(), made_up.runs()), 'expectations')
    found = re.findall(r'<span class="verdict (\w+)"><b aria-hidden="true">(.)</b> ([^<]*)</span><div>([^<]*)<small>'
                       r'([^<]*)', text)
    assert [row[:3] for row in found] == [('right', '✓', 'met'), ('wrong', '✗', 'not met'),
                                          ('missing', '–', 'not measured'), ('open', '?', 'not decidable at n = 2')]
    assert found[0][3:] == (made_up.FINDINGS[0].text, '71.2\xa0% against 30.4\xa0%')
    assert 'None were written down' in page.page(made_up.study(findings=()), [])


def test_the_overview_has_a_mean_and_a_verdict_for_each_arm_and_task():
    tasks = (made_up.task('copy'), made_up.task('reverse', made_up.ARMS[:5]))
    planned = tuple(Planned('copy', name, 'additive') for name in ('general', 'scaled_dot', 'mean', 'none'))
    runs = [made_up.run(arm, seed, score + 0.001 * seed, task=task) for task in ('copy', 'reverse')
            for seed in range(10, 20) for arm, score in ((ADDITIVE, 0.5), (GENERAL, 0.7), (MEAN, 0.3),
                                                         (made_up.ARMS[5], 0.5))
            if (task, arm.name) != ('reverse', 'scaled_dot')]
    runs += [made_up.run(NONE, seed, 0.2, task='copy') for seed in (10, 11)]
    text = page.page(made_up.study(tasks=tasks, planned=planned), runs)
    table, = rows(section(text, 'overview'))
    assert table[0] == ['arm', 'copy', 'reverse']
    assert {row[0].removesuffix(' control'): row[1:] for row in table[1:]} == {
        'none': ['20.0 ?', 'not run'], 'fixed_context': ['not run', 'not run'], 'mean': ['31.4 ▼', '31.4 ·'],
        'additive': ['51.4 base', '51.4 base'], 'general': ['71.4 ▲', '71.4 ·'], 'scaled_dot': ['51.4 =', '–'],
        'local_monotonic': ['not run', '–']}


def test_planned_comparisons_carry_their_verdicts(several):
    table, = rows(section(several, 'comparisons'))
    assert len(table) == 1 + 3  # of seven arms
    assert table[0] == ['task', 'arm', 'against', 'difference', 'runs', 'p', 'p, Holm', 'verdict',
                        'other seeds and test pairs', 'sentences', 'runs it takes']
    assert all(row[7].startswith('? too few runs (n = 3, at least ') for row in table[1:])
    assert 'id="comparisons"' not in page.page(made_up.study(planned=()), made_up.runs())


def test_planned_comparisons_keep_what_stands_beside_their_verdict():
    planned = (Planned('pronunciation', 'general', 'additive'),)
    runs = [made_up.run(arm, seed) for arm in (GENERAL, ADDITIVE) for seed in (10, 11)]
    found = page.page(made_up.study(planned=planned, beside={planned[0]: Beside(None, None, 23)}), runs)
    (_, row), = rows(section(found, 'comparisons'))
    assert row[8:] == ['–', '–', '23']


def test_the_page_says_how_its_figures_came_about(seven):
    text = seven.text.replace('\xa0', ' ')
    assert 'Of 2 planned comparisons: 2 too few runs.' in text
    assert 'No interval (–) below 5 runs: every run is shown instead.' in text
    assert 'seconds: train without measuring and saving, evaluate without compiling' in text
    runs = [made_up.run(ADDITIVE, seed) for seed in range(5)]
    assert '95 % interval: percentile bootstrap over runs, 10,000 resamples, seed 20140901.' in Page(
        page.page(made_up.study(), runs)).text.replace('\xa0', ' ')


def test_all_commands_and_versions_are_on_the_page(seven):
    for part in ('pip install -e .\npython -m experiments.run forgetting --profile cpu', '3.99.1',
                 '0.0.1, commit 0123456789ab', 'decoder.attention.window = 5'):
        assert part in seven.text, part


def test_each_run_has_its_command():
    runs = [*made_up.runs((10, 11), made_up.ARMS[:2]), made_up.failed(ADDITIVE, 12)]
    table, = rows(section(page.page(made_up.study(), runs), 'repeat'))
    assert len(table) == 1 + len(runs)
    found = {(row[1], row[2]): row for row in table[1:]}
    assert found['additive', '12'][3] == 'failed'
    assert found['none', '11'][-1] == (
        'python -m experiments.run forgetting --profile cpu --unit pronunciation/none')
    assert found['none', '11'][6] == 'none-000b'


# What is of one task.


def test_the_ranking_draws_every_run_where_its_score_is():
    runs = [made_up.run(ADDITIVE, 10, 0.625), made_up.run(ADDITIVE, 11, 0.875), made_up.run(NONE, 10, 0.125)]
    text = page.page(made_up.study(), runs)
    found = Page(section(text, 'ranking0'))
    assert [circle['cx'] for circle in found.all('circle', class_='run')] == ['62.50%', '87.50%', '12.50%']
    assert not found.all('line', class_='bar')
    ranked, numbers = rows(section(text, 'ranking0'))
    assert [row[:2] for row in ranked[1:4]] == [
        ['1', 'additive weighs positions by what they hold'],
        ['2', 'none control reads nothing: starts from the last state of the encoder'],
        ['–', 'fixed_context control reads one vector, the same at every step']]
    assert ranked[1][3:] == ['75.0 %', '2 finished', 'the base']
    assert 'no run' not in ranked[3]
    assert numbers[0][:4] == ['place', 'arm', 'runs', 'exactly right, %']


def test_the_ranking_draws_intervals_and_guessing():
    runs = [made_up.run(ADDITIVE, seed, 0.5 + 0.01 * (seed % 2)) for seed in range(6)]
    study = made_up.study(tasks=(made_up.task(floor=0.125),))
    found = Page(section(page.page(study, runs), 'ranking0'))
    bar, = found.all('line', class_='bar')
    assert 50 <= float(bar['x1'][:-1]) < 50.5 < float(bar['x2'][:-1]) <= 51
    assert {line['x1'] for line in found.all('line', class_='zero')} == {'12.50%'}
    mean, = re.findall(r'x="([\d.]+)%" y="30.00%"[^>]*><path class="mark large"', section(page.page(study, runs),
                                                                                       'ranking0'))
    assert mean == '50.50'
    assert 'The dashed line is guessing.' in found.text


def test_a_failed_run_is_a_cross_at_what_it_counts_as_and_draws_the_mean_down():
    runs = [made_up.run(ADDITIVE, 10, 0.5), made_up.failed(ADDITIVE, 11, 'loss is <nan>')]
    text = page.page(made_up.study(), runs)
    found = Page(text)
    assert [circle['cx'] for circle in found.all('circle', class_='run')] == ['50.00%']
    assert re.findall(r'<svg x="([^"]*)"[^>]*><path class="failed"[^>]*><title>([^<]*)', text) == [
        ('0.00%', 'seed 11: failed')]
    assert 'A cross is a failed run, which counts as 0.0 %.' in found.text.replace('\xa0', ' ')
    assert 'mean 25.0 %' in found.text
    assert found.all('svg', **{'aria-label': 'additive: mean 25.0 % of 2 runs, 1 of them failed'})
    assert 'loss is <nan>' in found.text
    assert 'A cross is' not in Page(page.page(made_up.study(), made_up.runs())).text
    worse = page.page(made_up.study(score=made_up.LOSS), runs)
    cross, = re.findall(r'<svg x="([^"]*)%"[^>]*><path class="failed"', worse)
    assert float(cross) > 90  # a loss of 9, the highest there is


def test_everything_that_speaks_of_finished_runs_says_which_arms_have_others():
    known = {'error_rate': 0.9, 'shift': 1, 'error_rate_shifted': 0.03}
    runs = [made_up.run(ADDITIVE, 10, alignment=known), made_up.failed(ADDITIVE, 11)]
    sections = page.page(made_up.study(threshold=0.5), runs).split('<section id="')[1:]
    said = 'Finished runs only; arms with failed runs: additive (1 finished, 1 failed).'
    assert [section.split('"')[0] for section in sections if said in section] == [
        'lengths0', 'learning0', 'budget0', 'reading0']
    assert 'Finished runs only' not in page.page(made_up.study(), made_up.runs())


def test_the_forest_plot_has_each_difference_with_its_interval_and_verdict():
    runs = [made_up.run(arm, seed, score + 0.01 * (seed % by)) for seed in range(10, 20) for arm, score, by in (
        (ADDITIVE, 0.5, 2), (GENERAL, 0.7, 3), (MEAN, 0.3, 5))]
    planned = (Planned('pronunciation', 'general', 'additive'), Planned('pronunciation', 'general', 'mean'))
    text = section(page.page(made_up.study(planned=planned), runs), 'differences0')
    table, = rows(text)
    assert [(row[0], row[1], row[-1]) for row in table[1:]] == [
        ('general', 'mean', '▲ better (n = 10)'), ('general', 'additive', '▲ better (n = 10)'),
        ('mean', 'additive', '· not planned: describes')]
    # Seeds 10 to 19: 0.71 0.72 0.70 ... against 0.50 0.51 0.50 ...: 0.21 0.21 0.20 0.20 0.22 0.19 0.21 0.21 0.20 0.20
    assert table[2][3].startswith('+20.5 (+')
    # A tested difference is filled, one that describes is hollow.
    assert re.findall(r'path class="(mark[^"]*)" d="[^"]*"><title>', text) == ['mark', 'mark', 'mark hollow']
    bars = re.findall(r'<line class="bar" x1="([\d.]+)%" x2="([\d.]+)%"', text)
    marks = re.findall(r'<svg class="series arm\d" x="([\d.]+)%"', text)
    assert all(float(low) <= float(mark) <= float(high) for (low, high), mark in zip(bars, marks, strict=True))
    assert float(marks[0]) > float(marks[1]) > 50 > float(marks[2])


def test_accuracy_by_length_is_drawn_where_the_table_says():
    def bucket(low, high, count, right):
        return {'low': low, 'high': high, 'count': count, 'right': right, 'tokens': count, 'tokens_right': right,
                'loss': 1.0}
    buckets = [[bucket(1, 3, 1234, first), bucket(4, 9, 10, last)] for first, last in ((617, 2), (1234, 4))]
    text = page.page(made_up.study(), [made_up.run(ADDITIVE, seed, by_length=found)
                                       for seed, found in enumerate(buckets)])
    found = Page(section(text, 'lengths0'))
    # Two buckets at -0.25 ... 1.25: x = 16.67 and 83.33; y runs downwards from 100 %.
    line, = found.all('path', class_='series mean arm3')
    assert line['d'] == 'M16.67 25.00L83.33 70.00'
    band, = found.all('path', class_='series band arm3')
    assert band['d'] == 'M16.67 0.00L83.33 60.00L83.33 80.00L16.67 50.00z'
    assert '1,234' in found.text
    # Half of 0.75 is crossed at (0.75 - 0.375) / (0.75 - 0.3) = 5/6 of the way, at length 2 + 5/6 * 4.5 = 5.75.
    hollow, = re.findall(r'x="([\d.]+)%" y="([\d.]+)%"[^>]*><path class="mark hollow"[^>]*><title>([^<]*)', text[
        text.index('<section id="lengths0">'):text.index('<section id="learning0">')])
    assert hollow == ('72.22', '62.50', 'additive: half-length 5.8')
    assert rows(section(text, 'lengths0'))[0][-1] == ['half-length', '–', '5.8']


def test_curves_draw_the_mean_and_the_band_as_far_as_every_run_goes():
    def curve(*losses):
        return [{'step': 100 * n, 'train_loss': loss, 'dev_loss': None, 'dev_accuracy': None}
                for n, loss in enumerate(losses)]
    runs = [made_up.run(ADDITIVE, 10, curve=curve(4.0, 2.0, 1.0)), made_up.run(ADDITIVE, 11, curve=curve(4.0, 1.0))]
    found = Page(section(page.page(made_up.study(), runs), 'learning0'))
    mean, = found.all('path', class_='series mean arm3')
    top = 4 * 1.04
    assert mean['d'] == f'M0.00 {100 - 400 / top:.2f}L100.00 {100 - 150 / top:.2f}'
    band, = found.all('path', class_='series band arm3')
    assert band['d'].split('L')[1:3] == [f'100.00 {100 - 200 / top:.2f}', f'100.00 {100 - 100 / top:.2f}']
    assert 'Training loss' in found.text
    assert 'Dev loss' not in found.text  # nothing was measured


def test_steps_to_threshold_rise_by_one_run_at_a_time_and_count_failed_ones():
    def curve(first):
        return [{'step': 100 * n, 'train_loss': None, 'dev_loss': None, 'dev_accuracy': float(n >= first)}
                for n in range(11)]
    runs = [*(made_up.run(ADDITIVE, seed, curve=curve(first), steps=1000) for seed, first in ((10, 2), (11, 5),
                                                                                            (12, 10))),
            made_up.failed(ADDITIVE, 13)]
    text = section(page.page(made_up.study(threshold=0.9), runs), 'learning0')
    # 2 of 4 runs, at steps 200 and 500; the third one was above only once.
    assert ('d="M0.00 100.00L20.00 100.00L20.00 75.00L50.00 75.00L50.00 50.00L100.00 50.00"') in text
    assert 'additive: 2/4 reached it, median 500 steps' in text
    assert rows(text)[0][1:] == [['additive', '2 of 4', '500', '675']]
    assert 'Kaplan' not in page.page(made_up.study(), runs)


def test_the_headline_plot_stands_at_readable_floats_and_at_each_length():
    runs = [made_up.run(ADDITIVE, 10, 0.75, readable_floats=999.0), made_up.run(NONE, 10, 0.25, readable_floats=0.0)]
    text = page.page(made_up.study(), runs)
    found = section(text, 'budget0')
    titles = re.findall(r'<title>(additive: 999, [^<]*)</title>', found)
    assert len(titles) == 1 + len(made_up.BUCKETS)
    assert titles[0] == 'additive: 999, 75.0 %'
    assert [button['id'] for button in Page(text).all('input', type='radio', name='cost0')] == [
        'cost0-0', 'cost0-1', 'cost0-2']
    # log(1 + floats): 0 at the left, 999 at the right, 6 % of room on both sides
    places = re.findall(r'<svg class="series arm(\d)" x="([\d.]+)%" y="([\d.]+)%"', found)[:2]
    assert places == [('0', f'{600 / 112:.2f}', '75.00'), ('3', f'{10600 / 112:.2f}', '25.00')]


def test_what_was_changed_to_meet_a_budget_is_said():
    runs = [made_up.run(MEAN, 10, changes=MEAN.changes | {'decoder.width': 77}), made_up.run(ADDITIVE, 10)]
    text = section(page.page(made_up.study(), runs), 'budget0')
    assert rows(text)[-1] == [['arm', 'key', 'value'], ['mean', 'decoder.width', '77']]
    assert 'Changed to meet' not in page.page(made_up.study(), made_up.runs())


def test_learning_rates_are_drawn_with_every_run_and_the_best_one():
    tried = [made_up.tried(ADDITIVE, rate, seed, accuracy) for rate, seed, accuracy in (
        (0.001, 0, 0.1), (0.001, 1, 0.3), (0.01, 0, 0.5), (0.01, 1, 0.7))]
    tried.append(made_up.tried(NONE, 0.001, 0, status='failed', error='nan', dev=None))
    text = page.page(made_up.study(), [made_up.run(ADDITIVE, 10)], tried)
    found = section(text, 'rates0')
    assert re.findall(r'<path class="mark (small|large)"[^>]*><title>([^<]*)', found) == [
        ('small', 'none, rate 0.001: 0.0'), ('large', 'none, best rate 0.001: 0.0'),
        ('small', 'additive, rate 0.001: 10.0'), ('small', 'additive, rate 0.001: 30.0'),
        ('small', 'additive, rate 0.01: 50.0'), ('small', 'additive, rate 0.01: 70.0'),
        ('large', 'additive, best rate 0.01: 60.0')]
    assert rows(found)[0][2] == ['additive', '0.003', '60.0', '40.0', '4', '0.001: 20.0, 0.01: 60.0']
    assert 'id="rates0"' not in page.page(made_up.study(), made_up.runs())


def test_how_it_reads_is_drawn_against_distance_and_listed_by_head():
    runs = [made_up.run(ADDITIVE, seed, heads=4) for seed in (10, 11)] + [made_up.run(NONE, 10)]
    text = section(page.page(made_up.study(), runs), 'reading0')
    assert text.count('series mean arm3') == text.count('series mean arm0') == 2
    assert '"M11.11 10.00L33.33 30.00L55.56 50.00L100.00 80.00"' in text  # accuracy 0.9 at distance 1, of 9 at most
    heads = rows(text)[-1]
    assert [row[:4] for row in heads[1:]] == [
        ['additive', 'output reads source', f'layer {n // 2 + 1}, head {n % 2 + 1}', f'{1.2 + n / 10:.3f}']
        for n in range(4)]
    nothing = dict.fromkeys(made_up.run(NONE, 10)['diagnostics'])
    assert 'id="reading0"' not in page.page(made_up.study(), [made_up.run(ADDITIVE, 10, diagnostics=nothing)])


# The viewer.


def test_every_weight_of_every_head_is_in_the_page_in_thousandths():
    run = made_up.run(ADDITIVE, 10, 0.712, heads=3)
    found = Page(page.page(made_up.study(), [run]))
    shown = examples(found)
    assert [''.join(one['source']) for one in shown] == sorted(made_up.WORDS, key=len)
    by_source = {''.join(one['source']): one for one in run['examples']}
    for one in shown:
        whole = by_source[''.join(one['source'])]
        assert {key: one[key] for key in ('rule', 'answer', 'output', 'right')} == {
            key: whole[key] for key in ('rule', 'answer', 'output', 'right')}
        np.testing.assert_allclose(np.array(one['weights']) / 1000, whole['weights'], atol=0.0005)
    packed, = json.loads(found.data['packed0'])
    assert packed['runs'][0]['heads'] == ['layer 1, head 1', 'layer 1, head 2', 'layer 2, head 1']
    assert packed['runs'][0]['score'] == '71.2 %'


def test_weights_are_rounded_and_keep_their_sign():
    assert page_weights.thousandths([[[-0.2504, 0.5, 0.0004]]]) == [[[-250, 500, 0]]]
    assert page_weights.thousandths(None) is None
    assert page_weights.thousandths([[]]) == [[]]  # nothing was written


def test_the_viewer_opens_with_an_arm_that_reads_and_is_no_control(seven):
    viewer, = seven.all('div', class_='viewer')
    arms = json.loads(seven.data['packed0'])
    assert [arm['name'] for arm in arms] == [arm.name for arm in made_up.ARMS]
    assert arms[int(viewer['data-first'])]['name'] == 'additive'
    assert [run['seed'] for run in arms[0]['runs']] == [10, 11]
    only = Page(page.page(made_up.study(), [made_up.run(NONE, 10)]))
    assert only.all('div', class_='viewer')[0]['data-first'] == '0'
    assert 'The viewer needs a browser that runs' in seven.text


def test_arms_that_read_no_positions_have_examples_all_the_same():
    found = Page(page.page(made_up.study(), [made_up.run(NONE, 10)]))
    assert [one['weights'] for one in examples(found)] == [None] * 8
    assert ''.join(examples(found)[-1]['source']) in made_up.WORDS


# Failures, size.


def test_failed_and_missing_runs_are_shown():
    runs = [made_up.run(ADDITIVE, 10), made_up.failed(ADDITIVE, 11, 'loss is not finite'), made_up.failed(GENERAL, 10)]
    text = Page(page.page(made_up.study(), runs)).text
    for part in ('1 finished, 1 failed', 'loss is not finite', 'not run', '1 failed'):
        assert part in text, part
    assert all(arm.name in text for arm in made_up.ARMS)


def test_a_study_without_any_finished_run_still_has_a_page():
    for runs in ([], [made_up.failed(ADDITIVE, 10)]):
        text = Page(page.page(made_up.study(), runs)).text
        assert 'No run has finished yet.' in text
        assert ('No run has ended yet.' in text) != bool(runs)
        assert ('loss is not finite at step 400' in text) == bool(runs)
        assert 'python -m experiments.run' in text


@pytest.mark.parametrize('score', [made_up.BLEU, made_up.LOSS,
                                   made_up.ACCURACY._replace(name='token_accuracy', lengths='tokens_right')])
def test_a_study_may_compare_by_any_score(score):
    text = page.page(made_up.study(score=score), made_up.runs(range(10, 16)), made_up.search())
    found = Page(text)
    for name in ('cx', 'x', 'x1', 'y'):
        places = [float(tag[name][:-1]) for _, tag in found.tags if tag.get(name, '').endswith('%')]
        assert places
        assert all(-5 <= place <= 105 for place in places), name
    ranked = [row[1].split()[0] for row in rows(section(text, 'ranking0'))[0][1:]]
    assert ranked[0] == 'additive'
    assert ranked[-1] == 'none'
    assert ('half-length' in found.text) == score.higher


def test_a_large_page_is_small_and_made_in_seconds():
    study, runs, tried = made_up.several(arms=12, seeds=10, tasks=('copy',))
    rng = np.random.default_rng(0)
    long = list('pneumonoultramicroscopicsilicovolcanocon')  # 40 letters; 4 heads without a single weight of zero
    for run in runs:
        run['examples'] = [{'rule': 'longest', 'source': long, 'answer': long, 'output': long, 'right': True,
                            'weights': rng.dirichlet(np.ones(41), [4, 41]).round(3).tolist()} for _ in range(4)]
    begin = time.perf_counter()
    text = page.page(study, runs, tried)
    assert len(text.encode()) < 15e6
    assert time.perf_counter() - begin < 60  # some seconds where nothing else runs


# Parts.


@pytest.mark.parametrize(('text', 'expected'), [
    ('71.2', 71.2), ('412,345', 412345), ('2.51 M', 2.51e6), ('1.5 k', 1500), ('−3.4 (−5.0 to −1.8)', -3.4),
    ('+10.2 %, not matched', 10.2), ('> 2,000', 2000), ('4–6', 4), ('3 of 10', 3), ('0.003 rate_on_edge', 0.003),
    ('1e-05', 1e-5), ('60.0, 62.0', 60), ('10 finished', 10), ('-0.02', -0.02),
    ('2026-01-02', None), ('5fec', None), ('–', None), ('', None), ('none', None), ('2layers', None)])
def test_a_cell_is_sorted_by_the_number_it_begins_with(text, expected):
    assert page_parts.number_in(text) == expected


def test_columns_of_numbers_stand_right_and_carry_what_they_are_sorted_by():
    text = page_parts.table(('arm', 'size', Cell('<i>0</i>', 'plot')), [
        ('a', '2 k', Cell('<b>x</b>', 0.5)), ('<b>', '–', Cell('y', None))], 'size')
    assert '<th scope="col" class="n" aria-sort="ascending"><span>size</span></th>' in text
    assert '<th scope="col"><span>plot</span><i>0</i></th>' in text
    assert '<tr><td>a</td><td class="n" data-sort="2000.0">2\xa0k</td><td data-sort="0.5"><b>x</b></td></tr>' in text
    assert '<tr><td>&lt;b&gt;</td><td class="n">–</td><td>y</td></tr>' in text


@pytest.fixture
def written(tmp_path):
    path = tmp_path / 'report.html'
    page.write(path, made_up.study(), made_up.runs())
    return path, path.read_bytes()


def test_a_page_that_cannot_be_made_or_written_is_a_user_error(written):
    path, before = written
    with pytest.raises(UserError, match='no arm'):
        page.write(path, made_up.study(arms=made_up.ARMS[:2]), made_up.runs())
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ['report.html']
    with pytest.raises(UserError, match=r'missing/report\.html'):
        page.write(path.parent / 'missing' / 'report.html', made_up.study(), made_up.runs())


def test_a_disk_that_fills_up_in_the_middle_of_a_page_leaves_the_old_one(written):
    path, before = written
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # the 1,001st byte of a file is refused
    try:
        with pytest.raises(UserError, match=r'report\.html'):
            page.write(path, made_up.study(question='Another?'), made_up.runs())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before


def test_a_page_that_cannot_take_its_place_leaves_the_old_one(written, monkeypatch):
    path, before = written

    def denied(*_):
        raise OSError(13, 'Permission denied')
    monkeypatch.setattr(os, 'replace', denied)
    with pytest.raises(UserError, match='Permission denied'):
        page.write(path, made_up.study(question='Another?'), made_up.runs())
    assert path.read_bytes() == before
