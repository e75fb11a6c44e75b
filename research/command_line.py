"""--config=file.py:words --config.key=value --workdir=DIR, with errors of one line.

ml_collections reads config flags through absl; what it raises is turned into a UserError here, in one place.
"""

import pathlib
import runpy
import sys
import traceback
import warnings
from typing import Any

from absl import flags
from ml_collections import config_flags

from research.errors import UserError, nearest


def config_and_workdir(usage: str, arguments: list[str] | None = None) -> tuple[Any, str]:
    """Reads the command line: the resolved, locked config and the work directory.

    Raises:
      UserError: no config or work directory, a config file that is not there, an unknown key, a value of another type.
    """
    values = _values(usage, arguments, ('config', 'workdir'))
    return values.config, values.workdir


def config_alone(usage: str, arguments: list[str] | None = None) -> Any:
    """Reads a command line that has no work directory: the config. Raises as `config_and_workdir`."""
    return _values(usage, arguments, ('config',)).config


def sweep(path: str, name: str) -> list[dict[str, Any]]:
    """What a config file's function `sweep_<name>` yields: for each run the values at dotted keys.

    Raises:
      UserError: no such file or function, or it raises.
    """
    if not pathlib.Path(path).is_file():
        raise UserError(f'--config={path}: there is no such file')
    try:
        found = runpy.run_path(path)
    except Exception as error:  # as above
        raise UserError(_in_one_line(error, path)) from None
    known = [key.removeprefix('sweep_') for key, value in found.items() if key.startswith('sweep_') and callable(value)]
    if name not in known:
        raise UserError(f'{path} has no function sweep_{name}.{nearest(name, known)} It has the sweeps: '
                        f'{", ".join(known) or "none"}')
    try:
        return list(found[f'sweep_{name}']())
    except Exception as error:
        raise UserError(f'sweep_{name}: {_in_one_line(error, path)}') from None


def _values(usage: str, arguments: list[str] | None, names: tuple[str, ...]) -> flags.FlagValues:
    arguments = sys.argv if arguments is None else arguments
    if any(argument in ('--help', '-h', '--helpfull') for argument in arguments[1:]):
        print(usage)
        raise SystemExit(0)
    path = _config_file(arguments)
    values = flags.FlagValues()
    config_flags.DEFINE_config_file('config', None, 'the experiment', flag_values=values, sys_argv=arguments)
    if 'workdir' in names:
        flags.DEFINE_string('workdir', None, 'where the run is kept', flag_values=values)
    try:
        with warnings.catch_warnings():  # ml_collections 1.1.0 loads the file by a method that Python calls deprecated
            warnings.filterwarnings('ignore', message=r'the load_module\(\) method', category=DeprecationWarning)
            rest = values(arguments)
    except Exception as error:  # a config file is executed: it may raise anything
        raise UserError(_in_one_line(error, path)) from None
    if rest[1:]:
        raise UserError(f'{rest[1]!r} is not an option; it must be --config=... or --config.key=...'
                        + (' or --workdir=...' if 'workdir' in names else ''))
    for name in names:
        if getattr(values, name) is None:
            raise UserError(f'--{name}=... is missing')
    return values


def _in_one_line(error: Exception, path: str | None) -> str:
    """What went wrong, with file and line where the config file itself is at fault."""
    if isinstance(error, SyntaxError):
        return f'--config={error.filename}:{error.lineno}: not Python: {error.msg}'
    executing = 'whilst parsing config file' in str(error)  # ml_collections puts a whole trace into its message
    while executing and error.__context__ is not None:
        error = error.__context__
    words = error
    while isinstance(words, Exception) and words.args:  # an AttributeError around a KeyError around its words
        words = words.args[0]
    words = ' '.join(str(words).split())
    place = traceback.extract_tb(error.__traceback__)[-1]
    if path and pathlib.Path(place.filename).resolve() == pathlib.Path(path).resolve():
        return f'--config={path}:{place.lineno}: {type(error).__name__}: {words}'
    if isinstance(error, KeyError | AttributeError) and not executing:
        return (f'the config has no such key: {words} (another kind or task has other keys: choose a kind in words, '
                '--config=FILE.py:transformer, and a task by its config file)')
    return words


def _config_file(arguments: list[str]) -> str | None:
    """The file that --config names, None without one; raises UserError when it is not there."""
    for option, following in zip(arguments[1:], [*arguments[2:], ''], strict=True):
        name, _, value = option.lstrip('-').partition('=')
        if name == 'config':
            path = (value or following).partition(':')[0]
            if not pathlib.Path(path).is_file():
                raise UserError(f'--config={path}: there is no such file')
            return path
    return None
