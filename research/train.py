"""Trains one model, and goes on where it stopped if it is started again.

    python -m research.train --config=configs/pronunciation.py --workdir=runs/pronunciation
    python -m research.train --config=configs/pronunciation.py:transformer --config.training.steps=8000 --workdir=...
"""

import contextlib
import datetime
import functools
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research import build, command_line, compiling, memory
from research.errors import DivergedError, UserError, one_line_errors
from research.evaluate import Run, perplexity_of, references, right_answers
from research.evaluation import accuracy, translation
from research.models.contract import Params
from research.shapes import Batch
from research.text import batches, vectors
from research.text.corpus import Pair
from research.text.vocabulary import SPECIAL
from research.training import device, loop, state
from research.training import workdir as workdirs
from research.training.checkpoint import Checkpoints
from research.training.kept import Kept
from research.training.report import Report, read_jsonl
from research.training.step import Metrics, measure_step, summed
from research.translator import Translator

STOPPED = 75  # exit code after SIGTERM or SIGINT: saved, start again to go on (EX_TEMPFAIL of sysexits.h)


class Best(NamedTuple):
    """The measurement on dev that the kept parameters had, and what is counted from it."""

    accuracy: np.ndarray  # float32 []: share of the dev sample that is right; -1 before the first measurement
    loss: np.ndarray      # float32 []: of the whole of dev, a token; before the first measurement the largest number
    bleu: np.ndarray      # float32 []: of the dev sample, 0 to 100; -1 where it is not measured
    step: np.ndarray      # int32 []
    lowered: np.ndarray   # int32 []: the step at which the learning rate fell last on a plateau; 0 = never

    def rank(self, keep: str) -> tuple[float, float]:
        """Higher is better; equal ones are decided by the loss, and equal losses by the accuracy.

        A language model is kept by its loss: it is to be sure, not only right where it can be.
        """
        return {'accuracy': (self.accuracy, -self.loss), 'bleu': (self.bleu, -self.loss),
                'loss': (-self.loss, self.accuracy)}[keep]


class BestBefore(NamedTuple):
    """What `Best` was in the first checkpoints."""

    accuracy: np.ndarray
    loss: np.ndarray
    step: np.ndarray


class Saved(NamedTuple):
    """What a checkpoint holds."""

    state: state.State
    best: Best


class Outcome(NamedTuple):
    """What a finished run leaves behind."""

    params: Params   # of the best step
    best_step: int
    best_accuracy: float
    best_loss: float
    best_bleu: float  # -1 where it is not measured


class Opened(NamedTuple):
    """One seed's run while its work directory is open: nobody else writes there."""

    config: Any
    plan: batches.Plan    # the batches in the order of its seed
    latest: Checkpoints   # to go on from
    kept: Kept
    report: Report


class EnoughError(Exception):
    """Raised by a hook: what the run is for has been reached, or nothing has got better for long enough."""


class Stopped(SystemExit):
    """The process was asked to stop; everything is saved."""


