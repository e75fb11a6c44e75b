"""Long short-term memories with an exponential input gate: one that keeps numbers, and one that keeps a matrix.

What they keep is stored as e^-m times itself, where m is the largest exponent so far, so that no exponential overflows.
"""

import jax
import jax.numpy as jnp
import numpy as np

from research.cells.contract import Cell, CellState, orthogonal_for_each_gate
from research.shapes import Array


def slstm(state: CellState, projected: Array, kernel: Array) -> CellState:
    """One step of an LSTM whose inputs are weighed by exponentials, and whose content is their weighted mean.

    z = tanh(W x + R h + b);  o, f = sigmoid(W x + R h + b);  i = W x + R h + b, each with its own W, R, b
    m' = max(i, log f + m)
    c = e^(log f + m - m') c + e^(i - m') z;  n = e^(log f + m - m') n + e^(i - m')
    h = o * c / n

    Args:
      state: (h, c, n, m), [B, H] each; m = -inf where nothing was read, so that the first m' is i.
      projected: [B, 4H]: W x + b of z, i, f, o.
      kernel: [H, 4H]: R of z, i, f, o.

    Returns:
      The next state, (h, c, n, m').

    Source: Beck et al. 2024, arXiv:2405.04517, section 2.2 and appendix A.2. Differs: one head, so R is dense; f is the
    sigmoid of the two that the paper allows; no convolution, norm or projection around the cell.
    """
    h, c, n, m = state
    z, i, f, o = jnp.split(projected + h @ kernel, 4, axis=-1)
    carried = jax.nn.log_sigmoid(f) + m
    m = jnp.maximum(i, carried)
    keep, write = jnp.exp(carried - m), jnp.exp(i - m)
    c, n = keep * c + write * jnp.tanh(z), keep * n + write
    return jax.nn.sigmoid(o) * c / n, c, n, m


def mlstm(state: CellState, projected: Array) -> CellState:
    """One step of a memory that keeps pairs of a key and a value and is asked with a query.

    q, k, v = W x + b, k times H^-1/2;  o, f = sigmoid(W x + b);  i = w x + b and log f are one number each
    m' = max(i, log f + m, 0)
    M = e^(log f + m - m') M + e^(i - m') v k^T;  n = e^(log f + m - m') n + e^(i - m') k
    h = o * M q / max(|n . q|, e^-m')

    Args:
      state: (h, M, n, m), [B, H], [B, H, H] with values in rows, [B, H] and [B, 1].
      projected: [B, 4H + 2]: W x + b of q, k, v, o, i, f.

    Returns:
      The next state, (h, M, n, m').

    Source: Beck et al. 2024, arXiv:2405.04517, section 2.3 and appendix A.3. Differs: one head with keys of width H; m'
    is not below 0, which changes no output and lets a memory start from zeros; no convolution, norm or projection
    around the cell.
    """
    _, M, n, m = state
    q, k, v, o, i, f = _parts(projected)
    carried = jax.nn.log_sigmoid(f) + m
    m = jnp.maximum(jnp.maximum(i, carried), 0)
    keep, write = jnp.exp(carried - m), jnp.exp(i - m) * k
    M, n = keep[:, :, None] * M + v[:, :, None] * write[:, None, :], keep * n + write
    read, found = jnp.einsum('bvk,bk->bv', M, q), jnp.sum(n * q, axis=-1, keepdims=True)
    return jax.nn.sigmoid(o) * read / jnp.maximum(jnp.abs(found), _floor(m)), M, n, m


