"""Converted = quantised, for every architecture, with no code of its own."""

from __future__ import annotations

import pytest
import torch

import snn
from snn.conversion.call import call_model
from snn.conversion.quantize import quantizers
from snn.conversion.surgery import place
from snn.functional.fire import SPIKE_ORDERS

from .networks import NETWORKS, quantised

T = 8
every_network = pytest.mark.parametrize("name", NETWORKS)


def largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


@every_network
def test_the_example_is_no_triviality(name: str) -> None:
    model, inputs = quantised(name)
    moved: dict[str, int] = {}

    def look(place):
        def hook(module, args, output):
            moved[place] = len((output / module.step_size(output)).round().unique())

        return hook

    handles = [q.register_forward_hook(look(n)) for n, q in quantizers(model).items()]
    out = call_model(model, inputs)
    for handle in handles:
        handle.remove()
    assert set(moved) == set(quantizers(model)), "a quantiser was never called"
    assert all(codes > 2 for codes in moved.values()), moved
    assert largest_difference(out[0], out[1]) > 1e-3


@every_network
@pytest.mark.parametrize("order", SPIKE_ORDERS)
def test_para_inf_equals_the_quantised_network(name: str, order: str) -> None:
    model, inputs = quantised(name)
    network = snn.convert(model, "para_inf", T, order=order)
    want = call_model(model, inputs)
    out = network(**inputs)
    assert out.logits.shape == (T, *want.shape)
    assert largest_difference(out.logits[-1], want) <= 1e-12 * max(1, float(want.abs().max()))
    collapsed = network(execution="collapsed", **inputs)
    assert collapsed.logits.shape == (1, *want.shape)
    # One step of the same shapes as the quantised network's: the same arithmetic.
    assert torch.equal(collapsed.logits[0], want)
    assert set(collapsed.spikes) == set(out.spikes) == {place(n) for n in quantizers(model)}
    for layer in out.spikes:
        assert torch.equal(collapsed.spikes[layer].total, out.spikes[layer].total)
        assert out.spikes[layer].total.sum() > 0


@every_network
def test_every_code_is_equal(name: str) -> None:
    model, inputs = quantised(name)
    report = snn.verify(model, snn.convert(model, "para_inf", T), [inputs])
    report.raise_for_tolerance()
    assert report.exact
    assert report.dtype == "float64"
    assert report.differing == 0
    assert len(report.layers) == len(quantizers(model))
    assert report.elements > 100
    assert report.max_error <= 1e-12 * max(1, float(call_model(model, inputs).abs().max()))
    assert report.same_prediction >= report.samples


@every_network
def test_in_single_precision_every_differing_code_is_explained(name: str) -> None:
    model, inputs = quantised(name, dtype=torch.float32)
    report = snn.verify(model, snn.convert(model, "para_inf", T), [inputs])
    report.raise_for_tolerance()
    assert report.dtype == "float32"
    assert report.unexplained == 0
    double = snn.verify(model, snn.convert(model, "para_inf", T), [inputs], dtype=torch.float64)
    assert double.differing == 0
    assert next(model.parameters()).dtype == torch.float32


@every_network
def test_integrate_fire_does_not_depend_on_the_chunk(name: str) -> None:
    model, inputs = quantised(name)
    network = snn.convert(model, "integrate_fire", T)
    whole = network(**inputs)
    for options in ({"chunk": 3}, {"chunk": 1}, {"execution": "stepwise"}):
        cut = network(**inputs, **options)
        assert cut.steps == T
        assert largest_difference(cut.logits, whole.logits) <= 1e-12 * max(1, float(whole.logits.abs().max()))
        for layer, spikes in whole.spikes.items():
            assert torch.equal(cut.spikes[layer].positive, spikes.positive)
            assert torch.equal(cut.spikes[layer].negative, spikes.negative)
    report = snn.verify(model, network, [inputs])
    assert not report.exact
    assert report.passed


@pytest.mark.parametrize("name", ["bert", "convnext", "gpt2"])
def test_st_bif_settles_at_the_quantised_network(name: str) -> None:
    model, inputs = quantised(name, "lsq")
    network = snn.convert(model, "st_bif", 60)
    want = call_model(model, inputs)
    out = network(**inputs)
    assert largest_difference(out.logits[-1], want) <= 1e-12 * max(1, float(want.abs().max()))
    assert largest_difference(out.logits[0], want) > 1e-3
    assert snn.verify(model, network, [inputs]).differing == 0
    assert torch.equal(network(execution="collapsed", **inputs).logits[0], want)
    stepwise = network(execution="stepwise", **inputs)
    # A run ends early once no count changes; the steps that were saved would have changed nothing.
    assert stepwise.steps < 60
    assert largest_difference(stepwise.logits, out.logits) <= 1e-12 * max(1, float(want.abs().max()))
    for layer, spikes in stepwise.spikes.items():
        assert torch.equal(spikes.total, out.spikes[layer].total)
        assert out.spikes[layer].total[stepwise.steps :].sum() == 0
