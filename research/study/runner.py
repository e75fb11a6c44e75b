"""Runs a study: every arm on every task with every seed, each once, and then its card and its page.

    results.jsonl  tuning.jsonl       one line for each run that has ended; those of tuning.jsonl chose learning rates
    plan.json                         what was measured and solved before the first run, and is kept
    README.md  report.html  tables/   written anew each time

Checkpoints, metrics and outputs of the runs stand in a work directory of their own:

    tuning/<task>/<arm>/<rate>-<seed>/    runs/<task>/<arm>/<seed>/

A unit is one arm on one task: it tunes and then runs its seeds. Units of several processes can run side by side.
"""

import contextlib
import datetime
import functools
import hashlib
import json
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import rich.console

from research import build, evaluate, train
from research.errors import DivergedError, UserError
from research.locked import locked
from research.several import Several
from research.study import arms, budget, card, comparison, page, pool, records, tables, testing, tuning, ways
from research.study.definition import (
    Arm,
    Budget,
    Expectation,
    NotDecidableError,
    NotMeasuredError,
    Profile,
    Runs,
    Study,
    Task,
)
from research.training import workdir as workdirs
from research.training.report import duration

SAME = ('data', 'batches', 'decoding', 'evaluation')  # sections of a config that no arm may change
RESULTS, TUNING, PLAN = 'results.jsonl', 'tuning.jsonl', 'plan.json'
FAILED = 1  # exit code where the process of a unit failed
Say = Callable[[str], None]


class Folders(NamedTuple):
    """Where a study is kept."""

    results: pathlib.Path  # what is recorded of it
    workdir: pathlib.Path  # checkpoints, metrics and outputs of its runs


class Unit(NamedTuple):
    """One arm on one task."""

    task: str
    arm: str

    def __str__(self) -> str:
        return f'{self.task}/{self.arm}'


class Settled(NamedTuple):
    """What every unit is, before anything runs."""

    configs: dict[Unit, Any]
    changes: dict[Unit, dict[str, Any]]  # to the base: declared, and made to meet the budget


# ------------------------------------------------------------------------------------------------- before anything runs

def settled(study: Study, profile: Profile, sizes: Mapping[str, Mapping[str, int]]) -> Settled:
    """The config of every unit, and what each of them changes.

    Args:
      study: whose.
      profile: its values are set in every config.
      sizes: what `solved` found for each unit, by its name; {} where there is no budget.

    Raises:
      UserError: an arm changes what it does not declare, or its data; a config has a value that is not allowed.
    """
    configs, changes = {}, {}
    for task in _tasks(study, profile):
        base = _config(study, profile, task, study.arm(study.base))
        if arms.differences(base, _of_task(study, profile, task, '')):
            raise UserError(f'study {study.name!r}: its base, {study.base}, must be the config that no words choose')
        for arm in study.takes_part(task.name):
            unit, config = Unit(task.name, arm.name), _config(study, profile, task, arm)
            found = arms.check_declared(arm.name, base, config, arm.declares)
            other = [key for key in found if key.split('.')[0] in SAME]
            if other:
                raise UserError(f'arm {arm.name!r} changes {other[0]}; all arms learn from and are tested on the same '
                                'batches')
            config = arms.override(config, sizes.get(str(unit), {}))
            build.validate(config)
            configs[unit], changes[unit] = config, arms.differences(base, config)
    return Settled(configs, changes)


def _tasks(study: Study, profile: Profile) -> list[Task]:
    return [task for task in study.tasks if not profile.tasks or task.name in profile.tasks]


def _config(study: Study, profile: Profile, task: Task, arm: Arm) -> Any:
    return arms.override(_of_task(study, profile, task, arm.words), dict(arm.changes))


def _of_task(study: Study, profile: Profile, task: Task, words: str) -> Any:
    ends = {'training.enough': study.threshold} if profile.ends_at_threshold else {}
    return arms.override(task.get_config(words or None), {**task.changes, **profile.changes, **ends})


