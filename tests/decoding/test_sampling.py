"""Sampling against the exact probabilities of every output there is, in float64 NumPy."""

import functools

import jax
import numpy as np
import pytest
import scipy.stats

from research.decoding.greedy import greedy
from research.decoding.sampling import sample, truncate
from research.errors import UserError
from research.text.vocabulary import BEGIN, PAD
from tests.decoding import toy

LENGTH, SHORT = 7, 3
NUMBERS = np.int32([4, 17, 2])
SEVERAL = 4


@functools.cache
def sampling(length=LENGTH, samples=SEVERAL, temperature=1.0, top_k=None, top_p=1.0, with_weights=False):
    return jax.jit(functools.partial(sample, toy.MODEL, length=length, samples=samples, temperature=temperature,
                                     top_k=top_k, top_p=top_p, with_weights=with_weights))


def drawn(tables, source, places, *, seed=0, numbers=NUMBERS, prefix=None, **options):
    return jax.tree.map(np.asarray, sampling(**options)(tables, source, places, key=jax.random.key(seed),
                                                        numbers=numbers, prefix=prefix))


def flat(tables):
    """Tables with which many outputs are about as probable."""
    return {name: 0.4 * table for name, table in tables.items()}


def outputs(result, b):
    """The symbols of each sample of a sentence, padding left out."""
    return [tuple(tokens[:length].tolist()) for tokens, length in zip(result.tokens[b], result.lengths[b])]


@pytest.mark.parametrize(('temperature', 'top_k', 'top_p'), [(1.0, None, 1.0), (0.6, 3, 1.0), (1.4, None, 0.8),
                                                             (0.9, 3, 0.7)])
def test_outputs_are_as_frequent_as_they_are_probable_and_what_is_left_out_is_never_written(temperature, top_k, top_p):
    tables, (source, places) = flat(toy.tables(3)), toy.a_source(seed=3)
    samples = 2000
    result = drawn(tables, source, places, length=SHORT, samples=samples, temperature=temperature, top_k=top_k,
                   top_p=top_p)
    classes = 0
    for b, size in enumerate(toy.LENGTHS):
        exact = toy.frequencies(tables, source[b, :size], SHORT, temperature, top_k, top_p)
        np.testing.assert_allclose(sum(exact.values()), 1)
        counts = dict.fromkeys(exact, 0)
        for tokens in outputs(result, b):
            counts[tokens] += 1
        assert all(counts[tokens] == 0 for tokens, p in exact.items() if p == 0)
        assert (min(exact.values()) == 0) == (top_k is not None or top_p < 1)
        often = [tokens for tokens, p in exact.items() if p * samples >= 5]  # the others are one class
        observed, expected = ([*(each[tokens] for tokens in often),
                               sum(each.values()) - sum(each[tokens] for tokens in often)]
                              for each in (counts, {tokens: p * samples for tokens, p in exact.items()}))
        if expected[-1] < 1:
            observed, expected = observed[:-1], np.array(expected[:-1]) * sum(observed[:-1]) / sum(expected[:-1])
        assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3
        classes += len(expected)
    assert classes > 10


@pytest.mark.parametrize('options', [{}, {'temperature': 0.5, 'top_k': 3, 'top_p': 0.9}])
def test_scores_are_those_of_the_model_whatever_it_is_drawn_from(options):
    for seed in range(2):
        tables, (source, places) = toy.tables(seed), toy.a_source(seed=seed)
        result = drawn(tables, source, places, **options)
        for b, size in enumerate(toy.LENGTHS):
            expected = [toy.total(tables, source[b, :size], tokens) for tokens in outputs(result, b)]
            np.testing.assert_allclose(result.scores[b], expected, rtol=1e-5)
        np.testing.assert_array_equal(result.penalised, result.scores)


@pytest.mark.parametrize('options', [{'top_k': 1}, {'temperature': 1e-6}, {'top_p': 1e-9}])
def test_only_the_most_probable_symbol_is_greedy_search(options):
    search = jax.jit(functools.partial(greedy, toy.MODEL, length=LENGTH))
    for seed in range(3):
        tables, (source, places) = toy.tables(seed), toy.a_source(seed=seed)
        expected = jax.tree.map(lambda array: np.repeat(array, SEVERAL, axis=1), search(tables, source, places))
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6),
                     drawn(tables, source, places, seed=seed, **options), expected)


def test_a_sample_depends_on_the_number_of_its_sentence_and_its_own_and_on_nothing_beside_it():
    tables, (source, places) = toy.tables(0), toy.a_source()
    expected = drawn(tables, source, places)
    order = np.array([2, 0])
    some = drawn(tables, *jax.tree.map(lambda array: array[order], (source, places)), numbers=NUMBERS[order])
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other[order], rtol=1e-6), some, expected)
    fewer = drawn(tables, source, places, samples=2)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other[:, :2], rtol=1e-6), fewer, expected)
    shorter = drawn(tables, source, places, length=SHORT)
    np.testing.assert_array_equal(shorter.tokens, expected.tokens[:, :, :SHORT])


def test_keys_numbers_and_samples_make_a_difference():
    tables, (source, places) = toy.tables(0), toy.a_source([5, 5, 5])
    source = np.repeat(source[:1], 3, axis=0)
    result = drawn(tables, source, places, numbers=np.int32([3, 5, 3]))
    assert outputs(result, 0) == outputs(result, 2)  # of equal numbers and sources
    assert outputs(result, 0) != outputs(result, 1)
    assert len(set(outputs(result, 0))) > 1
    assert outputs(drawn(tables, source, places, numbers=np.int32([3, 5, 3]), seed=1), 0) != outputs(result, 0)


