"""An encoder of what can only read backwards in time: one copy reads forwards, another the flipped sequence."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from research.attention import cache
from research.attention.contract import Attention, Carry, Read
from research.attention.masks import reversed_places
from research.shapes import Array, Places


class TwoMemories(NamedTuple):
    """What each of the two copies remembers."""

    forward: Any
    backward: Any


class BothWays(Attention):
    """The sum of what two causal copies read, one of them from the end: `forward(x) + flip(backward(flip(x)))`.

    Source: the catalogue's rule for memories that decay. Differs: none.

    Attributes:
      forward: a causal attention in the self role.
      backward: another one like it, with parameters of its own.
    """

    forward: Attention = None
    backward: Attention = None

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> TwoMemories:
        return TwoMemories(self.forward.remember(source, places, rng),
                           self.backward.remember(jnp.flip(source, axis=1), reversed_places(places), rng))

    def start(self, memory: TwoMemories, length: int) -> Carry:
        return cache.start(self, memory, length)

    def __call__(self, query: Array, memory: TwoMemories, carry: Carry, places: Places,
                 rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D], weights [B, 2 N, T, S] where there are some: forward, then backward."""
        forward = self.forward(query, memory.forward, self.forward.start(memory.forward, 0), places, rng)
        backward = self.backward(jnp.flip(query, axis=1), memory.backward, self.backward.start(memory.backward, 0),
                                 reversed_places(places), rng)
        weights = None if forward.weights is None else jnp.concatenate(
            [forward.weights, jnp.flip(backward.weights, axis=(2, 3))], axis=1)
        return Read(forward.context + jnp.flip(backward.context, axis=1), weights, ())

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """Twice that of one copy."""
        return 2.0 * self.forward.flops(queries, entries, query_width, source_width)
