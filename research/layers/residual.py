"""How a sublayer is wrapped: normalised before it or after it, added to what came in."""

from typing import Any

import flax.linen as nn

from research.layers.dropout import dropout
from research.layers.norm import LayerNorm
from research.shapes import Array

NORMS = ('pre', 'post')


class Residual(nn.Module):
    """A residual connection with layer normalisation on one of two sides.

        pre:   y = x + dropout(f(norm(x)))        a clear path from the loss to every layer; needs a norm after the last
        post:  y = norm(x + dropout(f(x)))        the original

    Use: `after(x, f(before(x)), rng)`.

    Source: post: Vaswani et al. 2017, section 3.1; pre: Xiong et al. 2020, arXiv:2002.04745. Differs: none.

    Attributes:
      norm: 'pre' or 'post'.
      dropout: rate.
      dtype: what is computed in.
      epsilon: added to the variance.
    """

    norm: str
    dropout: float = 0.0
    dtype: Any = None
    epsilon: float = 1e-6

    def setup(self):
        self.layer_norm = LayerNorm(self.epsilon, self.dtype)

    def before(self, inputs: Array) -> Array:
        """What the sublayer reads: [B, S, D] -> [B, S, D]."""
        return self.layer_norm(inputs) if self.norm == 'pre' else inputs

    def after(self, inputs: Array, outputs: Array, rng: Array | None = None) -> Array:
        """What the next sublayer reads: the input and the sublayer's output, [B, S, D] each -> [B, S, D]."""
        total = inputs + dropout(outputs, self.dropout, rng)
        return total if self.norm == 'pre' else self.layer_norm(total)
