"""The Tanaka corpus, English to Japanese: 50,000 short pairs whose word orders are far apart.

    python -m research.train --config=configs/tanaka.py:additive --workdir=runs/tanaka/additive

The files of https://github.com/odashi/small_parallel_enja stand in data/enja_tanaka. Japanese is written without
spaces: those between the words of its files are removed. BLEU is of the words that MeCab finds (pip install
'seq2lab[ja]'). Scores: experiments/translation/README.md.
"""

from configs import translation

FOLDER = 'data/enja_tanaka'


def get_config(words=None):
    """A GRU encoder-decoder with the additive reader unless words choose otherwise."""
    config = translation.small(words)
    for split, ending in (('train', '.gz'), ('dev', ''), ('test', '')):
        config.data[split] = f'{FOLDER}/{split}.en{ending},{FOLDER}/{split}.ja{ending}'
    config.data.source_language, config.data.target_language = 'en', 'ja'
    config.data.target_unit, config.data.remove_spaces = 'unigram', 'target'
    config.batches.maximum_source = config.batches.maximum_target = 40
    config.training.steps = 4000
    config.evaluation.lengths = '6,8,10,12'
    config.evaluation.tokenizer = 'ja-mecab'
    return config
