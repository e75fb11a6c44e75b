"""Symbols to vectors and, when tied, vectors back to scores of symbols."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from research.errors import UserError
from research.shapes import Array


def scores(hidden: Array, kernel: Array) -> Array:
    """`hidden @ kernel`: [..., D], [D, V] -> [..., V], multiplied in the type of `hidden`, summed in float32 or better.

    Sums in bfloat16 would give one score in two a twin, and a search could not tell them apart.
    """
    dtype = jnp.promote_types(hidden.dtype, jnp.float32)
    return jnp.einsum('...d,dv->...v', hidden, kernel.astype(hidden.dtype), preferred_element_type=dtype)


class Embedding(nn.Module):
    """A table with one row for each symbol: `E[token] * sqrt(D)`, and `hidden @ E.T` where it also writes.

    The rows start with variance 1/D, so the vectors that enter a model have variance 1 and the scores that leave a tied
    one stay small. The factor is the same for recurrent and Transformer models, so that no comparison depends on it;
    models that were trained elsewhere may not have it (`scaled`), and the rows start the same then.

    Source: Vaswani et al. 2017, section 3.4; tying: Press and Wolf 2017, arXiv:1608.05859. Differs: none.

    Attributes:
      size: V, the number of symbols.
      features: D.
      dtype: what is computed in; None means the type of the table.
      scaled: whether vectors are multiplied by sqrt(D).
    """

    size: int
    features: int
    dtype: Any = None
    scaled: bool = True

    def setup(self):
        self.table = self.param('table', nn.initializers.normal(self.features**-0.5), (self.size, self.features))

    def __call__(self, tokens: Array) -> Array:
        """Tokens int32 [B, S] -> [B, S, D]."""
        vectors = jnp.take(self.table, tokens, axis=0)
        if self.scaled:
            vectors = vectors * math.sqrt(self.features)
        return vectors if self.dtype is None else vectors.astype(self.dtype)

    def logits(self, hidden: Array) -> Array:
        """Hidden [..., D] -> scores [..., V], in float32 or better."""
        return scores(hidden, self.table.T)


def shared_or_own(shared: Embedding | None, size: int, features: int, dtype: Any, scaled: bool = True) -> Embedding:
    """The embedding that a part was given, or a new one of its own.

    Args:
      shared: what several parts were given, or None.
      size: V of this part.
      features: width of its embeddings.
      dtype: of a new one.
      scaled: whether this part's vectors are multiplied by the root of the width.

    Raises:
      UserError: what is shared has another size or width, or one of the two is scaled.
    """
    if shared is None:
        return Embedding(size, features, dtype, scaled)
    if shared.scaled != scaled:
        raise UserError(f'a shared embedding with scaled = {shared.scaled}, in a part with scaled = {scaled}: to share '
                        'one, encoder and decoder must both multiply its vectors by the root of the width, or neither')
    if (shared.size, shared.features) != (size, features):
        raise UserError(f'a shared embedding of {shared.size} symbols and width {shared.features}, in a part of {size} '
                        f'symbols and width {features}: to share one, encoder and decoder must have one vocabulary and '
                        'embeddings of one width')
    return shared


class Projection(nn.Module):
    """Scores of symbols from a table of their own: `hidden @ W`, no bias.

    Attributes:
      size: V, the number of symbols.
    """

    size: int

    @nn.compact
    def __call__(self, hidden: Array) -> Array:
        """Hidden [..., D] -> scores [..., V], in float32 or better."""
        kernel = self.param('kernel', nn.initializers.lecun_normal(), (hidden.shape[-1], self.size))
        return scores(hidden, kernel)
