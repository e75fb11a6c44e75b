"""A study's result as text: Markdown for its README, a table for the terminal, and the numbers that the page shares.

Every number stands in the records; nothing here is typed by hand, and no run is left out.
"""

import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from research.study import records as record_file
from research.study.records import ArmInfo, StudyInfo
from research.study.statistics import FEWEST_FOR_INTERVAL, LEVEL, mean, summary
from research.training import workdir

SCORE = 'accuracy'
VERDICTS = {True: 'met', False: 'not met', None: 'not measured'}
MATCHED = 0.01  # by protocol: so far may non-embedding parameters be from those of the base
NO_TEST = 'No significance was tested: these figures describe.'
SECONDS = 'seconds: train without measuring and saving, evaluate without compiling'


class Standing(NamedTuple):
    """One arm with its runs, in the order of the ranking."""

    arm: ArmInfo
    runs: list[dict]      # all that have ended, by seed
    scores: dict | None   # statistics.summary of their accuracies, in which a failed run has 0; None without a run

    @property
    def finished(self) -> list[dict]:
        """The runs that were measured."""
        return [run for run in self.runs if run['status'] == 'finished']

    @property
    def failed(self) -> list[dict]:
        """The runs that count with accuracy 0 and have nothing else to show."""
        return [run for run in self.runs if run['status'] == 'failed']

    @property
    def state(self) -> str:
        """How many runs there are, in words."""
        words = [f'{len(self.finished)} finished'] if self.finished else []
        words += [f'{len(self.failed)} failed'] if self.failed else []
        return ', '.join(words) or 'not run'


def ranking(study: StudyInfo, records: Iterable[dict]) -> list[Standing]:
    """The arms by mean accuracy, best first; arms without a run stand last, in the order of the study.

    Raises UserError as `records.select` does.
    """
    standings = []
    for arm, runs in zip(study.arms, record_file.select(study, records).values(), strict=True):
        values = [run['scores'][SCORE] if run['status'] == 'finished' else 0.0 for run in runs]
        standings.append(Standing(arm, runs, summary(values) if runs else None))
    return sorted(standings, key=lambda standing: -standing.scores['mean'] if standing.scores else 1)


def answer(standings: list[Standing]) -> str:
    """The result in one sentence of numbers, and what failed and how far it carries in one each.

    Plain text; it describes what was measured and claims nothing more.
    """
    ranked = [standing for standing in standings if standing.scores]
    if not ranked:
        return 'No run has finished yet.'
    sentences = [_result(ranked) if any(standing.finished for standing in ranked) else 'No run has finished yet.']
    failed = sum(len(standing.failed) for standing in ranked)
    if failed:
        sentences.append(f'{plural(failed, "run")} failed and {"counts" if failed == 1 else "count"} as 0 %.')
    return ' '.join([*sentences, NO_TEST])


def _result(ranked):
    """Who is best, who was there to be beaten, and how many runs that rests on."""
    best = ranked[0]
    parts = [f'{best.arm.name} gets {percent(best.scores["mean"])} of the test set exactly right']
    rivals = [standing for standing in ranked if standing.arm.control]
    first, last = 'the best control' if len(rivals) > 1 else 'the control', 'the weakest control'
    if not rivals or best.arm.control:
        rivals, first, last = ranked[1:], 'the next arm', 'the weakest arm'
    if rivals:
        parts.append(f'{first}, {rivals[0].arm.name}, gets {percent(rivals[0].scores["mean"])}')
    if len(rivals) > 1:
        parts.append(f'{last}, {rivals[-1].arm.name}, {percent(rivals[-1].scores["mean"])}')
    fewest = min(standing.scores['n'] for standing in ranked)
    most = max(standing.scores['n'] for standing in ranked)
    runs = 'one run' if most == 1 else f'mean of {plural(most, "run")}' if fewest == most else (
        f'mean of {fewest} to {most} runs')
    return f'{"; ".join(parts)} ({runs} an arm).'


def write(path: str | os.PathLike, study: StudyInfo, records: Iterable[dict]) -> None:
    """Writes the card of a study, whole or not at all.

    Raises:
      UserError: the file cannot be written, or the records do not belong together (`records.select`).
    """
    save(path, card(study, records))


def save(path: str | os.PathLike, text: str) -> None:
    """Writes a card or a page, whole or not at all. Raises UserError when the file cannot be written."""
    # A symbol from a damaged corpus may be half a character, which UTF-8 does not have.
    workdir.replace(pathlib.Path(path), text.encode('utf-8', 'xmlcharrefreplace').decode('utf-8'))


