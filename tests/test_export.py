"""Models that go to other programs and come from them, by command line: they say the same there and here."""

import json
import sys
from unittest import mock

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from configs import fine_tune
from research import build, evaluate, export, import_marian, train, translate
from research.interop.portable import flatten
from research.study import arms
from tests.conftest import REPOSITORY
from tests.interop import test_marian as marian
from tests.test_translate import SMALL, a_run, ran, refused, settled
from tests.text.test_marian import PROCESSOR

pytestmark = pytest.mark.usefixtures('each_run_is_loaded_once')

LIMIT = 30
SEARCHED = {'decoding.beams': 5, 'decoding.penalise_by': 'power', 'decoding.length_penalty': 0.6,
            'decoding.maximum_ratio': 0.0, 'decoding.maximum_extra': LIMIT}
LINES = ['a b c', 'h g e d c b a', 'd d', 'b', 'e a f a f', 'c c b', 'f', 'g h', 'b b b b', 'a h', 'h a', 'c e d']
TEXT = ''.join(f'{line}\n' for line in LINES).encode()


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A Transformer that another program can represent."""
    folder = tmp_path_factory.mktemp('run')
    return a_run(folder / 'run', settled(folder, changes=SMALL | SEARCHED))


def exported(run, kind, folder):
    return ran(export.main, [f'--workdir={run}', f'--format={kind}', f'--folder={folder}'])


def test_the_exported_model_translates_as_this_one(run, tmp_path):
    """Five beams, in CTranslate2 with the settings that its export names. What did not end there may differ."""
    ctranslate2 = pytest.importorskip('ctranslate2', reason='CTranslate2 is not installed')
    done = exported(run, 'ctranslate2', tmp_path / 'made')
    assert done.lines == [f'{tmp_path / "made"}: run, step 7, for ctranslate2']
    theirs = ctranslate2.Translator(str(tmp_path / 'made'), compute_type='float32', intra_threads=1, inter_threads=1)
    found = theirs.translate_batch([line.split() for line in LINES], beam_size=5, length_penalty=0.6, patience=40,
                                   return_end_token=True, min_decoding_length=0, max_decoding_length=LIMIT,
                                   max_input_length=0, return_scores=True)
    ours = [json.loads(line)['outputs'][0] for line in ran(translate.main, [f'--workdir={run}', '--json'], TEXT).lines]
    ended = [one.hypotheses[0][-1:] == ['</s>'] for one in found]
    assert sum(ended) >= 7
    for one, other, whole in zip(ours, found, ended, strict=True):
        if whole:
            assert one['symbols'] == other.hypotheses[0]
            assert one['penalised'] == pytest.approx(other.scores[0], abs=1e-4)
    assert len({one['text'] for one, whole in zip(ours, ended, strict=True) if whole}) >= 5


def test_safetensors_hold_the_parameters_that_are_translated_with(run, tmp_path):
    done = exported(run, 'safetensors', tmp_path / 'made')
    assert done.lines == [f'{tmp_path / "made"}: run, step 7, for safetensors']
    found, params = load_file(tmp_path / 'made' / 'params.safetensors'), flatten(evaluate.Run.load(str(run)).params)
    assert found.keys() == params.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, params[name])
    for name in ('config.json', 'source_vocabulary.json', 'target_vocabulary.json'):
        assert json.loads((tmp_path / 'made' / name).read_text()) == json.loads((run / name).read_text())


def test_a_folder_that_cannot_be_made_and_a_run_that_is_none_are_refused(run, tmp_path):
    (tmp_path / 'mine').write_text('x')
    for kind in export.FORMATS:
        refused(exported(run, kind, tmp_path), 'is there already and not an empty folder')
        refused(exported(run, kind, tmp_path / 'mine' / 'made'), '--folder=', 'cannot be written')
        refused(exported(tmp_path, kind, tmp_path / 'made'), 'holds no run')
    assert [path.name for path in tmp_path.iterdir()] == ['mine']


def test_what_the_other_program_cannot_represent_is_refused_by_name(tmp_path):
    changes = {f'{side}.{key}': 8 for side in ('encoder', 'decoder') for key in ('features', 'embedding_features')}
    workdir = a_run(tmp_path / 'run', settled(tmp_path, kind='fixed_context', changes=changes))
    refused(exported(workdir, 'ctranslate2', tmp_path / 'made'), 'encoder.kind is RecurrentEncoder', 'a Transformer')
    assert not (tmp_path / 'made').exists()
    assert exported(workdir, 'safetensors', tmp_path / 'made').code == 0
    with mock.patch.dict(sys.modules, {'ctranslate2.specs': None}):
        refused(exported(workdir, 'ctranslate2', tmp_path / 'other'), "pip install 'seq2lab[ctranslate2]'")


# --------------------------------------------------------------------------------------------------------------- Marian

PAIRS = [('a dog', 'the cat'), ('>>deu<<the bird', 'birds and dogs'), ('cats see', 'a bird sees a cat'), ('dogs', '')]


def by_flags(main, *arguments):
    """A command line that absl reads."""
    with mock.patch.object(sys, 'argv', ['program', *map(str, arguments)]):
        return ran(lambda _: main(), [])


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return marian.write(tmp_path_factory.mktemp('marian') / 'checkpoint')


@pytest.fixture(scope='module')
def imported(checkpoint, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('imported') / 'opus'
    done = by_flags(import_marian.main, f'--checkpoint={checkpoint}', f'--config={REPOSITORY}/configs/parallel.py',
                    f'--workdir={workdir}', '--config.decoding.beams=3')
    assert f'{marian.V + 1} symbols; next: python -m research.translate --workdir={workdir}' in done.lines[0]
    return workdir


def scored(workdir, pairs):
    return np.array(ran(translate.main, [f'--workdir={workdir}', '--score'],
                        ''.join(f'{source}\t{target}\n' for source, target in pairs).encode()).lines, float)


def test_an_imported_model_says_what_marian_says(checkpoint, imported):
    """Of given translations, by Marian's formulas in float64, the pieces cut by its own library."""
    tensors, end = load_file(checkpoint / 'model.safetensors'), marian.TABLE['</s>']

    def ids(line):
        code, rest = ([line[:7]], line[7:]) if line.startswith('>>') else ([], line)
        return [*(marian.TABLE[piece] for piece in code + PROCESSOR.encode(rest, out_type=str)), end]
    expected = []
    for source, target in PAIRS:
        symbols = ids(target)
        logits = marian.expected(tensors, marian.CONFIG, ids(source), [marian.TABLE['<pad>'], *symbols[:-1]])
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        expected.append(logits[np.arange(len(symbols)), symbols].sum())
    np.testing.assert_allclose(scored(imported, PAIRS), expected, atol=1e-4)


