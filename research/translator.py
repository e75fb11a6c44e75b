"""Lines in, outputs out, in few shapes: what the command lines, training and studies search and score with."""

import concurrent.futures
import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from research import compiling
from research.build import Decoding
from research.decoding.beam import beam
from research.decoding.greedy import greedy
from research.decoding.sampling import sample
from research.decoding.scoring import forced
from research.errors import UserError
from research.models.contract import EncoderDecoder, Params
from research.shapes import Places
from research.text import batches
from research.text.vocabulary import PAD, Vocabulary

FEW = 8  # rows of the small program, for a handful of lines
END_SIGN = '</s>'  # how the end symbol is shown to people
Key = tuple[int, int, int]  # of a program: rows, source length, and the most symbols of a prefix
Progress = Callable[[int, int], None]  # gets how many lines are done, and how many have been read


class Sampling(NamedTuple):
    """How outputs are drawn instead of searched for; see decoding.sampling."""

    samples: int
    temperature: float
    top_k: int | None
    top_p: float
    seed: int

    def describe(self) -> str:
        """For a score line."""
        top = (f', top_k {self.top_k}' if self.top_k else '') + (f', top_p {self.top_p:g}' if self.top_p < 1 else '')
        return f'sampling, temperature {self.temperature:g}{top}, seed {self.seed}'


class Translation(NamedTuple):
    """One output."""

    text: str
    symbols: list[str]          # of the output, the end symbol not among them
    source: list[str]           # S symbols, the end symbol among them
    written: list[str]          # T symbols, the end symbol among them where it was written
    score: float                # sum of log-probabilities
    finished: bool              # the end symbol was written; otherwise the output was cut at its limit
    weights: np.ndarray | None  # [N, T, S]
    penalised: float            # what outputs of one line are ranked by


