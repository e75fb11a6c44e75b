"""The battery of every attention: each registered variant, in each of its roles, on each of its paths.

A new variant brings a line in the registry and an oracle; this file stays as it is.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.attention import registry
from research.attention.contract import Attention
from research.errors import UserError
from research.shapes import Places
from tests.attention.oracles import FEATURES, ORACLES, may_read, oracle_of

B, T, S, L = 5, 7, 11, 13  # L: room in a cache
ROLES, PATHS = ('cross', 'self'), ('explicit', 'xla', 'cudnn', 'chunked', 'blocks', 'absorbed')


class Case(NamedTuple):
    """One variant, one role, one path; `convolution` is the width of the short convolution before it, 0 = none."""

    name: str
    role: str
    causal: bool
    path: str
    convolution: int = 0

    @property
    def variant(self):
        return registry.VARIANTS[self.name]

    def __str__(self):
        return f'{self.name}-{"convolved-" * (self.convolution > 0)}{"causal-" * self.causal}{self.role}-{self.path}'


CASES = [Case(variant.name, role, causal, path) for variant in registry.VARIANTS.values() for role in variant.roles
         for causal in ((False, True) if role == 'self' else (False,)) for path in variant.paths if path != 'cudnn'
         if not (causal and True not in variant.causal)]
CONVOLVED = ('multi_head_dot', 'linear', 'delta')  # a cache, sums that read both ways, a memory that has two copies
CASES += [case._replace(convolution=3) for case in CASES if case.name in CONVOLVED and case.role == 'self']
EXPLICIT = [case for case in CASES if case.path == 'explicit']
STEPWISE = [case for case in CASES if case.role == 'cross' or case.causal]
PACKED = [case for case in CASES if case.variant.packing]


def of(cases):
    return pytest.mark.parametrize('case', cases, ids=str)


# --------------------------------------------------------------------------------------------------- inputs and modules

class Inputs(NamedTuple):
    """The arguments of one reading, without parameters."""

    query: np.ndarray     # [B, T, D]
    source: np.ndarray    # [B, S, D_s]
    query_places: Places
    source_places: Places


def places(*rows):
    """Places from segments; positions count from 0 within each segment."""
    segment = np.array(rows, np.int32)
    position = np.zeros_like(segment)
    for b, row in enumerate(segment):
        for at in range(len(row)):
            position[b, at] = np.sum(row[:at] == row[at])
    return Places(segment, position)


def layout(case):
    """A full row, a padded one, one without a source, a packed one, one whose second sentence has no partner."""
    packed = case.variant.packing
    targets = places([1] * 7, [1] * 4 + [0] * 3, [1] * 7 if case.role == 'cross' else [0] * 7,
                     [1] * 3 + [2] * 4 if packed else [1] * 7,
                     [0] + [1] * 2 + [2] * 3 + [0] if packed else [1] * 5 + [0] * 2)
    if case.role == 'self':
        return targets, targets
    if case.variant.reads == 'summary':  # one entry a sentence
        return targets, places([1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 2, 0] if packed else [1, 0, 0],
                               [1, 3, 0] if packed else [1, 0, 0])
    return targets, places([1] * 11, [1] * 5 + [0] * 6, [0] * 11, [1] * 6 + [2] * 4 + [0] if packed else [1] * 10 + [0],
                           [1] * 3 + [3] * 4 + [0] * 4 if packed else [1] * 7 + [0] * 4)


@functools.cache
def inputs(case, seed=0):
    random = np.random.default_rng(seed)
    query_places, source_places = layout(case)
    width = FEATURES if case.role == 'self' else ORACLES[case.name].source_width
    return Inputs(random.normal(size=(*query_places.segment.shape, FEATURES)),
                  random.normal(size=(*source_places.segment.shape, width)), query_places, source_places)


def make(case, options=None, **more):
    options = ORACLES[case.name].options if options is None else options
    return registry.make(case.name, role=case.role, causal=case.causal, path=case.path,
                         short_convolution=case.convolution, **{'features': FEATURES, **more, **options})


def reading(module):
    """All queries in one call."""
    def read(params, query, source, query_places, source_places):
        def call(module):
            memory = module.remember(source, source_places)
            length = query.shape[1] if module.role == 'cross' else 0
            return module(query, memory, module.start(memory, length), query_places)
        result = nn.apply(call, module)({'params': params})
        return result.context, result.weights
    return read


def shapes(module, given):
    """Shapes and types of the parameters; nothing is compiled."""
    def initialise(rng):
        def call(module):
            return module(given.query, module.remember(given.source, given.source_places), (), given.query_places)
        return nn.init(call, module)(rng)
    given = Inputs(*(jnp.asarray(leaf, jnp.float32) for leaf in given[:2]), *given[2:])
    return jax.eval_shape(initialise, jax.random.key(0)).get('params', {})


def parameters(module, given, seed=1):
    """Parameters that no initialiser would give: also biases and factors are random."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape, scale=0.3), shapes(module, given))


