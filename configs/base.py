"""Every key, with its meaning and unit. A config file states only what differs from this one.

A run is chosen in words, joined by +:

    --config=configs/pronunciation.py:additive                      the reader
    --config=configs/pronunciation.py:transformer                   Transformer encoder and decoder
    --config=configs/pronunciation.py:transformer_to_recurrent+dot  one of each, and the reader

Words: recurrent, transformer, recurrent_to_transformer, transformer_to_recurrent, sequence (a model without a source,
for labels or text), and, for the reader, those of configs/attention.py. Four parts can be changed on both sides,
in any order: mixer=retention, position=rotary (what is added to embeddings: none, sinusoidal or learned; or a scheme of
configs/positions.py), cell=lstm, short_convolution=4 (positions seen by a convolution before a mixer):

    --config=configs/pronunciation.py:transformer+position=rotary
    --config=configs/pronunciation.py:recurrent_to_transformer+multi_query+mixer=grouped_query+cell=lstm

Any key can then be set: --config.training.steps=4000 --config.decoder.reader.energy_width=64
"""

import difflib

from ml_collections import ConfigDict

from configs import attention, positions


def get_config() -> ConfigDict:
    """A bidirectional GRU encoder, a GRU decoder, and the additive reader between them. `data` is set by a task."""
    config = ConfigDict()
    config.seed = 1                        # of initial values, dropout and the order of the data
    config.dtype = 'float32'               # what is computed in: float32 or bfloat16; parameters and loss are float32
    config.start_from = ''                 # work directory of a run whose parameters and vocabularies this one begins
                                           #   with; '' = at random
    config.data = ConfigDict()             # a task's own section: configs/data.py

    config.batches = ConfigDict()
    config.batches.tokens = 2304           # positions of a batch, padding and both sides counted: B x (S + T)
    config.batches.buckets = 4             # shapes (S, T), each of them one compiled program
    config.batches.packing = False         # several training pairs share a row, one shape for all; Transformers only
    config.batches.shape_seed = 0          # of the order in which shapes come; 0 = as the run's seed. Runs of several
                                           #   seeds with the same one see the same shapes at the same steps, and can be
                                           #   trained in one program
    config.batches.maximum_source = 64     # symbols, the end symbol included; a longer training pair is dropped and
    config.batches.maximum_target = 64     #   counted

    config.encoder = recurrent_encoder()
    config.decoder = recurrent_decoder()

    config.training = ConfigDict()
    config.training.steps = 4000           # batches
    config.training.accumulate = 1         # batches of an update: its gradient is that of one batch as large as these
    config.training.learning_rate = 2e-3   # the highest, after the warm-up
    config.training.schedule = 'inverse_square_root'  # constant, inverse_square_root, linear, cosine or plateau
    config.training.warmup = 400           # steps of linear rise
    config.training.plateau_patience = 3   # plateau: measurements on dev without a better one before the rate falls
    config.training.plateau_factor = 0.5   # plateau: what the rate is multiplied by then
    config.training.label_smoothing = 0.0  # share of the answer spread over all symbols, in [0, 1)
    config.training.clip = 1.0             # largest norm of the whole gradient; 0 = never cut
    config.training.b1 = 0.9               # Adam: decay of the mean
    config.training.b2 = 0.98              # Adam: decay of the squares
    config.training.epsilon = 1e-9         # Adam: added to the root of the squares
    config.training.weight_decay = 0.0     # Adam: share of a matrix taken off at each update, times the learning rate
    config.training.r_drop = 0.0           # weight of the divergence between two passes with different dropout; 0 = off
    config.training.scheduled_sampling = 'none'  # how often the decoder reads its own symbols: none, or a right symbol
                                           #   is read with a share that falls: linear, exponential, inverse_sigmoid
    config.training.sampling_steps = 2000  # of that fall; 0.5 is reached about then
    config.training.sampling_floor = 0.5   # the least share of right symbols
    config.training.ema = 0.0              # decay of a moving average of the parameters, which is measured in their
                                           #   place; 0 = off
    config.training.average = 1            # at the end, the mean of the parameters at so many last measurements is
                                           #   measured too; 1 = none
    config.training.frozen = ''            # parameters that stay as they began, by the beginning of their names, joined
                                           #   by commas; the table that vectors fill: encoder.embedding (recurrent),
                                           #   encoder.entrance.embedding (Transformer), those of decoder, or embedding
                                           #   (share_embeddings)
    config.training.remat = 'none'         # what is made again for gradients and not kept: none, or layers: all that is
                                           #   inside of a Transformer layer: less memory for a third more FLOPs,
                                           #   on accelerators; the compiler of a CPU keeps it all the same
    config.training.chunk = 512            # rows of [B x T, V] scores made at a time
    config.training.report_every = 50      # steps between lines of metrics
    config.training.evaluate_every = 500   # steps between measurements on dev
    config.training.checkpoint_every = 500  # steps between checkpoints
    config.training.dev_sample = 500       # dev sentences decoded at each measurement, the same ones every time
    config.training.keep = 'accuracy'      # what decides which parameters are best on dev: accuracy, loss or bleu
    config.training.patience = 0           # measurements without a better one after which the run ends; 0 = never
    config.training.enough = 0.0           # accuracy on dev: two measurements in a row with it end the run; 0 = never

    config.decoding = ConfigDict()
    config.decoding.beams = 1              # W; 1 = greedy
    config.decoding.length_penalty = 0.6   # alpha; 0 = none
    config.decoding.penalise_by = 'wu'     # scores are divided by ((5 + n) / 6)^alpha (wu) or n^alpha (power)
    config.decoding.coverage_penalty = 0.0  # beta of Wu et al. 2016, equation 14; 0 = none; needs attention weights
    config.decoding.patience = 0.0         # a sentence is over when so many times W hypotheses have ended; 0 = only
                                           #   when it cannot improve
    config.decoding.maximum_ratio = 2.0    # an output may have this many symbols for each source symbol
    config.decoding.maximum_extra = 10     #   and this many more; both sides count their end symbol
    config.decoding.tokens = 4096          # source positions decoded at a time, padding and beams counted

    config.evaluation = ConfigDict()
    config.evaluation.lengths = '10,20,30,40'  # buckets of source length: up to 10 symbols, 11 to 20, ..., 41 and more;
                                           #   translation (data.task = parallel) counts words between spaces
    config.evaluation.tokenizer = '13a'    # sacreBLEU's, by the target language: 13a, intl, zh, ja-mecab, ko-mecab,
                                           #   char, flores200, none
    return config


