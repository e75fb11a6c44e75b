"""Every attention that can be chosen, one entry a variant, and the one way to make one."""

import dataclasses
from typing import Any, NamedTuple

from research.attention.additive import Additive
from research.attention.contract import Attention
from research.attention.controls import FixedContext, Mean, NoAttention
from research.attention.multi_head import MultiHeadDot
from research.attention.multiplicative import Dot, General, ScaledDot
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


VARIANTS = {variant.name: variant for variant in (
    # controls
    Variant('none', NoAttention, 'Sutskever 2014, arXiv:1409.3215', 'nothing is read', reads='nothing', weights=False,
            rows=None),
    Variant('fixed_context', FixedContext, 'Cho 2014, arXiv:1406.1078', 'the same vector at each position',
            reads='summary', weights=False, rows=None),
    Variant('mean', Mean, 'control', 'the mean of all annotations'),
    # one head, one energy
    Variant('additive', Additive, 'Bahdanau 2015, arXiv:1409.0473', 'v . tanh(W q + U h)'),
    Variant('dot', Dot, 'Luong 2015, arXiv:1508.04025', 'q . h'),
    Variant('scaled_dot', ScaledDot, 'Vaswani 2017, arXiv:1706.03762', 'q . h over the root of the width, or learned'),
    Variant('general', General, 'Luong 2015, arXiv:1508.04025', 'q W h'),
    # many heads
    Variant('multi_head_dot', MultiHeadDot, 'Vaswani 2017, arXiv:1706.03762', 'scaled products of projections, N heads',
            roles=('cross', 'self'), paths=('explicit', 'xla')),
)}


def options(name: str) -> tuple[str, ...]:
    """The options of a variant, each of which a config states."""
    return tuple(_options(_variant(name)))


def make(name: str, *, features: int, role: str, causal: bool = False, path: str = 'explicit', dtype: Any = None,
         **options: Any) -> Attention:
    """Makes an attention.

    Args:
      name: a key of VARIANTS.
      features: D, the width of the queries and, where the variant projects what it read, of the context.
      role: 'cross' or 'self'.
      causal: whether a position may not read later ones; self role only.
      path: 'explicit', or another of the variant's paths.
      dtype: what is computed in; None means the type that inputs and parameters promote to.
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
        if type(value) is not kind:  # not isinstance: True is no number of heads
            raise UserError(f'{attention}: {field} is {value!r}; it must be of type {kind.__name__}')
    if features < 1:
        raise UserError(f'{attention}: features is {features}; it must be at least 1')
    if causal and role != 'self':
        raise UserError(f"{attention}: causal is True; only role 'self' can be causal")
    try:
        return variant.attention(features=features, role=role, causal=causal, path=path, dtype=dtype, **options)
    except UserError as error:
        raise UserError(f'{attention}: {error}') from None


def _variant(name: str) -> Variant:
    if name not in VARIANTS:
        raise UserError(f'Unknown attention {name!r}.{nearest(name, VARIANTS)} Known: {", ".join(VARIANTS)}')
    return VARIANTS[name]


def _options(variant: Variant) -> dict[str, type]:
    """The fields that a class adds to those that every attention has."""
    common = {field.name for field in dataclasses.fields(Attention)}
    return {field.name: field.type for field in dataclasses.fields(variant.attention) if field.name not in common}
