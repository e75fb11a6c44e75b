"""Every attention that can be chosen, one entry a variant, and the one way to make one."""

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from research.attention import masks, recurrences, schemes
from research.attention.additive import Additive, NormalisedAdditive
from research.attention.both_ways import BothWays
from research.attention.contract import Attention
from research.attention.controls import FixedContext, Mean, NoAttention
from research.attention.coverage import Coverage
from research.attention.delta import Delta, GatedDelta
from research.attention.differential import Differential
from research.attention.forgetting import Forgetting, Selective
from research.attention.fourier import Fourier
from research.attention.key_value import KeyValueMemory
from research.attention.latent import MultiHeadLatent
from research.attention.linear import FeatureMap, Linear, feature_map
from research.attention.location import LocalMonotonic, LocalPredictive, Location
from research.attention.location_sensitive import LocationSensitive
from research.attention.monotonic import Monotonic
from research.attention.multi_head import MultiHeadDot
from research.attention.multi_head_additive import MultiHeadAdditive
from research.attention.multiplicative import Concat, Dot, General, ScaledDot
from research.attention.retention import GatedLinear, Retention, StateSpace
from research.attention.short_convolution import convolved
from research.attention.synthesizer import DenseSynthesizer, RandomSynthesizer
from research.attention.talking_heads import TalkingHeads
from research.errors import UserError, nearest


class Variant(NamedTuple):
    """What is known of an attention before it is made. The defaults are those of one energy over a source."""

    name: str
    attention: type[Attention]
    paper: str
    summary: str                            # one line
    roles: tuple[str, ...] = ('cross',)     # 'cross': reads a source; 'self': mixes a sequence
    reads: str = 'source'                   # 'source': all annotations; 'summary': one vector; 'nothing'
    weights: bool = True                    # whether it has weights to return, on path 'explicit'
    rows: str | None = 'one'                # what weights sum to: 'one', 'at most one', 'free'; None without weights
    signed: bool = False                    # whether a weight may be negative
    paths: tuple[str, ...] = ('explicit',)  # ways to compute the same thing; 'explicit' is the reference
    packing: bool = True                    # whether several sentences may share a row
    causal: tuple[bool, ...] = (False, True)  # self role: (True,) reads earlier positions only, so an encoder has one
    #                                           that reads forwards and one that reads backwards; (False,) cannot decode
    fails: tuple[str, ...] = ()             # tasks of experiments/learning that it cannot learn, stated before any run
    open: tuple[str, ...] = ()              # tasks of which nothing was stated; all others it learns
    # What an option must be for the variant to deserve its name: in words, and as a test.
    demands: Mapping[str, tuple[str, Callable[[Any], bool]]] = types.MappingProxyType({})


BOTH = ('cross', 'self')
CARRIED = {'roles': ('self',), 'weights': False, 'rows': None, 'paths': recurrences.PATHS, 'causal': (True,)}
FUSED = ('explicit', 'xla', 'cudnn', 'chunked')  # of what is a softmax over logits, a bias and a mask


def _reach(name: str) -> dict:
    return {'reach': (f'that with the name {name!r}', lambda reach: reach['name'] == name)}


def _normaliser(name: str) -> dict:
    return {'normaliser': (name, lambda normaliser: normaliser == name)}


def _feature_map(name: str) -> dict:
    return {'feature_map': (f'that with the name {name!r}', lambda feature_map: feature_map['name'] == name)}


