"""A Transformer that was trained on real text, exported to CTranslate2: the same translations, the same scores."""

import pytest

from research import build, evaluate
from research.interop import ctranslate2 as interop
from research.translator import Translator
from tests.conftest import REPOSITORY

WORKDIR = REPOSITORY / 'runs' / 'translation' / 'multi30k' / 'transformer' / '1'


@pytest.mark.slow
def test_beam_five_of_the_exported_transformer_is_ours_on_the_test_set(shared_data, tmp_path, monkeypatch):
    ctranslate2 = pytest.importorskip('ctranslate2', reason='CTranslate2 is not installed')
    if not WORKDIR.is_dir():
        pytest.skip('no trained run: python -m experiments.translation --corpus multi30k --arms transformer --seeds 1')
    monkeypatch.chdir(REPOSITORY)  # the config names its files from here
    run = evaluate.Run.load(str(WORKDIR))
    interop.export(run.model, run.params, run.source, run.target, tmp_path / 'exported')
    lines = [pair.source for pair in build.data(run.config).corpus.test]
    decoding = build.decoding(run.config)._replace(beams=5)
    ours = Translator(run.model, run.source, run.target, decoding)(run.params, lines)
    source, target = interop.tokens(run.source, run.target)
    batch = [[source[number] for number in run.source.encode(line)[:-1]] for line in lines]
    theirs = ctranslate2.Translator(str(tmp_path / 'exported'), compute_type='float32').translate_batch(
        batch, beam_size=5, length_penalty=decoding.length_penalty, patience=4, return_scores=True,
        return_end_token=True, min_decoding_length=0, max_input_length=0, max_batch_size=64,
        max_decoding_length=max(decoding.limit(len(line) + 1) for line in batch))
    ids = {token: number for number, token in enumerate(target)}
    texts = [run.target.decode([ids[token] for token in found.hypotheses[0]]) for found in theirs]
    same = [index for index, text in enumerate(texts) if text == ours[index].text]
    largest = max(abs(theirs[index].scores[0] - ours[index].penalised) for index in same)
    print(f'{len(same)} of {len(lines)} translations identical, largest difference of their scores {largest:.1e}')
    assert len(same) >= 0.98 * len(lines)
    assert largest < 1e-3
