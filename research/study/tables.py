"""A table as Markdown, CSV and LaTeX: the same cells in each."""

import csv
import io
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from research.errors import UserError
from research.training import workdir


class Sheet(NamedTuple):
    """A table with its name."""

    name: str                        # of its file: letters, digits and hyphens
    title: str
    headings: tuple[str, ...]
    rows: list[Sequence[str]]        # cells as people read them
    note: str = ''                   # one line below it


def markdown(sheet: Sheet) -> str:
    """The table alone, without its title."""
    lines = [list(map(plain, sheet.headings)), ['---'] * len(sheet.headings),
             *[list(map(plain, row)) for row in sheet.rows]]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def plain(text: str) -> str:
    """Text that Markdown shows as it is: one line, no HTML, no table borders, no emphasis."""
    text = ' '.join(str(text).split())
    for sign in '\\`*_<>|[]':
        text = text.replace(sign, '\\' + sign)
    return text


def comma_separated(sheet: Sheet) -> str:
    """The table as CSV (RFC 4180), headings first."""
    file = io.StringIO()
    csv.writer(file).writerows([sheet.headings, *sheet.rows])
    return file.getvalue()


LATEX = {'\\': r'\textbackslash{}', '&': r'\&', '%': r'\%', '$': r'\$', '#': r'\#', '_': r'\_', '{': r'\{', '}': r'\}',
         '~': r'\textasciitilde{}', '^': r'\textasciicircum{}', '<': '$<$', '>': '$>$', '|': '$|$',
         '–': '--', '−': '$-$', '±': r'$\pm$', '≥': r'$\geq$'}


def latex(sheet: Sheet) -> str:
    """The table as a LaTeX `table` with `booktabs` rules; a column of numbers stands right."""
    def cells(row):
        return ' & '.join(''.join(LATEX.get(sign, sign) for sign in ' '.join(str(cell).split())) for cell in row)
    numbers = [all(row[n][:1].isdigit() or row[n][:1] in '−-–+' for row in sheet.rows) for n in
               range(len(sheet.headings))]
    columns = ''.join('r' if number else 'l' for number in numbers)
    lines = [r'\begin{table}', r'\centering', rf'\caption{{{cells([sheet.title])}}}',
             rf'\label{{tab:{sheet.name}}}', rf'\begin{{tabular}}{{{columns}}}', r'\toprule',
             rf'{cells(sheet.headings)} \\', r'\midrule', *[rf'{cells(row)} \\' for row in sheet.rows], r'\bottomrule',
             r'\end{tabular}', *([rf'\par {cells([sheet.note])}'] if sheet.note else []), r'\end{table}']
    return '\n'.join(lines) + '\n'


def write(folder: str | os.PathLike, sections: Iterable[tuple[str, Sequence[Sheet]]]) -> None:
    """Writes every table as NAME.csv, NAME.md and NAME.tex, each file whole or not at all.

    Args:
      folder: made if it is not there.
      sections: (heading, tables), as `card.sections` has them; headings are left out.

    Raises:
      ValueError: two tables have the same name.
      UserError: a file cannot be written.
    """
    folder, seen = pathlib.Path(folder), set()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f'{folder}: cannot be made ({error.strerror})') from None
    for _, sheets in sections:
        for sheet in sheets:
            name = re.sub(r'[^\w-]+', '-', sheet.name)  # a task may be called anything
            if name in seen:
                raise ValueError(f'Two tables are called {name!r}.')
            seen.add(name)
            for ending, text in (('csv', comma_separated(sheet)), ('md', markdown(sheet) + '\n'),
                                 ('tex', latex(sheet))):
                # A symbol from a damaged corpus may be half a character, which UTF-8 does not have.
                workdir.replace(folder / f'{name}.{ending}', text.encode('utf-8', 'replace').decode('utf-8'))