def solved(study: Study, profile: Profile, say: Say) -> dict[str, dict[str, int]]:
    """The free sizes that make every arm meet the declared budget, by unit and dotted key; {} without a budget.

    Raises:
      UserError: an arm cannot meet it, or names a size of its own that a budget of seconds is not met by.
    """
    if study.budget is None:
        return {}
    for arm in study.arms:
        if study.budget.kind == 'seconds' and arm.free:
            raise UserError(f'arm {arm.name!r} names {arm.free[0]} as its free size, but a budget of seconds is met by '
                            f'{study.budget.free[0]}: name none')
    configs, sizes = settled(study, profile, {}).configs, {}
    for task in _tasks(study, profile):
        base = configs[Unit(task.name, study.base)]
        data = build.data(base)
        target = _costs(study.budget, base, (), data)(build.loop(base).steps)
        for unit in (one for one in configs if one.task == task.name and one.arm != study.base):
            free = study.arm(unit.arm).free or study.budget.free
            size = budget.solve(_costs(study.budget, configs[unit], free, data), target, study.budget.tolerance,
                                f'arm {unit.arm!r} on {task.name}, by {" = ".join(free)},', study.budget.multiple)
            sizes[str(unit)] = dict.fromkeys(free, size)
            say(f'{unit}: {" = ".join(free)} = {size} meets the budget of {study.budget.kind}')
    return sizes


def _costs(limit: Budget, config: Any, free: Sequence[str], data: build.Data) -> Callable[[int], float]:
    """What a config with this number at its free keys has of what arms are to agree in; without keys it is as it is."""
    if limit.kind == 'seconds':
        each = ways.seconds_per_step(train.Trainer(config, data))
        return lambda steps: steps * each

    def cost(size):
        model = build.model(arms.override(config, dict.fromkeys(free, size)), len(data.source), len(data.target))
        if limit.kind == 'parameters':
            return build.parameters(model)[1]
        S, T, _ = testing.sizes(data, data.corpus.test)
        return 3 * build.flops(model, S, T) / T
    return cost


# ------------------------------------------------------------------------------------------------------------- a study

