"""Reading from left to right: each query goes on where the one before has stopped."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.attention import single_head
from research.attention.additive import additive_energies, normalised
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.coverage import one_by_one
from research.attention.masks import readable
from research.errors import UserError, at_least
from research.shapes import Array, Places

MODES = ('soft', 'hard')


class Stopped(NamedTuple):
    """With which probability the last query of its own segment has stopped at each source position."""

    weights: Array  # [B, S], float32 or better; before the first query 1 at position 0


def monotonic_weights(choice: Array, mask: Array, before: Array) -> tuple[Array, Array]:
    """With which probability each query stops at each source position, if it begins where the one before has stopped.

        reached[t, s] = (1 - choice[t, s-1]) reached[t, s-1] + weights[t-1, s];   weights = choice reached

    Where all choices are 0 or 1 this is a scan from the last position to the first one that is chosen; a query that
    finds none reads nothing, and so do those behind it.

        choice  0 1 0 0     weights  0 1 0 0
                0 1 0 1              0 1 0 0     rows t, columns s
                1 0 0 1              0 0 0 1
                1 1 1 0              0 0 0 0     the source is at its end

    Args:
      choice: [B, T, S], the probability of stopping at a position that is reached; 0 where it may not be read.
      mask: boolean [B, T, S], what may be read; entries of a segment stand in order.
      before: weights of the query before the first, [B, S].

    Returns:
      weights [B, T, S], whose rows sum to at most one; and what is `before` for the next queries.

    Source: Raffel et al. 2017, arXiv:1704.00784, sections 2.2 (hard) and 2.3, equations 11 to 14. Differs: none.
    """
    passing = 1.0 - jnp.pad(choice, ((0, 0), (0, 0), (1, 0)))[..., :-1]

    def joined(left, right):  # two stretches of x -> passing x + entering
        return left[0] * right[0], right[0] * left[1] + right[1]

    def one(before, at):
        choice, passing, mask = at
        _, reached = jax.lax.associative_scan(joined, (passing, jnp.where(mask, before, 0.0)), axis=1)
        weights = choice * reached
        return jnp.where(mask, weights, before), weights
    after, weights = one_by_one(one, before, (choice, passing, mask))
    return weights, after


class Monotonic(Attention, kw_only=True):
    """Each query goes from where the one before has stopped to the right, and stops with probability p; reads h itself.

        e[t, s] = g (v / |v|) . tanh(W q[t] + U h[s] + b) + r
        p = sigmoid(e + noise);   p = 1 where e > 0, else 0, in mode 'hard'
        reached[t, s] = (1 - p[t, s-1]) reached[t, s-1] + weights[t-1, s];   weights = p reached

    W [D_q, A], U [D_s, A], v and b [A], g and r numbers. Before the first query of a sentence, weights are 1 at its
    position 0. What a query does not stop at is lost: rows sum to at most one. Soft weights are carried from query to
    query; 'hard' is what they become when p is certain: it is for evaluation, with parameters that 'soft' has learned,
    and sends no gradient through e. Source positions of a segment stand in order.

    Source: Raffel et al. 2017, arXiv:1704.00784, sections 2.2 to 2.5 and algorithm 1. Differs: g starts at 1 / sqrt(A)
    and r at -1, the same for every task; a query that finds no place to stop ends the reading.

    Attributes:
      energy_width: A, at least 1.
      mode: 'soft' or 'hard'.
      noise: standard deviation of what is added to e in mode 'soft' where an rng is given, at least 0.0.
    """

    energy_width: int
    mode: str
    noise: float

    def __post_init__(self):
        at_least(1, energy_width=self.energy_width)
        if self.mode not in MODES:
            raise UserError(f'mode is {self.mode!r}; it must be one of {", ".join(MODES)}')
        if not 0.0 <= self.noise < float('inf'):
            raise UserError(f'noise is {self.noise}; it must be at least 0.0, and finite')
        super().__post_init__()

    def setup(self):
        A = self.energy_width
        self.query_projection = nn.Dense(A, use_bias=False, dtype=self.dtype)
        self.key_projection = nn.Dense(A, use_bias=False, dtype=self.dtype)
        self.vector = self.param('vector', nn.initializers.normal(A**-0.5), (A,))
        self.factor = self.param('factor', nn.initializers.constant(A**-0.5), ())
        self.bias = self.param('bias', nn.initializers.zeros, (A,))
        self.offset = self.param('offset', nn.initializers.constant(-1.0), ())

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return Memory(self.key_projection(source), source.astype(self.dtype or source.dtype), places)

    def start(self, memory: Memory, length: int) -> Carry:
        dtype = jnp.promote_types(memory.keys.dtype, jnp.float32)
        first = (memory.places.segment > 0) & (memory.places.position == 0)
        return Stopped(first.astype(dtype))

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D_s], weights [B, 1, T, S]; carry () = the start."""
        carry = carry or self.start(memory, query.shape[1])
        mask = readable(places, memory.places)
        weights, after = monotonic_weights(jnp.where(mask, self._choice(query, memory, rng), 0.0), mask, carry.weights)
        weights = weights[:, None]
        return Read(single_head.context(weights, memory.values), weights, Stopped(after))

    def _choice(self, query, memory, rng):
        query = self.query_projection(query)
        query = query + self.bias.astype(query.dtype)
        vector = normalised(self.vector, self.factor).astype(query.dtype)
        energies = additive_energies(query, memory.keys, vector) + self.offset
        if self.mode == 'hard':
            return (energies > 0).astype(energies.dtype)
        if self.noise and rng is not None:
            energies = energies + self.noise * jax.random.normal(rng, energies.shape, energies.dtype)
        return jax.nn.sigmoid(energies)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """Both projections, one addition and one product an energy and unit, and the weighted sum."""
        A = self.energy_width
        return (2.0 * A * (entries * source_width + queries * query_width)
                + queries * entries * (3.0 * A + 2.0 * source_width))
