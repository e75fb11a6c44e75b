"""Whose a work directory is, and that nothing a user made is lost in one."""

import json

import pytest

from research.errors import UserError
from research.locked import LOCK, locked
from research.training import workdir

CONFIG = '{"training": {"steps": 3}}'
FILES = {'data.json': '{"corpus": "abc"}', 'vocabulary.json': '{"symbols": ["a"]}'}


def claim(folder, config=CONFIG, **files):
    with workdir.claimed(folder, config, FILES | {name.replace('_', '.'): text for name, text in files.items()}):
        pass


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != LOCK}


def test_the_same_run_may_come_back_and_another_may_not(tmp_path):
    folder = tmp_path / 'deep' / 'run'
    claim(folder)
    assert contents(folder) == {workdir.CONFIG: CONFIG, **FILES}
    claim(folder)
    with pytest.raises(UserError, match=r"holds another config's run: training\.steps is 3 there and 4 here"):
        claim(folder, '{"training": {"steps": 4}}')
    with pytest.raises(UserError, match="holds a run on other data: corpus is 'abc' there and 'xyz' here"):
        claim(folder, data_json='{"corpus": "xyz"}', vocabulary_json='{"symbols": ["b"]}')
    assert contents(folder) == {workdir.CONFIG: CONFIG, **FILES}


def test_a_kill_while_it_is_claimed_leaves_a_directory_that_can_be_claimed(tmp_path, monkeypatch):
    replace, written = workdir.replace, []

    def kill_after_the_first(path, text):
        if written:
            raise KeyboardInterrupt
        written.append(path.name)
        replace(path, text)
    monkeypatch.setattr(workdir, 'replace', kill_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        claim(tmp_path / 'run')
    monkeypatch.undo()
    claim(tmp_path / 'run')
    assert contents(tmp_path / 'run') == {workdir.CONFIG: CONFIG, **FILES}


def test_a_kill_while_the_first_file_is_written_leaves_a_directory_that_can_be_claimed(tmp_path, monkeypatch):
    def kill(*_):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(workdir.os, 'replace', kill)
        with pytest.raises(KeyboardInterrupt):
            claim(tmp_path / 'run')
    assert len(list((tmp_path / 'run').iterdir())) == 2
    claim(tmp_path / 'run')
    assert contents(tmp_path / 'run') == {workdir.CONFIG: CONFIG, **FILES}


def test_somebody_elses_directory_stays_as_it_is(tmp_path):
    (tmp_path / 'thesis.txt').write_text('mine')
    with pytest.raises(UserError, match='not empty and holds no run'):
        claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']


def test_one_process_at_a_time_writes(tmp_path):
    with locked(tmp_path), pytest.raises(UserError, match='in use: another process'):
        claim(tmp_path)
    claim(tmp_path)


@pytest.mark.parametrize('text', ['{"training"', '[1]'])
def test_a_damaged_config_is_named_and_kept(text, tmp_path):
    (tmp_path / workdir.CONFIG).write_text(text)
    with pytest.raises(UserError, match=r'config\.json is damaged'):
        claim(tmp_path)
    assert (tmp_path / workdir.CONFIG).read_text() == text


def test_a_file_or_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    for path in (tmp_path / 'file', tmp_path / 'file' / 'run'):
        with pytest.raises(UserError, match='cannot be a work directory'):
            claim(path)


def test_nested_dicts_become_dotted_keys():
    assert workdir.flat(json.loads('{"a": {"b": 1, "c": {"d": 2}}, "e": 3}')) == {'a.b': 1, 'a.c.d': 2, 'e': 3}
