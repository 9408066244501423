"""Latency: which executions are timed, how many layers wait for each other, and when samples decide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import snn
from snn.conversion.network import SpikingNetwork
from snn.errors import ConfigError
from snn.evaluation.analyses import create_analysis
from snn.evaluation.depth import layers_in_sequence
from snn.evaluation.evaluate import evaluate
from snn.evaluation.latency import OWN, executions, steps_in_sequence, time_executions
from snn.evaluation.read_out import decision_times, read_outs
from snn.tracking.latency_report import decision_sentence, latency_section
from tests.conversion.networks import quantised
from tests.models.small import SMALL, batch

RELU = [{"type": "ReLU", "do": "replace", "signed": False}]


def converted(
    model: nn.Module, inputs: dict[str, Tensor], neuron: str = "para_inf", T: int = 3
) -> SpikingNetwork:
    qann = snn.quantize(model.eval(), RELU, name="qcfs", levels=T)
    return snn.convert(snn.calibrate(qann, [inputs]), neuron, T)


class Branches(nn.Module):
    """Two ways that meet: one through two layers of neurons, one through a shortcut and a third layer behind."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (nn.Linear(4, 4) for _ in range(3))
        self.acts = nn.ModuleList(nn.ReLU() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        a = self.acts[0](self.first(x))
        b = self.acts[1](self.second(x))
        return self.last(self.acts[2](a + b) + x)


def test_layers_beside_each_other_do_not_wait() -> None:
    inputs = {"x": torch.randn(3, 4)}
    network = converted(Branches(), inputs)
    assert len(network.neurons) == 3
    assert layers_in_sequence(network, inputs) == 2


@pytest.mark.parametrize("neuron", ["para_inf", "integrate_fire"])
@pytest.mark.parametrize("name", ["resnet20", "bert"])
def test_layers_of_real_networks(name: str, neuron: str) -> None:
    qann, inputs = quantised(name, "qcfs", 3)
    network = snn.convert(qann, neuron, 3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    depth = layers_in_sequence(network, inputs)
    # Every ReLU of a ResNet lies behind the one before; query, key and value lie beside each other.
    blocks = sum(name.endswith("attention.self.query.quantizer_out") for name in network.neurons)
    assert depth == len(network.neurons) - 2 * blocks
    assert layers_in_sequence(network, inputs) == depth
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(not neuron._forward_hooks for neuron in network.neurons.values())


def test_a_layer_that_is_not_causal_needs_all_steps_of_the_one_before() -> None:
    assert steps_in_sequence(4, 8, causal=False) == 32
    assert steps_in_sequence(4, 8, causal=True) == 11
    assert steps_in_sequence(1, 8, causal=True) == steps_in_sequence(1, 8, causal=False) == 8


@pytest.mark.parametrize(
    ("neuron", "possible", "reason"),
    [
        ("para_inf", {"parallel", "collapsed"}, "needs all T steps at once"),
        ("integrate_fire", {"parallel", "stepwise"}, "has no collapsed form"),
    ],
)
def test_each_execution_that_a_neuron_can_do_is_timed(neuron: str, possible: set[str], reason: str) -> None:
    inputs = {"x": torch.randn(2, 4)}
    network = converted(Branches(), inputs, neuron)
    runs, refused = executions(network)
    assert set(runs) == possible
    assert len(refused) == 1
    assert reason in next(iter(refused.values()))
    timings = time_executions(network, [inputs, {"x": torch.randn(2, 4)}], calls=3)
    assert {t.execution for t in timings} == possible
    for timing in timings:
        assert 0 < timing.low <= timing.milliseconds <= timing.high
        assert (timing.batch, timing.calls) == (2, 3)


def test_a_network_that_spikes_by_itself_has_one_execution() -> None:
    model = snn.create_model("spikformer", **SMALL["spikformer"]).eval()
    (timing,) = time_executions(model, [batch(model, 2)], calls=1)
    assert timing.execution == OWN


def test_decisions_are_those_of_the_read_outs() -> None:
    inputs = {"x": torch.randn(40, 4)}
    network = converted(Branches(), inputs, "integrate_fire", T=6)
    batches = [{"x": x, "labels": torch.zeros(len(x), dtype=torch.long)} for x in inputs["x"].split(16)]
    found = evaluate(network, batches)
    logits = read_outs(network, batches, "x").logits
    assert found.operations is not None  # though no product takes spikes alone
    assert found.decisions == torch.bincount(decision_times(logits) - 1, minlength=6).tolist()
    assert sum(found.decisions) == 40
    assert found.to_dict()["decisions_per_timestep"] == found.decisions
    assert evaluate(Branches(), batches).decisions == []


def test_the_sentence_on_decisions() -> None:
    assert decision_sentence([], causal=True) == ""
    text = decision_sentence([9, 0, 0, 1], causal=False)
    assert "1.30 steps on average, 1 for nine in ten" in text
    assert "*Prefix*" in text


def test_the_section_says_what_waits_for_what() -> None:
    timing = {
        "execution": "parallel",
        "batch": 1,
        "milliseconds": 3.14159,
        "low": 3.0,
        "high": 3.5,
        "calls": 20,
    }
    found = {
        "T": 8,
        "timings": [timing],
        "refused": {"stepwise": "neuron=para_inf needs all T steps at once"},
        "split": "test",
        "device": "cpu",
        "threads": 1,
        "causal": False,
        "layers": 6,
        "steps": 48,
    }
    text = latency_section(found)
    assert "6 × 8 = 48" in text
    assert "not causal" in text
    assert "3.14" in text
    assert "no stepwise: neuron=para_inf needs" in text
    assert "6 + 8 − 1 = 13" in latency_section(found | {"causal": True, "steps": 13})
    assert latency_section({}) == ""


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"batch_sizes": []}, r"analysis\.batch_sizes must be one number or more"),
        ({"batch_sizes": [0]}, r"each at least 1; got \[0\]"),
        ({"calls": 0}, r"analysis\.calls must be at least 1; got 0"),
        ({"batches": [1]}, r"analysis\.batches: no such key; did you mean 'batch_sizes'"),
    ],
)
def test_wrong_values_are_refused(section: dict, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        create_analysis({"name": "latency", **section})