class Trainer:
    """One config's data, model and programs; runs any number of seeds and learning rates with the same programs.

    Args of the constructor:
      config: an experiment.
      data: what `build.data` makes of it, if it is there already.
    """

    def __init__(self, config: Any, data: build.Data | None = None):
        """Reads the data and checks that the parts of the model fit, also at its longest batch; compiles nothing."""
        build.validate(config)
        self.config = config
        self.data = data or build.data(config)
        self.model = build.model(config, len(self.data.source), len(self.data.target))
        self.plans = build.plans(config, self.data)
        shapes = (*self.plans.train.shapes, *self.plans.measured)
        build.check_frozen(config, build.abstract_params(self.model, max(S for _, S, _ in shapes),
                                                         max(T for _, _, T in shapes)))
        self.optimiser = build.optimiser(config)
        self.loop = build.loop(config)
        self.tokenizer = build.tokenizer(config)
        if self.tokenizer is not None:
            _check_tokenizer(self.tokenizer, build.target_language(config), self.data.corpus.dev)
        self.translator = Translator(self.model, self.data.source, self.data.target,
                                     build.decoding(config)._replace(beams=1))
        dev = self.data.corpus.dev if self.model.reads_source() else ()  # labels are measured, nothing is written
        sample = [dev[index] for index in
                  np.linspace(0, len(dev) - 1, min(len(dev), self.loop.dev_sample)).astype(int)]
        self.lines, self.answers = [pair.source for pair in sample], right_answers(self.data.target, sample)
        self.references = references(sample)
        self.compile_seconds = 0.0
        self._start = self._update = self._measure = None

    @functools.cached_property
    def example(self) -> Saved:
        """Shapes and dtypes of what a checkpoint holds."""
        return Saved(self._begin.eval_shape(np.uint32(0), np.float32(0)),
                     Best(np.float32(-1), np.finfo(np.float32).max, np.float32(-1), np.int32(0), np.int32(0)))
        # a checkpoint must be finite: the largest number stands for no loss yet

    def initial(self, seed: int) -> Params:
        """The parameters that a run with this seed begins with."""
        return self._begin(np.uint32(seed), np.float32(0)).params

    def program_count(self) -> dict[str, int]:
        """How many programs a run compiles, by what they do; `device.peak` may need one more in each process."""
        return {'start': 1, 'train': len(self.plans.train.shapes), 'measure': len(self.plans.measured),
                'decode': len(self.translator.shapes(self.lines))}

    def programs_compiled(self) -> int:
        """How many programs there are by now, those of any decoding since among them."""
        return sum(len(programs or ()) for programs in (self._update, self._measure)) + len(self.translator) + (
            self._start is not None)

    def compile(self, progress: Callable[[str], None]) -> None:
        """Compiles what a run needs and what is not compiled yet; `progress` gets a line for each program."""
        if self._update is None:
            function = build.train_step(self.config, self.model, self.optimiser)
            self._update, _ = self.compiled(
                loop.lowering(function, self.example.state, self.plans.train.shapes, donate=True), {}, progress)

    def compiled(self, train: Mapping[loop.Shape, Callable[[], jax.stages.Lowered]],
                 others: Mapping[str, Callable[[], jax.stages.Lowered]],
                 progress: Callable[[str], None]) -> tuple[loop.Programs, dict[str, jax.stages.Compiled]]:
        """Compiles the steps of a training and, with them, what any run needs beside them and what is not there yet.

        Args:
          train: what makes the program of a step ready to be compiled, for each shape of batch.
          others: the same of more programs, by what they do.
          progress: gets a line for each program.

        Returns:
          The programs of the steps, and the others.

        Raises:
          UserError: the device has less memory than the largest program needs.
        """
        begin = time.perf_counter()
        wanted: dict[str, Mapping[Hashable, Callable[[], jax.stages.Lowered]]] = {  # what the first step needs first
            'start': {} if self._start else {(): lambda: self._begin.lower(np.uint32(0), np.float32(0))},
            'train': train, **{purpose: {(): lower} for purpose, lower in others.items()},
            'measure': self._lowering_measure(),
            'decode': self.translator.lowering(self.example.state.params, self.translator.shapes(self.lines))}
        lowering = {(purpose, shape): lower for purpose, some in wanted.items() for shape, lower in some.items()}
        progress(f'compiling {len(lowering)} programs')

        def ready(key, done):
            purpose, shape = key
            sizes = zip(('batch', 'source') if purpose == 'decode' else ('batch', 'source', 'target'), shape)
            progress(f'{done} of {len(lowering)} programs are compiled: ' + ', '.join(
                [f'to {purpose}', *(f'{name} {size}' for name, size in sizes)]))
        found = compiling.compiled(lowering, ready)
        programs = {purpose: {shape: found[purpose, shape] for shape in wanted[purpose]} for purpose in wanted}
        self.translator.add(programs['decode'])
        self._start, update = self._start or programs['start'][()], loop.Programs(programs['train'])
        self._measure = self._measure or loop.Programs(programs['measure'])
        _check_memory(max(update.bytes, self._measure.bytes), progress)
        seconds = time.perf_counter() - begin
        self.compile_seconds += seconds
        progress(f'compiled {len(lowering)} programs in {seconds:.1f} s')
        return update, {purpose: programs[purpose][()] for purpose in others}

    def run(self, workdir: str | pathlib.Path, seed: int | None = None, rate: float | None = None,
            console: bool = True, enough: float | None = None) -> Outcome:
        """Trains with one seed and learning rate in a work directory of its own, from where it stopped there.

        `enough` is an accuracy on dev: the run ends with the first measurement that reaches it, without a checkpoint.
        """
        with self.opened(workdir, seed, rate, console) as run, Signals() as signals:
            run.report.message(self.describe(run.plan))
            found, over = self.resumed(run)
            best = self.example.best if found is None else found.best
            if not over:
                given = self.given(run.report) if found is None else None
                self.compile(functools.partial(say_unless_stopped, run.report, signals))
                now = found.state if found is not None else self.beginning(
                    build.seed(run.config), build.rate(run.config), given)
                del found, given  # the first update takes the state's memory
                with self.hooked(run, int(now.step), best, signals, Clock(), enough) as (feed, *hooks):
                    with contextlib.suppress(EnoughError):
                        loop.train(now, feed, self.update, self.loop.steps, hooks)
                    best = hooks[1].best
            return self.outcome(run, best)

    @contextlib.contextmanager
    def opened(self, workdir: str | pathlib.Path, seed: int | None, rate: float | None,
               console: bool) -> Iterator[Opened]:
        """One seed's run in a work directory, which nobody else can have while the context is open."""
        workdir = pathlib.Path(workdir)
        config = self.config if seed is None else build.with_seed(self.config, seed)
        config = config if rate is None else build.with_rate(config, rate)
        identity = build.identity(config, self.data.source, self.data.target)
        with workdirs.claimed(workdir, build.text(config), self.documents, build.completed), \
                Report(workdir, steps=self.loop.steps, console=console) as report:
            note_start(workdir)
            yield Opened(config, self.plans.train.with_seed(build.seed(config)),
                         Checkpoints(workdir / 'checkpoints', keep=2, identity=identity),
                         Kept(workdir, self.loop.average, identity), report)

    def resumed(self, run: Opened) -> tuple[Saved | None, bool]:
        """What a run goes on from, None = the beginning, and whether it is over; forgets what was reported later."""
        found = self._restored(run.latest)
        if found is None:
            run.report.resume(0)
            return None, False
        step, saved = found
        over = (step >= self.loop.steps or self.is_over(step, saved.best) or self.has_enough(run.report, step)
                or step in run.kept.averaged.steps())  # which is made at the end alone
        run.report.message(f'going on from step {step}' if not over else f'all {step} steps are done'
                           if step >= self.loop.steps else f'the run was over at step {step}')
        run.report.resume(step)
        return saved, over

    def beginning(self, seed: int, rate: float, given: Callable[[Params], Params] | None) -> state.State:
        """The state before the first step; `given` makes its parameters of random ones. Compile before."""
        return _beginning(self._start(np.uint32(seed), np.float32(rate)), given)

    def update(self, now: state.State, batch: Batch) -> tuple[state.State, Metrics]:
        """A step, to which the state is given away. Compile before."""
        return self._update(now, batch)

    @contextlib.contextmanager
    def hooked(self, run: Opened, step: int, best: Best, signals: 'Signals', clock: 'Clock',
               enough: float | None = None) -> Iterator[tuple['Feed', 'Reporting', 'Measuring', 'Saving']]:
        """The batches of a run from a step on, and what is done after each."""
        peak = device.peak(build.dtype(self.config))
        run.report.message(peak.text)
        with contextlib.closing(batches.stream(run.plan, step)) as stream:
            feed = Feed(stream, build.step_flops(self.config, self.model))
            reporting = Reporting(run.report, self.loop.report_every, feed, peak, clock)
            measuring = Measuring(self, run.report, reporting, run.kept, best, enough)
            yield feed, reporting, measuring, Saving(run.latest, self.loop, reporting, measuring, signals)

    def outcome(self, run: Opened, best: Best) -> Outcome:
        """What a finished run leaves behind."""
        params = run.kept.restore(int(best.step), self.example.state.params)
        return Outcome(params, int(best.step), float(best.accuracy), float(best.loss), float(best.bleu))

    def is_over(self, step: int, best: Best) -> bool:
        """Whether so many measurements up to this step were no better that the run ends."""
        return 0 < self.loop.patience <= (step - int(best.step)) // self.loop.evaluate_every

    def has_enough(self, report: Report, step: int) -> bool:
        """Whether the last two measurements on dev up to this step, of those that are reported, are good enough."""
        if not self.loop.enough:
            return False
        found = [line['accuracy'] for line in read_jsonl(report.path)[0]
                 if line['kind'] == 'dev' and line['step'] <= step][-2:]
        return len(found) == 2 and all(value is not None and value >= self.loop.enough for value in found)

    def loss(self, params: Params, pairs: Sequence[Pair]) -> float:
        """The cross-entropy of the given right answers, a target token: no dropout, no smoothing."""
        self._measure = self._measure or loop.Programs(compiling.compiled(self._lowering_measure()))
        return self.measure(params, build.measuring_plan(self.data, pairs, self.plans))['loss']

    def measure(self, params: Params, plan: batches.BatchPlan) -> dict[str, float]:
        """Of all batches of a plan in the shapes that a run measures with: `tokens` with a target and, for each of
        them, the `loss` and, without a source, how many are `right`.
        """
        sums = summed(self._measure, params, plan)
        return {name: value if name == 'tokens' else value / sums['tokens'] for name, value in sums.items()}

    @functools.cached_property
    def documents(self) -> dict[str, str]:
        """What a work directory keeps beside the config, by file name: what the data is, and the vocabularies."""
        corpus = self.data.corpus
        sizes = {'train': self.plans.pairs, 'dev': len(corpus.dev), 'test': len(corpus.test)}
        return {'data.json': json.dumps({'corpus': self.data.digest, **sizes}) + '\n',
                'source_vocabulary.json': self.data.source.to_json(),
                'target_vocabulary.json': self.data.target.to_json()}

    def describe(self, plan: batches.Plan, programs: dict[str, int] | None = None) -> str:
        """A few lines about what will be trained on what; `programs` are to be compiled, None = those of one seed."""
        total, without = build.parameters(self.model)
        programs, (_, S, T) = programs or self.program_count(), plan.shapes[-1]
        kept = build.kept_bytes(self.model, S, T)
        shapes, measured = (', '.join(f'{B} x ({S} + {T})' for B, S, T in chosen)
                            for chosen in (plan.shapes, self.plans.measured))
        return (f'{total:,} parameters ({without:,} without embeddings and softmax); at {S} + {T} positions '
                f'{build.flops(self.model, S, T) / T / 1e6:,.2f} MFLOPs forward a target symbol'
                + ('' if kept is None else f', {kept / 1024:,.1f} KiB kept of a sentence while it is written') + '\n'
                f'{len(plan):,} batches an epoch of {self.plans.pairs:,} training pairs, '
                f'{len(plan.dropped):,} pairs too long and dropped, {100 * plan.padding:.1f} % padding\n'
                f'batches of rows x (source + target): {shapes}; to measure dev and test: {measured}\n'
                f'{sum(programs.values())} programs to compile: '
                + ', '.join(f'{count} to {name}' for name, count in programs.items())
                + ''.join(f'\nin the lines of {split} found: ' + ', '.join(
                    f'{count:,} {kind}' + (' (left out)' if kind in build.left_out(self.config) else '')
                    for kind, count in kinds.items()) for split, kinds in self.data.found.items()))

    def _restored(self, latest: Checkpoints) -> tuple[int, Saved] | None:
        """The newest good checkpoint, also one of a time when there was neither BLEU nor a plateau."""
        try:
            return latest.restore(self.example)
        except UserError as error:
            before = BestBefore(*(getattr(self.example.best, name) for name in BestBefore._fields))
            try:
                step, saved = latest.restore(self.example._replace(best=before))
            except UserError:
                raise error from None
            return step, saved._replace(best=self.example.best._replace(**saved.best._asdict()))

    def given(self, report: Report) -> Callable[[Params], Params] | None:
        """What makes the parameters before the first step of random ones, where the config says so.

        The files are read here, so what is wrong with them is said before anything compiles.
        """
        workdir = build.start_from(self.config)
        if workdir:
            run = Run.load(workdir)
            build.check_params(self.example.state.params, run.params)
            report.message(f'begins with the parameters of {workdir}, step {run.step}')
            return lambda params: run.params
        tables = [(one.name, *self._vectors(report, one))
                  for one in build.pretrained(self.config, self.data.source, self.data.target)]

        def filled(params: Params) -> Params:
            params = jax.tree.map(np.array, params)
            for name, table, covered in tables:
                functools.reduce(lambda node, part: node[part], name, params)[covered] = table[covered]
            return params
        return filled if tables else None

    def _vectors(self, report: Report, one: build.Pretrained) -> tuple[np.ndarray, np.ndarray]:
        """The table of an embedding with pretrained vectors, and which rows have one; says how much they cover."""
        vocabulary = one.vocabulary
        symbols = [None] * SPECIAL + [vocabulary.symbol(number) for number in range(SPECIAL, len(vocabulary))]
        shape = functools.reduce(lambda node, part: node[part], one.name, self.example.state.params).shape
        table, covered = vectors.initial(symbols, one.path, one.lowercase, np.zeros(shape, np.float32))
        types, tokens = vectors.coverage(covered, build.symbol_counts(self.data, one.side))
        report.message(f'{one.path}: vectors for {100 * types:.1f} % of the {one.side} symbols that stand in the '
                       f'training text, which are {100 * tokens:.1f} % of all that stand there')
        return table, covered

    @functools.cached_property
    def _begin(self) -> Any:
        """The program to start as a function, one for its shapes and for its compiling: it is traced once."""
        def begin(seed, rate):
            return build.begin(self.config, self.model, self.optimiser, jax.random.key(seed), rate,
                               loop.blank_batch(*self.plans.train.shapes[0]))
        return jax.jit(begin)

    def _lowering_measure(self) -> dict[loop.Shape, Callable[[], jax.stages.Lowered]]:
        """What is missing of the programs to measure."""
        if self._measure is not None:
            return {}
        function = measure_step(self.model, chunk=build.chunk(self.config), with_right=not self.model.reads_source())
        return loop.lowering(function, self.example.state.params, self.plans.measured, donate=False)


