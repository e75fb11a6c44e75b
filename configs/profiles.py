"""How much of a study is run, as values at dotted keys."""


def budget(steps: int, measured: int = 10) -> dict:
    """So many steps with a warm-up of a tenth and a cosine to zero, measured on dev at so many of them."""
    every = steps // measured
    return {'training.steps': steps, 'training.warmup': steps // 10, 'training.schedule': 'cosine',
            'training.report_every': max(1, every // 2), 'training.evaluate_every': every,
            'training.checkpoint_every': every, 'training.dev_sample': 200,
            'batches.shape_seed': 1}  # so that seeds can be trained together


def rehearsal() -> dict:
    """Every part runs, nothing is learned."""
    return budget(12, 2) | {'training.warmup': 4, 'training.dev_sample': 16, 'batches.tokens': 512,
                            'batches.buckets': 2}


MADE_UP = {'data.train': 200, 'data.dev': 16, 'data.test': 40}  # few pairs of a task that is made up