def test_an_imported_model_translates_and_has_no_corpus_to_be_scored_on(imported):
    assert len(ran(translate.main, [f'--workdir={imported}'], b'a dog\n\nbirds\n').lines) == 3
    refused(ran(evaluate.main, [f'--workdir={imported}', '--split=test']), 'this run was imported', 'fine_tune.py')
    config = json.loads((imported / 'config.json').read_text())
    assert config['encoder']['share_embeddings'] is True
    assert config['decoding']['beams'] == 3


def test_fine_tuning_begins_with_the_imported_parameters_and_trains_them(imported, tmp_path):
    """One batch of all pairs: the first loss is minus the mean score that the imported model gives to their symbols."""
    pairs = [pair for pair in PAIRS if pair[1]]
    for split in ('train', 'dev', 'test'):
        (tmp_path / f'{split}.tsv').write_text(''.join(f'{source}\t{target}\n' for source, target in pairs))
    done = by_flags(
        train.main, f'--config={REPOSITORY}/configs/fine_tune.py:{imported}', f'--workdir={tmp_path / "tuned"}',
        *(f'--config.data.{split}={tmp_path / split}.tsv' for split in ('train', 'dev', 'test')),
        '--config.encoder.dropout=0.0', '--config.decoder.dropout=0.0', '--config.training.label_smoothing=0.0',
        '--config.training.steps=3', '--config.training.warmup=1', '--config.training.report_every=1',
        '--config.training.evaluate_every=3', '--config.training.checkpoint_every=3', '--config.batches.buckets=1',
        '--config.batches.tokens=64', '--config.decoding.maximum_ratio=0.0')
    assert done.code == 0, done.err
    assert f'begins with the parameters of {imported}, step 0' in done.err
    lines = [json.loads(line) for line in (tmp_path / 'tuned' / 'metrics.jsonl').read_text().splitlines()]
    losses = [line['loss'] for line in lines if line['kind'] == 'train']
    symbols = sum(len(PROCESSOR.encode(target)) + 1 for _, target in pairs)
    assert losses[0] == pytest.approx(-scored(imported, pairs).sum() / symbols, rel=1e-5)
    assert len(losses) == 3
    assert losses[2] < losses[0]
    before, after = (evaluate.Run.load(str(workdir)) for workdir in (imported, tmp_path / 'tuned'))
    assert (before.source.hash, before.target.hash) == (after.source.hash, after.target.hash)
    changed = [not np.array_equal(*leaves) for leaves in zip(*map(jax.tree.leaves, (before.params, after.params)),
                                                             strict=True)]
    assert np.mean(changed) > 0.5