def recurrent_encoder() -> ConfigDict:
    """The keys of a recurrent encoder."""
    return ConfigDict({
        'kind': 'recurrent',
        'cell': 'gru_reset_before',   # or gru_reset_after, plain, lstm, layer_norm_lstm, slstm, mlstm, minimal_gru,
                                      #   minimal_lstm, rg_lru, lru, sru, qrnn
        'cell_path': 'scan',          # over all positions: scan, or cudnn: lstm in float32 on an NVIDIA GPU
        'layers': 1,
        'features': 128,              # width of an annotation; each direction has half of it when there are two
        'embedding_features': 128,    # width of the source embeddings
        'bidirectional': True,
        'backward': False,            # where it is not: read from the end of the source to its beginning
        'share_embeddings': False,    # the source is read with the target's embeddings: one vocabulary (data.joint)
        'dropout': 0.0,               # on embeddings and between layers, in [0, 1)
    })


def recurrent_decoder(reader: str = 'additive') -> ConfigDict:
    """The keys of a recurrent decoder."""
    return ConfigDict({
        'kind': 'recurrent',
        'cell': 'gru_reset_before',
        'cell_path': 'scan',          # as in the encoder; cudnn where reads_with is current, without input_feeding
        'layers': 1,
        'features': 128,              # width of the cells and of the hidden vector that is scored
        'embedding_features': 128,    # width of the target embeddings
        'reader': attention.get(reader),
        'reads_with': 'previous',     # the state that asks: before (previous) or after (current) the cell's step, or
                                      #   between those of two cells, the second of which reads the answer (between)
        'input_feeding': False,       # the cell (the first of two) also reads the last hidden vector
        'start_state': 'final',       # final = a projection of the encoder's last states; zero
        'tie_embeddings': False,      # the softmax shares the target embeddings
        'dropout': 0.0,               # on embeddings, between layers and on the hidden vector, in [0, 1)
    })


def transformer_encoder() -> ConfigDict:
    """The keys of a Transformer encoder."""
    return ConfigDict({
        'kind': 'transformer',
        'layers': 2,
        'features': 128,              # D
        'hidden': 256,                # F, width inside the feed-forward networks
        'mixer': attention.get('multi_head_dot'),
        'short_convolution': 0,       # W, positions that a convolution before the mixer sees, itself included; 0 = none
        'norm': 'pre',                # pre or post
        'activation': 'relu',         # of the feed-forward networks: relu, gelu, gelu_tanh, swish; reglu, geglu, swiglu
        'epsilon': 1e-6,              # added to the variance in each layer norm
        'position': 'sinusoidal',     # none, sinusoidal, sinusoidal_concatenated or learned
        'maximum_length': 256,        # learned positions; a longer sequence is refused
        'summary': 'mean',            # the source as one vector: mean, first or last readable position
        'scale_embeddings': True,     # multiplied by the root of their width
        'share_embeddings': False,    # the source is read with the target's embeddings: one vocabulary (data.joint)
        'dropout': 0.0,               # on embeddings, in feed-forward networks and after each sublayer, in [0, 1)
    })


def transformer_decoder(reader: str = 'multi_head_dot') -> ConfigDict:
    """The keys of a Transformer decoder."""
    return ConfigDict({
        'kind': 'transformer',
        'layers': 2,
        'features': 128,
        'hidden': 256,
        'mixer': attention.get('multi_head_dot'),
        'short_convolution': 0,
        'reader': attention.get(reader),
        'norm': 'pre',
        'activation': 'relu',
        'epsilon': 1e-6,
        'position': 'sinusoidal',
        'maximum_length': 256,
        'scale_embeddings': True,
        'tie_embeddings': False,      # the softmax shares the target embeddings
        'softmax_bias': False,        # a learned number is added to the score of each symbol
        'dropout': 0.0,
    })


