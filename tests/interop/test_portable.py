"""A model as safetensors and JSON: read by the library itself, and read back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from research.errors import UserError
from research.interop import portable
from research.text.vocabulary import Vocabulary

SOURCE, TARGET = (Vocabulary.build([line], 'words') for line in ('a b', 'é  </s> c'))
PARAMS = {'encoder': {'stack_0': {'kernel': jnp.arange(6.0).reshape(2, 3), 'bias': np.zeros(3, np.float16)}},
          'turned': np.arange(6.0, dtype=np.float32).reshape(2, 3).T, 'scale': np.float32(3.0),
          'low': jnp.asarray([1.5, -2.0], jnp.bfloat16)}


def test_what_is_exported_is_read_by_the_library_itself(tmp_path):
    portable.export(PARAMS, '{"seed": 1}\n', SOURCE, TARGET, tmp_path / 'deep' / 'folder')
    folder = tmp_path / 'deep' / 'folder'
    assert [path.name for path in (tmp_path / 'deep').iterdir()] == ['folder']
    assert sorted(path.name for path in folder.iterdir()) == [
        'config.json', 'params.safetensors', 'source_vocabulary.json', 'target_vocabulary.json']
    found = load_file(folder / 'params.safetensors')
    expected = {'encoder.stack_0.kernel': [[0, 1, 2], [3, 4, 5]], 'encoder.stack_0.bias': [0, 0, 0],
                'turned': [[0, 3], [1, 4], [2, 5]], 'scale': 3.0, 'low': [1.5, -2.0]}
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == np.shape(array)
        np.testing.assert_array_equal(found[name].astype(np.float64), array)
    assert json.loads((folder / 'config.json').read_text()) == {'seed': 1}
    for vocabulary, side in ((SOURCE, 'source'), (TARGET, 'target')):
        text = (folder / f'{side}_vocabulary.json').read_text(encoding='utf-8')
        assert Vocabulary.from_json(text).hash == vocabulary.hash


def test_parameters_come_back_as_they_were(tmp_path):
    portable.export(PARAMS, '{}', SOURCE, TARGET, tmp_path)
    found = portable.load_params(tmp_path)
    assert jax.tree.structure(found) == jax.tree.structure(PARAMS)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(PARAMS), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / 'mine').write_text('x')
    with pytest.raises(UserError, match='is there already and not an empty folder'):
        portable.export(PARAMS, '{}', SOURCE, TARGET, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['mine']


def test_what_fails_half_way_leaves_nothing(tmp_path):
    class Broken:
        def to_json(self):
            raise RuntimeError('no more')
    with pytest.raises(RuntimeError):
        portable.export(PARAMS, '{}', SOURCE, Broken(), tmp_path / 'folder')
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['', 'a.b'])
def test_names_that_could_not_be_taken_apart_are_not_written(name, tmp_path):
    with pytest.raises(ValueError, match='joined with dots'):
        portable.export({'x': {name: np.zeros(1)}}, '{}', SOURCE, TARGET, tmp_path / 'folder')
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize('names', [['a', 'a.b'], ['a.b', 'a'], ['a..b'], ['.a'], ['a.'], [''], ['a', 'a.b.c']])
def test_names_that_make_no_tree_are_refused(names, tmp_path):
    save_file({name: np.zeros(1) for name in names}, tmp_path / portable.PARAMS)
    with pytest.raises(UserError, match=r'is damaged: its tensor .* has no place of its own in a tree'):
        portable.load_params(tmp_path)
    with pytest.raises(UserError, match='no place of its own'):
        portable.unflatten(dict.fromkeys(names), tmp_path)  # in this order, which the library's files do not keep


def test_names_are_never_paths(tmp_path):
    (tmp_path / 'inside').mkdir()
    save_file({'../x': np.zeros(1), '/y': np.ones(1)}, tmp_path / 'inside' / portable.PARAMS)
    with pytest.raises(UserError, match='no place'):  # '..' is two empty names
        portable.load_params(tmp_path / 'inside')
    assert [path.name for path in tmp_path.iterdir()] == ['inside']


def test_a_file_that_is_absent_or_damaged_is_named(tmp_path):
    with pytest.raises(UserError, match=r'there is no file .*params\.safetensors'):
        portable.load_params(tmp_path)
    portable.export(PARAMS, '{}', SOURCE, TARGET, tmp_path)
    path = tmp_path / portable.PARAMS
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match=r'params\.safetensors is damaged'):
        portable.load_params(tmp_path)
