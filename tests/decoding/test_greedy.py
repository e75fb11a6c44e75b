"""Greedy search against float64 NumPy, and the record that it shares with the other searches."""

import functools

import jax
import numpy as np
import pytest

from research.decoding.contract import log_probabilities, penalise
from research.decoding.greedy import greedy
from research.errors import UserError
from research.text.vocabulary import BEGIN, END, PAD, UNKNOWN
from tests.decoding import toy

LENGTH = 7
SEEDS = range(4)


@functools.cache
def searching(length=LENGTH, with_weights=False):
    return jax.jit(functools.partial(greedy, toy.MODEL, length=length, with_weights=with_weights))


def found(tables, source, places, **options):
    return jax.tree.map(np.asarray, searching(**options)(tables, source, places))


def with_end(tables, gain, since):
    """The same tables, with the end symbol more probable from some position on."""
    positions = tables['positions'].copy()
    positions[since:, END] += gain
    return {**tables, 'positions': positions}


@pytest.mark.parametrize('seed', SEEDS)
def test_each_symbol_is_the_most_probable_one(seed):
    tables, (source, places) = toy.tables(seed), toy.a_source(seed=seed)
    result = found(tables, source, places)
    assert result.tokens.shape == (len(toy.LENGTHS), 1, LENGTH)
    for b, size in enumerate(toy.LENGTHS):
        tokens, score = toy.greedy(tables, source[b, :size], LENGTH)
        length = result.lengths[b, 0]
        assert tuple(result.tokens[b, 0, :length]) == tokens
        assert np.all(result.tokens[b, 0, length:] == PAD)
        assert result.finished[b, 0] == (tokens[-1] == END)
        np.testing.assert_allclose(result.scores[b, 0], score, rtol=1e-5)
        assert result.penalised[b, 0] == result.scores[b, 0]


def test_each_sentence_stops_at_its_own_limit():
    limits = [3, LENGTH, 1]
    search = jax.jit(functools.partial(greedy, toy.MODEL, length=LENGTH))
    for seed in SEEDS:
        tables, (source, places) = toy.tables(seed), toy.a_source(seed=seed)
        result = jax.tree.map(np.asarray, search(tables, source, places, limits=np.int32(limits)))
        for b, size in enumerate(toy.LENGTHS):
            tokens, score = toy.greedy(tables, source[b, :size], limits[b])
            assert tuple(result.tokens[b, 0, :result.lengths[b, 0]]) == tokens
            assert result.finished[b, 0] == (tokens[-1] == END)
            np.testing.assert_allclose(result.scores[b, 0], score, rtol=1e-5)


def test_outputs_with_a_prefix_go_on_from_it_and_the_others_are_the_same_bit_for_bit():
    prefixes = np.int32([[5, 3, 5], [PAD, PAD, PAD], [4, PAD, PAD]])
    for seed in SEEDS:
        tables, (source, places) = toy.tables(seed), toy.a_source(seed=seed)
        result = jax.tree.map(np.asarray, searching(with_weights=True)(tables, source, places, prefix=prefixes))
        for b, size in enumerate(toy.LENGTHS):
            prefix = tuple(prefixes[b][prefixes[b] != PAD].tolist())
            tokens, score = toy.greedy(tables, source[b, :size], LENGTH, prefix)
            assert tuple(result.tokens[b, 0, :result.lengths[b, 0]]) == tokens
            assert tokens[:len(prefix)] == prefix
            np.testing.assert_allclose(result.scores[b, 0], score, rtol=1e-5)
        free = found(tables, source, places, with_weights=True)
        jax.tree.map(lambda one, other: np.testing.assert_array_equal(one[1], other[1]), result, free)


def test_a_prefix_that_leaves_no_room_for_the_end_is_refused():
    with pytest.raises(UserError, match='a prefix may have 4 symbols and an output 4; a prefix must be shorter'):
        greedy(toy.MODEL, toy.tables(0), *toy.a_source(), length=4, prefix=np.zeros((3, 4), np.int32))


