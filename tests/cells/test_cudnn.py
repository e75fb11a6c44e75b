"""An LSTM by cuDNN is the one of our loop: by its reference in plain JAX here, by the library itself on a GPU."""

import functools

import jax
import numpy as np
import pytest
from jax.experimental import rnn

from configs import base, copy
from research import build
from research.cells import cudnn
from research.cells.registry import make
from research.errors import UserError
from research.models import contract
from research.study import arms
from tests.cells.test_contract import MASK, B, D, H, S, drawn, noisy
from tests.models.test_contract import SOURCE, TARGET, a_batch

DIRECTIONS = pytest.mark.parametrize('reverse', [False, True], ids=['forward', 'backward'])


def by_reference(inputs, h, c, weights, lengths, *sizes):
    """jax.experimental.rnn.lstm by the reference of that module, which shares nothing with us."""
    D, H, layers, dropout, bidirectional = sizes[:5]
    parts = rnn.unpack_lstm_weights(weights, D, H, layers, bidirectional)
    return rnn.lstm_ref(inputs, h, c, *parts, lengths, D, H, layers, dropout, bidirectional)


@pytest.fixture
def reference(monkeypatch):
    """This machine says that it is a GPU, and its library is the reference."""
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    monkeypatch.setattr(rnn, 'lstm', by_reference)


def said(path, reverse):
    """Outputs, states and gradients for all arguments and parameters; rows of 7, 4 and 0 positions."""
    cell = make('lstm', H, path=path)
    inputs = np.where(MASK[:, :, None], drawn(B, S, D), 1e6).astype(np.float32)  # what stands at padding is not read
    state = (drawn(B, H, seed=1), drawn(B, H, seed=2))
    variables = noisy(cell.init(jax.random.key(0), inputs, MASK, state, method='over'))
    directions = drawn(B, S, H, seed=20), (drawn(B, H, seed=21), drawn(B, H, seed=22))

    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
    def total(variables, inputs, state):
        found = cell.apply(variables, inputs, MASK, state, reverse, method='over')
        return sum(jax.tree.leaves(jax.tree.map(lambda one, way: (one * way).sum(), found, directions))), found
    return jax.tree.map(np.asarray, jax.jit(total)(variables, inputs, state))


def assert_equal_to_the_loop(reverse):
    (value, found), gradients = said('cudnn', reverse)
    (other, expected), theirs = said('scan', reverse)
    assert value == pytest.approx(other, rel=1e-5)
    assert not np.any(found[0][~MASK])
    np.testing.assert_array_equal(found[1][0][2], drawn(B, H, seed=1)[2])  # an empty row keeps its state
    for ours, wanted in zip(jax.tree.leaves((found, gradients)), jax.tree.leaves((expected, theirs)), strict=True):
        np.testing.assert_allclose(ours, wanted, atol=2e-6 * max(1.0, np.abs(wanted).max()), rtol=0)


@DIRECTIONS
@pytest.mark.usefixtures('reference')
def test_the_reference_with_our_parameters_is_our_loop_forward_and_backward(reverse):
    assert_equal_to_the_loop(reverse)


@DIRECTIONS
@pytest.mark.skipif(jax.default_backend() != 'gpu', reason='cudnn needs an NVIDIA GPU')
def test_cudnn_is_our_loop_on_a_gpu(reverse):
    with jax.default_matmul_precision('highest'):  # else TF32
        assert_equal_to_the_loop(reverse)


def test_a_row_is_turned_within_its_length():
    rows = np.arange(10.0).reshape(2, 5, 1)
    np.testing.assert_array_equal(cudnn.flipped(rows, np.array([3, 5]))[:, :, 0],
                                  [[2, 1, 0, 3, 4], [9, 8, 7, 6, 5]])


LSTM = {'encoder.cell': 'lstm', 'decoder.cell': 'lstm', 'decoder.reads_with': 'current'}


def recurrent(words='additive', **changes):
    return arms.override(base.choose(base.get_config(), words), LSTM | {
        key.replace('__', '.'): value for key, value in changes.items()})


@pytest.mark.usefixtures('reference')
def test_a_model_has_the_same_parameters_and_hidden_states_on_both_paths():
    models = [build.model(recurrent(encoder__cell_path=path, decoder__cell_path=path), SOURCE, TARGET)
              for path in ('scan', 'cudnn')]
    params, others = (contract.init(model, jax.random.key(1), a_batch()) for model in models)
    jax.tree.map(np.testing.assert_array_equal, params, others)
    batch = a_batch()
    hidden = [contract.decode(model, params, contract.encode(model, params, batch.source, batch.source_places),
                              batch.inputs, batch.target_places).hidden for model in models]
    np.testing.assert_allclose(*hidden, atol=2e-6)


@pytest.mark.skipif(jax.default_backend() == 'gpu', reason='it is there')
def test_without_a_gpu_it_is_refused_in_one_line_before_anything_compiles():
    model = build.model(recurrent(encoder__cell_path='cudnn'), SOURCE, TARGET)
    with pytest.raises(UserError, match="'cudnn' needs an NVIDIA GPU, and this is a cpu: it must be 'scan'"):
        build.abstract_params(model)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'encoder__cell_path': 'fast'}, "encoder.cell_path is 'fast'; it must be one of scan, cudnn"),
    ({'encoder__cell_path': 'cudnn', 'encoder__cell': 'qrnn'}, "is for cell 'lstm', not 'qrnn': it must be 'scan'"),
    ({'encoder__cell_path': 'cudnn', 'dtype': 'bfloat16'}, "computes in float32, and dtype is 'bfloat16'"),
    ({'decoder__cell_path': 'cudnn', 'decoder__reads_with': 'previous'}, "decoder.reads_with 'current'"),
    ({'decoder__cell_path': 'cudnn', 'decoder__input_feeding': True}, 'decoder.input_feeding False'),
    ({'encoder__cell_path': 'cudnn', 'training__r_drop': 1.0, 'encoder__dropout': 0.1}, 'the two passes of'),
    ({'encoder__cell_path': 'cudnn', 'batches__packing': True}, 'batches.packing is True')])
def test_what_cudnn_cannot_do_is_refused(changes, message):
    config = arms.override(copy.get_config('additive'), LSTM)
    with pytest.raises(UserError, match=message):
        build.validate(arms.override(config, {key.replace('__', '.'): value for key, value in changes.items()}))


def test_what_is_not_float32_is_refused(monkeypatch):
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    with pytest.raises(UserError, match='computes in float32, not in bfloat16'):
        cudnn.check(jax.numpy.dtype('bfloat16'))
