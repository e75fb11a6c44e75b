"""Checkpoints: written as a whole or not at all, verified before they are believed, and never given up silently.

    <directory>/<step>/manifest.json       what the step holds, whose it is, and the sha256 of each of its files
    <directory>/<step>/arrays/             what Orbax wrote
    <directory>/saving-<step>/             being written, or what a kill left of that: the next save removes it
    <directory>/replaced-<step>/           the same step, saved before, for the moment until the new one has its name
    <directory>/removing-<step>/           an old step on its way out: the next save removes what a kill left of it
    <directory>/aside-<step>-<number>/     stood where a step was to be saved and was damaged or not ours: kept

Orbax loads a file with a flipped bit without noticing and never falls back to an older step; hence the manifest.
"""

import operator
import os
import pathlib
import re
import shutil
import sys
from typing import Any

import jax
import numpy as np

from research.errors import DivergedError, UserError
from research.sealed import sealed, sha256, unsealed

FORMAT = 1
MANIFEST = 'manifest.json'
ARRAYS = 'arrays'


class Checkpoints:
    """The checkpoints of one run in one directory; one process writes there, any number may read.

    A tree is what jax calls one: nested dicts, named tuples and lists of jax arrays, NumPy arrays, numbers and typed
    random keys. Nothing is cast on the way: what is restored has the bits, shapes and dtypes of what was saved.

    Args of the constructor:
      directory: made by the first save.
      keep: how many of the newest good steps stay.
      keep_every: every good step that is a multiple of this stays too; None keeps no others.
      identity: what a checkpoint must agree in with the run that loads it, such as the hash of its vocabulary.
    """

    def __init__(self, directory: str | pathlib.Path, *, keep: int = 2, keep_every: int | None = None,
                 identity: dict[str, str]):
        """Neither reads nor writes anything."""
        if keep < 1 or (keep_every is not None and keep_every < 1):
            raise ValueError(f'keep and keep_every are at least 1, not {keep} and {keep_every}')
        self.directory = pathlib.Path(directory)
        self.keep, self.keep_every, self.identity = keep, keep_every, dict(identity)

    def save(self, step: int, tree: Any) -> None:
        """Writes a step, waits until it is there, then removes the good steps that are no longer to be kept.

        A step that exists is replaced. Steps after this one are left alone.

        Raises:
          UserError: a floating leaf is not finite (nothing is written), or the disk refuses (older steps stay).
          TypeError: a leaf is no array, number or key.
        """
        step = operator.index(step)
        if step < 0:
            raise ValueError(f'a step counts from 0, not {step}')
        leaves = _leaves(tree)
        arrays = {name: _array(name, leaf) for name, leaf in leaves.items()}
        for name, array in arrays.items():
            if jax.dtypes.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
                raise DivergedError(f'the run diverged at step {step}: {name} has {np.sum(~np.isfinite(array))} of '
                                f'{array.size} values that are not finite. It is not saved; the steps before it stay '
                                f'in {self.directory}')
        try:
            self._finish_what_a_kill_left()
            self._write(step, leaves, arrays)
            self._publish(step)
            self._retire(step)
        except (OSError, ValueError) as error:
            # tensorstore reports a full disk as a ValueError that quotes the number of the system's error
            if isinstance(error, OSError) or 'os_error_code' in str(error):
                raise UserError(f'{self.directory}: step {step} could not be saved; the steps before it are kept. '
                                f'{_cause(error)}') from error
            raise

    def restore(self, abstract: Any) -> tuple[int, Any] | None:
        """Loads the newest good step; says on standard error why it passes over a newer one, and deletes nothing.

        Args:
          abstract: a tree of what is expected. A jax array or ShapeDtypeStruct is restored to its sharding (none: the
            default device), a NumPy array or number to one of those.

        Returns:
          (step, tree), or None when the directory holds nothing that is named like a step.

        Raises:
          UserError: the newest readable step has another identity, format, or other leaves, shapes or dtypes; or there
            are steps but none is good: what was trained is never silently begun again.
        """
        problems = []
        for step in reversed(self._numbered()):
            try:
                return step, self._load(step, abstract)
            except _DamageError as damage:
                problems.append(f'step {step}: {damage}')
                print(f'{self._folder(step)} is passed over: {damage}', file=sys.stderr)
        if problems:
            raise UserError(f'{self.directory} holds no good checkpoint ({"; ".join(problems)}). Nothing was deleted. '
                            'Repair it, or move it away to start from the beginning')
        return None

    def restore_step(self, step: int, abstract: Any) -> Any:
        """Loads one step as `restore` does; raises UserError also when it is absent or damaged."""
        try:
            return self._load(step, abstract)
        except _DamageError as damage:
            raise UserError(f'{self._folder(step)} cannot be restored: {damage}. Steps there: '
                            f'{", ".join(map(str, self.steps())) or "none"}') from damage

    def steps(self) -> list[int]:
        """The steps that are there, ascending, good or damaged; a folder without a manifest is not a step."""
        return [step for step in self._numbered() if (self._folder(step) / MANIFEST).is_file()]

    def verify(self, step: int) -> str | None:
        """Compares a step with its manifest: None when it is good, otherwise what is wrong and in which file."""
        try:
            manifest = self._manifest(step)
            if manifest['format_version'] != FORMAT:
                return f'{MANIFEST}: format_version is {manifest["format_version"]}, and this program reads {FORMAT}'
            self._compare_files(step, manifest)
        except _DamageError as damage:
            return str(damage)
        return None

    # ---------------------------------------------------------------------------------------------------- folders

    def _numbered(self) -> list[int]:
        """Everything that is named like a step."""
        names = [path.name for path in self.directory.iterdir()] if self.directory.is_dir() else []
        found = (re.fullmatch(r'(?:replaced-)?(0|[1-9][0-9]*)', name) for name in names)
        return sorted({int(match[1]) for match in found if match})

    def _folder(self, step: int) -> pathlib.Path:
        folder, replaced = self.directory / str(step), self.directory / f'replaced-{step}'
        return replaced if replaced.exists() and not folder.exists() else folder

    # ---------------------------------------------------------------------------------------------------- reading

    def _load(self, step: int, abstract: Any) -> Any:
        leaves = _leaves(abstract)
        manifest = self._manifest(step)
        self._compare_contents(step, manifest, leaves)
        self._compare_files(step, manifest)
        from orbax.checkpoint import v1 as ocp  # here, because importing it is slow
        try:
            arrays = ocp.load((self._folder(step) / ARRAYS).absolute())
        except Exception as error:  # Orbax raises many kinds, and an older step is better than none
            raise _DamageError(f'{ARRAYS} cannot be loaded: {_cause(error)}') from error
        restored = [_like(leaf, arrays[name], manifest['keys'].get(name)) for name, leaf in leaves.items()]
        for (name, leaf), found in zip(leaves.items(), restored, strict=True):
            if _described(found) != _described(leaf):
                raise UserError(f'{self._folder(step)}: {name} is {_in_words(_described(leaf))} and came back as '
                                f'{_in_words(_described(found))}; 64-bit jax arrays need jax_enable_x64')
        return jax.tree.unflatten(jax.tree.structure(abstract), restored)

    def _manifest(self, step: int) -> dict[str, Any]:
        path = self._folder(step) / MANIFEST
        try:
            text = path.read_bytes()
        except OSError as error:
            raise _DamageError(f'{MANIFEST}: {error.strerror}') from error
        manifest = unsealed(text)
        if manifest is None:
            raise _DamageError(f'{MANIFEST} is not what was saved')
        if manifest['step'] != step:
            raise _DamageError(f'{MANIFEST} is of step {manifest["step"]}: the folder was renamed')
        return manifest

    def _compare_files(self, step: int, manifest: dict[str, Any]) -> None:
        for name, expected in manifest['files'].items():
            try:
                found = sha256(self._folder(step) / name)
            except OSError as error:
                raise _DamageError(f'{name}: {error.strerror}') from error
            if found != expected:
                raise _DamageError(f'{name} is not what was saved: its sha256 is {found[:12]}... and was '
                                   f'{expected[:12]}...')

    def _compare_contents(self, step: int, manifest: dict[str, Any], leaves: dict[str, Any]) -> None:
        """Raises UserError when a step, good or not, is not one for this program, this run and these leaves."""
        differing = _differing({'format_version': manifest['format_version']}, {'format_version': FORMAT})
        if not differing:  # so the rest means what it means here
            differing = (_differing(manifest['identity'], self.identity)
                         or _differing({name: _in_words(leaf) for name, leaf in manifest['leaves'].items()},
                                       {name: _in_words(_described(leaf)) for name, leaf in leaves.items()}))
        if differing:
            more = f' ({len(differing)} differ)' if differing[1:] else ''
            raise UserError(f'{self._folder(step)} does not fit this run: {differing[0]}{more}. '
                            'Restore it with what it was saved with, or choose another directory')

    # ---------------------------------------------------------------------------------------------------- writing

    def _write(self, step: int, leaves: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        from orbax.checkpoint import v1 as ocp  # here, because importing it is slow
        folder = self.directory / f'saving-{step}'
        folder.mkdir(parents=True)
        ocp.save((folder / ARRAYS).absolute(), arrays)
        files = sorted(path for path in folder.rglob('*') if path.is_file())
        manifest = {
            'format_version': FORMAT,
            'step': step,
            'identity': self.identity,
            'leaves': {name: _described(leaf) for name, leaf in leaves.items()},
            'keys': {name: str(jax.random.key_impl(leaf)) for name, leaf in leaves.items() if _is_key(leaf)},
            'files': {path.relative_to(folder).as_posix(): sha256(path) for path in files},
        }
        temporary = folder / f'{MANIFEST}.new'
        temporary.write_bytes(sealed(manifest))
        os.replace(temporary, folder / MANIFEST)

    def _publish(self, step: int) -> None:
        """Gives the folder that was written the name of the step: a kill leaves the old step or the new one."""
        folder = self.directory / str(step)
        if folder.exists():
            if self._is_ours(step):
                folder.rename(self.directory / f'replaced-{step}')
            else:
                number = 1
                while (aside := self.directory / f'aside-{step}-{number}').exists():
                    number += 1
                folder.rename(aside)
                print(f'{folder} is damaged or not of this run and stood in the way: it is now {aside}',
                      file=sys.stderr)
        (self.directory / f'saving-{step}').rename(folder)
        shutil.rmtree(self.directory / f'replaced-{step}', ignore_errors=True)

    def _retire(self, step: int) -> None:
        good = [other for other in self.steps() if other <= step and self._is_ours(other)]
        for old in good[:-self.keep]:
            if self.keep_every is None or old % self.keep_every:
                gone = self._folder(old).rename(self.directory / f'removing-{old}')
                shutil.rmtree(gone)

    def _is_ours(self, step: int) -> bool:
        return self.verify(step) is None and self._manifest(step)['identity'] == self.identity

    def _finish_what_a_kill_left(self) -> None:
        for path in list(self.directory.iterdir()) if self.directory.is_dir() else []:
            match = re.fullmatch(r'(saving|removing|replaced)-([0-9]+)', path.name)
            if match is None:
                continue
            folder = self.directory / match[2]
            if match[1] == 'replaced' and not folder.exists():
                path.rename(folder)
            else:
                shutil.rmtree(path)


class _DamageError(Exception):
    """A step is not what was saved: the message says which file and why."""


def _leaves(tree: Any) -> dict[str, Any]:
    """The leaves by name, such as `params.decoder.kernel`, in the order of the tree."""
    pairs = [(jax.tree_util.keystr(path, simple=True, separator='.'), leaf)
             for path, leaf in jax.tree.leaves_with_path(tree)]
    leaves = dict(pairs)
    if len(leaves) < len(pairs) or '' in leaves or not leaves:
        raise ValueError('a checkpoint is a nested tree with at least one leaf, and each leaf has a name of its own')
    return leaves


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, 'dtype') and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _described(leaf: Any) -> dict[str, Any]:
    """Shape and dtype; a Python number has its type as dtype."""
    dtype = str(leaf.dtype) if hasattr(leaf, 'dtype') else type(leaf).__name__
    return {'shape': list(np.shape(leaf)), 'dtype': dtype}


def _in_words(described: dict[str, Any]) -> str:
    return f'{described["dtype"]}{described["shape"]}'


def _differing(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    return [f'{name} is {there.get(name, "absent")} there and {here.get(name, "absent")} here'
            for name in sorted(there.keys() | here.keys()) if there.get(name) != here.get(name)]


def _array(name: str, leaf: Any) -> np.ndarray:
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    if not (jax.dtypes.issubdtype(array.dtype, np.number) or array.dtype == bool) or not array.size:
        raise TypeError(f'{name} cannot be saved: it is {_in_words(_described(leaf))}, not numbers')
    return array


def _like(leaf: Any, array: np.ndarray, key: str | None) -> Any:
    """A saved array as what the expected tree has in its place."""
    if not hasattr(leaf, 'dtype'):
        return array.item()
    if isinstance(leaf, np.generic):
        return array[()]
    if isinstance(leaf, np.ndarray):
        return array
    return jax.device_put(array if key is None else jax.random.wrap_key_data(array, impl=key), leaf.sharding)


def _cause(error: BaseException) -> str:
    """What really went wrong, on one line: Orbax raises it as the cause of something vague."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f'{type(error).__name__}: {" ".join(str(error).split())}'
