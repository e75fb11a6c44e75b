"""An LSTM over whole sequences by NVIDIA's cuDNN, and how its parameters lie there: pure functions of arrays."""

import jax
import jax.numpy as jnp

from research.errors import UserError
from research.shapes import Array


def check(dtype: object) -> None:
    """Raises UserError where there is no NVIDIA GPU, or the numbers are not float32."""
    if jax.default_backend() != 'gpu':
        raise UserError(f"cell_path 'cudnn' needs an NVIDIA GPU, and this is a {jax.default_backend()}: it must be "
                        "'scan', which has the same parameters")
    if dtype != jnp.float32:
        raise UserError(f"cell_path 'cudnn' computes in float32, not in {dtype}: dtype must be 'float32', or cell_path "
                        "'scan'")


def over(inputs: Array, mask: Array, state: tuple[Array, Array], kernel: Array, bias: Array, recurrent: Array,
         reverse: bool = False) -> tuple[Array, tuple[Array, Array]]:
    """What `cells.contract.Cell.over` says of an LSTM, in one call of the library for all positions.

    In each row the real positions must stand first. Products are in TF32 unless jax_default_matmul_precision is
    'highest'. Cannot be vmapped.

    Args:
      inputs: float32 [B, S, D].
      mask: boolean [B, S], each row True up to its length.
      state: (h, c), float32 [B, H] each.
      kernel: [D, 4H]: W of i, f, g, o.
      bias: [4H].
      recurrent: [H, 4H]: U of i, f, g, o.
      reverse: read from the last real position to the first; outputs stay where their inputs are.

    Returns:
      Outputs [B, S, H], zero at padding, and (h, c) after the last position that is read.
    """
    from jax.experimental import rnn  # only what asks for it depends on an experiment
    lengths = jnp.sum(mask, axis=1, dtype=jnp.int32)
    inputs = jnp.where(mask[:, :, None], inputs, 0)
    read = flipped(inputs, lengths) if reverse else inputs
    D, H = inputs.shape[-1], recurrent.shape[0]
    # The library knows no empty row: it reads one position of zeros there, and nothing of that is used.
    outputs, h, c = rnn.lstm(read, state[0][None], state[1][None], packed(kernel, bias, recurrent),
                             jnp.maximum(lengths, 1), D, H, 1, 0.0, False)
    outputs = jnp.where(mask[:, :, None], flipped(outputs, lengths) if reverse else outputs, 0)
    some = lengths[:, None] > 0
    return outputs, tuple(jnp.where(some, new[0], old) for new, old in zip((h, c), state, strict=True))


def packed(kernel: Array, bias: Array, recurrent: Array) -> Array:
    """The parameters of one layer as the library has them: W^T, U^T, and two biases, of i, f, g, o in this order.

    The second bias, which is added to the first, is zero.

    Source: jax.experimental.rnn, unpack_lstm_weights. Differs: none.
    """
    return jnp.concatenate([kernel.T.ravel(), recurrent.T.ravel(), bias, jnp.zeros_like(bias)])


def flipped(array: Array, lengths: Array) -> Array:
    """Each row [S, ...] of [B, S, ...] with its first `lengths` positions in opposite order, the others in place."""
    position = jnp.arange(array.shape[1])
    ends = lengths[:, None]
    index = jnp.where(position < ends, ends - 1 - position, position)
    return jnp.take_along_axis(array, index[:, :, None], axis=1)
