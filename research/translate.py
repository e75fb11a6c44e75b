r"""Translates lines: standard input to standard output, line for line.

    python -m research.translate --workdir=DIR < source.txt > target.txt
    python -m research.translate --workdir=DIR --beams=5 --n_best=3 --json < source.txt > target.jsonl
    python -m research.translate --workdir=DIR --prefixes=beginnings.txt < source.txt
    python -m research.translate --workdir=DIR --sample=5 --temperature=0.8 --top_k=20 --json < source.txt
    python -m research.translate --workdir=DIR --minimum_bayes_risk=32 < source.txt
    python -m research.translate --workdir=DIR,DIR2,DIR3 < source.txt            an ensemble of runs
    python -m research.translate --workdir=DIR --score < source_TAB_target.tsv   the scores of given translations
    python -m research.translate --workdir=DIR --alignments=links.txt --attention_picture=picture.png < source.txt

With --json each line of output is an object: the source, the outputs with their scores and symbols, and (with
--alignments) what each output symbol read. Lines are read and written a few at a time, so memory does not grow.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NamedTuple

import numpy as np

from research import build
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
    n_best: int              # outputs written of each line
    with_weights: bool


def request(options: argparse.Namespace) -> Request:
    """Checks options that have to do with each other; raises UserError naming them."""
    for name, low in (('n_best', 1), ('sample', 1), ('minimum_bayes_risk', 2), ('top_k', 1), ('seed', 0)):
        value = getattr(options, name)
        if value is not None and value < low:
            raise UserError(f'--{name} is {value}; it must be at least {low}')
    drawn = options.minimum_bayes_risk or options.sample
    searched = [name for name in ('beams', 'length_penalty', 'coverage_penalty', 'n_best')
                if getattr(options, name) is not None]
    drawing = [name for name in ('temperature', 'top_k', 'top_p', 'seed') if getattr(options, name) is not None]
    if options.minimum_bayes_risk and options.sample:
        raise UserError('--sample and --minimum_bayes_risk both say how many outputs are drawn; give one of them')
    if drawn and searched:
        raise UserError(f'--{searched[0]} is for a search, and outputs are drawn: leave it out, or --sample and '
                        '--minimum_bayes_risk')
    if drawing and not drawn:
        raise UserError(f'--{drawing[0]} is for drawn outputs: give --sample or --minimum_bayes_risk, too')
    if options.score and (drawn or searched or options.prefixes):
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


class Members(NamedTuple):
    """One run, or several that decide together."""

    name: str
    config: Any
    model: Any
    params: Any
    source: Any
    target: Any


def members(workdirs: Sequence[str]) -> Members:
    """Loads one run, or an ensemble of several; raises UserError where they do not fit together."""
    from research import evaluate  # orbax is slow to import
    runs = evaluate.load_all(workdirs)
    model, params = evaluate.together(runs)
    return Members('+'.join(run.name for run in runs), runs[0].config, model, params, runs[0].source, runs[0].target)


def decoding_with(config: Any, options: argparse.Namespace) -> build.Decoding:
    """How the config searches, with what the command line says otherwise."""
    from research import evaluate
    decoding = evaluate.searching(build.decoding(config), beams=options.beams, length_penalty=options.length_penalty,
                                  coverage_penalty=options.coverage_penalty)
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
            weights = output.weights.mean(axis=0)
            said |= {'alignment': hard(output), 'weights': np.round(weights, 4).tolist()}
        return said
    symbols = {'source_symbols': outputs[0].source} if outputs else {}
    return json.dumps({'source': source, **symbols, 'outputs': [one(output) for output in outputs]}, ensure_ascii=False)


def hard(output: Translation) -> str:
    """The links of an output in Pharaoh's form, `0-0 1-2`: source and output symbols from 0, without their ends."""
    weights = output.weights.mean(axis=0)[:len(output.symbols), :len(output.source) - 1]
    return ' '.join(f'{s}-{t}' for s, t in sorted(alignment.links(weights)))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = _parser().parse_args(arguments)
    with one_line_errors('research.translate'):
        asked = request(options)
        if options.attention_picture:
            from research.analysis import pictures  # matplotlib is slow to import
            pictures.check_path(options.attention_picture)
        chosen = members([name for name in options.workdir.split(',') if name])
        decoding = decoding_with(chosen.config, options)
        common = chosen.model, chosen.source, chosen.target, decoding, asked.with_weights, Said()
        work = _scored(Scorer(*common), chosen) if options.score else _translated(
            Translator(*common, sampling=asked.sampling), chosen, options.prefixes, asked)
        sys.stdout.reconfigure(encoding='utf-8', newline='\n')  # whatever the locale: as it came in
        links = open(options.alignments, 'w', encoding='utf-8') if options.alignments else None  # noqa: SIM115
        at_once = 1 if sys.stdin.isatty() else AT_ONCE
        try:
            for batch in work(read(sys.stdin.buffer, at_once)):
                for number, source, outputs in batch:
                    best = outputs[0] if outputs else None
                    if options.json:
                        print(record(source, outputs, asked.with_weights))
                    else:
                        print(f'{best.score:.6f}' if options.score else best.text)
                    if links is not None:
                        print(hard(best), file=links)
                    if options.attention_picture and best.written:  # an empty line has no picture
                        path = pathlib.Path(options.attention_picture)
                        pictures.attention_picture(
                            path if number == 1 else path.with_stem(f'{path.stem}-{number}'), best.weights,
                            best.source, best.written, f'{chosen.name}: {best.text}')
                sys.stdout.flush()
        except BrokenPipeError:  # whoever read has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            if links is not None:
                links.close()


