"""The catalogue: what it says of everything that is registered, and that its page is the one that it prints."""

import json

import numpy as np
import pytest

from research import catalogue
from research.attention import registry
from research.attention.multiplicative import Dot
from research.attention.normalisers import NORMALISERS
from research.attention.registry import VARIANTS, Variant
from research.attention.schemes import SCHEMES
from research.cells.registry import CELLS
from research.errors import UserError
from tests.conftest import REPOSITORY

D, SHORT, LONG = catalogue.FEATURES, catalogue.SHORT, catalogue.LONG


def cost(name, role, path='explicit'):
    return next(cost for cost in catalogue.costs(name) if (cost.role, cost.path) == (role, path))


@pytest.fixture
def refused(capsys):
    """What is said of bad arguments: exit code 2 and one line."""
    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            catalogue.main(arguments)
        said = capsys.readouterr().err
        assert caught.value.code == 2
        assert said.count('\n') == 1, said
        return said
    return run


@pytest.mark.parametrize('name', VARIANTS)
def test_every_variant_can_be_made_of_examples_and_measured(name):
    options = catalogue.example_options(name)  # its message says what to add where there is no example of an option
    for role in VARIANTS[name].roles:
        registry.make(name, features=D, role=role, causal=role == 'self' and True in VARIANTS[name].causal, **options)
    for cost in catalogue.costs(name):
        assert cost.flops is not None, f'{cost}: an option has no example that fits; add one to EXAMPLES'
        decodes = cost.role == 'cross' or True in VARIANTS[name].causal
        assert (cost.bytes is not None) == decodes


def test_the_page_is_what_the_command_prints(capsys):
    catalogue.main(['--markdown'])
    page = (REPOSITORY / 'docs/catalogue.md').read_text(encoding='utf-8')
    assert page == capsys.readouterr().out, 'the page is not that of this registry: make catalogue'


def test_json_has_an_object_a_line_and_an_entry_for_everything(capsys):
    catalogue.main(['--json'])
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for kind, known in (('attention', VARIANTS), ('cell', CELLS), ('position', SCHEMES), ('normaliser', NORMALISERS)):
        assert [entry['name'] for entry in entries if entry['kind'] == kind] == list(known)


def test_sizes_are_those_of_the_arrays():
    keys_and_values, places = 2 * D * 4, 2 * 4
    assert cost('multi_head_dot', 'cross').bytes == tuple(S * (keys_and_values + places) for S in (SHORT, LONG))
    assert cost('multi_head_dot', 'self').bytes == tuple(T * (keys_and_values + places) + 4 for T in (SHORT, LONG))
    N, H = 4, D // 4
    assert cost('linear', 'cross', 'chunked').bytes == (N * H * (H + 1) * 4,) * 2
    assert cost('none', 'cross').bytes == (0, 0)
    state = next(entry for entry in catalogue.records('lstm'))['bytes']
    assert state == 2 * D * 4


def test_it_says_what_grows():
    def of(*case):
        found = cost(*case)
        return found.flops_growth, found.bytes_growth
    assert of('multi_head_dot', 'self') == ('linear', 'linear')
    assert of('linear', 'self', 'chunked') == of('linear', 'cross', 'chunked') == ('constant', 'constant')
    assert of('sliding_window', 'self', 'blocks') == of('retention', 'self') == ('constant', 'constant')
    assert of('fixed_context', 'cross') == ('constant', 'constant')
    assert of('fourier', 'self') == ('linear', None)  # it cannot decode
    assert [catalogue.growth(3, 3 * 8**power, 8) for power in (0, 1, 2)] == ['constant', 'linear', 'quadratic']


class Coloured(Dot, kw_only=True):
    """Options that the catalogue has never heard of."""

    depth: int
    share: int  # an example is there, of another type


class Named(Dot, kw_only=True):
    """An option that nobody can guess."""

    colour: str


def test_unknown_options_are_guessed_by_their_type_or_leave_the_sizes_open(monkeypatch, capsys):
    for name, attention in (('coloured', Coloured), ('named', Named)):
        monkeypatch.setitem(VARIANTS, name, Variant(name, attention, 'a paper', 'a summary'))
    assert catalogue.example_options('coloured') == {'normaliser': 'softmax', 'depth': 4, 'share': 4}
    assert cost('coloured', 'cross') == cost('dot', 'cross')
    assert cost('named', 'cross')[2:] == (None,) * 4
    catalogue.main(['named'])
    row = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith('  named'))
    assert row == ['named', 'cross', 'explicit', '-', '-', '-', '-', '-']
    with pytest.raises(UserError, match=r"'colour'.*EXAMPLES"):
        catalogue.example_options('named')


@pytest.mark.parametrize(('name', 'words'), [
    ('linear', ['read[t, n] = sum_s', 'Source: Katharopoulos', 'feature_map (section): phi.', 'elu, taylor']),
    ('taylor', ["must be that with the name 'taylor'", 'vec(y y^T)']),  # what its own section says of itself
    ('sparsemax', ['attention sparsemax', 'normaliser sparsemax', 'Source: Martins']),
    ('multi_query', ['Here it must be 1.']),
    ('gru_reset_before', ['cell gru_reset_before', 'Differs: with biases']),  # of the function that it refers to
    ('kerple_log', ['position kerple_log', 'log(1 + a[n] d)']),
    ('fire', ['position fire', 'psi(x) = log(1 + |c| x)']),
    ('softmax', ['normaliser softmax'])])
def test_one_entry_is_explained_by_its_docstring(name, words, capsys):
    catalogue.main([name])
    said = capsys.readouterr().out
    for word in words:
        assert word in said


@pytest.mark.parametrize('name', [*VARIANTS, *CELLS, *SCHEMES, *NORMALISERS])
def test_everything_has_an_explanation(name):
    assert len(catalogue.explain(name)) > 80


def test_everything_stands_in_one_line_where_nobody_looks(capsys):
    catalogue.write_text(catalogue.tables(list(catalogue.records('multi_head_dot'))))
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith('  multi_head_dot ') and 'query_key_norm, softcap' in line for line in lines) == 1


def test_mistakes_end_in_one_line(refused, tmp_path):
    assert "Unknown name 'aditive'. Did you mean 'additive'?" in refused('aditive')
    assert '--picture draws one entry' in refused('--picture', str(tmp_path / 'a.png'))
    assert '.png or .svg' in refused('dot', '--picture', str(tmp_path / 'a.gif'))
    assert '--markdown is for the whole' in refused('dot', '--markdown')


def test_a_picture_shows_the_weights(tmp_path, capsys):
    path = tmp_path / 'dot.png'
    catalogue.main(['dot', '--picture', str(path)])
    assert path.read_bytes().startswith(b'\x89PNG')
    weights, title = catalogue.picture('alibi')
    assert title == 'position alibi before training, causal self role: weights'
    assert not np.any(np.triu(weights, 1))
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-5)
    weights, _ = catalogue.picture('mean')
    np.testing.assert_allclose(weights, np.full((1, 12, 16), 1 / 16), atol=1e-6)


def test_a_picture_of_what_has_no_weights_shows_slopes():
    drawn, title = catalogue.picture('plain')
    assert title == 'cell plain before training: |d output[t] / d input[s]|, the largest as 1'
    assert np.max(drawn) == 1.0
    assert np.all(np.diag(drawn) > 0.0)
    assert not np.any(np.triu(drawn, 1))
    assert not np.any(catalogue.picture('none')[0])
