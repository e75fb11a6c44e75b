"""report.html in a headless Chromium: by mouse and keyboard, in light, dark and on paper; skips where none is."""

import json
import re

import numpy as np
import pytest

from research.study import page
from tests.study import browser, made_up
from tests.study.test_page import hostile_page

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason='no Chromium here')
SHOWN = "[...document.querySelectorAll('#task>.panels>.panel')].map(one => getComputedStyle(one).display)"


@pytest.fixture(scope='module')
def chromium(tmp_path_factory):
    found = browser.Browser(tmp_path_factory.mktemp('browser'))
    yield found
    found.close()


@pytest.fixture(scope='module')
def study():
    return made_up.several(arms=12, seeds=10, tasks=('copy', 'recall'), heads=4)


@pytest.fixture(scope='module')
def path(tmp_path_factory, study):
    path = tmp_path_factory.mktemp('page') / 'report.html'
    page.write(path, *study)
    return path


@pytest.fixture
def opened(chromium, path):
    chromium.complaints.clear()
    chromium.open(path)
    chromium.wait("document.querySelector('.viewer .heat td[title]')")
    return chromium


def column(found, heading, table='#ranking0 table'):
    """The text of a column of a table, from the top; and what its heading says of the order."""
    return found.run(f'''(() => {{const table = document.querySelector({json.dumps(table)});
        const head = [...table.tHead.rows[0].cells].find(cell => cell.textContent.startsWith({json.dumps(heading)}));
        return [[...table.tBodies[0].rows].map(row => row.cells[head.cellIndex].textContent),
                head.ariaSort, [...table.tHead.rows[0].cells].filter(one => one.ariaSort !== 'none').length]}})()''')


def button(number, table='#ranking0 table'):
    return f'{table} th:nth-child({number}) button'


def test_a_page_of_twelve_arms_and_ten_seeds_opens_within_three_seconds_and_without_a_complaint(chromium, path):
    chromium.complaints.clear()
    chromium.requests.clear()
    assert path.stat().st_size < 15e6
    assert chromium.open(path) < 3
    chromium.wait("document.querySelector('.viewer .heat td[title]')")
    assert chromium.complaints == []
    assert chromium.requests == [path.as_uri()]


def test_a_click_on_a_heading_sorts_by_its_column_and_a_second_one_turns_it_round(opened):
    scores, order, sorted_by = column(opened, 'place')
    assert (scores, order, sorted_by) == ([str(n) for n in range(1, 13)], 'ascending', 1)
    opened.click(button(4))
    scores, order, sorted_by = column(opened, 'exactly')
    numbers = [float(score.split()[0]) for score in scores]
    assert numbers == sorted(numbers)
    assert (order, sorted_by) == ('ascending', 1)
    opened.click(button(4))
    scores, order, _ = column(opened, 'exactly')
    assert [float(score.split()[0]) for score in scores] == numbers[::-1]
    assert order == 'descending'


@pytest.mark.parametrize('key', ['Enter', 'Space'])
def test_the_keyboard_sorts_too(opened, key):
    opened.focus(button(1))
    opened.press('Tab')
    assert opened.run('document.activeElement.textContent') == 'arm'
    opened.press(key)
    names, order, _ = column(opened, 'arm')
    names = [re.match(r'\w+?(?=control|weighs|reads|compares)', name)[0] for name in names]
    assert names == sorted(names)
    assert order == 'ascending'


def test_every_table_sorts_by_every_column_and_keeps_its_rows(opened):
    tables = opened.run('''[...document.querySelectorAll('table.data')].map(table => {
        const rows = () => [...table.tBodies[0].rows].map(row => row.textContent).sort().join();
        const before = rows(), heads = [...table.tHead.rows[0].cells];
        for (const head of heads) { head.querySelector('button').click(); head.querySelector('button').click(); }
        return [heads.length, before === rows(), heads.at(-1).ariaSort]})''')
    assert len(tables) > 15
    assert all(same and order == 'descending' for _, same, order in tables)