def run(study: Study, profile_name: str, names: Sequence[str], folders: Folders, *, way: str | None = None,
        workers: int = 2, command: Callable[[Unit, str], Sequence[str]]) -> records.StudyInfo:
    """Runs what is missing and writes card, page and tables; goes on where it stopped.

    Args:
      study: what to run.
      profile_name: one of study.profiles.
      names: of the arms to run, in the order of the study.
      folders: where it is kept.
      way: how seeds are run, one of ways.WAYS; None = the fastest on this machine, or what plan.json has.
      workers: processes at a time where units run side by side.
      command: makes the command that runs a unit in a given way (`run_unit`) in a process of its own.

    Raises:
      UserError: as `settled` and `solved`; the directory holds runs that cannot be compared with these (another config,
        other data); another process writes there.
      SystemExit: with code 75 when a signal stopped it; with code 1, when the rest is done and written, where the
        process of a unit failed.
    """
    console = rich.console.Console()
    profile = study.profiles[profile_name]
    with locked(folders.results, 'of a study', '--results'), _stoppable():
        plan = planned(study, profile_name, folders, way, workers, console)
        found = settled(study, profile, plan['sizes'])
        _check(study, profile_name, folders, found)
        units = [unit for unit in found.configs if unit.arm in names]
        left = {unit: missing(study, profile_name, unit, folders) for unit in units}
        console.print(f'{study.name}, profile {profile_name}: {len(units)} arms on tasks, '
                      f'{sum(map(len, left.values()))} runs are missing; seeds run {plan["way"]}', highlight=False)
        for unit in units:
            _say_changes(console, unit, found.changes[unit])
        _check_data(study, profile_name, folders, found, [unit for unit in units if left[unit]])
        failures = _work(study, profile, [unit for unit in units if left[unit]], plan['way'], workers, folders,
                         lambda unit: not missing(study, profile_name, unit, folders),
                         lambda unit: run_unit(study, profile_name, unit, folders, plan['way'], console), command,
                         console)
        info = finish(study, profile_name, folders, console, failures)
    if failures:
        raise SystemExit(FAILED)
    return info


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGINT end a study between two trainings, where nothing is to be saved, as they end it in one."""
    def stop(number, frame):
        print(f'stopped by signal {number}; start again to go on', file=sys.stderr)
        raise train.Stopped(train.STOPPED)
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def rehearse(study: Study, profile_name: str, names: Sequence[str], folders: Folders,
             console: rich.console.Console) -> None:
    """Says what `run` would do: each unit, what it changes, the runs that are missing, and about how long they take.

    The time is an estimate: a step of the base is measured on each task, the others are taken to cost as their FLOPs.
    """
    profile, total = study.profiles[profile_name], 0.0
    plan = _plan(profile_name, folders)
    found = settled(study, profile, solved(study, profile, lambda text: None) if plan is None else plan['sizes'])
    _check(study, profile_name, folders, found)
    for task in _tasks(study, profile):
        data = build.data(found.configs[Unit(task.name, study.base)])
        trainers = {unit: train.Trainer(config, data) for unit, config in found.configs.items()
                    if unit.task == task.name and (unit.arm in names or unit.arm == study.base)}
        base = trainers[Unit(task.name, study.base)]
        rate = ways.seconds_per_step(base) / _step_flops(base)
        for unit, trainer in trainers.items():
            if unit.arm not in names:
                continue
            due = len(missing(study, profile_name, unit, folders))
            to_tune = len(tuning.missing(profile.rates, profile.tuning_seeds, _tried(
                study, profile_name, unit, folders, found), trainer.loop.keep)) if due and _tunes(
                    study, profile, unit) else 0
            seconds = (due + to_tune) * trainer.loop.steps * rate * _step_flops(trainer)
            total += seconds
            console.print(f'{unit}: {due} runs{f" and {to_tune} to tune" if to_tune else ""}, '
                          f'{build.parameters(trainer.model)[0]:,} parameters, about {duration(seconds)} '
                          f'({", ".join(card.changes(found.changes[unit]))})', markup=False, highlight=False,
                          soft_wrap=True)
    console.print(f'nothing was run; one after the other this takes about {duration(total)} (an estimate: steps of the '
                  'base were measured, the others by their FLOPs)', highlight=False, soft_wrap=True)


def _step_flops(trainer: train.Trainer) -> float:
    """Of a step on the largest batch."""
    return build.step_flops(trainer.config, trainer.model)(trainer.plans.train.shapes[-1])


def _work(study, profile, units, way, workers, folders, done, run_here, command, console) -> list[str]:
    """Every unit that has something left to do; the base of a task before those that take its rate."""
    first = [unit for unit in units if _tunes(study, profile, unit)]
    failures = []
    for some in (first, [unit for unit in units if unit not in first]):
        if way != ways.PROCESSES:
            for unit in some:
                console.rule(str(unit), align='left')
                run_here(unit)
            continue
        jobs = [pool.Job(str(unit), tuple(command(unit, ways.ONE_BY_ONE)),
                         folders.workdir / 'logs' / f'{unit.task}-{unit.arm}.log', functools.partial(done, unit))
                for unit in some]
        if not jobs:
            continue
        ended = pool.run(jobs, workers, console=console)
        failures += [f'{name}: its process {one.status} ({one.error}). Start the study again to go on'
                     for name, one in ended.items() if one.status != 'finished']
    return failures


def planned(study: Study, profile_name: str, folders: Folders, way: str | None, workers: int,
            console: rich.console.Console) -> dict[str, Any]:
    """What was decided before the first run: plan.json, made if it is absent.

    `sizes` are those that meet the budget, `way` is how seeds are run, and `ways` what was measured of it.
    """
    path, profile, plan = folders.results / PLAN, study.profiles[profile_name], _plan(profile_name, folders)
    if plan is not None:
        if way not in (None, plan['way']):
            raise UserError(f'--way is {way!r}, and this study was begun with {plan["way"]!r} ({path}). Leave it out, '
                            'or choose another --results')
        return plan
    sizes = solved(study, profile, lambda text: console.print(text, highlight=False, soft_wrap=True))
    configs, measured = settled(study, profile, sizes).configs, {}
    base = next(unit for unit in configs if unit.arm == study.base)
    if way == ways.TOGETHER:
        Several(train.Trainer(configs[base]), len(seeds(study, profile, base)))  # refuses what it cannot train
    if way is None:
        measured = ways.measured(configs[base], seeds(study, profile, base), workers)
        way = min(measured, key=measured.get)
        console.print('seconds of a step of all seeds, measured on the base: ' + ', '.join(
            f'{name} {value:.4g}' for name, value in measured.items()) + f'; so seeds run {way}', highlight=False)
    plan = {'profile': profile_name, 'way': way, 'ways': measured, 'sizes': sizes, 'time': _now(),
            **train.environment()}
    workdirs.replace(path, json.dumps(plan, indent=1) + '\n')
    return plan


def _plan(profile_name: str, folders: Folders) -> dict[str, Any] | None:
    """plan.json where it is there; raises UserError where it is of another profile."""
    path = folders.results / PLAN
    if not path.exists():
        return None
    plan = json.loads(path.read_text(encoding='utf-8'))
    if plan['profile'] != profile_name:
        raise UserError(f'{path} was made with profile {plan["profile"]}. Choose another --results')
    return plan


def seeds(study: Study, profile: Profile, unit: Unit) -> list[int]:
    """Of the runs of a unit."""
    count = profile.seeds if study.is_main(profile, *unit) or profile.other_seeds is None else profile.other_seeds
    return list(range(study.first_seed, study.first_seed + count))


def missing(study: Study, profile_name: str, unit: Unit, folders: Folders) -> list[int]:
    """The seeds of a unit that have no run yet."""
    done = {record['seed'] for record in records.read(folders.results / RESULTS)
            if _of(record, study, profile_name, unit)}
    return [seed for seed in seeds(study, study.profiles[profile_name], unit) if seed not in done]


def _of(record: dict, study: Study, profile_name: str, unit: Unit) -> bool:
    return (record['study'], record['profile'], record['task'], record['arm']) == (study.name, profile_name, *unit)


def _check(study: Study, profile_name: str, folders: Folders, found: Settled) -> None:
    """Raises UserError where a recorded run was made with another config than its arm has now."""
    path, profile = folders.results / RESULTS, study.profiles[profile_name]
    for record in records.read(path):
        unit = Unit(record['task'], record['arm'])
        if not _of(record, study, profile_name, unit):
            continue
        config = found.configs.get(unit)
        rate = record['rate']['value'] if config is None or profile.rates else build.rate(config)
        if config is None or (record['rate']['choice'] == 'fixed') == bool(profile.rates) or record['run'] != digest(
                config, record['seed'], rate, profile.test_sample):
            raise UserError(f'{path} holds a run of arm {unit.arm!r} on {unit.task} with seed {record["seed"]} and '
                            'another config than it has now. Choose another --results')


def _check_data(study: Study, profile_name: str, folders: Folders, found: Settled, units: Sequence[Unit]) -> None:
    """Raises UserError where a task of these units has runs on other data than there is now."""
    recorded = {record['task'] for _, record in _recorded(folders)}
    for task in dict.fromkeys(unit.task for unit in units if unit.task in recorded):
        _check_same(study, profile_name, folders, task, build.data(found.configs[Unit(task, study.base)]))


def _check_same(study: Study, profile_name: str, folders: Folders, task: str, data: build.Data) -> None:
    for path, record in _recorded(folders):
        if _of(record, study, profile_name, Unit(task, record['arm'])) and record['data'] != data.digest:
            raise UserError(f'{path} holds runs on other data than there is now. Choose another --results')


def _recorded(folders: Folders) -> Iterator[tuple[pathlib.Path, dict]]:
    """Every record, and the file that holds it."""
    for name, read in ((RESULTS, records.read), (TUNING, records.read_tuning)):
        yield from ((folders.results / name, record) for record in read(folders.results / name))


def _say_changes(console: rich.console.Console, unit: Unit, changes: dict[str, Any]) -> None:
    console.print(f'{unit}: {", ".join(card.changes(changes))}', markup=False, highlight=False, soft_wrap=True)


def digest(config: Any, seed: int, rate: float, test_sample: int | None) -> str:
    """What names a run: its config, with its seed and its rate, and what it is tested on."""
    config = build.with_rate(build.with_seed(config, seed), rate)
    return hashlib.sha256(json.dumps([build.digest(config), test_sample]).encode()).hexdigest()[:16]


# -------------------------------------------------------------------------------------------------------------- a unit

def run_unit(study: Study, profile_name: str, unit: Unit, folders: Folders, way: str,
             console: rich.console.Console) -> None:
    """Chooses the rate of one arm on one task, and runs what is missing of its seeds.

    Raises:
      UserError: the directory holds runs on other data; the base, whose rate is taken, has none yet.
      SystemExit: with code 75 when a signal stopped it.
    """
    with _stoppable():
        plan = _plan(profile_name, folders)
        if plan is None:
            with locked(folders.results, 'of a study', '--results'):
                plan = planned(study, profile_name, folders, way, 1, console)
        found = settled(study, study.profiles[profile_name], plan['sizes'])
        one = _UnitRunner(study, profile_name, unit, folders, way, found, console)
        one.run(one.rate())


def _tunes(study: Study, profile: Profile, unit: Unit) -> bool:
    """Whether rates are tried for a unit itself: the others take that of the base."""
    return unit.arm == study.base or study.is_main(profile, *unit)


def _tried(study: Study, profile_name: str, unit: Unit, folders: Folders, found: Settled) -> list[dict]:
    """What tuning.jsonl has of a unit as it is now."""
    return [record for record in records.read_tuning(folders.results / TUNING)
            if _of(record, study, profile_name, unit)
            and record['run'] == digest(found.configs[unit], record['seed'], record['rate'], None)]


class _UnitRunner:
    """A unit's runs; they share their data, and those of one arm their programs."""

    def __init__(self, study: Study, profile_name: str, unit: Unit, folders: Folders, way: str, found: Settled,
                 console: rich.console.Console):
        self.study, self.profile_name, self.unit, self.folders, self.way = study, profile_name, unit, folders, way
        self.profile, self.found, self.console = study.profiles[profile_name], found, console
        self.data = build.data(found.configs[unit])
        _check_same(study, profile_name, folders, unit.task, self.data)
        self.trainer = train.Trainer(found.configs[unit], self.data)

    def rate(self) -> tuning.Choice:
        """The learning rate of this unit; runs that are missing to choose it are made."""
        config = self.found.configs[self.unit]
        if not self.profile.rates:
            return tuning.Choice(build.rate(config), 'fixed', False, 0)
        keep = self.trainer.loop.keep
        def tried(unit):
            return _tried(self.study, self.profile_name, unit, self.folders, self.found)
        if _tunes(self.study, self.profile, self.unit):
            while due := tuning.missing(self.profile.rates, self.profile.tuning_seeds, tried(self.unit), keep):
                self._tune(due)
            return tuning.chosen(tried(self.unit), keep)
        base = Unit(self.unit.task, self.study.base)
        there = tried(base)
        if not there or tuning.missing(self.profile.rates, self.profile.tuning_seeds, there, keep):
            raise UserError(f'{self.unit} takes the rate of {base}, which has none yet: run {self.study.base} first')
        return tuning.chosen(there, keep)._replace(choice='not_tuned')

    def _tune(self, due: Sequence[tuple[float, int]]) -> None:
        for rate, seed, outcome, seconds in self._trained('tuning', due, '{rate:g}-{seed}'):
            record = self._begun(seed, rate, None) | {'rate': rate}
            if isinstance(outcome, DivergedError):
                record |= {'status': 'failed', 'error': str(outcome)}
            else:
                record |= {'status': 'finished', 'error': None, 'steps': self.trainer.loop.steps,
                           'best_step': outcome.best_step, 'seconds': round(seconds, 1), 'dev': self._dev(outcome)}
            records.append_tuning(self.folders.results / TUNING, record)

    def run(self, rate: tuning.Choice) -> None:
        """Trains and tests the seeds that have no run yet, each recorded as soon as it is tested."""
        path = self.folders.results / RESULTS
        for record in records.read(path):
            if _of(record, self.study, self.profile_name, self.unit) and record['rate']['value'] != rate.value:
                raise UserError(f'{path} holds runs of {self.unit} with rate {record["rate"]["value"]:g}, and now '
                                f'{rate.value:g} is the best one. Choose another --results')
        due = [(rate.value, seed) for seed in missing(self.study, self.profile_name, self.unit, self.folders)]
        shared = self._shared(due[0][1]) if due else None
        compiled = self.trainer.compile_seconds
        for _, seed, outcome, _ in self._trained('runs', due, '{seed}'):
            record = self._begun(seed, rate.value, self.profile.test_sample) | {
                'changes': self.found.changes[self.unit], 'rate': rate._asdict(), 'starts_equal': shared}
            if isinstance(outcome, DivergedError):
                record |= {'status': 'failed', 'error': str(outcome)}
            else:
                tested = testing.record(self.trainer, self._workdir('runs', f'{seed}'), outcome,
                                        self.profile.test_sample,
                                        self.study.task(self.unit.task).probe)
                tested['seconds']['compile'] += round(self.trainer.compile_seconds - compiled, 2)
                compiled = self.trainer.compile_seconds
                record |= {'status': 'finished', 'error': None, 'dev': self._dev(outcome),
                           'programs': sum(self.trainer.program_count().values()), **tested}
                self._keep_references()
            records.append(self.folders.results / RESULTS, record)

    def _dev(self, outcome: train.Outcome) -> dict[str, float]:
        bleu = {} if self.trainer.tokenizer is None else {'bleu': outcome.best_bleu}
        return {'accuracy': outcome.best_accuracy, 'loss': outcome.best_loss, **bleu}

    def _keep_references(self) -> None:
        """The right translations of the test set, once for all arms: what their outputs are compared by again."""
        path = _references(self.folders, self.unit.task)
        if self.trainer.tokenizer is not None:
            pairs = testing.spread(self.data.corpus.test, self.profile.test_sample)
            own = path.with_name(f'{path.stem}-{self.unit.arm}.json')  # units may write at the same time
            workdirs.replace(own, json.dumps({
                'tokenizer': self.trainer.tokenizer, 'references': evaluate.references(pairs)}) + '\n')
            own.replace(path)

    def _trained(self, stage: str, due: Sequence[tuple[float, int]],
                 name: str) -> Iterator[tuple[float, int, train.Outcome | DivergedError, float]]:
        """(rate, seed, what came of it, seconds) of each run, in the way of the study."""
        folders = [self._workdir(stage, name.format(rate=rate, seed=seed)) for rate, seed in due]
        if self.way == ways.TOGETHER and len(due) > 1:
            begin = time.perf_counter()
            rates, seeds = zip(*due, strict=True)
            outcomes = Several(self.trainer, len(due)).run(folders, seeds, rates)
            each = (time.perf_counter() - begin) / len(due)
            yield from ((rate, seed, outcome, each) for (rate, seed), outcome in zip(due, outcomes, strict=True))
            return
        for number, ((rate, seed), folder) in enumerate(zip(due, folders, strict=True), 1):
            self.console.rule(f'{self.unit}: {stage}, {number} of {len(due)}: rate {rate:g}, seed {seed}',
                              align='left')
            begin = time.perf_counter()
            try:
                outcome = self.trainer.run(folder, seed, rate)
            except DivergedError as error:  # anything else, such as a full disk, is no result: it stops the unit
                self.console.print(f'failed: {error}', markup=False, soft_wrap=True)
                outcome = error
            yield rate, seed, outcome, time.perf_counter() - begin

    def _workdir(self, stage: str, name: str) -> pathlib.Path:
        return self.folders.workdir / stage / self.unit.task / self.unit.arm / name

    def _begun(self, seed: int, rate: float, test_sample: int | None) -> dict[str, Any]:
        """What the record of every run begins with."""
        return {'study': self.study.name, 'task': self.unit.task, 'profile': self.profile_name, 'arm': self.unit.arm,
                'seed': seed, 'run': digest(self.found.configs[self.unit], seed, rate, test_sample),
                'data': self.data.digest, 'time': _now(), **train.environment()}

    def _shared(self, seed: int) -> dict[str, int]:
        """How many parameters an arm shares with the base by name and shape, and how many of them start equal."""
        base = train.Trainer(self.found.configs[Unit(self.unit.task, self.study.base)], self.data)
        mine, theirs = ({jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(
            one.initial(seed))} for one in (self.trainer, base))
        shared = [name for name in mine if name in theirs and mine[name].shape == theirs[name].shape]
        return {'shared': len(shared), 'equal': sum(np.array_equal(mine[name], theirs[name]) for name in shared)}