def single(tree):
    """Float64 to float32."""
    return jax.tree.map(lambda leaf: leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf, tree)


class Built(NamedTuple):
    """A module, its parameters in float64, its compiled reading, and how often that was traced."""

    module: Attention
    params: dict
    read: object
    traces: list


@functools.lru_cache(maxsize=8)
def built(case):
    module, traces = make(case), []

    def traced(*arguments):
        traces.append(1)
        return reading(module)(*arguments)
    return Built(module, parameters(module, inputs(case)), jax.jit(traced), traces)


@functools.cache
def result(case):
    """Context and weights of the whole batch."""
    _, params, read, _ = built(case)
    return read(single(params), *single(inputs(case)))


@functools.cache
def expected(case):
    return oracle(case, built(case).params, inputs(case), ORACLES[case.name].options)


def oracle(case, params, given, options):
    function = oracle_of(case.name, case.role, case.causal, case.convolution > 0)
    return function(params, *given, case.role, case.causal, options)


def readable(case):
    """[B, T, S]: what segments and causality allow."""
    given = inputs(case)
    mask = np.zeros((*given.query.shape[:2], given.source.shape[1]), bool)
    for b, t in np.ndindex(mask.shape[:2]):
        mask[b, t, may_read(given.query_places, given.source_places, b, t, case.causal)] = True
    return mask


def close(ours, reference, tolerance):
    assert (ours is None) == (reference is None)
    if ours is not None:
        np.testing.assert_allclose(ours, reference, rtol=tolerance, atol=tolerance)


def equal(ours, reference):
    assert (ours is None) == (reference is None)
    if ours is not None:
        np.testing.assert_array_equal(ours, reference)


# ----------------------------------------------------------------------------------------------------- it is what it is

def test_every_variant_has_an_oracle_and_no_oracle_is_left_over():
    assert set(ORACLES) == set(registry.VARIANTS)


@pytest.mark.parametrize(('case', 'options'), [
    pytest.param(case, options, id=f'{case}-{number}') for case in EXPLICIT
    for number, options in enumerate(
        (ORACLES[case.name].options, *(ORACLES[case.name].others if case.role == case.variant.roles[0] else ()),
         *(ORACLES[case.name].in_self_role if case.role == 'self' else ())))])
def test_it_equals_its_oracle_and_so_do_its_gradients(case, options):
    """In float64: values to 1e-10; for every argument and parameter, three random slopes to 1e-4."""
    given, random, step = inputs(case), np.random.default_rng(2), 1e-6
    module = make(case, options)
    params = parameters(module, given)
    context, weights = oracle(case, params, given, options)
    directions = [random.normal(size=array.shape) for array in (context, weights) if array is not None]

    def total(parts):
        return sum((part * direction).sum() for part, direction in zip(parts, directions))  # no weights: one direction

    def objective(variables):
        parts = reading(module)(*variables, given.query_places, given.source_places)
        return total(parts), parts
    variables = params, given.query, given.source
    with jax.enable_x64(True):
        gradient, ours = jax.tree.map(np.asarray, jax.jit(jax.grad(objective, has_aux=True))(variables))
    close(ours[0], context, 1e-10)
    close(ours[1], weights, 1e-10)

    leaves, structure = jax.tree.flatten(variables)
    slopes = jax.tree.leaves(gradient)
    for index, leaf in enumerate(leaves):
        for _ in range(3):
            direction = random.normal(size=leaf.shape)
            ends = []
            for sign in (1, -1):
                moved = structure.unflatten([*leaves[:index], leaf + sign * step * direction, *leaves[index + 1:]])
                there = given._replace(query=moved[1], source=moved[2])
                ends.append(total(oracle(case, moved[0], there, options)))
            slope = (ends[0] - ends[1]) / (2 * step)
            # 1e-7: what rounding leaves of a difference of sums of about 10, divided by 2e-6
            np.testing.assert_allclose(np.sum(slopes[index] * direction), slope, rtol=1e-4, atol=1e-7)


