"""What a study remembers: one JSON line a run in results.jsonl, and what the card and the page need to know besides.

A record is a dictionary. Every run has

    study, task, profile, arm    str         seed  int        run  str: hash of the resolved config
    status    'finished' or 'failed'         error  None, or one line when failed
    changes   {dotted key: value}: the difference to the base: declared, or made to meet the budget
    rate      {'value', 'choice', 'on_edge', 'tried'}: learning rate; 'tuned' on dev for this arm, 'not_tuned' (the
              base's) or 'fixed' (the config's); whether the best one was the last on its side; how many runs chose it
    data      str: hash of the data          machine  str     time  str: ISO 8601
    versions  {name: version} of seq2lab (with its commit), python and the packages that decide numbers

and a finished run, where a failed one may have None or nothing at all, has

    parameters, parameters_non_embedding  int
    flops_per_token       float: forward and backward, for each target token, at the mean lengths of test
    readable_floats       float: floats of source state that a step may read, at the mean source length
    state_bytes           int or None: kept of a sentence while its longest target is written; None = not step by step
    padding               float: share of the training positions that hold no symbol
    steps, best_step      int                programs  int: that one run takes
    seconds     {'compile', 'train', 'evaluate', 'step'}: train without measuring and saving, evaluate without
                compiling, one warm step; seeds share their arm's programs, so that compile is 0 where an earlier run
                has made them
    scores      {name: number} on the test set, none in percent: token_accuracy and loss (of the given right answers),
                accuracy and token_error_rate (of what was written; a model without a source: of what was asked),
                bleu, and what the study adds
    by_length   [{'low', 'high', 'count', 'right', 'tokens', 'tokens_right', 'loss'}]: test pairs by source length (of
                a model without a source: by target length), both ends inclusive; loss is the sum; perhaps 'bleu'
    curve       [{'step', 'train_loss', 'dev_loss', 'dev_accuracy'}], None where nothing was measured
    dev         {'accuracy', 'loss'}, perhaps 'bleu': the measurement on dev that chose the parameters
    right       str: which test pairs are right, in order: the bits in hexadecimal, the first one highest; None where
                pairs are not right or wrong
    alignment   None or {'error_rate', 'shift', 'error_rate_shifted'}
    diagnostics {name: number, list or None}: how it reads (research/analysis/diagnostics.py)
    outputs     the lines that were written, of translations; else None
    examples    [{'rule', 'source', 'answer', 'output', 'right', 'weights'}]; source, answer and output are lists of
                symbols; weights are a list of heads of rows, one for each output symbol, of one weight for each source
                symbol, where rows and columns may have one more for the end symbol; None where no positions are read

Further keys are kept as they are. tuning.jsonl holds the runs that chose the rates: study to error as above and

    rate      float                          steps, best_step  int       seconds  float
    dev       {'accuracy', 'loss'}, perhaps 'bleu': the best measurement on dev; None when failed
"""

import fcntl
import itertools
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError


class Score(NamedTuple):
    """What arms are compared by: one of the scores of a record."""

    name: str       # its key there
    title: str      # in words
    unit: str       # '%' = a share, shown times 100; else what the number is measured in, '' = nothing
    higher: bool    # whether higher is better
    failed: float   # what a failed run counts as
    lengths: str    # what is shown by length: right (of count), tokens_right (of tokens), loss (a token) or bleu


class ArmInfo(NamedTuple):
    """One thing that is compared."""

    name: str
    summary: str      # one line: what it reads
    control: bool     # is there to be beaten
    changes: dict     # {dotted key: value}: the declared difference to the base


class TaskInfo(NamedTuple):
    """One setting in which arms are compared."""

    name: str
    summary: str           # one line
    floor: float | None    # the score of guessing
    arms: tuple[str, ...]  # that take part


class Planned(NamedTuple):
    """A comparison that was planned before the runs: arm against another one on a task."""

    task: str
    arm: str
    against: str


class Beside(NamedTuple):
    """What else is known of a planned comparison: of the test sentences, and of how many runs it takes."""

    sentences: Any | None   # evaluation.translation.Comparison of the median seeds' outputs; None = no translations
    both: Any | None        # variance.TwoWay: other seeds and other test pairs at once; None where pairs have no score
    needed: int | None      # runs that would show the difference, if it is as large as it seems; None = none would


