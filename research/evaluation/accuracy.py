"""How much of what was written is right: whole outputs, and symbol by symbol; and how sure of it a model was.

An output is one line of text. An answer is a tuple of lines, all of them right: a word may have several pronunciations.
"""

from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from research.errors import UserError

UNITS = ('characters', 'words')


def exact_match(outputs: Sequence[str], answers: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Which outputs are, character for character, one of their right answers.

    right[n] = outputs[n] in answers[n];  the accuracy is the mean of it.

    Args:
      outputs: n lines.
      answers: n tuples of right lines, each with at least one.

    Returns:
      bool [n].

    Raises:
      ValueError: outputs and answers differ in number.
      UserError: an output has no right answer.
    """
    _check(outputs, answers)
    return np.array([output in lines for output, lines in zip(outputs, answers)], dtype=bool)


def edits(outputs: Sequence[str], answers: Sequence[tuple[str, ...]], unit: str = 'words') -> tuple[
        np.ndarray, np.ndarray]:
    """How many symbols must be inserted, deleted or replaced to reach the nearest right answer, and how long that is.

    edits[n] = min over answers a of Levenshtein(outputs[n], a);  of several nearest answers the first one counts.

    Args:
      outputs: n lines.
      answers: n tuples of right lines, each with at least one.
      unit: what a symbol is: 'words' (separated by spaces) or 'characters'.

    Returns:
      int64 [n] edits and int64 [n] symbols of the nearest answer.

    Raises:
      ValueError: outputs and answers differ in number.
      UserError: an output has no right answer, or the unit is unknown.
    """
    _check(outputs, answers)
    if unit not in UNITS:
        raise UserError(f'Unknown unit {unit!r} of symbols. Known: {", ".join(UNITS)}.')
    nearest = np.zeros([2, len(outputs)], np.int64)
    for n, (output, lines) in enumerate(zip(outputs, answers)):
        written = _symbols(output, unit)
        right = [_symbols(line, unit) for line in lines]
        nearest[:, n] = min(((Levenshtein.distance(written, line), len(line)) for line in right), key=lambda a: a[0])
    return nearest[0], nearest[1]


def token_error_rate(outputs: Sequence[str], answers: Sequence[tuple[str, ...]], unit: str = 'words') -> float:
    """Edits needed for each symbol of the right answers, over the whole corpus; more than 1 is possible.

    rate = sum of edits / sum of symbols of the nearest answers;  words or phones: known as word or phone error rate.

    Args:
      outputs: n lines.
      answers: n tuples of right lines, each with at least one.
      unit: what a symbol is: 'words' (separated by spaces) or 'characters'.

    Returns:
      The rate, not in percent.

    Raises:
      ValueError: outputs and answers differ in number.
      UserError: an output has no right answer, the unit is unknown, or no answer has any symbol.
    """
    wrong, symbols = edits(outputs, answers, unit)
    if not symbols.sum():
        raise UserError(f'No symbol in any of the {len(symbols)} answers: there is nothing to divide the edits by.')
    return float(wrong.sum() / symbols.sum())


def counted(unit: str) -> str:
    """What errors in outputs are counted in: characters where a vocabulary has letters or bytes, otherwise words."""
    return 'characters' if unit in ('characters', 'bytes') else 'words'


def perplexity(loss: float) -> float:
    """Among how many equally likely symbols a model of this loss might as well choose: `exp(loss)`.

    Args:
      loss: mean cross-entropy in nats. A perplexity means something together with what the mean is over: characters or
        words, and which of them a vocabulary leaves out.

    Returns:
      At least 1 for a loss of at least 0; infinity where a float holds no more.
    """
    with np.errstate(over='ignore'):
        return float(np.exp(np.float64(loss)))


def _check(outputs, answers):
    if len(outputs) != len(answers):
        raise ValueError(f'{len(outputs)} outputs, but {len(answers)} answers.')
    for n, lines in enumerate(answers):
        if isinstance(lines, str):  # a string is a sequence of right one-letter lines: never what was meant
            raise ValueError(f'Answers are tuples of lines, but answer {n} is the string {lines!r}.')
        if not lines:
            raise UserError(f'Output {n} ({outputs[n]!r}) has no right answer to compare with.')


def _symbols(line, unit):
    return list(line) if unit == 'characters' else [word for word in line.split(' ') if word]
