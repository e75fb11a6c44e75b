"""What a training run compiles, reports, and does when it is asked to stop."""

import copy
import gzip
import json
import os
import re
import signal
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu

from configs import parallel
from research import build, compiling, train
from research.errors import DivergedError, UserError
from research.evaluate import Run
from research.shapes import Batch, Places
from research.study import arms
from research.text import vectors
from research.training import device, loop, optimisers
from research.training.workdir import flat
from tests.training.test_resume import config

COMPILES = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: COMPILES.append(name) if 'backend_compile' in name else None)


class Told:
    """Stands in for the report: keeps what it is told."""

    def __init__(self):
        self.lines = []

    def training(self, step, metrics):
        self.lines.append((step, metrics))


def metrics(loss=1.0, tokens=10.0):
    return {'loss': np.float32(loss), 'tokens': np.float32(tokens), 'gradient_norm': np.float32(0.5)}


@pytest.fixture(scope='module')
def copying(tmp_path_factory):
    """A finished run, what it said, and how many programs there were before its first step and at its end."""
    folder, said, compiled, original = tmp_path_factory.mktemp('copying') / 'run', [], [], loop.train
    device.peak('float32')  # is measured once a process
    COMPILES.clear()
    trainer = train.Trainer(config('additive'))

    def count_and_train(*arguments):
        compiled.append(len(COMPILES))
        return original(*arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, 'train', count_and_train)
        patch.setattr(train.Report, 'message', lambda self, text: said.append(text))
        outcome = trainer.run(folder)
    return SimpleNamespace(trainer=trainer, folder=folder, outcome=outcome, said='\n'.join(said),
                           compiled=[*compiled, len(COMPILES)])


def test_as_many_programs_are_compiled_as_are_announced_and_none_after_the_first_step(copying, tmp_path):
    trainer = copying.trainer
    announced = sum(trainer.program_count().values())
    assert f'{announced} programs to compile: 1 to start, 2 to train, 2 to measure, 1 to decode' in copying.said
    assert copying.compiled == [announced, announced]
    assert announced == trainer.programs_compiled()
    COMPILES.clear()
    trainer.run(tmp_path / 'another', seed=5, rate=1e-4, console=False)
    assert json.loads((tmp_path / 'another' / 'config.json').read_text())['training']['learning_rate'] == 1e-4
    assert not COMPILES


def test_a_finished_run_compiles_nothing_and_says_so(copying, capsys):
    COMPILES.clear()
    again = train.Trainer(config('additive')).run(copying.folder)
    assert not COMPILES
    assert 'all 24 steps are done' in capsys.readouterr().err
    assert again.best_step == copying.outcome.best_step
    assert equal(again.params, copying.outcome.params)


def test_every_step_is_in_one_report_also_before_a_checkpoint_and_at_the_end(copying, tmp_path):
    with_numbers(copying.trainer, training__report_every=5, training__checkpoint_every=7, training__evaluate_every=12,
                 training__steps=12).run(tmp_path / 'run')
    lines = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines if line['kind'] == 'train'] == [5, 7, 10, 12]
    for line in lines:
        if line['kind'] == 'train':
            assert line['flops_per_second'] == pytest.approx(
                line['share_of_matrix_product_rate'] * device.peak('float32').rate)
            assert 0 < line['padding'] < 1
            assert 0 < line['waiting'] < 1


def test_reports_are_sums_over_their_window_without_the_time_of_other_things(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(train.time, 'perf_counter', lambda: now[0])
    told = Told()
    feed = feed_of(3)
    reporting = train.Reporting(told, 2, feed, device.Peak(1000.0, True, ''))
    for step, one in enumerate((metrics(1, 10), metrics(4, 20), metrics(2, 30)), 1):
        next(feed)
        now[0] += 1
        reporting(step, None, one)
    (step, line), = told.lines  # one step late
    assert step == 2
    assert line['loss'] == pytest.approx(3.0)  # (1 x 10 + 4 x 20) / 30
    assert (line['tokens'], line['seconds'], line['tokens_per_second']) == (30, 3, 10)
    # Two batches of 2 x (3 + 5) positions of which 4 + 6 hold a symbol, the first of which takes 600 FLOPs.
    assert line['flops_per_second'] == (600 + 600) / 3
    assert line['mfu'] == pytest.approx(0.4)
    assert line['padding'] == 1 - 20 / 32
    assert line['waiting'] == 0
    now[0] += 7
    reporting.leave_out(5)
    reporting.close(3)
    reporting.flush()
    assert told.lines[1][0] == 3
    assert told.lines[1][1]['seconds'] == 2
    reporting.close(3)
    reporting.flush()
    assert len(told.lines) == 2  # nothing is reported twice


def feed_of(count, slow=lambda: None):
    """Batches of 2 x (3 + 5) positions, 4 + 6 of them symbols; each is there after `slow` was called."""
    def batches():
        for _ in range(count):
            slow()
            source, target = (np.repeat([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]], 1, axis=0)[:, :length] for length in (3, 5))
            source[1, 2] = 0
            yield Batch(source, Places(source, source), target, target, Places(target, target))
    return train.Feed(batches(), lambda shape: {(2, 3, 5): 600.0}[shape])


