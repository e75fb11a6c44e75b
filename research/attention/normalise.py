"""From logits and a mask to weights: pure functions, each of which leaves out what may not be read before it sums."""

import functools

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
    exponentials, _ = _exponentials(logits, mask)
    total = jnp.sum(exponentials, axis=-1, keepdims=True)
    return exponentials / jnp.where(total > 0, total, 1.0)


def softmax_with_sink(logits: Array, mask: Array, sink: Array) -> Array:
    """A softmax with one more logit that stands for reading nothing; what it takes is given to no position.

        weights[..., s] = mask[s] exp(logits[s]) / (exp(sink) + sum over readable r of exp(logits[r]))

    Args:
      logits: [..., S], finite.
      mask: boolean, broadcast against logits.
      sink: broadcast against [..., 1]; 0 everywhere is `softmax_one`.

    Returns:
      [..., S] in float32 or better; rows sum to less than one.

    Source: OpenAI 2025, gpt-oss model card, arXiv:2508.10925, section 2 (learned); Miller 2023, Attention is off by one
    (sink = 0). Differs: none.
    """
    sink = sink.astype(jnp.promote_types(logits.dtype, jnp.float32))
    exponentials, highest = _exponentials(logits, mask, sink)
    return exponentials / (jnp.exp(sink - highest) + jnp.sum(exponentials, axis=-1, keepdims=True))


def sigmoid(logits: Array, mask: Array) -> Array:
    """Weights of which each is chosen by itself: `weights[..., s] = mask[s] sigmoid(logits[s] - log n)`.

    n is how many positions the row may read, so that at logits of zero the weights of a long row sum to about one.

    Args:
      logits: [..., S], finite.
      mask: boolean, broadcast against logits.

    Returns:
      [..., S] in float32 or better; rows sum to anything.

    Source: Ramapuram et al. 2024, arXiv:2409.04431, section 3 and appendix (b = - log n). Differs: n is the row's
    readable count, not one constant, so that padding and step-by-step decoding change nothing.
    """
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    count = jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1).astype(dtype)
    return jnp.where(mask, jax.nn.sigmoid(jnp.where(mask, logits.astype(dtype), 0.0) - jnp.log(count)), 0.0)


def sparsemax(logits: Array, mask: Array) -> Array:
    """The point of the simplex that is nearest to the logits: most weights are exactly zero.

        weights = argmin over p in the simplex of |p - logits|^2 = max(logits - tau, 0), tau such that they sum to one

    Args:
      logits: [..., S], finite.
      mask: boolean, broadcast against logits.

    Returns:
      [..., S] in float32 or better; rows sum to one, an empty row is zero.

    Source: Martins and Astudillo 2016, arXiv:1602.02068, algorithm 1; gradient: its section 2.5. Differs: none.
    """
    return _sparse(2.0, *_masked(logits, mask))


def entmax(logits: Array, mask: Array, alpha: float = 1.5) -> Array:
    """Between softmax (alpha towards 1) and sparsemax (alpha = 2).

        weights[s] = max((alpha - 1) logits[s] - tau, 0)^(1 / (alpha - 1)),  tau such that the row sums to one

    alpha = 1.5 and 2 are solved exactly by sorting, others by bisection, after which the row is divided by its sum.

    Args:
      logits: [..., S], finite.
      mask: boolean, broadcast against logits.
      alpha: above 1, known when the program is traced.

    Returns:
      [..., S] in float32 or better; rows sum to one, an empty row is zero.

    Source: Peters, Niculae, Martins 2019, arXiv:1905.05702, equation 4 and algorithms 1 (bisection) and 2 (sorting);
    gradient: its proposition 2. Differs: none.
    """
    return _sparse(float(alpha), *_masked(logits, mask))


def _exponentials(logits, mask, least=None):
    """Exponentials of what may be read, and what was subtracted before: at least `least`, where it is given."""
    logits, mask = _masked(logits, mask)
    lowest = jnp.finfo(logits.dtype).min
    highest = jnp.max(logits, axis=-1, keepdims=True, initial=lowest)
    highest = jax.lax.stop_gradient(highest if least is None else jnp.maximum(highest, least))
    return jnp.where(mask, jnp.exp(logits - highest), 0.0), highest


def _masked(logits, mask):
    """Logits in float32 or better; lowest where they may not be read."""
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    lowest = jnp.finfo(dtype).min  # finite: minus infinity would turn the difference of an empty row into nan
    return jnp.where(mask, logits.astype(dtype), lowest), mask


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sparse(alpha, logits, mask):
    mask = jnp.broadcast_to(mask, logits.shape)
    if not logits.shape[-1]:
        return logits
    highest = jnp.max(logits, axis=-1, keepdims=True)
    # Far below the highest nothing has weight: at -4 even (x - tau) of the highest alone would exceed one.
    scaled = jnp.where(mask, jnp.maximum((alpha - 1.0) * (logits - highest), -4.0), -4.0)
    if alpha in (1.5, 2.0):
        threshold = _by_sorting(scaled, alpha)
        weights = jnp.where(mask, jnp.maximum(scaled - threshold, 0.0), 0.0)**(1.0 / (alpha - 1.0))
    else:
        weights = _by_bisection(scaled, mask, alpha)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total > 0, total, 1.0)


@_sparse.defjvp
def _sparse_jvp(alpha, primals, tangents):
    """`J v = s * (v - <s, v> / sum s)`, s = weights^(2 - alpha) where there is weight: not through the search."""
    weights = _sparse(alpha, *primals)
    slopes = jnp.where(weights > 0, jnp.where(weights > 0, weights, 1.0)**(2.0 - alpha), 0.0)
    total = jnp.sum(slopes, axis=-1, keepdims=True)
    mean = jnp.sum(slopes * tangents[0], axis=-1, keepdims=True) / jnp.where(total > 0, total, 1.0)
    return weights, slopes * (tangents[0] - mean)


def _by_sorting(scaled, alpha):
    """The threshold of sparsemax or 1.5-entmax: of all supports of the k largest, the largest that is consistent."""
    falling = -jnp.sort(-scaled, axis=-1)
    k = jnp.arange(1, scaled.shape[-1] + 1, dtype=scaled.dtype)
    mean = jnp.cumsum(falling, axis=-1) / k
    if alpha == 2.0:
        thresholds = mean - 1.0 / k
    else:
        spread = k * (jnp.cumsum(falling**2, axis=-1) / k - mean**2)
        inside = (1.0 - spread) / k
        thresholds = mean - jnp.sqrt(jnp.maximum(inside, 0.0))
    support = jnp.sum(thresholds <= falling, axis=-1, keepdims=True)
    return jnp.take_along_axis(thresholds, jnp.maximum(support - 1, 0), axis=-1)


def _by_bisection(scaled, mask, alpha):
    """Weights at the threshold between max - 1 and max - S^(1 - alpha), halved fifty times."""
    def weights(threshold):
        return jnp.where(mask, jnp.maximum(scaled - threshold, 0.0), 0.0)**(1.0 / (alpha - 1.0))

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2.0
        enough = jnp.sum(weights(middle), axis=-1, keepdims=True) >= 1.0
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)
    low = jnp.full_like(scaled[..., :1], -1.0)  # the highest is at 0
    high = jnp.full_like(low, -(1.0 / scaled.shape[-1])**(alpha - 1.0))
    low, _ = jax.lax.fori_loop(0, 50, halve, (low, high))
    return weights(low)
