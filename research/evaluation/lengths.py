"""A score by length: where a model that squeezes its source into one vector begins to forget."""

from collections.abc import Sequence

import numpy as np

from research.errors import UserError


def by_length(lengths: Sequence[int], values: Sequence[float], edges: Sequence[int]) -> list[dict]:
    """The mean of a value in each bucket of lengths.

    bucket i holds the n with edges[i] <= lengths[n] < edges[i + 1];  edges (2, 4, 7) are the buckets 2-3 and 4-6.

    Args:
      lengths: int [n], for example of the sources in symbols.
      values: [n] numbers or booleans.
      edges: strictly rising; one more than there are buckets.

    Returns:
      One record a bucket: low and high (both inclusive), count, sum of the values, mean (None in an empty bucket).

    Raises:
      ValueError: lengths and values differ in number.
      UserError: the edges do not rise, or a length lies outside of them.
    """
    lengths, values, edges = np.asarray(lengths), np.asarray(values, np.float64), np.asarray(edges)
    if lengths.shape != values.shape or lengths.ndim != 1:
        raise ValueError(f'One value a length is needed: lengths {lengths.shape}, values {values.shape}.')
    if edges.ndim != 1 or len(edges) < 2 or (np.diff(edges) <= 0).any():
        raise UserError(f'Length edges must be at least two strictly rising numbers: {edges.tolist()}.')
    outside = (lengths < edges[0]) | (lengths >= edges[-1])
    if outside.any():
        raise UserError(f'{outside.sum()} of {len(lengths)} lengths lie outside of the buckets {edges[0]} to '
                        f'{edges[-1] - 1}, the first is {lengths[outside][0]}: move the outer edges.')
    records = []
    for low, after in zip(edges[:-1].tolist(), edges[1:].tolist()):
        chosen = values[(lengths >= low) & (lengths < after)]
        records.append({'low': low, 'high': after - 1, 'count': len(chosen), 'sum': float(chosen.sum()),
                        'mean': float(chosen.mean()) if len(chosen) else None})
    return records
