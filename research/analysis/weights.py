"""How attention reads, in numbers: of the weights of one sentence [N, T, S], without padding, one number a head.

    p[n, t, s] = abs(w[n, t, s]) / sum_s' abs(w[n, t, s'])       what share of its reading a position spends on s

A mean over t is one over the positions that read anything: a row of zeros says nothing of how it is read. Where no
position does, the number is nan. Softmax weights are their own shares; others (a sigmoid, a sink, a difference of two
softmaxes) need not sum to one or may be negative, and `mass` says so.
"""

import numpy as np
import scipy.special


def entropy(weights: np.ndarray) -> np.ndarray:
    """How widely a position reads, in nats: 0 = one position, ln S = all of them alike.

    entropy[n] = mean over t of  - sum_s p[n, t, s] ln p[n, t, s]

    Args:
      weights: [N, T, S].

    Returns:
      [N].

    Raises:
      ValueError: the weights are not [N, T, S] or not finite. All functions here do so.
    """
    return _mean(scipy.special.entr(shares(weights)).sum(axis=-1), _reads(weights))


def entropy_share(weights: np.ndarray, readable: np.ndarray | None = None) -> np.ndarray:
    """The same as a share of the most it could be: 1 = all readable positions alike, whatever their number.

    share[n] = mean over t of  (- sum_s p ln p) / ln readable[t];  a position with one or none to read is left out

    Args:
      weights: [N, T, S].
      readable: int [T], how many positions each one could read; None = S.

    Returns:
      [N].
    """
    _, T, S = _checked(weights).shape
    readable = np.full(T, S) if readable is None else np.asarray(readable)
    most = np.log(np.maximum(readable, 2))
    return _mean(scipy.special.entr(shares(weights)).sum(axis=-1) / most, _reads(weights) & (readable > 1))


def support(weights: np.ndarray) -> np.ndarray:
    """How many positions have a weight other than zero: [N, T, S] -> [N], the mean over t."""
    return _mean((_checked(weights) != 0).sum(axis=-1), _reads(weights))


def mass(weights: np.ndarray) -> np.ndarray:
    """How much is given to any position: [N, T, S] -> [N], the mean of sum_s w[n, t, s] over all t, zeros counted.

    1 of a softmax; what is missing went to a sink that is no position.
    """
    weights = _checked(weights)
    return _mean(weights.sum(axis=-1), np.ones(weights.shape[:2], bool))


def sink_mass(weights: np.ndarray, position: int) -> np.ndarray:
    """How much one position is given, as a sink gets it from all: 0 is the first one, -1 the last (the end symbol).

    sink[n] = mean over t of  w[n, t, position]

    Args:
      weights: [N, T, S].
      position: of the source.

    Returns:
      [N].

    Source: Xiao et al. 2023, arXiv:2309.17453, section 3 (attention sinks). Differs: a number, where they draw.
    """
    return _mean(_checked(weights)[:, :, position], _reads(weights))


def diagonal_distance(weights: np.ndarray) -> np.ndarray:
    """How far from the diagonal the source is read, in source positions: 0 = from its first to its last, evenly.

    distance[n] = mean over t of  abs(sum_s s p[n, t, s] - t (S - 1) / (T - 1));  the diagonal of T = 1 is at 0

    Args:
      weights: [N, T, S], of a decoder that reads a source; both with their end symbols.

    Returns:
      [N].
    """
    _, T, S = _checked(weights).shape
    diagonal = np.arange(T) * ((S - 1) / max(T - 1, 1))
    return _mean(np.abs(shares(weights) @ np.arange(S) - diagonal), _reads(weights))


def read_distance(weights: np.ndarray) -> np.ndarray:
    """How far a sequence reads from its own position: 0 = itself; where only earlier ones are read, how far back.

    distance[n] = mean over t of  sum_s p[n, t, s] abs(t - s)

    Args:
      weights: [N, T, T], of a mixer.

    Returns:
      [N].
    """
    _, T, S = _checked(weights).shape
    apart = np.abs(np.arange(T)[:, None] - np.arange(S))
    return _mean((shares(weights) * apart).sum(axis=-1), _reads(weights))


def coverage(weights: np.ndarray) -> np.ndarray:
    """How much of the source has been read: 1 = every position at least once, all in all.

    coverage[n] = mean over s of  min(1, sum_t p[n, t, s])

    Args:
      weights: [N, T, S].

    Returns:
      [N].

    Source: Wu et al. 2016, arXiv:1609.08144, equation 14. Differs: the mean of what they take the logarithm of.
    """
    read = np.minimum(1.0, shares(weights).sum(axis=1))
    return _mean(read, np.ones(read.shape, bool))


def shares(weights: np.ndarray) -> np.ndarray:
    """`p`: [N, T, S] -> float64 [N, T, S]; a row of zeros stays one."""
    sizes = np.abs(_checked(weights))
    total = sizes.sum(axis=-1, keepdims=True)
    return sizes / np.where(total > 0, total, 1.0)


def _checked(weights):
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 3 or not np.isfinite(weights).all():
        raise ValueError(f'Weights must be finite and [N, T, S], of one sentence: shape {weights.shape}.')
    return weights


def _reads(weights):
    """The positions that read anything: boolean [N, T]."""
    return (_checked(weights) != 0).any(axis=-1)


def _mean(values, counted):
    """The mean over the last axis of what is counted: [N, T] -> [N]; nan where nothing is."""
    count = counted.sum(axis=-1)
    return np.where(count > 0, np.where(counted, values, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)
