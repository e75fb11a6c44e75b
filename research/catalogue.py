"""What can be chosen and what it costs: attentions, cells, relative positions and normalisers.

    python -m research.catalogue
    python -m research.catalogue linear --picture linear.png
    python -m research.catalogue --json
    python -m research.catalogue --markdown > docs/catalogue.md
"""

import argparse
import dataclasses
import functools
import inspect
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import rich.box
import rich.console
import rich.table

from research.attention import linear, masks, registry, schemes
from research.attention.contract import Attention
from research.attention.normalisers import NORMALISERS
from research.attention.registry import VARIANTS, Variant
from research.attention.schemes import SCHEMES
from research.cells import registry as cells
from research.cells.registry import CELLS
from research.errors import UserError, nearest, one_line_errors
from research.shapes import Array, Places

FEATURES, SHORT, LONG = 64, 128, 1024  # D, and the lengths S = T at which costs are computed
SOURCE, TARGET = 16, 12                # S and T of a picture

# Values of options with which a variant can be made, by the option's name: the first that the variant's name allows.
# Options that are not here have those of their type.
EXAMPLES = {
    'base': (10000.0,),
    'buckets': (8,),
    'chunk': (16,),
    'count': (16,),
    'energy': ('general',),
    'energy_width': (FEATURES,),
    'gate': ('none', 'head'),
    'head_width': (0,),
    'key_value_heads': (0, 1, 2),
    'leaders': (1,),
    'maximum_distance': (16,),
    'maximum_length': (LONG,),
    'mode': ('soft',),
    'normaliser': tuple(NORMALISERS),
    'query_key_norm': ('none', 'rms'),
    'rank': (16,),
    'rotary_width': (0,),
    'scale': ('width',),
    'seed': (0,),
    'segments': (1,),
    'share': (0.25,),
    'softcap': (0.0, 50.0),
    'source_projection': ('learned',),
    'state_width': (16,),
    'width': (3,),
}
EXAMPLES_OF_TYPES = {int: 4, float: 1.0, bool: False}

# What the sections among the options can name, and what says of each what it is.
SECTIONS = {
    masks.Reach: masks.REACHES,
    schemes.Scheme: {entry.name: entry.positions for entry in SCHEMES.values()},
    linear.FeatureMap: linear.FEATURE_MAPS,
}

ATTENTION_COLUMNS = ('name', 'summary', 'roles', 'direction', 'reads', 'weights', 'packing', 'paths', 'options',
                     'paper')
CAPABILITIES = ('name', 'summary', 'paper', 'roles', 'causal', 'reads', 'weights', 'rows', 'signed', 'paths', 'packing')


class Cost(NamedTuple):
    """What one way to compute an attention costs; None = cannot be known, or nothing is decoded."""

    role: str
    path: str
    flops: float | None         # forward, a token, at S = T = SHORT
    flops_growth: str | None    # of a token, when S = T becomes very long
    bytes: tuple[int, int] | None  # kept for one sentence at S = T = SHORT and LONG, float32
    bytes_growth: str | None


