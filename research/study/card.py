"""A study's result as text: Markdown for its README, a table for the terminal, and the numbers that the page shares.

Every number stands in the records; nothing here is typed by hand, and no run is left out.
"""

import math
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from research.study import comparison
from research.study import records as record_file
from research.study.comparison import Compared
from research.study.half_length import half_length
from research.study.records import ArmInfo, Score, StudyInfo, TaskInfo
from research.study.statistics import FEWEST_FOR_INTERVAL, LEVEL, Difference, mean, summary
from research.study.steps import Reached, reached
from research.study.tables import Sheet, markdown, plain
from research.training import workdir

MATCHED = {'parameters': 0.01, 'flops': 0.02}  # by protocol: so far may an arm be from the base
HALF = ('Half-length: where the mean, in straight lines between the middles of the lengths, has lost half of what it '
        'has above guessing at the shortest length.')
SECONDS = ('seconds: train without measuring and saving, evaluate without compiling, step: one warm step; '
           'seeds that run together or side by side shared this time')


class Standing(NamedTuple):
    """One arm with its runs on a task, in the order of the ranking."""

    arm: ArmInfo
    runs: list[dict]      # all that have ended, by seed
    scores: dict | None   # statistics.summary of their scores, in which a failed run counts; None without a run

    @property
    def finished(self) -> list[dict]:
        """The runs that were measured."""
        return [run for run in self.runs if run['status'] == 'finished']

    @property
    def failed(self) -> list[dict]:
        """The runs that count as the study says and have nothing else to show."""
        return [run for run in self.runs if run['status'] == 'failed']

    @property
    def state(self) -> str:
        """How many runs there are, in words."""
        words = [f'{len(self.finished)} finished'] if self.finished else []
        words += [f'{len(self.failed)} failed'] if self.failed else []
        return ', '.join(words) or 'not run'


def ranking(study: StudyInfo, task: str, records: Iterable[dict]) -> list[Standing]:
    """The arms on a task by mean score, best first; arms without a run stand last, in the order of the study.

    Raises UserError as `records.select` does.
    """
    arms, standings = {arm.name: arm for arm in study.arms}, []
    for name, runs in record_file.select(study, task, records).items():
        values = [comparison.value(study.score, run) for run in runs]
        standings.append(Standing(arms[name], runs, summary(values) if runs else None))
    sign = -1 if study.score.higher else 1
    return sorted(standings, key=lambda one: sign * one.scores['mean'] if one.scores else float('inf'))


def answer(study: StudyInfo, records: Sequence[dict]) -> str:
    """The result in a few sentences of numbers: what was tested and came out, who is best on the first task that ran,
    and what failed. Plain text; it describes what was measured and claims nothing more.
    """
    standings = {task.name: [one for one in ranking(study, task.name, records) if one.scores] for task in study.tasks}
    ran = {task: ranked for task, ranked in standings.items() if ranked}
    if not any(one.finished for ranked in ran.values() for one in ranked):
        return 'No run has finished yet.'
    task, ranked = next((task, ranked) for task, ranked in ran.items() if any(one.finished for one in ranked))
    sentences = [(f'On {task} ' if len(study.tasks) > 1 else '') + _result(study.score, ranked)]
    tested = [one for one in comparison.compare(study, records) if one.verdict and one.difference]
    if tested:
        said = {word: sum(one.verdict.word == word for one in tested) for word in
                dict.fromkeys(one.verdict.word for one in tested)}
        sentences.append(f'Of {plural(len(study.planned), "planned comparison")}: '
                         + ', '.join(f'{times} {word}' for word, times in said.items()) + '.')
    elif not study.planned:
        sentences.append('No comparison was tested: these figures describe.')
    failed = sum(len(one.failed) for ranked in ran.values() for one in ranked)
    if failed:
        sentences.append(f'{plural(failed, "run")} failed and {"counts" if failed == 1 else "count"} as '
                         f'{shown(study.score, study.score.failed)}.')
    return ' '.join(sentences)