def test_what_is_missing_stands_last_in_both_directions(chromium, tmp_path):
    runs = [made_up.run(made_up.ARMS[n], 10, score) for n, score in ((3, 0.7), (0, 0.2), (2, 0.095))]
    page.write(tmp_path / 'report.html', made_up.study(), runs)
    chromium.open(tmp_path / 'report.html')
    for expected in (['9.5', '20.0', '70.0'], ['70.0', '20.0', '9.5']):  # numbers, not words
        chromium.click(button(4))
        assert column(chromium, 'exactly')[0] == [f'{score}\xa0%' for score in expected] + ['not run'] * 4


def test_one_task_is_shown_at_a_time_and_the_arrow_keys_change_it(opened):
    assert opened.run(SHOWN) == ['block', 'none']
    opened.click('label:has(#task-1)')
    assert opened.run(SHOWN) == ['none', 'block']
    opened.focus('#task-1')
    opened.press('ArrowLeft')
    assert opened.run(SHOWN) == ['block', 'none']


def test_an_arm_can_be_left_out_of_the_charts_by_keyboard(opened):
    lines = "[...document.querySelectorAll('#lengths0 path.mean.arm3')].map(one => getComputedStyle(one).display)"
    assert opened.run(lines) == ['inline']
    opened.focus('#arm3')
    opened.press('Space')
    assert opened.run(lines) == ['none']


def choose(found, place, value):
    """Sets one of the four lists of the first viewer."""
    found.run(f'''(() => {{const list = document.querySelectorAll('.viewer select')[{place}];
        list.value = {value}; list.dispatchEvent(new Event('change'))}})()''')


def shown(found):
    """The weights of the map in thousandths, and its caption."""
    return found.run('''(() => {const map = document.querySelector('.viewer');
        return [[...map.querySelectorAll('tbody tr')].map(row => [...row.querySelectorAll('td')].map(cell =>
                Math.round(1000 * cell.title))), map.querySelector('figcaption').textContent]})()''')


def test_the_viewer_shows_the_weights_of_the_arm_seed_example_and_head_that_are_chosen(opened, study):
    arms = list(study[0].arms)
    runs = [run for run in study[1] if run['task'] == 'copy']
    names = opened.run("[...document.querySelectorAll('.viewer select')].map(one => one.options[one.value].text)")
    assert names[0] == 'additive'
    assert re.fullmatch(r'10 \(\d\d\.\d %\)', names[1])
    assert names[3] == 'mean of all heads'
    for arm, seed, example, head in ((3, 0, 2, -1), (3, 4, 2, 1), (6, 4, 7, 3), (2, 9, 5, -1)):
        for place, value in enumerate((arm, seed, example, head + 1)):
            choose(opened, place, value)
            opened.run('new Promise(done => setTimeout(done, 100))')  # it may be unpacking
        run = next(run for run in runs if (run['arm'], run['seed']) == (arms[arm].name, 10 + seed))
        whole = sorted(run['examples'], key=lambda one: len(one['source']))[example]
        weights = np.array(whole['weights'])
        found, caption = shown(opened)
        expected = weights.mean(axis=0) if head < 0 else weights[head]
        np.testing.assert_allclose(np.array(found) / 1000, expected, atol=0.0011)
        assert ''.join(whole['source']) in caption
        assert ('✓ right' in caption) == whole['right']


def test_the_lists_of_the_viewer_obey_the_keyboard(opened):
    before = shown(opened)
    opened.focus('.viewer select[data-choose=head]')
    opened.press('ArrowDown')
    assert opened.run("document.querySelector('.viewer select[data-choose=head]').value") == '1'
    after = shown(opened)
    assert after[1] == before[1]
    assert after[0] != before[0]
    opened.focus('.viewer select[data-choose=arm]')
    opened.press('ArrowUp')
    opened.wait("document.querySelector('.viewer').className === 'viewer arm2'")