def _beginning(now: state.State, given: Callable[[Params], Params] | None) -> state.State:
    """The state before the first step, where its parameters are not to be random ones."""
    if given is None:
        return now
    params = given(now.params)
    average = now.average if now.average == () else jax.tree.map(jnp.array, params)
    return now._replace(params=jax.tree.map(jnp.array, params), average=average)


def _check_tokenizer(tokenizer: str, language: str, pairs: Sequence[Pair]) -> None:
    """Raises UserError before a training that could not be scored, or whose scores would mean nothing."""
    try:
        translation.check_tokenizer(tokenizer, language, [pair.target for pair in pairs])
        translation.bleu([pairs[0].target], [(pairs[0].target,)], tokenizer)  # it may not be installed
    except UserError as error:
        raise UserError(f'evaluation.{error}') from None


def _check_memory(needed: int, progress: Callable[[str], None]) -> None:
    """Says what the largest program needs, and raises UserError where the device has less."""
    progress(f'the largest program needs {needed / 1e6:,.1f} MB')
    free = loop.free_bytes()
    if free is not None and needed > free:
        raise UserError(f'the largest program needs {needed / 1e6:,.1f} MB and the device has {free / 1e6:,.1f} MB: '
                        'batches.tokens must be smaller')


class Totals(NamedTuple):
    """Sums over the batches of a run."""

    flops: float = 0.0     # of the model, to train on them
    positions: int = 0     # B x (S + T)
    symbols: int = 0       # of these positions, those that are no padding
    waited: float = 0.0    # seconds until each of them was there

    def since(self, before: 'Totals') -> 'Totals':
        """What was added."""
        return Totals(*(now - then for now, then in zip(self, before, strict=True)))


