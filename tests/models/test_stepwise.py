"""Writing step by step is what training sees, whatever is put together: each part of the registries, and at random."""

import itertools

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
from research.layers.residual import NORMS
from research.models import contract, recurrent, transformer
from research.shapes import Places
from research.study import arms
from tests.attention.oracles import ORACLES
from tests.attention.oracles.multi_head import SCHEMES
from tests.models.test_contract import CROSS, SMALL_SIDE

B, S, T, SYMBOLS = 2, 6, 7, 11
READERS = [name for name, variant in VARIANTS.items() if 'cross' in variant.roles]
MIXERS = [name for name, variant in VARIANTS.items() if 'self' in variant.roles]
CAUSAL = [name for name in MIXERS if True in VARIANTS[name].causal]
SCHEMES = {scheme['name']: scheme for scheme in SCHEMES}
CHOICES = {  # of a side, where it has the key
    'layers': (1, 2), 'cell': tuple(CELLS), 'bidirectional': (False, True), 'norm': NORMS, 'position': base.EMBEDDED,
    'summary': transformer.SUMMARIES, 'short_convolution': (0, 3), 'reads_with': recurrent.READS_WITH,
    'input_feeding': (False, True), 'start_state': recurrent.START_STATES, 'tie_embeddings': (False, True)}


def narrow(config):
    """Tiny sizes everywhere: less than the T positions are within a window, a bucket, a chunk, a clipped distance."""
    for side in (config.encoder, config.decoder):
        for key, value in SMALL_SIDE.items():
            if key in side:
                side[key] = value
        if side.get('tie_embeddings') and 'embedding_features' in side:
            side.embedding_features = side.features
        for node in (side[node] for node in ('mixer', 'reader') if node in side and side[node].name != 'cell'):
            options = dict(ORACLES[node.name].options)
            if 'position' in options:
                options['position'] = SCHEMES.get(node.position.name, {})
                if node.position.name == 'rotary':
                    options['head_width'] = 4
            if node.name == 'retention':  # what narrow heads read is at times next to nothing, and then normalised
                options['head_width'] = 32
            node.update(options)
    if config.decoder.kind == 'transformer' and config.decoder.reader.name == 'key_value_memory':
        config.encoder.features = 2 * config.decoder.features  # it reads one half of an annotation
    return config


@st.composite
def configs(draw):
    """A config of any kind, with anything that the registry allows in each of its places."""
    number = itertools.count()

    def one(values):  # hypothesis copies one draw over a like one to get further examples: numbered, no two are alike
        at = next(number)
        return draw(st.sampled_from([(at, value) for value in values]))[1]
    config = base.choose(base.get_config(), one(base.KINDS))
    if config.decoder.kind == 'sequence':
        config.data = data.labelled('parity')
        if one((False, True)):
            config = base.choose(config, f'cell={one(CELLS)}')
    else:
        config.data = data.synthetic('copy')
        config.decoder.reader = attention.get(one(READERS))
    for side, mixers in ((config.encoder, MIXERS), (config.decoder, CAUSAL)):
        for key, values in CHOICES.items():
            if key in side:
                side[key] = one(values)
        if 'mixer' in side and side.mixer.name != 'cell':
            side.mixer = attention.get(one(mixers))
            if 'position' in side.mixer:
                side.mixer.position = positions.get(one(['none', *positions.OPTIONS]))
        for node in (side[node] for node in ('mixer', 'reader') if node in side and side[node].name != 'cell'):
            node.path = one(path for path in VARIANTS[node.name].paths if path != 'cudnn')
    narrow(config)
    for side in (config.encoder, config.decoder):
        if 'mixer' in side and 'rotary_width' in side.mixer:
            side.mixer.rotary_width = one((0, 2))
    return config


def allowed(config):
    """Whether build.validate lets it pass: what a path cannot do is refused there, and nowhere silently changed."""
    try:
        build.validate(config)
    except UserError:
        return False
    return True


def agree(config):
    """Asserts that the hidden vectors of all positions at once are those of one after another."""
    model, random = build.model(config, SYMBOLS, SYMBOLS), np.random.default_rng(0)
    source, inputs = (random.integers(4, SYMBOLS, (B, length)).astype(np.int32) for length in (S, T))
    real = np.arange(S) < np.array([S, 4])[:, None]
    source_places = Places(real.astype(np.int32), np.tile(np.arange(S, dtype=np.int32), (B, 1)))
    target_places = Places(np.ones((B, T), np.int32), np.tile(np.arange(T, dtype=np.int32), (B, 1)))
    # parameters that no initialiser would give: also biases and factors are random
    params = jax.tree.map(lambda leaf: random.normal(0.1, 0.5, leaf.shape).astype(np.float32),
                          build.abstract_params(model, S, T))

    @jax.jit
    def both(params):
        memory = contract.encode(model, params, source, source_places)
        hidden = contract.decode(model, params, memory, inputs, target_places).hidden

        def one(carry, token):
            hidden, _, carry = contract.step(model, params, memory, carry, token)
            return carry, hidden
        # there is room for three positions at first, and then for all
        carry, first = jax.lax.scan(one, contract.start(model, params, memory, 3), jnp.asarray(inputs.T[:3]))
        _, others = jax.lax.scan(one, contract.longer(model, params, memory, carry, T), jnp.asarray(inputs.T[3:]))
        return hidden, jnp.moveaxis(jnp.concatenate([first, others]), 0, 1)
    hidden, stepped = both(params)
    assert np.all(np.isfinite(hidden))
    np.testing.assert_allclose(stepped, hidden, atol=2e-5 * max(1.0, float(np.abs(hidden).max())))


@given(configs().filter(allowed))
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
def test_step_by_step_is_teacher_forcing_for_whatever_the_registry_allows(config):
    agree(config)


# What the battery of the models (test_contract.py) does not write step by step.
PLACED = [(f'sequence+{words}', {}) for words in (
    *(f'mixer={name}' for name in CAUSAL), *(f'cell={name}' for name in CELLS), 'mixer=delta+short_convolution=3',
    'mixer=sliding_window+short_convolution=3', 'cell=lstm+short_convolution=3')]
PLACED += [('sequence+mixer=multi_head_latent', {'decoder.mixer.rotary_width': 2})]
PLACED += [(f'sequence+mixer={name}+position={scheme}', {'decoder.mixer.path': path})
           for scheme in SCHEMES for name, path in (('multi_head_dot', 'explicit'), ('sliding_window', 'blocks'),
                                                    ('talking_heads', 'explicit'), ('differential', 'explicit'))
           if (name, scheme) != ('differential', 'shaw')]  # refused: it adds to values
PLACED += [(f'{kind}+{name}', {}) for kind in ('recurrent', 'transformer') for name in READERS if name not in CROSS]


@pytest.mark.parametrize(('words', 'changes'), [pytest.param(words, changes, id=', '.join(
    [words, *(f'{key.split(".")[-1]}={value}' for key, value in changes.items())])) for words, changes in PLACED])
def test_step_by_step_is_teacher_forcing(words, changes):
    config = base.choose(base.get_config(), words)
    config.data = data.labelled('parity') if config.decoder.kind == 'sequence' else data.synthetic('copy')
    config = arms.override(narrow(config), changes)
    build.validate(config)
    agree(config)


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
