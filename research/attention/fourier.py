"""A control of a mixer without any parameter: the discrete Fourier transform."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from research.attention import cache
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.masks import readable
from research.shapes import Array, Places


def angles(query: Array, key: Array, length: Array) -> Array:
    """`2 pi (t s mod L) / L`: positions [B, T, 1] and [B, 1, S], L at least 1 [B, T, 1] -> float [B, T, S]."""
    return 2.0 * np.pi * ((query * key) % length) / length


class Fourier(Attention):
    """The real part of a Fourier transform over the width and over the positions of each sentence.

        context[t, d] = Re sum_s sum_e exp(-2 pi i (t s / L + d e / D)) x[s, e],  L = the sentence's length

    Self role, both directions at once. It is computed as products with cosines and sines, T x S of them, so that each
    sentence has the transform of its own length whatever stands beside it.

    Source: Lee-Thorp et al. 2021, arXiv:2105.03824, section 3.2. Differs: pads are not part of the transform.
    """

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        source = source.astype(self.dtype or source.dtype)
        D = source.shape[-1]
        turns = 2.0 * np.pi * (np.arange(D)[:, None] * np.arange(D) % D) / D
        return Memory(source @ np.cos(turns).astype(source.dtype), source @ np.sin(turns).astype(source.dtype), places)

    def start(self, memory: Memory, length: int) -> Carry:
        return cache.start(self, memory, length)

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D], of which only places count -> context [B, T, D], no weights."""
        mask = readable(places, memory.places)
        length = jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1)
        turns = angles(places.position[:, :, None], memory.places.position[:, None], length)
        cosines, sines = (jnp.where(mask, wave(turns), 0.0).astype(memory.keys.dtype) for wave in (jnp.cos, jnp.sin))
        return Read(cosines @ memory.keys - sines @ memory.values, None, ())

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """Two products over the width and two over the positions."""
        return 4.0 * entries * source_width * (source_width + queries)
