"""The battery of every cell: each test runs over all that the registry names."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.cells.registry import CELLS, make
from research.errors import UserError
from tests.cells import oracles

B, S, D, H = 3, 7, 5, 11
LENGTHS = [7, 4, 0]
MASK = np.arange(S) < np.array(LENGTHS)[:, None]
EVERY = pytest.mark.parametrize('name', CELLS)
DIRECTIONS = pytest.mark.parametrize('reverse', [False, True], ids=['forward', 'backward'])


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def drawn_state(name, seed=1):
    """A start that is not zero, so that one that is ignored or reset is seen."""
    return tuple(oracles.ORACLES[name].valid(*(0.5 * drawn(B, *shape, seed=seed + part)
                                               for part, shape in enumerate(make(name, H).shapes))))


def noisy(params, seed=5):
    """Initial biases are the same number all over a gate: noise makes a wrong order inside a gate visible."""
    leaves, tree = jax.tree.flatten(params)
    return tree.unflatten([leaf + 0.3 * drawn(*leaf.shape, seed=seed + at) for at, leaf in enumerate(leaves)])


@functools.cache
def built(name):
    """The cell, its parameters, and its compiled `over`."""
    cell = make(name, H)
    init = functools.partial(cell.init, inputs=drawn(B, S, D), mask=MASK, state=cell.start(B), method='over')
    over = jax.jit(functools.partial(cell.apply, method='over'), static_argnames='reverse')
    return cell, jax.tree.map(np.asarray, noisy(jax.jit(init)(jax.random.key(0)))), over


def assert_near(found, expected, atol=2e-6):
    """To within `atol` of numbers up to 1; of an array with larger ones, to within that share of the largest."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol * max(1, np.max(np.abs(expected))))


def in_float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


@EVERY
@DIRECTIONS
def test_outputs_and_final_state_are_those_of_the_formula(name, reverse):
    _, variables, over = built(name)
    inputs, state = drawn(B, S, D), drawn_state(name)
    outputs, final = over(variables, inputs, MASK, state, reverse=reverse)
    expected, finals = oracles.over(name, in_float64(variables['params']), in_float64(inputs), LENGTHS,
                                    in_float64(list(state)), reverse)
    assert outputs.shape == (B, S, H)
    assert_near(outputs, expected)
    assert len(final) == len(finals) == len(CELLS[name].cell.states)
    for array, expected in zip(final, finals, strict=True):
        assert_near(array, expected)


@EVERY
def test_gradients_are_those_of_the_formula(name):
    """<gradient, direction> against a central difference of the oracle, for each parameter and each argument."""
    cell, variables, _ = built(name)
    arguments = {'params': variables['params'], 'inputs': drawn(B, S, D), 'state': list(drawn_state(name))}
    outputs_cotangent = drawn(B, S, H, seed=20)
    states_cotangent = [drawn(*array.shape, seed=21 + part) for part, array in enumerate(arguments['state'])]

    def total(numbers, outputs, final):
        return numbers.sum(outputs * outputs_cotangent) + sum(
            numbers.sum(array * cotangent) for array, cotangent in zip(final, states_cotangent, strict=True))

    @jax.jit
    @jax.grad
    def gradients(arguments):
        return total(jnp, *cell.apply({'params': arguments['params']}, arguments['inputs'], MASK,
                                      tuple(arguments['state']), method='over'))

    def expected(leaves):
        exact = tree.unflatten(leaves)
        return total(np, *oracles.over(name, exact['params'], exact['inputs'], LENGTHS, exact['state']))

    with jax.enable_x64(True):  # float32 would blur what is compared; its forward pass is held to the oracle above
        found, tree = jax.tree.flatten(gradients(in_float64(arguments)))
        found = [np.asarray(leaf) for leaf in found]
    point = jax.tree.leaves(in_float64(arguments))
    for at, gradient in enumerate(found):
        assert gradient.dtype == np.float64
        for draw in range(3):
            direction = np.random.default_rng(100 * at + draw).normal(size=gradient.shape)
            up, down = (expected([*point[:at], point[at] + sign * 1e-6 * direction, *point[at + 1:]])
                        for sign in (1, -1))
            np.testing.assert_allclose(np.sum(gradient * direction), (up - down) / 2e-6, rtol=1e-4, atol=1e-8)


@EVERY
@DIRECTIONS
def test_what_stands_at_padding_changes_nothing_bit_for_bit(name, reverse):
    cell, variables, over = built(name)
    inputs = drawn(B, S, D)
    pads = np.where(MASK[:, :, None], inputs, np.float32(1e6))
    clean, dirty = (over(variables, given, MASK, drawn_state(name), reverse=reverse) for given in (inputs, pads))
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)

    @functools.partial(jax.jit, static_argnames='reverse')
    @functools.partial(jax.grad, argnums=1)
    def gradient(variables, inputs, state, reverse):
        outputs, final = cell.apply(variables, inputs, MASK, state, reverse, method='over')
        return sum(jnp.sum(array ** 2) for array in (outputs, *final))
    slopes = np.asarray(gradient(variables, pads, drawn_state(name), reverse=reverse))
    assert np.all(slopes[~MASK] == 0)
    assert np.all(np.any(slopes[MASK] != 0, axis=-1))


@EVERY
@DIRECTIONS
def test_outputs_at_padding_are_zero_and_an_empty_row_returns_its_initial_state(name, reverse):
    _, variables, over = built(name)
    state = drawn_state(name)
    outputs, final = over(variables, drawn(B, S, D), MASK, state, reverse=reverse)
    assert np.all(np.asarray(outputs)[~MASK] == 0)
    assert np.all(np.any(np.asarray(outputs)[MASK] != 0, axis=-1))
    empty = LENGTHS.index(0)
    for array, initial in zip(final, state, strict=True):
        np.testing.assert_array_equal(np.asarray(array)[empty], initial[empty])


@EVERY
def test_padding_in_front_and_between_passes_the_state_through(name):
    _, variables, over = built(name)
    inputs, state = drawn(B, S, D), drawn_state(name)
    _, packed_final = over(variables, inputs, MASK, state)
    spread = [0, 2, 3, 6]
    holes, mask = np.full((B, S, D), 9, np.float32), np.zeros((B, S), bool)
    holes[1, spread], mask[1, spread] = inputs[1, :4], True
    _, final = over(variables, holes, mask, state)
    for one, other in zip(final, packed_final, strict=True):
        np.testing.assert_allclose(np.asarray(one)[1], np.asarray(other)[1], atol=1e-6)


@EVERY
def test_step_by_step_and_in_two_halves_is_all_at_once(name):
    cell, variables, over = built(name)
    inputs, state = drawn(B, S, D), drawn_state(name)
    outputs, final = over(variables, inputs, np.ones((B, S), bool), state)
    step = jax.jit(functools.partial(cell.apply, method='step'))
    advance = jax.jit(functools.partial(cell.apply, method='advance'))
    projected = cell.apply(variables, inputs, method='project')
    assert projected.shape == (B, S, cell.projected_width)
    stepped = halved = state
    for s in range(S):
        stepped = step(variables, stepped, inputs[:, s])
        halved = advance(variables, halved, projected[:, s])
        np.testing.assert_allclose(stepped[0], outputs[:, s], atol=1e-6)
        np.testing.assert_allclose(halved[0], outputs[:, s], atol=1e-6)
    for one, other, whole in zip(stepped, halved, final, strict=True):
        np.testing.assert_allclose(one, whole, atol=1e-6)
        np.testing.assert_allclose(other, whole, atol=1e-6)


@EVERY
def test_advance_inside_a_linen_scan_is_over(name):
    """How a decoder uses a cell: projected before the scan, advanced in it, made by either."""
    class Decoder(nn.Module):
        def setup(self):
            self.cell = make(name, H)

        def __call__(self, inputs, state):
            def position(module, state, projected):
                state = module.cell.advance(state, projected)
                return state, state[0]
            scan = nn.scan(position, variable_broadcast='params', split_rngs={'params': False}, in_axes=1, out_axes=1)
            return scan(self, state, self.cell.project(inputs))[1]

    _, variables, over = built(name)
    inputs, state = drawn(B, S, D), drawn_state(name)
    made = jax.jit(Decoder().init)(jax.random.key(0), inputs, state)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, {'params': {'cell': variables['params']}})
    outputs = jax.jit(Decoder().apply)({'params': {'cell': variables['params']}}, inputs, state)
    np.testing.assert_allclose(outputs, over(variables, inputs, np.ones((B, S), bool), state)[0], atol=1e-6)


