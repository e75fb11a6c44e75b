"""The command line that translates: every option changes what it should and nothing else.

The runs have random parameters: what they write means nothing, but what options do to it does.
"""

import contextlib
import functools
import io
import json
import math
import subprocess
import sys
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import jax
import numpy as np
import pytest
import sacrebleu

from configs import parallel
from research import build, evaluate, translate
from research.study import arms
from research.text.vocabulary import UNKNOWN_SIGN
from research.training.checkpoint import Checkpoints
from tests.conftest import REPOSITORY
from tests.interop.models import values

pytestmark = pytest.mark.usefixtures('each_run_is_loaded_once')

WORDS = {'source': 'abcdefgh', 'target': ['ein', 'zwei', 'der', 'die', 'das', 'Hund']}
SMALL = {f'{side}.{key}': value for side in ('encoder', 'decoder')
         for key, value in (('layers', 1), ('features', 8), ('hidden', 12), ('mixer.heads', 2))} | {
    'decoder.reader.heads': 2, 'decoder.softmax_bias': True, 'decoding.beams': 4, 'decoding.maximum_ratio': 1.0,
    'decoding.maximum_extra': 5}


def settled(folder, words=WORDS, kind='transformer', changes=SMALL):
    """A config of pairs of random words, which stand in files of this folder."""
    random = np.random.default_rng(0)
    for split, count in (('train', 40), ('dev', 12), ('test', 12)):
        lines = [[' '.join(random.choice(list(side), random.integers(1, 8))) for side in words.values()]
                 for _ in range(count)]
        (folder / f'{split}.tsv').write_text(''.join('\t'.join(line) + '\n' for line in lines), encoding='utf-8')
    return arms.override(parallel.get_config(kind), {
        **{f'data.{split}': str(folder / f'{split}.tsv') for split in ('train', 'dev', 'test')}, **changes})


def a_run(workdir, config, seed=4):
    """Writes the work directory of a run with random parameters: its outputs differ, and some of them end."""
    data = build.data(config)
    params = jax.tree.map(lambda leaf: 1.5 * leaf, values(build.abstract_params(
        build.model(config, len(data.source), len(data.target))), seed))
    if 'scores_bias' in params.get('decoder', {}):  # no probability worth speaking of for what is never written
        params['decoder']['scores_bias'] = np.float32([-30, -30, -2, -30] + [0] * (len(data.target) - 4))
    workdir.mkdir()
    for name, text in (('config.json', build.text(config)), ('data.json', json.dumps({'corpus': data.digest})),
                       ('source_vocabulary.json', data.source.to_json()),
                       ('target_vocabulary.json', data.target.to_json())):
        (workdir / name).write_text(text, encoding='utf-8')
    Checkpoints(workdir / 'best', identity=build.identity(config, data.source, data.target)).save(7, params)
    return workdir


class Done(NamedTuple):
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self):
        """Of standard output."""
        assert self.code == 0, self.err
        assert not self.out or self.out.endswith('\n')
        return self.out.split('\n')[:-1]


