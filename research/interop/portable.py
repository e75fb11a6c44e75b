"""A trained model as files that every program can read: safetensors and JSON.

    <folder>/params.safetensors       the parameters, named by their places: encoder.stack_0.network.inner.kernel
    <folder>/config.json              the config of the run
    <folder>/source_vocabulary.json   what to_json of each vocabulary says
    <folder>/target_vocabulary.json
"""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from research.errors import UserError
from research.text.vocabulary import Vocabulary

PARAMS, CONFIG, SOURCE, TARGET = ('params.safetensors', 'config.json', 'source_vocabulary.json',
                                  'target_vocabulary.json')


def export(params: Any, config: str, source: Vocabulary, target: Vocabulary, folder: str | os.PathLike) -> None:
    """Writes a model's parameters, config and vocabularies into a new folder, which is there as a whole or not at all.

    Args:
      params: nested dicts of arrays, of any shape and type that safetensors has.
      config: JSON.
      source, target: the vocabularies.
      folder: is made; it must not exist, or be empty.

    Raises:
      UserError: there is something in the folder.
    """
    with new_folder(folder) as writing:
        save_file({name: np.asarray(array, order='C') for name, array in flatten(params).items()}, writing / PARAMS)
        for name, text in ((CONFIG, config), (SOURCE, source.to_json()), (TARGET, target.to_json())):
            (writing / name).write_text(text, encoding='utf-8')


def load_params(folder: str | os.PathLike) -> Any:
    """The parameters of an exported model, as nested dicts of NumPy arrays; nothing else of the folder is read.

    Raises:
      UserError: the file is absent or damaged.
    """
    path = pathlib.Path(folder) / PARAMS
    return unflatten(read_tensors(path), path)


def flatten(params: Any, above: str = '') -> dict[str, Any]:
    """{'a': {'b': x}} -> {'a.b': x}; ValueError for a name that is empty or has a dot in it."""
    found = {}
    for name, node in params.items():
        if not name or '.' in name:
            raise ValueError(f'{above}{name!r} cannot be joined with dots.')
        found |= flatten(node, f'{above}{name}.') if hasattr(node, 'items') else {f'{above}{name}': node}
    return found


def unflatten(tensors: dict[str, Any], path: pathlib.Path) -> Any:
    """{'a.b': x} -> {'a': {'b': x}}; UserError, naming the path, where names do not make a tree."""
    params = {}
    for name, array in tensors.items():
        *above, last = name.split('.')
        node = params
        for part in above:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                break
        if not isinstance(node, dict) or last in node or not all((*above, last)):
            raise UserError(f'{path} is damaged: its tensor {name!r} has no place of its own in a tree')
        node[last] = array
    return params


def read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, in the types that they are stored in.

    Raises:
      UserError: the file is absent or damaged.
    """
    if not path.is_file():
        raise UserError(f'there is no file {path}')
    try:
        with safe_open(path, framework='np') as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is no mapping
    except SafetensorError as error:
        raise UserError(f'{path} is damaged: {error}') from None


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A folder to write into, which gets its name when all has been written.

    Raises:
      UserError: there is something with this name that is not an empty folder.
    """
    folder = pathlib.Path(folder).resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f'{folder} is there already and not an empty folder; name one that is to be made')
    writing = folder.with_name(f'{folder.name}.writing')
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    try:
        yield writing
        writing.replace(folder)
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise
