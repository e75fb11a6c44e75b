"""What is added to embeddings, queries, keys or logits so that order can be seen."""

import jax
import jax.numpy as jnp
import numpy as np

from research.errors import UserError
from research.shapes import Array


def sinusoidal(position: Array, features: int, concatenated: bool = False) -> Array:
    """Sines and cosines of the position at wavelengths from 2 pi to 10000 x 2 pi.

        interleaved    vector[2 i] = sin(a[i]);  vector[2 i + 1] = cos(a[i]);  a[i] = position / 10000^(2 i / D)
        concatenated   vector[i] = sin(a[i]);    vector[D / 2 + i] = cos(a[i])

    Args:
      position: int32 [B, S].
      features: D, even.
      concatenated: all sines before all cosines.

    Returns:
      float32 [B, S, D].

    Raises:
      UserError: D is odd.

    Source: interleaved: Vaswani et al. 2017, arXiv:1706.03762, section 3.5; concatenated: Marian's, a permutation of D.
    Differs: none (the authors' own code concatenates, too, and divides by D / 2 - 1 where D / 2 stands here).
    """
    if features % 2:
        raise UserError(f'sinusoidal positions need an even width, not {features}: each wavelength has a sine and a '
                        'cosine')
    frequencies = (10000.0 ** -(np.arange(0, features, 2) / features)).astype(np.float32)
    angles = position[..., None].astype(jnp.float32) * frequencies
    parts = [jnp.sin(angles), jnp.cos(angles)]
    if concatenated:
        return jnp.concatenate(parts, axis=-1)
    return jnp.stack(parts, axis=-1).reshape(*position.shape, features)


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


def rotary(vectors: Array, position: Array, base: float) -> Array:
    """Turns each pair of coordinates by an angle that grows with the position, so that products see distances only.

        (x[i], x[i + H/2]) -> turned by position * base^(-2 i / H),  i < H / 2

    Args:
      vectors: [B, T, N, H], H even.
      position: int32 [B, T], absolute.
      base: of the wavelengths, above 0.

    Returns:
      [B, T, N, H], turned in float32 or better.

    Source: Su et al. 2021, arXiv:2104.09864, section 3.2.2. Differs: pairs are (i, i + H/2), not (2 i, 2 i + 1): a
    permutation of H, and the layout of Llama.
    """
    half = vectors.shape[-1] // 2
    dtype = jnp.promote_types(vectors.dtype, jnp.float32)
    frequencies = base ** -(np.arange(half) / half)
    angles = (position[:, :, None, None].astype(dtype) * frequencies.astype(dtype))
    first, second = jnp.split(vectors.astype(dtype), 2, axis=-1)
    turned = [first * jnp.cos(angles) - second * jnp.sin(angles), second * jnp.cos(angles) + first * jnp.sin(angles)]
    return jnp.concatenate(turned, axis=-1).astype(vectors.dtype)


def distances(query_position: Array, key_position: Array) -> Array:
    """How far each key is ahead of each query, `s - t`: int32 [B, T], [B, S] -> [B, T, S]."""
    return key_position[:, None, :] - query_position[:, :, None]


def alibi_slopes(heads: int) -> np.ndarray:
    """How much a head loses with each position of distance: float64 [N].

        m[n] = 2^(-8 n / N), n = 1 .. N, where N is a power of two;
        otherwise those of the next lower power P, then every second one of those of 2 P

    Source: Press, Smith, Lewis 2022, arXiv:2108.12409, section 3 and the authors' get_slopes. Differs: none.
    """
    power = 2 ** (heads.bit_length() - 1)
    slopes = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)
    between = 2.0 ** (-8.0 * np.arange(1, 2 * power + 1, 2) / (2 * power))
    return np.concatenate([slopes, between])[:heads]


