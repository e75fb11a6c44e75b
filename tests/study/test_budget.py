"""Budgets: a free size is the whole number that brings an arm nearest to the base, or the study is refused."""

import functools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from configs import profiles, studies
from research import build
from research.errors import UserError
from research.study import arms, budget, definition, runner, testing, ways
from research.study.definition import Arm, Profile, Study, Task
from research.study.runner import Unit

READER, MIXERS = ('decoder.reader',), ('encoder.mixer', 'decoder.mixer')
WIDTHS = ('encoder.features', 'decoder.features')
HIDDEN = ('encoder.hidden', 'decoder.hidden')


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(strategies.lists(strategies.integers(0, 50), min_size=1, max_size=60), strategies.integers(1, 50),
                  strategies.integers(1, 3000), strategies.integers(1, 5))
def test_the_size_is_the_nearest_of_all_multiples(steps, last, target, multiple):
    """A cost that rises anyhow, by `last` beyond the steps that are given."""
    rises = np.concatenate([[1], steps, np.full(5 * (3000 + len(steps)), last)]).cumsum()

    def cost(size):
        return int(rises[size]) if size < len(rises) else int(rises[-1]) + last * (size - len(rises) + 1)
    found = budget.solve(cost, target, 1e9, 'it', multiple)
    everything = range(multiple, 3000 * multiple + 1, multiple)  # beyond, a cost is above any target
    assert found in everything
    assert abs(cost(found) - target) == min(abs(cost(size) - target) for size in everything)


@pytest.mark.parametrize(('target', 'multiple', 'size'), [
    (1, 1, 1), (4, 1, 2), (5, 1, 2), (7, 1, 3), (6, 1, 2), (10_000, 1, 100), (10_000, 16, 96), (10_400, 8, 104),
    (150, 8, 8), (170, 8, 16), (2 ** 31, 1, 46341)])
def test_a_square_is_met_by_its_root(target, multiple, size):
    assert budget.solve(lambda size: size ** 2, target, 10, 'it', multiple) == size


def test_a_budget_that_cannot_be_met_is_refused_and_the_message_says_by_how_much():
    def cost(size):
        return 1000 * size + 50
    assert budget.solve(cost, 1000, 0.0501, 'it') == 1  # 5 % off
    with pytest.raises(UserError) as caught:
        budget.solve(cost, 1000, 0.0499, "arm 'wide' on copy, by decoder.hidden,")
    assert str(caught.value).startswith(
        "arm 'wide' on copy, by decoder.hidden, cannot meet the budget: at the nearest size, 1, it has 1,050 where the "
        'base has 1,000 (+5.0 %, and at most 4.99 % is allowed)')
    with pytest.raises(UserError, match=r'nearest size, 20, it has 20,050 where the base has 26,000 \(-22\.9 %'):
        budget.solve(cost, 26_000, 0.2, 'it', 20)


def test_a_budget_beyond_the_largest_size_is_refused():
    with pytest.raises(UserError, match=r'-\d+\.\d %, and at most 1 % is allowed'):
        budget.solve(float, 1e9, 0.01, 'it')


# ---------------------------------------------------------------------------------------------------- of real models

RECURRENT = Study(
    name='recurrent', question='', tasks=(Task('copy', '', functools.partial(studies.copying, 'copy')),),
    arms=(Arm('none', '', 'none', READER, control=True), Arm('additive', '', '', ()), Arm('dot', '', 'dot', READER),
          Arm('multi_head_dot', '', 'multi_head_dot', READER, free=WIDTHS[:1]),  # its heads share the other one
          Arm('lstm', '', 'additive+cell=lstm', ('encoder.cell', 'decoder.cell')),
          Arm('transformer', '', 'transformer', ('encoder', 'decoder'), free=HIDDEN,
              changes=tuple((key, 48) for key in WIDTHS))),
    base='additive', expectations=(), profiles={'small': Profile(2, profiles.rehearsal() | profiles.MADE_UP)})
TRANSFORMERS = RECURRENT._replace(
    name='transformers', tasks=(Task('reverse', '', studies.heads),), base='multi_head',
    arms=(Arm('multi_head', '', '', ()), Arm('multi_query', '', 'mixer=multi_query', MIXERS),
          Arm('linear', '', 'mixer=linear', MIXERS), Arm('additive', '', 'additive', READER),
          Arm('none', '', 'none', READER)))


