"""Your own text, a sentence or a paragraph a line: a model without a source that says each next word or character.

    python -m research.train --config=configs/language_model.py --workdir=runs/words \
        --config.data.train=train.txt --config.data.dev=dev.txt --config.data.test=test.txt
    python -m research.train --config=configs/language_model.py:cell=lstm --workdir=runs/letters \
        --config.data.train=train.txt --config.data.dev=dev.txt --config.data.test=test.txt \
        --config.data.unit=characters
    python -m research.evaluate --workdir=runs/words --split=test

`--config.data.unit=characters --config.data.length=128 --config.data.test_length=512` learns from pieces of 128
characters of running text and is tested on longer ones.
"""

from configs import base, data


def get_config(words=None):
    """Two layers of multi-head attention with sinusoidal positions unless words choose otherwise."""
    config = base.choose(base.get_config(), words, 'sequence')
    config.data = data.language_model()
    config.batches.tokens = 4096           # B x (1 + T): a source that is empty has its end symbol
    config.training.keep = 'loss'          # it is to be sure, not only right where it can be
    config.batches.maximum_target = 256    # a longer training line is dropped and counted
    return config
