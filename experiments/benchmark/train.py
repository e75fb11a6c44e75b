"""Training: real target tokens a second of real batches, and of sentences of one length without padding."""

import contextlib
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from configs import benchmark as benchmark_config
from experiments.benchmark import joeynmt
from experiments.benchmark.process import Peer
from experiments.benchmark.timing import OURS, PRODUCT, Row, Track, product, row, turns
from research import build, compiling
from research.shapes import Batch, Places
from research.study.arms import override
from research.text import batches
from research.text.vocabulary import SPECIAL
from research.train import Feed
from research.training import loop

MODELS = {'transformer': ('transformer', 'Transformer 3 + 3, width 256'),  # name -> words of the config, for a table
          'lstm': ('additive+cell=lstm', 'BiLSTM 2 x 256, additive attention, input feeding')}
WARM = 10                      # batches before the first window, as many updates of JoeyNMT
PEER_UPDATES = 5               # of JoeyNMT a turn
SENTENCES, LENGTH = 128, 16    # dense: of a batch; symbols of each side of a sentence
DENSE_STEPS = 3                # a turn
GROWTH = 32, 64, 128, 256      # sentences of a batch, each batch twice the one before
NOTES = (
    'Ratio: of the speed of ours to this one, the median of those of the turns.',
    f'Real batches have {joeynmt.BATCH:,} positions a side, padding counted. Ours are of few shapes, chosen so that '
    'little is padding; those of JoeyNMT are sentences as they come. Both read the same symbols, with label smoothing '
    '0.1, Adam and gradients cut at 1. JoeyNMT drops attention weights out, too.',
    'PyTorch: torch.nn.Transformer, without positions, or nn.LSTM and nn.LSTMCell; AdamW, label smoothing 0.1.')


class Window(NamedTuple):
    """Some consecutive batches of a training."""

    tokens: float    # real target symbols
    seconds: float
    waiting: float   # seconds of these in which the step waited for a batch


class Training:
    """The training step of a config as research.train runs it, batches from their thread, warm: a window at a time.

    Args of the constructor:
      config: an experiment.
      data: what `build.data` makes of it.
      progress: gets a line for each program that is compiled.

    Attributes:
      plan: of the batches.
    """

    def __init__(self, config: Any, data: build.Data, progress: Callable[[str], None] = lambda text: None):
        """Compiles the programs of all shapes and makes WARM steps."""
        model, optimiser = build.model(config, len(data.source), len(data.target)), build.optimiser(config)
        self.plan = build.plans(config, data).train

        def begin(rng):
            blank = loop.blank_batch(*self.plan.shapes[0])
            return build.begin(config, model, optimiser, rng, np.float32(build.rate(config)), blank)
        self._state = jax.jit(begin)(jax.random.key(build.seed(config)))
        self._update = loop.Programs(compiling.compiled(
            loop.lowering(build.train_step(config, model, optimiser), self._state, self.plan.shapes, donate=True),
            lambda shape, done: progress(f'{done} of {len(self.plan.shapes)} programs are compiled')))
        self._stream = batches.stream(self.plan)
        self._feed = Feed(self._stream, build.step_flops(config, model))
        self.window(WARM)

    def window(self, steps: int) -> Window:
        """The next batches of the plan."""
        found, before, begin = [], self._feed.totals, time.perf_counter()
        self._state = loop.train(self._state, self._feed, self._update, int(self._state.step) + steps,
                                 [lambda step, state, metrics: found.append(metrics['tokens'])])
        jax.block_until_ready(self._state)
        return Window(float(np.sum(jax.device_get(found))), time.perf_counter() - begin,
                      self._feed.totals.since(before).waited)

    def close(self) -> None:
        """Ends the thread."""
        self._stream.close()


class Dense:
    """The training step of a config on one batch of sentences of one length: no padding, no dropout.

    Args of the constructor:
      config: of which dropout is taken away.
      vocabulary: V of both sides.
      sentences, length: B, and S = T.

    Attributes:
      flops: of an update, by the formulas of the model's parts.
    """

    def __init__(self, config: Any, vocabulary: int, sentences: int, length: int):
        """Compiles the program and makes an update."""
        config = override(config, {'encoder.dropout': 0.0, 'decoder.dropout': 0.0})
        model, optimiser = build.model(config, vocabulary, vocabulary), build.optimiser(config)
        source, inputs, targets = np.random.default_rng(0).integers(
            SPECIAL, vocabulary, (3, sentences, length), np.int32)
        places = Places(np.ones_like(source), np.tile(np.arange(length, dtype=np.int32), (sentences, 1)))
        self._batch = jax.device_put(Batch(source, places, inputs, targets, places))
        self._state = jax.jit(lambda rng: build.begin(config, model, optimiser, rng, np.float32(1e-3), self._batch))(
            jax.random.key(0))
        self._update = jax.jit(build.train_step(config, model, optimiser), donate_argnums=0).lower(
            self._state, self._batch).compile()
        self.flops = build.step_flops(config, model)((sentences, length, length))
        self.seconds(1)

    def seconds(self, steps: int) -> float:
        """Of so many updates."""
        begin = time.perf_counter()
        for _ in range(steps):
            self._state, _ = self._update(self._state, self._batch)
        jax.block_until_ready(self._state)
        return time.perf_counter() - begin