class Feed:
    """The batches of a run as they come, and what the host knows of them; nothing here waits for the device.

    Attributes:
      totals: of all batches up to now.
    """

    def __init__(self, stream: Iterable[Batch], flops: Callable[[tuple[int, int, int]], float]):
        """`flops` are those of a step on a batch (B, S, T)."""
        self.stream, self.flops, self.totals = iter(stream), flops, Totals()

    def __iter__(self) -> 'Feed':
        return self

    def __next__(self) -> Batch:
        begin = time.perf_counter()
        batch = next(self.stream)
        waited = time.perf_counter() - begin
        segments = batch.source_places.segment, batch.target_places.segment
        symbols = sum(int(np.count_nonzero(segment)) for segment in segments)
        before = self.totals
        self.totals = Totals(
            before.flops + self.flops((*batch.source.shape, batch.targets.shape[1])),
            before.positions + sum(segment.size for segment in segments), before.symbols + symbols,
            before.waited + waited)
        return batch


class Clock:
    """The time that was spent on training. Runs that are trained at once share one: they wait for each other."""

    def __init__(self):
        """Goes from now on."""
        self.left_out = 0.0

    def now(self) -> float:
        """Seconds since any moment."""
        return time.perf_counter() - self.left_out


class Reporting:
    """Sums what the steps say and reports it every so often, one step late, so that the device never waits.

    Beside the means of what the steps say, of a window: `tokens_per_second` (targets), `flops_per_second` (see
    `build.step_flops`; its share of the peak by the name that `device.Peak.share` gives it), `padding` (share of the
    positions), `waiting` (share of the time in which the loop waited for its next batch; the device may still have been
    at work on the one before).
    """

    def __init__(self, report: Report, every: int, feed: Feed, peak: device.Peak, clock: Clock | None = None):
        """Begins the first window now."""
        self.report, self.every, self.feed, self.peak, self.clock = report, every, feed, peak, clock or Clock()
        self.window: list[Metrics] = []
        self.due: tuple[int, list[Metrics], Totals] | None = None
        self.counted, self.waited, self.begin = feed.totals, feed.totals.waited, self.clock.now()

    def close(self, step: int) -> None:
        """Ends the window with this step: what it holds is reported before anything later."""
        self.flush()
        if self.window:
            self.due, self.window = (step, self.window, self.feed.totals.since(self.counted)), []
            self.counted = self.feed.totals

    def leave_out(self, seconds: float) -> None:
        """Takes time off the current window that was spent on something else than training."""
        self.clock.left_out += seconds

    def __call__(self, step: int, state: state.State, metrics: Metrics) -> None:
        """After each step."""
        self.flush()
        self.window.append(metrics)
        if step % self.every == 0:
            self.close(step)

    def flush(self) -> None:
        """Reports the window that is complete, if there is one."""
        if self.due is None:
            return
        (step, window, done), self.due = self.due, None
        window = jax.device_get(window)
        tokens = np.array([metrics['tokens'] for metrics in window])
        losses = np.array([metrics['loss'] for metrics in window])
        if not np.all(np.isfinite(losses)):
            first = step - len(window) + 1
            raise DivergedError(f'the loss became {losses[~np.isfinite(losses)][0]} between steps {first} and {step}: '
                                'lower training.learning_rate or training.clip. The checkpoints before it are good')
        seconds, waited = self.clock.now() - self.begin, self.feed.totals.waited - self.waited
        self.report.training(step, {
            'loss': float(np.sum(losses * tokens) / np.sum(tokens)),
            'gradient_norm': float(np.mean([metrics['gradient_norm'] for metrics in window])),
            'tokens': float(np.sum(tokens)), 'tokens_per_second': float(np.sum(tokens) / seconds),
            'flops_per_second': done.flops / seconds, **self.peak.share(done.flops / seconds),
            'padding': 1 - done.symbols / done.positions, 'waiting': waited / seconds, 'seconds': seconds})
        self.begin, self.waited = self.clock.now(), self.feed.totals.waited


