"""From logits and a mask to weights."""

import jax
import jax.numpy as jnp

from research.shapes import Array


def softmax(logits: Array, mask: Array) -> Array:
    """Weights that sum to one over what may be read; a row that may read nothing is all zero.

        weights[..., s] = mask[s] exp(logits[s]) / sum over readable r of exp(logits[r])

    The mask acts before the normaliser and the divisor of an empty row is replaced by one, so that every gradient
    through an empty row, and at every masked entry, is zero and finite.

    Args:
      logits: [..., S], finite.
      mask: boolean, broadcast against logits; True = may be read.

    Returns:
      [..., S] in float32, or in float64 where logits are.
    """
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    lowest = jnp.finfo(dtype).min  # finite: minus infinity would turn the difference of an empty row into nan
    logits = jnp.where(mask, logits.astype(dtype), lowest)
    highest = jnp.max(logits, axis=-1, keepdims=True, initial=lowest)
    exponentials = jnp.where(mask, jnp.exp(logits - jax.lax.stop_gradient(highest)), 0.0)
    total = jnp.sum(exponentials, axis=-1, keepdims=True)
    return exponentials / jnp.where(total > 0, total, 1.0)