@of(CASES)
def test_every_path_equals_the_oracle_and_returns_the_weights_that_it_declares(case):
    context, weights = result(case)
    close(context, expected(case)[0], 2e-5)
    if case.variant.weights and case.path == 'explicit':
        close(weights, expected(case)[1], 2e-5)
    else:
        assert weights is None


@functools.cache
def gradients(case):
    """Of all contexts along one direction, with respect to parameters, queries and source."""
    module, given = built(case).module, inputs(case)

    def along(params, query, source):
        context, _ = reading(module)(params, query, source, *given[2:])
        return jnp.vdot(context, np.random.default_rng(5).normal(size=context.shape))
    with jax.enable_x64(case.path != 'xla'):  # which refuses float64: there all of it becomes float32
        gradient = jax.jit(jax.grad(along, argnums=(0, 1, 2)))
        return jax.tree.map(np.asarray, gradient(built(case).params, given.query, given.source))


@of([case for case in CASES if case.path != 'explicit'])
def test_the_gradients_of_every_path_are_those_of_path_explicit(case):
    """To 1e-9 of the largest of all in float64, to 2e-6 in float32: some are a thousandth of that, or zero."""
    reference = gradients(case._replace(path='explicit'))
    largest = max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(reference))
    tolerance = 2e-6 if case.path == 'xla' else 1e-9

    def compare(name, ours, theirs):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * largest, err_msg=jax.tree_util.keystr(name))
    jax.tree_util.tree_map_with_path(compare, gradients(case), reference)


@of([case for case in EXPLICIT if case.variant.weights])
def test_weights_have_the_signs_and_sums_that_are_declared(case):
    weights = np.asarray(result(case)[1])
    sums, mask = weights.sum(axis=-1), readable(case)
    assert weights.shape == (B, weights.shape[1], T, mask.shape[2])
    assert not np.any(weights * ~mask[:, None]), 'a weight on what may not be read'
    assert case.variant.signed or not np.any(weights < 0)
    if case.variant.rows == 'one':
        np.testing.assert_allclose(sums, np.broadcast_to(mask.any(axis=-1)[:, None], sums.shape), atol=1e-6)
    elif case.variant.rows == 'at most one':
        assert np.all(sums <= 1 + 1e-6)
    else:
        assert case.variant.rows == 'free'


# ---------------------------------------------------------------------------------------- nothing leaks, nothing breaks

@of(CASES)
def test_what_stands_in_pads_changes_no_bit(case):
    _, params, read, _ = built(case)
    given = single(inputs(case))
    loud = given._replace(
        query=np.where(given.query_places.segment[..., None] > 0, given.query, np.float32(1e6)),
        source=np.where(given.source_places.segment[..., None] > 0, given.source, np.float32(1e6)))
    assert np.any(loud.source != given.source)
    assert np.any(loud.query != given.query)
    for ours, reference in zip(read(single(params), *loud), result(case)):
        equal(ours, reference)


