"""The command line that scores: its numbers are sacrebleu's of the outputs that it writes."""

import json
import re
import shutil

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER

from configs import language_model
from research import build, evaluate, translate
from research.study import arms
from research.text.alignments import Aligned
from research.text.corpus import Pair, read_pairs
from research.text.vocabulary import Vocabulary
from research.translator import Translator
from tests.test_translate import SMALL, a_run, ran, refused, settled
from tests.test_translator import GREEDY, LETTERS, Copier, lines

ALPHABET = Vocabulary.build([LETTERS], 'characters')

# ------------------------------------------------------------------------------------------------------ as functions


@pytest.mark.parametrize(('shift', 'expected'), [(0, (0.0, 0, 0.0)), (1, (1.0, 1, 0.0))])
def test_alignment_scores_compare_each_pair_with_its_own_gold(shift, expected):
    sources = [line for line in lines(40) if len(line) > 1]
    pairs = [Pair(line, line, (), tuple((at, at) for at in range(len(line)))) for line in sources]
    scores = evaluate.alignment_scores(Copier(len(ALPHABET), shift), {}, ALPHABET, ALPHABET, pairs)
    rate, best, shifted = expected
    assert scores['shift'] == best
    assert scores['error_rate'] == pytest.approx(rate, abs=1e-9)
    assert scores['error_rate_shifted'] == pytest.approx(shifted, abs=0.1)


def test_the_error_of_words_is_that_of_their_symbols_joined_by_hand():
    """A reader of its own place, of letters: whatever is cut, copied words have the links of a diagonal."""
    letters = Vocabulary.build([LETTERS + ' '], 'characters')
    aligned = [Aligned(Pair('abc de', 'abc de'), frozenset({(0, 0), (1, 1)}), frozenset({(0, 0), (1, 1)})),
               Aligned(Pair('ab c', 'abcd'), frozenset({(1, 0)}), frozenset({(1, 0), (0, 0)}))]
    assert evaluate.word_alignment_error(Copier(len(letters)), {}, letters, letters, aligned[:1]) == 0
    # Of 'ab c' all letters and the space are read for the only word: links (0, 0) and (1, 0), one of them sure.
    assert evaluate.word_alignment_error(Copier(len(letters)), {}, letters, letters, aligned[1:]) == pytest.approx(
        1 - (1 + 2) / (2 + 1))
    # The neighbour is read: the space of its own word, the first letter of the next, and at last the end.
    assert evaluate.word_alignment_error(Copier(len(letters), 1), {}, letters, letters, aligned[:1]) == pytest.approx(
        1 - (2 + 2) / (4 + 2))


def test_the_error_of_words_is_none_where_there_are_no_weights():
    class Silent(Copier):
        """Keeps its weights to itself."""

        def decode(self, memory, inputs, places, rng=None):
            return super().decode(memory, inputs, places, rng)._replace(weights=None)
    aligned = [Aligned(Pair('a', 'a'), frozenset({(0, 0)}), frozenset({(0, 0)}))]
    assert evaluate.word_alignment_error(Silent(len(ALPHABET)), {}, ALPHABET, ALPHABET, aligned) is None


def test_accuracy_by_length_counts_every_pair_once():
    translator = Translator(Copier(len(ALPHABET)), ALPHABET, ALPHABET, GREEDY)
    sources = [line for line in lines(50) if line]
    pairs = [Pair(line, line if number % 2 else 'x' + line, ('?',)) for number, line in enumerate(sources)]
    result = evaluate.evaluate(translator, {}, pairs, (1, 5, 11))
    assert sum(bucket['count'] for bucket in result.by_length) == len(pairs)
    assert result.scores['accuracy'] == pytest.approx(np.mean(np.arange(len(pairs)) % 2))
    assert result.metrics == []


def test_an_answer_with_other_spaces_between_its_words_is_right_and_characters_are_counted_as_such():
    words = Vocabulary.build(['a b c'], 'words')
    copier = Copier(len(words))
    pairs = [Pair('a b', ' a  b '), Pair('b c', 'b b')]
    result = evaluate.evaluate(Translator(copier, words, words, GREEDY), {}, pairs, (1, 5))
    assert result.right.tolist() == [True, False]
    assert result.scores['token_error_rate'] == pytest.approx(1 / 4)
    spaced = Vocabulary.build(['abcdefgh i'], 'characters')
    result = evaluate.evaluate(Translator(Copier(len(spaced)), spaced, spaced, GREEDY), {},
                               [Pair('abc defg', 'abc defh')], (1, 5))
    assert result.scores['token_error_rate'] == pytest.approx(1 / 8)


def test_the_score_line_says_how_many_outputs_were_cut():
    translator = Translator(Copier(len(ALPHABET)), ALPHABET, ALPHABET, GREEDY._replace(maximum_ratio=0.5))
    result = evaluate.evaluate(translator, {}, [Pair('abcdef', 'abcdef'), Pair('a', 'a')], (1, 5))
    line = evaluate.score_line('test', 7, translator, result)
    assert '1 of these outputs cut at their limit, step 7' in line  # `a` and its end fit
    whole = evaluate.evaluate(translator, {}, [Pair('a', 'a')], (1, 5))
    assert 'cut' not in evaluate.score_line('test', 7, translator, whole)


