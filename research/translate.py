r"""Translates lines: standard input to standard output, line for line.

    python -m research.translate --workdir=DIR < source.txt > target.txt
    python -m research.translate --workdir=DIR --beams=5 --n_best=3 --json < source.txt > target.jsonl
    python -m research.translate --workdir=DIR --prefixes=beginnings.txt < source.txt
    python -m research.translate --workdir=DIR --sample=5 --temperature=0.8 --top_k=20 --json < source.txt
    python -m research.translate --workdir=DIR --minimum_bayes_risk=32 < source.txt
    python -m research.translate --workdir=DIR,DIR2,DIR3 < source.txt            an ensemble of runs
    python -m research.translate --workdir=DIR --score < source_TAB_target.tsv   the scores of given translations
    python -m research.translate --workdir=DIR --alignments=links.txt --attention_picture=picture.png < source.txt

Lines are read and written 1,024 at a time, so memory does not grow. With --json each line of output is an object:

    source, source_symbols     the line, and its symbols as they are read, the end symbol among them
    outputs                    of each output, best first or as they were drawn:
      text, symbols            the end symbol is among the symbols, unless the output was cut at its limit
      score                    sum of the log-probabilities of the symbols
      penalised                what outputs are ranked by
      finished                 whether it ended before its limit
      alignment, weights       with --alignments or --attention_picture: its links and, for each of its symbols, how
                               much it read of each source symbol, the mean over heads and layers
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, NamedTuple

import numpy as np

from research import build, compiling, evaluate, memory
from research.decoding import minimum_bayes_risk
from research.errors import UserError, one_line_errors
from research.evaluation import alignment
from research.text.corpus import as_text, read_lines
from research.translator import Said, Sampling, Scorer, Translation, Translator, remark_cut, remark_unknown

AT_ONCE = 1024  # lines that are read before the first of them is written; on a terminal 1


class Request(NamedTuple):
    """What is asked for, checked."""

    sampling: Sampling | None
    minimum_bayes_risk: bool
    outputs: int             # written of each line
    with_weights: bool


def request(options: argparse.Namespace) -> Request:
    """Checks options that have to do with each other; raises UserError naming them."""
    for name, low in (('n_best', 1), ('sample', 1), ('minimum_bayes_risk', 2), ('top_k', 1), ('seed', 0)):
        value = getattr(options, name)
        if value is not None and value < low:
            raise UserError(f'--{name} is {value}; it must be at least {low}')
    if options.seed is not None and options.seed >= 2**32:
        raise UserError(f'--seed is {options.seed}; it must be below 2**32')
    drawn = options.minimum_bayes_risk or options.sample
    searched = [name for name in ('beams', 'length_penalty', 'coverage_penalty', 'patience', 'n_best')
                if getattr(options, name) is not None]
    drawing = [name for name in ('temperature', 'top_k', 'top_p', 'seed') if getattr(options, name) is not None]
    if options.minimum_bayes_risk and options.sample:
        raise UserError('--sample and --minimum_bayes_risk both say how many outputs are drawn; give one of them')
    if drawn and searched:
        raise UserError(f'--{searched[0]} is for a search, and outputs are drawn: leave it out, or --sample and '
                        '--minimum_bayes_risk')
    if drawing and not drawn:
        raise UserError(f'--{drawing[0]} is for drawn outputs: give --sample or --minimum_bayes_risk, too')
    if options.score and (drawn or searched or options.prefixes is not None):
        raise UserError('--score scores what is given: nothing is searched for or drawn, and nothing begins with a '
                        'prefix')
    several = options.sample if options.sample else options.n_best or 1
    if several > 1 and not options.json:
        raise UserError(f'{several} outputs of each line do not go into one line: give --json')
    sampling = None
    if drawn:
        sampling = Sampling(drawn, 1.0 if options.temperature is None else options.temperature, options.top_k,
                            1.0 if options.top_p is None else options.top_p, options.seed or 0)
    return Request(sampling, options.minimum_bayes_risk is not None, several,
                   options.attention_picture is not None or options.alignments is not None)


def decoding_with(runs: Sequence[evaluate.Run], options: argparse.Namespace) -> build.Decoding:
    """How the config of the first run searches, with what the command line says otherwise; UserError as `searching`."""
    decoding = evaluate.searching(runs, beams=options.beams, length_penalty=options.length_penalty,
                                  coverage_penalty=options.coverage_penalty, patience=options.patience)
    if options.n_best is not None and options.n_best > decoding.beams:
        raise UserError(f'--n_best is {options.n_best}, and a search with {decoding.beams} beams holds so many '
                        'outputs: give --beams, too')
    return decoding


def read(stream: IO[bytes], at_once: int) -> Iterator[list[str]]:
    """Lines of standard input, some at a time."""
    lines = (as_text('standard input', number, line) for number, line in enumerate(stream, 1))
    while some := list(itertools.islice(lines, at_once)):
        yield some


def pairs_of(lines: Sequence[str], first: int) -> tuple[list[str], list[str]]:
    """Sources and targets of lines `source TAB target`."""
    fields = [line.split('\t') for line in lines]
    for number, found in enumerate(fields, first):
        if len(found) != 2:
            raise UserError(f'standard input:{number}: {len(found)} columns; a line to score must be source, tab, '
                            'target')
    return [found[0] for found in fields], [found[1] for found in fields]


def record(source: str, outputs: Sequence[Translation], with_weights: bool) -> str:
    """One line of JSON: what was written for a source."""
    def one(output):
        said = {'text': output.text, 'score': round(output.score, 6), 'penalised': round(output.penalised, 6),
                'finished': output.finished, 'symbols': output.written}
        if with_weights:
            weights = output.weights.mean(axis=0, dtype=np.float64)
            said |= {'alignment': hard(output), 'weights': np.round(weights, 4).tolist()}
        return said
    return json.dumps({'source': source, 'source_symbols': outputs[0].source,
                       'outputs': [one(output) for output in outputs]}, ensure_ascii=False)


def hard(output: Translation) -> str:
    """The links of an output in Pharaoh's form, `0-0 1-2`: source and output symbols as they are read and written,
    counted from 0, each output symbol with the one that it read most; the end symbols are left out.
    """
    weights = output.weights.mean(axis=0)[:len(output.symbols), :len(output.source) - 1]
    return ' '.join(f'{s}-{t}' for s, t in sorted(alignment.links(weights)))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = _parser().parse_args(arguments)
    with one_line_errors('research.translate'):
        compiling.keep_programs()
        memory.keep_freed()
        asked = request(options)
        picture = None
        if options.attention_picture is not None:
            from research.analysis import pictures  # matplotlib is slow to import
            picture = pathlib.Path(pictures.check_path(options.attention_picture))
        runs = evaluate.load_all(options.workdir.split(','))
        decoding = decoding_with(runs, options)
        model, params = evaluate.together(runs)
        run = runs[0]._replace(name='+'.join(one.name for one in runs), model=model, params=params)
        common = run.model, run.source, run.target, decoding, asked.with_weights, Said()
        sys.stdout.reconfigure(encoding='utf-8', newline='\n')  # whatever the locale: as it came in
        lines = read(sys.stdin.buffer, 1 if sys.stdin.isatty() else AT_ONCE)
        batches = scored(lines, Scorer(*common), run) if options.score else translated(
            lines, Translator(*common, sampling=asked.sampling, best=asked.outputs), run, options.prefixes, asked)
        try:
            with _opened(options.alignments) as links:
                for batch in batches:
                    for number, source, outputs in batch:
                        best = outputs[0]
                        if options.json:
                            print(record(source, outputs, asked.with_weights))
                        else:
                            print(f'{best.score:.6f}' if options.score else best.text)
                        if links is not None:
                            print(hard(best), file=links)
                        if picture is not None and best.written:  # an empty line has no picture
                            pictures.attention_picture(
                                picture if number == 1 else picture.with_stem(f'{picture.stem}-{number}'),
                                best.weights, best.source, best.written, f'{run.name}: {best.text}')
                    sys.stdout.flush()
        except BrokenPipeError:  # whoever read has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _opened(path: str | None) -> contextlib.AbstractContextManager[IO[str] | None]:
    """The file of alignments, where one is asked for."""
    if path is None:
        return contextlib.nullcontext()
    try:
        return open(path, 'w', encoding='utf-8')
    except OSError as error:
        raise UserError(f'--alignments={path}: cannot be written ({error.strerror})') from None


Batch = list[tuple[int, str, list[Translation]]]  # number, source and outputs of some lines


def translated(batches: Iterable[list[str]], translator: Translator, run: evaluate.Run, prefixes: str | None,
               asked: Request) -> Iterator[Batch]:
    """The outputs of lines, some at a time, as it is asked for; what there is to say of them is said.

    Raises:
      UserError: those of the translator; the file of prefixes has another number of lines.
    """
    as_read, as_written = build.source_line(run.config), build.target_line(run.config)
    with contextlib.nullcontext() if prefixes is None else contextlib.closing(read_lines(prefixes)) as given:
        first = 1
        for lines in batches:
            beginnings = None if given is None else [
                as_written(line) for line in _beginnings(given, prefixes, lines, first)]
            sources = [as_read(line) for line in lines]
            remark_unknown('standard input', run.source, sources, first)
            if beginnings is not None:
                remark_unknown(prefixes, run.target, beginnings, first, 'target')
            found = translator.n_best(run.params, sources, beginnings, first)
            if asked.minimum_bayes_risk:
                found = [[outputs[minimum_bayes_risk.choose([output.text for output in outputs])]]
                         for outputs in found]
            remark_cut([outputs[0] for outputs in found], first)
            yield list(zip(itertools.count(first), lines, found))
            first += len(lines)
        if given is not None and next(given, None) is not None:
            raise UserError(f'{prefixes}:{first}: standard input has no such line; each line must have its prefix, and '
                            'each prefix its line')


def _beginnings(given: Iterator[str], path: str, lines: Sequence[str], first: int) -> list[str]:
    beginnings = list(itertools.islice(given, len(lines)))
    if len(beginnings) < len(lines):
        raise UserError(f'{path}:{first + len(beginnings)}: there is no such line, but standard input has one; each '
                        'line must have its prefix, an empty one where nothing is given')
    return beginnings


def scored(batches: Iterable[list[str]], scorer: Scorer, run: evaluate.Run) -> Iterator[Batch]:
    """The scores of given outputs, some at a time; UserError as `pairs_of` and the scorer."""
    as_read, as_written = build.source_line(run.config), build.target_line(run.config)
    first = 1
    for lines in batches:
        given, outputs = pairs_of(lines, first)
        sources, outputs = [as_read(line) for line in given], [as_written(line) for line in outputs]
        remark_unknown('standard input', run.source, sources, first)
        remark_unknown('standard input', run.target, outputs, first, 'target')
        found = scorer(run.params, sources, outputs, first)
        yield [(number, source, [one]) for number, source, one in zip(itertools.count(first), given, found)]
        first += len(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='research.translate', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('--workdir', required=True, metavar='DIR[,DIR...]',
                        help='of a finished or running training; several are an ensemble')
    parser.add_argument('--beams', type=int, help='beams of the search; 1 = greedy (default: the config of the run)')
    parser.add_argument('--length_penalty', type=float, help='of the search (default: the config of the run)')
    parser.add_argument('--coverage_penalty', type=float, help='of the search (default: the config of the run)')
    parser.add_argument('--patience', type=float, help='of the search (default: the config of the run)')
    parser.add_argument('--n_best', type=int, help='outputs of each line, at most as many as beams; needs --json')
    parser.add_argument('--prefixes', metavar='FILE', help='a line for each line: what its output begins with')
    parser.add_argument('--sample', type=int, metavar='K', help='draw K outputs of each line; several need --json')
    parser.add_argument('--minimum_bayes_risk', type=int, metavar='K',
                        help='draw K outputs (32 or more are usual), write the one most like all of them by chrF')
    parser.add_argument('--temperature', type=float, help='of drawing (default: 1)')
    parser.add_argument('--top_k', type=int, help='draw from the K most probable symbols (default: from all)')
    parser.add_argument('--top_p', type=float, help='draw from the nucleus of this probability (default: 1)')
    parser.add_argument('--seed', type=int, help='of drawing (default: 0)')
    parser.add_argument('--score', action='store_true', help='score given translations, source TAB target')
    parser.add_argument('--json', action='store_true', help='write a JSON object a line')
    parser.add_argument('--alignments', metavar='FILE',
                        help='write the links of the first output, 0-0 1-2 ..., a line for each line')
    parser.add_argument('--attention_picture', metavar='FILE.png',
                        help='draw what the first output reads; further lines: FILE-2.png, FILE-3.png, ...')
    return parser


if __name__ == '__main__':
    main()
