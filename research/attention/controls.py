"""The controls that every study starts with: read nothing, read one fixed vector, read everything alike."""

import flax.linen as nn
import jax.numpy as jnp

from research.attention import single_head
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.masks import readable
from research.attention.normalise import softmax
from research.shapes import Array, Places


class NoAttention(Attention):
    """Nothing is read: the context has width 0, so that no parameter of a decoder is spent on it.

    Source: Sutskever, Vinyals, Le 2014, arXiv:1409.3215: all that the decoder knows of the source is its start.
    Differs: none.
    """

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> tuple[()]:
        return ()

    def start(self, memory: tuple[()], length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: tuple[()], carry: Carry, places: Places,
                 rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, 0], no weights."""
        return Read(jnp.zeros((*query.shape[:2], 0), self.dtype or query.dtype), None, ())

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """None at all."""
        return 0.0


class FixedContext(Attention):
    """The same vector at each target position: `c[t] = tanh(W summary)`, W [D_s, D].

    `source` holds one entry for each sentence, the encoder's summary: [B, 1, D_s]. A query whose segment has no such
    entry gets zeros.

    Source: Cho et al. 2014, arXiv:1406.1078, section 2.2 and appendix A.1 (c = tanh(V h)). Differs: none.
    """

    def setup(self):
        self.projection = nn.Dense(self.features, use_bias=False, dtype=self.dtype)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        context = jnp.tanh(self.projection(source))
        return Memory(context[..., :0], context, places)  # no key: nothing is compared

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D], no weights."""
        mask = readable(places, memory.places).astype(memory.values.dtype)
        return Read(jnp.einsum('bts,bsd->btd', mask, memory.values), None, ())

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The projection, and handing it to each query."""
        return 2.0 * entries * self.features * (source_width + queries)


class Mean(Attention):
    """The mean of all annotations that may be read: `c[t] = sum_s h[s] / S`, the same for each t.

    Attention whose energies are all equal: it gives access to the source without any choice.
    """

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        values = source.astype(self.dtype or source.dtype)
        return Memory(values[..., :0], values, places)  # no key: nothing is compared

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D_s], weights [B, 1, T, S]."""
        equal = jnp.zeros((*query.shape[:2], memory.values.shape[1]), memory.values.dtype)
        return single_head.read(equal, memory, places, softmax)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The weighted sum."""
        return 2.0 * queries * entries * source_width
