"""Learning-rate schedules and the optimiser."""

import optax

SCHEDULES = ('constant', 'inverse_square_root', 'cosine')


def schedule(name: str, rate: float, warmup: int, steps: int) -> optax.Schedule:
    """The learning rate at a step k, counted from 0: linear from near 0 to `rate` over `warmup` steps, then by name.

        w = (k + 1) / warmup while k < warmup, then
        constant             rate
        inverse_square_root  rate * sqrt(warmup / (k + 1))
        cosine               rate * (1 + cos(pi * (k - warmup) / (steps - warmup))) / 2

    Args:
      name: one of SCHEDULES.
      rate: the highest learning rate.
      warmup: steps until then; at least 1.
      steps: the whole run.

    Source: Vaswani et al. 2017, section 5.3 (inverse square root); Loshchilov and Hutter 2017 (cosine, no restarts).
    Differs: the peak is stated as such, not through the model's width.
    """
    rise = optax.linear_schedule(rate / warmup, rate, max(1, warmup - 1))
    if name == 'constant':
        after = optax.constant_schedule(rate)
    elif name == 'inverse_square_root':
        def after(k):
            return rate * (warmup / (k + warmup + 1.0))**0.5
    elif name == 'cosine':
        after = optax.cosine_decay_schedule(rate, max(1, steps - warmup))
    else:
        raise ValueError(f'Unknown schedule {name!r}. Known: {", ".join(SCHEDULES)}')
    return optax.join_schedules([rise, after], [warmup])


def adam(rate: optax.Schedule, *, b1: float, b2: float, epsilon: float, clip: float) -> optax.GradientTransformation:
    """Adam after the gradient is cut to a global norm of `clip`; `clip` = 0 cuts nothing.

    Source: Kingma and Ba 2015, algorithm 1; Pascanu et al. 2013, algorithm 1 (clipping). Differs: none.
    """
    before = [optax.clip_by_global_norm(clip)] if clip > 0 else []
    return optax.chain(*before, optax.scale_by_adam(b1=b1, b2=b2, eps=epsilon), optax.scale_by_learning_rate(rate))