def _result(score, ranked):
    """Who is best, who was there to be beaten, and how many runs that rests on."""
    best = ranked[0]
    parts = [f'{best.arm.name} has {shown(score, best.scores["mean"])} ({score.title})']
    rivals = [one for one in ranked if one.arm.control]
    first, last = 'the best control' if len(rivals) > 1 else 'the control', 'the weakest control'
    if not rivals or best.arm.control:
        rivals, first, last = ranked[1:], 'the next arm', 'the weakest arm'
    if rivals:
        parts.append(f'{first}, {rivals[0].arm.name}, {shown(score, rivals[0].scores["mean"])}')
    if len(rivals) > 1:
        parts.append(f'{last}, {rivals[-1].arm.name}, {shown(score, rivals[-1].scores["mean"])}')
    fewest, most = min(one.scores['n'] for one in ranked), max(one.scores['n'] for one in ranked)
    runs = 'one run' if most == 1 else f'mean of {plural(most, "run")}' if fewest == most else (
        f'mean of {fewest} to {most} runs')
    return f'{"; ".join(parts)} ({runs} an arm).'


def write(path: str | os.PathLike, study: StudyInfo, records: Sequence[dict], tried: Sequence[dict] = ()) -> None:
    """Writes the card of a study, whole or not at all; `tried` are the runs that chose the rates.

    Raises:
      UserError: the file cannot be written, or the records do not belong together (`records.select`).
    """
    save(path, card(study, records, tried))


def save(path: str | os.PathLike, text: str) -> None:
    """Writes a card or a page, whole or not at all. Raises UserError when the file cannot be written."""
    # A symbol from a damaged corpus may be half a character, which UTF-8 does not have.
    workdir.replace(pathlib.Path(path), text.encode('utf-8', 'xmlcharrefreplace').decode('utf-8'))


def card(study: StudyInfo, records: Sequence[dict], tried: Sequence[dict] = ()) -> str:
    """The result card of a study in Markdown.

    Raises UserError as `records.select` does.
    """
    parts = [f'# {plain(study.name)}, profile {plain(study.profile)}', f'**{plain(study.question)}**',
             plain(answer(study, records)), '## Expectations']
    parts.append(markdown(Sheet('', '', ('expected before the runs', 'mark', 'measured'), [
        (finding.text, finding.mark, finding.measured or '–') for finding in study.findings]))
        if study.findings else 'None were written down before the runs.')
    for heading, sheets in sections(study, records, tried):
        parts.append(f'## {plain(heading)}')
        for sheet in sheets:
            parts += [f'### {plain(sheet.title)}' if len(sheets) > 1 else '', markdown(sheet), plain(sheet.note)]
    found = [one for task in study.tasks for one in ranking(study, task.name, records)]
    parts += ['## How to repeat', '\n'.join(['```', *study.commands, '```']), '\n'.join(
        f'- {name}: {plain("; ".join(values))}' for name, values in environment(found).items())]
    if study.notes:
        parts += ['## Notes', '\n'.join(f'- {plain(note)}' for note in study.notes)]
    return '\n\n'.join(part for part in parts if part) + '\n'


def sections(study: StudyInfo, records: Sequence[dict], tried: Sequence[dict] = ()) -> list[tuple[str, list[Sheet]]]:
    """Every table of a study, under the headings of the card: the planned comparisons, each task, the learning rates.

    Raises UserError as `records.select` does.
    """
    compared, found = comparison.compare(study, records), []
    if study.planned:
        found.append(('Planned comparisons', [planned_sheet(study, compared)]))
    for task in study.tasks:
        standings = ranking(study, task.name, records)
        if any(one.runs for one in standings):
            heading = f'{task.name}: {task.summary}' if len(study.tasks) > 1 else 'Results'
            found.append((heading, task_sheets(study, task, standings, compared)))
    if rows := rate_rows(study, records, tried):
        found.append(('Learning rates', [Sheet('learning-rates', 'Learning rates', RATES, rows, rate_note(study))]))
    found.append(('What was declared', [Sheet('declared', 'Declared changes', ('arm', 'what it is', 'changes'), [
        (arm.name + ' (control)' * arm.control, arm.summary, ', '.join(changes(arm.changes))) for arm in study.arms])]))
    return found


