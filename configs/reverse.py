"""Write the source backwards: trained on lengths up to 20, tested to 40, with known alignment.

    python -m research.train --config=configs/reverse.py --workdir=runs/reverse
"""

from configs import base, data


def get_config(words=None):
    """The additive reader unless words choose otherwise."""
    config = base.choose(base.get_config(), words)
    config.data = data.synthetic('reverse')
    config.decoding.maximum_ratio = 1.0
    config.evaluation.lengths = '5,10,15,20,25,30,35'
    return config
