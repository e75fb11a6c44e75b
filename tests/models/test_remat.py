"""What is inside of a layer made again for gradients: the same numbers, from less that is kept."""

import functools

import jax
import numpy as np
import pytest

from configs import copy, labelled_recall
from research import build
from research.errors import UserError
from research.models import contract
from research.study import arms
from research.training import loop
from research.training import step as steps
from tests.models.test_contract import SOURCE, TARGET, a_batch, small

WORDS = ['multi_head_dot', 'coverage', 'none', 'mixer=retention', 'sequence']


def both(words, **changes):
    """The same model twice: as it is, and with layers that are made again."""
    if words == 'sequence':
        config = arms.override(labelled_recall.get_config(), {'decoder.features': 8, 'decoder.hidden': 8,
                                                              'decoder.mixer.heads': 2, 'decoder.dropout': 0.3})
    else:
        wiring, reader = (f'transformer with {words}', 'multi_head_dot') if '=' in words else ('transformer', words)
        config = small(wiring, reader, **{'encoder.dropout': 0.3, 'decoder.dropout': 0.3})
    return (build.model(arms.override(config, {'training.remat': remat} | changes), SOURCE, TARGET)
            for remat in ('none', 'layers'))


def named(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def loss_of(model):
    loss = steps.one_pass(model, 0.1, 4096)
    return lambda params: loss(params, a_batch(), jax.random.key(7))[0]


@pytest.mark.parametrize('words', WORDS)
def test_parameters_loss_and_gradients_are_those_of_layers_that_keep_everything(words):
    plain, again = both(words)
    params, others = (contract.init(model, jax.random.key(1), a_batch()) for model in (plain, again))
    assert named(params).keys() == named(others).keys()
    for name, leaf in named(params).items():
        np.testing.assert_array_equal(leaf, named(others)[name], err_msg=name)
    (value, gradient), (other, same) = (jax.jit(jax.value_and_grad(loss_of(model)))(params)
                                        for model in (plain, again))
    assert other == pytest.approx(float(value), rel=1e-6)
    for name, leaf in named(gradient).items():
        size = max(1.0, np.abs(leaf).max())
        np.testing.assert_allclose(named(same)[name], leaf, atol=2e-6 * size, rtol=0, err_msg=name)


@pytest.mark.parametrize('words', ['multi_head_dot', 'sequence'])
def test_less_is_kept_between_forward_and_backward(words):
    def kept(model):
        params = build.abstract_params(model, 8, 8)
        pull = jax.eval_shape(lambda params: jax.vjp(loss_of(model), params)[1], params)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull))
    sizes = [{f'{side}.layers': layers for side in ('encoder', 'decoder') if words != 'sequence' or side == 'decoder'}
             for layers in (2, 6)]
    (plain, again), (deeper, deeper_again) = ([kept(model) for model in both(words, **more)] for more in sizes)
    assert again < plain
    assert deeper_again - again < (deeper - plain) / 2  # of a layer, parameters and inputs are kept


def needed(remat):
    """Bytes of the program of a step of 6 + 6 layers."""
    config = arms.override(copy.get_config('transformer'), {
        'encoder.layers': 6, 'decoder.layers': 6, 'training.remat': remat})
    model, shape = build.model(config, SOURCE, TARGET), (16, 64, 64)
    optimiser = build.optimiser(config)
    begin = functools.partial(build.begin, config, model, optimiser, batch=loop.blank_batch(*shape))
    state = jax.eval_shape(lambda: begin(jax.random.key(0), np.float32(1e-3)))
    return loop.Programs(build.train_step(config, model, optimiser), state, [shape], purpose='train', donate=True).bytes


@pytest.mark.skipif(jax.default_backend() == 'cpu', reason='a CPU\'s compiler takes out the barriers that keep what is '
                    'made again apart, and finds that it was there before')
def test_a_step_needs_less_memory():
    assert needed('layers') < needed('none') / 2


def test_layers_that_are_made_again_write_step_by_step():
    plain, again = both('multi_head_dot')
    params, batch = contract.init(plain, jax.random.key(1), a_batch()), a_batch()

    def first(model):
        memory = contract.encode(model, params, batch.source, batch.source_places)
        return contract.step(model, params, memory, contract.start(model, params, memory, 4), batch.inputs[:, 0])[0]
    np.testing.assert_allclose(first(again), first(plain), atol=1e-6)


@pytest.mark.parametrize(('words', 'remat', 'message'), [
    ('transformer', 'all', "training.remat is 'all'; it must be one of none, layers"),
    ('additive', 'layers', "is 'layers', which is for Transformer layers, and both sides are recurrent")])
def test_what_cannot_be_made_again_is_refused(words, remat, message):
    with pytest.raises(UserError, match=message):
        build.validate(arms.override(copy.get_config(words), {'training.remat': remat}))
