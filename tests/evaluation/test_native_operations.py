"""Spikes and operations of networks that spike by themselves: against loops over every spike, and closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn.conversion.native_watch import watch_native
from snn.evaluation.energy import energy
from snn.evaluation.energy_profile import EnergyProfile
from snn.evaluation.evaluate import Measurement, evaluate
from snn.evaluation.operations import OperationCounts
from snn.models import create_model
from snn.neurons.native import NativeNeuron
from tests.models.small import SMALL

NETWORKS = ("spikformer", "sdt", "qkformer", "tim")
PROFILE = EnergyProfile("test", "", 4.6, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0)


def network(name: str, **more: Any) -> nn.Module:
    """Small, with norms that let neurons fire."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, **{**SMALL[name], "T": 3, **more})
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(1, 2)
                module.bias.uniform_(0.1, 0.7)
                module.momentum = 1.0
        model.train()
        model(frames(model, 6))
    return model.eval()


def frames(model: nn.Module, rows: int = 4) -> Tensor:
    return torch.randn(rows, model.T, model.in_channels, 32, 32)


def batch(model: nn.Module, rows: int = 4, pictures: bool = False) -> dict[str, Tensor]:
    x = frames(model, rows)
    return {"pixel_values": x[:, 0] if pictures else x, "labels": torch.zeros(rows, dtype=torch.long)}


