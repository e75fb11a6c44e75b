"""Training of JoeyNMT as `python -m joeynmt train CONFIG --skip-test` runs it, halted at each line of its log.

    python joeynmt_train.py CONFIG WARM

It answers {} with the real target tokens of the next training.logging_freq updates and their seconds, those that its
"Tokens per Sec" divides. The first WARM updates are not said.
"""

import importlib.metadata
import json
import os
import pathlib
import sys

answers = os.fdopen(os.dup(1), 'w')  # whatever else is written to standard output goes where errors go
os.dup2(2, 1)

from joeynmt import helpers, training  # noqa: E402
from joeynmt.config import load_config  # noqa: E402


def answer(said):
    """Writes a line."""
    answers.write(json.dumps(said) + '\n')
    answers.flush()


class Halting(training.TrainManager):
    """Waits after each line of its log until it is asked for the next; its clock stands still meanwhile."""

    warm = 0

    def _log_scores(self, epoch_no, elapsed_time, start_tokens, *rest):
        super()._log_scores(epoch_no, elapsed_time, start_tokens, *rest)
        if self.stats.steps < self.warm:
            return
        if self.stats.steps - self.args.logging_freq < self.warm:
            answer({'name': f'JoeyNMT {importlib.metadata.version("joeynmt")}'})
        else:
            answer({'tokens': self.stats.total_tokens - start_tokens, 'seconds': elapsed_time})
        if not sys.stdin.readline():
            os._exit(0)  # it would write a checkpoint


def main(path, warm):
    """Trains until nothing more is asked."""
    cfg = load_config(pathlib.Path(path))
    helpers.make_model_dir(pathlib.Path(cfg['model_dir']), overwrite=True)
    Halting.warm = int(warm)
    training.TrainManager = Halting
    training.train(0, None, cfg, skip_test=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
