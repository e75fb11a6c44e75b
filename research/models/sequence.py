"""A model without a source: an embedding, a stack of mixers or cells, a score of every symbol at every position.

Nothing but the mixer or the cell moves information between positions: what is beside it in a layer looks at one
position at a time.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from research.attention.contract import Attention, Carry, Inputs, Read
from research.cells.contract import Cell
from research.errors import UserError
from research.layers.dropout import split
from research.layers.embedding import Projection
from research.layers.norm import LayerNorm
from research.models.contract import Decoded, EncoderDecoder
from research.models.transformer import Entrance, TransformerLayer, layer_of
from research.shapes import Array, Places


class CellMixer(Attention):
    """A recurrent cell in the place of a mixer: the outputs of `cell.over`, projected back to D.

    Source: Feng et al. 2024, arXiv:2410.01201, section 3 (layers of cells and networks). Differs: none.

    Attributes:
      cell: makes a cell of width D.
    """

    cell: Callable[[int], Cell] = None

    def setup(self):
        self.mixing = self.cell(self.features)
        self.output_projection = nn.Dense(self.features, use_bias=False, dtype=self.dtype)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Inputs:
        return Inputs(source, places)

    def start(self, memory: Inputs, length: int) -> Carry:
        return self.mixing.start(memory.inputs.shape[0]) if length else ()

    def __call__(self, query: Array, memory: Inputs, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D], of which nothing is used -> context [B, T, D], no weights."""
        state = carry if len(carry) else self.mixing.start(memory.inputs.shape[0])
        outputs, state = self.mixing.over(memory.inputs, memory.places.segment > 0, state)
        return Read(self.output_projection(outputs), None, state if len(carry) else ())

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The cell and the projection."""
        return entries * (self.cell(self.features).flops(source_width) + 2.0 * self.features**2)


class SequenceMemory(NamedTuple):
    """There is no source: only how many sentences, and in which type."""

    size: Array   # [B, 0]


class SequenceCarry(NamedTuple):
    """What one position hands to the next."""

    mixing: tuple[Carry, ...]   # of each layer
    position: Array             # int32 [B]


class SequenceModel(EncoderDecoder):
    """Layers of [mixer, feed-forward] over one sequence, and a score of every symbol at every position.

    Causal it writes (a language model, recall); in both directions it labels. The source of a batch is not read.

    Source: Radford et al. 2018, Improving language understanding by generative pre-training, section 3.1. Differs:
    any mixer or cell, norm before or after.

    Attributes:
      vocabulary: V, of inputs and targets.
      features: D.
      hidden: F.
      layers: how many.
      mixer: makes a mixer, given whether it is causal and which layer it is for.
      causal: whether a position sees earlier ones only; otherwise it cannot write step by step.
      norm: 'pre' or 'post'.
      position: one of models.transformer.POSITIONS.
      maximum_length: rows of the table of learned positions.
      tie_embeddings: the softmax shares the embedding's table.
      packing: whether the mixers keep the sentences of a row apart.
      dropout: rate on embeddings, in the feed-forward network and after each sublayer.
      dtype: what is computed in.
      scale_embeddings: whether they are multiplied by sqrt(D).
      activation: of the feed-forward networks, one of layers.feed_forward.ACTIVATIONS.
      epsilon: added to the variance in each layer norm.
      remat: as in TransformerEncoder.
    """

    vocabulary: int
    features: int
    hidden: int
    layers: int
    mixer: Callable[[bool, int], Attention]
    causal: bool
    norm: str
    position: str
    maximum_length: int
    tie_embeddings: bool = False
    packing: bool = True
    dropout: float = 0.0
    dtype: Any = None
    scale_embeddings: bool = True
    activation: str = 'relu'
    epsilon: float = 1e-6
    remat: bool = False

    def setup(self):
        self.entrance = Entrance(self.vocabulary, self.features, self.position, self.maximum_length, self.dropout,
                                 self.dtype, scaled=self.scale_embeddings)
        self.stack = [self._layer(layer) for layer in range(self.layers)]
        self.last_norm = LayerNorm(self.epsilon, self.dtype) if self.norm == 'pre' else None
        self.softmax = None if self.tie_embeddings else Projection(self.vocabulary)

    @nn.nowrap
    def _layer(self, layer: int) -> TransformerLayer:
        mixer = functools.partial(self.mixer, self.causal, layer)
        return layer_of(self.remat)(self.features, self.hidden, mixer, None, self.norm, self.dropout, self.dtype,
                                    self.activation, self.epsilon)

    @nn.nowrap
    def packs(self) -> bool:
        """Where the mixers do."""
        return self.packing

    @nn.nowrap
    def reads_source(self) -> bool:
        """It has none."""
        return False

    def encode(self, source: Array, places: Places, rng: Array | None = None) -> SequenceMemory:
        """Source int32 [B, S], of which only the size counts."""
        return SequenceMemory(jnp.zeros((source.shape[0], 0), self.dtype or jnp.float32))

    def decode(self, memory: SequenceMemory, inputs: Array, places: Places, rng: Array | None = None) -> Decoded:
        """Inputs int32 [B, T] -> hidden [B, T, D]; no weights, since nothing else is read."""
        self.entrance.check_length(inputs.shape[1])
        return self._layers((None,) * self.layers, inputs, places, rng)[0]

    def start(self, memory: SequenceMemory, length: int) -> SequenceCarry:
        """The carry before the first of at most `length` positions.

        Raises:
          UserError: the model is not causal.
        """
        if not self.causal:
            raise UserError('a model that reads in both directions cannot write step by step: causal must be True')
        self.entrance.check_length(length)
        batch = memory.size.shape[0]
        nothing = jnp.zeros((batch, 0, self.features), memory.size.dtype)
        nowhere = Places(jnp.zeros((batch, 0), jnp.int32), jnp.zeros((batch, 0), jnp.int32))
        return SequenceCarry(tuple(layer.start_mixing(nothing, nowhere, length) for layer in self.stack),
                             jnp.zeros(batch, jnp.int32))

    def step(self, memory: SequenceMemory, carry: SequenceCarry, token: Array) -> tuple[Array, None, SequenceCarry]:
        """Token int32 [B] -> hidden [B, D], no weights, carry."""
        position = carry.position[:, None]
        decoded, mixing = self._layers(carry.mixing, token[:, None], Places(jnp.ones_like(position), position), None)
        return decoded.hidden[:, 0], None, SequenceCarry(mixing, carry.position + 1)

    def logits(self, hidden: Array) -> Array:
        """Hidden [..., D] -> scores [..., V]."""
        return self.entrance.embedding.logits(hidden) if self.tie_embeddings else self.softmax(hidden)

    def _layers(self, carries, tokens, places, rng):
        entrance_rng, *rngs = split(rng, self.layers + 1)
        outputs, mixing = self.entrance(tokens, places, None, entrance_rng), []
        for layer, carry, layer_rng in zip(self.stack, carries, rngs, strict=True):
            said = layer(outputs, places, carry, rng=layer_rng)
            outputs = said.outputs
            mixing.append(said.mixing)
        if self.last_norm is not None:
            outputs = self.last_norm(outputs)
        return Decoded(outputs, None, jnp.zeros((), jnp.float32)), tuple(mixing)

    @nn.nowrap
    def flops(self, targets: int) -> float:
        """Forward FLOPs of T = targets positions, softmax included."""
        return (self.layers * self._layer(0).flops(targets, 0, 0)
                + targets * 2.0 * self.features * self.vocabulary)
