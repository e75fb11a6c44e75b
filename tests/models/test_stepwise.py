"""Writing step by step is what training sees, whatever is put together: 20 models drawn from the registries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import attention, base, data, positions
from research import build
from research.attention.registry import VARIANTS
from research.cells.registry import CELLS
from research.errors import UserError
from research.models import contract, recurrent
from research.shapes import Batch, Places
from tests.models.test_contract import OPTIONS, SMALL_SIDE

B, S, T, SYMBOLS = 2, 6, 7, 11
READERS = [name for name, variant in VARIANTS.items() if 'cross' in variant.roles]
MIXERS = [name for name, variant in VARIANTS.items() if 'self' in variant.roles]
CAUSAL = [name for name in MIXERS if True in VARIANTS[name].causal]


@st.composite
def configs(draw):
    """A config of any kind, with anything that the registry allows in each of its places."""
    kind = draw(st.sampled_from(list(base.KINDS)))
    config = base.choose(base.get_config(), kind)
    if kind == 'sequence':
        config.data = data.labelled('parity')
        if draw(st.booleans()):
            config = base.choose(config, f'cell={draw(st.sampled_from(list(CELLS)))}')
    else:
        config.data = data.synthetic('copy')
        config.decoder.reader = attention.get(draw(st.sampled_from(READERS)))
    for side, mixers in ((config.encoder, MIXERS), (config.decoder, CAUSAL)):
        if 'cell' in side:
            side.cell = draw(st.sampled_from(list(CELLS)))
        if 'mixer' in side and side.mixer.name != 'cell':
            side.mixer = attention.get(draw(st.sampled_from(mixers)))
        if 'short_convolution' in side:
            side.short_convolution = draw(st.sampled_from([0, 3]))
        if 'position' in side:
            side.position = draw(st.sampled_from(base.EMBEDDED))
            if 'position' in side.mixer:
                side.mixer.position = positions.get(draw(st.sampled_from(['none', *positions.OPTIONS])))
        for node in ('mixer', 'reader'):
            if node in side and side[node].name != 'cell':
                known = [path for path in VARIANTS[side[node].name].paths if path != 'cudnn']
                side[node].path = draw(st.sampled_from(known))
        for key, value in SMALL_SIDE.items():
            if key in side:
                side[key] = value
        for node in ('mixer', 'reader'):
            for key, value in OPTIONS.items():
                if node in side and key in side[node] and side[node].name not in ('multi_query', 'grouped_query'):
                    side[node][key] = value
    if config.decoder.kind == 'recurrent':
        config.decoder.reads_with = draw(st.sampled_from(recurrent.READS_WITH))
        config.decoder.input_feeding = draw(st.booleans())
    return config


def allowed(config):
    """Whether build.validate lets it pass: what a path cannot do is refused there, and nowhere silently changed."""
    try:
        build.validate(config)
    except UserError:
        return False
    return True


@given(configs().filter(allowed))
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
def test_step_by_step_is_teacher_forcing_for_whatever_the_registry_allows(config):
    model = build.model(config, SYMBOLS, SYMBOLS)
    random = np.random.default_rng(0)
    source, inputs = (random.integers(4, SYMBOLS, (B, length)).astype(np.int32) for length in (S, T))
    real = np.arange(S) < np.array([S, 4])[:, None]
    source_places = Places(real.astype(np.int32), np.tile(np.arange(S, dtype=np.int32), (B, 1)))
    target_places = Places(np.ones((B, T), np.int32), np.tile(np.arange(T, dtype=np.int32), (B, 1)))
    batch = Batch(source, source_places, inputs, inputs, target_places)

    @jax.jit
    def both(rng):
        params = contract.init(model, rng, batch)
        memory = contract.encode(model, params, source, source_places)
        hidden = contract.decode(model, params, memory, inputs, target_places).hidden

        def one(carry, token):
            hidden, _, carry = contract.step(model, params, memory, carry, token)
            return carry, hidden
        _, stepped = jax.lax.scan(one, contract.start(model, params, memory, T), jnp.asarray(inputs.T))
        return hidden, jnp.moveaxis(stepped, 0, 1)
    hidden, stepped = both(jax.random.key(0))
    assert np.all(np.isfinite(hidden))
    np.testing.assert_allclose(stepped, hidden, atol=2e-5 * max(1.0, float(np.abs(hidden).max())))


@pytest.mark.parametrize('task', [data.labelled('parity'), data.language_model()], ids=lambda task: task.task)
def test_every_causal_mixer_and_every_cell_can_stand_in_a_model_without_a_source(task):
    for name in (*CAUSAL, *(f'cell={cell}' for cell in CELLS)):
        words = name if name.startswith('cell=') else f'mixer={name}'
        config = base.choose(base.get_config(), f'sequence+{words}')
        config.data = task
        build.validate(config)
        model = build.model(config, SYMBOLS, SYMBOLS)

        def start(params, model=model):
            places = Places(*[jnp.zeros((B, 1), jnp.int32)] * 2)
            return contract.start(model, params, contract.encode(model, params, places.segment, places), T)
        carry = jax.eval_shape(start, build.abstract_params(model))
        assert all(leaf.shape[0] == B for leaf in jax.tree.leaves(carry)), name
