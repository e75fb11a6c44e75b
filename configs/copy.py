"""Write the source again: trained on lengths up to 20, tested to 40, with known alignment.

    python -m research.train --config=configs/copy.py --workdir=runs/copy
"""

from configs import base, data, sweeps


def get_config(words=None):
    """The additive reader unless words choose otherwise."""
    config = base.choose(base.get_config(), words)
    if config.encoder.kind == 'recurrent':
        # So that there is one right place to read: an annotation of both directions knows its neighbours too, and a
        # model that reads beside the symbol copies as well.
        config.encoder.bidirectional = False
    config.encoder.dropout = 0.2
    config.decoder.dropout = 0.2
    config.data = data.synthetic('copy')
    config.decoding.maximum_ratio = 1.0
    config.evaluation.lengths = '5,10,15,20,25,30,35'
    return config


sweep_learning_rate, sweep_seed, sweep_reader = sweeps.learning_rate, sweeps.seed, sweeps.reader
