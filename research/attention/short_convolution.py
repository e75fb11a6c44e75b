"""What stands a few places before a position, mixed into it before a mixer projects it."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from research.attention.contract import Attention, Carry, Inputs, Read
from research.shapes import Array, Places


def short_convolution(inputs: Array, segment: Array, kernel: Array) -> Array:
    """Each channel by itself over a position and those before it, of its own sentence: `silu(sum_k w_k * x_{t-k})`.

    Args:
      inputs: [B, T, D].
      segment: int32 [B, T]; a neighbour of another one counts as zero. Positions of a segment stand side by side: a pad
        between two of them takes a place.
      kernel: w, [W, D]; w_0 belongs to the position itself.

    Returns:
      [B, T, D].

    Source: Gu and Dao 2023, arXiv:2312.00752, section 3.4 and figure 3 (convolution, then SiLU); the catalogue's rule
    that it is one flag for every mixer. Differs: it is applied once, to what queries, keys and values are projected
    from, not to what was projected; no bias.
    """
    (W, _), length, total = kernel.shape, segment.shape[1], 0.0
    inputs, around = jnp.pad(inputs, ((0, 0), (W - 1, 0), (0, 0))), jnp.pad(segment, ((0, 0), (W - 1, 0)))
    for distance, weight in enumerate(kernel):
        there = slice(W - 1 - distance, W - 1 - distance + length)
        same = (around[:, there] == segment) & (segment > 0)
        total += jnp.where(same[..., None], inputs[:, there], 0.0) * weight
    return jax.nn.silu(total)


class Neighbours(NamedTuple):
    """What one call hands to the next."""

    inputs: Array   # [B, W - 1, D]: the last real positions
    segment: Array  # int32 [B, W - 1]; 0 where there was none
    mixer: Carry    # of the mixer


class ShortConvolution(Attention):
    """A mixer of what `short_convolution` makes of its inputs: `mixer(silu(conv(x)))`.

    Attributes:
      mixer: an attention in the self role.
      width: W, positions that the convolution sees, the own one included.
    """

    mixer: Attention = None
    width: int = 4

    def setup(self):
        bound = self.width**-0.5  # of a uniform distribution, as for a dense layer of W inputs
        self.kernel = self.param('kernel', lambda rng, shape: jax.random.uniform(rng, shape, minval=-bound,
                                                                                 maxval=bound),
                                 (self.width, self.features))

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Inputs:
        return Inputs(source, places)

    def start(self, memory: Inputs, length: int) -> Carry:
        carry = self.mixer.start(self.mixer.remember(*memory), length)
        if length == 0:
            return ()
        batch, _, features = memory.inputs.shape
        return Neighbours(jnp.zeros((batch, self.width - 1, features), memory.inputs.dtype),
                          jnp.zeros((batch, self.width - 1), jnp.int32), carry)

    def __call__(self, query: Array, memory: Inputs, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D], of which nothing is used: it is the inputs -> what the mixer reads."""
        inputs, kernel = promote_dtype(memory.inputs, self.kernel, dtype=self.dtype)
        segment, continued = memory.places.segment, isinstance(carry, Neighbours)
        if continued:
            inputs, carry = self._continued(inputs, segment, kernel, carry)
        else:
            inputs = short_convolution(inputs, segment, kernel)
        memory_rng, rng = (None, None) if rng is None else jax.random.split(rng)
        written = self.mixer.remember(inputs, memory.places, memory_rng)
        read = self.mixer(inputs, written, carry.mixer if continued else self.mixer.start(written, 0), places, rng)
        return read._replace(carry=carry._replace(mixer=read.carry)) if continued else read

    def _continued(self, inputs: Array, segment: Array, kernel: Array, carry: Neighbours) -> tuple[Array, Neighbours]:
        """The same behind what came before; pads are taken out first, so that they push no neighbour away."""
        inputs = jnp.concatenate([carry.inputs.astype(inputs.dtype), inputs], axis=1)
        segment = jnp.concatenate([carry.segment, segment], axis=1)
        order = jnp.argsort(segment > 0, axis=1, stable=True)  # pads, then real positions as they were
        inputs, segment = jnp.take_along_axis(inputs, order[..., None], 1), jnp.take_along_axis(segment, order, 1)
        outputs = short_convolution(inputs, segment, kernel)
        outputs = jnp.take_along_axis(outputs, jnp.argsort(order, axis=1)[..., None], 1)
        last = slice(-(self.width - 1), None)
        return outputs[:, self.width - 1:], Neighbours(inputs[:, last].astype(carry.inputs.dtype), segment[:, last],
                                                       carry.mixer)

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """Those of the mixer, and 2 W D for each position."""
        return (self.mixer.flops(queries, entries, query_width, source_width)
                + entries * 2.0 * self.width * self.features)


def convolved(mixer: Attention, width: int) -> Attention:
    """The mixer behind a short convolution of `width` positions; the mixer itself where that is 0."""
    if width == 0:
        return mixer
    return ShortConvolution(mixer.features, mixer.role, mixer.causal, mixer.path, mixer.layer, mixer.dtype, mixer,
                            width)
