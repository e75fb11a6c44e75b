"""The sizes at which experiments/learning asks whether a variant learns at all."""

from ml_collections import ConfigDict

from configs import base, data, labelled_recall


def writing(task: str, words: str) -> ConfigDict:
    """Copy or reverse: lengths 2 to 12, 16 symbols, 64 units, 1,500 steps."""
    config = base.choose(base.get_config(), words)
    config.data = data.synthetic(task)
    config.data.symbols, config.data.shortest = 16, 2
    config.data.longest = config.data.longest_test = 12
    _budget(config, 1500)
    config.decoding.maximum_ratio = 1.0
    for side in (config.encoder, config.decoder):
        for key in ('features', 'embedding_features', 'hidden'):
            if key in side:
                side[key] = 64
    for option, value in {'energy_width': 64, 'window': 2, 'maximum_length': 32}.items():
        if option in config.decoder.reader:
            config.decoder.reader[option] = value
    return config


def writing_without_positions(task: str) -> ConfigDict:
    """The same by a Transformer whose encoder does not see order."""
    config = writing(task, 'transformer')
    config.encoder.position = 'none'
    return config


def recalling(mixer: str, causal: bool, path: str = 'explicit') -> ConfigDict:
    """Recall of 4 pairs of 64 symbols in 32 positions, width 64, 2 layers, no source, at most 3,000 steps."""
    config = labelled_recall.get_config(f'mixer={mixer}')
    _budget(config, 3000)
    config.decoder.causal, config.decoder.mixer.path = causal, path
    if 'width' in config.decoder.mixer.get('reach', {}):
        config.decoder.mixer.reach.width = 16  # of 32 positions: a quarter of the pairs are outside
    return config


def reaching(distance: int) -> ConfigDict:
    """The symbol so many positions before, of 16, through two layers of a window of 4."""
    config = recalling('sliding_window', True)
    config.data = data.labelled('window_reach')
    config.data.symbols, config.data.size = 16, distance
    _budget(config, 1500)
    config.decoder.mixer.reach.width = 4
    return config


def _budget(config: ConfigDict, steps: int) -> None:
    config.training.steps = config.training.checkpoint_every = steps
    config.training.warmup = config.training.evaluate_every = config.training.report_every = 100
