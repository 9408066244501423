"""Operation counts against SpikingJelly's counters, on its own network with the same weights.

They agree where the conventions do: layers that take the spikes of one layer, and layers on the input. Beside that, its
counters take a signal for spikes only if all of its values are 0 or 1, so averages and sums of spikes count as
multiply-accumulates there; and they know nothing of running sums.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snn
from snn.evaluation.evaluate import evaluate
from snn.evaluation.operations import OperationCounts

pytest.importorskip(
    "spikingjelly", reason="SpikingJelly is missing: pip install spikingjelly (extra `bench`)"
)

T = 6


@pytest.fixture(scope="module")
def jelly() -> Iterator[Any]:
    with warnings.catch_warnings(action="ignore"):  # of the package about itself
        from spikingjelly.activation_based import neuron, op_counter

        yield SimpleNamespace(neuron=neuron, op_counter=op_counter)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(5, 4, (1, 3), stride=(2, 1), bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 4 * 5, 7),
        nn.ReLU(),
        nn.Linear(7, 3),
    )
    for module in layers:
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data *= 2.5
    return layers.double().eval()


def ours(x: Tensor) -> tuple[OperationCounts, Tensor]:
    rules = [{"type": "ReLU", "do": "replace", "threshold": 1.0}]
    converted = snn.convert(snn.quantize(network(), rules, levels=T), "integrate_fire", T)
    found = evaluate(converted, [{"input": x, "labels": torch.zeros(len(x), dtype=torch.long)}])
    assert found.operations is not None
    return found.operations, converted(input=x).logits[-1]


def theirs(jelly: Any, x: Tensor) -> tuple[dict[str, dict[str, float]], Tensor]:
    """Counts of a sample by module, and the mean output over the steps."""
    model = network()
    for index, module in enumerate(model):
        if isinstance(module, nn.ReLU):
            model[index] = jelly.neuron.IFNode(v_threshold=1.0, v_reset=None)
            model[index].v = 0.5  # where our membranes start
    counters = {"acs": jelly.op_counter.SynOpCounter(), "macs": jelly.op_counter.MACCounter()}
    with torch.no_grad(), jelly.op_counter.DispatchCounterMode(list(counters.values())):
        outputs = [model(x) for _ in range(T)]
    counts: dict[str, dict[str, float]] = {}
    for kind, counter in counters.items():
        for scope, by_op in counter.records.items():
            counts.setdefault(scope.rpartition(".")[2], {})[kind] = sum(by_op.values()) / len(x)
    return counts, torch.stack(outputs).mean(0)


def test_spikes_and_operations_are_the_same(jelly: Any) -> None:
    x = 2 * torch.rand(5, 2, 14, 14, dtype=torch.float64)
    counts, logits = ours(x)
    found, other = theirs(jelly, x)
    assert (logits - other).abs().max() <= 1e-9
    first, *rest = counts.products
    assert found["0"]["macs"] == sum(first.macs) > 0
    assert found["0"].get("acs", 0) == 0
    assert [product.product.module for product in rest] == [name for name in found if name != "0"]
    assert len(rest) == 4
    for product in rest:
        name = product.product.module
        added = sum(sum(factor) for factor in product.accumulates)
        assert found[name]["acs"] == pytest.approx(added, rel=1e-9), name
        assert found[name].get("macs", 0) == 0, name
        assert added > 0, name
