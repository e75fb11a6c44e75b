"""Your own pairs: two files aligned by line, or one file with a tab between source and target.

    python -m research.train --config=configs/parallel.py --workdir=runs/mine \
        --config.data.train=train.de,train.en --config.data.dev=dev.de,dev.en --config.data.test=test.de,test.en
"""

from configs import base, data


def get_config(words=None):
    """The additive reader unless words choose otherwise."""
    config = base.choose(base.get_config(), words)
    config.data = data.parallel()
    config.batches.maximum_source = 100
    config.batches.maximum_target = 100
    return config
