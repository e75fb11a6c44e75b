"""The linear readout, against what it must find in vectors that are made up, and against leaving out one by one."""

import numpy as np
import pytest
import scipy.stats

from research.analysis import readout

V, LENGTH = 5, 6


def sentences(count, seed=0, shortest=LENGTH):
    random = np.random.default_rng(seed)
    return [random.integers(0, V, random.integers(shortest, LENGTH, endpoint=True)) for _ in range(count)]


def indicators(rows, width=LENGTH):
    vectors = np.zeros((len(rows), width, V))
    for place, row in enumerate(rows):
        vectors[place, np.arange(len(row[:width])), row[:width]] = 1
    return vectors.reshape(len(rows), -1)


def noise(accuracy, baseline, count):
    """Whether an accuracy is what guessing may give: within five standard errors of a guess, or at the baseline."""
    return abs(accuracy - max(1 / V, baseline)) < 5 * np.sqrt(0.25 / count)


def test_a_vector_that_holds_every_symbol_says_them_all():
    rows = sentences(300, shortest=2)
    turned = indicators(rows) @ np.random.default_rng(1).normal(size=(LENGTH * V, LENGTH * V))
    found = readout.memory(turned, rows)
    assert found['distance'] == [1, 2, 3, 4, 5]
    assert found['accuracy'] == [1.0] * 5
    assert max(found['baseline']) < 0.4


def test_a_vector_of_noise_says_no_more_than_the_most_frequent_symbol():
    rows = sentences(600)
    found = readout.memory(np.random.default_rng(2).normal(size=(600, 40)), rows)
    for accuracy, baseline, count in zip(found['accuracy'], found['baseline'], found['count'], strict=True):
        assert noise(accuracy, baseline, count)


def test_what_is_forgotten_is_forgotten_at_its_distance_and_no_other():
    rows = sentences(400)
    found = readout.memory(indicators(rows, 4), rows)  # distances 0 to 3
    assert found['accuracy'][:3] == [1.0] * 3
    for place in (3, 4):
        assert noise(found['accuracy'][place], found['baseline'][place], found['count'][place])


def test_the_baseline_is_the_most_frequent_symbol_of_the_other_half():
    rows = [np.array([0, symbol, other]) for symbol, other in
            zip([2] * 80 + [1] * 40, np.random.default_rng(0).integers(0, 2**30, 120), strict=True)]
    found = readout.memory(np.zeros((120, 3)), rows)
    assert found['accuracy'][0] == found['baseline'][0] == pytest.approx(80 / 120, abs=0.1)


def test_equal_sentences_are_never_on_both_sides():
    """Each different sentence has a vector that says nothing, and comes five times: by heart it would all be right."""
    different = list({tuple(row): row for row in sentences(200)}.values())
    keys = np.random.default_rng(3).normal(size=(len(different), 400))
    found = readout.memory(np.repeat(keys, 5, axis=0), [row for row in different for _ in range(5)])
    assert max(found['accuracy']) < 0.4


def test_a_distance_that_few_sentences_have_is_left_out_and_many_are_thinned():
    rows = sentences(200) + [np.arange(60) % V] * 5
    assert readout.memory(indicators(rows), rows)['distance'] == [1, 2, 3, 4, 5]
    assert readout.memory(indicators(rows[:30]), rows[:30]) is None
    assert readout.memory(np.zeros((0, 3)), []) is None
    long = [np.random.default_rng(n).integers(0, V, 100) for n in range(60)]
    distances = readout.memory(np.zeros((60, 2)), long)['distance']
    assert (distances[0], distances[-1], len(distances)) == (1, 99, readout.DISTANCES)


def test_vectors_of_other_sentences_are_refused():
    with pytest.raises(ValueError, match='2 vectors of 3 sentences'):
        readout.memory(np.zeros((2, 4)), sentences(3))


@pytest.mark.parametrize(('n', 'E'), [(40, 7), (30, 50)])
def test_the_map_is_that_of_least_squares_with_the_penalty_that_predicts_each_sentence_best_from_the_others(n, E):
    random = np.random.default_rng(n)
    answers = random.integers(0, 3, n) + 4
    vectors = random.normal(3, 2, (n, E))
    vectors[:, 0] += answers
    vectors[:, -1] = 8.0  # says nothing, and has no variance
    others = random.normal(3, 2, (60, E))
    others[:, 0] += random.integers(0, 3, 60) + 4
    spread = vectors.std(axis=0)
    spread[-1] = 1
    features, more = ((array - vectors.mean(axis=0)) / spread for array in (vectors, others))
    wanted = (answers[:, None] == [4, 5, 6]).astype(float)

    def fitted(rows, penalty):
        """By the normal equations, the bias as one more feature without a penalty."""
        x = np.column_stack([features[rows], np.ones(len(rows))])
        ridge = penalty * np.diag([1.0] * E + [0.0])
        return np.linalg.solve(x.T @ x + ridge, x.T @ wanted[rows])

    def left_out(penalty):
        return sum(np.sum((np.append(features[i], 1) @ fitted(np.delete(np.arange(n), i), penalty) - wanted[i])**2)
                   for i in range(n))
    best = min(n * readout.PENALTIES, key=left_out)
    expected = 4 + (np.column_stack([more, np.ones(60)]) @ fitted(np.arange(n), best)).argmax(axis=1)
    np.testing.assert_array_equal(readout.linear_readout(vectors, answers, others), expected)
    assert len(set(expected)) > 1


def test_half_a_signal_is_found_to_the_degree_that_it_is_there():
    """Two symbols whose vectors overlap: no rule is right more often than the normal distribution allows."""
    random = np.random.default_rng(0)
    answers = random.integers(0, 2, 4000)
    vectors = random.normal(size=(4000, 6))
    vectors[:, 0] += 2 * answers
    right = readout.linear_readout(vectors[:2000], answers[:2000], vectors[2000:]) == answers[2000:]
    assert right.mean() == pytest.approx(scipy.stats.norm.cdf(1), abs=0.03)
