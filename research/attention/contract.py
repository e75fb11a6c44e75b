"""The contract of everything that reads a sequence: an attention, or a control that reads less than that.

    memory = attention.remember(source, source_places)         once: project what has become readable
    carry  = attention.start(memory, length)                   once: what one call hands to the next
    read   = attention(query, memory, carry, query_places)     for all positions, for a chunk, or for one: the same code

*Cross role* (a decoder reads an encoder): `memory` is the whole source, projected once per sentence and hoisted out of
the decoder's scan. `carry` is what a variant needs from one target position to the next, or `()`.

*Self role* (a sequence reads itself): `memory` is the positions written since the last call - one, a chunk or all of
them - and `carry` what was written before, such as a cache of keys and values. `start(memory, 0)` promises that one
call will hold the whole sequence, and then there is nothing to carry: that is training.

Every leaf of a memory or a carry has the sentence B as its first axis, so that a beam search can reorder the carry.
"""

import abc
from collections.abc import Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from research.shapes import Array, Places

Carry = Any  # a tree of arrays, each with B first; () when nothing is carried


class Memory(NamedTuple):
    """What a query may read. A variant that keeps something else returns its own tree, with B first in every leaf."""

    keys: Array      # [B, S, ...]: compared with the query
    values: Array    # [B, S, ...]: what is read
    places: Places   # [B, S] each


class Inputs(NamedTuple):
    """The memory of what projects nothing ahead: the positions that are written next, as they came."""

    inputs: Array   # [B, S, D]
    places: Places  # [B, S] each


class Read(NamedTuple):
    """What one call of an attention gives back."""

    context: Array           # [B, T, D]
    weights: Array | None    # [B, N, T, S]; None where the variant has none or the path does not make them
    carry: Carry             # for the next call
    penalty: Array | None = None  # [B, T]: what the variant adds to the loss at each position; None = nothing


def penalty(reads: Iterable[Read], places: Places) -> Array:
    """What some reads of the same queries add to the loss: their penalties summed over real positions, float32 []."""
    given = [jnp.where(places.segment > 0, read.penalty, 0.0) for read in reads if read.penalty is not None]
    return sum((jnp.sum(array.astype(jnp.float32)) for array in given), jnp.zeros((), jnp.float32))


class Attention(nn.Module, abc.ABC):
    """Abstract: the variants inherit from this class and from nothing else.

    The fields here are set by the model that owns the attention; the fields that a variant adds are its options, each
    of which a config states.

    Attributes:
      features: D, the width of the queries and, where the variant projects what it read, of the context.
      role: 'cross' (a decoder reads an encoder) or 'self' (a sequence reads itself).
      causal: a position may not read later ones. Self role only.
      path: 'explicit' makes and returns the weights; other paths are those of the variant's registry line.
      layer: which layer of its stack this is, counted from 0.
      dtype: what is computed in; None means the type that inputs and parameters promote to.
    """

    features: int
    role: str = 'cross'
    causal: bool = False
    path: str = 'explicit'
    layer: int = 0
    dtype: Any = None

    @abc.abstractmethod
    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Any:
        """Projects what has become readable: source [B, S, D] -> a memory."""

    @abc.abstractmethod
    def start(self, memory: Any, length: int) -> Carry:
        """Makes what the first call needs.

        Args:
          memory: in the cross role the memory to be read, in the self role `remember` of a sequence of any length, also
            0, which fixes batch and dtype.
          length: most positions that will be written (self) or read for (cross); in the self role 0 promises that one
            call holds them all, and nothing is carried.
        """

    @abc.abstractmethod
    def __call__(self, query: Array, memory: Any, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Reads for every query position: query [B, T, D], its places [B, T] -> Read. `rng=None` means evaluation."""

    @abc.abstractmethod
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """Forward FLOPs for one sentence: `remember` of S = entries and reading T = queries; 2 per multiply-add."""
