"""The spiking network: samples, state, copies, chunks of time, and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import snn
from snn.conversion.call import call_model
from snn.errors import ConfigError, ConversionError
from snn.models import list_models

from .networks import quantised

NEURONS = {"para_inf": ("qcfs", 8), "integrate_fire": ("qcfs", 8), "st_bif": ("lsq", 12)}
every_model = pytest.mark.parametrize("name", list_models(native=False))
every_neuron = pytest.mark.parametrize("neuron", NEURONS)


def spiking(name: str, neuron: str, **options) -> tuple[snn.SpikingNetwork, dict[str, Tensor]]:
    quantizer, T = NEURONS[neuron]
    model, inputs = quantised(name, quantizer)
    return snn.convert(model, neuron, T, **options), inputs


def rows(inputs: dict[str, Tensor], index) -> dict[str, Tensor]:
    return {k: v[index] for k, v in inputs.items()}


@every_model
@every_neuron
def test_a_sample_alone_is_the_sample_in_any_batch(name: str, neuron: str) -> None:
    network, inputs = spiking(name, neuron)
    together = network(**inputs)
    for order in ([0], [1], [2], [2, 0, 1], [1, 1, 0, 2]):
        out = network(**rows(inputs, order))
        torch.testing.assert_close(out.logits, together.logits[:, order], rtol=0, atol=1e-11)
        for layer, spikes in together.spikes.items():
            assert torch.equal(out.spikes[layer].positive, spikes.positive[:, order])
            assert torch.equal(out.spikes[layer].negative, spikes.negative[:, order])
            assert torch.equal(out.spikes[layer].neurons, spikes.neurons[order])


@every_neuron
def test_padding_changes_neither_logits_nor_recorded_spikes(neuron: str) -> None:
    network, inputs = spiking("bert", neuron)
    together = network(**inputs)
    for index, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        alone = network(**{k: v[index : index + 1, :length] for k, v in inputs.items()})
        torch.testing.assert_close(alone.logits[:, 0], together.logits[:, index], rtol=0, atol=1e-11)
        for layer, spikes in together.spikes.items():
            assert torch.equal(alone.spikes[layer].total[:, 0], spikes.total[:, index]), layer
            # The attention of a token to padding is a neuron that stays silent.
            if "softmax" not in layer:
                assert torch.equal(alone.spikes[layer].neurons[0], spikes.neurons[index]), layer


@every_model
def test_two_networks_share_no_state(name: str) -> None:
    first, inputs = spiking(name, "integrate_fire")
    second = snn.convert(quantised(name)[0], "integrate_fire", 5)
    alone = [network(**inputs).logits for network in (first, second)]

    def meanwhile(run, event) -> None:
        nonlocal interrupted
        if interrupted is None:
            interrupted = second(chunk=2, **inputs).logits

    interrupted = None
    # The second network runs in the middle of the first one's forward.
    assert torch.equal(first(observers=(meanwhile,), **inputs).logits, alone[0])
    torch.testing.assert_close(interrupted, alone[1], rtol=0, atol=1e-11)
    assert torch.equal(first(**inputs).logits, alone[0])


@every_model
@every_neuron
def test_deepcopy_gives_the_same_bits_and_shares_nothing(name: str, neuron: str) -> None:
    network, inputs = spiking(name, neuron)
    before = network(**inputs).logits
    twin = copy.deepcopy(network)
    assert torch.equal(twin(**inputs).logits, before)
    assert not {id(m) for m in twin.modules()} & {id(m) for m in network.modules()}
    for value in [*twin.parameters(), *twin.buffers()]:
        if value.is_floating_point():
            value.mul_(1.5)
    assert torch.equal(network(**inputs).logits, before)
    assert not torch.equal(twin(**inputs).logits, before)


@every_model
def test_converting_changes_the_quantised_network_in_nothing(name: str) -> None:
    model, inputs = quantised(name)
    before, state = call_model(model, inputs), {k: v.clone() for k, v in model.state_dict().items()}
    snn.convert(model, "para_inf", 8)(**inputs)
    assert torch.equal(call_model(model, inputs), before)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


class Rowwise(nn.Module):
    """A dense layer whose arithmetic for one row does not depend on how many rows there are."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.randn(outputs, inputs)),
            nn.Parameter(torch.randn(outputs)),
        )

    def forward(self, x: Tensor) -> Tensor:
        total = self.bias.expand(x.shape[0], -1)
        for column in range(x.shape[1]):
            total = total + x[:, column, None] * self.weight[:, column]
        return total


