"""The choice of minimum Bayes risk against all comparisons there are, one by one."""

import numpy as np
import pytest
import sacrebleu

from research.decoding.minimum_bayes_risk import choose, chrf_utility

WORDS = ['the', 'a', 'big', 'red', 'dog', 'cat', 'sleeps', 'runs', 'away']


def some_samples(seed):
    """16 texts, some of them equal."""
    random = np.random.default_rng(seed)
    different = [' '.join(random.choice(WORDS, random.integers(0, 7))) for _ in range(9)]
    return [different[index] for index in random.integers(0, 9, 16)]


@pytest.mark.parametrize('seed', range(6))
def test_the_chosen_sample_has_the_highest_mean_chrf_against_all_of_them(seed):
    texts = some_samples(seed)
    metric = sacrebleu.CHRF()
    means = [np.mean([metric.sentence_score(text, [reference]).score for reference in texts]) for text in texts]
    chosen = choose(texts)
    np.testing.assert_allclose(means[chosen], max(means), rtol=1e-12)
    assert texts.index(texts[chosen]) == chosen  # the first of equal ones


def test_the_utility_is_chrf_of_one_sentence():
    texts = [*some_samples(0), '', 'Ein Hund!']
    for reference in texts:
        expected = [sacrebleu.sentence_chrf(text, [reference]).score for text in texts]
        np.testing.assert_array_equal(chrf_utility(texts, reference), expected)


def test_equal_samples_count_as_often_as_they_were_drawn():
    """Alone, 'b' is the one most like the others; drawn three times, 'a' is most like itself."""
    likeness = {('a', 'a'): 1, ('b', 'b'): 1, ('c', 'c'): 1, ('a', 'b'): 0.4, ('b', 'c'): 0.4, ('a', 'c'): 0.0}

    def utility(hypotheses, reference):
        return [likeness[tuple(sorted((hypothesis, reference)))] for hypothesis in hypotheses]
    assert choose(['a', 'c', 'b'], utility) == 2
    assert choose(['c', 'a', 'b', 'a', 'a'], utility) == 1


def test_different_texts_are_compared_once():
    asked = []

    def utility(hypotheses, reference):
        asked.extend((hypothesis, reference) for hypothesis in hypotheses)
        return [0.0] * len(hypotheses)
    assert choose(['x', 'y', 'x', 'x', 'y'], utility) == 0  # equally good: the first
    assert sorted(asked) == [('x', 'x'), ('x', 'y'), ('y', 'x'), ('y', 'y')]


def test_one_sample_is_the_choice_and_none_is_a_mistake():
    assert choose(['']) == 0
    with pytest.raises(ValueError, match='No text to choose from'):
        choose([])
