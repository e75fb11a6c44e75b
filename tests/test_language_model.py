"""A user's own text through the model without a source: what is asked of it, what it learns, what is said of that."""

import json
import math
import re
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from configs import labelled_recall, language_model
from research import build, evaluate, train
from research.errors import UserError
from research.models import contract
from research.study import arms
from research.training.loop import blank_batch

SMALL = {'decoder.layers': 1, 'decoder.features': 32, 'decoder.hidden': 32, 'batches.buckets': 1}


def settled(folder, texts, words=None, **changes):
    """A config for these texts, {split: lines}, written to files of their own."""
    folder.mkdir(exist_ok=True)
    files = {split: folder / f'{split}.txt' for split in texts}
    for split, lines in texts.items():
        files[split].write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
    config = arms.override(language_model.get_config(words), {
        **{f'data.{split}': str(file) for split, file in files.items()}, 'data.unit': 'characters', **changes})
    build.validate(config)
    return config


# ---------------------------------------------------------------------------------------------------- what is asked for

TINY = {'train': ['ab', 'a', 'abba'], 'dev': ['b'], 'test': ['ac']}


def test_every_symbol_and_the_end_are_asked_for_by_what_came_before(tmp_path):
    """By hand: a is more frequent than b, so it is 4 and b 5; 1 begins, 2 ends, c was never seen and is 3."""
    config = settled(tmp_path, TINY, **SMALL)
    data = build.data(config)
    batch = build.measuring_plan(data, data.corpus.train, build.plans(config, data))[0]
    np.testing.assert_array_equal(batch.inputs[:3], [[1, 4, 5, 0, 0], [1, 4, 0, 0, 0], [1, 4, 5, 5, 4]])
    np.testing.assert_array_equal(batch.targets[:3], [[4, 5, 2, 0, 0], [4, 2, 0, 0, 0], [4, 5, 5, 4, 2]])
    np.testing.assert_array_equal(batch.target_places.segment[:3], [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1] * 5])
    assert not batch.target_places.segment[3:].any()
    test = build.measuring_plan(data, data.corpus.test, build.plans(config, data))[0]
    np.testing.assert_array_equal((test.inputs[0], test.targets[0]), [[1, 4, 3, 0, 0], [4, 3, 2, 0, 0]])


def test_words_are_symbols_too_and_the_vocabulary_has_a_size(tmp_path):
    """By hand: of the words only `the` has a place beside the four special symbols."""
    texts = {'train': ['the cat the dog'], 'dev': ['the'], 'test': ['the']}
    config = settled(tmp_path, texts, **SMALL, **{'data.unit': 'words', 'data.size': 5})
    data = build.data(config)
    batch = build.plans(config, data).train[0]
    np.testing.assert_array_equal(batch.targets[0], [4, 3, 4, 3, 2])
    assert len(data.target) == len(data.source) == 5


def test_training_lines_that_are_too_long_are_counted_and_measured_ones_are_whole(tmp_path):
    texts = {'train': ['abc', 'abcd', 'ab'], 'dev': ['abcdabcd'], 'test': ['ab']}
    config = settled(tmp_path, texts, **SMALL, **{'batches.maximum_target': 4})
    data = build.data(config)
    plans = build.plans(config, data)
    assert plans.train.dropped.tolist() == [1]
    assert plans.train.shapes[0][1:] == (1, 4)
    assert len(plans.dev.dropped) == 0
    assert (plans.dev[0].targets > 0).sum() == 9
    assert '1 pairs too long and dropped' in train.Trainer(config, data).describe(plans.train)


def test_the_end_of_a_piece_is_not_asked_for(tmp_path):
    """By hand: `ab a abba` is cut into `ab `, `a a`, `bba`; of its symbols a is 4, b 5 and the space 6."""
    config = settled(tmp_path, {'train': ['ab', 'a', 'abba'], 'dev': ['ab'], 'test': ['abab', 'a']}, **SMALL, **{
        'data.length': 3, 'data.test_length': 4})
    data = build.data(config)
    plans = build.plans(config, data)
    train, test = (build.measuring_plan(data, pairs, plans)[0] for pairs in (data.corpus.train, data.corpus.test))
    np.testing.assert_array_equal(train.inputs[:3], [[1, 4, 5], [1, 4, 6], [1, 5, 5]])
    np.testing.assert_array_equal(train.targets[:3], [[4, 5, 6], [4, 6, 4], [5, 5, 4]])
    np.testing.assert_array_equal(train.target_places.segment[:3], [[1, 1, 1]] * 3)
    np.testing.assert_array_equal(test.inputs[:2], [[1, 4, 5, 4], [1, 6, 0, 0]])
    np.testing.assert_array_equal(test.targets[:2], [[4, 5, 4, 5], [6, 4, 0, 0]])
    assert plans.train.shapes[0][1:] == (1, 3)


