"""What a vector still says of the symbols that were read into it, as far as a linear map can tell."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg

PENALTIES = 10.0 ** np.arange(-4, 3)  # of the squared map, a sentence and a feature of variance 1
LEAST = 20      # sentences of each half that a distance must have to be measured
DISTANCES = 32  # are measured at most


def memory(vectors: np.ndarray, symbols: Sequence[np.ndarray]) -> dict[str, Any] | None:
    """How well a symbol is read off a vector, against how long ago it was: what a memory of fixed size forgets.

    For each distance d >= 1 a linear map is fitted on one half of the sentences and names symbols[d] of the other half.
    Sentences with the same symbols are in the same half: what is learned by heart does not count.

    Args:
      vectors: [n, E], one of each sentence.
      symbols: of each sentence, int [longest distance + 1]: symbols[d] is the one at distance d.

    Returns:
      distance [...], at most DISTANCES of them at even distances, and for each of them accuracy (share of the other
      half that is named right), baseline (the same, if always the most frequent symbol of the first half is named) and
      count (sentences of the other half). None where no distance has LEAST sentences in both halves.

    Source: Alain and Bengio 2016, arXiv:1610.01644 (linear probes). Differs: `linear_readout`.
    """
    if len(vectors) != len(symbols):
        raise ValueError(f'{len(vectors)} vectors of {len(symbols)} sentences.')
    vectors = np.asarray(vectors, np.float64)
    different = {key: place for place, key in enumerate(sorted({tuple(map(int, row)) for row in symbols}))}
    second = np.array([different[tuple(map(int, row))] % 2 for row in symbols], bool)
    sizes = np.array([len(row) for row in symbols])
    fits = [d for d in range(1, max(sizes, default=0))
            if min(np.sum(sizes[~second] > d), np.sum(sizes[second] > d)) >= LEAST]
    if not fits:
        return None
    chosen = [fits[place] for place in np.unique(np.linspace(0, len(fits) - 1, min(len(fits), DISTANCES)).astype(int))]
    found = {'distance': chosen, 'accuracy': [], 'baseline': [], 'count': []}
    for d in chosen:
        here = sizes > d
        answers = np.array([row[d] if len(row) > d else -1 for row in symbols])
        train, test = here & ~second, here & second
        right = linear_readout(vectors[train], answers[train], vectors[test]) == answers[test]
        most, times = np.unique(answers[train], return_counts=True)
        found['accuracy'].append(float(right.mean()))
        found['baseline'].append(float((answers[test] == most[times.argmax()]).mean()))
        found['count'].append(int(test.sum()))
    return found


def linear_readout(vectors: np.ndarray, answers: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Names the symbol that a linear map, fitted on other vectors, scores highest: ridge regression on indicators.

        map, bias = argmin  sum_i norm(vectors[i] map + bias - indicator(answers[i]))^2 + penalty n norm(map)^2

    Features are brought to variance 1 first; of PENALTIES the one is taken with the smallest squared error of each
    sentence under the map of all others (in closed form, from the diagonal of the hat matrix).

    Args:
      vectors: [n, E].
      answers: int [n].
      others: [m, E].

    Returns:
      int [m], of the symbols that `answers` holds.

    Source: Hoerl and Kennard 1970, Ridge regression; leaving one out: Allen 1974 (PRESS). Differs: none.
    """
    mean, spread = vectors.mean(axis=0), vectors.std(axis=0)
    spread = np.where(spread > 1e-9 * max(1.0, np.abs(vectors).max()), spread, 1.0)
    features, others = (vectors - mean) / spread, (others - mean) / spread
    n, E = features.shape
    if n < E:  # nothing outside of what these vectors span has a weight
        basis = scipy.linalg.qr(features.T, mode='economic')[0]
        features, others = features @ basis, others @ basis
    known, which = np.unique(answers, return_inverse=True)
    wanted = np.eye(len(known))[which]
    centre = wanted.mean(axis=0)
    values, basis = scipy.linalg.eigh(features.T @ features)
    values, turned = np.maximum(values, 0.0), features @ basis
    products = turned.T @ (wanted - centre)
    fits = []
    for penalty in n * PENALTIES:
        inverse = 1.0 / (values + penalty)
        coefficients = inverse[:, None] * products
        hat = 1.0 / n + turned**2 @ inverse
        errors = (wanted - centre - turned @ coefficients) / np.maximum(1.0 - hat, 1e-9)[:, None]
        fits.append((float((errors**2).mean()), coefficients))
    _, best = min(fits, key=lambda fit: fit[0])
    return known[(others @ basis @ best + centre).argmax(axis=1)]
