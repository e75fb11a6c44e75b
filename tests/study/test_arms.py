import pytest

from configs import copy
from research.errors import UserError
from research.study import arms


def test_an_undeclared_difference_is_refused_by_name():
    base, arm = copy.get_config(), copy.get_config('dot')
    assert arms.check_declared('dot', base, arm, ('decoder.reader',)) == {
        'decoder.reader.energy_width': None, 'decoder.reader.name': 'dot'}
    quicker = arms.override(arm, {'training.learning_rate': 0.1})
    with pytest.raises(UserError, match=r"'dot' changes training\.learning_rate to 0\.1, which it does not declare"):
        arms.check_declared('dot', base, quicker, ('decoder.reader',))


def test_a_declared_key_must_differ():
    with pytest.raises(UserError, match=r"declares encoder, but nothing below it differs"):
        arms.check_declared('additive', copy.get_config(), copy.get_config(), ('encoder',))


def test_a_declared_key_covers_what_is_below_it_and_not_what_only_begins_alike():
    base = copy.get_config()
    wider = arms.override(base, {'decoder.reads_with': 'current'})
    with pytest.raises(UserError, match=r'decoder\.reads_with'):
        arms.check_declared('x', base, wider, ('decoder.read',))
    assert arms.check_declared('x', base, wider, ('decoder',)) == {'decoder.reads_with': 'current'}


def test_override_leaves_the_original_and_refuses_keys_that_are_not_there():
    base = copy.get_config()
    assert arms.override(base, {'training.steps': 3}).training.steps == 3
    assert base.training.steps != 3
    for key in ('training.stepps', 'trainning.steps'):
        with pytest.raises(UserError, match=key):
            arms.override(base, {key: 3})
