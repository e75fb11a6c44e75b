"""Decoding: output tokens a second of one trained Transformer, in our search and in others'."""

import contextlib
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from experiments.benchmark import joeynmt
from experiments.benchmark.process import Peer
from experiments.benchmark.timing import OURS, Row, Track, row, turns
from research import build, compiling, evaluate
from research.errors import UserError
from research.interop import ctranslate2
from research.models.transformer import TransformerDecoder, TransformerEncoder
from research.text.vocabulary import SPECIAL, Vocabulary
from research.translator import Translation, Translator

PENALTY = 1.0              # alpha: a score is divided by n^alpha (CTranslate2) or ((5 + n) / 6)^alpha (JoeyNMT)
PATIENCE = 1.0             # CTranslate2's: a sentence is over when as many hypotheses have ended as there are beams
EXACT = f'{OURS}, until nothing can improve'
JOEYNMT_BATCH = 64         # sentences, as its configs have it
CTRANSLATE2_BATCHES = 32, 64
UNIT = 'output tokens/s'
NOTES = (
    'Ratio: of the speed of ours to this one, the median of those of the turns.',
    'All have the same parameters. Tokens are those of the outputs, their ends counted. Ours reads and writes text, '
    'the others tokens.',
    f'Length penalty {PENALTY:g}: a score is divided by the length (ours, CTranslate2) or by (5 + length) / 6 '
    '(JoeyNMT, which has no other). Ours is timed with the former; outputs are compared by the same formula.',
    f'Ours and CTranslate2 end a sentence when as many hypotheses have ended as there are beams (decoding.patience = '
    f'{PATIENCE:g}), JoeyNMT when all in the beam have; "{EXACT}" (patience 0) is what a config has unless it says '
    'otherwise, and what the outputs of JoeyNMT are compared with.',
    'What differs: ours has a limit for each sentence, the others that of the longest one. JoeyNMT keeps no keys and '
    'values of earlier steps and writes no empty output.')


class Ours:
    """Our search, warm.

    Args of the constructor:
      run: trained.
      lines: to translate.
      beams: W.
      penalise_by: of the length penalty.
      patience: of the search.
    """

    def __init__(self, run: evaluate.Run, lines: Sequence[str], beams: int, penalise_by: str, patience: float):
        """Compiles, and translates once."""
        decoding = build.decoding(run.config)._replace(beams=beams, length_penalty=PENALTY, penalise_by=penalise_by,
                                                       patience=patience)
        self._translator = Translator(run.model, run.source, run.target, decoding)
        self._params, self._lines = jax.device_put(run.params), lines
        self.found: list[Translation] = []
        self.speed()

    def speed(self) -> float:
        """Output tokens a second, ends counted; reading lines and writing text is part of it."""
        begin = time.perf_counter()
        self.found = self._translator(self._params, self._lines)
        seconds = time.perf_counter() - begin
        return sum(len(one.written) for one in self.found) / seconds


