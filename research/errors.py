"""The one exception for mistakes that a user can make, what its message can offer, and how a command line ends."""

import contextlib
import difflib
import sys
from collections.abc import Iterable


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


def at_least(low: int, **options: int) -> None:
    """Raises UserError, naming it, for the first option below `low`."""
    for option, value in options.items():
        if value < low:
            raise UserError(f'{option} is {value}; it must be at least {low}')


def nearest(name: object, known: Iterable[str]) -> str:
    """` Did you mean 'additive'?`: the known name most like this one, or all that begin with it; '' where none does."""
    name, known = str(name), tuple(known)
    begins = [other for other in known if name and other.startswith(name)]
    near = difflib.get_close_matches(name, known, 1, 0.8) or begins or difflib.get_close_matches(name, known, 1)
    return f' Did you mean {" or ".join(map(repr, near))}?' if near else ''
