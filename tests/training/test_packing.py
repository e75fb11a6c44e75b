"""Packed batches: several pairs in a row are the same pairs to a Transformer, in loss and in gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from configs import copy
from research import build
from research.models import contract
from research.study import arms
from research.text.batches import BatchPlan, PackedPlan
from research.training.loss import cross_entropy
from research.training.step import asked

V = 11


def pairs(count):
    random = np.random.default_rng(3)
    return [tuple(np.append(random.integers(4, V, random.integers(1, most)), 2).astype(np.int32) for most in (6, 8))
            for _ in range(count)]


def test_an_epoch_of_packed_rows_has_the_loss_and_the_gradient_of_the_same_pairs_apart():
    sizes = {f'{side}.{key}': value for side in ('encoder', 'decoder')
             for key, value in {'features': 8, 'hidden': 8, 'layers': 1, 'mixer.heads': 2}.items()}
    config = arms.override(copy.get_config('transformer'), {**sizes, 'decoder.reader.heads': 2})
    model, data = build.model(config, V, V), pairs(23)
    assert model.packs()
    apart, packed = BatchPlan(data, [(6, 8)], 6 * 14), PackedPlan(data, (17, 19), 3)
    assert len(packed) < len(apart)
    assert int(packed[0].source_places.segment.max()) > 1
    params = contract.init(model, jax.random.key(1), apart[0])

    @jax.jit
    def loss(params, batch):
        memory = contract.encode(model, params, batch.source, batch.source_places)
        decoded = contract.decode(model, params, memory, batch.inputs, batch.target_places)
        return cross_entropy(decoded.hidden, lambda rows: contract.logits(model, params, rows), batch.targets,
                             asked(batch))

    def epoch(plan):
        found = [jax.value_and_grad(loss, has_aux=True)(params, plan[k]) for k in range(len(plan))]
        return jax.tree.map(lambda *parts: sum(map(jnp.asarray, parts)), *found)
    (total, count), gradient = epoch(apart)
    (their_total, their_count), theirs = epoch(packed)
    assert int(count) == int(their_count) == sum(len(target) for _, target in data)
    np.testing.assert_allclose(their_total, total, rtol=1e-6)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(other, one, atol=2e-5 * max(1.0, float(jnp.abs(one).max())))