def ran(main, arguments, text=b''):
    """Runs a command line in this process; `text` is standard input, or a function that gets standard output, which is
    bytes, and gives lines.
    """
    out, err, code = io.BytesIO(), io.StringIO(), 0
    given = SimpleNamespace(buffer=text(out) if callable(text) else io.BytesIO(text), isatty=lambda: False)
    written = io.TextIOWrapper(out, encoding='ascii')
    with mock.patch.object(sys, 'stdin', given), contextlib.redirect_stdout(written), contextlib.redirect_stderr(err):
        try:
            main(list(map(str, arguments)))
        except SystemExit as caught:
            code = caught.code
        written.flush()
    return Done(code, out.getvalue().decode('utf-8'), err.getvalue())


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Two runs with one vocabulary, and one with another: Japanese."""
    folder = tmp_path_factory.mktemp('runs')
    config = settled(folder)
    one, two = a_run(folder / 'one', config), a_run(folder / 'two', config, seed=1)
    (folder / 'other').mkdir()
    return [one, two, a_run(folder / 'other' / 'run', settled(folder / 'other', {'source': 'abc', 'target': 'あいう'}))]


@pytest.fixture(scope='module')
def translated(runs):
    """translated(*arguments, text=..., workdir=...) -> how it ended; the same again is not computed again."""
    @functools.cache
    def run(*arguments, text=TEXT, workdir=None):
        return ran(translate.main, (f'--workdir={workdir or runs[0]}', *arguments), text)
    return run


LINES = ['a b c', 'h g e d c b a', '', 'd d', 'b', 'e a f a f']
TEXT = ''.join(f'{line}\n' for line in LINES).encode()
ALL = ('--n_best=4', '--json')


def records(done):
    """The JSON lines, one for each of LINES."""
    found = [json.loads(line) for line in done.lines]
    assert [one['source'] for one in found] == LINES
    return found


def scores(found):
    """The score of each output of each line, by its symbols."""
    return [{tuple(output['symbols']): output['score'] for output in one['outputs']} for one in found]


def refused(done, *names):
    assert done.code == 2, done
    assert done.out == ''
    assert done.err.count('\n') == 1, done.err
    for name in names:
        assert name in done.err, done.err


def test_translating_imports_nothing_slow_that_it_does_not_need():
    slow = {'grain', 'orbax', 'scipy.special', 'scipy.stats', 'matplotlib', 'tensorboardX', 'datasets', 'tensorstore'}
    code = f'import sys, research.translate; print(sorted({slow} & set(sys.modules)))'
    assert subprocess.run([sys.executable, '-c', code], cwd=REPOSITORY, capture_output=True, text=True).stdout == '[]\n'


def test_each_line_has_its_output_and_nothing_else_is_written(translated):
    done = translated()
    assert len(done.lines) == len(LINES)
    assert done.lines[2] == ''
    assert len(set(done.lines)) >= 5
    assert all(word in WORDS['target'] for line in done.lines for word in line.split())
    assert translated(text=b'').out == ''


def test_json_says_of_each_output_what_it_promises(translated):
    for line, one, text in zip(LINES, records(translated('--json')), translated().lines, strict=True):
        assert one.keys() == {'source', 'source_symbols', 'outputs'}
        assert one['source_symbols'] == [*line.split(), '</s>']
        output, = one['outputs']
        assert output.keys() == {'text', 'score', 'penalised', 'finished', 'symbols'}
        assert output['text'] == text
        assert output['symbols'] == [*text.split(), *['</s>'] * (output['finished'] and line != '')]


def test_n_best_adds_outputs_and_leaves_the_first(translated):
    for first, one in zip(records(translated('--json')), records(translated(*ALL)), strict=True):
        assert one['outputs'][:1] == first['outputs']
        assert len(one['outputs']) == (4 if one['source'] else 1)
        assert len({tuple(output['symbols']) for output in one['outputs']}) == len(one['outputs'])
        order = [(not output['finished'], -output['penalised']) for output in one['outputs']]
        assert order == sorted(order)
    assert [one['outputs'] for one in records(translated('--n_best=2', '--json'))] == [
        one['outputs'][:2] for one in records(translated(*ALL))]


def test_scores_of_given_translations_are_those_of_the_search(translated):
    """Also as JSON; an output that was cut has no end, which a given one has."""
    found = [(one['source'], output) for one in records(translated(*ALL)) for output in one['outputs']
             if output['finished']]
    text = ''.join(f'{source}\t{output["text"]}\n' for source, output in found).encode()
    done = translated('--score', text=text)
    np.testing.assert_allclose(list(map(float, done.lines)), [output['score'] for _, output in found], atol=1e-4)
    assert len(found) > 8
    for line, (source, output) in zip(translated('--score', '--json', text=text).lines, found, strict=True):
        one = json.loads(line)
        assert one['source'] == source
        assert one['outputs'][0]['symbols'] == output['symbols']
        assert one['outputs'][0]['score'] == pytest.approx(output['score'], abs=1e-4)


def test_one_beam_is_greedy_search(translated):
    """The other way to it: at the lowest temperature nothing but the most probable symbol is drawn."""
    greedy = translated('--beams=1')
    assert greedy.lines == translated('--sample=1', '--temperature=1e-6').lines
    assert greedy.lines == translated('--sample=1', '--top_k=1').lines
    assert greedy.lines != translated().lines


@pytest.mark.parametrize('alpha', [0.0, 2.0])
def test_the_length_penalty_changes_ranks_and_no_score(translated, alpha):
    """By the formula; the outputs that both found have the same score."""
    found, usual = records(translated(*ALL, f'--length_penalty={alpha}')), records(translated(*ALL))
    for one, other in zip(scores(found), scores(usual), strict=True):
        for symbols in one.keys() & other.keys():
            assert one[symbols] == pytest.approx(other[symbols], abs=1e-5)
    for output in (output for one in found for output in one['outputs']):
        divisor = ((5 + len(output['symbols'])) / 6) ** alpha
        assert output['penalised'] == pytest.approx(output['score'] / divisor, abs=1e-5)
    assert [one['outputs'][0]['text'] for one in found] != [one['outputs'][0]['text'] for one in usual]


def test_the_coverage_penalty_changes_ranks_and_no_score(translated, tmp_path):
    """By the formula: what no symbol has read counts against an output. The weights stand beside it."""
    beta, links, compared = 2.0, f'--alignments={tmp_path / "links"}', 0
    found, usual = records(translated(*ALL, f'--coverage_penalty={beta}', links)), records(translated(*ALL))
    for one, other in zip(scores(found), scores(usual), strict=True):
        for symbols in one.keys() & other.keys():
            assert one[symbols] == pytest.approx(other[symbols], abs=1e-5)
    for one in found:
        for output in one['outputs'] if one['source'] else ():
            read = np.clip(np.sum(output['weights'], axis=0), 1e-9, 1.0)
            if read.min() < 0.02:  # the weights are written with four digits
                continue
            compared += 1
            expected = output['score'] / ((5 + len(output['symbols'])) / 6) ** 0.6 + beta * np.log(read).sum()
            assert output['penalised'] == pytest.approx(expected, abs=2e-2)
    assert compared > 5
    assert [one['outputs'][0]['text'] for one in found] != [one['outputs'][0]['text'] for one in usual]


def test_prefixes_change_the_lines_that_have_one_and_no_other(translated, tmp_path):
    path = tmp_path / 'beginnings.txt'
    path.write_text('Hund die\n\n\n\nzwei\n\n', encoding='utf-8')
    found, usual = records(translated(*ALL, f'--prefixes={path}')), records(translated(*ALL))
    for number, prefix in enumerate(path.read_text().split('\n')[:-1]):
        for one in found[number]['outputs']:
            assert one['text'].startswith(prefix)
        for one, other in zip(*(scores(some)[number].items() for some in (found, usual)), strict=True):
            assert (one[0] == other[0] and one[1] == pytest.approx(other[1], abs=1e-5)) == (prefix == '')


@pytest.mark.parametrize(('prefixes', 'said'), [
    ('ein\n\n', ':3: there is no such line, but standard input has one'),
    ('\n' * 7, ':7: standard input has no such line'), ('\n\nein\n\n\n\n', 'line 3 is empty, and so is its output'),
    ('ein ' * 9 + '\n' * 6, 'line 1: a prefix of 9 symbols for an output of at most 9'),
    (None, 'there is no such file'), ('', 'the file is empty')])
def test_prefixes_that_do_not_fit_the_lines_are_refused(translated, tmp_path, prefixes, said):
    path = tmp_path / 'beginnings.txt'
    if prefixes is not None:
        path.write_text(prefixes)
    done = translated(f'--prefixes={path}')
    assert done.code == 2
    assert said in done.err.split('\n')[-2]
    assert done.out.count('\n') == (6 if 'no such line;' in done.err else 0)  # what is too much is seen last


def test_unknown_symbols_of_prefixes_and_of_scored_translations_are_told(translated, tmp_path):
    (tmp_path / 'beginnings.txt').write_text('der\nKatze\n')
    done = translated(f'--prefixes={tmp_path / "beginnings.txt"}', text=b'a b\nX\n')
    assert done.lines[0].startswith('der')
    assert done.lines[1].startswith(UNKNOWN_SIGN)
    assert "standard input: 1 unknown source symbols in 1 of 2 lines; the first is 'X' in line 2\n" in done.err
    assert "beginnings.txt: 1 unknown target symbols in 1 of 2 lines; the first is 'Katze' in line 2\n" in done.err
    assert 'standard input: 1 unknown target symbols in 1 of 1 lines' in translated('--score', text=b'a\tKatze\n').err


SAMPLED = ('--sample=3', '--json')


def test_the_seed_decides_what_is_drawn_and_other_lines_do_not_matter(translated):
    found = records(translated(*SAMPLED))
    assert found == records(translated('--sample=3', '--seed=0', '--temperature=1', '--top_p=1', '--json'))
    assert all(len(one['outputs']) == 3 for one in found)
    seeded = records(translated(*SAMPLED, '--seed=1'))
    assert all(scores([one]) != scores([other]) for one, other in zip(seeded, found, strict=True) if one['source'])
    changed = b'h\nh g e d c b a\nc c c\nd d\ne e\ne a f a f\n'
    others = [json.loads(line) for line in translated(*SAMPLED, text=changed).lines]
    for number, (one, other) in enumerate(zip(others, found, strict=True)):
        same = [output['symbols'] for output in one['outputs']] == [output['symbols'] for output in other['outputs']]
        assert same == (number in (1, 3, 5))


def test_more_samples_are_added_behind_the_others(translated):
    for one, other in zip(records(translated('--sample=1', '--json')), records(translated(*SAMPLED)), strict=True):
        assert one['outputs'][0]['symbols'] == other['outputs'][0]['symbols']


@pytest.mark.parametrize('option', ['--temperature=0.3', '--top_k=2', '--top_p=0.5'])
def test_what_makes_samples_more_probable_leaves_their_scores_the_models(translated, option):
    """The scores are those of forced decoding, whatever was left out; on average they are higher."""
    found = [(one['source'], output) for one in records(translated(*SAMPLED, option)) for output in one['outputs']
             if output['finished']]
    text = ''.join(f'{source}\t{output["text"]}\n' for source, output in found).encode()
    np.testing.assert_allclose(list(map(float, translated('--score', text=text).lines)),
                               [output['score'] for _, output in found], atol=1e-4)
    means = [np.mean([output['score'] / max(1, len(output['symbols'])) for one in records(done)
                      for output in one['outputs']]) for done in (translated(*SAMPLED, option), translated(*SAMPLED))]
    assert means[0] > means[1]


def test_minimum_bayes_risk_writes_the_sample_most_like_the_others(translated):
    """By sacrebleu's chrF of sentences, over the same samples."""
    chosen = translated('--minimum_bayes_risk=8', '--seed=3').lines
    for line, one in zip(chosen, records(translated('--sample=8', '--seed=3', '--json')), strict=True):
        texts = [output['text'] for output in one['outputs']]
        means = [sum(sacrebleu.sentence_chrf(text, [other]).score for other in texts) for text in texts]
        assert line in texts
        assert means[texts.index(line)] == pytest.approx(max(means))
    assert chosen != translated('--sample=1', '--seed=3').lines


