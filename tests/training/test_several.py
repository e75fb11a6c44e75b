"""States that are put together and moved by one step, against each moved alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.training import loop, several
from research.training.state import State
from research.training.step import Metrics

SEEDS = 3


def one_step(state: State, batch) -> tuple[State, Metrics]:
    """A step that shows whether everything met its own: state, key, rate and batch."""
    noise = jax.random.normal(jax.random.fold_in(state.rng, state.step), state.params['w'].shape)
    params = {'w': state.params['w'] + state.rate * noise * jnp.sum(batch.source)}
    return state._replace(step=state.step + 1, params=params), {'loss': params['w'].sum(), 'tokens': batch.source.max()}


def states():
    return [State(jnp.int32(4), {'w': jnp.arange(5.0) + seed}, optax.EmptyState(), jax.random.key(seed),
                  jnp.float32(0.1 + seed)) for seed in range(SEEDS)]


def batches():
    return [jax.tree.map(lambda leaf, seed=seed: leaf + seed + 1, loop.blank_batch(2, 3, 4)) for seed in range(SEEDS)]


def same(one, other):
    def bits(leaf):
        return np.asarray(jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for mine, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(bits(mine), bits(theirs))


def test_what_is_taken_out_of_a_stack_is_what_went_into_it():
    stack = several.stacked(states())
    assert (stack.step.shape, stack.rng.shape, stack.params['w'].shape) == ((), (SEEDS,), (SEEDS, 5))
    for place, state in enumerate(states()):
        same(several.taken(stack, np.int32(place)), state)


def test_batches_are_stacked_in_the_order_of_the_seeds():
    stack = several.batch(batches())
    assert isinstance(stack.source, np.ndarray)
    assert stack.source.shape == (SEEDS, 2, 3)
    for place, batch in enumerate(batches()):
        same(jax.tree.map(lambda leaf, place=place: leaf[place], stack), batch)


def test_a_step_of_several_is_the_step_of_each_with_its_own_key_rate_and_batch():
    stack, metrics = jax.jit(several.train_step(one_step, SEEDS))(several.stacked(states()), several.batch(batches()))
    assert int(stack.step) == 5
    for place, (state, batch) in enumerate(zip(states(), batches(), strict=True)):
        alone, said = one_step(state, batch)
        np.testing.assert_allclose(several.taken(stack, np.int32(place)).params['w'], alone.params['w'], rtol=1e-6)
        assert float(metrics[place]['loss']) == pytest.approx(float(said['loss']), rel=1e-6)
        assert int(metrics[place]['tokens']) == int(said['tokens']) == place + 1
