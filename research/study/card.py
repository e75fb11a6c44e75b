"""A study's result as text: Markdown for its README, a table for the terminal, and the numbers that the page shares.

Every number stands in the records; nothing here is typed by hand, and no run is left out.
"""

from collections.abc import Iterable
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from research.study import records as record_file
from research.study.records import Arm, StudyInfo
from research.study.statistics import FEWEST_FOR_INTERVAL, LEVEL, mean, summary

SCORE = 'accuracy'
VERDICTS = {True: 'met', False: 'not met', None: 'not run'}
FEWEST_FOR_CLAIM = 6  # by protocol; below it no exact paired test can reach 5 %


class Standing(NamedTuple):
    """One arm with its runs, in the order of the ranking."""

    arm: Arm
    finished: list[dict]
    failed: list[dict]
    scores: dict | None   # statistics.summary of the accuracies of the finished runs; None without one

    @property
    def state(self) -> str:
        """How many runs there are, in words."""
        words = [f'{len(self.finished)} finished'] if self.finished else []
        words += [f'{len(self.failed)} failed'] if self.failed else []
        return ', '.join(words) or 'not run'


def ranking(study: StudyInfo, records: Iterable[dict]) -> list[Standing]:
    """The arms by mean accuracy, best first; arms without a finished run stand last, in the order of the study.

    Raises UserError as `records.select` does.
    """
    runs = record_file.select(study, records)
    standings = []
    for arm in study.arms:
        finished = [run for run in runs[arm.name] if run['status'] == 'finished']
        failed = [run for run in runs[arm.name] if run['status'] == 'failed']
        scores = summary([run['scores'][SCORE] for run in finished]) if finished else None
        standings.append(Standing(arm, finished, failed, scores))
    return sorted(standings, key=lambda standing: -standing.scores['mean'] if standing.scores else 1)


def answer(standings: list[Standing]) -> str:
    """The result in one sentence of numbers, and one on how far they carry.

    Plain text; it describes what was measured and claims nothing more.
    """
    ranked = [standing for standing in standings if standing.scores]
    if not ranked:
        return 'No run has finished yet.'
    best = ranked[0]
    parts = [f'{best.arm.name} gets {percent(best.scores["mean"])} of the test set exactly right']
    controls = [standing for standing in ranked if standing.arm.control]
    rivals, name = (ranked[1:], 'the next arm') if not controls or best.arm.control else (controls, 'the best control')
    if rivals:
        parts.append(f'{name}, {rivals[0].arm.name}, gets {percent(rivals[0].scores["mean"])}')
    if len(rivals) > 1:
        parts.append(f'the weakest, {rivals[-1].arm.name}, {percent(rivals[-1].scores["mean"])}')
    fewest = min(standing.scores['n'] for standing in ranked)
    most = max(standing.scores['n'] for standing in ranked)
    runs = 'one run' if most == 1 else f'mean of {plural(most, "run")}' if fewest == most else (
        f'mean of {fewest} to {most} runs')
    sentence = f'{"; ".join(parts)} ({runs} an arm).'
    failed = sum(len(standing.failed) for standing in standings)
    if failed:
        sentence += f' {plural(failed, "run")} failed and {"is" if failed == 1 else "are"} in none of these means.'
    if fewest < FEWEST_FOR_CLAIM:
        sentence += f' Fewer than {FEWEST_FOR_CLAIM} runs an arm describe; they do not support a claim.'
    return sentence


