"""A study as one page that opens anywhere: report.html, without network, fonts or files beside it.

Every chart is SVG whose positions are percentages, so that it fits a telephone and paper while its text keeps its size.
Colours are CSS variables, for light, dark and print. An arm has one colour, one dash and one marker on the whole page.
The only script moves the reading of a heat-map with pointer and keyboard; without it the page loses nothing else.
"""

import base64
import hashlib
import math
import os
import re
from collections.abc import Iterable
from html import escape

from research.study.card import (
    ALIGNMENT,
    COSTS,
    RANKING,
    SCORE,
    SECONDS,
    VERDICTS,
    alignment,
    answer,
    base_of,
    changes,
    costs,
    count,
    environment,
    interval,
    interval_note,
    left_out,
    length_rows,
    lengths,
    percent,
    plural,
    ranking,
    ranking_row,
    save,
    short,
    span,
)
from research.study.records import StudyInfo
from research.study.statistics import LEVEL, mean

# Okabe and Ito's colours for every kind of colour vision, without yellow (paper swallows it); last the text's own.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#E69F00', '#CC79A7', '#56B4E9', 'var(--ink)')
DASHES = ('none', '8 3', '2 3', '9 3 2 3', '5 2')
MARKERS = ('M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z', 'M-3.6-3.6h7.2v7.2h-7.2z', 'M0-4.8L4.6 3.4H-4.6z',
           'M0-5L5 0L0 5L-5 0z')
END = '¶'  # stands for the end symbol beside a heat-map; every font has it


def write(path: str | os.PathLike, study: StudyInfo, records: Iterable[dict]) -> None:
    """Writes the page of a study, whole or not at all.

    Raises:
      UserError: the file cannot be written, or the records do not belong together (`records.select`).
    """
    save(path, page(study, records))


def page(study: StudyInfo, records: Iterable[dict]) -> str:
    """The page as text. Raises UserError as `records.select` does."""
    standings = ranking(study, records)
    order = {arm.name: n for n, arm in enumerate(study.arms)}
    by_study = sorted(standings, key=lambda standing: order[standing.arm.name])
    # The policy lets the page load nothing and run no script but the one below: a word cannot become code.
    hashed = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hashed}'"
    sections = (
        ('expectations', 'Expectations', _expectations(study)),
        ('ranking', 'Ranking', _ranking(standings, order)),
        ('lengths', 'Accuracy by source length', _lengths(by_study)),
        ('learning', 'Learning', _learning(by_study)),
        ('attention', 'What it reads', _attention(by_study)),
        ('differences', 'What differs', _differences(by_study)),
        ('repeat', 'How to repeat', _repeat(study, by_study)),
    )
    return f'''<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(study.name)}: {escape(study.question)}</title>
<style>{STYLE}{_arm_style(study)}{_choice_style(by_study)}</style>
</head>
<body>
<header>
<p class="eyebrow">Study {escape(study.name)} · task {escape(study.task)} · profile {escape(study.profile)}</p>
<h1>{escape(study.question)}</h1>
<p class="answer">{_unbroken(answer(standings))}</p>
<nav aria-label="Sections">{''.join(f'<a href="#{name}">{title}</a>' for name, title, _ in sections)}</nav>
</header>
{_legend(study)}
<main>
{''.join(f'<section id="{name}"><h2>{title}</h2>{body}</section>' for name, title, body in sections)}
</main>
<script>{SCRIPT}</script>
</body>
</html>
'''


# Sections, in the order of the page.


def _ranking(standings, order):
    rows = ''.join(_strip(standing, order[standing.arm.name]) for standing in standings)
    ticks = ''.join(f'<span style="left:{value}%">{value}</span>' for value in range(0, 101, 25))
    enough = any(standing.scores and standing.scores['interval'] for standing in standings)
    bar = f' The bar is the {100 * LEVEL:.0f} % bootstrap interval of the mean over runs.' if enough else ''
    failures = [[run['arm'], str(run['seed']), run['error']] for standing in standings for run in standing.failed]
    cross = ' A cross at 0 is a failed run.' if failures else ''
    cells = [ranking_row(place, standing) for place, standing in enumerate(standings, 1)]
    return f'''<figure><figcaption><b>Exactly right on the test set, %</b> Each small dot is one run, the large marker
their mean.{bar}{cross}</figcaption>
<div class="strips">{rows}<div class="scale"><div class="ticks">{ticks}</div></div></div>
</figure>{_table(RANKING, cells, words=(RANKING.arm, RANKING.runs))}{_note(interval_note(standings))}
{_failures(failures)}'''


