"""Memories of fixed size: position by position, in chunks and as one product of all pairs they are the same."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.attention import linear, recurrences, registry, retention
from research.attention.delta import unit_silu
from research.errors import UserError
from research.shapes import Places

B, T, N, H, V = 3, 11, 2, 5, 3
SEGMENT = np.array([[1] * 11, [1, 1, 0, 1, 1, 2, 2, 2, 0, 0, 2], [0, 0, 1, 2, 2, 2, 2, 3, 3, 0, 0]], np.int32)
POSITION = np.array([list(range(11)), [0, 1, 0, 2, 3, 0, 1, 2, 0, 0, 3], [0, 0, 0, 0, 1, 2, 3, 0, 1, 0, 0]], np.int32)
PLACES = Places(SEGMENT, POSITION)
CHUNKS = (1, 2, 3, 4, 11, 64)


class Path:
    """What `recurrences.read` asks of an attention."""

    def __init__(self, path, chunk=1):
        self.path, self.chunk = path, chunk


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def given(decays, rate, loud=False):
    """A query, and what is written: decays one a head or one a channel, none without."""
    width = {'none': 1, 'head': 1, 'channel': H}[decays]
    log_decay = -np.exp(normal(B, T, N, width, seed=4)) * (decays != 'none')
    keys = normal(B, T, N, H, seed=2)
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    rates = 2.0 / (1.0 + np.exp(normal(B, T, N, seed=5))) if rate else None
    arrays = [normal(B, T, N, H, seed=1), keys, normal(B, T, N, V, seed=3), log_decay, rates]
    if loud:
        arrays = [array if array is None else np.where(
            (SEGMENT > 0).reshape(B, T, *[1] * (array.ndim - 2)), array, 1e6) for array in arrays]
    query, *written = arrays
    return query, recurrences.Written(*written, PLACES)


def parallel(query, written):
    """All pairs: what position s writes is what t reads of it, if nothing between them is replaced.

    With a rate, `U` is what is really written, one position after another.
    """
    log = jnp.cumsum(jnp.where((SEGMENT > 0)[..., None, None], written.log_decay, 0.0), axis=1)
    same = (SEGMENT[:, :, None] == SEGMENT[:, None]) & (SEGMENT > 0)[:, :, None] & np.tril(np.ones((T, T), bool))
    same = same[..., None, None]
    ratios = jnp.where(same, jnp.exp(jnp.where(same, log[:, :, None] - log[:, None], 0.0)), 0.0)
    similar = jnp.sum(query[:, :, None] * written.keys[:, None] * ratios, axis=-1)
    values = written.values
    if written.rate is not None:
        alike = jnp.sum(written.keys[:, :, None] * written.keys[:, None] * ratios, axis=-1)
        done = []
        for t in range(T):
            found = sum((alike[:, t, s][..., None] * done[s] for s in range(t)), jnp.zeros((B, N, V)))
            done.append(written.rate[:, t][..., None] * (values[:, t] - found))
        values = jnp.stack(done, axis=1)
    return jnp.einsum('btsn,bsnv->btnv', similar, values)


MEMORIES = list(itertools.product(('none', 'head', 'channel'), (False, True)))
memories = pytest.mark.parametrize(('decays', 'rate'), MEMORIES)


@memories
def test_recurrent_is_chunked_is_parallel_and_so_are_the_gradients(decays, rate):
    """With pads within and between sentences and segments that begin anywhere in a chunk; in float64."""
    direction = normal(B, T, N, V, seed=6)

    def values(read):
        def objective(query, arrays):
            reads = read(query, recurrences.Written(*arrays, PLACES))
            return jnp.sum(reads * direction), reads
        query, written = given(decays, rate)
        return jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)(query, written[:4])

    def by(path, chunk=1):
        return lambda query, written: recurrences.read(Path(path, chunk), query, written, ())[0]
    with jax.enable_x64(True):
        reference = values(by('explicit'))
        others = [values(parallel), *(values(by('chunked', chunk)) for chunk in CHUNKS)]
    for other in others:
        jax.tree.map(lambda ours, wanted: np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-9), other,
                     reference)
    assert not np.any(np.asarray(reference[0][1])[SEGMENT == 0])
    assert all(not np.any(np.asarray(leaf)[SEGMENT == 0]) for leaf in jax.tree.leaves(reference[1]))


@memories
@pytest.mark.parametrize('chunk', CHUNKS)
def test_in_pieces_is_at_once_up_to_the_memory_that_is_left(decays, rate, chunk):
    query, written = given(decays, rate)
    with jax.enable_x64(True):
        start = recurrences.empty(jnp.asarray(written.keys), jnp.asarray(written.values))
        reads, kept = recurrences.read(Path('explicit'), query, written, start)
        for path, borders in itertools.product((Path('explicit'), Path('chunked', chunk)), ((0, 11), (0, 3, 4, 9, 11))):
            carry, parts = start, []
            for begin, end in itertools.pairwise(borders):
                piece = jax.tree.map(lambda leaf, begin=begin, end=end: leaf[:, begin:end], (query, written))
                part, carry = recurrences.read(path, *piece, carry)
                parts.append(part)
            np.testing.assert_allclose(np.concatenate(parts, 1), reads, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(carry.memory, kept.memory, rtol=1e-9, atol=1e-9)
            np.testing.assert_array_equal(carry.segment, [1, 2, 3])


@memories
@pytest.mark.parametrize('path', [Path('explicit'), Path('chunked', 4)], ids=lambda path: path.path)
def test_pads_change_no_bit_of_what_is_read_or_kept(decays, rate, path):
    plain, loud = (jax.tree.map(lambda leaf: leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf,
                                given(decays, rate, loud)) for loud in (False, True))
    start = recurrences.empty(*(jnp.asarray(array) for array in plain[1][:2]))
    jax.tree.map(np.testing.assert_array_equal, recurrences.read(path, *loud, start),
                 recurrences.read(path, *plain, start))
    reads, kept = recurrences.read(path, *plain, start)
    pads = jax.tree.map(lambda leaf: leaf[:, :4], loud[1])._replace(
        places=Places(np.zeros((B, 4), np.int32), POSITION[:, :4]))
    nothing, after = recurrences.read(path, loud[0][:, :4], pads, kept)
    jax.tree.map(np.testing.assert_array_equal, after, kept)
    assert not np.any(nothing)
    assert np.any(reads)


@memories
@pytest.mark.parametrize('chunk', CHUNKS)
def test_no_gradient_crosses_the_border_of_a_segment_not_even_a_rounding(decays, rate, chunk):
    query, written = jax.tree.map(lambda leaf: leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf,
                                  given(decays, rate))
    direction = normal(V, seed=7).astype(np.float32)

    def along(arrays):
        reads, _ = recurrences.read(Path('chunked', chunk), query, recurrences.Written(*arrays, PLACES), ())
        return jnp.sum(reads @ direction, axis=(0, 2))
    mask = np.tril(np.ones((T, T), bool)) & (SEGMENT[:, :, None] == SEGMENT[:, None]) & (SEGMENT > 0)[:, :, None]
    for leaf in jax.tree.leaves(jax.jacrev(along)(written[:4])):  # [T, B, S, ...]
        reached = np.any(np.asarray(leaf).reshape(T, B, T, -1) != 0, axis=-1)
        assert not np.any(reached & ~np.moveaxis(mask, 1, 0))


def test_segments_begin_where_another_one_ends_and_pads_do_not_count():
    new, last = recurrences.begins(PLACES, np.array([1, 0, 3], np.int32))
    np.testing.assert_array_equal(new[0], [True] + [False] * 10)  # position 0, though the segment has the same number
    np.testing.assert_array_equal(np.flatnonzero(new[1]), [0, 5])
    np.testing.assert_array_equal(np.flatnonzero(new[2]), [2, 3, 7])
    np.testing.assert_array_equal(last, [1, 2, 3])
    later = Places(SEGMENT[:, 3:], POSITION[:, 3:])
    new, _ = recurrences.begins(later, np.array([1, 1, 1], np.int32))
    assert not np.any(new[:2, :2])
    _, last = recurrences.begins(Places(SEGMENT[:, :0], POSITION[:, :0]), np.array([1, 0, 3], np.int32))
    np.testing.assert_array_equal(last, [1, 0, 3])


# ---------------------------------------------------------------------------------------- memories among each other

def write(keys, values, log_decay=None, rate=None, query=None):
    """Reads by all keys after all positions of one sentence: [B, T, N, H_v]."""
    log_decay = jnp.zeros((*keys.shape[:3], 1)) if log_decay is None else log_decay
    places = Places(np.ones(keys.shape[:2], np.int32),
                    np.tile(np.arange(keys.shape[1], dtype=np.int32), (len(keys), 1)))
    return recurrences.read(Path('explicit'), keys if query is None else query,
                            recurrences.Written(keys, values, log_decay, rate, places), ())[0]


@pytest.mark.parametrize('C', [1, 2, 3, 5, 8, 11, 16, 33])
def test_a_system_below_its_diagonal_is_solved_as_numpy_does_and_so_are_its_gradients(C):
    """X = A^-1 R with A = I + below: the gradient of R is Y = A^-T G, that of what is below the diagonal - Y X^T."""
    below, right, direction = np.tril(normal(2, N, C, C), -1), normal(2, N, C, H), normal(2, N, C, H, seed=1)
    whole = np.eye(C) + below
    expected = np.linalg.solve(whole, right)
    by_right = np.linalg.solve(np.swapaxes(whole, -1, -2), direction)
    by_below = np.tril(-by_right @ np.swapaxes(expected, -1, -2), -1)
    with jax.enable_x64(True):
        solved, gradient = jax.vjp(lambda below, right: recurrences.solve_below(jnp.tril(below, -1), right), below,
                                   right)
        for found, wanted in zip((solved, *gradient(direction)), (expected, by_below, by_right), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9 * np.max(np.abs(wanted)))


@pytest.mark.parametrize('rate', [False, True])
def test_what_is_kept_for_gradients_are_no_products_of_pairs(rate):
    """Of T positions in chunks of C not even one [T, C] matrix a head."""
    T, C, H = 4096, 256, 4
    array, one = np.zeros((1, T, 1, H), np.float32), np.zeros((1, T, 1), np.float32)

    def objective(query, keys, values, log_decay, rates):
        reads, _ = recurrences.chunked(query, keys, values, log_decay, np.zeros((1, T), bool),
                                       np.zeros((1, 1, H, H), np.float32), rates if rate else None, chunk=C)
        return jnp.sum(reads**2)
    program = jax.jit(jax.grad(objective, argnums=range(5))).lower(array, array, array, one[..., None], one).compile()
    assert program.memory_analysis().temp_size_in_bytes < 4 * T * C


def test_one_key_written_twice_returns_the_second_value_from_delta_and_the_sum_from_linear():
    keys = np.zeros((1, 2, 1, H), np.float32)
    keys[..., 1] = 1.0
    values = normal(1, 2, 1, V).astype(np.float32)
    np.testing.assert_allclose(write(keys, values, rate=np.ones((1, 2, 1)))[0, 1], values[0, 1], atol=1e-6)
    np.testing.assert_allclose(write(keys, values)[0, 1], values[0].sum(axis=0), atol=1e-6)


def test_delta_with_orthonormal_keys_is_linear():
    keys = np.linalg.qr(normal(H, H))[0].astype(np.float32)[None, :, None]
    values, query = (normal(1, H, 1, width, seed=1).astype(np.float32) for width in (V, H))
    np.testing.assert_allclose(write(keys, values, rate=np.ones((1, H, 1)), query=query),
                               write(keys, values, query=query), atol=1e-5)


@pytest.mark.parametrize('path', recurrences.PATHS)
def test_gated_linear_with_one_gate_for_all_channels_is_a_memory_with_one_decay(path):
    query, written = given('head', False)
    wide = written._replace(log_decay=np.broadcast_to(written.log_decay, (B, T, N, H)))
    np.testing.assert_allclose(recurrences.read(Path(path, 4), query, wide, ())[0],
                               recurrences.read(Path(path, 4), query, written, ())[0], atol=1e-5)


def read(name, params, source=None, path='chunked', **options):
    module = registry.make(name, features=12, role='self', causal=True, path=path, heads=2, head_width=4, chunk=4,
                           **options)
    source = normal(B, T, 12, seed=9).astype(np.float32) if source is None else source

    def call(module):
        return module(source, module.remember(source, PLACES), (), PLACES).context
    if params is None:
        return nn.init(call, module)(jax.random.key(0))['params']
    return nn.apply(call, module)({'params': params})


@pytest.mark.parametrize('path', recurrences.PATHS)
def test_retention_that_neither_decays_nor_turns_is_linear_with_the_identity_as_features(path, monkeypatch):
    """Before the norm and the gate: sums over pairs of q . k v, k divided by sqrt(H), not normalised."""
    monkeypatch.setattr(retention, 'retention_decay', np.zeros)
    params = read('retention', None, base=10000.0)
    monkeypatch.setattr(retention.positions, 'rotary', lambda vectors, *_: vectors)
    module = registry.make('retention', features=12, role='self', causal=True, path=path, heads=2, head_width=4,
                           chunk=4, base=10000.0)
    source = normal(B, T, 12, seed=9).astype(np.float32)

    def call(module):
        written = module.remember(source, PLACES)
        return recurrences.read(module, module.query_projection(source), written, ())[0]
    q, k, v = (np.einsum('btd,dnh->btnh', source, np.asarray(params[f'{name}_projection']['kernel'], np.float64))
               for name in ('query', 'key', 'value'))
    same = (SEGMENT[:, :, None] == SEGMENT[:, None]) & (SEGMENT > 0)[:, :, None] & np.tril(np.ones((T, T), bool))
    expected = np.einsum('btnh,bsnh,bts,bsnv->btnv', q, k / 2.0, same, v)
    np.testing.assert_allclose(nn.apply(call, module)({'params': params}), expected, atol=1e-5)


def test_gated_delta_that_lets_nothing_decay_and_leaves_its_gate_open_is_delta():
    params = read('gated_delta', None, negative=False)
    params = jax.tree.map(lambda leaf: leaf, params) | {'log_decay_rate': jnp.full(2, -jnp.inf)}
    reads = []
    for name in ('gated_delta', 'delta'):
        module = registry.make(name, features=12, role='self', causal=True, heads=2, head_width=4, negative=False,
                               chunk=4)
        source = normal(B, T, 12, seed=9).astype(np.float32)

        def call(module, source=source):
            written = module.remember(source, PLACES)
            return recurrences.read(module, unit_silu(module.query_projection(source)), written, ())[0]
        reads.append(nn.apply(call, module)({'params': params}))
    np.testing.assert_allclose(*reads, atol=1e-6)


def test_a_memory_of_great_decays_is_finite_and_so_are_its_gradients():
    """Products of decays underflow within a chunk, and nothing is divided by them."""
    query, written = given('channel', True)

    def total(log_decay):
        far = written._replace(log_decay=log_decay)
        return jnp.sum(recurrences.read(Path('chunked', 64), query, far, ())[0])
    value, slope = jax.value_and_grad(total)(np.full((B, T, N, H), -300.0))
    assert np.isfinite(value)
    assert np.all(np.isfinite(slope))


# --------------------------------------------------------------------------------------------------------- feature maps

def test_features_of_taylor_have_products_of_the_first_terms_of_exp():
    q, k = normal(7, H, seed=1), normal(7, H, seed=2)
    products = np.sum(linear.Taylor()(jnp.asarray(q)).vectors * linear.Taylor()(jnp.asarray(k)).vectors, axis=-1)
    r = np.sum(q * k, axis=-1) / np.sqrt(H)
    np.testing.assert_allclose(products, 1 + r + r**2 / 2, rtol=1e-5)


def test_rows_of_performer_are_orthogonal_and_their_similarity_is_exp_on_average():
    rows = linear.orthogonal_rows(2 * H, H, seed=3)
    products = rows @ rows.T
    block = products[:H, :H]
    np.testing.assert_allclose(block - np.diag(np.diag(block)), 0.0, atol=1e-12)
    assert np.std(np.linalg.norm(linear.orthogonal_rows(100, H, seed=3), axis=1)) > 0.1
    q, k = 0.7 * normal(H, seed=1), 0.7 * normal(H, seed=2)
    similar = []
    for seed in range(200):
        left, right = (linear.Performer(16, seed)(jnp.asarray(vector)) for vector in (q, k))
        similar.append(np.exp(left.log_scale + right.log_scale) * (left.vectors @ right.vectors) / 16)
    spread = np.std(similar) / np.sqrt(len(similar))
    assert abs(np.mean(similar) - np.exp(q @ k / np.sqrt(H))) < 4 * spread
    assert spread < 0.1


@pytest.mark.parametrize('path', recurrences.PATHS)
def test_performer_does_not_overflow(path):
    source = 30.0 * normal(B, T, 12, seed=9).astype(np.float32)
    options = {'feature_map': {'name': 'performer', 'count': 16, 'seed': 0}, 'segments': 1}
    params = read('performer', None, source, path, **options)
    context = read('performer', params, source, path, **options)
    assert np.all(np.isfinite(context))
    assert np.any(context)


def test_a_sentence_beyond_those_that_are_kept_apart_gives_nan():
    module = registry.make('linear', features=12, role='self', path='chunked', heads=2, head_width=4, chunk=4,
                           feature_map={'name': 'elu'}, segments=2)
    source = normal(B, T, 12, seed=9).astype(np.float32)

    def call(module):
        return module(source, module.remember(source, PLACES), (), PLACES).context
    params = nn.init(call, module)(jax.random.key(0))
    context = np.asarray(nn.apply(call, module)(params))
    np.testing.assert_array_equal(np.isnan(context).all(axis=-1), SEGMENT > 2)
    np.testing.assert_array_equal(np.isnan(context).any(axis=-1), SEGMENT > 2)


WRONG = [
    ('linear', {'chunk': 0}, 'chunk is 0; it must be at least 1'),
    ('linear', {'segments': 0}, 'segments is 0; it must be at least 1'),
    ('linear', {'feature_map': {'name': 'relu'}}, "feature_map.name is 'relu'; it must be one of elu, taylor"),
    ('linear', {'feature_map': {'name': 'elu', 'count': 3}}, "feature_map 'elu' has the options none, not count"),
    ('performer', {'feature_map': {'name': 'performer', 'count': 0, 'seed': 0}}, 'feature_map.count is 0; it must be'),
    ('taylor', {}, "with this name it must be that with the name 'taylor'; 'linear' combines all options freely"),
    ('retention', {'head_width': 3}, 'heads need an even width, not 3'),
    ('retention', {'base': 0.0}, 'base is 0.0; it must be above 0'),
    ('gated_linear', {'rank': 0}, 'rank is 0; it must be at least 1'),
    ('state_space', {'state_width': 0}, 'state_width is 0; it must be at least 1'),
    ('delta', {'chunk': -1}, 'chunk is -1; it must be at least 1'),
    ('gated_delta', {'heads': 5}, 'heads is 5, which does not divide the width 12'),
]
MORE = {'linear': {'feature_map': {'name': 'elu'}, 'segments': 1}, 'retention': {'base': 10.0},
        'gated_linear': {'rank': 3}, 'state_space': {'state_width': 3}, 'delta': {'negative': False}}
MORE |= {'taylor': MORE['linear'], 'performer': MORE['linear'], 'gated_delta': MORE['delta']}


@pytest.mark.parametrize(('name', 'options', 'message'), WRONG, ids=[message for *_, message in WRONG])
def test_a_wrong_option_is_refused(name, options, message):
    with pytest.raises(UserError) as caught:
        registry.make(name, **{'features': 12, 'role': 'self', 'causal': True, 'heads': 2, 'head_width': 0, 'chunk': 4,
                               **MORE[name], **options})
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)
