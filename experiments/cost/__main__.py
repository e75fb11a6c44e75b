"""What does a mixer cost as sequences grow? Milliseconds and peak bytes, forward and backward, of each at some lengths.

    python -m experiments.cost                                        all: half an hour on an idle machine
    python -m experiments.cost --mixers multi_head_dot,delta --markdown cost.md --json cost.jsonl

Width 256, 4 heads, one sequence, float32, causal where the mixer can be. Keys and values are projected before the
clock starts; the projections of queries and of the result are timed alone and taken off, so that the exponent, log4 of
the time at 2,048 over that at 512, is that of the mixing. Medians of repeated calls, warm. Peak bytes are what the
compiled program of forward and backward needs beside its arguments. Time other things beside it and the numbers are
void.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import rich.box
import rich.console
import rich.table

from configs import attention
from research.attention import registry
from research.errors import UserError, one_line_errors
from research.shapes import Places
from research.train import environment

FEATURES = 256
WINDOW = 128
EXPECTED = {  # (mixer, path) -> the exponent that is expected of it
    ('linear', 'chunked'): ('at most', 1.2), ('retention', 'chunked'): ('at most', 1.2),
    ('delta', 'chunked'): ('at most', 1.2), ('sliding_window', 'blocks'): ('at most', 1.2),
    ('multi_head_dot', 'explicit'): ('at least', 1.6)}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog='experiments.cost', description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [name for name, variant in registry.VARIANTS.items() if 'self' in variant.roles]
    parser.add_argument('--mixers', help='joined by commas (default: all)')
    parser.add_argument('--lengths', default='128,512,2048', help='positions of a sequence, joined by commas')
    parser.add_argument('--repeats', type=int, default=7, help='calls of which the median counts, at least 5')
    parser.add_argument('--markdown', metavar='FILE')
    parser.add_argument('--json', metavar='FILE')
    options = parser.parse_args(arguments)
    with one_line_errors('experiments.cost'):
        names = options.mixers.split(',') if options.mixers else known
        for name in names:
            if name not in known:
                raise UserError(f'--mixers names {name!r}; the mixers are {", ".join(known)}')
        lengths = options.lengths.split(',')
        if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in lengths):
            raise UserError(f'--lengths is {options.lengths!r}; it must be numbers joined by commas, such as 128,512')
        if options.repeats < 5:
            raise UserError(f'--repeats is {options.repeats}; it must be at least 5')
        lengths = [int(word) for word in lengths]
        rows = []
        for name in names:
            for path in registry.VARIANTS[name].paths:
                if path != 'cudnn' or jax.default_backend() == 'gpu':
                    rows.append(row(name, path, lengths, options.repeats))
                    print(f'{name}, {path}: ' + ', '.join(f'{ms:.2f}' for ms in rows[-1]['milliseconds']) + ' ms',
                          flush=True)
        show(rows, lengths)
        if options.markdown:
            with open(options.markdown, 'w', encoding='utf-8') as file:
                file.write(markdown(rows, lengths))
        if options.json:
            with open(options.json, 'w', encoding='utf-8') as file:
                file.writelines(json.dumps(line | environment()) + '\n' for line in rows)


def row(name: str, path: str, lengths: Sequence[int], repeats: int) -> dict[str, Any]:
    """One mixer on one path at all lengths."""
    found = {'mixer': name, 'path': path, 'lengths': list(lengths), 'forward': [], 'milliseconds': [],
             'with_projections': [], 'bytes': []}
    for length in lengths:
        forward, both, projections, peak = measure(name, path, length, repeats)
        found['forward'].append(forward)
        found['with_projections'].append(both)
        found['milliseconds'].append(max(both - projections, 1e-3))
        found['bytes'].append(peak)
    if 512 in lengths and 2048 in lengths:
        here, there = (found['milliseconds'][lengths.index(length)] for length in (512, 2048))
        found['exponent'] = math.log(there / here, 4)
    return found


def measure(name: str, path: str, length: int, repeats: int) -> tuple[float, float, float, int]:
    """Milliseconds forward, and forward and backward with and of the projections alone; peak bytes of the second."""
    options = {key: value for key, value in attention.get(name).to_dict().items() if key not in ('name', 'path')}
    if 'maximum_length' in options:
        options['maximum_length'] = length
    if name == 'sliding_window':
        options['reach']['width'] = WINDOW
    causal = True in registry.VARIANTS[name].causal
    module = registry.make(name, features=FEATURES, role='self', causal=causal, path=path, **options)
    places = Places(jnp.ones((1, length), jnp.int32), jnp.arange(length, dtype=jnp.int32)[None])
    inputs = jax.random.normal(jax.random.key(0), (1, length, FEATURES))

    def whole(module):
        memory = module.remember(inputs, places)
        return module(inputs, memory, module.start(memory, 0), places).context
    params = nn.init(whole, module)(jax.random.key(1)).get('params', {})
    memory = module.apply({'params': params}, inputs, places, method='remember')

    def read(query, memory):
        def call(module):
            return module(query, memory, module.start(memory, 0), places).context
        return nn.apply(call, module)({'params': params})

    def total(query, memory):
        return jnp.sum(read(query, memory)**2)
    forward = jax.jit(read).lower(inputs, memory).compile()
    both = jax.jit(jax.value_and_grad(total, argnums=(0, 1), allow_int=True)).lower(inputs, memory).compile()
    kernel = jax.random.normal(jax.random.key(2), (FEATURES, FEATURES)) / 16.0
    alone = jax.jit(jax.value_and_grad(lambda query: jnp.sum((query @ kernel @ kernel)**2))).lower(inputs).compile()
    projected = name != 'fourier'
    times = median_milliseconds([lambda: forward(inputs, memory), lambda: both(inputs, memory),
                                 lambda: alone(inputs)], repeats)
    return times[0], times[1], times[2] * projected, both.memory_analysis().temp_size_in_bytes


def median_milliseconds(calls: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Of each call, warm; the calls take turns, so that what slows the machine for a while slows all of them."""
    found = [[] for _ in calls]
    for turn in range(repeats + 1):
        for call, times in zip(calls, found, strict=True):
            begin = time.perf_counter()
            jax.block_until_ready(call())
            if turn:  # the first one warms up
                times.append(1e3 * (time.perf_counter() - begin))
    return [statistics.median(times) for times in found]