def test_outputs_begin_with_their_prefix_and_the_others_are_the_same_bit_for_bit():
    tables, (source, places) = toy.tables(1), toy.a_source(seed=1)
    prefixes = np.int32([[5, 3, 5], [PAD, PAD, PAD], [4, PAD, PAD]])
    options = {'top_k': 2, 'temperature': 0.5}  # which would seldom write these
    result, free = drawn(tables, source, places, prefix=prefixes, **options), drawn(tables, source, places, **options)
    for b, size in enumerate(toy.LENGTHS):
        prefix = tuple(prefixes[b][prefixes[b] != PAD].tolist())
        for tokens, score in zip(outputs(result, b), result.scores[b], strict=True):
            assert tokens[:len(prefix)] == prefix
            np.testing.assert_allclose(score, toy.total(tables, source[b, :size], tokens), rtol=1e-5)
    jax.tree.map(lambda one, other: np.testing.assert_array_equal(one[1], other[1]), result, free)


def test_pad_and_begin_are_never_written_however_probable():
    tables, (source, places) = toy.tables(0), toy.a_source()
    tables['positions'][:, [PAD, BEGIN]] += 50
    for options in ({}, {'top_k': toy.V, 'top_p': 0.999}):
        for b, samples in enumerate(drawn(tables, source, places, **options).tokens):
            assert not np.any(samples == BEGIN)
            assert all(PAD not in tokens for tokens in outputs(drawn(tables, source, places, **options), b))


def test_each_sentence_stops_at_its_own_limit_and_one_without_a_source_writes_nothing():
    tables, (source, places) = toy.tables(0), toy.a_source([5, 0, 1])
    limits = np.int32([2, LENGTH, 3])
    result = jax.tree.map(np.asarray, jax.jit(functools.partial(sample, toy.MODEL, length=LENGTH, samples=SEVERAL))(
        tables, source, places, key=jax.random.key(0), numbers=NUMBERS, limits=limits))
    free = drawn(tables, source, places)
    assert np.all(result.lengths <= limits[:, None])
    for b, limit in enumerate(limits):
        np.testing.assert_array_equal(result.tokens[b, :, :limit], free.tokens[b, :, :limit])
    assert not np.any(result.lengths[1])
    assert np.all(result.finished[1])
    np.testing.assert_array_equal(result.scores[1], 0)


def test_weights_are_those_of_forced_decoding_of_each_sample():
    tables, (source, places) = toy.tables(1), toy.a_source(seed=1)
    result = drawn(tables, source, places, with_weights=True)
    assert result.weights.shape == (len(source), SEVERAL, toy.N, LENGTH, toy.S)
    every = jax.tree.map(lambda array: np.repeat(array, SEVERAL, axis=0), (source, places))
    forced = toy.forced_weights(tables, toy.a_batch(*every, result.tokens.reshape(-1, LENGTH),
                                                    result.lengths.reshape(-1)))
    for row, length in enumerate(result.lengths.reshape(-1)):
        weights = result.weights.reshape(-1, toy.N, LENGTH, toy.S)[row]
        np.testing.assert_allclose(weights[:, :length], forced[row, :, :length], atol=1e-6)
        assert not np.any(weights[:, length:])


def test_truncating_keeps_the_best_and_of_these_the_nucleus():
    scores = np.log(np.float32([[0.1, 0.4, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]]))

    def kept(top_k, top_p):
        result = np.asarray(truncate(scores, top_k, top_p))
        np.testing.assert_array_equal(result[np.isfinite(result)], scores[np.isfinite(result)])
        return np.isfinite(result).astype(int).tolist()
    assert kept(None, 1.0) == kept(4, 1.0) == [[1, 1, 1, 1], [1, 1, 1, 1]]
    assert kept(3, 1.0) == [[0, 1, 1, 1], [1, 1, 1, 0]]
    assert kept(3, 0.6) == [[0, 1, 0, 1], [1, 1, 0, 0]]
    assert kept(None, 0.69) == [[0, 1, 0, 1], [1, 1, 1, 0]]
    assert kept(None, 0.71) == [[0, 1, 1, 1], [1, 1, 1, 0]]
    assert kept(None, 1e-9) == kept(1, 1.0) == [[0, 1, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize(('options', 'message'), [
    ({'length': 0}, 'length is 0; it must be a positive integer'),
    ({'samples': 0}, 'samples is 0; it must be a positive integer'),
    ({'top_k': 0}, 'top_k is 0; it must be a positive integer'),
    ({'top_k': 7}, 'top_k is 7, and there are 6 symbols; it must be at most that'),
    ({'top_p': 0.0}, 'top_p is 0.0; it must be above 0 and at most 1'),
    ({'top_p': 1.5}, 'top_p is 1.5; it must be above 0 and at most 1'),
    ({'top_p': float('nan')}, 'top_p is nan'),
    ({'temperature': 0.0}, 'temperature is 0.0; it must be a finite number of at least 1e-06'),
    ({'temperature': float('inf')}, 'temperature is inf'),
    ({'prefix': np.zeros((3, 3), np.int32)}, 'a prefix may have 3 symbols and an output 3')])
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        sample(toy.MODEL, jax.device_put(toy.tables(0)), *toy.a_source(), key=jax.random.key(0), numbers=NUMBERS,
               **({'length': 3} | options))
