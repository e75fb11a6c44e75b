import weakref

import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.training import averaging


def tree(seed):
    random = np.random.default_rng(seed)
    return {'encoder': {'kernel': random.normal(size=(3, 5)).astype(np.float32),
                        'scale': np.float32(random.normal())},
            'decoder': {'bias': 1e4 * random.normal(size=7).astype(np.float32)}}


def test_it_is_the_mean_in_float64_leaf_by_leaf():
    found = averaging.mean(tree(seed) for seed in range(5))
    for part, name in (('encoder', 'kernel'), ('encoder', 'scale'), ('decoder', 'bias')):
        expected = sum(np.asarray(tree(seed)[part][name], np.float64) for seed in range(5)) / 5
        assert found[part][name].dtype == np.float32
        np.testing.assert_array_equal(found[part][name], expected.astype(np.float32))
    assert found.keys() == tree(0).keys()


def test_the_mean_of_one_tree_is_that_tree_and_nothing_given_is_changed():
    mine, again = tree(3), tree(3)
    for trees in ([mine], [mine, mine, mine]):
        found = averaging.mean(trees)
        np.testing.assert_array_equal(found['encoder']['kernel'], again['encoder']['kernel'])
        np.testing.assert_array_equal(found['decoder']['bias'], again['decoder']['bias'])
    np.testing.assert_array_equal(mine['decoder']['bias'], again['decoder']['bias'])


def test_arrays_of_a_device_are_taken_and_float32_comes_back():
    found = averaging.mean([{'a': jnp.ones(2, jnp.bfloat16)}, {'a': jnp.full(2, 2, jnp.bfloat16)}])
    assert isinstance(found['a'], np.ndarray)
    assert found['a'].dtype == np.float32
    np.testing.assert_array_equal(found['a'], [1.5, 1.5])


def test_no_tree_is_kept_while_the_next_one_is_read():
    given = []

    def read(seed):
        assert all(leaf() is None for leaf in given)
        found = tree(seed)
        given.append(weakref.ref(found['encoder']['kernel']))
        return found
    averaging.mean(map(read, range(4)))
    assert len(given) == 4


@pytest.mark.parametrize(('other', 'message'), [
    ({'a': np.ones(3)}, r'a is \[2, 3\] in the first and \[3\] in number 2'),
    ({'a': np.ones((2, 3)), 'b': np.ones(1)}, r'b is absent in the first and \[1\] in number 2'),
])
def test_trees_that_differ_are_refused_and_so_is_none(other, message):
    with pytest.raises(UserError, match=message):
        averaging.mean([{'a': np.ones((2, 3))}, other])
    with pytest.raises(UserError, match='no parameters to average'):
        averaging.mean(iter(()))