class Finding(NamedTuple):
    """One expectation of a study, written down before the runs, and what came of it."""

    text: str
    mark: str        # met, not met, not measured, or: not decidable at n = k
    measured: str    # the numbers, '' if there are none


class StudyInfo(NamedTuple):
    """What a card and a page say besides the records."""

    name: str
    question: str
    profile: str
    score: Score
    tasks: tuple[TaskInfo, ...]
    arms: tuple[ArmInfo, ...]        # in the order of the study; colours follow it
    base: str                        # name of the arm that the others differ from
    planned: tuple[Planned, ...]     # the comparisons that are tested; Holm's correction counts all of them
    phase: bool                      # fewer than ten seeds make no claim
    threshold: float | None          # of dev accuracy, for steps to threshold
    budget: str                      # parameters, flops, seconds; '' = none was declared
    findings: tuple[Finding, ...]
    commands: tuple[str, ...]        # repeat everything, one line each
    notes: tuple[str, ...]
    beside: Mapping[Planned, Beside] = {}  # of the planned comparisons that have runs


NUMBER = (int, float)
ALWAYS = {'study': str, 'task': str, 'profile': str, 'arm': str, 'seed': int, 'run': str, 'status': str,
          'changes': dict, 'rate': dict, 'data': str, 'machine': str, 'versions': dict, 'time': str}
FINISHED = {'parameters': int, 'parameters_non_embedding': int, 'flops_per_token': NUMBER, 'readable_floats': NUMBER,
            'padding': NUMBER, 'steps': int, 'best_step': int, 'programs': int, 'seconds': dict, 'scores': dict,
            'by_length': list, 'curve': list, 'diagnostics': dict, 'examples': list}
OPTIONAL = {'state_bytes': int, 'right': str, 'alignment': dict}  # or None
RATE = {'value': NUMBER, 'choice': str, 'on_edge': bool, 'tried': int}
CHOICES = ('tuned', 'not_tuned', 'fixed')
SECONDS = {'compile': NUMBER, 'train': NUMBER, 'evaluate': NUMBER, 'step': NUMBER}
BUCKET = {'low': int, 'high': int, 'count': int, 'right': int, 'tokens': int, 'tokens_right': int, 'loss': NUMBER}
MEASURED = ('train_loss', 'dev_loss', 'dev_accuracy')
EXAMPLE = {'rule': str, 'source': list, 'answer': list, 'output': list, 'right': bool}
ALIGNMENT = {'error_rate': NUMBER, 'shift': int, 'error_rate_shifted': NUMBER}
TUNING = {'study': str, 'task': str, 'profile': str, 'arm': str, 'seed': int, 'run': str, 'status': str,
          'rate': NUMBER, 'data': str, 'machine': str, 'versions': dict, 'time': str}


def bits(right: np.ndarray) -> str:
    """Which test pairs are right, bool [pairs], as a record has them."""
    return np.packbits(right).tobytes().hex()


def right(run: dict) -> np.ndarray:
    """Which test pairs of a run are right: bool [pairs], what `bits` was given."""
    count = sum(row['count'] for row in run['by_length'])
    return np.unpackbits(np.frombuffer(bytes.fromhex(run['right']), np.uint8), count=count).astype(bool)


def append(path: str | os.PathLike, record: dict) -> None:
    """Adds one run to a file of records, in one write that has reached the disk when this returns.

    A torn last line (a process was killed while it wrote) is cut off first: its run was never recorded. Several
    processes may add to one file.

    Raises:
      ValueError: the record breaks the schema, or holds a number that JSON does not have (write None for nan).
      UserError: the file cannot be written.
    """
    fault = next(_faults(record), None)
    if fault:
        raise ValueError(f'A record that nobody could read again: {fault}.')
    append_line(path, record)


def append_line(path: str | os.PathLike, record: dict) -> None:
    """`append` of a record of any schema."""
    line = json.dumps(record, allow_nan=False).encode() + b'\n'
    try:
        with open(path, 'ab+') as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            file.seek(0)
            tail = file.read().rpartition(b'\n')[2]
            if _torn(tail):
                file.truncate(file.tell() - len(tail))
            elif tail:  # a whole record that an editor left without its line end
                line = b'\n' + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f'{path}: cannot write: {error.strerror}.') from error