def task_sheets(study: StudyInfo, task: TaskInfo, standings: list[Standing],
                compared: Sequence[Compared]) -> list[Sheet]:
    """The tables of one task: those that its runs have something to say in."""
    beside, only_finished = comparison.of_task(compared, task.name, study.base), left_out(standings)
    sheets = [Sheet(f'{task.name}-ranking', 'Ranking', ranking_headings(study), [
        ranking_row(study, place, one, beside.get(one.arm.name)) for place, one in enumerate(standings, 1)],
        ranking_note(study, task, standings))]
    buckets, by_length = lengths(study.score, standings)
    if buckets:
        rows, said = length_rows(study.score, buckets, by_length), 'Mean over runs; lowest and highest run in brackets.'
        if study.score.higher:
            rows.append(['half-length', '–', *[half_text(half_of(study.score, buckets, rates, task.floor), buckets)
                                               for rates in by_length.values()]])
            said += f' {HALF}'
        sheets.append(Sheet(f'{task.name}-lengths', f'{study.score.title} by length',
                            ('length', 'test pairs', *by_length), rows, f'{said} {only_finished}'.strip()))
    for name, title, headings, row in (('steps', 'Steps to threshold', STEPS, steps_row),
                                       ('alignment', 'Alignment', ALIGNMENT, alignment_row)):
        rows = [(one.arm.name, *cells) for one in standings if (cells := row(study, one))]
        if rows:
            sheets.append(Sheet(f'{task.name}-{name}', title, ('arm', *headings), rows, only_finished))
    rows = [(one.arm.name, *row) for one in standings for row in reading_rows(one)]
    if rows:
        sheets.append(Sheet(f'{task.name}-reading', 'How it reads', ('arm', *READING), rows, only_finished))
    base = next((one for one in standings if one.arm.name == study.base), None)
    sheets.append(Sheet(f'{task.name}-costs', 'What differs', ('arm', *COSTS), [
        (one.arm.name, *costs(study, one, base)) for one in standings], f'{SECONDS}. {only_finished}'.strip()))
    return sheets


def console_tables(study: StudyInfo, records: Sequence[dict]) -> list[Table]:
    """The ranking of what has run on each task, for a rich console. Raises UserError as `records.select` does."""
    compared, tables = comparison.compare(study, records), []
    for task in study.tasks:
        standings = ranking(study, task.name, records)
        if not any(one.runs for one in standings):
            continue
        caption = f'spread: {INTERVAL} of the mean; below {FEWEST_FOR_INTERVAL} runs every run'
        missing = [one.arm.name for one in standings if not one.runs]
        if missing:
            caption += f'\nnot run: {", ".join(missing)}'
        table = Table(title=Text(f'{study.name}: {task.name}, {study.profile}'), box=SIMPLE_HEAD,
                      caption=Text(caption))
        for heading in ('arm', 'runs', heading_of(study.score), 'sd', 'spread', f'against {study.base}', 'verdict'):
            table.add_column(Text(heading), no_wrap=heading == 'arm')
        beside = comparison.of_task(compared, task.name, study.base)
        for one in standings:
            if one.runs:
                row = dict(zip(ranking_headings(study), ranking_row(study, 0, one, beside.get(one.arm.name))))
                spread = row[INTERVAL] if one.scores['interval'] else row['every run']
                failed = f', {len(one.failed)} failed' if one.failed else ''
                cells = (row['arm'], f'{len(one.runs)}{failed}', row[heading_of(study.score)], row['sd'], spread,
                         row[f'against {study.base}'], row['verdict'])
                table.add_row(*map(Text, cells))  # Text: square brackets in it are no markup
        tables.append(table)
    return tables


INTERVAL = f'{100 * LEVEL:.0f} % interval'


def heading_of(score: Score) -> str:
    """'exactly right, %'."""
    return f'{score.title}, {score.unit}' if score.unit and score.unit not in score.title else score.title


def ranking_headings(study: StudyInfo) -> tuple[str, ...]:
    """Of the ranking of a task."""
    return ('place', 'arm', 'runs', heading_of(study.score), 'sd', INTERVAL, 'interquartile mean', 'every run',
            f'against {study.base}', 'verdict', 'symbols right, %', 'loss', 'learning rate')


