"""The work directory of a run: whose it is, that no other process writes there, and files that are replaced whole."""

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from research.errors import UserError
from research.locked import LOCK, locked

CONFIG = 'config.json'
NEW = '.new'  # ends the name of a file that is to replace another one


@contextlib.contextmanager
def claimed(folder: pathlib.Path, config: str, files: Mapping[str, str],
            completed: Callable[[str], str] = lambda stored: stored) -> Iterator[None]:
    """Makes a work directory this run's own for as long as the context is open.

    Args:
      folder: made if it is absent; what it holds must be this run's.
      config: of the run, as JSON.
      files: others that decide the run, by name: its vocabularies, what its data is.
      completed: adds to a stored config what configs did not have when it was written.

    Raises:
      UserError: the directory holds another config's run, a run on other data, or something else; another process
        writes there; it cannot be made or written. Nothing is changed then.
    """
    with locked(folder):
        path = folder / CONFIG
        if path.is_file():
            _compare(folder, path, config, "holds another config's run", completed)
            for name, text in files.items():
                if (folder / name).is_file():  # a kill may have come before it was written
                    _compare(folder, folder / name, text, 'holds a run on other data')
        elif {other.name for other in folder.iterdir()} - {LOCK, path.name + NEW}:  # a kill may have left the last
            raise UserError(f'{folder} is not empty and holds no run (no {CONFIG}). Choose another --workdir')
        for name, text in {CONFIG: config, **files}.items():  # the config first: it says whose the directory is
            replace(folder / name, text)
        yield


def replace(path: pathlib.Path, text: str) -> None:
    """Replaces a file as a whole: a kill leaves the old one or the new one. Raises UserError when it cannot."""
    temporary = path.with_name(path.name + NEW)
    try:
        temporary.write_text(text, encoding='utf-8')
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror})') from None


def require_folder(path: str | pathlib.Path) -> None:
    """Raises UserError where a file cannot be written because its folder is missing: to be known before the work."""
    if not pathlib.Path(path).parent.is_dir():
        raise UserError(f'{path}: there is no such folder')


def flat(tree: Any, above: str = '') -> dict[str, Any]:
    """Nested dicts, or a config, as one dict of dotted keys."""
    leaves = {}
    for key, value in tree.items():
        leaves |= flat(value, f'{above}{key}.') if hasattr(value, 'items') else {f'{above}{key}': value}
    return leaves


def _compare(folder, path, text, what, completed=lambda stored: stored):
    try:
        there, here = flat(json.loads(completed(path.read_text(encoding='utf-8')))), flat(json.loads(text))
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f'{path} is damaged ({error}). Restore it, or choose another --workdir') from None
    differing = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
    if differing:
        key = differing[0]
        raise UserError(f'{folder} {what}: {key} is {there.get(key)!r:.60} there and {here.get(key)!r:.60} here'
                        + (f' ({len(differing)} keys differ)' if differing[1:] else '')
                        + '. Choose another --workdir')
