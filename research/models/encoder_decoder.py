"""Pairs any encoder with any decoder through any reader."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from research.layers.dropout import split
from research.layers.embedding import Embedding
from research.models.contract import Decoded, EncoderDecoder
from research.shapes import Array, Places


class SequenceToSequence(EncoderDecoder):
    """An encoder, a decoder, and the rule for what the decoder's reader may read.

        reads = source:    the annotations, one for each source position
        reads = summary:   one vector: the encoder's summary as the only entry of the memory
        reads = nothing:   no position; the decoder only starts from the encoder's vector

    An embedding that both sides are to share is made once and given to each of them and to the model, which owns it:
    its table is `params['embedding']['table']`. With a decoder that ties its softmax there is one table for all three.

    Source: sharing: Press and Wolf 2017, arXiv:1608.05859 (three-way weight tying). Differs: none.

    Attributes:
      embedding: what encoder and decoder were given as `shared`; None = each has its own. Named first, because Flax
        gives a module to the first of its owners that it meets.
      encoder: a module that turns int32 [B, S] and its places into `Encoded`.
      decoder: a module with remember, decode, start, step and logits.
      reads: what the decoder's reader may read.
    """

    embedding: Embedding | None = dataclasses.field(default=None, kw_only=True)
    encoder: nn.Module
    decoder: nn.Module
    reads: str = 'source'

    @nn.nowrap
    def packs(self) -> bool:
        """Where both sides do, and no vector stands for the whole row."""
        return self.encoder.packs and self.decoder.packs and self.reads == 'source'

    def encode(self, source: Array, places: Places, rng: Array | None = None) -> Any:
        """Source [B, S] -> what the decoder keeps of it."""
        encoder_rng, remember_rng = split(rng, 2)
        encoded = self.encoder(source, places, encoder_rng)
        if self.reads == 'summary':
            segment = jnp.max(places.segment, axis=1, keepdims=True, initial=0)
            return self.decoder.remember(encoded, encoded.summary[:, None],
                                         Places(segment, jnp.zeros_like(segment)), remember_rng)
        return self.decoder.remember(encoded, encoded.annotations, encoded.places, remember_rng)

    def decode(self, memory: Any, inputs: Array, places: Places, rng: Array | None = None) -> Decoded:
        """Inputs int32 [B, T] -> hidden [B, T, D] and weights."""
        return self.decoder.decode(memory, inputs, places, rng)

    def start(self, memory: Any, length: int) -> Any:
        """The carry before the first of at most `length` positions."""
        return self.decoder.start(memory, length)

    def step(self, memory: Any, carry: Any, token: Array) -> tuple[Array, Array | None, Any]:
        """Token int32 [B] -> hidden [B, D], weights [B, N, S] or None, carry."""
        return self.decoder.step(memory, carry, token)

    def logits(self, hidden: Array) -> Array:
        """Hidden [..., D] -> scores [..., V]."""
        return self.decoder.logits(hidden)