@functools.cache
def slopes(case):
    """Of each query's context, along one direction, with respect to all queries and all entries of the source."""
    given, random = single(inputs(case)), np.random.default_rng(3)
    direction = random.normal(size=expected(case)[0].shape[-1]).astype(np.float32)

    def along(variables):
        return reading(built(case).module)(single(built(case).params), *variables, *given[2:])[0] @ direction
    by_query, by_source = jax.jit(jax.jacrev(along))(given[:2])
    assert np.all(np.isfinite(by_query))
    assert np.all(np.isfinite(by_source))
    return np.asarray(by_query), np.asarray(by_source)  # [B, T, B, T, D] and [B, T, B, S, D_s]


@functools.cache
def reads(case):
    """[B, T, S]: which entries of the source the oracle's context depends on, by changing one after the other."""
    given, random = inputs(case), np.random.default_rng(4)
    pattern = np.zeros((*given.query.shape[:2], given.source.shape[1]), bool)
    for s in range(given.source.shape[1]):
        source = given.source.copy()
        source[:, s] += 1e-5 * random.normal(size=source.shape[-1])  # little: a sparse weight stays zero
        context, _ = oracle(case, built(case).params, given._replace(source=source), ORACLES[case.name].options)
        pattern[:, :, s] = np.any(context != expected(case)[0], axis=-1)
    return pattern


@of(CASES)
def test_gradients_reach_what_may_be_read_and_nothing_else(case):
    """Exactly zero at pads, at other sentences and at later positions; not zero at what the formula reads."""
    by_query, by_source = slopes(case)
    own = np.eye(B, dtype=bool)
    reached = np.any(by_source != 0, axis=-1)  # [B, T, B, S]
    assert not np.any(reached & ~own[:, None, :, None]), 'one sentence reads another one of the batch'
    reached = np.einsum('btbs->bts', reached)
    mask = readable(case)
    assert not np.any(reached & ~mask), 'something is read that may not be'
    np.testing.assert_array_equal(reached, reads(case))
    assert np.any(reached) == (case.variant.reads != 'nothing')

    asked = np.any(by_query != 0, axis=-1)
    assert not np.any(asked & ~own[:, None, :, None]), 'a query depends on another sentence of the batch'
    if case.role == 'cross' or case.causal:
        later = np.triu(np.ones((T, T), bool), 1)
        assert not np.any(np.einsum('btbu->btu', asked) & later), 'it depends on a later query'


@of(CASES)
def test_a_query_that_may_read_nothing_gets_zeros_and_sends_back_zeros(case):
    """An empty source, a pad, a sentence without a partner: zero, finite, and no gradient through them."""
    empty = ~readable(case).any(axis=-1)
    assert np.sum(empty.any(axis=1)) >= (3 if case.variant.packing else 2)
    for array in result(case):
        assert array is None or np.all(np.isfinite(array))
    context, weights = result(case)
    assert not np.any(np.asarray(context)[empty])
    assert weights is None or not np.any(np.moveaxis(weights, 1, 2)[empty])
    for by in slopes(case):
        assert not np.any(by[empty])


# ------------------------------------------------------------------------------------------- the same thing, said again

def at(places, start, stop):
    return Places(places.segment[:, start:stop], places.position[:, start:stop])


@of(STEPWISE)
def test_step_by_step_and_in_chunks_is_all_at_once(case):
    module, params = built(case).module, single(built(case).params)
    given = single(inputs(case))

    @jax.jit
    def pieces(params, query, source, query_places, source_places):
        def apply(method, *arguments):
            return module.apply({'params': params}, *arguments, method=method)
        everything = apply('remember', source, source_places)

        def start():
            if case.role == 'cross':
                return apply('start', everything, T)
            return apply('start', apply('remember', source[:, :0], at(source_places, 0, 0)), L)

        def piece(carry, query, source, places):
            memory = everything if case.role == 'cross' else apply('remember', source, places)
            read = apply('__call__', query, memory, carry, places)
            return read.carry, (read.context, read.weights)

        def one(carry, each):
            return piece(carry, *jax.tree.map(lambda leaf: leaf[:, None], each))
        written = query if case.role == 'cross' else source
        over = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), (query, written, query_places))
        _, (context, weights) = jax.lax.scan(one, start(), over)
        weights = None if weights is None else jnp.moveaxis(weights[:, :, :, 0], 0, 2)
        steps = jnp.swapaxes(context[:, :, 0], 0, 1), weights

        carry, parts = start(), []
        for begin, end in ((0, 2), (2, T)):
            carry, part = piece(carry, query[:, begin:end], written[:, begin:end], at(query_places, begin, end))
            parts.append(part)
        contexts, weights = zip(*parts)
        chunks = jnp.concatenate(contexts, 1), None if weights[0] is None else jnp.concatenate(weights, 2)
        return steps, chunks
    for context, weights in pieces(params, *given):
        close(context, result(case)[0], 1e-5)
        entries = given.source.shape[1]
        close(None if weights is None else weights[..., :entries], result(case)[1], 1e-5)
        assert weights is None or not np.any(weights[..., entries:]), 'room that was not written is read'


