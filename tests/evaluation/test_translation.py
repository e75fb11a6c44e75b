"""BLEU, chrF and TER: the command line of sacrebleu, BLEU from its formula, and a bootstrap drawn anew."""

import collections
import importlib
import json
import logging
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from research.errors import UserError
from research.evaluation import translation
from research.evaluation.translation import (
    approximate_randomisation,
    bleu,
    bleu_by_length,
    check_tokenizer,
    paired_bootstrap,
    remarks,
    scores,
)

CHINESE = ['我昨天在公园里看见了一只狗。', '她每天早上都喝 2 杯茶。', '天气很好，我们去散步吧！', '这本书是谁写的？']
JAPANESE = ['昨日、公園で犬を見ました。', '彼女は毎朝お茶を飲みます。', 'この本は誰が書いたのですか。']
THAI = ['เมื่อวานฉันเห็นสุนัขในสวน', 'วันนี้อากาศดีมาก']
GERMAN = ['Gestern sah ich einen Hund im Park.', 'Wer hat dieses Buch geschrieben?']
LEARNED = 'flores101, flores200, spBLEU-1K'


def sentences(count, seed):
    """Made-up English: words that repeat, a comma here and there, a full stop."""
    rng = np.random.default_rng(seed)
    words = np.array(['the', 'a', 'dog', 'man', "man's", 'red', 'sees', 'well-known', 'runs', '3.5', 'in', 'park,'])
    return [' '.join(rng.choice(words, size=rng.integers(1, 12))).capitalize() + '.' for _ in range(count)]


def worse(lines, seed):
    """The lines as a bad translation: one symbol in six is missing, the second of them altogether."""
    rng = np.random.default_rng(seed)
    outputs = [''.join(letter for letter in line if rng.random() > 1 / 6).strip() for line in lines]
    return [outputs[0], '', *outputs[2:]]


