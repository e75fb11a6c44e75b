"""Pictures: attention weights of a sentence, scores by source length. Nothing touches matplotlib's global state."""

import math
import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from research.errors import UserError

FORMATS = ('.png', '.svg')
COLOURS = {  # of an arm in all pictures
    'none': '#0072B2', 'fixed_context': '#56B4E9', 'mean': '#009E73', 'additive': '#D55E00', 'scaled_dot': '#CC79A7',
    'multi_head_dot': '#E69F00', 'transformer': '#1a1d21'}


def check_path(path: str | os.PathLike) -> str:
    """The path as text; raises UserError when no picture can be written there, before anything is computed."""
    path = os.fspath(path)
    if not path.lower().endswith(FORMATS):
        raise UserError(f'{path}: a picture file must end in {" or ".join(FORMATS)}.')
    if not os.path.isdir(os.path.dirname(path) or '.'):
        raise UserError(f'{path}: there is no folder {os.path.dirname(path)}; make it first.')
    return path


def attention_picture(path: str | os.PathLike, weights: np.ndarray, source: Sequence[str], target: Sequence[str],
                      title: str = '') -> None:
    """Draws how much each target symbol reads from each source symbol: dark is 1, white 0, red negative.

    Rows are target symbols from top to bottom, columns source symbols; several heads stand in a grid.

    Args:
      path: file to write; its ending chooses PNG or SVG.
      weights: [T, S], or [N, T, S] with one picture a head.
      source: S symbols, written as they are.
      target: T symbols.
      title: stands above everything.

    Raises:
      ValueError: the weights do not fit the symbols.
      UserError: the file cannot be written, or has another ending than .png or .svg.
    """
    path = check_path(path)
    weights = np.asarray(weights, np.float64)
    heads = weights[None] if weights.ndim == 2 else weights
    if heads.ndim != 3 or not heads.size or heads.shape[1:] != (len(target), len(source)):
        raise ValueError(f'Weights {weights.shape} do not fit {len(target)} target and {len(source)} source symbols.')
    across = math.ceil(math.sqrt(len(heads)))
    down = math.ceil(len(heads) / across)
    # A symbol gets a fifth of an inch, so that text never overlaps, whatever the length.
    size = (max(2.4, 0.2 * len(source) + 1.2), max(1.6, 0.2 * len(target) + 1.0))
    figure = Figure(figsize=(max(across * size[0] + 0.6, 0.09 * len(title)), down * size[1] + 0.5),
                    layout='constrained')
    axes = figure.subplots(down, across, squeeze=False).ravel()
    limit = max(1.0, np.abs(heads).max())
    for n, axis in enumerate(axes):
        if n >= len(heads):
            axis.remove()
            continue
        image = axis.imshow(heads[n], cmap='RdGy', vmin=-limit, vmax=limit, aspect='equal', interpolation='nearest')
        axis.xaxis.tick_top()
        # A symbol may be '$': no symbol is a formula.
        axis.set_xticks(range(len(source)), source, parse_math=False)
        axis.set_yticks(range(len(target)), target, parse_math=False)
        for label in axis.get_xticklabels():
            label.set_rotation(90 if len(label.get_text()) > 1 else 0)
        axis.tick_params(length=0, labelsize=8)
        if len(heads) > 1:
            axis.set_xlabel(f'head {n + 1}', fontsize=8)
    low = -limit if heads.min() < 0 else 0.0
    bar = figure.colorbar(image, ax=axes[:len(heads)].tolist(), shrink=0.6, aspect=15)
    bar.ax.set_ylim(low, limit)
    bar.ax.tick_params(labelsize=8)
    if title:
        figure.suptitle(title, fontsize=10, parse_math=False)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UserError(f'{path}: cannot write the picture: {error.strerror}.') from error


def line_by_length(panel: Axes, names: Sequence[str], values: np.ndarray, label: str, colour: str,
                   style: str = '-') -> None:
    """Draws one arm: the line is the mean over seeds, the band goes from the lowest to the highest seed.

    Args:
      panel: where to draw; an arm is a call.
      names: of L buckets of source length, ascending: `['1–10', '11–20']`.
      values: [runs, L]: one score of each run and bucket.
      label: of the arm.
      colour, style: of its line, as matplotlib names them.
    """
    values = np.asarray(values, np.float64)
    panel.fill_between(range(len(names)), values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    panel.plot(range(len(names)), values.mean(axis=0), style, color=colour, marker='o', markersize=4, label=label)
    panel.set_xticks(range(len(names)), names)
    panel.grid(axis='y', color='#d8dbe0')
    panel.spines[['top', 'right']].set_visible(False)
