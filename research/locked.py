"""A folder that one process at a time writes in."""

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator

from research.errors import UserError

LOCK = 'lock'  # an empty file: whoever writes in the folder holds it


@contextlib.contextmanager
def locked(folder: pathlib.Path, what: str = 'a work directory', option: str = '--workdir') -> Iterator[None]:
    """Holds a folder, which is made if it is absent, against other processes; a kill lets it go.

    Args:
      folder: to write in.
      what: it is to be, for messages.
      option: by which another one is chosen, for messages.

    Raises:
      UserError: another process holds it, or it cannot be made.
    """
    lock = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new, file = not lock.exists(), open(lock, 'a')  # noqa: SIM115 - closed below
    except OSError as error:
        raise UserError(f'{folder} cannot be {what}: {error.strerror}. Choose another {option}') from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f'{folder} is in use: another process writes there. Wait for it, or choose another '
                            f'{option}') from None
        try:
            yield
        except UserError:
            if new:
                lock.unlink(missing_ok=True)  # somebody else's folder stays as it was
            raise
