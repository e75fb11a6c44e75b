"""Transformer encoder and decoder: any mixer inside a sequence, any reader between the two."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from research.attention.contract import Attention, Carry, Read, penalty
from research.attention.positions import learned, sinusoidal
from research.errors import UserError
from research.layers.dropout import dropout, split
from research.layers.embedding import Embedding, Projection, shared_or_own
from research.layers.feed_forward import FeedForward
from research.layers.norm import LayerNorm
from research.layers.residual import Residual
from research.models.contract import Decoded, Encoded
from research.shapes import Array, Places

POSITIONS = ('none', 'sinusoidal', 'sinusoidal_concatenated', 'learned')
SUMMARIES = ('mean', 'first', 'last')


class Entrance(nn.Module):
    """Symbols and their positions to the vectors that enter the first layer: embedding + position, then dropout.

        position = sinusoidal:               [sin a_0, cos a_0, sin a_1, cos a_1, ...],  a_i = p / 10000^(2 i / D)
        position = sinusoidal_concatenated:  [sin a_0, sin a_1, ..., cos a_0, cos a_1, ...]

    Source: Vaswani et al. 2017, sections 3.4 and 3.5 and (learned) table 3 row E; concatenated: Marian's. Differs:
    none (the authors' tensor2tensor also concatenates, and divides by D / 2 - 1 where D / 2 stands here).

    Attributes:
      vocabulary: V.
      features: D.
      position: one of POSITIONS.
      maximum_length: rows of the table of learned positions; a longer sequence is refused.
      dropout: rate.
      dtype: what is computed in.
      shared: an embedding that is not this part's alone; None = one of its own.
      scaled: whether embeddings are multiplied by sqrt(D).
    """

    vocabulary: int
    features: int
    position: str
    maximum_length: int
    dropout: float = 0.0
    dtype: Any = None
    shared: Embedding | None = None
    scaled: bool = True

    def setup(self):
        self.embedding = shared_or_own(self.shared, self.vocabulary, self.features, self.dtype, self.scaled)
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
        if self.position in ('sinusoidal', 'sinusoidal_concatenated'):
            added = sinusoidal(places.position, self.features, self.position == 'sinusoidal_concatenated')
            vectors = vectors + added.astype(vectors.dtype)
        elif self.position == 'learned':
            vectors = vectors + learned(self.table, places.position).astype(vectors.dtype)
        return dropout(vectors, self.dropout, rng)


class LayerOutput(NamedTuple):
    """What a Transformer layer gives back."""

    outputs: Array       # [B, T, D]
    mixing: Carry        # of the mixer, for the next call
    read: Read | None    # what the reader said; None without one


class TransformerLayer(nn.Module):
    """Mix the sequence with itself, read another one where there is a reader, transform each position by itself.

        x = mix(x);  x = read(x, memory);  x = feed_forward(x)        each inside a residual connection with its norm

    In front of a reader that does not look at its query (`mean`, `fixed_context`) a pre-norm decides nothing; it is
    kept, so that arms differ in the reader alone.

    Source: Vaswani et al. 2017, section 3.1. Differs: pre-norm as an option (see layers/residual.py); a reader without
    an output projection adds what it read as it is.

    Attributes:
      features: D.
      hidden: F.
      mixer: makes the mixer.
      reader: makes the reader; None reads nothing and has no sublayer.
      norm: 'pre' or 'post'.
      dropout: rate in the feed-forward network and after each sublayer.
      dtype: what is computed in.
      activation: of the feed-forward network, one of layers.feed_forward.ACTIVATIONS.
      epsilon: added to the variance in each layer norm.
    """

    features: int
    hidden: int
    mixer: Callable[[], Attention]
    reader: Callable[[], Attention] | None
    norm: str
    dropout: float = 0.0
    dtype: Any = None
    activation: str = 'relu'
    epsilon: float = 1e-6

    def setup(self):
        self.mixing, self.mixing_residual = self.mixer(), self._residual()
        if self.reader is not None:
            self.reading, self.reading_residual = self.reader(), self._residual()
        self.network = FeedForward(self.features, self.hidden, self.dropout, self.dtype, self.activation)
        self.network_residual = self._residual()

    @nn.nowrap
    def _residual(self) -> Residual:
        return Residual(self.norm, self.dropout, self.dtype, self.epsilon)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Any:
        """What the reader keeps of a source: [B, S, D_s] -> its memory."""
        return self.reading.remember(source, places, rng)

    def start_mixing(self, nothing: Array, places: Places, length: int) -> Carry:
        """The mixer's carry before the first of at most `length` positions; `nothing` is [B, 0, D]."""
        return self.mixing.start(self.mixing.remember(nothing, places), length)

    def start_reading(self, memory: Any, length: int) -> Carry:
        """The reader's carry before the first of at most `length` positions."""
        return self.reading.start(memory, length)

    def __call__(self, inputs: Array, places: Places, mixing: Carry | None = None, memory: Any = None,
                 reading: Carry = (), rng: Array | None = None) -> LayerOutput:
        """Some positions through the layer.

        Args:
          inputs: [B, T, D].
          places: of these positions, [B, T] each.
          mixing: the mixer's carry; None when this call holds the whole sequence.
          memory: of the reader.
          reading: the reader's carry.
          rng: None means evaluation.

        Raises:
          UserError: the reader does not project what it read, and the source has another width.
        """
        rngs = split(rng, 7)
        entering = self.mixing_residual.before(inputs)
        written = self.mixing.remember(entering, places, rngs[0])
        carry = self.mixing.start(written, 0) if mixing is None else mixing
        mixed = self.mixing(entering, written, carry, places, rngs[1])
        outputs, read = self.mixing_residual.after(inputs, mixed.context, rngs[2]), None
        if self.reader is not None:
            read = self.reading(self.reading_residual.before(outputs), memory, reading, places, rngs[3])
            if read.context.shape[-1] != self.features:
                raise UserError(f'the reader adds vectors of width {read.context.shape[-1]} to a Transformer decoder '
                                f'of features = {self.features}: make encoder.features such that they are equal '
                                '(key_value_memory reads half of it, others all), or choose a reader that projects, '
                                'such as multi_head_dot')
            outputs = self.reading_residual.after(outputs, read.context, rngs[4])
        transformed = self.network(self.network_residual.before(outputs), rngs[5])
        return LayerOutput(self.network_residual.after(outputs, transformed, rngs[6]), mixed.carry, read)

    @nn.nowrap
    def flops(self, queries: int, entries: int, source_width: int) -> float:
        """Forward FLOPs of T = queries positions of one sequence that read S = entries of another."""
        reading = 0.0 if self.reader is None else self.reader().flops(queries, entries, self.features, source_width)
        return (self.mixer().flops(queries, queries, self.features, self.features) + reading
                + queries * FeedForward(self.features, self.hidden, activation=self.activation).flops())


def layer_of(remat: bool) -> type[TransformerLayer]:
    """A TransformerLayer, or one with the same parameters that keeps its inputs alone for gradients.

    Source: Chen et al. 2016, arXiv:1604.06174 (sublinear memory). Differs: a segment is a layer.
    """
    return nn.remat(TransformerLayer) if remat else TransformerLayer


class TransformerEncoder(nn.Module):
    """Layers of [mixer, feed-forward] over the source, every position reading every other.

    `summary`, the source as one vector: the mean over readable positions, or the first or the last of them.

    Source: Vaswani et al. 2017, section 3.1. Differs: pre-norm as an option (see layers/residual.py).

    Attributes:
      vocabulary: V of the source.
      features: D.
      hidden: F.
      layers: how many.
      mixer: makes a mixer, given whether it is causal and which layer it is for.
      norm: 'pre' or 'post'.
      position: one of POSITIONS.
      maximum_length: rows of the table of learned positions.
      summarise: 'mean', 'first' or 'last'.
      dropout: rate on embeddings, in the feed-forward network and after each sublayer.
      dtype: what is computed in.
      shared: an embedding that is not this part's alone; None = one of its own.
      scale_embeddings: whether they are multiplied by sqrt(D).
      activation: of the feed-forward networks, one of layers.feed_forward.ACTIVATIONS.
      epsilon: added to the variance in each layer norm.
      remat: whether what is inside of a layer is made again for gradients, and not kept.
    """

    vocabulary: int
    features: int
    hidden: int
    layers: int
    mixer: Callable[[bool, int], Attention]
    norm: str
    position: str
    maximum_length: int
    summarise: str = 'mean'
    dropout: float = 0.0
    dtype: Any = None
    shared: Embedding | None = None
    scale_embeddings: bool = True
    activation: str = 'relu'
    epsilon: float = 1e-6
    remat: bool = False

    packs: ClassVar[bool] = True

    def setup(self):
        self.entrance = Entrance(self.vocabulary, self.features, self.position, self.maximum_length,
                                 self.dropout, self.dtype, self.shared, self.scale_embeddings)
        self.stack = [self._layer(layer) for layer in range(self.layers)]
        self.last_norm = LayerNorm(self.epsilon, self.dtype) if self.norm == 'pre' else None

    @nn.nowrap
    def _layer(self, layer: int) -> TransformerLayer:
        mixer = functools.partial(self.mixer, False, layer)
        return layer_of(self.remat)(self.features, self.hidden, mixer, None, self.norm, self.dropout, self.dtype,
                                    self.activation, self.epsilon)

    def __call__(self, source: Array, places: Places, rng: Array | None = None) -> Encoded:
        """Source int32 [B, S] -> annotations [B, S, D] and the summary."""
        self.entrance.check_length(source.shape[1])
        entrance_rng, *rngs = split(rng, self.layers + 1)
        outputs = self.entrance(source, places, None, entrance_rng)
        for layer, layer_rng in zip(self.stack, rngs, strict=True):
            outputs = layer(outputs, places, rng=layer_rng).outputs
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
        return self.layers * self._layer(0).flops(entries, 0, 0)


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

    read: tuple[Any, ...]  # the reader's memory of each layer; () where nothing is read
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

    Source: Vaswani et al. 2017, section 3.1. Differs: see `TransformerLayer`; any reader in place of multi-head
    attention; one vector as described above.

    Attributes:
      vocabulary: V of the target.
      features: D.
      hidden: F.
      layers: how many.
      mixer: makes a mixer, given whether it is causal and which layer it is for.
      reader: makes a reader, given which layer it is for.
      reads: 'source', 'summary' or 'nothing'.
      norm: 'pre' or 'post'.
      position: one of POSITIONS.
      maximum_length: rows of the table of learned positions.
      tie_embeddings: the softmax shares the embedding's table.
      dropout: rate on embeddings, in the feed-forward network and after each sublayer.
      dtype: what is computed in.
      shared: an embedding that is not this part's alone; None = one of its own.
      scale_embeddings: whether they are multiplied by sqrt(D).
      activation: of the feed-forward networks, one of layers.feed_forward.ACTIVATIONS.
      epsilon: added to the variance in each layer norm.
      softmax_bias: whether a learned number is added to the score of each symbol.
      remat: as in TransformerEncoder.
    """

    vocabulary: int
    features: int
    hidden: int
    layers: int
    mixer: Callable[[bool, int], Attention]
    reader: Callable[[int], Attention]
    reads: str
    norm: str
    position: str
    maximum_length: int
    tie_embeddings: bool = False
    dropout: float = 0.0
    dtype: Any = None
    shared: Embedding | None = None
    scale_embeddings: bool = True
    activation: str = 'relu'
    epsilon: float = 1e-6
    softmax_bias: bool = False
    remat: bool = False

    packs: ClassVar[bool] = True

    def setup(self):
        self.entrance = Entrance(self.vocabulary, self.features, self.position, self.maximum_length,
                                 self.dropout, self.dtype, self.shared, self.scale_embeddings)
        self.stack = [self._layer(layer) for layer in range(self.layers)]
        self.last_norm = LayerNorm(self.epsilon, self.dtype) if self.norm == 'pre' else None
        self.begin = None if self.reads == 'source' else nn.Dense(self.features, use_bias=False, dtype=self.dtype)
        self.softmax = None if self.tie_embeddings else Projection(self.vocabulary)
        self.bias = self.param('scores_bias', nn.initializers.zeros, (self.vocabulary,)) if self.softmax_bias else None

    @nn.nowrap
    def _layer(self, layer: int) -> TransformerLayer:
        mixer = functools.partial(self.mixer, True, layer)
        reader = None if self.reads == 'nothing' else functools.partial(self.reader, layer)
        return layer_of(self.remat)(self.features, self.hidden, mixer, reader, self.norm, self.dropout, self.dtype,
                                    self.activation, self.epsilon)

    def remember(self, encoded: Encoded, source: Array, places: Places, rng: Array | None = None) -> TransformerMemory:
        """What this decoder keeps of an encoded source; `source` and `places` are what its readers may read."""
        read = () if self.reads == 'nothing' else tuple(
            layer.remember(source, places, key) for layer, key in zip(self.stack, split(rng, self.layers), strict=True))
        return TransformerMemory(
            read,
            None if self.begin is None else self.begin(encoded.summary),
            encoded.summary[:, :0])

    def start(self, memory: TransformerMemory, length: int) -> TransformerCarry:
        """The carry before the first of at most `length` positions."""
        self.entrance.check_length(length)
        batch = memory.size.shape[0]
        nothing = jnp.zeros((batch, 0, self.features), self.dtype or memory.size.dtype)
        nowhere = Places(jnp.zeros((batch, 0), jnp.int32), jnp.zeros((batch, 0), jnp.int32))
        return TransformerCarry(
            tuple(layer.start_mixing(nothing, nowhere, length) for layer in self.stack),
            self._start_reading(memory, length), jnp.zeros(batch, jnp.int32))

    def decode(self, memory: TransformerMemory, inputs: Array, places: Places, rng: Array | None = None) -> Decoded:
        """Inputs int32 [B, T] -> hidden [B, T, D] and weights, all positions at once."""
        self.entrance.check_length(inputs.shape[1])
        carry = TransformerCarry((None,) * self.layers, self._start_reading(memory, inputs.shape[1]), None)
        decoded, _, _ = self._layers(memory, carry, inputs, places, rng)
        return decoded

    def step(self, memory: TransformerMemory, carry: TransformerCarry,
             token: Array) -> tuple[Array, Array | None, TransformerCarry]:
        """Token int32 [B] -> hidden [B, D], weights [B, N, S] or None, carry."""
        position = carry.position[:, None]
        places = Places(jnp.ones_like(position), position)
        decoded, mixing, reading = self._layers(memory, carry, token[:, None], places, None)
        return (decoded.hidden[:, 0], None if decoded.weights is None else decoded.weights[:, :, 0],
                TransformerCarry(mixing, reading, carry.position + 1))

    def logits(self, hidden: Array) -> Array:
        """Hidden [..., D] -> scores [..., V]."""
        found = self.entrance.embedding.logits(hidden) if self.tie_embeddings else self.softmax(hidden)
        return found if self.bias is None else found + self.bias

    def _start_reading(self, memory: TransformerMemory, length: int) -> tuple[Carry, ...]:
        if self.reads == 'nothing':
            return ((),) * self.layers
        return tuple(layer.start_reading(read, length) for layer, read in zip(self.stack, memory.read, strict=True))

    def _layers(self, memory: TransformerMemory, carry: TransformerCarry, tokens: Array, places: Places,
                rng: Array | None) -> tuple[Decoded, tuple[Carry, ...], tuple[Carry, ...]]:
        """Some positions through all layers: what was decoded, weights [B, layers x N, T, S], and both carries."""
        entrance_rng, *rngs = split(rng, self.layers + 1)
        outputs = self.entrance(tokens, places, memory.begin, entrance_rng)
        found = []
        for layer, mixing, read, reading, layer_rng in zip(self.stack, carry.mixing, memory.read or ((),) * self.layers,
                                                           carry.reading, rngs, strict=True):
            found.append(layer(outputs, places, mixing, read, reading, layer_rng))
            outputs = found[-1].outputs
        if self.last_norm is not None:
            outputs = self.last_norm(outputs)
        reads = [one.read for one in found if one.read is not None]
        weights = [read.weights for read in reads if read.weights is not None]
        return (Decoded(outputs, jnp.concatenate(weights, axis=1) if weights else None, penalty(reads, places)),
                tuple(one.mixing for one in found), tuple(() if one.read is None else one.read.carry for one in found))

    @nn.nowrap
    def flops(self, targets: int, entries: int, source_width: int, context_width: int,
              final_widths: tuple[int, ...]) -> float:
        """Forward FLOPs of writing T = targets words while reading S = entries of the given width, softmax included."""
        begin = 0.0 if self.reads == 'source' else 2.0 * final_widths[-1] * self.features
        return (self.layers * self._layer(0).flops(targets, entries, source_width) + begin
                + targets * 2.0 * self.features * self.vocabulary)