@of(EXPLICIT)
def test_a_sentence_alone_without_pads_is_itself_in_a_batch(case):
    module, params = built(case).module, single(built(case).params)
    given = single(inputs(case))
    targets, entries = (int(np.sum(places.segment[1] > 0)) for places in given[2:])
    alone = Inputs(given.query[1:2, :targets], given.source[1:2, :entries],
                   *(Places(segment[1:2, :length], position[1:2, :length])
                     for (segment, position), length in zip(given[2:], (targets, entries))))
    context, weights = jax.jit(reading(module))(params, *alone)
    close(context[0], result(case)[0][1, :targets], 1e-5)
    close(None if weights is None else weights[0],
          None if weights is None else result(case)[1][1, :, :targets, :entries], 1e-5)


@of(PACKED)
def test_sentences_packed_into_one_row_are_sentences_apart(case):
    _, params, read, _ = built(case)
    given = single(inputs(case))
    apart = jax.tree.map(np.zeros_like, given)
    spans = []
    for row, sentence in enumerate((1, 2)):
        span = []
        for array, places, into, into_places in (
                (given.query, given.query_places, apart.query, apart.query_places),
                (given.source, given.source_places, apart.source, apart.source_places)):
            here = np.flatnonzero(places.segment[3] == sentence)
            into[row, :len(here)] = array[3, here]
            into_places.segment[row, :len(here)] = 1
            into_places.position[row, :len(here)] = places.position[3, here]
            span.append(here)
        spans.append(span)
    context, weights = read(single(params), *apart)
    for row, (targets, entries) in enumerate(spans):
        close(np.asarray(context)[row, :len(targets)], np.asarray(result(case)[0])[3, targets], 1e-5)
        if weights is not None:
            close(np.asarray(weights)[row, :, :len(targets), :len(entries)],
                  np.asarray(result(case)[1])[3][:, targets][:, :, entries], 1e-5)


@of(CASES)
def test_another_order_of_the_batch_is_another_order_of_the_result(case):
    _, params, read, _ = built(case)
    order = np.array([3, 0, 4, 2, 1])
    turned = read(single(params), *jax.tree.map(lambda leaf: leaf[order], single(inputs(case))))
    for ours, reference in zip(turned, result(case)):
        close(ours, None if reference is None else np.asarray(reference)[order], 1e-6)


@of(EXPLICIT)
def test_compiled_is_not_compiled_and_a_second_call_compiles_nothing(case):
    module, params, read, traces = built(case)
    context, weights = result(case)
    read(single(params), *single(inputs(case)))  # traced here, if what was traced before has been let go
    before = len(traces)
    read(single(parameters(module, inputs(case), seed=7)), *single(inputs(case, seed=7)))
    assert len(traces) == before
    eager = reading(module)(single(params), *jax.tree.map(jnp.asarray, single(inputs(case))))
    close(eager[0], context, 1e-6)
    close(eager[1], weights, 1e-6)


@of(CASES)
def test_bfloat16_is_close_and_leaves_parameters_and_softmax_in_float32(case):
    """Eight bits: logits of about 10 are off by about 0.03, so what is read by a few percent of its size."""
    module, params, given = make(case, dtype=jnp.bfloat16), built(case).params, single(inputs(case))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes(module, given)))
    context, weights = jax.jit(reading(module))(single(params), *given)
    reference, alignment = expected(case)
    assert context.dtype == jnp.bfloat16
    size = np.max(np.abs(reference), initial=0.0)
    np.testing.assert_allclose(context.astype(np.float32), reference, atol=0.05 * size)
    if weights is not None:
        assert weights.dtype == jnp.float32
        np.testing.assert_allclose(weights, alignment, atol=0.05)


