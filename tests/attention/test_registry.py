"""How an attention is chosen, and what is said when the choice is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.attention import masks, registry, schemes
from research.attention.multi_head import MultiHeadDot
from research.errors import UserError
from research.shapes import Places

SOFTMAX = {'normaliser': 'softmax'}
ADDITIVE = {'energy_width': 5, **SOFTMAX}
NEUTRAL = {'key_value_heads': 0, 'position': {'name': 'none'}, 'reach': {'name': 'everything'}, 'normaliser': 'softmax',
           'query_key_norm': 'none', 'softcap': 0.0, 'gate': 'none'}
HEADS = {'heads': 2, 'head_width': 0, 'projection_bias': False, **NEUTRAL}
WITHOUT_BIAS = {option: value for option, value in HEADS.items() if option != 'projection_bias'}
BIG_BIRD = {'name': 'big_bird', 'width': 2, 'leaders': 1, 'block': 2, 'share': 0.5, 'seed': 0}


def ours(arguments):
    return arguments | {'role': 'self'}


WRONG = [
    ({'name': 'aditive'}, "Unknown attention 'aditive'. Did you mean 'additive'? Known: none, fixed_context, mean"),
    ({'name': 'zzz'}, "Unknown attention 'zzz'. Known: none, "),
    ({'name': 7}, 'Unknown attention 7. Known: none, '),
    ({'name': 'dot', 'scale': 'width'}, "Attention 'dot' has no option 'scale'. It has: normaliser."),
    ({'name': 'additive', 'width': 5}, "Attention 'additive' has no option 'width'."),
    ({'name': 'additive', 'width': 5}, 'It has: energy_width, normaliser.'),
    ({'name': 'multi_head_dot', **HEADS, 'head': 2},
     "Attention 'multi_head_dot' has no option 'head'. Did you mean 'heads'? It has: heads, key_value_heads, "),
    ({'name': 'additive', **SOFTMAX}, "Attention 'additive' has no value for its option 'energy_width'."),
    ({'name': 'multi_head_dot', **WITHOUT_BIAS}, "no value for its option 'projection_bias'"),
    ({'name': 'additive', **ADDITIVE, 'role': 'self'}, "Attention 'additive' has no role 'self'. It has: cross."),
    ({'name': 'additive', **HEADS, 'role': 'self'}, "Attention 'additive' has no role 'self'. It has: cross."),
    ({'name': 'additive', **ADDITIVE, 'role': 'crosss'}, "has no role 'crosss'"),
    ({'name': 'additive', **ADDITIVE, 'path': 'xla'}, "Attention 'additive' has no path 'xla'. It has: explicit."),
    ({'name': 'multi_head_dot', **HEADS, 'path': 'fast'}, "has no path 'fast'. It has: explicit, xla, cudnn, chunked."),
    ({'name': 'multi_head_dot', **HEADS, 'causal': True}, "causal is True; only role 'self' can be causal"),
    ({'name': 'multi_head_dot', **HEADS, 'causal': 1}, 'causal is 1; it must be of type bool'),
    ({'name': 'additive', **ADDITIVE, 'energy_width': 0}, "'additive': energy_width is 0; it must be at least 1"),
    ({'name': 'additive', **ADDITIVE, 'energy_width': 5.0}, "'additive': energy_width is 5.0; it must be of type int"),
    ({'name': 'additive', **ADDITIVE, 'energy_width': True}, 'energy_width is True; it must be of type int'),
    ({'name': 'additive', **ADDITIVE, 'energy_width': None}, 'energy_width is None; it must be of type int'),
    ({'name': 'additive', **ADDITIVE, 'features': 0}, 'features is 0; it must be at least 1'),
    ({'name': 'additive', **ADDITIVE, 'features': '12'}, "features is '12'; it must be of type int"),
    ({'name': 'scaled_dot', **SOFTMAX, 'scale': 'wide'}, "scale is 'wide'; it must be one of width, learned"),
    ({'name': 'scaled_dot', **SOFTMAX, 'scale': 0.5}, 'scale is 0.5; it must be of type str'),
    ({'name': 'multi_head_dot', **HEADS, 'heads': 0}, 'heads is 0; it must be at least 1'),
    ({'name': 'multi_head_dot', **HEADS, 'heads': 5}, 'heads is 5, which does not divide the width 12'),
    ({'name': 'multi_head_dot', **HEADS, 'head_width': -1}, 'head_width is -1; it must be at least 1, or 0'),
    ({'name': 'multi_head_dot', **HEADS, 'projection_bias': 0}, 'projection_bias is 0; it must be of type bool'),
    *((ours({'name': 'multi_head_dot', **HEADS, **option}), message) for option, message in (
        ({'key_value_heads': 3}, 'key_value_heads is 3; it must be a divisor of heads = 2, or 0 for as many'),
        ({'key_value_heads': -1}, 'key_value_heads is -1; it must be a divisor of heads = 2'),
        ({'softcap': -1.0}, 'softcap is -1.0; it must be above 0.0, or 0.0 for none'),
        ({'softcap': float('inf')}, 'softcap is inf; it must be above 0.0'),
        ({'softcap': float('nan')}, 'softcap is nan; it must be above 0.0'),
        ({'softcap': 1}, 'softcap is 1; it must be of type float'),
        ({'query_key_norm': 'l2'}, "query_key_norm is 'l2'; it must be one of none, rms, layer, unit"),
        ({'gate': 'heads'}, "gate is 'heads'; it must be one of none, head, element"),
        ({'normaliser': 'softmx'}, "normaliser is 'softmx'; it must be one of softmax, learned_sink, softmax_one, "),
        ({'normaliser': 'softmx'}, "Did you mean 'softmax'?"),
        ({'position': {}}, "'multi_head_dot': position has no name; it must be a section with a name"),
        ({'reach': {}}, "'multi_head_dot': reach has no name; it must be a section with a name"),
        ({'position': 3}, "'multi_head_dot': position "),
        ({'position': {'name': 'rotry', 'base': 1.0}}, "position.name is 'rotry'; it must be one of none, rotary, "),
        ({'position': {'name': 'rotary'}}, "position 'rotary' has the options base, not none"),
        ({'position': {'name': 'alibi', 'base': 1.0}}, "position 'alibi' has the options none, not base"),
        ({'position': {'name': 'rotary', 'base': 1}}, 'position.base is 1; it must be of type float'),
        ({'position': {'name': 'rotary', 'base': 0.0}}, 'position.base is 0.0; it must be above 0'),
        ({'position': {'name': 't5_bias', 'buckets': 7, 'maximum_distance': 9}},
         'position.buckets is 7; it must be even and at least 4'),
        ({'position': {'name': 't5_bias', 'buckets': 8, 'maximum_distance': 4}},
         'position.maximum_distance is 4; it must be above half the buckets, 4'),
        ({'position': {'name': 'shaw', 'distance': -1}}, 'position.distance is -1; it must be at least 0'),
        ({'reach': {'name': 'windw', 'width': 3}}, "reach.name is 'windw'; it must be one of everything, window, "),
        ({'reach': {'name': 'window'}}, "reach 'window' has the options width, not none"),
        ({'reach': {'name': 'everything', 'width': 3}}, "reach 'everything' has the options none, not width"),
        ({'reach': {'name': 'window', 'width': 0}}, 'reach.width is 0; it must be a whole number, at least 1'),
        ({'reach': {'name': 'window', 'width': 2.0}}, 'reach.width is 2.0; it must be a whole number, at least 1'),
        ({'reach': {'name': 'strided', 'width': 1, 'stride': 0}}, 'reach.stride is 0; it must be a whole number'),
        ({'reach': {'name': 'global_window', 'width': 1, 'leaders': -1}},
         'reach.leaders is -1; it must be a whole number, at least 0'),
        ({'reach': BIG_BIRD | {'share': 1.5}}, 'reach.share is 1.5; it must be a share from 0.0 to 1.0'),
        ({'reach': BIG_BIRD | {'share': 1}}, 'reach.share is 1; it must be a share from 0.0 to 1.0'))),
    ({'name': 'multi_head_dot', **HEADS, 'position': {'name': 'alibi'}},
     "in role 'cross' position.name must be 'none' and reach.name 'everything'"),
    ({'name': 'multi_head_dot', **HEADS, 'reach': {'name': 'window', 'width': 3}},
     "in role 'cross' position.name must be 'none' and reach.name 'everything'"),
    (ours({'name': 'multi_head_dot', **HEADS, 'head_width': 3, 'position': {'name': 'rotary', 'base': 10.0}}),
     "position 'rotary' turns pairs, so heads need an even width, not 3"),
    # names that stand for one option
    ({'name': 'multi_query', **HEADS}, "key_value_heads is 0, but with this name it must be 1; 'multi_head_dot' "),
    ({'name': 'grouped_query', **HEADS, 'key_value_heads': 1}, 'is 1, but with this name it must be 2 or more'),
    (ours({'name': 'sliding_window', **HEADS}), "but with this name it must be that with the name 'window'"),
    ({'name': 'qk_norm', **HEADS}, "query_key_norm is 'none', but with this name it must be rms, layer or unit"),
    ({'name': 'softcap', **HEADS}, 'softcap is 0.0, but with this name it must be above 0.0'),
    ({'name': 'sigmoid', **HEADS}, "normaliser is 'softmax', but with this name it must be sigmoid"),
    ({'name': 'gated', **HEADS}, "gate is 'none', but with this name it must be head or element"),
    # the convolution before a mixer
    (ours({'name': 'multi_head_dot', **HEADS, 'short_convolution': 1}), 'short_convolution is 1; it must be 0 (none) '),
    ({'name': 'multi_head_dot', **HEADS, 'short_convolution': 4}, "in the role 'self' only, at least 2"),
    # paths that cannot do what is asked
    *(({'name': 'multi_head_dot', **HEADS, 'path': path, 'normaliser': normaliser},
       f"normaliser {normaliser!r} needs path 'explicit', not {path!r}")
      for path in ('xla', 'cudnn', 'chunked') for normaliser in ('sigmoid', 'sparsemax', 'entmax')),
    *(({'name': 'multi_head_dot', **HEADS, 'path': path, 'softcap': 2.0},
       f"softcap needs path 'explicit' or 'chunked', not {path!r}") for path in ('xla', 'cudnn')),
    *((ours({'name': 'multi_head_dot', **HEADS, 'path': path, 'position': {'name': 'shaw', 'distance': 1}}),
       f"position 'shaw' adds to the values what only weights can say: it needs path 'explicit', not {path!r}")
      for path in ('xla', 'cudnn', 'chunked')),
    (ours({'name': 'multi_head_dot', **HEADS, 'path': 'blocks'}), "has no path 'blocks'"),
    ({'name': 'softcap', **HEADS, 'softcap': 2.0, 'path': 'xla'}, "has no path 'xla'. It has: explicit, chunked."),
]


@pytest.mark.parametrize(('arguments', 'message'), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_choice_is_refused_in_one_line(arguments, message):
    arguments = {'features': 12, 'role': 'cross', **arguments}
    with pytest.raises(UserError) as caught:
        registry.make(arguments.pop('name'), **arguments)
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)


def test_options_are_the_fields_that_a_class_adds():
    assert registry.options('multi_head_dot') == (
        'heads', 'key_value_heads', 'head_width', 'projection_bias', 'position', 'reach', 'normaliser',
        'query_key_norm', 'softcap', 'gate')
    assert registry.options('additive') == ('energy_width', 'normaliser')
    assert registry.options('none') == ()
    with pytest.raises(UserError, match="Did you mean 'general'"):
        registry.options('genral')


def test_what_was_asked_for_is_what_was_made():
    asked = {'features': 12, 'role': 'self', 'causal': True, 'path': 'chunked', 'layer': 2, 'dtype': jnp.bfloat16,
             'heads': 3, 'key_value_heads': 1, 'head_width': 8, 'projection_bias': True, 'normaliser': 'learned_sink',
             'query_key_norm': 'rms', 'softcap': 5.0, 'gate': 'head'}
    module = registry.make('multi_head_dot', **asked, position={'name': 'rotary', 'base': 50.0},
                           reach={'name': 'window', 'width': 4})
    assert {field: getattr(module, field) for field in asked} == asked
    assert module.position == schemes.Scheme('rotary', (('base', 50.0),))
    assert module.reach == masks.Window(4)


PATH_OPTIONS = [({}, ('explicit', 'xla', 'cudnn', 'chunked')), ({'softcap': 2.0}, ('explicit', 'chunked')),
                *(({'normaliser': name}, ('explicit', 'xla', 'cudnn', 'chunked')) for name in ('softmax_one',
                                                                                               'learned_sink')),
                ({'position': {'name': 'alibi'}}, ('explicit', 'xla', 'cudnn', 'chunked')),
                ({'gate': 'head', 'query_key_norm': 'unit', 'key_value_heads': 1},
                 ('explicit', 'xla', 'cudnn', 'chunked'))]


@pytest.mark.parametrize(('options', 'path'), [(options, path) for options, paths in PATH_OPTIONS for path in paths])
def test_a_path_that_can_do_what_is_asked_is_made(options, path):
    module = registry.make('multi_head_dot', features=12, role='self', path=path, **{**HEADS, **options})
    assert module.path == path


@pytest.mark.parametrize(('role', 'reach'), [('self', masks.EVERYTHING), ('self', masks.Strided(2, 3)),
                                             ('cross', masks.EVERYTHING)])
def test_blocks_are_for_a_window(role, reach):
    options = {**HEADS, 'position': schemes.scheme('none'), 'reach': reach}
    with pytest.raises(UserError, match=r"path 'blocks' is for a self-attention within a window: reach\.name"):
        MultiHeadDot(12, role, path='blocks', **options)
    MultiHeadDot(12, 'self', path='blocks', **options | {'reach': masks.Window(3)})


@pytest.mark.parametrize(('head_width', 'width'), [(0, 4), (7, 7)])
def test_head_width_zero_means_the_width_shared_by_the_heads(head_width, width):
    module = registry.make('multi_head_dot', features=12, role='cross', **NEUTRAL, heads=3, head_width=head_width,
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
    module, ones = registry.make(name, features=12, role='cross', **options, **SOFTMAX), np.ones((1, 2), np.int32)
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
