"""The sizes at which the studies of experiments/ ask their questions: what two CPU cores train in minutes."""

from ml_collections import ConfigDict

from configs import base, data, language_model, multi30k

NARROW = 64  # width of every part, unless it is asked for


def copying(task: str, words: str | None) -> ConfigDict:
    """Copy or reverse, 32 symbols, trained on 1 to 20 of them and tested to 40, by one-way GRUs.

    One way, so that there is one right place to read: an annotation of both directions knows its neighbours, too.
    """
    config = _written(task, words)
    config.data.symbols = 32
    if config.encoder.kind == 'recurrent':
        config.encoder.bidirectional = False
    config.encoder.dropout = config.decoder.dropout = 0.2
    return config


def widths(width: int, words: str | None) -> ConfigDict:
    """Copies of 2 to 10 of 16 symbols, by a reader whose keys are so wide."""
    config = _written('copy', words, width)
    _lengths(config, 2, 10, 10, '10')
    config.data.symbols = 16
    config.batches.tokens, config.batches.buckets = 1152, 2
    return config


def windows(task: str, words: str | None) -> ConfigDict:
    """Copy or reverse of 12 symbols from annotations that are the embedding of a symbol and of its place, no more.

    The decoder starts from the annotation of the end symbol, which says how long the source is and nothing else of it.
    """
    config = _written(task, f'transformer_to_recurrent+{words or "local_monotonic"}')
    _lengths(config, 12, 12, 12, '12')
    config.encoder.layers, config.encoder.summary, config.encoder.position = 0, 'last', 'learned'
    config.encoder.maximum_length = 32
    config.data.symbols = 16
    if 'window' in config.decoder.reader:
        config.decoder.reader.window = 3
    return config


def content_free(task: str, words: str | None) -> ConfigDict:
    """Copies of 12 symbols, or reversals of 2 to 20, by bidirectional GRUs."""
    config = _written(task, words)
    _lengths(config, *((12, 12, 12, '12') if task == 'copy' else (2, 20, 20, '5,10,14')))
    for option in ('maximum_length',):
        if option in config.decoder.reader:
            config.decoder.reader[option] = 32
    return config


def order(words: str | None) -> ConfigDict:
    """Copies of 8 different symbols of 16, in random order, by a Transformer."""
    config = _written('copy_distinct', _transformer(words))
    _lengths(config, 8, 8, 8, '8')
    config.data.symbols = 16
    return config


def extrapolation(words: str | None) -> ConfigDict:
    """Copies of 1 to 16 of 16 symbols by a Transformer, tested to 24."""
    config = _written('copy', _transformer(words))
    _lengths(config, 1, 16, 24, '16,17,18,19,20,21,22,23')
    config.data.symbols = 16
    return config


def recalling(width: int, pairs: int, words: str | None) -> ConfigDict:
    """Recall of so many pairs of 128 symbols in 128 positions, two layers without feed-forward networks worth the name.

    The feed-forward width is 1: a layer has one, and its size is to say nothing.
    """
    config = _labelled('labelled_recall', words, width)
    config.data.symbols, config.data.length, config.data.size = 128, max(32, 4 * pairs), pairs
    config.decoder.hidden = 1
    return config


def overwritten(pairs: int, words: str | None) -> ConfigDict:
    """Recall in which half of the keys have got a new value."""
    config = _labelled('overwritten_recall', words, NARROW)
    config.data.symbols, config.data.length, config.data.size = 128, 64, pairs
    config.decoder.hidden = 1
    return config


def reaching(distance: int, words: str | None) -> ConfigDict:
    """The symbol so many positions before, of 16, through two layers of a window of 4."""
    config = _labelled('window_reach', words or 'mixer=sliding_window', NARROW)
    config.data.symbols, config.data.size = 16, distance
    if 'width' in config.decoder.mixer.get('reach', {}):
        config.decoder.mixer.reach.width = 4
    return config


def selecting(length: int, tokens: int, words: str | None) -> ConfigDict:
    """Selective copying of so many of 16 symbols from so many positions, by one layer of a cell."""
    config = _labelled('selective_copying', words or 'cell=gru_reset_after', NARROW)
    config.data.symbols, config.data.length, config.data.size = 16, length, tokens
    config.decoder.layers, config.decoder.position = 1, 'none'
    return config


def counting(task: str, words: str | None) -> ConfigDict:
    """Parity or even pairs of 1 to 40 bits, tested to 100."""
    config = _labelled(task, words or 'cell=lstm', NARROW)
    config.data.length, config.data.shortest, config.data.longest_test = 40, 1, 100
    config.evaluation.lengths = '40,60,80,99'
    config.decoder.layers = 1 if config.decoder.mixer.name == 'cell' else 2
    if config.decoder.mixer.name == 'cell':
        config.decoder.position = 'none'
    return config


def letters(words: str | None) -> ConfigDict:
    """English letters in pieces of 64, tested in pieces of 256."""
    config = base.choose(language_model.get_config(), words, 'sequence')
    for split in ('train', 'dev', 'test'):
        config.data[split] = f'data/bible_multi/{split}.en_nheb' + '.gz' * (split == 'train')
    config.data.unit, config.data.length, config.data.test_length = 'characters', 64, 256
    config.decoder.features, config.decoder.hidden, config.decoder.layers = 128, 512, 3
    config.evaluation.lengths = '256'
    return config


def heads(words: str | None) -> ConfigDict:
    """Reversals of 1 to 20 of 32 symbols by a Transformer of four heads."""
    config = _written('reverse', _transformer(words))
    config.data.symbols = 32
    return config


def states(words: str | None) -> ConfigDict:
    """Copies of 1 to 20 of 32 symbols by one-way LSTMs."""
    return copying('copy', words or 'none+cell=lstm')


def order_of_source(words: str | None) -> ConfigDict:
    """Multi30k, German to English, by two layers of one-way LSTMs that start the decoder and are not read."""
    config = multi30k.get_config(words or 'none+cell=lstm')
    config.encoder.bidirectional = False
    config.encoder.layers = config.decoder.layers = 2
    return config


def translating(words: str | None) -> ConfigDict:
    """Multi30k, German to English; the decoder reads before its cell's step, as `fixed_context` must."""
    config = multi30k.get_config(words)
    if config.decoder.kind == 'recurrent':
        config.decoder.reads_with, config.decoder.input_feeding = 'previous', False
    return config


def _transformer(words: str | None) -> str:
    return f'transformer+{words}' if words else 'transformer'


def _written(task: str, words: str | None, width: int = NARROW) -> ConfigDict:
    config = base.choose(base.get_config(), words)
    config.data = data.synthetic(task)
    config.decoding.maximum_ratio = 1.0
    config.evaluation.lengths = '5,10,15,20,25,30,35'
    for side in (config.encoder, config.decoder):
        for key, value in {'features': width, 'embedding_features': width, 'hidden': 2 * width}.items():
            if key in side:
                side[key] = value
    for option, value in {'energy_width': width, 'maximum_length': 64}.items():
        if option in config.decoder.reader:
            config.decoder.reader[option] = value
    return config


def _labelled(task: str, words: str | None, width: int) -> ConfigDict:
    config = base.choose(base.get_config(), words, 'sequence')
    config.data = data.labelled(task)
    config.decoder.features, config.decoder.hidden = width, 2 * width
    config.evaluation.lengths = '32'
    return config


def _lengths(config: ConfigDict, shortest: int, longest: int, longest_test: int, edges: str) -> None:
    config.data.shortest, config.data.longest, config.data.longest_test = shortest, longest, longest_test
    config.evaluation.lengths = edges