Batches = Iterator[list[tuple[int, str, list[Translation]]]]  # number, source and outputs of some lines
Work = Callable[[Iterator[list[str]]], Batches]


def _translated(translator: Translator, chosen: Members, prefixes: str | None, asked: Request) -> Work:
    as_read = build.source_line(chosen.config)

    def work(batches):
        if prefixes is None:
            yield from translated(batches, None)
            return
        with contextlib.closing(read_lines(prefixes)) as given:
            yield from translated(batches, given)
            if next(given, None) is not None:
                raise UserError(f'{prefixes} has more lines than standard input: each line must have its prefix')

    def translated(batches, given):
        first = 1
        for lines in batches:
            beginnings = None if given is None else _prefixes(given, prefixes, lines, first)
            remark_unknown('standard input', chosen.source, lines, first)
            found = translator.n_best(chosen.params, [as_read(line) for line in lines], beginnings, first)
            if asked.minimum_bayes_risk:
                found = [[outputs[minimum_bayes_risk.choose([output.text for output in outputs])]]
                         for outputs in found]
            else:
                found = [outputs[:asked.n_best] for outputs in found]
            remark_cut([outputs[0] for outputs in found], first)
            yield list(zip(itertools.count(first), lines, found))
            first += len(lines)
    return work


def _prefixes(given: Iterator[str], path: str, lines: Sequence[str], first: int) -> list[str]:
    beginnings = list(itertools.islice(given, len(lines)))
    if len(beginnings) < len(lines):
        raise UserError(f'{path}:{first + len(beginnings)}: there is no such line, but standard input has one; each '
                        'line must have its prefix, an empty one where nothing is given')
    return beginnings


def _scored(scorer: Scorer, chosen: Members) -> Work:
    as_read = build.source_line(chosen.config)

    def work(batches):
        first = 1
        for lines in batches:
            sources, outputs = pairs_of(lines, first)
            remark_unknown('standard input', chosen.source, sources, first)
            found = scorer(chosen.params, [as_read(line) for line in sources], outputs, first)
            yield [(number, source, [one]) for number, source, one in zip(itertools.count(first), sources, found)]
            first += len(lines)
    return work


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='research.translate', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('--workdir', required=True, metavar='DIR[,DIR...]',
                        help='of a finished or running training; several are an ensemble')
    parser.add_argument('--beams', type=int, help='beams of the search; 1 = greedy (default: the config of the run)')
    parser.add_argument('--length_penalty', type=float, help='of the search (default: the config of the run)')
    parser.add_argument('--coverage_penalty', type=float, help='of the search (default: the config of the run)')
    parser.add_argument('--n_best', type=int, help='outputs of each line, at most as many as beams; needs --json')
    parser.add_argument('--prefixes', metavar='FILE', help='a line for each line: what its output begins with')
    parser.add_argument('--sample', type=int, metavar='K', help='draw K outputs of each line')
    parser.add_argument('--minimum_bayes_risk', type=int, metavar='K',
                        help='draw K outputs (32 or more are usual), write the one most like all of them by chrF')
    parser.add_argument('--temperature', type=float, help='of drawing (default: 1)')
    parser.add_argument('--top_k', type=int, help='draw from the K most probable symbols (default: from all)')
    parser.add_argument('--top_p', type=float, help='draw from the nucleus of this probability (default: 1)')
    parser.add_argument('--seed', type=int, help='of drawing (default: 0)')
    parser.add_argument('--score', action='store_true', help='score given translations, source TAB target')
    parser.add_argument('--json', action='store_true', help='write a JSON object a line')
    parser.add_argument('--alignments', metavar='FILE', help='write links, 0-0 1-2 ..., a line for each line')
    parser.add_argument('--attention_picture', metavar='FILE.png',
                        help='draw what the output reads; further lines: FILE-2.png, FILE-3.png, ...')
    return parser


if __name__ == '__main__':
    main()