def _strip(standing, n):
    scores = standing.scores
    marks = ''.join(f'<line class="grid" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>' for x in range(0, 101, 25))
    value = f'<b class="missing">{escape(standing.state)}</b>'
    if scores:
        if scores['interval']:
            low, high = (100 * end for end in scores['interval'])
            marks += f'<line class="bar" x1="{low:.2f}%" x2="{high:.2f}%" y1="34%" y2="34%"/>'
        for run in standing.finished:
            score = run['scores'][SCORE]
            marks += (f'<circle class="run" cx="{100 * score:.2f}%" cy="72%" r="3.5"><title>seed {run["seed"]}: '
                      f'{percent(score)}</title></circle>')
        for run in standing.failed:
            marks += (f'<svg x="0%" y="72%" overflow="visible"><path class="failed" d="M-4-4L4 4M-4 4L4-4">'
                      f'<title>seed {run["seed"]}: failed</title></path></svg>')
        marks += _marker(n, 100 * scores['mean'], 34, f'mean {percent(scores["mean"])}', 'large')
        failed = f' <b class="missing">{len(standing.failed)} failed</b>' if standing.failed else ''
        value = f'<b>{percent(scores["mean"])}</b>{failed}'
    tag = '<span class="tag">control</span>' if standing.arm.control else ''
    return (f'<div class="strip arm{n}"><div class="who"><b>{escape(standing.arm.name)}</b>{tag}'
            f'<small>{escape(standing.arm.summary)}</small></div>'
            f'<div class="track"><svg role="img" aria-label="{escape(standing.arm.name)}: '
            f'{escape(_spoken(standing))}">{marks}</svg></div>'
            f'<div class="value">{value}</div></div>')


def _spoken(standing):
    scores = standing.scores
    if not scores:
        return standing.state
    spread = f', interval {interval(scores["interval"])}' if scores['interval'] else ''
    failed = f', {len(standing.failed)} of them failed' if standing.failed else ''
    return f'mean {percent(scores["mean"])} of {plural(scores["n"], "run")}{failed}{spread}'


def _failures(rows):
    if not rows:
        return ''
    return ('<h3>Failed runs</h3><p>They count as 0 % and are not replaced.</p>'
            + _table(('arm', 'seed', 'error'), rows, words=('arm', 'error')))


def _lengths(standings):
    buckets, by_length = lengths(standings)
    if not buckets:
        return '<p class="missing">No finished run.</p>'
    lines, bands, marks, ends = [], [], [], []
    last = len(buckets) - 1
    for n, standing in enumerate(standings):
        rates = by_length.get(standing.arm.name, [])
        known = [(x, rate) for x, rate in enumerate(rates) if rate]
        if not known:
            continue
        lines.append((n, 'mean', [(x, rate[0]) for x, rate in known]))
        bands.append((n, [(x, rate[2]) for x, rate in known] + [(x, rate[1]) for x, rate in reversed(known)]))
        marks += [(n, x, rate[0], f'{standing.arm.name}, length {span(buckets[x])}: {percent(rate[0])}, runs '
                   f'{percent(rate[1])} to {percent(rate[2])}') for x, rate in known]
        ends.append((n, known[-1][1][0], standing.arm.name))
    ticks = [(x, span(bucket), count(bucket['count'])) for x, bucket in enumerate(buckets)]
    chart = _chart(lines, bands, marks, (-0.25, last + 0.25), (0, 1), ticks, _shares(), ends,
                   'Accuracy by source length, one line an arm; the table below holds the numbers')
    return f'''<figure class="wide"><figcaption><b>Exactly right, %</b> Line: mean over runs. Band: lowest to highest
run.</figcaption>{chart}<p class="axis">source length in symbols; below it the number of test pairs</p></figure>
{_table(('source length', 'test pairs', *by_length), length_rows(buckets, by_length), words=('source length',))}
<p class="note">Mean over runs in percent; lowest and highest run in brackets.</p>{_note(left_out(standings))}'''


def _learning(standings):
    charts = [_curves(standings, 'dev_accuracy', 'Dev accuracy, %', True),
              _curves(standings, 'dev_loss', 'Dev loss for each token', False),
              _curves(standings, 'train_loss', 'Training loss for each token', False)]
    charts = [chart for chart in charts if chart]
    if not charts:
        return '<p class="missing">No curve was recorded.</p>'
    return f'''<p>Thin lines are runs. The thick line is their mean, as far as every run goes.</p>
{_note(left_out(standings))}<div class="charts">{''.join(charts)}</div>'''


