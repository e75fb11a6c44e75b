"""Makes a work directory of a Marian checkpoint in the format of Hugging Face, to translate with and to train on.

    python -m research.import_marian --checkpoint=opus-mt-de-en --config=configs/parallel.py --workdir=runs/opus
    python -m research.translate --workdir=runs/opus < source.txt
    python -m research.train --config=configs/fine_tune.py:runs/opus --workdir=runs/tuned --config.data.train=...

The folder is one that transformers' save_pretrained wrote of model and tokenizer. The config says how to search and to
score; encoder, decoder and vocabularies are those of the checkpoint.
"""

import json
import pathlib
import sys

from research import build, command_line
from research.errors import UserError, one_line_errors
from research.interop import marian
from research.training import workdir as workdirs
from research.training.kept import Kept


def main() -> None:
    """The command line."""
    with one_line_errors('research.import_marian'):
        given = [argument for argument in sys.argv[1:] if argument.partition('=')[0] == '--checkpoint']
        config, workdir = command_line.config_and_workdir(
            __doc__, [argument for argument in sys.argv if argument not in given])
        if len(given) != 1 or not given[0].partition('=')[2]:
            raise UserError('--checkpoint=FOLDER must be given once: a folder with config.json, model.safetensors, '
                            'source.spm, target.spm and vocab.json')
        if build.tokenizer(config) is None:
            raise UserError('--config must be for pairs to translate (data.task = parallel), such as '
                            'configs/parallel.py')
        checkpoint = marian.load(given[0].partition('=')[2])
        config = build.with_model(config, checkpoint.config)
        build.validate(config)
        model = build.model(config, len(checkpoint.source), len(checkpoint.target))
        build.check_params(build.abstract_params(model), checkpoint.params)
        folder = pathlib.Path(workdir)
        identity = build.identity(config, checkpoint.source, checkpoint.target)
        files = {'source_vocabulary.json': checkpoint.source.to_json(),
                 'target_vocabulary.json': checkpoint.target.to_json(),
                 'data.json': json.dumps({'corpus': None}) + '\n'}
        with workdirs.claimed(folder, build.text(config), files):
            Kept(folder, 1, identity).save(0, checkpoint.params)
        total, _ = build.parameters(model)
        print(f'{workdir}: {total:,} parameters, {len(checkpoint.target):,} symbols; next: '
              f'python -m research.translate --workdir={workdir}')


if __name__ == '__main__':
    main()