def test_pieces_are_those_of_the_text_whatever_the_length_of_test_is(tmp_path):
    lines = {'train': ['the cat sat', 'on the mat'], 'dev': ['a cat'], 'test': ['the mat', 'sat on a cat']}
    for length in (0, 3, 8):
        config = settled(tmp_path, lines, **SMALL, **{'data.length': 4, 'data.test_length': length})
        data = build.data(config)
        for split, size in zip(build.SPLITS, (4, 4, length or 4), strict=True):
            texts = [pair.target for pair in getattr(data.corpus, split)]
            assert ''.join(texts) == ' '.join(lines[split])
            assert {len(text) for text in texts[:-1]} <= {size}
            assert all(pair.source == '' for pair in getattr(data.corpus, split))
        assert len(data.target) == 4 + len(set(''.join(lines['train'])))


def test_scores_of_pieces_do_not_speak_of_ends(tmp_path, capsys):
    lines = ['the cat sat on the mat'] * 4
    config = settled(tmp_path / 'texts', {'train': lines, 'dev': lines, 'test': lines}, **SMALL, **{
        'data.length': 8, 'data.test_length': 16, 'batches.tokens': 128, 'training.steps': 2, 'training.warmup': 1,
        'training.evaluate_every': 2})
    train.Trainer(config).run(tmp_path / 'run', console=False)
    evaluate.main([f'--workdir={tmp_path / "run"}', '--split=test'])
    assert re.fullmatch(r'test perplexity \S+ a symbol \(unit: characters\), loss .* n = 91, 0 of them unknown, '
                        r'step 2\n', capsys.readouterr().out)


def test_an_untrained_model_knows_nothing(tmp_path):
    """Scores have variance 1 at the start, so the loss is log V + 1/2 where all 100 symbols are equally frequent; were
    the vector that is scored the same at every position, the mean score of what came would still deviate by 0.1 only.
    """
    random = np.random.default_rng(0)
    lines = [''.join(chr(0x4e00 + symbol) for symbol in random.permutation(100)) for _ in range(20)]
    config = settled(tmp_path, {'train': lines, 'dev': lines, 'test': lines[:1]}, **SMALL)
    trainer = train.Trainer(config)
    params = contract.init(trainer.model, jax.random.key(0), blank_batch(1, 1, 3))
    loss = trainer.loss(params, trainer.data.corpus.dev)
    assert loss == pytest.approx(math.log(len(trainer.data.target)) + 0.5, abs=0.3)


# ------------------------------------------------------------------------------------------------------ what it learns

SYMBOLS = 'abcd'
START = np.array([0.7, 0.1, 0.1, 0.1])
NEXT = np.array([[0.0, 0.7, 0.1, 0.0, 0.2],   # from a to a, b, c, d, and the end
                 [0.1, 0.0, 0.6, 0.1, 0.2],
                 [0.1, 0.2, 0.1, 0.4, 0.2],
                 [0.5, 0.1, 0.1, 0.1, 0.2]])


def drawn(random, count):
    """Lines in which each symbol depends on the one before it alone."""
    lines = []
    for _ in range(count):
        line = [random.choice(4, p=START)]
        while (symbol := random.choice(5, p=NEXT[line[-1]])) < 4 and len(line) < 30:
            line.append(symbol)
        lines.append(''.join(SYMBOLS[symbol] for symbol in line))
    return lines


def expected(of_start, of_next):
    """The mean of a figure of a distribution over all symbols of a line, its end among them: float64.

    A line visits state s (I - Q)^-1 times, Q the chances of going on; of the lines 0.1 % would go on after 30 symbols.
    """
    visits = START @ np.linalg.inv(np.eye(4) - NEXT[:, :4])
    return (of_start + visits @ of_next) / (1.0 + visits.sum())


def entropy(chances):
    return -np.sum(np.where(chances > 0, chances * np.log(np.where(chances > 0, chances, 1.0)), 0.0), axis=-1)


class Learned(NamedTuple):
    trainer: train.Trainer
    workdir: Any
    outcome: train.Outcome
    dev: list[dict[str, Any]]  # the measurements on dev