def test_the_types_are_those_of_the_record():
    result = searching(with_weights=True)(toy.tables(0), *toy.a_source())
    assert [str(array.dtype) for array in result] == ['int32', 'int32', 'float32', 'float32', 'bool', 'float32']
    assert {array.shape[:2] for array in result} == {(len(toy.LENGTHS), 1)}


def test_a_sentence_that_gets_no_end_symbol_is_not_finished():
    tables = with_end(toy.tables(0), -1e3, 0)
    result = found(tables, *toy.a_source())
    assert not np.any(result.finished)
    assert np.all(result.lengths == LENGTH)
    assert np.all(result.tokens >= UNKNOWN)


def test_pad_and_begin_are_never_written_however_probable_and_unknown_is_a_symbol_like_any_other():
    tables = toy.tables(0)
    tables['positions'][:, [PAD, BEGIN]] += 50
    tables['positions'][:, UNKNOWN] += 25
    result = found(tables, *toy.a_source())
    assert np.all(result.tokens == UNKNOWN)
    np.testing.assert_allclose(result.scores / LENGTH, -25, atol=12)  # the probability that they take is counted


def test_what_stands_at_padding_and_how_much_of_it_there_is_changes_nothing():
    tables, (source, places) = toy.tables(0), toy.a_source()
    expected = found(tables, source, places, with_weights=True)
    other = np.where(places.segment > 0, source, (source + 1) % toy.SOURCE)
    jax.tree.map(np.testing.assert_array_equal, found(tables, other, places, with_weights=True), expected)
    wide, wide_places = toy.a_source(width=toy.S + 3, seed=9)
    wide[:, :toy.S] = source
    result = found(tables, wide, wide_places, with_weights=True)
    assert np.all(result.weights[..., toy.S:] == 0)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6),
                 result._replace(weights=result.weights[..., :toy.S]), expected)


def test_a_sentence_does_not_see_its_neighbours_in_the_batch():
    tables, (source, places) = toy.tables(0), toy.a_source()
    together = found(tables, source, places, with_weights=True)
    for b in range(len(source)):
        alone = found(tables, *jax.tree.map(lambda array, b=b: array[b:b + 1], (source, places)), with_weights=True)
        jax.tree.map(lambda one, other, b=b: np.testing.assert_allclose(one[0], other[b], atol=1e-6), alone, together)


def test_a_row_without_a_source_gets_no_symbol_and_does_not_disturb_the_others():
    tables, lengths = toy.tables(0), [3, 0, 5]
    source, places = toy.a_source(lengths)
    result = found(tables, source, places, with_weights=True)
    assert result.lengths[1, 0] == 0
    assert np.all(result.tokens[1] == PAD)
    assert result.scores[1, 0] == result.penalised[1, 0] == 0
    assert result.finished[1, 0]
    assert np.all(result.weights[1] == 0)
    others = found(tables, *jax.tree.map(lambda array: array[[0, 2]], (source, places)), with_weights=True)
    jax.tree.map(lambda one, other: np.testing.assert_array_equal(one[[0, 2]], other), result, others)


@pytest.mark.parametrize('lengths', [[5, 3], [5, 0]], ids=['two sentences', 'a sentence and an empty row'])
def test_the_loop_stops_with_the_last_end_symbol(lengths):
    """From position 3 on every score is nan: one step too many would show."""
    never, (source, places) = with_end(toy.tables(0), -100, 0), toy.a_source(lengths)
    expected = found(with_end(never, 200, 2), source, places)
    np.testing.assert_array_equal(expected.lengths[:, 0], [3 if length else 0 for length in lengths])
    never['positions'][3:] = np.nan
    jax.tree.map(np.testing.assert_array_equal, found(with_end(never, 200, 2), source, places), expected)
    assert np.isnan(found(never, source, places).scores[0, 0])


