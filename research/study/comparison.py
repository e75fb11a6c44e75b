"""Which arm is better, by how much, and whether that may be said: differences to the base and planned comparisons.

Runs are paired by seed. Only what was planned before the runs is tested; every other arm is set beside the base with an
interval that describes.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from research.study import records as record_file
from research.study import steps
from research.study.records import Planned, Score, StudyInfo
from research.study.statistics import Difference, Verdict, paired_difference, verdicts

DESCRIBED = 'not planned: describes'


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
    return verdicts(turned, len(study.planned), study.phase) if turned else {}


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
