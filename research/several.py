"""Trains several seeds of one config at once: in each step one program moves them all.

    several = Several(Trainer(config), 6)
    outcomes = several.run([folder / str(seed) for seed in range(10, 16)], range(10, 16))

Each seed has its work directory, as if `Trainer.run` had trained it, and each can be gone on with alone. What a seed
learns is, but for rounding, what it learns alone: the last bits depend on how many are trained at once, not on which.
"""

import contextlib
import functools
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from research import build
from research.errors import DivergedError
from research.shapes import Batch
from research.train import Clock, EnoughError, Opened, Outcome, Signals, Trainer, say_unless_stopped
from research.training import loop
from research.training import several as stacks
from research.training.report import Report
from research.training.state import State
from research.training.step import Metrics

ONE_BY_ONE, TOGETHER = 'one_by_one', 'together'
WARM = 3  # first steps whose time is not measured


class FirstSteps(NamedTuple):
    """What the first steps of some seeds say, and how long a step takes."""

    losses: np.ndarray  # float32 [seeds, steps]
    seconds: float      # of one step of all seeds: the median


class Several:
    """Trains so many seeds at once, any number of times, with the same programs.

    Where they do not stand at the same step, as after a kill while their checkpoints were written, those behind go on
    first, and the places of the others idle until they are reached. So do the places of those that have diverged or are
    over: how many there are decides the last bits, so it never changes.

    Args of the constructor:
      trainer: of the config; its programs to start, to measure and to decode serve one seed after the other.
      count: how many seeds.
    """

    def __init__(self, trainer: Trainer, count: int):
        """Compiles nothing; raises UserError where seeds of this config cannot be trained in one program."""
        if count < 1:
            raise ValueError(f'the number of seeds is {count}; it must be at least 1')
        if count > 1:
            build.check_several(trainer.config, trainer.plans.train)
        self.trainer, self.count = trainer, count
        self._update: loop.Programs | None = None
        self._stack: Callable[[list[State]], State] | None = None
        self._take: Callable[[State, np.int32], State] | None = None

    def program_count(self) -> dict[str, int]:
        """How many programs there are, by what they do: those of one seed, and two for what enters and leaves a stack.
        """
        return self.trainer.program_count() | {'stack': 1, 'take': 1}

    def compile(self, progress: Callable[[str], None]) -> None:
        """Compiles what is needed and not compiled yet; `progress` gets a line for each program."""
        if self._update is None:
            trainer, example = self.trainer, self.trainer.example.state
            step = stacks.train_step(build.train_step(trainer.config, trainer.model, trainer.optimiser), self.count)
            stack = jax.eval_shape(stacks.stacked, [example] * self.count)
            train = loop.lowering(step, stack, trainer.plans.train.shapes, donate=True,
                                  blank=lambda *shape: stacks.batch([loop.blank_batch(*shape)] * self.count))
            self._update, others = trainer.compiled(train, {
                'stack': lambda: jax.jit(stacks.stacked).lower([example] * self.count),
                'take': lambda: jax.jit(stacks.taken).lower(stack, np.int32(0))}, progress)
            self._stack, self._take = others['stack'], others['take']

    def run(self, workdirs: Sequence[str | pathlib.Path], seeds: Sequence[int], rates: Sequence[float] | None = None,
            console: bool = True) -> list[Outcome | DivergedError]:
        """Trains each seed in a work directory of its own, from where it stopped there.

        Args:
          workdirs: one for each seed, no two the same.
          seeds: as many as there are places.
          rates: the learning rate of each, None = the config's; so a seed may come again with another rate.
          console: says on standard error how the first seed that is still trained gets on.

        Returns:
          For each seed what it leaves behind, or the error with which it diverged while the others went on.

        Raises:
          UserError: as `Trainer.run`, and then no seed goes on.
        """
        trainer = self.trainer
        rates = [None] * self.count if rates is None else rates
        if not len(workdirs) == len(seeds) == len(rates) == self.count:
            raise ValueError(f'{len(workdirs)} work directories, {len(seeds)} seeds and {len(rates)} rates are given, '
                             f'and {self.count} seeds are trained at once')
        with contextlib.ExitStack() as opened, Signals() as signals:
            lanes = [_Lane(trainer, seed, opened.enter_context(trainer.opened(workdir, seed, rate, console=False)))
                     for workdir, seed, rate in zip(workdirs, seeds, rates, strict=True)]
            going = [lane for lane in lanes if lane.result is None]
            if going:
                shown = functools.partial(_shown, lanes, console)
                report = shown()
                report.message(f'one program trains the seeds {", ".join(map(str, lanes))}; what follows is of the '
                               f'first of them\n{trainer.describe(going[0].run.plan, self.program_count())}')
                new = [lane for lane in going if lane.state is None]
                given = trainer.given(report) if new else None
                self.compile(functools.partial(say_unless_stopped, report, signals))
                for lane in new:
                    lane.state = trainer.beginning(build.seed(lane.run.config), build.rate(lane.run.config), given)
                self._train(lanes, opened, signals, shown)
            return [lane.result for lane in lanes]

    def first_losses(self, seeds: Sequence[int], way: str, steps: int = 10) -> FirstSteps:
        """What the first steps say and how long they take, trained ONE_BY_ONE or TOGETHER; leaves nothing on disk.

        Neither compiling is in the time, nor the first WARM steps, nor the making of batches.

        Args:
          seeds: as many as there are places; they begin with random parameters and have the config's learning rate.
          way: one of the two.
          steps: more than WARM.
        """
        if steps <= WARM or way not in (ONE_BY_ONE, TOGETHER) or len(seeds) != self.count:
            raise ValueError(f'{steps} steps of {len(seeds)} seeds {way!r}; it must be more than {WARM} steps of '
                             f'{self.count} seeds, {ONE_BY_ONE!r} or {TOGETHER!r}')
        trainer = self.trainer
        (self if way == TOGETHER else trainer).compile(lambda text: None)
        plans = [trainer.plans.train.with_seed(seed) for seed in seeds]
        batches = [[plan[k] for plan in plans] for k in range(steps)]
        states = [trainer.beginning(seed, build.rate(trainer.config), None) for seed in seeds]
        if way == TOGETHER:
            metrics, seconds = _timed(lambda stack, parts: self._update(stack, stacks.batch(parts)),
                                      self._stack(states), batches)
            return FirstSteps(np.array([[one['loss'] for one in step] for step in metrics]).T, seconds)
        found = [_timed(trainer.update, state, own)
                 for state, own in zip(states, zip(*batches, strict=True), strict=True)]
        return FirstSteps(np.array([[one['loss'] for one in metrics] for metrics, _ in found]),
                          sum(seconds for _, seconds in found))

    def _train(self, lanes: Sequence['_Lane'], opened: contextlib.ExitStack, signals: Signals,
               shown: Callable[[], Report]) -> None:
        """Trains all that have no result yet, and every seed waits for those that are behind it."""
        noted, clock = _Noted(), Clock()
        while going := [lane for lane in lanes if lane.result is None]:
            begin, *later = sorted({lane.step for lane in going})
            until = min(later, default=self.trainer.loop.steps)
            places = {place: lane for place, lane in enumerate(lanes) if lane in going and lane.step == begin}
            for lane in places.values():
                lane.join(opened, noted, clock)
            idle = next(iter(places.values())).state
            stack = self._stack([places[place].state if place in places else idle for place in range(self.count)])
            for lane in places.values():
                lane.state = None  # the first update takes the stack's memory
            after = functools.partial(self._after, places, signals, noted, shown)
            with contextlib.suppress(EnoughError):
                stack = loop.train(stack, _batches(places, self.count), self._update, until, [after])
            for place, lane in places.items():
                lane.state, lane.step = self._take(stack, np.int32(place)), until

    def _after(self, places: dict[int, '_Lane'], signals: Signals, noted: '_Noted', shown: Callable[[], Report],
               step: int, stack: State, metrics: Sequence[Metrics]) -> State | None:
        """What is done after a step; gives back the stack where a seed's state was changed. Who is over leaves."""
        noted.received, changed = signals.received, {}
        for place, lane in list(places.items()):
            state = lane.after(step, functools.partial(self._take, stack, np.int32(place)), metrics[place])
            if state is not None:
                changed[place] = state
            if lane.result is not None:
                del places[place]
                report = shown()
                if isinstance(lane.result, DivergedError):
                    report.message(f'seed {lane.seed} is over: {lane.result}')
        if not places:
            raise EnoughError
        if noted.received:
            signals.stop(f'at step {step}')
        return self._stack([changed[place] if place in changed else self._take(stack, np.int32(place))
                            for place in range(self.count)]) if changed else None