@EVERY
def test_backward_is_forward_over_the_flipped_sequence(name):
    _, variables, over = built(name)
    inputs, state, every = drawn(B, S, D), drawn_state(name), np.ones((B, S), bool)
    outputs, final = over(variables, inputs, every, state, reverse=True)
    flipped, flipped_final = over(variables, inputs[:, ::-1], every, state)
    np.testing.assert_allclose(outputs, flipped[:, ::-1], atol=1e-6)
    for one, other in zip(final, flipped_final, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@EVERY
def test_a_sentence_does_not_see_its_neighbours_in_the_batch(name):
    _, variables, over = built(name)
    inputs, state = drawn(B, S, D), drawn_state(name)
    outputs, final = over(variables, inputs, MASK, state)
    for b, length in enumerate(LENGTHS):
        at = slice(b, b + 1)
        alone, alone_final = over(variables, inputs[at], MASK[at], tuple(array[at] for array in state))
        if length:
            assert_near(alone[0, :length], outputs[b, :length], atol=1e-6)
        for one, other in zip(alone_final, final, strict=True):
            assert_near(one[0], other[b], atol=1e-6)


@EVERY
def test_jit_changes_nothing_and_compiles_once_for_a_shape(name):
    cell, variables, _ = built(name)
    traces = []

    @jax.jit
    def over(variables, inputs, state):
        traces.append(inputs.shape)
        return cell.apply(variables, inputs, MASK, state, method='over')
    for seed in (0, 1):
        inputs, state = drawn(B, S, D, seed=seed), drawn_state(name, seed=seed + 2)
        jitted = over(variables, inputs, state)
    assert traces == [(B, S, D)]
    with jax.disable_jit():
        plain = cell.apply(variables, inputs, MASK, state, method='over')
    for one, other in zip(jax.tree.leaves(jitted), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@EVERY
def test_bfloat16_inputs_give_bfloat16_outputs_near_those_of_float32_and_a_float32_state(name):
    _, variables, over = built(name)
    inputs = drawn(B, S, D)
    outputs, final = over(variables, inputs, MASK, drawn_state(name))
    low = make(name, H, jnp.bfloat16)
    assert all(array.dtype == jnp.float32 for array in low.start(B))
    low_outputs, low_final = jax.jit(functools.partial(low.apply, method='over'))(
        variables, jnp.asarray(inputs, jnp.bfloat16), MASK, drawn_state(name))
    assert low_outputs.dtype == jnp.bfloat16
    np.testing.assert_allclose(low_outputs.astype(jnp.float32), outputs, atol=0.06)
    for one, other in zip(low_final, final, strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, other, atol=0.06)


@EVERY
def test_float32_stays_float32_and_the_start_is_that_of_the_oracle(name):
    cell, variables, over = built(name)
    start = cell.start(B)
    outputs, final = over(variables, drawn(B, S, D), MASK, start)
    for array, expected in zip(start, oracles.ORACLES[name].start(H), strict=True):
        np.testing.assert_array_equal(array, np.stack([expected] * B))
    assert len(start) == len(cell.states)
    assert not np.any(start[0])
    assert start[0].shape == (B, H)
    expected, _ = oracles.over(name, in_float64(variables['params']), in_float64(drawn(B, S, D)), LENGTHS,
                               in_float64(list(start)))
    assert_near(outputs, expected)
    assert {array.dtype for array in (outputs, *start, *final)} == {jnp.dtype(jnp.float32)}


@EVERY
def test_what_an_encoder_hands_on_and_a_decoder_starts_from_is_that_of_the_oracle(name):
    cell, variables, over = built(name)
    oracle, params = oracles.ORACLES[name], in_float64(variables['params'])
    inputs = drawn(B, S, D)
    _, state = over(variables, inputs, MASK, cell.start(B))  # the last row has read nothing
    handed, vector = cell.final(state), np.tanh(drawn(B, cell.start_width, seed=8))
    assert handed.shape == (B, cell.final_width)
    assert np.all(np.any(np.asarray(handed)[:-1] != 0, axis=1))
    started = cell.apply(variables, vector, method='start_from')
    assert [array.shape for array in started] == [array.shape for array in cell.start(B)]
    assert {array.dtype for array in started} == {jnp.dtype(jnp.float32)}
    for b in range(B):
        arrays = [np.asarray(array[b], np.float64) for array in state]
        assert_near(handed[b], oracle.final(arrays))
        for array, expected in zip(started, oracle.start_from(params, np.float64(vector[b])), strict=True):
            assert_near(array[b], expected)

    @jax.jit
    @jax.grad
    def gradient(vector):
        """How much of the outputs each number of the vector moves."""
        state = cell.apply(variables, vector, method='start_from')
        return jnp.sum(cell.apply(variables, inputs, np.ones((B, S), bool), state, method='over')[0] ** 2)
    assert np.all(np.asarray(gradient(vector)) != 0)
    assert make(name, H, jnp.bfloat16).bind(variables).start_from(jnp.bfloat16(vector))[0].dtype == jnp.float32


@EVERY
def test_a_large_input_gives_finite_outputs_and_gradients(name):
    cell, variables, _ = built(name)

    @jax.jit
    def outputs_and_gradients(variables, inputs):
        def total(variables, inputs):
            outputs, final = cell.apply(variables, inputs, MASK, cell.start(B), method='over')
            return jnp.sum(outputs) + jnp.sum(cell.final(final)), outputs
        return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(variables, inputs)
    for size in (1e2, 1e3):
        found = outputs_and_gradients(variables, np.float32(size) * drawn(B, S, D))
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))


