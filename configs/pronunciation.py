"""Letters to ARPAbet phones: CMUdict, 97 / 1 / 2 % of the words by a hash of the word.

    python -m research.train --config=configs/pronunciation.py --workdir=runs/pronunciation

Measured once, seed 1, on one of two cores in some 5 minutes: 57.0 % of 2,435 test words right (95 % interval over words
55.0 to 58.9), 12.7 % of phones wrong. At 1,500 steps: experiments/forgetting/README.md.
"""

from configs import base, data, sweeps


def get_config(words=None):
    """The additive reader unless words choose otherwise."""
    config = base.choose(base.get_config(), words)
    config.data = data.pronunciation()
    config.batches.maximum_source = 32
    config.batches.maximum_target = 32
    config.evaluation.lengths = '4,7,10'
    return config


sweep_learning_rate, sweep_seed, sweep_reader = sweeps.learning_rate, sweeps.seed, sweeps.reader
