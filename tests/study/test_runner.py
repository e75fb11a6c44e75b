"""The study machinery on the small profile: every part runs, nothing runs twice, nothing a user made is lost."""

import io
import json

import pytest
import rich.console

from experiments.forgetting import study as forgetting
from research import train
from research.errors import DivergedError, UserError
from research.study import runner

NAMES = ['none', 'additive']
TINY = {'encoder.features': 8, 'encoder.embedding_features': 8, 'decoder.features': 8, 'decoder.embedding_features': 8}


@pytest.fixture(scope='module')
def study():
    """The first study with a quarter of the sizes: what is tested here is the machinery."""
    profile = forgetting.STUDY.profiles['copy']['small']
    return forgetting.STUDY._replace(profiles={'copy': {'small': profile._replace(changes=profile.changes | TINY)}})


@pytest.fixture(scope='module')
def finished(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp('study')
    return folder, runner.run(study, 'copy', 'small', NAMES, None, folder, 'python -m experiments.run forgetting')


def lines(folder):
    return [json.loads(line) for line in (folder / 'results.jsonl').read_text().splitlines()]


def test_every_arm_runs_with_every_seed_and_is_recorded(finished):
    folder, _ = finished
    assert [(line['arm'], line['seed'], line['status']) for line in lines(folder)] == [
        (arm, seed, 'finished') for arm in NAMES for seed in (10, 11)]
    for line in lines(folder):
        assert line['steps'] == 12
        assert sum(row['count'] for row in line['by_length']) == 40
        assert len(line['examples']) == 8
        assert [example['rule'] for example in line['examples']] == [
            rule for rule in ('longest', 'shortest', 'median', 'worst') for _ in range(2)]
        assert (line['alignment'] is None) == (line['arm'] == 'none')
        assert (line['examples'][0]['weights'] is None) == (line['arm'] == 'none')
    assert lines(folder)[0]['changes'] == {'decoder.reader.energy_width': None, 'decoder.reader.name': 'none'}


def test_seeds_are_paired_and_different(finished):
    """Arms with the same seed see the same batches; the initial values they share come from the same key."""
    folder, _ = finished
    assert len({line['data'] for line in lines(folder)}) == 1
    losses = {(line['arm'], line['seed']): [point['train_loss'] for point in line['curve']] for line in lines(folder)}
    assert losses['additive', 10] != losses['additive', 11]


def test_card_and_page_are_written_with_every_expectation(finished):
    folder, info = finished
    card, page = (folder / 'card.md').read_text(), (folder / 'report.html').read_text()
    assert len(info.findings) == 3
    for finding in info.findings:
        assert finding.met is not None
        assert finding.text in card
    assert 'additive' in page


def test_started_again_it_trains_nothing(study, finished, monkeypatch):
    folder, _ = finished
    before = (folder / 'results.jsonl').read_bytes()
    monkeypatch.setattr(train.Trainer, 'run', lambda *_: pytest.fail('a finished run was trained again'))
    runner.run(study, 'copy', 'small', NAMES, None, folder, 'again')
    assert (folder / 'results.jsonl').read_bytes() == before


def test_another_config_in_the_same_directory_is_refused(study, finished):
    folder, _ = finished
    profile = study.profiles['copy']['small']
    other = study._replace(profiles={'copy': {'small': profile._replace(
        changes=profile.changes | {'training.learning_rate': 0.5})}})
    with pytest.raises(UserError, match=r"arm 'none' with seed 10 and another config"):
        runner.run(other, 'copy', 'small', NAMES, None, folder, 'again')


def test_a_run_that_diverges_is_recorded_as_failed_and_the_rest_goes_on(study, tmp_path, monkeypatch):
    original = train.Trainer.run

    def diverge(trainer, workdir, seed):
        if seed == 10:
            raise DivergedError('the loss became nan')
        return original(trainer, workdir, seed)
    monkeypatch.setattr(train.Trainer, 'run', diverge)
    info = runner.run(study, 'copy', 'small', ['none'], None, tmp_path, 'once')
    assert [(line['seed'], line['status'], line['error']) for line in lines(tmp_path)] == [
        (10, 'failed', 'the loss became nan'), (11, 'finished', None)]
    assert [finding.met for finding in info.findings] == [None, False, None]
    assert 'the loss became nan' in (tmp_path / 'report.html').read_text()


def a_run(arm, seed, accuracy, **more):
    """by_length in the buckets of the task: {(low, high): share}."""
    return {'arm': arm, 'seed': seed, 'status': 'finished', 'alignment': None,
            'by_length': [{'low': low, 'high': high, 'count': 1000, 'right': round(1000 * share)}
                          for (low, high), share in accuracy.items()], **more}


def words(short, long):
    return {(1, 4): short, (5, 7): 0.5, (8, 10): 0.4, (11, 20): long}


def test_expectations_on_pronunciation_are_read_off_by_the_rule():
    """The figures of the trial that the expectation was written after: 70 against 72 %, 13.5 against 31.7 %."""
    expectations = forgetting.EXPECTATIONS['pronunciation']
    trial = [a_run('none', 10, words(0.70, 0.135)), a_run('additive', 10, words(0.72, 0.317))]
    found = runner.findings(expectations, trial)
    assert [finding.met for finding in found] == [True, True]
    assert found[1].measured == 'none 13.5 %, additive 31.7 %, 2.35 times as much'
    found = runner.findings(expectations, [a_run('none', 10, words(0.60, 0.25)), trial[1]])
    assert [finding.met for finding in found] == [False, False]
    assert [finding.met for finding in runner.findings(expectations, [a_run('none', 10, words(1, 1))])] == [None, None]


def test_expectations_on_copy_are_read_off_by_the_rule():
    expectations = forgetting.EXPECTATIONS['copy']

    def runs(additive, none_long, rate, shift=0):
        scores = {'error_rate': rate, 'shift': shift, 'error_rate_shifted': 0.01}
        return [a_run('additive', 10, {(1, 5): 1.0, (6, 10): 1.0, (11, 15): 1.0, (16, 20): additive, (21, 25): 0.0},
                      alignment=scores),
                a_run('none', 10, {(1, 5): 0.9, (6, 10): 0.8, (11, 15): 0.5, (16, 20): none_long, (21, 25): 0.0})]
    assert [finding.met for finding in runner.findings(expectations, runs(0.9, 0.6, 0.04))] == [True, True, True]
    found = runner.findings(expectations, runs(0.7, 0.8, 0.9, shift=1))
    assert [finding.met for finding in found] == [False, False, False]
    assert 'seed 10 reads the neighbour at +1: 0.010 with that shift' in found[2].measured


def test_the_table_is_printed(study, finished):
    folder, _ = finished
    console = rich.console.Console(file=io.StringIO(), width=160)
    runner.finish(study, 'copy', 'small', folder, 'again', {}, console)
    text = console.file.getvalue()
    assert 'additive' in text
    assert 'report.html' in text