def test_an_ensemble_of_a_run_and_itself_is_that_run(translated, runs):
    found, usual = records(translated(*ALL, workdir=f'{runs[0]},{runs[0]}')), records(translated(*ALL))
    for one, other in zip(scores(found), scores(usual), strict=True):
        assert one.keys() == other.keys()
        np.testing.assert_allclose(list(one.values()), list(other.values()), atol=1e-4)


def test_an_ensemble_says_of_a_symbol_the_mean_of_what_its_runs_say(translated, runs):
    """Of translations that are nothing but an end: by hand from those of the two runs."""
    text = b'a b c\t\nd d\t\nb\t\n'
    one, two, both = (np.array(translated('--score', text=text, workdir=workdir).lines, float)
                      for workdir in (runs[0], runs[1], f'{runs[0]},{runs[1]}'))
    np.testing.assert_allclose(both, np.log((np.exp(one) + np.exp(two)) / 2), atol=1e-4)
    assert np.abs(one - two).min() > 1e-2


def test_an_ensemble_has_room_for_what_all_of_its_runs_have_room_for(runs, tmp_path):
    found = []
    for longest in (30, 20):
        run = evaluate.Run.load(str(runs[0]))
        found.append(run._replace(config=arms.override(run.config, {
            f'{side}.{key}': value for side in ('encoder', 'decoder')
            for key, value in (('position', 'learned'), ('maximum_length', longest))})))
    for some, longest in ((found[:1], 30), (found, 20), ([evaluate.Run.load(str(runs[0])), *found], 20)):
        decoding = evaluate.searching(some)
        assert (decoding.longest_source, decoding.longest_target) == (longest, longest)


