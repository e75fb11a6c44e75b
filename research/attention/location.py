"""Where to read, said by the query or by its position: instead of what stands there, or beside it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.attention import single_head
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.masks import Window, readable
from research.attention.multiplicative import dot_energies, remember_unprojected
from research.attention.normalisers import Normaliser, check
from research.errors import UserError, at_least
from research.shapes import Array, Places

ENERGIES = ('dot', 'general')


class Location(Attention, kw_only=True):
    """The query alone says which positions it reads: `e[t, s] = (q[t] W)[s]`, W [D_q, S_max]; reads h itself.

    A control that chooses, but not by content. s is a position of the sentence, so packed sentences are what they are
    apart.

    Source: Luong, Pham, Manning 2015, arXiv:1508.04025, section 3.1 (location). Differs: none.

    Attributes:
      maximum_length: S_max of a source; a longer one is refused.
      normaliser: what makes weights of energies: one of attention/normalisers.py.
    """

    maximum_length: int
    normaliser: str

    def __post_init__(self):
        at_least(1, maximum_length=self.maximum_length)
        check(self.normaliser)
        super().__post_init__()

    def setup(self):
        self.query_projection = nn.Dense(self.maximum_length, use_bias=False, dtype=self.dtype)
        self.normalise = Normaliser(self.normaliser, 1)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        if source.shape[1] > self.maximum_length:
            raise UserError(f'a source of {source.shape[1]} positions, but maximum_length is {self.maximum_length}: '
                            'raise maximum_length')
        values = source.astype(self.dtype or source.dtype)
        return Memory(values[..., :0], values, places)  # no key: nothing is compared

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D_s], weights [B, 1, T, S]."""
        energies = self.query_projection(query)
        at = memory.places.position[:, None]
        at = jnp.broadcast_to(at, (at.shape[0], energies.shape[1], at.shape[2]))
        energies = jnp.take_along_axis(energies, at, axis=-1, mode='clip')
        return single_head.read(energies, memory, places, self.normalise)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The energies of all S_max positions, and the weighted sum."""
        return 2.0 * queries * (query_width * self.maximum_length + entries * source_width)


class LocalMonotonic(Attention, kw_only=True):
    """A window that moves on with the target: weights over `|s - t| <= C`; reads h itself.

        dot: e[t, s] = q[t] . h[s], D_q = D_s;   general: e[t, s] = q[t] W h[s], W [D_q, D_s]

        C = 1      # # . . .      rows t, columns s: positions within the sentence. Beyond the end of the source nothing
                   # # # . .      is read, and the context is zero.
                   . # # # .

    Source: Luong, Pham, Manning 2015, arXiv:1508.04025, section 3.2 (local-m, p_t = t). Differs: the source is not
    reversed; t is the position that places state, so nothing is carried.

    Attributes:
      window: C, positions read on each side of t; at least 0.
      energy: 'dot' or 'general'.
      normaliser: what makes weights of energies: one of attention/normalisers.py.
    """

    window: int
    energy: str
    normaliser: str

    def __post_init__(self):
        at_least(0, window=self.window)
        _check(self)
        super().__post_init__()

    def setup(self):
        if self.energy == 'general':
            self.key_projection = nn.Dense(self.features, use_bias=False, dtype=self.dtype)  # W transposed
        self.normalise = Normaliser(self.normaliser, 1)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return _remember(self, source, places)

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D_s], weights [B, 1, T, S]."""
        energies = dot_energies(query.astype(self.dtype or query.dtype), memory.keys)
        mask = readable(places, memory.places, reach=Window(self.window + 1))  # a Window counts t itself
        return single_head.read(energies, memory, places, self.normalise, mask=mask)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The projection, the products and the weighted sum: all of them, for the window is a mask."""
        return _flops(self, queries, entries, query_width, source_width)


def predicted_window(centre: Array, key_places: Places, mask: Array, window: int) -> tuple[Array, Array]:
    """What may be read around a centre that was predicted, and how much each distance from it counts.

        mask[t, s] and |s - p[t]| <= C;    exp(-(s - p[t])^2 / (2 (C / 2)^2)),  s = position_k

    Args:
      centre: p, [B, T].
      key_places: of what is read, [B, S] each.
      mask: boolean [B, T, S], what may be read anywhere.
      window: C, at least 1.

    Returns:
      boolean [B, T, S]; [B, T, S] in the type of the centre.

    Source: Luong, Pham, Manning 2015, arXiv:1508.04025, section 3.2 (local-p). Differs: none.
    """
    distance = key_places.position[:, None].astype(centre.dtype) - centre[:, :, None]
    return mask & (jnp.abs(distance) <= window), jnp.exp(-2.0 * (distance / window)**2)


class LocalPredictive(Attention, kw_only=True):
    """A window whose centre each query predicts, and a Gaussian around it; reads h itself.

        p[t] = S sigmoid(v . tanh(W_p q[t])),  W_p [D_q, A], v [A], S the length of the source
        weights[t, s] = softmax of e[t] over |s - p[t]| <= C, times exp(-(s - p[t])^2 / (2 (C / 2)^2))
        dot: e[t, s] = q[t] . h[s], D_q = D_s;   general: e[t, s] = q[t] W h[s], W [D_q, D_s]

    The Gaussian is not normalised again: rows sum to less than one. p is computed in float32 or better, for a rounded
    centre is another window.

    Source: Luong, Pham, Manning 2015, arXiv:1508.04025, section 3.2 (local-p). Differs: positions
    count from 0; the authors' code has p = (S - 1) sigmoid(.) + 1, counted from 1, and a window around floor(p).

    Attributes:
      window: C, read on each side of p; at least 1.
      energy: 'dot' or 'general'.
      energy_width: A of the network that predicts p, at least 1.
      normaliser: what makes weights of energies: one of attention/normalisers.py.
    """

    window: int
    energy: str
    energy_width: int
    normaliser: str

    def __post_init__(self):
        at_least(1, window=self.window, energy_width=self.energy_width)
        _check(self)
        super().__post_init__()

    def setup(self):
        A = self.energy_width
        if self.energy == 'general':
            self.key_projection = nn.Dense(self.features, use_bias=False, dtype=self.dtype)  # W transposed
        self.position_projection = nn.Dense(A, use_bias=False)
        self.position_vector = self.param('position_vector', nn.initializers.normal(A**-0.5), (A,))
        self.normalise = Normaliser(self.normaliser, 1)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return _remember(self, source, places)

    def start(self, memory: Memory, length: int) -> Carry:
        return ()

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D_s], weights [B, 1, T, S]."""
        share = jax.nn.sigmoid(jnp.tanh(self.position_projection(query)) @ self.position_vector)
        mask = readable(places, memory.places)
        mask, nearness = predicted_window(jnp.sum(mask, axis=-1) * share, memory.places, mask, self.window)
        energies = dot_energies(query.astype(self.dtype or query.dtype), memory.keys)
        weights = self.normalise(energies[:, None], mask[:, None]) * nearness[:, None]
        return Read(single_head.context(weights, memory.values), weights, carry)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The centre, and as in LocalMonotonic the projection, the products and the weighted sum."""
        return (2.0 * queries * self.energy_width * (query_width + 1)
                + _flops(self, queries, entries, query_width, source_width))


def _check(attention):
    if attention.energy not in ENERGIES:
        raise UserError(f'energy is {attention.energy!r}; it must be one of {", ".join(ENERGIES)}')
    check(attention.normaliser)


def _remember(attention, source, places):
    if attention.energy == 'dot':
        return remember_unprojected(source, places, attention.features, attention.dtype)
    return Memory(attention.key_projection(source), source.astype(attention.dtype or source.dtype), places)


def _flops(attention, queries, entries, query_width, source_width):
    projection = source_width * query_width if attention.energy == 'general' else 0
    return 2.0 * entries * (projection + queries * (query_width + source_width))
