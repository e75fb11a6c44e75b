"""Transformer encoder and decoder: any mixer inside a sequence, any reader between the two."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from research.attention.contract import Attention, Carry
from research.attention.positions import learned, sinusoidal
from research.errors import UserError
from research.layers.dropout import dropout, split
from research.layers.embedding import Embedding, Projection
from research.layers.feed_forward import FeedForward
from research.layers.residual import Residual
from research.models.contract import Decoded, Encoded
from research.shapes import Array, Places

POSITIONS = ('none', 'sinusoidal', 'learned')
SUMMARIES = ('mean', 'first', 'last')


class Entrance(nn.Module):
    """Symbols and their positions to the vectors that enter the first layer: embedding + position, then dropout.

    Source: Vaswani et al. 2017, sections 3.4 and 3.5 and (learned) table 3 row E. Differs: none.

    Attributes:
      vocabulary: V.
      features: D.
      position: 'none', 'sinusoidal' or 'learned'.
      maximum_length: rows of the table of learned positions; a longer sequence is refused.
      dropout: rate.
      dtype: what is computed in.
    """

    vocabulary: int
    features: int
    position: str
    maximum_length: int
    dropout: float = 0.0
    dtype: Any = None

    def setup(self):
        self.embedding = Embedding(self.vocabulary, self.features, self.dtype)
        if self.position == 'learned':
            self.table = self.param('positions', nn.initializers.normal(0.02), (self.maximum_length, self.features))

    def check_length(self, length: int) -> None:
        """Raises UserError when positions 0 .. length - 1 do not all have a learned vector."""
        if self.position == 'learned' and length > self.maximum_length:
            raise UserError(f'a sequence of {length} positions, but maximum_length is {self.maximum_length}: raise '
                            "maximum_length or choose position = 'sinusoidal'")

    def __call__(self, tokens: Array, places: Places, begin: Array | None, rng: Array | None = None) -> Array:
        """Tokens int32 [B, S] -> [B, S, D]; `begin` [B, D] stands in for the embedding of position 0 if given."""
        vectors = self.embedding(tokens)
        if begin is not None:
            vectors = jnp.where((places.position == 0)[..., None], begin[:, None].astype(vectors.dtype), vectors)
        if self.position == 'sinusoidal':
            vectors = vectors + sinusoidal(places.position, self.features).astype(vectors.dtype)
        elif self.position == 'learned':
            vectors = vectors + learned(self.table, places.position).astype(vectors.dtype)
        return dropout(vectors, self.dropout, rng)


class TransformerEncoder(nn.Module):
    """Layers of [mixer, feed-forward] over the source, every position reading every other.

    `summary`, the source as one vector: the mean over readable positions, or the first or the last of them.

    Source: Vaswani et al. 2017, section 3.1. Differs: pre-norm as an option (see layers/residual.py).

    Attributes:
      vocabulary: V of the source.
      features: D.
      hidden: F.
      layers: how many.
      mixer: makes a mixer, given whether it is causal.
      norm: 'pre' or 'post'.
      position: 'none', 'sinusoidal' or 'learned'.
      maximum_length: rows of the table of learned positions.
      summarise: 'mean', 'first' or 'last'.
      dropout: rate on embeddings, in the feed-forward network and after each sublayer.
      dtype: what is computed in.
    """

    vocabulary: int
    features: int
    hidden: int
    layers: int
    mixer: Callable[[bool], Attention]
    norm: str
    position: str
    maximum_length: int
    summarise: str = 'mean'
    dropout: float = 0.0
    dtype: Any = None

    def setup(self):
        self.entrance = Entrance(self.vocabulary, self.features, self.position, self.maximum_length,
                                 self.dropout, self.dtype)
        self.mixers = [self.mixer(False) for _ in range(self.layers)]
        self.networks = [FeedForward(self.features, self.hidden, self.dropout, self.dtype) for _ in range(self.layers)]
        self.residuals = [[Residual(self.norm, self.dropout, self.dtype) for _ in range(2)] for _ in range(self.layers)]
        self.last_norm = nn.LayerNorm(dtype=self.dtype) if self.norm == 'pre' else None

    def __call__(self, source: Array, places: Places, rng: Array | None = None) -> Encoded:
        """Source int32 [B, S] -> annotations [B, S, D] and the summary."""
        self.entrance.check_length(source.shape[1])
        entrance_rng, *layer_rngs = split(rng, self.layers + 1)
        outputs = self.entrance(source, places, None, entrance_rng)
        for mixer, network, residuals, layer_rng in zip(self.mixers, self.networks, self.residuals, layer_rngs,
                                                        strict=True):
            rngs = split(layer_rng, 5)
            inputs = residuals[0].before(outputs)
            memory = mixer.remember(inputs, places, rngs[0])
            mixed = mixer(inputs, memory, mixer.start(memory, 0), places, rngs[1]).context
            outputs = residuals[0].after(outputs, mixed, rngs[2])
            outputs = residuals[1].after(outputs, network(residuals[1].before(outputs), rngs[3]), rngs[4])
        if self.last_norm is not None:
            outputs = self.last_norm(outputs)
        summary = summarise(outputs, places, self.summarise)
        return Encoded(outputs, places, summary, (summary,))

    @nn.nowrap
    def final_widths(self) -> tuple[int, ...]:
        """Widths of `finals`."""
        return (self.features,)

    @nn.nowrap
    def flops(self, entries: int) -> float:
        """Forward FLOPs of reading S = entries source positions."""
        network = FeedForward(self.features, self.hidden).flops()
        return self.layers * (self.mixer(False).flops(entries, entries, self.features, self.features)
                              + entries * network)


def summarise(annotations: Array, places: Places, how: str) -> Array:
    """The source as one vector: annotations [B, S, D] -> [B, D]; zero for an empty row.

    Args:
      annotations: [B, S, D].
      places: [B, S] each.
      how: 'mean' over readable positions, the 'first' or the 'last' of them.
    """
    readable = places.segment > 0
    if how == 'mean':
        chosen = readable
    else:
        last = jnp.max(jnp.where(readable, places.position, -1), axis=1, keepdims=True)
        chosen = readable & (places.position == (0 if how == 'first' else last))
    weights = chosen / jnp.maximum(jnp.sum(chosen, axis=1, keepdims=True), 1)
    return jnp.einsum('bs,bsd->bd', weights.astype(annotations.dtype), annotations)


class TransformerMemory(NamedTuple):
    """What a Transformer decoder knows of a source."""

    read: tuple[Any, ...]  # the reader's memory of each layer; () with reader `none`
    begin: Array | None    # [B, D] in place of the begin symbol's embedding, where the source is one vector
    size: Array            # [B, 0]: how many sentences, also when nothing else says so


class TransformerCarry(NamedTuple):
    """What one position of a Transformer decoder hands to the next."""

    mixing: tuple[Carry, ...]   # of each layer's mixer: what was written so far
    reading: tuple[Carry, ...]  # of each layer's reader
    position: Array             # int32 [B]


class TransformerDecoder(nn.Module):
    """Layers of [causal mixer, reader, feed-forward] that write the target and read the source.

    With reader `none` there is no reading sublayer: the encoder's vector, projected, stands in place of the begin
    symbol's embedding, `s_0 = W summary`, and nothing else is known of the source. With `fixed_context` it stands there
    too, and the vector is the only entry that each layer's reader may read: `s_t = Decoder(y_{t-1}, s_{t-1}, c)`.

    Source: Vaswani et al. 2017, section 3.1. Differs: pre-norm as an option; any reader in place of multi-head
    attention (a reader without an output projection adds what it read as it is); one vector as described above.

    Attributes:
      vocabulary: V of the target.
      features: D.
      hidden: F.
      layers: how many.
      mixer: makes a mixer, given whether it is causal.
      reader: makes a reader.
      reads: 'source', 'summary' or 'nothing'.
      norm: 'pre' or 'post'.
      position: 'none', 'sinusoidal' or 'learned'.
      maximum_length: rows of the table of learned positions.
      tie_embeddings: the softmax shares the embedding's table.
      dropout: rate on embeddings, in the feed-forward network and after each sublayer.
      dtype: what is computed in.
    """

    vocabulary: int
    features: int
    hidden: int
    layers: int
    mixer: Callable[[bool], Attention]
    reader: Callable[[], Attention]
    reads: str
    norm: str
    position: str
    maximum_length: int
    tie_embeddings: bool = False
    dropout: float = 0.0
    dtype: Any = None

    def setup(self):
        count = range(self.layers)
        self.entrance = Entrance(self.vocabulary, self.features, self.position, self.maximum_length,
                                 self.dropout, self.dtype)
        self.mixers = [self.mixer(True) for _ in count]
        self.readers = [] if self.reads == 'nothing' else [self.reader() for _ in count]
        self.networks = [FeedForward(self.features, self.hidden, self.dropout, self.dtype) for _ in count]
        sublayers = 2 if self.reads == 'nothing' else 3
        self.residuals = [[Residual(self.norm, self.dropout, self.dtype) for _ in range(sublayers)] for _ in count]
        self.last_norm = nn.LayerNorm(dtype=self.dtype) if self.norm == 'pre' else None
        self.begin = None if self.reads == 'source' else nn.Dense(self.features, use_bias=False, dtype=self.dtype)
        self.softmax = None if self.tie_embeddings else Projection(self.vocabulary)

    def remember(self, encoded: Encoded, source: Array, places: Places, rng: Array | None = None) -> TransformerMemory:
        """What this decoder keeps of an encoded source; `source` and `places` are what its readers may read."""
        rngs = split(rng, self.layers)
        return TransformerMemory(
            tuple(reader.remember(source, places, key) for reader, key in zip(self.readers, rngs, strict=False)),
            None if self.begin is None else self.begin(encoded.summary),
            encoded.summary[:, :0])

    def start(self, memory: TransformerMemory, length: int) -> TransformerCarry:
        """The carry before the first of at most `length` positions."""
        self.entrance.check_length(length)
        batch = memory.size.shape[0]
        nothing = jnp.zeros((batch, 0, self.features), self.dtype or memory.size.dtype)
        nowhere = Places(jnp.zeros((batch, 0), jnp.int32), jnp.zeros((batch, 0), jnp.int32))
        return TransformerCarry(
            tuple(mixer.start(mixer.remember(nothing, nowhere), length) for mixer in self.mixers),
            self._start_reading(memory, length), jnp.zeros(batch, jnp.int32))

    def decode(self, memory: TransformerMemory, inputs: Array, places: Places, rng: Array | None = None) -> Decoded:
        """Inputs int32 [B, T] -> hidden [B, T, D] and weights, all positions at once."""
        self.entrance.check_length(inputs.shape[1])
        hidden, weights, _, _ = self._layers(memory, inputs, places, None,
                                             self._start_reading(memory, inputs.shape[1]), rng)
        return Decoded(hidden, weights, jnp.zeros((), jnp.float32))

    def step(self, memory: TransformerMemory, carry: TransformerCarry,
             token: Array) -> tuple[Array, Array | None, TransformerCarry]:
        """Token int32 [B] -> hidden [B, D], weights [B, N, S] or None, carry."""
        position = carry.position[:, None]
        places = Places(jnp.ones_like(position), position)
        hidden, weights, mixing, reading = self._layers(memory, token[:, None], places, carry.mixing, carry.reading,
                                                        None)
        return (hidden[:, 0], None if weights is None else weights[:, :, 0],
                TransformerCarry(mixing, reading, carry.position + 1))

    def logits(self, hidden: Array) -> Array:
        """Hidden [..., D] -> scores [..., V]."""
        return self.entrance.embedding.logits(hidden) if self.tie_embeddings else self.softmax(hidden)

    def _start_reading(self, memory, length):
        return tuple(reader.start(read, length) for reader, read in zip(self.readers, memory.read, strict=True))

    def _layers(self, memory, tokens, places, mixing, reading, rng):
        """Some positions through all layers; `mixing` is None when this call holds the whole sequence.

        Returns hidden [B, T, D], weights [B, layers x N, T, S] from the bottom layer up, and both carries.
        """
        entrance_rng, *layer_rngs = split(rng, self.layers + 1)
        outputs = self.entrance(tokens, places, memory.begin, entrance_rng)
        mixed_carries, read_carries, weights = [], [], []
        for layer, (mixer, network, residuals) in enumerate(zip(self.mixers, self.networks, self.residuals,
                                                                strict=True)):
            rngs = split(layer_rngs[layer], 7)
            inputs = residuals[0].before(outputs)
            written = mixer.remember(inputs, places, rngs[0])
            carry = mixer.start(written, 0) if mixing is None else mixing[layer]
            mixed = mixer(inputs, written, carry, places, rngs[1])
            outputs = residuals[0].after(outputs, mixed.context, rngs[2])
            mixed_carries.append(mixed.carry)
            if self.readers:
                read = self.readers[layer](residuals[2].before(outputs), memory.read[layer], reading[layer], places,
                                           rngs[3])
                if read.context.shape[-1] != self.features:
                    raise UserError(f'the reader adds vectors of width {read.context.shape[-1]} to a Transformer '
                                    f'decoder of features = {self.features}: make encoder.features equal to '
                                    'decoder.features, or choose a reader that projects, such as multi_head_dot')
                outputs = residuals[2].after(outputs, read.context, rngs[4])
                read_carries.append(read.carry)
                weights.append(read.weights)
            outputs = residuals[1].after(outputs, network(residuals[1].before(outputs), rngs[5]), rngs[6])
        if self.last_norm is not None:
            outputs = self.last_norm(outputs)
        weights = None if not weights or weights[0] is None else jnp.concatenate(weights, axis=1)
        return outputs, weights, tuple(mixed_carries), tuple(read_carries)

    @nn.nowrap
    def flops(self, targets: int, entries: int, source_width: int, context_width: int,
              final_widths: tuple[int, ...]) -> float:
        """Forward FLOPs of writing T = targets words while reading S = entries of the given width, softmax included."""
        D = self.features
        layer = (self.mixer(True).flops(targets, targets, D, D)
                 + targets * FeedForward(D, self.hidden).flops())
        if self.reads != 'nothing':
            layer += self.reader().flops(targets, entries, D, source_width)
        begin = 0.0 if self.reads == 'source' else 2.0 * final_widths[-1] * D
        return self.layers * layer + begin + targets * 2.0 * D * self.vocabulary
