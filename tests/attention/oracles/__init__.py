"""What every attention computes, a second time; a file for each family (see `contract`)."""

from tests.attention.oracles import (
    controls,
    location,
    looking_back,
    memories,
    multi_head,
    multi_head_additive,
    single_head,
)
from tests.attention.oracles.contract import FEATURES, Oracle, may_read

ORACLES = (controls.ORACLES | single_head.ORACLES | location.ORACLES | looking_back.ORACLES
           | multi_head_additive.ORACLES | multi_head.ORACLES | memories.ORACLES)

__all__ = ['FEATURES', 'ORACLES', 'Oracle', 'may_read']