def test_lines_lose_their_spaces_where_the_corpus_lost_them(tmp_path):
    """A line is translated and scored the same with and without spaces, which are no unknown symbols."""
    workdir = a_run(tmp_path / 'run', settled(tmp_path, {'source': 'abc', 'target': WORDS['target']}, changes=SMALL | {
        'data.remove_spaces': 'source', 'data.source_unit': 'characters'}))
    for arguments, text in (((), b'abca\na b ca\n'), (('--score',), b'abca\tder\na b ca\tder\n')):
        done = ran(translate.main, (f'--workdir={workdir}', *arguments), text)
        assert done.lines[0] == done.lines[1]
        assert 'unknown' not in done.err


def test_links_are_the_most_read_source_symbols(translated, tmp_path):
    """By the weights beside them, which sum to 1 over the source symbols; the ends have no links."""
    path = tmp_path / 'links.txt'
    done = translated(*ALL, f'--alignments={path}')
    links = path.read_text().split('\n')
    assert links.pop() == ''
    found = records(done)
    assert scores(found) == scores(records(translated(*ALL)))
    for one, line in zip(found, links, strict=True):
        assert one['outputs'][0]['alignment'] == line
        for output in one['outputs'] if one['source'] else ():
            weights = np.array(output['weights']).reshape(len(output['symbols']), len(one['source_symbols']))
            np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-3)
            words, best = output['text'].split(), weights[:, :-1].argmax(axis=1)
            assert sorted(output['alignment'].split()) == sorted(f'{best[t]}-{t}' for t in range(len(words)))
    assert any(len(set(line.replace('-', ' ').split()[::2])) > 1 for line in links)


