"""How well do a fixed vector, attention and a Transformer translate? BLEU of several seeds, with and by source length.

    python -m experiments.translation --corpus multi30k --arms transformer,additive,none --seeds 1,2,3
    python -m experiments.translation --corpus pydocs
    python -m experiments.translation                        only writes the cards of the runs that are there

Each run trains by its config file, chooses the length penalty on dev, reads the test set once and writes a line into
results.jsonl. Started again, it goes on where it stopped and skips what is finished. README.md and its picture are made
anew from the lines: mean and standard deviation over seeds, every run, BLEU by source length, signatures, times. Times
are those of the machine that a line names; its share of idle time is said, too, since a run beside other work takes
longer.
"""

import argparse
import os
import pathlib
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from configs import multi30k, pydocs, tanaka
from experiments.translation import picture
from research import build, compiling, evaluate, memory
from research.errors import UserError, one_line_errors
from research.evaluation import translation
from research.study import arms, records
from research.train import Trainer, environment
from research.training.report import read_jsonl
from research.translator import Translator

PENALTIES = (0.0, 0.5, 1.0, 1.5)  # tried on dev; powers of the length
FOLDER = pathlib.Path(__file__).parent


class Corpus(NamedTuple):
    """What is translated, and by which models."""

    title: str
    get_config: Callable[[str | None], Any]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]


