"""Dropout as a pure function of an explicit random key; no key means evaluation."""

import jax
import jax.numpy as jnp
import numpy as np

from research.shapes import Array


def dropout(inputs: Array, rate: float, rng: Array | None) -> Array:
    """Zeroes each number with probability `rate` and divides the rest by 1 - rate.

    Args:
      inputs: [...], fewer than 2^32 numbers.
      rate: in [0, 1), known when the program is traced.
      rng: a random key, or None for evaluation: then inputs come back unchanged.

    Source: Srivastava et al. 2014, section 10 (inverted, so that evaluation needs no scale). Differs: none.
    """
    if rng is None or rate == 0.0:
        return inputs
    kept = random_words(rng, inputs.shape) >= np.uint32(min(round(rate * 2**32), 2**32 - 1))
    return jnp.where(kept, inputs / (1.0 - rate), 0.0).astype(inputs.dtype)


def random_words(rng: Array, shape: tuple[int, ...]) -> Array:
    """A random word for each number of an array: uint32 of that shape, good enough to drop by.

        x = place * c + k_1;  x = (x ^ x >> 16) * a;  x = (x ^ x >> 15 ^ k_2) * b;  word = x ^ x >> 15

    k_1 and k_2 are words of the key by jax.random. Of threefry, which jax.random would use for all, an element takes
    ten times as many operations: a fifth of the time of a training step on a CPU. Here they are few enough to be made
    again in the backward pass, beside the multiplication, so that no mask is kept.

    Args:
      rng: a random key.
      shape: of fewer than 2^32 places.

    Source: a, b and the shifts: C. Wellons, hash-prospector (github.com/skeeto/hash-prospector), its list of
    permutations found by search for the least bias; c: 2^32 / golden ratio. Differs: the key comes in before each
    round.
    """
    first, second = jax.random.bits(rng, (2,), jnp.uint32)
    place = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        place = place * np.uint32(shape[axis]) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    x = place * np.uint32(0x9E3779B9) + first
    x = (x ^ x >> 16) * np.uint32(0x21F0AAAD)
    x = (x ^ x >> 15 ^ second) * np.uint32(0xD35A2D97)
    return x ^ x >> 15


def split(rng: Array | None, count: int) -> list[Array | None]:
    """Makes `count` independent keys, or as many None in evaluation."""
    return [None] * count if rng is None else list(jax.random.split(rng, count))
