"""Several heads whose energies come from a small network each."""

import flax.linen as nn
import jax.numpy as jnp

from research.attention import normalisers
from research.attention.additive import in_blocks
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.masks import readable
from research.attention.multi_head import check_heads, width
from research.attention.normalisers import Normaliser
from research.errors import UserError
from research.shapes import Array, Places


def multi_head_additive_energies(query: Array, keys: Array, vectors: Array) -> Array:
    """Additive energies of all heads: `e[n, t, s] = vectors[n] . tanh(query[t, n] + keys[s, n])`, in blocks of queries.

    Args:
      query: [B, T, N, A / N], projected.
      keys: [B, S, N, A / N], projected.
      vectors: [N, A / N].

    Returns:
      [B, N, T, S], in float32 or better.

    Source: Chen et al. 2018, arXiv:1804.09849, section 4.1. Differs: none.
    """
    dtype = jnp.promote_types(jnp.result_type(query, keys), jnp.float32)

    def energies(query):
        return jnp.einsum('btsna,na->bnts', jnp.tanh(query[:, :, None] + keys[:, None]), vectors,
                          preferred_element_type=dtype)
    return in_blocks(energies, query)


class MultiHeadAdditive(Attention, kw_only=True):
    """N heads with additive energies over the values of multi_head_dot, from which only the energy differs.

        e[n, t, s] = v_n . tanh(q[t] W_n + h[s] U_n);  W [D_q, N, A / N], U [D_s, N, A / N], v [N, A / N]
        read[t, n] = sum_s softmax(e)[n, t, s] h[s] W_V[n];   context[t] = read[t] W_O, W_V [D_s, N, H], W_O [N, H, D]

    Source: Chen et al. 2018, arXiv:1804.09849, section 4.1: the attention of RNMT+. Differs: values are projected
    (in its authors' code a head reads its own part of h).

    Attributes:
      heads: N, at least 1.
      head_width: H of the values; 0 means D / N, which must then be a whole number.
      energy_width: A of all heads together, a multiple of N.
      projection_bias: whether the four projections add a bias. Then a query that may read nothing gets that of W_O.
      normaliser: what makes weights of energies: one of attention/normalisers.py.
    """

    heads: int
    head_width: int
    energy_width: int
    projection_bias: bool
    normaliser: str

    def __post_init__(self):
        check_heads(self)
        normalisers.check(self.normaliser)
        if self.energy_width < 1 or self.energy_width % self.heads:
            raise UserError(f'energy_width is {self.energy_width}; it must be a multiple of heads = {self.heads}')
        super().__post_init__()

    def setup(self):
        N, H, A = self.heads, width(self), self.energy_width
        kind = {'use_bias': self.projection_bias, 'dtype': self.dtype}
        self.query_projection = nn.DenseGeneral((N, A // N), **kind)
        self.key_projection = nn.DenseGeneral((N, A // N), **kind)
        self.value_projection = nn.DenseGeneral((N, H), **kind)
        self.output_projection = nn.DenseGeneral(self.features, axis=(-2, -1), **kind)
        self.vector = self.param('vector', nn.initializers.normal((A // N)**-0.5), (N, A // N))
        self.normalise = Normaliser(self.normaliser, N)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return Memory(self.key_projection(source), self.value_projection(source), places)

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D], weights [B, N, T, S]."""
        query = self.query_projection(query)
        energies = multi_head_additive_energies(query, memory.keys, self.vector.astype(query.dtype))
        weights = self.normalise(energies, readable(places, memory.places)[:, None])
        read = jnp.einsum('bnts,bsnh->btnh', weights.astype(memory.values.dtype), memory.values)
        return Read(self.output_projection(read), weights, carry)

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The projections, one addition and one product an energy and unit, and the weighted sums."""
        N, H, A = self.heads, width(self), self.energy_width
        return (2.0 * A * (entries * source_width + queries * query_width) + 3.0 * A * queries * entries
                + 2.0 * N * H * (entries * source_width + queries * (entries + self.features)))
