"""What a trained run is recorded with: its scores on the test set, by length, what it costs, how it reads, examples."""

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from research import build, evaluate, train
from research.analysis import diagnostics
from research.evaluation import accuracy, lengths
from research.evaluation.forced import Positions, positions, scores
from research.study import records
from research.text.corpus import Pair
from research.training.report import read_jsonl
from research.training.step import position_step
from research.translator import Translator

ALIGNED_PAIRS = 500   # test pairs of training length whose links are compared with the known alignment
READ_PAIRS = 200      # test pairs that the diagnostics look at
LONGEST_SHOWN = 40    # symbols of a source or an output whose weights are kept
EXAMPLES = 1          # of each kind


def record(trainer: train.Trainer, workdir: Any, outcome: train.Outcome, test_sample: int | None,
           probe: Callable[[Any, Any, list], dict[str, float]] | None) -> dict[str, Any]:
    """Tests the parameters that were best on dev; returns the fields of a finished run (research/study/records.py).

    Args:
      trainer: that trained it; its programs to measure are used.
      workdir: where it was trained.
      outcome: what came of it.
      test_sample: so many test pairs, spread evenly; None = all.
      probe: (trainer, params, pairs) -> more scores.
    """
    pairs = spread(trainer.data.corpus.test, test_sample)
    tested = (_written if trainer.model.reads_source() else _asked)(trainer, outcome.params, pairs)
    more = probe(trainer, outcome.params, pairs) if probe else {}
    lines, _ = read_jsonl(workdir / 'metrics.jsonl')
    steps = [line for line in lines if line['kind'] == 'train']
    total, without = build.parameters(trainer.model)
    S, T, longest = sizes(trainer.data, pairs)
    return {
        'parameters': total, 'parameters_non_embedding': without,
        'flops_per_token': 3 * build.flops(trainer.model, S, T) / T,
        'readable_floats': build.readable_floats(trainer.model, S),
        'state_bytes': build.kept_bytes(trainer.model, *longest), 'padding': float(trainer.plans.train.padding),
        'steps': trainer.loop.steps, 'best_step': outcome.best_step, **tested,
        'scores': tested['scores'] | more, 'curve': curve(lines),
        'diagnostics': diagnostics.diagnose(trainer.model, outcome.params, _sample(trainer, spread(pairs, READ_PAIRS))),
        'seconds': tested['seconds'] | {
            'train': round(sum(line['seconds'] for line in steps), 2),
            'step': float(f'{_warm(steps):.4g}')}}


def spread(pairs: Sequence[Pair], most: int | None) -> Sequence[Pair]:
    """So many pairs at even distances, always the same ones."""
    if most is None or most >= len(pairs):
        return pairs
    return [pairs[index] for index in np.linspace(0, len(pairs) - 1, most).astype(int)]


def sizes(data: build.Data, pairs: Sequence[Pair]) -> tuple[int, int, tuple[int, int]]:
    """Mean source and target length of pairs, end symbols included, and the longest of each."""
    ids = build.encoded(data, pairs)
    sources, targets = ([len(pair[side]) for pair in ids] for side in (0, 1))
    return round(np.mean(sources)), round(np.mean(targets)), (max(sources), max(targets))


def curve(lines: Sequence[dict]) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl as one point for each step."""
    points: dict[int, dict[str, Any]] = {}
    for line in lines:
        point = points.setdefault(line['step'], {'step': line['step'], 'train_loss': None, 'dev_loss': None,
                                                 'dev_accuracy': None})
        if line['kind'] == 'train':
            point['train_loss'] = line['loss']
        elif line['kind'] == 'dev':
            point['dev_loss'], point['dev_accuracy'] = line['loss'], line['accuracy']
    return [points[step] for step in sorted(points)]


def forced(trainer: train.Trainer, params: Any, pairs: Sequence[Pair]) -> Positions:
    """What is said at each target position of pairs, given the right inputs."""
    step = functools.partial(_positions, trainer.model, build.chunk(trainer.config))
    return positions(step, params, build.measuring_plan(trainer.data, pairs, trainer.plans))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _positions(model, chunk, params, batch):
    """One program for a model, whatever its parameters."""
    return position_step(model, chunk=chunk)(params, batch)


def bytes_a_position(trainer: train.Trainer) -> int:
    """What one symbol more that is written adds to the state of decoding."""
    fewer, more = (build.kept_bytes(trainer.model, 8, count) for count in (8, 9))
    return more - fewer


def gradient_slope(trainer: train.Trainer, params: Any, pairs: Sequence[Pair]) -> float:
    """How much the logarithm of the gradient changes for each position that it goes back."""
    return diagnostics.gradient_reach(trainer.model, params, _sample(trainer, pairs))['slope']


def input_gradients(trainer: train.Trainer, params: Any, pairs: Sequence[Pair]) -> np.ndarray:
    """How much each target's loss depends on each input: [B, T, T]."""
    batch = _sample(trainer, pairs)[0]
    return np.asarray(jax.jit(functools.partial(diagnostics.gradient_norms, trainer.model, side='inputs'))(
        params, batch))


def _sample(trainer, pairs):
    return build.sample_plan(trainer.data, pairs)


def _warm(steps):
    """Seconds of a step: the median over the windows of the report, the first of which is not warm."""
    before, each = 0, []
    for line in steps:
        each.append(line['seconds'] / max(1, line['step'] - before))
        before = line['step']
    return float(np.median(each[1:] or each))