def card(study: StudyInfo, records: Iterable[dict]) -> str:
    """The result card of a study in Markdown.

    Raises UserError as `records.select` does.
    """
    standings = ranking(study, records)
    parts = [f'# {_text(study.name)}', f'**{_text(study.question)}**', _text(answer(standings)),
             f'Task `{study.task}`, profile `{study.profile}`.']
    parts += ['## Expectations', _table(
        ['expected before the runs', 'verdict', 'measured'],
        [[finding.text, VERDICTS[finding.met], finding.measured or '–'] for finding in study.findings],
    ) if study.findings else 'None were written down before the runs.']
    parts += ['## Ranking', _table(
        RANKING, [ranking_row(place, standing) for place, standing in enumerate(standings, 1)])]
    failures = [run for standing in standings for run in standing.failed]
    if failures:
        parts += ['Failed runs count and are not replaced:', _table(
            ['arm', 'seed', 'error'], [[run['arm'], str(run['seed']), run['error']] for run in failures])]
    buckets, by_length = lengths(standings)
    if buckets:
        parts += ['## Accuracy by source length', 'Mean over runs in percent; lowest and highest run in brackets.',
                  _table(['source length', 'test pairs', *by_length], length_rows(buckets, by_length))]
    aligned = [[standing.arm.name, *row] for standing in standings if (row := alignment(standing))]
    if aligned:
        parts += ['## Alignment', _table(['arm', *ALIGNMENT], aligned)]
    parts += ['## What differs', _table(
        ['arm', 'declared changes', *COSTS],
        [[standing.arm.name, ', '.join(changes(standing.arm.changes)), *costs(standing)] for standing in standings])]
    parts += ['## How to repeat', f'```\n{study.command}\n```', '\n'.join(
        f'- {name}: {_text(", ".join(values))}' for name, values in environment(standings).items())]
    if study.notes:
        parts += ['## Notes', '\n'.join(f'- {_text(note)}' for note in study.notes)]
    return '\n\n'.join(part for part in parts if part) + '\n'


def console_table(study: StudyInfo, records: Iterable[dict]) -> Table:
    """The ranking as a table for a rich console. Raises UserError as `records.select` does."""
    standings = ranking(study, records)
    table = Table(title=Text(f'{study.name}: {study.task}, {study.profile}'), box=SIMPLE_HEAD,
                  caption=f'spread: {RANKING[5]} of the mean; below {FEWEST_FOR_INTERVAL} runs every run')
    for heading in ('arm', 'runs', 'accuracy %', 'sd', 'spread %', 'loss'):
        table.add_column(heading, no_wrap=heading == 'arm')
    for place, standing in enumerate(standings, 1):
        _, name, runs, accuracy, sd, spread, _, every, _, loss = ranking_row(place, standing)
        cells = (name, runs, accuracy, sd, spread if spread != '–' else every, loss)
        table.add_row(*map(Text, cells))  # Text: square brackets in it are no markup
    return table


RANKING = ('place', 'arm', 'runs', 'accuracy %', 'sd', f'{100 * LEVEL:.0f} % interval', 'interquartile mean',
           'every run', 'token error %', 'loss')


def ranking_row(place: int, standing: Standing) -> list[str]:
    """One arm of the ranking, in the order of RANKING; below five runs there is no interval, only every run."""
    name = standing.arm.name + (' (control)' if standing.arm.control else '')
    scores = standing.scores
    if not scores:
        return ['–', name, standing.state, *['–'] * (len(RANKING) - 3)]
    token_error_rate, loss = (mean([run['scores'][key] for run in standing.finished])
                              for key in ('token_error_rate', 'loss'))
    middle = number(100 * scores['interquartile_mean'])
    return [str(place), name, standing.state, number(100 * scores['mean']),
            '–' if scores['sd'] is None else number(100 * scores['sd']), interval(scores['interval']) or '–',
            f'{middle} ({interval(scores["interquartile_interval"])})' if scores['interval'] else middle,
            ', '.join(number(100 * value) for value in scores['values']), number(100 * token_error_rate),
            f'{loss:.3f}']


def interval(ends: tuple[float, float] | None) -> str:
    """(0.712, 0.733) -> '71.2 to 73.3', in percent; '' for None."""
    return f'{number(100 * ends[0])} to {number(100 * ends[1])}' if ends else ''


def lengths(standings: list[Standing]) -> tuple[list[dict], dict[str, list[tuple[float, float, float] | None]]]:
    """Accuracy by source length.

    Returns:
      The buckets (low, high, count), which all runs share, and for each arm with a finished run (mean, lowest,
      highest) over its runs in each bucket, None in an empty one.
    """
    buckets = next((run['by_length'] for standing in standings for run in standing.finished), [])
    by_length = {}
    for standing in standings:
        if standing.finished:
            rates = [[run['by_length'][n]['right'] / bucket['count'] for run in standing.finished]
                     if bucket['count'] else None for n, bucket in enumerate(buckets)]
            by_length[standing.arm.name] = [row and (mean(row), min(row), max(row)) for row in rates]
    return buckets, by_length


def length_rows(buckets: list[dict], by_length: dict) -> list[list[str]]:
    """What `lengths` returned as rows of a table: source length, test pairs, one cell an arm."""
    return [[span(bucket), count(bucket['count']), *[mean_and_range(rates[n]) for rates in by_length.values()]]
            for n, bucket in enumerate(buckets)]