def test_a_config_to_fine_tune_has_the_run_s_parts_and_the_usual_values_of_keys_that_an_old_run_lacks(run, tmp_path):
    there = arms.override(build.load(run), {
        'data.remove_spaces': 'target', 'data.reverse_source': True, 'data.target_language': 'de',
        'evaluation.tokenizer': 'intl', 'encoder.dropout': 0.25})
    old = json.loads(build.text(there))
    for section, key in (('encoder', 'share_embeddings'), ('decoder', 'softmax_bias'), ('decoding', 'penalise_by'),
                         ('data', 'target_language')):
        del old[section][key]
    (tmp_path / 'config.json').write_text(json.dumps(old))
    config = fine_tune.get_config(str(tmp_path))
    build.validate(arms.override(config, {f'data.{split}': 'x.tsv' for split in ('train', 'dev', 'test')}))
    assert (config.encoder.share_embeddings, config.decoder.softmax_bias) == (False, False)
    assert (config.decoding.penalise_by, config.decoding.beams, config.data.target_language) == ('wu', 5, '')
    assert (config.encoder.dropout, config.encoder.mixer.heads, config.evaluation.tokenizer) == (0.25, 2, 'intl')
    assert (config.data.remove_spaces, config.data.reverse_source, config.data.train) == ('target', True, '')


@pytest.mark.parametrize(('arguments', 'names'), [
    (['--config=configs/parallel.py'], ['--checkpoint=FOLDER must be given once']),
    (['--config=configs/parallel.py', '--checkpoint='], ['--checkpoint=FOLDER must be given once']),
    (['--config=configs/parallel.py', '--checkpoint=x', '--checkpoint=y'], ['--checkpoint=FOLDER must be given once']),
    (['--config=configs/parallel.py', '--checkpoint=nowhere'], ['nowhere', 'there is no file']),
    (['--config=configs/copy.py', '--checkpoint=nowhere'], ['configs/parallel.py', 'pairs to translate']),
    (['--checkpoint=nowhere'], ['--config'])])
def test_what_is_no_checkpoint_or_no_config_for_one_is_refused(tmp_path, monkeypatch, arguments, names):
    monkeypatch.chdir(REPOSITORY)
    refused(by_flags(import_marian.main, f'--workdir={tmp_path / "run"}', *arguments), *names)
    assert not (tmp_path / 'run').exists()


def test_help_is_given_without_a_checkpoint():
    done = by_flags(import_marian.main, '--help')
    assert 'research.import_marian --checkpoint=' in done.lines[2]


@pytest.mark.parametrize(('change', 'names'), [
    (None, ['must name the run that is gone on from']), ('nowhere', ['nowhere holds no run']),
    ('sequence', ['a model without a source'])])
def test_fine_tuning_needs_a_run_that_translates(run, tmp_path, monkeypatch, change, names):
    monkeypatch.chdir(REPOSITORY)
    workdir = change
    if change == 'sequence':
        config = json.loads((run / 'config.json').read_text())
        config['decoder']['kind'] = change
        (tmp_path / 'config.json').write_text(json.dumps(config))
        workdir = tmp_path
    refused(by_flags(train.main, f'--config=configs/fine_tune.py{f":{workdir}" if workdir else ""}',
                     f'--workdir={tmp_path / "tuned"}'), 'configs/fine_tune.py', *names)


def test_parameters_of_another_shape_are_not_gone_on_from(run, tmp_path):
    for split in ('train', 'dev', 'test'):
        (tmp_path / f'{split}.tsv').write_text('a b\tder\n')
    done = by_flags(
        train.main, f'--config={REPOSITORY}/configs/fine_tune.py:{run}', f'--workdir={tmp_path / "tuned"}',
        *(f'--config.data.{split}={tmp_path / split}.tsv' for split in ('train', 'dev', 'test')),
        '--config.decoder.hidden=16', '--config.batches.buckets=1', '--config.batches.tokens=64')
    assert done.code == 2
    assert 'parameter decoder.stack_0.network.inner.bias is float32[12] there and float32[16] in this' in done.err