@functools.lru_cache(maxsize=2)
def _translator(trainer, with_weights):
    """Searches as the config says; one for all seeds of an arm, so that its programs are compiled once."""
    decoding = build.decoding(trainer.config)
    if decoding.beams == 1 and not with_weights:
        return trainer.translator
    return Translator(trainer.model, trainer.data.source, trainer.data.target, decoding, with_weights)


def _written(trainer, params, pairs):
    """Of a model that writes: what it wrote, and how sure it is of the right answers."""
    translator = _translator(trainer, False)
    begin = time.perf_counter()
    translator.compile(params, translator.shapes([pair.source for pair in pairs]))
    compiling = time.perf_counter() - begin
    begin = time.perf_counter()
    result = evaluate.evaluate(translator, params, pairs, build.length_edges(trainer.config), trainer.tokenizer)
    testing = time.perf_counter() - begin
    given, found = forced(trainer, params, pairs), result.translations
    sizes = [len(pair.source.split()) if trainer.tokenizer else len(one.source) - 1
             for pair, one in zip(pairs, found, strict=True)]
    longest = max((len(pair.alignment) for pair in trainer.data.corpus.train), default=0)
    aligned = [pair for pair in pairs if pair.alignment and len(pair.alignment) <= longest][:ALIGNED_PAIRS]
    weighted = trainer.model.reads == 'source'
    return {
        'scores': {**result.scores, **_totals(given), **({'bleu': result.metrics[0].value} if result.metrics else {})},
        'by_length': _by_length(sizes, build.length_edges(trainer.config), result.right, given, result.by_length),
        'right': records.bits(result.right), 'outputs': [one.text for one in found] if result.metrics else None,
        'metrics': [score._asdict() for score in result.metrics],
        'alignment': evaluate.alignment_scores(trainer.model, params, trainer.data.source, trainer.data.target,
                                               aligned) if aligned and weighted else None,
        'examples': _written_examples(trainer, params, pairs, result, weighted),
        'seconds': {'compile': round(compiling, 2), 'evaluate': round(testing, 2)}}


def _asked(trainer, params, pairs):
    """Of a model without a source: whether what is asked for has the highest score, given what comes before."""
    begin = time.perf_counter()
    given = forced(trainer, params, pairs)
    testing = time.perf_counter() - begin
    right = given.right.sum(axis=1) == given.asked.sum(axis=1)
    sizes = [len(ids[1]) for ids in build.encoded(trainer.data, pairs)]
    totals = _totals(given)
    return {
        'scores': {'accuracy': float(np.mean(right)), 'token_error_rate': 1.0 - totals['token_accuracy'], **totals},
        'by_length': _by_length(sizes, build.length_edges(trainer.config), right, given, None),
        'right': records.bits(right), 'outputs': None, 'alignment': None, 'examples': [],
        'seconds': {'compile': 0.0, 'evaluate': round(testing, 2)}}


def _totals(given):
    found = scores(given)
    return {'token_accuracy': found['accuracy'], 'loss': found['loss']}


def _by_length(sizes, edges, right, given, scored):
    """What `records` calls by_length, without empty buckets; `scored` may hold BLEU of the same buckets."""
    ends = (*edges, max(edges[-1], *sizes) + 1)

    def sums(values):
        return [row['sum'] for row in lengths.by_length(sizes, values, ends)]
    rows = [{'low': row['low'], 'high': row['high'], 'count': row['count'], 'right': round(row['sum'])}
            for row in lengths.by_length(sizes, right, ends)]
    of_pairs = (part.sum(axis=1) for part in given)
    for n, (tokens, tokens_right, loss) in enumerate(zip(*map(sums, of_pairs), strict=True)):
        rows[n] |= {'tokens': round(tokens), 'tokens_right': round(tokens_right), 'loss': loss}
        if scored and scored[n].get('bleu') is not None:
            rows[n]['bleu'] = scored[n]['bleu']
    return [row for row in rows if row['count']]


def _written_examples(trainer, params, pairs, result, weighted):
    """Longest, shortest and median sources, the same for all arms, and this run's worst outputs, with their weights."""
    sizes = [len(found.source) for found in result.translations]
    fitting = [index for index in range(len(pairs)) if sizes[index] <= LONGEST_SHOWN]
    by_size = sorted(fitting, key=lambda index: (sizes[index], pairs[index].source))
    middle = max(0, len(by_size) // 2 - EXAMPLES // 2)
    edits, _ = accuracy.edits([found.text for found in result.translations],
                              evaluate.right_answers(trainer.data.target, pairs),
                              accuracy.counted(trainer.data.target.unit))
    worst = sorted(fitting, key=lambda index: (-edits[index], pairs[index].source))
    chosen: dict[str, tuple[str, int]] = {}  # by source: no source is shown twice
    for rule, indices in (('longest', by_size[::-1]), ('shortest', by_size), ('median', by_size[middle:]),
                          ('worst', worst)):
        others = (index for index in indices if pairs[index].source not in chosen)
        for index in itertools.islice(others, EXAMPLES):
            chosen[pairs[index].source] = rule, index
    found = _translator(trainer, weighted)(params, list(chosen))
    return [{'rule': rule, 'source': one.source[:-1], 'output': one.symbols[:LONGEST_SHOWN],
             'answer': trainer.data.target.symbols(trainer.data.target.encode(pairs[index].target)),
             'right': bool(result.right[index]),
             'weights': np.round(one.weights[:, :LONGEST_SHOWN], 3).tolist() if weighted and one.weights.size else None}
            for (rule, index), one in zip(chosen.values(), found, strict=True)]