def no_encoder() -> ConfigDict:
    """In place of an encoder, for a model without a source."""
    return ConfigDict({'kind': 'nothing'})


def sequence(mixer: str = 'multi_head_dot') -> ConfigDict:
    """The keys of a model without a source: layers of a mixer, or of a cell."""
    return ConfigDict({
        'kind': 'sequence',
        'layers': 2,
        'features': 64,
        'hidden': 128,
        'mixer': attention.get(mixer),  # or {'name': 'cell', 'cell': 'lstm'}: the word cell=lstm
        'short_convolution': 0,
        'causal': True,               # a position sees earlier ones only; False = both directions
        'norm': 'pre',
        'activation': 'relu',
        'epsilon': 1e-6,
        'position': 'sinusoidal',
        'maximum_length': 256,
        'scale_embeddings': True,
        'tie_embeddings': False,
        'dropout': 0.0,
    })


KINDS = {
    'recurrent': (recurrent_encoder, recurrent_decoder),
    'transformer': (transformer_encoder, transformer_decoder),
    'recurrent_to_transformer': (recurrent_encoder, transformer_decoder),
    'transformer_to_recurrent': (transformer_encoder, recurrent_decoder),
    'sequence': (no_encoder, sequence),
}


def choose(config: ConfigDict, words: str | None, kind: str | None = None) -> ConfigDict:
    """Applies the words of a config argument, such as 'transformer' or 'recurrent_to_transformer+dot+cell=lstm'.

    Args:
      config: is changed.
      words: one for each part at most, in any order; a name alone is a kind or a reader.
      kind: where no word is one; None = that of the config.

    Raises:
      ValueError: a word is unknown, says a part again, or has no place in this kind.
    """
    chosen = {}
    for word in words.split('+') if words else ():
        part, equals, name = word.partition('=')
        if not equals:
            _known(word, (*KINDS, *attention.OPTIONS), 'choice')
            part, name = 'kind' if word in KINDS else 'reader', word
        if _known(part, CHANGES, 'part') in chosen:
            raise ValueError(f'after the colon of --config the {part} is said twice: {chosen[part]!r} and {name!r}')
        chosen[part] = name
    if kind is not None:
        chosen.setdefault('kind', kind)
    for part, change in CHANGES.items():
        if part in chosen:
            change(config, chosen[part])
    return config


def _kind(config: ConfigDict, name: str) -> None:
    encoder, decoder = KINDS[_known(name, KINDS, 'kind')]
    config.encoder, config.decoder = encoder(), decoder()


def _reader(config: ConfigDict, name: str) -> None:
    for side in _sides(config, 'reader'):
        side.reader = attention.get(_known(name, attention.OPTIONS, 'reader'))


def _cell(config: ConfigDict, name: str) -> None:
    if config.decoder.kind == 'sequence':
        config.decoder.mixer = ConfigDict({'name': 'cell', 'cell': name})
        return
    for side in _sides(config, 'cell'):
        side.cell = name


def _mixer(config: ConfigDict, name: str) -> None:
    for side in _sides(config, 'mixer'):
        if side.mixer.name == 'cell':
            raise ValueError(f'cell={side.mixer.cell} and mixer={name} after the colon of --config: in a model without '
                             'a source a cell stands in the place of the mixer, so it has one of them')
        side.mixer = attention.get(_known(name, attention.OPTIONS, 'mixer'))


def _position(config: ConfigDict, name: str) -> None:
    _known(name, (*EMBEDDED, *positions.OPTIONS), 'position')
    for side in _sides(config, 'mixer'):
        relative = name in positions.OPTIONS
        if relative and 'position' not in side.mixer:
            raise ValueError(f'mixer {side.mixer.name!r} has no option position, so it cannot have {name!r}')
        side.position = 'none' if relative else name
        if 'position' in side.mixer:
            side.mixer.position = positions.get(name if relative else 'none')


def _short_convolution(config: ConfigDict, width: str) -> None:
    if not width.isdecimal():
        raise ValueError(f'short_convolution={width} after the colon of --config; it must be a whole number')
    for side in _sides(config, 'short_convolution'):
        side.short_convolution = int(width)


def _sides(config: ConfigDict, key: str) -> list[ConfigDict]:
    sides = [side for side in (config.encoder, config.decoder) if key in side]
    if not sides:
        raise ValueError(f'neither encoder nor decoder has a {key}: choose a kind that has one')
    return sides


EMBEDDED = ('none', 'sinusoidal', 'learned')
CHANGES = {  # in the order in which they are made: a part stands in a kind, a position in a mixer
    'kind': _kind, 'reader': _reader, 'cell': _cell, 'mixer': _mixer, 'position': _position,
    'short_convolution': _short_convolution}


def _known(name: str, known, what: str) -> str:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise ValueError(f'Unknown {what} {name!r} after the colon of --config.'
                         f'{f" Did you mean {near[0]!r}?" if near else ""} Known: {", ".join(known)}')
    return name
