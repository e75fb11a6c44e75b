"""Runs a study: every arm with every seed, each once, and then its card and its page.

    results.jsonl                one line for each run that has ended
    runs/<arm>/<seed>/           its work directory: checkpoints, metrics, outputs
    card.md  report.html         written anew each time
"""

import datetime
import functools
import hashlib
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import rich.console

from research import build, evaluate, train
from research.errors import DivergedError, UserError
from research.evaluation import accuracy
from research.locked import locked
from research.study import arms, card, page, records
from research.text.corpus import Pair
from research.training.report import read_jsonl
from research.translator import Translator

ALIGNED_PAIRS = 500  # test pairs of training length whose links are compared with the known alignment
EXAMPLES = 2         # examples of each kind


class Arm(NamedTuple):
    """One thing that is compared: the words that choose it in a config file, and the keys it declares to change."""

    name: str
    summary: str               # one line: what it reads
    words: str                 # after the colon of --config
    declares: tuple[str, ...]  # dotted keys; one covers everything below it
    control: bool = False
    changes: tuple[tuple[str, Any], ...] = ()  # values at dotted keys, after the words


class Profile(NamedTuple):
    """How much of a study is run."""

    seeds: int                  # how many
    changes: dict[str, Any]     # dotted keys of the base
    test_sample: int | None     # so many test pairs, spread evenly; None = all
    note: str                   # one line for the card; '' = none


class NotMeasuredError(Exception):
    """Raised by an expectation that the runs say nothing about; the message says why."""


class Expectation(NamedTuple):
    """What is expected, written down before the runs, and how it is read off them."""

    text: str
    arms: tuple[str, ...]  # whose runs it needs
    measure: Callable[[dict[str, list[dict]]], tuple[bool, str]]  # finished runs by arm -> met, and the numbers


class Study(NamedTuple):
    """A question and everything that is done to answer it."""

    name: str
    question: str
    configs: dict[str, Callable[[str | None], Any]]   # task -> get_config of its file
    arms: tuple[Arm, ...]                             # controls first; the base is what no words choose
    profiles: dict[str, dict[str, Profile]]           # task -> name -> profile
    expectations: dict[str, tuple[Expectation, ...]]  # task -> expectations
    first_seed: int                                   # of the runs: never one that was used to tune


def run(study: Study, task: str, profile_name: str, names: Sequence[str], seeds: int | None,
        workdir: pathlib.Path) -> records.StudyInfo:
    """Runs what is missing and writes results.jsonl, card.md and report.html.

    Args:
      study: what to run.
      task: one of study.configs.
      profile_name: one of study.profiles[task].
      names: of the arms to run, in the order of the study.
      seeds: how many; None = as the profile says.
      workdir: where everything is kept.

    Raises:
      UserError: an arm changes what it does not declare, or its data; the directory holds runs that cannot be compared
        with these (another config, other data); another process writes there.
    """
    profile = study.profiles[task][profile_name]
    configs, changes = settled(study, task, profile)
    for name in names:
        build.validate(configs[name])
    with locked(workdir):
        path = workdir / 'results.jsonl'
        done = _done(study, task, profile_name, path, configs, profile.test_sample)
        first = study.first_seed
        plan = [(arm.name, seed) for arm in study.arms if arm.name in names
                for seed in range(first, first + (profile.seeds if seeds is None else seeds))]
        missing = [run for run in plan if run not in done]
        console = rich.console.Console()
        console.print(f'{study.name}, {task}, profile {profile_name}: {len(plan)} runs, {len(plan) - len(missing)} of '
                      'them done already')
        trainers, begin = _Trainers(configs), time.perf_counter()
        if missing and set(done.values()) - {trainers.data.digest}:
            raise UserError(f'{path} holds runs on other data than there is now. Choose another --workdir')
        for number, (name, seed) in enumerate(missing):
            each = (time.perf_counter() - begin) / max(1, number)
            left = f', about {_duration(each * (len(missing) - number))} left' if number else ''
            console.rule(f'run {number + 1} of {len(missing)}: {name}, seed {seed}{left}', align='left')
            record = {'study': study.name, 'task': task, 'profile': profile_name, 'arm': name, 'seed': seed,
                      'run': _digest(configs[name], seed, profile.test_sample), 'changes': changes[name],
                      'data': trainers.data.digest,
                      'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'), **train.environment()}
            try:
                found = _one_run(trainers[name], workdir / 'runs' / name / str(seed), seed, profile.test_sample)
                record |= {'status': 'finished', 'error': None, **found}
            except DivergedError as error:  # anything else, such as a full disk, is no result: it stops the study
                console.print(f'failed: {error}', markup=False, soft_wrap=True)
                record |= {'status': 'failed', 'error': str(error)}
            records.append(path, record)
        return finish(study, task, profile_name, workdir, console)