def _curves(standings, key, title, share):
    lines, marks = [], []
    for n, standing in enumerate(standings):
        curves = [{row['step']: row[key] for row in run['curve'] if row[key] is not None} for run in standing.finished]
        curves = [curve for curve in curves if curve]
        lines += [(n, 'run', sorted(curve.items())) for curve in curves]
        shared = sorted(set.intersection(*map(set, curves))) if curves else []
        if shared:
            means = [(step, mean([curve[step] for curve in curves])) for step in shared]
            lines.append((n, 'mean', means))
            value = percent(means[-1][1]) if share else f'{means[-1][1]:.3f}'
            marks.append((n, *means[-1], f'{standing.arm.name}, step {means[-1][0]}: {value}'))
    points = [point for _, _, line in lines for point in line]
    if not points:
        return ''
    last = max(step for step, _ in points) or 1
    steps = [(step, short(step), '') for step in _ticks(0, last)]
    high = max(value for _, value in points)
    low = min(0, *(value for _, value in points))
    levels = _shares() if share else [(value, f'{value:g}') for value in _ticks(low, high)]
    chart = _chart(lines, [], marks, (0, last), (0, 1) if share else (low, high * 1.03 or 1), steps, levels, [], title)
    return f'<figure><figcaption><b>{title}</b></figcaption>{chart}<p class="axis">training step</p></figure>'


def _attention(standings):
    if not any(standing.finished for standing in standings):
        return '<p class="missing">No finished run.</p>'
    choices, panels = '', ''
    for n, standing in enumerate(standings):
        chips = ''
        for m, run in enumerate(standing.finished):
            first = ' checked' if (n, m) == _first_choice(standings) else ''
            spoken = f'{escape(standing.arm.name)}, seed {run["seed"]}'
            chips += (f'<label><input type="radio" name="shown" id="pick{n}-{m}"{first} aria-label="{spoken}">'
                      f'<span>{run["seed"]}</span></label>')
            panels += _panel(standing, run, n, m)
        chips += ''.join(f'<span class="missing">{run["seed"]} failed</span>' for run in standing.failed)
        choices += (f'<div class="choice arm{n}"><span>{_swatch(n)}{escape(standing.arm.name)}</span>'
                    f'<span class="chips">{chips or "<span class=missing>not run</span>"}</span></div>')
    rows = [[standing.arm.name, *row] for standing in standings if (row := alignment(standing))]
    known = ('<h3>Against the known alignment</h3>' + _table(('arm', *ALIGNMENT), rows, words=('arm',))
             + _note(left_out(standings))) if rows else ''
    return f'''<p>Rows are what was written, columns the source, {END} the end symbol. A cell is the weight of one
position, the mean over heads and layers: <span class="scales">0 <span class="ramp"></span> 1</span>. Point at it, or
focus a map and use the arrow keys, to read it.</p>
<p>The longest, shortest and median examples are the same words for all runs; the worst are each run’s own.</p>
<fieldset class="choices"><legend>Arm and seed</legend>{choices}</fieldset>
{panels}{known}'''


def _first_choice(standings):
    """The arm and run that the page opens with: the first that reads positions, else the first there is."""
    places = [(n, m) for n, standing in enumerate(standings) for m in range(len(standing.finished))]
    reads = [(n, m) for n, m in places
             if any(example['weights'] for example in standings[n].finished[m]['examples'])
             and not standings[n].arm.control]
    return (reads or places or [None])[0]


def _panel(standing, run, n, m):
    examples = sorted(run['examples'], key=lambda example: len(example['source']))
    letters = all(len(symbol) == 1 for example in examples for symbol in example['answer'] + example['output'])
    right = sum(example['right'] for example in examples)
    cards = ''.join(_example(example, letters) for example in examples)
    return f'''<div class="panel arm{n}" id="panel{n}-{m}">
<h3>{_swatch(n)}{escape(standing.arm.name)}, seed {run['seed']}
<small>right: {percent(run['scores'][SCORE])} of the test set, {right} of these {len(examples)}</small></h3>
<div class="maps">{cards or '<p class="missing">No example of this run was kept.</p>'}</div></div>
'''


