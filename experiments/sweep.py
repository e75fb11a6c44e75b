"""Trains one config with several values of some keys: every run of a sweep once, some of them at a time.

    python -m experiments.sweep --config=configs/copy.py --sweep=learning_rate --workdir=runs/sweeps/copy
    python -m experiments.sweep --config=configs/copy.py --sweep=reader,seed --workers=2 --workdir=... --dry_run
    python -m experiments.sweep --config=mine.py:transformer --sweep=size --config.training.steps=2000 --workdir=...

A sweep is a function sweep_<name>() of the config file that yields the values of each run at dotted keys
(configs/sweeps.py); several, joined by commas, are combined by product. The work directory holds that of each run and

    sweep.jsonl       one line for each run that has ended
    logs/<run>.log    what it said

Started again, it skips what is finished and goes on in the middle of what was stopped.
"""

import argparse
import functools
import hashlib
import json
import math
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from configs.sweeps import WORDS, product
from research import build, command_line, train
from research.errors import UserError, nearest, one_line_errors
from research.locked import locked
from research.study import pool, records
from research.training import device
from research.training.report import METRICS, duration, read_jsonl
from research.training.workdir import flat, replace

RECORDS = 'sweep.jsonl'
LONGEST = 120   # letters of a run's name
SHARE = 0.5     # of the device's peak (research/training/device.py): what an estimate takes for granted
BATCHES = 50    # whose FLOPs are counted for an estimate


class Run(NamedTuple):
    """One run of a sweep."""

    name: str
    overrides: dict[str, Any]
    options: tuple[str, ...]  # of research.train, but for the work directory
    config: Any               # what they say
    folder: pathlib.Path      # its work directory


def planned(chosen: str, sweeps: Sequence[str], given: Sequence[str], workdir: pathlib.Path) -> list[Run]:
    """Every run of a sweep, checked as far as it can be without data.

    Args:
      chosen: a config file, or one and words, as after --config=.
      sweeps: names of functions of that file; they are combined by product.
      given: further options --config.key=value, the same for all runs.
      workdir: of the sweep.

    Raises:
      UserError: an unknown sweep, a key that the config does not have, a value that it cannot have, the same run twice.
    """
    path, _, words = chosen.partition(':')
    runs, combined = [], product(*(command_line.sweep(path, name) for name in sweeps))
    try:
        combined = list(combined)
    except ValueError as error:  # both change one key
        raise UserError(f'--sweep={",".join(sweeps)}: {error}') from None
    for overrides in combined:
        if any(overrides == run.overrides for run in runs):
            raise UserError(f'--sweep={",".join(sweeps)} yields the same run twice: {overrides}')
        said = '+'.join(filter(None, (words, overrides.get(WORDS))))
        options = (f'--config={path}' + (f':{said}' if said else ''), *given)
        known = flat(command_line.config_alone(__doc__, ['', *options]))
        for key in overrides:
            if key != WORDS and key not in known:
                raise UserError(f'--sweep={",".join(sweeps)} changes {key}, which the config does not have.'
                                + nearest(key, known))
            if any(re.match(rf'--?config\.{re.escape(key)}(=|$)', option) for option in given):
                raise UserError(f'--config.{key} is given, and --sweep={",".join(sweeps)} changes it: one of the two')
        name = run_name(overrides, known)
        options += tuple(f'--config.{key}={value}' for key, value in overrides.items() if key != WORDS)
        try:
            resolved = _checked(options, overrides)
        except UserError as error:
            raise UserError(f'run {name}: {error}') from None
        values = flat(resolved)  # of these types, whatever a sweep makes its numbers by
        runs.append(Run(name, {key: values.get(key, value) for key, value in overrides.items()}, options, resolved,
                        workdir / name))
    if not runs:
        raise UserError(f'--sweep={",".join(sweeps)} yields no run')
    return runs


def run_name(overrides: Mapping[str, Any], keys: Iterable[str]) -> str:
    """Its words and values, as a folder can be called: 'dot+learning_rate=0.001+seed=3'.

    A key is shortened from its front as far as the config has no other one that ends the same. A name that is too long
    or has other letters gets a hash of the overrides at its end. What a comma would do: work directories of an ensemble
    are joined by commas.
    """
    values = sorted(f'{_short(key, keys)}={value}' for key, value in overrides.items() if key != WORDS)
    name = '+'.join(filter(None, (overrides.get(WORDS), *values))) or 'base'
    if re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9_.=+-]*', name) and len(name) <= LONGEST and name not in ('logs', 'lock'):
        return name
    changes = '\n'.join(sorted(f'{key}={value}' for key, value in overrides.items()))
    digest = hashlib.sha256(changes.encode()).hexdigest()
    return f'{re.sub(r"[^A-Za-z0-9_=+-]", "_", name)[:LONGEST]}+{digest[:8]}'


