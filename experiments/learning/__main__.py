"""Does every variant learn what it is stated to learn? Steps to a threshold, three seeds each.

    python -m experiments.learning                          everything: hours
    python -m experiments.learning --names additive,delta --tasks copy,recall
    python -m experiments.learning --part 1/2 & python -m experiments.learning --part 2/2

For each variant and task three rates are tried with one seed; the one that gets to the threshold first, or else
nearest, is run with three fresh seeds. A run ends when it has reached the threshold. Started again, it skips what is
finished. Writes results.jsonl, a line a run, and README.md, the table. It describes: three seeds support no claim about
which is faster.
"""

import argparse
import functools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from experiments.learning.tasks import RATES, SEEDS, TUNING_SEED, Case, cases
from research import build, compiling, memory
from research.errors import DivergedError, UserError, one_line_errors
from research.study import arms, records
from research.train import Trainer, environment
from research.training.report import read_jsonl


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog='experiments.learning', description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--names', help='variants joined by commas (default: all)')
    parser.add_argument('--tasks', help='tasks joined by commas (default: all)')
    parser.add_argument('--part', default='1/1', help='K/N: every Nth case from the Kth on, for N processes at once')
    parser.add_argument('--steps', type=int, help='fewer steps than the task has: a rehearsal')
    parser.add_argument('--workdir', default='runs/learning')
    options = parser.parse_args(arguments)
    with one_line_errors('experiments.learning'):
        compiling.keep_programs()
        memory.keep_freed()
        everything = [case if options.steps is None else rehearsal(case, options.steps) for case in cases()]
        chosen = [case for case in everything if _chosen(options.names, case.name, [one.name for one in everything])
                  and _chosen(options.tasks, case.task, [one.task for one in everything])]
        workdir = pathlib.Path(options.workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        part, parts = _part(options.part)
        problems = []
        for number, case in enumerate(chosen[part - 1::parts], 1):
            print(f'{case.name}, {case.task}: {number} of {len(chosen[part - 1::parts])}, stated: {case.stated}',
                  flush=True)
            try:
                settle(case, workdir)
            except UserError as error:  # what stops one case does not stop the others
                problems.append(f'{case.name}, {case.task}: {error}')
                print(f'  cannot run: {error}', flush=True)
        table = markdown(everything, records.read_lines(workdir / 'results.jsonl'))
        if options.steps is not None:
            table = f'A rehearsal: {options.steps} steps a run, not those named below.\n\n{table}'
        (workdir / 'README.md').write_text(table, encoding='utf-8')
        print(table)
        if problems:
            raise UserError(f'cases that could not run: {len(problems)}; the first: {problems[0]}')


def rehearsal(case: Case, steps: int) -> Case:
    """The same case with fewer steps."""
    return case._replace(config=arms.override(case.config, {'training.steps': steps,
                                                            'training.checkpoint_every': steps}))


def settle(case: Case, workdir: pathlib.Path) -> None:
    """Runs what is missing of a case: the rates, then the seeds with the best of them."""
    make = functools.cache(lambda: Trainer(case.config))  # one set of programs for all runs, if there are any
    tried = [run(case, make, rate, TUNING_SEED, workdir) for rate in RATES]
    best = min(tried, key=lambda line: (line['steps_to_threshold'] or float('inf'), -line['accuracy']))
    for seed in SEEDS:
        run(case, make, best['rate'], seed, workdir)


def identity(case: Case, rate: float, seed: int) -> str:
    """The digest of the config of a run."""
    return build.digest(build.with_rate(build.with_seed(case.config, seed), rate))


def run(case: Case, make: Callable[[], Trainer], rate: float, seed: int, workdir: pathlib.Path) -> dict[str, Any]:
    """One run, or the line of results.jsonl that it has already."""
    digest = identity(case, rate, seed)
    for line in records.read_lines(workdir / 'results.jsonl'):
        if line['config'] == digest:
            return line
    folder, begin = workdir / 'runs' / digest, time.time()
    try:
        make().run(folder, seed, rate, console=False, enough=case.threshold)
        diverged = False
    except DivergedError:
        diverged = True
    measured = [line for line in read_jsonl(folder / 'metrics.jsonl')[0] if 'accuracy' in line]
    reached = [line['step'] for line in measured if line['accuracy'] >= case.threshold]
    line = {'name': case.name, 'task': case.task, 'stated': case.stated, 'threshold': case.threshold, 'rate': rate,
            'seed': seed, 'steps_to_threshold': min(reached, default=None), 'diverged': diverged,
            'accuracy': max((line['accuracy'] for line in measured), default=0.0),
            'seconds': round(time.time() - begin, 1), 'config': digest, **environment()}
    records.append_line(workdir / 'results.jsonl', line)
    print(f'  rate {rate:g}, seed {seed}: ' + (f'{line["steps_to_threshold"]} steps' if reached else
                                               f'not reached, {100 * line["accuracy"]:.1f} %')
          + f', {line["seconds"]:.0f} s', flush=True)
    return line


def markdown(everything: Sequence[Case], lines: Sequence[dict[str, Any]]) -> str:
    """One row a case that has all its runs with fresh seeds; lines of another config than the case's do not count."""
    rows = ['| variant | task | stated | found | rate | steps to threshold, by seed | accuracy % at the end, by seed |',
            '|---|---|---|---|---|---|---|']
    for case in everything:
        runs = sorted((line for line in lines if (line['name'], line['task']) == (case.name, case.task)
                       and line['seed'] in SEEDS
                       and line['config'] == identity(case, line['rate'], line['seed'])), key=lambda line: line['seed'])
        if len(runs) == len(SEEDS):
            count = sum(line['steps_to_threshold'] is not None for line in runs)
            found = {0: 'fails', len(runs): 'learns'}.get(count, f'{count} of {len(runs)} seeds')
            steps = ', '.join(str(line['steps_to_threshold'] or '-') for line in runs)
            accuracies = ', '.join(f'{100 * line["accuracy"]:.1f}' for line in runs)
            differs = '' if case.stated in ('open', found) else ' (**not as stated**)'
            rows.append(f'| {case.name} | {case.task} | {case.stated} | {found}{differs} | {runs[0]["rate"]:g} '
                        f'| {steps} | {accuracies} |')
    return '\n'.join([
        '# What learns', '',
        f'{len(rows) - 2} of {len(everything)} cases: readers on copy and reverse (length 2 to 12, 16 symbols, 64 '
        'units, at most 1,500 steps, 95 % of dev outputs exact), mixers on recall (4 pairs, 64 symbols, 32 positions, '
        'width 64, 2 layers, no source, at most 3,000 steps, 90 % of dev labels; memories on path chunked, windows of '
        '16), and windows and positions that cannot do it. What is stated was stated before any run. The rate is the '
        f'best of {len(RATES)} with one seed; steps are those of {len(SEEDS)} fresh seeds, counted every 100. It '
        f'describes: {len(SEEDS)} seeds support no claim about which is faster. Each run: results.jsonl (lines '
        'of a config that has changed since are left out here).', '', *rows]) + '\n'


def _chosen(wanted: str | None, name: str, known: Sequence[str]) -> bool:
    if wanted is None:
        return True
    for one in wanted.split(','):
        if one not in known:
            raise UserError(f'there is no {one!r}; known: {", ".join(dict.fromkeys(known))}')
    return name in wanted.split(',')


def _part(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition('/')
    if not (slash and part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise UserError(f'--part is {text!r}; it must be K/N with K from 1 to N, such as 1/2')
    return int(part), int(parts)


if __name__ == '__main__':
    main()
