"""Charts as SVG whose positions are percentages: they fit a telephone and paper, while their text keeps its size.

An arm has one colour, one dash and one marker on the whole page, by its number in the study (`arm_style`).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple

from research.study.card import short

# Okabe and Ito's colours for every kind of colour vision, without yellow (paper swallows it); last the text's own.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#E69F00', '#CC79A7', '#56B4E9', 'var(--ink)')
DASHES = ('none', '8 3', '2 3', '9 3 2 3', '5 2')
MARKERS = ('M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z', 'M-3.6-3.6h7.2v7.2h-7.2z', 'M0-4.8L4.6 3.4H-4.6z',
           'M0-5L5 0L0 5L-5 0z')
MOST_POINTS = 200  # of one line: a page holds many


class Axis(NamedTuple):
    """What stands where along one side of a chart."""

    low: float                              # of `place`
    high: float
    ticks: Sequence[tuple[float, str]]      # (value, text)
    place: Callable[[float], float] = float

    def at(self, value: float) -> float:
        """Where a value stands, in percent from the low end."""
        return 100 * (self.place(value) - self.low) / (self.high - self.low)


class Mark(NamedTuple):
    """A marker of an arm."""

    x: float
    y: float
    text: str       # what it says when pointed at
    kind: str = ''  # '', large, small or hollow


class Series(NamedTuple):
    """What a chart shows of one arm."""

    arm: int                                                  # its number in the study
    line: Sequence[tuple[float, float]] = ()                  # (x, y)
    band: Sequence[tuple[float, float, float]] = ()           # (x, low, high)
    marks: Sequence[Mark] = ()
    name: str = ''                                            # written at the right end, beside its last y


def shares() -> Axis:
    """From 0 to 1, in percent."""
    return Axis(0, 1, [(value / 100, str(value)) for value in range(0, 101, 25)])


def linear(values: Iterable[float], scale: float = 1, zero: bool = True) -> Axis:
    """From the lowest to the highest value, with some room; ticks say value * scale. `zero` is inside if asked for."""
    values = [*values, *([0.0] if zero else [])]
    low, high = min(values), max(values)
    room = 0.04 * (high - low) or 0.5 / scale
    low, high = (low if zero and low == 0 else low - room), high + room
    return Axis(low, high, [(tick / scale, f'{tick:g}'.replace('-', '−')) for tick in ticks(low * scale, high * scale)])


def steps(last: float) -> Axis:
    """From 0 to the last step."""
    return Axis(0, last or 1, [(tick, short(tick)) for tick in ticks(0, last or 1)])


def logarithmic(values: Iterable[float]) -> Axis:
    """The logarithms of positive values."""
    values = sorted(values)
    low, high = values[0] / 1.3, values[-1] * 1.3
    return Axis(math.log10(low), math.log10(high), [(tick, f'{tick:g}' if tick < 1 else short(tick)) for tick in
                                                    log_ticks(low, high)], math.log10)


def from_zero(values: Iterable[float]) -> Axis:
    """The logarithms of values of 0 and more: log(1 + value), so that 0 has a place."""
    values = sorted(values)

    def place(value):
        return math.log10(1 + value)
    low, high = place(values[0]), place(values[-1])
    room = 0.06 * (high - low) or 0.3
    low, high = low - room, high + room
    found = []
    for tick in (0, *log_ticks(max(1.0, 10 ** low - 1), 10 ** high - 1)):
        if low <= place(tick) <= high and not (found and place(tick) - place(found[-1]) < 0.12 * (high - low)):
            found.append(tick)  # the logarithm crowds 0 and 1
    return Axis(low, high, [(tick, short(tick)) for tick in found], place)


def ticks(low: float, high: float) -> list[float]:
    """At most six round numbers (1, 2 or 5 times a power of ten apart) from low to high."""
    size = 10.0 ** math.floor(math.log10((high - low) / 5)) if high > low else 1
    step = next(size * factor for factor in (1, 2, 5, 10) if (high - low) / (size * factor) <= 5)
    return [float(f'{n * step:.12g}') for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """At most six of 1, 2 and 5 times powers of ten from low to high; between two close values, these themselves."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors, apart in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), *(((1,), apart) for apart in range(2, len(powers)))):
        found = [float(f'{factor}e{power}') for power in powers if not power % apart for factor in factors]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= 6:
            break
    return found if len(found) > 1 else [float(f'{value:.3g}') for value in (low, high)]


def middle_and_band(curves: Sequence[dict[float, float]]) -> tuple[list[tuple[float, float]],
                                                                   list[tuple[float, float, float]]]:
    """(x, mean) and (x, lowest, highest) over curves {x: y}, where every one of them has a value.

    Long curves are drawn at MOST_POINTS even distances; the last point is always there.
    """
    shared = sorted(set.intersection(*map(set, curves))) if curves else []
    if len(shared) > MOST_POINTS:
        shared = [shared[round(n * (len(shared) - 1) / (MOST_POINTS - 1))] for n in range(MOST_POINTS)]
    rows = [(x, [curve[x] for curve in curves]) for x in shared]
    return [(x, sum(row) / len(row)) for x, row in rows], [(x, min(row), max(row)) for x, row in rows]


