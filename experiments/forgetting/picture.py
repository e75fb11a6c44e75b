"""Draws docs/forgetting.png from the recorded results: accuracy by source length, one line an arm.

    python -m experiments.forgetting.picture
"""

import pathlib

from matplotlib.figure import Figure

from experiments.forgetting.study import ARMS
from research.analysis.pictures import COLOURS, line_by_length
from research.study import records

HERE = pathlib.Path(__file__).parent
TITLES = {'pronunciation': 'Pronouncing English words (CMUdict)', 'copy': 'Copying (trained up to 20 symbols)'}


def draw(results: pathlib.Path, path: pathlib.Path) -> None:
    """One panel a task: the line is the mean over seeds, the band goes from the lowest to the highest seed."""
    figure = Figure(figsize=(11, 4.4), layout='constrained')
    panels = figure.subplots(1, len(TITLES), sharey=True)
    found = records.read_lines(results)
    for panel, task in zip(panels, TITLES, strict=True):
        for arm in ARMS:
            runs = [run for run in found if (run['task'], run['arm'], run['status']) == (task, arm.name, 'finished')]
            if runs:
                shares = [[100 * row['right'] / row['count'] for row in run['by_length']] for run in runs]
                names = [f'{row["low"]}–{row["high"]}' for row in runs[0]['by_length']]
                line_by_length(panel, names, shares, arm.name, COLOURS[arm.name], '--' if arm.control else '-')
        seeds = {run['seed'] for run in found if run['task'] == task}
        panel.set_title(f'{TITLES[task]}, {len(seeds)} seeds')
        panel.set_xlabel('source length in symbols')
        panel.set_ylim(0, 102)
    panels[0].set_ylabel('exactly right, % of test set')
    panels[-1].legend(loc='upper right', frameon=False, title='the decoder reads (-- control)')
    figure.savefig(path, dpi=100)


if __name__ == '__main__':
    draw(HERE / 'first.jsonl', HERE.parent.parent / 'docs' / 'forgetting.png')