def ranking_row(study: StudyInfo, place: int, standing: Standing, beside: Compared | None) -> tuple[str, ...]:
    """One arm of the ranking; below five runs there is no interval, only every run.

    Failed runs count as the study says; loss and share of right symbols, which they do not have, are means of the
    finished ones.
    """
    name = standing.arm.name + (' (control)' if standing.arm.control else '')
    scores, score = standing.scores, study.score
    if not scores:
        return ('–', name, standing.state, *['–'] * (len(ranking_headings(study)) - 3))
    middle = bare(score, scores['interquartile_mean'])
    return (str(place), name, standing.state, bare(score, scores['mean']),
            '–' if scores['sd'] is None else bare(score, scores['sd']), interval(score, scores['interval']) or '–',
            f'{middle} ({interval(score, scores["interquartile_interval"])})' if scores['interval'] else middle,
            ', '.join(bare(score, value) + (' (failed)' if run['status'] == 'failed' else '')
                      for run, value in zip(standing.runs, scores['values'], strict=True)),
            difference(score, beside.difference) if beside and beside.difference else '–',
            'the base' if standing.arm.name == study.base else beside.text if beside and beside.difference else '–',
            average(standing, 'token_accuracy', lambda value: number(100 * value)),
            average(standing, 'loss', lambda value: number(value, 3)), rate_of(standing))


def ranking_note(study: StudyInfo, task: TaskInfo, standings: list[Standing]) -> str:
    """How the intervals were drawn, why an arm has none, and what guessing gives."""
    scores = [one.scores for one in standings if one.scores]
    drawn = [found['bootstrap'] for found in scores if found['interval']]
    parts = [f'{INTERVAL}: percentile bootstrap over runs, {count(drawn[0]["resamples"])} resamples, seed '
             f'{drawn[0]["seed"]}.'] if drawn else []
    if any(found['n'] < 10 for found in scores if found['interval']):
        parts.append('Below 10 runs it is too narrow.')
    if len(drawn) < len(scores):
        parts.append(f'No interval (–) below {FEWEST_FOR_INTERVAL} runs: every run is shown instead.')
    if task.floor is not None:
        parts.append(f'Guessing has {shown(study.score, task.floor)}.')
    return ' '.join(parts)


COMPARISON = ('task', 'arm', 'against', 'difference', 'runs', 'p', 'p, Holm', 'verdict', 'other seeds and test pairs',
              'sentences', 'runs it takes')


def planned_sheet(study: StudyInfo, compared: Sequence[Compared]) -> Sheet:
    """The comparisons that were planned before the runs."""
    rows = []
    for one in compared[:len(study.planned)]:
        found, verdict = one.difference, one.verdict
        rows.append((one.task, one.arm, one.against, difference(study.score, found) if found else '–',
                     str(found.n) if found else '0', number(found.p, 4) if found else '–',
                     number(verdict.adjusted, 4) if verdict else '–', one.text if verdict else 'not run',
                     *_beside(study, study.beside.get(study.planned[len(rows)]), found.n if found else 0)))
    return Sheet('planned', 'Planned comparisons', COMPARISON, rows,
                 f'Difference of {heading_of(study.score)}: mean over runs paired by seed and its {INTERVAL}; p: exact '
                 'sign-flip permutation test, two-sided; Holm: corrected for all '
                 f'{plural(len(study.planned), "planned comparison")}. Other seeds and test pairs: interval of both '
                 'drawn anew at once. Sentences: approximate randomisation of the median seeds, which a claim about '
                 'translations needs, too. Runs it takes: to show a difference as large with a power of 80 %.')


def _beside(study, found, pairs):
    """Seeds and test pairs at once, the sentences of the median seeds, and how many runs would show the difference.

    One pair of runs says nothing of how much seeds differ.
    """
    if found is None:
        return ('–',) * 3
    both, sentences = found.both, found.sentences
    return ('–' if both is None else f'{signed(study.score, both.low)} to {signed(study.score, both.high)}',
            '–' if sentences is None else f'{sentences.difference:+.1f} BLEU, p = {sentences.p:.2g}',
            '–' if pairs < 2 else 'more than can be counted' if found.needed is None else count(found.needed))


def difference(score: Score, found: Difference) -> str:
    """'+3.4 (1.2 to 5.6)'."""
    return f'{signed(score, found.mean)} ({signed(score, found.low)} to {signed(score, found.high)})'


