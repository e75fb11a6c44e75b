"""Exact equalities of what has several heads: variants among each other, options at their limits, orders and paths.

Where nothing else is said, contexts, weights and gradients are compared in float64, over rows that are full, padded and
packed. A limit is taken where float64 no longer sees a difference, and just short of it the difference is there.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.attention import positions, registry
from research.attention.differential import first_lambda
from research.attention.schemes import SCHEMES
from research.errors import UserError
from research.shapes import Places
from tests.attention.oracles import ORACLES

D, T, S, N, H = 12, 7, 5, 4, 6
NEUTRAL = {'key_value_heads': 0, 'position': {'name': 'none'}, 'reach': {'name': 'everything'}, 'normaliser': 'softmax',
           'query_key_norm': 'none', 'softcap': 0.0, 'gate': 'none'}
PLAIN = {'heads': N, 'head_width': H, 'projection_bias': False, **NEUTRAL}
PAIRED = {option: PLAIN[option] for option in ('heads', 'head_width', 'projection_bias', 'position', 'reach',
                                               'normaliser')}
SMALL = {option: PLAIN[option] for option in ('heads', 'head_width', 'projection_bias', 'normaliser')}
POSITIONS = {'none': {}, 'rotary': {'base': 10.0}, 'alibi': {}, 't5_bias': {'buckets': 8, 'maximum_distance': 6},
             'shaw': {'distance': 2}, 'kerple_log': {}, 'kerple_power': {}, 'fire': {'hidden': 5, 'threshold': 3.0}}
TOLERANCES = {'float64': 1e-11, 'float32': 2e-5}


def position(name, **options):
    return {'name': name, **POSITIONS[name], **options}


def window(width):
    return {'name': 'window', 'width': width}


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def places(*rows):
    """Places from segments; positions count from 0 within each segment."""
    segment = np.array(rows, np.int32)
    position = np.zeros_like(segment)
    for b, row in enumerate(segment):
        for at in range(len(row)):
            position[b, at] = np.sum(row[:at] == row[at])
    return Places(segment, position)


class Given(NamedTuple):
    """What is read, and by whom."""

    query: np.ndarray
    source: np.ndarray
    query_places: Places
    source_places: Places


ROWS = places([1] * 7, [1] * 4 + [0] * 3, [1] * 3 + [2] * 4, [0] + [1] * 2 + [2] * 3 + [0])
FULL = places([1] * T, [1] * T)
FULL_ROWS = places(*[[1] * T] * 4)
SELF = Given(normal(4, T, D), normal(4, T, D), ROWS, ROWS)  # the same sequence twice
CROSS = Given(normal(4, T, D), normal(4, S, 9, seed=1), ROWS,
              places([1] * 5, [1] * 3 + [0] * 2, [1] * 2 + [2] * 3, [0, 1, 1, 3, 3]))
GIVEN = {'self': SELF, 'cross': CROSS}


class Outcome(NamedTuple):
    """What came out, and the gradients of a random direction of it."""

    context: np.ndarray
    weights: np.ndarray | None
    by_query: np.ndarray
    by_source: np.ndarray
    by_params: dict


def reading(module, given):
    def read(module):
        memory = module.remember(given.source, given.source_places)
        return module(given.query, memory, module.start(memory, 0 if module.role == 'self' else T), given.query_places)
    return read


def parameters(module, given, seed=3):
    """Parameters that no initialiser would give, in float64."""
    def initialise(rng):
        return nn.init(reading(module, given), module)(rng)
    given = given._replace(query=jnp.float32(given.query), source=jnp.float32(given.source))
    leaves, structure = jax.tree.flatten(jax.eval_shape(initialise, jax.random.key(0)).get('params', {}))
    return structure.unflatten([0.5 * normal(*leaf.shape, seed=seed + number) for number, leaf in enumerate(leaves)])


def forward(module, variables, *where):
    params, query, source = variables
    result = nn.apply(reading(module, Given(query, source, *where)), module)({'params': params})
    return jnp.sum(result.context * normal(*result.context.shape, seed=5)), (result.context, result.weights)


@functools.cache
def program(module, gradients):
    """(params, query, source), query_places, source_places -> what `forward` returns, or its gradients."""
    function = functools.partial(forward, module)
    return jax.jit(jax.grad(function, has_aux=True) if gradients else function)


def call(program, module, params, given, dtype):
    given = GIVEN[module.role] if given is None else given
    variables = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), (params, given.query, given.source))
    with jax.enable_x64(dtype == 'float64'):
        first, (context, weights) = jax.tree.map(np.asarray, program(variables, *given[2:]))
    assert context.dtype == dtype
    return first, context, weights


def run(module, params, given=None, dtype='float64', program=program):
    """Everything that is compared."""
    gradients, context, weights = call(program(module, True), module, params, given, dtype)
    return Outcome(context, weights, *gradients[1:], gradients[0])


def far(module, params, reference, given=None, dtype='float64'):
    """The largest difference of the context from one that came out before."""
    return np.max(np.abs(call(program(module, False), module, params, given, dtype)[1] - reference.context))


def made(name, role='self', causal=False, path='explicit', layer=0, **options):
    return registry.make(name, features=D, role=role, causal=causal, path=path, layer=layer, **options)


class Kind(NamedTuple):
    """A role and a direction."""

    role: str
    causal: bool

    def __str__(self):
        return 'causal' if self.causal else self.role


KINDS = Kind('self', False), Kind('self', True), Kind('cross', False)
OWN = KINDS[:2]


def of(kinds):
    return pytest.mark.parametrize('kind', kinds, ids=str)


@functools.cache
def plain(kind, position_name='none', **options):
    """multi_head_dot, its parameters and its outcome."""
    module = made('multi_head_dot', *kind, **PLAIN | {'position': position(position_name)} | options)
    params = parameters(module, GIVEN[kind.role])
    return module, params, run(module, params)


def same(ours, reference, tolerance=TOLERANCES['float64'], params=None):
    """Contexts, weights where both have them, gradients, and those of the parameters that are named."""
    for name in ('context', 'weights', 'by_query', 'by_source'):
        left, right = getattr(ours, name), getattr(reference, name)
        if left is not None and right is not None:
            np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance, err_msg=name)
    for name in reference.by_params if params is None else params:
        for left, right in zip(jax.tree.leaves(ours.by_params[name]), jax.tree.leaves(reference.by_params[name]),
                               strict=True):
            np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance, err_msg=name)


PROJECTIONS = 'query_projection', 'key_projection', 'value_projection', 'output_projection'


# ----------------------------------------------------------------------------------- 4: fewer heads for keys and values

@of(KINDS)
def test_as_many_key_heads_as_query_heads_are_multi_head_dot(kind):
    _, params, reference = plain(kind)
    for name, options in (('grouped_query', {'key_value_heads': N}), ('multi_head_dot', {'key_value_heads': N})):
        ours = run(made(name, *kind, **PLAIN | options), params)
        jax.tree.map(np.testing.assert_array_equal, ours, reference)


@of(KINDS)
def test_one_key_head_is_multi_query(kind):
    module = made('multi_head_dot', *kind, **PLAIN | {'key_value_heads': 1})
    params = parameters(module, GIVEN[kind.role])
    assert params['key_projection']['kernel'].shape[1:] == params['value_projection']['kernel'].shape[1:] == (1, H)
    ours = run(made('multi_query', *kind, **PLAIN | {'key_value_heads': 1}), params)
    jax.tree.map(np.testing.assert_array_equal, ours, run(module, params))


@pytest.mark.parametrize('options', [{}, {'position': position('rotary')}, {'query_key_norm': 'rms'},
                                     {'path': 'chunked', 'projection_bias': True}, {'path': 'xla'}], ids=str)
@pytest.mark.parametrize('K', [1, 2])
def test_shared_key_heads_are_repeated_ones(K, options):
    """Neighbouring query heads share; and what a shared kernel is told is what its copies are told together."""
    options, dtype = PLAIN | options, 'float32' if options.get('path') == 'xla' else 'float64'
    module = made('multi_head_dot', causal=True, **options | {'key_value_heads': K})
    params = parameters(module, SELF)
    repeated = dict(params)
    for name in ('key_projection', 'value_projection'):
        repeated[name] = {part: np.repeat(array, N // K, axis=-2) for part, array in params[name].items()}
    ours, reference = run(module, params, dtype=dtype), run(made('multi_head_dot', causal=True, **options), repeated,
                                                            dtype=dtype)
    same(ours, reference, TOLERANCES[dtype], ('query_projection', 'output_projection'))
    for name in ('key_projection', 'value_projection'):
        for part, array in reference.by_params[name].items():
            together = array.reshape(*array.shape[:-2], K, N // K, H).sum(axis=-2)
            np.testing.assert_allclose(ours.by_params[name][part], together, atol=10 * TOLERANCES[dtype])
    if K == 2:  # another grouping is another function
        mixed = repeated | {'key_projection': {part: np.concatenate([array] * (N // K), axis=-2)
                                               for part, array in params['key_projection'].items()}}
        assert far(made('multi_head_dot', causal=True, **options), mixed, ours, dtype=dtype) > 1e-2


# ---------------------------------------------------------------------------- 5: reaches and positions that say nothing

REACHES = [window(T), window(50), {'name': 'strided', 'width': 1, 'stride': 1},
           {'name': 'strided', 'width': T, 'stride': 3}, {'name': 'global_window', 'width': 1, 'leaders': T},
           {'name': 'big_bird', 'width': T, 'leaders': 0, 'block': 2, 'share': 0.0, 'seed': 1},
           {'name': 'big_bird', 'width': 1, 'leaders': 0, 'block': 2, 'share': 1.0, 'seed': 1}]
SHORTER = [window(T - 1), {'name': 'strided', 'width': 1, 'stride': 2},
           {'name': 'global_window', 'width': 1, 'leaders': 0},
           {'name': 'big_bird', 'width': 1, 'leaders': 1, 'block': 1, 'share': 0.5, 'seed': 1}]


@of(OWN)
@pytest.mark.parametrize('reach', REACHES, ids=str)
def test_a_reach_that_reaches_everything_is_full_attention(reach, kind):
    _, params, reference = plain(kind)
    same(run(made('multi_head_dot', *kind, **PLAIN | {'reach': reach}), params), reference)


@of(OWN)
@pytest.mark.parametrize('reach', SHORTER, ids=str)
def test_a_reach_that_is_shorter_is_not(reach, kind):
    _, params, reference = plain(kind)
    assert far(made('multi_head_dot', *kind, **PLAIN | {'reach': reach}), params, reference) > 1e-3


@of(OWN)
@pytest.mark.parametrize('name', [name for name in POSITIONS if name not in ('none', 'rotary')])
def test_positions_that_add_nothing_are_none(name, kind, monkeypatch):
    """Tables of zero, slopes of zero, factors that have no effect."""
    module = made('multi_head_dot', *kind, **PLAIN | {'position': position(name)})
    _, params, reference = plain(kind)
    own = parameters(module, SELF).get('scheme', {})
    assert far(module, params | {'scheme': own}, reference) > 1e-4
    if name.startswith('kerple'):  # factors stay above 0.01, so what they are multiplied by is put out
        monkeypatch.setattr(positions, 'distances', lambda query, key: 0 * (key[:, None, :] - query[:, :, None]))
    monkeypatch.setattr(positions, 'alibi_slopes', np.zeros)
    nothing = params | {'scheme': jax.tree.map(np.zeros_like, own)}
    same(run(module, nothing, program=program.__wrapped__), reference, params=PROJECTIONS)  # traced anew


SHIFTED = [*(('multi_head_dot', PLAIN | {'position': position(name)}) for name in POSITIONS
             if name not in ('none', 'fire')),  # fire also sees how much is behind
    ('multi_head_dot', PLAIN | {'position': position('rotary'), 'reach': window(3), 'query_key_norm': 'rms'}),
    ('talking_heads', PAIRED | {'position': position('rotary')}),
    ('differential', PAIRED | {'position': position('rotary'), 'head_norm': True}),
    ('multi_head_latent', {'heads': N, 'head_width': H, 'rank': 5, 'rotary_width': 4, 'base': 10.0,
                           'normaliser': 'softmax'}),
    ('forgetting', SMALL)]


@pytest.mark.parametrize(('name', 'options'), SHIFTED, ids=str)
def test_nothing_changes_when_all_positions_shift(name, options):
    module = made(name, causal=True, **options)
    params, there = parameters(module, SELF), ROWS._replace(position=ROWS.position + 31)
    here = run(module, params)
    same(run(module, params, SELF._replace(query_places=there, source_places=there)), here)
    if name != 'forgetting':  # but it does when those of the keys alone do
        moved = SELF._replace(source_places=ROWS._replace(position=np.maximum(ROWS.position - 1, 0)))
        assert far(module, params, here, moved) > 1e-4


# ------------------------------------------------------------------------------------------- 6: options at their limits

@pytest.mark.parametrize(('kind', 'path'), [*((kind, 'explicit') for kind in KINDS), (OWN[1], 'chunked')], ids=str)
def test_a_softcap_that_is_never_reached_is_none(kind, path):
    _, params, reference = plain(kind)
    same(run(made('softcap', *kind, path, **PLAIN | {'softcap': 1e8}), params), reference)
    assert far(made('softcap', *kind, path, **PLAIN | {'softcap': 1.0}), params, reference) > 1e-2


SINKS = [*((kind, 'explicit') for kind in KINDS), (OWN[1], 'xla'), (KINDS[2], 'chunked')]


@pytest.mark.parametrize(('kind', 'path'), SINKS, ids=str)
def test_a_sink_that_takes_nothing_is_none(kind, path):
    _, params, reference = plain(kind)
    dtype = 'float32' if path == 'xla' else 'float64'
    module = made('learned_sink', *kind, path, **PLAIN | {'normaliser': 'learned_sink'})
    ours = run(module, params | {'normalise': {'sink': np.full(N, -1e4)}}, dtype=dtype)
    same(ours, reference, 5 * TOLERANCES[dtype])
    assert not np.any(ours.by_params['normalise']['sink'])
    assert far(module, params | {'normalise': {'sink': np.zeros(N)}}, reference, dtype=dtype) > 1e-2


@pytest.mark.parametrize(('kind', 'path'), SINKS, ids=str)
def test_softmax_one_is_a_sink_of_zero(kind, path):
    _, params, _ = plain(kind)
    dtype = 'float32' if path == 'xla' else 'float64'
    learned = made('learned_sink', *kind, **PLAIN | {'normaliser': 'learned_sink'})
    reference = run(learned, params | {'normalise': {'sink': np.zeros(N)}})
    ours = run(made('softmax_one', *kind, path, **PLAIN | {'normaliser': 'softmax_one'}), params, dtype=dtype)
    same(ours, reference, 5 * TOLERANCES[dtype], PROJECTIONS)
    assert np.all(reference.by_params['normalise']['sink'] != 0)


def factors(layer, goal=0.0):
    """Vectors with exp(a1 . b1) - exp(a2 . b2) + lambda_0 = goal, as near as float64 comes."""
    ones, rest = np.ones(H), np.log(1.0 + first_lambda(layer) - goal)
    return {'query_factor_1': 0 * ones, 'key_factor_1': ones, 'query_factor_2': ones, 'key_factor_2': rest / H * ones}


@pytest.mark.parametrize(('kind', 'layer', 'normaliser', 'positions'), [
    (OWN[0], 5, 'softmax', 'rotary'), (OWN[1], 0, 'softmax', 'none'), (KINDS[2], 2, 'entmax', 'none')], ids=str)
def test_differential_that_takes_nothing_away_is_plain_with_values_twice_as_wide(kind, layer, normaliser, positions):
    """Said with heads of one width: two heads compare the same, and each reads one half of the values."""
    options = PAIRED | {'normaliser': normaliser, 'position': position(positions), 'heads': N // 2}
    module = made('differential', *kind, layer=layer, **options, head_norm=False)
    params = parameters(module, GIVEN[kind.role]) | factors(layer)
    ours = run(module, params)
    halves = {}
    for name in ('query_projection', 'key_projection'):
        halves[name] = {'kernel': np.repeat(params[name]['kernel'][:, 0::2], 2, axis=1)}
    value, output = (params[f'{name}_projection']['kernel'] for name in ('value', 'output'))
    halves['value_projection'] = {'kernel': value.reshape(len(value), N, H)}
    halves['output_projection'] = {'kernel': output.reshape(N, H, D)}
    twice = run(made('multi_head_dot', *kind, **PLAIN | options | {'heads': N}), halves)
    same(ours, twice._replace(weights=twice.weights[:, 0::2]), params=())
    assert far(module, params | factors(layer, 0.1), twice) > 1e-3


def test_a_head_whose_twin_reads_the_same_reads_nothing_when_all_is_taken_away():
    module = made('differential', **PAIRED, head_norm=False)
    params = parameters(module, SELF) | factors(0, 1.0)
    for name in ('query_projection', 'key_projection'):
        params[name] = {'kernel': np.repeat(params[name]['kernel'][:, 0::2], 2, axis=1)}
    ours = run(module, params)
    np.testing.assert_allclose(ours.context, 0.0, atol=1e-13)
    np.testing.assert_allclose(ours.weights, 0.0, atol=1e-13)


@of(KINDS)
@pytest.mark.parametrize('gate', ['head', 'element'])
def test_an_open_gate_is_no_gate(gate, kind):
    _, params, reference = plain(kind, projection_bias=True)
    module = made('gated', *kind, **PLAIN | {'projection_bias': True, 'gate': gate})
    shape = N, 1 if gate == 'head' else H

    def gated(bias):
        return params | {'gate_projection': {'kernel': np.zeros((D, *shape)), 'bias': np.full(shape, bias)}}
    ours = run(module, gated(60.0))
    same(ours, reference, params=PROJECTIONS)
    half = run(module, gated(0.0))
    bias = params['output_projection']['bias']
    np.testing.assert_allclose(half.context - bias, (reference.context - bias) / 2.0, atol=1e-12)
    np.testing.assert_allclose(half.weights, reference.weights, atol=1e-12)


def test_a_gate_is_asked_of_the_query_and_acts_before_the_output():
    """Of one head alone, one element: what the others give is as before."""
    _, params, reference = plain(OWN[1])
    kernel = np.zeros((D, N, H))
    kernel[:, 1, 2] = normal(D)
    gated = run(made('gated', causal=True, **PLAIN | {'gate': 'element'}),
                params | {'gate_projection': {'kernel': kernel}})
    value = np.einsum('bsd,dh->bsh', SELF.source, params['value_projection']['kernel'][:, 1])
    read = np.einsum('bts,bsh->bth', reference.weights[:, 1], value)[..., 2]
    change = (1.0 / (1.0 + np.exp(-SELF.query @ kernel[:, 1, 2])) - 0.5) * read
    expected = change[..., None] * params['output_projection']['kernel'][1, 2]
    np.testing.assert_allclose(gated.context - reference.context / 2.0, expected, atol=1e-12)


@pytest.mark.parametrize(('path', 'normaliser'), [('explicit', 'softmax'), ('chunked', 'softmax'), ('xla', 'softmax'),
                                                  ('explicit', 'sparsemax')])
def test_forgetting_that_keeps_everything_is_causal_attention(path, normaliser):
    _, params, reference = plain(OWN[1], normaliser=normaliser)
    dtype = 'float32' if path == 'xla' else 'float64'
    module = made('forgetting', causal=True, path=path, **SMALL | {'normaliser': normaliser})

    def kept(bias):
        return params | {'gate_projection': {'kernel': np.zeros((D, N)), 'bias': np.full(N, bias)}}
    same(run(module, kept(800.0), dtype=dtype), reference, 5 * TOLERANCES[dtype], PROJECTIONS)
    assert far(module, kept(1.0), reference, dtype=dtype) > 1e-2


def test_forgetting_at_one_rate_is_alibi():
    """Gates that are the same everywhere lose as much with each position."""
    module = made('forgetting', causal=True, **SMALL)
    _, params, reference = plain(OWN[1], 'alibi')
    kept = np.exp(-positions.alibi_slopes(N))
    gates = {'kernel': np.zeros((D, N)), 'bias': np.log(kept / (1.0 - kept))}
    same(run(module, params | {'gate_projection': gates}), reference, params=PROJECTIONS)


def test_selective_that_selects_nothing_is_causal_attention():
    """A first head without logits masks nothing for the others."""
    module, params, whole = plain(OWN[1])
    kernel = params['query_projection']['kernel'].copy()
    kernel[:, 0] = 0.0
    silent = params | {'query_projection': {'kernel': kernel}}
    same(run(made('selective', causal=True, **SMALL), silent), run(module, silent), params=('value_projection',))
    assert far(made('selective', causal=True, **SMALL), params, whole) > 1e-3


@pytest.mark.parametrize(('kind', 'options'), [
    (KINDS[2], {}), (OWN[0], {'normaliser': 'sparsemax', 'reach': window(3)}),
    (OWN[1], {'position': position('shaw'), 'projection_bias': True}),
    (OWN[1], {'position': position('rotary'), 'normaliser': 'sigmoid'})], ids=str)
def test_heads_that_do_not_talk_are_multi_head_dot(kind, options):
    options = PAIRED | options
    reference_module, module = (made(name, *kind, **more | options) for name, more in (('multi_head_dot', PLAIN),
                                                                                       ('talking_heads', {})))
    params = parameters(reference_module, GIVEN[kind.role])
    reference, silent = run(reference_module, params), {'before': np.eye(N), 'after': np.eye(N)}
    same(run(module, params | silent), reference)
    order = np.eye(N)[[2, 0, 3, 1]]
    # Softmaxes in another order and back again are the same; a mixture is not.
    same(run(module, params | {'before': order, 'after': order.T}), reference)
    assert far(module, params | {'before': order, 'after': order}, reference) > 1e-2
    assert far(module, params | {'before': np.eye(N) + 0.3, 'after': np.eye(N)}, reference) > 1e-2


@of(KINDS)
@pytest.mark.parametrize('how', ['rms', 'layer', 'unit'])
def test_normalised_queries_and_keys_have_no_length(how, kind):
    """Longer queries and keys change logits by nothing but the 1e-6 that keeps their divisors from zero."""
    module = made('qk_norm', *kind, **PLAIN | {'query_key_norm': how})
    params = parameters(module, GIVEN[kind.role])

    def scaled(factor):
        return params | {name: {'kernel': factor * params[name]['kernel']} for name in PROJECTIONS[:2]}
    longer, longest = run(module, scaled(1e3)), run(module, scaled(1e5))
    np.testing.assert_allclose(longer.weights, longest.weights, atol=1e-8)
    assert np.std(longer.weights) > 0.01


# ------------------------------------------------------------------------------------------- 10: two ways to the latent

LATENT = {'heads': N, 'head_width': H, 'rank': 5, 'rotary_width': 0, 'base': 10.0, 'normaliser': 'softmax'}


@pytest.mark.parametrize(('kind', 'rotary_width', 'normaliser'), [
    *((kind, 0, 'softmax') for kind in KINDS), *((kind, 4, 'softmax') for kind in OWN), (OWN[1], 4, 'learned_sink'),
    (KINDS[2], 0, 'entmax')], ids=str)
def test_latent_keys_that_are_never_made_are_those_that_are(kind, rotary_width, normaliser):
    options = LATENT | {'rotary_width': rotary_width, 'normaliser': normaliser}
    naive, absorbed = (made('multi_head_latent', *kind, path, **options) for path in ('explicit', 'absorbed'))
    params = parameters(naive, GIVEN[kind.role])
    reference, ours = run(naive, params), run(absorbed, params)
    assert ours.weights is None
    assert set(reference.by_params) == set(ours.by_params)
    same(ours, reference)
    memory = jax.eval_shape(lambda params: absorbed.apply(
        {'params': params}, jnp.float32(GIVEN[kind.role].source), GIVEN[kind.role].source_places, method='remember'),
        jax.tree.map(np.float32, params))
    assert memory.latent.shape[-1] + memory.turned.shape[-1] == 5 + rotary_width, 'what is kept for each position'


@of(OWN)
def test_a_latent_of_full_rank_is_multi_head_dot_over_normalised_inputs(kind):
    """Down with the identity, up with the kernels; the source of the other is what the norm makes of it."""
    module, params, _ = plain(kind)
    scale = 1.0 + 0.1 * normal(D)
    latent = {'query_projection': params['query_projection'], 'output_projection': params['output_projection'],
              'key_up': params['key_projection']['kernel'], 'value_up': params['value_projection']['kernel'],
              'down_projection': {'kernel': np.eye(D)}, 'latent_norm': {'scale': scale}}
    ours = run(made('multi_head_latent', *kind, **LATENT | {'rank': D}), latent)
    normed = SELF.source / np.sqrt((SELF.source**2).mean(axis=-1, keepdims=True) + 1e-6) * scale
    reference = run(module, params, SELF._replace(source=normed))
    for name in ('context', 'weights', 'by_query'):
        np.testing.assert_allclose(getattr(ours, name), getattr(reference, name), atol=1e-11)


# -------------------------------------------------------------------------------------------- 13: bags and their order

SEQUENCE, ORDER = normal(2, T, D, seed=8), np.array([3, 5, 1, 6, 0, 2, 4])
ORDERED = {'sliding_window', 'strided', 'global_window', 'big_bird', 'synthesizer_dense', 'synthesizer_random',
           'fourier'}
MIXERS = [name for name, variant in registry.VARIANTS.items() if 'self' in variant.roles]


def moved_by_an_order(module):
    """How far the result of a sequence in another order is from its result in that order."""
    params = parameters(module, Given(SEQUENCE, SEQUENCE, FULL, FULL))
    straight, turned = (call(program(module, False), module, params, given, 'float64')[1] for given in (
        Given(sequence, sequence, FULL, FULL) for sequence in (SEQUENCE, SEQUENCE[:, ORDER])))
    assert np.std(straight) > 1e-3
    return np.max(np.abs(turned - straight[:, ORDER]))


@pytest.mark.parametrize('name', MIXERS)
def test_without_positions_a_sequence_is_a_bag(name):
    """Whatever compares without looking at places; not what looks at them, or is read in two directions."""
    change = moved_by_an_order(made(name, **ORACLES[name].options))
    if name in ORDERED or False not in registry.VARIANTS[name].causal:
        assert change > 1e-3
    else:
        assert change < 1e-12


@pytest.mark.parametrize('name', [name for name in MIXERS if True in registry.VARIANTS[name].causal])
def test_causality_alone_is_an_order(name):
    assert moved_by_an_order(made(name, causal=True, **ORACLES[name].options)) > 1e-4


def test_every_scheme_of_positions_is_here():
    assert set(POSITIONS) == set(SCHEMES)


@pytest.mark.parametrize('name', POSITIONS)
@pytest.mark.parametrize(('variant', 'options'), [('multi_head_dot', PLAIN), ('talking_heads', PAIRED),
                                                  ('differential', PAIRED | {'head_norm': True})],
                         ids=['dot', 'talking', 'differential'])
def test_with_positions_it_is_a_sequence(name, variant, options):
    options = options | {'position': position(name)}
    if variant == 'differential' and name == 'shaw':
        with pytest.raises(UserError, match="'shaw' adds to values; differential takes schemes that act on "):
            made(variant, **options)
        return
    change = moved_by_an_order(made(variant, **options))
    assert change < 1e-12 if name == 'none' else change > 1e-4


def test_shaw_that_tells_no_distance_from_another_is_a_bag():
    assert moved_by_an_order(made('multi_head_dot', **PLAIN | {'position': position('shaw', distance=0)})) < 1e-12
    assert moved_by_an_order(made('multi_head_dot', **PLAIN | {'position': position('shaw', distance=1)})) > 1e-3


def test_a_latent_with_a_rotary_part_is_a_sequence():
    assert moved_by_an_order(made('multi_head_latent', **LATENT | {'rotary_width': 4})) > 1e-3


# ----------------------------------------------------------------------------------------------------- paths of windows

def blocks_and_masked(kind, given=SELF, **options):
    """Of a window, path 'blocks' and the path that masks."""
    modules = [made('sliding_window', *kind, path, **PLAIN | options) for path in ('blocks', 'explicit')]
    params = parameters(modules[1], given)
    return [run(module, params, given) for module in modules]


@of(OWN)
@pytest.mark.parametrize('name', POSITIONS)
def test_blocks_are_the_masked_form_with_every_scheme_of_positions(name, kind):
    ours, reference = blocks_and_masked(kind, position=position(name), reach=window(3))
    assert ours.weights is None
    same(ours, reference)


@of(OWN)
@pytest.mark.parametrize('width', [1, 2, 4, 5, T, T + 2])
def test_blocks_are_the_masked_form_of_every_width(width, kind):
    """T a multiple of the width, or not, or less than it."""
    same(*blocks_and_masked(kind, position=position('alibi'), reach=window(width)))


@of(OWN)
def test_blocks_are_the_masked_form_with_all_other_options(kind):
    for options in ({'normaliser': 'learned_sink', 'softcap': 2.0, 'key_value_heads': 2, 'query_key_norm': 'unit',
                     'gate': 'head', 'projection_bias': True, 'position': position('rotary')},
                    {'normaliser': 'sigmoid', 'query_key_norm': 'layer', 'gate': 'element'}, {'normaliser': 'entmax'}):
        same(*blocks_and_masked(kind, reach=window(2), **options))


@of(OWN)
def test_blocks_read_nothing_where_nothing_may_be_read(kind):
    ours, _ = blocks_and_masked(kind, reach=window(3))
    assert not np.any(ours.context[ROWS.segment == 0])
    assert not np.any(ours.by_query[ROWS.segment == 0])
    assert not np.any(ours.by_source[ROWS.segment == 0])


def test_a_window_that_is_carried_has_no_end():
    """More positions than were asked for: the last ones are read as ever."""
    module = made('sliding_window', causal=True, path='blocks', **PLAIN | {'reach': window(5)})
    params = {'params': parameters(module, SELF)}

    def pieces(module):
        carry = module.start(module.remember(SELF.source[:, :0], Places(*(array[:, :0] for array in FULL_ROWS))), 3)
        contexts = []
        for at in range(T):
            here = Places(*(array[:, at:at + 1] for array in FULL_ROWS))
            memory = module.remember(SELF.source[:, at:at + 1], here)
            read = module(SELF.query[:, at:at + 1], memory, carry, here)
            carry = read.carry
            contexts.append(read.context)
        return jnp.concatenate(contexts, axis=1)
    whole = run(module, params['params'], SELF._replace(query_places=FULL_ROWS, source_places=FULL_ROWS)).context
    with jax.enable_x64(True):
        np.testing.assert_allclose(nn.apply(pieces, module)(params), whole, atol=1e-11)


@pytest.mark.parametrize('name', ['fire', 'shaw'])
def test_flops_of_positions_are_counted_where_positions_are_compared(name):
    """On path blocks of a window in as many pairs as are compared; of differential in all, in each of 2 N heads."""
    def flops(variant, length, scheme, **options):
        options = ORACLES[variant].options | options | {'position': scheme}
        return registry.make(variant, features=D, role='self', causal=True, **options).flops(length, length, D, D)

    def added(variant, length, **options):
        return flops(variant, length, position(name), **options) - flops(variant, length, position('none'), **options)
    blocks = {'path': 'blocks', 'reach': window(4)}
    assert 0 < added('sliding_window', 1024, **blocks) == pytest.approx(2 * added('sliding_window', 512, **blocks))
    if name == 'fire':
        heads, inner = 2 * ORACLES['differential'].options['heads'], POSITIONS['fire']['hidden']
        assert added('differential', 64) == pytest.approx(2 * 64 * 64 * inner * (1 + heads), rel=0.01)


def test_differential_is_refused_an_odd_width_for_rotary_positions():
    options = PAIRED | {'heads': 2, 'head_width': 0, 'position': position('rotary'), 'head_norm': True}
    with pytest.raises(UserError, match='even width, not 3'):
        registry.make('differential', features=12, role='self', **options)


@pytest.mark.parametrize('gradients', [False, True])
def test_blocks_do_not_make_all_logits(gradients):
    """Memory grows with T, not with its square."""
    T, D = 512, 8
    sequence, here = np.ones((1, T, D), np.float32), places([1] * T)

    def size(path):
        module = registry.make('sliding_window', features=D, role='self', causal=True, path=path,
                               **PLAIN | {'heads': 1, 'head_width': 8, 'reach': window(16)})
        given = Given(sequence, sequence, here, here)
        params = jax.tree.map(np.float32, parameters(module, given))

        def context(params):
            return nn.apply(reading(module, given), module)({'params': params}).context
        program = jax.jit(jax.grad(lambda params: context(params).sum()) if gradients else context)
        return program.lower(params).compile().memory_analysis().temp_size_in_bytes
    assert size('blocks') < size('explicit') / 10


# ----------------------------------------------------------------------------------------- Fourier, and both directions

def test_fourier_is_that_of_numpy_and_of_jax():
    module = made('fourier')
    full = Given(SEQUENCE, SEQUENCE, FULL, FULL)
    np.testing.assert_allclose(run(module, {}, full).context, np.fft.fft2(SEQUENCE).real, atol=1e-11)
    single = run(module, {}, full, 'float32').context
    np.testing.assert_allclose(single, np.asarray(jnp.fft.fft2(np.float32(SEQUENCE)).real), atol=1e-4)


def test_each_sentence_of_a_row_has_a_fourier_transform_of_its_own():
    context = run(made('fourier'), {}).context
    for b, row in enumerate(ROWS.segment):
        assert not np.any(context[b, row == 0])
        for segment in set(row) - {0}:
            here = row == segment
            np.testing.assert_allclose(context[b, here], np.fft.fft2(SELF.source[b, here]).real, atol=1e-11)


def alone(array, flip=False):
    """The sentences of ROWS, a row each, at its front; flipped: each from its last position to its first."""
    rows = []
    for b, row in enumerate(ROWS.segment):
        for segment in sorted(set(row) - {0}):
            sentence = array[b, row == segment]
            rows.append(np.zeros((T, *array.shape[2:])))
            rows[-1][:len(sentence)] = sentence[::-1] if flip else sentence
    return np.stack(rows)


LENGTHS = [int(np.sum(row == segment)) for row in ROWS.segment for segment in sorted(set(row) - {0})]


@pytest.mark.parametrize('name', [name for name in MIXERS if False not in registry.VARIANTS[name].causal])
def test_both_ways_is_forward_and_flipped_backward(name):
    """Of each sentence by itself, the causal variant over it, and the causal variant over it from behind."""
    options = ORACLES[name].options
    both = made(name, **options)
    params = parameters(both, SELF)
    assert set(params) == {'forward', 'backward'}
    causal, context = made(name, causal=True, **options), alone(run(both, params).context)
    here = places(*([1] * length + [0] * (T - length) for length in LENGTHS))
    forward, backward = (run(causal, params[copy], Given(given, given, here, here)).context for copy, given in (
        ('forward', alone(SELF.source)), ('backward', alone(SELF.source, flip=True))))
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(context[row, :length], forward[row, :length] + backward[row, :length][::-1],
                                   atol=1e-10)
    assert np.max(np.abs(forward)) > 1e-2
    assert np.max(np.abs(backward)) > 1e-2


@pytest.mark.parametrize('name', ['retention', 'delta', 'forgetting'])
def test_a_pad_within_a_sentence_is_not_there_from_either_side(name):
    both = made(name, **ORACLES[name].options)
    params = parameters(both, SELF)
    padded = Places(np.array([[1, 1, 0, 1, 1, 0, 0]] * 4, np.int32), np.array([[0, 1, 0, 2, 3, 0, 0]] * 4, np.int32))
    real, plain = padded.segment[0] > 0, places(*[[1] * 4 + [0] * 3] * 4)
    dense = np.concatenate([SELF.source[:, real], SELF.source[:, ~real]], axis=1)
    here = run(both, params, Given(SELF.source, SELF.source, padded, padded)).context[:, real]
    np.testing.assert_allclose(here, run(both, params, Given(dense, dense, plain, plain)).context[:, :4], atol=1e-10)
