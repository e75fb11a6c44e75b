"""Decodes a split of a run's corpus and scores the outputs; a model without a source is scored position by position.

    python -m research.evaluate --workdir=DIR --split=test
    python -m research.evaluate --workdir=DIR --split=dev --length_penalty=0,0.6,1,1.4

Translations are scored by sacreBLEU: BLEU, chrF and TER with their signatures, and BLEU by source length. With several
length penalties each is tried on dev, where they are chosen.
"""

import argparse
import datetime
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.stats

from research import build
from research.errors import UserError, one_line_errors
from research.evaluation import accuracy, alignment, lengths, translation
from research.models import contract
from research.models.contract import EncoderDecoder, Params
from research.text.batches import BatchPlan, choose_buckets
from research.text.corpus import Pair
from research.text.vocabulary import Vocabulary
from research.training.checkpoint import Checkpoints
from research.training.step import measure_step, summed
from research.translate import Progress, Translation, Translator, cut, remark_unknown


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
        source, target = (_vocabulary(folder / f'{side}_vocabulary.json') for side in ('source', 'target'))
        model = build.model(config, len(source), len(target))
        identity = build.identity(config, source, target)
        abstract = build.abstract_params(model)
        mean = Checkpoints(folder / 'averaged', keep=1, identity=identity).restore(abstract)
        found = mean or Checkpoints(folder / 'best', keep=2, identity=identity).restore(abstract)
        if found is None:
            raise UserError(f'{workdir} holds no parameters yet: the first are kept after training.evaluate_every '
                            'steps')
        return cls(folder.name, config, model, source, target, found[1], found[0],
                   build.averaged(config, mean is not None))

    def translator(self, beams: int | None = None, with_weights: bool = False,
                   progress: Callable[[int, int], None] = lambda done, lines: None) -> Translator:
        """Searches as the config says, or with another number of beams."""
        if not self.model.reads_source():
            raise UserError(f'{self.name} is a model without a source: there is nothing that it could translate. Its '
                            'scores: python -m research.evaluate')
        decoding = build.decoding(self.config)
        if beams is not None:
            if beams < 1:
                raise UserError(f'--beams is {beams}; it must be at least 1')
            decoding = decoding._replace(beams=beams)
        return Translator(self.model, self.source, self.target, decoding, with_weights, progress)


def evaluate(translator: Translator, params: Params, pairs: Sequence[Pair], edges: Sequence[int]) -> Evaluation:
    """Decodes the sources and compares with the right answers; `edges` begin the buckets of source length.

    An answer counts as the vocabulary would write it: between words, one space is as good as two.
    """
    translations = translator(params, [pair.source for pair in pairs])
    outputs, answers = [found.text for found in translations], right_answers(translator.target, pairs)
    right = accuracy.exact_match(outputs, answers)
    sizes = [len(found.source) - 1 for found in translations]
    ends = (*edges, max(edges[-1], *sizes) + 1)
    return Evaluation({'accuracy': float(np.mean(right)),
                       'token_error_rate': accuracy.token_error_rate(
                           outputs, answers, accuracy.counted(translator.target.unit))},
                      lengths.by_length(sizes, right, ends), translations, right)


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


def perplexity_of(loss: float, vocabulary: Vocabulary) -> str:
    """The perplexity and what a symbol is: without it the number means nothing."""
    return f'perplexity {accuracy.perplexity(loss):.2f} a symbol (unit: {vocabulary.unit}, and the end of each line)'


