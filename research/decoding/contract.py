"""What every search returns, and what every search counts by. A search sees a model through its five functions only."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.errors import UserError
from research.models.contract import Carry, EncoderDecoder, Memory, Params, step
from research.shapes import Array, Places
from research.text.vocabulary import BEGIN, PAD


class Hypotheses(NamedTuple):
    """What a search found for each sentence: W outputs, best first; greedy search finds W = 1.

        tokens    a   dog  </s> <pad>       finished      3 symbols, the end among them
                  a   big  red  dog         unfinished    its limit of symbols was not enough

    A hypothesis that ends stands before every one that does not. Where there are fewer than W, the rest has score -inf,
    length 0 and is not finished. A sentence without any source has one hypothesis: no symbol, score 0, finished.
    """

    tokens: Array           # int32 [B, W, T]: the end symbol included, PAD after it; T = the most that may be written
    lengths: Array          # int32 [B, W]: symbols written, the end symbol included
    scores: Array           # float32 [B, W]: sum of the log-probabilities of these symbols
    penalised: Array        # float32 [B, W]: what they are ranked by
    finished: Array         # bool [B, W]: the end symbol was written
    weights: Array | None   # [B, W, N, T, S]: what each symbol read, 0 after the last; None where not asked for


def log_probabilities(scores: Array) -> Array:
    """What each next symbol would add to a score: scores [..., V] -> float32 [..., V].

    log softmax(scores) over all V symbols, as in training; then -inf for PAD and BEGIN, which are never written. The
    unknown symbol is one like any other.
    """
    result = jax.nn.log_softmax(scores.astype(jnp.float32), axis=-1)
    return result.at[..., jnp.array([PAD, BEGIN])].set(-jnp.inf)


def penalise(scores: Array, lengths: Array | int, penalty: float) -> Array:
    """Makes scores of hypotheses of different lengths comparable.

    score / ((5 + length) / 6) ** penalty;  penalty = 0 leaves the sum of log-probabilities.

    Args:
      scores: [...].
      lengths: [...] or one number for all; the end symbol counts.
      penalty: alpha; the larger, the longer the outputs.

    Source: Wu et al. 2016, arXiv:1609.08144, equation 14. Differs: no coverage penalty.
    """
    return scores / ((5.0 + jnp.asarray(lengths, scores.dtype)) / 6.0) ** penalty


def readable(places: Places) -> Array:
    """Which sentences have any source: places [B, S] -> bool [B]."""
    return jnp.any(places.segment > 0, axis=1)


def shape_of_weights(model: EncoderDecoder, params: Params, memory: Memory, carry: Carry,
                     token: Array) -> jax.ShapeDtypeStruct:
    """Shape [B, N, S] and type of the weights that `step` returns.

    Raises:
      UserError: it returns none.
    """
    def weights(params, memory, carry, token):
        return step(model, params, memory, carry, token)[1]
    shape = jax.eval_shape(weights, params, memory, carry, token)
    if shape is None:
        raise UserError("the model returns no weights: its reader has none, or its path is not 'explicit'")
    return shape


def require_positive(name: str, value: int) -> None:
    """Refuses a count that is not a positive integer.

    Raises:
      UserError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f'decoding: {name} is {value!r}; it must be a positive integer')