def rows(workdir: str, beams: Sequence[int], rounds: int, python: pathlib.Path | None, track: Track,
         progress: Callable[[str], None], lines: int | None = None) -> Iterator[Row]:
    """All figures of decoding the test set of a run.

    Args:
      workdir: of the run: pre-norm Transformers with one table, which all contenders can be given.
      beams: W of each search; 1 = greedy.
      rounds: turns.
      python: of the peers' environment; None = they are not there.
      track: shows what is gone through.
      progress: hears what is being done.
      lines: the first of the test set alone; None = all.
    """
    run = evaluate.Run.load(workdir)
    check(run, workdir)
    sources = [pair.source for pair in build.read_split(run.config, 'test', None)][:lines]
    names, _ = ctranslate2.tokens(run.source, run.target)
    with contextlib.ExitStack() as stack:
        theirs = None if python is None else Theirs(
            run, sources, names, python, pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
        for width in beams:
            yield from _rows(run, sources, names, width, rounds, theirs, track, progress)


def check(run: evaluate.Run, workdir: str) -> None:
    """Raises UserError for a run whose parameters JoeyNMT has no place for."""
    encoder, decoder = run.model.encoder, run.model.decoder
    sizes = [(side.features, side.hidden, side.layers, side.norm, side.activation, side.position)
             if isinstance(side, TransformerEncoder | TransformerDecoder) else None for side in (encoder, decoder)]
    if None in sizes or sizes[0] != sizes[1] or sizes[0][3:] != ('pre', 'relu', 'sinusoidal') or not (
            'embedding' in run.params and decoder.tie_embeddings and not decoder.softmax_bias):
        raise UserError(f'--workdir={workdir} must be a run of configs/benchmark.py:transformer or of one like it: pre-'
                        'norm, relu, sinusoidal positions, equal sizes, one table for both embeddings and softmax')


class Theirs:
    """The peers with our parameters, each warm.

    Args of the constructor:
      run, sources: as `Ours`.
      names: of our ids, `ctranslate2.tokens`.
      python: of the peers' environment.
      folder: of its own.
      stack: closes them.
    """

    def __init__(self, run: evaluate.Run, sources: Sequence[str], names: Sequence[str], python: pathlib.Path,
                 folder: pathlib.Path, stack: contextlib.ExitStack):
        """Exports and starts them."""
        ctranslate2.export(run.model, run.params, run.source, run.target, folder / 'ctranslate2')
        ids = [run.source.encode(line)[:-1] for line in sources]
        (folder / 'sources.json').write_text(json.dumps([[names[one] for one in line] for line in ids]),
                                             encoding='utf-8')
        encoder = run.model.encoder
        sizes = encoder.features, encoder.hidden, encoder.layers, encoder.mixer(False, 0).heads
        sections = {'model': joeynmt.model('transformer', *sizes), 'special_symbols': joeynmt.special_symbols(names)}
        (folder / 'model.json').write_text(json.dumps(sections), encoding='utf-8')
        (folder / 'vocabulary.txt').write_text('\n'.join(joeynmt.vocabulary_lines(names)) + '\n', encoding='utf-8')
        np.savez(folder / 'state.npz', **joeynmt.state(run.params))
        self.outputs, self._cores, self._count = folder / 'outputs.json', compiling.cores(), len(sources)
        self.limit = build.decoding(run.config).limit(1 + max(map(len, ids)))
        self.ctranslate2 = stack.enter_context(
            Peer(python, 'ctranslate2_decode', [folder / 'ctranslate2', folder / 'sources.json', self._cores]))
        self.joeynmt = stack.enter_context(Peer(python, 'joeynmt_decode', [folder]))

    def best(self, beams: int) -> dict[str, int]:
        """The threads and the batch with which CTranslate2 is fastest; it has seen all of them then."""
        return max(({'inter': inter, 'intra': intra, 'batch': batch}
                    for inter, intra in {(1, self._cores), (self._cores, 1)} for batch in CTRANSLATE2_BATCHES),
                   key=lambda settings: self.ctranslate2_speed(beams, settings))

    def ctranslate2_speed(self, beams: int, settings: dict[str, int]) -> float:
        """Output tokens a second, ends counted."""
        return _speed(self.ctranslate2.ask(beams=beams, penalty=PENALTY, limit=self.limit, outputs=str(self.outputs),
                                           **settings))

    def joeynmt_speed(self, beams: int, part: int, parts: int) -> tuple[float, list[list[str]]]:
        """Output tokens a second, ends counted, and the outputs of a part of the sentences: [part, parts) of them."""
        first, last = (self._count * number // parts for number in (part, part + 1))
        found = self.joeynmt.ask(beams=beams, penalty=PENALTY, limit=self.limit, batch=JOEYNMT_BATCH, first=first,
                                 last=last, outputs=str(self.outputs))
        return _speed(found), json.loads(self.outputs.read_text(encoding='utf-8'))


def _rows(run, sources, names, beams, rounds, theirs, track, progress):
    work = f'{"greedy" if beams == 1 else f"beam {beams}"}, {len(sources):,} sentences of Multi30k, {sizes(run)}'
    progress(f'warming up: {work}')
    ours = Ours(run, sources, beams, 'power', PATIENCE)
    contenders = {OURS: ours.speed}
    if beams > 1:
        contenders[EXACT] = Ours(run, sources, beams, 'power', 0.0).speed
    by = {'ctranslate2': 'CTranslate2', 'joeynmt': 'JoeyNMT'}
    notes, same = dict.fromkeys(by, ''), []
    if theirs is not None:
        by = {'ctranslate2': theirs.ctranslate2.name, 'joeynmt': theirs.joeynmt.name}
        settings = theirs.best(beams)
        contenders[by['ctranslate2']] = lambda: theirs.ctranslate2_speed(beams, settings)
        joeynmt_outputs, parts = [], iter(range(rounds))

        def part():
            speed, outputs = theirs.joeynmt_speed(beams, next(parts), rounds)
            joeynmt_outputs.extend(outputs)
            return speed
        contenders[by['joeynmt']] = part
    found = turns(contenders, rounds, track, work)
    if theirs is not None:
        theirs.ctranslate2_speed(beams, settings)
        outputs = json.loads(theirs.outputs.read_text(encoding='utf-8'))
        same = symbols_of(ours.found, run.target, names)
        notes['ctranslate2'] = (f'{agreeing(same, outputs):,} of {len(same):,} outputs are ours; inter_threads '
                                f'{settings["inter"]}, intra_threads {settings["intra"]}, batches of '
                                f'{settings["batch"]} sentences')
        if beams > 1:  # with its formula
            same = symbols_of(Ours(run, sources, beams, 'wu', 0.0).found, run.target, names)
        notes['joeynmt'] = (f'{agreeing(same, joeynmt_outputs):,} of {len(same):,} outputs are ours'
                            + (' with its length penalty' if beams > 1 else '')
                            + f'; batches of {JOEYNMT_BATCH} sentences, a part of them each turn')
    yield row('decode', work, OURS, UNIT, found[OURS])
    if beams > 1:
        yield row('decode', work, EXACT, UNIT, found[EXACT], found[OURS])
    for peer, name in by.items():
        yield row('decode', work, name, UNIT, found.get(name, ()), found[OURS], notes[peer])


def sizes(run: evaluate.Run) -> str:
    """Of the model, for a table."""
    encoder, decoder = run.model.encoder, run.model.decoder
    return (f'Transformer {encoder.layers} + {decoder.layers}, width {encoder.features}, {len(run.target):,} symbols, '
            'float32')


def symbols_of(translations: Sequence[Translation], target: Vocabulary, names: Sequence[str]) -> list[list[str]]:
    """The symbols of outputs under the names that peers have for them, the end not among them."""
    known = {target.symbol(number): names[number] for number in range(SPECIAL, len(target))}
    return [[known.get(symbol, names[3]) for symbol in one.symbols] for one in translations]


def agreeing(ours: Sequence[Sequence[str]], theirs: Sequence[Sequence[str]], end: str = '</s>') -> int:
    """How many outputs are the same, but for an end."""
    return sum([*one] == [symbol for symbol in other if symbol != end] for one, other in zip(ours, theirs, strict=True))


def _speed(answer):
    return answer['tokens'] / answer['seconds']