def _example(example, letters):
    source = _line(example['source'], all(len(symbol) == 1 for symbol in example['source']))
    output, wanted = (_line(example[key], letters) for key in ('output', 'answer'))
    mark = '<span class="right">✓ right</span>' if example['right'] else '<span class="wrong">✗ wrong</span>'
    answered = '' if example['right'] else f'<div><dt>answer</dt><dd>{wanted}</dd></div>'
    if example['weights'] is None:
        body = '<p class="nothing">reads no positions</p>'
    elif not example['weights']:
        body = '<p class="nothing">no weights: nothing was written</p>'
    else:
        body = _heat(example)
    return f'''<figure class="map"><figcaption><span class="rule">{escape(example['rule'])}</span>{mark}
<b>{source}</b><dl><div><dt>wrote</dt><dd>{output}</dd></div>{answered}</dl></figcaption>{body}</figure>
'''


def _heat(example):
    weights = example['weights']
    columns = _axis(example['source'], len(weights[0]))
    rows = _axis(example['output'], len(weights))
    size = 'small' if len(columns) > 14 else ''
    head = ''.join(f'<th scope="col"{" class=tall" if len(symbol) > 2 else ""}><bdi>{escape(symbol)}</bdi>'
                   for symbol in columns)
    body = ''.join(f'<tr><th scope="row"><bdi>{escape(symbol)}</bdi>{"".join(map(_weight, row))}'
                   for symbol, row in zip(rows, weights))
    # A page holds thousands of cells: those that are zero stay empty, and HTML does not need their end tags.
    return (f'<div class="scroll"><table class="heat {size}" tabindex="0" aria-label="Attention weights; the '
            f'arrow keys read them"><thead><tr><td>{head}<tbody>{body}</table></div>'
            '<output aria-live="polite">&nbsp;</output>')


def _weight(value):
    if not value:
        return '<td>'
    sign = ' class=minus' if value < 0 else ''
    return f'<td{sign} style=--w:{abs(value):.3g} title={value:.3g}>'


def _axis(symbols, length):
    return [symbol.strip() or '␣' for symbol in symbols] + [END] * (length - len(symbols))


def _line(symbols, letters):
    """Symbols as a line: letters side by side, others with spaces between them."""
    line = ('' if letters else ' ').join(symbols)
    return f'<bdi>{escape(line)}</bdi>' if line.strip() else '<i>nothing</i>'


def _differences(standings):
    base = base_of(standings)
    spent = [costs(standing, base) for standing in standings]
    points = [(n, math.log10(1 + mean([run['readable_floats'] for run in standing.finished])), standing)
              for n, standing in enumerate(standings) if standing.finished]
    figure = ''
    if points:
        last = max(1, math.ceil(max(x for _, x, _ in points)))
        marks = [(n, x, standing.scores['mean'], f'{standing.arm.name}: {spent[n].readable_floats} floats, '
                  f'{percent(standing.scores["mean"])}') for n, x, standing in points]
        ticks = [(0, '0', ''), *[(math.log10(1 + 10 ** power), short(10 ** power), '') for power in range(1, last + 1)]]
        ends = [(n, standing.scores['mean'], standing.arm.name) for n, _, standing in points]
        chart = _chart([], [], marks, (-0.1, last + 0.1), (0, 1), ticks, _shares(), ends,
                       'Accuracy against the floats of source state that a step may read')
        figure = f'''<figure><figcaption><b>Exactly right, %, against what a step may read</b> One marker an arm, at the
mean of its runs.</figcaption>{chart}<p class="axis">floats of source state readable at each step, at the mean source
length; logarithmic</p></figure>'''
    prices = _table(('arm', *COSTS), [(standing.arm.name, *cost) for standing, cost in zip(standings, spent)],
                    words=('arm',))
    declared = _table(('arm', 'declared changes'), [(standing.arm.name, ', '.join(changes(standing.arm.changes)))
                                                    for standing in standings], words=('arm', 'declared changes'))
    return f'{figure}{prices}{_note(f"{SECONDS}.")}{_note(left_out(standings))}<div class="prose">{declared}</div>'


def _expectations(study):
    if not study.findings:
        return '<p class="missing">None were written down before the runs.</p>'
    signs = {True: '✓', False: '✗', None: '–'}
    kinds = {True: 'right', False: 'wrong', None: 'missing'}
    rows = ''.join(f'<li><span class="verdict {kinds[finding.met]}">{signs[finding.met]} {VERDICTS[finding.met]}</span>'
                   f'<div>{escape(finding.text)}<small>{escape(finding.measured)}</small></div></li>'
                   for finding in study.findings)
    return f'<p>Written down before the runs.</p><ul class="findings">{rows}</ul>'


