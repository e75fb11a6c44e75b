"""results.jsonl: what is written is read, and every kind of damage is named with file and line."""

import json
import pathlib
import re

import pytest

from research.errors import UserError
from research.study import records
from tests.study import made_up

ADDITIVE = made_up.ARMS[3]
RUN = made_up.run(ADDITIVE, 10)
BUCKET = {'low': 1, 'high': 2, 'count': 3, 'right': 3, 'tokens': 9, 'tokens_right': 9, 'loss': 1.0}


@pytest.fixture
def path(tmp_path) -> pathlib.Path:
    return tmp_path / 'results.jsonl'


def test_what_is_appended_is_read_in_order(path):
    written = [RUN, made_up.run(made_up.ARMS[0], 10), made_up.failed(ADDITIVE, 11)]
    for record in written:
        records.append(path, record)
    assert records.read(path) == written
    assert len(path.read_text().splitlines()) == 3


def test_no_file_is_no_runs(path):
    assert records.read(path) == []


def test_a_symbol_that_is_half_a_character_survives_the_file(path):
    odd = RUN | {'examples': [RUN['examples'][0] | {'source': ['\ud800'], 'answer': ['ü\u2028'], 'output': [],
                                                    'weights': [[[0.5, 0.5]]]}]}
    records.append(path, odd)
    assert records.read(path) == [odd]


def test_a_torn_last_line_is_left_out_and_said(path, capsys):
    records.append(path, RUN)
    whole = path.read_bytes()
    second = json.dumps(made_up.run(ADDITIVE, 11)).encode()
    for length in (1, 40, len(second) - 1):
        path.write_bytes(whole + second[:length])
        assert records.read(path) == [RUN]
        assert f'{path}:2: the last line was cut off' in capsys.readouterr().err


def test_the_next_run_takes_the_place_of_a_torn_line(path):
    records.append(path, RUN)
    with open(path, 'ab') as file:
        file.write(b'{"study": "forg\xff')
    records.append(path, made_up.run(ADDITIVE, 11))
    assert [run['seed'] for run in records.read(path)] == [10, 11]


def test_a_whole_last_line_without_its_line_end_counts(path, capsys):
    path.write_text(json.dumps(RUN))
    assert records.read(path) == [RUN]
    records.append(path, made_up.run(ADDITIVE, 11))
    assert [run['seed'] for run in records.read(path)] == [10, 11]
    assert not capsys.readouterr().err


def test_a_damaged_line_in_the_middle_is_named(path):
    for damage in (b'{"study": "forg', b'', b'\xff\xfe{}', b'[]', b'3'):
        path.write_bytes(json.dumps(RUN).encode() + b'\n' + damage + b'\n' + json.dumps(RUN).encode() + b'\n')
        with pytest.raises(UserError, match=rf'{re.escape(str(path))}:2: .*Restore or delete the line') as caught:
            records.read(path)
        assert '\n' not in str(caught.value)


def test_the_same_run_twice_is_named_with_both_lines(path):
    path.write_text(f'{json.dumps(RUN)}\n{json.dumps(RUN)}\n')
    with pytest.raises(UserError, match="2: arm 'additive' seed 10 stands already in line 1"):
        records.read(path)


def test_another_config_of_the_same_seed_is_another_run(path):
    for run in (RUN, RUN | {'run': 'other'}):
        records.append(path, run)
    assert len(records.read(path)) == 2


def example(**changes):
    return {'examples': [RUN['examples'][0] | changes]}


@pytest.mark.parametrize(('changes', 'message'), [
    ({'seed': '10'}, "'seed' must be of type int, not '10'"),
    ({'seed': True}, "'seed' must be of type int, not True"),
    ({'changes': None}, "'changes' must be of type dict, not None"),
    ({'status': 'done'}, "'status' must be 'finished' or 'failed', not 'done'"),
    ({'status': 'failed'}, "a failed run must say its 'error'"),
    ({'error': 'but it ended well'}, "a finished run has no 'error'"),
    ({'flops_per_token': float('nan')}, "'flops_per_token' must be a finite number, not nan"),
    ({'parameters': 3.5}, "'parameters' must be of type int, not 3.5"),
    ({'scores': {'accuracy': 0.5, 'loss': None}}, "'scores.loss' must be a finite number, not None"),
    ({'seconds': {'compile': 1, 'train': None, 'evaluate': 1, 'step': 1}},
     "'seconds.train' must be a finite number, not None"),
    ({'seconds': {'compile': 1, 'train': 1, 'evaluate': 1}}, "no 'seconds.step'"),
    ({'rate': {'value': 1.0, 'choice': 'tuned', 'on_edge': 0, 'tried': 6}},
     "'rate.on_edge' must be of type bool, not 0"),
    ({'rate': RUN['rate'] | {'choice': 'guessed'}},
     "'rate.choice' must be one of tuned, not_tuned, fixed, not 'guessed'"),
    ({'state_bytes': 1.5}, "'state_bytes' must be of type int, not 1.5"),
    ({'alignment': {'error_rate': 0.5}}, "no 'alignment.shift'"),
    ({'by_length': [BUCKET | {'right': 4}]}, "'by_length[0].right' must lie between 0 and count = 3, not 4"),
    ({'by_length': [BUCKET | {'tokens_right': -1}]},
     "'by_length[0].tokens_right' must lie between 0 and tokens = 9, not -1"),
    ({'by_length': [3]}, 'by_length[0] must be a JSON object, not int'),
    ({'curve': [{'step': 1, 'train_loss': None, 'dev_loss': 1.0}]}, "no 'curve[0].dev_accuracy'"),
    ({'curve': [RUN['curve'][0], RUN['curve'][0] | {'dev_loss': 'low'}]},
     "'curve[1].dev_loss' must be a finite number"),
    (example(source='a'), "'examples[0].source' must be of type list, not 'a'"),
    (example(output=[3]), "'examples[0].output' must be a list of symbols"),
    *[(example(weights=other), "'examples[0].weights' must be a list of heads, each a list of lists")
      for other in (0.5, [], [0.5], [[0.5]])],
    (example(weights=[[[0.5], [0.5], [0.5]]]), "'examples[0].weights' must be 1 x 1 (output x source symbols, or one "
                                               'more for the end symbol), not 3 x 1'),
    (example(weights=[[[0.5], [0.5, 0.5]]]), 'not 2 x 1, 2'),
    (example(weights=[[[0.5]], [[0.5], [0.5]]]), 'not 1, 2 x 1'),
    (example(weights=[[[None]]]), "'examples[0].weights' must be finite numbers"),
])
def test_what_breaks_the_schema_is_named_and_never_written(path, changes, message):
    broken = RUN | changes
    with pytest.raises(ValueError, match=re.escape(message)):
        records.append(path, broken)
    assert not path.exists()
    path.write_text(f'{json.dumps(broken)}\n')
    with pytest.raises(UserError, match=re.escape(f'{path}:1: {message}' if message[0] != 'n' else message)):
        records.read(path)