def right_answers(target: Vocabulary, pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    """All right answers of each pair, as the target's vocabulary would write them."""
    return [tuple(target.written(line) for line in (pair.target, *pair.others)) for pair in pairs]


def alignment_scores(model: EncoderDecoder, params: Params, source: Vocabulary, target: Vocabulary,
                     pairs: Sequence[Pair]) -> dict[str, float] | None:
    """How well the most-read source position of each target position agrees with the known alignment.

    The right answers are given to the decoder (forced), and heads and layers are averaged; the end symbol is left out.

    Returns:
      error_rate; shift, the constant offset that explains most links; error_rate_shifted, with it. None where the
      model returns no weights.
    """
    ids = [(source.encode(pair.source), target.encode(pair.target)) for pair in pairs]
    buckets = choose_buckets([(len(left), len(right)) for left, right in ids], 4)
    plan = BatchPlan(ids, buckets, 16 * max(sum(bucket) for bucket in buckets))

    @jax.jit
    def weigh(params, batch):
        memory = contract.encode(model, params, batch.source, batch.source_places)
        weights = contract.decode(model, params, memory, batch.inputs, batch.target_places).weights
        return None if weights is None else weights.mean(axis=1)

    links: dict[int, set] = {}
    for k in range(len(plan)):
        weights = weigh(params, plan[k])
        if weights is None:
            return None
        weights = np.asarray(weights)
        for row, index in enumerate(plan.ids(k)):
            if index >= 0:
                left, right = ids[index]
                links[index] = alignment.links(weights[row, :len(right) - 1, :len(left)])
    found, gold = [links[index] for index in range(len(pairs))], [set(pair.alignment) for pair in pairs]
    shift, shifted = alignment.best_shift(found, gold)
    return {'error_rate': alignment.error_rate(found, gold), 'shift': shift, 'error_rate_shifted': shifted}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog='research.evaluate', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('--workdir', required=True, help='of a finished or running training')
    parser.add_argument('--split', choices=('dev', 'test'), required=True)
    parser.add_argument('--beams', type=int, help='beams of the search; 1 = greedy (default: the config of the run)')
    options = parser.parse_args(arguments)
    with one_line_errors('research.evaluate'):
        run = Run.load(options.workdir)
        data = build.data(run.config)
        folder = pathlib.Path(options.workdir)
        _check_corpus(folder / 'data.json', data.digest)
        pairs = getattr(data.corpus, options.split)
        if not run.model.reads_source():
            if options.beams is not None:
                raise UserError(f'--beams is {options.beams}, but {run.name} is a model without a source: nothing is '
                                'searched for')
            scores, count = position_scores(run, data, pairs)
            _note(folder, options.split, run.step, {'decoding': 'none', 'scores': scores})
            print(position_line(options.split, run.step, data, pairs, scores, count))
            return
        translator = run.translator(beams=options.beams, progress=Progress())
        remark_unknown(options.split, run.source, [pair.source for pair in pairs])
        result = evaluate(translator, run.params, pairs, build.length_edges(run.config))
        _note(folder, options.split, run.step, {
            'decoding': translator.decoding.describe(), 'scores': result.scores, 'cut': len(cut(result.translations)),
            'by_length': result.by_length})
        with open(folder / f'{options.split}_outputs.txt', 'w', encoding='utf-8') as file:
            file.writelines(translation.text + '\n' for translation in result.translations)
        print(score_line(options.split, run.step, translator, result))
        for bucket in result.by_length:
            if bucket['count']:
                print(f'  source length {bucket["low"]:>3}-{bucket["high"]:<3} {100 * bucket["mean"]:6.1f} %   '
                      f'n = {bucket["count"]:,}')


def score_line(split: str, step: int, translator: Translator, result: Evaluation) -> str:
    """One line that says the score and everything that decides it."""
    low, high = _interval(int(np.sum(result.right)), len(result.right))
    count = len(cut(result.translations))
    limited = f'{count:,} of these outputs cut at their limit, ' if count else ''
    return (f'{split} accuracy {100 * result.scores["accuracy"]:.1f} % '
            f'(95 % interval over sentences {100 * low:.1f} to {100 * high:.1f}, n = {len(result.right):,}), '
            f'symbol error rate {100 * result.scores["token_error_rate"]:.1f} %, '
            f'{translator.decoding.describe()}, {limited}step {step}')


def position_line(split: str, step: int, data: build.Data, pairs: Sequence[Pair], scores: dict[str, float],
                  count: int) -> str:
    """The same of a model without a source. Unknown symbols are one symbol, which is easily said: they are counted."""
    right = f'accuracy {100 * scores["accuracy"]:.1f} %'
    if data.next_symbols:
        unknown = sum(len(data.target.unknown(pair.target)) for pair in pairs)
        return (f'{split} {perplexity_of(scores["loss"], data.target)}, loss {scores["loss"]:.4f}, {right} of next '
                f'symbols, n = {count:,}, {unknown:,} of them unknown, step {step}')
    low, high = _interval(round(scores['accuracy'] * count), count)
    return (f'{split} {right} of labels (95 % interval over labels {100 * low:.1f} to {100 * high:.1f}, '
            f'n = {count:,}), step {step}')


def _interval(right: int, count: int) -> tuple[float, float]:
    """Wilson's interval of 95 % for a share."""
    return scipy.stats.binomtest(right, count).proportion_ci(method='wilson')


def _note(folder: pathlib.Path, split: str, step: int, reading: dict[str, Any]) -> None:
    """Every reading of a split is written down beside the run: nobody can forget how often test was looked at."""
    line = {'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'), 'split': split, 'step': step,
            **reading}
    with open(folder / 'evaluations.jsonl', 'a', encoding='utf-8') as file:
        file.write(json.dumps(line) + '\n')


def _check_corpus(path: pathlib.Path, digest: str) -> None:
    """Refuses to score on other data than the run was trained beside."""
    try:
        there = json.loads(path.read_text(encoding='utf-8'))['corpus']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} is missing or damaged ({error}): this run is not whole') from None
    if there != digest:
        raise UserError(f'the corpus has changed since this run was trained: {path} names {there}, and its files are '
                        f'{digest} now. Bring back the files that the config names')


def _vocabulary(path: pathlib.Path) -> Vocabulary:
    if not path.is_file():
        raise UserError(f'{path} is missing: the run in this work directory is not whole')
    try:
        return Vocabulary.from_json(path.read_text(encoding='utf-8'))
    except (UserError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: {error}') from None


if __name__ == '__main__':
    main()
