"""Multi30k, German to English: captions of pictures, 29,000 pairs. The flagship of translation on two CPU cores.

    python -m research.train --config=configs/multi30k.py:transformer --workdir=runs/multi30k/transformer
    python -m research.train --config=configs/multi30k.py:additive --workdir=runs/multi30k/additive
    python -m research.train --config=configs/multi30k.py:none --workdir=runs/multi30k/none

The files of https://github.com/multi30k/dataset (data/task1/raw) stand in data/multi30k. Scores and times of several
seeds: experiments/translation/README.md.
"""

from configs import sweeps, translation

FOLDER = 'data/multi30k'


def get_config(words=None):
    """A GRU encoder-decoder with the additive reader unless words choose otherwise."""
    config = translation.small(words)
    for split, name in (('train', 'train'), ('dev', 'val'), ('test', 'test_2016_flickr')):
        config.data[split] = f'{FOLDER}/{name}.de.gz,{FOLDER}/{name}.en.gz'
    config.data.source_language, config.data.target_language = 'de', 'en'
    translation.share(config)
    config.batches.maximum_source = config.batches.maximum_target = 80
    config.training.steps = 6500 if config.decoder.kind == 'transformer' else 6000
    config.evaluation.lengths = '5,10,15,20,30'
    return config


sweep_learning_rate, sweep_seed = sweeps.learning_rate, sweeps.seed


def sweep_reader():
    """The readers that a decoder which reads with its current state can have."""
    return sweeps.reader(without=('fixed_context',))
