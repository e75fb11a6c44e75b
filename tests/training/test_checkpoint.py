"""Checkpoints come back bit for bit, or not at all and with the reason; nothing damaged is believed, nothing lost."""

import json
import shutil
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.errors import UserError
from research.training.checkpoint import Checkpoints
from tests.conftest import REPOSITORY

IDENTITY = {'config': 'c0ffee', 'source vocabulary': 'abc'}


class State(NamedTuple):
    step: object
    params: object
    optimiser: object
    rng: object
    note: object


def tree(step):
    """Small, of NumPy only, and different at every step."""
    return {'kernel': np.arange(15, dtype=np.float32).reshape(3, 5) + step, 'count': np.int32(step)}


def checkpoints(directory, **options):
    return Checkpoints(directory, **({'identity': IDENTITY} | options))


def bits(leaf):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(leaf.dtype), leaf.shape, np.asarray(jax.random.key_data(leaf)).tobytes()
    return str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()


def assert_is_step(found, step):
    assert found[0] == step
    assert jax.tree.map(bits, found[1]) == jax.tree.map(bits, tree(step))


@pytest.fixture(scope='module')
def three_steps(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints')
    for step in (1, 2, 3):
        checkpoints(folder, keep=3).save(step, tree(step))
    return folder


@pytest.fixture
def folder(three_steps, tmp_path):
    return shutil.copytree(three_steps, tmp_path / 'copy')


def files(step_folder):
    return sorted(path for path in step_folder.rglob('*') if path.is_file())


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in files(folder)}


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(data)


# ------------------------------------------------------------------------------------------------------- round trips

@pytest.fixture(scope='module')
def state():
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))

    @jax.jit
    def start(rng):
        params = {'encoder': {'kernel': jax.random.normal(rng, (3, 5)), 'bias': jnp.full((7,), 1 / 3, jnp.bfloat16)},
                  'decoder': [jnp.arange(3, dtype=jnp.int8), jnp.array([True, False])]}
        gradient = jax.tree.map(lambda leaf: jnp.ones_like(leaf) / 3, params['encoder'])
        _, optimiser_state = optimiser.update(gradient, optimiser.init(params['encoder']))
        return State(jnp.int32(11), params, optimiser_state, jax.random.split(rng, 2), None)
    return start(jax.random.key(13))


def test_a_training_state_comes_back_bit_for_bit(state, tmp_path):
    checkpoints(tmp_path).save(11, state)
    step, found = checkpoints(tmp_path).restore(state)
    assert step == 11
    assert jax.tree.structure(found) == jax.tree.structure(state)
    for (path, mine), theirs in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(found), strict=True):
        assert bits(mine) == bits(theirs), path
        assert isinstance(theirs, jax.Array), path
        assert mine.sharding == theirs.sharding, path
    np.testing.assert_array_equal(jax.random.normal(found.rng[1], (5,)), jax.random.normal(state.rng[1], (5,)))


def test_shapes_without_arrays_are_enough_to_restore(state, tmp_path):
    checkpoints(tmp_path).save(11, state)
    abstract = jax.eval_shape(lambda: state)
    found = checkpoints(tmp_path).restore_step(11, abstract)
    assert jax.tree.map(bits, found) == jax.tree.map(bits, state)


