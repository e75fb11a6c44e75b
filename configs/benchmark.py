"""Multi30k at the size that other toolkits are measured at; what `python -m experiments.benchmark` trains and decodes.

    python -m research.train --config=configs/benchmark.py:transformer --workdir=runs/benchmark/transformer
    python -m research.train --config=configs/benchmark.py:additive+cell=lstm --workdir=runs/benchmark/lstm

A joint vocabulary of 8,000 and batches of 4,096 positions a side. The Transformer has 3 + 3 layers of width 256, 1,024
inside, 4 heads and one table for embeddings and softmax; the recurrent model one bidirectional layer of 2 x 256, a
decoder of 256 with input feeding and a softmax of its own.
"""

from configs import multi30k


def get_config(words=None):
    """A GRU encoder-decoder with the additive reader unless words choose otherwise."""
    config = multi30k.get_config(words)
    config.data.source_size = config.data.target_size = 8000
    config.batches.tokens = 8192
    for side in (config.encoder, config.decoder):
        side.dropout = 0.1
        if side.kind == 'transformer':
            side.features, side.hidden = 256, 1024
        else:
            side.features = side.embedding_features = 256
    if config.encoder.kind == config.decoder.kind:
        config.encoder.share_embeddings = True
    if config.encoder.kind == config.decoder.kind == 'recurrent':
        config.encoder.features = 512
    if config.decoder.kind == 'recurrent' and 'energy_width' in config.decoder.reader:
        config.decoder.reader.energy_width = 256
    config.training.steps, config.training.evaluate_every, config.training.checkpoint_every = 1500, 500, 500
    config.training.learning_rate, config.training.warmup, config.training.average = 2e-3, 200, 1
    config.training.keep, config.training.dev_sample = 'loss', 100
    return config