@EVERY
def test_seeds_under_vmap_are_single_seeds(name):
    cell = make(name, H)
    inputs, state = drawn(B, S, D), drawn_state(name)

    def outputs(seed):
        variables = cell.init(jax.random.key(seed), inputs, MASK, state, method='over')
        return cell.apply(variables, inputs, MASK, state, method='over')
    together, single = jax.jit(jax.vmap(outputs))(jnp.arange(2)), jax.jit(outputs)
    for seed in range(2):
        for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(single(seed)), strict=True):
            np.testing.assert_allclose(one[seed], other, atol=1e-5)


@EVERY
def test_stated_flops_are_those_that_the_compiler_counts(name):
    width, inputs_width, rows = 127, 211, 13
    cell = make(name, width)
    inputs = jnp.zeros((rows, inputs_width))
    init = functools.partial(cell.init, state=cell.start(rows), inputs=inputs, method='step')
    variables = jax.eval_shape(init, jax.random.key(0))
    step = jax.jit(functools.partial(cell.apply, method='step')).lower(variables, cell.start(rows), inputs).compile()
    np.testing.assert_allclose(step.cost_analysis()['flops'] / rows, cell.flops(inputs_width), rtol=0.05)
    begin = jax.jit(functools.partial(cell.apply, method='start_from'))
    begin = begin.lower(variables, jnp.zeros((rows, cell.start_width))).compile()
    counted = (begin.cost_analysis() or {}).get('flops', 0.0) / rows
    np.testing.assert_allclose(counted, cell.start_flops, rtol=0.05, atol=width)  # a factor of each number at most


@EVERY
def test_recurrent_kernels_start_orthogonal_and_every_seed_is_another(name):
    cell = make(name, H)
    init = jax.jit(functools.partial(cell.init, state=cell.start(B), inputs=drawn(B, D), method='step'))
    params, others = (init(jax.random.key(seed))['params'] for seed in (0, 1))
    kernels = {key: np.asarray(value) for key, value in params.items() if key.endswith('kernel')}
    assert bool(kernels) == (name not in ('minimal_gru', 'minimal_lstm', 'rg_lru', 'lru', 'mlstm', 'sru', 'qrnn'))
    assert not np.allclose(params['projection']['kernel'], others['projection']['kernel'])
    for key, kernel in kernels.items():
        blocks = np.split(kernel, kernel.shape[1] // H, axis=1)
        for block in blocks:
            np.testing.assert_allclose(block.T @ block, np.eye(H), atol=1e-5)
        assert len({block.tobytes() for block in blocks}) == len(blocks)
        assert not np.allclose(kernel, others[key])


def test_the_forget_gate_of_an_lstm_starts_open():
    cell = make('lstm', H)
    bias = cell.init(jax.random.key(0), cell.start(B), drawn(B, D), method='step')['params']['projection']['bias']
    np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], H))


def gates(array, names):
    return dict(zip(names, np.split(array, len(names), axis=-1), strict=True))


def plain_in_flax(params):
    return nn.SimpleCell(H), {'i': params['projection'], 'h': {'kernel': params['kernel']}}