VARIANTS = {variant.name: variant for variant in (
    # controls
    Variant('none', NoAttention, 'Sutskever 2014, arXiv:1409.3215', 'nothing is read', reads='nothing', weights=False,
            rows=None, open=('copy', 'reverse')),
    Variant('fixed_context', FixedContext, 'Cho 2014, arXiv:1406.1078', 'the same vector at each position',
            reads='summary', weights=False, rows=None, open=('copy', 'reverse')),
    Variant('mean', Mean, 'control', 'the mean of all annotations', fails=('reverse',), open=('copy',)),
    # one head, one energy
    Variant('additive', Additive, 'Bahdanau 2015, arXiv:1409.0473', 'v . tanh(W q + U h)'),
    Variant('dot', Dot, 'Luong 2015, arXiv:1508.04025', 'q . h'),
    Variant('scaled_dot', ScaledDot, 'Vaswani 2017, arXiv:1706.03762', 'q . h over the root of the width, or learned'),
    Variant('general', General, 'Luong 2015, arXiv:1508.04025', 'q W h'),
    Variant('concat', Concat, 'Luong 2015, arXiv:1508.04025', 'v . tanh(W [q; h])'),
    Variant('additive_normalised', NormalisedAdditive, 'TensorFlow Addons, BahdanauAttention(normalize=True)',
            'additive, with a learned length of v'),
    Variant('key_value_memory', KeyValueMemory, 'Daniluk 2017, arXiv:1702.04521',
            'one half of h is compared, the other half read'),
    # one head, restricted to a part of the source
    Variant('location', Location, 'Luong 2015, arXiv:1508.04025', 'the query alone says which positions',
            fails=('reverse',)),
    Variant('local_monotonic', LocalMonotonic, 'Luong 2015, arXiv:1508.04025', 'a window around the own position',
            rows='at most one', fails=('reverse',)),
    Variant('local_predictive', LocalPredictive, 'Luong 2015, arXiv:1508.04025', 'a window around a predicted position',
            rows='at most one', open=('reverse',)),
    # one head, looking back at what it has read
    Variant('coverage', Coverage, 'See 2017, arXiv:1704.04368', 'additive, and sees how much was read of each'),
    Variant('location_sensitive', LocationSensitive, 'Chorowski 2015, arXiv:1506.07503',
            'additive, and sees where was read before'),
    Variant('monotonic', Monotonic, 'Raffel 2017, arXiv:1704.00784', 'goes on where the query before has stopped',
            rows='at most one', fails=('reverse',)),
    # many heads, other energies
    Variant('multi_head_additive', MultiHeadAdditive, 'Chen 2018, arXiv:1804.09849', 'additive energies, N heads'),
    # many heads
    Variant('multi_head_dot', MultiHeadDot, 'Vaswani 2017, arXiv:1706.03762', 'scaled products of projections, N heads',
            roles=BOTH, paths=FUSED),
    Variant('multi_query', MultiHeadDot, 'Shazeer 2019, arXiv:1911.02150', 'all query heads share one key head',
            roles=BOTH, paths=FUSED, demands={'key_value_heads': ('1', lambda heads: heads == 1)}),
    Variant('grouped_query', MultiHeadDot, 'Ainslie 2023, arXiv:2305.13245', 'groups of query heads share a key head',
            roles=BOTH, paths=FUSED, demands={'key_value_heads': ('2 or more', lambda heads: heads > 1)}),
    Variant('sliding_window', MultiHeadDot, 'Beltagy 2020, arXiv:2004.05150', 'the last C positions, or C on each side',
            roles=('self',), paths=(*FUSED, 'blocks'), demands=_reach('window'), fails=('recall',)),
    Variant('strided', MultiHeadDot, 'Child 2019, arXiv:1904.10509', 'a window, and each position a stride away',
            roles=('self',), paths=FUSED, demands=_reach('strided'), open=('recall',)),
    Variant('global_window', MultiHeadDot, 'Beltagy 2020, arXiv:2004.05150', 'a window, and first positions for all',
            roles=('self',), paths=FUSED, demands=_reach('global_window'), open=('recall',)),
    Variant('big_bird', MultiHeadDot, 'Zaheer 2020, arXiv:2007.14062', 'a window, first positions, and random blocks',
            roles=('self',), paths=FUSED, demands=_reach('big_bird'), open=('recall',)),
    Variant('qk_norm', MultiHeadDot, 'Dehghani 2023, arXiv:2302.05442', 'queries and keys are normalised first',
            roles=BOTH, paths=FUSED, demands={'query_key_norm': ('rms, layer or unit', lambda norm: norm != 'none')}),
    Variant('softcap', MultiHeadDot, 'Gemma 2 2024, arXiv:2408.00118', 'logits are bounded by cap tanh(l / cap)',
            roles=BOTH, paths=('explicit', 'chunked'), demands={'softcap': ('above 0.0', lambda cap: cap > 0.0)}),
    Variant('learned_sink', MultiHeadDot, 'OpenAI 2025, arXiv:2508.10925', 'a learned logit takes what is not read',
            roles=BOTH, rows='at most one', paths=FUSED, demands=_normaliser('learned_sink')),
    Variant('softmax_one', MultiHeadDot, 'Miller 2023, Attention is off by one', 'one more logit, 0, takes its share',
            roles=BOTH, rows='at most one', paths=FUSED, demands=_normaliser('softmax_one')),
    Variant('sigmoid', MultiHeadDot, 'Ramapuram 2024, arXiv:2409.04431', 'each weight by itself', roles=BOTH,
            rows='free', demands=_normaliser('sigmoid')),
    Variant('sparsemax', MultiHeadDot, 'Martins 2016, arXiv:1602.02068', 'most weights are exactly zero', roles=BOTH,
            demands=_normaliser('sparsemax')),
    Variant('entmax', MultiHeadDot, 'Peters 2019, arXiv:1905.05702', 'half-way from softmax to sparsemax', roles=BOTH,
            demands=_normaliser('entmax')),
    Variant('gated', MultiHeadDot, 'Qiu 2025, arXiv:2505.06708', 'a gate on what each head read', roles=BOTH,
            paths=FUSED, demands={'gate': ('head or element', lambda gate: gate != 'none')}),
    # many heads, other wirings
    Variant('talking_heads', TalkingHeads, 'Shazeer 2020, arXiv:2003.02436', 'heads exchange logits and weights',
            roles=BOTH, rows='free', signed=True),
    Variant('differential', Differential, 'Ye 2024, arXiv:2410.05258', 'one attention is taken from another',
            roles=BOTH, rows='free', signed=True),
    Variant('forgetting', Forgetting, 'Lin 2025, arXiv:2503.02130', 'logits lose what gates forget', roles=('self',),
            causal=(True,), paths=FUSED),
    Variant('selective', Selective, 'Leviathan 2024, arXiv:2410.02703', 'queries mask entries for later ones',
            roles=('self',), causal=(True,), paths=FUSED),
    Variant('multi_head_latent', MultiHeadLatent, 'DeepSeek-AI 2024, arXiv:2405.04434',
            'keys and values of one small vector', roles=BOTH, paths=('explicit', 'absorbed')),
    # controls of a mixer
    Variant('synthesizer_dense', DenseSynthesizer, 'Tay 2021, arXiv:2005.00743', 'weights of the query alone',
            roles=('self',), fails=('recall',)),
    Variant('synthesizer_random', RandomSynthesizer, 'Tay 2021, arXiv:2005.00743', 'learned weights of the places',
            roles=BOTH, fails=('recall',), open=('copy', 'reverse')),
    Variant('fourier', Fourier, 'Lee-Thorp 2021, arXiv:2105.03824', 'the discrete Fourier transform', roles=('self',),
            weights=False, rows=None, causal=(False,), fails=('recall',)),
    # memories of fixed size
    Variant('linear', Linear, 'Katharopoulos 2020, arXiv:2006.16236', 'similarity of features, so sums say all',
            roles=BOTH, paths=recurrences.PATHS, open=('copy', 'reverse', 'recall')),
    Variant('taylor', Linear, 'Arora 2024, arXiv:2402.18668', 'linear with the first terms of exp', roles=BOTH,
            paths=recurrences.PATHS, demands=_feature_map('taylor'), open=('copy', 'reverse', 'recall')),
    Variant('performer', Linear, 'Choromanski 2021, arXiv:2009.14794', 'linear with random features of exp', roles=BOTH,
            paths=recurrences.PATHS, demands=_feature_map('performer'), open=('copy', 'reverse', 'recall')),
    Variant('retention', Retention, 'Sun 2023, arXiv:2307.08621', 'a memory that decays at fixed rates', **CARRIED,
            open=('recall',)),
    Variant('gated_linear', GatedLinear, 'Yang 2023, arXiv:2312.06635', 'each channel decays by a gate', **CARRIED,
            open=('recall',)),
    Variant('state_space', StateSpace, 'Dao 2024, arXiv:2405.21060', 'a state space sampled in steps of the input',
            **CARRIED, open=('recall',)),
    Variant('delta', Delta, 'Yang 2024, arXiv:2406.06484', 'a value takes the place of what its key finds', **CARRIED),
    Variant('gated_delta', GatedDelta, 'Yang 2024, arXiv:2412.06464', 'delta on a memory that decays', **CARRIED),
)}