@pytest.mark.parametrize('field', [*records.ALWAYS, *records.FINISHED, *records.OPTIONAL])
def test_a_missing_field_is_named(path, field):
    path.write_text(json.dumps({key: value for key, value in RUN.items() if key != field}) + '\n')
    with pytest.raises(UserError, match=f":1: no '{field}'"):
        records.read(path)


def test_nan_in_a_field_nobody_knows_is_not_written_either(path):
    with pytest.raises(ValueError, match='JSON'):
        records.append(path, RUN | {'temperature': float('nan')})
    assert not path.exists()


def test_a_file_that_cannot_be_written_or_read_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match='cannot write'):
        records.append(tmp_path / 'missing' / 'results.jsonl', RUN)
    with pytest.raises(UserError, match='cannot read'):
        records.read(tmp_path)


def test_select_groups_the_runs_of_one_study_task_and_profile_by_arm_and_seed():
    runs = [made_up.run(ADDITIVE, 12), RUN, made_up.run(made_up.ARMS[0], 10)]
    others = [RUN | {key: 'other'} for key in ('study', 'task', 'profile')]
    selected = records.select(made_up.study(), 'pronunciation', [*runs, *others])
    assert list(selected) == [arm.name for arm in made_up.ARMS]
    assert [run['seed'] for run in selected['additive']] == [10, 12]
    assert selected['general'] == []
    assert sum(map(len, selected.values())) == 3


def test_select_refuses_what_cannot_be_compared():
    study = made_up.study()
    with pytest.raises(UserError, match=r"no arm 'aditive' on task 'pronunciation', but .* It has: none, .*additive"):
        records.select(study, 'pronunciation', [RUN | {'arm': 'aditive'}])
    with pytest.raises(UserError, match='two runs of seed 10 with different configs, additive-000a and x'):
        records.select(study, 'pronunciation', [RUN, RUN | {'run': 'x'}])
    other = made_up.run(made_up.ARMS[0], 10)
    for changes in ({'data': 'x'}, {'by_length': other['by_length'][1:]}):
        with pytest.raises(UserError, match="'additive' seed 10 was tested on other data or length buckets"):
            records.select(study, 'pronunciation', [other, RUN | changes])


def test_select_takes_the_arms_that_take_part_in_a_task():
    tasks = (made_up.task('copy', made_up.ARMS[:2]), made_up.task('reverse', made_up.ARMS[2:4]))
    study = made_up.study(tasks=tasks)
    here, there = made_up.run(made_up.ARMS[0], 10, task='copy'), made_up.run(ADDITIVE, 10, task='reverse', data='other')
    assert records.select(study, 'copy', [here, there]) == {'none': [here], 'fixed_context': []}
    assert records.select(study, 'reverse', [here, there]) == {'mean': [], 'additive': [there]}
    with pytest.raises(UserError, match="no arm 'additive' on task 'copy'"):
        records.select(study, 'copy', [there | {'task': 'copy'}])


def test_runs_that_chose_a_rate_are_read_as_they_were_written(path):
    written = [made_up.tried(ADDITIVE, 0.003), made_up.tried(ADDITIVE, 0.003),  # nothing is said of the same one twice
               made_up.tried(ADDITIVE, 0.1, status='failed', error='loss is not finite', dev=None)]
    for record in written:
        records.append_tuning(path, record)
    assert records.read_tuning(path) == written


@pytest.mark.parametrize(('changes', 'message'), [
    ({'rate': None}, "'rate' must be a finite number, not None"),
    ({'status': 'done'}, "'status' must be 'finished' or 'failed', not 'done'"),
    ({'status': 'failed'}, "'error' must be of type str, not None"),
    ({'dev': None}, "'dev' must be of type dict, not None"),
    ({'dev': {'accuracy': 0.5}}, "no 'dev.loss'"),
])
def test_what_breaks_the_schema_of_a_search_is_named_and_never_written(path, changes, message):
    broken = made_up.tried(ADDITIVE, 0.003) | changes
    with pytest.raises(ValueError, match=re.escape(message)):
        records.append_tuning(path, broken)
    assert not path.exists()
    path.write_text(json.dumps(broken) + '\n')
    with pytest.raises(UserError, match=re.escape(f'{path}:1: {message}')):
        records.read_tuning(path)
