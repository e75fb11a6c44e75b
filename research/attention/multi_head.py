"""Several heads, each with its own projections: the attention of Transformers, for recurrent decoders too."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.attention import cache, chunked, masks, normalisers, schemes
from research.attention.contract import Attention, Carry, Memory, Read
from research.attention.masks import readable
from research.attention.normalise import softmax
from research.attention.normalisers import NORMALISERS, Normaliser
from research.errors import UserError, at_least
from research.shapes import Array, Places

PATHS = ('explicit', 'xla', 'cudnn', 'chunked')
QUERY_KEY_NORMS = ('none', 'rms', 'layer', 'unit')
GATES = ('none', 'head', 'element')


def attend(query: Array, keys: Array, values: Array, *, mask: Array, bias: Array | None = None, scale: float,
           path: str = 'explicit', normalise: Callable[[Array, Array], Array] = softmax, softcap: float = 0.0,
           sink: Array | None = None) -> tuple[Array, Array | None]:
    """Softmax attention for all heads.

        logits[n, t, s] = scale query[t, n] . keys[s, k] + bias[n, t, s],  k = n // (N / K)
        logits = softcap tanh(logits / softcap), where softcap is not 0
        context[t, n] = sum_s normalise(logits)[n, t, s] values[s, k]

    The softmax is taken over what the mask allows, in float32 or better; a query that may read nothing gets zeros, with
    zero gradients. `explicit` makes the weights. `xla` and `cudnn` are those of `jax.nn.dot_product_attention`, which
    keeps them to itself. `chunked` takes some keys at a time, so that memory grows with T, not with T x S; what it
    needs for gradients it makes again (attention/chunked.py).

    Args:
      query: [B, T, N, H].
      keys: [B, S, K, H]; N is a multiple of K, and K neighbouring groups of query heads share one key head each.
      values: [B, S, K, H_v]; H_v = H on paths 'xla' and 'cudnn'.
      mask: boolean [B, T, S], True = may be read.
      bias: finite, broadcast against [B, N, T, S]; None = 0. Path 'cudnn' takes it in the type of the query.
      scale: known when the program is traced.
      path: one of PATHS.
      normalise: (logits [B, N, T, S], mask [B, 1, T, S]) -> weights; path 'explicit' only, elsewhere it is the softmax.
      softcap: 0 = none; not on paths 'xla' and 'cudnn'.
      sink: [N, 1, 1], the logit of reading nothing; where it is given, `normalise` on path 'explicit' must know it too.

    Returns:
      context [B, T, N, H_v] in the type of the values; weights [B, N, T, S] in float32 or better on path 'explicit',
      else None.

    Raises:
      UserError: the path is unknown or cannot do what is asked; N is not a multiple of K.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, equation 1; K < N: Ainslie et al. 2023,
    arXiv:2305.13245, section 2.2; softcap: Gemma 2, arXiv:2408.00118, section 2. Differs: the empty row (a softmax over
    nothing is not defined there).
    """
    N, K, T = query.shape[2], keys.shape[2], query.shape[1]
    if N % K:
        raise UserError(f'{N} query heads cannot share {K} key heads evenly: make the first a multiple of the second')
    if bias is not None:
        bias = bias.reshape((1,) * (4 - bias.ndim) + bias.shape)
    if path == 'explicit':
        keys, values = (jnp.repeat(array, N // K, axis=2) for array in (keys, values))
        dtype = jnp.promote_types(jnp.result_type(query, keys), jnp.float32)
        logits = scale * jnp.einsum('btnh,bsnh->bnts', query, keys, preferred_element_type=dtype)
        weights = normalise(_capped(logits if bias is None else logits + bias, softcap), mask[:, None])
        return jnp.einsum('bnts,bsnh->btnh', weights.astype(values.dtype), values), weights
    if path == 'chunked':
        return chunked.attend(query, keys, values, mask, bias, sink, scale, softcap), None
    if path not in PATHS:
        raise UserError(f"attention has no path {path!r}. It has: {', '.join(PATHS)}")
    _check_library(path, query, keys, values, softcap)
    if sink is not None:  # one more key and value of zeros, whose logit is the bias
        bias = jnp.zeros((1, 1, 1, 1), jnp.float32) if bias is None else bias
        bias = jnp.broadcast_to(bias, (bias.shape[0], N, T, keys.shape[1]))
        column = jnp.broadcast_to(sink[None].astype(bias.dtype), (*bias.shape[:3], 1))
        bias = jnp.concatenate([bias, column], axis=-1)
        keys, values = (jnp.pad(array, ((0, 0), (0, 1), (0, 0), (0, 0))) for array in (keys, values))
        whole = jnp.pad(mask, ((0, 0), (0, 0), (0, 1)), constant_values=True)
    else:
        whole = mask
    if path == 'cudnn':
        if bias is not None:  # jax 0.11.2 reads its gradient in its own type, cuDNN writes the query's
            bias = bias.astype(query.dtype)
        query, keys, values, bias, whole = _even(query, keys, values, bias, whole)
    context = jax.nn.dot_product_attention(query, keys, values, bias, whole[:, None], scale=scale, implementation=path)
    # Where nothing may be read, the library reads everything.
    return jnp.where(jnp.any(mask, axis=-1)[..., None, None], context[:, :T], 0.0), None


def _even(query, keys, values, bias, mask):
    """The same with one more position where T or S is odd, which nothing reads: cuDNN trains with even ones only."""
    more = [length % 2 for length in mask.shape[1:]]
    query, keys, values = (jnp.pad(array, ((0, 0), (0, odd), (0, 0), (0, 0)))
                           for array, odd in ((query, more[0]), (keys, more[1]), (values, more[1])))
    if bias is not None:
        bias = jnp.pad(bias, ((0, 0), (0, 0), *((0, odd if size > 1 else 0)
                                                for odd, size in zip(more, bias.shape[2:], strict=True))))
    return query, keys, values, bias, jnp.pad(mask, ((0, 0), (0, more[0]), (0, more[1])))


def _capped(logits, softcap):
    return softcap * jnp.tanh(logits / softcap) if softcap else logits


def _check_library(path, query, keys, values, softcap):
    if jnp.result_type(query, keys, values) == jnp.float64:
        raise UserError(f"path {path!r} takes its softmax in float32; float64 needs path 'explicit'")
    if softcap:
        raise UserError(f"path {path!r} has no softcap; choose path 'explicit' or 'chunked'")
    if values.shape[-1] != query.shape[-1]:
        raise UserError(f"path {path!r} needs values as wide as keys, not {values.shape[-1]} and {query.shape[-1]}: "
                        "choose path 'explicit' or 'chunked'")
    if path == 'cudnn':
        if jax.default_backend() != 'gpu':
            raise UserError(f"path 'cudnn' needs an NVIDIA GPU, and this is a {jax.default_backend()}: choose path "
                            "'xla' or 'chunked'")
        if (jnp.result_type(query, keys, values) not in (jnp.bfloat16, jnp.float16)
                or query.shape[-1] % 8 or query.shape[-1] > 256):  # before Hopper 128, which the library says itself
            raise UserError(f"path 'cudnn' computes in bfloat16 or float16, with heads of a multiple of 8 and at most "
                            f"256, not in {query.dtype} with {query.shape[-1]}")


class Blocks:
    """A sequence cut into blocks of C positions, each beside its neighbours.

    With a window of C positions a query reads its own block, the one before and, unless causal, the one behind: the
    same attention over ceil(T / C) short rows, whose cost grows with T x C instead of T x T. Positions of a segment
    must stand side by side.

        T = 6, C = 2, causal:   queries 0 1 | 2 3 | 4 5      keys - - 0 1 | 0 1 2 3 | 2 3 4 5
    """

    def __init__(self, width: int, causal: bool):
        """Blocks of that many positions, read from the left alone or from both sides."""
        self.width, self.causal = width, causal

    def queries(self, array: Array) -> Array:
        """[B, T, ...] -> [blocks, B, C, ...]; the last block is filled with zeros."""
        B, T = array.shape[:2]
        count = -(-T // self.width)
        array = jnp.pad(array, ((0, 0), (0, count * self.width - T)) + ((0, 0),) * (array.ndim - 2))
        return jnp.moveaxis(array.reshape(B, count, self.width, *array.shape[2:]), 1, 0)

    def keys(self, array: Array) -> Array:
        """[B, T, ...] -> [blocks, B, 2 C or 3 C, ...]: each block behind its neighbour, and before the next one."""
        B, T = array.shape[:2]
        count, sides = -(-T // self.width), (1, 0 if self.causal else 1)
        widths = (sides[0] * self.width, count * self.width - T + sides[1] * self.width)
        array = jnp.pad(array, ((0, 0), widths) + ((0, 0),) * (array.ndim - 2))
        array = array.reshape(B, count + sum(sides), self.width, *array.shape[2:])
        array = jnp.concatenate([array[:, shift:shift + count] for shift in range(sum(sides) + 1)], axis=2)
        return jnp.moveaxis(array, 1, 0)

    def whole(self, array: Array, like: Array) -> Array:
        """[blocks, B, C, ...] -> [B, T, ...], T that of `like`."""
        array = jnp.moveaxis(array, 0, 1)
        return array.reshape(like.shape[0], -1, *array.shape[3:])[:, :like.shape[1]]


def roll(carry: Memory, memory: Memory) -> tuple[Memory, Memory]:
    """What a window may read, the positions carried and the new ones; and the last ones of these, as many as before."""
    together = jax.tree.map(lambda old, new: jnp.concatenate([old, new.astype(old.dtype)], axis=1), carry, memory)
    return together, jax.tree.map(lambda leaf, old: leaf[:, leaf.shape[1] - old.shape[1]:], together, carry)


class MultiHeadDot(Attention, kw_only=True):
    """N heads, each an attention over its own projections of width H, and a projection of all that was read.

        q = x W_Q;  k = h W_K;  v = h W_V        [B, T, N, H] and [B, S, K, H]
        read[t, n] = sum_s softmax(q[t, n] . k[s, k] / sqrt(H)) v[s, k];   context[t] = read[t] W_O, W_O [N, H, D]

    The options change one part each and can be combined freely; a name of the registry stands for one of them.

    Self role with causality: `start(memory, L)` is a cache of L positions, and the weights of a call with it have
    S = L. A call that writes past its end gives nan. On path 'blocks' the carry is the last `reach.width` positions,
    which has no end; the positions of a segment must stand side by side there, with no pad between them.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2; in a recurrent decoder: Chen et al. 2018,
    arXiv:1804.09849; key_value_heads = 1: Shazeer 2019, arXiv:1911.02150, others: Ainslie et al. 2023,
    arXiv:2305.13245; query_key_norm: rms: Qiu et al. 2025, arXiv:2505.06708 (as in Qwen3), layer: Dehghani et al. 2023,
    arXiv:2302.05442, section 2, unit: Henry et al. 2020, arXiv:2010.04245, section 3; gate: arXiv:2505.06708, section
    2.2. Differs: each projection's initial variance is one over the number of its inputs; the learned scale of unit
    starts at sqrt(H).

    Attributes:
      heads: N, at least 1.
      key_value_heads: K, a divisor of N; 0 means N.
      head_width: H; 0 means D / N, which must then be a whole number.
      projection_bias: whether the four projections add a bias. Then a query that may read nothing gets that of W_O.
      position: a scheme of relative positions; self role only.
      reach: which positions may be read; self role only.
      normaliser: what makes weights of logits: one of attention/normalisers.py.
      query_key_norm: 'none', or what is done to each head's queries and keys before they are turned and compared: 'rms'
        and 'layer' with learned factors, 'unit' (length 1, and a learned scale in place of 1 / sqrt(H)).
      softcap: logits are softcap tanh(logits / softcap); 0 = as they are.
      gate: 'none', or sigmoid(x W_G) on what was read: a number for each 'head' or each 'element' of it.
    """

    heads: int
    key_value_heads: int
    head_width: int
    projection_bias: bool
    position: schemes.Scheme
    reach: masks.Reach
    normaliser: str
    query_key_norm: str
    softcap: float
    gate: str

    def __post_init__(self):
        check_heads(self)
        check_self_role(self, width(self))
        normalisers.check(self.normaliser)
        if self.key_value_heads < 0 or self.heads % (self.key_value_heads or 1):
            raise UserError(f'key_value_heads is {self.key_value_heads}; it must be a divisor of heads = {self.heads}, '
                            'or 0 for as many')
        if not 0.0 <= self.softcap < math.inf:
            raise UserError(f'softcap is {self.softcap}; it must be above 0.0, or 0.0 for none')
        for option, value, known in (('query_key_norm', self.query_key_norm, QUERY_KEY_NORMS),
                                     ('gate', self.gate, GATES)):
            if value not in known:
                raise UserError(f'{option} is {value!r}; it must be one of {", ".join(known)}')
        self._check_path()
        super().__post_init__()

    def _check_path(self):
        if self.path == 'explicit':
            return
        if self.path == 'blocks':
            if self.role != 'self' or not isinstance(self.reach, masks.Window):
                raise UserError("path 'blocks' is for a self-attention within a window: reach.name = 'window'")
            return
        if schemes.SCHEMES[self.position.name].positions.needs_weights:
            raise UserError(f'position {self.position.name!r} adds to the values what only weights can say: it needs '
                            f"path 'explicit', not {self.path!r}")
        entry = NORMALISERS[self.normaliser]
        if entry.name != 'softmax' and entry.sink == 'none':
            raise UserError(f"normaliser {self.normaliser!r} needs path 'explicit', not {self.path!r}")
        if self.softcap and self.path != 'chunked':
            raise UserError(f"softcap needs path 'explicit' or 'chunked', not {self.path!r}")

    def setup(self):
        N, K, H = self.heads, self.key_value_heads or self.heads, width(self)
        self.query_projection, self.key_projection, self.value_projection, self.output_projection = head_projections(
            self, K, self.projection_bias)
        self.normalise = Normaliser(self.normaliser, N)
        self.scheme = self.position.make(N, H, self.causal)
        if self.query_key_norm in ('rms', 'layer'):
            norm = {'rms': nn.RMSNorm, 'layer': functools.partial(nn.LayerNorm, use_bias=False)}[self.query_key_norm]
            self.query_norm, self.key_norm = norm(dtype=self.dtype), norm(dtype=self.dtype)
        elif self.query_key_norm == 'unit':
            self.scale = self.param('scale', nn.initializers.constant(math.sqrt(H)), ())
        if self.gate != 'none':
            self.gate_projection = nn.DenseGeneral((N, 1 if self.gate == 'head' else H), use_bias=self.projection_bias,
                                                   dtype=self.dtype)

    def remember(self, source: Array, places: Places, rng: Array | None = None) -> Memory:
        keys = self.key_projection(source)
        if self.query_key_norm != 'none':
            keys = _unit(keys) if self.query_key_norm == 'unit' else self.key_norm(keys)
        memory = Memory(self.scheme.rotate(keys, places.position), self.value_projection(source), places)
        return cache.by_heads(memory) if self.role == 'cross' else memory

    def start(self, memory: Memory, length: int) -> Carry:
        if self.path == 'blocks' and self.causal and length:
            return cache.room(memory, self.reach.width)
        return cache.start(self, memory, length)

    def __call__(self, query: Array, memory: Memory, carry: Carry, places: Places, rng: Array | None = None) -> Read:
        """Query [B, T, D_q] -> context [B, T, D], weights [B, N, T, S]."""
        queries, scale = self._queries(query, places)
        if self.path == 'blocks':
            context, weights, carry = self._blocks(queries, scale, memory, carry, places)
        else:
            memory, carry = cache.readable(memory, carry)
            context, weights = self._attend(queries, scale, memory, places, self.path)
            context = cache.nan_past_the_end(context, carry)
        if self.gate != 'none':
            context = context * jax.nn.sigmoid(self.gate_projection(query))
        return Read(self.output_projection(context), weights, carry)

    def _queries(self, query, places):
        queries, scale = self.query_projection(query), 1.0 / math.sqrt(width(self))
        if self.query_key_norm == 'unit':
            queries, scale = _unit(queries) * self.scale.astype(queries.dtype), 1.0
        elif self.query_key_norm != 'none':
            queries = self.query_norm(queries)
        return self.scheme.rotate(queries, places.position), scale

    def _attend(self, queries, scale, memory, places, path):
        mask = readable(places, memory.places, causal=self.causal, reach=self.reach)
        sink = None if NORMALISERS[self.normaliser].sink == 'none' else self.normalise.logit()
        bias = self.scheme.bias(scale * queries, places, memory.places)
        context, weights = attend(queries, memory.keys, memory.values, mask=mask, bias=bias, scale=scale, path=path,
                                  normalise=self.normalise, softcap=self.softcap, sink=sink)
        added = None if weights is None else self.scheme.read(weights, places, memory.places)
        return context if added is None else context + added.astype(context.dtype), weights

    def _blocks(self, queries, scale, memory, carry, places):
        if isinstance(carry, Memory):
            memory, carry = roll(carry, memory)
            return self._attend(queries, scale, memory, places, 'explicit')[0], None, carry
        blocks = Blocks(self.reach.width, self.causal)

        @functools.partial(jax.checkpoint, prevent_cse=False)  # for gradients its weights are made again, not kept
        def one(block):
            return self._attend(block[0], scale, *block[1:], 'explicit')[0]
        context = jax.lax.map(one, (blocks.queries(queries), jax.tree.map(blocks.keys, memory),
                                    jax.tree.map(blocks.queries, places)))
        return blocks.whole(context, queries), None, carry

    @nn.nowrap
    def flops(self, queries: int, entries: int, query_width: int, source_width: int) -> float:
        """The projections, the logits and the weighted sums; of a window on path 'blocks' the blocks that are read."""
        N, K, H = self.heads, self.key_value_heads or self.heads, width(self)
        gated = {'none': 0, 'head': 1, 'element': H}[self.gate]
        compared = queries * entries
        if self.path == 'blocks':
            C = self.reach.width
            compared = -(-queries // C) * C * (2 if self.causal else 3) * C
        return (2.0 * H * (2 * K * entries * source_width + N * queries * (query_width + self.features)
                           + 2 * N * compared) + 2.0 * N * gated * queries * query_width
                + self.position.make(N, H, self.causal).flops(queries, compared / queries))


def _unit(vectors: Array) -> Array:
    """Each vector of the last axis divided by its length."""
    return vectors * jax.lax.rsqrt(jnp.sum(vectors**2, axis=-1, keepdims=True) + 1e-6)


def head_projections(attention: Any, key_value_heads: int | None = None,
                     bias: bool = False) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
    """Makes W_Q, W_K and W_V, to heads of one width, and W_O, from all heads back to D.

    Args:
      attention: has features, heads, head_width and dtype.
      key_value_heads: K; None = N.
      bias: whether they add one.
    """
    kind, H = {'use_bias': bias, 'dtype': attention.dtype}, width(attention)
    K = attention.heads if key_value_heads is None else key_value_heads
    return (*(nn.DenseGeneral((heads, H), **kind) for heads in (attention.heads, K, K)),
            nn.DenseGeneral(attention.features, axis=(-2, -1), **kind))


def width(attention: Any) -> int:
    """H of an attention that has features, heads and head_width."""
    return attention.head_width or attention.features // attention.heads


def check_heads(attention: Any) -> None:
    """Raises UserError when the options heads and head_width do not fit the features."""
    at_least(1, heads=attention.heads)
    if attention.head_width < 0:
        raise UserError(f'head_width is {attention.head_width}; it must be at least 1, or 0 for features / heads')
    if attention.head_width == 0 and attention.features % attention.heads:
        raise UserError(f'heads is {attention.heads}, which does not divide the width {attention.features}; choose a '
                        'divisor, or state head_width')


def check_self_role(attention: Any, head_width: int) -> None:
    """Raises UserError when positions or a reach are given to what reads another sequence, or do not fit H."""
    if attention.role != 'self' and (attention.position.name != 'none'
                                     or not isinstance(attention.reach, masks.Everything)):
        raise UserError("positions and reaches compare places of one sequence: in role 'cross' position.name must be "
                        "'none' and reach.name 'everything'")
    if attention.position.name == 'rotary' and head_width % 2:
        raise UserError(f"position 'rotary' turns pairs, so heads need an even width, not {head_width}")