def test_the_scores_of_given_translations_have_links_too(translated, tmp_path):
    path, text = tmp_path / 'links.txt', b'a b c\tder die\n\t\nb\t\n'
    plain = translated('--score', text=text)
    assert translated('--score', f'--alignments={path}', text=text).lines == plain.lines
    assert plain.lines[1] == '0.000000'
    assert [len(line.split()) for line in path.read_text().split('\n')] == [2, 0, 0, 0]


# ------------------------------------------------------------------------------------------------------- as they come

@pytest.fixture
def two_at_once(monkeypatch):
    monkeypatch.setattr(translate, 'AT_ONCE', 2)


@pytest.mark.parametrize('arguments', [('--json',), SAMPLED, ('--prefixes',)])
def test_lines_that_come_in_batches_are_translated_as_in_one(runs, translated, two_at_once, tmp_path, arguments):
    if arguments == ('--prefixes',):
        (tmp_path / 'beginnings.txt').write_text('\n\n\ndie\n\nder\n')
        arguments = ('--json', f'--prefixes={tmp_path / "beginnings.txt"}')
    done = ran(translate.main, (f'--workdir={runs[0]}', *arguments), TEXT)
    with mock.patch.object(translate, 'AT_ONCE', 1024):
        usual = translated(*arguments)
    for one, other in zip(scores(records(done)), scores(records(usual)), strict=True):
        assert one.keys() == other.keys()
        np.testing.assert_allclose(list(one.values()), list(other.values()), atol=1e-5)


def test_outputs_are_written_before_the_next_lines_are_read(runs, two_at_once):
    """What had been written when each line was read: nothing, nothing, two lines, two lines, four lines."""
    seen = []

    def come(out):
        for line in TEXT.splitlines(keepends=True)[:5]:
            seen.append(out.getvalue().count(b'\n'))
            yield line
    done = ran(translate.main, (f'--workdir={runs[0]}', '--beams=1'), come)
    assert seen == [0, 0, 2, 2, 4]
    assert len(done.lines) == 5


@pytest.mark.parametrize(('arguments', 'text', 'said', 'written'), [
    ((), b'a\nb\nc\nd\n\xff\n', 'standard input:5: not UTF-8', 4),
    (('--score',), b'a\tder\nb\tdie\nc\td\nd\n', 'standard input:4: 1 columns; a line to score must be source, tab', 2),
    (('--score',), b'a\tder\nb\tdie\nc\td\n\tdie\n', 'line 4: the source is empty', 2)])
def test_a_bad_line_has_its_number_whatever_batch_it_stands_in(runs, two_at_once, arguments, text, said, written):
    done = ran(translate.main, (f'--workdir={runs[0]}', *arguments), text)
    assert done.code == 2
    assert said in done.err
    assert done.out.count('\n') == written


def test_remarks_have_the_numbers_of_their_lines_in_later_batches(runs, two_at_once):
    done = ran(translate.main, (f'--workdir={runs[0]}', '--score'), b'a\t\nb\t\nc\tY\nX\t\n')
    for side, symbol, number in (('source', 'X', 4), ('target', 'Y', 3)):
        assert (f'1 unknown {side} symbols in 1 of 2 lines; the first is {symbol!r} in line {number}\n') in done.err


# -------------------------------------------------------------------------------------------------------------- refused

