"""A peer: a script in an environment of its own, which is started once, asked in turns, and never imported.

It warms up, writes a line of JSON with its name and version, and then one for each line of JSON that it reads.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

from research.errors import UserError

SCRIPTS = pathlib.Path(__file__).parent / 'peers'
INSTALL = ('python3 -m venv .peers && .peers/bin/pip install torch==2.13.0 && .peers/bin/pip install joeynmt==2.3.0 '
           'sentencepiece==0.2.0 importlib_metadata ctranslate2==4.8.5')


def interpreter(folder: str) -> pathlib.Path | None:
    """The Python of the peers' environment; None where there is none."""
    path = pathlib.Path(folder) / 'bin' / 'python'
    return path.absolute() if path.exists() else None


class Peer:
    """A script that runs, is warm and waits.

    Args of the constructor:
      python: of the peers' environment.
      script: one of the folder peers, without `.py`.
      arguments: of its command line.

    Attributes:
      name: what it says that it is, with its version.
    """

    def __init__(self, python: pathlib.Path, script: str, arguments: Sequence[Any] = ()):
        """Starts it and waits until it is warm."""
        self._script = script
        self._errors = tempfile.TemporaryFile('w+', encoding='utf-8', errors='replace')  # noqa: SIM115 - closed below
        self._process = subprocess.Popen(
            [python, SCRIPTS / f'{script}.py', *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors, text=True, encoding='utf-8',
            env={name: value for name, value in os.environ.items() if name != 'PYTHONPATH'})
        try:
            self.name = self._answer()['name']
        except UserError:
            self.close()
            raise

    def ask(self, **request: Any) -> dict[str, Any]:
        """One run of it.

        Raises:
          UserError: it has ended; the last line that it wrote on standard error is named.
        """
        with contextlib.suppress(BrokenPipeError):  # the answer says why
            self._process.stdin.write(json.dumps(request) + '\n')
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._errors.close()

    def __enter__(self) -> 'Peer':
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().strip().split('\n')[-1]
            raise UserError(f'the peer {self._script} ended with exit code {self._process.returncode}: {said:.300}')
        return json.loads(line)