@of(EXPLICIT)
def test_seeds_side_by_side_are_seeds_one_after_the_other(case):
    module, _, read, _ = built(case)
    variables = [single((parameters(module, inputs(case), seed), *inputs(case, seed)[:2])) for seed in (11, 12)]
    side_by_side = jax.jit(jax.vmap(reading(module), in_axes=(0, 0, 0, None, None)))
    both = side_by_side(*jax.tree.map(lambda *leaves: np.stack(leaves), *variables), *inputs(case)[2:])
    for seed, one in enumerate(variables):
        alone = read(*one, *inputs(case)[2:])
        for ours, reference in zip(jax.tree.map(lambda leaf, seed=seed: leaf[seed], both), alone):
            close(ours, reference, 1e-5)


# ------------------------------------------------------------------------------------------- what is said of it is true

@pytest.mark.parametrize('name', registry.VARIANTS)
def test_what_a_variant_cannot_do_raises(name):
    variant, options = registry.VARIANTS[name], ORACLES[name].options
    assert set(variant.roles) <= set(ROLES)
    assert set(variant.paths) <= set(PATHS)
    for role in ROLES:
        for path in PATHS:
            if role in variant.roles and path in variant.paths:
                continue
            with pytest.raises(UserError, match=f"'{name}' has no (role|path)"):
                registry.make(name, features=FEATURES, role=role, path=path, **options)
    if 'cross' in variant.roles:
        with pytest.raises(UserError, match='causal'):
            registry.make(name, features=FEATURES, role='cross', causal=True, **options)
    for method in ('remember', 'start', '__call__', 'flops'):
        assert getattr(variant.attention, method) is not getattr(Attention, method)


@of([case for case in CASES if case.role == 'self' and not case.causal])
def test_without_causality_a_sequence_cannot_be_read_piece_by_piece(case):
    module, params, _, _ = built(case)
    given = single(inputs(case))

    def start(module):
        return module.start(module.remember(given.source, given.source_places), L)
    with pytest.raises(UserError, match='causal'):
        nn.apply(start, module)({'params': single(params)})


@of(CASES)
def test_every_leaf_of_a_memory_and_a_carry_has_the_sentences_first(case):
    module, given = built(case).module, single(inputs(case))
    length = T if case.role == 'cross' else L * case.causal

    def call(module):
        memory = module.remember(given.source, given.source_places)
        carry = module.start(memory, length)
        return memory, carry, module(given.query, memory, carry, given.query_places).carry
    memory, carry, after = jax.eval_shape(nn.apply(call, module), {'params': single(built(case).params)})
    assert all(leaf.shape[0] == B for leaf in jax.tree.leaves((memory, carry, after)))
    kinds = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (carry, after)]
    assert kinds[0] == kinds[1], 'a carry must keep its shape, or no loop can hand it on'


@of(EXPLICIT)
def test_flops_are_those_that_the_compiler_counts(case):
    """To 5 %, at sizes where matrix products dominate; softmax and tanh are not counted as products."""
    known, D = ORACLES[case.name], 96
    source_width = D if case.role == 'self' or known.source_width == FEATURES else 256
    queries, entries = (61, 67) if case.variant.reads == 'source' else (5, 1)
    entries = queries if case.role == 'self' else entries
    module = make(case, known.options if known.large is None else known.large, features=D)
    given = Inputs(np.ones((1, queries, D), np.float32), np.ones((1, entries, source_width), np.float32),
                   places([1] * queries), places([1] * entries))
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes(module, given))
    counted = jax.jit(reading(module)).lower(params, *given).compile().cost_analysis().get('flops', 0.0)
    np.testing.assert_allclose(module.flops(queries, entries, D, source_width), counted, rtol=0.05)