class Measuring:
    """Measures dev every so often and keeps the parameters that were best."""

    def __init__(self, trainer: Trainer, report: Report, reporting: Reporting, kept: Kept, best: Best,
                 enough: float | None):
        """Goes on from the best measurement so far; raises EnoughError with one of accuracy `enough`."""
        self.enough = enough
        self.trainer, self.report, self.reporting, self.kept, self.best = trainer, report, reporting, kept, best
        self.over = False  # the run ends with the step that was measured last

    def due(self, step: int) -> bool:
        """Whether there is anything to do after this step."""
        numbers = self.trainer.loop
        return step % numbers.evaluate_every == 0 or step == numbers.steps

    def __call__(self, step: int, now: state.State, metrics: Metrics) -> state.State | None:
        """After each step; on a plateau it gives back the state with a lower learning rate."""
        numbers = self.trainer.loop
        if not self.due(step):
            return None
        jax.block_until_ready(now.params)  # the last update still belongs to training
        begin = time.perf_counter()
        params = state.evaluated(now)
        scores = self._measured(step, params, 'dev')
        if self._better(step, scores):
            self.kept.save(step, params)
        self.kept.note(step, params)
        self.over = (step == numbers.steps or self.trainer.is_over(step, self.best)
                     or self.trainer.has_enough(self.report, step))
        if self.over and numbers.average > 1:
            params = self.kept.mean(step, params)
            if self._better(step, self._measured(step, params, 'dev_averaged')):
                self.kept.save_mean(step, params)
        self.reporting.leave_out(time.perf_counter() - begin)
        if self.enough is not None and scores['accuracy'] >= self.enough:
            raise EnoughError
        return self._lowered(step, now)

    def _measured(self, step: int, params: Params, kind: str) -> dict[str, float]:
        begin = time.perf_counter()
        scores = self._scores(params)
        self.report.evaluation(step, {**scores, 'seconds': time.perf_counter() - begin}, kind)
        return scores

    def _better(self, step: int, scores: dict[str, float]) -> bool:
        """Whether this is the best measurement so far; then it is the one that is kept."""
        found = self.best._replace(accuracy=np.float32(scores['accuracy']), loss=np.float32(scores['loss']),
                                   bleu=np.float32(scores.get('bleu', -1)), step=np.int32(step))
        if not found.rank(self.trainer.loop.keep) > self.best.rank(self.trainer.loop.keep):
            return False
        self.best = found
        return True

    def _lowered(self, step: int, now: state.State) -> state.State | None:
        """The state with a lower rate, where as many measurements as a plateau has were no better; None = as it is."""
        numbers = self.trainer.loop
        since = step - max(int(self.best.step), int(self.best.lowered))
        if self.over or numbers.plateau_patience is None or \
                since // numbers.evaluate_every < numbers.plateau_patience:
            return None
        self.best = self.best._replace(lowered=np.int32(step))
        lower = now._replace(rate=now.rate * numbers.plateau_factor)
        self.report.message(f'step {step}: no better for {numbers.plateau_patience} measurements, the learning rate is '
                            f'now {float(lower.rate):.3g}')
        return lower

    def _scores(self, params: Params) -> dict[str, float]:
        """The loss of dev, the share of its sample that is right, and that of wrong symbols; each label or next symbol
        of a model without a source counts by itself.
        """
        trainer = self.trainer
        measured = trainer.measure(params, trainer.plans.dev)
        if not trainer.model.reads_source():
            more = {'perplexity': accuracy.perplexity(measured['loss'])} if trainer.data.next_symbols else {}
            return {'loss': measured['loss'], **more, 'accuracy': measured['right'],
                    'token_error_rate': 1.0 - measured['right']}
        outputs = [found.text for found in trainer.translator(params, trainer.lines)]
        more = {} if trainer.tokenizer is None else {
            'bleu': translation.bleu(outputs, trainer.references, trainer.tokenizer)}
        return {'loss': measured['loss'], **more,
                'accuracy': float(np.mean(accuracy.exact_match(outputs, trainer.answers))),
                'token_error_rate': accuracy.token_error_rate(outputs, trainer.answers,
                                                              accuracy.counted(trainer.data.target.unit))}