def _short(key: str, keys: Iterable[str]) -> str:
    parts = key.split('.')
    ends = ('.'.join(parts[first:]) for first in range(len(parts) - 1, 0, -1))
    return next((end for end in ends if sum(f'.{other}'.endswith(f'.{end}') for other in keys) == 1), key)


def _checked(options: Sequence[str], overrides: Mapping[str, Any]) -> Any:
    """The config that research.train will have; UserError where a value did not arrive in it as it was meant."""
    config = command_line.config_alone(__doc__, ['', *options])
    values = flat(config)
    for key, value in overrides.items():
        if key != WORDS and values[key] != value:
            raise UserError(f'{key} is to be {value!r}, and the config makes {values[key]!r} of it')
    build.validate(config)
    return config


# ------------------------------------------------------------------------------------------------------- what has ended

def run_sweep(runs: Sequence[Run], workdir: pathlib.Path, workers: int, retries: int) -> list[dict[str, Any]]:
    """Trains what is not finished; returns the records of these runs, in order, and writes them as runs end."""
    path = workdir / RECORDS
    with locked(workdir):
        found = _read(path)
        by_name = {run.name: run for run in runs}

        def note(job: pool.Job, ended: pool.Ended) -> None:
            found[job.name] = record(by_name[job.name], ended.status, ended.error)
            replace(path, ''.join(json.dumps(line, allow_nan=False) + '\n' for line in found.values()))
        pool.run([pool.Job(run.name, (sys.executable, '-m', 'research.train', *run.options, f'--workdir={run.folder}'),
                           workdir / 'logs' / f'{run.name}.log', functools.partial(finished, run, found))
                  for run in runs], workers, retries, on_end=note)
    return [found[run.name] for run in runs]


def record(run: Run, status: str, error: str) -> dict[str, Any]:
    """One line of sweep.jsonl: what was measured best on dev, by what the run keeps its parameters by."""
    try:
        lines, _ = read_jsonl(run.folder / METRICS)
    except UserError:  # it did not come so far
        lines = []
    keep = build.loop(run.config).keep
    measured = [line for line in lines if line['kind'].startswith('dev') and 'not_finite' not in line]
    best = max(measured, key=lambda line: _rank(line, keep), default=None)
    return {'name': run.name, 'overrides': run.overrides, 'status': status, 'kept_by': keep,
            'dev': best and {name: value for name, value in best.items() if name not in ('step', 'kind', 'seconds')},
            'step': best and best['step'], 'seconds': round(sum(line['seconds'] for line in lines), 2), 'error': error}


def finished(run: Run, found: Mapping[str, dict[str, Any]]) -> bool:
    """Whether it is recorded as finished, and its work directory is there with the config of now."""
    try:
        return found.get(run.name, {}).get('status') == 'finished' and (
            build.text(build.load(run.folder)) == build.text(run.config))
    except UserError:  # research.train says better what is wrong there
        return False


