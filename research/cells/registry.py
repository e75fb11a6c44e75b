"""The cells that a config can name: one line each."""

from typing import Any, NamedTuple

from research.cells.contract import Cell
from research.cells.gru import GruResetAfter, GruResetBefore
from research.cells.lstm import Lstm
from research.cells.plain import Plain
from research.errors import UserError, nearest


class Entry(NamedTuple):
    """One cell."""

    name: str
    cell: type[Cell]
    paper: str
    summary: str


CELLS = {entry.name: entry for entry in (
    Entry('plain', Plain, 'Elman 1990', 'one tanh layer that reads its own last output'),
    Entry('lstm', Lstm, 'Hochreiter and Schmidhuber 1997, Gers et al. 2000',
          'input, forget and output gates around a cell; forget bias 1'),
    Entry('gru_reset_before', GruResetBefore, 'Cho et al. 2014, arXiv:1406.1078',
          'reset and update gates; the state is reset before the product'),
    Entry('gru_reset_after', GruResetAfter, 'Cho et al. 2014, arXiv:1406.1078, as computed by cuDNN',
          'reset and update gates; the product is reset, with a bias inside'),
)}


def make(name: str, features: int, dtype: Any = None) -> Cell:
    """Makes the cell of that name.

    Args:
      name: a key of CELLS.
      features: H, the width of its state.
      dtype: of projections and outputs; None means the type that inputs and parameters promote to.

    Raises:
      UserError: there is no such cell, or its width is not a positive integer.
    """
    if name not in CELLS:
        raise UserError(f'Unknown cell {name!r}.{nearest(name, CELLS)} Known: {", ".join(CELLS)}')
    if not isinstance(features, int) or isinstance(features, bool) or features < 1:
        raise UserError(f'Cell {name!r}: features is {features!r}; it must be a positive integer')
    return CELLS[name].cell(features, dtype)
