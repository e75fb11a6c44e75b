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
from research.study import arms, card, page, records
from research.text.corpus import Pair
from research.training.report import read_jsonl
from research.translate import Translator

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
    note: str                   # one line for the card


class Expectation(NamedTuple):
    """What is expected, written down before the runs, and how it is read off them."""

    text: str
    arms: tuple[str, ...]                                             # whose runs it needs
    measure: Callable[[dict[str, list[dict]]], tuple[bool, str]]      # finished runs by arm -> met, the numbers


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
        workdir: pathlib.Path, command: str) -> records.StudyInfo:
    """Runs what is missing and writes results.jsonl, card.md and report.html.

    Args:
      study: what to run.
      task: one of study.configs.
      profile_name: one of study.profiles[task].
      names: of the arms to run, in the order of the study.
      seeds: how many; None = as the profile says.
      workdir: where everything is kept.
      command: what repeats this, for the card.

    Raises:
      UserError: an arm changes what it does not declare; the directory holds other runs of the same arms and seeds.
    """
    profile = study.profiles[task][profile_name]
    console = rich.console.Console()
    base = arms.override(study.configs[task](None), profile.changes)
    chosen = [arm for arm in study.arms if arm.name in names]
    configs = {arm.name: arms.override(study.configs[task](arm.words), profile.changes | dict(arm.changes))
               for arm in chosen}
    changes = {arm.name: arms.check_declared(arm.name, base, configs[arm.name], arm.declares) for arm in chosen}
    for config in configs.values():
        build.validate(config)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / 'results.jsonl'
    numbers = range(study.first_seed, study.first_seed + (profile.seeds if seeds is None else seeds))
    plan = [(arm, seed, _digest(configs[arm.name], seed, profile.test_sample)) for arm in chosen for seed in numbers]
    done = {(record['arm'], record['seed']): record['run'] for record in records.read(path)
            if (record['study'], record['task'], record['profile']) == (study.name, task, profile_name)}
    for arm, seed, digest in plan:
        if done.get((arm.name, seed), digest) != digest:
            raise UserError(f'{path} holds a run of arm {arm.name!r} with seed {seed} and another config. '
                            'Choose another --workdir')
    missing = [(arm, seed, digest) for arm, seed, digest in plan if (arm.name, seed) not in done]
    console.print(f'{study.name}, {task}, profile {profile_name}: {len(plan)} runs, {len(plan) - len(missing)} of them '
                  'done already')
    trainers = _Trainers(configs)
    begin = time.perf_counter()
    for number, (arm, seed, digest) in enumerate(missing):
        each = (time.perf_counter() - begin) / max(1, number)
        left = f', about {_duration(each * (len(missing) - number))} left' if number else ''
        console.rule(f'run {number + 1} of {len(missing)}: {arm.name}, seed {seed}{left}', align='left')
        record = {'study': study.name, 'task': task, 'profile': profile_name, 'arm': arm.name, 'seed': seed,
                  'run': digest, 'changes': changes[arm.name], 'data': trainers.data_hash,
                  'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'), **train.environment()}
        try:
            found = _one_run(trainers[arm.name], workdir / 'runs' / arm.name / str(seed), seed, profile.test_sample)
            record |= {'status': 'finished', 'error': None, **found}
        except DivergedError as error:  # anything else, such as a full disk, is no result: it stops the study
            console.print(f'failed: {error}')
            record |= {'status': 'failed', 'error': str(error)}
        records.append(path, record)
    return finish(study, task, profile_name, workdir, command, changes, console)


def finish(study: Study, task: str, profile_name: str, workdir: pathlib.Path, command: str,
           changes: dict[str, dict[str, Any]], console: rich.console.Console) -> records.StudyInfo:
    """Writes card and page from the records that are there, and prints the table."""
    path, profile = workdir / 'results.jsonl', study.profiles[task][profile_name]
    found = records.read(path)
    here = [record for record in found
            if (record['study'], record['task'], record['profile']) == (study.name, task, profile_name)]
    changes = {record['arm']: record['changes'] for record in here} | changes
    info = records.StudyInfo(
        study.name, study.question, task, profile_name,
        tuple(records.Arm(arm.name, arm.summary, arm.control, changes[arm.name]) for arm in study.arms
              if arm.name in changes),
        findings(study.expectations[task], here), command, (profile.note,))
    (workdir / 'card.md').write_text(card.card(info, found), encoding='utf-8')
    page.write(workdir / 'report.html', info, found)
    console.print(card.console_table(info, found))
    for finding in info.findings:
        mark = {True: '[green]met[/]', False: '[red]not met[/]', None: 'not run'}[finding.met]
        console.print(f'{mark}: {finding.text}{": " if finding.measured else ""}{finding.measured}')
    console.print(f'results  {path}\ncard     {workdir / "card.md"}\nreport   {workdir / "report.html"}')
    return info


def findings(expectations: Sequence[Expectation], found: Sequence[dict]) -> tuple[records.Finding, ...]:
    """Each expectation held against the finished runs; `met` is None where an arm that it needs has none."""
    runs: dict[str, list[dict]] = {}
    for record in found:
        if record['status'] == 'finished':
            runs.setdefault(record['arm'], []).append(record)
    return tuple(records.Finding(expectation.text, *(
        expectation.measure(runs) if all(runs.get(name) for name in expectation.arms) else (None, '')))
        for expectation in expectations)


class _Trainers:
    """The trainer of each arm, made when it is first needed; arms with the same data share it."""

    def __init__(self, configs: dict[str, Any]):
        self.configs = configs
        self._trainers: dict[str, train.Trainer] = {}

    @functools.cached_property
    def data(self) -> build.Data:
        return build.data(next(iter(self.configs.values())))

    @functools.cached_property
    def data_hash(self) -> str:
        digest = hashlib.sha256()
        for split in self.data.corpus:
            for pair in split:
                digest.update(f'{pair.source}\t{pair.target}\t{"|".join(pair.others)}\n'.encode())
        return digest.hexdigest()[:16]

    def __getitem__(self, name: str) -> train.Trainer:
        if name not in self._trainers:
            self._trainers = {name: train.Trainer(self.configs[name], self.data)}  # one arm's programs at a time
        return self._trainers[name]


def _one_run(trainer: train.Trainer, workdir: pathlib.Path, seed: int, test_sample: int | None) -> dict[str, Any]:
    """Trains and tests one seed of one arm; returns what the record says of it."""
    compiled = trainer.compile_seconds  # by another seed of this arm
    outcome = trainer.run(workdir, seed)
    config, corpus = trainer.config, trainer.data.corpus
    pairs = _spread(corpus.test, test_sample)
    begin = time.perf_counter()
    trainer.translator.compile(outcome.params, trainer.translator.shapes([pair.source for pair in pairs]))
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
        'programs': trainer.programs_compiled(),
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
                              [(pair.target, *pair.others) for pair in pairs])
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
