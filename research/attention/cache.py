"""What a self-attention has read so far: a cache of keys and values with room for what comes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.attention.contract import Attention, Carry
from research.errors import UserError
from research.shapes import Array


class Cache(NamedTuple):
    """What was written, with room for what comes."""

    memory: Any      # a Memory, or another tree with [B, L, ...] in every leaf; what is not written has segment 0
    written: Array   # int32 [B]: how many positions, pads included


def empty_cache(memory: Any, length: int) -> Cache:
    """Room for `length` positions like those of `memory`, of which only shapes and types are used."""
    empty = jax.tree.map(lambda leaf: jnp.zeros((leaf.shape[0], length, *leaf.shape[2:]), leaf.dtype), memory)
    return Cache(empty, jnp.zeros(jax.tree.leaves(memory)[0].shape[0], jnp.int32))


def write(cache: Cache, memory: Any) -> Cache:
    """The cache with all positions of `memory` behind those written before; what finds no room is left out."""
    leaf = jax.tree.leaves(memory)[0]
    slot = cache.written[:, None] + jnp.arange(leaf.shape[1])
    sentence = jnp.arange(leaf.shape[0])[:, None]
    together = jax.tree.map(lambda old, new: old.at[sentence, slot].set(new, mode='drop'), cache.memory, memory)
    return Cache(together, cache.written + leaf.shape[1])


def start(attention: Attention, memory: Any, length: int) -> Carry:
    """The carry of an attention that reads a cache: () in the cross role, and where one call holds everything.

    Raises:
      UserError: the attention is not causal, and a cache is asked for.
    """
    if attention.role == 'cross' or length == 0:
        return ()
    if not attention.causal:
        raise UserError('a self-attention that is not causal holds the whole sequence in one call: start it with 0')
    return empty_cache(memory, length)


def readable(memory: Any, carry: Carry) -> tuple[Any, Carry]:
    """What may be read now: `memory` itself, or a cache with it behind what came before; and the carry."""
    if not isinstance(carry, Cache):
        return memory, carry
    carry = write(carry, memory)
    return carry.memory, carry


def nan_past_the_end(context: Array, carry: Carry) -> Array:
    """The context [B, ...], nan for a sentence that wrote more than its cache has room for."""
    if not isinstance(carry, Cache):
        return context
    fits = carry.written <= jax.tree.leaves(carry.memory)[0].shape[1]
    return jnp.where(fits.reshape(-1, *[1] * (context.ndim - 1)), context, jnp.nan)