def card(study: StudyInfo, records: Iterable[dict]) -> str:
    """The result card of a study in Markdown.

    Raises UserError as `records.select` does.
    """
    standings = ranking(study, records)
    only_finished = _text(left_out(standings))
    # Cards of several tasks may stand in one file: each has a title of its own.
    parts = [f'# {_text(study.name)}: {_text(study.task)}, profile {_text(study.profile)}',
             f'**{_text(study.question)}**', _text(answer(standings))]
    parts += ['## Expectations', _table(
        ['expected before the runs', 'verdict', 'measured'],
        [[finding.text, VERDICTS[finding.met], finding.measured or '–'] for finding in study.findings],
    ) if study.findings else 'None were written down before the runs.']
    parts += ['## Ranking', _table(
        RANKING, [ranking_row(place, standing) for place, standing in enumerate(standings, 1)]),
        _text(interval_note(standings))]
    failures = [run for standing in standings for run in standing.failed]
    if failures:
        parts += ['Failed runs count as 0 % and are not replaced:', _table(
            ['arm', 'seed', 'error'], [[run['arm'], str(run['seed']), run['error']] for run in failures])]
    buckets, by_length = lengths(standings)
    if buckets:
        parts += ['## Accuracy by source length', 'Mean over runs in percent; lowest and highest run in brackets.',
                  _table(['source length', 'test pairs', *by_length], length_rows(buckets, by_length)), only_finished]
    aligned = [[standing.arm.name, *row] for standing in standings if (row := alignment(standing))]
    if aligned:
        parts += ['## Alignment', _table(['arm', *ALIGNMENT], aligned), only_finished]
    base = base_of(standings)
    parts += ['## What differs', _table(
        ['arm', *COSTS], [[standing.arm.name, *costs(standing, base)] for standing in standings]), f'{SECONDS}.',
        only_finished, _table(['arm', 'declared changes'], [
            [standing.arm.name, ', '.join(changes(standing.arm.changes))] for standing in standings])]
    parts += ['## How to repeat', '\n'.join(['```', *study.commands, '```']), '\n'.join(
        f'- {name}: {_text("; ".join(values))}' for name, values in environment(standings).items())]
    if study.notes:
        parts += ['## Notes', '\n'.join(f'- {_text(note)}' for note in study.notes)]
    return '\n\n'.join(part for part in parts if part) + '\n'


def console_table(study: StudyInfo, records: Iterable[dict]) -> Table:
    """The ranking of what has run as a table for a rich console. Raises UserError as `records.select` does."""
    standings = ranking(study, records)
    caption = f'spread: {RANKING.interval} of the mean; below {FEWEST_FOR_INTERVAL} runs every run'
    missing = [standing.arm.name for standing in standings if not standing.runs]
    if missing:
        caption += f'\nnot run: {", ".join(missing)}'
    table = Table(title=Text(f'{study.name}: {study.task}, {study.profile}'), box=SIMPLE_HEAD, caption=Text(caption))
    for heading in (RANKING.arm, RANKING.runs, RANKING.accuracy, RANKING.sd, 'spread %', RANKING.loss):
        table.add_column(heading, no_wrap=heading == RANKING.arm)
    for place, standing in enumerate(standings, 1):
        if standing.runs:
            row = ranking_row(place, standing)
            spread = row.interval if standing.scores['interval'] else row.every_run
            failed = f', {len(standing.failed)} failed' if standing.failed else ''
            cells = (row.arm, f'{len(standing.runs)}{failed}', row.accuracy, row.sd, spread, row.loss)
            table.add_row(*map(Text, cells))  # Text: square brackets in it are no markup
    return table


class RankingRow(NamedTuple):
    """One arm of the ranking, each cell as text."""

    place: str
    arm: str
    runs: str
    accuracy: str
    sd: str
    interval: str
    interquartile_mean: str
    every_run: str
    token_error_rate: str
    loss: str


RANKING = RankingRow(
    place='place', arm='arm', runs='runs', accuracy='accuracy %', sd='sd %', interval=f'{100 * LEVEL:.0f} % interval',
    interquartile_mean='interquartile mean %', every_run='every run %', token_error_rate='token error %', loss='loss')


def ranking_row(place: int, standing: Standing) -> RankingRow:
    """One arm of the ranking; below five runs there is no interval, only every run.

    Failed runs count as accuracy 0; loss and token error rate, which they do not have, are means of the finished ones.
    """
    name = standing.arm.name + (' (control)' if standing.arm.control else '')
    scores = standing.scores
    if not scores:
        return RankingRow(*['–'] * len(RANKING))._replace(arm=name, runs=standing.state)
    token_error_rate, loss = ('–', '–') if not standing.finished else (
        number(100 * mean([run['scores']['token_error_rate'] for run in standing.finished])),
        number(mean([run['scores']['loss'] for run in standing.finished]), 3))
    middle = number(100 * scores['interquartile_mean'])
    return RankingRow(
        place=str(place), arm=name, runs=standing.state, accuracy=number(100 * scores['mean']),
        sd='–' if scores['sd'] is None else number(100 * scores['sd']), interval=interval(scores['interval']) or '–',
        interquartile_mean=f'{middle} ({interval(scores["interquartile_interval"])})' if scores['interval'] else middle,
        every_run=', '.join(number(100 * value) + (' (failed)' if run['status'] == 'failed' else '')
                            for run, value in zip(standing.runs, scores['values'], strict=True)),
        token_error_rate=token_error_rate, loss=loss)