# Options that are a section of a config, and what makes the thing that such a section names.
NODES = {masks.Reach: masks.reach, schemes.Scheme: schemes.scheme, FeatureMap: feature_map}


def options(name: str) -> tuple[str, ...]:
    """The options of a variant, each of which a config states."""
    return tuple(_options(_variant(name)))


def make(name: str, *, features: int, role: str, causal: bool = False, path: str = 'explicit', layer: int = 0,
         dtype: Any = None, short_convolution: int = 0, **options: Any) -> Attention:
    """Makes an attention.

    Args:
      name: a key of VARIANTS.
      features: D, the width of the queries and, where the variant projects what it read, of the context.
      role: 'cross' or 'self'.
      causal: whether a position may not read later ones; self role only.
      path: 'explicit', or another of the variant's paths.
      layer: which layer of its stack it is for, counted from 0.
      dtype: what is computed in; None means the type that inputs and parameters promote to.
      short_convolution: W, positions that a convolution before the projections sees; 0 = none. Self role only.
      **options: a value for every option of the variant.

    Raises:
      UserError: an unknown name, role, path or option; an option without a value; a value of the wrong type or range.
    """
    variant = _variant(name)
    attention = f'Attention {name!r}'
    for field, value, known in (('role', role, variant.roles), ('path', path, variant.paths)):
        if value not in known:
            raise UserError(f'{attention} has no {field} {value!r}. It has: {", ".join(known)}.')
    fields = _options(variant)
    for option in options:
        if option not in fields:
            raise UserError(f'{attention} has no option {option!r}.{nearest(option, fields)} '
                            f'It has: {", ".join(fields) or "none"}.')
    for option in fields:
        if option not in options:
            raise UserError(f'{attention} has no value for its option {option!r}.')
    for field, value, kind in (('features', features, int), ('causal', causal, bool),
                               *((option, options[option], kind) for option, kind in fields.items())):
        if kind in NODES:
            if not isinstance(value, Mapping) or 'name' not in value:
                raise UserError(f'{attention}: {field} has no name; it must be a section with a name and its options')
        elif type(value) is not kind:  # not isinstance: True is no number of heads
            raise UserError(f'{attention}: {field} is {value!r}; it must be of type {kind.__name__}')
    if features < 1:
        raise UserError(f'{attention}: features is {features}; it must be at least 1')
    if causal and role != 'self':
        raise UserError(f"{attention}: causal is True; only role 'self' can be causal")
    if type(short_convolution) is not int:
        raise UserError(f'{attention}: short_convolution is {short_convolution!r}; it must be of type int')
    if short_convolution != 0 and (role != 'self' or short_convolution < 2):
        raise UserError(f'{attention}: short_convolution is {short_convolution}; it must be 0 (none) or, in the role '
                        "'self' only, at least 2")
    for option, (wanted, holds) in variant.demands.items():
        if not holds(options[option]):
            free = next(other for other in VARIANTS.values() if other.attention is variant.attention)
            raise UserError(f'{attention}: {option} is {options[option]!r}, but with this name it must be {wanted}; '
                            f'{free.name!r} combines all options freely')
    both = role == 'self' and causal not in variant.causal
    if both and not causal:
        directions = (make(name, features=features, role=role, causal=True, path=path, layer=layer, dtype=dtype,
                           short_convolution=short_convolution, **options) for _ in range(2))
        return BothWays(features, role, causal, path, layer, dtype, *directions)
    if both:
        raise UserError(f'{attention} reads all positions at once; it cannot be causal, so no decoder can have it')
    try:
        options = {option: NODES[fields[option]](**value) if fields[option] in NODES else value
                   for option, value in options.items()}
        made = variant.attention(features=features, role=role, causal=causal, path=path, layer=layer, dtype=dtype,
                                 **options)
    except UserError as error:
        raise UserError(f'{attention}: {error}') from None
    return convolved(made, short_convolution)


def _variant(name: str) -> Variant:
    if name not in VARIANTS:
        raise UserError(f'Unknown attention {name!r}.{nearest(name, VARIANTS)} Known: {", ".join(VARIANTS)}')
    return VARIANTS[name]


def _options(variant: Variant) -> dict[str, type]:
    """The fields that a class adds to those that every attention has."""
    common = {field.name for field in dataclasses.fields(Attention)}
    return {field.name: field.type for field in dataclasses.fields(variant.attention) if field.name not in common}
