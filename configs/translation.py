"""What the small corpora of translation have in common: models that two CPU cores train in half an hour."""

from ml_collections import ConfigDict

from configs import base, data


def small(words: str | None) -> ConfigDict:
    """A GRU encoder-decoder with the additive reader unless words choose otherwise; `data` lacks its files."""
    config = base.choose(base.get_config(), words)
    config.data = data.parallel()
    config.data.source_unit = config.data.target_unit = 'bpe'
    config.data.source_size = config.data.target_size = 4000
    config.batches.buckets = 8
    for side in (config.encoder, config.decoder):
        if side.kind == 'transformer':
            side.layers, side.features, side.hidden, side.dropout = 3, 128, 512, 0.1
        else:
            side.features, side.embedding_features, side.dropout = 256, 256, 0.2
    if config.decoder.kind == 'transformer':
        config.encoder.features = config.decoder.features  # what a reader without projections adds
    if config.decoder.kind == 'recurrent':
        config.decoder.reads_with, config.decoder.input_feeding = 'current', True
        config.training.learning_rate = 2e-3
    else:
        config.decoder.tie_embeddings = True
        config.training.learning_rate = 3e-3
    config.training.schedule, config.training.warmup = 'cosine', 400
    config.training.label_smoothing = 0.1
    config.training.keep = 'bleu'
    config.training.average = 5
    config.training.dev_sample = 1014
    config.decoding.beams, config.decoding.penalise_by, config.decoding.length_penalty = 5, 'power', 1.0
    return config


def share(config: ConfigDict) -> None:
    """One vocabulary for both sides; one table where both sides are Transformers."""
    config.data.joint = True
    config.encoder.share_embeddings = config.encoder.kind == config.decoder.kind == 'transformer'
