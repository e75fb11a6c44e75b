"""Goes on from the parameters of another run, or of an imported checkpoint, on a corpus of your own.

    python -m research.train --config=configs/fine_tune.py:runs/opus --workdir=runs/tuned \
        --config.data.train=train.de,train.en --config.data.dev=dev.de,dev.en --config.data.test=test.de,test.en

The words after the colon are the work directory: encoder, decoder and vocabularies are those of its run.
"""

import json
import pathlib

from ml_collections import ConfigDict

from configs import base, data


def get_config(workdir=None):
    """A twentieth of the usual learning rate, which falls to nothing."""
    config = base.get_config()
    if not workdir:
        raise ValueError('--config=configs/fine_tune.py:WORKDIR must name the run that is gone on from')
    path = pathlib.Path(workdir) / 'config.json'
    if not path.is_file():
        raise ValueError(f'{workdir} holds no run: there is no {path.name} in it')
    run = json.loads(path.read_text(encoding='utf-8'))
    config.encoder, config.decoder = ConfigDict(run['encoder']), ConfigDict(run['decoder'])
    config.data = data.parallel()
    config.decoding = ConfigDict(run['decoding'])
    config.start_from = workdir
    config.batches.maximum_source = config.batches.maximum_target = 100
    config.training.steps, config.training.learning_rate, config.training.warmup = 2000, 1e-4, 100
    config.training.schedule = 'linear'
    config.training.label_smoothing = 0.1
    config.training.keep = 'bleu'
    return config