def test_a_feed_hands_on_what_it_gets_and_waits_are_part_of_the_time_they_fell_in(monkeypatch):
    """The wait before step 3 falls into the window of steps 1 and 2, whose time ends when step 3 is under way."""
    now, told = [100.0], Told()

    def slow():
        now[0] += 2
    monkeypatch.setattr(train.time, 'perf_counter', lambda: now[0])
    feed = feed_of(4, slow)
    reporting = train.Reporting(told, 2, feed, device.Peak(1000.0, False, ''))
    for step, batch in enumerate(feed, 1):
        assert batch.source.shape == (2, 3)
        now[0] += 1
        reporting(step, None, metrics())
    reporting.flush()
    first, second = (line for _, line in told.lines)
    assert (first['seconds'], second['seconds']) == (9, 3)
    assert (first['waiting'], second['waiting']) == (6 / 9, 2 / 3)
    assert first['share_of_matrix_product_rate'] == pytest.approx(1200 / 9 / 1000)
    assert 'mfu' not in first
    assert feed.totals == train.Totals(2400.0, 64, 40, 8.0)


def test_a_loss_that_is_not_finite_ends_the_run_and_says_between_which_steps():
    reporting = train.Reporting(Told(), 2, feed_of(0), device.Peak(1000.0, True, ''))
    for step, loss in enumerate((1.0, np.nan), 1):
        reporting(step, None, metrics(loss))
    with pytest.raises(DivergedError, match=r'the loss became nan between steps 1 and 2: lower training\.'):
        reporting.flush()


@pytest.fixture
def interrupts():
    """SIGINT raises KeyboardInterrupt, also where the tests run in the background: there a shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('interrupts')
def test_the_first_signal_waits_for_the_step_and_the_second_acts_at_once():
    with train.Signals() as signals:
        signals.stop('before anything')
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(train.Stopped) as caught:
            signals.stop('at step 3')
        assert caught.value.code == train.STOPPED
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_while_compiling_stops_before_the_next_program(tmp_path, monkeypatch):
    """It comes while the first is made ready, and is seen when that one is compiled."""
    monkeypatch.setattr(compiling, 'cores', lambda: 1)
    original = compiling.compiled

    def interrupted(lowering, progress):
        first, *_ = lowering

        def lower():
            os.kill(os.getpid(), signal.SIGTERM)
            return lowering[first]()
        return original(lowering | {first: lower}, progress)
    monkeypatch.setattr(compiling, 'compiled', interrupted)
    trainer = train.Trainer(config('additive'))
    COMPILES.clear()
    with pytest.raises(train.Stopped):
        trainer.run(tmp_path / 'run', console=False)
    assert 1 <= len(COMPILES) < sum(trainer.program_count().values())


def test_an_accelerator_has_its_name_and_code_needs_no_installation(monkeypatch):
    """An H200 said that it was a gpu; a copy of the repository on it ended with a traceback."""
    def nothing(name, original=train.version):
        if name == 'seq2lab':
            raise train.PackageNotFoundError(name)
        return original(name)
    monkeypatch.setattr(train, 'version', nothing)
    here = train.environment()
    assert here['machine'].endswith(', cpu')
    assert here['versions']['seq2lab'].startswith('not installed')
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    monkeypatch.setattr(jax, 'devices', lambda: [SimpleNamespace(device_kind='NVIDIA H200')])
    assert train.environment()['machine'].endswith(' cores, gpu (NVIDIA H200)')


def test_a_sequence_without_a_learned_position_is_refused_before_anything_compiles_or_is_written(tmp_path):
    COMPILES.clear()
    short = arms.override(config('transformer'), {'encoder.position': 'learned', 'encoder.maximum_length': 6})
    with pytest.raises(UserError, match='a sequence of 7 positions, but maximum_length is 6'):
        train.Trainer(short).run(tmp_path / 'run')
    assert not COMPILES
    assert not (tmp_path / 'run').exists()


# --------------------------------------------------------------------------------------------------------- translations

WORDS = ('ein', 'Hund', 'läuft', 'und', 'die', 'Katze', 'schläft'), ('a', 'dog', 'runs', 'and', 'the', 'cat', 'sleeps')
SIZES = {'features': 8, 'embedding_features': 8, 'hidden': 8, 'layers': 1, 'reader.energy_width': 8, 'reader.heads': 2,
         'mixer.heads': 2}
SHORT = {'batches.tokens': 160, 'batches.buckets': 1, 'training.steps': 12, 'training.warmup': 2,
         'training.learning_rate': 0.01, 'training.report_every': 2, 'training.evaluate_every': 2,
         'training.checkpoint_every': 12, 'training.dev_sample': 5, 'decoding.maximum_extra': 2,
         'batches.maximum_source': 5, 'data.skip': 'empty'}


def settled(words, files, **changes):
    """A tiny config of pairs to translate; `changes` have double underscores for dots."""
    chosen = parallel.get_config(words)
    there = flat(chosen)
    sizes = {f'{side}.{key}': value for side in ('encoder', 'decoder') for key, value in SIZES.items()}
    return arms.override(chosen, {key: value for key, value in sizes.items() if key in there} | SHORT | files | {
        key.replace('__', '.'): value for key, value in changes.items()})


def write(path, lines):
    path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Word for word, 2 to 4 words: 40, 6 and 6 pairs; of train one more without a target, and one that is too long."""
    folder, random, found = tmp_path_factory.mktemp('pairs'), np.random.default_rng(0), {}
    for split, count in (('train', 40), ('dev', 6), ('test', 6)):
        drawn = [random.integers(7, size=random.integers(2, 5)) for _ in range(count)]
        pairs = [tuple(' '.join(words[index] for index in line) for words in WORDS) for line in drawn]
        pairs += [('ein', ''), ('ein ' * 9 + 'Hund', 'a')] if split == 'train' else []
        for side, lines in zip(('de', 'en'), zip(*pairs, strict=True), strict=True):
            write(folder / f'{split}.{side}', lines)
        found[f'data.{split}'] = f'{folder}/{split}.de,{folder}/{split}.en'
    return found