def lstm_in_flax(params):
    W, b, U = (gates(array, 'ifgo') for array in (*(params['projection'][key] for key in ('kernel', 'bias')),
                                                   params['kernel']))
    return nn.OptimizedLSTMCell(H), {f'i{gate}': {'kernel': W[gate]} for gate in 'ifgo'} | {
        f'h{gate}': {'kernel': U[gate], 'bias': b[gate]} for gate in 'ifgo'}


def gru_in_flax(params):
    W, b, U = (gates(array, 'rzn') for array in (*(params['projection'][key] for key in ('kernel', 'bias')),
                                                  params['kernel']))
    return nn.GRUCell(H), {f'i{gate}': {'kernel': W[gate], 'bias': b[gate]} for gate in 'rzn'} | {
        'hr': {'kernel': U['r']}, 'hz': {'kernel': U['z']},
        'hn': {'kernel': U['n'], 'bias': params['candidate_bias']}}


@pytest.mark.parametrize(('name', 'in_flax'), [('plain', plain_in_flax), ('lstm', lstm_in_flax),
                                               ('gru_reset_after', gru_in_flax)])
def test_a_step_is_that_of_flax_with_the_same_parameters(name, in_flax):
    cell, variables, _ = built(name)
    state, inputs = drawn_state(name), drawn(B, D)
    other, params = in_flax(variables['params'])
    carry = state[0] if len(state) == 1 else state[::-1]  # flax: (c, h)
    following, output = other.apply({'params': params}, carry, inputs)
    found = cell.apply(variables, state, inputs, method='step')
    np.testing.assert_allclose(found[0], output, atol=2e-6)
    if name == 'lstm':
        np.testing.assert_allclose(found[1], following[0], atol=2e-6)


def test_the_two_grus_agree_where_reset_and_product_commute():
    """U (r * h) = r * (U h) for a diagonal U, and no bias inside; with any other U they differ."""
    _, variables, _ = built('gru_reset_after')
    params, state, inputs = variables['params'], drawn_state('gru_reset_after'), drawn(B, D)
    for kernel, equal in ((np.diag(drawn(H, seed=9)), True), (drawn(H, H, seed=9), False)):
        gates_kernel = params['kernel'][:, :2 * H]
        after = {**params, 'kernel': np.concatenate([gates_kernel, kernel], axis=1), 'candidate_bias': np.zeros(H)}
        before = {'projection': params['projection'], 'gates_kernel': gates_kernel, 'candidate_kernel': kernel}
        (one,), (other,) = (make(name, H).apply({'params': given}, state, inputs, method='step') for name, given in
                            (('gru_reset_after', after), ('gru_reset_before', before)))
        assert np.allclose(one, other, atol=1e-6) == equal


@EVERY
def test_the_registry_says_what_a_cell_is(name):
    entry = CELLS[name]
    assert entry.name == name
    assert entry.paper
    assert entry.summary
    assert len(entry.cell.biases) in (0, entry.cell.gates)
    assert len(make(name, H).widths) == entry.cell.gates
    assert entry.cell.states[0] == 'output'


@pytest.mark.parametrize(('name', 'guess'), [
    ('lstn', "Did you mean 'lstm'? "), ('plane', "Did you mean 'plain'? "), ('gru_reset_befor', "'gru_reset_before'"),
    ('gru', "Did you mean 'gru_reset_before' or 'gru_reset_after'? ")])
def test_a_cell_that_does_not_exist_is_refused_and_the_nearest_named(name, guess):
    with pytest.raises(UserError) as error:
        make(name, H)
    message = str(error.value)
    assert message.startswith(f'Unknown cell {name!r}. Did you mean ')
    assert guess in message
    assert message.endswith(f'Known: {", ".join(CELLS)}')


@pytest.mark.parametrize('name', ['', 'attention'])
def test_a_name_that_is_near_nothing_gets_the_list_alone(name):
    with pytest.raises(UserError) as error:
        make(name, H)
    assert str(error.value) == f'Unknown cell {name!r}. Known: {", ".join(CELLS)}'


@pytest.mark.parametrize('features', [0, -3, 2.5, True])
def test_a_width_that_is_no_positive_integer_is_refused(features):
    with pytest.raises(UserError, match=f'features is {features}; it must be a positive integer'):
        make('plain', features)
