"""Arms of a study: configs that differ from a base in what they declare, and in nothing else.

A config is an opaque tree of dotted keys here; what a key means, only build.py knows.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from research.errors import UserError
from research.training.workdir import flat

Config = Any


def override(config: Config, values: Mapping[str, Any]) -> Config:
    """A copy with other values at dotted keys; the keys must be there."""
    config = config.copy_and_resolve_references()
    for key, value in values.items():
        *above, last = key.split('.')
        node = config
        for name in above:
            node = node[name] if name in node else _missing(key)
        if last not in node:
            _missing(key)
        node[last] = value
    return config


def differences(base: Config, config: Config) -> dict[str, Any]:
    """The dotted keys in which a config differs from the base, with its values; None where it lacks the key."""
    there, here = flat(base), flat(config)
    return {key: here.get(key) for key in sorted(there.keys() | here.keys())
            if key not in there or key not in here or there[key] != here[key]}


def check_declared(arm: str, base: Config, config: Config, declares: Iterable[str]) -> dict[str, Any]:
    """Refuses an arm that differs from the base in a key it does not declare; returns the declared differences.

    Args:
      arm: its name, for the message.
      base: what all arms start from.
      config: what this arm is.
      declares: dotted keys; one of them covers everything below it.

    Raises:
      UserError: an undeclared difference, or a declared key in which nothing differs.
    """
    changed, declares = differences(base, config), tuple(declares)
    for key, value in changed.items():
        if not any(key == name or key.startswith(f'{name}.') for name in declares):
            raise UserError(f'arm {arm!r} changes {key} to {value!r}, which it does not declare. It declares: '
                            f'{", ".join(declares) or "nothing"}')
    for name in declares:
        if not any(key == name or key.startswith(f'{name}.') for key in changed):
            raise UserError(f'arm {arm!r} declares {name}, but nothing below it differs from the base')
    return changed


def _missing(key: str):
    raise UserError(f'a config has no key {key}')