def test_a_state_goes_to_the_devices_of_the_expected_tree(tmp_path):
    """Two virtual devices need a process of their own."""
    script = """
import jax, numpy as np, sys
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from research.training.checkpoint import Checkpoints
mesh = jax.make_mesh((2,), ('x',), axis_types=(AxisType.Auto,))
split, whole = NamedSharding(mesh, PartitionSpec('x')), NamedSharding(mesh, PartitionSpec())
value = np.arange(6, dtype=np.float32)
kept = Checkpoints(sys.argv[1], identity={})
kept.save(1, {'a': jax.device_put(value, whole)})
_, found = kept.restore({'a': jax.ShapeDtypeStruct((6,), np.float32, sharding=split)})
assert found['a'].sharding == split, found['a'].sharding
assert np.array_equal(found['a'], value)
"""
    done = subprocess.run([sys.executable, '-c', script, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True,
                          env={'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': '--xla_force_host_platform_device_count=2'},
                          timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_numbers_and_numpy_arrays_come_back_as_what_they_were(tmp_path):
    saved = {'whole': 7, 'real': 1 / 3, 'yes': True, 'scalar': np.float64(1 / 3), 'array': np.arange(3, dtype=np.int64)}
    checkpoints(tmp_path).save(0, saved)
    _, found = checkpoints(tmp_path).restore(saved)
    assert {name: type(leaf) for name, leaf in found.items()} == {name: type(leaf) for name, leaf in saved.items()}
    np.testing.assert_array_equal(found.pop('array'), saved['array'], strict=True)
    assert found == {name: leaf for name, leaf in saved.items() if name != 'array'}


@pytest.mark.parametrize('implementation', ['threefry2x32', 'rbg', 'unsafe_rbg'])
def test_every_kind_of_key_comes_back_as_that_kind(implementation, tmp_path):
    key = jax.random.key(5, impl=implementation)
    checkpoints(tmp_path).save(1, {'rng': key})
    _, found = checkpoints(tmp_path).restore({'rng': key})
    assert bits(found['rng']) == bits(key)
    assert jax.random.key_impl(found['rng']) == jax.random.key_impl(key)


def test_no_directory_and_an_empty_one_restore_to_nothing(tmp_path):
    assert checkpoints(tmp_path / 'absent').restore(tree(0)) is None
    assert not (tmp_path / 'absent').exists()
    assert checkpoints(tmp_path).restore(tree(0)) is None
    assert checkpoints(tmp_path).steps() == []


def test_a_step_that_is_saved_again_is_replaced(folder):
    checkpoints(folder, keep=3).save(2, tree(7))
    assert jax.tree.map(bits, checkpoints(folder).restore_step(2, tree(0))) == jax.tree.map(bits, tree(7))
    assert sorted(path.name for path in folder.iterdir()) == ['1', '2', '3']


# ------------------------------------------------------------------------------------------------------------ damage

def test_a_good_step_has_no_fault(folder):
    kept = checkpoints(folder)
    assert kept.steps() == [1, 2, 3]
    assert [kept.verify(step) for step in kept.steps()] == [None, None, None]
    assert_is_step(kept.restore(tree(0)), 3)


def test_a_flipped_bit_in_any_file_leads_to_the_step_before_and_is_said(folder, capsys):
    kept = checkpoints(folder)
    for path in files(folder / '3'):
        whole = path.read_bytes()
        if not whole:
            continue
        name = path.relative_to(folder / '3').as_posix()
        for position in range(0, len(whole), 61):
            flip(path, position)
            assert name in kept.verify(3), (name, position)
            path.write_bytes(whole)
        flip(path, len(whole) // 2)
        before = content(folder)
        assert_is_step(kept.restore(tree(0)), 2)
        said = capsys.readouterr().err
        assert str(folder / '3') in said
        assert name in said
        assert content(folder) == before  # nothing is deleted or repaired
        path.write_bytes(whole)
    assert_is_step(kept.restore(tree(0)), 3)


@pytest.mark.parametrize('harm', [lambda path: path.write_bytes(path.read_bytes()[:-1]), lambda path: path.unlink()],
                         ids=['truncated', 'missing'])
def test_a_truncated_or_missing_file_leads_to_the_step_before(harm, folder, capsys):
    kept = checkpoints(folder)
    for path in files(folder / '3'):
        whole = path.read_bytes()
        if not whole and harm.__code__.co_names[0] != 'unlink':
            continue
        harm(path)
        name = path.relative_to(folder / '3').as_posix()
        assert name in kept.verify(3)
        assert_is_step(kept.restore(tree(0)), 2)
        assert name in capsys.readouterr().err
        path.write_bytes(whole)


def test_two_damaged_steps_lead_to_the_third(folder, capsys):
    flip(files(folder / '3')[0], 0)
    shutil.rmtree(folder / '2' / 'arrays')
    assert_is_step(checkpoints(folder).restore(tree(0)), 1)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_damaged_steps_alone_never_become_a_fresh_start(folder):
    for step in ('1', '2', '3'):
        flip(folder / step / 'manifest.json', 5)
    before = content(folder)
    with pytest.raises(UserError, match=r'no good checkpoint \(step 3: manifest.json .*; step 2: .*; step 1: ') as e:
        checkpoints(folder).restore(tree(0))
    assert '\n' not in str(e.value)
    assert content(folder) == before


def test_an_empty_or_foreign_directory_is_not_a_step(folder, capsys):
    (folder / '7').mkdir()
    (folder / '8').mkdir()
    (folder / '8' / 'notes.txt').write_text('mine')
    (folder / 'logs').mkdir()
    (folder / '09').mkdir()
    (folder / '10').write_text('a file')
    kept = checkpoints(folder)
    assert kept.steps() == [1, 2, 3]
    assert_is_step(kept.restore(tree(0)), 3)
    said = capsys.readouterr().err
    assert all(f'{folder / name} is passed over: manifest.json' in said for name in ('7', '8', '10'))
    assert 'logs' not in said
    assert (folder / '7').is_dir()
    assert (folder / '8' / 'notes.txt').read_text() == 'mine'


def test_an_empty_directory_named_like_a_step_is_no_reason_to_start_from_scratch(tmp_path):
    """It may be all that a damaged disk left of a step."""
    (tmp_path / '3').mkdir()
    with pytest.raises(UserError, match='holds no good checkpoint'):
        checkpoints(tmp_path).restore(tree(0))


def test_a_renamed_step_is_not_believed(folder):
    (folder / '3').rename(folder / '5')
    assert 'is of step 3' in checkpoints(folder).verify(5)
    assert_is_step(checkpoints(folder).restore(tree(0)), 2)


def test_a_step_that_orbax_cannot_load_is_passed_over_with_the_cause(folder, capsys, monkeypatch):
    from orbax.checkpoint import v1
    load = v1.load

    def fails_once(path):
        monkeypatch.setattr(v1, 'load', load)
        try:
            raise OSError('the true cause')
        except OSError as error:
            raise KeyError('an incompatible handler') from error
    monkeypatch.setattr(v1, 'load', fails_once)
    assert_is_step(checkpoints(folder).restore(tree(0)), 2)
    said = capsys.readouterr().err
    assert 'OSError: the true cause' in said
    assert 'handler' not in said


def test_one_step_is_restored_or_the_reason_is_given(folder):
    kept = checkpoints(folder)
    assert_is_step((2, kept.restore_step(2, tree(0))), 2)
    flip(folder / '2' / 'manifest.json', 5)
    with pytest.raises(UserError, match=r'2 cannot be restored: manifest.json'):
        kept.restore_step(2, tree(0))
    with pytest.raises(UserError, match=r'4 cannot be restored: .*Steps there: 1, 2, 3'):
        kept.restore_step(4, tree(0))


# --------------------------------------------------------------------------------------------------------- mismatches

@pytest.fixture
def no_loading(monkeypatch):
    from orbax.checkpoint import v1
    monkeypatch.setattr(v1, 'load', lambda path: pytest.fail('loaded before it was compared'))


@pytest.mark.usefixtures('no_loading')
@pytest.mark.parametrize(('change', 'message'), [
    ({'kernel': np.zeros((5, 3), np.float32)}, r'kernel is float32\[3, 5\] there and float32\[5, 3\] here'),
    ({'kernel': np.zeros((3, 5), np.float64)}, r'kernel is float32\[3, 5\] there and float64\[3, 5\] here'),
    ({'kernel': jax.ShapeDtypeStruct((3, 5), jnp.bfloat16)}, r'float32\[3, 5\] there and bfloat16\[3, 5\] here'),
    ({'count': None}, r'count is int32\[\] there and absent here'),
    ({'count': 0}, r'count is int32\[\] there and int\[\] here'),
    ({'bias': np.zeros(2)}, r'bias is absent there and float64\[2\] here'),
    ({'kernel': {'a': np.zeros((3, 5), np.float32)}}, r'kernel is float32\[3, 5\] there and absent here \(2 differ\)'),
])
def test_other_leaves_are_one_error_with_both_values(folder, change, message):
    for attempt in (checkpoints(folder).restore, lambda abstract: checkpoints(folder).restore_step(3, abstract)):
        with pytest.raises(UserError, match=message) as e:
            attempt(tree(0) | change)
        assert '\n' not in str(e.value)
        assert str(folder / '3') in str(e.value)


@pytest.mark.usefixtures('no_loading')
def test_another_kind_of_random_key_is_an_error(tmp_path):
    checkpoints(tmp_path).save(1, {'rng': jax.random.key(0)})
    with pytest.raises(UserError, match=r'rng is key<fry>\[\] there and key<rbg>\[\] here'):
        checkpoints(tmp_path).restore({'rng': jax.random.key(0, impl='rbg')})


@pytest.mark.usefixtures('no_loading')
@pytest.mark.parametrize(('identity', 'message'), [
    (IDENTITY | {'config': 'decaf'}, 'config is c0ffee there and decaf here'),
    ({'config': 'c0ffee'}, 'source vocabulary is abc there and absent here'),
    (IDENTITY | {'target vocabulary': 'x'}, 'target vocabulary is absent there and x here'),
])
def test_another_identity_is_an_error_with_both_values(folder, identity, message):
    with pytest.raises(UserError, match=message):
        checkpoints(folder, identity=identity).restore(tree(0))


@pytest.mark.usefixtures('no_loading')
def test_another_format_version_is_an_error_with_both_values(tmp_path, monkeypatch):
    from research.training import checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, 'FORMAT', 2)
        checkpoints(tmp_path).save(1, tree(1))
    with pytest.raises(UserError, match='format_version is 2 there and 1 here'):
        checkpoints(tmp_path).restore(tree(0))
    assert 'format_version is 2' in checkpoints(tmp_path).verify(1)


def test_what_jax_would_cast_is_an_error(tmp_path):
    checkpoints(tmp_path).save(1, {'a': np.ones(3)})
    with pytest.raises(UserError, match=r'a is float64\[3\] and came back as float32\[3\]; .*jax_enable_x64'):
        checkpoints(tmp_path).restore({'a': jax.ShapeDtypeStruct((3,), np.float64)})


# ------------------------------------------------------------------------------------------------------------- saving

@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('dtype', [np.float32, jnp.bfloat16, jnp.float8_e5m2, np.complex64])
def test_a_diverged_state_is_not_written(tmp_path, dtype, bad):
    leaf = np.ones(5, np.float32)
    leaf[3] = bad
    with pytest.raises(UserError, match=r'diverged at step 6: params.kernel has 1 of 5 values that are not finite'):
        checkpoints(tmp_path).save(6, {'params': {'bias': np.ones(2), 'kernel': leaf.astype(dtype)}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('leaf', ['word', np.array(['word']), np.array([{}], object), 2**70, np.zeros((0, 3))])
def test_what_is_no_array_of_numbers_is_refused_by_name(tmp_path, leaf):
    with pytest.raises(TypeError, match=r'params.kernel cannot be saved'):
        checkpoints(tmp_path).save(1, {'params': {'kernel': leaf}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('bad', [{}, {'a.b': np.ones(1), 'a': {'b': np.ones(1)}}, np.ones(1)])
def test_leaves_without_a_name_of_their_own_are_refused(tmp_path, bad):
    with pytest.raises(ValueError, match='each leaf has a name of its own'):
        checkpoints(tmp_path).save(1, bad)


def test_the_newest_steps_and_every_so_manieth_stay(tmp_path):
    kept = checkpoints(tmp_path, keep=2, keep_every=4)
    seen = []
    for step in range(1, 8):
        kept.save(step, tree(step))
        seen.append(kept.steps())
    assert seen == [[1], [1, 2], [2, 3], [3, 4], [4, 5], [4, 5, 6], [4, 6, 7]]
    assert [kept.verify(step) for step in kept.steps()] == [None] * 3


def test_only_good_steps_of_this_run_are_counted_and_deleted(folder):
    flip(folder / '3' / 'manifest.json', 5)
    (folder / '0').mkdir()
    other = checkpoints(folder, keep=9, identity={'config': 'decaf'})
    other.save(4, tree(4))
    kept = checkpoints(folder, keep=2)
    kept.save(5, tree(5))
    assert sorted(path.name for path in folder.iterdir()) == ['0', '2', '3', '4', '5']
    assert_is_step(kept.restore(tree(0)), 5)


def test_steps_after_the_saved_one_push_nothing_out(folder):
    kept = checkpoints(folder, keep=1)
    kept.save(2, tree(2))
    assert kept.steps() == [2, 3]


def test_a_damaged_step_in_the_way_is_set_aside_and_said(folder, capsys):
    for number in (1, 2):
        flip(folder / '3' / 'manifest.json', 5)
        before = content(folder / '3')
        checkpoints(folder, keep=3).save(3, tree(3))
        assert f'aside-3-{number}' in capsys.readouterr().err
        assert content(folder / f'aside-3-{number}') == before
        assert_is_step(checkpoints(folder).restore(tree(0)), 3)


def test_a_full_disk_is_said_and_the_older_steps_stay(tmp_path):
    """A limit on the size of files stands in for the full disk; it is for good, so in a process of its own."""
    script = """
import numpy as np, resource, sys
from research.errors import UserError
from research.training.checkpoint import Checkpoints
kept = Checkpoints(sys.argv[1], identity={})
small, large = {'a': np.ones(3)}, {'a': np.random.default_rng(0).random(200_000)}
kept.save(1, small)
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
try:
    kept.save(2, large)
except UserError as error:
    print(error)
assert kept.restore(small)[0] == 1
resource.setrlimit(resource.RLIMIT_FSIZE, before)
kept.save(2, large)
assert kept.restore(large)[0] == 2
"""
    done = subprocess.run([sys.executable, '-c', script, str(tmp_path / 'kept')], cwd=REPOSITORY, capture_output=True,
                          text=True, env={'JAX_PLATFORMS': 'cpu'}, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    line, = done.stdout.splitlines()
    assert 'step 2 could not be saved; the steps before it are kept.' in line
    assert 'too large' in line
    assert sorted(path.name for path in (tmp_path / 'kept').iterdir()) == ['1', '2']


def test_a_directory_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(UserError, match='file: step 1 could not be saved'):
        checkpoints(tmp_path / 'file').save(1, tree(1))


def test_keeping_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match='at least 1'):
        checkpoints(tmp_path, keep=0)
    with pytest.raises(ValueError, match='at least 1'):
        checkpoints(tmp_path, keep_every=0)


# -------------------------------------------------------------------------------------------------------------- kills

KILLED = """
import os, pathlib, signal, sys, time
import numpy as np
from orbax.checkpoint import v1
from research.training.checkpoint import Checkpoints
from tests.training.test_checkpoint import IDENTITY, tree

top = pathlib.Path(sys.argv[1])


def child(folder, work):
    pid = os.fork()
    if pid == 0:
        folder.mkdir()
        acknowledged = folder.with_suffix('.saved')
        kept = Checkpoints(folder, keep=2, identity=IDENTITY)

        def save(step):
            kept.save(step, tree(step))
            with acknowledged.open('a') as file:
                file.write(f'{step}\\n')
        work(save)
        os._exit(0)
    return pid


def until(number, operations, save):
    # Saves of which the third removes step 1 and the last replaces step 3, killed just before the operation of number.
    save(1), save(2)
    seen = 0

    def count(event, arguments):
        nonlocal seen
        if event in operations:
            seen += 1
            if seen == number:
                os.kill(me, signal.SIGKILL)
    me = os.getpid()
    sys.addaudithook(count)
    save(3), save(3)


def forever(save):
    for step in range(1, 10_000):
        save(step)


# every renaming, for each leaves another picture; of the many deletions and new folders some
for operations, stride in ((('os.rename',), 1), (('os.mkdir', 'os.remove', 'os.rmdir'), 17)):
    number, ended = 1, False
    while not ended:
        pid = child(top / f'{operations[0][3:]}-{number}', lambda save: until(number, operations, save))
        ended = os.waitpid(pid, 0)[1] == 0
        number += stride
for milliseconds in (150, 190, 230, 270):
    pid = child(top / f'time-{milliseconds}', forever)
    time.sleep(milliseconds / 1000)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


def test_a_kill_at_any_moment_of_a_save_leaves_the_steps_before_usable(tmp_path):
    done = subprocess.run([sys.executable, '-c', KILLED, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True,
                          env={'JAX_PLATFORMS': 'cpu'}, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    folders = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    left = set()
    for folder in folders:
        kept = checkpoints(folder)
        left |= {path.name.split('-')[0] for path in folder.iterdir() if '-' in path.name}
        record = folder.with_suffix('.saved')
        found = kept.restore(tree(0))
        if record.exists() and record.read_text():
            last = int(record.read_text().split()[-1])
            assert found[0] in (last, last + 1), folder
        if found is not None:
            assert_is_step(found, found[0])
            assert [kept.verify(step) for step in kept.steps()] == [None] * len(kept.steps()), folder
        kept.save(99, tree(99))
        assert found is None or found[0] in kept.steps(), folder
        assert not [path.name for path in folder.iterdir() if not path.name.isdigit()], folder
        assert_is_step(kept.restore(tree(0)), 99)
    assert left == {'saving', 'replaced', 'removing'}  # the kills did hit every part of a save
    assert len(folders) > 12


def test_the_manifest_says_what_a_step_holds(folder):
    manifest = json.loads((folder / '3' / 'manifest.json').read_text())
    assert manifest['format_version'] == 1
    assert manifest['step'] == 3
    assert manifest['identity'] == IDENTITY
    assert manifest['leaves'] == {'count': {'dtype': 'int32', 'shape': []},
                                  'kernel': {'dtype': 'float32', 'shape': [3, 5]}}
    assert set(manifest['files']) == {path.relative_to(folder / '3').as_posix() for path in files(folder / '3')
                                      if path.name != 'manifest.json'}