def t5_buckets(distance: Array, buckets: int, maximum_distance: int, causal: bool) -> Array:
    """Buckets of distances: near ones have one each, far ones share, on a logarithmic scale up to the maximum.

    With n buckets for a direction, distances below n // 2 are exact, and distance d of the others is in bucket
    n // 2 + log(d / (n // 2)) / log(maximum / (n // 2)) * (n - n // 2), at most n - 1. Causal: all buckets are for what
    comes before; otherwise the second half is for what comes after.

    Args:
      distance: int32 [...], s - t.
      buckets: of the table, even unless causal.
      maximum_distance: from which on all share the last bucket.
      causal: whether later positions are never read.

    Returns:
      int32 [...], 0 .. buckets - 1.

    Source: Raffel et al. 2020, arXiv:1910.10683, section 2.1, and the authors' mesh_tensorflow. Differs: none.
    """
    count = buckets if causal else buckets // 2
    after = 0 if causal else jnp.where(distance > 0, count, 0)
    far = jnp.maximum(-distance, 0) if causal else jnp.abs(distance)
    exact = count // 2
    scale = (count - exact) / np.log(maximum_distance / exact)
    # 1e-6: log(4) / log(2) may come out below 2, and a distance that begins a bucket would fall into the one before
    logarithmic = exact + (jnp.log(jnp.maximum(far, 1).astype(jnp.float32) / exact) * scale + 1e-6).astype(jnp.int32)
    return after + jnp.where(far < exact, far, jnp.minimum(logarithmic, count - 1))


def kerple_log(distance: Array, power: Array, factor: Array) -> Array:
    """`- p[n] log(1 + a[n] d)`, d = |s - t|: int32 [B, T, S], p and a [N], at least 0.01 -> [B, N, T, S].

    Source: Chi et al. 2022, arXiv:2205.09921, section 4.2 (logarithmic). Differs: also both directions.
    """
    power, factor = (jnp.maximum(array, 0.01)[:, None, None] for array in (power, factor))
    return -power * jnp.log1p(factor * jnp.abs(distance)[:, None].astype(factor.dtype))


def kerple_power(distance: Array, power: Array, factor: Array) -> Array:
    """`- a[n] d^p[n]`, d = |s - t|: int32 [B, T, S], a at least 0.01, p from 0.01 to 2 [N] -> [B, N, T, S].

    Source: Chi et al. 2022, arXiv:2205.09921, section 4.2 (power). Differs: also both directions.
    """
    power, factor = jnp.clip(power, 0.01, 2.0)[:, None, None], jnp.maximum(factor, 0.01)[:, None, None]
    far = jnp.abs(distance)[:, None].astype(factor.dtype)
    return -factor * jnp.where(far > 0, jnp.where(far > 0, far, 1.0)**power, 0.0)


def fire(distance: Array, position: Array, curvature: Array, threshold: Array, inner: tuple[Array, Array],
         outer: tuple[Array, Array]) -> Array:
    """A small network's number for how far back a key is, as a share of all that the query could look back.

        share = psi(|s - t|) / (psi(max(t, |L|)) + 1e-6),  psi(x) = log(1 + |c| x)
        bias[n] = relu(share w_1 + b_1) W_2 + b_2

    Args:
      distance: int32 [B, T, S], s - t.
      position: t, int32 [B, T].
      curvature: c, [].
      threshold: L, []: nearer to the beginning than that, shares are of L.
      inner: w_1 and b_1, [F] each.
      outer: W_2 [F, N] and b_2 [N].

    Returns:
      [B, N, T, S].

    Source: Li et al. 2023, arXiv:2310.04418, section 3. Differs: also both directions, where a share may be above one.
    """
    def psi(x):
        return jnp.log1p(jnp.abs(curvature) * x)
    least = jnp.maximum(position.astype(curvature.dtype), jnp.abs(threshold))[:, :, None]
    share = psi(jnp.abs(distance).astype(curvature.dtype)) / (psi(least) + 1e-6)
    hidden = jax.nn.relu(share[..., None] * inner[0] + inner[1])
    return jnp.moveaxis(hidden @ outer[0] + outer[1], -1, 1)
