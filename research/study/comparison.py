"""Which arm is better, by how much, and whether that may be said: differences to the base and planned comparisons.

Runs are paired by seed. Only what was planned before the runs is tested; every other arm is set beside the base with an
interval that describes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from research.evaluation import translation
from research.study import records as record_file
from research.study import steps
from research.study.records import Beside, Planned, Score, StudyInfo
from research.study.statistics import ALPHA, Difference, Verdict, paired_difference, verdicts
from research.study.variance import runs_to_show, two_way_bootstrap

DESCRIBED = 'not planned: describes'
RESAMPLES = 2000  # of seeds and test pairs at once: an interval that is shown and not tested


class Compared(NamedTuple):
    """One arm beside another one on a task."""

    task: str
    arm: str
    against: str
    difference: Difference | None  # arm - against, over the seeds that both have; None without any
    verdict: Verdict | None        # None where the comparison was not planned

    @property
    def text(self) -> str:
        """What may be said; the interval stands beside it, in the unit of the score."""
        if not self.verdict:
            return DESCRIBED
        whole = self.verdict.word in ('exploratory', 'too few runs')  # they say what is missing
        return self.verdict.text if whole else f'{self.verdict.word} (n = {self.verdict.difference.n})'

    @property
    def turned(self) -> 'Compared':
        """The same comparison, seen from the other arm."""
        verdict = self.verdict and self.verdict._replace(
            word={'better': 'worse', 'worse': 'better'}.get(self.verdict.word, self.verdict.word),
            difference=_negative(self.verdict.difference))
        return Compared(self.task, self.against, self.arm, self.difference and _negative(self.difference), verdict)


def value(score: Score, run: dict) -> float:
    """The score of a run; a failed run counts as the study says."""
    return run['scores'][score.name] if run['status'] == 'finished' else score.failed


def first_step(run: dict, threshold: float) -> float | None:
    """When accuracy on dev first reached a threshold, twice in a row; None where it did not within the run's steps."""
    points = [(row['step'], row['dev_accuracy']) for row in run['curve'] if row['dev_accuracy'] is not None]
    return steps.steps_to_threshold(*zip(*points, strict=True), threshold, run['steps']) if points else None


def compare(study: StudyInfo, records: Sequence[dict]) -> list[Compared]:
    """All planned comparisons, in their order, and then each other arm beside the base, task by task.

    An arm that the base was planned to be compared with is no other one: `of_task` turns that comparison round.

    Better and worse are said of the arm: a loss is turned round first, so that a positive difference is an improvement
    in `verdict` and a plain difference of scores in `difference`.

    Raises UserError as `records.select` does.
    """
    runs = {task.name: record_file.select(study, task.name, records) for task in study.tasks}
    others = [Planned(task.name, name, study.base) for task in study.tasks for name in task.arms if name != study.base]
    planned = {*study.planned, *(Planned(one.task, one.against, one.arm) for one in study.planned)}
    others = [one for one in others if one not in planned and study.base in runs[one.task]]
    differences = {one: _difference(study.score, runs[one.task], one) for one in (*study.planned, *others)}
    said = said_of(study, {one: differences[one] for one in study.planned})
    return [Compared(*one, differences[one], said.get(one)) for one in (*study.planned, *others)]


def said_of(study: StudyInfo, differences: dict[Planned, Difference | None]) -> dict[Planned, Verdict]:
    """The verdict on every planned comparison that has runs; all that were planned count."""
    sign = 1 if study.score.higher else -1
    turned = {one: found if sign > 0 else _negative(found) for one, found in differences.items() if found is not None}
    found = verdicts(turned, len(study.planned), study.phase) if turned else {}
    return {one: _with_sentences(verdict, study.beside.get(one), study.score.name) for one, verdict in found.items()}


def _with_sentences(verdict: Verdict, beside: Beside | None, score: str) -> Verdict:
    """Of translations a claim also needs that the sentences of the median seeds say the same, by BLEU."""
    sentences = beside.sentences if beside else None
    if verdict.word not in ('better', 'worse') or (sentences is None and score != 'bleu'):
        return verdict
    agree = sentences is not None and sentences.p <= ALPHA and (sentences.difference > 0) == (verdict.word == 'better')
    return verdict if agree else verdict._replace(word='no difference shown')


def beside(study: StudyInfo, records: Sequence[dict], references: Mapping[str, Sequence[tuple[str, ...]]],
           tokenizer: str | None) -> dict[Planned, Beside]:
    """What else is known of each planned comparison that has runs.

    The test of sentences is of the two runs whose BLEU on dev is the median of their arm (of an even number the lower
    one), by approximate randomisation; an arm whose runs all failed has none. `both` and `needed` are of the pairs of
    seeds.

    Args:
      study: whose planned comparisons.
      records: its runs.
      references: of the test sentences of each task that was translated.
      tokenizer: of sacreBLEU; None where nothing was translated.
    """
    found = {}
    for one in study.planned:
        runs = record_file.select(study, one.task, records)
        mine, theirs = ({run['seed']: run for run in runs[name]} for name in (one.arm, one.against))
        seeds = sorted(mine.keys() & theirs.keys())
        if not seeds:
            continue
        pairs = [(mine[seed], theirs[seed]) for seed in seeds]
        differences = [value(study.score, a) - value(study.score, b) for a, b in pairs]
        needed = runs_to_show(differences, comparisons=len(study.planned)) if len(pairs) > 1 else None
        middle = [_median(runs[name]) for name in (one.arm, one.against)] if one.task in references else [None]
        sentences = None if None in middle else translation.approximate_randomisation(
            *(run['outputs'] for run in middle), references[one.task], tokenizer)
        found[one] = Beside(sentences, _both(study.score, pairs), needed)
    return found


def _median(runs):
    """The run whose BLEU on dev is in the middle; None where all failed."""
    finished = sorted((run for run in runs if run['status'] == 'finished'), key=lambda run: run['dev']['bleu'])
    return finished[(len(finished) - 1) // 2] if finished else None


def _both(score, pairs):
    """Of scores that are a share of right test pairs, which are known one by one."""
    if score.name != 'accuracy' or any(run['status'] == 'failed' or not run['right'] for pair in pairs for run in pair):
        return None
    a, b = (np.stack([record_file.right(run) for run in arm]) for arm in zip(*pairs, strict=True))
    return two_way_bootstrap(a, b, RESAMPLES)


def _negative(found: Difference) -> Difference:
    return found._replace(mean=-found.mean, low=-found.high, high=-found.low)


def _difference(score: Score, runs: dict[str, list[dict]], one: Planned) -> Difference | None:
    mine, theirs = ({run['seed']: value(score, run) for run in runs[name]} for name in (one.arm, one.against))
    seeds = sorted(mine.keys() & theirs.keys())
    return paired_difference([mine[seed] for seed in seeds], [theirs[seed] for seed in seeds]) if seeds else None


def of_task(compared: Iterable[Compared], task: str, against: str) -> dict[str, Compared]:
    """The comparisons with one arm on a task, by the other arm, and seen from that one."""
    return {one.arm: one for found in compared if found.task == task for one in (found.turned, found)
            if one.against == against}
