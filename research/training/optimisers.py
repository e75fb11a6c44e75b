"""Learning-rate schedules, the optimiser, and which parameters it leaves alone."""

from collections.abc import Sequence

import jax
import optax

from research.errors import UserError, nearest
from research.models.contract import Params

SCHEDULES = ('constant', 'inverse_square_root', 'linear', 'cosine', 'plateau')


def schedule(name: str, rate: float, warmup: int, steps: int, accumulate: int = 1) -> optax.Schedule:
    """The learning rate at a step k, counted from 0: linear from near 0 to `rate` over `warmup` steps, then by name.

        w = (k + 1) / warmup while k < warmup, then
        constant             rate
        inverse_square_root  rate * sqrt(warmup / (k + 1))
        linear               rate * (1 - (k - warmup) / (steps - warmup))
        cosine               rate * (1 + cos(pi * (k - warmup) / (steps - warmup))) / 2
        plateau              rate; whoever measures lowers it while dev does not improve, by `rate` of the state

    An optimiser counts updates: the result is a function of u, and update u takes place at k = u * accumulate.

    Args:
      name: one of SCHEDULES.
      rate: the highest learning rate.
      warmup: steps until then; at least 1.
      steps: the whole run.
      accumulate: steps, which are batches, of an update.

    Source: Vaswani et al. 2017, section 5.3 (inverse square root); Loshchilov and Hutter 2017 (cosine, no restarts).
    Differs: the peak is stated as such, not through the model's width.
    """
    rise = optax.linear_schedule(rate / warmup, rate, max(1, warmup - 1))
    if name in ('constant', 'plateau'):
        after = optax.constant_schedule(rate)
    elif name == 'inverse_square_root':
        def after(k):
            return rate * (warmup / (k + warmup + 1.0))**0.5
    elif name == 'linear':
        after = optax.linear_schedule(rate, 0.0, max(1, steps - warmup))
    elif name == 'cosine':
        after = optax.cosine_decay_schedule(rate, max(1, steps - warmup))
    else:
        raise ValueError(f'Unknown schedule {name!r}. Known: {", ".join(SCHEDULES)}')
    of_step = optax.join_schedules([rise, after], [warmup])
    return lambda update: of_step(update * accumulate)


def adam(rate: optax.Schedule, *, b1: float, b2: float, epsilon: float, clip: float,
         weight_decay: float = 0.0) -> optax.GradientTransformation:
    """Adam after the gradient is cut to a global norm of `clip`; `clip` = 0 cuts nothing.

    With `weight_decay` = w an update also takes rate * w * parameter off each parameter of two axes or more: kernels
    and embeddings, not biases and gains. It is no part of the gradient, so neither its norm nor its moments know of it.

    Source: Kingma and Ba 2015, algorithm 1; Pascanu et al. 2013, algorithm 1 (clipping); Loshchilov and Hutter 2019,
    arXiv:1711.05101, algorithm 2 (weight decay). Differs: the whole learning rate multiplies the decay, not the
    schedule alone, so that w here is the paper's divided by the highest rate; and vectors do not decay.
    """
    before = [optax.clip_by_global_norm(clip)] if clip > 0 else []
    after = [optax.add_decayed_weights(weight_decay, mask=_matrices)] if weight_decay > 0 else []
    return optax.chain(*before, optax.scale_by_adam(b1=b1, b2=b2, eps=epsilon), *after,
                       optax.scale_by_learning_rate(rate))


def frozen(optimiser: optax.GradientTransformation, names: Sequence[str]) -> optax.GradientTransformation:
    """Leaves the parameters of these names as they are, and keeps nothing for them; no name changes nothing.

    What the optimiser does over all parameters together, as clipping does, it does over the others.

    Args:
      optimiser: of all parameters.
      names: whole parts of a dotted name, from its beginning: 'encoder.embedding' is every parameter below it.

    Raises:
      UserError: when it begins: there is no parameter of such a name.
    """
    if not names:
        return optimiser

    def kinds(params):
        return jax.tree.map(lambda stays: 'stays' if stays else 'moves', chosen(params, names))
    return optax.partition({'moves': optimiser, 'stays': optax.set_to_zero()}, kinds)


def without_gradient(params: Params, names: Sequence[str]) -> Params:
    """The same parameters, of which those of these names are constants to a gradient; names as in `frozen`."""
    if not names:
        return params
    return jax.tree.map(lambda stays, leaf: jax.lax.stop_gradient(leaf) if stays else leaf,
                        chosen(params, names), params)


def chosen(params: Params, names: Sequence[str]) -> Params:
    """A tree of bool: which parameters these names are of; raises UserError where one is of none."""
    dotted = [jax.tree_util.keystr(path, simple=True, separator='.') for path, _ in jax.tree.leaves_with_path(params)]
    for name in names:
        if not any(_below(name, other) for other in dotted):
            parts = [other.split('.') for other in dotted]
            known = dict.fromkeys('.'.join(part[:end]) for part in parts for end in range(1, len(part) + 1))
            raise UserError(f'No parameter {name!r} to freeze.{nearest(name, known)} '
                            f'Names begin with: {", ".join(dict.fromkeys(part[0] for part in parts))}')
    return jax.tree.unflatten(jax.tree.structure(params),
                              [any(_below(name, other) for name in names) for other in dotted])


def _below(name, dotted):
    return f'{dotted}.'.startswith(f'{name}.')


def _matrices(params):
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)