@pytest.mark.parametrize(('arguments', 'names'), [
    (['--sample=2', '--minimum_bayes_risk=4', '--json'], ['--sample', '--minimum_bayes_risk']),
    (['--sample=2', '--json', '--beams=3'], ['--beams is for a search, and outputs are drawn']),
    (['--minimum_bayes_risk=4', '--length_penalty=1'], ['--length_penalty is for a search']),
    (['--sample=2', '--json', '--coverage_penalty=1'], ['--coverage_penalty is for a search']),
    (['--sample=2', '--json', '--patience=1'], ['--patience is for a search']),
    (['--sample=2', '--json', '--n_best=2'], ['--n_best is for a search']),
    (['--temperature=0.5'], ['--temperature is for drawn outputs']), (['--top_k=5'], ['--top_k is for drawn outputs']),
    (['--top_p=0.5'], ['--top_p is for drawn outputs']), (['--seed=5'], ['--seed is for drawn outputs']),
    (['--score', '--beams=3'], ['--score scores what is given']), (['--score', '--sample=1'], ['--score']),
    (['--score', '--prefixes='], ['--score']), (['--sample=3'], ['3 outputs', '--json']),
    (['--n_best=3'], ['3 outputs', '--json']), (['--n_best=5', '--json'], ['--n_best is 5', '4 beams', '--beams']),
    (['--n_best=2', '--beams=1', '--json'], ['--n_best is 2', '1 beams']),
    (['--beams=0'], ['--beams is 0; it must be at least 1']), (['--n_best=0'], ['--n_best is 0']),
    (['--sample=0'], ['--sample is 0']), (['--minimum_bayes_risk=1'], ['--minimum_bayes_risk is 1', 'at least 2']),
    (['--seed=-1', '--sample=1'], ['--seed is -1']), (['--seed=4294967296', '--sample=1'], ['--seed', 'below 2**32']),
    (['--length_penalty=-1'], ['--length_penalty is -1']), (['--length_penalty=nan'], ['--length_penalty is nan']),
    (['--length_penalty=inf'], ['length penalty is inf']), (['--coverage_penalty=-1'], ['--coverage_penalty is -1']),
    (['--beams=1', '--length_penalty=1'], ['--length_penalty is 1', 'greedy', '--beams']),
    (['--beams=1', '--coverage_penalty=1'], ['--coverage_penalty is 1', 'greedy']),
    (['--patience=-1'], ['--patience is -1']), (['--patience=nan'], ['--patience is nan']),
    (['--beams=1', '--patience=1'], ['--patience is 1', 'greedy']),
    (['--sample=1', '--temperature=0'], ['temperature is 0.0']), (['--sample=1', '--temperature=nan'], ['temperature']),
    (['--sample=1', '--top_p=0'], ['top_p is 0.0']), (['--sample=1', '--top_p=2'], ['top_p is 2.0']),
    (['--sample=1', '--top_k=0'], ['--top_k is 0']), (['--sample=1', '--top_k=99'], ['top_k is 99', '10 symbols']),
    (['--alignments=nowhere/links.txt'], ['--alignments=nowhere/links.txt', 'No such file']),
    (['--alignments='], ['--alignments=', 'No such file']), (['--attention_picture='], ['a picture file must end in'])])
def test_options_that_mean_nothing_are_refused_in_one_line(translated, arguments, names):
    refused(translated(*arguments), *names)


def test_work_directories_that_hold_no_run_or_do_not_fit_together_are_refused(translated, runs, tmp_path):
    refused(translated(workdir=tmp_path), str(tmp_path), 'holds no run')
    refused(translated(workdir=f'{runs[0]},{tmp_path}'), str(tmp_path), 'holds no run')
    refused(translated(workdir=f'{runs[0]},{runs[2]}'), str(runs[2]), 'different source vocabularies')
    for empty in (f'{runs[0]},', ','):
        refused(translated(workdir=empty), '--workdir must be a work directory, or several joined by commas')


def test_weights_that_a_model_does_not_have_are_not_asked_of_it(translated, runs, tmp_path):
    folder = tmp_path / 'fixed'
    folder.mkdir()
    changes = {f'{side}.{key}': 8 for side in ('encoder', 'decoder') for key in ('features', 'embedding_features')}
    workdir = a_run(folder / 'run', settled(folder, kind='fixed_context', changes=changes))
    for arguments in ((), ('--score',)):
        done = translated(*arguments, f'--alignments={tmp_path / "links"}', text=b'a\tder\n' if arguments else b'a\n',
                          workdir=workdir)
        refused(done, 'the model returns no weights')
    assert math.isfinite(float(translated('--score', text=b'a\tder\n', workdir=workdir).lines[0]))