def settled(study: Study, task: str, profile: Profile) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The config of every arm, and what each of them changes; raises UserError when it may not."""
    get_config = study.configs[task]
    base = arms.override(get_config(None), profile.changes)
    configs = {arm.name: arms.override(get_config(arm.words), profile.changes | dict(arm.changes))
               for arm in study.arms}
    changes = {arm.name: arms.check_declared(arm.name, base, configs[arm.name], arm.declares) for arm in study.arms}
    for name, keys in changes.items():
        other = [key for key in keys if key.split('.')[0] in ('data', 'batches', 'decoding', 'evaluation')]
        if other:
            raise UserError(f'arm {name!r} changes {other[0]}; all arms learn from and are tested on the same batches')
    return configs, changes


def finish(study: Study, task: str, profile_name: str, workdir: pathlib.Path,
           console: rich.console.Console) -> records.StudyInfo:
    """Writes card and page from the records that are there, and prints the table."""
    path, profile = workdir / 'results.jsonl', study.profiles[task][profile_name]
    found = records.read(path)
    _, changes = settled(study, task, profile)
    here = [record for record in found if _belongs(record, study, task, profile_name)]
    info = records.StudyInfo(
        study.name, study.question, task, profile_name,
        tuple(records.ArmInfo(arm.name, arm.summary, arm.control, changes[arm.name]) for arm in study.arms),
        findings(study.expectations[task], here), commands(study, task, profile_name, here),
        (profile.note,) if profile.note else ())
    card.write(workdir / 'card.md', info, found)
    page.write(workdir / 'report.html', info, found)
    console.print(card.console_table(info, found))
    for finding in info.findings:
        measured = f': {finding.measured}' if finding.measured else ''
        console.print(f'{card.VERDICTS[finding.met]}: {finding.text}{measured}', markup=False, highlight=False,
                      soft_wrap=True)
    console.print(f'results  {path}\ncard     {workdir / "card.md"}\nreport   {workdir / "report.html"}', markup=False,
                  highlight=False, soft_wrap=True)
    return info


def commands(study: Study, task: str, profile_name: str, found: Sequence[dict]) -> tuple[str, ...]:
    """What repeats the runs that are there: a command for each number of seeds."""
    counts: dict[int, list[str]] = {}
    for arm in study.arms:
        seeds = {record['seed'] for record in found if record['arm'] == arm.name}
        if seeds:
            counts.setdefault(max(seeds) - study.first_seed + 1, []).append(arm.name)
    return tuple(f'python -m experiments.run {study.name} --task {task} --arms {",".join(names)} --seeds {count} '
                 f'--profile {profile_name}' for count, names in counts.items())


def findings(expectations: Sequence[Expectation], found: Sequence[dict]) -> tuple[records.Finding, ...]:
    """Each expectation held against the runs.

    `met` is None where an arm that it needs has no run, or where the runs say nothing about it. A run that failed
    counts: what needs its arm is not met.
    """
    return tuple(_finding(expectation, {name: [record for record in found if record['arm'] == name]
                                        for name in expectation.arms}) for expectation in expectations)


def _finding(expectation: Expectation, runs: dict[str, list[dict]]) -> records.Finding:
    failed = {name: sum(record['status'] == 'failed' for record in own) for name, own in runs.items()}
    if not all(runs.values()):
        return records.Finding(expectation.text, None, '')
    if any(failed.values()):
        return records.Finding(expectation.text, False, ', '.join(
            f'{count} of {len(runs[name])} runs of {name} failed' for name, count in failed.items() if count))
    try:
        return records.Finding(expectation.text, *expectation.measure(runs))
    except NotMeasuredError as why:
        return records.Finding(expectation.text, None, str(why))


def _belongs(record: dict, study: Study, task: str, profile_name: str) -> bool:
    return (record['study'], record['task'], record['profile']) == (study.name, task, profile_name)


def _done(study: Study, task: str, profile_name: str, path: pathlib.Path, configs: dict[str, Any],
          test_sample: int | None) -> dict[tuple[str, int], str]:
    """The runs that are recorded, and the data of each; raises UserError when one was made with another config."""
    done = {}
    for record in records.read(path):
        if _belongs(record, study, task, profile_name):
            name, seed = record['arm'], record['seed']
            if name not in configs or record['run'] != _digest(configs[name], seed, test_sample):
                raise UserError(f'{path} holds a run of arm {name!r} with seed {seed} and another config than it has '
                                'now. Choose another --workdir')
            done[name, seed] = record['data']
    return done


class _Trainers:
    """The trainer of each arm, made when it is first needed; they share the data."""

    def __init__(self, configs: dict[str, Any]):
        self.configs = configs
        self._trainers: dict[str, train.Trainer] = {}

    @functools.cached_property
    def data(self) -> build.Data:
        return build.data(next(iter(self.configs.values())))

    def __getitem__(self, name: str) -> train.Trainer:
        if name not in self._trainers:
            self._trainers = {name: train.Trainer(self.configs[name], self.data)}  # one arm's programs at a time
        return self._trainers[name]


def _one_run(trainer: train.Trainer, workdir: pathlib.Path, seed: int, test_sample: int | None) -> dict[str, Any]:
    """Trains and tests one seed of one arm; returns what the record says of it."""
    compiled = trainer.compile_seconds  # by another seed of this arm
    to_decode = {*trainer.translator.shapes(trainer.lines)}
    outcome = trainer.run(workdir, seed)
    config, corpus = trainer.config, trainer.data.corpus
    pairs = _spread(corpus.test, test_sample)
    begin = time.perf_counter()
    to_test = trainer.translator.shapes([pair.source for pair in pairs])
    trainer.translator.compile(outcome.params, to_test)
    compiling = trainer.compile_seconds - compiled + time.perf_counter() - begin
    begin = time.perf_counter()
    result = evaluate.evaluate(trainer.translator, outcome.params, pairs, build.length_edges(config))
    testing = time.perf_counter() - begin
    longest = max(len(pair.alignment) for pair in corpus.train)
    aligned = [pair for pair in pairs if pair.alignment and len(pair.alignment) <= longest][:ALIGNED_PAIRS]
    weighted = trainer.model.reads == 'source'
    scores = evaluate.alignment_scores(trainer.model, outcome.params, trainer.data.source, trainer.data.target,
                                       aligned) if aligned and weighted else None
    examples = _examples(trainer, outcome.params, pairs, result, weighted)
    lines, _ = read_jsonl(workdir / 'metrics.jsonl')
    total, without = build.parameters(trainer.model)
    source_length = 1 + float(np.mean([len(found.source) - 1 for found in result.translations]))
    target_length = 1 + float(np.mean([len(trainer.data.target.encode(pair.target)) - 1 for pair in pairs]))
    S, T = round(source_length), round(target_length)
    return {
        'parameters': total, 'parameters_non_embedding': without,
        'flops_per_token': 3 * build.flops(trainer.model, S, T) / T,
        'readable_floats': build.readable_floats(trainer.model, S),
        'steps': trainer.loop.steps, 'best_step': outcome.best_step,
        'programs': sum(trainer.program_count().values()) + len({*to_test} - to_decode),
        'seconds': {'compile': round(compiling, 2),
                    'train': round(sum(line['seconds'] for line in lines if line['kind'] == 'train'), 2),
                    'evaluate': round(testing, 2)},
        'scores': {**result.scores, 'loss': trainer.loss(outcome.params, pairs)},
        'by_length': [{'low': row['low'], 'high': row['high'], 'count': row['count'], 'right': round(row['sum'])}
                      for row in result.by_length],
        'curve': _curve(lines), 'alignment': scores, 'examples': examples,
    }


def _spread(pairs: list[Pair], count: int | None) -> list[Pair]:
    """So many pairs at even distances, always the same ones."""
    if count is None or count >= len(pairs):
        return pairs
    return [pairs[index] for index in np.linspace(0, len(pairs) - 1, count).astype(int)]


def _curve(lines: list[dict]) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl as one point for each step."""
    points: dict[int, dict[str, Any]] = {}
    for line in lines:
        point = points.setdefault(line['step'], {'step': line['step'], 'train_loss': None, 'dev_loss': None,
                                                 'dev_accuracy': None})
        if line['kind'] == 'train':
            point['train_loss'] = line['loss']
        elif line['kind'] == 'dev':
            point['dev_loss'], point['dev_accuracy'] = line['loss'], line['accuracy']
    return [points[step] for step in sorted(points)]


