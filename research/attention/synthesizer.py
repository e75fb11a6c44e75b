"""Controls of a mixer: weights that compare nothing, from the query alone or from the places alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.attention import cache, normalisers
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.masks import readable
from research.attention.multi_head import check_heads, width
from research.attention.normalisers import Normaliser
from research.errors import UserError, at_least
from research.shapes import Array, Places


def _check(attention):
    check_heads(attention)
    normalisers.check(attention.normaliser)
    at_least(1, maximum_length=attention.maximum_length)


def _check_length(attention, length):
    if length > attention.maximum_length:
        raise UserError(f'a sequence of {length} positions, but maximum_length is {attention.maximum_length}: raise '
                        'maximum_length')


def _read(attention, logits, memory, carry, places):
    mask = readable(places, memory.places, causal=attention.causal)
    weights = attention.normalise(logits, mask[:, None])
    context = jnp.einsum('bnts,bsnh->btnh', weights.astype(memory.values.dtype), memory.values)
    return Read(attention.output_projection(cache.nan_past_the_end(context, carry)), weights, carry)


class DenseSynthesizer(Attention, kw_only=True):
    """Each query says by itself which positions it reads: `logits[n, t, s] = relu(x[t] W1[n]) W2[n][:, s]`.

    Source: Tay et al. 2021, arXiv:2005.00743, section 3.1 (dense). Differs: s is a position of the segment, so packed
    sentences are what they are apart; several heads, as in the authors' code; no factorised form.

    Attributes:
      heads: N, at least 1.
      head_width: H, of the hidden layer and of the values; 0 means D / N, which must then be a whole number.
      maximum_length: of a sequence; a longer one is refused.
      normaliser: what makes weights of logits: one of attention/normalisers.py.
    """

    heads: int
    head_width: int
    maximum_length: int
    normaliser: str

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    def setup(self):
        N, H = self.heads, width(self)
        kind = {'use_bias': False, 'dtype': self.dtype}
        self.query_projection = nn.DenseGeneral((N, H), **kind)
        self.table = self.param('table', nn.initializers.normal(H**-0.5), (N, H, self.maximum_length))
        self.value_projection = nn.DenseGeneral((N, H), **kind)
        self.output_projection = nn.DenseGeneral(self.features, axis=(-2, -1), **kind)
        self.normalise = Normaliser(self.normaliser, N)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        values = self.value_projection(source)
        _check_length(self, source.shape[1])
        return Memory(values[..., :0], values, places)  # no key: nothing is compared

    def start(self, memory: Memory, length: int) -> Carry:
        _check_length(self, length)
        return cache.start(self, memory, length)

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D], weights [B, N, T, S]."""
        memory, carry = cache.readable(memory, carry)
        hidden = jax.nn.relu(self.query_projection(query))
        logits = jnp.einsum('btnh,nhs->bnts', hidden, self.table.astype(hidden.dtype),
                            preferred_element_type=jnp.promote_types(hidden.dtype, jnp.float32))
        at = jnp.broadcast_to(memory.places.position[:, None, None], (*logits.shape[:3], memory.values.shape[1]))
        return _read(self, jnp.take_along_axis(logits, at, axis=-1, mode='clip'), memory, carry, places)

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """Both layers of the logits, the values, the weighted sums and the output."""
        N, H = self.heads, width(self)
        return 2.0 * N * H * (queries * (query_width + self.maximum_length + entries + self.features)
                              + entries * source_width)


class RandomSynthesizer(Attention, kw_only=True):
    """Learned logits of places, the same for every input: `logits[n, t, s] = R[n, t, s]`.

    Source: Tay et al. 2021, arXiv:2005.00743, section 3.2 (random). Differs: as `DenseSynthesizer`; it may also read
    another sequence.

    Attributes:
      heads: N, at least 1.
      head_width: H, of the values; 0 means D / N, which must then be a whole number.
      maximum_length: of both sequences; a longer one is refused.
      normaliser: what makes weights of logits: one of attention/normalisers.py.
    """

    heads: int
    head_width: int
    maximum_length: int
    normaliser: str

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    def setup(self):
        N, H, L = self.heads, width(self), self.maximum_length
        self.table = self.param('table', nn.initializers.normal(1.0), (N, L, L))
        self.value_projection = nn.DenseGeneral((N, H), use_bias=False, dtype=self.dtype)
        self.output_projection = nn.DenseGeneral(self.features, axis=(-2, -1), use_bias=False, dtype=self.dtype)
        self.normalise = Normaliser(self.normaliser, N)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        values = self.value_projection(source)
        _check_length(self, source.shape[1])
        return Memory(values[..., :0], values, places)  # no key: nothing is compared

    def start(self, memory: Memory, length: int) -> Carry:
        _check_length(self, length)
        return cache.start(self, memory, length)

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D] -> context [B, T, D], weights [B, N, T, S]."""
        _check_length(self, query.shape[1])
        memory, carry = cache.readable(memory, carry)
        logits = self.table[:, places.position[:, :, None], memory.places.position[:, None]]
        return _read(self, jnp.moveaxis(logits, 0, 1), memory, carry, places)

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The values, the weighted sums and the output."""
        N, H = self.heads, width(self)
        return 2.0 * N * H * (queries * (entries + self.features) + entries * source_width)
