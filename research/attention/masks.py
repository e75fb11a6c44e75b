"""The only place where segments, padding, causality and windows become one boolean mask."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.errors import UserError, nearest
from research.shapes import Array, Places


class Everything(NamedTuple):
    """Every position of the own segment."""

    def __call__(self, query: Array, key: Array) -> Array:
        """Positions [B, T, 1] and [B, 1, S] -> boolean [B, T, S]."""
        return jnp.ones(jnp.broadcast_shapes(query.shape, key.shape), bool)


class Window(NamedTuple):
    """The `width` positions up to the query and, unless causal, as many behind it: `|s - t| < width`.

    Source: Beltagy, Peters, Cohan 2020, arXiv:2004.05150, section 3.1 (sliding window). Differs: the width is that of
    one side.
    """

    width: int

    def __call__(self, query: Array, key: Array) -> Array:
        """Positions [B, T, 1] and [B, 1, S] -> boolean [B, T, S]."""
        return jnp.abs(key - query) < self.width


class Strided(NamedTuple):
    """A window, and every position at a whole number of strides: `|s - t| < width or s = t (mod stride)`.

    Source: Child et al. 2019, arXiv:1904.10509, section 4.2. Differs: both patterns in every head.
    """

    width: int
    stride: int

    def __call__(self, query: Array, key: Array) -> Array:
        """Positions [B, T, 1] and [B, 1, S] -> boolean [B, T, S]."""
        return (jnp.abs(key - query) < self.width) | ((key - query) % self.stride == 0)


class GlobalWindow(NamedTuple):
    """A window, and first positions that read and are read by all: `|s - t| < width or s < leaders or t < leaders`.

    Source: Beltagy, Peters, Cohan 2020, arXiv:2004.05150, section 3.1 (global attention). Differs: global positions are
    the first of a segment; they have no projections of their own.
    """

    width: int
    leaders: int

    def __call__(self, query: Array, key: Array) -> Array:
        """Positions [B, T, 1] and [B, 1, S] -> boolean [B, T, S]."""
        return (jnp.abs(key - query) < self.width) | (key < self.leaders) | (query < self.leaders)


class BigBird(NamedTuple):
    """A window, first positions that see and are seen by all, and random pairs of blocks.

        |s - t| < width  or  s < leaders  or  t < leaders  or  hash(seed, t // block, s // block) < share

    Which blocks are read depends on the seed and on their places alone, so decoding sees what training saw.

    Source: Zaheer et al. 2020, arXiv:2007.14062, section 2. Differs: a pair of blocks is drawn with probability `share`
    instead of r for each block of queries; window and global positions are counted in positions, not in blocks.
    """

    width: int
    leaders: int
    block: int
    share: float
    seed: int

    def __call__(self, query: Array, key: Array) -> Array:
        """Positions [B, T, 1] and [B, 1, S] -> boolean [B, T, S]."""
        number = (jnp.uint32(self.seed) * jnp.uint32(2654435761) + (query // self.block).astype(jnp.uint32)
                  * jnp.uint32(2246822519) + (key // self.block).astype(jnp.uint32) * jnp.uint32(3266489917))
        for shift, factor in ((15, 2246822519), (13, 3266489917)):  # the last steps of the hash xxh32
            number = (number ^ (number >> shift)) * jnp.uint32(factor)
        drawn = (number ^ (number >> 16)) < jnp.uint32(round(self.share * (2**32 - 1)))
        return GlobalWindow(self.width, self.leaders)(query, key) | drawn


EVERYTHING = Everything()
Reach = Everything | Window | Strided | GlobalWindow | BigBird
REACHES = {'everything': Everything, 'window': Window, 'strided': Strided, 'global_window': GlobalWindow,
          'big_bird': BigBird}


def reach(name: str, **options: int | float) -> Reach:
    """Makes one of REACHES.

    Raises:
      UserError: an unknown name or option, an option without a value, or one below its smallest.
    """
    if name not in REACHES:
        raise UserError(f'reach.name is {name!r}; it must be one of {", ".join(REACHES)}.{nearest(name, REACHES)}')
    known = REACHES[name]._fields
    if set(options) != set(known):
        raise UserError(f'reach {name!r} has the options {", ".join(known) or "none"}, not '
                        f'{", ".join(options) or "none"}')
    for option, value in options.items():
        if option == 'share':
            if not (isinstance(value, float) and 0.0 <= value <= 1.0):
                raise UserError(f'reach.share is {value!r}; it must be a share from 0.0 to 1.0')
        elif type(value) is not int or value < (option not in ('leaders', 'seed')):
            low = 0 if option in ('leaders', 'seed') else 1
            raise UserError(f'reach.{option} is {value!r}; it must be a whole number, at least {low}')
    if options.get('seed', 0) >= 2**32:
        raise UserError(f'reach.seed is {options["seed"]}; it must be below 2**32')
    return REACHES[name](**options)


def readable(query_places: Places, key_places: Places, *, causal: bool = False, reach: Reach = EVERYTHING) -> Array:
    """Which positions each query may read: those of its own segment and, when causal, none that come later.

        mask[b, t, s] = segment_q[b, t] == segment_k[b, s]  and  segment_q[b, t] > 0
                        and, when causal, position_k[b, s] <= position_q[b, t]
                        and reach(position_q[b, t], position_k[b, s])

    Positions are absolute, so a query that is read alone, long after its keys were stored, needs no offset.

        segments 1 1 2 0    full     causal        rows t = 0..3, columns s = 0..3; the last one is a pad:
                            # # . .  # . . .       it reads nothing and nothing reads it
                            # # . .  # # . .
                            . . # .  . . # .
                            . . . .  . . . .

    Args:
      query_places: of the queries, int32 [B, T] each.
      key_places: of what is read, int32 [B, S] each.
      causal: whether later positions are hidden.
      reach: which distances may be read.

    Returns:
      boolean [B, T, S], True = may be read.
    """
    segment = query_places.segment[:, :, None]
    mask = (segment == key_places.segment[:, None, :]) & (segment > 0)
    query, key = query_places.position[:, :, None], key_places.position[:, None, :]
    if causal:
        mask &= key <= query
    return mask if isinstance(reach, Everything) else mask & reach(query, key)


def reversed_places(places: Places) -> Places:
    """The places of the same positions counted from the end: what a sequence has when it is read backwards.

    Segments must stand in runs, in which there may be pads. `places` [B, S] -> the flipped segments, and positions that
    count from 0 within each.

        segment  1 1 0 1 2 2 0      ->  0 2 2 1 0 1 1
        position 0 1 0 2 0 1 5      ->  0 0 1 0 0 1 2
    """
    segment, position = (jnp.flip(array, axis=1) for array in places)
    real, index = segment > 0, jnp.arange(segment.shape[1])
    before = jax.lax.cummax(jnp.where(real, index, -1), axis=1)  # the last real position up to here
    before = jnp.pad(before[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    other = jnp.take_along_axis(segment, jnp.maximum(before, 0), axis=1) != segment
    first = jax.lax.cummax(jnp.where(real & ((before < 0) | other), index, 0), axis=1)
    return Places(segment, jnp.where(real, jnp.take_along_axis(position, first, axis=1) - position, 0))
