"""What a model says where it is given the right inputs, pair by pair and position by position, and what it adds up to.

    found = positions(jax.jit(position_step(model)), params, plan)     # research/training/step.py
    scores(found)                                                      # of all that is asked for
    scores(found, np.arange(T) < sizes[:, None])                       # of chosen positions: here without the ends
    by_length(found, sizes, (1, 17, 18, 19))                           # of pairs whose length is in each bucket

Everything is a sum over asked and chosen (n, t), so what is chosen decides what an accuracy or a perplexity is of: the
end symbol of a target is a position as any other.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError
from research.evaluation import accuracy, lengths
from research.shapes import Array, Batch


class Positions(NamedTuple):
    """What was said of N pairs at T target positions, in the order of the pairs.

    Sums over the last axis are of pairs, over the first of positions.
    """

    asked: np.ndarray   # bool [N, T]: whether there is a target
    right: np.ndarray   # bool [N, T]: whether it had the highest score; False where nothing is asked
    losses: np.ndarray  # float32 [N, T]: its cross-entropy in nats; 0 where nothing is asked


def positions(measure: Callable[[Any, Batch], tuple[Array, Array, Array]], params: Any, plan: Any) -> Positions:
    """Measures all batches of a plan and puts their rows into the order of its pairs.

    Args:
      measure: of `training.step.position_step`, compiled: (params, batch) -> asked, right and losses, [B, T] each. The
        shapes of the plan are all that it sees.
      params: its parameters.
      plan: batches.BatchPlan without a seed; each of its pairs once.

    Returns:
      Rows in the order of the pairs; T is that of the widest batch.

    Raises:
      ValueError: the plan has a seed, several pairs in a row, or dropped a pair: there would be none to say of it.
    """
    if plan.seed is not None or len(plan.dropped):
        raise ValueError(f'A plan to measure has no seed and drops no pair; this one has seed {plan.seed} and drops '
                         f'{len(plan.dropped)}.')
    numbers = [plan.ids(k) for k in range(len(plan))]
    if numbers[0].ndim != 1:
        raise ValueError('A plan to measure has one pair in a row; this one is packed.')
    said = [measure(params, plan[k]) for k in range(len(plan))]
    T, numbers = max(T for _, _, T in plan.shapes), np.concatenate(numbers)
    rows = np.argsort(numbers)[(numbers < 0).sum():]  # -1 is where a row has no pair
    return Positions(*(_stacked(parts, T)[rows] for parts in zip(*said, strict=True)))


def scores(found: Positions, chosen: np.ndarray | None = None) -> dict[str, float]:
    """Accuracy, loss and perplexity of the targets that are asked for and chosen.

    tokens = number of them;  accuracy = right / tokens;  loss = sum of losses / tokens;  perplexity = exp(loss)

    Args:
      found: of `positions`.
      chosen: boolean, to be broadcast to [N, T]; None = all.

    Returns:
      tokens, accuracy, loss (in nats), perplexity.

    Raises:
      UserError: nothing that is asked for is chosen.
    """
    sums = _counted(found, chosen).sum(axis=(1, 2))
    if not sums[0]:
        raise UserError(f'of {int(found.asked.sum())} positions that are asked for none is chosen: there is nothing to '
                        'divide by')
    return _scores(*sums)


def by_length(found: Positions, sizes: Sequence[int], edges: Sequence[int],
              chosen: np.ndarray | None = None) -> list[dict]:
    """The same for the pairs in each bucket of lengths: of sources, of targets, or of whatever is measured.

    Args:
      found: of `positions`.
      sizes: int [N]: the length of each pair.
      edges: as in `lengths.by_length`.
      chosen: as in `scores`.

    Returns:
      One record a bucket: low and high (both inclusive), count of pairs, tokens, and accuracy, loss and perplexity,
      which are None where there is no token.

    Raises:
      ValueError, UserError: as `lengths.by_length`.
    """
    buckets = zip(*(lengths.by_length(sizes, of_pairs, edges) for of_pairs in _counted(found, chosen).sum(axis=2)),
                  strict=True)
    return [{key: parts[0][key] for key in ('low', 'high', 'count')} | _scores(*(part['sum'] for part in parts))
            for parts in buckets]


def by_position(found: Positions, chosen: np.ndarray | None = None) -> list[dict]:
    """The same for each target position t = 0 ... T - 1: one record each, with `position`."""
    return [{'position': t} | _scores(*sums) for t, sums in enumerate(_counted(found, chosen).sum(axis=1).T)]


def _counted(found, chosen):
    """Tokens, right ones and losses of what is asked for and chosen: float64 [3, N, T]."""
    counted = found.asked if chosen is None else found.asked & chosen
    return np.stack([counted, found.right & counted, np.where(counted, found.losses, 0.0)]).astype(np.float64)


def _scores(tokens, right, loss):
    if not tokens:
        return {'tokens': 0, 'accuracy': None, 'loss': None, 'perplexity': None}
    mean = float(loss / tokens)
    return {'tokens': int(tokens), 'accuracy': float(right / tokens), 'loss': mean,
            'perplexity': accuracy.perplexity(mean)}


def _stacked(parts, T):
    """Arrays [B, t] of several widths one below the other: [sum of B, T], with nothing on the right."""
    arrays = [np.asarray(part) for part in parts]
    return np.concatenate([np.pad(array, ((0, 0), (0, T - array.shape[1]))) for array in arrays])