def left_out(standings: list[Standing]) -> str:
    """Which arms have runs that only the ranking counts, to stand beside every other table; '' if none has."""
    parts = [f'{one.arm.name} ({one.state})' for one in standings if one.failed]
    return f'Finished runs only; arms with failed runs: {", ".join(parts)}.' if parts else ''


def average(standing: Standing, key: str, text) -> str:
    """The mean of one of the scores over the finished runs that have it, as text."""
    values = [run['scores'][key] for run in standing.finished if key in run['scores']]
    return text(mean(values)) if values else '–'


def by_length(score: Score, row: dict) -> float | None:
    """The score of one bucket of a run; None where nothing was tested there."""
    if score.lengths == 'bleu':
        return row.get('bleu')
    whole = {'right': 'count', 'tokens_right': 'tokens', 'loss': 'tokens'}[score.lengths]
    return row[score.lengths] / row[whole] if row[whole] else None


def lengths(score: Score,
            standings: list[Standing]) -> tuple[list[dict], dict[str, list[tuple[float, float, float] | None]]]:
    """The score by length.

    Returns:
      The buckets (low, high, count), which all runs share, and for each arm with a finished run (mean, lowest,
      highest) over its runs in each bucket, None in an empty one.
    """
    buckets = next((run['by_length'] for one in standings for run in one.finished), [])
    found = {}
    for one in standings:
        if one.finished:
            rates = [[by_length(score, run['by_length'][n]) for run in one.finished] for n in range(len(buckets))]
            found[one.arm.name] = [None if None in row else (mean(row), min(row), max(row)) for row in rates]
    return buckets, found


def length_rows(score: Score, buckets: list[dict], found: dict) -> list[list[str]]:
    """What `lengths` returned as rows of a table: length, test pairs, one cell an arm."""
    return [[span(bucket), count(bucket['count']), *[mean_and_range(score, rates[n]) for rates in found.values()]]
            for n, bucket in enumerate(buckets)]


def half_of(score: Score, buckets: list[dict], rates: Sequence[tuple[float, float, float] | None],
            floor: float | None) -> float | None:
    """The half-length of an arm's mean over runs, lengths being the middles of its buckets; see `half_length`.

    None where there is no such thing: a score that is better when lower, no test pairs, or nothing to lose.
    """
    known = [((bucket['low'] + bucket['high']) / 2, rate[0]) for bucket, rate in zip(buckets, rates, strict=True)
             if rate]
    return half_length(*zip(*known, strict=True), floor or 0.0) if known and score.higher else None


def half_text(half: float | None, buckets: list[dict]) -> str:
    """'12.3'; '> 40' where the score never falls so far, '–' where there is nothing to lose."""
    return '–' if half is None else number(half) if half < math.inf else f'> {buckets[-1]["high"]}'


STEPS = ('reached', 'median', 'mean, the budget where it was not reached')


def steps_row(study: StudyInfo, standing: Standing) -> tuple[str, ...] | None:
    """When accuracy on dev first reached the threshold of the study, twice in a row; None where it has none."""
    found = learned(study, standing)
    if found is None:
        return None
    return (f'{found.count} of {found.runs}', f'> {count(found.budget)}' if found.median is None else
            count(found.median), count(found.mean))


def learned(study: StudyInfo, standing: Standing) -> Reached | None:
    """When the runs of an arm first reached the threshold of the study; those that failed did not reach it.

    None where the study has no threshold, or the arm no finished run.
    """
    if study.threshold is None or not standing.finished:
        return None
    found = [comparison.first_step(run, study.threshold) for run in standing.finished]
    return reached([*found, *[None] * len(standing.failed)], max(run['steps'] for run in standing.finished))


ALIGNMENT = ('alignment error, %', 'best shift of each run', 'error after it, %')


def alignment_row(study: StudyInfo, standing: Standing) -> tuple[str, ...] | None:
    """How far the most read positions of an arm are from the known alignment; None where no run knows one."""
    known = [run['alignment'] for run in standing.finished if run['alignment']]
    if not known:
        return None
    return (number(100 * mean([row['error_rate'] for row in known])),
            ', '.join(f'{row["shift"]:+d}' if row['shift'] else '0' for row in known),
            number(100 * mean([row['error_rate_shifted'] for row in known])))