ALIGNMENT = ('alignment error %', 'best shift of each run', 'error % after it')


def alignment(standing: Standing) -> list[str] | None:
    """How far one arm's most read positions are from the known alignment; None where no run knows."""
    known = [run['alignment'] for run in standing.finished if run['alignment']]
    if not known:
        return None
    return [number(100 * mean([row['error_rate'] for row in known])),
            ', '.join(f'{row["shift"]:+d}' if row['shift'] else '0' for row in known),
            number(100 * mean([row['error_rate_shifted'] for row in known]))]


COSTS = ('parameters', 'without embeddings', 'FLOPs a token', 'readable floats', 'steps', 'programs',
         'seconds: compile', 'train', 'evaluate')


def costs(standing: Standing) -> list[str]:
    """What one arm costs, in the order of COSTS: means over its finished runs."""
    if not standing.finished:
        return ['–'] * len(COSTS)

    def average(*path):
        values = standing.finished
        for key in path:
            values = [value[key] for value in values]
        return mean(values)

    return [count(average('parameters')), count(average('parameters_non_embedding')), short(average('flops_per_token')),
            count(average('readable_floats')), count(average('steps')), number(average('programs'), 0),
            *[number(average('seconds', key)) for key in ('compile', 'train', 'evaluate')]]


def changes(differences: dict) -> list[str]:
    """Declared changes as lines: `key = value`; one line that says so if there are none."""
    return [f'{key} = {value!r}' for key, value in differences.items()] or ['none (the base)']


def environment(standings: list[Standing]) -> dict[str, list[str]]:
    """What the runs were made with: {what: every distinct value}. More than one machine or version is visible here."""
    runs = [run for standing in standings for run in standing.finished + standing.failed]
    found = {'machine': {run['machine'] for run in runs}, 'data': {run['data'] for run in runs},
             'seeds': {run['seed'] for run in runs}}
    found |= {package: {run['versions'][package] for run in runs if package in run['versions']}
              for package in sorted({package for run in runs for package in run['versions']})}
    days = sorted(run['time'] for run in runs)
    named = {what: [str(value) for value in sorted(values)] for what, values in found.items() if values}
    return named | ({'runs made': [' to '.join(dict.fromkeys([days[0], days[-1]]))]} if days else {})


def mean_and_range(rates: tuple[float, float, float] | None) -> str:
    """(0.71, 0.7, 0.72) -> '71.0 (70.0 to 72.0)', in percent; '71.0' when the ends are the same, '–' for None."""
    if rates is None:
        return '–'
    middle, low, high = (number(100 * rate) for rate in rates)
    return middle if low == high else f'{middle} ({low} to {high})'


def percent(value: float) -> str:
    """0.7123 -> '71.2 %'."""
    return f'{number(100 * value)} %'


def number(value: float, digits: int = 1) -> str:
    """71.234 -> '71.2'."""
    return f'{value:.{digits}f}'


def count(value: float) -> str:
    """12345.6 -> '12,346'."""
    return f'{value:,.0f}'


def short(value: float) -> str:
    """1234567 -> '1.23 M': three digits and a thousand's letter."""
    for size, letter in ((1e12, ' T'), (1e9, ' G'), (1e6, ' M'), (1e3, ' k')):
        if value >= size:
            return f'{value / size:.3g}{letter}'
    return f'{value:.3g}'


def plural(amount: int, noun: str) -> str:
    """(1, 'run') -> '1 run'; (2, 'run') -> '2 runs'."""
    return f'{amount} {noun}' if amount == 1 else f'{amount} {noun}s'


def span(bucket: dict) -> str:
    """The lengths of a bucket: '4–6', or '4' when it is only one."""
    return str(bucket['low']) if bucket['low'] == bucket['high'] else f'{bucket["low"]}–{bucket["high"]}'


def _text(text):
    """Text that Markdown shows as it is: one line, no HTML, no table borders, no emphasis."""
    text = ' '.join(str(text).split())
    for sign in '\\`*_<>|[]':
        text = text.replace(sign, '\\' + sign)
    return text


def _table(headings, rows):
    lines = [list(map(_text, headings)), ['---'] * len(headings), *[list(map(_text, row)) for row in rows]]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