def _read(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    return {line['name']: line for line in records.read_lines(path)}


def _rank(measured: Mapping[str, Any], keep: str) -> tuple[float, float]:
    """As the run itself compares its measurements."""
    scores = (np.float32(measured.get(name, -1)) for name in ('accuracy', 'loss', 'bleu'))
    return train.Best(*scores, np.int32(0), np.int32(0)).rank(keep)


def results(lines: Sequence[Mapping[str, Any]]) -> Table:
    """The runs of a sweep, the best on dev first and failed ones last."""
    table = Table(box=None, pad_edge=False)
    kinds = {name: title for name, title in (('accuracy', 'dev accuracy %'), ('bleu', 'dev BLEU'), ('loss', 'dev loss'))
             if any(name in (line['dev'] or {}) for line in lines)}
    for title, justify in (('run', 'left'), *((title, 'right') for title in kinds.values()), ('best step', 'right'),
                           ('time', 'right'), ('', 'left')):
        table.add_column(title, justify=justify, overflow='fold')
    order = ('finished', 'stopped', 'failed')
    for line in sorted(lines, key=lambda line: (order.index(line['status']), *(
            -value for value in (_rank(line['dev'], line['kept_by']) if line['dev'] else (-math.inf,) * 2)))):
        good = line['status'] == 'finished'
        scores = [_score(name, line['dev'].get(name)) if good and line['dev'] else '' for name in kinds]
        table.add_row(line['name'], *scores, str(line['step']) if good else '', duration(line['seconds']),
                      '' if good else f'{line["status"]}: {line["error"]}')
    return table


def _score(name: str, value: float | None) -> str:
    if value is None:
        return ''
    return {'accuracy': f'{100 * value:.1f}', 'bleu': f'{value:.1f}', 'loss': f'{value:.4f}'}[name]


# ------------------------------------------------------------------------------------------------------ what would run

def preview(runs: Sequence[Run], workdir: pathlib.Path, workers: int, console: Console) -> None:
    """Prints the runs, their parameters, which of them are finished, and an estimate of the time; trains nothing."""
    found, trainer = _read(workdir / RECORDS), _Trainers()
    left = [run for run in runs if not finished(run, found)]
    table = Table('run', 'changes', 'parameters', '', box=None, pad_edge=False)
    for run in runs:
        changes = ', '.join(f'{key}={value}' for key, value in run.overrides.items())
        table.add_row(run.name, changes, f'{build.parameters(trainer.of(run).model)[0]:,}',
                      '' if run in left else 'finished')
    console.print(table)
    console.print(f'{len(runs)} runs, {len(runs) - len(left)} of them finished', highlight=False)
    if left:
        console.print(_estimate(left, found.values(), workers, trainer), highlight=False, markup=False, soft_wrap=True)


def _estimate(left: Sequence[Run], found: Iterable[Mapping[str, Any]], workers: int, trainer: '_Trainers') -> str:
    """How long the runs that are left may take, and of what that is said."""
    known = [line['seconds'] for line in found if line['status'] == 'finished']
    if known:
        seconds = math.ceil(len(left) / workers) * sum(known) / len(known)
        return (f'estimate: {duration(seconds)} with {workers} workers; the runs of this directory that are finished '
                f'took {duration(sum(known) / len(known))} each, without compiling')
    total = sum(_training_flops(trainer.of(run)) for run in left)
    peak = device.peak(build.dtype(left[0].config))
    return (f'estimate: {duration(total / (SHARE * peak.rate))} to train, if it reaches {100 * SHARE:.0f} % of '
            f'{peak.rate / 1e9:,.0f} GFLOP/s; compiling and measuring dev come on top. No run here is finished yet: '
            'when one is, its time is taken')


def _training_flops(trainer: train.Trainer) -> float:
    """Of all steps, from the mean of a few batches."""
    plan, flops = trainer.plans.train, build.step_flops(trainer.config, trainer.model)
    count = min(len(plan), BATCHES)
    batches = (plan[number] for number in range(count))
    return trainer.loop.steps / count * sum(flops((*batch.source.shape, batch.targets.shape[1])) for batch in batches)


class _Trainers:
    """The trainer of each config; those that differ in seed and rate alone share one, and all share their data."""

    def __init__(self):
        self.trainers: dict[str, train.Trainer] = {}
        self.data: dict[str, build.Data] = {}

    def of(self, run: Run) -> train.Trainer:
        config = build.with_rate(build.with_seed(run.config, 1), 1e-3)
        key = build.text(config)
        if key not in self.trainers:
            decides = repr([item for item in flat(config).items() if item[0].startswith(('data.', 'start_from'))])
            self.trainers[key] = train.Trainer(config, self.data.get(decides))
            self.data[decides] = self.trainers[key].data
        return self.trainers[key]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code, 1 where a run failed."""
    parser = argparse.ArgumentParser(prog='experiments.sweep', description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter,
                                     usage='%(prog)s --config=FILE[:WORDS] --sweep=NAME[,NAME...] --workdir=DIR '
                                           '[--workers=N] [--retries=N] [--dry_run] [--config.KEY=VALUE ...]')
    parser.add_argument('--config', required=True, help='a config file, and words behind a colon')
    parser.add_argument('--sweep', required=True, help='names of its functions sweep_<name>, joined by commas')
    parser.add_argument('--workdir', required=True, help='where the runs are kept')
    parser.add_argument('--workers', type=int, default=1, help='runs at a time; they share the cores (default: 1)')
    parser.add_argument('--retries', type=int, default=1, help='times that a run which died goes on (default: 1)')
    parser.add_argument('--dry_run', action='store_true', help='print what would run, and train nothing')
    options, given = parser.parse_known_args(arguments)
    with one_line_errors('experiments.sweep'):
        for name, least in (('workers', 1), ('retries', 0)):
            if getattr(options, name) < least:
                raise UserError(f'--{name} is {getattr(options, name)}; it must be at least {least}')
        workdir, console = pathlib.Path(options.workdir), Console()
        runs = planned(options.config, options.sweep.split(','), given, workdir)
        if options.dry_run:
            preview(runs, workdir, options.workers, console)
            return 0
        lines = run_sweep(runs, workdir, options.workers, options.retries)
        console.print(results(lines))
        console.print(f'results  {workdir / RECORDS}', markup=False, highlight=False, soft_wrap=True)
        return int(any(line['status'] != 'finished' for line in lines))


if __name__ == '__main__':
    raise SystemExit(main())
