"""Trains one model, and goes on where it stopped if it is started again.

    python -m research.train --config=configs/pronunciation.py --workdir=runs/pronunciation
    python -m research.train --config=configs/pronunciation.py:transformer --config.training.steps=8000 --workdir=...
"""

import contextlib
import functools
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import numpy as np

from research import build, command_line
from research.errors import DivergedError, UserError, one_line_errors
from research.evaluation import accuracy
from research.models.contract import Params
from research.text import batches
from research.text.corpus import Pair
from research.training import loop, state
from research.training.checkpoint import Checkpoints
from research.training.report import Report
from research.training.step import Metrics, measure_step, train_step
from research.translate import Translator

STOPPED = 75  # exit code after SIGTERM or SIGINT: saved, start again to go on (EX_TEMPFAIL of sysexits.h)


class Best(NamedTuple):
    """The measurement on dev that the kept parameters had."""

    accuracy: np.ndarray  # float32 []: share of the dev sample that is right; -1 before the first measurement
    loss: np.ndarray      # float32 []: of the whole of dev, a token; of equal accuracies the lower loss is better
    step: np.ndarray      # int32 []

    def beaten_by(self, other: 'Best') -> bool:
        """Whether the other measurement is better."""
        return (other.accuracy, -other.loss) > (self.accuracy, -self.loss)


class Saved(NamedTuple):
    """What a checkpoint holds."""

    state: state.State
    best: Best


class Outcome(NamedTuple):
    """What a finished run leaves behind."""

    params: Params   # of the best step
    best_step: int
    best_accuracy: float


class Stopped(SystemExit):
    """The process was asked to stop; everything is saved."""


class Trainer:
    """One config's data, model and programs; runs any number of seeds with the same programs.

    Args of the constructor:
      config: an experiment.
      data: what `build.data` makes of it, if it is there already.
    """

    def __init__(self, config: Any, data: build.Data | None = None):
        """Reads the data and checks that the parts of the model fit; compiles nothing."""
        build.validate(config)
        self.config = config
        self.data = data or build.data(config)
        self.model = build.model(config, len(self.data.source), len(self.data.target))
        build.abstract_params(self.model)
        self.plans = build.plans(config, self.data)
        self.optimiser = build.optimiser(config)
        self.loop = build.loop(config)
        self.translator = Translator(self.model, self.data.source, self.data.target,
                                     build.decoding(config)._replace(beams=1))
        dev = self.data.corpus.dev
        self.sample = [dev[index] for index in
                       np.linspace(0, len(dev) - 1, min(len(dev), self.loop.dev_sample)).astype(int)]
        self.lines = [pair.source for pair in self.sample]
        self._start = jax.jit(functools.partial(state.start, self.model, self.optimiser,
                                                batch=loop.blank_batch(*self.plans.train.shapes[0])))
        self._programs = None
        self.compile_seconds = 0.0

    def program_count(self) -> dict[str, int]:
        """How many programs a run compiles, by what they do."""
        return {'train': len(self.plans.train.shapes), 'measure': len(self.plans.measured),
                'decode': len(self.translator.shapes(self.lines))}

    def programs_compiled(self) -> int:
        """How many programs there are by now, those of any decoding since among them."""
        return sum(map(len, self._programs or ())) + len(self.translator)

    def programs(self, example: state.State, report: Report) -> tuple[loop.Programs, loop.Programs]:
        """The compiled update and measurement; compiled at the first call, with a line for each."""
        if self._programs is None:
            begin = time.perf_counter()
            update = loop.Programs(train_step(self.model, self.optimiser, **build.loss_options(self.config)), example,
                                   self.plans.train.shapes, donate=True, progress=report.message)
            measure = loop.Programs(measure_step(self.model, chunk=build.loss_options(self.config)['chunk']),
                                    example.params, self.plans.measured, donate=False, progress=report.message)
            self.translator.compile(example.params, self.translator.shapes(self.lines))
            self.compile_seconds = time.perf_counter() - begin
            report.message(f'compiled {sum(self.program_count().values())} programs in {self.compile_seconds:.1f} s')
            self._programs = update, measure
        return self._programs

    def run(self, workdir: str | pathlib.Path, seed: int | None = None, console: bool = True) -> Outcome:
        """Trains with one seed in a work directory of its own, from where it stopped there."""
        workdir = pathlib.Path(workdir)
        config = self.config if seed is None else build.with_seed(self.config, seed)
        claim(workdir, config, self.data)
        identity = build.identity(config, self.data.source, self.data.target)
        latest = Checkpoints(workdir / 'checkpoints', keep=2, identity=identity)
        best = Checkpoints(workdir / 'best', keep=2, identity=identity)
        with Report(workdir, steps=self.loop.steps, console=console) as report, Signals() as signals:
            plan = self.plans.train.with_seed(build.seed(config))
            report.message(self.describe(plan))
            fresh = Saved(self._start(jax.random.key(build.seed(config))),
                          Best(np.float32(-1), np.float32(0), np.int32(0)))
            update, measure = self.programs(fresh.state, report)
            found = latest.restore(fresh)
            saved = fresh if found is None else found[1]
            report.resume(int(saved.state.step))
            if found is not None:
                report.message(f'going on from step {int(saved.state.step)}')
            reporting = Reporting(report, self.loop.report_every)
            measuring = Measuring(self, measure, report, reporting, best, saved.best)
            saving = Saving(latest, self.loop, reporting, measuring, signals)
            with contextlib.closing(batches.stream(plan, int(saved.state.step))) as stream:
                last = loop.train(saved.state, stream, update, self.loop.steps, (reporting, measuring, saving))
            params = best.restore_step(int(measuring.best.step), last.params)
            return Outcome(params, int(measuring.best.step), float(measuring.best.accuracy))

    def loss(self, params: Params, pairs: Sequence[Pair]) -> float:
        """The cross-entropy of the given right answers, a target token: no dropout, no smoothing."""
        plan = build.measuring_plan(self.data, pairs, self.plans)
        return total_loss(self._programs[1], params, plan)

    def describe(self, plan: batches.BatchPlan) -> str:
        """A few lines about what will be trained on what."""
        total, without = build.parameters(self.model)
        programs = self.program_count()
        shapes = ', '.join(f'{B} x ({S} + {T})' for B, S, T in plan.shapes)
        return (f'{total:,} parameters ({without:,} without embeddings and softmax)\n'
                f'{len(self.data.corpus.train):,} training pairs, {len(plan):,} batches an epoch, '
                f'{len(plan.dropped):,} pairs too long and dropped, {100 * plan.padding:.1f} % padding\n'
                f'batches of rows x (source + target): {shapes}\n'
                f'{sum(programs.values())} programs to compile: '
                + ', '.join(f'{count} to {name}' for name, count in programs.items()))


