"""What every attention computes, a second time: float64 NumPy, written from the formula, one position after another.

An oracle is called as function(params, query, source, query_places, source_places, role, causal, options) and returns
(context [B, T, ...], weights [B, N, T, S] or None). Energies may be computed for all positions; what may be read is
decided position by position, here and nowhere else.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

FEATURES = 13  # D, the width of the queries


class Oracle(NamedTuple):
    """A reference and what the battery needs to know to build the variant that it is for."""

    function: Callable
    options: dict[str, Any]                # tiny; all sizes distinct primes, without a projection bias
    others: tuple[dict[str, Any], ...] = ()  # further options, compared with the oracle in the first role only
    in_self_role: tuple[dict[str, Any], ...] = ()  # and some more in the self role, in both directions
    source_width: int = 17                 # D_s in the cross role
    large: dict[str, Any] | None = None    # options with which matrix products dominate; None = `options`


def may_read(query_places, source_places, b, t, causal):
    """The source positions that query t of sentence b may read."""
    segment, position = query_places.segment[b, t], query_places.position[b, t]
    return [s for s in range(source_places.segment.shape[1])
            if segment > 0 and source_places.segment[b, s] == segment
            and not (causal and source_places.position[b, s] > position)]


def normalise(name, logits, sink=0.0):
    """Weights of one row of readable logits [n], each normaliser from its own definition."""
    if name in ('softmax', 'learned_sink', 'softmax_one'):
        sinks = {'softmax': [], 'learned_sink': [sink], 'softmax_one': [0.0]}[name]
        exponentials = np.exp(np.append(logits, sinks) - max([*logits, *sinks]))
        return exponentials[:len(logits)] / exponentials.sum()
    if name == 'sigmoid':
        return 1.0 / (1.0 + np.exp(-(logits - np.log(len(logits)))))
    alpha = {'sparsemax': 2.0, 'entmax': 1.5}[name]
    low, high = ((alpha - 1.0) * logits).max() - 1.0, ((alpha - 1.0) * logits).max()
    for _ in range(200):  # the threshold at which the row sums to one
        middle = (low + high) / 2.0
        total = (np.maximum((alpha - 1.0) * logits - middle, 0.0)**(1.0 / (alpha - 1.0))).sum()
        low, high = (middle, high) if total >= 1.0 else (low, middle)
    return np.maximum((alpha - 1.0) * logits - low, 0.0)**(1.0 / (alpha - 1.0))


def read(energies, values, query_places, source_places, causal=False, normaliser='softmax', sink=0.0, allowed=None):
    """What attention reads [B, T, D], and its weights [B, T, S].

    Energies [B, T, S], values [B, S, D]; `allowed`: (b, t, s) -> whether a readable position is also in the window.
    """
    B, T, S = energies.shape
    weights, context = np.zeros((B, T, S)), np.zeros((B, T, values.shape[-1]))
    for b in range(B):
        for t in range(T):
            chosen = [s for s in may_read(query_places, source_places, b, t, causal)
                      if allowed is None or allowed(b, t, s)]
            if chosen:
                weights[b, t, chosen] = normalise(normaliser, energies[b, t, chosen], sink)
                context[b, t] = weights[b, t, chosen] @ values[b, chosen]
    return context, weights
