"""Multi-query associative recall in one sequence, 4 pairs of 64 symbols in 32 positions: a model without a source.

    python -m research.train --config=configs/labelled_recall.py --workdir=runs/labelled_recall
    python -m research.train --config=configs/labelled_recall.py:mixer=delta --workdir=runs/delta
"""

from configs import base, data


def get_config(words=None):
    """Two layers of multi-head attention with sinusoidal positions unless words choose otherwise."""
    config = base.choose(base.get_config(), words, 'sequence')
    config.data = data.labelled('labelled_recall')
    config.batches.tokens = 4096
    config.training.steps = 3000
    config.training.evaluate_every = 100
    return config