class Saving:
    """Writes a checkpoint every so often, at the end, and when the process is asked to stop."""

    def __init__(self, checkpoints: Checkpoints, numbers: build.Loop, reporting: Reporting, measuring: Measuring,
                 signals: 'Signals'):
        """Runs after the two others: a checkpoint knows the best measurement up to its own step, and nothing reported
        about the steps before it is missing when a run goes on from it.
        """
        self.checkpoints, self.numbers, self.signals = checkpoints, numbers, signals
        self.reporting, self.measuring = reporting, measuring

    def due(self, step: int) -> bool:
        """Whether there is anything to write after this step."""
        return bool(step % self.numbers.checkpoint_every == 0 or self.measuring.over or self.signals.received)

    def __call__(self, step: int, state: state.State, metrics: Metrics) -> None:
        """After each step."""
        over = self.measuring.over
        if self.due(step):
            self.reporting.close(step)
            self.reporting.flush()
            begin = time.perf_counter()
            self.checkpoints.save(step, Saved(state, self.measuring.best))
            self.reporting.leave_out(time.perf_counter() - begin)
        if over:
            if step < self.numbers.steps:
                enough = self.measuring.trainer.has_enough(self.measuring.report, step)
                self.measuring.report.message(f'step {step}: ' + (
                    f'two measurements in a row reached {self.numbers.enough:g}' if enough else
                    f'no better for {self.numbers.patience} measurements') + ': the run is over')
            raise EnoughError
        self.signals.stop(f'at step {step}')


