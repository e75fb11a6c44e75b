"""What a study is: a question, the arms that are compared, the tasks they are compared on, and what was expected.

    base       one arm; every other one is a declared difference to it
    task       one config file with values set: every arm learns it, with the same data, batches and steps
    profile    how much is run: seeds, rates, steps
    expected   what is held against the runs; written down before them

A study is written in a short file of experiments/; research/study/runner.py runs it. Configs are opaque here.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from research.study.records import Planned, Score

Runs = Mapping[tuple[str, str], list[dict]]  # (task, arm) -> its runs by seed

ACCURACY = Score('accuracy', 'exactly right', '%', True, 0.0, 'right')
TOKEN_ACCURACY = Score('token_accuracy', 'symbols right, given the ones before', '%', True, 0.0, 'tokens_right')
BLEU = Score('bleu', 'BLEU', 'BLEU', True, 0.0, 'bleu')


class Arm(NamedTuple):
    """One thing that is compared: the words that choose it in a config file, and the keys it declares to change."""

    name: str
    summary: str               # one line: what it reads
    words: str                 # after the colon of --config
    declares: tuple[str, ...]  # dotted keys; one covers everything below it
    control: bool = False      # is there to be beaten: no claim is made of it
    changes: tuple[tuple[str, Any], ...] = ()  # values at dotted keys, after the words
    tasks: tuple[str, ...] = ()  # where it takes part; () = everywhere
    free: tuple[str, ...] = ()   # dotted keys of the size that meets the budget; () = those of the study


class Task(NamedTuple):
    """One setting in which arms are compared."""

    name: str
    summary: str                                # one line
    get_config: Callable[[str | None], Any]     # of a config file
    changes: Mapping[str, Any] = {}             # values at dotted keys, the same for every arm
    floor: float | None = None                  # the score of guessing, where it is known
    probe: Callable[[Any, Any, list], dict[str, float]] | None = None  # (trainer, params, test pairs) -> more scores


class Profile(NamedTuple):
    """How much of a study is run.

    The arms of the first `claims` planned comparisons are the main ones. Arms that are not have `other_seeds` seeds and
    take the rate of the base (marked `rate_not_tuned`).
    """

    seeds: int                        # of the main arms
    changes: Mapping[str, Any]        # dotted keys, of every task and arm
    note: str = ''                    # one line for the card; '' = none
    test_sample: int | None = None    # so many test pairs, spread evenly; None = all
    claims: int | None = None         # so many of the planned comparisons are tested; None = all, 0 = it describes
    rates: tuple[float, ...] = ()     # tried for each main arm; () = every arm has the one of its config
    tuning_seeds: tuple[int, ...] = (0,)
    other_seeds: int | None = None    # of the arms that are not main; None = as many
    tasks: tuple[str, ...] = ()       # which are run; () = all
    ends_at_threshold: bool = False   # a run ends when two measurements in a row reach the threshold of the study
    hours: float | None = None        # on the machine that it is made for


FEW_RATES = (1e-3, 3e-3, 1e-2)                # learning rates that two cores have the time to try
ALL_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)    # by protocol


def rehearsal(changes: Mapping[str, Any], seeds: int = 2, **more: Any) -> Profile:
    """Every part runs, nothing is learned."""
    return Profile(seeds, changes, 'A rehearsal: every part runs, nothing is learned.', **more)


def whole(changes: Mapping[str, Any], **more: Any) -> Profile:
    """All of the protocol, for an accelerator: ten seeds, and five rates that are tried with two others."""
    return Profile(10, changes, rates=ALL_RATES, tuning_seeds=(0, 1), **more)


class NotMeasuredError(Exception):
    """Raised by an expectation that the runs say nothing about; the message says why."""


class NotDecidableError(Exception):
    """Raised by an expectation that needs more runs than there are; the message holds what was measured."""


class Expectation(NamedTuple):
    """What is expected, written down before the runs, and how it is read off them."""

    text: str
    needs: tuple[tuple[str, str], ...]             # (task, arm) whose runs it needs
    measure: Callable[[Runs], tuple[bool, str]]    # -> met, and the numbers; may raise the two errors above


class Budget(NamedTuple):
    """What arms agree in, and the size that is free to make them agree."""

    kind: str               # parameters (without embeddings), flops (a target symbol) or seconds (of training)
    free: tuple[str, ...]   # dotted keys that get one whole number
    tolerance: float        # so far may an arm be from the base, as a share
    multiple: int = 1       # sizes are multiples of it: of the heads that share a width


def parameters(*free: str, multiple: int = 1) -> Budget:
    """The arms have the parameters of the base, within 1 %, by a size such as 'encoder.hidden'."""
    return Budget('parameters', free, 0.01, multiple)


def flops(*free: str, multiple: int = 1) -> Budget:
    """The arms cost the FLOPs of the base to train on a target symbol, within 2 %."""
    return Budget('flops', free, 0.02, multiple)


def seconds() -> Budget:
    """The arms are trained as long as the base, within 2 % by a measurement of their steps."""
    return Budget('seconds', ('training.steps',), 0.02)


class Study(NamedTuple):
    """A question and everything that is done to answer it."""

    name: str
    question: str
    tasks: tuple[Task, ...]
    arms: tuple[Arm, ...]                # controls first
    base: str                            # the arm that no words choose and that changes nothing
    profiles: Mapping[str, Profile]
    expectations: tuple[Expectation, ...]
    planned: tuple[Planned, ...] = ()    # comparisons, most important first
    score: Score = ACCURACY
    phase: bool = False                  # learning has a sudden breakthrough: fewer than ten seeds make no claim
    threshold: float | None = None       # of the accuracy on dev, for steps to threshold
    budget: Budget | None = None
    first_seed: int = 10                 # of the runs: never one that was used to tune
    notes: tuple[str, ...] = ()

    def arm(self, name: str) -> Arm:
        """One of the arms."""
        return next(arm for arm in self.arms if arm.name == name)

    def task(self, name: str) -> Task:
        """One of the tasks."""
        return next(task for task in self.tasks if task.name == name)

    def takes_part(self, task: str) -> tuple[Arm, ...]:
        """The arms on a task, in their order."""
        return tuple(arm for arm in self.arms if not arm.tasks or task in arm.tasks)

    def claimed(self, profile: Profile) -> tuple[Planned, ...]:
        """The planned comparisons that the profile tests."""
        tasks = profile.tasks or tuple(task.name for task in self.tasks)
        planned = tuple(one for one in self.planned if one.task in tasks)
        return planned if profile.claims is None else planned[:profile.claims]

    def is_main(self, profile: Profile, task: str, arm: str) -> bool:
        """Whether an arm's runs on a task are those of a tested comparison; where none is tested, every arm's are."""
        claimed = self.claimed(profile)
        return not claimed or any(one.task == task and arm in (one.arm, one.against) for one in claimed)
