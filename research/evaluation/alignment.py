"""Which source symbol each target symbol reads, and how far that is from an alignment that is known.

A link is a pair (source index, target index), counted from 0, of symbols without the end symbol. The caller cuts the
target row that writes the end symbol (no gold link speaks of it) and keeps the source column of the end symbol: a
word that reads the end of the source has read the wrong place, and its link must count as an error.
"""

from collections.abc import Collection, Sequence

import numpy as np

from research.errors import UserError

Links = Collection[tuple[int, int]]


def links(weights: np.ndarray) -> set[tuple[int, int]]:
    """The source position that each target position reads most.

    A = {(argmax_s weights[t, s], t) for every t that reads anything};  of equal weights the first s.

    Args:
      weights: [T, S] of one sentence without padding; several heads are averaged by the caller.

    Returns:
      At most T links (s, t); a row of zeros has none.

    Raises:
      ValueError: the weights are not [T, S], or not finite.
    """
    weights = np.asarray(weights)
    if weights.ndim != 2 or not np.isfinite(weights).all():
        raise ValueError(f'Weights must be finite and [T, S], of one sentence and head: shape {weights.shape}.')
    if not weights.size:
        return set()
    return {(int(s), t) for t, s in enumerate(weights.argmax(axis=1)) if weights[t].any()}


def word_links(found: Links, source: Sequence[int], target: Sequence[int]) -> set[tuple[int, int]]:
    """Links of words from links of their pieces: two words are linked where any piece of one reads any of the other.

    {(source[s], target[t]) for (s, t) in found}

    Args:
      found: links of symbols.
      source: the word of each source symbol, the end symbol's one that is not there: what reads it is an error still.
      target: the word of each target symbol.

    Source: Jalili Sabet et al. 2020, arXiv:2004.08728 (two words are aligned if any of their subwords are). Differs:
    none.
    """
    return {(int(source[s]), int(target[t])) for s, t in found}


def error_rate(found: Sequence[Links], sure: Sequence[Links], possible: Sequence[Links] | None = None) -> float:
    """Alignment error rate: the share of links that are wrong or missing, over the whole corpus.

    rate = 1 - (#(A and S) + #(A and P)) / (#A + #S), each count summed over all sentences;  P holds all of S.

    Args:
      found: A, the links of each sentence.
      sure: S, links that must be there.
      possible: P, links that may be there; None means that P = S.

    Returns:
      The rate, 0 is best.

    Raises:
      ValueError: the three differ in their number of sentences.
      UserError: a sure link is not a possible one, or there is no link at all.

    Source: Och and Ney 2003, A Systematic Comparison of Various Statistical Alignment Models, section 5.1.
    Differs: none.
    """
    if possible is None:
        possible = sure
    if not len(found) == len(sure) == len(possible):
        raise ValueError(f'{len(found)} sentences found, {len(sure)} sure, {len(possible)} possible.')
    hits = total = 0
    for n, (A, S, P) in enumerate(zip(map(set, found), map(set, sure), map(set, possible))):
        if not S <= P:
            raise UserError(f'Sentence {n}: sure link {min(S - P)} is not among the possible ones; they hold all sure.')
        hits += len(A & S) + len(A & P)
        total += len(A) + len(S)
    if not total:
        raise UserError(f'No link found and none sure in {len(found)} sentences: nothing to compare.')
    return 1 - hits / total


def best_shift(found: Sequence[Links], gold: Sequence[Links],
               shifts: Sequence[int] = (-2, -1, 0, 1, 2)) -> tuple[int, float]:
    """The constant shift that explains the links best: some seeds read the neighbour and use what its state knows.

    rate(d) = error_rate of the gold links (s + d, t);  the smallest wins, of equal ones the smallest abs(d), then d.

    A recurrent annotation also knows its neighbours, so reading always one to the right (d = 1) can be as good a
    solution as reading the symbol itself. Gold links that a shift moves off the source stay in the count: they cannot
    be found, as they could not be read.

    Args:
      found: the links of each sentence.
      gold: the known links of each sentence.
      shifts: what to try.

    Returns:
      (d, rate with it).

    Raises:
      ValueError: no shift to try, or different numbers of sentences.
      UserError: there is no link at all.
    """
    if not shifts:
        raise ValueError('No shift to try.')
    rates = {d: error_rate(found, [{(s + d, t) for s, t in pairs} for pairs in gold]) for d in shifts}
    best = min(rates, key=lambda d: (rates[d], abs(d), d))
    return best, rates[best]
