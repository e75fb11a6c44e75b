"""What can be chosen: the attentions and the cells, with paper, role and capabilities.

    python -m research.catalogue
"""

import argparse
from collections.abc import Sequence

import rich.box
import rich.console
import rich.table

from research.attention.registry import VARIANTS, options
from research.cells.registry import CELLS


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    argparse.ArgumentParser(prog='research.catalogue', description=__doc__.split('\n')[0],
                            allow_abbrev=False).parse_args(arguments)
    console = rich.console.Console()
    if not console.is_terminal:
        console.width = 180
    attentions = rich.table.Table('name', 'roles', 'reads', 'weights', 'rows', 'paths', 'packing', 'options', 'paper',
                                  'summary', title='attention', box=rich.box.SIMPLE_HEAD, title_justify='left')
    for variant in VARIANTS.values():
        attentions.add_row(variant.name, ', '.join(variant.roles), variant.reads, _yes(variant.weights),
                           variant.rows or '-', ', '.join(variant.paths), _yes(variant.packing),
                           ', '.join(options(variant.name)) or '-', variant.paper, variant.summary)
    console.print(attentions)
    cells = rich.table.Table('name', 'paper', 'summary', title='cells', box=rich.box.SIMPLE_HEAD, title_justify='left')
    for cell in CELLS.values():
        cells.add_row(cell.name, cell.paper, cell.summary)
    console.print(cells)


def _yes(flag: bool) -> str:
    return 'yes' if flag else 'no'


if __name__ == '__main__':
    main()