class Table(NamedTuple):
    """Rows of text under a title."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    last: int = 0  # how many of the last columns a terminal does without where it is too narrow


# ------------------------------------------------------------------------------------------------------ example options

def option_types(name: str) -> dict[str, type]:
    """The options of an attention and their types."""
    return {field.name: field.type for field in dataclasses.fields(VARIANTS[name].attention)
            if field.name in registry.options(name)}


def example_options(name: str) -> dict[str, Any]:
    """Values with which an attention can be made.

    Raises:
      UserError: there is no example of an option that fits.
    """
    variant, chosen = VARIANTS[name], {}
    for option, kind in option_types(name).items():
        wanted, allowed = variant.demands.get(option, ('', lambda value: True))
        fitting = [value for value in _examples(option, kind) if allowed(value)]
        if not fitting:
            raise UserError(f'Attention {name!r}: there is no example of its option {option!r}'
                            f'{wanted and f", which must be {wanted}"}; add one to EXAMPLES in research/catalogue.py')
        chosen[option] = fitting[0]
    return chosen


def _examples(option: str, kind: Any) -> Iterator[Any]:
    """Values of an option of that name and type, the plainest first."""
    for name, part in SECTIONS.get(kind, {}).items():
        values = {field: next(_examples(field, of), None) for field, of in _fields(part).items()}
        if None not in values.values():
            yield {'name': name, **values}
    known = [value for value in EXAMPLES.get(option, ()) if type(value) is kind]
    if not known and kind in EXAMPLES_OF_TYPES:
        known = [EXAMPLES_OF_TYPES[kind]]
    yield from known


def _fields(part: type) -> dict[str, Any]:
    """The options of what a section names, and their types."""
    if not dataclasses.is_dataclass(part):  # a NamedTuple
        return {field: part.__annotations__[field] for field in part._fields}
    common = {field.name for field in dataclasses.fields(schemes.Positions)}
    return {field.name: field.type for field in dataclasses.fields(part) if field.name not in common}


def _make(name: str, role: str, path: str = 'explicit', **options: Any) -> Attention:
    """An attention with example options; causal where it can be in its role."""
    return registry.make(name, features=FEATURES, role=role, causal=role == 'self' and True in VARIANTS[name].causal,
                         path=path, **example_options(name) | options)


# ---------------------------------------------------------------------------------------------------------------- costs

@functools.cache
def costs(name: str) -> tuple[Cost, ...]:
    """What an attention costs in each role on each path; nothing is compiled."""
    return tuple(_cost(VARIANTS[name], role, path) for role in VARIANTS[name].roles for path in VARIANTS[name].paths)


def _cost(variant: Variant, role: str, path: str) -> Cost:
    try:
        module = _make(variant.name, role, path)

        def flops(length):
            return module.flops(length, _entries(variant, length), FEATURES, FEATURES) / length

        far = 2**20  # what does not grow is nothing beside what does
        kept = None
        if role == 'cross' or module.causal:
            kept = tuple(_bytes(module, _entries(variant, length), length) for length in (SHORT, LONG))
        return Cost(role, path, flops(SHORT), growth(flops(far), flops(2 * far), 2.0), kept,
                    growth(*kept, LONG / SHORT) if kept else None)
    except UserError:  # an option whose example does not fit: a variant is listed whether or not it can be measured
        return Cost(role, path, None, None, None, None)


def _entries(variant: Variant, length: int) -> int:
    return 1 if variant.reads == 'summary' else length


def growth(before: float, after: float, factor: float) -> str:
    """How a number grows with a length that became `factor` times as long: 'constant', 'linear', ..."""
    power = round(math.log(after / before, factor)) if before else 0
    return ('constant', 'linear', 'quadratic', 'cubic')[max(power, 0)]


def _bytes(module: Attention, entries: int, length: int) -> int:
    """What is kept for a sentence: the memory of a source and the carry, or the carry of what was written."""
    written = entries if module.role == 'cross' else 1
    source, places = np.zeros((1, written, FEATURES), np.float32), _places(written)

    def kept(module):
        memory = module.remember(source, places)
        carry = module.start(memory, length)
        return (memory, carry) if module.role == 'cross' else carry
    return _size(module, kept)


def _size(module: Any, kept: Callable) -> int:
    """Bytes of what `kept` makes of a module; shapes alone are computed."""
    shapes = jax.eval_shape(lambda rng: module.init_with_output(rng, method=kept)[0], jax.random.key(0))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def _places(length: int) -> Places:
    return Places(np.ones((1, length), np.int32), np.arange(length, dtype=np.int32)[None])


# -------------------------------------------------------------------------------------------------------- the catalogue

def records(name: str | None = None) -> Iterator[dict[str, Any]]:
    """All entries, or those with a name, each as what `--json` prints."""
    def of(entries):
        return [entries[known] for known in entries if name in (None, known)]
    for variant in of(VARIANTS):
        try:
            example = example_options(variant.name)
        except UserError:
            example = None
        yield {'kind': 'attention', **_capabilities(variant),
               'demands': {option: wanted for option, (wanted, _) in variant.demands.items()}, 'example': example,
               'costs': [cost._asdict() for cost in costs(variant.name)]}
    for entry in of(CELLS):
        cell = cells.make(entry.name, FEATURES)
        yield {'kind': 'cell', 'name': entry.name, 'summary': entry.summary, 'paper': entry.paper,
               'flops': cell.flops(FEATURES), 'bytes': _size(cell, lambda module: module.start(1))}
    for entry in of(SCHEMES):
        yield {'kind': 'position', 'name': entry.name, 'summary': entry.summary, 'paper': entry.paper,
               'options': list(_fields(entry.positions)), 'needs_weights': entry.positions.needs_weights}
    for entry in of(NORMALISERS):
        yield {'kind': 'normaliser', 'name': entry.name, 'summary': entry.summary, 'rows': entry.rows,
               'sink': entry.sink}


def _capabilities(variant: Variant) -> dict[str, Any]:
    return {field: getattr(variant, field) for field in CAPABILITIES} | {
        'options': list(registry.options(variant.name))}


def tables(entries: Sequence[dict[str, Any]]) -> list[Table]:
    """The catalogue, or a part of it, for people."""
    def of(kind):
        return [entry for entry in entries if entry['kind'] == kind]
    found = [
        Table('Attentions: what they are',
              'roles: cross = reads another sequence, self = mixes one. direction: of a self-attention; where it is '
              'causal, an encoder has two copies of it. weights: what they sum to, - = has none. Weights are returned '
              'on path explicit; other paths compute the same. packing: whether sentences may share a row. Before any '
              'of role self a short convolution may stand: short_convolution beside mixer in a config.',
              ATTENTION_COLUMNS,
              [_attention_row(entry) for entry in of('attention')], 3),
        Table('Attentions: what they cost',
              f'At D = {FEATURES}, S = T = {SHORT:,}, float32, with example options (--json shows them). FLOPs: '
              'forward, of all positions in one call, divided by T. kept: for one sentence while decoding; cross: '
              'memory and carry for a source of S, self: the carry for T written positions; - = does not decode. '
              'growth: with S = T.',
              ('name', 'role', 'paths', 'kFLOPs a token', 'growth', f'kB kept at {SHORT:,}', f'at {LONG:,}', 'growth'),
              [row for entry in of('attention') for row in _cost_rows(entry['name'])]),
        Table('Cells', f'At H = {FEATURES} and inputs as wide, float32. The state does not grow.',
              ('name', 'summary', 'kFLOPs a token', 'kB of state', 'paper'),
              [(entry['name'], entry['summary'], _thousands(entry['flops']), _thousands(entry['bytes']),
                entry['paper']) for entry in of('cell')]),
        Table('Relative positions', 'Of self-attentions that have the option position.',
              ('name', 'summary', 'needs path explicit', 'options', 'paper'),
              [(entry['name'], entry['summary'], _yes(entry['needs_weights']), ', '.join(entry['options']) or '-',
                entry['paper']) for entry in of('position')]),
        Table('Normalisers', 'Of attentions that have the option normaliser.',
              ('name', 'summary', 'weights', 'one more logit'),
              [(entry['name'], entry['summary'], entry['rows'], entry['sink'].replace('none', '-'))
               for entry in of('normaliser')])]
    return [table for table in found if table.rows]


def _attention_row(entry: dict[str, Any]) -> tuple[str, ...]:
    same = next(name for name in VARIANTS if VARIANTS[name].attention is VARIANTS[entry['name']].attention)
    options = ', '.join(entry['options']) or '-' if same == entry['name'] else f'as {same}'
    direction = {(True,): 'causal', (False,): 'both at once', (False, True): 'any'}[tuple(entry['causal'])]
    return (entry['name'], entry['summary'], ', '.join(entry['roles']), direction if 'self' in entry['roles'] else '-',
            entry['reads'], f'{entry["rows"] or "-"}{", signed" * entry["signed"]}', _yes(entry['packing']),
            ', '.join(entry['paths']), options, entry['paper'])


def _cost_rows(name: str) -> list[tuple[str, ...]]:
    """A row for all paths and roles that look alike."""
    paths, roles = {}, {}
    for cost in costs(name):
        kept = (*map(_thousands, cost.bytes), cost.bytes_growth) if cost.bytes else ('-', '-', '-')
        shown = (_thousands(cost.flops), cost.flops_growth or '-', *kept)
        paths.setdefault((cost.role, shown), []).append(cost.path)
    for (role, shown), alike in paths.items():
        roles.setdefault((', '.join(alike), shown), []).append(role)
    return [(name, ', '.join(alike), those, *shown) for (those, shown), alike in roles.items()]


def _thousands(number: float | None) -> str:
    return '-' if number is None else f'{number / 1000:,.1f}'


def _yes(flag: bool) -> str:
    return 'yes' if flag else 'no'


# --------------------------------------------------------------------------------------------------------- one variant

def explain(name: str) -> str:
    """What the source says of everything with that name: formula, source, options."""
    parts = []
    if name in VARIANTS:
        parts.append(_attention_text(VARIANTS[name]))
    for kind, entries, part in (('cell', CELLS, 'cell'), ('position', SCHEMES, 'positions'),
                                ('normaliser', NORMALISERS, 'function')):
        if name in entries:
            entry = entries[name]
            lines = [f'{kind} {name}: {entry.summary}', '', *_documents(getattr(entry, part))]
            parts.append('\n'.join([*lines, f'Paper: {entry.paper}'] if hasattr(entry, 'paper') else lines))
    return '\n\n\n'.join(part.rstrip() for part in parts)


def _attention_text(variant: Variant) -> str:
    text, meanings = _without_attributes(inspect.getdoc(variant.attention))
    lines = [f'attention {variant.name}: {variant.summary}', '', text, '']
    row = _attention_row(_capabilities(variant))
    lines += [f'{column.capitalize()}: {cell}' for column, cell in zip(ATTENTION_COLUMNS, row, strict=True)
              if column not in ('name', 'summary', 'options')]
    types = option_types(variant.name)
    if types:
        lines += ['', 'Options:']
    for option, kind in types.items():
        word = 'section' if kind in registry.NODES else getattr(kind, '__name__', str(kind))
        known = NORMALISERS if option == 'normaliser' else SECTIONS.get(kind, ())
        must = [f'Here it must be {variant.demands[option][0]}.'] if option in variant.demands else []
        named = [f'Known: {", ".join(known)}.'] if known else []
        lines.append('  ' + ' '.join([f'{option} ({word}):', meanings.get(option, '-'), *must, *named]))
    try:
        for option, value in example_options(variant.name).items():
            if option in variant.demands:
                named = SECTIONS[types[option]][value['name']] if types[option] in SECTIONS else \
                    NORMALISERS[value].function if option == 'normaliser' else None
                lines += ['', f'{option} {value["name"] if isinstance(value, dict) else value}:',
                          *_documents(named)] if named else []
    except UserError:
        pass  # no example of an option that the name demands
    return '\n'.join(lines)


def _documents(part: Any) -> list[str]:
    """What a class or function says of itself, and what the functions say that it refers to, a line each."""
    text = inspect.getdoc(part)
    lines = [text, '']
    for words in re.findall(r'`([\w.]+)`', text):
        found = sys.modules[part.__module__]
        for word in words.split('.'):  # a function of its module, or of one that is imported there
            found = getattr(found, word, None)
        if inspect.isfunction(found):
            lines += [f'{words}: {inspect.getdoc(found)}', '']
    return lines


def _without_attributes(text: str) -> tuple[str, dict[str, str]]:
    """A docstring without its section of attributes, and what that says of each."""
    text, _, section = text.partition('\nAttributes:\n')
    found = re.findall(r'^  (\w+): (.*(?:\n    .*)*)', section, re.MULTILINE)
    return text.rstrip(), {name: ' '.join(meaning.split()) for name, meaning in found}


def picture(name: str) -> tuple[np.ndarray, str]:
    """What a random sequence reads with initial parameters: weights, or slopes where there are none.

    Of a scheme or a normaliser it is a plain attention that has it.

    Returns:
      [N, T, S] or [T, S], and a title.

    Raises:
      UserError: there is no example of an option.
    """
    if name in VARIANTS:
        return _attention_picture(name, f'attention {name}')
    if name in CELLS:
        return _cell_picture(name)
    plain = next(other for other in VARIANTS if schemes.Scheme in option_types(other).values())
    if name in SCHEMES:
        sections = [value for value in _examples('position', schemes.Scheme) if value['name'] == name]
        if not sections:
            raise UserError(f'position {name!r}: there is no example of its options; add one to EXAMPLES in '
                            'research/catalogue.py')
        return _attention_picture(plain, f'position {name}', position=sections[0])
    return _attention_picture(plain, f'normaliser {name}', normaliser=name)


def _attention_picture(name: str, title: str, **options: Any) -> tuple[np.ndarray, str]:
    variant = VARIANTS[name]
    role = 'self' if 'self' in variant.roles else 'cross'
    module = _make(name, role, **options)
    source = _random(1, _entries(variant, SOURCE))
    query = source if role == 'self' else _random(2, TARGET)

    def read(module, query, source):
        memory = module.remember(source, _places(source.shape[1]))
        carry = module.start(memory, query.shape[1] if role == 'cross' else 0)
        return module(query, memory, carry, _places(query.shape[1]))
    variables = module.init(jax.random.key(0), query, source, method=read)
    weights = module.apply(variables, query, source, method=read).weights
    title = f'{title} before training, {"causal " * module.causal}{role} role'
    if weights is not None:
        return np.asarray(weights[0]), f'{title}: weights'

    def context(source):
        return module.apply(variables, source if role == 'self' else query, source, method=read).context
    return slopes(context, source), f'{title}: |d context[t] / d source[s]|, the largest as 1'


def _cell_picture(name: str) -> tuple[np.ndarray, str]:
    cell, inputs = cells.make(name, FEATURES), _random(1, SOURCE)

    def over(module, inputs):
        return module.over(inputs, np.ones((1, SOURCE), bool), module.start(1))[0]
    variables = cell.init(jax.random.key(0), inputs, method=over)
    return (slopes(lambda inputs: cell.apply(variables, inputs, method=over), inputs),
            f'cell {name} before training: |d output[t] / d input[s]|, the largest as 1')


def _random(seed: int, length: int) -> Array:
    return jax.random.normal(jax.random.key(seed), (1, length, FEATURES))


def slopes(function: Callable[[Array], Array], source: Array) -> np.ndarray:
    """How much each output [1, T, D] depends on each input [1, S, D]: norms of gradients, the largest as 1, [T, S]."""
    gradients = np.asarray(jax.jacrev(lambda source: function(source)[0])(source))[:, :, 0]
    norms = np.sqrt(np.sum(gradients**2, axis=(1, 3)))
    return norms / (np.max(norms) or 1.0)


# ------------------------------------------------------------------------------------------------------------- printing

def write_text(found: Sequence[Table]) -> None:
    """Tables as wide as the terminal, or as they need where nobody looks."""
    console = rich.console.Console(markup=False)
    if not console.is_terminal:
        console.width = 1000
    for table in found:
        shown, note, first = _shown(table, len(table.columns)), table.note, len(table.columns) - table.last
        if table.last and console.measure(shown).maximum >= console.width:
            shown = _shown(table, first)
            note += f' Left out for want of room: {", ".join(table.columns[first:])}; see research.catalogue NAME.'
        console.print(shown)
        console.print(note, '\n', style='dim', highlight=False)


def _shown(table: Table, columns: int) -> rich.table.Table:
    shown = rich.table.Table(title=table.title, box=rich.box.SIMPLE_HEAD, title_justify='left')
    for column in table.columns[:columns]:
        shown.add_column(column, justify='right' if _is_number(column) else 'left', no_wrap=column == 'name')
    for row in table.rows:
        shown.add_row(*row[:columns])
    return shown


def write_markdown(found: Sequence[Table]) -> None:
    """The page docs/catalogue.md."""
    print('# Catalogue\n\nWhat can be chosen and what it costs, written by `make catalogue`.')
    for table in found:
        print(f'\n## {table.title}\n\n{table.note}\n')
        for row in (table.columns, tuple('--:' if _is_number(column) else '---' for column in table.columns),
                    *table.rows):
            print(f'| {" | ".join(cell.replace("|", chr(92) + "|") for cell in row)} |')


def _is_number(column: str) -> bool:
    return column.startswith(('kFLOPs', 'kB', 'at '))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog='research.catalogue', description=__doc__.split('\n')[0],
                                     allow_abbrev=False)
    parser.add_argument('name', nargs='?', help='explain this attention, cell, scheme of positions or normaliser')
    parser.add_argument('--picture', metavar='FILE.png', help='draw what it reads, before training')
    parser.add_argument('--json', action='store_true', help='a JSON object a line')
    parser.add_argument('--markdown', action='store_true', help='as a page')
    options = parser.parse_args(arguments)
    with one_line_errors('research.catalogue'):
        if options.picture and not options.name:
            raise UserError('--picture draws one entry: say which, as in research.catalogue linear --picture FILE.png')
        if options.markdown and (options.name or options.json):
            raise UserError('--markdown is for the whole catalogue: it goes with no name and not with --json')
        names = list(dict.fromkeys(itertools.chain(VARIANTS, CELLS, SCHEMES, NORMALISERS)))
        if options.name is not None and options.name not in names:
            raise UserError(f'Unknown name {options.name!r}.{nearest(options.name, names)} '
                            'All of them: python -m research.catalogue')
        if options.picture:
            from research.analysis import pictures  # matplotlib is slow to import
            pictures.check_path(options.picture)
            drawn, title = picture(options.name)
            T, S = drawn.shape[-2:]
            pictures.attention_picture(options.picture, drawn, [str(s) for s in range(S)], [str(t) for t in range(T)],
                                       title)
        entries = list(records(options.name))
        if options.json:
            for entry in entries:
                print(json.dumps(entry))
        elif options.markdown:
            write_markdown(tables(entries))
        else:
            found = tables(entries)
            if options.name:  # what the first table says is said in words
                print(explain(options.name), end='\n\n')
                found = [table for table in found if table.columns != ATTENTION_COLUMNS]
            write_text(found)


if __name__ == '__main__':
    main()