def seen(model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """What every module gets and gives, as it happens."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    handles = [
        module.register_forward_hook(lambda _m, args, out, name=name: found.update({name: (args[0], out)}))
        for name, module in model.named_modules()
        if name
    ]
    with torch.no_grad():
        model(inputs["pixel_values"])
    for handle in handles:
        handle.remove()
    return found


def measured(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Measurement, OperationCounts]:
    found = evaluate(model, [inputs])
    assert found.operations is not None
    return found, found.operations


def convolution(events: Tensor, module: nn.Conv2d, T: int) -> Tensor:
    """Over every place of the output and every tap that lies within the picture, ``[T]``."""
    (kernel, _), (stride, _), (padding, _) = module.kernel_size, module.stride, module.padding
    events = events.double().reshape(T, -1, *events.shape[-2:])
    height, width = events.shape[-2:]
    total = torch.zeros(T, dtype=torch.float64)
    for top in range(-padding, height + padding - kernel + 1, stride):
        for left in range(-padding, width + padding - kernel + 1, stride):
            for row in range(max(0, top), min(height, top + kernel)):
                for column in range(max(0, left), min(width, left + kernel)):
                    total += events[..., row, column].sum(-1) * module.out_channels
    return total


def met(left: Tensor, right: Tensor) -> Tensor:
    """Every pair of channels, at every token: spikes of the left one and of the right one, ``[2, T]``."""
    total = torch.zeros(2, len(left), dtype=torch.float64)
    for i in range(left.shape[-1]):
        for j in range(right.shape[-1]):
            total[0] += left[..., i].double().flatten(1).sum(1)
            total[1] += right[..., j].double().flatten(1).sum(1)
    return total


@pytest.mark.parametrize("name", ["spikformer", "sdt"])
def test_every_convolution_against_loops(name: str) -> None:
    model = network(name)
    inputs = batch(model)
    within, (_, counts) = seen(model, inputs), measured(model, inputs)
    by_name = {p.product.module: p for p in counts.products}
    compared = 0
    for module_name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and by_name[module_name].product.spiking:
            right = convolution(within[module_name][0], module, model.T) / len(inputs["labels"])
            assert by_name[module_name].accumulates[0] == pytest.approx(right.tolist(), rel=1e-6)
            assert right.sum() > 0
            compared += 1
    assert compared >= 10


def test_attention_of_a_spikformer_against_loops() -> None:
    model = network("spikformer")
    inputs, heads = batch(model), 2
    within, (_, counts) = seen(model, inputs), measured(model, inputs)
    spikes = {
        part: within[f"blocks.0.attention.{part}"][1].unflatten(2, (heads, -1)).flatten(-2).mT
        for part in ("query", "key", "value")
    }  # [T, B, heads, N, d]
    first, second = (p for p in counts.products if p.product.module == "blocks.0.attention")
    rows = len(inputs["labels"])
    tokens, width = spikes["query"].shape[-2:]
    assert width < tokens  # so that K^T V comes first, d x d
    value, key = met(spikes["value"], spikes["key"]) / rows
    assert first.accumulates[0] == pytest.approx(value.tolist(), rel=1e-6)
    assert first.accumulates[1] == pytest.approx(key.tolist(), rel=1e-6)
    query = spikes["query"].double().flatten(1).sum(1) * width / rows
    assert second.product.factors == "counts × spikes"
    assert (second.accumulates[0], second.accumulates[1]) == ([0.0] * 3, pytest.approx(query.tolist()))
    # T h N d^2 (min(r_K, r_V) + r_Q), as the authors count
    rate = {part: float(x.mean()) for part, x in spikes.items()}
    closed = model.T * heads * tokens * width**2 * (min(rate["key"], rate["value"]) + rate["query"])
    found = energy(counts, PROFILE)
    attention = next(row for row in found.parts() if row["part"] == "attention on spikes")
    assert attention["acs"] == pytest.approx(closed, rel=0.05)  # the sparser of each step, not of the mean
    assert attention["acs"] <= closed * (1 + 1e-9)


def test_gates_and_masks_count_what_passes() -> None:
    model = network("qkformer")
    inputs = batch(model)
    within, (_, counts) = seen(model, inputs), measured(model, inputs)
    name = "blocks.0.0.attention"
    query = within[f"{name}.query"][1].double().flatten(1).sum(1) / 4
    gate = next(p for p in counts.products if p.product.module == f"{name}.neuron")
    assert (gate.product.op, gate.accumulates[0]) == ("sum", pytest.approx(query.tolist()))
    model = network("sdt")
    inputs = batch(model)
    within, (_, counts) = seen(model, inputs), measured(model, inputs)
    name = "blocks.0.attention"
    both = within[f"{name}.key"][1] * within[f"{name}.value"][1]
    mask = next(p for p in counts.products if p.product.module == f"{name}.neuron")
    assert mask.accumulates[0] == pytest.approx((both.double().flatten(1).sum(1) / 4).tolist())


def test_the_steps_of_a_temporal_interaction() -> None:
    model = network("tim", T=4)
    inputs = batch(model)
    found, counts = measured(model, inputs)
    name = "blocks.0.attention.on_query"
    conv = next(p for p in counts.products if p.product.module == f"{name}.conv")
    assert conv.macs[0] == 0
    assert conv.macs[1:] == [conv.dense] * 3
    assert conv.accumulates[0][0] == 0
    assert sum(conv.accumulates[0]) > 0
    assert [at > 0 for at in counts.membranes[f"{name}.in_neuron"]] == [False, True, True, True]
    rates = {row["name"]: row["rate_per_timestep"] for row in found.layers}
    assert rates[f"{name}.out_neuron"][0] == 0
    assert sum(rates[f"{name}.out_neuron"]) > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_spikes_of_every_layer(name: str) -> None:
    model = network(name)
    inputs = batch(model)
    within, (found, _) = seen(model, inputs), measured(model, inputs)
    rows = {row["name"]: row for row in found.layers}
    total = 0.0
    for layer, module in model.named_modules():
        if not isinstance(module, NativeNeuron):
            continue
        row = rows.pop(layer)
        total += row["neurons"] * row["rate"] * model.T
        if layer not in within:  # called step by step
            continue
        spikes = within[layer][1].double().reshape(model.T, 4, -1)
        assert row["neurons"] == spikes.shape[-1]
        assert row["rate_per_timestep"] == pytest.approx(spikes.mean((1, 2)).tolist())
        assert row["silent"] == pytest.approx(float((spikes.sum(0) == 0).double().mean()))
        assert row["always"] == pytest.approx(float((spikes.sum(0) == model.T).double().mean()))
    assert not rows
    assert found.spikes_per_sample == pytest.approx(total)
    assert found.spike_rate is not None
    assert 0 < found.spike_rate < 1


def in_pieces(found: Measurement) -> list[float]:
    assert found.operations is not None
    pieces = [
        x for p in found.operations.products for x in [p.dense, *p.macs, *p.accumulates[0], *p.accumulates[1]]
    ]
    return pieces + [row[key] for row in found.layers for key in ("rate", "silent", "always")]


@pytest.mark.parametrize("name", NETWORKS)
def test_batches_and_order_do_not_matter(name: str) -> None:
    model = network(name)
    whole = batch(model)
    one = evaluate(model, [whole])
    other = evaluate(model, [{k: v[chosen] for k, v in whole.items()} for chosen in ([3, 1, 0], [2])])
    assert in_pieces(other) == pytest.approx(in_pieces(one), rel=1e-6)
    with torch.no_grad():
        before = model(whole["pixel_values"])
        evaluate(model, [whole])
        assert torch.equal(model(whole["pixel_values"]), before)


def test_the_released_neuron_of_qkformer_is_counted_too() -> None:
    model = network("qkformer", legacy_tb_neuron=True)
    inputs = batch(model)
    name = "blocks.2.0.attention.out"
    within, (found, _) = seen(model, inputs), measured(model, inputs)
    row = next(row for row in found.layers if str(row["name"]).startswith(name))
    assert row["rate_per_timestep"] == pytest.approx(within[name][1].mean((1, 2, 3, 4)).tolist())


def test_energy_is_the_closed_form_of_the_table() -> None:
    """E_MAC * T * F_first + E_AC * (sum of rates times MACs + attention), residual sums event by event."""
    model = network("spikformer")
    inputs = batch(model, pictures=True)
    _, counts = measured(model, inputs)
    found = energy(counts, PROFILE)
    first = counts.products[0]
    assert (first.product.factors, first.macs) == ("input", [first.dense] * 3)
    acs = sum(
        sum(p.accumulates[0]) + sum(p.accumulates[1]) for p in counts.products if p.product.right == "weight"
    )
    attention = [p for p in counts.products if p.product.module.endswith("attention")]
    acs += sum(map(min, *attention[0].accumulates)) + sum(attention[1].accumulates[1])
    expected = 4.6 * 3 * first.dense + 0.9 * acs
    assert found.networks[2]["energy_uj"] == pytest.approx(expected / 1e6)
    strict = energy(counts, EnergyProfile(**{**vars(PROFILE), "non_binary": "macs"}))
    assert strict.networks[2]["energy_uj"] > found.networks[2]["energy_uj"]
    once = EnergyProfile(**{**vars(PROFILE), "first_layer": "once"})
    assert energy(counts, once).networks[2]["macs"] == first.dense
    _, of_frames = measured(model, batch(model))
    assert energy(of_frames, once).networks[2]["macs"] == 3 * first.dense
    assert any("no running sums" in line for line in found.assumptions())


@pytest.mark.parametrize(
    ("name", "args", "macs"),
    [("spikformer", {}, 0.921e9), ("sdt", {}, 1.235e9), ("qkformer", {}, 1.511e9)],
)
def test_work_of_the_published_sizes(name: str, args: dict[str, Any], macs: float) -> None:
    """Convolutions and linear layers of one step, as the reference counts them, T = 1."""
    model = create_model(name, num_classes=10, T=1, **args).eval()
    watch = watch_native(model, {"pixel_values": torch.zeros(1, 3, 32, 32)})
    weighted = sum(s.product.macs for s in watch.order if s.product.right == "weight")
    assert weighted == pytest.approx(macs, rel=1e-3)