def _examples(trainer: train.Trainer, params: Any, pairs: list[Pair], result: evaluate.Evaluation,
              weighted: bool) -> list[dict[str, Any]]:
    """Longest, shortest and median sources, the same for all arms, and this run's worst outputs, with their weights."""
    sizes = [len(found.source) for found in result.translations]
    by_size = sorted(range(len(pairs)), key=lambda index: (sizes[index], pairs[index].source))
    middle = max(0, len(by_size) // 2 - EXAMPLES // 2)
    edits, _ = accuracy.edits([found.text for found in result.translations],
                              evaluate.right_answers(trainer.data.target, pairs),
                              accuracy.counted(trainer.data.target.unit))
    worst = sorted(range(len(pairs)), key=lambda index: (-edits[index], pairs[index].source))
    chosen: dict[str, tuple[str, int]] = {}  # by source: no word is shown twice
    for rule, indices in (('longest', by_size[::-1]), ('shortest', by_size), ('median', by_size[middle:]),
                          ('worst', worst)):
        others = (index for index in indices if pairs[index].source not in chosen)
        for index in itertools.islice(others, EXAMPLES):
            chosen[pairs[index].source] = rule, index
    translator = trainer.translator
    if weighted:
        translator = Translator(trainer.model, trainer.data.source, trainer.data.target, translator.decoding, True)
    found = translator(params, list(chosen))
    return [{'rule': rule, 'source': one.source[:-1], 'output': one.symbols,
             'answer': trainer.data.target.symbols(trainer.data.target.encode(pairs[index].target)),
             'right': bool(result.right[index]),
             'weights': np.round(one.weights.mean(axis=0), 3).tolist() if weighted else None}
            for (rule, index), one in zip(chosen.values(), found, strict=True)]


def _digest(config: Any, seed: int, test_sample: int | None) -> str:
    text = json.dumps([build.digest(build.with_seed(config, seed)), test_sample])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f'{minutes} min {seconds:02} s' if minutes else f'{seconds} s'