def _references(folders: Folders, task: str) -> pathlib.Path:
    return folders.results / f'references-{task}.json'


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')


# ----------------------------------------------------------------------------------------------------------- afterwards

def finish(study: Study, profile_name: str, folders: Folders, console: rich.console.Console,
           failures: Sequence[str] = ()) -> records.StudyInfo:
    """Writes card, page and tables from the records that are there, and prints the tables of the ranking."""
    found, tried = records.read(folders.results / RESULTS), records.read_tuning(folders.results / TUNING)
    info = described(study, profile_name, found, failures)
    info = info._replace(beside=_beside(info, folders, found))
    card.write(folders.results / 'README.md', info, found, tried)
    page.write(folders.results / 'report.html', info, found, tried)
    tables.write(folders.results / 'tables', card.sections(info, found, tried))
    for table in card.console_tables(info, found):
        console.print(table)
    for finding in info.findings:
        measured = f': {finding.measured}' if finding.measured else ''
        console.print(f'{finding.mark}: {finding.text}{measured}', markup=False, highlight=False, soft_wrap=True)
    for failure in failures:
        console.print(failure, markup=False, highlight=False, soft_wrap=True)
    console.print('\n'.join(f'{what:8} {folders.results / name}' for what, name in (
        ('results', RESULTS), ('card', 'README.md'), ('report', 'report.html'), ('tables', 'tables'))),
        markup=False, highlight=False, soft_wrap=True)
    return info