def _repeat(study, standings):
    facts = ''.join(f'<div><dt>{escape(name)}</dt><dd>{escape("; ".join(values))}</dd></div>'
                    for name, values in environment(standings).items())
    notes = ''.join(f'<li>{escape(note)}</li>' for note in study.notes)
    commands = escape('\n'.join(study.commands))
    return f'''<pre tabindex="0">{commands}</pre><dl class="facts">{facts}</dl>
{f'<h3>Notes</h3><ul>{notes}</ul>' if notes else ''}'''


# Parts that several sections use.


def _chart(lines, bands, marks, x_range, y_range, x_ticks, y_ticks, ends, label):
    """A chart that fills its width.

    Shapes lie in an inner picture of 100 x 100 that is stretched; text and markers are placed by percentages around it.

    Args:
      lines: (arm, 'mean' or 'run', [(x, y)]).
      bands: (arm, [(x, y)] around it).
      marks: (arm, x, y, what it says when pointed at).
      x_range, y_range: (low, high).
      x_ticks: (x, text, second line).
      y_ticks: (y, text).
      ends: (arm, y, name) written at the right end.
      label: what the picture shows, for those who do not see it.
    """
    def across(x):
        return 100 * (x - x_range[0]) / (x_range[1] - x_range[0])

    def down(y):
        return 100 - 100 * (y - y_range[0]) / (y_range[1] - y_range[0])

    def path(points):
        return 'M' + 'L'.join(f'{across(x):.2f} {down(y):.2f}' for x, y in points)

    outer = ''.join(f'<line class="grid" x1="0" x2="100%" y1="{down(y):.2f}%" y2="{down(y):.2f}%"/>'
                    f'<text class="y" x="-8" y="{down(y):.2f}%" dy=".35em">{escape(text)}</text>'
                    for y, text in y_ticks)
    outer += ''.join(f'<text x="{across(x):.2f}%" y="100%" dy="1.5em">{escape(text)}</text>'
                     + (f'<text class="second" x="{across(x):.2f}%" y="100%" dy="3em">{escape(second)}</text>'
                        if second else '') for x, text, second in x_ticks)
    inner = ''.join(f'<path class="series band arm{n}" d="{path(points)}z"/>' for n, points in bands)
    inner += ''.join(f'<path class="series {kind} arm{n}" d="{path(points)}"/>'
                     for n, kind, points in sorted(lines, key=lambda line: line[1] == 'mean'))
    dots = ''.join(_marker(n, across(x), down(y), text) for n, x, y, text in marks)
    names = ''
    ends = sorted(ends, key=lambda end: -end[1])
    for (n, _, name), y in zip(ends, _apart([down(y) for _, y, _ in ends], 6)):
        names += (f'<svg class="series name arm{n}" x="100%" y="{y:.2f}%" overflow="visible"><path class="mark" '
                  f'transform="translate(12)" d="{MARKERS[n % len(MARKERS)]}"/>'
                  f'<text class="end" x="22" dy=".35em">{escape(name)}</text></svg>')
    return (f'<svg class="plot{" named" if ends else ""}" role="img" aria-label="{escape(label)}">{outer}'
            f'<svg width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none">{inner}</svg>'
            f'{dots}{names}</svg>')


def _apart(heights, gap):
    """Heights in percent from the top, sorted, moved as little as needed to stand `gap` apart and end at 100."""
    moved = []
    for height in heights:
        moved.append(max(height, moved[-1] + gap) if moved else height)
    for n in reversed(range(len(moved))):
        moved[n] = min(moved[n], 100 if n == len(moved) - 1 else moved[n + 1] - gap)
    return moved


def _marker(n, x, y, text, size=''):
    return (f'<svg class="series arm{n}" x="{x:.2f}%" y="{y:.2f}%" overflow="visible"><path class="mark {size}" '
            f'd="{MARKERS[n % len(MARKERS)]}"><title>{escape(text)}</title></path></svg>')


def _swatch(n):
    return (f'<svg class="swatch arm{n}" aria-hidden="true"><line class="mean" x1="0" x2="100%" y1="50%" y2="50%"/>'
            f'<svg x="50%" y="50%" overflow="visible"><path class="mark" d="{MARKERS[n % len(MARKERS)]}"/></svg></svg>')


def _legend(study):
    keys = ''.join(f'<label><input type="checkbox" checked id="arm{n}">{_swatch(n)}{escape(arm.name)}</label>'
                   for n, arm in enumerate(study.arms))
    return f'<fieldset class="legend"><legend>Arms shown in the charts</legend>{keys}</fieldset>'


