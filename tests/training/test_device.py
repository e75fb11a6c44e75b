"""What FLOPs a second are a share of: the data sheet where it is known, a measured matrix product elsewhere."""

import types

import jax
import pytest

from configs import copy, labelled_recall
from research import build
from research.study import arms
from research.training import device
from research.training import step as steps
from research.training.loop import blank_batch


@pytest.fixture
def named(monkeypatch):
    """Makes this machine's device one of another name, on which nothing can be measured."""
    def name(kind):
        monkeypatch.setattr(jax, 'devices', lambda: [types.SimpleNamespace(device_kind=kind)])
    monkeypatch.setattr(device, 'matrix_product_rate', lambda dtype: 5e12)
    device.peak.cache_clear()
    yield name
    device.peak.cache_clear()


@pytest.mark.parametrize(('kind', 'dtype', 'rate'), [
    ('NVIDIA H200', 'bfloat16', 989.5e12), ('NVIDIA H200', 'float32', 494.5e12), ('NVIDIA L4', 'bfloat16', 121e12),
    ('Tesla T4', 'float32', 8.1e12), ('TPU v5 lite', 'float32', 197e12)])
def test_a_known_device_has_the_peak_of_its_data_sheet(named, kind, dtype, rate):
    named(kind)
    found = device.peak(dtype)
    assert found[:2] == (rate, True)
    assert kind in found.text
    assert dtype in found.text
    assert found.share(rate / 4) == {'mfu': 0.25}


@pytest.mark.parametrize(('kind', 'dtype'), [
    ('Tesla T4', 'bfloat16'), ('NVIDIA H100 80GB HBM3 MIG 1g.10gb', 'float32'), ('cpu', 'float32')])
def test_another_device_a_part_of_one_and_a_type_without_units_are_measured_and_that_is_said(named, kind, dtype):
    named(kind)
    found = device.peak(dtype)
    assert found[:2] == (5e12, False)
    assert 'the measured matrix-product rate, 5,000 GFLOP/s' in found.text
    assert found.share(1e12) == {'share_of_matrix_product_rate': 0.2}


def test_a_dense_product_in_float32_is_never_quicker_than_in_bfloat16():
    """With sparsity, which data sheets state in the same table, rates are twice as high: then some would cross."""
    for halves, whole in device.TERA.values():
        assert halves is None or whole <= halves


def test_the_measured_rate_is_the_median_of_products_that_began_in_time(monkeypatch):
    ticks = iter([0.0,                # they may begin until 0.2
                  0.0, 0.01,          # the first may always: 0.01 s
                  0.05, 0.05, 0.15,   # 0.1 s
                  0.19, 0.19, 0.22,   # 0.03 s
                  0.3])               # too late for another
    monkeypatch.setattr(device.time, 'perf_counter', lambda: next(ticks))
    assert device.matrix_product_rate('float32', 0.2) == pytest.approx(2 * 1024**3 / 0.03)


# ------------------------------------------------------------------------------------------------------ FLOPs of a step

def counted(config, shape):
    """What the compiler counts of loss and gradients of a model without a loop, of which it counts one turn."""
    model = build.model(config, 11, 13)
    batch = blank_batch(*shape)
    loss = steps.one_pass(model, 0.0, 4096)
    params = build.abstract_params(model, *shape[1:])
    rng = jax.random.key(0)
    gradient = jax.jit(jax.grad(lambda params: loss(params, batch, rng)[0]))
    return gradient.lower(params).compile().cost_analysis()['flops']


def test_a_step_costs_three_times_the_forward_flops_of_its_shape():
    shape, config = (3, 9, 7), copy.get_config('transformer')
    model = build.model(config, 11, 13)
    cost = build.step_flops(config, model)
    assert cost(shape) == 3 * 3 * build.flops(model, 9, 7)
    assert cost((6, 9, 7)) == 2 * cost(shape)
    # The chunked scores of the loss are made again: a forward product that is no model FLOP.
    again = 2 * 3 * 7 * model.decoder.features * 13
    assert counted(config, shape) == pytest.approx(cost(shape) + again, rel=0.1)


@pytest.mark.parametrize(('changes', 'passes'), [
    ({'training.r_drop': 1.0, 'encoder.dropout': 0.1}, 6), ({'training.scheduled_sampling': 'linear'}, 4),
    ({'training.accumulate': 4}, 3), ({'training.chunk': 2}, 3), ({'training.frozen': 'encoder'}, 3)])
def test_passes_are_counted_and_what_is_made_again_is_not(changes, passes):
    config = arms.override(copy.get_config('additive'), changes)
    model = build.model(config, 11, 13)
    assert build.step_flops(config, model)((2, 5, 4)) == passes * 2 * build.flops(model, 5, 4)


def test_a_model_without_a_source_costs_nothing_for_one():
    config = labelled_recall.get_config()
    cost = build.step_flops(config, build.model(config, 11, 11))
    assert cost((2, 1, 8)) == cost((2, 8, 8)) > 0