class Signals:
    """While open, a SIGTERM or SIGINT only leaves a note, which is read between steps and between programs compiled.

    The second one acts at once, as if there were no such class.
    """

    def __init__(self):
        """Nothing was received."""
        self.received = 0

    def stop(self, where: str) -> None:
        """Raises Stopped when one was received; everything must be saved by then."""
        if self.received:
            print(f'stopped by signal {self.received} {where}; start again to go on', file=sys.stderr)
            raise Stopped(STOPPED)

    def __enter__(self) -> 'Signals':
        def note(number, frame):
            self.received = number
            self._restore()
        self.before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def say_unless_stopped(report: Report, signals: Signals, text: str) -> None:
    """What compiling calls before each program."""
    signals.stop('while compiling')
    report.message(text)


def note_start(workdir: pathlib.Path) -> None:
    """One line more in environment.jsonl: a run may go on another day, on another machine, with other versions."""
    line = {'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'), 'command': sys.argv,
            **environment()}
    with open(workdir / 'environment.jsonl', 'a', encoding='utf-8') as file:
        file.write(json.dumps(line) + '\n')


def environment() -> dict[str, Any]:
    """The machine and the versions that decide numbers."""
    packages = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
    backend = jax.default_backend()
    accelerator = '' if backend == 'cpu' else f' ({jax.devices()[0].device_kind})'
    try:
        mine = version('seq2lab')
    except PackageNotFoundError:
        mine = 'not installed'
    return {'machine': f'{platform.machine()}, {_cores()}, {backend}{accelerator}',
            'versions': {'seq2lab': f'{mine}{_commit()}', 'python': platform.python_version(),
                         **{name: version(name) for name in packages}}}


