"""Associative recall: `k1 v1 k2 v2 | k2 k1` to `v2 v1`, with known alignment.

    python -m research.train --config=configs/recall.py --workdir=runs/recall
"""

from configs import base, data


def get_config(words=None):
    """The additive reader unless words choose otherwise."""
    config = base.choose(base.get_config(), words)
    config.data = data.synthetic('recall')
    config.data.longest = 8
    config.data.longest_test = 12
    config.decoding.maximum_ratio = 1.0
    config.evaluation.lengths = '5,9,13,17,21,25,29'
    return config