@pytest.fixture(scope='module')
def translating(files):
    """A recurrent trainer; its programs serve every config that differs in nothing compiled."""
    return train.Trainer(settled('additive', files))


def with_numbers(trainer, **changes):
    """The same programs in a run of another config: of its loop, or of what a run begins with."""
    other = copy.copy(trainer)
    trainer.compile(lambda text: None)
    other.__dict__ |= {'_start': trainer._start, '_update': trainer._update, '_measure': trainer._measure}
    other.config = arms.override(trainer.config, {key.replace('__', '.'): value for key, value in changes.items()})
    build.validate(other.config)
    other.loop = build.loop(other.config)
    return other


@pytest.fixture
def said(monkeypatch):
    """Sets what each measurement says, one after the other, and keeps the parameters that were measured."""
    def say(**columns):
        kept, rows = [], iter([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])

        def scores(self, params):
            kept.append(jax.tree.map(np.array, params))
            return {'loss': 1.0, 'accuracy': 0.0, 'bleu': 0.0, **next(rows)}
        monkeypatch.setattr(train.Measuring, '_scores', scores)
        return kept
    return say


def kept_in(trainer, folder, name, step):
    """The parameters of a step in a folder of a work directory."""
    identity = build.identity(trainer.config, trainer.data.source, trainer.data.target)
    return train.Checkpoints(folder / name, keep=9, identity=identity).restore_step(step, trainer.example.state.params)


def beginnings(monkeypatch):
    """The parameters before the first step of each run to come."""
    found, original = [], loop.train

    def keep(now, *others):
        found.append(jax.tree.map(np.array, now.params))
        return original(now, *others)
    monkeypatch.setattr(loop, 'train', keep)
    return found


def checkpoints(trainer, folder):
    """What is saved at each step."""
    identity = build.identity(trainer.config, trainer.data.source, trainer.data.target)
    found = train.Checkpoints(folder / 'checkpoints', keep=9, identity=identity)
    return {step: found.restore_step(step, trainer.example) for step in found.steps()}


def measured(folder, kind='dev'):
    lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    return {line['step']: line for line in lines if line['kind'] == kind}


