"""Goes on from the parameters of another run, or of an imported checkpoint, on a corpus of your own.

    python -m research.train --config=configs/fine_tune.py:runs/opus --workdir=runs/tuned \
        --config.data.train=train.de,train.en --config.data.dev=dev.de,dev.en --config.data.test=test.de,test.en

The word after the colon is the work directory of that run. Encoder, decoder, vocabularies, search and scoring are as
they were there, and so is what is done to the text before it is cut.
"""

import json
import pathlib

from ml_collections import ConfigDict

from configs import base, data

TEXT = ('source_language', 'target_language', 'remove_spaces', 'reverse_source')


def get_config(workdir=None):
    """A twentieth of the usual learning rate, which falls to nothing."""
    if not workdir:
        raise ValueError('--config=configs/fine_tune.py:WORKDIR must name the run that is gone on from')
    path = pathlib.Path(workdir) / 'config.json'
    if not path.is_file():
        raise ValueError(f'{workdir} holds no run: there is no {path.name} in it')
    run = json.loads(path.read_text(encoding='utf-8'))
    if run['decoder']['kind'] == 'sequence':
        raise ValueError(f'{workdir} holds a model without a source, which cannot translate')
    config = base.get_config()
    config.start_from = workdir
    config.data = data.parallel()
    config.data.update({key: value for key, value in run['data'].items() if key in TEXT})
    for number, side in enumerate(('encoder', 'decoder')):  # an old run may lack keys: they have their usual values
        usual = base.KINDS[run[side]['kind']][number]()
        config[side] = ConfigDict(usual.to_dict() | run[side])
    config.decoding.update(run['decoding'])
    config.evaluation.update(run['evaluation'])
    config.batches.maximum_source = config.batches.maximum_target = 100
    config.training.steps, config.training.learning_rate, config.training.warmup = 2000, 1e-4, 100
    config.training.schedule = 'linear'
    config.training.label_smoothing = 0.1
    config.training.keep = 'bleu'
    return config