def cells(line: dict[str, Any]) -> list[str]:
    """A row of the table as text."""
    exponent = f'{line["exponent"]:.2f}' if 'exponent' in line else '-'
    return [line['mixer'], line['path'], *(f'{ms:.2f}' for ms in line['forward']),
            *(f'{ms:.2f}' for ms in line['milliseconds']), *(f'{size / 2**20:.1f}' for size in line['bytes']), exponent]


def heads(lengths: Sequence[int]) -> list[str]:
    """The heads of the table."""
    return ['mixer', 'path', *(f'forward ms {length:,}' for length in lengths),
            *(f'mixing both ms {length:,}' for length in lengths), *(f'MiB {length:,}' for length in lengths),
            'exponent']


def verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What was expected of exponents, and what was found."""
    found = []
    for line in rows:
        how, bound = EXPECTED.get((line['mixer'], line['path']), (None, None))
        if how and 'exponent' in line:
            met = line['exponent'] <= bound if how == 'at most' else line['exponent'] >= bound
            found.append(f'{"met" if met else "not met"}: {line["mixer"]} on path {line["path"]}: exponent '
                         f'{line["exponent"]:.2f}, {how} {bound}')
    return found


def show(rows: Sequence[dict[str, Any]], lengths: Sequence[int]) -> None:
    """The table and the verdicts, on the console."""
    console = rich.console.Console()
    if not console.is_terminal:
        console.width = 180
    table = rich.table.Table(*heads(lengths), box=rich.box.SIMPLE_HEAD)
    for line in rows:
        table.add_row(*cells(line))
    console.print(table)
    for line in verdicts(rows):
        console.print(line)


def markdown(rows: Sequence[dict[str, Any]], lengths: Sequence[int]) -> str:
    """The same as a page."""
    said = environment()
    lines = ['| ' + ' | '.join(heads(lengths)) + ' |', '|' + '---|' * len(heads(lengths)),
             *('| ' + ' | '.join(cells(line)) + ' |' for line in rows)]
    return '\n'.join([f'Machine: {said["machine"]}; jax {said["versions"]["jax"]}; width {FEATURES}, 4 heads, one '
                      'sequence.', '', *lines, '', *(f'- {line}' for line in verdicts(rows))]) + '\n'


if __name__ == '__main__':
    main()
