"""Draws by_length.png from the recorded results: BLEU by source length, one panel a corpus, one line an arm."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from research.analysis.pictures import COLOURS, line_by_length


def draw(titles: Mapping[str, str], lines: Sequence[Mapping[str, Any]], path: pathlib.Path) -> None:
    """The line is the mean over seeds, the band goes from the lowest to the highest seed.

    Args:
      titles: of the corpora that have a panel, by name.
      lines: the recorded runs.
      path: of the picture.
    """
    corpora = [name for name in titles if any(line['corpus'] == name for line in lines)]
    figure = Figure(figsize=(1 + 4.6 * len(corpora), 4), layout='constrained')
    panels = figure.subplots(1, len(corpora), squeeze=False)[0]
    for panel, name in zip(panels, corpora, strict=True):
        own = [line for line in lines if line['corpus'] == name]
        names = [f'{row["low"]}–{row["high"]}\n({row["count"]:,})' for row in own[0]['by_length'] if row['count']]
        for arm in dict.fromkeys(line['arm'] for line in own):
            values = [[row['bleu'] for row in line['by_length'] if row['count']] for line in own if line['arm'] == arm]
            line_by_length(panel, names, values, f'{arm}, {len(values)} {"seed" if len(values) == 1 else "seeds"}',
                           COLOURS[arm])
        panel.set_title(titles[name], fontsize=11)
        panel.set_xlabel('source words (sentences of the test set)')
        panel.set_ylim(bottom=0)
        panel.legend(frameon=False, fontsize=9, loc='best')
    panels[0].set_ylabel('BLEU')
    figure.savefig(path, dpi=100)
