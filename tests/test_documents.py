"""The README: every command in it runs, every file of its map is there, every file that is there stands in it."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from experiments.forgetting import picture
from tests.conftest import REPOSITORY

README = (REPOSITORY / 'README.md').read_text(encoding='utf-8')
COMMANDS = [line.strip() for line in re.sub(r'\\\n\s*', '', README).split('\n') if line.startswith('    ')]
QUICK = {  # the same command with a budget that a test has: what is tested is that it runs as it stands
    'research.train': ['--config.training.steps=4', '--config.training.warmup=2', '--config.training.report_every=2',
                       '--config.training.evaluate_every=4', '--config.training.checkpoint_every=4',
                       '--config.batches.buckets=1', '--config.batches.tokens=256', '--config.training.dev_sample=8'],
    'synthetic': ['--config.data.train=64', '--config.data.dev=8', '--config.data.test=8',
                  '--config.data.longest_test=20'],
}
MAKE = {'make demo', 'make test', 'make study', 'make test-slow', 'make check', 'make learn', 'make catalogue',
        'make cost', 'make test-cost', 'make test-peers'}


def shell_commands():
    """The commands of the README, in order, each as a user would type it."""
    found = []
    for line in COMMANDS:
        line = line.split('  #')[0].strip()
        if line.startswith(('python ', 'echo ', 'make ')):
            found.append(line)
    return found


def quick(line):
    """The command with this interpreter and a small budget."""
    line = line.replace('python -m', f'{shlex.quote(sys.executable)} -m')
    if 'research.train' in line:
        more = [value for value in QUICK['research.train']
                if not ('steps=' in value and 'training.steps' in line)]
        line = re.sub(r'--config\.training\.steps=\d+', '--config.training.steps=4', line)
        made_up = QUICK['synthetic'][:-1] if 'labelled' in line else QUICK['synthetic']
        own = any(name in line for name in ('pronunciation', 'parallel', 'language_model'))
        more += [] if own else made_up
        line += ' ' + ' '.join(more)
    return line


def test_the_readme_names_both_commands_and_the_makefile_has_them():
    makefile = (REPOSITORY / 'Makefile').read_text(encoding='utf-8')
    named = {match for match in re.findall(r'make [a-z-]+', README) if match in MAKE}
    assert named == MAKE
    for command in MAKE:
        assert re.search(rf'^{command.split()[1]}:', makefile, re.MULTILINE), command


def test_every_command_of_the_readme_runs(tmp_path):
    commands = [line for line in shell_commands() if not line.startswith('make ')]
    assert len(commands) >= 9
    for folder in ('configs',):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns('__pycache__'))
    for split in ('train', 'dev', 'test'):
        (tmp_path / f'{split}.de').write_text('ein Hund\nzwei Hunde\n', encoding='utf-8')
        for ending in ('en', 'txt'):
            (tmp_path / f'{split}.{ending}').write_text('a dog\ntwo dogs\n', encoding='utf-8')
    environment = os.environ | {'PYTHONPATH': str(REPOSITORY), 'COLUMNS': '120'}
    for line in commands:
        if 'pytest' in line:
            continue  # tests/test_variant.py runs it, on the variant that the section adds
        done = subprocess.run(quick(line), shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True,
                              timeout=300)
        assert done.returncode == 0, f'{line}\n{done.stdout}\n{done.stderr}'
    assert (tmp_path / 'attention.png').stat().st_size > 1000


def files_of_the_map():
    """The paths that the map names: two spaces more go a folder deeper."""
    above, found = [], set()
    block = README.split('## Map')[1].split('```')[1]
    for line in block.strip('\n').split('\n'):
        depth, words = (len(line) - len(line.lstrip())) // 2, line.split()
        for word in (word.rstrip(':') for word in words):
            if word.endswith('/'):
                above[depth:] = [word]
            elif word.endswith('.py'):
                found.add(''.join(above[:depth + (depth < len(above) and words[0].endswith('/'))]) + word)
            else:
                break
    return found


def test_the_map_names_every_file_in_its_folder_and_no_other():
    there = {path.relative_to(REPOSITORY).as_posix() for folder in ('research', 'experiments', 'configs')
             for path in (REPOSITORY / folder).rglob('*.py') if path.name != '__init__.py'}
    assert files_of_the_map() == there


def test_the_nine_calls_stand_in_the_files_that_the_table_names():
    table = README.split('## One batch')[1].split('\n## ')[0]
    rows = re.findall(r'^\| \d \| `(\S+\.py): ([^`]+)` \|', table, re.MULTILINE)
    assert len(rows) == 9
    for file, call in rows:
        text = (REPOSITORY / 'research' / file).read_text(encoding='utf-8')
        for name in re.findall(r'([a-zA-Z_]+)(?=[(\[,]|$)', call.split('(')[0] + '('):
            if name not in ('reader',):
                assert re.search(rf'(def|class) {name}\b', text), f'{name} is not in {file}'


@pytest.mark.parametrize('path', sorted(
    path for path in REPOSITORY.rglob('*') if path.suffix in ('.py', '.md', '.toml', '.txt', '.html', '.jsonl')
    and not {'.venv', '.git', 'runs', '.oracles', '.peers', 'm30k'} & set(path.relative_to(REPOSITORY).parts)),
    ids=lambda path: path.name)
def test_no_file_names_a_place_on_somebodys_machine(path):
    text = path.read_text(encoding='utf-8')
    for place in ('/work' + '/', '/ho' + 'me/', '/ro' + 'ot/', 'pypi' + '.org'):
        assert place not in text, place


def test_the_picture_of_the_readme_is_drawn_from_the_recorded_results(tmp_path):
    picture.draw(REPOSITORY / 'experiments/forgetting/results.jsonl', tmp_path / 'picture.png')
    assert (tmp_path / 'picture.png').read_bytes().startswith(b'\x89PNG')


def test_the_changelog_names_the_version():
    version = re.search(r'^version = "(.+)"', (REPOSITORY / 'pyproject.toml').read_text(), re.MULTILINE)[1]
    assert f'## {version}' in pathlib.Path(REPOSITORY / 'CHANGELOG.md').read_text()
