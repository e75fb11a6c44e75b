"""Letters to ARPAbet phones: CMUdict, 97 / 1 / 2 % of the words by a hash of the word.

    python -m research.train --config=configs/pronunciation.py --workdir=runs/pronunciation
"""

from configs import base, data


def get_config(words=None):
    """The additive reader unless words choose otherwise."""
    config = base.choose(base.get_config(), words)
    config.data = data.pronunciation()
    config.batches.maximum_source = 32
    config.batches.maximum_target = 32
    config.evaluation.lengths = '4,7,10'
    return config
