"""The README's section "Add a variant", done step by step in a copy of the repository: nothing else is edited."""

import os
import re
import shutil
import subprocess
import sys

from tests.conftest import REPOSITORY


def blocks():
    """The code blocks of the section, in order."""
    section = (REPOSITORY / 'README.md').read_text(encoding='utf-8').split('## Add a variant')[1].split('\n## ')[0]
    return re.findall(r'```python\n(.*?)```', section, flags=re.DOTALL)


def insert(path, after, text):
    content = path.read_text(encoding='utf-8')
    assert content.count(after) == 1, (path, after)
    path.write_text(content.replace(after, after + text), encoding='utf-8')


def test_the_four_steps_of_the_readme_are_enough(tmp_path):
    for folder in ('research', 'configs', 'experiments', 'tests'):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(REPOSITORY / 'pyproject.toml', tmp_path)
    the_class, the_import, the_line, the_options, the_oracle, the_entry = blocks()
    (tmp_path / 'research/attention/distance.py').write_text(the_class, encoding='utf-8')
    registry = tmp_path / 'research/attention/registry.py'
    oracles = tmp_path / 'tests/attention/oracles/single_head.py'
    insert(registry, 'from research.attention.differential import Differential\n', the_import)
    insert(registry, '    # one head, one energy\n', the_line)
    insert(tmp_path / 'configs/attention.py', '    # one head, one energy\n', the_options)
    insert(oracles, '    return context, weights[:, None]\n\n\n', the_oracle + '\n\n')
    insert(oracles, 'ORACLES = {\n', the_entry)
    environment = os.environ | {'PYTHONPATH': str(tmp_path), 'PYTEST_ADDOPTS': ''}
    environment.pop('PYTEST_XDIST_WORKER', None)
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-n0', '-p', 'no:cacheprovider', 'tests/attention', 'tests/models',
         'tests/test_architecture.py', 'tests/test_configs.py', '-k', 'distance or every_variant'],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = int(re.search(r'(\d+) passed', done.stdout)[1])
    assert passed >= 20, done.stdout  # the whole battery, and not an empty selection
    checked = subprocess.run([sys.executable, '-m', 'ruff', 'check', 'research', 'configs', 'tests/attention'],
                             cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
