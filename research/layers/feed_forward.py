"""The position-wise network of a Transformer layer."""

import functools
from typing import Any

import flax.linen as nn

from research.errors import UserError
from research.layers.dropout import dropout
from research.shapes import Array

FUNCTIONS = {'relu': nn.relu, 'gelu': functools.partial(nn.gelu, approximate=False),
             'gelu_tanh': functools.partial(nn.gelu, approximate=True), 'swish': nn.swish}
GATED = {'reglu': 'relu', 'geglu': 'gelu', 'swiglu': 'swish'}
ACTIVATIONS = (*FUNCTIONS, *GATED)


class FeedForward(nn.Module):
    """Two layers at every position, dropout between them.

        relu, gelu, gelu_tanh, swish:   f(x W1 + b1) W2 + b2
        reglu, geglu, swiglu:           (f(x W1 + b1) * (x W3 + b3)) W2 + b2,  f = relu, gelu, swish

    gelu is x times the normal distribution function, gelu_tanh its approximation by tanh, swish x sigmoid(x), which is
    also called silu.

    Source: relu: Vaswani et al. 2017, section 3.3; gelu: Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2; swish:
    Ramachandran et al. 2017, arXiv:1710.05941; gated: Shazeer 2020, arXiv:2002.05202, section 2. Differs: dropout
    inside as in the authors' tensor2tensor; the gated ones have biases, and F is not made smaller for their third
    matrix.

    Attributes:
      features: D.
      hidden: F.
      dropout: rate.
      dtype: what is computed in.
      activation: one of ACTIVATIONS.
    """

    features: int
    hidden: int
    dropout: float = 0.0
    dtype: Any = None
    activation: str = 'relu'

    def setup(self):
        if self.activation not in ACTIVATIONS:
            raise UserError(f'activation is {self.activation!r}; it must be one of {", ".join(ACTIVATIONS)}')
        self.inner = nn.Dense(self.hidden, dtype=self.dtype)
        self.gate = nn.Dense(self.hidden, dtype=self.dtype) if self.activation in GATED else None
        self.outer = nn.Dense(self.features, dtype=self.dtype)

    def __call__(self, inputs: Array, rng: Array | None = None) -> Array:
        """Inputs [B, S, D] -> [B, S, D]."""
        hidden = FUNCTIONS[GATED.get(self.activation, self.activation)](self.inner(inputs))
        if self.gate is not None:
            hidden = hidden * self.gate(inputs)
        return self.outer(dropout(hidden, self.dropout, rng))

    @nn.nowrap
    def flops(self) -> float:
        """Forward FLOPs a position."""
        return (6.0 if self.activation in GATED else 4.0) * self.features * self.hidden