class _Lane:
    """One seed's place in the stack: its run, and what is done after each of its steps.

    Attributes:
      step: after which it was begun, or gone on with, last.
      state: after that step; None where there is none yet, and while it is in the stack.
      result: None as long as it is to be trained.
    """

    def __init__(self, trainer: Trainer, seed: int, run: Opened):
        """From where it stopped."""
        self.trainer, self.seed, self.run, self.hooks = trainer, seed, run, None
        found, over = trainer.resumed(run)
        self.best, self.step, self.state = trainer.example.best, 0, None
        if found is not None:
            self.best, self.step, self.state = found.best, int(found.state.step), found.state
        self.result: Outcome | DivergedError | None = trainer.outcome(run, self.best) if over else None

    def __str__(self) -> str:
        """The seed and where it stands."""
        where = f', {"over at" if self.result is not None else "from"} step {self.step}' if self.step else ''
        return f'{self.seed}{where and f" ({where[2:]})"}'

    def join(self, opened: contextlib.ExitStack, signals: '_Noted', clock: Clock) -> None:
        """Begins to be trained; a second call does nothing."""
        if self.hooks is None:
            self.hooks = opened.enter_context(self.trainer.hooked(self.run, self.step, self.best, signals, clock))

    def after(self, step: int, take: Callable[[], State], metrics: Metrics) -> State | None:
        """The hooks of a run; its state is only taken out of the stack when one of them looks at it."""
        _, reporting, measuring, saving = self.hooks
        changed = None
        try:
            reporting(step, None, metrics)
            if measuring.due(step) or saving.due(step):
                now = take()
                changed = measuring(step, now, metrics)
                saving(step, now if changed is None else changed, metrics)
        except EnoughError:
            self.result = self.trainer.outcome(self.run, measuring.best)
        except DivergedError as error:
            self.result = error
        if self.result is not None:
            self.run.report.close()
        return changed


class _Noted:
    """A signal as it was before the hooks of the first seed: either all seeds are saved because of it, or none is."""

    received = 0

    def stop(self, where: str) -> None:
        """Not yet: the others are to be saved, too."""


def _shown(lanes: Sequence[_Lane], console: bool) -> Report:
    """The report of the first that is still trained, which from now on is shown; that of the last one shown if none is.
    """
    going = next((lane.run.report for lane in lanes if lane.result is None), None)
    if going is None:
        return next((lane.run.report for lane in reversed(lanes) if lane.run.report.console), lanes[-1].run.report)
    if console:
        going.show()
    return going


def _batches(places: dict[int, _Lane], count: int) -> Iterator[Batch]:
    """The next batches of all that are trained; in a place that idles, the first one's."""
    while True:
        found = {place: next(lane.hooks[0]) for place, lane in places.items()}
        idle = next(iter(found.values()))
        yield stacks.batch([found.get(place, idle) for place in range(count)])


def _timed(step: Callable, state: State, batches: Sequence) -> tuple[list, float]:
    """What steps say, and the median of their seconds after the first ones."""
    found, seconds = [], []
    for batch in batches:
        begin = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - begin)
        found.append(metrics)
    return found, float(np.median(seconds[WARM:]))
