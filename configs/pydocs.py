"""The documentation of Python, English to French: 18,155 pairs, paragraphs of up to 150 words. For long sources.

    python -m research.train --config=configs/pydocs.py:transformer --workdir=runs/pydocs/transformer

data/pydocs holds en-fr.train.tsv.gz, en-fr.dev.tsv and en-fr.test.tsv: English TAB French, a paragraph a line, made of
https://github.com/python/python-docs-fr. Scores by source length: experiments/translation/README.md.
"""

from configs import translation

FOLDER = 'data/pydocs'


def get_config(words=None):
    """A GRU encoder-decoder with the additive reader unless words choose otherwise."""
    config = translation.small(words)
    config.data.train, config.data.dev, config.data.test = (
        f'{FOLDER}/en-fr.{name}' for name in ('train.tsv.gz', 'dev.tsv', 'test.tsv'))
    config.data.source_language, config.data.target_language = 'en', 'fr'
    config.data.source_size = config.data.target_size = 6000
    translation.share(config)
    config.batches.maximum_source = config.batches.maximum_target = 200
    config.training.steps = 6000
    config.evaluation.lengths = '10,20,40,80'
    return config