def sacrebleu(folder, systems, streams, tokenizer, *options):
    """What the command line of sacrebleu prints of systems, by name, beside the streams of their references."""
    for name, lines in (*systems.items(), *((f'references{n}', lines) for n, lines in enumerate(streams))):
        (folder / name).write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
    references = [folder / f'references{n}' for n in range(len(streams))]
    environment = {key: value for key, value in os.environ.items() if key != 'SACREBLEU_SEED'}
    done = subprocess.run([sys.executable, '-m', 'sacrebleu', *references, '--input',
                           *(folder / name for name in systems), '--tokenize', tokenizer, *options],
                          capture_output=True, text=True, encoding='utf-8', env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def command_line(folder, outputs, streams, tokenizer):
    """What `sacrebleu --confidence` says of the same lines: its records by name."""
    printed = sacrebleu(folder, {'outputs': outputs}, streams, tokenizer, '--metrics', 'bleu', 'chrf', 'ter',
                        '--confidence', '--confidence-n', '100', '--width', '6')
    return {record['name']: record for record in json.loads(printed)}


def counts_of(output, answers):
    """Of words between spaces: how many, how many in the nearest answer, then hits and n-grams of the orders 1 to 4."""
    words, answers = output.split(), [line.split() for line in answers]
    nearest = min((abs(len(answer) - len(words)), len(answer)) for answer in answers)[1]
    hits, totals = [], []
    for order in range(1, 5):
        grams, *known = (collections.Counter(zip(*(line[k:] for k in range(order)))) for line in (words, *answers))
        hits.append(sum(min(count, max(each[gram] for each in known)) for gram, count in grams.items()))
        totals.append(grams.total())
    return np.array([len(words), nearest, *hits, *totals], float)


def bleu_of(counts):
    """BLEU from its formula: an order without a hit has half of one, the next such order a quarter."""
    c, r, hits, totals = *counts[:2], counts[2:6], counts[6:]
    precisions = np.where(hits > 0, hits, 0.5 ** np.cumsum(hits == 0)) / totals
    return 100 * min(1.0, math.exp(1 - r / c)) * math.exp(np.log(precisions).mean())


def reference_bleu(outputs, references):
    """BLEU of a corpus, whose words stand between spaces."""
    return bleu_of(sum(counts_of(output, answers) for output, answers in zip(outputs, references)))


@pytest.mark.parametrize(('tokenizer', 'streams'), [
    ('13a', [sentences(40, 1), sentences(40, 2)]), ('zh', [CHINESE * 4]), ('char', [sentences(40, 3)]),
    ('ja-mecab', [JAPANESE * 4])])
def test_values_signatures_and_widths_of_intervals_are_those_of_the_command_line(tmp_path, monkeypatch, tokenizer,
                                                                                 streams):
    if tokenizer == 'ja-mecab':
        pytest.importorskip('MeCab')
    monkeypatch.setenv('SACREBLEU_SEED', '7')  # the command line below has none: neither may we
    outputs, references = worse(streams[0], 4), list(zip(*streams))
    theirs = command_line(tmp_path, outputs, streams, tokenizer)
    ours = {score.name: score for score in scores(outputs, references, tokenizer, resamples=100)}
    left_out = {'TER'} if tokenizer in ('zh', 'ja-mecab') else set()  # its words would be sentences
    assert set(ours) == set(theirs) - left_out
    for name, score in ours.items():
        assert score.value == pytest.approx(theirs[name]['score'], abs=1e-6)
        assert (score.high - score.low) / 2 == pytest.approx(theirs[name]['confidence_var'], abs=1e-5)
        assert score.signature == theirs[name]['signature']
    assert bleu(outputs, references, tokenizer) == ours['BLEU'].value


def test_outputs_may_have_different_numbers_of_references():
    lines = sentences(30, 5)
    outputs = [' '.join(line.split()[:-2]) for line in lines]
    references = [(line, *others) for line, others in zip(lines, [(), (lines[3],), (lines[4], lines[5])] * 10)]
    assert bleu(outputs, references, 'none') == pytest.approx(reference_bleu(outputs, references), rel=1e-12)
    found = scores(outputs, references, 'none', resamples=0)
    assert [(score.name, score.low, score.high) for score in found] == [(name, None, None) for name in (
        'BLEU', 'chrF2', 'TER')]
    assert all(score.signature.startswith('nrefs:var|') and 'seed' not in score.signature for score in found)


def test_outputs_without_text_are_scored_like_others():
    assert bleu(['', ''], [('a b',), ('c',)], '13a') == 0.0
    assert [score.value for score in scores([''], [('a b',)], '13a', resamples=40)] == [0.0, 0.0, 100.0]


def test_an_n_gram_order_without_a_match_counts_half_of_one_then_a_quarter():
    outputs, references = ['a b x d', 'p q r s t'], [('a b c d',), ('p q z',)]
    assert bleu(outputs, references, 'none') == pytest.approx(reference_bleu(outputs, references), rel=1e-12)
    assert 0 < bleu(outputs, references, 'none') < 100


def test_intervals_are_those_of_sentences_drawn_anew():
    lines = sentences(60, 6)
    outputs, references = worse(lines, 7), [(line,) for line in lines]
    score = scores(outputs, references, 'none', resamples=400)[0]
    rng = np.random.default_rng(8)
    counts = np.array([counts_of(output, answers) for output, answers in zip(outputs, references)])
    drawn = [bleu_of(counts[rng.integers(60, size=60)].sum(axis=0)) for _ in range(400)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert score.low == pytest.approx(low, abs=0.2 * (high - low))
    assert score.high == pytest.approx(high, abs=0.2 * (high - low))
    assert score.low < score.value < score.high


@pytest.mark.parametrize(('test', 'option', 'draws'), [
    (paired_bootstrap, '--paired-bs', 'bs:1000'), (approximate_randomisation, '--paired-ar', 'ar:10000')])
def test_two_systems_are_compared_as_the_command_line_does(tmp_path, monkeypatch, test, option, draws):
    monkeypatch.setenv('SACREBLEU_SEED', '7')  # the command line below has none: neither may we
    streams = [sentences(40, 1), sentences(40, 2)]
    a = [f'{line[:-6]}.' if n % 2 else line for n, line in enumerate(worse(streams[0], 4))]
    b = worse(streams[0], 5)
    found = test(a, b, list(zip(*streams)), '13a')
    first, second = json.loads(sacrebleu(tmp_path, {'a': a, 'b': b}, streams, '13a', option, '--format', 'json'))
    assert (found.a, found.b, found.p) == (first['BLEU']['score'], second['BLEU']['score'], second['BLEU']['p_value'])
    assert found.difference == found.a - found.b
    assert 0.001 < found.p < 0.5
    assert f'|{draws}|seed:12345|' in found.signature
    assert found.signature in sacrebleu(tmp_path, {'a': a, 'b': b}, streams, '13a', option, '--format', 'text')
    turned = test(b, a, list(zip(*streams)), '13a')
    assert (turned.a, turned.b, turned.difference) == (found.b, found.a, -found.difference)
    assert turned.p == pytest.approx(found.p, rel=0.1)
    assert os.environ['SACREBLEU_SEED'] == '7'


@pytest.mark.parametrize('test', [paired_bootstrap, approximate_randomisation])
def test_systems_that_hardly_differ_have_no_small_p(test):
    lines = sentences(30, 5)
    references = [(line,) for line in lines]
    same = test(lines, lines, references, '13a')
    assert (same.a, same.b, same.difference, same.p) == (pytest.approx(100), same.a, 0, 1)
    for differing in (1, 2, 5):  # exchanging them or not has 2^k outcomes, and two at least are as far apart
        other = [f'Nothing of {line[::-1]}' if n < differing else line for n, line in enumerate(lines)]
        assert test(lines, other, references, '13a').p >= 2 ** (1 - differing)
    other = [f'Nothing of {line[::-1]}' for line in lines]
    assert test(lines, other, references, '13a').p < 0.002


@pytest.mark.parametrize('test', [paired_bootstrap, approximate_randomisation])
def test_what_cannot_be_compared_is_refused(test):
    with pytest.raises(ValueError, match='1 outputs, but 2 references'):
        test(['a', 'b'], ['a'], [('a',), ('b',)], '13a')
    with pytest.raises(ValueError, match='1 outputs, but 2 references'):
        test(['a'], ['a', 'b'], [('a',), ('b',)], '13a')
    with pytest.raises(UserError, match='no output to score'):
        test([], [], [], '13a')
    with pytest.raises(UserError, match="Unknown tokenizer '13'"):
        test(['a'], ['a'], [('a',)], '13')
    with pytest.raises(UserError, match=r'is 0; it must be at least 1'):
        test(['a'], ['a'], [('a',)], '13a', 0)


def test_bleu_by_length_is_the_bleu_of_the_sentences_in_each_bucket():
    lines = sentences(60, 9)
    outputs, references, sizes = worse(lines, 10), [(line,) for line in lines], [len(line.split()) for line in lines]
    rows = bleu_by_length(outputs, references, sizes, (1, 6, 12, 20), 'none', resamples=40)
    assert [(row['low'], row['high']) for row in rows] == [(1, 5), (6, 11), (12, 19)]
    assert rows[2] == {'low': 12, 'high': 19, 'count': 0, 'bleu': None, 'low95': None, 'high95': None}
    for row in rows[:2]:
        chosen = [n for n, size in enumerate(sizes) if row['low'] <= size <= row['high']]
        assert row['count'] == len(chosen) > 10
        inside = [outputs[n] for n in chosen], [references[n] for n in chosen]
        assert row['bleu'] == pytest.approx(reference_bleu(*inside), rel=1e-12)
        assert row['low95'] < row['bleu'] < row['high95']
        alone = scores(*inside, 'none', resamples=40)[0]
        assert (row['low95'], row['high95']) == (alone.low, alone.high)
    with pytest.raises(UserError, match='lie outside of the buckets'):
        bleu_by_length(outputs, references, sizes, (1, 6), 'none')
    with pytest.raises(ValueError, match='One value a length'):
        bleu_by_length(outputs, references, sizes[1:], (1, 20), 'none')


@pytest.mark.parametrize(('language', 'texts', 'right'), [
    ('zh', CHINESE, f'zh, char, {LEARNED}'), ('zh-CN', [], f'zh, char, {LEARNED}'), ('', CHINESE,
    f'zh, char, {LEARNED}'), ('jpn', JAPANESE, f'ja-mecab, char, {LEARNED}'), ('', JAPANESE,
    f'ja-mecab, char, {LEARNED}'), ('', ['カタカナ'], f'ja-mecab, char, {LEARNED}'),
    ('', ['東京都知事選挙の投票日'], f'ja-mecab, char, {LEARNED}'), ('', THAI, f'char, {LEARNED}'),
    ('tha_Thai', GERMAN, f'char, {LEARNED}')])
def test_a_language_written_without_spaces_needs_a_tokenizer_that_splits_it(language, texts, right):
    for tokenizer in right.split(', '):
        check_tokenizer(tokenizer, language, texts)
    for tokenizer in set(translation.TOKENIZERS) - set(right.split(', ')):
        with pytest.raises(UserError) as caught:
            check_tokenizer(tokenizer, language, texts)
        assert str(caught.value).endswith(f'must be one of {right}')
        assert repr(tokenizer) in str(caught.value)


def test_a_language_written_with_spaces_may_have_any_tokenizer():
    for language, texts in (('de', GERMAN), ('', [*GERMAN, '北京']), ('', []), ('ko', []), ('', ['12 %'])):
        for tokenizer in ('13a', 'intl', 'none', 'char', 'zh'):
            check_tokenizer(tokenizer, language, texts)


def test_ter_is_left_out_where_its_words_would_be_sentences():
    for lines, names in ((THAI, ['BLEU', 'chrF2']), (GERMAN, ['BLEU', 'chrF2', 'TER'])):
        found = scores(lines, [(line,) for line in lines], 'char', resamples=0)
        assert [score.name for score in found] == names


def test_an_unknown_tokenizer_is_refused_with_the_known_ones():
    for call in (lambda: bleu(['a'], [('a',)], '13'), lambda: check_tokenizer('13', 'de', [])):
        with pytest.raises(UserError, match=r"Unknown tokenizer '13'. Did you mean '13a'\? Known: none, zh, 13a, intl"):
            call()
    assert 'spm' not in translation.TOKENIZERS


@pytest.mark.parametrize(('tokenizer', 'advice'), [
    ('ja-mecab', "pip install 'seq2lab[ja]' (Japanese"), ('ko-mecab', "pip install 'seq2lab[ko]' (Korean"),
    ('flores200', 'its model must be in ~/.sacrebleu/models')])
def test_what_a_tokenizer_needs_is_said(monkeypatch, tmp_path, tokenizer, advice):
    def unreachable(url, path):
        raise OSError('no way\nto the network')
    module = importlib.import_module('sacrebleu.tokenizers.tokenizer_' + {'flores200': 'spm'}.get(
        tokenizer, tokenizer.replace('-', '_')))
    for name, value in (('MeCab', None), ('download_file', unreachable), ('SACREBLEU_DIR', str(tmp_path))):
        monkeypatch.setattr(module, name, value, raising=False)
    with pytest.raises(UserError) as caught:
        bleu(['a'], [('a',)], tokenizer)
    message = str(caught.value)
    assert message.startswith(f'tokenizer {tokenizer!r} cannot be used here: {advice}')
    assert '\n' not in message


def test_tokenised_text_is_remarked_on_and_nothing_is_logged(caplog):
    plain = ['A dog, a man.', 'He runs.', 'No stop here', 'At 3 , 5 or 7, he said.']
    tokenised = ['A dog , a man .', 'He runs .', 'No stop here', 'At 3 , 5 or 7 , he said .']
    assert remarks(plain, [(line,) for line in plain]) == []
    assert remarks([], []) == remarks(['no', 'stops'], [('at', 'all')] * 2) == []
    found = remarks(tokenised, [(line,) for line in plain])
    assert len(found) == 1
    assert found[0].startswith('the outputs look tokenised (3 of 3 ')
    assert remarks(plain, [(line, line) for line in tokenised])[0].startswith('the references look tokenised (6 of 6 ')
    with caplog.at_level(logging.INFO):
        scores(tokenised * 50, [(line,) for line in tokenised] * 50, '13a', resamples=0)
    assert not caplog.records


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match='2 outputs, but 1 references'):
        bleu(['a', 'b'], [('a',)], '13a')
    with pytest.raises(ValueError, match='reference 0 is the string'):
        bleu(['a'], ['a'], '13a')
    with pytest.raises(UserError, match=r'Output 1 .* no reference'):
        bleu(['a', 'b'], [('a',), ()], '13a')
    with pytest.raises(UserError, match='no output to score'):
        scores([], [], '13a')
    for resamples in (-1, 1, 39):
        with pytest.raises(UserError, match=f'resamples is {resamples}; it must be at least 40, or 0'):
            scores(['a'], [('a',)], '13a', resamples)
