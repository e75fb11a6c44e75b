"""What the contract does not say of a model, read or moved from outside while it computes: it knows nothing of that."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.attention.contract import Attention
from research.layers.embedding import Embedding
from research.models import contract
from research.models.transformer import TransformerDecoder
from research.shapes import Array, Batch, Places

SIDES = ('source', 'inputs')


class Reading(NamedTuple):
    """The weights of what one layer reads: a decoder its source, or a sequence itself."""

    layer: int
    causal: bool    # whether later positions are hidden
    weights: Array  # [B, N, T, S]


def loss_at(model: contract.EncoderDecoder, params: contract.Params, batch: Batch, positions: Array, side: str,
            offset: Array) -> Array:
    """The cross-entropy of one target of each sentence, with an offset added to the embeddings of one side.

    loss[b] = -log softmax(logits(hidden[b, t]))[targets[b, t]],  t = positions[b];  x[b, s] = embedding + offset[b, s]

    Its gradient in `offset` at 0 is the gradient in what the model is given at each position.

    Args:
      model: any.
      params: its parameters.
      batch: of B sentences.
      positions: int32 [B], of the targets.
      side: 'source' or 'inputs' (what the decoder reads).
      offset: [B, S, D] or [B, T, D], D the width of that side's embeddings: `offset_shape`.

    Returns:
      [B], in float32 or better.

    Raises:
      ValueError: there is no such side.
    """
    _check(side)

    def add(vectors):
        return vectors + offset.astype(vectors.dtype)
    with _embeddings(add) if side == 'source' else contextlib.nullcontext():
        memory = contract.encode(model, params, batch.source, batch.source_places)
    with _embeddings(add) if side == 'inputs' else contextlib.nullcontext():
        hidden = contract.decode(model, params, memory, batch.inputs, batch.target_places).hidden
    hidden = jnp.take_along_axis(hidden, positions[:, None, None], axis=1)[:, 0]
    scores = jax.nn.log_softmax(contract.logits(model, params, hidden), axis=-1)
    answers = jnp.take_along_axis(batch.targets, positions[:, None], axis=1)
    return -jnp.take_along_axis(scores, answers, axis=1)[:, 0]


def offset_shape(model: contract.EncoderDecoder, params: contract.Params, batch: Batch, side: str) -> tuple[int, ...]:
    """The shape of the embeddings of one side of a batch; nothing is computed.

    Raises:
      ValueError: there is no such side, or the model embeds nothing there.
    """
    _check(side)
    shapes = []

    def note(vectors):
        shapes.append(vectors.shape)
        return vectors

    def read(params, batch):
        with _embeddings(note) if side == 'source' else contextlib.nullcontext():
            memory = contract.encode(model, params, batch.source, batch.source_places)
        with _embeddings(note) if side == 'inputs' else contextlib.nullcontext():
            return contract.decode(model, params, memory, batch.inputs, batch.target_places).hidden
    jax.eval_shape(read, params, batch)
    if len(shapes) != 1:
        raise ValueError(f'The model embeds {len(shapes)} sequences as its {side}; it must be one.')
    return shapes[0]


def source_vector(model: contract.EncoderDecoder, params: contract.Params, source: Array, places: Places) -> Array:
    """The source as one vector, whether or not the decoder reads it: source [B, S] and its places -> [B, E].

    It is what `fixed_context` reads: of a recurrent encoder the top layer's last state, of a Transformer its summary.
    """
    return model.apply({'params': params}, source, places, method=lambda model, source, places: model.encoder(
        source, places).summary)


def readings(model: contract.EncoderDecoder, params: contract.Params, batch: Batch) -> dict[str, list[Reading]]:
    """What every position reads, where weights are made: the layers that have some, bottom first.

    Returns:
      'reader': the decoder of the source; 'source': the encoder of itself; 'inputs': the decoder, or a model without a
      source, of itself. A list is empty where nothing makes weights.
    """
    model = _kept_whole(model)
    found = {side: [] for side in SIDES}
    with _mixers(found['source'].append):
        memory = contract.encode(model, params, batch.source, batch.source_places)
    with _mixers(found['inputs'].append):
        weights = contract.decode(model, params, memory, batch.inputs, batch.target_places).weights
    decoder = getattr(model, 'decoder', None)
    layers = decoder.layers if isinstance(decoder, TransformerDecoder) else 1  # a recurrent decoder reads once
    heads = [] if weights is None else jnp.split(weights, layers, axis=1)
    return {'reader': [Reading(layer, False, one) for layer, one in enumerate(heads)], **found}


def _check(side):
    if side not in SIDES:
        raise ValueError(f'There is no side {side!r}; it must be one of {", ".join(SIDES)}.')


def _embeddings(change: Callable[[Array], Array]):
    """While it lasts, `change` stands between each embedding of symbols and what reads it."""
    def call(method, arguments, options, context):
        vectors = method(*arguments, **options)
        looked_up = isinstance(context.module, Embedding) and context.method_name == '__call__'
        return change(vectors) if looked_up else vectors
    return nn.intercept_methods(call)


def _mixers(note: Callable[[Reading], None]):
    """While it lasts, `note` is told what each mixer reads; one inside another (both ways) is part of that."""
    def call(method, arguments, options, context):
        said, mixer = method(*arguments, **options), context.module
        if (isinstance(mixer, Attention) and mixer.role == 'self' and context.method_name == '__call__'
                and not isinstance(mixer.parent, Attention) and said.weights is not None):
            note(Reading(mixer.layer, mixer.causal, said.weights))
        return said
    return nn.intercept_methods(call)


def _kept_whole(model):
    """The same model without remat: what is made again for gradients cannot be looked at in passing."""
    parts = {name: getattr(model, name) for name in ('encoder', 'decoder') if hasattr(model, name)}
    changes = {name: part.clone(remat=False) for name, part in parts.items() if hasattr(part, 'remat')}
    return model.clone(**changes, **({'remat': False} if hasattr(model, 'remat') else {}))
