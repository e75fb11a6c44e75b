"""Exports a trained run for other programs: a CTranslate2 folder, or safetensors and JSON.

    python -m research.export --workdir=DIR --format=ctranslate2 --folder=exported
    python -m research.export --workdir=DIR --format=safetensors --folder=exported
"""

import argparse
from collections.abc import Sequence

from research import build
from research.errors import UserError, one_line_errors
from research.evaluate import Run
from research.interop import ctranslate2, portable

FORMATS = ('ctranslate2', 'safetensors')


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog='research.export', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('--workdir', required=True, help='of a finished or running training')
    parser.add_argument('--format', choices=FORMATS, required=True,
                        help='ctranslate2: Transformers of multi-head attention; safetensors: any model')
    parser.add_argument('--folder', required=True, help='that is to be made')
    options = parser.parse_args(arguments)
    with one_line_errors('research.export'):
        run = Run.load(options.workdir)
        try:
            if options.format == 'ctranslate2':
                ctranslate2.export(run.model, run.params, run.source, run.target, options.folder)
            else:
                portable.export(run.params, build.text(run.config), run.source, run.target, options.folder)
        except OSError as error:
            raise UserError(f'--folder={options.folder}: cannot be written ({error.strerror})') from None
        averaged = f', {run.averaged}' if run.averaged else ''
        print(f'{options.folder}: {run.name}, step {run.step}{averaged}, for {options.format}')


if __name__ == '__main__':
    main()
