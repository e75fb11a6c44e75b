"""The one exception for mistakes that a user can make, and how a command line ends because of it."""

import contextlib
import sys


class UserError(Exception):
    """Something the user gave is wrong. The message is one line: what is wrong, where, and what would be right."""


class DivergedError(UserError):
    """A run's numbers are no longer finite: a result of its config, which a study records and goes on."""


@contextlib.contextmanager
def one_line_errors(program: str):
    """Turns a UserError into `program: message` on standard error and exit code 2.

    Any other exception is a bug and shows its trace.
    """
    try:
        yield
    except UserError as error:
        print(f'{program}: {error}', file=sys.stderr)
        raise SystemExit(2) from None