def summary(studies: Iterable[Study], folder: pathlib.Path) -> str:
    """What recorded studies have found, as Markdown: one line each, with a link to its card.

    Args:
      studies: in order.
      folder: holds the results of each in a folder of its name.
    """
    rows = []
    for study in studies:
        found = records.read(folder / study.name / RESULTS)
        if not found:
            continue
        info = described(study, found[0]['profile'], found)
        marks = [finding.mark.split(' at ')[0] for finding in info.findings]
        said = [one.verdict.word for one in comparison.compare(info, found) if one.verdict]
        counted = (', '.join(f'{words.count(word)} {word}' for word in dict.fromkeys(words)) or '–'
                   for words in (marks, said))
        rows.append((f'[{study.name}]({study.name}/README.md)', study.question, str(len(found)), *counted))
    lines = ['# Studies', '', 'Made by `python -m experiments.run --summary`. Each study has a card (README.md), its '
             'records (results.jsonl, tuning.jsonl) and report.html.', '',
             '| study | question | runs | expectations | planned comparisons |', '|---|---|---|---|---|',
             *(f'| {" | ".join(row)} |' for row in rows)]
    return '\n'.join(lines) + '\n'


def _beside(info: records.StudyInfo, folders: Folders, found: Sequence[dict]) -> dict:
    texts = {task.name: json.loads(_references(folders, task.name).read_text(encoding='utf-8'))
             for task in info.tasks if _references(folders, task.name).exists()}
    tokenizer = next((text['tokenizer'] for text in texts.values()), None)
    references = {task: [tuple(lines) for lines in text['references']] for task, text in texts.items()}
    return comparison.beside(info, found, references, tokenizer)


