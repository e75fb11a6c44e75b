"""The README and the guide: every command in them runs, every file of the map is there, every file stands in it."""

import gzip
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
    'multi30k': ['--config.data.source_size=60', '--config.data.target_size=60', '--config.encoder.hidden=16',
                 '--config.decoder.hidden=16', '--config.encoder.layers=1', '--config.decoder.layers=1'],
    'synthetic': ['--config.data.train=64', '--config.data.dev=8', '--config.data.test=8',
                  '--config.data.longest_test=20'],
}
MAKE = {'make demo', 'make test', 'make study', 'make studies', 'make test-slow', 'make check', 'make learn',
        'make catalogue', 'make cost', 'make test-cost', 'make test-peers', 'make translation', 'make benchmark'}


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
    if 'research.train' in line or 'experiments.sweep' in line:
        more = [value for value in QUICK['research.train']
                if not ('steps=' in value and 'training.steps' in line)]
        line = re.sub(r'--config\.training\.steps=\d+', '--config.training.steps=4', line)
        made_up = QUICK['synthetic'][:-1] if 'labelled' in line else QUICK['synthetic']
        own = any(name in line for name in ('pronunciation', 'parallel', 'language_model', 'multi30k'))
        more += (QUICK['multi30k'] if 'multi30k' in line else []) if own else made_up
        line += ' ' + ' '.join(more)
    if 'experiments.translation' in line:
        line += ' --results=results'
    return line


def quick_guide(line):
    """The same of a command of the guide, which may be several joined."""
    line = line.replace('python -m', f'{shlex.quote(sys.executable)} -m')
    more = [*QUICK['research.train'], '--config.data.source_size=80', '--config.data.target_size=80']
    line = re.sub(r'(-m research\.(?:train|prepare) --config=mine\.py)',
                  lambda found: ' '.join([found[1], *more, *QUICK['multi30k'][2:]]), line)
    return re.sub(r'(-m research\.train --config=configs/parallel\.py)', lambda found: ' '.join([found[1], *more]),
                  line)


def made_up_corpus(folder):
    """Sentences enough for a vocabulary of subwords, and what else the commands name."""
    words = {'ein': 'a', 'zwei': 'two', 'Hund': 'dog', 'Katze': 'cat', 'rot': 'red', 'läuft': 'runs', 'und': 'and'}
    lines = [[list(words)[(3 * number + 2 * place * place) % len(words)] for place in range(2 + number % 5)]
             for number in range(40)]
    for split in ('train', 'dev', 'test'):
        (folder / f'{split}.de').write_text(''.join(' '.join(line) + '\n' for line in lines), encoding='utf-8')
        (folder / f'{split}.en').write_text(''.join(' '.join(words[word] for word in line) + '\n' for line in lines),
                                            encoding='utf-8')
    (folder / 'train.txt').write_text('a dog\ntwo dogs\n', encoding='utf-8')
    shutil.copy(folder / 'train.txt', folder / 'dev.txt')
    shutil.copy(folder / 'train.txt', folder / 'test.txt')
    (folder / 'beginnings.txt').write_text('a\n' * len(lines), encoding='utf-8')
    (folder / 'glove.txt').write_text(''.join(f'{word} 0.1 -0.2 0.3 {number}.5\n' for number, word in enumerate(
        words.values())), encoding='utf-8')
    multi30k = folder / 'data' / 'multi30k'
    multi30k.mkdir(parents=True)
    for name in ('train', 'val', 'test_2016_flickr'):
        for side in ('de', 'en'):
            (multi30k / f'{name}.{side}.gz').write_bytes(gzip.compress((folder / f'train.{side}').read_bytes()))
    (folder / 'results').mkdir()


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
    made_up_corpus(tmp_path)
    environment = os.environ | {'PYTHONPATH': str(REPOSITORY), 'COLUMNS': '120'}
    for line in commands:
        if 'pytest' in line:
            continue  # tests/test_variant.py runs it, on the variant that the section adds
        done = subprocess.run(quick(line), shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True,
                              timeout=300)
        assert done.returncode == 0, f'{line}\n{done.stdout}\n{done.stderr}'
    assert (tmp_path / 'attention.png').stat().st_size > 1000


def test_every_command_of_the_guide_runs_from_two_files_to_a_scored_system(tmp_path):
    guide = (REPOSITORY / 'docs' / 'your_own_corpus.md').read_text(encoding='utf-8')
    config = re.search(r'```python\n(.*?)```', guide, re.DOTALL)[1]
    assert config.count('\n') < 25
    (tmp_path / 'mine.py').write_text(config, encoding='utf-8')
    shutil.copytree(REPOSITORY / 'configs', tmp_path / 'configs', ignore=shutil.ignore_patterns('__pycache__'))
    made_up_corpus(tmp_path)
    environment = os.environ | {'PYTHONPATH': str(REPOSITORY), 'COLUMNS': '120'}
    commands = [line.strip() for line in guide.split('\n') if line.startswith(('    python ', '    paste '))]
    assert len(commands) >= 12
    printed = []
    for line in commands:
        line = line.replace('runs/mine,runs/other', 'runs/mine,runs/mine')
        done = subprocess.run(quick_guide(line), shell=True, cwd=tmp_path, env=environment, capture_output=True,
                              text=True, timeout=300)
        assert done.returncode == 0, f'{line}\n{done.stdout}\n{done.stderr}'
        printed.append(done.stdout)
    assert 'test BLEU' in printed[0]
    assert len((tmp_path / 'test.out').read_text(encoding='utf-8').splitlines()) == 40


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
    and not {'.venv', '.git', 'runs', '.oracles', '.peers', 'm30k', '.m30k', '.whl', 'data'} & set(
        path.relative_to(REPOSITORY).parts)),
    ids=lambda path: path.name)
def test_no_file_names_a_place_on_somebodys_machine(path):
    text = path.read_text(encoding='utf-8')
    for place in ('/work' + '/', '/ho' + 'me/', '/ro' + 'ot/', 'pypi' + '.org'):
        assert place not in text, place


def test_the_picture_of_the_readme_is_drawn_from_the_recorded_results(tmp_path):
    picture.draw(REPOSITORY / 'experiments/forgetting/first.jsonl', tmp_path / 'picture.png')
    assert (tmp_path / 'picture.png').read_bytes().startswith(b'\x89PNG')


def test_the_changelog_names_the_version():
    version = re.search(r'^version = "(.+)"', (REPOSITORY / 'pyproject.toml').read_text(), re.MULTILINE)[1]
    assert f'## {version}' in pathlib.Path(REPOSITORY / 'CHANGELOG.md').read_text()
