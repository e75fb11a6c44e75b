"""The normalisers that a config can name: what turns logits into weights, one line each."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from research.attention import normalise
from research.errors import UserError, nearest
from research.shapes import Array


class Entry(NamedTuple):
    """What is known of a normaliser."""

    name: str
    function: Callable[..., Array]  # (logits, mask) -> weights, and a sink where `sink` says so
    rows: str                       # what weights sum to: 'one', 'at most one' or 'free'
    summary: str
    sink: str = 'none'              # 'none', 'zero' or 'learned': one more logit that stands for reading nothing


NORMALISERS = {entry.name: entry for entry in (
    Entry('softmax', normalise.softmax, 'one', 'exp(l) over its sum'),
    Entry('learned_sink', normalise.softmax_with_sink, 'at most one', 'a learned logit a head takes what is not read',
          sink='learned'),
    Entry('softmax_one', normalise.softmax_with_sink, 'at most one', 'one more logit, 0', sink='zero'),
    Entry('sigmoid', normalise.sigmoid, 'free', 'each weight by itself, sigmoid(l - log n)'),
    Entry('sparsemax', normalise.sparsemax, 'one', 'projection to the simplex: most weights are zero'),
    Entry('entmax', normalise.entmax, 'one', 'alpha = 1.5, half-way from softmax to sparsemax'),
)}


def check(name: str, path: str = 'explicit') -> None:
    """Raises UserError when there is no such normaliser, or a path that knows the softmax alone is to take it."""
    if name not in NORMALISERS:
        raise UserError(f'normaliser is {name!r}; it must be one of {", ".join(NORMALISERS)}.'
                        f'{nearest(name, NORMALISERS)}')
    if path != 'explicit' and name != 'softmax':
        raise UserError(f"normaliser {name!r} needs path 'explicit', not {path!r}")


class Normaliser(nn.Module):
    """One of NORMALISERS with what it learns: logits [B, N, T, S] and a mask -> weights [B, N, T, S].

    Attributes:
      name_of: a key of NORMALISERS.
      heads: N.
    """

    name_of: str
    heads: int

    def setup(self):
        if NORMALISERS[self.name_of].sink == 'learned':
            self.sink = self.param('sink', nn.initializers.zeros, (self.heads,))

    def __call__(self, logits: Array, mask: Array) -> Array:
        """Logits [B, N, T, S], mask broadcast against them -> weights, zero where the mask is False."""
        entry = NORMALISERS[self.name_of]
        if entry.sink == 'none':
            return entry.function(logits, mask)
        return entry.function(logits, mask, self.logit())

    def logit(self) -> Array:
        """The logit of reading nothing, [N, 1, 1]; only where the normaliser has one."""
        if NORMALISERS[self.name_of].sink == 'zero':
            return jnp.zeros((self.heads, 1, 1))
        return self.sink[:, None, None]
