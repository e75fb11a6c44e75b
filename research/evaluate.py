"""Decodes a split of a run's corpus and scores the outputs; a model without a source is scored position by position.

    python -m research.evaluate --workdir=DIR --split=test
    python -m research.evaluate --workdir=DIR --split=dev --beams=5 --length_penalty=0,0.6,1,1.4

Translations are scored by sacreBLEU: BLEU, chrF and TER with their signatures, and BLEU by source length. Several
length penalties are compared on dev. The outputs stand in DIR/<split>_outputs.txt: those of the best penalty.
"""

import argparse
import datetime
import functools
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from research import build, compiling, memory
from research.decoding.ensemble import ensemble
from research.errors import UserError, one_line_errors
from research.evaluation import accuracy, alignment, lengths, translation
from research.models import contract
from research.models.contract import EncoderDecoder, Params
from research.text.alignments import Aligned, words_of
from research.text.batches import BatchPlan, choose_buckets
from research.text.corpus import Pair
from research.text.vocabulary import Vocabulary
from research.training.kept import Kept
from research.training.step import measure_step, summed
from research.translator import Said, Translation, Translator, cut, remark_unknown


class Evaluation(NamedTuple):
    """What one reading of a split says."""

    scores: dict[str, float]         # accuracy: share of outputs that are a right answer; token_error_rate
    metrics: list[translation.Score]  # BLEU, chrF and TER of translations, with intervals and signatures; else empty
    by_length: list[dict[str, Any]]  # buckets of source length: low, high, count; sum (right) and mean, or BLEU
    translations: list[Translation]
    right: np.ndarray                # bool, one for each pair


class Run(NamedTuple):
    """A trained run, as its work directory keeps it."""

    name: str
    config: Any
    model: EncoderDecoder
    source: Vocabulary
    target: Vocabulary
    params: Params
    step: int
    averaged: str  # how the parameters were averaged, for a score line: '' = they are those of one step

    @classmethod
    def load(cls, workdir: str) -> 'Run':
        """The parameters that measured best on dev, or a mean of parameters that did; UserError when there are none."""
        folder = pathlib.Path(workdir)
        config = build.load(folder)
        source, target = (build.vocabulary_file(folder / f'{side}_vocabulary.json') for side in ('source', 'target'))
        model = build.model(config, len(source), len(target))
        identity = build.identity(config, source, target)
        found = Kept(folder, build.loop(config).average, identity).newest(build.abstract_params(model))
        if found is None:
            raise UserError(f'{workdir} holds no parameters yet: the first are kept after training.evaluate_every '
                            'steps')
        step, params, mean = found
        return cls(folder.name, config, model, source, target, params, step, build.averaged(config, mean))


def evaluate(translator: Translator, params: Params, pairs: Sequence[Pair], edges: Sequence[int],
             tokenizer: str | None = None, resamples: int = 1000) -> Evaluation:
    """Decodes the sources and compares with the right answers; `edges` begin the buckets of source length.

    An answer counts as the vocabulary would write it: between words, one space is as good as two. With a `tokenizer` of
    sacreBLEU the outputs are translations: they are scored as text is written, and source length counts words.
    """
    translations = translator(params, [pair.source for pair in pairs])
    outputs, answers = [found.text for found in translations], right_answers(translator.target, pairs)
    right = accuracy.exact_match(outputs, answers)
    scores = {'accuracy': float(np.mean(right)), 'token_error_rate': accuracy.token_error_rate(
        outputs, answers, accuracy.counted(translator.target.unit))}
    if tokenizer is None:
        sizes = [len(found.source) - 1 for found in translations]
        ends = (*edges, max(edges[-1], *sizes) + 1)
        return Evaluation(scores, [], lengths.by_length(sizes, right, ends), translations, right)
    right_lines, sizes = references(pairs), [len(pair.source.split()) for pair in pairs]
    ends = (*edges, max(edges[-1], *sizes) + 1)
    return Evaluation(scores, translation.scores(outputs, right_lines, tokenizer, resamples),
                      translation.bleu_by_length(outputs, right_lines, sizes, ends, tokenizer, resamples), translations,
                      right)


def position_scores(run: Run, data: build.Data, pairs: Sequence[Pair]) -> tuple[dict[str, float], int]:
    """How well a model without a source does at the positions that ask for something, given the right inputs.

    Returns:
      accuracy, the share of labels or next symbols that are right; loss, their mean cross-entropy in nats; perplexity,
      where they are next symbols. And how many there are.
    """
    plan = build.measuring_plan(data, pairs, build.plans(run.config, data))
    measure = jax.jit(measure_step(run.model, chunk=build.chunk(run.config), with_right=True))
    sums = summed(measure, run.params, plan)
    count, loss = int(sums['tokens']), sums['loss'] / sums['tokens']
    more = {'perplexity': accuracy.perplexity(loss)} if data.next_symbols else {}
    return {'accuracy': sums['right'] / count, 'loss': loss, **more}, count