def described(study: Study, profile_name: str, found: Sequence[dict],
              failures: Sequence[str] = ()) -> records.StudyInfo:
    """What card and page say besides the records."""
    profile = study.profiles[profile_name]
    tasks = _tasks(study, profile)
    changes = {unit.arm: change for unit, change in reversed(settled(study, profile, {}).changes.items())}
    here = [record for record in found if (record['study'], record['profile']) == (study.name, profile_name)]
    changes |= {record['arm']: record['changes'] for record in reversed(here)}  # with what was made to meet the budget
    return records.StudyInfo(
        study.name, study.question, profile_name, study.score,
        tuple(records.TaskInfo(task.name, task.summary, task.floor, tuple(
            arm.name for arm in study.takes_part(task.name))) for task in tasks),
        tuple(records.ArmInfo(arm.name, arm.summary, arm.control, changes[arm.name]) for arm in study.arms
              if arm.name in changes),
        study.base, study.claimed(profile), study.phase, study.threshold, study.budget.kind if study.budget else '',
        findings(study, profile, here), commands(study, profile_name, here),
        tuple(note for note in (profile.note, *study.notes, *failures) if note))


def commands(study: Study, profile_name: str, found: Sequence[dict]) -> tuple[str, ...]:
    """What repeats the runs that are there."""
    there = {record['arm'] for record in found}
    names = [arm.name for arm in study.arms if arm.name in there]
    chosen = '' if len(names) == len(study.arms) else f' --arms {",".join(names)}'
    return (f'python -m experiments.run {study.name} --profile {profile_name}{chosen}',)


