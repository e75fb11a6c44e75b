"""The position-wise network of a Transformer layer."""

from typing import Any

import flax.linen as nn

from research.layers.dropout import dropout
from research.shapes import Array


class FeedForward(nn.Module):
    """Two layers at every position: `relu(x W1 + b1) W2 + b2`, dropout after the relu.

    Source: Vaswani et al. 2017, section 3.3. Differs: none (dropout inside as in the authors' tensor2tensor).

    Attributes:
      features: D.
      hidden: F.
      dropout: rate.
      dtype: what is computed in.
    """

    features: int
    hidden: int
    dropout: float = 0.0
    dtype: Any = None

    def setup(self):
        self.inner = nn.Dense(self.hidden, dtype=self.dtype)
        self.outer = nn.Dense(self.features, dtype=self.dtype)

    def __call__(self, inputs: Array, rng: Array | None = None) -> Array:
        """Inputs [B, S, D] -> [B, S, D]."""
        return self.outer(dropout(nn.relu(self.inner(inputs)), self.dropout, rng))

    @nn.nowrap
    def flops(self) -> float:
        """Forward FLOPs a position."""
        return 4.0 * self.features * self.hidden
