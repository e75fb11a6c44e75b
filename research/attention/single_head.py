"""What all attentions with one head and one energy share: from energies to what was read."""

import jax.numpy as jnp

from research.attention.contract import Memory, Read
from research.attention.masks import readable
from research.attention.normalise import softmax
from research.shapes import Array, Places


def read(energies: Array, memory: Memory, places: Places) -> Read:
    """The mean of the values, weighted by the softmax of the energies over what may be read; nothing is carried.

        weights[b, t] = softmax of energies[b, t] over readable s;   context[b, t] = sum_s weights[b, t, s] values[b, s]

    Args:
      energies: [B, T, S].
      memory: its values [B, S, D_s] are read.
      places: of the queries, [B, T] each.

    Returns:
      context [B, T, D_s], weights [B, 1, T, S] and the carry ().
    """
    weights = softmax(energies, readable(places, memory.places))
    context = jnp.einsum('bts,bsd->btd', weights.astype(memory.values.dtype), memory.values)
    return Read(context, weights[:, None], ())