def equal(one, other):
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(
        jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_patience_ends_a_run_and_it_does_not_go_on(translating, tmp_path, said, capsys):
    """Best at step 4; steps 6 and 8 are no better."""
    trainer = with_numbers(translating, training__patience=2)
    said(accuracy=[0.1, 0.3, 0.3, 0.2], loss=[1.0, 0.9, 0.9, 0.1])
    outcome = trainer.run(tmp_path / 'run')
    assert (outcome.best_step, outcome.best_accuracy) == (4, pytest.approx(0.3))
    assert max(checkpoints(trainer, tmp_path / 'run')) == 8
    assert 'step 8: no better for 2 measurements: the run is over' in capsys.readouterr().err
    before = (tmp_path / 'run' / 'metrics.jsonl').read_bytes()
    again = trainer.run(tmp_path / 'run')
    assert 'the run was over at step 8' in capsys.readouterr().err
    assert (tmp_path / 'run' / 'metrics.jsonl').read_bytes() == before
    assert again.best_step == 4
    assert equal(again.params, outcome.params)


@pytest.fixture
def accurate(monkeypatch):
    """Sets the accuracy that is measured at a step; a step that is measured again after a stop has the same."""
    def at(accuracies):
        def scores(self, params):
            seen = [json.loads(line)['step'] for line in self.report.path.read_text().splitlines() if '"dev"' in line]
            step = (seen[-1] if seen else 0) + self.trainer.loop.evaluate_every
            return {'loss': 1.0, 'accuracy': accuracies[step]}
        monkeypatch.setattr(train.Measuring, '_scores', scores)
    return at


ACCURACIES = {2: 0.91, 4: 0.89, 6: 0.95, 8: 0.89, 10: 0.9, 12: 0.95, 14: 0.99}  # in a row 0.9 or more: steps 10 and 12


def test_two_measurements_in_a_row_with_enough_end_a_run_and_it_does_not_go_on(translating, tmp_path, accurate, capsys):
    trainer = with_numbers(translating, training__enough=0.9, training__steps=16, training__keep='accuracy')
    accurate(ACCURACIES)
    outcome = trainer.run(tmp_path / 'run')
    assert list(measured(tmp_path / 'run')) == [2, 4, 6, 8, 10, 12]
    assert max(checkpoints(trainer, tmp_path / 'run')) == 12
    assert outcome.best_step == 6  # the best is not the one that ended it
    assert 'step 12: two measurements in a row reached 0.9: the run is over' in capsys.readouterr().err
    before = (tmp_path / 'run' / 'metrics.jsonl').read_bytes()
    again = trainer.run(tmp_path / 'run')
    assert 'the run was over at step 12' in capsys.readouterr().err
    assert (tmp_path / 'run' / 'metrics.jsonl').read_bytes() == before
    assert again.best_step == 6
    assert equal(again.params, outcome.params)


def test_without_a_number_for_enough_no_accuracy_ends_a_run(translating, tmp_path, accurate):
    accurate(dict.fromkeys(range(2, 14, 2), 1.0))
    with_numbers(translating, training__enough=0.0).run(tmp_path / 'run', console=False)
    assert list(measured(tmp_path / 'run')) == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(('every', 'step', 'saved'), [(10, 11, 10), (9, 11, 9), (10, 12, 10)], ids=[
    'between the two', 'with a checkpoint before both', 'before the last checkpoint is written'])
def test_a_run_that_is_stopped_before_it_has_enough_ends_where_it_would_have(every, step, saved, translating, tmp_path,
                                                                            accurate, monkeypatch):
    trainer = with_numbers(translating, training__enough=0.9, training__steps=16, training__checkpoint_every=every)
    accurate(ACCURACIES)
    whole = trainer.run(tmp_path / 'whole', console=False)
    original = train.Saving.__call__

    def stop(self, now, state, metrics):
        if now == step:
            raise KeyboardInterrupt
        original(self, now, state, metrics)
    with monkeypatch.context() as patch:
        patch.setattr(train.Saving, '__call__', stop)
        with pytest.raises(KeyboardInterrupt):
            trainer.run(tmp_path / 'stopped', console=False)
    assert max(checkpoints(trainer, tmp_path / 'stopped')) == saved
    outcome = trainer.run(tmp_path / 'stopped', console=False)
    assert list(measured(tmp_path / 'stopped')) == [2, 4, 6, 8, 10, 12]
    assert equal(checkpoints(trainer, tmp_path / 'stopped')[12].state.params,
                 checkpoints(trainer, tmp_path / 'whole')[12].state.params)
    assert outcome[1:] == whole[1:]
    assert equal(outcome.params, whole.params)


def test_on_a_plateau_the_rate_falls_and_the_checkpoint_has_the_lower_one(translating, tmp_path, said):
    """Better at steps 2 and 8; two measurements without a better one are a plateau: after step 6, and after step 12,
    where the run ends.
    """
    trainer = with_numbers(translating, training__schedule='plateau', training__plateau_patience=2,
                           training__plateau_factor=0.25, training__checkpoint_every=2)
    identity, rates = build.identity(trainer.config, trainer.data.source, trainer.data.target), {}
    original = train.Saving.__call__

    def look(self, step, state, metrics):
        rates[step] = float(state.rate)
        original(self, step, state, metrics)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Saving, '__call__', look)
        said(accuracy=[0.1, 0.1, 0.1, 0.2, 0.2, 0.2])
        trainer.run(tmp_path / 'run', console=False)
    whole = {step: rates[step] for step in range(2, 13, 2)}
    assert whole == pytest.approx({2: 0.01, 4: 0.01, 6: 0.0025, 8: 0.0025, 10: 0.0025, 12: 0.0025})
    found = train.Checkpoints(tmp_path / 'run' / 'checkpoints', keep=9, identity=identity).restore(trainer.example)
    assert (found[0], float(found[1].state.rate), int(found[1].best.lowered)) == (12, pytest.approx(0.0025), 6)


