"""What all attentions with one head and one energy share: from energies to what was read."""

from collections.abc import Callable

import jax.numpy as jnp

from research.attention.contract import Carry, Memory, Read
from research.attention.masks import readable
from research.shapes import Array, Places


def read(energies: Array, memory: Memory, places: Places, normalise: Callable[[Array, Array], Array],
         mask: Array | None = None, carry: Carry = ()) -> Read:
    """The values, weighted by what the normaliser makes of the energies over what may be read.

        weights[b, t] = normalise(energies[b, t]) over readable s;   context[b, t] = sum_s weights[b, t, s] values[b, s]

    Args:
      energies: [B, T, S].
      memory: its values [B, S, D_s] are read.
      places: of the queries, [B, T] each.
      normalise: (logits [B, 1, T, S], mask [B, 1, T, S]) -> weights.
      mask: boolean [B, T, S], what may be read; None = all of the query's own segment.
      carry: what the Read hands on.

    Returns:
      context [B, T, D_s], weights [B, 1, T, S] and the carry.
    """
    mask = readable(places, memory.places) if mask is None else mask
    weights = normalise(energies[:, None], mask[:, None])
    return Read(context(weights, memory.values), weights, carry)


def context(weights: Array, values: Array) -> Array:
    """What one head reads: weights [B, 1, T, S], values [B, S, D_s] -> [B, T, D_s]."""
    return jnp.einsum('bts,bsd->btd', weights[:, 0].astype(values.dtype), values)
