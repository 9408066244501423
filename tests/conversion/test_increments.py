"""Aggregate coordinates are the spike-driven network: every spike of every neuron, at every step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import snn
from snn.functional.padding import current_mask, valid_positions
from snn.neurons.run import Event, Run
from tests.functional.reference import arrays

from . import increments
from .networks import quantised

WAYS = {
    "para_inf early": ("qcfs", "mean", "para_inf", 8, {"order": "early"}),
    "para_inf late": ("qcfs", "mean", "para_inf", 8, {"order": "late"}),
    "para_inf even": ("qcfs", "mean", "para_inf", 8, {"order": "even"}),
    "integrate_fire": ("qcfs", "mean", "integrate_fire", 8, {}),
    "st_bif": ("lsq", "sum", "st_bif", 24, {}),
    "st_bif spread": ("lsq", "sum", "st_bif", 24, {"spread": 7}),
}


def spikes_of(
    network: snn.SpikingNetwork, inputs: dict[str, Tensor], chunk: int | None
) -> tuple[Tensor, dict[str, Tensor]]:
    names = {neuron: name for name, neuron in network.neurons.items()}
    counts: dict[str, list[Tensor]] = {}

    def keep(run: Run, event: Event) -> None:
        steps = counts.setdefault(names[event.neuron], [])
        for now in event.counts:
            # What has settled has left the batch, and its counts stay as they are.
            whole = steps[-1].clone() if steps else torch.zeros_like(now)
            whole[run.rows] = now
            steps.append(whole)

    logits = network(chunk=chunk, observers=(keep,), **inputs).logits
    spikes = {}
    for name, steps in counts.items():
        n = torch.stack(steps + steps[-1:] * (network.T - len(steps)))
        spikes[name] = n.diff(dim=0, prepend=torch.zeros_like(n[:1]))
    return logits, spikes


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "simulate"), [("bert", increments.bert), ("resnet20", increments.resnet)])
def test_every_spike_is_equal(name: str, simulate: Any, way: str) -> None:
    quantizer, coding, neuron, T, options = WAYS[way]
    model, inputs = quantised(name, quantizer)
    run = increments.Increments(model, T, coding, neuron, **options)
    read_out = run.aggregate(simulate(run, model, inputs))
    network = snn.convert(model, neuron, T, **options)
    for chunk in (T,) if neuron == "para_inf" else (T, 3):
        logits, spikes = spikes_of(network, inputs, chunk)
        assert set(spikes) == set(run.spikes) == set(run.quantizers)
        for place, emitted in run.spikes.items():
            assert torch.equal(spikes[place], emitted), place
            assert emitted.abs().sum() > 0, place
            assert emitted.abs().max() == 1, place
        assert (logits - read_out).abs().max() <= 1e-9
    # The comparison means something: the read-out moves from step to step.
    assert (read_out[0] - read_out[-1]).abs().max() > 1e-3


@pytest.mark.parametrize(("name", "simulate"), [("bert", increments.bert), ("resnet20", increments.resnet)])
@example(spread=1, chunk=1, seed=386)  # where padding settles last
@given(spread=st.integers(1, 9), chunk=st.integers(1, 20), seed=st.integers(0, 2**31))
@settings(max_examples=8, deadline=None)
def test_every_spike_is_equal_however_the_input_is_given_and_time_is_cut(
    name: str, simulate: Any, spread: int, chunk: int, seed: int
) -> None:
    T = 20
    model, inputs = quantised(name, "lsq")
    generator = torch.Generator().manual_seed(seed)
    if "pixel_values" in inputs:
        like = inputs["pixel_values"]
        inputs = {"pixel_values": torch.randn(like.shape, generator=generator, dtype=like.dtype)}
    else:
        drawn = torch.randint(1, 40, inputs["input_ids"].shape, generator=generator)
        inputs = {**inputs, "input_ids": drawn * inputs["attention_mask"]}
    run = increments.Increments(model, T, "sum", "st_bif", spread=spread)
    read_out = run.aggregate(simulate(run, model, inputs))
    logits, spikes = spikes_of(snn.convert(model, "st_bif", T, spread=spread), inputs, chunk)
    # A sample leaves once nothing that counts changes any more, whatever padding still does.
    with valid_positions(inputs.get("attention_mask")):
        for place, emitted in run.spikes.items():
            real = current_mask(emitted[0])
            differ = spikes[place] != emitted
            assert not (differ if real is None else differ & real).any(), place
    assert (logits - read_out).abs().max() <= 1e-9


def test_the_simulation_ends_at_the_quantised_network() -> None:
    for quantizer, neuron, coding, T in (("qcfs", "para_inf", "mean", 8), ("lsq", "st_bif", "sum", 60)):
        model, inputs = quantised("bert", quantizer)
        run = increments.Increments(model, T, coding, neuron)
        read_out = run.aggregate(increments.bert(run, model, inputs))
        assert (read_out[-1] - model(**inputs).logits).abs().max() <= 1e-9


@pytest.mark.parametrize("coding", ["sum", "mean"])
def test_operators_are_differences_of_the_function_on_aggregates(coding: str) -> None:
    run = increments.Increments(nn.Identity(), 6, coding, "none")
    x, y = torch.randn(6, 2, 3, 4, dtype=torch.float64), torch.randn(6, 2, 4, 3, dtype=torch.float64)
    weight, bias = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    dense = run.linear(lambda now: now @ weight.T, x, bias)
    for got, want in (
        (run.aggregate(dense), run.aggregate(x) @ weight.T + bias),
        (run.aggregate(run.difference(torch.tanh, x)), run.aggregate(x).tanh()),
        (run.aggregate(run.product(x, y)), run.aggregate(x) @ run.aggregate(y)),
        (run.aggregate(run.constant(bias)), bias.expand(6, 5)),
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@pytest.mark.reference
def test_operators_are_those_of_the_method() -> None:
    data = arrays("spikezip/linear_unfold_bias")
    run = increments.Increments(nn.Identity(), 12, "sum", "none")
    got = run.linear(lambda now: now @ data["weight"].T, data["x"], data["bias"])
    torch.testing.assert_close(got, data["out_bias_first_step"], rtol=0, atol=1e-6)
    run = increments.Increments(nn.Identity(), 12, "sum", "none", spread=int(data["level"]))
    got = run.linear(lambda now: now @ data["weight"].T, data["x"], data["bias"])
    torch.testing.assert_close(got, data["out_bias_over_level_steps"], rtol=0, atol=1e-6)
    data = arrays("spikezip/two_operand_product")
    for a, b, out in ((data["q"], data["k"].mT, "qk_out"), (data["q"], data["v"], "qv_out")):
        torch.testing.assert_close(run.product(a, b), data[out], rtol=0, atol=1e-5)
