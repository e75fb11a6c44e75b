"""What an attention reads again and again: a source, or what was written so far, with room for what comes.

Heads are kept as their products of matrices want them, [B, N, H, S]; projections make [B, S, N, H]. What is written
once and read at every step is turned when it is written, or every step would turn all of it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.attention.contract import Attention, Carry
from research.errors import UserError
from research.shapes import Array


class ByHeads(NamedTuple):
    """A memory, [B, S, ...] in every leaf, with [B, N, H, S] in place of every [B, S, N, H]."""

    turned: Any

    def memory(self) -> Any:
        """As it was."""
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 3, 1) if leaf.ndim == 4 else leaf, self.turned)


class Cache(NamedTuple):
    """What was written, with room for what comes."""

    entries: ByHeads  # a Memory, or another tree; what is not written has segment 0
    written: Array    # int32 [B]: how many positions, pads included


def by_heads(memory: Any) -> ByHeads:
    """A memory that will be read more than once: `readable` gives it back."""
    return ByHeads(jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 3) if leaf.ndim == 4 else leaf, memory))


def room(memory: Any, length: int) -> Any:
    """`length` positions of zeros like those of `memory`, of which only shapes and types are used."""
    return jax.tree.map(lambda leaf: jnp.zeros((leaf.shape[0], length, *leaf.shape[2:]), leaf.dtype), memory)


def write(cache: Cache, memory: Any) -> Cache:
    """The cache with all positions of `memory` behind those written before; what finds no room is left out."""
    leaf = jax.tree.leaves(memory)[0]
    slot = cache.written[:, None] + jnp.arange(leaf.shape[1])
    sentence = jnp.arange(leaf.shape[0])[:, None]

    def written(old, new):
        place = (sentence, slice(None), slice(None), slot) if new.ndim == 4 else (sentence, slot)
        return old.at[place].set(new, mode='drop')  # indices on both sides of slices come first: [B, S, N, H]
    return Cache(jax.tree.map(written, cache.entries, ByHeads(memory)), cache.written + leaf.shape[1])


def start(attention: Attention, memory: Any, length: int) -> Carry:
    """The carry of an attention that reads a cache: () in the cross role, and where one call holds everything.

    Raises:
      UserError: the attention is not causal, and a cache is asked for.
    """
    if attention.role == 'cross' or length == 0:
        return ()
    if not attention.causal:
        raise UserError('a self-attention that is not causal holds the whole sequence in one call: start it with 0')
    return Cache(by_heads(room(memory, length)), jnp.zeros(jax.tree.leaves(memory)[0].shape[0], jnp.int32))


def readable(memory: Any, carry: Carry) -> tuple[Any, Carry]:
    """What may be read now: `memory` itself, or a cache with it behind what came before; and the carry."""
    if not isinstance(carry, Cache):
        return memory.memory() if isinstance(memory, ByHeads) else memory, carry
    carry = write(carry, memory)
    return carry.entries.memory(), carry


def nan_past_the_end(context: Array, carry: Carry) -> Array:
    """The context [B, ...], nan for a sentence that wrote more than its cache has room for."""
    if not isinstance(carry, Cache):
        return context
    fits = carry.written <= jax.tree.leaves(carry.entries.memory())[0].shape[1]
    return jnp.where(fits.reshape(-1, *[1] * (context.ndim - 1)), context, jnp.nan)