def rowwise(quantizer: str) -> tuple[nn.Module, dict[str, Tensor]]:
    model = nn.Sequential(Rowwise(5, 7), nn.Tanh(), Rowwise(7, 6), nn.ReLU(), Rowwise(6, 3)).eval()
    inputs = {"x": torch.randn(4, 5)}
    rules = [
        {"type": "Tanh", "signed": True},
        {"match": "3", "do": "replace"},
        {"match": "4", "signed": True},
    ]
    return snn.calibrate(snn.quantize(model, rules, name=quantizer), [inputs]), inputs


@pytest.mark.parametrize("neuron", ["integrate_fire", "st_bif"])
def test_all_chunks_agree_to_the_last_bit_where_the_arithmetic_is_the_same(neuron: str) -> None:
    quantizer, T = NEURONS[neuron]
    model, inputs = rowwise(quantizer)
    network = snn.convert(model, neuron, T)
    whole = network(**inputs)
    for chunk in (1, 2, 3, 5, T - 1, T, T + 4):
        cut = network(chunk=chunk, **inputs)
        assert torch.equal(cut.logits, whole.logits)
        for layer, spikes in whole.spikes.items():
            # A run in chunks ends when everything has settled, and then there are no spikes.
            assert torch.equal(cut.spikes[layer].total, spikes.total)
            assert spikes.total[cut.steps :].sum() == 0
    assert torch.equal(network(execution="stepwise", **inputs).logits, whole.logits)
    stepwise = snn.convert(model, neuron, T, execution="stepwise")
    assert torch.equal(stepwise(**inputs).logits, whole.logits)


def test_a_module_that_is_used_twice_has_two_trajectories() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()
            self.same = self.act

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.same(self.first(self.act(self.first(x)))))

    inputs = {"x": 2 * torch.randn(6, 4, dtype=torch.float64)}
    model = snn.quantize(Twice().double().eval(), [{"match": "act", "do": "replace"}])
    assert model.same is model.act
    snn.calibrate(model, [inputs])
    network = snn.convert(model, "para_inf", 8)
    assert snn.verify(model, network, [inputs]).differing == 0
    assert list(network(**inputs).spikes) == ["act", "act#1"]
    causal = snn.convert(model, "integrate_fire", 8)
    assert torch.equal(
        causal(**inputs).spikes["act#1"].total, causal(chunk=1, **inputs).spikes["act#1"].total
    )


def test_labels_are_ignored_and_recording_is_a_choice() -> None:
    network, inputs = spiking("bert", "para_inf")
    out = network(**inputs, labels=torch.zeros(3, dtype=torch.long))
    assert torch.equal(out.logits, network(**inputs).logits)
    assert out.spikes
    assert network(record=False, **inputs).spikes == {}


def test_a_spiking_network_is_not_trained() -> None:
    network, _ = spiking("resnet20", "para_inf")
    with pytest.raises(
        ConversionError, match="runs in evaluation mode only; train the quantised network instead"
    ):
        network.train()
    assert not network.eval().training
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(
    ("neuron", "options", "message"),
    [
        ("para_inf", {"execution": "stepwise"}, "neuron=para_inf needs all T steps at once"),
        ("para_inf", {"chunk": 3}, "neuron=para_inf needs all T steps at once"),
        ("integrate_fire", {"execution": "collapsed"}, "neuron=integrate_fire has no collapsed form"),
        (
            "integrate_fire",
            {"execution": "steps"},
            "execution: unknown name 'steps'; did you mean 'stepwise'",
        ),
        ("integrate_fire", {"chunk": 0}, "execution.chunk must be at least 1; got 0"),
    ],
)
def test_executions_that_cannot_work(neuron: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spiking("resnet20", neuron, **options)
    network, inputs = spiking("resnet20", neuron)
    with pytest.raises(ConfigError, match=message):
        network(**options, **inputs)
