"""Annotations of which one half is compared and the other half is read."""

import flax.linen as nn

from research.attention import single_head
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.multiplicative import dot_energies
from research.attention.normalisers import Normaliser, check
from research.errors import UserError
from research.shapes import Array, Places


class KeyValueMemory(Attention, kw_only=True):
    """Each annotation is a key and a value, `h[s] = [k[s]; v[s]]`, so that no vector has to serve as both.

        e[t, s] = q[t] W k[s],  W [D_q, D_s / 2];    context[t] = sum_s softmax(e)[t, s] v[s]

    The context is D_s / 2 wide, and D_s even, or it raises. `remember` computes W k once.

    Source: Daniluk et al. 2017, arXiv:1702.04521 (key-value attention), where a language model reads its own last
    states. Differs: a source is read; the energy is a product, as in key-value memory networks (Miller et al. 2016,
    arXiv:1606.03126, section 3), in place of an additive one; there is no third part that predicts, since what predicts
    here is the decoder's own state.

    Attributes:
      normaliser: what makes weights of energies: one of attention/normalisers.py.
    """

    normaliser: str

    def __post_init__(self):
        check(self.normaliser)
        super().__post_init__()

    def setup(self):
        self.key_projection = nn.Dense(self.features, use_bias=False, dtype=self.dtype)  # its kernel is W transposed
        self.normalise = Normaliser(self.normaliser, 1)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        width = source.shape[-1]
        if width % 2:
            raise UserError(f'annotations of width {width} cannot be split into a key and a value of equal width: make '
                            'the encoder evenly wide')
        values = source[..., width // 2:]
        return Memory(self.key_projection(source[..., :width // 2]), values.astype(self.dtype or values.dtype), places)

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D_s / 2], weights [B, 1, T, S]."""
        query = query.astype(self.dtype or query.dtype)
        return single_head.read(dot_energies(query, memory.keys), memory, places, self.normalise)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The projection, the products and the weighted sum."""
        return 2.0 * entries * (source_width / 2 * query_width + queries * (query_width + source_width / 2))
