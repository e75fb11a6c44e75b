"""A recurrence that is linear in its state, all positions at once: an equal of what the cells do step by step.

No cell runs on it: `Cell.over` says why.
"""

import jax
import jax.numpy as jnp

from research.shapes import Array


def linear_scan(decay: Array, write: Array, start: Array, mask: Array) -> Array:
    """Every state of a linear recurrence in log2(S) rounds: two steps in a row are one step of the same form.

    h_t = a_t * h_{t-1} + b_t;  (a, b) then (a', b') is (a a', a' b + b')

    Args:
      decay: [B, S, H], a; real or complex.
      write: [B, S, H], b.
      start: [B, H], the state before the first position.
      mask: [B, S] boolean; False is padding, where a = 1 and b = 0.

    Returns:
      [B, S, H]: the state after each position; at padding the one before it.

    Source: Blelloch 1990, Prefix sums and their applications, section 1.4. Differs: none.
    """
    real = mask[:, :, None]
    decay, write = jnp.where(real, decay, 1), jnp.where(real, write, 0)
    write = write.at[:, 0].add(decay[:, 0] * start)

    def then(earlier, later):
        return earlier[0] * later[0], later[0] * earlier[1] + later[1]
    return jax.lax.associative_scan(then, (decay, write), axis=1)[1]
