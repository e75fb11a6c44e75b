"""Translates lines: standard input to standard output, line for line.

    python -m research.translate --workdir=DIR < words.txt
    python -m research.translate --workdir=DIR --attention_picture=picture.png < one_word.txt
"""

import argparse
import functools
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from research.build import Decoding
from research.decoding.beam import beam
from research.decoding.greedy import greedy
from research.errors import UserError, one_line_errors
from research.models.contract import EncoderDecoder, Params
from research.shapes import Places
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
    weights: np.ndarray | None  # [N, T, S]


class Translator:
    """Decodes lines of any length in few shapes: source lengths are rounded up to 8, 16, 32, ..., rows are filled up.

    Args of the constructor:
      model: what the five functions of models.contract call.
      source, target: the vocabularies.
      decoding: how to search.
      with_weights: also return the attention weights.
    """

    def __init__(self, model: EncoderDecoder, source: Vocabulary, target: Vocabulary, decoding: Decoding,
                 with_weights: bool = False):
        """Compiles nothing yet."""
        self.model, self.source, self.target = model, source, target
        self.decoding, self.with_weights = decoding, with_weights
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
                length = int(self.decoding.maximum_ratio * S) + self.decoding.maximum_extra
                options = {'length': length, 'with_weights': self.with_weights}
                search = functools.partial(greedy, self.model, **options) if self.decoding.beams == 1 else \
                    functools.partial(beam, self.model, beams=self.decoding.beams,
                                      penalty=self.decoding.length_penalty, **options)
                zeros = np.zeros((B, S), np.int32)
                self._programs[B, S] = jax.jit(search).lower(params, zeros, Places(zeros, zeros)).compile()

    def __call__(self, params: Params, lines: Sequence[str]) -> list[Translation]:
        """The best output for each line, in the order of the lines."""
        ids = [self.source.encode(line) for line in lines]
        outputs: list[Translation | None] = [None] * len(lines)
        for rows, S, members in self._groups(ids):
            self.compile(params, [(rows, S)])
            source, segment = np.zeros((rows, S), np.int32), np.zeros((rows, S), np.int32)
            for row, index in enumerate(members):
                source[row, :len(ids[index])] = ids[index]
                segment[row, :len(ids[index])] = 1
            places = Places(segment, np.broadcast_to(np.arange(S, dtype=np.int32), (rows, S)))
            found = jax.device_get(self._programs[rows, S](params, source, places))
            for row, index in enumerate(members):
                outputs[index] = self._translation(found, row, ids[index])
        return outputs

    def _groups(self, ids):
        """(rows, S, indices of at most that many lines), shortest lines first."""
        lengths = [max(8, 1 << (len(line) - 1).bit_length()) for line in ids]
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
                           [*symbols, *ended], float(found.scores[row, 0]), weights)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog='research.translate', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('--workdir', required=True, help='of a finished or running training')
    parser.add_argument('--beams', type=int, help='beams of the search; 1 = greedy (default: the config of the run)')
    parser.add_argument('--attention_picture', metavar='FILE.png',
                        help='draw what the output reads; further lines: FILE-2.png, FILE-3.png, ...')
    options = parser.parse_args(arguments)
    with one_line_errors('research.translate'):
        from research.evaluate import Run  # orbax is slow to import: not before the arguments are known to be right
        run = Run.load(options.workdir)
        lines = _lines(sys.stdin.buffer)
        translator = run.translator(beams=options.beams, with_weights=options.attention_picture is not None)
        translations = translator(run.params, lines)
        for translation in translations:
            print(translation.text)
        if options.attention_picture:
            from research.analysis.pictures import attention_picture
            path = pathlib.Path(options.attention_picture)
            for number, translation in enumerate(translations, 1):
                attention_picture(path if number == 1 else path.with_stem(f'{path.stem}-{number}'), translation.weights,
                                  translation.source, translation.written, f'{run.name}: {translation.text}')


def _lines(stream) -> list[str]:
    lines = []
    for number, line in enumerate(stream, 1):
        try:
            lines.append(line.decode('utf-8').rstrip('\n'))
        except UnicodeDecodeError as error:
            raise UserError(f'standard input:{number}: not UTF-8 ({error.reason} at byte {error.start})') from None
    return lines


if __name__ == '__main__':
    main()
