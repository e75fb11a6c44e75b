"""Pictures: what the file holds, and that nothing global is touched."""

import html
import sys
import xml.etree.ElementTree

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from research.analysis.pictures import attention_picture, line_by_length
from research.errors import UserError

SOURCE, TARGET = ['c', 'a', '$x$', '</s>'], ['K', '$y$']
WEIGHTS = np.array([[0.9, 0.1, 0.0, 0.0], [0.0, 0.2, 0.5, 0.3]])


def test_weight_1_is_drawn_dark_grey_0_white_and_minus_1_dark_red(tmp_path):
    attention_picture(tmp_path / 'a.png', np.array([[1.0, 0.0, -1.0]]), ['a', 'b', 'c'], ['X'], 'title')
    pixels = matplotlib.image.imread(tmp_path / 'a.png')[..., :3]
    dark = pixels.mean(axis=2) < 0.2
    frame = np.flatnonzero(dark.sum(axis=1) == dark.sum(axis=1).max())  # rows of its upper and lower line
    left = dark[frame[0]].argmax()
    width = (~dark[frame[0], left:]).argmax()
    cells = pixels[(frame[0] + frame[-1]) // 2, left:left + width]
    grey, white, red = (cells[int(share * len(cells))] for share in (1 / 6, 3 / 6, 5 / 6))
    assert grey.max() < 0.2
    assert white.min() > 0.9
    assert red[0] > 0.3 > 0.2 > red[1]


def test_an_svg_holds_every_symbol_of_both_axes_even_one_that_looks_like_a_formula(tmp_path):
    attention_picture(tmp_path / 'a.svg', WEIGHTS, SOURCE, TARGET, 'a $title$')
    xml.etree.ElementTree.parse(tmp_path / 'a.svg')
    text = (tmp_path / 'a.svg').read_text()
    for symbol in (*SOURCE, *TARGET, 'a $title$'):
        # matplotlib draws text as shapes and keeps the text itself as a comment above them
        assert f'<!-- {html.escape(symbol)} -->' in text, symbol
    plain = [[symbol.replace('$', '%') for symbol in symbols] for symbols in (SOURCE, TARGET)]
    attention_picture(tmp_path / 'b.svg', WEIGHTS, *plain, 'a %title%')
    assert text.count('<use ') == (tmp_path / 'b.svg').read_text().count('<use ')  # no sign has become a formula


def test_heads_stand_in_a_grid_with_their_numbers(tmp_path):
    attention_picture(tmp_path / 'a.svg', np.stack([WEIGHTS] * 5), SOURCE, TARGET)
    text = (tmp_path / 'a.svg').read_text()
    assert all(f'<!-- head {n} -->' in text for n in range(1, 6))
    assert '<!-- head 6 -->' not in text


def test_no_global_state_of_matplotlib_is_used(tmp_path):
    before = 'matplotlib.pyplot' in sys.modules
    attention_picture(tmp_path / 'a.png', WEIGHTS - 0.2, SOURCE, TARGET)
    assert ('matplotlib.pyplot' in sys.modules) == before


def test_what_cannot_be_drawn_or_written_is_refused(tmp_path):
    with pytest.raises(UserError, match=r'must end in \.png or \.svg'):
        attention_picture(tmp_path / 'a.gif', WEIGHTS, SOURCE, TARGET)
    with pytest.raises(UserError, match='there is no folder'):
        attention_picture(tmp_path / 'missing' / 'a.png', WEIGHTS, SOURCE, TARGET)
    with pytest.raises(ValueError, match='do not fit 2 target and 3 source'):
        attention_picture(tmp_path / 'a.png', WEIGHTS, SOURCE[:3], TARGET)


def test_a_line_is_the_mean_of_the_runs_and_its_band_reaches_from_the_lowest_to_the_highest():
    panel = Figure().subplots()
    line_by_length(panel, ['1–5', '6–10'], [[10, 40], [30, 20], [20, 21]], 'additive', '#D55E00', '--')
    line, = panel.lines
    assert line.get_xydata().tolist() == [[0, 20], [1, 27]]
    assert (line.get_label(), line.get_linestyle(), line.get_color()) == ('additive', '--', '#D55E00')
    band = panel.collections[0].get_paths()[0].vertices
    assert [sorted({y for x, y in band if x == place}) for place in (0, 1)] == [[10, 30], [20, 40]]
    assert [label.get_text() for label in panel.get_xticklabels()] == ['1–5', '6–10']