def _table(headings, rows, words):
    """A table; columns whose heading is in `words` hold words and stand left, the others numbers."""
    sides = ['' if heading in words else ' class="n"' for heading in headings]
    head = ''.join(f'<th scope="col"{side}>{escape(text)}</th>' for side, text in zip(sides, headings))
    body = ''.join(f'<tr>{"".join(f"<td{side}>{_unbroken(cell)}</td>" for side, cell in zip(sides, row))}</tr>'
                   for row in rows)
    return ('<div class="scroll" role="region" aria-label="table" tabindex="0">'
            f'<table class="data"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def _unbroken(text):
    """Text in which no line ends between a number and its unit."""
    return re.sub(r'(?<=\d) (?=%|[kMGT]\b)', '\N{NO-BREAK SPACE}', escape(text))


def _note(text):
    return f'<p class="note">{escape(text)}</p>' if text else ''


def _shares():
    return [(value / 100, str(value)) for value in range(0, 101, 25)]


def _ticks(low, high):
    """At most six round numbers (1, 2 or 5 times a power of ten apart) from low to high."""
    size = 10 ** math.floor(math.log10((high - low) / 5)) if high > low else 1
    step = next(size * factor for factor in (1, 2, 5, 10) if (high - low) / (size * factor) <= 5)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def _arm_style(study):
    rules = ''
    for n in range(len(study.arms)):
        rules += (f'.arm{n}{{--c:{COLOURS[n % len(COLOURS)]};--dash:{DASHES[n % len(DASHES)]}}}'
                  f'body:has(#arm{n}:not(:checked)) .plot .series.arm{n}{{display:none}}')
    return rules


def _choice_style(standings):
    rules = ''.join(f'body:has(#pick{n}-{m}:checked) #panel{n}-{m}{{display:block}}'
                    for n, standing in enumerate(standings) for m in range(len(standing.finished)))
    # On paper nobody can choose: all panels are printed.
    return f'@media screen{{@supports selector(:has(a)){{.panel{{display:none}}{rules}}}}}'


STYLE = '''
:root{--paper:#fcfcfa;--ink:#1a1d21;--soft:#59616b;--rule:#d8dbe0;--card:#fff;--heat:0 90 150;--minus:213 94 0;
--good:#00694d;--bad:#a63f00;--link:#005a94}
@media (prefers-color-scheme:dark){:root{--paper:#13161a;--ink:#e8eaed;--soft:#a0a8b3;--rule:#343b44;--card:#1b1f25;
--heat:110 195 245;--minus:240 140 60;--good:#4fd1a5;--bad:#ff9a5c;--link:#7cc4f2}}
*{box-sizing:border-box}
html{scroll-padding-top:4.5rem}
body{margin:0 auto;padding:0 clamp(1rem,4vw,3rem) 4rem;max-width:76rem;background:var(--paper);color:var(--ink);
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;font-variant-numeric:tabular-nums}
header{padding:clamp(2rem,6vw,4.5rem) 0 1rem}
.eyebrow{margin:0 0 .75rem;color:var(--soft);font-size:.875rem;letter-spacing:.02em}
h1{margin:0;max-width:26ch;font-size:clamp(1.75rem,4.6vw,3rem);line-height:1.12;letter-spacing:-.02em;text-wrap:balance}
.answer{max-width:60ch;margin:1.25rem 0 1.5rem;font-size:clamp(1.05rem,2vw,1.25rem);line-height:1.5}
nav{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;font-size:.9375rem}
a{color:var(--link);text-underline-offset:.2em}
section{margin-top:3.5rem;padding-top:1.25rem;border-top:1px solid var(--rule)}
section:first-child{margin-top:.75rem;border:0}
h2{margin:0 0 1rem;font-size:1.5rem;line-height:1.2;letter-spacing:-.01em}
h3{margin:1.75rem 0 .75rem;font-size:1.0625rem}
h3 small,figcaption,.axis,.who small,.findings small{color:var(--soft);font-weight:400;font-size:.875rem}
section>p{max-width:66ch}
.note{max-width:90ch;margin:.6rem 0;color:var(--soft);font-size:.875rem}
figure{margin:0 0 1.5rem;min-width:0}
figcaption b{display:block;color:var(--ink);font-size:1rem}
:focus-visible{outline:2px solid var(--link);outline-offset:2px}
.missing{color:var(--bad);font-weight:400}
.legend{position:sticky;top:0;z-index:2;display:flex;gap:.25rem 1.1rem;overflow-x:auto;margin:0;padding:.6rem 0;
border:0;border-bottom:1px solid var(--rule);background:var(--paper);font-size:.875rem;white-space:nowrap;min-width:0}
.legend legend{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.legend label{display:flex;align-items:center;gap:.35rem;cursor:pointer}
.legend label:has(input:not(:checked)){color:var(--soft);text-decoration:line-through}
input{accent-color:var(--link);margin:0}
svg{display:block;overflow:visible}
.swatch{display:inline-block;flex:none;width:2.1rem;height:.8rem;margin-right:.3rem;vertical-align:-.05rem}
.grid{stroke:var(--rule);stroke-width:1}
.mean,.run,.bar{fill:none;stroke:var(--c);vector-effect:non-scaling-stroke}
.mean{stroke-width:2.25;stroke-dasharray:var(--dash);stroke-linejoin:round}
path.run{stroke-width:1;stroke-opacity:.45}
.band{fill:var(--c);fill-opacity:.13}
.mark{fill:var(--c);stroke:var(--paper);stroke-width:1.25}
.plot{width:calc(100% - 3.75rem);height:16rem;margin:1rem .75rem 2.2rem 3rem}
.plot text{fill:var(--soft);font-size:.8125rem;text-anchor:middle}
.plot text.y{text-anchor:end}
.plot text.end{text-anchor:start;fill:var(--ink)}
.plot text.second{font-size:.75rem}
.wide .plot{height:24rem;margin-bottom:3.4rem}
.plot.named{width:calc(100% - 12.5rem);margin-right:9.5rem}
.axis{margin:0 0 0 3rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr));gap:1.5rem 2rem}
.strips{margin:1rem 0 2rem}
.strip,.scale{display:grid;grid-template-columns:minmax(9rem,17rem) 1fr 8.5rem;align-items:center;column-gap:1.25rem}
.strip{border-top:1px solid var(--rule)}
.track{align-self:stretch;position:relative;min-height:3.75rem}
.track>svg{position:absolute;width:100%;height:100%}
.strip circle.run{fill:var(--c);fill-opacity:.35;stroke-width:1}
.strip .failed{fill:none;stroke:var(--bad);stroke-width:1.75}
.strip .bar{stroke-width:7;stroke-opacity:.35}
.strip .large{transform:scale(1.5)}
.who{padding:.5rem 0;line-height:1.3}
.who small{display:block}
.tag{margin-left:.5rem;padding:0 .4rem;border:1px solid var(--rule);border-radius:1rem;color:var(--soft);
font-size:.75rem}
.value{line-height:1.3}
.value .missing{display:block;font-size:.8125rem}
.scale{border-top:1px solid var(--rule)}
.ticks{grid-column:2;position:relative;height:1.5rem;color:var(--soft);font-size:.8125rem}
.ticks span{position:absolute;transform:translateX(-50%)}
.scroll{overflow-x:auto}
table{border-collapse:collapse}
.data{width:100%;font-size:.875rem;line-height:1.35}
.data th{color:var(--soft);font-weight:500;text-align:left;vertical-align:bottom}
.data th,.data td{padding:.4rem .75rem .4rem 0;border-bottom:1px solid var(--rule)}
.data td{vertical-align:top;white-space:pre}
.data .n{text-align:right}
.prose{margin-top:1.5rem}
.prose td+td{white-space:normal}
.choices{margin:1.25rem 0;padding:0;border:0;display:grid;gap:.35rem 2rem;
grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));font-size:.9375rem}
.choices legend{padding:0;margin-bottom:.4rem;color:var(--soft);font-size:.875rem}
.choice{display:flex;justify-content:space-between;align-items:center;gap:.75rem;padding:.2rem 0;
border-bottom:1px solid var(--rule)}
.choice>:first-child{white-space:nowrap}
.chips{display:flex;flex-wrap:wrap;align-items:center;gap:.3rem .45rem;justify-content:end}
.chips input{position:absolute;opacity:0}
.chips label span{display:block;min-width:2.25rem;padding:.15rem .5rem;border:1px solid var(--rule);border-radius:.3rem;
text-align:center;cursor:pointer}
.chips input:checked+span{background:var(--ink);border-color:var(--ink);color:var(--paper)}
.chips input:focus-visible+span{outline:2px solid var(--link);outline-offset:2px}
.maps{display:flex;flex-wrap:wrap;align-items:flex-start;gap:1.25rem}
.map{margin:0;padding:.9rem 1rem .6rem;max-width:100%;min-width:min(100%,15rem);background:var(--card);
border:1px solid var(--rule);border-radius:.5rem}
.map figcaption b{margin:.1rem 0 .25rem;font-size:1.125rem;overflow-wrap:anywhere}
.map dl{margin:0 0 .75rem;line-height:1.4}
.map dl div{display:flex;gap:.5rem}
dt{color:var(--soft)}
dd{margin:0;color:var(--ink);overflow-wrap:anywhere;min-width:0}
.map dt{flex:0 0 3.4rem}
.rule{margin-right:.75rem}
.right{color:var(--good)}
.wrong{color:var(--bad)}
.nothing{margin:0 0 .5rem;padding:1.5rem 1rem;border:1px dashed var(--rule);border-radius:.3rem;color:var(--soft);
text-align:center}
.scales{white-space:nowrap}
.ramp{display:inline-block;width:5rem;height:.8rem;border:1px solid var(--rule);vertical-align:-.05rem;
background:linear-gradient(90deg,rgb(var(--heat)/0),rgb(var(--heat)/1));print-color-adjust:exact}
.heat{--cell:1.6rem;font-size:.8125rem;line-height:1.2;print-color-adjust:exact;-webkit-print-color-adjust:exact}
.heat.small{--cell:1.15rem;font-size:.75rem}
.heat th{font-weight:400;padding:0 .35rem 0 0;text-align:right;white-space:pre}
.heat thead th{padding:0 0 .2rem;text-align:center;vertical-align:bottom}
.heat .tall bdi{writing-mode:vertical-rl;transform:rotate(180deg)}
.heat tbody td{width:var(--cell);min-width:var(--cell);height:var(--cell);padding:0;border:1px solid var(--rule);
background:rgb(var(--heat)/var(--w,0))}
.heat td.minus{background:rgb(var(--minus)/var(--w))}
.heat td.here{outline:2px solid var(--ink);outline-offset:-1px}
output{display:block;min-height:1.5em;margin-top:.3rem;color:var(--soft);font-size:.875rem}
.findings{list-style:none;margin:0;padding:0}
.findings li{display:grid;grid-template-columns:6rem 1fr;gap:1rem;padding:.75rem 0;border-top:1px solid var(--rule)}
.findings small{display:block}
.verdict{font-weight:600;white-space:nowrap}
.verdict.missing{color:var(--soft)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;
padding:.9rem 1rem;background:var(--card);border:1px solid var(--rule);border-radius:.5rem;
font:.9375rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.facts div{display:grid;grid-template-columns:10rem 1fr;gap:1rem;padding:.3rem 0;border-bottom:1px solid var(--rule)}
@media (max-width:44rem){
.strip{grid-template-columns:1fr auto}.track{grid-column:1/-1;min-height:2.5rem;margin-bottom:.5rem}
.strip .value{grid-row:1;grid-column:2;text-align:right}.scale{display:block}
.plot.named{width:calc(100% - 3.75rem);margin-right:.75rem}.plot .name{display:none}
.plot text.second{font-size:.625rem}
.findings li{grid-template-columns:1fr;gap:.1rem}
.facts div{grid-template-columns:1fr;gap:0}}
@media print{
html{font-size:11px}
:root{--paper:#fff;--ink:#000;--soft:#444;--rule:#ccc;--card:#fff;--heat:0 90 150;--minus:213 94 0;--good:#00694d;
--bad:#a63f00;--link:#000}
body{max-width:none;padding:0}
header{padding-top:0}
nav,.legend input,.choices{display:none}
.legend{position:static;flex-wrap:wrap}
section{margin-top:1.5rem}
figure,.strip,.findings li,tr{break-inside:avoid}
h2,h3,section>p{break-after:avoid}
.scroll{overflow:visible}
.data td{white-space:pre-wrap}}
'''

SCRIPT = '''
function read(table, row, column) {
  const cell = table.tBodies[0].rows[row]?.cells[column];
  if (!cell || cell.tagName !== 'TD') return false;
  table.querySelector('.here')?.classList.remove('here');
  cell.classList.add('here');
  const source = table.tHead.rows[0].cells[column].textContent, written = cell.parentNode.cells[0].textContent;
  table.closest('figure').querySelector('output').textContent = `${written} reads ${source}: ${cell.title || 0}`;
  table.here = [row, column];
  return true;
}
for (const table of document.querySelectorAll('.heat')) {
  table.addEventListener('pointerover', event => {
    const cell = event.target.closest('tbody td');
    if (cell) read(table, cell.parentNode.sectionRowIndex, cell.cellIndex);
  });
  table.addEventListener('focus', () => read(table, ...(table.here || [0, 1])));
  table.addEventListener('keydown', event => {
    const move = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    const [row, column] = table.here || [0, 1];
    if (move && read(table, row + move[0], column + move[1])) event.preventDefault();
  });
}
'''
