"""Which of the samples of a sentence is most like all of them: the choice of minimum Bayes risk. No jax."""

import collections
from collections.abc import Callable, Sequence

import numpy as np
from sacrebleu.metrics import CHRF

Utility = Callable[[Sequence[str], str], Sequence[float]]  # (hypotheses, reference) -> how good each of them is


def chrf_utility(hypotheses: Sequence[str], reference: str) -> list[float]:
    """chrF of each hypothesis, 0 to 100, sacrebleu's for one sentence: the n-grams of the reference are counted once.

    Source: Popović 2015, chrF: character n-gram F-score for automatic MT evaluation. Differs: none, it is sacrebleu's:
    beta = 2, up to 6 characters, spaces left out.
    """
    metric = CHRF(references=[[reference]])
    return [metric.corpus_score([hypothesis], None).score for hypothesis in hypotheses]


def choose(texts: Sequence[str], utility: Utility = chrf_utility) -> int:
    """The sample with the highest mean utility, where every sample, itself too, is taken for the reference.

    i = argmax_i sum_j utility(texts[i], texts[j]) / n;  of equally good ones the first

    Equal texts are compared once and count as often as they were drawn. The cost grows with the square of the number
    of different texts.

    Args:
      texts: n samples of one sentence, drawn from the model as it is: what is left out or made more probable shifts
        the mean.
      utility: how good some hypotheses are if the reference is the right output.

    Returns:
      The index of the chosen one.

    Raises:
      ValueError: there is no text.

    Source: Eikema and Aziz 2020, arXiv:2005.10283; 2022, arXiv:2108.04718, where it is MBR N-by-N. Differs: none.
    """
    if not texts:
        raise ValueError('No text to choose from.')
    counts = collections.Counter(texts)  # in the order in which they were first drawn
    different = list(counts)
    totals = sum(count * np.array(utility(different, reference)) for reference, count in counts.items())
    return texts.index(different[int(np.argmax(totals))])
