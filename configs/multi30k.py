"""Multi30k, German to English: captions of pictures, 29,000 pairs. The flagship of translation on two CPU cores.

    python -m research.train --config=configs/multi30k.py:transformer --workdir=runs/multi30k/transformer
    python -m research.train --config=configs/multi30k.py:additive --workdir=runs/multi30k/additive
    python -m research.train --config=configs/multi30k.py:none --workdir=runs/multi30k/none

The files of https://github.com/multi30k/dataset (data/task1/raw) stand in data/multi30k.
"""

from configs import base, data

FOLDER = 'data/multi30k'


def get_config(words=None):
    """A GRU encoder-decoder with the additive reader unless words choose otherwise."""
    config = base.choose(base.get_config(), words)
    config.data = data.parallel()
    for split, name in (('train', 'train'), ('dev', 'val'), ('test', 'test_2016_flickr')):
        config.data[split] = f'{FOLDER}/{name}.de.gz,{FOLDER}/{name}.en.gz'
    config.data.source_language, config.data.target_language = 'de', 'en'
    config.data.source_unit = config.data.target_unit = 'bpe'
    config.data.source_size = config.data.target_size = 4000
    config.data.joint = True
    config.batches.buckets = 8
    config.batches.maximum_source = config.batches.maximum_target = 80
    sides = config.encoder, config.decoder
    for side in sides:
        if side.kind == 'transformer':
            side.layers, side.features, side.hidden, side.dropout = 3, 128, 512, 0.1
        else:
            side.features, side.embedding_features, side.dropout = 256, 256, 0.2
    if config.decoder.kind == 'recurrent':
        config.decoder.reads_with, config.decoder.input_feeding = 'current', True
    if config.encoder.kind == config.decoder.kind == 'transformer':
        config.encoder.share_embeddings = config.decoder.tie_embeddings = True
        config.training.steps, config.training.learning_rate = 6500, 3e-3
    else:
        config.training.steps, config.training.learning_rate = 6000, 2e-3
    config.training.schedule, config.training.warmup = 'cosine', 400
    config.training.label_smoothing = 0.1
    config.training.keep = 'bleu'
    config.training.average = 5
    config.training.dev_sample = 1014
    config.decoding.beams, config.decoding.penalise_by, config.decoding.length_penalty = 5, 'power', 1.0
    config.evaluation.lengths = '5,10,15,20,30'
    return config
