"""What a mixer costs between its projections: milliseconds and bytes of its compiled programs.

Keys and values are projected by `remember`, outside of what is timed. The projections of the query (and of its gate)
and of what was read stay in the call; the same matrix products are timed alone beside it and taken off. The gradient is
that of the query and of what in the memory depends on the source.
"""

import concurrent.futures
import functools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from configs import attention as attention_configs
from research import compiling
from research.attention.contract import Attention
from research.attention.registry import VARIANTS, make
from research.shapes import Array, Places

FEATURES = 256                 # D; the configs have 4 heads
WINDOW = 128                   # positions that 'sliding_window' reads here
LIBRARIES = ('xla', 'cudnn')   # paths that are not timed: what a library makes of the path 'explicit'
DIRECTIONS = ('forward', 'forward_and_backward')
SAMPLE = 0.02                  # seconds that one sample lasts at least: short programs are called several times in it
MOST_CALLS = 200
LONG = 1.0                     # seconds: a call that lasts so long is warmed up by none before it
# What is computed once, before anything is timed, is not worth the time that optimising it takes.
QUICKLY = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}

Track = Callable[[Sequence, str], Iterable]  # (what is gone through, words) -> the same, with progress shown


class Row(NamedTuple):
    """One mixer on one of its paths."""

    mixer: str
    path: str


class Program(NamedTuple):
    """A compiled function and what it is called with."""

    compiled: Any
    arguments: tuple

    @classmethod
    def of(cls, function: Callable, *arguments: Any) -> 'Program':
        """Compiles a function for its arguments."""
        return cls(jax.jit(function).lower(*arguments).compile(), arguments)

    def seconds(self, calls: int = 1) -> float:
        """Of one call, when so many are made one after another."""
        begin = time.perf_counter()
        for _ in range(calls):
            jax.block_until_ready(self.compiled(*self.arguments))
        return (time.perf_counter() - begin) / calls

    def bytes(self) -> dict[str, int]:
        """By the plan of the compiler, whose own peak leaves temporary buffers out on a CPU."""
        plan = self.compiled.memory_analysis()
        return {'argument': plan.argument_size_in_bytes, 'output': plan.output_size_in_bytes,
                'temporary': plan.temp_size_in_bytes}


def mixers() -> tuple[str, ...]:
    """Every variant by which a sequence can read itself."""
    return tuple(name for name, variant in VARIANTS.items() if 'self' in variant.roles)


def rows(names: Sequence[str]) -> list[Row]:
    """What is timed of them: every path that is our own."""
    return [Row(name, path) for name in names for path in VARIANTS[name].paths if path not in LIBRARIES]


def causal(name: str) -> bool:
    """Whether a mixer is timed causal: wherever it can be."""
    return True in VARIANTS[name].causal


def mixer(row: Row, length: int) -> Attention:
    """The module, with the options of its config; a window and tables of places are as large as they should be here."""
    options = attention_configs.get(row.mixer).to_dict() | {'path': row.path}
    if row.mixer == 'sliding_window':
        options['reach'] = {'name': 'window', 'width': WINDOW}
    if 'maximum_length' in options:
        options['maximum_length'] = length
    return make(features=FEATURES, role='self', causal=causal(row.mixer), **options)


def programs(row: Row, length: int, batch: int) -> tuple[dict[str, Program], list[Array]]:
    """A program for each of DIRECTIONS, and the matrices of the projections that they contain."""
    module, rng = mixer(row, length), jax.random.key(0)
    query, direction, cotangent = jax.random.normal(rng, (3, batch, length, FEATURES))
    position = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (batch, length))
    places = Places(jnp.ones_like(position), position)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def prepare(source, places):
        shapes = jax.eval_shape(lambda *inputs: inputs, source, places)
        known = module.lazy_init(rng, *shapes, method='remember')
        memory, tangents = jax.jvp(lambda source: module.apply(known, source, places, method='remember'), (source,),
                                   (direction,))
        depends = [jnp.any(tangent != 0) if tangent.dtype != jax.dtypes.float0 else False
                   for tangent in jax.tree.leaves(tangents)]
        # Called for a memory that is there, a module makes the parameters of its call and no others.
        params = module.lazy_init(rng, shapes[0], jax.eval_shape(lambda: memory), (), shapes[1])
        return memory, depends, params
    memory, depends, params = prepare(query, places)
    leaves, tree = jax.tree.flatten(memory)
    depends = [bool(one) for one in depends]
    moving, still = ([leaf for leaf, one in zip(leaves, depends) if one is which] for which in (True, False))

    def forward(query, moving, still, params, places):
        left = {True: iter(moving), False: iter(still)}
        return module.apply(params, query, tree.unflatten(next(left[one]) for one in depends), (), places).context

    def forward_and_backward(query, moving, still, params, places, cotangent):
        context, gradient = jax.vjp(lambda *inputs: forward(*inputs, still, params, places), query, moving)
        return context, gradient(cotangent)
    inputs = query, moving, still, params, places
    return {'forward': Program.of(forward, *inputs),
            'forward_and_backward': Program.of(forward_and_backward, *inputs, cotangent)}, projections(params)


