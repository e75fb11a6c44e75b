"""How an attention is chosen, and what is said when the choice is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.attention import registry
from research.errors import UserError
from research.shapes import Places

ADDITIVE = {'energy_width': 5}
HEADS = {'heads': 2, 'head_width': 0, 'projection_bias': False}

WRONG = [
    ({'name': 'aditive'}, "Unknown attention 'aditive'. Did you mean 'additive'? Known: none, fixed_context, mean"),
    ({'name': 'zzz'}, "Unknown attention 'zzz'. Known: none, "),
    ({'name': 7}, 'Unknown attention 7. Known: none, '),
    ({'name': 'dot', 'scale': 'width'}, "Attention 'dot' has no option 'scale'. It has: none."),
    ({'name': 'additive', 'width': 5}, "Attention 'additive' has no option 'width'."),
    ({'name': 'additive', 'width': 5}, 'It has: energy_width.'),
    ({'name': 'multi_head_dot', **HEADS, 'head': 2},
     "Attention 'multi_head_dot' has no option 'head'. Did you mean 'heads'? It has: heads, head_width, "),
    ({'name': 'additive'}, "Attention 'additive' has no value for its option 'energy_width'."),
    ({'name': 'multi_head_dot', 'heads': 2, 'head_width': 0}, "no value for its option 'projection_bias'"),
    ({'name': 'additive', **ADDITIVE, 'role': 'self'}, "Attention 'additive' has no role 'self'. It has: cross."),
    ({'name': 'additive', **HEADS, 'role': 'self'}, "Attention 'additive' has no role 'self'. It has: cross."),
    ({'name': 'additive', **ADDITIVE, 'role': 'crosss'}, "has no role 'crosss'"),
    ({'name': 'additive', **ADDITIVE, 'path': 'xla'}, "Attention 'additive' has no path 'xla'. It has: explicit."),
    ({'name': 'multi_head_dot', **HEADS, 'path': 'fast'}, "has no path 'fast'. It has: explicit, xla."),
    ({'name': 'multi_head_dot', **HEADS, 'causal': True}, "causal is True; only role 'self' can be causal"),
    ({'name': 'multi_head_dot', **HEADS, 'causal': 1}, 'causal is 1; it must be of type bool'),
    ({'name': 'additive', 'energy_width': 0}, "Attention 'additive': energy_width is 0; it must be at least 1"),
    ({'name': 'additive', 'energy_width': 5.0}, "Attention 'additive': energy_width is 5.0; it must be of type int"),
    ({'name': 'additive', 'energy_width': True}, 'energy_width is True; it must be of type int'),
    ({'name': 'additive', 'energy_width': None}, 'energy_width is None; it must be of type int'),
    ({'name': 'additive', **ADDITIVE, 'features': 0}, 'features is 0; it must be at least 1'),
    ({'name': 'additive', **ADDITIVE, 'features': '12'}, "features is '12'; it must be of type int"),
    ({'name': 'scaled_dot', 'scale': 'wide'}, "'scaled_dot': scale is 'wide'; it must be one of width, learned"),
    ({'name': 'scaled_dot', 'scale': 0.5}, 'scale is 0.5; it must be of type str'),
    ({'name': 'multi_head_dot', **HEADS, 'heads': 0}, 'heads is 0; it must be at least 1'),
    ({'name': 'multi_head_dot', **HEADS, 'heads': 5}, 'heads is 5, which does not divide the width 12'),
    ({'name': 'multi_head_dot', **HEADS, 'head_width': -1}, 'head_width is -1; it must be at least 1, or 0'),
    ({'name': 'multi_head_dot', **HEADS, 'projection_bias': 0}, 'projection_bias is 0; it must be of type bool'),
]


@pytest.mark.parametrize(('arguments', 'message'), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_choice_is_refused_in_one_line(arguments, message):
    arguments = {'features': 12, 'role': 'cross', **arguments}
    with pytest.raises(UserError) as caught:
        registry.make(arguments.pop('name'), **arguments)
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)


def test_options_are_the_fields_that_a_class_adds():
    assert registry.options('multi_head_dot') == ('heads', 'head_width', 'projection_bias')
    assert registry.options('additive') == ('energy_width',)
    assert registry.options('none') == ()
    with pytest.raises(UserError, match="Did you mean 'general'"):
        registry.options('genral')


def test_what_was_asked_for_is_what_was_made():
    asked = {'features': 12, 'role': 'self', 'causal': True, 'path': 'xla', 'dtype': jnp.bfloat16, 'heads': 3,
             'head_width': 7, 'projection_bias': True}
    module = registry.make('multi_head_dot', **asked)
    assert {field: getattr(module, field) for field in asked} == asked


@pytest.mark.parametrize(('head_width', 'width'), [(0, 4), (7, 7)])
def test_head_width_zero_means_the_width_shared_by_the_heads(head_width, width):
    module = registry.make('multi_head_dot', features=12, role='cross', heads=3, head_width=head_width,
                           projection_bias=True)
    ones = np.ones((1, 2), np.int32)

    def call(rng):
        def read(module):
            memory = module.remember(jnp.zeros((1, 2, 5)), Places(ones, ones))
            return module(jnp.zeros((1, 2, 12)), memory, (), Places(ones, ones))
        return nn.init(read, module)(rng)
    shapes = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(call, jax.random.key(0)))['params']
    assert shapes == {
        'query_projection': {'kernel': (12, 3, width), 'bias': (3, width)},
        'key_projection': {'kernel': (5, 3, width), 'bias': (3, width)},
        'value_projection': {'kernel': (5, 3, width), 'bias': (3, width)},
        'output_projection': {'kernel': (3, width, 12), 'bias': (12,)}}


@pytest.mark.parametrize(('name', 'options'), [('dot', {}), ('scaled_dot', {'scale': 'width'})])
def test_a_product_of_unequal_widths_says_both_and_what_to_do(name, options):
    module, ones = registry.make(name, features=12, role='cross', **options), np.ones((1, 2), np.int32)
    with pytest.raises(UserError, match=r'width 5 with queries of width 12.*equally wide.*general'):
        module.apply({}, jnp.zeros((1, 2, 5)), Places(ones, ones), method='remember')


def test_every_entry_is_complete_and_says_something():
    for name, variant in registry.VARIANTS.items():
        assert variant.name == name
        assert variant.reads in ('source', 'summary', 'nothing')
        assert variant.rows in (('one', 'at most one', 'free') if variant.weights else (None,))
        assert variant.paths[0] == 'explicit'
        assert variant.summary
        assert variant.paper
        assert '\n' not in variant.summary
