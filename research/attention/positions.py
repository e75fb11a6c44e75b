"""What is added to embeddings so that order can be seen."""

import jax.numpy as jnp
import numpy as np

from research.errors import UserError
from research.shapes import Array


def sinusoidal(position: Array, features: int) -> Array:
    """Sines and cosines of the position at wavelengths from 2 pi to 10000 x 2 pi, sine and cosine interleaved.

        vector[2 i] = sin(position / 10000^(2 i / D));   vector[2 i + 1] = cos(position / 10000^(2 i / D))

    Args:
      position: int32 [B, S].
      features: D, even.

    Returns:
      float32 [B, S, D].

    Raises:
      UserError: D is odd.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5. Differs: none (the authors' code concatenates all sines
    and all cosines, which is a permutation of D).
    """
    if features % 2:
        raise UserError(f'sinusoidal positions need an even width, not {features}: each wavelength has a sine and a '
                        'cosine')
    frequencies = (10000.0 ** -(np.arange(0, features, 2) / features)).astype(np.float32)
    angles = position[..., None].astype(jnp.float32) * frequencies
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(*position.shape, features)


def learned(table: Array, position: Array) -> Array:
    """One learned vector for each position: `table[position]`.

    Whoever knows the length of a sequence before it is traced refuses one that is longer than the table; positions that
    are only known while running cannot raise, and past the table they give nan, never the last row.

    Args:
      table: [P, D], P = the longest sequence.
      position: int32 [B, S].

    Returns:
      [B, S, D].

    Source: Vaswani et al. 2017, arXiv:1706.03762, table 3, row E. Differs: none.
    """
    return jnp.take(table, position, axis=0, mode='fill', fill_value=jnp.nan)
