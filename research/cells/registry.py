"""The cells that a config can name: one line each."""

from typing import Any, NamedTuple

from research.cells.contract import Cell
from research.cells.gru import GruResetAfter, GruResetBefore
from research.cells.linear_unit import Lru, RgLru
from research.cells.lstm import LayerNormLstm, Lstm
from research.cells.minimal import MinimalGru, MinimalLstm
from research.cells.plain import Plain
from research.cells.qrnn import Qrnn
from research.cells.sru import Sru
from research.cells.xlstm import MLstm, SLstm
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
    Entry('layer_norm_lstm', LayerNormLstm, 'Ba, Kiros, Hinton 2016, arXiv:1607.06450',
          'an LSTM that normalises what each gate reads and what the cell shows'),
    Entry('minimal_gru', MinimalGru, 'Feng et al. 2024, arXiv:2410.01201',
          'one update gate that reads the input alone; linear in its state'),
    Entry('minimal_lstm', MinimalLstm, 'Feng et al. 2024, arXiv:2410.01201',
          'input and forget gates that read the input alone and sum to one; linear in its state'),
    Entry('rg_lru', RgLru, 'De et al. 2024, arXiv:2402.19427',
          'a decay that an input may hold up, and a gated input; linear in its state'),
    Entry('lru', Lru, 'Orvieto et al. 2023, arXiv:2303.06349',
          'complex numbers that turn and decay at fixed rates; linear in its state'),
    Entry('slstm', SLstm, 'Beck et al. 2024, arXiv:2405.04517',
          'an LSTM with an exponential input gate and a normaliser'),
    Entry('mlstm', MLstm, 'Beck et al. 2024, arXiv:2405.04517',
          'a matrix of keys and values with an exponential input gate, read by a query'),
    Entry('sru', Sru, 'Lei et al. 2018, arXiv:1709.02755',
          'gates that see the cell number by number; input and cell are mixed'),
    Entry('qrnn', Qrnn, 'Bradbury et al. 2017, arXiv:1611.01576',
          'gates that read this input and the one before; linear in its state'),
)}


PATHS = ('scan', 'cudnn')  # over all positions: a loop, or one call of NVIDIA's library


def make(name: str, features: int, dtype: Any = None, path: str = 'scan') -> Cell:
    """Makes the cell of that name.

    Args:
      name: a key of CELLS.
      features: H, the width of its output.
      dtype: of projections and outputs; None means the type that inputs and parameters promote to.
      path: how it reads all positions, one of PATHS; 'cudnn' is for 'lstm' in float32 alone.

    Raises:
      UserError: there is no such cell, its width is not a positive integer, or it has no such path.
    """
    if name not in CELLS:
        raise UserError(f'Unknown cell {name!r}.{nearest(name, CELLS)} Known: {", ".join(CELLS)}')
    if not isinstance(features, int) or isinstance(features, bool) or features < 1:
        raise UserError(f'Cell {name!r}: features is {features!r}; it must be a positive integer')
    if path == 'scan':
        return CELLS[name].cell(features, dtype)
    if path not in PATHS:
        raise UserError(f'cell_path is {path!r}; it must be one of {", ".join(PATHS)}.{nearest(path, PATHS)}')
    if name != 'lstm':
        raise UserError(f"cell_path is {path!r}, which is for cell 'lstm', not {name!r}: it must be 'scan'")
    if dtype not in (None, 'float32'):
        raise UserError(f"cell_path is {path!r}, which computes in float32, and dtype is '{dtype}': it must be 'scan'")
    return Lstm(features, dtype, path)