def interval_note(standings: list[Standing]) -> str:
    """How the intervals of the ranking were drawn, and why an arm has none."""
    scores = [standing.scores for standing in standings if standing.scores]
    drawn = [score['bootstrap'] for score in scores if score['interval']]
    parts = [f'{RANKING.interval}: percentile bootstrap over runs, {count(drawn[0]["resamples"])} resamples, seed '
             f'{drawn[0]["seed"]}.'] if drawn else []
    if len(drawn) < len(scores):
        parts.append(f'No interval (–) below {FEWEST_FOR_INTERVAL} runs: every run is shown instead.')
    return ' '.join(parts)


def left_out(standings: list[Standing]) -> str:
    """Which arms have runs that only the ranking counts, to stand beside every other table; '' if none has."""
    parts = [f'{standing.arm.name} ({standing.state})' for standing in standings if standing.failed]
    return f'Finished runs only; arms with failed runs: {", ".join(parts)}.' if parts else ''


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


class AlignmentRow(NamedTuple):
    """How far one arm's most read positions are from the known alignment, each cell as text."""

    error_rate: str
    shifts: str
    error_rate_shifted: str


ALIGNMENT = AlignmentRow(error_rate='alignment error %', shifts='best shift of each run',
                         error_rate_shifted='error % after it')


def alignment(standing: Standing) -> AlignmentRow | None:
    """The alignment of one arm; None where no run knows one."""
    known = [run['alignment'] for run in standing.finished if run['alignment']]
    if not known:
        return None
    return AlignmentRow(
        error_rate=number(100 * mean([row['error_rate'] for row in known])),
        shifts=', '.join(f'{row["shift"]:+d}' if row['shift'] else '0' for row in known),
        error_rate_shifted=number(100 * mean([row['error_rate_shifted'] for row in known])))


class Costs(NamedTuple):
    """What one arm costs, each cell as text."""

    parameters: str
    without_embeddings: str
    against_base: str
    flops_per_token: str
    readable_floats: str
    steps: str
    programs: str
    compile: str
    train: str
    evaluate: str


COSTS = Costs(
    parameters='parameters', without_embeddings='without embeddings', against_base='against the base',
    flops_per_token='FLOPs a token', readable_floats='readable floats', steps='steps', programs='programs',
    compile='seconds: compile (once)', train='train', evaluate='evaluate')


def base_of(standings: list[Standing]) -> Standing | None:
    """The arm that declares no changes; None if the study runs without it."""
    return next((standing for standing in standings if not standing.arm.changes), None)


def costs(standing: Standing, base: Standing | None) -> Costs:
    """What one arm costs: means over its finished runs; its seeds share their programs, which the first compiles."""
    if not standing.finished:
        return Costs(*['–'] * len(COSTS))

    def average(key):
        return mean([run[key] for run in standing.finished])

    def seconds(key):
        return [run['seconds'][key] for run in standing.finished]

    return Costs(
        parameters=count(average('parameters')), without_embeddings=count(average('parameters_non_embedding')),
        against_base=against(average('parameters_non_embedding'),
                             mean([run['parameters_non_embedding'] for run in base.finished]))
        if base and base.finished else '–',
        flops_per_token=short(average('flops_per_token')), readable_floats=count(average('readable_floats')),
        steps=count(average('steps')), programs=number(average('programs'), 0),
        compile=number(max(seconds('compile'))), train=number(mean(seconds('train'))),
        evaluate=number(mean(seconds('evaluate'))))


def against(parameters: float, base: float) -> str:
    """(110.2, 100) -> '+10.2 %, not matched'; '0.0 %' for the base itself."""
    text = f'{100 * (parameters - base) / base:+z.1f} %'.replace('-', '−')
    text = text[1:] if text == '+0.0 %' else text
    return text if abs(parameters - base) <= MATCHED * base else f'{text}, not matched'


def changes(differences: dict) -> list[str]:
    """Declared changes as lines: `key = value`, then what only the base has; if there are none, a line that says so."""
    lines = [f'{key} = {value!r}' for key, value in differences.items() if value is not None]
    missing = [key for key, value in differences.items() if value is None]
    return lines + ([f'without {", ".join(missing)}'] if missing else []) or ['none (the base)']


def environment(standings: list[Standing]) -> dict[str, list[str]]:
    """What the runs were made with: {what: every distinct value}. More than one machine or version is visible here."""
    runs = [run for standing in standings for run in standing.runs]
    if not runs:
        return {}
    packages = dict.fromkeys(package for run in runs for package in run['versions'])  # in the order of the records
    found = {'machine': {run['machine'] for run in runs}, 'data': {run['data'] for run in runs}}
    found |= {package: {run['versions'][package] for run in runs if package in run['versions']}
              for package in packages}
    days = sorted(run['time'] for run in runs)
    return {what: sorted(values) for what, values in found.items()} | {
        'seeds': [', '.join(map(str, sorted({run['seed'] for run in runs})))],
        'runs made': [' to '.join(dict.fromkeys([days[0], days[-1]]))]}


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
    value = float(f'{value:.3g}')  # rounded first: 999,999 is 1 M and not 1000 k
    for size, letter in ((1e12, ' T'), (1e9, ' G'), (1e6, ' M'), (1e3, ' k')):
        if value >= size:
            return f'{value / size:g}{letter}'
    return f'{value:g}'


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
