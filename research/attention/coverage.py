"""An energy that knows how much of each source position has been read."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.attention import single_head
from research.attention.additive import additive_energies
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.masks import readable
from research.attention.normalisers import NORMALISERS, Normaliser, check
from research.errors import UserError, at_least
from research.shapes import Array, Places


class Covered(NamedTuple):
    """How much was read of each source position by the queries of its own segment so far."""

    coverage: Array  # [B, S], float32 or better


def coverage_weights(query: Array, keys: Array, factors: Array, vector: Array, mask: Array, coverage: Array,
                     normalise: Callable[[Array, Array], Array]) -> tuple[Array, Array, Array]:
    """Weights of additive energies that see the sum of all weights before.

        e[t, s] = vector . tanh(query[t] + keys[s] + factors cov[t, s]);   cov[t, s] = sum over u < t of weights[u, s]

    Args:
      query: [B, T, A], projected.
      keys: [B, S, A], projected.
      factors: [A].
      vector: [A].
      mask: boolean [B, T, S], what may be read.
      coverage: cov before the first query, [B, S]. What another segment has read of its own source changes nothing.
      normalise: (logits [B, 1, 1, S], mask [B, 1, 1, S]) -> weights.

    Returns:
      weights [B, T, S]; sum_s min(weights[t, s], cov[t, s]), [B, T]; coverage after the last query, [B, S].

    Source: See, Liu, Manning 2017, arXiv:1704.04368, section 2.3, equations 10 to 12. Differs: none.
    """
    def one(coverage, at):
        query, mask = at
        seen = keys + coverage[..., None].astype(keys.dtype) * factors
        weights = normalise(additive_energies(query[:, None], seen, vector)[:, None], mask[:, None, None])[:, 0, 0]
        return coverage + weights, (weights, jnp.sum(jnp.minimum(weights, coverage), axis=-1))
    coverage, (weights, repeated) = one_by_one(one, coverage, (query, mask))
    return weights, repeated, coverage


def one_by_one(step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, inputs: Any) -> tuple[Any, Any]:
    """One position after another: `carry, outputs[:, t] = step(carry, inputs[:, t])` for every leaf [B, T, ...]."""
    def swapped(tree):
        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), tree)
    carry, outputs = jax.lax.scan(step, carry, swapped(inputs))
    return carry, swapped(outputs)


def as_function(normalise: Normaliser) -> Callable[[Array, Array], Array]:
    """A normaliser as a function of arrays, which a scan can call: what it learns is read before."""
    entry = NORMALISERS[normalise.name_of]
    return entry.function if entry.sink == 'none' else functools.partial(entry.function, sink=normalise.logit())


class Coverage(Attention, kw_only=True):
    """Additive, with an energy that sees what has been read, and a loss for reading it again; reads h itself.

        e[t, s] = v . tanh(W q[t] + U h[s] + w cov[t, s] + b);   cov[t, s] = sum over u < t of weights[u, s]
        penalty[t] = lambda sum_s min(weights[t, s], cov[t, s])

    W [D_q, A], U [D_s, A], v, w and b [A]. Queries are read one after another, and cov is carried.

    Source: See, Liu, Manning 2017, arXiv:1704.04368, section 2.3. Differs: the softmax is over what may be read (their
    code masks and divides again afterwards); lambda acts from the first step (there the coverage is added to a model
    that was trained without it).

    Attributes:
      energy_width: A, at least 1.
      penalty_weight: lambda, at least 0.0; 0.0 = no penalty.
      normaliser: what makes weights of energies: one of attention/normalisers.py.
    """

    energy_width: int
    penalty_weight: float
    normaliser: str

    def __post_init__(self):
        at_least(1, energy_width=self.energy_width)
        if not 0.0 <= self.penalty_weight < float('inf'):
            raise UserError(f'penalty_weight is {self.penalty_weight}; it must be at least 0.0, and finite')
        check(self.normaliser)
        super().__post_init__()

    def setup(self):
        A = self.energy_width
        self.query_projection = nn.Dense(A, use_bias=False, dtype=self.dtype)
        self.key_projection = nn.Dense(A, use_bias=False, dtype=self.dtype)
        self.factors = self.param('factors', nn.initializers.normal(1.0), (A,))  # of one input
        self.vector = self.param('vector', nn.initializers.normal(A**-0.5), (A,))
        self.bias = self.param('bias', nn.initializers.zeros, (A,))
        self.normalise = Normaliser(self.normaliser, 1)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        return Memory(self.key_projection(source), source.astype(self.dtype or source.dtype), places)

    def start(self, memory: Memory, length: int) -> Carry:
        dtype = jnp.promote_types(memory.keys.dtype, jnp.float32)
        return Covered(jnp.zeros(memory.keys.shape[:2], dtype))

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D_s], weights [B, 1, T, S], penalty [B, T]; carry () = the start."""
        carry = carry or self.start(memory, query.shape[1])
        query = self.query_projection(query)
        factors, vector, bias = (leaf.astype(query.dtype) for leaf in (self.factors, self.vector, self.bias))
        weights, repeated, coverage = coverage_weights(
            query + bias, memory.keys, factors, vector, readable(places, memory.places), carry.coverage,
            as_function(self.normalise))
        weights = weights[:, None]
        return Read(single_head.context(weights, memory.values), weights, Covered(coverage),
                    self.penalty_weight * repeated)

    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """Both projections, two additions and two products an energy and unit, and the weighted sum."""
        A = self.energy_width
        return (2.0 * A * (entries * source_width + queries * query_width)
                + queries * entries * (5.0 * A + 2.0 * source_width))
