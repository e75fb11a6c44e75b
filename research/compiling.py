"""Programs: compiled as many at once as there are cores, and found again by the next process."""

import concurrent.futures
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TypeVar

import jax

Key = TypeVar('Key')


def cores() -> int:
    """How many cores this process may use: it can be pinned to some of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def compiled(lowering: Mapping[Key, Callable[[], jax.stages.Lowered]],
             progress: Callable[[Key, int], None] = lambda key, done: None) -> dict[Key, jax.stages.Compiled]:
    """Compiles all of them and returns them under the same keys. The compiler itself uses one core most of its time.

    Args:
      lowering: what makes each program ready for the compiler; called here, in this order, while those before it are
        being compiled.
      progress: called here, in the caller's thread, with the key of a program that is ready, and how many are. What it
        raises ends this, and no other program is begun.
    """
    pool, waiting, done = concurrent.futures.ThreadPoolExecutor(cores()), {}, {}

    def say(ready):
        for future in ready:
            key = waiting.pop(future)
            done[key] = future.result()
            progress(key, len(done))
    try:
        for key, lower in lowering.items():
            waiting[pool.submit(lower().compile)] = key
            say([future for future in waiting if future.done()])
        say(concurrent.futures.as_completed(list(waiting)))
        return {key: done[key] for key in lowering}
    finally:
        pool.shutdown(cancel_futures=True)


def keep_programs() -> None:
    """Has JAX keep compiled programs in a folder, so that the same command compiles nothing when it is given again.

    The folder is `seq2lab/jaxlib-<version>` in $XDG_CACHE_HOME or ~/.cache: what it holds is executed, so it is the
    user's alone, and no version reads what another one wrote. Where it cannot be such a folder, one line on standard
    error says why, and programs are compiled as if there were none. JAX's own settings go before: a folder named by
    JAX_COMPILATION_CACHE_DIR is taken as it is, and JAX_ENABLE_COMPILATION_CACHE=0 keeps nothing.
    """
    if not jax.config.jax_enable_compilation_cache:
        return
    warnings.showwarning = _in_one_line(warnings.showwarning)
    settings = {'jax_persistent_cache_min_compile_time_secs': 0.0, 'jax_persistent_cache_min_entry_size_bytes': -1}
    if not jax.config.jax_compilation_cache_dir:
        try:
            settings['jax_compilation_cache_dir'] = str(_own_folder())
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
            print(f'compiled programs are not kept: {error}', file=sys.stderr)
    for name, value in settings.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)


def _own_folder() -> pathlib.Path:
    """The folder of programs, made where it is missing; OSError where it is not this user's alone to write to."""
    cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME', ''))
    if not cache.is_absolute():  # what XDG says of a relative one: as if it were not set
        cache = pathlib.Path.home() / '.cache'
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / 'seq2lab' / f'jaxlib-{version("jaxlib")}'
    for path in (folder.parent, folder):
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.stat()
        if os.name == 'posix' and (found.st_uid != os.getuid() or found.st_mode & 0o022):
            raise PermissionError(f'{path} belongs to somebody else or others may write to it, and what lies there is '
                                  f'executed; it must be yours alone (chmod 700 {path})')
    if not os.access(folder, os.W_OK):
        raise PermissionError(f'{folder} cannot be written to')
    return folder


def _in_one_line(show: Callable[..., None]) -> Callable[..., None]:
    """JAX warns of each program that it could neither read nor write; the first of them says enough."""
    first = iter([True])

    def once(message, *where, **more):
        if 'persistent compilation cache' not in str(message):
            show(message, *where, **more)
        elif next(first, False):
            print(f'kept programs in {jax.config.jax_compilation_cache_dir}: {" ".join(str(message).split())}. What '
                  'cannot be read is compiled; without that folder the next start keeps everything anew',
                  file=sys.stderr)
    return once