READS = (('entropy', 'entropy, nats'), ('entropy_share', 'share of the most'), ('sink_first', 'on the first, %'),
         ('sink_end', 'on the end, %'), ('distance', 'distance'))
READING = ('what reads', *(title for _, title in READS), 'gradient, ln a position')


def readings(run: dict) -> dict[str, dict]:
    """What reads in a run, and its numbers (research/analysis/diagnostics.py); what makes no weights is left out."""
    sides = run['diagnostics'].get('mixing') or {}
    found = {'output reads source': run['diagnostics'], 'source reads itself': sides.get('source'),
             'output reads itself': sides.get('inputs')}
    return {what: numbers for what, numbers in found.items() if numbers and numbers.get('entropy') is not None}


def read_numbers(found: Sequence[dict]) -> tuple[str, ...]:
    """The means of what several runs, or a head in several runs, say of READS, as text."""
    cells = []
    for key, title in READS:
        values = [one[key] for one in found if one.get(key) is not None]
        cells.append('–' if not values else number(100 * mean(values)) if title.endswith('%') else
                     number(mean(values), 3))
    return tuple(cells)


def reading_rows(standing: Standing) -> list[tuple[str, ...]]:
    """How an arm reads: means over its runs, one row for each side that reads; [] where nothing is known.

    The gradient is the arm's: it stands in the first row.
    """
    runs = [readings(run) for run in standing.finished]
    rows = [(what, *read_numbers([found[what] for found in runs if what in found])) for what in
            dict.fromkeys(what for found in runs for what in found)]
    slopes = [(run['diagnostics'].get('gradient_reach') or {}).get('slope') for run in standing.finished]
    slopes = [slope for slope in slopes if slope is not None]
    rows = rows or [('–',) * (1 + len(READS))] * bool(slopes)
    return [(*row, number(mean(slopes), 3) if slopes and not n else '–') for n, row in enumerate(rows)]


RATES = ('task', 'arm', 'chosen', 'best on dev', 'mean over rates', 'runs', 'by rate')


def rate_of(standing: Standing) -> str:
    """The learning rate of an arm's runs and how it was found."""
    found = list(dict.fromkeys((run['rate']['value'], run['rate']['choice'], run['rate']['on_edge'])
                               for run in standing.runs))
    marks = {'tuned': '', 'not_tuned': ' rate_not_tuned', 'fixed': ''}
    return ', '.join(f'{value:g}{marks[choice]}{" rate_on_edge" if edge else ""}' for value, choice, edge in found)


def rate_rows(study: StudyInfo, records: Sequence[dict], tried: Sequence[dict]) -> list[tuple[str, ...]]:
    """The runs that chose the learning rates: one row an arm and task, in the order of the study."""
    rows = []
    for task in study.tasks:
        for name in task.arms:
            own = tried_by(study, task.name, name, tried)
            if not own:
                continue
            values = {rate: mean([dev_score(one) for one in own if one['rate'] == rate]) for rate in
                      sorted({one['rate'] for one in own})}
            best = max(values, key=values.get)
            rate = next((run['rate'] for run in record_file.select(study, task.name, records)[name]), None)
            chosen = f'{rate["value"]:g}{" rate_on_edge" if rate["on_edge"] else ""}' if rate else '–'
            rows.append((task.name, name, chosen, number(100 * values[best]), number(100 * mean([*values.values()])),
                         str(len(own)), ', '.join(f'{rate:g}: {number(100 * value)}' for rate, value in
                                                  values.items())))
    return rows


def tried_by(study: StudyInfo, task: str, arm: str, tried: Sequence[dict]) -> list[dict]:
    """The runs that chose the rate of an arm."""
    return [one for one in tried if (one['study'], one['profile'], one['task'], one['arm'])
            == (study.name, study.profile, task, arm)]


def dev_score(record: dict) -> float:
    """What is shown of a run that chose a rate: accuracy on dev (of text: BLEU / 100); 0 where it failed."""
    if record['status'] != 'finished':
        return 0.0
    return record['dev']['bleu'] / 100 if 'bleu' in record['dev'] else record['dev']['accuracy']


