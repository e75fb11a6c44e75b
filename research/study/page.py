"""A study as one page that opens anywhere: report.html, without network, fonts or files beside it.

Above, what is over all tasks: the answer, expectations, planned comparisons, an overview. Then one task at a time
(research/study/page_task.py), and how to repeat it all. Colours are CSS variables, for light, dark and print. The only
script sorts tables and shows attention weights; without it the page loses nothing else.
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from html import escape

from research.study import charts, comparison, page_task
from research.study.card import (
    Standing,
    answer,
    bare,
    changes,
    command,
    environment,
    heading_of,
    number,
    planned_sheet,
    ranking,
    save,
)
from research.study.comparison import Compared
from research.study.page_parts import Cell, choice, choice_style, note, sheet, table, unbroken
from research.study.page_script import SCRIPT
from research.study.page_style import STYLE
from research.study.records import StudyInfo

MARKS = {'met': ('✓', 'right'), 'not met': ('✗', 'wrong'), 'not measured': ('–', 'missing')}
UNDECIDED = ('?', 'open')  # not decidable at n = k


def write(path: str | os.PathLike, study: StudyInfo, records: Sequence[dict], tried: Sequence[dict] = ()) -> None:
    """Writes the page of a study, whole or not at all; `tried` are the runs that chose the rates.

    Raises:
      UserError: the file cannot be written, or the records do not belong together (`records.select`).
    """
    save(path, page(study, records, tried))


def page(study: StudyInfo, records: Sequence[dict], tried: Sequence[dict] = ()) -> str:
    """The page as text. Raises UserError as `records.select` does."""
    standings = {task.name: ranking(study, task.name, records) for task in study.tasks}
    compared = comparison.compare(study, records)
    # The policy lets the page load nothing and run no script but the one below: a word cannot become code.
    hashed = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hashed}'"
    before = [('expectations', 'Expectations', _expectations(study)),
              ('comparisons', 'Planned comparisons', _planned(study, compared)),
              ('overview', 'All tasks', _overview(study, standings, compared))]
    before = [section for section in before if section[2]]
    after = [('declared', 'What was declared', _declared(study)),
             ('repeat', 'How to repeat', _repeat(study, standings))]
    links = [*before, ('tasks', 'Results by task' if len(study.tasks) > 1 else 'Results', ''), *after]
    tasks = [(task.name, _task(n, study, standings[task.name], compared, tried)) for n, task in enumerate(study.tasks)]
    return f'''<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(study.name)}: {escape(study.question)}</title>
<style>{STYLE}{charts.arm_style(len(study.arms))}{choice_style(max(3, len(study.tasks)))}</style>
</head>
<body>
<header>
<p class="eyebrow">Study {escape(study.name)} · profile {escape(study.profile)}</p>
<h1>{escape(study.question)}</h1>
<p class="answer">{unbroken(answer(study, records))}</p>
{_links(links, 'Sections')}
</header>
<main>
{_sections(before)}
<div id="tasks">{choice('task', 'Task', tasks, _legend(study))}</div>
{_sections(after)}
</main>
<script>{SCRIPT}</script>
</body>
</html>
'''


def _links(sections, label):
    links = ''.join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in sections)
    return f'<nav aria-label="{escape(label)}">{links}</nav>'


def _sections(sections):
    return ''.join(f'<section id="{name}"><h2>{escape(title)}</h2>{body}</section>' for name, title, body in sections)


def _task(number, study, ranked, compared, tried):
    """Everything of one task; its sections have ids of their own."""
    task = study.tasks[number]
    head = f'<h2>{escape(task.name)}</h2><p class="lead">{escape(task.summary)}</p>'
    if not any(standing.runs for standing in ranked):
        return f'{head}<p class="missing">No run has ended yet.</p>'
    found = page_task.sections(page_task.view(number, study, task, ranked, compared, tried))
    named = [(f'{name}{number}', title, body) for name, title, body in found]
    parts = ''.join(f'<section id="{name}"><h3>{escape(title)}</h3>{body}</section>' for name, title, body in named)
    return f'{head}{_links(named, f"Sections of task {task.name}")}{parts}'


def _legend(study):
    keys = ''.join(f'<label><input type="checkbox" checked id="arm{n}">{charts.swatch(n)}{escape(arm.name)}</label>'
                   for n, arm in enumerate(study.arms))
    return f'<fieldset class="legend"><legend>Arms shown in the charts</legend>{keys}</fieldset>'


# Over all tasks.


def _expectations(study: StudyInfo) -> str:
    """Each expectation with its mark: a sign, a word and a colour."""
    if not study.findings:
        return '<p class="missing">None were written down before the runs.</p>'
    rows = ''
    for finding in study.findings:
        sign, kind = MARKS.get(finding.mark, UNDECIDED)
        rows += (f'<li><span class="verdict {kind}"><b aria-hidden="true">{sign}</b> '
                 f'{escape(finding.mark)}</span><div>{escape(finding.text)}<small>{unbroken(finding.measured)}</small>'
                 '</div></li>')
    return f'<p>Written down before the runs.</p><ul class="findings">{rows}</ul>'


def _planned(study: StudyInfo, compared: Sequence[Compared]) -> str:
    """The comparisons that are tested, with what may be said."""
    if not study.planned:
        return ''
    plain = planned_sheet(study, compared)
    at, rows = plain.headings.index('verdict'), []
    for row, one in zip(plain.rows, compared, strict=False):
        said = Cell(page_task.verdict(one), row[at]) if one.difference else row[at]
        rows.append((*row[:at], said, *row[at + 1:]))
    return sheet(plain._replace(rows=rows))


def _overview(study: StudyInfo, standings: dict[str, list[Standing]], compared: Sequence[Compared]) -> str:
    """Arms by tasks: mean scores, and the verdict against the base as a sign."""
    if len(study.tasks) < 2:
        return ''
    found = {(task, one.arm.name): one for task, ranked in standings.items() for one in ranked}
    beside = {task.name: comparison.of_task(compared, task.name, study.base) for task in study.tasks}
    rows = []
    for n, arm in enumerate(study.arms):
        tag = '<span class="tag">control</span>' if arm.control else ''
        cells = [Cell(f'{charts.swatch(n)}<b>{escape(arm.name)}</b>{tag}', arm.name)]
        for task in study.tasks:
            one, pair = found.get((task.name, arm.name)), beside[task.name].get(arm.name)
            if one is None or not one.scores:
                cells.append(Cell('<span class="missing">not run</span>' if one else '–', None))
                continue
            said = 'base' if arm.name == study.base else pair.text if pair and pair.difference else ''
            sign = '' if arm.name == study.base or not said else page_task.sign(pair)
            kind = {'▲': 'right', '▼': 'wrong'}.get(sign, 'open')
            cells.append(Cell(f'<b>{bare(study.score, one.scores["mean"])}</b> <span class="sign {kind}" '
                              f'title="{escape(said)}">{sign or said}</span>', one.scores['mean']))
        rows.append(cells)
    signs = ', '.join(f'{sign} {word}' for word, sign in page_task.SIGNS.items())
    return table(('arm', *(task.name for task in study.tasks)), rows) + note(
        f'{heading_of(study.score)}, mean over runs. Against {study.base}: {signs}, {page_task.DESCRIBES} was not '
        'planned and describes. The numbers stand with each task.')


def _declared(study: StudyInfo) -> str:
    """What each arm is, and how its config differs from the base."""
    rows = [(Cell(f'{charts.swatch(n)}<b>{escape(arm.name)}</b>', arm.name), 'control' if arm.control else 'the base' if
             arm.name == study.base else 'arm', Cell(f'<span class="prose">{escape(arm.summary)}</span>', arm.summary),
             Cell('<br>'.join(f'<code>{escape(line)}</code>' for line in changes(arm.changes)), len(arm.changes)))
            for n, arm in enumerate(study.arms)]
    return table(('arm', 'kind', 'what it is', 'config, where it differs from the base'), rows)


def _repeat(study: StudyInfo, standings: dict[str, list[Standing]]) -> str:
    """The commands of everything and of each run, and with what they were made."""
    found = [one for ranked in standings.values() for one in ranked]
    facts = ''.join(f'<div><dt>{escape(name)}</dt><dd>{escape("; ".join(values))}</dd></div>'
                    for name, values in environment(found).items())
    notes = ''.join(f'<li>{escape(note)}</li>' for note in study.notes)
    runs = [run for one in found for run in one.runs]
    rows = [(run['task'], run['arm'], str(run['seed']), run['status'], f'{run["rate"]["value"]:g}',
             number(run['seconds']['train']) if run['status'] == 'finished' else '–', run['run'], run['time'],
             Cell(f'<code>{escape(command(study, run["task"], run["arm"]))}</code>', run['arm'])) for run in runs]
    each = (f'<details><summary>Each run</summary>{table(EACH, rows)}{note(SEEDS)}</details>' if rows else '')
    return f'''<pre tabindex="0">{escape(chr(10).join(study.commands))}</pre><dl class="facts">{facts}</dl>{each}
{f'<h3>Notes</h3><ul>{notes}</ul>' if notes else ''}'''


EACH = ('task', 'arm', 'seed', 'status', 'learning rate', 'seconds of training', 'config', 'time', 'command')
SEEDS = 'A command makes the runs of one arm on one task, with all their seeds, and skips those that are there.'
