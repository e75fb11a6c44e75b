"""What training and decoding know of a model: five functions. They never see anything else of it.

    memory = encode(model, params, source, places, rng)              [B, S] -> a tree, B first in every leaf
    decoded = decode(model, params, memory, inputs, places, rng)     [B, T] -> hidden [B, T, D], all positions at once
    carry = start(model, params, memory, length)                     a tree, B first in every leaf
    hidden, weights, carry = step(model, params, memory, carry, token)    [B] -> [B, D]: one position
    scores = logits(model, params, hidden)                           [..., D] -> [..., V]

Where a leaf of the carry grows with the length, zeros stand behind what is written, so that `longer` can make room.
`decode` over T positions and `start` followed by T calls of `step` give the same hidden states. `rng=None` means
evaluation: no dropout. `params` is a plain nested dict of arrays. Several sentences may share a row (packing) where
`model.packs()` says so: attention keeps them apart, a recurrent state and a vector for the whole row do not.
"""

import abc
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.shapes import Array, Batch, Places

Params = Any
Memory = Any
Carry = Any


class Encoded(NamedTuple):
    """What a decoder gets from an encoder: all of it, and two ways of squeezing it into vectors of fixed size."""

    annotations: Array          # [B, S, D]: one vector for each source position
    places: Places              # [B, S] each
    summary: Array              # [B, E]: the source as one vector
    finals: tuple[Array, ...]   # [B, E_l] each, bottom to top: what the layers of a recurrent decoder start from


class Decoded(NamedTuple):
    """What a decoder says about all target positions at once."""

    hidden: Array           # [B, T, D]
    weights: Array | None   # [B, N, T, S]: how much each target position read from each source position
    penalty: Array          # []: what the variants add to the loss (summed over the batch), 0 if nothing


class EncoderDecoder(nn.Module, abc.ABC):
    """Abstract: a Flax module with these methods is a model."""

    @nn.nowrap
    def packs(self) -> bool:
        """Whether several sentences in one row are decoded as they would be apart; no, unless a model says so."""
        return False

    @nn.nowrap
    def reads_source(self) -> bool:
        """Whether there is a source at all; a model without one labels the positions of its inputs."""
        return True

    @abc.abstractmethod
    def encode(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        """Reads the source: int32 [B, S] -> memory."""

    @abc.abstractmethod
    def decode(self, memory: Memory, inputs: Array, places: Places, rng: Array | None = None) -> Decoded:
        """Decodes given inputs int32 [B, T], all positions at once."""

    @abc.abstractmethod
    def start(self, memory: Memory, length: int) -> Carry:
        """Makes the carry before the first position; at most `length` positions will be written."""

    @abc.abstractmethod
    def step(self, memory: Memory, carry: Carry, token: Array) -> tuple[Array, Array | None, Carry]:
        """Decodes one position: token int32 [B] -> hidden [B, D], weights [B, N, S] or None, carry."""

    @abc.abstractmethod
    def logits(self, hidden: Array) -> Array:
        """Scores every symbol: [..., D] -> [..., V], not normalised."""


def init(model: EncoderDecoder, rng: Array, batch: Batch) -> Params:
    """Makes the parameters. Only the shapes of the batch matter."""
    def everything(module):
        memory = module.encode(batch.source, batch.source_places)
        return module.logits(module.decode(memory, batch.inputs, batch.target_places).hidden)
    return nn.init(everything, model)(rng)['params']


def encode(model: EncoderDecoder, params: Params, source: Array, places: Places, rng: Array | None = None) -> Memory:
    """source [B, S] and its places -> memory."""
    return model.apply({'params': params}, source, places, rng, method='encode')


def decode(model: EncoderDecoder, params: Params, memory: Memory, inputs: Array, places: Places,
           rng: Array | None = None) -> Decoded:
    """inputs [B, T] and their places -> hidden [B, T, D], weights [B, N, T, S] or None, penalty []."""
    return model.apply({'params': params}, memory, inputs, places, rng, method='decode')


def start(model: EncoderDecoder, params: Params, memory: Memory, length: int) -> Carry:
    """The carry before the first of at most `length` positions."""
    return model.apply({'params': params}, memory, length, method='start')


def longer(model: EncoderDecoder, params: Params, memory: Memory, carry: Carry, length: int) -> Carry:
    """A carry that has room for fewer positions, with room for `length`: zeros behind what was written."""
    def grown(leaf, shape):
        return jnp.pad(leaf, [(0, after - before) for before, after in zip(leaf.shape, shape.shape)])
    return jax.tree.map(grown, carry, jax.eval_shape(lambda: start(model, params, memory, length)))


def step(model: EncoderDecoder, params: Params, memory: Memory, carry: Carry,
         token: Array) -> tuple[Array, Array | None, Carry]:
    """token [B] -> hidden [B, D], weights [B, N, S] or None, carry."""
    return model.apply({'params': params}, memory, carry, token, method='step')


def logits(model: EncoderDecoder, params: Params, hidden: Array) -> Array:
    """hidden [..., D] -> [..., V]."""
    return model.apply({'params': params}, hidden, method='logits')
