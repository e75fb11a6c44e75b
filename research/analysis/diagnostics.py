"""What is asked of every arm after training, so that a report can say how it reads and what it forgets."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.analysis import gradients, readout, weights
from research.models import contract, probes
from research.shapes import Array, Batch

Numbers = dict[str, Callable[[np.ndarray], np.ndarray]]  # name -> function of [N, T, S]

READING: Numbers = {  # of a decoder that reads a source
    'entropy': weights.entropy, 'entropy_share': weights.entropy_share, 'support': weights.support,
    'mass': weights.mass, 'sink_first': lambda found: weights.sink_mass(found, 0),
    'sink_end': lambda found: weights.sink_mass(found, -1), 'distance': weights.diagonal_distance,
    'coverage': weights.coverage}
MIXING: Numbers = {  # of a sequence that reads itself
    'entropy': weights.entropy, 'entropy_share': weights.entropy_share, 'support': weights.support,
    'mass': weights.mass, 'sink_first': lambda found: weights.sink_mass(found, 0), 'distance': weights.read_distance}
CAUSAL: Numbers = MIXING | {'entropy_share': lambda found: weights.entropy_share(found, 1 + np.arange(found.shape[1]))}
KINDS = {'reader': READING, 'source': MIXING, 'inputs': MIXING}


def diagnose(model: contract.EncoderDecoder, params: contract.Params, batches: Sequence[Batch],
             sentences: int = 200) -> dict[str, Any]:
    """Everything that a report says of how a model reads; numbers, lists and None, as JSON has them.

        entropy, entropy_share, support, mass, sink_first, sink_end, distance, coverage
                         of the decoder's weights on the source (research/analysis/weights.py): means over sentences,
                         and over heads; None where the model returns no weights
        heads            the same of each head, with its layer and its number in it, both from 0; None likewise
        mixing           {'source': ..., 'inputs': ...}: the same of what each side reads of itself, with `distance` to
                         the own position, without sink_end and coverage; None where nothing there makes weights
        gradient_reach   see `gradient_reach`
        memory_probe     see `memory_probe`

    Three programs are compiled for each shape of the batches, which should have one or two.

    Args:
      model: an encoder-decoder, or a model without a source.
      params: its parameters.
      batches: with a sentence a row, as those of `build.sample_plan`; the right targets are given to the decoder.
      sentences: so many, in whole batches, are looked at for weights and gradients; the memory is probed with all.
    """
    first = _first(batches, sentences)
    return {**reading(model, params, first), 'gradient_reach': gradient_reach(model, params, first),
            'memory_probe': memory_probe(model, params, batches)}


def reading(model: contract.EncoderDecoder, params: contract.Params, batches: Sequence[Batch]) -> dict[str, Any]:
    """How a decoder reads its source and each side itself: the first ten keys of `diagnose`; arguments as there."""
    layers: dict[str, list[probes.Reading]] = {kind: [] for kind in KINDS}
    numbers: dict[str, list[list[np.ndarray]]] = {kind: [] for kind in KINDS}  # of each sentence and layer, [K, N]
    for batch in batches:
        layers = jax.tree.map(np.asarray, _readings(model, params, batch))
        S, T = _sizes(batch.source_places), _sizes(batch.target_places)
        for row in np.flatnonzero(T):
            sizes = {'reader': (T[row], S[row]), 'source': (S[row], S[row]), 'inputs': (T[row], T[row])}
            for kind, found in layers.items():
                t, s = sizes[kind]
                numbers[kind].append([_numbers(kind, one.causal, one.weights[row, :, :t, :s]) for one in found])
    said = {kind: _over_heads(KINDS[kind], [int(one.layer) for one in layers[kind]], numbers[kind]) for kind in KINDS}
    nothing = dict.fromkeys((*READING, 'heads'))
    return {**(said['reader'] or nothing), 'mixing': {side: said[side] for side in probes.SIDES}}


def gradient_reach(model: contract.EncoderDecoder, params: contract.Params, batches: Sequence[Batch]) -> dict[str, Any]:
    """How far back what is last written still depends on what was read: gradient norm against distance.

        norm[d] = norm(d loss[t] / d x[s]),  t the last target position
        with a source:    d = S - 1 - s, counted from the end of the source (its end symbol has d = 0)
        without one:      d = t - s

    `x` are the embeddings. Between x[s] and a target at t a recurrent encoder-decoder that reads nothing takes d + t
    steps, so that its slope is that of its states; an encoder of both directions also has a way around.

    Returns:
      As `gradients.decay`.

    Source: Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, section 2 (gradients of recurrent networks). Differs: of
    the loss in an input, which every architecture has, where they look at states.
    """
    side = _side(model)
    rows: list[np.ndarray] = []
    for batch in batches:
        last = last_asked(batch)
        rows += _by_distance(batch, last, np.asarray(_norms_at(
            model, params, batch, np.maximum(last, 0), side)), side)
    return gradients.decay(rows)


def gradient_norms(model: contract.EncoderDecoder, params: contract.Params, batch: Batch, side: str) -> Array:
    """What each target's loss depends on: norm(d loss[t] / d x[s]) for all t and s, one backward pass for each t.

    Args:
      model: any.
      params: its parameters.
      batch: with a sentence a row.
      side: 'source', or 'inputs' (what the decoder reads).

    Returns:
      [B, T, S], or [B, T, T] for the inputs. 0 exactly where nothing comes through.
    """
    def of(t):
        return norms_at(model, params, batch, jnp.full(batch.targets.shape[0], t), side)
    return jnp.moveaxis(jax.lax.map(of, jnp.arange(batch.targets.shape[1])), 0, 1)


def norms_at(model: contract.EncoderDecoder, params: contract.Params, batch: Batch, positions: Array,
             side: str) -> Array:
    """The same for one target of each sentence: positions int32 [B] -> [B, S], or [B, T] for the inputs."""
    nowhere = jnp.zeros(probes.offset_shape(model, params, batch, side))
    gradient = jax.grad(lambda offset: jnp.sum(probes.loss_at(model, params, batch, positions, side, offset)))(nowhere)
    largest = jnp.max(jnp.abs(gradient), axis=-1, keepdims=True)  # squares of small numbers would be 0
    scaled = jnp.linalg.norm(gradient / jnp.where(largest > 0, largest, 1.0), axis=-1)
    return largest[..., 0] * scaled


def memory_probe(model: contract.EncoderDecoder, params: contract.Params,
                 batches: Sequence[Batch]) -> dict[str, Any] | None:
    """How well each symbol that was read can be named from one vector, by how long ago it was: `readout.memory`.

    With a source the vector is the source's summary, whether or not the decoder reads it, and distance is counted from
    the end of the source; without one it is the hidden vector of the last position that is asked, and distance is
    counted from there.

    Returns:
      As `readout.memory`.
    """
    side = _side(model)
    vectors: list[np.ndarray] = []
    symbols: list[np.ndarray] = []
    for batch in batches:
        last = last_asked(batch)
        vectors += list(np.asarray(_vector(model, params, batch, np.maximum(last, 0)), np.float64)[last >= 0])
        symbols += _by_distance(batch, last, batch.source if side == 'source' else batch.inputs, side)
    return readout.memory(np.array(vectors), symbols)


@functools.partial(jax.jit, static_argnums=0)
def _vector(model, params, batch, positions):
    """What the memory is probed in."""
    if model.reads_source():
        return probes.source_vector(model, params, batch.source, batch.source_places)
    memory = contract.encode(model, params, batch.source, batch.source_places)
    hidden = contract.decode(model, params, memory, batch.inputs, batch.target_places).hidden
    return jnp.take_along_axis(hidden, positions[:, None, None], axis=1)[:, 0]


# Compiled once for a model, whatever its parameters: those of all seeds.
_readings = jax.jit(probes.readings, static_argnums=0)
_norms_at = jax.jit(norms_at, static_argnums=(0, 4))


def last_asked(batch: Batch) -> np.ndarray:
    """The last position of each sentence that has a target: int [B]; -1 where there is none."""
    asked = (np.asarray(batch.target_places.segment) > 0) & (np.asarray(batch.targets) > 0)
    return np.where(asked, np.arange(asked.shape[1]), -1).max(axis=1)


def _first(batches, sentences):
    """As many batches as hold so many sentences."""
    found = []
    for k in range(len(batches)):
        if sentences <= 0:
            break
        found.append(batches[k])
        sentences -= np.count_nonzero(_sizes(found[-1].target_places))
    return found


def _side(model):
    return 'source' if model.reads_source() else 'inputs'


def _by_distance(batch, last, values, side):
    """Of each sentence the values [S] or [T] at distances 0, 1, ... from where it is looked back."""
    ends = _sizes(batch.source_places) if side == 'source' else last + 1
    return [values[row, :ends[row]][::-1] for row in np.flatnonzero(last >= 0)]


def _sizes(places):
    """The real positions of each row: int [B]; they come first."""
    return np.count_nonzero(places.segment, axis=1)


def _numbers(kind, causal, found):
    """All numbers of the weights [N, T, S] of one sentence: [K, N]."""
    numbers = CAUSAL if causal and kind != 'reader' else KINDS[kind]
    return np.array([number(found) for number in numbers.values()])


def _over_heads(names, layers, sentences):
    """Means over sentences of each head, and over heads; None where no layer makes weights or there is no sentence."""
    if not layers or not sentences:
        return None
    heads = [{'layer': layer, 'head': n, **{name: _mean([sentence[k][place, n] for sentence in sentences])
                                            for place, name in enumerate(names)}}
             for k, layer in enumerate(layers) for n in range(sentences[0][k].shape[1])]
    return {name: _mean([head[name] for head in heads if head[name] is not None]) for name in names} | {'heads': heads}


def _mean(values):
    """The mean of what is a number; None where nothing is."""
    values = np.array(values)[~np.isnan(values)] if len(values) else np.array([])
    return float(values.mean()) if len(values) else None