def test_translations_are_scored_as_text_and_by_the_words_of_their_source():
    """Two of four translations are right; another one is right by its second reference. By sacrebleu."""
    translator = Translator(Copier(len(ALPHABET)), ALPHABET, ALPHABET, GREEDY)
    pairs = [Pair('abc', 'abc'), Pair('de', 'ed', ('de',)), Pair('fgh', 'fgg'), Pair('j', 'j')]
    result = evaluate.evaluate(translator, {}, pairs, (1, 3), '13a', resamples=0)
    expected = BLEU().corpus_score([pair.source for pair in pairs],
                                   [[pair.target for pair in pairs], [None, 'de', None, None]])
    assert result.metrics[0].value == pytest.approx(expected.score)
    assert [(row['low'], row['high'], row['count']) for row in result.by_length if row['count']] == [(1, 2, 4)]
    assert result.right.tolist() == [True, True, False, True]


# ------------------------------------------------------------------------------------------------------ command line

@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Two runs with references much like the outputs of the first; the second has parameters that are a mean."""
    folder = tmp_path_factory.mktemp('runs')
    config = arms.override(settled(folder), {'evaluation.lengths': '4'})
    one = a_run(folder / 'one', config)
    for split in ('dev', 'test'):
        pairs = read_pairs(folder / f'{split}.tsv')
        done = ran(translate.main, [f'--workdir={one}'], ''.join(f'{pair.source}\n' for pair in pairs).encode())
        with open(folder / f'{split}.tsv', 'w') as file:
            for number, (pair, output) in enumerate(zip(pairs, done.lines, strict=True)):
                file.write(f'{pair.source}\t{output} {"Hund" if number % 3 or not output else ""}'.rstrip() + '\n')
    (one / 'data.json').write_text(json.dumps({'corpus': build.data(config).digest}))
    two = a_run(folder / 'two', arms.override(config, {'training.ema': 0.99, 'training.average': 3}), seed=1)
    (two / 'best').rename(two / 'averaged')
    return one, two


def evaluated(*arguments):
    return ran(evaluate.main, arguments)


def references(workdir, split):
    return read_pairs(workdir.parent / f'{split}.tsv')


def number(text, pattern):
    """The numbers that a pattern finds in a text."""
    found = re.search(pattern, text)
    assert found, (pattern, text)
    return [float(group) for group in found.groups()]


def test_the_scores_are_those_that_sacrebleu_gives_to_the_outputs_that_are_written(runs):
    done = evaluated(f'--workdir={runs[0]}', '--split=test')
    outputs = (runs[0] / 'test_outputs.txt').read_text().split('\n')[:-1]
    pairs = references(runs[0], 'test')
    assert len(outputs) == len(pairs) == 12
    right = [[pair.target for pair in pairs]]
    value, low, high = number(
        done.lines[0], r'^test BLEU ([\d.]+) \(95 % interval over sentences ([\d.]+) to ([\d.]+), n = 12\), '
                       r'beam 4, length penalty 0\.6 \(wu\), .*step 7, nrefs:1\|bs:1000\|seed:12345\|case:mixed')
    assert value == pytest.approx(BLEU().corpus_score(outputs, right).score, abs=0.005)
    assert 20 < value < 100
    assert low < value < high
    for metric, name in ((CHRF(), 'chrF2'), (TER(), 'TER')):
        line, = (line for line in done.lines if line.startswith(f'  {name} '))
        expected = metric.corpus_score(outputs, right).score
        assert number(line, rf'{name} ([\d.]+) ')[0] == pytest.approx(expected, abs=0.005)
        assert 'version:' in line
    buckets = [line for line in done.lines if line.startswith('  source words')]
    for line, low, high in zip(buckets, (1, 5), (4, 7), strict=True):
        inside = [index for index, pair in enumerate(pairs) if low <= len(pair.source.split()) <= high]
        assert number(line, r'words +(\d+)-(\d+) .*n = (\d+)$') == [low, high, len(inside)]
        expected = BLEU().corpus_score([outputs[k] for k in inside], [[pairs[k].target for k in inside]]).score
        assert number(line, r'BLEU +([\d.]+) ')[0] == pytest.approx(expected, abs=0.005)


def test_a_reading_is_written_down_with_all_that_decides_it(runs):
    before = (runs[0] / 'evaluations.jsonl').read_text() if (runs[0] / 'evaluations.jsonl').exists() else ''
    done = evaluated(f'--workdir={runs[0]}', '--split=test', '--beams=1')
    text = (runs[0] / 'evaluations.jsonl').read_text()
    assert text.startswith(before)
    reading, = map(json.loads, text[len(before):].splitlines())
    assert (reading['split'], reading['step'], reading['decoding'], reading['averaged']) == ('test', 7, 'greedy', '')
    assert reading['runs'] == [{'workdir': str(runs[0]), 'step': 7}]
    assert [metric['name'] for metric in reading['metrics']] == ['BLEU', 'chrF2', 'TER']
    assert f'BLEU {reading["metrics"][0]["value"]:.2f}' in done.lines[0]
    assert reading['metrics'][0]['signature'] in done.lines[0]
    assert 'greedy' in done.lines[0]
    assert reading['scores'].keys() == {'accuracy', 'token_error_rate'}
    assert sum(row['count'] for row in reading['by_length']) == 12
    outputs = (runs[0] / 'test_outputs.txt').read_text().split('\n')[:-1]
    assert reading['scores']['accuracy'] == np.mean([output == pair.target for output, pair in zip(
        outputs, references(runs[0], 'test'), strict=True)])


def test_an_ensemble_says_how_many_runs_and_what_was_averaged(runs):
    done = evaluated(f'--workdir={runs[0]},{runs[1]}', '--split=test', '--beams=1')
    assert 'greedy, ' in done.lines[0]
    assert ', ensemble of 2 runs, mean of the last 3 measurements, moving average 0.99, step 7+7, nrefs:1' in \
        done.lines[0]
    reading = json.loads((runs[0] / 'evaluations.jsonl').read_text().splitlines()[-1])
    assert [run['workdir'] for run in reading['runs']] == [str(run) for run in runs]
    assert reading['averaged'] == 'mean of the last 3 measurements, moving average 0.99'


def test_several_length_penalties_are_compared_on_dev_and_the_best_is_said(runs):
    """The outputs that are left are those of the best: sacrebleu gives them its BLEU."""
    done = evaluated(f'--workdir={runs[0]}', '--split=dev', '--length_penalty=0,0.6,3')
    lines = [line for line in done.lines if line.startswith('dev BLEU')]
    values = [number(line, r'BLEU ([\d.]+)')[0] for line in lines]
    assert [number(line, r'length penalty ([\d.]+) ')[0] for line in lines] == [0, 0.6, 3]
    assert len(set(values)) > 1
    assert done.lines[-1] == f'best: --length_penalty={("0", "0.6", "3")[int(np.argmax(values))]}'
    outputs = (runs[0] / 'dev_outputs.txt').read_text().split('\n')[:-1]
    expected = BLEU().corpus_score(outputs, [[pair.target for pair in references(runs[0], 'dev')]]).score
    assert expected == pytest.approx(max(values), abs=0.005)
    refused(evaluated(f'--workdir={runs[0]}', '--split=test', '--length_penalty=0,1'), '2 values', 'compared on dev')


@pytest.mark.parametrize(('arguments', 'names'), [
    (['--length_penalty=-1'], ['--length_penalty is -1']), (['--length_penalty=nan'], ['--length_penalty is nan']),
    (['--coverage_penalty=-2'], ['--coverage_penalty is -2']), (['--beams=0'], ['--beams is 0']),
    (['--beams=1', '--length_penalty=1'], ['--length_penalty is 1', 'greedy']),
    (['--patience=-1'], ['--patience is -1']), (['--beams=1', '--patience=1'], ['--patience is 1', 'greedy'])])
def test_options_that_mean_nothing_are_refused(runs, arguments, names):
    refused(evaluated(f'--workdir={runs[0]}', '--split=dev', *arguments), *names)


def test_what_holds_no_run_or_no_corpus_is_refused(runs, tmp_path):
    refused(evaluated('--workdir=', '--split=dev'), '--workdir must be a work directory')
    refused(evaluated(f'--workdir={tmp_path}', '--split=dev'), 'holds no run')
    shutil.copytree(runs[0], tmp_path / 'copy')
    for text, said in (('{"corpus": "0123"}', 'the corpus has changed'), ('{"corpus": null}', 'this run was imported'),
                       ('[]', 'is missing or damaged')):
        (tmp_path / 'copy' / 'data.json').write_text(text)
        refused(evaluated(f'--workdir={tmp_path / "copy"}', '--split=dev'), said)


def test_japanese_is_not_scored_by_spaces(tmp_path):
    config = settled(tmp_path, {'source': 'abc', 'target': 'あいう'})
    workdir = a_run(tmp_path / 'run', config)
    refused(evaluated(f'--workdir={workdir}', '--split=test'), "'13a' does not split", 'ja-mecab')
    assert not (workdir / 'evaluations.jsonl').exists()


def test_nothing_is_searched_for_in_a_model_without_a_source(tmp_path):
    for split in ('train', 'dev', 'test'):
        (tmp_path / f'{split}.txt').write_text('a b\nb a\n')
    small = {key: value for key, value in SMALL.items() if key in ('decoder.layers', 'decoder.features')}
    workdir = a_run(tmp_path / 'run', arms.override(language_model.get_config(), {
        **{f'data.{split}': str(tmp_path / f'{split}.txt') for split in ('train', 'dev', 'test')}, **small}))
    refused(evaluated(f'--workdir={workdir},{workdir}', '--split=dev'), 'an ensemble is of translators')
    refused(ran(translate.main, [f'--workdir={workdir}']), 'nothing that it could translate')