@pytest.mark.parametrize(('mean', 'averaged'), [(0.5, 'mean of the last 3 measurements'), (0.2, '')])
def test_the_mean_of_the_last_measurements_is_kept_where_it_is_better(mean, averaged, translating, tmp_path, said,
                                                                      capsys):
    trainer = with_numbers(translating, training__average=3)
    seen = said(accuracy=[0.1, 0.2, 0.3, 0.2, 0.2, 0.2, mean])
    outcome = trainer.run(tmp_path / 'run', console=False)
    expected = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0, dtype=np.float64).astype(np.float32), *seen[3:6])
    assert equal(seen[6], expected)  # steps 8, 10 and 12
    assert measured(tmp_path / 'run', 'dev_averaged')[12]['accuracy'] == mean
    assert outcome.best_step == (12 if averaged else 6)
    assert equal(outcome.params, expected if averaged else seen[2])
    run = Run.load(tmp_path / 'run')
    assert (run.averaged, run.step) == (averaged, outcome.best_step)
    assert equal(run.params, outcome.params)
    again = trainer.run(tmp_path / 'run')
    assert 'all 12 steps are done' in capsys.readouterr().err
    assert equal(again.params, outcome.params)


def test_a_run_whose_last_step_is_a_mean_and_came_early_does_not_go_on(translating, tmp_path, said, capsys):
    """The mean is better than all before, so no measurement since is worse: only that it was made says it is over."""
    trainer = with_numbers(translating, training__average=2, training__patience=1)
    said(accuracy=[0.1, 0.3, 0.2, 0.5])
    assert trainer.run(tmp_path / 'run', console=False).best_step == 6
    trainer.run(tmp_path / 'run')
    assert 'the run was over at step 6' in capsys.readouterr().err


