"""Translates lines: standard input to standard output, line for line.

    python -m research.translate --workdir=DIR < words.txt
    python -m research.translate --workdir=DIR --attention_picture=picture.png < one_word.txt
"""

import argparse
import functools
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from research.build import Decoding
from research.decoding.beam import beam
from research.decoding.greedy import greedy
from research.errors import UserError, one_line_errors
from research.models.contract import EncoderDecoder, Params
from research.shapes import Places
from research.text.corpus import as_text
from research.text.vocabulary import Vocabulary

FEW = 8  # rows of the small program, for a handful of lines
END_SIGN = '</s>'  # how the end symbol is shown to people


class Translation(NamedTuple):
    """One output."""

    text: str
    symbols: list[str]          # of the output, the end symbol not among them
    source: list[str]           # S symbols, the end symbol among them
    written: list[str]          # T symbols, the end symbol among them where it was written
    score: float                # sum of log-probabilities
    finished: bool              # the end symbol was written; otherwise the output was cut at its limit
    weights: np.ndarray | None  # [N, T, S]


class Translator:
    """Decodes lines of any length in few shapes: source lengths are rounded up to 8, 16, 32, ..., rows are filled up.

    Args of the constructor:
      model: what the five functions of models.contract call.
      source, target: the vocabularies.
      decoding: how to search.
      with_weights: also return the attention weights.
      progress: called with (lines done, lines) after each batch.
    """

    def __init__(self, model: EncoderDecoder, source: Vocabulary, target: Vocabulary, decoding: Decoding,
                 with_weights: bool = False, progress: Callable[[int, int], None] = lambda done, lines: None):
        """Compiles nothing yet."""
        self.model, self.source, self.target = model, source, target
        self.decoding, self.with_weights, self.progress = decoding, with_weights, progress
        self._programs = {}

    def __len__(self) -> int:
        """How many programs have been compiled."""
        return len(self._programs)

    def shapes(self, lines: Sequence[str]) -> list[tuple[int, int]]:
        """The (B, S) that these lines need, each of them one program."""
        return sorted({(rows, S) for rows, S, _ in self._groups([self.source.encode(line) for line in lines])})

    def compile(self, params: Params, shapes: Sequence[tuple[int, int]]) -> None:
        """Compiles what is missing for these shapes."""
        for B, S in shapes:
            if (B, S) not in self._programs:
                options = {'length': self.decoding.limit(S), 'with_weights': self.with_weights}
                search = functools.partial(greedy, self.model, **options) if self.decoding.beams == 1 else \
                    functools.partial(beam, self.model, beams=self.decoding.beams,
                                      penalty=self.decoding.length_penalty, penalise_by=self.decoding.penalise_by,
                                      coverage=self.decoding.coverage_penalty, **options)
                zeros = np.zeros((B, S), np.int32)
                self._programs[B, S] = jax.jit(search).lower(
                    params, zeros, Places(zeros, zeros), limits=np.zeros(B, np.int32)).compile()

    def __call__(self, params: Params, lines: Sequence[str]) -> list[Translation]:
        """The best output for each line, in the order of the lines; an empty line has an empty output.

        Raises UserError when a line is too long to be read.
        """
        ids = [self.source.encode(line) for line in lines]
        outputs: list[Translation | None] = [None] * len(lines)
        done = 0
        for rows, S, members in self._groups(ids):
            self.compile(params, [(rows, S)])
            source, segment = np.zeros((rows, S), np.int32), np.zeros((rows, S), np.int32)
            limits = np.ones(rows, np.int32)
            for row, index in enumerate(members):
                source[row, :len(ids[index])] = ids[index]
                segment[row, :len(ids[index])] = len(ids[index]) > 1  # nothing in, nothing out: not what END alone says
                limits[row] = self.decoding.limit(len(ids[index]))
            places = Places(segment, np.broadcast_to(np.arange(S, dtype=np.int32), (rows, S)))
            found = jax.device_get(self._programs[rows, S](params, source, places, limits=limits))
            for row, index in enumerate(members):
                outputs[index] = self._translation(found, row, ids[index])
            done += len(members)
            self.progress(done, len(lines))
        return outputs

    def _groups(self, ids):
        """(rows, S, indices of at most that many lines), shortest lines first."""
        longest = self.decoding.longest_source or sys.maxsize
        for number, line in enumerate(ids, 1):
            if len(line) > longest:
                raise UserError(f'line {number} has {len(line)} symbols, its end among them, and the encoder has '
                                f'positions for {longest} (encoder.maximum_length)')
        lengths = [min(longest, max(8, 1 << (len(line) - 1).bit_length())) for line in ids]
        groups = []
        for S in sorted(set(lengths)):
            members = [index for index, length in enumerate(lengths) if length == S]
            full = max(1, self.decoding.tokens // (S * self.decoding.beams))
            rows = min(FEW, full) if len(members) <= FEW else full
            groups.extend((rows, S, members[begin:begin + rows]) for begin in range(0, len(members), rows))
        return groups

    def _translation(self, found, row, source):
        tokens, length = found.tokens[row, 0], int(found.lengths[row, 0])
        weights = np.asarray(found.weights[row, 0][:, :length, :len(source)]) if self.with_weights else None
        symbols = self.target.symbols(tokens)
        ended = [END_SIGN] if length > len(symbols) else []
        return Translation(self.target.decode(tokens), symbols, [*self.source.symbols(source), END_SIGN],
                           [*symbols, *ended], float(found.scores[row, 0]), bool(found.finished[row, 0]), weights)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog='research.translate', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('--workdir', required=True, help='of a finished or running training')
    parser.add_argument('--beams', type=int, help='beams of the search; 1 = greedy (default: the config of the run)')
    parser.add_argument('--attention_picture', metavar='FILE.png',
                        help='draw what the output reads; further lines: FILE-2.png, FILE-3.png, ...')
    options = parser.parse_args(arguments)
    with one_line_errors('research.translate'):
        if options.attention_picture:
            from research.analysis import pictures  # matplotlib is slow to import
            pictures.check_path(options.attention_picture)
        from research.evaluate import Run  # and so is orbax
        run = Run.load(options.workdir)
        lines = [as_text('standard input', number, line) for number, line in enumerate(sys.stdin.buffer, 1)]
        translator = run.translator(beams=options.beams, with_weights=options.attention_picture is not None,
                                    progress=Progress())
        remark_unknown('standard input', run.source, lines)
        translations = translator(run.params, lines)
        sys.stdout.reconfigure(encoding='utf-8', newline='\n')  # whatever the locale: as it came in
        for translation in translations:
            print(translation.text)
        remark_cut(translations)
        if options.attention_picture:
            path = pathlib.Path(options.attention_picture)
            for number, translation in enumerate(translations, 1):
                if translation.written:  # an empty line has no picture
                    pictures.attention_picture(
                        path if number == 1 else path.with_stem(f'{path.stem}-{number}'), translation.weights,
                        translation.source, translation.written, f'{run.name}: {translation.text}')


class Progress:
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
            print(f'{done:,} of {lines:,} lines, about {left:.0f} s left', file=sys.stderr)
            self.said = now


def remark_unknown(name: str, vocabulary: Vocabulary, lines: Sequence[str]) -> None:
    """Says on standard error which source symbols were never seen in training: the model reads them all as one."""
    unknown = [(number, symbols) for number, line in enumerate(lines, 1) if (symbols := vocabulary.unknown(line))]
    if unknown:
        number, symbols = unknown[0]
        print(f'{name}: {sum(len(symbols) for _, symbols in unknown):,} unknown source symbols in {len(unknown):,} of '
              f'{len(lines):,} lines; the first is {symbols[0]!r} in line {number}', file=sys.stderr)


def cut(translations: Sequence[Translation]) -> list[int]:
    """The lines, counted from 1, whose outputs reached their limit before they ended."""
    return [number for number, translation in enumerate(translations, 1) if not translation.finished]


def remark_cut(translations: Sequence[Translation]) -> None:
    """Says on standard error which outputs were cut."""
    lines = cut(translations)
    if lines:
        print(f'{len(lines):,} of {len(translations):,} outputs were cut at decoding.maximum_ratio and maximum_extra, '
              f'the first in line {lines[0]}', file=sys.stderr)


if __name__ == '__main__':
    main()
