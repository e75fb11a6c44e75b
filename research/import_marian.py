"""Makes a work directory of a Marian checkpoint in the format of Hugging Face, to translate with and to train on.

    python -m research.import_marian --checkpoint=opus-mt-de-en --config=configs/parallel.py --workdir=runs/opus
    python -m research.translate --workdir=runs/opus < source.txt
    python -m research.train --config=configs/fine_tune.py:runs/opus --workdir=runs/tuned --config.data.train=...

The config says how to search and, for fine-tuning, how to train; encoder and decoder are those of the checkpoint.
"""

import json
import pathlib
import sys

from research import build, command_line
from research.errors import UserError, one_line_errors
from research.interop import marian
from research.training import workdir as workdirs
from research.training.checkpoint import Checkpoints


def main() -> None:
    """The command line."""
    with one_line_errors('research.import_marian'):
        found = [argument for argument in sys.argv[1:] if argument.partition('=')[0] == '--checkpoint']
        if len(found) != 1 or '=' not in found[0]:
            raise UserError('--checkpoint=FOLDER is missing; it must name a folder with config.json, '
                            'model.safetensors, source.spm, target.spm and vocab.json')
        rest = [argument for argument in sys.argv if argument not in found]
        config, workdir = command_line.config_and_workdir(__doc__, rest)
        checkpoint = marian.load(found[0].partition('=')[2])
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
            Checkpoints(folder / 'best', keep=1, identity=identity).save(0, checkpoint.params)
        total, _ = build.parameters(model)
        print(f'{workdir}: {total:,} parameters, {len(checkpoint.target):,} symbols; next: '
              f'python -m research.translate --workdir={workdir}')


if __name__ == '__main__':
    main()
