"""Recurrent encoder and decoder: any cell, any number of layers, any reader between the two."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.attention.contract import Attention, Carry, Read, penalty
from research.cells.contract import Cell, CellState, hold
from research.layers.dropout import dropout, split
from research.layers.embedding import Embedding, Projection, shared_or_own
from research.models.contract import Decoded, Encoded
from research.shapes import Array, Places

READS_WITH = ('previous', 'current', 'between')
START_STATES = ('final', 'zero')


class RecurrentEncoder(nn.Module):
    """Layers of a cell over the source, in both directions or one; a layer's annotation is [forward; backward].

    `summary` is what the top layer's cell hands on of its last state, `finals` what all layers' do: of a cell all of
    its state (h and c of an LSTM) if it says nothing else; directions concatenated.

    Source: Bahdanau, Cho, Bengio 2015, arXiv:1409.0473, appendix A.2.1 (bidirectional); Sutskever, Vinyals, Le 2014,
    arXiv:1409.3215, section 3.3 (backward). Differs: any cell, any depth; backward, the end symbol is read first.

    Attributes:
      vocabulary: V of the source.
      embedding_features: width of the embeddings.
      features: D_s, the width of an annotation; each direction has half of it when there are two.
      layers: how many.
      cell: makes a cell of a given width.
      bidirectional: read the source in both directions.
      backward: read it in one direction, from its end to its beginning.
      dropout: rate on embeddings and between layers.
      dtype: what is computed in.
      shared: an embedding that is not this encoder's alone; None = one of its own.
    """

    vocabulary: int
    embedding_features: int
    features: int
    layers: int
    cell: Callable[[int], Cell]
    bidirectional: bool = True
    dropout: float = 0.0
    dtype: Any = None
    shared: Embedding | None = None
    backward: bool = False

    packs: ClassVar[bool] = False  # a state goes on from one sentence to the next

    def setup(self):
        self.embedding = shared_or_own(self.shared, self.vocabulary, self.embedding_features, self.dtype)
        self.forwards = [self.cell(self._width()) for _ in range(self.layers)]
        self.backwards = [self.cell(self._width()) for _ in range(self.layers)] if self.bidirectional else []

    @nn.nowrap
    def _width(self) -> int:
        return self.features // 2 if self.bidirectional else self.features

    def __call__(self, source: Array, places: Places, rng: Array | None = None) -> Encoded:
        """Source int32 [B, S] -> annotations [B, S, D_s] and what a decoder may start from."""
        rngs = split(rng, self.layers)
        mask = places.segment > 0
        outputs, finals = self.embedding(source), []
        for layer, forward in enumerate(self.forwards):
            inputs = dropout(outputs, self.dropout, rngs[layer])
            outputs, state = forward.over(inputs, mask, forward.start(source.shape[0]), reverse=self.backward)
            final = forward.final(state)
            if self.bidirectional:
                backward = self.backwards[layer]
                others, other = backward.over(inputs, mask, backward.start(source.shape[0]), reverse=True)
                outputs = jnp.concatenate([outputs, others], axis=-1)
                final = jnp.concatenate([final, backward.final(other)], axis=-1)
            finals.append(final.astype(outputs.dtype))
        return Encoded(outputs, places, finals[-1], tuple(finals))

    @nn.nowrap
    def final_widths(self) -> tuple[int, ...]:
        """Widths of `finals`, bottom to top."""
        return (self.cell(self._width()).final_width * (2 if self.bidirectional else 1),) * self.layers

    @nn.nowrap
    def flops(self, entries: int) -> float:
        """Forward FLOPs of reading S = entries source positions."""
        cell, directions = self.cell(self._width()), 2 if self.bidirectional else 1
        widths = (self.embedding_features, *(self.features,) * (self.layers - 1))
        return entries * directions * sum(cell.flops(width) for width in widths)


class RecurrentMemory(NamedTuple):
    """What a recurrent decoder knows of a source."""

    read: Any                      # the reader's memory
    starts: tuple[CellState, ...]  # the state of each layer before the first word


class RecurrentCarry(NamedTuple):
    """What one position of a recurrent decoder hands to the next."""

    states: tuple[CellState, ...]  # of each layer
    fed: Array                     # [B, D] the hidden vector before, with input feeding; else [B, 0]
    reading: Carry                 # the reader's carry
    position: Array                # int32 [B]


class RecurrentDecoder(nn.Module):
    """Layers of a cell that write the target and, before, after or within each step, read the source.

        reads_with = previous:  c_t = read(s_{t-1});  s_t = cell([E y_{t-1}; c_t], s_{t-1})
                                hidden_t = tanh(W [s_t; E y_{t-1}; c_t])
        reads_with = current:   s_t = cell(E y_{t-1}, s_{t-1});  c_t = read(s_t)
                                hidden_t = tanh(W [s_t; c_t])
        reads_with = between:   s'_t = cell_1(E y_{t-1}, s_{t-1});  c_t = read(s'_t);  s_t = cell_2(c_t, s'_t)
                                hidden_t = tanh(W [s_t; E y_{t-1}; c_t])
        input_feeding:          the cell (cell_1) also reads hidden_{t-1}, zero before the first word

    With several layers, `previous` asks with the top layer's output before the step, `current` with the one after it,
    and c_t of `previous` enters the bottom layer. With `between` the pair of cells is the bottom layer and has one
    state, which passes through both: the query is the output of cell_1, whatever stands above, and the layer above
    reads that of cell_2. The s_t of `hidden_t` is the top layer's output in all three.

    The layers start from what their cell (of the pair, cell_1) makes of `tanh(W final + b)` of the encoder's layers,
    aligned at the top; a decoder deeper than its encoder repeats the lowest. With reader `none` the context has width 0
    and the start is all that the decoder knows; with `fixed_context` and `previous` it reads what Cho's does. `between`
    makes sense with neither: cell_2 would read nothing, or the same vector at each step. With `current` and no input
    feeding nothing read feeds back, and all positions are read in one call.

    Source: previous: Bahdanau 2015, arXiv:1409.0473, appendix A.2.2, and Cho 2014, arXiv:1406.1078, section 2.3;
    current and input feeding: Luong 2015, arXiv:1508.04025, sections 3 and 3.3; between: the conditional GRU of
    nyu-dl/dl4mt-tutorial, session2/nmt.py, gru_cond_layer, and Sennrich 2017, arXiv:1703.04357, section 2, with layers
    above the pair as in Nematus's code; start only: Sutskever 2014, arXiv:1409.3215. Differs: one way of starting for
    all of them, tanh(W final + b) in each layer, from both directions where there are two (Bahdanau: the backward one;
    Luong and Sutskever: the encoder's states as they are; dl4mt and Sennrich: the mean of the annotations); `tanh` in
    place of Bahdanau's and Cho's maxout, and a hidden layer before the softmax where Sutskever has none, always of
    width D and without bias (dl4mt: of the embeddings' width, with biases); what was read enters a cell beside its
    input, so a cell that resets its state before the product does not reset it; a pair of any cell (dl4mt: a GRU that
    resets after the product), and no residual connections above it (Nematus has them).

    Attributes:
      vocabulary: V of the target.
      embedding_features: width of the embeddings.
      features: D, the width of the cells and of `hidden`.
      layers: how many.
      cell: makes a cell of a given width.
      reader: makes the reader.
      reads_with: 'previous', 'current' or 'between'.
      input_feeding: see above.
      start_state: 'final', or 'zero': the decoder knows the source by reading only.
      tie_embeddings: the softmax shares the embedding's table; needs embedding_features = features.
      dropout: rate on embeddings, between layers and on `hidden`.
      dtype: what is computed in.
      shared: an embedding that is not this decoder's alone; None = one of its own.
    """

    vocabulary: int
    embedding_features: int
    features: int
    layers: int
    cell: Callable[[int], Cell]
    reader: Callable[[], Attention]
    reads_with: str = 'previous'
    input_feeding: bool = False
    start_state: str = 'final'
    tie_embeddings: bool = False
    dropout: float = 0.0
    dtype: Any = None
    shared: Embedding | None = None

    packs: ClassVar[bool] = False  # a state goes on from one sentence to the next

    def setup(self):
        self.embedding = shared_or_own(self.shared, self.vocabulary, self.embedding_features, self.dtype)
        self.cells = [self.cell(self.features) for _ in range(self.layers)]
        self.second = self.cell(self.features) if self.reads_with == 'between' else None  # of the bottom layer's pair
        self.reading = self.reader()
        self.feedback = nn.Dense(self.cells[0].projected_width, use_bias=False, dtype=self.dtype)
        self.readout = nn.Dense(self.features, use_bias=False, dtype=self.dtype)
        if self.start_state == 'final':
            self.bridges = [nn.Dense(cell.start_width, dtype=self.dtype) for cell in self.cells]
        self.softmax = None if self.tie_embeddings else Projection(self.vocabulary)

    def remember(self, encoded: Encoded, source: Array, places: Places, rng: Array | None = None) -> RecurrentMemory:
        """What this decoder keeps of an encoded source; `source` and `places` are what its reader may read."""
        if self.start_state == 'zero':
            starts = tuple(cell.start(encoded.summary.shape[0]) for cell in self.cells)
        else:
            chosen = align_at_top(encoded.finals, self.layers)
            starts = tuple(cell.start_from(jnp.tanh(bridge(final))) for cell, bridge, final in
                           zip(self.cells, self.bridges, chosen, strict=True))
        return RecurrentMemory(self.reading.remember(source, places, rng), starts)

    def start(self, memory: RecurrentMemory, length: int) -> RecurrentCarry:
        """The carry before the first position."""
        batch = memory.starts[0][0].shape[0]
        fed = jnp.zeros((batch, self.features if self.input_feeding else 0), self.dtype or jnp.float32)
        return RecurrentCarry(memory.starts, fed, self.reading.start(memory.read, length), jnp.zeros(batch, jnp.int32))

    def decode(self, memory: RecurrentMemory, inputs: Array, places: Places, rng: Array | None = None) -> Decoded:
        """Inputs int32 [B, T] -> hidden [B, T, D] and weights, all positions at once."""
        T = inputs.shape[1]
        embedding_rng, cells_rng, read_rng, hidden_rng = split(rng, 4)
        embedded = dropout(self.embedding(inputs), self.dropout, embedding_rng)
        carry = self.start(memory, T)
        if self.reads_with == 'current' and not self.input_feeding:
            outputs = self._cells_over(memory.starts, embedded, places, cells_rng)
            read = self.reading(outputs, memory.read, carry.reading, places, read_rng)
            hidden = self._hidden(outputs, embedded, read.context)
        else:
            def position(module, carry, at):
                embedded, projected, segment, place, rng = at
                return module._position(memory, carry, embedded, projected, Places(segment, place), rng)
            scan = nn.scan(position, variable_broadcast='params', split_rngs={'params': False}, in_axes=1, out_axes=1)
            keys = None if rng is None else jax.random.split(cells_rng, T)[None]  # time is axis 1 of everything scanned
            _, (outputs, read, fed) = scan(
                self, carry, (embedded, self.cells[0].project(embedded), places.segment, places.position, keys))
            read = read._replace(weights=None if read.weights is None else jnp.moveaxis(read.weights, 1, 2))
            hidden = fed if self.input_feeding else self._hidden(outputs, embedded, read.context)
        return Decoded(dropout(hidden, self.dropout, hidden_rng), read.weights, penalty([read], places))

    def step(self, memory: RecurrentMemory, carry: RecurrentCarry,
             token: Array) -> tuple[Array, Array | None, RecurrentCarry]:
        """Token int32 [B] -> hidden [B, D], weights [B, N, S] or None, carry."""
        embedded = self.embedding(token)
        places = Places(jnp.ones_like(carry.position), carry.position)
        carry, (output, read, fed) = self._position(
            memory, carry, embedded, self.cells[0].project(embedded), places, None)
        return fed if self.input_feeding else self._hidden(output, embedded, read.context), read.weights, carry

    def logits(self, hidden: Array) -> Array:
        """Hidden [..., D] -> scores [..., V]."""
        return self.embedding.logits(hidden) if self.tie_embeddings else self.softmax(hidden)

    def _position(self, memory, carry, embedded, projected, places, rng):
        """One position, [B, ...] each: the step that training scans and decoding calls. A pad changes no state."""
        cells_rng, read_rng = split(None if rng is None else rng[0], 2)
        real = places.segment > 0

        def ask(state):
            return self._read(state, memory, carry, places, read_rng)
        if self.reads_with == 'previous':
            read = ask(carry.states[-1])
            bottom = self._first(carry, projected, read.context)
        else:
            bottom = self._first(carry, projected)
        if self.reads_with == 'between':
            read = ask(bottom)
            bottom = self.second.step(bottom, read.context)
        states = self._layers(carry, bottom, real, cells_rng)
        if self.reads_with == 'current':
            read = ask(states[-1])
        output, fed = jnp.where(real[:, None], self._output(states[-1]), 0), carry.fed
        if self.input_feeding:
            fed = jnp.where(real[:, None], self._hidden(output, embedded, read.context), fed)
        return RecurrentCarry(states, fed, read.carry, carry.position + 1), (output, read._replace(carry=()), fed)

    def _output(self, state):
        """What a cell's state shows to whatever is not its own recurrence."""
        return state[0].astype(self.dtype or state[0].dtype)

    def _read(self, state, memory, carry, places, rng):
        at = Places(places.segment[:, None], places.position[:, None])
        read = self.reading(self._output(state)[:, None], memory.read, carry.reading, at, rng)
        return Read(read.context[:, 0], None if read.weights is None else read.weights[:, :, 0], read.carry,
                    None if read.penalty is None else read.penalty[:, 0])

    def _first(self, carry, projected, *read):
        """The bottom layer's first cell, one position: its input is projected, what was read and fed is not."""
        read = jnp.concatenate([*read, carry.fed], axis=-1)
        if read.shape[-1]:
            projected = projected + self.feedback(read)
        return self.cells[0].advance(carry.states[0], projected)

    def _layers(self, carry, bottom, real, rng):
        """All layers, one position, from the bottom one's next state on."""
        rngs, new = split(rng, self.layers), [bottom]
        for cell, state, key in zip(self.cells[1:], carry.states[1:], rngs[1:], strict=True):
            new.append(cell.step(state, dropout(self._output(new[-1]), self.dropout, key)))
        return tuple(hold(real, after, before) for after, before in zip(new, carry.states, strict=True))

    def _cells_over(self, starts, embedded, places, rng):
        """All layers, all positions, nothing read."""
        rngs, outputs = split(rng, self.layers), embedded
        for layer, (cell, start) in enumerate(zip(self.cells, starts, strict=True)):
            inputs = dropout(outputs, self.dropout, rngs[layer]) if layer else outputs
            outputs, _ = cell.over(inputs, places.segment > 0, start)
        return outputs

    def _hidden(self, outputs, embedded, context):
        parts = (outputs, context) if self.reads_with == 'current' else (outputs, embedded, context)
        return jnp.tanh(self.readout(jnp.concatenate([part.astype(outputs.dtype) for part in parts], axis=-1)))

    @nn.nowrap
    def flops(self, targets: int, entries: int, source_width: int, context_width: int,
              final_widths: tuple[int, ...]) -> float:
        """Forward FLOPs of writing T = targets words while reading S = entries of the given width, softmax included."""
        cell, D = self.cell(self.features), self.features
        read = context_width * (self.reads_with == 'previous') + D * self.input_feeding
        parts = D + context_width + self.embedding_features * (self.reads_with != 'current')
        word = (cell.flops(self.embedding_features) + cell.flops(context_width) * (self.reads_with == 'between')
                + (self.layers - 1) * cell.flops(D) + 2.0 * read * cell.projected_width + 2.0 * parts * D
                + 2.0 * D * self.vocabulary)
        bridge = sum(2.0 * width * cell.start_width + cell.start_flops
                     for width in align_at_top(final_widths, self.layers))
        return (targets * word + bridge * (self.start_state == 'final')
                + self.reader().flops(targets, entries, D, source_width))


def align_at_top(finals: tuple, layers: int) -> list:
    """One of `finals` for each of `layers`, counted from the top; a deeper decoder repeats the lowest."""
    return [finals[max(0, len(finals) - layers + layer)] for layer in range(layers)]