def test_an_arm_that_reads_nothing_says_so(opened):
    choose(opened, 0, 0)
    opened.wait("document.querySelector('.viewer .heat').textContent === 'reads no positions'")
    assert opened.run("document.querySelector('.viewer select[data-choose=head]').textContent") == 'none'
    opened.focus('.viewer .heat')
    opened.press('ArrowRight')
    assert opened.complaints == []


def test_pointing_at_a_cell_and_the_arrow_keys_read_its_weight(opened):
    found, _ = shown(opened)
    said = "document.querySelector('.viewer output').textContent"
    opened.point('.viewer tbody tr:nth-child(2) td:nth-child(3)')
    heads = opened.run("[...document.querySelectorAll('.viewer .heat th')].map(one => one.textContent)")
    width = len(found[0])
    assert opened.run(said) == f'{heads[width + 1]} reads {heads[1]}: {found[1][1] / 1000:.3f}'
    opened.focus('.viewer .heat')
    for key, (row, place) in (('ArrowRight', (1, 2)), ('ArrowDown', (2, 2)), ('ArrowLeft', (2, 1)), ('ArrowUp', (1, 1)),
                              ('ArrowLeft', (1, 0)), ('ArrowLeft', (1, 0))):  # the edge holds
        opened.press(key)
        assert opened.run(said) == f'{heads[width + row]} reads {heads[place]}: {found[row][place] / 1000:.3f}'


def contrast(one, other):
    """Of two colours [r, g, b]. Source: W3C, WCAG 2.1, contrast ratio and relative luminance."""
    light = [sum(share * (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4) for share, part in
                 zip((0.2126, 0.7152, 0.0722), np.array(colour) / 255, strict=True)) for colour in (one, other)]
    return (max(light) + 0.05) / (min(light) + 0.05)


@pytest.mark.parametrize(('dark', 'paper'), [(False, False), (True, False), (True, True)])
def test_text_can_be_read_in_light_in_the_dark_and_on_paper(opened, dark, paper):
    opened.call('Emulation.setEmulatedMedia', media='print' if paper else 'screen', features=[
        {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}])
    behind, *colours = opened.run('''['body', 'h1', 'figcaption', '.verdict.right', '.verdict.wrong',
        '.verdict.missing', '.verdict.open', 'a', '.note', '.data th'].map(name => {
        const style = getComputedStyle(document.querySelector(name));
        return (name === 'body' ? style.backgroundColor : style.color).match(/[0-9]+/g).map(Number)})''')
    assert (sum(behind) < 200) == (dark and not paper)
    assert all(contrast(colour, behind) >= 4.5 for colour in colours)  # WCAG 2.1, level AA


def test_paper_has_every_task_and_nothing_to_choose(opened):
    opened.call('Emulation.setEmulatedMedia', media='print')
    assert opened.run(SHOWN) == ['block', 'block']
    assert opened.run("""['nav', '.chips', '.selects'].map(name =>
        getComputedStyle(document.querySelector(name)).display)""") == ['none'] * 3
    opened.call('Emulation.setEmulatedMedia', media='screen')


@pytest.mark.parametrize('width', [360, 768, 1280])
def test_the_page_is_never_wider_than_its_window(opened, width):
    opened.call('Emulation.setDeviceMetricsOverride', width=width, height=800, deviceScaleFactor=1, mobile=False)
    assert opened.run('document.documentElement.scrollWidth') <= width
    opened.call('Emulation.clearDeviceMetricsOverride')


def test_no_word_of_a_study_does_anything(chromium, tmp_path):
    chromium.complaints.clear()
    chromium.requests.clear()
    page.write(tmp_path / 'report.html', *hostile_page())
    chromium.open(tmp_path / 'report.html')
    chromium.wait("document.querySelector('.viewer .heat').textContent === 'reads no positions'")
    choose(chromium, 2, 0)
    assert chromium.complaints == []
    assert chromium.requests == [(tmp_path / 'report.html').as_uri()]
    assert chromium.run("document.querySelectorAll('img, [onclick], script').length") == 3
    assert '<script>alert(1)</script>' in chromium.run("document.querySelector('.viewer .heat').textContent")
