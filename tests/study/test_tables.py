"""Tables as CSV, Markdown and LaTeX: what is read back is what was written, whatever the words are."""

import csv
import re
import shutil
import subprocess

import pytest

from research.errors import UserError
from research.study import card, tables
from research.study.tables import Sheet
from tests.study import made_up

HOSTILE = ('a|b', '50 % & more', 'x_1^2 ~ {y} #3 $z$ \\n', 'two\nlines', '"quoted", with comma', '<b>*bold*</b> [x](y)',
           '−3.4 (−5 to –1) ± 2 ≥ 1', '', '> 20 < 30')
SHEET = Sheet('hostile', 'Title with 5 % & _', ('arm', 'value, %'), [(text, f'{n}.5') for n, text in
                                                                    enumerate(HOSTILE)], 'A note: 3 % of_it.')


def test_csv_is_read_back_by_another_reader(tmp_path):
    path = tmp_path / 'table.csv'
    path.write_text(tables.comma_separated(SHEET), encoding='utf-8', newline='')
    with open(path, encoding='utf-8', newline='') as file:
        assert list(csv.reader(file)) == [list(SHEET.headings), *map(list, SHEET.rows)]


def test_markdown_has_a_line_a_row_and_as_many_cells_as_headings():
    lines = tables.markdown(SHEET).splitlines()
    assert len(lines) == 2 + len(HOSTILE)
    assert lines[1] == '| --- | --- |'
    for line in lines:
        assert len(re.findall(r'(?<!\\)\|', line)) == 3, line
    assert '\\<b\\>\\*bold\\*\\</b\\> \\[x\\](y)' in lines[7]


def test_latex_escapes_what_would_be_a_command():
    text = tables.latex(SHEET)
    for piece in (r'50 \% \& more', r'x\_1\textasciicircum{}2 \textasciitilde{} \{y\} \#3 \$z\$ \textbackslash{}n',
                  'two lines', r'$-$3.4 ($-$5 to --1) $\pm$ 2 $\geq$ 1', '$>$ 20 $<$ 30', 'a$|$b',
                  r'\caption{Title with 5 \% \& \_}', r'\begin{tabular}{lr}'):
        assert piece in text, piece
    body = text.split('\\midrule\n')[1].split('\n\\bottomrule')[0].splitlines()
    assert len(body) == len(HOSTILE)
    assert all(line.endswith(r' \\') and len(re.findall(r'(?<!\\)&', line)) == 1 for line in body)


def test_columns_of_numbers_stand_right_in_latex():
    sheet = Sheet('a', 'A', ('arm', 'runs', 'difference', 'said'), [
        ('none', '2 finished', '−3.4', 'worse'), ('mean', '–', '+1.2', '3 times')])
    assert r'\begin{tabular}{lrrl}' in tables.latex(sheet)


@pytest.mark.skipif(not shutil.which('pdflatex'), reason='no TeX here')
def test_latex_compiles(tmp_path):
    study, runs, tried = made_up.several(arms=4, seeds=3, tasks=('copy', 'recall'), planned=0)
    sheets = [sheet for _, found in card.sections(study, runs, tried) for sheet in found]
    assert len(sheets) > 10
    text = '\n'.join(map(tables.latex, [SHEET, *sheets])).replace(r'\begin{table}', r'\begin{table}[p]\tiny')
    (tmp_path / 'all.tex').write_text(
        '\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}\\extrafloats{100}\\begin{document}\n'
        f'{text}\\end{{document}}\n', encoding='utf-8')
    done = subprocess.run(['pdflatex', '-interaction=nonstopmode', '-halt-on-error', 'all.tex'], cwd=tmp_path,
                          capture_output=True, text=True, errors='replace', timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / 'all.pdf').stat().st_size > 10_000


def test_every_table_of_a_study_is_written_three_times(tmp_path):
    study, runs = made_up.study(), made_up.runs()
    found = card.sections(study, runs, made_up.search())
    tables.write(tmp_path / 'tables', found)
    tables.write(tmp_path / 'tables', found)  # again, over the old ones
    names = {'planned', 'pronunciation-ranking', 'pronunciation-lengths', 'pronunciation-reading',
             'pronunciation-costs', 'learning-rates', 'declared'}
    assert {path.name for path in (tmp_path / 'tables').iterdir()} == {
        f'{name}.{ending}' for name in names for ending in ('csv', 'md', 'tex')}
    with open(tmp_path / 'tables' / 'pronunciation-ranking.csv', encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(row['place'], row['arm'], row['exactly right, %']) for row in rows][:2] == [
        ('1', 'additive', '71.4'), ('2', 'general', '70.7')]
    # The same numbers in all of them, and on the card.
    markdown = (tmp_path / 'tables' / 'pronunciation-ranking.md').read_text(encoding='utf-8')
    assert markdown.strip() in card.card(study, runs)
    latex = (tmp_path / 'tables' / 'pronunciation-ranking.tex').read_text(encoding='utf-8')
    assert all(row['exactly right, %'] in latex for row in rows)


def test_a_task_may_be_called_anything_but_not_the_same(tmp_path):
    odd = Sheet('../my task-\ud800ranking', 'A', ('x',), [('\ud800',)])
    tables.write(tmp_path / 'tables', [('', [odd])])
    assert sorted(path.name for path in (tmp_path / 'tables').iterdir()) == [
        f'-my-task--ranking.{ending}' for ending in ('csv', 'md', 'tex')]
    with pytest.raises(ValueError, match='Two tables'):
        tables.write(tmp_path / 'tables', [('', [SHEET]), ('', [SHEET])])


def test_tables_that_cannot_be_written_are_a_user_error(tmp_path):
    with pytest.raises(UserError, match='missing'):
        tables.write(tmp_path / 'missing' / 'tables', [('', [SHEET])])
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='file'):
        tables.write(tmp_path / 'file', [('', [SHEET])])