def read(path: str | os.PathLike) -> list[dict]:
    """Reads all runs of a file; no file is no runs.

    A torn last line is left out with a word on standard error: its run counts as not made.

    Raises:
      UserError: a line is damaged, or the same run stands there twice; the message names file and line.
    """
    records, seen = read_lines(path), {}
    for number, record in enumerate(records, 1):
        fault = next(_faults(record), None)
        if fault:
            raise UserError(f'{path}:{number}: {fault}. Restore or delete the line.')
        run = tuple(record[name] for name in ('study', 'task', 'profile', 'arm', 'seed', 'run'))
        if run in seen:
            raise UserError(f'{path}:{number}: arm {record["arm"]!r} seed {record["seed"]} stands already in line '
                            f'{seen[run]}: a run counts once, delete one of the two.')
        seen[run] = number
    return records


def append_tuning(path: str | os.PathLike, record: dict) -> None:
    """`append` of a run that was to choose a rate."""
    fault = next(_tuning_faults(record), None)
    if fault:
        raise ValueError(f'A record that nobody could read again: {fault}.')
    append_line(path, record)


def read_tuning(path: str | os.PathLike) -> list[dict]:
    """`read` of tuning.jsonl."""
    records = read_lines(path)
    for number, record in enumerate(records, 1):
        fault = next(_tuning_faults(record), None)
        if fault:
            raise UserError(f'{path}:{number}: {fault}. Restore or delete the line.')
    return records


def read_lines(path: str | os.PathLike) -> list[dict]:
    """`read` of records of any schema."""
    try:
        with open(path, 'rb') as file:
            *lines, tail = file.read().split(b'\n')
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f'{path}: cannot read: {error.strerror}.') from error
    if _torn(tail):
        print(f'{path}:{len(lines) + 1}: the last line was cut off while it was written; its run counts as not made.',
              file=sys.stderr)
    elif tail:
        lines.append(tail)
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise UserError(f'{path}:{number}: not one JSON object: {error}. Restore or delete the line.') from error
    return records


def select(study: StudyInfo, task: str, records: Iterable[dict]) -> dict[str, list[dict]]:
    """The runs of one study on one task with one profile: {arm: runs by seed}, in the order of the study.

    Runs of other studies and profiles belong to other cards. An arm without a run has an empty list.

    Raises:
      UserError: a run belongs to no arm of the study; two runs of an arm share a seed (their configs differ); finished
        runs were tested on different data.
    """
    part, = (one.arms for one in study.tasks if one.name == task)
    runs = {arm.name: [] for arm in study.arms if arm.name in part}
    for record in records:
        if (record['study'], record['task'], record['profile']) != (study.name, task, study.profile):
            continue
        if record['arm'] not in runs:
            raise UserError(f'Study {study.name!r} has no arm {record["arm"]!r} on task {task!r}, but its records do. '
                            f'It has: {", ".join(runs)}.')
        runs[record['arm']].append(record)
    finished = []
    for name, own in runs.items():
        own.sort(key=lambda run: run['seed'])
        for first, second in itertools.pairwise(own):
            if first['seed'] == second['seed']:
                raise UserError(f'Arm {name!r} has two runs of seed {first["seed"]} with different configs, '
                                f'{first["run"]} and {second["run"]}: compare only one of them.')
        finished += [run for run in own if run['status'] == 'finished']
    for run in finished:
        if run['data'] != finished[0]['data'] or _buckets(run) != _buckets(finished[0]):
            raise UserError(f'Arm {run["arm"]!r} seed {run["seed"]} was tested on other data or length buckets than '
                            f'arm {finished[0]["arm"]!r} seed {finished[0]["seed"]}: they cannot be compared.')
    return runs


def _buckets(run):
    return [(row['low'], row['high'], row['count']) for row in run['by_length']]


def _torn(tail):
    """Whether what stands behind the last line end is the beginning of a record: there, and no JSON."""
    try:
        json.loads(tail)
    except ValueError:
        return bool(tail)
    return False