def rate_note(study: StudyInfo) -> str:
    """What the table of learning rates shows."""
    return ('Accuracy on dev in percent (translations: BLEU), mean over the seeds that tune, which no other run has. '
            'rate_on_edge: the best value was the last on its side, and the search ended.')


COSTS = ('parameters', 'without embeddings', 'against the base', 'FLOPs a token', 'against the base, FLOPs',
         'readable floats', 'state bytes', 'padding, %', 'steps', 'programs', 'seconds: compile (once)', 'train',
         'evaluate', 'step', 'shared with the base, of them equal at the start')


def costs(study: StudyInfo, standing: Standing, base: Standing | None) -> tuple[str, ...]:
    """What one arm costs: means over its finished runs; its seeds share their programs, which the first compiles."""
    if not standing.finished:
        return ('–',) * len(COSTS)

    def average(key, one=standing):
        values = [run[key] for run in one.finished]
        return None if None in values else mean(values)

    def seconds(key):
        return [run['seconds'][key] for run in standing.finished]

    def beside(key, kind):
        if not (base and base.finished):
            return '–'
        return against(average(key), average(key, base), MATCHED[kind], study.budget in ('', kind))
    state = average('state_bytes')
    return (count(average('parameters')), count(average('parameters_non_embedding')),
            beside('parameters_non_embedding', 'parameters'), short(average('flops_per_token')),
            beside('flops_per_token', 'flops'), count(average('readable_floats')),
            '–' if state is None else count(state), number(100 * average('padding')), count(average('steps')),
            number(average('programs'), 0), number(max(seconds('compile'))), number(mean(seconds('train'))),
            number(mean(seconds('evaluate'))), number(mean(seconds('step')), 4), _start(standing))


def _start(standing):
    """How many arrays of parameters an arm shares with the base, and how many of them start with the same numbers."""
    found = next((run['starts_equal'] for run in standing.finished if run.get('starts_equal')), None)
    return '–' if found is None else f'{found["shared"]}, {found["equal"]}'


def against(value: float, base: float, tolerance: float, marked: bool) -> str:
    """(110.2, 100, 0.01, True) -> '+10.2 %, not matched'; '0.0 %' for the base itself."""
    text = f'{100 * (value - base) / base:+z.1f} %'.replace('-', '−')
    text = text[1:] if text == '+0.0 %' else text
    return f'{text}, not matched' if marked and abs(value - base) > tolerance * base else text


def changes(differences: dict) -> list[str]:
    """Declared changes as lines: `key = value`, then what only the base has; if there are none, a line that says so."""
    lines = [f'{key} = {value!r}' for key, value in differences.items() if value is not None]
    missing = [key for key, value in differences.items() if value is None]
    return lines + ([f'without {", ".join(missing)}'] if missing else []) or ['none (the base)']


def command(study: StudyInfo, task: str, arm: str) -> str:
    """What repeats the runs of one arm on one task, with all their seeds."""
    return f'python -m experiments.run {study.name} --profile {study.profile} --unit {task}/{arm}'


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


def mean_and_range(score: Score, rates: tuple[float, float, float] | None) -> str:
    """(0.71, 0.7, 0.72) -> '71.0 (70.0 to 72.0)'; '71.0' when the ends are the same, '–' for None."""
    if rates is None:
        return '–'
    middle, low, high = (bare(score, rate) for rate in rates)
    return middle if low == high else f'{middle} ({low} to {high})'


def interval(score: Score, ends: tuple[float, float] | None) -> str:
    """(0.712, 0.733) -> '71.2 to 73.3'; '' for None."""
    return f'{bare(score, ends[0])} to {bare(score, ends[1])}' if ends else ''


def bare(score: Score, value: float) -> str:
    """0.7123 -> '71.2' where the score is a share; 3.4567 -> '3.457' where it is not."""
    return number(100 * value) if score.unit == '%' else number(value, 1 if score.unit == 'BLEU' else 3)


def signed(score: Score, value: float) -> str:
    """0.0341 -> '+3.4'; zero has no sign."""
    text = bare(score, value)
    return text if float(text) == 0 else f'+{text}' if value > 0 else text.replace('-', '−')


def shown(score: Score, value: float) -> str:
    """0.7123 -> '71.2 %'."""
    return f'{bare(score, value)} {score.unit}'.rstrip()


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
