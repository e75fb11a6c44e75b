"""Each family learns a task to a threshold: minutes, so marked slow (make test-slow)."""

import pytest

from configs import copy, recall, reverse
from research import build, evaluate, train
from research.study import arms

pytestmark = pytest.mark.slow
QUICK = {'training.steps': 1500, 'training.warmup': 100, 'training.learning_rate': 3e-3,
         'training.evaluate_every': 1500, 'training.checkpoint_every': 1500, 'batches.buckets': 1,
         'data.longest': 8, 'data.longest_test': 8, 'data.train': 20_000, 'data.test': 500}


def accuracy(task, words, folder, **changes):
    config = arms.override(task.get_config(words), QUICK | changes)
    trainer = train.Trainer(config)
    outcome = trainer.run(folder / 'run')
    pairs = trainer.data.corpus.test
    return evaluate.evaluate(trainer.translator, outcome.params, pairs, build.length_edges(config)).scores['accuracy']


@pytest.mark.parametrize('words', [
    'additive', 'dot', 'scaled_dot', 'general', 'multi_head_dot', 'transformer', 'recurrent_to_transformer',
    'transformer_to_recurrent'])
def test_reading_the_source_is_enough_to_copy_and_reverse(words, tmp_path):
    assert accuracy(copy, words, tmp_path / 'copy') >= 0.95
    assert accuracy(reverse, words, tmp_path / 'reverse') >= 0.95


@pytest.mark.parametrize('cell', ['plain', 'lstm', 'gru_reset_before', 'gru_reset_after'])
def test_every_cell_learns_to_copy(cell, tmp_path):
    rate = 1e-3 if cell == 'plain' else 3e-3
    assert accuracy(copy, 'additive', tmp_path, **{'encoder.cell': cell, 'decoder.cell': cell,
                                                   'training.learning_rate': rate}) >= 0.9


@pytest.mark.xfail(strict=True, raises=AssertionError, reason=(
    'not learned by step 3,000: 0.44 of dev right, loss 0.404 a token, which is that of writing the shown values in an '
    'order of chance (the sum of ln n! for n = 1 to 4, over 14 tokens); the same with 200,000 pairs and at 1e-3'))
def test_recall_is_learned_with_attention(tmp_path):
    assert accuracy(recall, 'transformer', tmp_path, **{
        'data.longest': 4, 'data.longest_test': 4, 'training.steps': 3000}) >= 0.9
