"""The arrows of the house: who may import whom, where Flax may stand, and that everything public says what it is."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = sorted(path for folder in ('research', 'experiments', 'configs') for path in (ROOT / folder).rglob('*.py'))

# A part -> the parts of the project that it may import, besides itself, research.shapes and research.errors.
MAY_IMPORT = {
    'configs': {'configs'},
    'experiments': {'research', 'configs'},
    'research.shapes': set(),
    'research.errors': set(),
    'research.locked': set(),
    'research.sealed': set(),
    'research.compiling': set(),
    'research.memory': set(),
    'research.text': {'research.locked', 'research.sealed'},
    'research.evaluation': set(),
    'research.analysis': set(),
    'research.analysis.diagnostics': {'research.analysis', 'research.models.contract', 'research.models.probes'},
    'research.layers': set(),
    'research.attention': set(),
    'research.cells': {'research.layers'},
    'research.models': {'research.attention', 'research.cells', 'research.layers'},
    'research.training': {'research.models.contract', 'research.locked', 'research.sealed'},
    'research.decoding': {'research.models.contract', 'research.text.vocabulary'},
    'research.build': {'research.attention', 'research.cells', 'research.layers', 'research.models', 'research.text',
                       'research.training', 'research.decoding', 'research.evaluation'},
    'research.interop': {'research.models', 'research.layers', 'research.attention', 'research.text'},
    'research.translator': {'research.build', 'research.decoding', 'research.models.contract', 'research.text',
                            'research.compiling'},
    'research.study': {'research.build', 'research.train', 'research.several', 'research.evaluate',
                       'research.translator', 'research.text', 'research.training', 'research.evaluation',
                       'research.analysis', 'research.models.contract', 'research.locked', 'research.compiling'},
    'research.command_line': set(),
    'research.train': {'research'},
    'research.several': {'research'},
    'research.evaluate': {'research'},
    'research.translate': {'research'},
    'research.prepare': {'research'},
    'research.export': {'research'},
    'research.import_marian': {'research'},
    'research.catalogue': {'research'},
}
FLAX = ('research.attention', 'research.cells', 'research.layers', 'research.models', 'research.build')
NO_FLAX = ('research.attention.masks', 'research.attention.normalise', 'research.attention.positions',
           'research.layers.dropout')
NO_JAX = ('research.text', 'research.evaluation', 'research.shapes', 'research.errors', 'research.locked',
          'research.sealed', 'research.study.arms', 'research.study.records', 'research.study.statistics',
          'research.study.steps', 'research.study.floors', 'research.study.variance', 'research.study.card',
          'research.study.charts', 'research.study.half_length', 'research.study.page', 'research.study.page_parts',
          'research.study.page_script', 'research.study.page_style', 'research.study.page_task',
          'research.study.page_weights', 'research.study.pool', 'research.study.worker', 'research.study.tables',
          'research.study.tuning', 'research.study.budget', 'research.study.comparison', 'research.study.definition',
          'research.study.expected', 'research.analysis.pictures', 'research.analysis.weights',
          'research.analysis.gradients', 'research.analysis.readout', 'research.command_line', 'research.memory',
          'configs')
READS_CONFIG = ('research.build',)


def _module(path):
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')


def _imports(path):
    """Every module that a file imports, also inside functions: from a import b counts as a.b where that is a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import'
            for alias in node.names:
                name = f'{node.module}.{alias.name}'
                file = ROOT / pathlib.Path(*name.split('.'))
                yield name if file.with_suffix('.py').exists() or file.is_dir() else node.module


def _within(name, parts):
    return any(name == part or name.startswith(f'{part}.') for part in parts)


@pytest.mark.parametrize('path', FILES, ids=_module)
def test_no_arrow_points_back(path):
    module = _module(path)
    parts = [part for part in MAY_IMPORT if _within(module, (part,))]
    if not parts:
        assert module == 'research', f'{module} has no place in the house: say in MAY_IMPORT what it may import'
        return
    part = max(parts, key=len)
    allowed = {part, 'research.shapes', 'research.errors'} | MAY_IMPORT[part]
    if part == 'configs':
        allowed -= {'research.shapes', 'research.errors'}
    for name in _imports(path):
        if name.split('.')[0] in ('research', 'experiments', 'configs', 'tests') and name != 'research':
            assert _within(name, allowed), f'{module} imports {name}; it may import {sorted(allowed)}'


@pytest.mark.parametrize('path', FILES, ids=_module)
def test_flax_and_jax_stand_only_where_they_belong(path):
    module, imports = _module(path), set(_imports(path))
    if any(_within(name, ('flax',)) for name in imports):
        assert _within(module, FLAX), f'{module} imports flax'
        assert module not in NO_FLAX, f'{module} is to be pure functions of arrays'
    if any(_within(name, ('jax',)) for name in imports):
        assert not _within(module, NO_JAX), f'{module} imports jax'


@pytest.mark.parametrize('path', FILES, ids=_module)
def test_a_part_takes_plain_arguments_and_reads_no_config(path):
    module, imports = _module(path), set(_imports(path))
    if any(_within(name, ('ml_collections',)) for name in imports):
        assert _within(module, ('configs', 'research.build', 'research.command_line'))
    if not _within(module, (*READS_CONFIG, 'configs')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Attribute | ast.Subscript) and 'config' in (
                    getattr(node.value, 'id', ''), getattr(node.value, 'attr', '')) and (  # config or something.config
                    ast.unparse(node.value) != 'jax.config'):  # the settings of JAX itself
                assert getattr(node, 'attr', '') in ('copy_and_resolve_references', 'items'), (
                    f'{module} line {node.lineno} reads a config; only research/build.py does')


@pytest.mark.parametrize('path', FILES, ids=_module)
def test_experiments_do_not_import_each_other(path):
    module = _module(path)
    if module.startswith('experiments.') and module != 'experiments.run':
        own = '.'.join(module.split('.')[:2])
        for name in _imports(path):
            assert not name.startswith('experiments.') or _within(name, (own,))


@pytest.mark.parametrize('path', FILES, ids=_module)
def test_everything_public_has_a_docstring(path):
    inherited = {'setup', 'start', 'remember', 'rotate', 'bias', 'read', 'flops'}  # said once, in the contract
    tree = ast.parse(path.read_text(encoding='utf-8'))
    scopes = [(tree, '')] + [(node, f'{node.name}.') for node in tree.body if isinstance(node, ast.ClassDef)]
    for scope, above in scopes:
        for node in scope.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith('_') \
                    and not above.startswith('_') and not (above and node.name in inherited):
                assert ast.get_docstring(node), f'{path.name}:{node.lineno}: {above}{node.name} says nothing'


def test_names_hide_nothing():
    """No utils, helpers, common, misc: a file is named after what it holds."""
    for path in FILES:
        assert path.stem not in ('utils', 'util', 'helpers', 'common', 'misc')
