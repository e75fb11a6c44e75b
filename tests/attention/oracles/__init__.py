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

ORACLES = (controls.ORACLES | single_head.ORACLES | location.ORACLES | looking_back.ORACLES
           | multi_head_additive.ORACLES | multi_head.ORACLES | memories.ORACLES)

def oracle_of(name, role, causal):
    """The function for a variant in this role and direction: of what is causal an encoder has two copies."""
    if role == 'self' and not causal and False not in VARIANTS[name].causal:
        return both_ways(ORACLES[name].function)
    return ORACLES[name].function


__all__ = ['FEATURES', 'ORACLES', 'Oracle', 'may_read', 'oracle_of']