def findings(study: Study, profile: Profile, found: Sequence[dict]) -> tuple[records.Finding, ...]:
    """Each expectation held against the runs; those that need a task which the profile leaves out are left out, too.

    A run that failed counts: what needs its arm is not met.
    """
    runs = {}
    for record in sorted(found, key=lambda record: record['seed']):
        runs.setdefault((record['task'], record['arm']), []).append(record)
    tasks = {task.name for task in _tasks(study, profile)}
    return tuple(_finding(expectation, runs) for expectation in study.expectations
                 if {task for task, _ in expectation.needs} <= tasks)


def _finding(expectation: Expectation, runs: Runs) -> records.Finding:
    needed = {unit: runs.get(unit, []) for unit in expectation.needs}
    failed = {unit: sum(record['status'] == 'failed' for record in own) for unit, own in needed.items()}
    if not all(needed.values()):
        return records.Finding(expectation.text, 'not measured', '')
    if any(failed.values()):
        return records.Finding(expectation.text, 'not met', ', '.join(
            f'{count} of {len(needed[unit])} runs of {"/".join(unit)} failed' for unit, count in failed.items()
            if count))
    try:
        met, measured = expectation.measure(needed)
    except NotMeasuredError as why:
        return records.Finding(expectation.text, 'not measured', str(why))
    except NotDecidableError as why:
        fewest = min(map(len, needed.values()))
        return records.Finding(expectation.text, f'not decidable at n = {fewest}', str(why))
    return records.Finding(expectation.text, 'met' if met else 'not met', measured)