def projections(params: Any) -> list[Array]:
    """The kernels among the parameters of a call that read its query or write its context, as matrices."""
    matrices = []
    for path, leaf in jax.tree.leaves_with_path(params):
        if path[-1].key == 'kernel' and FEATURES in (leaf.shape[0], leaf.shape[-1]):
            reads_query = leaf.shape[0] == FEATURES
            matrices.append(leaf.reshape(FEATURES, -1) if reads_query else leaf.reshape(-1, FEATURES))
    return matrices


def projection_programs(matrices: Sequence[Array], length: int, batch: int) -> dict[str, Program]:
    """The same products alone, with the gradient of what is projected."""
    def forward(inputs, matrices):
        return [x @ matrix for x, matrix in zip(inputs, matrices, strict=True)]

    def forward_and_backward(inputs, matrices, cotangents):
        outputs, gradient = jax.vjp(lambda inputs: forward(inputs, matrices), inputs)
        return outputs, gradient(cotangents)
    inputs, cotangents = ([jax.random.normal(jax.random.key(0), (batch, length, matrix.shape[axis]))
                           for matrix in matrices] for axis in (0, 1))
    return {'forward': Program.of(forward, inputs, matrices),
            'forward_and_backward': Program.of(forward_and_backward, inputs, matrices, cotangents)}


def measure(chosen: Sequence[Row], lengths: Sequence[int], batch: int, rounds: int, track: Track) -> list[dict]:
    """Compiles and warms everything, then goes round all of it several times, so that what disturbs one disturbs all.

    Returns:
      one record a row: for each of DIRECTIONS a list with an entry a length, and the exponent between the last two.
      `milliseconds` is the median over rounds of the `whole` call less its `projections`, which stand beside it.
    """
    whole, alone, same = {}, {}, {}
    cases = [(row, length) for row in chosen for length in lengths]
    with concurrent.futures.ThreadPoolExecutor(compiling.cores()) as pool:  # the compiler itself uses one core
        made = [pool.submit(programs, *case, batch) for case in cases]
        for case, future in track(list(zip(cases, made, strict=True)), 'compiling'):
            whole[case], matrices = future.result()
            alone[case] = case[1], *(matrix.shape for matrix in matrices)
            if matrices and alone[case] not in same:  # one for all rows that project alike
                same[alone[case]] = projection_programs(matrices, case[1], batch)
    everything = {(case, direction): program for found in (whole, same) for case, pair in found.items()
                  for direction, program in pair.items()}
    calls, expected = {}, 0.0
    for key in track(list(everything), 'warming up'):
        once = everything[key].seconds()
        if once < LONG:
            once = everything[key].seconds()
        calls[key] = min(MOST_CALLS, math.ceil(SAMPLE / once))
        expected += once * calls[key]
    times = {key: [] for key in everything}
    words = f'timing, about {rounds * expected / 60:.1f} minutes'
    for key in track([key for _ in range(rounds) for key in everything], words):
        times[key].append(1000 * everything[key].seconds(calls[key]))

    def entry(case, direction):
        total, projected = times[case, direction], times.get((alone[case], direction), [0.0] * rounds)
        between = [one - other for one, other in zip(total, projected, strict=True)]
        return {'length': case[1], 'milliseconds': statistics.median(between), 'lowest': min(between),
                'highest': max(between), 'whole': statistics.median(total), 'projections': statistics.median(projected),
                'bytes': whole[case][direction].bytes()}
    records = []
    for row in chosen:
        entries = {direction: [entry((row, length), direction) for length in lengths] for direction in DIRECTIONS}
        records.append({**row._asdict(), 'causal': causal(row.mixer), 'batch': batch, 'features': FEATURES,
                        'rounds': rounds, **entries,
                        'exponents': {direction: exponent(entries[direction]) for direction in DIRECTIONS}})
    return records


def exponent(entries: Sequence[dict]) -> float | None:
    """`log(t2 / t1) / log(T2 / T1)` of the last two lengths; None where there is one, or no time above zero."""
    if len(entries) < 2 or min(entry['milliseconds'] for entry in entries[-2:]) <= 0.0:
        return None
    first, last = entries[-2:]
    return math.log(last['milliseconds'] / first['milliseconds']) / math.log(last['length'] / first['length'])
