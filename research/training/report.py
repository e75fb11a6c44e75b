"""Where a run's numbers go: metrics.jsonl (the record), TensorBoard (a view of it) and standard error (progress).

    {"step": 50, "kind": "train", "loss": 2.31, "tokens_per_second": 81234.0}
    {"step": 100, "kind": "dev", "loss": 2.02, "accuracy": 0.41}
    {"step": 150, "kind": "train", "loss": null, "tokens_per_second": 80112.0, "not_finite": {"loss": "nan"}}

JSON has no nan and no infinity: such a figure is null, so that every reader takes it for a missing one, and
`not_finite` says which of 'nan', 'inf' and '-inf' it was.
"""

import errno
import json
import math
import os
import pathlib
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from tensorboardX import SummaryWriter

from research.errors import UserError

METRICS = 'metrics.jsonl'
SHARES = {'mfu': 'MFU', 'share_of_matrix_product_rate': 'of the measured matrix-product rate',
          'waiting': 'waiting for data'}  # what is shown in per cent


class Report:
    """The numbers of one run, written as they come; use it in a `with`, or close it.

    A line of metrics.jsonl is written in one piece, so a kill leaves at most a torn last line; that is put aside when
    the report is opened again. On a terminal there is a progress bar, otherwise each report is one line on standard
    error.

    Args of the constructor:
      workdir: the run's directory; made if it is absent.
      steps: of the whole run, for the progress.
      console: False writes nothing on standard error.
    """

    def __init__(self, workdir: str | pathlib.Path, *, steps: int, console: bool = True):
        """Raises UserError when metrics.jsonl is there and damaged anywhere but in its last line."""
        workdir = pathlib.Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        self.path, self.steps, self.console = workdir / METRICS, steps, console
        self._tensorboard_folder = workdir / 'tensorboard'
        self._tensorboard: SummaryWriter | None = None  # made by the first report, which knows where the run resumed
        self._first_new_step: int | None = None
        self._clock: tuple[int, float] | None = None    # step and time of the first training report
        self._bar = self._task = None
        self._keep_until(None)
        self._file = self.path.open('ab', buffering=0)
        if console:
            self.show()

    def show(self) -> None:
        """Says on standard error from now on what it has been silent about; a second call does nothing."""
        self.console, terminal = True, Console(stderr=True)
        if self._bar is None and sys.stderr.isatty() and terminal.is_interactive:
            self._bar = Progress(TextColumn('step {task.completed}/{task.total}'), BarColumn(),
                                 TextColumn('{task.fields[figures]}'), console=terminal)
            self._task = self._bar.add_task('', total=self.steps, figures='')
            self._bar.start()

    def training(self, step: int, metrics: dict[str, float]) -> None:
        """Reports the steps since the last report; shows `loss`, speeds and SHARES if they are there."""
        self._write(step, 'train', metrics)
        figures = self._figures(step, metrics)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, figures=figures)
        else:
            self.message(f'step {step}/{self.steps}  {figures}')

    def evaluation(self, step: int, scores: dict[str, float], kind: str = 'dev') -> None:
        """Reports a measurement on the data that `kind` names."""
        if kind == 'train':
            raise ValueError("kind 'train' is what training() reports")
        self._write(step, kind, scores)
        self.message(f'step {step}/{self.steps}  {kind}  '
                     + '  '.join(f'{name} {value:.4g}' for name, value in scores.items()))

    def message(self, text: str) -> None:
        """Says something on standard error, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
        elif self.console:
            print(text, file=sys.stderr, flush=True)

    def resume(self, step: int) -> None:
        """Forgets what was reported after `step`, because it will be reported again: no step appears twice.

        The lines that go are kept in metrics.jsonl.dropped-<n>; TensorBoard is told to hide theirs.
        """
        self._file.close()
        self._keep_until(step)
        self._file = self.path.open('ab', buffering=0)
        self._first_new_step, self._clock = step + 1, None
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard = None
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def close(self) -> None:
        """Ends the bar and closes the files; a second call does nothing."""
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._bar is not None:
            self._bar.stop()

    def __enter__(self) -> 'Report':
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _write(self, step: int, kind: str, figures: dict[str, float]) -> None:
        reserved = figures.keys() & {'step', 'kind', 'not_finite'}
        if reserved:
            raise ValueError(f'a figure cannot be called {sorted(reserved)[0]!r}')
        figures = {name: float(value) for name, value in figures.items()}
        line = {'step': int(step), 'kind': kind}
        line |= {name: value if math.isfinite(value) else None for name, value in figures.items()}
        not_finite = {name: str(value) for name, value in figures.items() if not math.isfinite(value)}
        if not_finite:
            line['not_finite'] = not_finite
        data = json.dumps(line, allow_nan=False).encode() + b'\n'
        try:
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise UserError(f'{self.path}: step {step} could not be written: {error.strerror}') from error
        self._write_tensorboard(step, kind, figures)

    def _write_tensorboard(self, step: int, kind: str, figures: dict[str, float]) -> None:
        folder = self._tensorboard_folder
        if self._tensorboard is None:
            # tensorboardX names a file after the second and overwrites it: the number keeps two of one second apart
            number = len(list(folder.iterdir())) if folder.is_dir() else 0
            self._tensorboard = SummaryWriter(str(folder), purge_step=self._first_new_step, flush_secs=5,
                                              filename_suffix=f'.{number}')
        for name, value in figures.items():
            self._tensorboard.add_scalar(f'{kind}/{name}', value, step)

    def _figures(self, step: int, metrics: dict[str, float]) -> str:
        """Loss, speed, shares and time left; the time is known from the second report on."""
        now = time.monotonic()
        parts = []
        if 'loss' in metrics:
            parts.append(f'loss {metrics["loss"]:.4f}')
        if 'tokens_per_second' in metrics:
            parts.append(f'{metrics["tokens_per_second"]:,.0f} tokens/s')
        if 'flops_per_second' in metrics:
            parts.append(f'{metrics["flops_per_second"] / 1e9:,.1f} GFLOP/s')
        for name, text in SHARES.items():
            if name in metrics:
                parts.append(f'{100 * metrics[name]:.1f} % {text}')
        if self._clock is None:
            self._clock = step, now
        elif step > self._clock[0]:
            first, begin = self._clock
            parts.append(f'{duration((now - begin) / (step - first) * max(0, self.steps - step))} left')
        return '  '.join(parts)

    def _keep_until(self, step: int | None) -> None:
        """Leaves in metrics.jsonl the whole lines up to a step (None: all); the rest goes to a file beside it."""
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        records, rest = _parse(self.path, data)
        kept, dropped = [], []
        for record, line in records:
            (kept if step is None or record['step'] <= step else dropped).append(line + b'\n')
        if rest:
            dropped.append(rest)
        if dropped:
            number = 1
            while (aside := self.path.with_name(f'{METRICS}.dropped-{number}')).exists():
                number += 1
            aside.write_bytes(b''.join(dropped))
            why = f'reported after step {step}' if step is not None else 'torn when the run was stopped'
            self.message(f'{self.path}: lines {why} are now in {aside.name}: {len(dropped)}')
        whole = b''.join(kept)
        if whole != data:
            temporary = self.path.with_name(f'{METRICS}.new')
            temporary.write_bytes(whole)
            os.replace(temporary, self.path)


def read_jsonl(path: str | pathlib.Path) -> tuple[list[dict[str, Any]], bool]:
    """Reads what a Report wrote.

    Returns:
      The lines in order, and whether there was a torn one at the end, which a kill leaves and which is not among them.

    Raises:
      UserError: there is no such file, or a line other than a torn last one is not a report; names file and line.
    """
    path = pathlib.Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    records, rest = _parse(path, data)
    return [record for record, _ in records], bool(rest)


def _parse(path: pathlib.Path, data: bytes) -> tuple[list[tuple[dict[str, Any], bytes]], bytes]:
    """Every whole line with its bytes, and the torn end. An end that lacks only the line break is whole."""
    *lines, end = data.split(b'\n')
    records = []
    for number, line in enumerate(lines, start=1):
        record = _record(line)
        if record is None:
            raise UserError(f'{path}:{number}: not an object of JSON with an int "step" and a string "kind": '
                            f'{line[:60].decode(errors="replace")!r}')
        records.append((record, line))
    record = _record(end)
    if record is not None:
        return [*records, (record, end)], b''
    return records, end


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line, parse_constant=_refuse)
    except ValueError:
        return None
    if isinstance(record, dict) and type(record.get('step')) is int and isinstance(record.get('kind'), str):
        return record
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f'{constant} is not JSON')


def duration(seconds: float) -> str:
    """In the unit that a reader would choose."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    if seconds < 90 * 60:
        return f'{seconds / 60:.0f} min'
    return f'{seconds / 3600:.1f} h'