class Reporting:
    """Sums what the steps say and reports it every so often, one step late, so that the device never waits."""

    def __init__(self, report: Report, every: int):
        """Begins the first window now."""
        self.report, self.every = report, every
        self.window: list[Metrics] = []
        self.due: tuple[int, list[Metrics]] | None = None
        self.begin = time.perf_counter()

    def leave_out(self, seconds: float) -> None:
        """Takes time off the current window that was spent on something else than training."""
        self.begin += seconds

    def __call__(self, step: int, state: state.State, metrics: Metrics) -> None:
        """After each step."""
        self.flush()
        self.window.append(metrics)
        if step % self.every == 0:
            self.due, self.window = (step, self.window), []

    def flush(self) -> None:
        """Reports the window that is complete, if there is one."""
        if self.due is None:
            return
        (step, window), self.due = self.due, None
        window = jax.device_get(window)
        tokens = np.array([metrics['tokens'] for metrics in window])
        losses = np.array([metrics['loss'] for metrics in window])
        if not np.all(np.isfinite(losses)):
            first = step - len(window) + 1
            raise DivergedError(f'the loss became {losses[~np.isfinite(losses)][0]} between steps {first} and {step}: '
                                'lower training.learning_rate or training.clip. The checkpoints before it are good')
        seconds = time.perf_counter() - self.begin
        self.report.training(step, {
            'loss': float(np.sum(losses * tokens) / np.sum(tokens)),
            'gradient_norm': float(np.mean([metrics['gradient_norm'] for metrics in window])),
            'tokens': float(np.sum(tokens)), 'tokens_per_second': float(np.sum(tokens) / seconds), 'seconds': seconds})
        self.begin = time.perf_counter()


class Measuring:
    """Measures dev every so often and keeps the parameters that were best."""

    def __init__(self, trainer: Trainer, measure: loop.Programs, report: Report, reporting: Reporting,
                 kept: Checkpoints, best: Best):
        """Goes on from the best measurement so far."""
        self.trainer, self.measure, self.report, self.reporting = trainer, measure, report, reporting
        self.kept, self.best = kept, best

    def __call__(self, step: int, state: state.State, metrics: Metrics) -> None:
        """After each step."""
        if step % self.trainer.loop.evaluate_every and step != self.trainer.loop.steps:
            return
        jax.block_until_ready(state.params)  # the last update still belongs to training
        begin = time.perf_counter()
        loss = total_loss(self.measure, state.params, self.trainer.plans.dev)
        outputs = [translation.text for translation in self.trainer.translator(state.params, self.trainer.lines)]
        answers = [(pair.target, *pair.others) for pair in self.trainer.sample]
        right = float(np.mean(accuracy.exact_match(outputs, answers)))
        self.report.evaluation(step, {
            'loss': loss, 'accuracy': right,
            'token_error_rate': accuracy.token_error_rate(outputs, answers),
            'seconds': time.perf_counter() - begin})
        now = Best(np.float32(right), np.float32(loss), np.int32(step))
        if self.best.beaten_by(now):
            self.best = now
            self.kept.save(step, state.params)
        self.reporting.leave_out(time.perf_counter() - begin)


