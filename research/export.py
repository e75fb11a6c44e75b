"""Exports a trained run for other programs: a CTranslate2 folder, or safetensors and JSON.

    python -m research.export --workdir=DIR --format=ctranslate2 --folder=exported
    python -m research.export --workdir=DIR --format=safetensors --folder=exported
"""

import argparse
from collections.abc import Sequence

from research import build
from research.errors import one_line_errors

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
        from research.evaluate import Run  # orbax is slow to import
        run = Run.load(options.workdir)
        if options.format == 'ctranslate2':
            from research.interop import ctranslate2
            ctranslate2.export(run.model, run.params, run.source, run.target, options.folder)
        else:
            from research.interop import portable
            portable.export(run.params, build.text(run.config), run.source, run.target, options.folder)
        averaged = f', {run.averaged}' if run.averaged else ''
        print(f'{options.folder}: {run.name}, step {run.step}{averaged}, for {options.format}')


if __name__ == '__main__':
    main()