def chart(x: Axis, y: Axis, series: Sequence[Series], label: str, below: Sequence[str] = ()) -> str:
    """A chart that fills its width.

    Shapes lie in an inner picture of 100 x 100 that is stretched; text and markers are placed by percentages around it.

    Args:
      x, y: the sides.
      series: drawn in their order, bands below lines below markers.
      label: what the picture shows, for those who do not see it.
      below: a second line of text for each tick of x.
    """
    def path(points):
        return 'M' + 'L'.join(f'{x.at(right):.2f} {100 - y.at(up):.2f}' for right, up in points)

    outer = ''.join(f'<line class="grid" x1="0" x2="100%" y1="{100 - y.at(value):.2f}%" y2="{100 - y.at(value):.2f}%"/>'
                    f'<text class="y" x="-8" y="{100 - y.at(value):.2f}%" dy=".35em">{escape(text)}</text>'
                    for value, text in y.ticks)
    for n, (value, text) in enumerate(x.ticks):
        outer += f'<text x="{x.at(value):.2f}%" y="100%" dy="1.5em">{escape(text)}</text>'
        if below:
            outer += f'<text class="second" x="{x.at(value):.2f}%" y="100%" dy="3em">{escape(below[n])}</text>'
    around = {n: [(at, high) for at, _, high in one.band] + [(at, low) for at, low, _ in one.band[::-1]]
              for n, one in enumerate(series) if one.band}
    inner = ''.join(f'<path class="series band arm{series[n].arm}" d="{path(points)}z"/>' for n, points in
                    around.items())
    inner += ''.join(f'<path class="series mean arm{one.arm}" d="{path(one.line)}"/>' for one in series if one.line)
    dots = ''.join(marker(one.arm, x.at(mark.x), 100 - y.at(mark.y), mark.text, mark.kind)
                   for one in series for mark in one.marks)
    named = sorted([one for one in series if one.name], key=lambda one: -_last(one))
    names = ''
    for one, height in zip(named, _apart([100 - y.at(_last(one)) for one in named], 6), strict=True):
        names += (f'<svg class="series name arm{one.arm}" x="100%" y="{height:.2f}%" overflow="visible">'
                  f'<path class="mark" transform="translate(12)" d="{MARKERS[one.arm % len(MARKERS)]}"/>'
                  f'<text class="end" x="22" dy=".35em">{escape(one.name)}</text></svg>')
    kind = 'plot' + ' named' * bool(named) + ' two' * bool(below)
    return (f'<svg class="{kind}" role="img" aria-label="{escape(label)}">{outer}'
            f'<svg width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none">{inner}</svg>'
            f'{dots}{names}</svg>')


def _last(series):
    return series.line[-1][1] if series.line else series.marks[-1].y


def _apart(heights, gap):
    """Heights in percent from the top, sorted, moved as little as needed to stand `gap` apart and end at 100."""
    moved = []
    for height in heights:
        moved.append(max(height, moved[-1] + gap) if moved else height)
    for n in reversed(range(len(moved))):
        moved[n] = min(moved[n], 100 if n == len(moved) - 1 else moved[n + 1] - gap)
    return moved


def track(axis: Axis, inner: str, label: str, line: float | None = None) -> str:
    """One row of a plot that runs down a column of a table; `line` is a value that every row marks."""
    grid = ''.join(f'<line class="grid" x1="{axis.at(value):.2f}%" x2="{axis.at(value):.2f}%" y1="0" y2="100%"/>'
                   for value, _ in axis.ticks)
    if line is not None:
        grid += f'<line class="zero" x1="{axis.at(line):.2f}%" x2="{axis.at(line):.2f}%" y1="0" y2="100%"/>'
    return f'<svg class="track" role="img" aria-label="{escape(label)}">{grid}{inner}</svg>'


def track_scale(axis: Axis) -> str:
    """The numbers above such a column."""
    return ('<span class="ticks">' + ''.join(f'<i style="left:{axis.at(value):.2f}%">{escape(text)}</i>'
                                             for value, text in axis.ticks) + '</span>')


def bar(axis: Axis, ends: tuple[float, float], y: int) -> str:
    """An interval in a track."""
    low, high = (axis.at(end) for end in ends)
    return f'<line class="bar" x1="{low:.2f}%" x2="{high:.2f}%" y1="{y}%" y2="{y}%"/>'


def marker(arm: int, x: float, y: float, text: str, kind: str = '') -> str:
    """The marker of an arm at a place in percent."""
    kind = f'mark {kind}'.strip()
    return (f'<svg class="series arm{arm}" x="{x:.2f}%" y="{y:.2f}%" overflow="visible"><path class="{kind}" '
            f'd="{MARKERS[arm % len(MARKERS)]}"><title>{escape(text)}</title></path></svg>')


def swatch(arm: int) -> str:
    """What an arm looks like, beside its name."""
    return (f'<svg class="swatch arm{arm}" aria-hidden="true"><line class="mean" x1="0" x2="100%" y1="50%" y2="50%"/>'
            '<svg x="50%" y="50%" overflow="visible">'
            f'<path class="mark" d="{MARKERS[arm % len(MARKERS)]}"/></svg></svg>')


def arm_style(arms: int) -> str:
    """The style of so many arms; charts leave out an arm whose box (`#arm0`, ...) is not checked."""
    return ''.join(f'.arm{n}{{--c:{COLOURS[n % len(COLOURS)]};--dash:{DASHES[n % len(DASHES)]}}}'
                   f'body:has(#arm{n}:not(:checked)) .plot .series.arm{n}{{display:none}}' for n in range(arms))
