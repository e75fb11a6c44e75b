"""report.html: it needs nothing from outside, shows every arm and number, and no word can become code."""

import base64
import hashlib
import html.parser
import os
import re
import resource

import numpy as np
import pytest

from research.errors import UserError
from research.study import page
from tests.study import made_up

NONE, FIXED, MEAN, ADDITIVE, GENERAL = made_up.ARMS[:5]
HOSTILE = ('<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '&amp;', "'", '\ud800',
           '</style></title><b onclick=x>', ' ')


class Page(html.parser.HTMLParser):
    """Collects tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.code, self.inside = [], '', {'script': '', 'style': ''}, ''
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ''

    def handle_data(self, data):
        if self.inside in self.code:
            self.code[self.inside] += data
        else:
            self.text += data

    def all(self, tag, **attributes):
        return [found for name, found in self.tags
                if name == tag and all(found.get(key.rstrip('_')) == value for key, value in attributes.items())]


@pytest.fixture(scope='module')
def seven() -> Page:
    return Page(page.page(made_up.study(), made_up.runs()))


def hostile_page():
    arms = tuple(ADDITIVE._replace(name=word, summary=word, changes={word: word}) for word in HOSTILE)
    finding = made_up.FINDINGS[0]._replace(text=HOSTILE[1], measured=HOSTILE[0])
    study = made_up.study(arms=arms, question=HOSTILE[0], findings=(finding,), commands=HOSTILE[:2], notes=HOSTILE,
                          name=HOSTILE[5], task=HOSTILE[0], profile=HOSTILE[0])
    symbols = list(HOSTILE)
    example = {'rule': HOSTILE[0], 'source': symbols, 'answer': symbols, 'output': symbols[:2], 'right': False,
               'weights': np.full([3, len(symbols)], 0.125).tolist()}
    place = {'study': HOSTILE[5], 'task': HOSTILE[0], 'profile': HOSTILE[0], 'machine': HOSTILE[1],
             'versions': {HOSTILE[1]: HOSTILE[0]}}
    runs = [made_up.run(arm, 10, examples=[example, example | {'weights': None}], **place) for arm in arms]
    return study, [*runs, made_up.failed(arms[0], 11, HOSTILE[0]) | place]


def test_the_page_refers_to_nothing_outside_of_itself(seven):
    loading = {'src', 'srcset', 'data', 'action', 'poster', 'background', 'formaction', 'xlink:href'}
    for tag, attributes in seven.tags:
        assert tag not in ('link', 'iframe', 'object', 'embed', 'img', 'base', 'audio', 'video')
        assert not loading & set(attributes), (tag, attributes)
        assert attributes.get('href', '#').startswith('#')
    assert not re.search(r'url\(|@import|https?:|//', seven.code['style'] + seven.code['script'])


def test_the_policy_forbids_every_load_and_every_other_script(seven):
    policy, = [found['content'] for found in seven.all('meta') if found.get('http-equiv') == 'Content-Security-Policy']
    digest = base64.b64encode(hashlib.sha256(seven.code['script'].encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert len(seven.all('script')) == 1


def test_no_word_becomes_code(tmp_path):
    study, runs = hostile_page()
    page.write(tmp_path / 'report.html', study, runs)
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    found = Page(text)
    assert len(found.all('script')) == len(found.all('style')) == 1
    assert not found.all('img')
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith('on')]
    assert found.code['script'] == page.SCRIPT
    assert found.text.count('<script>alert(1)</script>') > 20  # it is all there to be read


def test_ids_are_unique_and_every_anchor_leads_somewhere(seven):
    ids = [attributes['id'] for _, attributes in seven.tags if 'id' in attributes]
    assert len(ids) == len(set(ids))
    assert {found['href'][1:] for found in seven.all('a')} <= set(ids)


def test_sections_stand_in_order(seven):
    assert [found['id'] for found in seven.all('section')] == [
        'expectations', 'ranking', 'lengths', 'learning', 'attention', 'differences', 'repeat']


def test_the_ranking_draws_every_run_where_its_score_is():
    runs = [made_up.run(ADDITIVE, 10, 0.625), made_up.run(ADDITIVE, 11, 0.875), made_up.run(NONE, 10, 0.125)]
    found = Page(page.page(made_up.study(), runs))
    assert [circle['cx'] for circle in found.all('circle', class_='run')] == ['62.50%', '87.50%', '12.50%']
    assert not found.all('line', class_='bar')
    strips = [attributes['class'] for _, attributes in found.tags if attributes.get('class', '').startswith('strip ')]
    assert strips[:2] == ['strip arm3', 'strip arm0']  # ranked by score, styled by the order of the study


def test_a_failed_run_is_a_cross_at_zero_and_draws_the_mean_down():
    text = page.page(made_up.study(), [made_up.run(ADDITIVE, 10, 0.5), made_up.failed(ADDITIVE, 11)])
    found = Page(text)
    assert [circle['cx'] for circle in found.all('circle', class_='run')] == ['50.00%']
    assert re.findall(r'<svg x="([^"]*)"[^>]*><path class="failed"[^>]*><title>([^<]*)', text) == [
        ('0%', 'seed 11: failed')]
    assert 'A cross at 0 is a failed run.' in found.text
    assert 'mean 25.0 %' in found.text
    assert found.all('svg', **{'aria-label': 'additive: mean 25.0 % of 2 runs, 1 of them failed'})
    assert 'A cross at 0' not in Page(page.page(made_up.study(), made_up.runs())).text


def test_everything_that_speaks_of_finished_runs_says_which_arms_have_others():
    known = {'error_rate': 0.9, 'shift': 1, 'error_rate_shifted': 0.03}
    runs = [made_up.run(ADDITIVE, 10, alignment=known), made_up.failed(ADDITIVE, 11)]
    sections = page.page(made_up.study(), runs).split('<section id="')[1:]
    said = 'Finished runs only; arms with failed runs: additive (1 finished, 1 failed).'
    assert [section.split('"')[0] for section in sections if said in section] == [
        'lengths', 'learning', 'attention', 'differences']
    assert 'Finished runs only' not in page.page(made_up.study(), made_up.runs())


def test_the_page_says_how_its_figures_came_about(seven):
    assert 'No significance was tested: these figures describe.' in seven.text.replace('\xa0', ' ')
    assert 'No interval (–) below 5 runs: every run is shown instead.' in seven.text
    assert 'seconds: train without measuring and saving, evaluate without compiling.' in seven.text
    runs = [made_up.run(ADDITIVE, seed) for seed in range(5)]
    assert '95 % interval: percentile bootstrap over runs, 10,000 resamples, seed 20140901.' in Page(
        page.page(made_up.study(), runs)).text


def test_the_page_says_what_its_maps_are(seven):
    text = ' '.join(seven.text.split())
    assert 'A cell is the weight of one position, the mean over heads and layers' in text
    assert 'longest, shortest and median examples are the same words for all runs; the worst are each run’s own' in text


def test_on_paper_every_panel_and_every_table_is_there(seven):
    style = seven.code['style']
    screen = style.index('@media screen{')
    assert style.count('.panel{display:none}') == 1
    assert style.index('.panel{display:none}') > screen > style.index('@media print')
    assert style[screen:].count('{') == style[screen:].count('}')  # nothing closes it early, and it ends the style
    assert not re.search(r'[^{}]}}[^{}]', style[screen:].replace('{display:block}}', ''))
    assert not seven.all('details')


def test_parameters_are_held_against_the_base_and_words_stand_left():
    runs = [made_up.run(NONE, 10, parameters_non_embedding=69_300), made_up.run(ADDITIVE, 10,
                                                                                parameters_non_embedding=100_000)]
    text = page.page(made_up.study(), runs)
    assert '<td class="n">−30.7\xa0%, not matched</td>' in text  # no line ends between number and unit
    assert '<td class="n">2.51\xa0M</td>' in text
    assert "<td>decoder.attention.name = &#x27;none&#x27;, without decoder.attention.energy_width</td>" in text
    assert '<th scope="col">arm</th><th scope="col">runs</th><th scope="col" class="n">accuracy %</th>' in text


def test_from_five_runs_on_the_ranking_draws_the_interval():
    found = Page(page.page(made_up.study(), [made_up.run(ADDITIVE, seed, 0.5 + seed / 50) for seed in range(5)]))
    bar, = found.all('line', class_='bar')
    assert 50 < float(bar['x1'][:-1]) < 54 < float(bar['x2'][:-1]) < 58


def test_lengths_are_drawn_as_mean_and_band_with_the_number_of_pairs():
    buckets = [[{'low': 1, 'high': 3, 'count': 1234, 'right': first}, {'low': 4, 'high': 9, 'count': 10, 'right': last}]
               for first, last in ((617, 2), (1234, 4))]
    found = Page(page.page(made_up.study(), [made_up.run(ADDITIVE, seed, by_length=rows)
                                             for seed, rows in enumerate(buckets)]))
    # Two buckets at -0.25 ... 1.25: x = 16.67 and 83.33; y runs downwards from 100 %.
    line, = [path['d'] for path in found.all('path', class_='series mean arm3') if path['d'].startswith('M16.67')]
    assert line == 'M16.67 25.00L83.33 70.00'
    band, = found.all('path', class_='series band arm3')
    assert band['d'] == 'M16.67 0.00L83.33 60.00L83.33 80.00L16.67 50.00z'
    assert '1,234' in found.text


def test_curves_draw_each_run_and_the_mean_as_far_as_every_run_goes():
    def curve(*losses):
        return [{'step': 100 * n, 'train_loss': loss, 'dev_loss': None, 'dev_accuracy': None}
                for n, loss in enumerate(losses)]
    runs = [made_up.run(ADDITIVE, 10, curve=curve(4.0, 2.0, 1.0)), made_up.run(ADDITIVE, 11, curve=curve(4.0, 1.0))]
    found = Page(page.page(made_up.study(), runs))
    ends = [path['d'].split('L')[-1].split()[0] for path in found.all('path', class_='series run arm3')]
    assert ends == ['100.00', '50.00']
    mean, = [path['d'] for path in found.all('path', class_='series mean arm3') if path['d'].startswith('M0.00')]
    assert mean.split('L')[-1] == f'50.00 {100 - 100 * 1.5 / (4 * 1.03):.2f}'
    assert 'Training loss' in found.text
    assert 'Dev loss' not in found.text  # nothing was measured


def test_every_weight_is_in_its_heat_map():
    example = made_up.run(ADDITIVE, 10, 0.712)['examples']
    found = Page(page.page(made_up.study(), [made_up.run(ADDITIVE, 10, 0.712)]))
    cells = [cell for cell in found.all('td') if 'style' in cell]
    expected = [f'{weight:.3g}' for shown in sorted(example, key=lambda one: len(one['source']))
                for row in shown['weights'] for weight in row if weight]
    assert [cell['title'] for cell in cells] == expected
    assert all(cell['style'] == f'--w:{cell["title"]}' for cell in cells)
    maps = found.all('table', tabindex='0')
    assert len(maps) == 8
    assert 'x y l o p h o n e'.replace(' ', '') in found.text


def test_negative_weights_are_marked():
    example = {'rule': 'worst', 'source': ['a', 'b'], 'answer': ['A'], 'output': ['A'], 'right': True,
               'weights': [[-0.25, 0.5]]}
    found = Page(page.page(made_up.study(), [made_up.run(ADDITIVE, 10, examples=[example])]))
    assert found.all('td', class_='minus') == [{'class': 'minus', 'style': '--w:0.25', 'title': '-0.25'}]


def test_arms_that_read_no_positions_say_so_and_show_what_they_wrote():
    found = Page(page.page(made_up.study(), [made_up.run(NONE, 10), made_up.run(FIXED, 10)]))
    assert found.text.count('reads no positions') == 16
    assert not [table for table in found.all('table') if table['class'].startswith('heat')]
    assert 'internationalization' in found.text


def test_one_panel_is_chosen_at_first_and_each_run_has_its_choice(seven):
    choices = seven.all('input', type='radio')
    assert len(choices) == len(seven.all('div', class_='maps')) == 14
    assert [choice['id'] for choice in choices if 'checked' in choice] == ['pick3-0']  # additive reads positions
    for choice in choices:
        assert f'#{choice["id"]}:checked) #{choice["id"].replace("pick", "panel")}{{display:block}}' in \
            seven.code['style']


def test_failed_and_missing_runs_are_shown():
    runs = [made_up.run(ADDITIVE, 10), made_up.failed(ADDITIVE, 11, 'loss is not finite'), made_up.failed(GENERAL, 10)]
    text = Page(page.page(made_up.study(), runs)).text
    for part in ('1 finished, 1 failed', 'loss is not finite', '11 failed', '10 failed', 'not run', '1 failed'):
        assert part in text, part
    assert all(arm.name in text for arm in made_up.ARMS)


def test_a_study_without_any_finished_run_still_has_a_page():
    for runs in ([], [made_up.failed(ADDITIVE, 10)]):
        text = Page(page.page(made_up.study(), runs)).text
        assert 'No run has finished yet.' in text
        assert ('failed and counts as 0 %' in text.replace('\xa0', ' ')) == bool(runs)
        assert 'python -m experiments.run' in text


def test_all_commands_and_versions_are_on_the_page(seven):
    for part in ('pip install -e .\npython -m experiments.run forgetting --profile cpu', '3.99.1',
                 '0.0.1, commit 0123456789ab'):
        assert part in seven.text, part


def test_expectations_carry_their_verdict_and_numbers(seven):
    for part in ('✓ met', '✗ not met', '– not measured', '71.2 % against 30.4 %', 'decoder.attention.window = 5'):
        assert part in seven.text, part


def test_each_arm_has_a_style_of_its_own_up_to_twenty():
    arms = tuple(ADDITIVE._replace(name=f'arm {n}') for n in range(20))
    style = Page(page.page(made_up.study(arms=arms), [])).code['style']
    looks = re.findall(r'\.arm\d+\{(--c:[^}]*)\}', style)
    assert len(looks) == len(set(looks)) == 20


def test_a_page_of_seven_arms_and_two_seeds_is_small():
    runs = made_up.runs()
    long = 'pneumonoultramicroscopic'  # 24 letters in every example, no weight zero
    flat = {'rule': 'longest', 'source': list(long), 'answer': list(long), 'output': list(long), 'right': True,
            'weights': np.random.default_rng(0).dirichlet(np.ones(25), 25).round(3).tolist()}
    text = page.page(made_up.study(), [run | {'examples': [flat] * 8} for run in runs])
    assert len(text.encode()) < 5e6


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


@pytest.mark.parametrize(('low', 'high'), [(0, 4.71), (0, 0.03), (0, 2000), (0, 1), (-1.2, 3.4), (0, 100_000), (5, 5)])
def test_ticks_are_few_round_and_inside(low, high):
    ticks = page._ticks(low, high)
    assert 1 <= len(ticks) <= 6
    assert all(low <= tick <= high + 1e-9 for tick in ticks)
    if high > low:
        assert len(ticks) >= 3
        assert f'{ticks[1] - ticks[0]:.6e}'[:8] in ('1.000000', '2.000000', '5.000000')