@pytest.fixture(scope='module')
def learned(tmp_path_factory):
    """One layer after 300 steps on such lines."""
    folder, random = tmp_path_factory.mktemp('bigrams'), np.random.default_rng(0)
    texts = {'train': drawn(random, 4000), 'dev': drawn(random, 2000), 'test': [*drawn(random, 100), 'abz']}
    trainer = train.Trainer(settled(folder / 'texts', texts, **SMALL, **{
        'batches.tokens': 2048, 'training.steps': 300, 'training.warmup': 30, 'training.learning_rate': 5e-3,
        'training.evaluate_every': 100}))
    outcome = trainer.run(folder / 'run', console=False)
    lines = [json.loads(line) for line in (folder / 'run' / 'metrics.jsonl').read_text().splitlines()]
    return Learned(trainer, folder / 'run', outcome, [line for line in lines if line['kind'] == 'dev'])


def test_a_layer_learns_bigrams_to_their_entropy(learned):
    """The entropy of what drew the lines, and how often its likeliest symbol comes. Both deviate by less than 0.01 in a
    dev set of 12,000 symbols; 0.03 leaves the rest to 300 steps.
    """
    last = learned.dev[-1]
    assert last['loss'] == pytest.approx(expected(entropy(START), entropy(NEXT)), abs=0.03)
    assert last['accuracy'] == pytest.approx(expected(START.max(), NEXT.max(axis=1)), abs=0.03)


def test_dev_has_a_perplexity_and_the_lowest_loss_is_kept(learned):
    assert [line['step'] for line in learned.dev] == [100, 200, 300]
    for line in learned.dev:
        assert line['perplexity'] == pytest.approx(math.exp(line['loss']), rel=1e-6)
    best = min(learned.dev, key=lambda line: line['loss'])
    assert learned.outcome.best_step == best['step']
    assert learned.outcome.best_loss == pytest.approx(best['loss'], rel=1e-6)


def test_evaluate_says_perplexity_with_its_unit_and_writes_the_reading_down(learned, capsys):
    evaluate.main([f'--workdir={learned.workdir}', '--split=test'])
    line = capsys.readouterr().out
    pairs = learned.trainer.data.corpus.test
    measured = learned.trainer.measure(learned.outcome.params, build.measuring_plan(
        learned.trainer.data, pairs, learned.trainer.plans))
    count = sum(len(pair.target) + 1 for pair in pairs)
    assert line == (
        f'test perplexity {math.exp(measured["loss"]):.2f} a symbol (unit: characters, and the end of each line), '
        f'loss {measured["loss"]:.4f}, accuracy {100 * measured["right"]:.1f} % of next symbols, n = {count:,}, '
        f'1 of them unknown, step {learned.outcome.best_step}\n')
    reading = json.loads((learned.workdir / 'evaluations.jsonl').read_text().splitlines()[-1])
    assert reading['split'] == 'test'
    assert reading['scores'] == pytest.approx({'accuracy': measured['right'], 'loss': measured['loss'],
                                               'perplexity': math.exp(measured['loss'])}, rel=1e-5)


def test_beams_are_refused_where_nothing_is_searched_for(learned, capsys):
    with pytest.raises(SystemExit) as caught:
        evaluate.main([f'--workdir={learned.workdir}', '--split=test', '--beams=2'])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert '--beams is 2, but run is a model without a source' in told
    assert told.count('\n') == 1


def test_there_is_nothing_to_translate(learned):
    with pytest.raises(UserError, match='there is nothing that it could translate'):
        evaluate.together([evaluate.Run.load(learned.workdir)])


def test_labels_have_an_accuracy_and_no_perplexity(tmp_path, capsys):
    config = arms.override(labelled_recall.get_config(), {
        **SMALL, 'data.train': 40, 'data.dev': 6, 'data.test': 7, 'batches.tokens': 256, 'training.steps': 2,
        'training.warmup': 1, 'training.evaluate_every': 2})
    train.Trainer(config).run(tmp_path / 'run', console=False)
    evaluate.main([f'--workdir={tmp_path / "run"}', '--split=test'])
    line = capsys.readouterr().out
    assert re.fullmatch(r'test accuracy \S+ % of labels \(95 % interval over labels .*, n = 28\), step 2\n', line)
    reading = json.loads((tmp_path / 'run' / 'evaluations.jsonl').read_text())
    assert set(reading['scores']) == {'accuracy', 'loss'}
    assert 'perplexity' not in (tmp_path / 'run' / 'metrics.jsonl').read_text()
