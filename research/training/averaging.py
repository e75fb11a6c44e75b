"""The mean of parameters: one tree from those of several checkpoints, or of several runs of one start."""

from collections.abc import Iterable

import jax
import numpy as np

from research.errors import UserError
from research.models.contract import Params


def mean(trees: Iterable[Params]) -> Params:
    """Averages parameters number by number, summed in float64 on the host.

        mean[leaf] = (tree_1[leaf] + ... + tree_n[leaf]) / n

    Args:
      trees: nested dicts of floating-point arrays, alike in names and shapes. They are taken one after the other, so an
        iterator that reads checkpoints has one of them in memory at a time, beside the sum.

    Returns:
      A tree of the same names and shapes: NumPy, float32. The mean of one tree of float32 is that tree bit for bit.

    Raises:
      UserError: there is no tree, or one differs from the first in names or shapes.

    Source: Junczys-Dowmunt, Dwojak, Sennrich 2016, arXiv:1605.04809 (checkpoints of one run); Vaswani et al. 2017,
    arXiv:1706.03762, section 6.1 (the last 5 or 20). Differs: none.
    """
    shapes, total, count = None, None, 0
    for tree in trees:
        count += 1
        found = {jax.tree_util.keystr(path, simple=True, separator='.'): np.shape(leaf)
                 for path, leaf in jax.tree.leaves_with_path(tree)}
        if shapes is None:
            shapes, total = found, jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), np.float64), tree)
        if found != shapes:
            name = min(name for name in found | shapes if found.get(name) != shapes.get(name))
            raise UserError(f'parameters to average must be alike: {name} is {_said(shapes.get(name))} in the first '
                            f'and {_said(found.get(name))} in number {count}')
        jax.tree.map(_add, total, tree)
        del tree  # or it would be there while the next one is read
    if shapes is None:
        raise UserError('there are no parameters to average; at least one tree is needed')
    return jax.tree.map(lambda sums: np.asarray(sums / count, np.float32), total)


def _add(sums, leaf):
    sums += np.asarray(leaf).astype(np.float64)


def _said(shape):
    return 'absent' if shape is None else f'[{", ".join(map(str, shape))}]'