def perplexity_of(loss: float, data: build.Data) -> str:
    """The perplexity and what a symbol is: without it the number means nothing."""
    ends = '' if data.pieces else ', and the end of each line'
    return f'perplexity {accuracy.perplexity(loss):.2f} a symbol (unit: {data.target.unit}{ends})'


def references(pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    """All right lines of each pair, as people wrote them."""
    return [(pair.target, *pair.others) for pair in pairs]


def right_answers(target: Vocabulary, pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    """All right answers of each pair, as the target's vocabulary would write them."""
    return [tuple(target.written(line) for line in lines) for lines in references(pairs)]


def alignment_scores(model: EncoderDecoder, params: Params, source: Vocabulary, target: Vocabulary,
                     pairs: Sequence[Pair]) -> dict[str, float] | None:
    """How well the most-read source position of each target position agrees with the known alignment.

    Arguments are those of `most_read`; the links of a pair are those of its symbols.

    Returns:
      error_rate; shift, the constant offset that explains most links; error_rate_shifted, with it. None where the
      model returns no weights.
    """
    found, gold = most_read(model, params, source, target, pairs), [set(pair.alignment) for pair in pairs]
    if found is None:
        return None
    shift, shifted = alignment.best_shift(found, gold)
    return {'error_rate': alignment.error_rate(found, gold), 'shift': shift, 'error_rate_shifted': shifted}


def word_alignment_error(model: EncoderDecoder, params: Params, source: Vocabulary, target: Vocabulary,
                         aligned: Sequence[Aligned]) -> float | None:
    """The alignment error rate of words against gold alignments, whatever the vocabularies cut the words into.

    Two words are linked where any symbol of the target's reads most a symbol of the source's. A model is out of its
    domain on most gold alignments: say on which text it was trained.

    Args:
      model, params, source, target: as of `most_read`.
      aligned: pairs with sure and possible links of words (research/text/alignments.py).

    Returns:
      The rate, 0 is best; None where the model returns no weights.
    """
    found = most_read(model, params, source, target, [one.pair for one in aligned])
    if found is None:
        return None
    words = [alignment.word_links(links, words_of(source, one.pair.source), words_of(target, one.pair.target))
             for links, one in zip(found, aligned, strict=True)]
    return alignment.error_rate(words, [one.sure for one in aligned], [one.possible for one in aligned])


@functools.partial(jax.jit, static_argnums=0)
def _mean_weights(model, params, batch):
    """Over heads and layers, given the right answers; one program for a model, whatever its parameters."""
    memory = contract.encode(model, params, batch.source, batch.source_places)
    weights = contract.decode(model, params, memory, batch.inputs, batch.target_places).weights
    return None if weights is None else weights.mean(axis=1)


def most_read(model: EncoderDecoder, params: Params, source: Vocabulary, target: Vocabulary,
              pairs: Sequence[Pair]) -> list[set[tuple[int, int]]] | None:
    """The links of each pair's symbols: to each of the target the one of the source that is read most.

    The right answers are given to the decoder (forced), and heads and layers are averaged; the target's end symbol is
    left out. None where the model returns no weights.
    """
    ids = [(source.encode(pair.source), target.encode(pair.target)) for pair in pairs]
    buckets = choose_buckets([(len(left), len(right)) for left, right in ids], 4)
    plan = BatchPlan(ids, buckets, 16 * max(sum(bucket) for bucket in buckets))

    links: dict[int, set] = {}
    for k in range(len(plan)):
        weights = _mean_weights(model, params, plan[k])
        if weights is None:
            return None
        weights = np.asarray(weights)
        for row, index in enumerate(plan.ids(k)):
            if index >= 0:
                left, right = ids[index]
                links[index] = alignment.links(weights[row, :len(right) - 1, :len(left)])
    return [links[index] for index in range(len(pairs))]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog='research.evaluate', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('--workdir', required=True, metavar='DIR[,DIR...]',
                        help='of a finished or running training; several are an ensemble, of the data of the first')
    parser.add_argument('--split', choices=('dev', 'test'), required=True)
    parser.add_argument('--beams', type=int, help='beams of the search; 1 = greedy (default: the config of the run)')
    parser.add_argument('--length_penalty', type=_numbers,
                        help='of the search (default: the config of the run); several, joined by commas, only on dev')
    parser.add_argument('--coverage_penalty', type=float, help='of the search (default: the config of the run)')
    parser.add_argument('--patience', type=float, help='of the search (default: the config of the run)')
    options = parser.parse_args(arguments)
    with one_line_errors('research.evaluate'):
        compiling.keep_programs()
        memory.keep_freed()
        names = options.workdir.split(',')
        runs = load_all(names)
        run, folder = runs[0], pathlib.Path(names[0])
        there = _corpus(folder / 'data.json')
        data = build.data(run.config, (run.source, run.target))
        if there != data.digest:
            raise UserError(f'the corpus has changed since this run was trained: {folder / "data.json"} names {there}, '
                            f'and its files are {data.digest} now. Bring back the files that the config names')
        pairs = getattr(data.corpus, options.split)
        if not run.model.reads_source():
            _positions(options, run, folder, data, pairs)
            return
        model, params = together(runs)
        tokenizer = build.tokenizer(run.config)
        if tokenizer is not None:
            translation.check_tokenizer(tokenizer, build.target_language(run.config),
                                        [pair.target for pair in pairs])
        penalties = options.length_penalty or [None]
        if len(penalties) > 1 and options.split != 'dev':
            raise UserError(f'--length_penalty has {len(penalties)} values; they are compared on dev, and the best is '
                            'then given alone for test')
        decodings = [searching(runs, beams=options.beams, length_penalty=penalty,
                               coverage_penalty=options.coverage_penalty, patience=options.patience)
                     for penalty in penalties]
        remark_unknown(options.split, run.source, [pair.source for pair in pairs])
        averaged = ', '.join(dict.fromkeys(one.averaged for one in runs if one.averaged))
        more = [f'ensemble of {len(runs)} runs'] * (len(runs) > 1) + [averaged] * bool(averaged)
        step = '+'.join(str(one.step) for one in runs)
        results = []
        for decoding in decodings:
            translator = Translator(model, run.source, run.target, decoding, progress=Said())
            result = evaluate(translator, params, pairs, build.length_edges(run.config), tokenizer)
            results.append(result)
            _note(folder, options.split, run.step, {
                'decoding': decoding.describe(), 'averaged': averaged,
                'runs': [{'workdir': name, 'step': one.step} for name, one in zip(names, runs, strict=True)],
                'scores': result.scores, 'metrics': [score._asdict() for score in result.metrics],
                'cut': len(cut(result.translations)), 'by_length': result.by_length})
            print(score_line(options.split, step, translator, result, more))
            for line in _details(result, [pair.target for pair in pairs]):
                print(line)
        best = max(range(len(results)), key=lambda k: _rank(results[k]))
        with open(folder / f'{options.split}_outputs.txt', 'w', encoding='utf-8') as file:
            file.writelines(found.text + '\n' for found in results[best].translations)
        if len(results) > 1:
            print(f'best: --length_penalty={penalties[best]:g}')


def load_all(workdirs: Sequence[str]) -> list[Run]:
    """One run, or several that are to decide together; raises UserError where they do not have one vocabulary."""
    if not all(workdirs):
        raise UserError('--workdir must be a work directory, or several joined by commas')
    runs = [Run.load(workdir) for workdir in workdirs]
    for run, workdir in zip(runs[1:], workdirs[1:], strict=True):
        for side in ('source', 'target'):
            if getattr(run, side).hash != getattr(runs[0], side).hash:
                raise UserError(f'{workdir} and {workdirs[0]} have different {side} vocabularies: an ensemble must '
                                'have one')
        if not (run.model.reads_source() and runs[0].model.reads_source()):
            raise UserError(f'{workdir} or {workdirs[0]} is a model without a source: an ensemble is of translators')
    return runs


def together(runs: Sequence[Run]) -> tuple[EncoderDecoder, Params]:
    """The model and the parameters of one run, or of the ensemble of several."""
    for run in runs:
        if not run.model.reads_source():
            raise UserError(f'{run.name} is a model without a source: there is nothing that it could translate. Its '
                            'scores: python -m research.evaluate')
    return (runs[0].model, runs[0].params) if len(runs) == 1 else ensemble([(run.model, run.params) for run in runs])


def searching(runs: Sequence[Run], **options: float | None) -> build.Decoding:
    """How the config of the first run searches, with what a command line says otherwise; None = as the config says.

    Lengths are those that every run has positions for.

    Raises:
      UserError: a number is too small, or something is given that greedy search has no use for.
    """
    for name, value in options.items():
        low = 1 if name == 'beams' else 0
        if value is not None and not value >= low:
            raise UserError(f'--{name} is {value}; it must be at least {low}')
    decoding, *others = (build.decoding(run.config) for run in runs)
    decoding = decoding._replace(**{name: value for name, value in options.items() if value is not None})
    for name, value in options.items():
        if name != 'beams' and value is not None and decoding.beams == 1:
            raise UserError(f'--{name} is {value:g}, and greedy search does nothing by it: give --beams of 2 or more, '
                            'too')
    for name in ('longest_source', 'longest_target'):
        known = [longest for one in (decoding, *others) if (longest := getattr(one, name)) is not None]
        decoding = decoding._replace(**{name: min(known, default=None)})
    return decoding


def _rank(result: Evaluation) -> float:
    """Higher is better: BLEU of translations, otherwise the accuracy."""
    return result.metrics[0].value if result.metrics else result.scores['accuracy']


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(',')]


def _positions(options, run, folder, data, pairs) -> None:
    for name in ('beams', 'length_penalty', 'coverage_penalty', 'patience'):
        if (value := getattr(options, name)) is not None:
            raise UserError(f'--{name} is {value}, but {run.name} is a model without a source: nothing is searched for')
    scores, count = position_scores(run, data, pairs)
    _note(folder, options.split, run.step, {'decoding': 'none', 'scores': scores})
    print(position_line(options.split, run.step, data, pairs, scores, count))


def score_line(split: str, step: int | str, translator: Translator, result: Evaluation,
               more: Sequence[str] = ()) -> str:
    """One line that says the score and everything that decides it; `more`: what else does, such as averaging."""
    count = len(cut(result.translations))
    limited = [f'{count:,} of these outputs cut at their limit'] if count else []
    how = ', '.join([translator.describe(), *limited, *more, f'step {step}'])
    if result.metrics:
        best = result.metrics[0]
        return (f'{split} {best.name} {best.value:.2f} (95 % interval over sentences {best.low:.2f} to '
                f'{best.high:.2f}, n = {len(result.right):,}), {how}, {best.signature}')
    low, high = _interval(int(np.sum(result.right)), len(result.right))
    return (f'{split} accuracy {100 * result.scores["accuracy"]:.1f} % '
            f'(95 % interval over sentences {100 * low:.1f} to {100 * high:.1f}, n = {len(result.right):,}), '
            f'symbol error rate {100 * result.scores["token_error_rate"]:.1f} %, {how}')


def _details(result: Evaluation, references: Sequence[str]) -> Iterator[str]:
    """What stands below a score line: the other metrics, what may be wrong with the text, and the score by length."""
    for score in result.metrics[1:]:
        yield f'  {score.name} {score.value:.2f} ({score.low:.2f} to {score.high:.2f})   {score.signature}'
    if result.metrics:
        for remark in translation.remarks([found.text for found in result.translations],
                                          [(line,) for line in references]):
            yield f'  {remark}'
        for row in result.by_length:
            if row['count']:
                interval = f'({row["low95"]:.2f} to {row["high95"]:.2f})'
                yield (f'  source words {row["low"]:>3}-{row["high"]:<3} BLEU {row["bleu"]:6.2f}   {interval}   '
                       f'n = {row["count"]:,}')
        return
    for bucket in result.by_length:
        if bucket['count']:
            yield (f'  source length {bucket["low"]:>3}-{bucket["high"]:<3} {100 * bucket["mean"]:6.1f} %   '
                   f'n = {bucket["count"]:,}')


def position_line(split: str, step: int, data: build.Data, pairs: Sequence[Pair], scores: dict[str, float],
                  count: int) -> str:
    """The same of a model without a source. Unknown symbols are one symbol, which is easily said: they are counted."""
    right = f'accuracy {100 * scores["accuracy"]:.1f} %'
    if data.next_symbols:
        unknown = sum(len(data.target.unknown(pair.target)) for pair in pairs)
        return (f'{split} {perplexity_of(scores["loss"], data)}, loss {scores["loss"]:.4f}, {right} of next '
                f'symbols, n = {count:,}, {unknown:,} of them unknown, step {step}')
    low, high = _interval(round(scores['accuracy'] * count), count)
    return (f'{split} {right} of labels (95 % interval over labels {100 * low:.1f} to {100 * high:.1f}, '
            f'n = {count:,}), step {step}')


def _interval(right: int, count: int) -> tuple[float, float]:
    """Wilson's interval of 95 % for a share."""
    import scipy.stats  # here, because importing it is slow
    return scipy.stats.binomtest(right, count).proportion_ci(method='wilson')


def _note(folder: pathlib.Path, split: str, step: int, reading: dict[str, Any]) -> None:
    """Every reading of a split is written down beside the run: nobody can forget how often test was looked at."""
    line = {'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'), 'split': split, 'step': step,
            **reading}
    with open(folder / 'evaluations.jsonl', 'a', encoding='utf-8') as file:
        file.write(json.dumps(line) + '\n')


def _corpus(path: pathlib.Path) -> str:
    """What names the corpus that a run was trained beside: it is not scored on another one."""
    try:
        there = json.loads(path.read_text(encoding='utf-8'))['corpus']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} is missing or damaged ({error}): this run is not whole') from None
    if there is None:
        raise UserError(f'{path}: this run was imported and has no corpus. Translate a test set with '
                        'research.translate and score it with sacrebleu, or fine-tune on a corpus '
                        '(configs/fine_tune.py)')
    return there


if __name__ == '__main__':
    main()
