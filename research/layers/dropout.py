"""Dropout as a pure function of an explicit random key; no key means evaluation."""

import jax
import jax.numpy as jnp

from research.shapes import Array


def dropout(inputs: Array, rate: float, rng: Array | None) -> Array:
    """Zeroes each number with probability `rate` and divides the rest by 1 - rate.

    Args:
      inputs: [...].
      rate: in [0, 1), known when the program is traced.
      rng: a random key, or None for evaluation: then inputs come back unchanged.

    Source: Srivastava et al. 2014, section 10 (inverted, so that evaluation needs no scale). Differs: none.
    """
    if rng is None or rate == 0.0:
        return inputs
    kept = jax.random.bernoulli(rng, 1.0 - rate, inputs.shape)
    return jnp.where(kept, inputs / (1.0 - rate), 0.0).astype(inputs.dtype)


def split(rng: Array | None, count: int) -> list[Array | None]:
    """Makes `count` independent keys, or as many None in evaluation."""
    return [None] * count if rng is None else list(jax.random.split(rng, count))
