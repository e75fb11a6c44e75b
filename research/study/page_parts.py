"""Parts that several sections of a page use: tables that can be sorted, choices, notes."""

import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from research.study.tables import Sheet

NUMBER = re.compile(r'(?:> )?([+−-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)(?: ([kMGT]))?(?=$|[\s%(,–])')
THOUSANDS = {None: 1.0, 'k': 1e3, 'M': 1e6, 'G': 1e9, 'T': 1e12}


class Cell(NamedTuple):
    """HTML in a table, and what the column is sorted by there."""

    html: str
    sort: float | str | None  # None stands last


def number_in(text: str) -> float | None:
    """The number that a text begins with: '2.51 M' -> 2510000.0, '−3.4 (−5 to −1)' -> -3.4, 'none' -> None."""
    found = NUMBER.match(text)
    return float(found[1].replace(',', '').replace('−', '-')) * THOUSANDS[found[2]] if found else None


def sheet(one: Sheet, ordered: str = '') -> str:
    """A table with its note below it; `ordered` is the heading of the column by which it stands sorted."""
    return table(one.headings, one.rows, ordered) + note(one.note)


def table(headings: Sequence[str | Cell], rows: Sequence[Sequence[str | Cell]], ordered: str = '') -> str:
    """A table whose rows can be sorted; a column of which most cells begin with a number stands right.

    Args:
      headings: text, or a Cell whose HTML stands below its `sort`.
      rows: cells.
      ordered: the heading of the column by which the rows stand sorted, '' = none.
    """
    columns = [[row[n] for row in rows] for n in range(len(headings))]
    sides = [' class="n"' if _numbers(column) else '' for column in columns]
    head = ''
    for side, heading in zip(sides, headings, strict=True):
        text, more = (heading.sort, heading.html) if isinstance(heading, Cell) else (heading, '')
        mark = ' aria-sort="ascending"' if text == ordered else ''
        head += f'<th scope="col"{side}{mark}><span>{escape(text)}</span>{more}</th>'
    body = ''.join(f'<tr>{"".join(map(_cell, row, sides))}</tr>' for row in rows)
    return ('<div class="scroll" role="region" aria-label="table" tabindex="0">'
            f'<table class="data"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def _numbers(column):
    """Whether most cells of a column, dashes aside, begin with a number."""
    found = [cell for cell in column if cell not in ('–', '')]
    return 2 * sum(not isinstance(cell, Cell) and number_in(cell) is not None for cell in found) > len(found)


def _cell(cell, side):
    html, sort = cell if isinstance(cell, Cell) else (unbroken(cell), number_in(cell) if side else None)
    by = '' if sort is None else f' data-sort="{escape(str(sort))}"'
    return f'<td{side}{by}>{html}</td>'


def choice(name: str, legend: str, options: Sequence[tuple[str, str]], beside: str = '') -> str:
    """One of several parts of a page, by radio buttons; paper has all of them.

    Args:
      name: of the buttons, unique on the page.
      legend: what is chosen.
      options: (name, HTML). A single one is no choice.
      beside: HTML that stands beside the buttons.
    """
    chips = ''.join(f'<label><input type="radio" name="{name}" id="{name}-{n}"{"" if n else " checked"}>'
                    f'<span>{escape(text)}</span></label>' for n, (text, _) in enumerate(options))
    chips = f'<fieldset class="chips"><legend>{escape(legend)}</legend>{chips}</fieldset>' if len(options) > 1 else ''
    panels = ''.join(f'<div class="panel">{html}</div>' for _, html in options)
    return (f'<div class="choose" id="{name}"><div class="bar">{chips}{beside}</div>'
            f'<div class="panels">{panels}</div></div>')


def choice_style(most: int) -> str:
    """The style of choices of at most so many options. Where a browser cannot do it, all options are shown."""
    shown = ''.join(f'.choose:has(>.bar>.chips>label:nth-of-type({n})>input:checked)>.panels>.panel:nth-child({n})'
                    '{display:block}' for n in range(1, most + 1))
    return ('@media screen{@supports selector(:has(a)){.panels>.panel:not(:only-child){display:none}'
            f'{shown}}}}}')


def unbroken(text: str) -> str:
    """Text, escaped, in which no line ends between a number and its unit."""
    return re.sub(r'(?<=\d) (?=%|[kMGT]\b)', '\N{NO-BREAK SPACE}', escape(text))


def note(text: str) -> str:
    """A remark below a table or a chart; nothing where there is none."""
    return f'<p class="note">{unbroken(text)}</p>' if text else ''


def figure(title: str, caption: str, body: str, below: str = '', kind: str = '') -> str:
    """A chart with its caption (HTML) and what its lower side shows."""
    axis = f'<p class="axis">{escape(below)}</p>' if below else ''
    return (f'<figure{f" class={kind}" if kind else ""}><figcaption><b>{escape(title)}</b> {caption}</figcaption>'
            f'{body}{axis}</figure>')
