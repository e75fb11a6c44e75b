"""Ensembles: several models, of any kinds, that write one output together."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from research.models.contract import Carry, Decoded, EncoderDecoder, Memory, Params
from research.shapes import Array, Places


class Ensemble(EncoderDecoder):
    """The mean of what its models say of the next symbol, p(v) = sum_m p_m(v) / M, as one model; made by `ensemble`.

    Memories, carries and hidden states are tuples of the models'. The models have the same vocabularies, which the
    caller checks.

    Attributes:
      models: M of them, each an object of its own: Flax gives one object one set of parameters.

    Raises:
      ValueError: there is none, or one is there twice.
    """

    models: tuple[EncoderDecoder, ...]

    def __post_init__(self):
        if not self.models or len(set(map(id, self.models))) < len(self.models):
            raise ValueError(f'An ensemble of {len(self.models)} models; it needs one or more, each its own object.')
        super().__post_init__()

    def packs(self) -> bool:
        """Where every model does."""
        return all(model.packs() for model in self.models)

    def reads_source(self) -> bool:
        """Where any model does."""
        return any(model.reads_source() for model in self.models)

    def encode(self, source: Array, places: Places, rng: Array | None = None) -> tuple[Memory, ...]:
        """Source [B, S] -> the memory of each model."""
        return tuple(model.encode(source, places, key) for model, key in zip(self.models, self._keys(rng)))

    def decode(self, memory: tuple[Memory, ...], inputs: Array, places: Places, rng: Array | None = None) -> Decoded:
        """Inputs int32 [B, T] -> hidden, [B, T, D] of each model, and the mean of the weights, [B, 1, T, S] or None."""
        decoded = [model.decode(kept, inputs, places, key)
                   for model, kept, key in zip(self.models, memory, self._keys(rng))]
        return Decoded(tuple(one.hidden for one in decoded), mean_weights([one.weights for one in decoded]),
                       sum(one.penalty for one in decoded))

    def start(self, memory: tuple[Memory, ...], length: int) -> tuple[Carry, ...]:
        """The carry of each model before the first of at most `length` positions."""
        return tuple(model.start(kept, length) for model, kept in zip(self.models, memory))

    def step(self, memory: tuple[Memory, ...], carry: tuple[Carry, ...],
             token: Array) -> tuple[tuple[Array, ...], Array | None, tuple[Carry, ...]]:
        """Token int32 [B] -> hidden, [B, D] of each model, weights [B, 1, S] or None, and the carry of each."""
        hidden, weights, carry = zip(*(model.step(kept, handed, token)
                                       for model, kept, handed in zip(self.models, memory, carry)))
        return hidden, mean_weights(weights), carry

    def logits(self, hidden: tuple[Array, ...]) -> Array:
        """Hidden, [..., D] of each model -> log sum_m p_m(v) / M, float32 [..., V]: normalised already."""
        each = [jax.nn.log_softmax(model.logits(one).astype(jnp.float32), axis=-1)
                for model, one in zip(self.models, hidden)]
        return jax.nn.logsumexp(jnp.stack(each), axis=0) - jnp.log(len(each))

    def _keys(self, rng):
        return [None] * len(self.models) if rng is None else jax.random.split(rng, len(self.models))


def ensemble(members: Sequence[tuple[EncoderDecoder, Params]]) -> tuple[Ensemble, Params]:
    """Several models, each with its parameters, as one: for every search and for forced scores.

    Args:
      members: (model, params); the same model may be there with several parameters.

    Returns:
      The ensemble and its parameters.

    Raises:
      ValueError: there is none.
    """
    models = tuple(model.clone() for model, _ in members)  # objects of their own, or they would share parameters
    return Ensemble(models), {f'models_{m}': params for m, (_, params) in enumerate(members)}


def mean_weights(weights: Sequence[Array | None]) -> Array | None:
    """What the models read on average: the mean over the heads of each, and then over the models.

    Args:
      weights: [B, N, ..., S] of each model, or None.

    Returns:
      [B, 1, ..., S]; None where a model has none, or they are not over the same positions.
    """
    if any(one is None for one in weights) or len({one.shape[-1] for one in weights}) > 1:
        return None
    return sum(jnp.mean(one.astype(jnp.float32), axis=1, keepdims=True) for one in weights) / len(weights)