def counted(config):
    """Parameters without embeddings, and FLOPs to train on a symbol, of what a config builds."""
    data = build.data(config)
    model = build.model(config, len(data.source), len(data.target))
    S, T, _ = testing.sizes(data, data.corpus.test)
    return {'parameters': build.parameters(model)[1], 'flops': 3 * build.flops(model, S, T) / T}


@pytest.mark.parametrize(('study', 'limit'), [
    (RECURRENT, definition.parameters(*WIDTHS)), (TRANSFORMERS, definition.flops(*HIDDEN, multiple=2))],
    ids=['parameters', 'flops'])
def test_arms_with_a_budget_agree_with_the_base_in_it(study, limit):
    profile, said = study.profiles['small'], []
    task = study.tasks[0].name
    sizes = runner.solved(study._replace(budget=limit), profile, said.append)
    free = {arm.name: arm.free or limit.free for arm in study.arms}
    assert sizes.keys() == {f'{task}/{arm.name}' for arm in study.arms if arm.name != study.base}
    assert len(said) == len(sizes)
    before, after = (runner.settled(study, profile, found).configs for found in ({}, sizes))
    allowed = {'parameters': 0.01, 'flops': 0.02}[limit.kind]
    target = counted(after[Unit(task, study.base)])[limit.kind]
    off = {}
    for arm in study.arms:
        unit = Unit(task, arm.name)
        assert counted(after[unit])[limit.kind] == pytest.approx(target, rel=allowed), unit
        off[arm.name] = abs(counted(before[unit])[limit.kind] / target - 1)
        changed = arms.differences(before[unit], after[unit])
        assert set(changed) <= set(free[arm.name]), unit
        assert len(set(changed.values())) <= 1
        assert all(size % limit.multiple == 0 for size in changed.values())
    assert max(off.values()) > 0.05, 'there was something to solve'
    assert off[study.base] == 0


def test_without_a_budget_nothing_is_changed():
    assert runner.solved(TRANSFORMERS, TRANSFORMERS.profiles['small'], print) == {}


def test_an_arm_that_cannot_meet_the_budget_of_the_study_is_refused_by_name():
    """Recurrent sides of the same width in steps of 64 are far too coarse."""
    study = RECURRENT._replace(budget=definition.parameters(*WIDTHS, multiple=64))
    with pytest.raises(UserError, match=r"arm 'none' on copy, by encoder\.features = decoder\.features, cannot meet"):
        runner.solved(study, study.profiles['small'], print)


def test_a_budget_of_seconds_is_met_by_steps(monkeypatch):
    """A step of the arms takes 1, 1/2 and 1/8 of a second as measured, and one of the base 1/4."""
    seconds = {'none': 0.125, 'additive': 0.25, 'dot': 0.5, 'multi_head_dot': 1.0}
    monkeypatch.setattr(ways, 'seconds_per_step', lambda trainer: seconds[trainer.config.decoder.reader.name])
    readers = tuple(arm._replace(free=()) for arm in RECURRENT.arms[:4])
    study = RECURRENT._replace(arms=readers, budget=definition.seconds())
    profile = Profile(2, profiles.budget(400) | profiles.MADE_UP)
    sizes = runner.solved(study, profile, lambda text: None)
    assert sizes == {'copy/none': {'training.steps': 800}, 'copy/dot': {'training.steps': 200},
                     'copy/multi_head_dot': {'training.steps': 100}}
    assert runner.settled(study, profile, sizes).configs[Unit('copy', 'dot')].training.steps == 200
    seconds['multi_head_dot'] = 0.25 * 400 / 1.5  # one step is too few by a third, and two are too many
    with pytest.raises(UserError, match=r"'multi_head_dot' on copy, by training\.steps, cannot meet .* at most 2 % is"):
        runner.solved(study, profile, lambda text: None)


def test_a_budget_of_seconds_is_met_by_no_other_size():
    study = RECURRENT._replace(budget=definition.seconds())
    with pytest.raises(UserError, match=r"arm 'multi_head_dot' names encoder\.features as its free size, but a budget"):
        runner.solved(study, study.profiles['small'], print)