def mlstm_chunk(memory: tuple[Array, Array, Array], projected: Array,
                mask: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    """C steps of `mlstm` in a few products: weights between the positions of the chunk, and a read of what was before.

    An equal of the steps, to compare them with; `Cell.over` goes step by step.

    F_t = log f_1 + ... + log f_t;  d[t, s] = F_t - F_s + i_s for s <= t;  m_t = max(d[t, s], F_t + m, 0)
    w[t, s] = e^(d[t, s] - m_t) (q_t . k_s);  a_t = e^(F_t + m - m_t)
    h_t = o_t * (sum_s w[t, s] v_s + a_t M q_t) / max(|sum_s w[t, s] + a_t n . q_t|, e^-m_t)

    Args:
      memory: (M, n, m), [B, H, H], [B, H] and [B, 1]: the state without its output.
      projected: [B, C, 4H + 2]: W x + b of q, k, v, o, i, f.
      mask: [B, C] boolean; False is padding.

    Returns:
      Outputs [B, C, H], zero at padding, and the memory after the chunk.

    Source: Beck et al. 2024, arXiv:2405.04517, appendix A.3. Differs: also reads a memory, as Yang et al. 2024,
    arXiv:2312.06635, section 2 do in chunks; otherwise as `mlstm`.
    """
    M, n, m = memory
    q, k, v, o, i, f = _parts(projected)
    forget = jnp.cumsum(jnp.where(mask, jax.nn.log_sigmoid(f)[..., 0], 0), axis=1)
    write = jnp.where(mask, i[..., 0], -jnp.inf)
    exponents = jnp.where(np.tri(mask.shape[1], dtype=bool),
                          forget[:, :, None] - forget[:, None, :] + write[:, None, :], -jnp.inf)
    scales = jnp.maximum(jnp.maximum(jnp.max(exponents, axis=-1), forget + m), 0)
    shares, carried = jnp.exp(exponents - scales[:, :, None]), jnp.exp(forget + m - scales)
    weights = shares * jnp.einsum('btk,bsk->bts', q, k)
    read = jnp.einsum('bts,bsv->btv', weights, v) + carried[:, :, None] * jnp.einsum('bvk,btk->btv', M, q)
    found = jnp.sum(weights, axis=-1) + carried * jnp.einsum('bk,btk->bt', n, q)
    outputs = jax.nn.sigmoid(o) * read / jnp.maximum(jnp.abs(found), _floor(scales))[:, :, None]
    last, kept = shares[:, -1], carried[:, -1:]
    M = kept[:, :, None] * M + jnp.einsum('bs,bsv,bsk->bvk', last, v, k)
    n = kept * n + jnp.einsum('bs,bsk->bk', last, k)
    return jnp.where(mask[:, :, None], outputs, 0), (M, n, scales[:, -1:])


def _floor(m):
    """e^-m, but for what is lost in rounding anyway: a number whose square float32 can divide by."""
    return jnp.exp(-jnp.minimum(m, 40))


def _parts(projected):
    """Query, key times H^-1/2, value and output gate [..., H], input and forget gate [..., 1]."""
    H = (projected.shape[-1] - 2) // 4
    q, k, v, o, i, f = jnp.split(projected, (H, 2 * H, 3 * H, 4 * H, 4 * H + 1), axis=-1)
    return q, k * H**-0.5, v, o, i, f


class SLstm(Cell):
    """`slstm` and its parameters; the forget gate starts open, with bias 1 as that of `lstm`.

    c and n mean something only together: an encoder hands on h and c / n, and a decoder begins as after one input.
    """

    gates = 4
    states = ('output', 'cell', 'normaliser', 'scale')
    biases = (0.0, 0.0, 1.0, 0.0)
    recurrence = staticmethod(slstm)

    def arrays(self) -> tuple[Array, ...]:
        """The recurrent kernel [H, 4H]."""
        return (self.param('kernel', orthogonal_for_each_gate, (self.features, 4 * self.features)),)

    @property
    def final_width(self) -> int:
        """The width of `final`: h and c / n."""
        return 2 * self.features

    @property
    def start_width(self) -> int:
        """The width of what `start_from` reads: h and c / n."""
        return 2 * self.features

    def start(self, batch: int) -> CellState:
        """Nothing read: zeros, at the scale e^-inf."""
        *zeros, scale = super().start(batch)
        return *zeros, jnp.full_like(scale, -jnp.inf)

    def final(self, state: CellState) -> Array:
        """h and c / n, [B, 2H]; zeros if nothing was read."""
        h, c, n, _ = state
        return jnp.concatenate([h, c / jnp.where(n > 0, n, 1)], axis=-1)

    def start_from(self, vector: Array) -> CellState:
        """h and c from [h; c], with n = 1 and m = 0."""
        h, c = jnp.split(vector.astype(self.state_dtype), 2, axis=-1)
        return h, c, jnp.ones_like(c), jnp.zeros_like(c)


class MLstm(Cell):
    """`mlstm`; it has no parameters but the projection, whose forget gate starts open, with bias 3.

    Training keeps a matrix [B, H, H] for each position. An encoder hands on the output, which is what its last query
    found: the matrix would make a bridge of H^3 numbers. A decoder begins with one pair of a key and a value in memory,
    and with that value as its output.
    """

    gates = 6
    states = ('output', 'memory', 'normaliser', 'scale')
    biases = (0.0, 0.0, 0.0, 0.0, 0.0, 3.0)
    recurrence = staticmethod(mlstm)

    def arrays(self) -> tuple[Array, ...]:
        """None: no gate reads the state."""
        return ()

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of each projected vector: H each, and one number for each of the two gates of the memory."""
        return (*(self.features,) * 4, 1, 1)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of h, M, n and m, without B."""
        return (self.features,), (self.features, self.features), (self.features,), (1,)

    @property
    def final_width(self) -> int:
        """The width of `final`: the output."""
        return self.features

    @property
    def start_width(self) -> int:
        """The width of what `start_from` reads: a key and a value."""
        return 2 * self.features

    def final(self, state: CellState) -> Array:
        """The output, [B, H]."""
        return state[0]

    def start_from(self, vector: Array) -> CellState:
        """One pair, from [k; v], written with i = 1."""
        k, v = jnp.split(vector.astype(self.state_dtype), 2, axis=-1)
        k = k * self.features**-0.5
        return v, v[:, :, None] * k[:, None, :], k, jnp.zeros_like(k[:, :1])

    @property
    def start_flops(self) -> float:
        """Forward FLOPs of `start_from`: the product of the pair's two vectors."""
        return 1.0 * self.features**2

    @property
    def recurrent_flops(self) -> float:
        """Forward FLOPs of the recurrence: M forgets, gets a product of two vectors added, and is read."""
        return 5.0 * self.features**2
