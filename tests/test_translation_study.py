"""The runner of experiments/translation: each run once, the length penalty from dev, the cards from the lines."""

import json

import pytest

from configs import parallel
from experiments.translation import __main__ as study
from research.errors import UserError
from research.study import arms

WORDS = {'ein': 'a', 'zwei': 'two', 'Hund': 'dog', 'Katze': 'cat', 'läuft': 'runs'}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A corpus of one arm that trains in four steps."""
    for split, count in (('train', 30), ('dev', 6), ('test', 8)):
        lines = [[list(WORDS)[(n + place * n) % 5] for place in range(3 + n % 3)] for n in range(count)]
        (tmp_path / f'{split}.tsv').write_text(''.join(
            f'{" ".join(line)}\t{" ".join(WORDS[word] for word in line)}\n' for line in lines), encoding='utf-8')

    def get_config(words):
        sizes = {f'{side}.{key}': 8 for side in ('encoder', 'decoder') for key in ('features', 'embedding_features')}
        return arms.override(parallel.get_config(words), {
            **{f'data.{split}': str(tmp_path / f'{split}.tsv') for split in ('train', 'dev', 'test')}, **sizes,
            'decoder.reader.energy_width': 8, 'batches.buckets': 1, 'batches.tokens': 64, 'training.steps': 4,
            'training.evaluate_every': 2, 'training.checkpoint_every': 4, 'training.report_every': 2,
            'training.keep': 'bleu', 'training.average': 2, 'decoding.beams': 2, 'decoding.penalise_by': 'power',
            'evaluation.lengths': '4'})
    monkeypatch.setitem(study.CORPORA, 'multi30k', study.Corpus('Tiny', get_config, ('additive',), (1, 2)))
    return tmp_path


def test_each_run_is_made_once_and_its_line_says_what_decided_it(tiny, capsys):
    command = ['--corpus=multi30k', '--seeds=2', f'--workdir={tiny / "runs"}', f'--results={tiny}']
    study.main(command)
    line, = map(json.loads, (tiny / 'results.jsonl').read_text().splitlines())
    assert (line['arm'], line['seed'], line['steps']) == ('additive', 2, 4)
    assert [metric['name'] for metric in line['metrics']] == ['BLEU', 'chrF2', 'TER']
    assert all('version' in metric['signature'] for metric in line['metrics'])
    best = max(line['dev'], key=line['dev'].get)
    assert f'length penalty {best} (power)' in line['decoding']
    assert line['decoding'].startswith('beam 2')
    assert sum(row['count'] for row in line['by_length']) == 8
    assert 0 < line['seconds']['whole'] > line['seconds']['train'] >= 0  # rounded to tenths
    card = (tiny / 'README.md').read_text()
    assert '## Tiny' in card
    assert f'{line["metrics"][0]["value"]:.2f}' in card
    assert '(by_length.png)' in card
    assert (tiny / 'by_length.png').read_bytes().startswith(b'\x89PNG')
    study.main(command)  # nothing is left to run
    assert len((tiny / 'results.jsonl').read_text().splitlines()) == 1


def test_a_rehearsal_is_not_recorded_and_an_unknown_arm_is_refused(tiny):
    with pytest.raises(SystemExit):
        study.main(['--corpus=multi30k', '--arms=aditive', f'--results={tiny}'])
    with pytest.raises(SystemExit):
        study.main(['--corpus=many'])
    assert not (tiny / 'results.jsonl').exists()
    assert issubclass(UserError, Exception)


def test_the_card_has_mean_and_sd_and_marks_runs_that_shared_the_machine():
    def line(seed, bleu, share, machine='x86_64, 2 cores, cpu'):
        return {'corpus': 'multi30k', 'arm': 'none', 'seed': seed, 'parameters': 10, 'steps': 4, 'step': 2,
                'averaged': '', 'decoding': 'beam 5', 'dev': {'1': 20.0},
                'metrics': [{'name': 'BLEU', 'value': bleu, 'low': bleu - 1, 'high': bleu + 1, 'signature': 'tok:13a'}],
                'by_length': [{'low': 1, 'high': 5, 'count': 3, 'bleu': bleu}, {'low': 6, 'high': 9, 'count': 0,
                                                                               'bleu': None}],
                'seconds': {'train': 60.0, 'dev': 30.0, 'compile': 30.0}, 'share_of_cores': share,
                'machine': machine}
    text = study.markdown([line(2, 13.0, None), line(1, 11.0, 0.9)])
    assert '| none | 2 | 12.00 ± 1.41 | 10 | 2, 2 * |' in text
    assert '| none | 1 | 11.00 (10.00 to 12.00)' in text
    assert '| none | 2 | 12.00 ± 1.41 | 10 | 2 *, 2 |' in study.markdown(  # an accelerator leaves the cores idle
        [line(1, 11.0, 0.6), line(2, 13.0, 0.2, 'x86_64, 16 cores, gpu (NVIDIA H200)')])
    assert '| none | 2 * | 13.00' in text
    assert '| arm | 1-5 (n = 3) |\n' in text
    assert '| none | 12.0 |\n' in text
    assert 'by_length.png' not in study.markdown([])
