"""Beam search against every output there is, and against a beam search in float64 NumPy that never stops early."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.decoding import beam as beam_search
from research.decoding import contract
from research.decoding.beam import beam
from research.decoding.contract import force, log_probabilities, until_all_are_over
from research.decoding.greedy import greedy
from research.decoding.scoring import score
from research.errors import UserError
from research.text.vocabulary import BEGIN, END, PAD, UNKNOWN
from tests.decoding import toy

SHORT, LENGTH = 4, 11
ENOUGH = 113  # beams that lose nothing: 27 prefixes of 3 symbols, each of which 4 symbols may follow
SEEDS = range(3)


@functools.cache
def searching(beams, penalty, penalise_by='wu', coverage=0.0, length=LENGTH, with_weights=False, patience=0.0,
              best=None):
    return jax.jit(functools.partial(
        beam, toy.MODEL, length=length, beams=beams, penalty=penalty, patience=patience, penalise_by=penalise_by,
        coverage=coverage, with_weights=with_weights, best=best))


def found(tables, source, places, *, prefix=None, **options):
    return jax.tree.map(np.asarray, searching(**options)(tables, source, places, prefix=prefix))


def ranking(penalty, penalise_by='wu', coverage=0.0):
    return {'penalty': penalty, 'penalise_by': penalise_by, 'coverage': coverage}


def reluctant(seed):
    """Tables with which outputs of very different lengths compete: the end symbol is seldom the most probable one."""
    tables = toy.tables(seed)
    tables['positions'][:, END] -= 1.0
    return tables


def every_pair(source, places, result):
    """Each sentence with each of its hypotheses: a batch of B x W pairs."""
    W = result.lengths.shape[1]
    source, places = jax.tree.map(lambda array: np.repeat(array, W, axis=0), (source, places))
    return toy.a_batch(source, places, result.tokens.reshape(-1, LENGTH), result.lengths.reshape(-1))


def assert_hypotheses_are(result, b, expected):
    """Those of sentence b are [(symbols, score, penalised)], and nothing comes after them."""
    for w, (tokens, total, penalised) in enumerate(expected):
        assert result.lengths[b, w] == len(tokens), (b, w)
        assert tuple(result.tokens[b, w, :len(tokens)]) == tokens, (b, w)
        assert np.all(result.tokens[b, w, len(tokens):] == PAD)
        assert result.finished[b, w] == (tokens[-1] == END)
        np.testing.assert_allclose(result.scores[b, w], total, rtol=1e-5)
        np.testing.assert_allclose(result.penalised[b, w], penalised, rtol=1e-5)
    rest = slice(len(expected), None)
    assert np.all(np.isneginf(result.scores[b, rest]))
    assert np.all(result.tokens[b, rest] == PAD)
    assert not np.any(result.lengths[b, rest])
    assert not np.any(result.finished[b, rest])


RANKINGS = [(0.0,), (0.6,), (2.0,), (1.0, 'power'), (0.6, 'power', 0.5), (0.0, 'wu', 2.0)]


@pytest.mark.parametrize('by', RANKINGS)
def test_with_enough_beams_the_outputs_are_the_best_of_all_there_are(by):
    tables, (source, places) = toy.tables(0), toy.a_source()
    result = found(tables, source, places, beams=ENOUGH, length=SHORT, **ranking(*by))
    for b, size in enumerate(toy.LENGTHS):
        every = toy.exhaustive(tables, source[b, :size], SHORT, *by)
        assert len(every) == 121  # 1 + 3 + 9 + 27 that end, 81 that do not
        assert_hypotheses_are(result, b, every[:ENOUGH])


@pytest.mark.parametrize(('beams', 'by'), [
    *((beams, by) for beams in (1, 2, 5) for by in [(0.0,), (0.6,), (2.0,)]),
    (1, (1.0, 'power', 0.3)), (5, (1.0, 'power')), (5, (0.4, 'power', 0.5)), (5, (0.0, 'wu', 2.0))])
def test_with_few_beams_the_outputs_are_those_of_a_search_that_never_stops_early(beams, by):
    for seed in SEEDS:
        tables, (source, places) = reluctant(seed), toy.a_source(seed=seed)
        result = found(tables, source, places, beams=beams, **ranking(*by))
        for b, size in enumerate(toy.LENGTHS):
            assert_hypotheses_are(result, b, toy.beam(tables, source[b, :size], LENGTH, beams, *by))


def test_penalties_change_which_output_is_the_best_and_no_score():
    """Of all outputs there are: the same ones, with the same scores, in other orders."""
    tables, (source, places) = toy.tables(0), toy.a_source()
    orders, scores = set(), []
    for by in RANKINGS[0], RANKINGS[2], RANKINGS[3], RANKINGS[5]:
        result = found(tables, source, places, beams=ENOUGH, length=SHORT, **ranking(*by))
        ended = result.finished[0]
        rows = [(tuple(tokens), score) for tokens, score in zip(result.tokens[0, ended].tolist(),
                                                                result.scores[0, ended], strict=True)]
        orders.add(tuple(tokens for tokens, _ in rows))
        scores.append(dict(rows))
    assert len(orders) == 4
    assert all(other == scores[0] for other in scores)


@pytest.mark.parametrize('penalty', [0.0, 0.6, 2.0])
@pytest.mark.parametrize('beams', [1, 5])
def test_each_sentence_stops_at_its_own_limit(beams, penalty):
    """As if it were searched alone with that length, whatever room the others have."""
    limits = [3, LENGTH, 1]
    search = jax.jit(functools.partial(beam, toy.MODEL, length=LENGTH, beams=beams, penalty=penalty, with_weights=True))
    for seed in SEEDS:
        tables, (source, places) = reluctant(seed), toy.a_source(seed=seed)
        result = jax.tree.map(np.asarray, search(tables, source, places, limits=np.int32(limits)))
        for b, size in enumerate(toy.LENGTHS):
            assert_hypotheses_are(result, b, toy.beam(tables, source[b, :size], limits[b], beams, penalty))
            assert not np.any(result.weights[b, :, :, limits[b]:])
    assert not np.all(result.finished)


def test_no_number_of_beams_ranks_above_the_best_output_and_enough_reach_it():
    tables, (source, places), penalty = reluctant(1), toy.a_source(seed=1), 0.6
    best = np.array([toy.exhaustive(tables, source[b, :size], SHORT, penalty)[0][2]
                     for b, size in enumerate(toy.LENGTHS)])
    for beams in (1, 2, 5):
        result = found(tables, source, places, beams=beams, penalty=penalty, length=SHORT)
        assert np.all((result.penalised[:, 0] <= best + 1e-5) | ~result.finished[:, 0])
    every = found(tables, source, places, beams=ENOUGH, penalty=penalty, length=SHORT)
    np.testing.assert_allclose(every.penalised[:, 0], best, rtol=1e-5)


@pytest.mark.parametrize('change', [toy.tables, reluctant])
def test_one_beam_is_greedy_search_and_never_ranks_lower_with_a_penalty(change):
    search = jax.jit(functools.partial(greedy, toy.MODEL, length=LENGTH, with_weights=True))
    for seed in SEEDS:
        tables, (source, places) = change(seed), toy.a_source(seed=seed)
        expected = jax.tree.map(np.asarray, search(tables, source, places))
        result = found(tables, source, places, beams=1, penalty=0.0, with_weights=True)
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), result, expected)
        penalised = found(tables, source, places, beams=1, penalty=1.0)
        least = toy.wu(expected.scores, expected.lengths, 1.0)
        assert np.all((penalised.penalised >= least - 1e-5) | ~expected.finished)


@pytest.mark.parametrize(('patience', 'enough'), [(1.0, 4), (0.6, 2), (0.05, 1), (1.9, 8)])
@pytest.mark.parametrize('by', [(0.0,), (1.0,), (0.4, 'power', 0.5)])
def test_with_patience_a_sentence_is_over_when_so_many_outputs_have_ended(patience, enough, by):
    """And not before: to have ended is not to be among the best; and its neighbours have no part in it."""
    differ = 0
    for seed in SEEDS:
        tables, (source, places) = reluctant(seed), toy.a_source(seed=seed)
        result = found(tables, source, places, beams=4, patience=patience, **ranking(*by))
        for b, size in enumerate(toy.LENGTHS):
            expected = toy.beam(tables, source[b, :size], LENGTH, 4, *by, enough=enough)
            assert_hypotheses_are(result, b, expected)
            differ += expected != toy.beam(tables, source[b, :size], LENGTH, 4, *by)
    assert differ or patience > 1


@pytest.mark.parametrize('by', [(0.0,), (1.0,), (1.0, 'power'), (0.6, 'wu', 0.3)])
def test_stopping_early_changes_nothing_that_is_returned(by, monkeypatch):
    tables, (source, places) = toy.tables(2), toy.a_source(seed=2)
    early = found(tables, source, places, beams=3, with_weights=True, **ranking(*by))
    monkeypatch.setattr(beam_search, 'settled', lambda live, *_: jnp.zeros(len(live), bool))
    never = jax.jit(functools.partial(beam, toy.MODEL, length=LENGTH, beams=3, with_weights=True, **ranking(*by)))
    jax.tree.map(np.testing.assert_array_equal, early, jax.tree.map(np.asarray, never(tables, source, places)))


@pytest.mark.parametrize('lengths', [[5, 3], [5, 0]], ids=['two sentences', 'a sentence and an empty row'])
def test_the_loop_stops_when_no_sentence_can_improve(lengths, monkeypatch):
    """From position 5 on every score is nan: one step too many would show."""
    tables, (source, places) = toy.tables(0), toy.a_source(lengths)
    tables['positions'][2:, END] += 30
    expected = found(tables, source, places, beams=2, penalty=0.6)
    tables['positions'][5:] = np.nan
    jax.tree.map(np.testing.assert_array_equal, found(tables, source, places, beams=2, penalty=0.6), expected)
    assert np.all(np.isfinite(expected.scores[:, 0]))
    monkeypatch.setattr(beam_search, 'settled', lambda live, *_: jnp.zeros(len(live), bool))
    never = jax.jit(functools.partial(beam, toy.MODEL, length=LENGTH, beams=2, penalty=0.6))(tables, source, places)
    assert np.any(np.isnan(never.scores))


def counted_steps(tables, source, places, **options):
    """How many steps were taken."""
    counted = []

    class Counted(toy.Toy):
        def step(self, memory, carry, token):
            jax.debug.callback(lambda: counted.append(1))
            return super().step(memory, carry, token)
    jax.block_until_ready(jax.jit(functools.partial(beam, Counted(), length=LENGTH, **options))(tables, source, places))
    jax.effects_barrier()
    return len(counted)


@pytest.mark.parametrize('by', [(0.0,), (1.0,), (1.0, 'power', 0.5)])
@pytest.mark.parametrize('patience', [0.0, 1.0])
def test_fewer_outputs_are_the_first_of_all_and_are_found_sooner(by, patience):
    sooner = 0
    for seed in SEEDS:
        tables, (source, places) = reluctant(seed), toy.a_source([3], seed=seed)
        options = {'beams': 5, 'patience': patience, **ranking(*by)}
        every, steps = found(tables, source, places, with_weights=True, **options), []
        for best in 1, 2, 5:
            result = found(tables, source, places, best=best, with_weights=True, **options)
            first = jax.tree.map(lambda leaf, best=best: leaf[:, :best], every)
            jax.tree.map(np.testing.assert_array_equal, result, first)
            steps.append(counted_steps(tables, source, places, best=best, **options))
        assert steps == sorted(steps)
        sooner += steps[0] < steps[-1]
    assert sooner or patience or 'power' in by  # by the mean, what goes on to the limit may still become better


def test_the_first_step_is_of_one_hypothesis_a_sentence():
    """All others are of the W, and there are no more steps than symbols: what is stepped is counted by its rows."""
    rows = []

    class Counted(toy.Toy):
        def step(self, memory, carry, token):
            rows.append(len(token))
            return super().step(memory, carry, token)
    source, places = toy.a_source()
    jax.jit(functools.partial(beam, Counted(), length=LENGTH, beams=3, penalty=0.6))(toy.tables(0), source, places)
    assert rows == [len(toy.LENGTHS), *[3 * len(toy.LENGTHS)] * (len(rows) - 1)]


def test_the_bound_is_the_score_of_the_best_live_hypothesis_at_the_largest_length():
    live, finished = np.float32([[-9.0, -6.0]] * 4), np.float32([[-1, -2.9], [-1, -3.0], [-1, -3.1], [-1, -np.inf]])
    np.testing.assert_array_equal(beam_search.settled(live, finished, 7, 1.0), [True, True, False, False])
    np.testing.assert_array_equal(beam_search.settled(live, finished, 7, 0.0), [True, True, True, False])
    np.testing.assert_array_equal(beam_search.settled(live, finished, 2, 1.0, 'power'), [True, True, False, False])


@pytest.mark.parametrize('penalty', [0.0, 1.0])
def test_the_score_of_a_hypothesis_is_its_forced_score(penalty):
    """Also shows that the carry follows the beams: it hashes all symbols so far."""
    forced = jax.jit(functools.partial(score, toy.MODEL))
    for seed in SEEDS:
        tables, (source, places) = reluctant(seed), toy.a_source(seed=seed)
        result = found(tables, source, places, beams=5, penalty=penalty)
        assert np.all(np.isfinite(result.scores))
        for b in range(len(source)):
            assert len({tuple(row) for row in result.tokens[b].tolist()}) == 5
            assert np.all(np.diff(result.penalised[b, result.finished[b]]) <= 0)
        batch = every_pair(source, places, result)
        np.testing.assert_allclose(result.scores.reshape(-1), forced(tables, batch), rtol=1e-5)


def test_hypotheses_that_do_not_end_stand_behind_all_that_do():
    tables, (source, places) = toy.tables(0), toy.a_source()
    tables['positions'][1:, END] = -1e9  # nothing ends but after no symbol at all, which is improbable
    tables['positions'][0, END] -= 8
    result = found(tables, source, places, beams=5, penalty=1.0)
    for b, size in enumerate(toy.LENGTHS):
        assert_hypotheses_are(result, b, toy.beam(tables, source[b, :size], LENGTH, 5, 1.0))
    np.testing.assert_array_equal(np.sort(~result.finished, axis=1), ~result.finished)
    assert not np.all(result.finished)
    unfinished = ~result.finished
    assert np.all(result.lengths[unfinished] == LENGTH)
    every = found(tables, source, places, beams=ENOUGH, penalty=1.0, length=2)
    assert np.all(every.finished[:, 0])
    assert np.all(every.penalised[:, 0] < np.max(every.penalised, axis=1))


def test_pad_and_begin_are_never_written_however_probable():
    tables, (source, places) = toy.tables(0), toy.a_source()
    tables['positions'][:, [PAD, BEGIN]] += 50
    result = found(tables, source, places, beams=5, penalty=0.6)
    written = np.arange(LENGTH) < result.lengths[:, :, None]
    assert np.all(result.tokens[written] >= END)
    assert np.any(result.tokens[written] == UNKNOWN)


def test_what_stands_at_padding_and_how_much_of_it_there_is_changes_nothing():
    tables, (source, places) = toy.tables(0), toy.a_source()
    options = {'beams': 3, 'penalty': 0.6, 'with_weights': True}
    expected = found(tables, source, places, **options)
    other = np.where(places.segment > 0, source, (source + 1) % toy.SOURCE)
    jax.tree.map(np.testing.assert_array_equal, found(tables, other, places, **options), expected)
    wide, wide_places = toy.a_source(width=toy.S + 3, seed=9)
    wide[:, :toy.S] = source
    result = found(tables, wide, wide_places, **options)
    assert np.all(result.weights[..., toy.S:] == 0)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5),
                 result._replace(weights=result.weights[..., :toy.S]), expected)


def test_a_sentence_does_not_see_its_neighbours_in_the_batch():
    tables, (source, places) = reluctant(0), toy.a_source()
    options = {'beams': 3, 'penalty': 0.6, 'with_weights': True}
    together = found(tables, source, places, **options)
    for b in range(len(source)):
        alone = found(tables, *jax.tree.map(lambda array, b=b: array[b:b + 1], (source, places)), **options)
        jax.tree.map(lambda one, other, b=b: np.testing.assert_allclose(one[0], other[b], atol=1e-5), alone, together)


def test_a_row_without_a_source_has_one_hypothesis_without_a_symbol_and_disturbs_nobody():
    tables, options = toy.tables(0), {'beams': 3, 'penalty': 0.6, 'with_weights': True}
    source, places = toy.a_source([3, 0, 5])
    result = found(tables, source, places, **options)
    assert np.all(result.tokens[1] == PAD)
    np.testing.assert_array_equal(result.lengths[1], [0, 0, 0])
    np.testing.assert_array_equal(result.scores[1], [0, -np.inf, -np.inf])
    np.testing.assert_array_equal(result.penalised[1], [0, -np.inf, -np.inf])
    np.testing.assert_array_equal(result.finished[1], [True, False, False])
    assert np.all(result.weights[1] == 0)
    others = found(tables, *jax.tree.map(lambda array: array[[0, 2]], (source, places)), **options)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one[[0, 2]], other, atol=1e-6), result, others)


def test_weights_are_those_of_forced_decoding_of_each_hypothesis():
    tables, (source, places) = reluctant(1), toy.a_source(seed=1)
    B, W = len(source), 5
    result = found(tables, source, places, beams=W, penalty=1.0, with_weights=True)
    assert result.weights.shape == (B, W, toy.N, LENGTH, toy.S)
    assert found(tables, source, places, beams=W, penalty=1.0).weights is None
    forced = toy.forced_weights(tables, every_pair(source, places, result))
    for row, length in enumerate(result.lengths.reshape(-1)):
        weights = result.weights.reshape(B * W, toy.N, LENGTH, toy.S)[row]
        np.testing.assert_allclose(weights[:, :length], forced[row, :, :length], atol=1e-6)
        assert np.all(weights[:, length:] == 0)
    assert len(np.unique(result.lengths)) > 2


def test_weights_are_carried_only_when_they_are_asked_for():
    stored = f'[{len(toy.LENGTHS)},{LENGTH},3,{toy.N},{toy.S}]'
    for with_weights in (False, True):
        program = jax.make_jaxpr(searching(3, 0.6, with_weights=with_weights))(toy.tables(0), *toy.a_source())
        assert (stored in str(program)) == with_weights


def test_what_was_read_is_summed_only_for_a_coverage_penalty():
    for coverage in (0.0, 0.5):
        program = jax.make_jaxpr(searching(3, 0.6, coverage=coverage))(toy.tables(0), *toy.a_source())
        loop = next(equation for equation in program.eqns[0].params['jaxpr'].eqns if equation.primitive.name == 'while')
        summed = (len(toy.LENGTHS), 3, toy.S) in [variable.aval.shape for variable in loop.outvars]
        assert summed == bool(coverage)


def test_the_coverage_penalty_is_that_of_equation_14_and_finite_where_nothing_was_read():
    totals = np.float32([[[0.5, 3.0, 0.25, 0.0], [1.0, 0.1, 2.0, 7.0]], [[0.2, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    result = beam_search.coverage_penalty(totals, toy.places([3, 1], 4), 0.4)
    np.testing.assert_allclose(result[0], [0.4 * np.log(0.5 * 0.25), 0.4 * np.log(0.1)], rtol=1e-6)
    np.testing.assert_allclose(result[1], [0.4 * np.log(0.2), 0.4 * np.log(2.0**-126)], rtol=1e-6)


@pytest.mark.parametrize('option', [{'with_weights': True}, {'coverage': 0.1}])
def test_weights_that_a_model_has_not_are_refused(option):
    with pytest.raises(UserError, match='the model returns no weights'):
        beam(toy.Toy(explicit=False), toy.tables(0), *toy.a_source(), length=3, beams=2, penalty=0.0, **option)


def test_weights_over_something_else_than_the_source_are_refused():
    with pytest.raises(UserError, match='over the 5 positions of the source, and those of this model are over 1'):
        beam_search.require_source_positions(jax.ShapeDtypeStruct((3, 2, 1), np.float32), toy.a_source()[1])


PREFIXES = np.int32([[5, 3, 5], [PAD, PAD, PAD], [4, PAD, PAD]])


@pytest.mark.parametrize(('beams', 'by'), [(1, (0.0,)), (4, (1.0, 'power', 0.5))])
def test_outputs_with_a_prefix_are_those_of_a_search_that_can_write_nothing_else_there(beams, by):
    """And a sentence that has none gets what it gets without prefixes, bit for bit."""
    for seed in SEEDS:
        tables, (source, places) = reluctant(seed), toy.a_source(seed=seed)
        result = found(tables, source, places, beams=beams, prefix=PREFIXES, **ranking(*by))
        for b, size in enumerate(toy.LENGTHS):
            prefix = tuple(PREFIXES[b][PREFIXES[b] != PAD].tolist())
            assert_hypotheses_are(result, b, toy.beam(tables, source[b, :size], LENGTH, beams, *by, prefix=prefix))
            assert np.all(result.tokens[b, :, :len(prefix)] == prefix)
        free = found(tables, source, places, beams=beams, **ranking(*by))
        jax.tree.map(lambda one, other: np.testing.assert_array_equal(one[1], other[1]), result, free)
        assert not np.array_equal(result.tokens, free.tokens)


@pytest.mark.parametrize(('options', 'message'), [
    ({'length': 0}, 'length is 0; it must be a positive integer'),
    ({'beams': 0}, 'beams is 0; it must be a positive integer'),
    ({'beams': 2.0}, 'beams is 2.0; it must be a positive integer'),
    ({'penalty': -0.5}, 'the length penalty is -0.5; it must be a finite number, 0 or more'),
    ({'penalty': float('nan')}, 'the length penalty is nan'),
    ({'penalty': float('inf')}, 'the length penalty is inf'),
    ({'penalise_by': 'pwer'}, "unknown length penalty 'pwer'. Did you mean 'power'. Known: wu, power"),
    ({'coverage': -1.0}, 'the coverage penalty is -1.0; it must be a finite number, 0 or more'),
    ({'patience': -1.0}, 'patience is -1.0; it must be a finite number, 0 or more'),
    ({'patience': float('nan')}, 'patience is nan'),
    ({'best': 0}, 'best is 0; it must be a positive integer'),
    ({'best': 3}, 'best is 3, and a search with 2 beams holds so many; best must be at most that'),
    ({'prefix': PREFIXES}, 'a prefix may have 3 symbols and an output 3; a prefix must be shorter than its output')])
def test_numbers_that_mean_nothing_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        beam(toy.MODEL, toy.tables(0), *toy.a_source(), **({'length': 3, 'beams': 2, 'penalty': 0.0} | options))


def extensions(logits, live, count, prefix=None, position=None):
    """All of them, normalised, in one list."""
    gains = force(log_probabilities(logits), prefix, position)
    return jax.lax.top_k((live[:, :, None] + gains).reshape(len(live), -1), count)


@pytest.mark.parametrize('V', [5, 32, 33, 100, 512])
@pytest.mark.parametrize('kind', ['different', 'equal', 'without some', 'with a prefix', 'never written'])
def test_the_best_extensions_are_those_of_all_and_equal_ones_stand_in_their_order(V, kind):
    random = np.random.default_rng(V)
    logits, live = random.normal(size=(3, 4, V)).astype(np.float32), random.normal(size=(3, 4)).astype(np.float32)
    prefix, position = None, 1
    if kind == 'equal':  # twelve or so of each, in neighbouring and in distant chunks
        logits, live = np.round(logits), np.zeros_like(live)
        logits[:, 1:] = logits[:, :1]
    elif kind == 'without some':
        live[:, 1:] = -np.inf  # as before the first symbol
        live[2] = -np.inf
        logits[1, 0, 3:] = -np.inf
    elif kind == 'never written':
        logits[:, :, [PAD, BEGIN]] += 20
        live[:] = 0  # what is best stands in many chunks
    elif kind == 'with a prefix':
        prefix = np.int32([[3, V - 1], [4, PAD], [3, 4]])
    one, other = (jax.jit(search, static_argnums=2)(logits, live, 8, prefix, position)
                  for search in (beam_search.best_extensions, extensions))
    np.testing.assert_allclose(one[0], other[0], rtol=1e-6)
    there = np.asarray(other[0]) > -np.inf
    np.testing.assert_array_equal(np.asarray(one[1])[there], np.asarray(other[1])[there])
    assert np.all(there) == (kind in ('different', 'equal', 'never written'))


@pytest.mark.parametrize(('lengths', 'few', 'halvings'), [
    ([3, 9, 1, 4, 1, 5, 9, 2, 6], 2, 9), ([3, 9, 1, 4, 1, 5, 9, 2, 6], 2, 1), ([4, 4, 4, 4], 1, 9), ([0, 0, 0], 1, 9),
    ([7], 0, 9), ([0, 8, 0, 0, 0, 0, 0, 2], 8, 9)])
@pytest.mark.parametrize('rooms', [(), (2, 9), (1, 4, 9)])
def test_what_is_over_makes_room_when_half_of_what_is_left_is(lengths, few, halvings, rooms, monkeypatch):
    """Counts how often each row was in a step, against the rule row by row; what finds no room is lost."""
    monkeypatch.setattr(contract, 'FEW', few)
    monkeypatch.setattr(contract, 'HALVINGS', halvings)
    expected = [0] * len(lengths)

    def going(rows, position):
        return [row for row in rows if lengths[row] > position]

    def half(rows, halvings):
        return (len(rows) + 1) // 2 if halvings and len(rows) > max(few, 1) else 0

    def steps(rows, position, halvings, last=99):
        while len(going(rows, position)) > half(rows, halvings) and position < last:
            for row in rows:
                expected[row] += 1
            position += 1
        return position

    def one_after_the_other(rows, position, halvings, parts):
        count, rows = half(rows, halvings), sorted(rows, key=lambda row: lengths[row] <= position)
        for part in (rows[:count], rows[count:])[:parts]:
            now = steps(part, position, halvings - 1)
            if half(part, halvings - 1):
                one_after_the_other(part, now, halvings - 1, 1)
    everyone, position = list(range(len(lengths))), 0
    for room in rooms[:-1]:
        position = steps(everyone, position, halvings, room)
    if not rooms or not half(everyone, halvings):
        position = steps(everyone, position, halvings)
    if half(everyone, halvings):
        one_after_the_other(everyone, position, halvings, 2 if rooms else 1)

    def step(position, state):
        return state[0], state[1] + 1, state[2].at[:, position].set(position, mode='drop')

    def roomier(state, room):
        return *state[:2], jnp.pad(state[2], ((0, 0), (0, room - state[2].shape[1])), constant_values=-1)
    state = np.int32(lengths), np.zeros(len(lengths), np.int32), np.full((len(lengths), (*rooms, 9)[0]), -1)
    _, counted, written = jax.jit(lambda state: until_all_are_over(
        lambda position, state: state[0] > position, step, state, 0, rooms, roomier))(state)
    np.testing.assert_array_equal(counted, expected)
    np.testing.assert_array_equal(written, np.where(np.arange(9) < np.array(expected)[:, None], np.arange(9), -1))


@pytest.mark.parametrize('beams', [None, 3])
def test_what_is_returned_does_not_depend_on_who_leaves_the_batch_nor_on_when_there_is_room(beams, monkeypatch):
    search = functools.partial(greedy, toy.MODEL, length=LENGTH, with_weights=True) if beams is None else (
        functools.partial(beam, toy.MODEL, length=LENGTH, beams=beams, penalty=1.0, coverage=0.2, with_weights=True))
    lengths, limits = [5, 3, 1, 0, 4, 2, 5], np.int32([LENGTH, 3, LENGTH, 2, 6, 1, LENGTH])
    for seed in SEEDS:
        tables, (source, places) = reluctant(seed), toy.a_source(lengths, seed=seed)
        together = jax.jit(search)(tables, source, places, limits=limits)
        monkeypatch.setattr(contract, 'FEW', 1)
        monkeypatch.setattr(beam_search, 'SPARE', -2)
        apart = jax.jit(lambda *given, **more: search(*given, **more))(tables, source, places, limits=limits)
        monkeypatch.undo()
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), apart, together)


def test_a_shape_is_compiled_once():
    traces = []

    @jax.jit
    def search(tables, source, places):
        traces.append(source.shape)
        return beam(toy.MODEL, tables, source, places, length=3, beams=2, penalty=0.6)
    for seed in SEEDS:
        search(toy.tables(seed), *toy.a_source(seed=seed))
    assert traces == [(len(toy.LENGTHS), toy.S)]


def test_seeds_under_vmap_are_single_seeds():
    source, places = toy.a_source()
    every = [reluctant(seed) for seed in SEEDS]
    search = functools.partial(beam, toy.MODEL, length=LENGTH, beams=3, penalty=0.6, with_weights=True)
    together = jax.jit(jax.vmap(search, in_axes=(0, None, None)))(
        jax.tree.map(lambda *leaves: np.stack(leaves), *every), source, places)
    for seed, tables in enumerate(every):
        single = found(tables, source, places, beams=3, penalty=0.6, with_weights=True)
        jax.tree.map(lambda one, other, seed=seed: np.testing.assert_allclose(one[seed], other, atol=1e-5), together,
                     single)