class Translator:
    """Decodes lines of any length in few shapes: source lengths are rounded up to 8, 16, 32, ..., rows are filled up.

    Args of the constructor:
      model: what the five functions of models.contract call.
      source, target: the vocabularies.
      decoding: how to search.
      with_weights: also return the attention weights.
      progress: called with (lines done, lines read) after each batch; both count the lines before the first.
      sampling: how to draw outputs; None = they are searched for.
      best: how many outputs of each line a search is to give, at most as many as it has beams; fewer are found sooner.
    """

    def __init__(self, model: EncoderDecoder, source: Vocabulary, target: Vocabulary, decoding: Decoding,
                 with_weights: bool = False, progress: Progress = lambda done, lines: None,
                 sampling: Sampling | None = None, best: int = 1):
        """Compiles nothing yet."""
        self.model, self.source, self.target, self.best = model, source, target, best
        self.decoding, self.with_weights, self.progress, self.sampling = decoding, with_weights, progress, sampling
        self._programs = {}

    def __len__(self) -> int:
        """How many programs have been compiled."""
        return len(self._programs)

    def describe(self) -> str:
        """How outputs are found, for a score line."""
        return self.decoding.describe() if self.sampling is None else self.sampling.describe()

    def shapes(self, lines: Sequence[str]) -> list[tuple[int, int]]:
        """The (B, S) that these lines need, each of them one program."""
        return sorted({(rows, S) for rows, S, _ in self._groups([self.source.encode(line) for line in lines])})

    def compile(self, params: Params, shapes: Sequence[tuple[int, int]]) -> None:
        """Compiles what is missing for these shapes (B, S), without prefixes."""
        self._compile(params, [(B, S, 0) for B, S in shapes])

    def lowering(self, params: Params,
                 shapes: Sequence[tuple[int, int]]) -> dict[Key, Callable[[], jax.stages.Lowered]]:
        """What makes the programs ready to be compiled that are missing for these shapes (B, S), without prefixes."""
        return self._lowering(params, [(B, S, 0) for B, S in shapes])

    def add(self, programs: Mapping[Key, jax.stages.Compiled]) -> None:
        """Takes what `lowering` made, compiled."""
        self._programs |= programs

    def __call__(self, params: Params, lines: Sequence[str], prefixes: Sequence[str] | None = None,
                 first: int = 1) -> list[Translation]:
        """The best output for each line, in the order of the lines; an empty line has an empty output.

        Arguments and errors are those of `n_best`.
        """
        return [outputs[0] for outputs in self.n_best(params, lines, prefixes, first)]

    def n_best(self, params: Params, lines: Sequence[str], prefixes: Sequence[str] | None = None,
               first: int = 1) -> list[list[Translation]]:
        """The `best` outputs for each line, best first, or as many as are drawn, in that order.

        Args:
          params: of the model.
          lines: n sources.
          prefixes: n beginnings of the outputs, each '' where nothing is given; None = nothing is given at all.
          first: the number of the first line, for messages and for what is drawn.

        Raises:
          UserError: a line is too long to be read, or a prefix is as long as its output may be or has an empty line.
        """
        ids = [self.source.encode(line) for line in lines]
        given = self._prefixes(ids, prefixes, first)
        outputs: list[list[Translation]] = [[] for _ in lines]
        groups = [(rows, S, self._room([given[index] for index in members], S), members)
                  for rows, S, members in reversed(self._groups(ids, first))]  # what is short fills the end
        self._compile(params, [(rows, S, room) for rows, S, room, _ in groups])
        done = 0
        with concurrent.futures.ThreadPoolExecutor(self._workers()) as pool:
            searches = [pool.submit(self._found, params, ids, given, first, *group) for group in groups]
            try:
                for (*_, members), search in zip(groups, searches, strict=True):
                    found = search.result()
                    for row, index in enumerate(members):
                        outputs[index] = [self._translation(found, row, beam, ids[index])
                                          for beam in range(found.tokens.shape[1]) if found.scores[row, beam] > -np.inf]
                    done += len(members)
                    self.progress(first - 1 + done, first - 1 + len(lines))
            finally:
                pool.shutdown(cancel_futures=True)
        return outputs

    def _workers(self) -> int:
        """How many batches are searched at a time: what one core does alone in one leaves the others to another."""
        return compiling.cores() if jax.default_backend() == 'cpu' else 1

    def _found(self, params, ids, given, first, rows, S, room, members):
        """The hypotheses for one batch, on the host."""
        source, segment = np.zeros((rows, S), np.int32), np.zeros((rows, S), np.int32)
        limits, numbers = np.ones(rows, np.int32), np.zeros(rows, np.int32)
        prefix = np.full((rows, room), PAD, np.int32)
        for row, index in enumerate(members):
            source[row, :len(ids[index])] = ids[index]
            segment[row, :len(ids[index])] = len(ids[index]) > 1  # nothing in, nothing out: not what END alone says
            limits[row], numbers[row] = self.decoding.limit(len(ids[index])), first + index
            prefix[row, :len(given[index])] = given[index]
        places = Places(segment, np.broadcast_to(np.arange(S, dtype=np.int32), (rows, S)))
        more = {'prefix': prefix} if room else {}
        more |= {} if self.sampling is None else {'seed': np.uint32(self.sampling.seed), 'numbers': numbers}
        return jax.device_get(self._programs[rows, S, room](params, source, places, limits=limits, **more))

    def _compile(self, params, shapes):
        self.add(compiling.compiled(self._lowering(params, shapes)))

    def _lowering(self, params, shapes):
        missing = sorted(set(shapes) - set(self._programs))
        return {key: functools.partial(self._lowered, params, *key) for key in missing}

    def _lowered(self, params, B, S, room):
        zeros = np.zeros((B, S), np.int32)
        more = {'prefix': np.zeros((B, room), np.int32)} if room else {}
        more |= {} if self.sampling is None else {'seed': np.uint32(0), 'numbers': np.zeros(B, np.int32)}
        return jax.jit(self._search(S)).lower(params, zeros, Places(zeros, zeros), limits=np.zeros(B, np.int32), **more)

    def _search(self, S):
        options = {'length': self.decoding.limit(S), 'with_weights': self.with_weights}
        if self.sampling is not None:
            def drawn(*arguments, seed, **more):  # its key is made in the program: alone it would be one more
                return sample(self.model, *arguments, key=jax.random.key(seed), samples=self.sampling.samples,
                              temperature=self.sampling.temperature, top_k=self.sampling.top_k,
                              top_p=self.sampling.top_p, **options, **more)
            return drawn
        if self.decoding.beams == 1:
            return functools.partial(greedy, self.model, **options)
        return functools.partial(beam, self.model, beams=self.decoding.beams, penalty=self.decoding.length_penalty,
                                 penalise_by=self.decoding.penalise_by, coverage=self.decoding.coverage_penalty,
                                 patience=self.decoding.patience, best=self.best, **options)

    def _groups(self, ids, first=1):
        """(rows, S, indices of at most that many lines), shortest lines first: those beside each other end together."""
        longest = self.decoding.longest_source or sys.maxsize
        for number, line in enumerate(ids, first):
            if len(line) > longest:
                raise UserError(f'line {number} has {len(line)} symbols, its end among them, and the encoder has '
                                f'positions for {longest} (encoder.maximum_length)')
        lengths = [min(longest, _rounded(len(line))) for line in ids]
        beams = self.decoding.beams if self.sampling is None else self.sampling.samples
        groups = []
        for S in sorted(set(lengths)):
            members = sorted((index for index, length in enumerate(lengths) if length == S),
                             key=lambda index: len(ids[index]))
            most = max(1, self.decoding.tokens // (S * beams))
            groups.extend((rows, S, some) for rows, some in _in_batches(members, most))
        return groups

    def _prefixes(self, ids, prefixes, first):
        """The symbols that are given of each output."""
        if prefixes is None:
            return [np.zeros(0, np.int32)] * len(ids)
        given = [self.target.encode(prefix)[:-1] for prefix in prefixes]
        for number, (source, symbols) in enumerate(zip(ids, given, strict=True), first):
            if len(symbols) and len(source) == 1:
                raise UserError(f'line {number} is empty, and so is its output: its prefix must be empty, too')
            if len(symbols) >= self.decoding.limit(len(source)):
                raise UserError(f'line {number}: a prefix of {len(symbols)} symbols for an output of at most '
                                f'{self.decoding.limit(len(source))} (decoding.maximum_ratio and maximum_extra)')
        return given

    def _room(self, given, S):
        """The width P of a batch's prefixes: few different ones, and below the length of the outputs."""
        longest = max(map(len, given))
        return min(_rounded(longest), self.decoding.limit(S) - 1) if longest else 0

    def _translation(self, found, row, beam, source):
        tokens, length = found.tokens[row, beam], int(found.lengths[row, beam])
        weights = np.asarray(found.weights[row, beam][:, :length, :len(source)]) if self.with_weights else None
        symbols = self.target.symbols(tokens)
        ended = [END_SIGN] if length > len(symbols) else []
        return Translation(self.target.decode(tokens), symbols, [*self.source.symbols(source), END_SIGN],
                           [*symbols, *ended], float(found.scores[row, beam]), bool(found.finished[row, beam]), weights,
                           float(found.penalised[row, beam]))


class Scorer:
    """Says how probable given outputs are, and what they read.

    Args of the constructor are those of a Translator.
    """

    def __init__(self, model: EncoderDecoder, source: Vocabulary, target: Vocabulary, decoding: Decoding,
                 with_weights: bool = False, progress: Progress = lambda done, lines: None):
        """Compiles nothing yet."""
        self.model, self.source, self.target = model, source, target
        self.decoding, self.with_weights, self.progress = decoding, with_weights, progress
        self._score = jax.jit(self._forced)

    def __call__(self, params: Params, lines: Sequence[str], outputs: Sequence[str],
                 first: int = 1) -> list[Translation]:
        """The outputs as if they had been written for these lines; their end symbols count.

        As in a search, an empty line has an empty output, of no symbol and with score 0.

        Raises:
          UserError: a line or an output is longer than the model has positions for, or an empty line has an output.
        """
        ids = [(self.source.encode(line), self.target.encode(output))
               for line, output in zip(lines, outputs, strict=True)]
        for number, (source, target) in enumerate(ids, first):
            if len(source) == 1 < len(target):
                raise UserError(f'line {number}: the source is empty and the target is not; only an empty one is a '
                                'translation of nothing')
        for number, (source, target) in enumerate(ids, first):
            for side, what, longest in ((source, 'source', self.decoding.longest_source),
                                        (target, 'target', self.decoding.longest_target)):
                if longest is not None and len(side) > longest:
                    raise UserError(f'line {number}: the {what} has {len(side)} symbols, its end among them, and the '
                                    f'model has positions for {longest} (maximum_length)')
        shapes = {}
        for index, (source, target) in enumerate(ids):
            shape = tuple(min(_rounded(len(side)), longest or sys.maxsize) for side, longest in (
                (source, self.decoding.longest_source), (target, self.decoding.longest_target)))
            shapes.setdefault(shape, []).append(index)
        found: list[Translation | None] = [None] * len(ids)
        done = 0
        for (S, T), all_members in sorted(shapes.items()):
            for rows, members in _in_batches(all_members, max(1, self.decoding.tokens // (S + T))):
                # Nothing in, nothing out: such a row stays empty.
                pairs = [[ids[index]] if len(ids[index][0]) > 1 else [] for index in members]
                scores, weights = jax.device_get(self._score(params, batches.filled((rows, S, T), pairs)))
                for row, index in enumerate(members):
                    source, target = ids[index]
                    symbols = self.target.symbols(target)
                    written = [*symbols, END_SIGN] if len(source) > 1 else []
                    read = weights[row][:, :len(written), :len(source)] if self.with_weights else None
                    found[index] = Translation(outputs[index], symbols, [*self.source.symbols(source), END_SIGN],
                                               written, float(scores[row]), True, read, float(scores[row]))
                done += len(members)
                self.progress(first - 1 + done, first - 1 + len(ids))
        return found

    def _forced(self, params, batch):
        scores, weights = forced(self.model, params, batch)
        if self.with_weights and weights is None:
            raise UserError("the model returns no weights: its reader has none, or its path is not 'explicit'")
        return scores, weights if self.with_weights else None


def _rounded(length: int) -> int:
    """8, 16, 32, ...: the first that is enough."""
    return max(8, 1 << (length - 1).bit_length())


def _in_batches(members: Sequence[int], most: int) -> Iterator[tuple[int, Sequence[int]]]:
    """So many rows, and at most that many of the members; a handful of them has a small program."""
    rows = min(FEW, most) if len(members) <= FEW else most
    for begin in range(0, len(members), rows):
        yield rows, members[begin:begin + rows]


class Said:
    """Says on standard error, every few seconds, how many lines are done and how long the rest will take."""

    def __init__(self, every: float = 10.0):
        """Begins now."""
        self.every, self.begin = every, time.monotonic()
        self.said = self.begin

    def __call__(self, done: int, lines: int) -> None:
        """After some lines."""
        now = time.monotonic()
        if now - self.said >= self.every and done < lines:
            left = (now - self.begin) / done * (lines - done)
            print(f'{done:,} of {lines:,} lines read, about {left:.0f} s left', file=sys.stderr)
            self.said = now


def remark_unknown(name: str, vocabulary: Vocabulary, lines: Sequence[str], first: int = 1,
                   side: str = 'source') -> None:
    """Says on standard error which symbols of a side were never seen in training: they are all one to the model."""
    unknown = [(number, symbols) for number, line in enumerate(lines, first) if (symbols := vocabulary.unknown(line))]
    if unknown:
        number, symbols = unknown[0]
        print(f'{name}: {sum(len(symbols) for _, symbols in unknown):,} unknown {side} symbols in {len(unknown):,} of '
              f'{len(lines):,} lines; the first is {symbols[0]!r} in line {number}', file=sys.stderr)


def cut(translations: Sequence[Translation], first: int = 1) -> list[int]:
    """The numbers of the lines whose outputs reached their limit before they ended."""
    return [number for number, translation in enumerate(translations, first) if not translation.finished]


def remark_cut(translations: Sequence[Translation], first: int = 1) -> None:
    """Says on standard error which outputs were cut."""
    lines = cut(translations, first)
    if lines:
        print(f'{len(lines):,} of {len(translations):,} outputs were cut at decoding.maximum_ratio and maximum_extra, '
              f'the first in line {lines[0]}', file=sys.stderr)