@functools.cache
def _commit() -> str:
    """Which commit this code is, where it is a checkout and git is there."""
    folder = pathlib.Path(__file__).resolve().parent.parent
    try:
        top, head, changed = (
            subprocess.run(['git', '-C', folder, *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (['rev-parse', '--show-toplevel'], ['rev-parse', '--short=12', 'HEAD'],
                          ['status', '--porcelain', '--untracked-files=no']))
    except (OSError, subprocess.CalledProcessError):
        return ''
    if pathlib.Path(top) != folder:
        return ''  # installed inside of somebody else's checkout
    return f', commit {head}{" and changes" if changed else ""}'


def _cores() -> str:
    """How many cores this process may use, and how many there are: a process can be pinned to some of them."""
    there, used = os.cpu_count(), compiling.cores()
    return f'{there} cores' if used == there else f'{used} of {there} cores'


def main() -> None:
    """The command line."""
    with one_line_errors('research.train'):
        compiling.keep_programs()
        memory.keep_freed()
        config, workdir = command_line.config_and_workdir(__doc__)
        trainer = Trainer(config)
        outcome = trainer.run(workdir)
        best = f'accuracy {100 * outcome.best_accuracy:.1f} %'
        if trainer.data.next_symbols:
            best = perplexity_of(outcome.best_loss, trainer.data)
        if trainer.tokenizer is not None:
            best = f'BLEU {outcome.best_bleu:.1f} (greedy, {len(trainer.lines):,} sentences)'
        print(f'best dev {best} at step {outcome.best_step}; '
              f'next: python -m research.evaluate --workdir={workdir} --split=test')


if __name__ == '__main__':
    main()