def rows(models: Sequence[str], steps: int, rounds: int, python: pathlib.Path | None, track: Track,
         progress: Callable[[str], None]) -> Iterator[Row]:
    """All figures of training.

    Args:
      models: of MODELS.
      steps: our batches of a turn.
      rounds: turns.
      python: of the peers' environment; None = they are not there.
      track: shows what is gone through.
      progress: hears what is being done.
    """
    data = build.data(benchmark_config.get_config(MODELS[models[0]][0]))  # the same for all of them
    for name in models:
        yield from real(name, data, steps, rounds, python, track, progress)
    for name in models:
        yield from dense(name, len(data.target), rounds, python, track, progress)
    for name in models:
        yield from growth(name, len(data.target), rounds, track, progress)


def real(name: str, data: build.Data, steps: int, rounds: int, python: pathlib.Path | None, track: Track,
         progress: Callable[[str], None]) -> Iterator[Row]:
    """Real batches of Multi30k: our training step, and JoeyNMT's on batches of as many positions."""
    words, title = MODELS[name]
    work, unit = f'{title}: Multi30k, padded batches, dropout 0.1', 'real target tokens/s'
    with contextlib.ExitStack() as stack:
        contenders, peer = {}, None
        if python is not None:
            progress(f'JoeyNMT warms up: {name}')
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            pairs = ([(pair.source, pair.target) for pair in split] for split in (data.corpus.train, data.corpus.dev))
            path = joeynmt.write_training(folder, name, data.target, *pairs, PEER_UPDATES)
            peer = stack.enter_context(Peer(python, 'joeynmt_train', [path, WARM]))
        training = Training(benchmark_config.get_config(words), data, progress)
        stack.callback(training.close)
        contenders[OURS] = lambda: _tokens_a_second(training.window(steps))
        if peer is not None:
            contenders[peer.name] = lambda: _tokens_a_second(Window(**peer.ask(), waiting=0.0))
        found = turns(contenders, rounds, track, f'training, {name}')
    yield row('train', work, OURS, unit, found[OURS], note=f'{steps} batches a turn')
    by = 'JoeyNMT' if peer is None else peer.name
    yield row('train', work, by, unit, found.get(by, ()), found[OURS],
              f'{PEER_UPDATES} batches a turn')


def dense(name: str, vocabulary: int, rounds: int, python: pathlib.Path | None, track: Track,
          progress: Callable[[str], None], sentences: int = SENTENCES, length: int = LENGTH) -> Iterator[Row]:
    """Sentences of one length: our training step, plain PyTorch's, and the rate of a matrix product."""
    words, title = MODELS[name]
    work, unit = (f'{title}: {sentences} sentences of {length} + {length} symbols, no padding, no dropout',
                  'target tokens/s')
    with contextlib.ExitStack() as stack:
        peer = None
        if python is not None:
            progress(f'PyTorch warms up: {name}')
            peer = stack.enter_context(Peer(python, 'torch_dense', [name, sentences, length, vocabulary]))
        progress(f'compiling: {name}, no padding')
        ours = Dense(benchmark_config.get_config(words), vocabulary, sentences, length)
        tokens = DENSE_STEPS * sentences * length
        contenders = {OURS: lambda: tokens / ours.seconds(DENSE_STEPS), PRODUCT: product}
        if peer is not None:
            contenders[peer.name] = lambda: tokens / peer.ask(steps=DENSE_STEPS)['seconds']
        found = turns(contenders, rounds, track, f'no padding, {name}')
    yield row('train', work, OURS, unit, found[OURS])
    by = 'PyTorch' if peer is None else peer.name
    yield row('train', work, by, unit, found.get(by, ()), found[OURS])
    rates = found[PRODUCT]
    yield row('train', work, PRODUCT, 'GFLOP/s', [rate / 1e9 for rate in rates])
    flops = [ours.flops / (sentences * length) * speed for speed in found[OURS]]
    yield row('train', work, f'{OURS}, of that rate', '%',
              [100 * speed / rate for speed, rate in zip(flops, rates, strict=True)],
              note=f'{ours.flops / 1e9:.1f} GFLOP an update by formula, 3 x forward')


def growth(name: str, vocabulary: int, rounds: int, track: Track, progress: Callable[[str], None],
           sizes: Sequence[int] = GROWTH, length: int = LENGTH) -> Iterator[Row]:
    """Batches of more and more sentences of one length: what a symbol costs in each of them."""
    words, title = MODELS[name]
    contenders = {}
    for sentences in sizes:
        progress(f'compiling: {name}, {sentences} sentences')
        ours = Dense(benchmark_config.get_config(words), vocabulary, sentences, length)
        contenders[sentences] = lambda ours=ours, tokens=DENSE_STEPS * sentences * length: (
            1e6 * ours.seconds(DENSE_STEPS) / tokens)
    found = turns(contenders, rounds, track, f'growth, {name}')
    for sentences, values in found.items():
        times = statistics.median(value / first for value, first in zip(values, found[sizes[0]], strict=True))
        work = f'{title}: {sentences} sentences of {length} + {length} symbols, no padding, no dropout'
        yield row('train', work, OURS, 'µs a target symbol', values,
                  note=f'{times:.2f} times that of {sizes[0]} sentences')


def _tokens_a_second(window):
    return window.tokens / window.seconds
