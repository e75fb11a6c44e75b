"""What every attention computes, a second time; a file for each family (see `contract`)."""

from research.attention.registry import VARIANTS
from tests.attention.oracles import (
    controls,
    location,
    looking_back,
    memories,
    multi_head,
    multi_head_additive,
    single_head,
)
from tests.attention.oracles.both_ways import both_ways
from tests.attention.oracles.contract import FEATURES, Oracle, may_read
from tests.attention.oracles.convolved import convolved

ORACLES = (controls.ORACLES | single_head.ORACLES | location.ORACLES | looking_back.ORACLES
           | multi_head_additive.ORACLES | multi_head.ORACLES | memories.ORACLES)

def oracle_of(name, role, causal, convolution=False):
    """The function for a variant in this role and direction: of what is causal an encoder has two copies.

    `convolution`: whether a short convolution stands before each copy.
    """
    function = convolved(ORACLES[name].function) if convolution else ORACLES[name].function
    return both_ways(function) if role == 'self' and not causal and False not in VARIANTS[name].causal else function


__all__ = ['FEATURES', 'ORACLES', 'Oracle', 'may_read', 'oracle_of']
