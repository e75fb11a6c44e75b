"""Cross-entropy over real tokens, computed a few rows at a time."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.shapes import Array


def cross_entropy(hidden: Array, logits: Callable[[Array], Array], targets: Array, real: Array, *,
                  label_smoothing: float = 0.0, chunk: int = 512) -> tuple[Array, Array]:
    """The summed cross-entropy of the real targets, and how many there are.

        loss = - sum over real (b, t) of sum_v q[v] log softmax(logits(hidden[b, t]))[v]
        q[v] = (1 - smoothing) [v = target] + smoothing / V

    Rows are taken in chunks, and where a gradient is asked for it is made beside the loss, while a chunk's scores are
    there: no [B, T, V] is ever kept, nothing is made twice, and chunks of padding alone are not made at all. Padding
    changes nothing: its rows count zero.

    Args:
      hidden: [B, T, D].
      logits: [R, D] -> [R, V]; what it closes over may have gradients, of the first order and in reverse mode alone.
      targets: int32 [B, T].
      real: boolean [B, T]; False at padding.
      label_smoothing: in [0, 1).
      chunk: most rows (B x T flattened) at a time.

    Returns:
      The sum [] and the count [], float32; both 0 if nothing is real.

    Source: label smoothing: Szegedy et al. 2016, section 7 (uniform over all V symbols). Differs: none.
    """
    rows = hidden.reshape(-1, hidden.shape[-1])
    places = _real_places(real, chunk)
    example = jax.ShapeDtypeStruct((places.shape[1], rows.shape[1]), rows.dtype)
    function, constants = jax.closure_convert(logits, example)
    total = _cross_entropy(function, label_smoothing, rows, tuple(constants), targets.reshape(-1), places)
    return total, jnp.sum(real).astype(jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _cross_entropy(logits, label_smoothing, hidden, constants, targets, places):
    """The summed loss of hidden [B x T, D] at the places [C, R]."""
    def add(index, total):
        rows, answers, counted = _chunk(hidden, targets, places[index])
        losses, _ = _losses_and_gradients(logits(rows, *constants), answers, label_smoothing)
        return total + jnp.sum(jnp.where(counted, losses, 0.0))
    return jax.lax.fori_loop(0, _used(places, hidden), add, jnp.zeros((), jnp.float32))


def _cross_entropy_and_gradients(logits, label_smoothing, hidden, constants, targets, places):
    def add(index, found):
        total, of_hidden, of_constants = found
        rows, answers, counted = _chunk(hidden, targets, places[index])
        scores, backward = jax.vjp(logits, rows, *constants)
        losses, of_scores = _losses_and_gradients(scores, answers, label_smoothing)
        of_rows, *more = backward(jnp.where(counted[:, None], of_scores, 0.0).astype(scores.dtype))
        return (total + jnp.sum(jnp.where(counted, losses, 0.0)),
                of_hidden.at[places[index]].set(of_rows, mode='drop'),
                jax.tree.map(jnp.add, of_constants, tuple(more)))
    total, *gradients = jax.lax.fori_loop(0, _used(places, hidden), add, (
        jnp.zeros((), jnp.float32), *jax.tree.map(jnp.zeros_like, (hidden, constants))))
    return total, gradients


def _scaled(logits, label_smoothing, gradients, factor):
    return *jax.tree.map(lambda leaf: factor.astype(leaf.dtype) * leaf, gradients), None, None


_cross_entropy.defvjp(_cross_entropy_and_gradients, _scaled)


def _real_places(real, chunk):
    """Where the real rows of [B x T] stand, then B x T for each place that is left: int32 [C, R], R at most `chunk`."""
    count = real.size
    chunks = max(1, -(-count // chunk))
    size = -(-count // chunks)
    places = jnp.nonzero(real.reshape(-1), size=chunks * size, fill_value=count)[0]
    return places.astype(jnp.int32).reshape(chunks, size)


def _used(places, hidden):
    """How many chunks hold a real row: they come first."""
    return jnp.sum(places[:, 0] < hidden.shape[0])


def _chunk(hidden, targets, places):
    rows, answers = (jnp.take(array, places, axis=0, mode='fill', fill_value=0) for array in (hidden, targets))
    return rows, answers, places < hidden.shape[0]


def _losses_and_gradients(scores, answers, label_smoothing):
    """The cross-entropy of each answer, and its gradient: scores [..., V], int32 [...] -> [...], [..., V]."""
    V = scores.shape[-1]
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    total = jax.nn.logsumexp(scores, axis=-1, keepdims=True)
    right = jnp.take_along_axis(scores, answers[..., None], axis=-1)
    losses = total - (1.0 - label_smoothing) * right
    if label_smoothing:
        losses = losses - label_smoothing * jnp.mean(scores, axis=-1, keepdims=True)
    wanted = jnp.where(jnp.arange(V) == answers[..., None], 1.0 - label_smoothing, 0.0) + label_smoothing / V
    return losses[..., 0], jnp.exp(scores - total) - wanted


def consistent_cross_entropy(hidden: Array, logits: Callable[[Array], Array], targets: Array, real: Array, *,
                             alpha: float, label_smoothing: float = 0.0, chunk: int = 512) -> tuple[Array, Array]:
    """The summed cross-entropy of two passes over the same batch, and how far their distributions are apart (R-Drop).

        loss = sum over real (b, t) of  (CE_1 + CE_2) / 2 + alpha / 4 (KL(p_1 || p_2) + KL(p_2 || p_1))
        p_i = softmax(logits(hidden[b, t, i]));  CE_i as in `cross_entropy`
        KL(p_1 || p_2) + KL(p_2 || p_1) = sum_v (p_1[v] - p_2[v]) (log p_1[v] - log p_2[v])

    Half of the paper's loss, so `alpha` means what it means there, and a token counts as much as in `cross_entropy`:
    where both passes are the same, it is the same.

    Args:
      hidden: [B, T, 2, D] of both passes.
      logits: [R, 2, D] -> [R, 2, V].
      targets: int32 [B, T].
      real: boolean [B, T]; False at padding.
      alpha: at least 0.
      label_smoothing: in [0, 1).
      chunk: most rows of scores at a time; a position has two.

    Returns:
      The sum [] and the count [] of real targets, float32; both 0 if nothing is real.

    Source: Liang et al. 2021, arXiv:2106.14448, section 2.2. Differs: half of it.
    """
    def add(total, part):
        rows, answers, counted = part
        scores = logits(rows)
        losses, _ = _losses_and_gradients(scores, jnp.broadcast_to(answers[:, None], scores.shape[:2]), label_smoothing)
        logs = jax.nn.log_softmax(scores, axis=-1)
        first, second = logs[:, 0], logs[:, 1]
        apart = jnp.sum((jnp.exp(first) - jnp.exp(second)) * (first - second), axis=-1)
        losses = jnp.mean(losses, axis=-1) + alpha / 4.0 * apart
        return total + jnp.sum(jnp.where(counted, losses, 0.0)), None
    return _over_chunks(add, hidden, targets, real, -(-chunk // 2)), jnp.sum(real).astype(jnp.float32)


def right_answers(hidden: Array, logits: Callable[[Array], Array], targets: Array, real: Array, *,
                  chunk: int = 512) -> Array:
    """How many real targets have the highest score: float32 []. Arguments are those of `cross_entropy`."""
    def add(total, part):
        rows, answers, counted = part
        right = jnp.argmax(logits(rows), axis=-1) == answers
        return total + jnp.sum(jnp.where(counted, right, False)).astype(jnp.float32), None
    return _over_chunks(add, hidden, targets, real, chunk)


def of_positions(hidden: Array, logits: Callable[[Array], Array], targets: Array, *,
                 chunk: int = 512) -> tuple[Array, Array]:
    """The cross-entropy of every target, and whether it has the highest score.

        loss[b, t] = - log softmax(logits(hidden[b, t]))[targets[b, t]]

    Args:
      hidden: [B, T, D].
      logits: [..., D] -> [..., V].
      targets: int32 [B, T]; what is said of padding means nothing.
      chunk: most rows (B x T flattened) of scores at a time.

    Returns:
      Float32 [B, T] in nats and bool [B, T]; of equal scores the first is the highest.
    """
    def one(row):
        scores = logits(row[0])
        loss, _ = _losses_and_gradients(scores, row[1], 0.0)
        return loss, jnp.argmax(scores, axis=-1) == row[1]
    rows = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    losses, right = jax.lax.map(one, rows, batch_size=min(chunk, targets.size))
    return losses.reshape(targets.shape), right.reshape(targets.shape)


def _over_chunks(add, hidden, targets, real, chunk):
    """Sums `add` over rows of [B x T], at most `chunk` at a time."""
    count = hidden.shape[0] * hidden.shape[1]
    chunks = max(1, -(-count // chunk))
    size = -(-count // chunks)

    def parts(array, *tail):
        rows = array.reshape(count, *tail)
        rows = jnp.pad(rows, ((0, chunks * size - count),) + ((0, 0),) * len(tail))
        return rows.reshape(chunks, size, *tail)
    split = parts(hidden, *hidden.shape[2:]), parts(targets), parts(real)
    if chunks == 1:
        return add(jnp.zeros((), jnp.float32), jax.tree.map(lambda part: part[0], split))[0]
    return jax.lax.scan(jax.checkpoint(add), jnp.zeros((), jnp.float32), split)[0]
