"""Training the spiking network itself: its forward is the network's own, its gradient that of its law."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snn
from snn.conversion.network import SpikingNetwork
from snn.training.optimizer import build_optimizer
from snn.training.through_time import ThroughTime

CASES = [("para_inf", "qcfs", 4), ("integrate_fire", "qcfs", 4), ("st_bif", "lsq", 24)]


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second = nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8)
        self.norm, self.read_out = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.read_out(self.norm(self.second(self.act(self.first(x)))))


RULES: list[dict[str, Any]] = [
    {"match": "act", "do": "replace", "signed": False},
    {"match": "norm", "do": "append", "signed": True},
]


def quantised(name: str, levels: int = 4) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(64, 6, dtype=torch.float64)
    labels = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 1).long()
    model = snn.quantize(Small().double(), RULES, name=name, levels=levels)
    return snn.calibrate(model, [{"x": x}]).double().eval(), x, labels


def spiking(neuron: str, quantizer: str, T: int) -> tuple[nn.Module, SpikingNetwork, Tensor, Tensor]:
    model, x, labels = quantised(quantizer)
    return model, snn.convert(model, neuron=neuron, T=T), x, labels


@pytest.mark.parametrize(("neuron", "quantizer", "T"), CASES)
def test_the_forward_pass_is_the_spiking_network(neuron: str, quantizer: str, T: int) -> None:
    _, network, x, _ = spiking(neuron, quantizer, T)
    through = ThroughTime(network)
    assert torch.equal(through(x=x), network(x=x).logits[-1])
    assert torch.equal(through.trained()(x=x).logits, network(x=x).logits)
    assert through.train().training is False


def test_the_gradient_goes_through_all_steps_whatever_the_chunk() -> None:
    model, _, x, labels = spiking(*CASES[1])
    found = []
    for chunk in (None, 2):
        network = snn.convert(copy.deepcopy(model), "integrate_fire", 4, chunk=chunk)
        through = ThroughTime(network)
        nn.functional.cross_entropy(through(x=x), labels).backward()
        found.append({name: p.grad for name, p in through.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("neuron", "quantizer", "T"), [CASES[0], CASES[2]])
def test_an_exact_neuron_has_the_gradient_of_its_quantised_twin(neuron: str, quantizer: str, T: int) -> None:
    """QCFS for ParaInf; LSQ for ST-BIF where its input arrives at once, as it does in the first layer."""
    model, network, x, labels = spiking(neuron, quantizer, T)
    through = ThroughTime(network)
    for logits in (model(x), through(x=x)):
        nn.functional.cross_entropy(logits, labels).backward()
    wanted = dict(model.named_parameters())
    found = {name.removeprefix("network.model."): p.grad for name, p in through.named_parameters()}
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        expected = wanted[name].grad
        assert gradient is not None, name
        assert expected is not None, name
        torch.testing.assert_close(
            gradient, expected, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(("neuron", "quantizer", "T"), CASES)
def test_training_lowers_the_loss_of_the_spiking_network(neuron: str, quantizer: str, T: int) -> None:
    _, network, x, labels = spiking(neuron, quantizer, T)
    through = ThroughTime(network)
    optimizer = build_optimizer(through, {"_target_": "torch.optim.AdamW", "lr": 0.01}, threshold_lr=0.001)
    assert optimizer.param_groups[-1]["lr"] == 0.001
    assert len(optimizer.param_groups[-1]["params"]) == 2

    def loss(net: SpikingNetwork) -> float:
        return float(nn.functional.cross_entropy(net(x=x).logits[-1], labels))

    before = loss(network)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(through(x=x), labels).backward()
        optimizer.step()
    trained = through.trained()
    assert loss(trained) < 0.8 * before
    assert loss(network) == before
    assert all(not p.requires_grad for p in trained.parameters())
    thresholds = [n.threshold for n in trained.neurons.values()]
    assert all((t > 0).all() for t in thresholds)
    assert torch.equal(through(x=x), trained(x=x).logits[-1])  # goes on as before
    assert not torch.equal(thresholds[0], next(iter(network.neurons.values())).threshold)


def test_a_threshold_that_an_optimiser_drove_below_zero_counts_by_its_magnitude() -> None:
    _, network, x, _ = spiking(*CASES[0])
    through = ThroughTime(network)
    with torch.no_grad():
        for parameter in (p for n, p in through.named_parameters() if "threshold" in n):
            parameter.neg_()
    assert torch.equal(through(x=x), network(x=x).logits[-1])
