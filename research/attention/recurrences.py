"""Memories of fixed size: what is kept decays, and what is written is added or put in the place of what was there.

One memory M [H_k, H_v] a head, rows = keys, columns = values, computed in two ways that give the same: `recurrent`, one
position after another, and `chunked`, a few matrix products for each chunk of positions. In chunk formulas Q, K, V are
the matrices of one head, one row a position.

Padding writes nothing and lets nothing decay; where a segment begins, everything before it is forgotten:

    segment    1  1  0  1  2        keeps    row t: which positions' writes it reads
    begins     x           x                 # . . . .
                                             # # . . .
                                             . . . . .    a pad reads nothing
                                             # # . # .
                                             . . . . #
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.attention.contract import Carry
from research.shapes import Array, Places

PATHS = ('explicit', 'chunked')


class Written(NamedTuple):
    """What new positions do to the memory."""

    keys: Array         # [B, S, N, H_k]
    values: Array       # [B, S, N, H_v]
    log_decay: Array    # [B, S, N, H_k], or [B, S, N, 1] where a head has one; at most 0
    rate: Array | None  # [B, S, N]: how much of the old value a new one replaces; None = it is added
    places: Places      # [B, S] each


class Kept(NamedTuple):
    """What is carried from one call to the next."""

    memory: Array    # [B, N, H_k, H_v], float32 or better
    segment: Array   # int32 [B]: of the last position that was no pad; 0 before the first


def begins(places: Places, before: Array) -> tuple[Array, Array]:
    """Where segments begin: at position 0, and where the last position that was no pad is of another segment.

    Args:
      places: [B, T] each; segments stand in runs, in which there may be pads.
      before: int32 [B], the segment of the last position before these that was no pad; 0 = there was none.

    Returns:
      boolean [B, T]; and int32 [B], what is `before` for the next positions.
    """
    segment = jnp.concatenate([before[:, None], places.segment], axis=1)
    index = jnp.where(segment > 0, jnp.arange(segment.shape[1]), 0)  # nothing is lost: before the first, 0 is `before`
    last = jnp.take_along_axis(segment, jax.lax.cummax(index, axis=1), axis=1)
    new = (places.segment != last[:, :-1]) | (places.position == 0)
    return (places.segment > 0) & new, last[:, -1]


def running(join: Callable[[Array, Array], Array], values: Array, begins: Array, before: Array) -> Array:
    """What `join`, a sum or a maximum, makes of the values so far of each segment, and of no other: not a rounding.

    Args:
      join: associative.
      values: [B, T, N].
      begins: boolean [B, T], where a segment begins.
      before: [B, N], what it made of the segment of the last position before these.

    Returns:
      [B, T + 1, N], `before` in front.
    """
    def stretch(left, right):
        return jnp.where(right[1], right[0], join(left[0], right[0])), left[1] | right[1]
    values = jnp.concatenate([before[:, None], values], axis=1)
    begins = jnp.pad(begins, ((0, 0), (1, 0)))[..., None]
    return jax.lax.associative_scan(stretch, (values, jnp.broadcast_to(begins, values.shape)), axis=1)[0]


def recurrent(query: Array, keys: Array, values: Array, log_decay: Array, begins: Array, memory: Array,
              rate: Array | None = None) -> tuple[Array, Array]:
    """One position after another.

        M' = diag(a[t]) M[t-1], or 0 where a segment begins;   a = exp(log_decay)
        M[t] = M' + k[t] v[t]^T                                without a rate
        M[t] = M' + rate[t] k[t] (v[t] - M'^T k[t])^T          with a rate: the delta rule
        read[t] = M[t]^T q[t]

    Args:
      query: [B, T, N, H_k].
      keys: [B, T, N, H_k]; 0 at pads.
      values: [B, T, N, H_v]; 0 at pads.
      log_decay: [B, T, N, H_k] or [B, T, N, 1], at most 0; 0 at pads.
      begins: boolean [B, T]: where a segment begins.
      memory: [B, N, H_k, H_v] before these positions; what is computed in.
      rate: [B, T, N]; 0 at pads.

    Returns:
      reads [B, T, N, H_v]; the memory after these positions.

    Source: without a rate: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.3 (a = 1), Yang et al. 2023,
    arXiv:2312.06635, section 4; with a rate: Yang et al. 2024, arXiv:2406.06484, section 2.2 (a = 1), arXiv:2412.06464,
    section 3.1. Differs: segments.
    """
    def one(memory, at):
        q, k, v, log, begin, rate = at
        memory = jnp.where(begin[:, None, None, None], 0.0, jnp.exp(log)[..., None] * memory)
        if rate is not None:
            v = rate[..., None] * (v - jnp.einsum('bnhv,bnh->bnv', memory, k))
        memory = memory + k[..., None] * v[..., None, :]
        return memory, jnp.einsum('bnhv,bnh->bnv', memory, q)
    over = jax.tree.map(lambda array: jnp.moveaxis(array, 1, 0),
                        (*_cast(memory, query, keys, values, log_decay), begins, *_cast(memory, rate)))
    memory, reads = jax.lax.scan(one, memory, over)
    return jnp.moveaxis(reads, 0, 1), memory


def chunked(query: Array, keys: Array, values: Array, log_decay: Array, begins: Array, memory: Array,
            rate: Array | None = None, *, chunk: int) -> tuple[Array, Array]:
    """The same as `recurrent`, chunks of C positions at a time.

        g[t] = a[1] .. a[t] within the chunk;   G[t, s] = g[t] / g[s] for s <= t, else 0;   M_0 enters the chunk
        U = V without a rate, else that of (I + tril(diag(rate) (K K^T * G), -1)) U = diag(rate) (V - diag(g) K M_0)
        reads = diag(g) Q M_0 + (Q K^T * G) U;   M_C = g_C M_0 + (diag(g_C / g) K)^T U

    Ratios are exponentials of differences of sums of logarithms, so nothing is divided. What is kept for gradients are
    the inputs and the memory before each chunk. Where a segment begins within the chunk, G and what M_0 and M_C get is
    0 across that border. With decays of H_k channels G does not stand outside the products: see `decayed_products`.

    Args:
      query: and the others up to `rate` as in `recurrent`.
      chunk: C, at least 1; T need not be a multiple of it.

    Returns:
      As `recurrent`.

    Source: Yang et al. 2024, arXiv:2406.06484, section 3 (a = 1), arXiv:2412.06464, section 3.3; without a rate: Sun et
    al. 2023, arXiv:2307.08621, section 2.3, Yang et al. 2023, arXiv:2312.06635, section 4. Differs: one triangular
    system for U in place of the WY representation; segments.
    """
    T = query.shape[1]
    C = min(chunk, T)
    count = -(-T // C)

    def split(array):  # [B, T, ...] -> [chunks, B, C, ...]
        array = jnp.pad(array, ((0, 0), (0, count * C - T)) + ((0, 0),) * (array.ndim - 2))
        return jnp.moveaxis(array.reshape(array.shape[0], count, C, *array.shape[2:]), 1, 0)
    earlier = jnp.tril(jnp.ones((C, C), bool))

    def one(memory, part):
        q, k, v, log, begin, rate = part
        run = jnp.cumsum(begin, axis=1)
        together = earlier & (run[:, :, None] == run[:, None, :])  # [B, C, C]
        # Not one sum over the chunk: what it has of another segment would leave its rounding, also in the gradients.
        sums = jnp.einsum('bts,bsnh->btnh', together.astype(log.dtype), log, precision=jax.lax.Precision.HIGHEST)
        entering = decays((run == 0)[:, :, None, None], sums)
        leaving = decays((run == run[:, -1:])[:, :, None, None], sums[:, -1:] - sums)

        def products(left, right):  # [B, N, C, C]
            if sums.shape[-1] > 1:
                return decayed_products(left, right, sums, run)
            ratios = decays(together[..., None], (sums[:, :, None] - sums[:, None, :])[..., 0])  # [B, C, C, N]
            return jnp.einsum('btnh,bsnh->bnts', left, right) * jnp.moveaxis(ratios, 3, 1)
        if rate is not None:
            wrong = rate[..., None] * (v - jnp.einsum('btnh,bnhv->btnv', entering * k, memory))
            below = jnp.tril(jnp.swapaxes(rate, 1, 2)[..., None] * products(k, k), -1)
            v = jnp.swapaxes(solve_below(below, jnp.swapaxes(wrong, 1, 2)), 1, 2)
        reads = (jnp.einsum('btnh,bnhv->btnv', entering * q, memory)
                 + jnp.einsum('bnts,bsnv->btnv', products(q, k), v))
        memory = entering[:, -1, :, :, None] * memory + jnp.einsum('bsnh,bsnv->bnhv', leaving * k, v)
        return memory, reads
    parts = jax.tree.map(split, (*_cast(memory, query, keys, values, log_decay), begins.astype(jnp.int32),
                                 *_cast(memory, rate)))
    # For gradients a chunk is computed again: what it makes on its way is larger than what comes in and out.
    memory, reads = jax.lax.scan(jax.checkpoint(one, prevent_cse=False), memory, parts)
    reads = jnp.moveaxis(reads, 0, 1)
    return reads.reshape(reads.shape[0], count * C, *reads.shape[3:])[:, :T], memory


def decays(where: Array, logarithms: Array) -> Array:
    """Exponentials [...] of what is at most 0 where `where` says so, and 0 elsewhere, where they might overflow."""
    return jnp.where(where, jnp.exp(jnp.where(where, logarithms, 0.0)), 0.0)


def decayed_products(left: Array, right: Array, sums: Array, run: Array) -> Array:
    """`sum_h left[t, h] exp(sums[t, h] - sums[s, h]) right[s, h]` for s <= t of the same run, else 0.

    Put together from halves, all of a size at once, between which there is one position that all ratios go through:

        [ A  0 ]     A and D: the same of the first and the second half; m = sums of the last position of the first
        [ L  D ]     L = (left * exp(sums - m)) (right * exp(m - sums))^T, both exponents at most 0

    so log2(C) rounds of matrix products take the place of [C, C, H] exponentials.

    Args:
      left: [B, C, N, H].
      right: [B, C, N, H].
      sums: of logarithms of decays, within each run, [B, C, N, H].
      run: int32 [B, C], the number of the run that a position is in, from 0 on.

    Returns:
      [B, N, C, C].

    Source: Yang et al. 2023, arXiv:2312.06635, section 4.3 (secondary chunks). Differs: halves of halves, down to one.
    """
    B, C, N, H = left.shape
    size, whole = 1, 1 << (C - 1).bit_length()
    left, right, sums = (jnp.pad(jnp.moveaxis(array, 2, 1), ((0, 0), (0, 0), (0, whole - C), (0, 0)))
                         for array in (left, right, sums))
    run = jnp.pad(run, ((0, 0), (0, whole - C)), constant_values=-1)
    blocks = jnp.sum(left * right, axis=-1)[..., None, None]  # [B, N, blocks, size, size]
    while size < whole:
        halves = (B, N, -1, 2, size)
        before, after = right.reshape(*halves, H)[:, :, :, 0], left.reshape(*halves, H)[:, :, :, 1]
        runs, through = run.reshape(B, 1, *halves[2:], 1), sums.reshape(*halves, H)
        border, its = through[:, :, :, 0, -1:], runs[:, :, :, 0, -1:]
        after = after * decays(runs[:, :, :, 1] == its, through[:, :, :, 1] - border)
        before = before * decays(runs[:, :, :, 0] == its, border - through[:, :, :, 0])
        across = jnp.einsum('...th,...sh->...ts', after, before)
        first, last = blocks[:, :, 0::2], blocks[:, :, 1::2]
        blocks, size = jnp.block([[first, jnp.zeros_like(first)], [across, last]]), 2 * size
    return blocks[:, :, 0, :C, :C]


def solve_below(below: Array, right: Array) -> Array:
    """X of `(I + below) X = right`: below [..., C, C] has numbers under its diagonal only, right [..., C, H].

    The inverse is put together from those of halves, all of a size at once:

        [ I + A     0   ]^-1     [        (I + A)^-1                  0      ]
        [   L     I + D ]      = [ -(I + D)^-1 L (I + A)^-1      (I + D)^-1  ]

    so log2(C) rounds of small matrix products take the place of C steps one after another; the rounding is that of
    substitution. Gradients are those of the system, not of the way it is solved.

    Source: Yang et al. 2024, arXiv:2406.06484, section 3.2 (what is solved). Differs: halves in place of rows.
    """
    inverse = _inverse_below(jax.lax.stop_gradient(below))

    def solve(_, right):
        return jnp.matmul(inverse, right, precision=jax.lax.Precision.HIGHEST)

    def solve_transposed(_, right):
        return jnp.matmul(jnp.swapaxes(inverse, -1, -2), right, precision=jax.lax.Precision.HIGHEST)
    return jax.lax.custom_linear_solve(lambda x: x + below @ x, right, solve, solve_transposed)


def _inverse_below(below):
    """`(I + below)^-1`."""
    C = below.shape[-1]
    rest = (1 << (C - 1).bit_length()) - C  # rows and columns of zeros up to a power of two
    below = jnp.pad(below, ((0, 0),) * (below.ndim - 2) + ((0, rest), (0, rest)))
    inverses, size = jnp.ones((*below.shape[:-1], 1, 1), below.dtype), 1  # [..., blocks, size, size]
    while size < below.shape[-1]:
        pairs = below.shape[-1] // (2 * size)
        lower_left = below.reshape(*below.shape[:-2], pairs, 2, size, pairs, 2, size)[..., 1, :, :, 0, :]
        lower_left = jnp.einsum('...iaib->...iab', lower_left)
        first, last = inverses[..., 0::2, :, :], inverses[..., 1::2, :, :]
        across = -jnp.einsum('...ab,...bc,...cd->...ad', last, lower_left, first, precision=jax.lax.Precision.HIGHEST)
        inverses = jnp.block([[first, jnp.zeros_like(first)], [across, last]])
        size *= 2
    return inverses[..., 0, :C, :C]


def _cast(memory, *arrays):
    return tuple(None if array is None else array.astype(memory.dtype) for array in arrays)


def empty(keys: Array, values: Array) -> Kept:
    """The memory before the first of some positions: keys [B, S, N, H_k], values [B, S, N, H_v]."""
    (B, _, N, H), dtype = keys.shape, jnp.promote_types(jnp.result_type(keys, values), jnp.float32)
    return Kept(jnp.zeros((B, N, H, values.shape[-1]), dtype), jnp.zeros(B, jnp.int32))


def start(written: Written, length: int) -> Carry:
    """The carry of an attention with such a memory: () where one call holds everything."""
    return empty(written.keys, written.values) if length else ()


def read(attention: Any, query: Array, written: Written, carry: Carry) -> tuple[Array, Carry]:
    """Writes all positions and reads after each, on the path of the attention.

    Args:
      attention: has `path`, one of PATHS, and `chunk`.
      query: [B, T, N, H_k], of the positions that are written.
      written: [B, T, ...]; what stands at pads does not matter.
      carry: Kept, or () for none before and none after.

    Returns:
      [B, T, N, H_v] in float32 or better, 0 at pads; the next carry.
    """
    before = carry if isinstance(carry, Kept) else empty(written.keys, written.values)
    new, segment = begins(written.places, before.segment)
    real = written.places.segment > 0

    def at(where, array):
        return None if array is None else jnp.where(where.reshape(*where.shape, *[1] * (array.ndim - 2)), array, 0.0)
    arrays = (at(real, query), at(real, written.keys), at(real, written.values), at(real & ~new, written.log_decay),
              new, before.memory, at(real, written.rate))
    reads, memory = recurrent(*arrays) if attention.path == 'explicit' else chunked(*arrays, chunk=attention.chunk)
    return at(real, reads), Kept(memory, segment) if isinstance(carry, Kept) else ()


def flops(attention: Any, length: int, key_width: int, value_width: int, rate: bool = False,
          channels: bool = False) -> float:
    """FLOPs of `read` for one sentence; 2 per multiply-add of a matrix product, decays are not counted.

    `rate`: whether new values replace old ones; `channels`: whether decays differ by channel, not by head alone.

    XLA counts the body of a loop once, whatever the number of turns, so its count is lower.
    """
    products = 2 + rate                                    # with M: what is read, written, and found in the old place
    each = products * key_width * value_width
    if attention.path == 'chunked':
        C = min(attention.chunk, length)
        length = -(-length // C) * C
        # A triangle is half a square: what is solved always, products of queries and keys only where halves are.
        each += (1 + rate) * C * (key_width // (1 + channels) + value_width) - rate * C * value_width // 2
    return 2.0 * attention.heads * length * each