def total_loss(measure: loop.Programs, params: Params, plan: batches.BatchPlan) -> float:
    """The loss of a whole plan, a target token."""
    parts = [measure(params, plan[index]) for index in range(len(plan))]
    total, tokens = (sum(float(part[name]) for part in parts) for name in ('loss', 'tokens'))
    return total / tokens


class Saving:
    """Writes a checkpoint every so often, at the end, and when the process is asked to stop."""

    def __init__(self, checkpoints: Checkpoints, numbers: build.Loop, reporting: Reporting, measuring: Measuring,
                 signals: 'Signals'):
        """Runs after the two others: a checkpoint knows the best measurement up to its own step, and nothing reported
        about the steps before it is missing when a run goes on from it.
        """
        self.checkpoints, self.numbers, self.signals = checkpoints, numbers, signals
        self.reporting, self.measuring = reporting, measuring

    def __call__(self, step: int, state: state.State, metrics: Metrics) -> None:
        """After each step."""
        if step % self.numbers.checkpoint_every == 0 or step == self.numbers.steps or self.signals.received:
            self.reporting.flush()
            begin = time.perf_counter()
            self.checkpoints.save(step, Saved(state, self.measuring.best))
            self.reporting.leave_out(time.perf_counter() - begin)
        if self.signals.received and step < self.numbers.steps:
            print(f'stopped by signal {self.signals.received} at step {step}; start again to go on', file=sys.stderr)
            raise Stopped(STOPPED)


class Signals:
    """While open, SIGTERM and SIGINT only leave a note, which the loop reads between two steps."""

    def __init__(self):
        """Nothing was received."""
        self.received = 0

    def __enter__(self) -> 'Signals':
        def note(number, frame):
            self.received = number
        self.before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def claim(workdir: pathlib.Path, config: Any, data: build.Data) -> None:
    """Makes a work directory this run's own; raises UserError when it holds another config's run."""
    text = build.text(config)
    path = workdir / 'config.json'
    if path.is_file():
        there, here = (flat(json.loads(words)) for words in (path.read_text(encoding='utf-8'), text))
        differing = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
        if differing:
            key = differing[0]
            raise UserError(f"{workdir} holds another config's run: {key} is {there.get(key)!r} there and "
                            f'{here.get(key)!r} here' + (f' ({len(differing)} keys differ)' if differing[1:] else '')
                            + '. Choose another --workdir')
    elif workdir.is_dir() and any(workdir.iterdir()):
        raise UserError(f'{workdir} is not empty and holds no run (no config.json). Choose another --workdir')
    workdir.mkdir(parents=True, exist_ok=True)
    write(workdir / 'source_vocabulary.json', data.source.to_json())
    write(workdir / 'target_vocabulary.json', data.target.to_json())
    write(workdir / 'environment.json', json.dumps({'command': sys.argv, **environment()}, indent=2))
    write(path, text)


def environment() -> dict[str, Any]:
    """The machine and the versions that decide numbers."""
    packages = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
    return {'machine': f'{platform.machine()}, {_cores()}, {jax.default_backend()}',
            'versions': {'seq2lab': f'{version("seq2lab")}{_commit()}', 'python': platform.python_version(),
                         **{name: version(name) for name in packages}}}


@functools.cache
def _commit() -> str:
    """Which commit this code is, where it is a checkout and git is there."""
    folder = pathlib.Path(__file__).parent
    try:
        head, changed = (subprocess.run(['git', '-C', str(folder), *words], capture_output=True, text=True, check=True
                                        ).stdout.strip()
                         for words in (['rev-parse', '--short=12', 'HEAD'],
                                       ['status', '--porcelain', '--untracked-files=no', '--', '.']))
    except (OSError, subprocess.CalledProcessError):
        return ''
    return f', commit {head}{" and changes" if changed else ""}'


def _cores() -> str:
    """How many cores this process may use, and how many there are: a process can be pinned to some of them."""
    there = os.cpu_count()
    used = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else there
    return f'{there} cores' if used == there else f'{used} of {there} cores'


def flat(tree: dict[str, Any], above: str = '') -> dict[str, Any]:
    """Nested dicts to one dict of dotted keys."""
    leaves = {}
    for key, value in tree.items():
        leaves |= flat(value, f'{above}{key}.') if isinstance(value, dict) else {f'{above}{key}': value}
    return leaves


def write(path: pathlib.Path, text: str) -> None:
    """Replaces a file as a whole: a kill leaves the old one or the new one."""
    temporary = path.with_name(path.name + '.new')
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, path)


def main() -> None:
    """The command line."""
    with one_line_errors('research.train'):
        config, workdir = command_line.config_and_workdir(__doc__)
        outcome = Trainer(config).run(workdir)
        print(f'best dev accuracy {100 * outcome.best_accuracy:.1f} % at step {outcome.best_step}; '
              f'next: python -m research.evaluate --workdir={workdir} --split=test')


if __name__ == '__main__':
    main()