@pytest.mark.parametrize(('keep', 'step'), [('accuracy', 2), ('loss', 4), ('bleu', 6)])
def test_what_a_run_keeps_is_the_best_of_what_the_config_says(keep, step, translating, tmp_path, said):
    trainer = with_numbers(translating, training__keep=keep, training__steps=8)
    seen = said(accuracy=[0.9, 0.1, 0.2, 0.3], loss=[4.0, 1.0, 3.0, 2.0], bleu=[1.0, 2.0, 9.0, 8.0])
    outcome = trainer.run(tmp_path / 'run', console=False)
    assert outcome.best_step == step
    assert equal(outcome.params, seen[step // 2 - 1])


def test_translations_are_measured_by_bleu_and_what_was_left_out_is_said(translating, tmp_path, monkeypatch, capsys):
    """BLEU as sacreBLEU counts it on outputs that are half right; of the lines two are no training pair."""
    trainer = with_numbers(translating, training__steps=2)
    outputs = [' '.join(line.split()[::-1]) if number % 2 else line
               for number, (line,) in enumerate(trainer.references)]
    monkeypatch.setattr(trainer, 'translator', lambda params, lines: [SimpleNamespace(text=text) for text in outputs])
    monkeypatch.setattr(trainer, 'program_count', translating.program_count)
    outcome = trainer.run(tmp_path / 'run')
    expected = sacrebleu.corpus_bleu(outputs, [[line for line, in trainer.references]]).score
    assert 5 < expected < 95
    assert measured(tmp_path / 'run')[2]['bleu'] == pytest.approx(expected, rel=1e-6)
    assert outcome.best_bleu == pytest.approx(expected, rel=1e-6)
    told = capsys.readouterr().err
    assert 'in the lines of train found: 1 empty (left out)' in told
    assert '41 training pairs, 1 pairs too long and dropped' in told
    assert re.search(r'dropped, \d+\.\d % padding', told)


def test_a_run_begins_with_the_parameters_and_vocabularies_of_another(translating, files, tmp_path, monkeypatch):
    """Exactly: what the first step gets is what the other run kept, and other files make no other vocabularies."""
    kept = with_numbers(translating, training__steps=2).run(tmp_path / 'first', console=False).params
    write(tmp_path / 'new.tsv', ['der Hund\tthe dog', 'Hunde\tdogs'])
    others = settled('additive', {f'data.{split}': str(tmp_path / 'new.tsv') for split in ('train', 'dev', 'test')},
                     start_from=str(tmp_path / 'first'))
    data = build.data(others)
    assert (data.source.hash, data.target.hash) == (translating.data.source.hash, translating.data.target.hash)
    first = beginnings(monkeypatch)
    trainer = with_numbers(translating, start_from=str(tmp_path / 'first'), training__steps=2)
    trainer.run(tmp_path / 'second', console=False, seed=9)
    assert equal(first[0], kept)
    assert not equal(first[0], trainer._start(np.uint32(9), np.float32(1)).params)
    COMPILES.clear()
    wrong = settled('additive', files, start_from=str(tmp_path / 'first'), decoder__features=16)
    with pytest.raises(UserError, match=r'parameter decoder\.\S+ is float32\[.*8.*\] there and float32\[.*16.*\] in'):
        train.Trainer(wrong).run(tmp_path / 'third', console=False)
    assert not COMPILES


def test_a_run_may_not_begin_where_nothing_is(files, tmp_path):
    with pytest.raises(UserError, match=r'source_vocabulary\.json is missing') as caught:
        train.Trainer(settled('additive', files, start_from=str(tmp_path / 'nowhere')))
    assert '\n' not in str(caught.value)


@pytest.fixture(scope='module')
def packed(files, tmp_path_factory):
    """A Transformer with one table for both sides, vectors for five of its words, frozen; several pairs in a row."""
    folder = tmp_path_factory.mktemp('packed')
    random = np.random.default_rng(1)
    words = ('dog', 'cat', 'Hund', 'sleeps', 'schläft')
    numbers = {word: random.normal(size=8).round(3) for word in words}
    write(folder / 'vectors.txt', [' '.join([word, *map(str, vector)]) for word, vector in numbers.items()])
    trainer = train.Trainer(settled(
        'transformer', files, batches__packing=True, batches__maximum_source=12, data__joint=True,
        encoder__share_embeddings=True, decoder__tie_embeddings=True, training__steps=4, training__ema=0.5,
        training__keep='loss', training__weight_decay=0.1,
        data__source_vectors=str(folder / 'vectors.txt'), training__frozen='embedding'))
    told = []
    with pytest.MonkeyPatch.context() as patch:
        first = beginnings(patch)
        patch.setattr(train.Report, 'message', lambda self, text: told.append(text))
        trainer.run(folder / 'run')
    return SimpleNamespace(trainer=trainer, folder=folder / 'run', first=first[0], told=told, numbers=numbers)


def test_a_transformer_trains_on_rows_that_several_pairs_share(packed):
    plan = packed.trainer.plans.train
    assert len(packed.trainer.plans.train.shapes) == 1
    assert max((plan.ids(0) >= 0).sum(axis=1)) >= 3
    assert not len(plan.dropped)
    assert measured(packed.folder, 'train')[4]['tokens'] > 0
    assert set(measured(packed.folder)) == {2, 4}


def test_vectors_fill_the_table_their_coverage_is_said_and_a_frozen_table_stays(packed):
    """By hand: vectors are divided by the root of their mean square and of the width. What else is learned moves."""
    table, vocabulary = packed.first['embedding']['table'], packed.trainer.data.source
    square = np.mean(np.array(list(packed.numbers.values()), np.float64)**2)
    for word, vector in packed.numbers.items():
        row = table[vocabulary.encode(word)[0]]
        np.testing.assert_allclose(row, vector.astype(np.float32) / np.sqrt(8 * square), rtol=1e-6)
    assert np.std(table[vocabulary.encode('und')[0]]) > 0  # a row without a vector stays random
    lines = [pair.source.split() for pair in packed.trainer.data.corpus.train]
    covered = [word in packed.numbers for line in lines for word in line]
    assert (f'vectors for {100 * 2 / 7:.1f} % of the source symbols that stand in the training text, which are '
            f'{100 * np.mean(covered):.1f} % of all') in '\n'.join(packed.told)
    last = checkpoints(packed.trainer, packed.folder)[4].state
    np.testing.assert_array_equal(last.params['embedding']['table'], table)
    np.testing.assert_array_equal(last.average['embedding']['table'], table)
    moved = jax.tree_util.tree_leaves_with_path(jax.tree.map(
        lambda before, after: bool(np.any(before != after)), packed.first, last.params))
    still = {jax.tree_util.keystr(path, simple=True, separator='.') for path, moves in moved if not moves}
    assert {name for name in still if not re.search(r'key_projection.*bias', name)} == {'embedding.table'}


def test_what_is_measured_and_kept_is_the_moving_average(packed):
    last = checkpoints(packed.trainer, packed.folder)[4].state
    assert equal(kept_in(packed.trainer, packed.folder, 'best', 4), last.average)
    assert not equal(last.average, last.params)
    loss = packed.trainer.measure(jax.tree.map(jnp.asarray, last.average), packed.trainer.plans.dev)['loss']
    assert measured(packed.folder)[4]['loss'] == pytest.approx(loss, rel=1e-6)
    assert Run.load(packed.folder).averaged == 'moving average 0.5'


@pytest.mark.parametrize(('words', 'changes', 'names'), [
    ('additive', {}, ['encoder.embedding', 'decoder.embedding']),
    ('transformer', {}, ['encoder.entrance.embedding', 'decoder.entrance.embedding']),
    ('recurrent_to_transformer', {}, ['encoder.embedding', 'decoder.entrance.embedding']),
    ('transformer', {'data__joint': True, 'encoder__share_embeddings': True}, ['embedding'])])
def test_the_tables_that_vectors_fill_can_be_frozen_by_name(words, changes, names, files):
    chosen = settled(words, files, **changes, data__source_vectors='v')
    chosen = chosen if len(names) == 1 else arms.override(chosen, {'data.target_vectors': 'w'})
    build.validate(chosen)
    data = build.data(chosen)
    params = build.abstract_params(build.model(chosen, len(data.source), len(data.target)))
    for one, name in zip(build.pretrained(chosen, data.source, data.target), names, strict=True):
        assert '.'.join(one.name) == f'{name}.table'
        stays = {jax.tree_util.keystr(path, simple=True, separator='.') for path, stays in
                 jax.tree.leaves_with_path(optimisers.chosen(params, [name])) if stays}
        assert stays == {f'{name}.table'}


@pytest.mark.parametrize(('words', 'frozen', 'message'), [
    ('additive', 'encoder.embeding', "training.frozen is 'encoder.embeding'.*Did you mean 'encoder.embedding'"),
    ('transformer', 'encoder.embedding', 'encoder.entrance.embedding'),
    ('additive', 'encoder,decoder', 'every parameter')])
def test_a_name_that_cannot_be_frozen_is_refused_before_anything_compiles(words, frozen, message, files):
    COMPILES.clear()
    with pytest.raises(UserError, match=message) as caught:
        train.Trainer(settled(words, files, training__frozen=frozen))
    assert '\n' not in str(caught.value)
    assert not COMPILES


def test_vectors_of_another_width_are_refused_before_anything_compiles(files, tmp_path):
    write(tmp_path / 'vectors.txt', ['Hund 1 2 3', 'Katze 4 5 6'])
    trainer = train.Trainer(settled('additive', files, data__source_vectors=str(tmp_path / 'vectors.txt')))
    COMPILES.clear()
    with pytest.raises(UserError, match=r'vectors\.txt: its vectors have 3 numbers and the embedding has 8 features'):
        trainer.run(tmp_path / 'run', console=False)
    assert not COMPILES


def test_real_word_vectors_load_in_seconds_and_a_run_trains_with_them_frozen(shared_data, tmp_path, monkeypatch,
                                                                             capsys):
    """English captions; the vectors are of lower case."""
    glove, = (shared_data / 'glove_50d').glob('glove*.txt.gz')
    for side in ('en', 'de'):
        with gzip.open(shared_data / 'multi30k' / f'val.{side}.gz', 'rt', encoding='utf-8') as file:
            write(tmp_path / f'val.{side}', [line.rstrip('\n') for line in file][:400])
    pairs = f'{tmp_path}/val.en,{tmp_path}/val.de'
    trainer = train.Trainer(settled(
        'additive', {f'data.{split}': pairs for split in ('train', 'dev', 'test')}, data__target_size=50,
        data__source_vectors=str(glove), data__lowercase_vectors=True, encoder__embedding_features=50,
        batches__tokens=400, batches__maximum_source=20, training__frozen='encoder.embedding', training__steps=2))
    loaded, seconds, original = [], [], vectors.initial

    def timed(*arguments):
        begin = time.process_time()
        loaded.append(original(*arguments))
        seconds.append(time.process_time() - begin)
        return loaded[0]
    monkeypatch.setattr(vectors, 'initial', timed)
    trainer.run(tmp_path / 'run')
    assert sum(seconds) < 5
    found = re.search(r'vectors for ([\d.]+) % .* are ([\d.]+) % of all', capsys.readouterr().err)
    types, tokens = map(float, found.groups())
    assert 70 < types < tokens < 100
    params = checkpoints(trainer, tmp_path / 'run')[2].state.params
    table = np.asarray(params['encoder']['embedding']['table'])
    np.testing.assert_array_equal(*(table[trainer.data.source.encode(word)[0]] for word in ('two', 'Two')))
    filled = loaded[0][1]
    np.testing.assert_array_equal(table[filled], loaded[0][0][filled])


def test_programs_say_what_the_largest_needs():
    """By hand: a tree of 4 MB that is replaced where it stands, or beside which another is made; batches of nothing."""
    tree = {'a': jax.ShapeDtypeStruct((1000, 1000), jnp.float32)}

    def function(tree, batch):
        return jax.tree.map(lambda leaf: leaf + batch.source.shape[1], tree), batch.targets.sum()
    for donate, needed in ((True, 4e6), (False, 8e6)):
        programs = loop.Programs(compiling.compiled(
            loop.lowering(function, tree, [(1, 2, 3), (1, 40, 3)], donate=donate)))
        assert needed <= programs.bytes < needed + 2e5


def test_what_needs_more_memory_than_there_is_is_refused_before_the_first_step(translating, tmp_path, monkeypatch,
                                                                               capsys):
    there = loop.free_bytes()
    assert 1e6 < there < os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    trainer = with_numbers(translating)
    needed = max(trainer._update.bytes, trainer._measure.bytes)
    monkeypatch.setattr(loop, 'free_bytes', lambda: needed - 1)
    trainer._update = None
    monkeypatch.setattr(compiling, 'compiled', lambda lowering, progress: dict.fromkeys(lowering))
    monkeypatch.setattr(loop, 'Programs', lambda programs: translating._update)
    monkeypatch.setattr(loop, 'train', lambda *_: pytest.fail('it was trained'))
    for _ in range(2):  # the programs of a refused run are not kept: another seed is refused as well
        with pytest.raises(UserError, match=r'the largest program needs .* batches\.tokens must be smaller') as caught:
            trainer.run(tmp_path / 'run')
        assert '\n' not in str(caught.value)
    monkeypatch.setattr(loop, 'free_bytes', lambda: None)
    trainer.compile(print)
    assert f'the largest program needs {needed / 1e6:,.1f} MB' in capsys.readouterr().out


def test_a_tokenizer_that_does_not_split_the_references_is_refused_before_anything_compiles(files, tmp_path):
    COMPILES.clear()
    write(tmp_path / 'dev.tsv', ['ein Hund\t一只狗在跑', 'eine Katze\t一只猫在睡觉'])
    for changes in ({'data__dev': str(tmp_path / 'dev.tsv')}, {'data__target_language': 'zh'}):
        with pytest.raises(UserError, match=r"evaluation\.tokenizer '13a' does not split .* one of zh, char") as caught:
            train.Trainer(settled('additive', files, **changes))
        assert '\n' not in str(caught.value)
    assert not COMPILES


def packing(words, lines, tmp_path, **changes):
    """A config that packs these lines, and its plans."""
    write(tmp_path / 'pairs.tsv', lines)
    chosen = settled(words, {f'data.{split}': str(tmp_path / 'pairs.tsv') for split in ('train', 'dev', 'test')},
                     batches__packing=True, **changes)
    build.validate(chosen)
    return build.plans(chosen, build.data(chosen)).train


def test_a_packed_row_is_shared_by_its_sides_as_their_symbols_are(tmp_path):
    """By hand: 9 pairs of 3 + 5 positions and one of 2 + 6, END counted: 8 a pair, 29 of 80 in sources; 4 pairs are 32
    positions, 29 / 80 of which are 11.6; of a batch of 20 positions a row can have no more; what is too long leaves
    nothing but the longest, 3 + 6.
    """
    lines = ['a b\ta b c d'] * 9 + ['a\ta b c d e']
    assert packing('transformer', lines, tmp_path, batches__tokens=100).shapes == ((3, 12, 20),)
    assert packing('transformer', lines, tmp_path, batches__tokens=20).shapes == ((1, 7, 13),)
    plan = packing('transformer', [*lines, 'a b c d e f\ta'], tmp_path, batches__tokens=100)
    assert (plan.shapes, len(plan.dropped)) == (((3, 12, 20),), 1)  # as without it, though there would be room


def test_a_packed_row_that_is_longer_than_a_batch_is_refused(tmp_path):
    with pytest.raises(UserError, match=r'batches\.tokens is 8, and a packed row .* takes 9; it must be at least'):
        packing('transformer', ['a b\ta b c d', 'a\ta b c d e'], tmp_path, batches__tokens=8)