def test_weights_are_those_of_forced_decoding_and_zero_after_the_end():
    lengths = set()
    for seed in SEEDS:
        tables, (source, places) = toy.tables(seed), toy.a_source(seed=seed)
        result = found(tables, source, places, with_weights=True)
        assert result.weights.shape == (len(source), 1, toy.N, LENGTH, toy.S)
        assert found(tables, source, places).weights is None
        expected = toy.forced_weights(tables, toy.a_batch(source, places, result.tokens[:, 0], result.lengths[:, 0]))
        for b, length in enumerate(result.lengths[:, 0]):
            np.testing.assert_allclose(result.weights[b, 0, :, :length], expected[b, :, :length], atol=1e-6)
            np.testing.assert_allclose(np.sum(result.weights[b, 0, :, :length], axis=-1), 1, atol=1e-5)
            assert np.all(result.weights[b, 0, :, length:] == 0)
            lengths.add(int(length))
    assert len(lengths) > 2


def test_weights_that_a_model_has_not_are_refused():
    with pytest.raises(UserError, match='the model returns no weights'):
        greedy(toy.Toy(explicit=False), toy.tables(0), *toy.a_source(), length=3, with_weights=True)


@pytest.mark.parametrize('length', [0, -1, 2.5, True])
def test_a_length_that_is_no_positive_integer_is_refused(length):
    with pytest.raises(UserError, match=f'length is {length}; it must be a positive integer'):
        greedy(toy.MODEL, toy.tables(0), *toy.a_source(), length=length)


def test_a_shape_is_compiled_once():
    traces = []

    @jax.jit
    def search(tables, source, places):
        traces.append(source.shape)
        return greedy(toy.MODEL, tables, source, places, length=3)
    for seed in SEEDS:
        search(toy.tables(seed), *toy.a_source(seed=seed))
    assert traces == [(len(toy.LENGTHS), toy.S)]


def test_seeds_under_vmap_are_single_seeds():
    source, places = toy.a_source()
    every = [toy.tables(seed) for seed in SEEDS]
    together = jax.jit(jax.vmap(lambda tables: greedy(toy.MODEL, tables, source, places, length=LENGTH)))(
        jax.tree.map(lambda *leaves: np.stack(leaves), *every))
    for seed, tables in enumerate(every):
        jax.tree.map(lambda one, other, seed=seed: np.testing.assert_allclose(one[seed], other, atol=1e-5), together,
                     found(tables, source, places))


def test_the_length_penalty_is_that_of_equation_14():
    np.testing.assert_allclose(penalise(np.float32([-6, -6, -6]), np.int32([1, 7, 19]), 1.0), [-6, -3, -1.5])
    np.testing.assert_allclose(penalise(np.float32([-6, -6]), np.int32([7, 19]), 0.5), [-6 / 2**0.5, -3])
    np.testing.assert_array_equal(penalise(np.float32([-6, -7]), np.int32([7, 19]), 0.0), [-6, -7])


def test_the_other_length_penalty_divides_by_a_power_of_the_length():
    np.testing.assert_allclose(penalise(np.float32([-6, -6, -6]), np.int32([1, 4, 9]), 0.5, 'power'), [-6, -3, -2])
    np.testing.assert_allclose(penalise(np.float32([-6, -6]), np.int32([2, 12]), 1.0, 'power'), [-3, -0.5])
    np.testing.assert_array_equal(penalise(np.float32([-6, 0, -np.inf]), np.int32([7, 0, 0]), 0.0, 'power'),
                                  [-6, 0, -np.inf])
    np.testing.assert_array_equal(penalise(np.float32([0, -np.inf]), np.int32([0, 0]), 1.0, 'power'), [0, -np.inf])


def test_scores_in_bfloat16_are_summed_in_float32():
    scores = np.float32([[0.5, 1, 2, 3, 4, 5]])
    result = log_probabilities(jax.numpy.asarray(scores, jax.numpy.bfloat16))
    assert result.dtype == np.float32
    expected = scores - np.log(np.sum(np.exp(np.float64(scores))))
    np.testing.assert_allclose(result[:, END:], expected[:, END:], rtol=1e-6)
    assert np.all(np.isneginf(result[:, [PAD, BEGIN]]))