def _faults(record):
    """What is wrong with a record, in phrases; only the first is sure, the others may follow from it."""
    yield from _field_faults(record, ALWAYS)
    yield from _field_faults(record['rate'], RATE, 'rate.')
    if record['rate']['choice'] not in CHOICES:
        yield f"'rate.choice' must be one of {', '.join(CHOICES)}, not {record['rate']['choice']!r}"
    if record['status'] not in ('finished', 'failed'):
        yield f"'status' must be 'finished' or 'failed', not {record['status']!r}"
    elif record['status'] == 'failed':
        if not isinstance(record.get('error'), str):
            yield "a failed run must say its 'error'"
    else:
        yield from _finished_faults(record)


def _finished_faults(record):
    if record.get('error') is not None:
        yield "a finished run has no 'error'"
    yield from _field_faults(record, FINISHED)
    for name, kind in OPTIONAL.items():
        if name not in record:
            yield f"no '{name}' (null where there is none)"
        if record[name] is not None:
            yield from _field_faults(record, {name: kind})
    yield from _field_faults(record['seconds'], SECONDS, 'seconds.')
    yield from _field_faults(record['scores'], dict.fromkeys(record['scores'], NUMBER), 'scores.')
    if record['alignment'] is not None:
        yield from _field_faults(record['alignment'], ALIGNMENT, 'alignment.')
    for n, row in enumerate(record['by_length']):
        where = f'by_length[{n}].'
        yield from _field_faults(row, BUCKET, where)
        for part, whole in (('right', 'count'), ('tokens_right', 'tokens')):
            if not 0 <= row[part] <= row[whole]:
                yield f"'{where}{part}' must lie between 0 and {whole} = {row[whole]}, not {row[part]}"
    for n, row in enumerate(record['curve']):
        where = f'curve[{n}].'
        yield from _field_faults(row, {'step': int}, where)
        for name in MEASURED:
            if name not in row:
                yield f"no '{where}{name}' (null where it was not measured)"
            if row[name] is not None:
                yield from _field_faults(row, {name: NUMBER}, where)
    for n, row in enumerate(record['examples']):
        yield from _example_faults(row, f'examples[{n}].')


def _tuning_faults(record):
    yield from _field_faults(record, TUNING)
    if record['status'] not in ('finished', 'failed'):
        yield f"'status' must be 'finished' or 'failed', not {record['status']!r}"
    if record['status'] == 'failed':
        yield from _field_faults(record, {'error': str})
    else:
        yield from _field_faults(record, {'steps': int, 'best_step': int, 'seconds': NUMBER, 'dev': dict})
        yield from _field_faults(record['dev'], {'accuracy': NUMBER, 'loss': NUMBER}, 'dev.')


def _example_faults(row, where):
    yield from _field_faults(row, EXAMPLE, where)
    for name in ('source', 'answer', 'output'):
        if not all(isinstance(symbol, str) for symbol in row[name]):
            yield f"'{where}{name}' must be a list of symbols (text)"
    if 'weights' not in row:
        yield f"no '{where}weights' (null where the arm reads no positions)"
    weights, T, S = row['weights'], len(row['output']), len(row['source'])
    if weights is None:
        return
    if not isinstance(weights, list) or not weights or not all(isinstance(head, list) and all(
            isinstance(line, list) for line in head) for head in weights):
        yield f"'{where}weights' must be a list of heads, each a list of lists"
    rows, widths = {len(head) for head in weights}, {len(line) for head in weights for line in head}
    if len(rows) > 1 or not rows <= {T, T + 1} or len(widths) > 1 or not widths <= {S, S + 1}:
        yield (f"'{where}weights' must be {T} x {S} (output x source symbols, or one more for the end symbol), not "
               f'{", ".join(map(str, sorted(rows)))} x {", ".join(map(str, sorted(widths)))}')
    if not all(_is(weight, NUMBER) for head in weights for line in head for weight in line):
        yield f"'{where}weights' must be finite numbers"


def _field_faults(value, fields, where=''):
    if not isinstance(value, dict):
        yield f"{where.rstrip('.') or 'a record'} must be a JSON object, not {type(value).__name__}"
    for name, kind in fields.items():
        if name not in value:
            yield f"no '{where}{name}'"
        if not _is(value[name], kind):
            kinds = 'a finite number' if kind is NUMBER else f'of type {kind.__name__}'
            yield f"'{where}{name}' must be {kinds}, not {value[name]!r:.60}"


def _is(value, kind):
    """Like isinstance, but True is not a number, and neither are nan and infinity."""
    if kind in (int, NUMBER):
        return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind)