CORPORA = {
    'multi30k': Corpus('Multi30k, German to English', multi30k.get_config, ('transformer', 'additive', 'none'),
                       (1, 2, 3)),
    'pydocs': Corpus('Python documentation, English to French', pydocs.get_config, ('transformer', 'additive', 'none'),
                     (1,)),
    'tanaka': Corpus('Tanaka corpus, English to Japanese', tanaka.get_config, ('additive', 'none'), (1,)),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog='experiments.translation', description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--corpus', choices=CORPORA, help='what to run (default: nothing, only the cards are written)')
    parser.add_argument('--arms', help='joined by commas (default: all of the corpus)')
    parser.add_argument('--seeds', help='joined by commas (default: those of the corpus)')
    parser.add_argument('--steps', type=int, help='fewer steps than the config has: a rehearsal, which is not recorded')
    parser.add_argument('--workdir', default='runs/translation')
    parser.add_argument('--results', default=str(FOLDER), help='where results.jsonl and README.md are')
    options = parser.parse_args(arguments)
    with one_line_errors('experiments.translation'):
        compiling.keep_programs()
        memory.keep_freed()
        results = pathlib.Path(options.results)
        if options.corpus is not None:
            corpus = CORPORA[options.corpus]
            names = options.arms.split(',') if options.arms else corpus.arms
            seeds = [int(word) for word in options.seeds.split(',')] if options.seeds else corpus.seeds
            for name in names:
                if name not in corpus.arms:
                    raise UserError(f'{options.corpus} has no arm {name!r}. It has: {", ".join(corpus.arms)}')
                run(options.corpus, name, seeds, pathlib.Path(options.workdir), results, options.steps)
        print(write_cards(results))


def run(name: str, arm: str, seeds: Sequence[int], workdir: pathlib.Path, results: pathlib.Path,
        steps: int | None) -> None:
    """What is missing of an arm; its seeds share their programs."""
    config = CORPORA[name].get_config(arm)
    if steps is not None:
        config = arms.override(config, {'training.steps': steps, 'training.evaluate_every': steps,
                                        'training.checkpoint_every': steps})
    there = {line['run'] for line in records.read_lines(results / 'results.jsonl')}
    missing = [seed for seed in seeds if build.digest(build.with_seed(config, seed)) not in there]
    trainer = Trainer(config) if missing else None
    for seed in missing:
        print(f'{name}, {arm}, seed {seed}', flush=True)
        line = one_run(trainer, name, arm, seed, workdir / name / arm / str(seed))
        if steps is None:
            records.append_line(results / 'results.jsonl', line)
            write_cards(results)


def one_run(trainer: Trainer, name: str, arm: str, seed: int, workdir: pathlib.Path) -> dict[str, Any]:
    """Trains one seed, chooses its length penalty on dev, and tests it."""
    new = not (workdir / 'metrics.jsonl').exists()
    before = time.perf_counter(), _cpu_seconds(), trainer.compile_seconds
    trainer.run(workdir, seed)
    trained = time.perf_counter(), _cpu_seconds(), trainer.compile_seconds
    lines, _ = read_jsonl(workdir / 'metrics.jsonl')
    config, kept = trainer.config, evaluate.Run.load(str(workdir))
    decoding, texts = build.decoding(config), trainer.data.corpus
    by_penalty = {}
    for penalty in PENALTIES:
        translator = Translator(kept.model, kept.source, kept.target, decoding._replace(length_penalty=penalty))
        outputs = [found.text for found in translator(kept.params, [pair.source for pair in texts.dev])]
        by_penalty[penalty] = translation.bleu(outputs, evaluate.references(texts.dev), trainer.tokenizer)
    best = max(PENALTIES, key=by_penalty.get)
    decoding = decoding._replace(length_penalty=best)
    begin = time.perf_counter()
    translator = Translator(kept.model, kept.source, kept.target, decoding)
    result = evaluate.evaluate(translator, kept.params, texts.test, build.length_edges(config), trainer.tokenizer)
    testing = time.perf_counter() - begin
    total, without = build.parameters(trainer.model)
    wall = trained[0] - before[0]
    return {
        'corpus': name, 'arm': arm, 'seed': seed, 'run': build.digest(build.with_seed(config, seed)),
        'parameters': total, 'parameters_non_embedding': without, 'steps': trainer.loop.steps, 'step': kept.step,
        'averaged': kept.averaged, 'decoding': decoding.describe(),
        'dev': {f'{penalty:g}': round(value, 2) for penalty, value in by_penalty.items()},
        'metrics': [score._asdict() for score in result.metrics], 'by_length': result.by_length,
        'seconds': {'train': round(sum(line['seconds'] for line in lines if line['kind'] == 'train'), 1),
                    'dev': round(sum(line['seconds'] for line in lines if line['kind'] != 'train'), 1),
                    'compile': round(trained[2] - before[2], 1), 'whole': round(wall, 1), 'test': round(testing, 1)},
        # Of the cores' time: well below 1 where the run shared a machine without an accelerator; None where it did not
        # train in one piece.
        'share_of_cores': round((trained[1] - before[1]) / wall / (os.cpu_count() or 1), 2) if new else None,
        **environment()}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def write_cards(results: pathlib.Path) -> str:
    """README.md and by_length.png of the recorded runs; returns the former."""
    lines = records.read_lines(results / 'results.jsonl')
    text = markdown(lines)
    (results / 'README.md').write_text(text, encoding='utf-8')
    if lines:
        picture.draw({name: corpus.title for name, corpus in CORPORA.items()}, lines, results / 'by_length.png')
    return text


def markdown(lines: Sequence[dict[str, Any]]) -> str:
    """The cards of all corpora that have a run."""
    parts = ['# Translation', '', 'Made by `python -m experiments.translation`; each run stands in results.jsonl. BLEU '
             "is sacreBLEU's of detokenised outputs of beam search on the test set, which was read once, with the "
             'length penalty that was best on dev.', '']
    if lines:
        parts += ['![BLEU by source length](by_length.png)', '']
    for name, corpus in CORPORA.items():
        own = [line for line in lines if line['corpus'] == name]
        if own:
            parts += card(corpus, own)
    return '\n'.join(parts)


def card(corpus: Corpus, lines: Sequence[dict[str, Any]]) -> list[str]:
    """One corpus: arms, runs, lengths, signatures."""
    by_arm = {arm: sorted((line for line in lines if line['arm'] == arm), key=lambda line: line['seed'])
              for arm in corpus.arms}
    by_arm = {arm: own for arm, own in by_arm.items() if own}
    names = [metric['name'] for metric in lines[0]['metrics']]
    parts = [f'## {corpus.title}', '', f'| arm | seeds | {" | ".join(names)} | parameters | minutes |',
             f'|---|---|{"---|" * len(names)}---|---|']
    for arm, own in by_arm.items():
        scores = [_mean_sd([line['metrics'][index]['value'] for line in own]) for index in range(len(names))]
        minutes = ', '.join(f'{_minutes(line):.0f}{_star(line)}' for line in own)
        parts.append(f'| {arm} | {len(own)} | {" | ".join(scores)} | {own[0]["parameters"]:,} | {minutes} |')
    parts += ['', 'Mean and standard deviation over seeds. Minutes of each run: training, measuring dev and compiling; '
              '* = it shared the machine or was stopped on the way.', '',
              '| arm | seed | BLEU (95 % interval over sentences) | search | parameters kept | dev BLEU by length '
              'penalty |', '|---|---|---|---|---|---|']
    for arm, own in by_arm.items():
        for line in own:
            bleu = line['metrics'][0]
            kept = f'step {line["step"]} of {line["steps"]}' + (f', {line["averaged"]}' if line['averaged'] else '')
            dev = ', '.join(f'{penalty}: {value}' for penalty, value in line['dev'].items())
            parts.append(f'| {arm} | {line["seed"]}{_star(line)} | {bleu["value"]:.2f} ({bleu["low"]:.2f} to '
                         f'{bleu["high"]:.2f}) | {line["decoding"]} | {kept} | {dev} |')
    rows = {index: row for index, row in enumerate(lines[0]['by_length']) if row['count']}
    heads = [f'{row["low"]}-{row["high"]} (n = {row["count"]})' for row in rows.values()]
    parts += ['', 'BLEU by source words, mean over seeds:', '', f'| arm | {" | ".join(heads)} |',
              f'|---|{"---|" * len(heads)}']
    for arm, own in by_arm.items():
        cells = [f'{statistics.fmean(line["by_length"][index]["bleu"] for line in own):.1f}' for index in rows]
        parts.append(f'| {arm} | {" | ".join(cells)} |')
    signatures = dict.fromkeys(metric['signature'] for line in lines for metric in line['metrics'])
    machines = dict.fromkeys(line['machine'] for line in lines)
    return [*parts, '', f'Signatures: {", ".join(f"`{signature}`" for signature in signatures)}. Machine: '
            f'{"; ".join(machines)}.', '']


def _minutes(line):
    seconds = line['seconds']
    return (seconds['train'] + seconds['dev'] + seconds['compile']) / 60


def _star(line):
    share, on_cores = line['share_of_cores'], line['machine'].endswith(', cpu')
    return ' *' if share is None or (on_cores and share <= 0.7) else ''


def _mean_sd(values):
    spread = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
    return f'{statistics.fmean(values):.2f}{spread}'


if __name__ == '__main__':
    main()
