"""What a page shows of one task: who is ahead and by how much, at which length, how it got there, costs and reads."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from research.study import charts, comparison, page_weights
from research.study.card import (
    HALF,
    INTERVAL,
    Standing,
    count,
    dev_score,
    difference,
    half_of,
    half_text,
    heading_of,
    interval,
    learned,
    left_out,
    lengths,
    number,
    plural,
    rate_note,
    rate_rows,
    short,
    shown,
    span,
    task_sheets,
    tried_by,
)
from research.study.card import RATES as RATE_HEADINGS
from research.study.charts import Axis, Mark, Series
from research.study.comparison import Compared
from research.study.page_parts import Cell, choice, figure, note, sheet, table, unbroken
from research.study.records import StudyInfo, TaskInfo
from research.study.statistics import mean

SIGNS = {'better': '▲', 'worse': '▼', 'no difference shown': '=', 'too few runs': '?', 'exploratory': '~'}
DESCRIBES = '·'  # was not planned, so that nothing is claimed


class View(NamedTuple):
    """One task with its runs, as each section below needs it."""

    number: int                 # of the task in the study
    study: StudyInfo
    task: TaskInfo
    ranked: list[Standing]      # best first
    compared: list[Compared]    # of all tasks
    tried: Sequence[dict]       # runs that chose the rates, of all tasks
    sheets: dict[str, str]      # the task's tables by their name, as HTML

    @property
    def arms(self) -> list[tuple[int, Standing]]:
        """(number of the arm in the study, standing), in the order of the study."""
        found = {one.arm.name: one for one in self.ranked}
        return [(n, found[arm.name]) for n, arm in enumerate(self.study.arms) if arm.name in found]


def view(number: int, study: StudyInfo, task: TaskInfo, ranked: list[Standing], compared: list[Compared],
         tried: Sequence[dict]) -> View:
    """What the sections of one task are made of."""
    sheets = {one.name.removeprefix(f'{task.name}-'): sheet(one, 'place') for one in
              task_sheets(study, task, ranked, compared)}
    return View(number, study, task, ranked, compared, tried, sheets)


def sections(one: View) -> list[tuple[str, str, str]]:
    """(name, title, HTML) of each section that has something to show."""
    found = [('ranking', 'Ranking', ranking(one)), ('differences', 'Differences', differences(one)),
             ('lengths', 'By length', by_length(one)), ('learning', 'Learning', learning(one)),
             ('budget', 'What it may read, and what it costs', budget(one)), ('rates', 'Learning rates', rates(one)),
             ('reading', 'How it reads', reading(one)), ('weights', 'Attention weights', page_weights.viewer(
                 one.number, one.study, one.arms))]
    return [section for section in found if section[2]]


def sign(one: Compared) -> str:
    """A verdict as one character; the word stands beside it or in the legend."""
    return SIGNS.get(one.verdict.word, '?') if one.verdict else DESCRIBES


def verdict(one: Compared) -> str:
    """A verdict as HTML: its sign and what may be said."""
    kind = {'better': 'right', 'worse': 'wrong'}.get(one.verdict.word, 'open') if one.verdict else 'open'
    return f'<span class="verdict {kind}"><b aria-hidden="true">{sign(one)}</b> {unbroken(one.text)}</span>'


# The sections, in the order of the page.


def ranking(one: View) -> str:
    """Every run of every arm on one axis, with the verdict, and below it the numbers."""
    study, score = one.study, one.study.score
    values = [value for standing in one.ranked if standing.scores for value in standing.scores['values']]
    axis = _axis_of(score, [*values, *([one.task.floor] if one.task.floor is not None else [])])
    beside, place = comparison.of_task(one.compared, one.task.name, study.base), {n: arm for arm, n in
                                                                                 _numbers(one).items()}
    rows = []
    for n, standing in enumerate(one.ranked, 1):
        arm, scores = place[standing.arm.name], standing.scores
        mine = beside.get(standing.arm.name)
        says = ('the base' if standing.arm.name == study.base else verdict(mine) if mine and mine.difference else '–')
        rows.append([
            Cell(str(n), n) if scores else Cell('–', None), _who(arm, standing),
            Cell(f'<div class="arm{arm}">{_strip(study, axis, arm, standing, one.task.floor)}</div>',
                 scores['mean'] if scores else None),
            Cell(f'<b>{unbroken(shown(score, scores["mean"]))}</b>', scores['mean']) if scores else
            Cell(f'<span class="missing">{standing.state}</span>', None),
            standing.state, Cell(says, mine.text if mine and mine.difference else None)])
    drawn = table(('place', 'arm', Cell(charts.track_scale(axis), 'every run'), heading_of(score), 'runs',
                    f'against {study.base}'), rows, 'place')
    enough = any(standing.scores and standing.scores['interval'] for standing in one.ranked)
    said = ['Each small dot is one run, the large marker their mean.']
    said += [f'The bar is the {INTERVAL} of the mean (bootstrap over runs).'] if enough else []
    failures = [(run['arm'], str(run['seed']), run['error']) for _, standing in one.arms for run in standing.failed]
    said += [f'A cross is a failed run, which counts as {shown(score, score.failed)}.'] if failures else []
    said += ['The dashed line is guessing.'] if one.task.floor is not None else []
    failed = ('<h4>Failed runs</h4><p>They are not replaced.</p>' + table(('arm', 'seed', 'error'), failures)
              if failures else '')
    return f'<p>{unbroken(" ".join(said))}</p>{drawn}<h4>The numbers</h4>{one.sheets["ranking"]}{failed}'


def _numbers(one):
    return {arm: standing.arm.name for arm, standing in one.arms}


def _who(arm, standing):
    tag = '<span class="tag">control</span>' if standing.arm.control else ''
    return Cell(f'<div class="who">{charts.swatch(arm)}<b>{escape(standing.arm.name)}</b>{tag}'
                f'<small>{escape(standing.arm.summary)}</small></div>', standing.arm.name)


def _strip(study, axis, arm, standing, floor):
    score, scores, marks, said = study.score, standing.scores, '', standing.state
    if scores:
        spread = f', interval {interval(score, scores["interval"])}' if scores['interval'] else ''
        failed = f', {len(standing.failed)} of them failed' if standing.failed else ''
        said = f'mean {shown(score, scores["mean"])} of {plural(scores["n"], "run")}{failed}{spread}'
        marks += charts.bar(axis, scores['interval'], 30) if scores['interval'] else ''
        for run, value in zip(standing.runs, scores['values'], strict=True):
            if run['status'] == 'failed':
                marks += (f'<svg x="{axis.at(value):.2f}%" y="72%" overflow="visible"><path class="failed" '
                          f'd="M-4-4L4 4M-4 4L4-4"><title>seed {run["seed"]}: failed</title></path></svg>')
            else:
                marks += (f'<circle class="run" cx="{axis.at(value):.2f}%" cy="72%" r="3.5"><title>seed {run["seed"]}: '
                          f'{escape(shown(score, value))}</title></circle>')
        marks += charts.marker(arm, axis.at(scores['mean']), 30, f'mean {shown(score, scores["mean"])}', 'large')
    return charts.track(axis, marks, f'{standing.arm.name}: {said}', floor)


def _axis_of(score, values):
    """The axis of a score: a share from 0 to 100 %, anything else as far as it goes."""
    return charts.shares() if score.unit == '%' else charts.linear(values)


def differences(one: View) -> str:
    """The forest plot: each arm beside the base, and what else was planned, with its interval and its verdict."""
    found = [pair for pair in one.compared if pair.task == one.task.name and pair.difference]
    if not found:
        return ''
    score = one.study.score
    scale = 100 if score.unit == '%' else 1
    axis = charts.linear([end for pair in found for end in (pair.difference.low, pair.difference.high)], scale)
    arms = {name: arm for arm, name in _numbers(one).items()}
    sheer = 1 if score.higher else -1
    rows = []
    for pair in sorted(found, key=lambda pair: -sheer * pair.difference.mean):
        arm, seen = arms[pair.arm], pair.difference
        marks = charts.bar(axis, (seen.low, seen.high), 50) + charts.marker(
            arm, axis.at(seen.mean), 50, difference(score, seen), '' if pair.verdict else 'hollow')
        said = f'{pair.arm} against {pair.against}: {difference(score, seen)}, {pair.text}'
        rows.append([Cell(f'{charts.swatch(arm)}<b>{escape(pair.arm)}</b>', pair.arm), pair.against,
                     Cell(f'<div class="arm{arm}">{charts.track(axis, marks, said, 0.0)}</div>', seen.mean),
                     difference(score, seen), str(seen.n), number(seen.p, 4),
                     number(pair.verdict.adjusted, 4) if pair.verdict else '–', Cell(verdict(pair), pair.text)])
    points = ' in points of a hundred' if scale == 100 else f' ({score.unit})' if score.unit else ''
    lower = '' if score.higher else ' Lower is better.'
    return (f'<p>Difference of {escape(score.title + points)}, mean over runs paired by seed, with its {INTERVAL}. A '
            f'filled marker was planned before the runs and is tested; a hollow one describes.{lower}</p>'
            + table(('arm', 'against', Cell(charts.track_scale(axis), 'difference'), 'mean (interval)', 'runs', 'p',
                     'p, Holm', 'verdict'), rows)
            + note('p: exact sign-flip permutation test, two-sided; Holm: corrected for all planned comparisons of the '
                   'study.'))


def by_length(one: View) -> str:
    """The forgetting curve: the score by length, one line an arm, with the half-lengths."""
    score = one.study.score
    buckets, found = lengths(score, one.ranked)
    if not buckets:
        return ''
    series, highest = [], []
    for arm, standing in one.arms:
        known = [(x, rate) for x, rate in enumerate(found.get(standing.arm.name, [])) if rate]
        if not known:
            continue
        name = standing.arm.name
        marks = [Mark(x, rate[0], f'{name}, length {span(buckets[x])}: {shown(score, rate[0])}, runs '
                      f'{shown(score, rate[1])} to {shown(score, rate[2])}') for x, rate in known]
        half = half_of(score, buckets, found[name], one.task.floor)
        if half and half < math.inf:
            marks.append(_half_mark(name, half, buckets, [(x, rate[0]) for x, rate in known], half_text(half, buckets)))
        series.append(Series(arm, [(x, rate[0]) for x, rate in known], [(x, *rate[1:]) for x, rate in known], marks,
                             name))
        highest += [end for _, rate in known for end in rate]
    if not series:
        return ''
    last = len(buckets) - 1
    chart = charts.chart(Axis(-0.25, last + 0.25, [(x, span(bucket)) for x, bucket in enumerate(buckets)]),
                         _axis_of(score, highest), series, 'Score by length, one line an arm; the table below holds '
                         'the numbers', [count(bucket['count']) for bucket in buckets])
    half = f' Hollow marker: half-length. {HALF}' if score.higher else ''
    return figure(heading_of(score), f'Line: mean over runs. Band: lowest to highest run.{half}', chart,
                  'length in symbols; below it the number of test pairs', 'wide') + one.sheets['lengths']


def _half_mark(name, half, buckets, line, text):
    """A half-length on the line of the chart, whose buckets stand at even distances."""
    middles = [(buckets[x]['low'] + buckets[x]['high']) / 2 for x, _ in line]
    n = next(n for n in range(1, len(middles)) if middles[n] >= half)
    part = (half - middles[n - 1]) / (middles[n] - middles[n - 1])
    (left, high), (right, low) = line[n - 1], line[n]
    return Mark(left + part * (right - left), high + part * (low - high), f'{name}: half-length {text}', 'hollow')


def learning(one: View) -> str:
    """The curves of training, and when the threshold was reached."""
    found = [_curves(one, 'dev_accuracy', 'Dev accuracy, %', charts.shares()),
             _curves(one, 'dev_loss', 'Dev loss for each token'),
             _curves(one, 'train_loss', 'Training loss for each token'), _steps(one)]
    found = [chart for chart in found if chart]
    if not found:
        return ''
    return (f'<p>Line: mean over runs, as far as every run goes. Band: lowest to highest run.</p>'
            f'{note(left_out(one.ranked))}<div class="charts">{"".join(found)}</div>{one.sheets.get("steps", "")}')


def _curves(one, key, title, axis=None):
    series = []
    for arm, standing in one.arms:
        curves = [{row['step']: row[key] for row in run['curve'] if row[key] is not None} for run in standing.finished]
        line, band = charts.middle_and_band([curve for curve in curves if curve])
        if line:
            text = f'{standing.arm.name}, step {line[-1][0]}: ' + (
                f'{number(100 * line[-1][1])} %' if axis else number(line[-1][1], 3))
            series.append(Series(arm, line, band, [Mark(*line[-1], text)]))
    if not series:
        return ''
    axis = axis or charts.linear([end for found in series for _, *ends in found.band for end in ends])
    last = max(found.line[-1][0] for found in series)
    return figure(title, '', charts.chart(charts.steps(last), axis, series, title), 'training step')


def _steps(one):
    """The share of runs that have reached the threshold by each step, as Kaplan and Meier estimate it."""
    series = []
    for arm, standing in one.arms:
        found = learned(one.study, standing)
        if found is None:
            continue
        line, share = [(0.0, 0.0)], 0.0
        for n, step in enumerate(sorted(found.values)[:found.count], 1):
            line += [(step, share), (step, share := n / found.runs)]
        line.append((found.budget, share))
        series.append(Series(arm, line, (), [Mark(found.budget, share, f'{standing.arm.name}: {found.text}')]))
    if not series:
        return ''
    title = f'Runs with dev accuracy of {number(100 * one.study.threshold)} % and more, %'
    last = max(found.line[-1][0] for found in series)
    return figure(title, 'Twice in a row; Kaplan and Meier’s estimate.',
                  charts.chart(charts.steps(last), charts.shares(), series, title), 'training step')


COST = (('readable_floats', 'readable source floats', 'floats of source state that a step may read, at the mean source '
         'length; logarithmic', charts.from_zero),
        ('flops_per_token', 'FLOPs a token', 'FLOPs for each target token, forward and backward; logarithmic',
         charts.from_zero),
        ('parameters_non_embedding', 'parameters', 'parameters without embeddings; logarithmic', charts.from_zero))


def budget(one: View) -> str:
    """The headline plot: the score against what a step may read, at all lengths together and at each."""
    measured = [(arm, standing) for arm, standing in one.arms if standing.finished]
    costs = one.sheets['costs'] + _met(one)
    if not measured:
        return costs
    score = one.study.score
    buckets, found = lengths(score, one.ranked)
    all_scores = [standing.scores['mean'] for _, standing in measured] + [
        rate[0] for rates_ in found.values() for rate in rates_ if rate]
    y, options = _axis_of(score, all_scores), []
    for key, title, below, axis in COST:
        x = {arm: mean([run[key] for run in standing.finished]) for arm, standing in measured}
        across = axis(x.values())
        panels = [('all lengths', {arm: standing.scores['mean'] for arm, standing in measured})]
        for n, bucket in enumerate(buckets):
            rates_ = {arm: found[standing.arm.name][n] for arm, standing in measured}
            panels.append((f'length {span(bucket)}', {arm: rate[0] for arm, rate in rates_.items() if rate}))
        drawn = ''
        for n, (name, values) in enumerate(panels):
            series = [Series(arm, (), (), [Mark(x[arm], values[arm], f'{standing.arm.name}: {short(x[arm])}, '
                                                f'{shown(score, values[arm])}')], '' if n else standing.arm.name)
                      for arm, standing in measured if arm in values]
            chart = charts.chart(across, y, series, f'{heading_of(score)} against {title}, {name}')
            drawn += figure(name, '', chart, '' if n else below, '' if n else 'wide') if series else ''
            drawn += '' if n else '<div class="charts small">'
        options.append((title, f'<h4>{escape(heading_of(score))} against {title}</h4>{drawn}</div>'))
    return ('<p>One marker an arm, at the mean of its runs.</p>'
            + choice(f'cost{one.number}', 'Against', options) + note(left_out(one.ranked)) + costs)


def _met(one):
    """What was changed so that arms meet the budget: changes of the runs that the arm did not declare."""
    rows = []
    for _, standing in one.arms:
        found = {key: value for run in standing.runs for key, value in run['changes'].items()
                 if standing.arm.changes.get(key, key) != value}
        rows += [(standing.arm.name, key, repr(value)) for key, value in found.items()]
    return '<h4>Changed to meet the budget</h4>' + table(('arm', 'key', 'value'), rows) if rows else ''


def rates(one: View) -> str:
    """The search for the learning rate: dev accuracy by rate, one line an arm."""
    rows = [row[1:] for row in rate_rows(one.study, _runs(one), one.tried) if row[0] == one.task.name]
    if not rows:
        return ''
    series, all_rates, values = [], [], []
    for arm, standing in one.arms:
        own = tried_by(one.study, one.task.name, standing.arm.name, one.tried)
        if not own:
            continue
        by_rate = {rate: [dev_score(run) for run in own if run['rate'] == rate] for rate in
                   sorted({run['rate'] for run in own})}
        line = [(rate, mean(found)) for rate, found in by_rate.items()]
        best = max(line, key=lambda point: point[1])
        marks = [Mark(rate, value, f'{standing.arm.name}, rate {rate:g}: {number(100 * value)}', 'small')
                 for rate, found in by_rate.items() for value in found]
        marks.append(Mark(*best, f'{standing.arm.name}, best rate {best[0]:g}: {number(100 * best[1])}', 'large'))
        series.append(Series(arm, line, (), marks, standing.arm.name))
        all_rates += by_rate
        values += [mark.y for mark in marks]
    chart = charts.chart(charts.logarithmic(all_rates), charts.shares(), series, 'Dev accuracy by learning rate')
    return figure('Accuracy on dev, %', 'Line: mean over the seeds that tune, small markers: runs, large marker: best '
                  'rate.', chart, 'learning rate; logarithmic', 'wide') + table(RATE_HEADINGS[1:], rows) + note(
        rate_note(one.study))


def _runs(one):
    return [run for standing in one.ranked for run in standing.runs]


def reading(one: View) -> str:
    """How the arms read, as far as it was measured: tables, gradients against distance, what a memory still holds."""
    parts = [_against_distance(one, 'gradient_reach', 'distances', 'log_norms', 'Gradient against distance',
                               'ln of the norm of the gradient of the last loss in each input.', None),
             _against_distance(one, 'memory_probe', 'distance', 'accuracy', 'What the decoder’s start still holds, %',
                               'Share of source symbols that a linear map reads off it.', charts.shares())]
    heads = _heads(one)
    text = one.sheets.get('reading', '') + one.sheets.get('alignment', '')
    drawn = f'<div class="charts">{"".join(parts)}</div>' if any(parts) else ''
    return text + drawn + heads


def _against_distance(one, key, across, up, title, caption, axis):
    series = []
    for arm, standing in one.arms:
        known = [run['diagnostics'][key] for run in standing.finished if run['diagnostics'].get(key)]
        curves = [{x: y for x, y in zip(found[across], found[up], strict=True) if y is not None} for found in known]
        line, band = charts.middle_and_band([curve for curve in curves if curve])
        if line:
            series.append(Series(arm, line, band, [Mark(*line[-1], f'{standing.arm.name}, distance {line[-1][0]}: '
                                                        f'{line[-1][1]:.3g}')]))
    if not series:
        return ''
    axis = axis or charts.linear([end for found in series for _, *ends in found.band for end in ends], zero=False)
    last = max(found.line[-1][0] for found in series)
    return figure(title, f'{caption} Band: lowest to highest run.', charts.chart(
        charts.steps(last), axis, series, title), 'distance in symbols')


HEAD = (('entropy', 'entropy, nats'), ('entropy_share', 'share of the most'), ('sink_first', 'on the first, %'),
        ('sink_end', 'on the end, %'), ('distance', 'distance'))


def _heads(one):
    """The same numbers of each head, where an arm has more than one."""
    rows = []
    for _, standing in one.arms:
        known = [run['diagnostics']['heads'] for run in standing.finished if run['diagnostics'].get('heads')]
        if not known or len(known[0]) < 2:
            continue
        for n, head in enumerate(known[0]):
            cells = []
            for key, _ in HEAD:
                found = [run[n][key] for run in known if len(run) > n and run[n].get(key) is not None]
                cells.append(number(mean(found) * (100 if key.startswith('sink') else 1), 1 if key.startswith('sink')
                                    else 3) if found else '–')
            rows.append((standing.arm.name, page_weights.head_name(n, head), *cells))
    if not rows:
        return ''
    return ('<details><summary>Each head</summary>'
            f'{table(("arm", "head", *(title for _, title in HEAD)), rows)}</details>')
