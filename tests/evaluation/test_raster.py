"""The raster against the counts of every neuron, and its figure."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import snn
from snn.conversion.surgery import place
from snn.evaluation.raster import raster
from snn.models.spiking.layers import PerStep
from snn.neurons.lif import LIF
from snn.neurons.run import Event, Run
from snn.tracking.publish import raster_rows
from snn.tracking.rasters import confusion_matrix, spike_raster
from tests.conversion.networks import quantised


@pytest.mark.parametrize(
    ("neuron", "quantizer", "T", "execution"),
    [
        ("para_inf", "qcfs", 8, "parallel"),
        ("para_inf", "qcfs", 8, "collapsed"),
        ("integrate_fire", "qcfs", 8, "stepwise"),
        ("st_bif", "lsq", 30, "stepwise"),
    ],
)
def test_spikes_are_those_of_the_network(neuron: str, quantizer: str, T: int, execution: str) -> None:
    model, inputs = quantised("resnet20", quantizer)
    network = snn.convert(model, neuron, T, execution=execution)
    found = raster(network, inputs, layers=3, neurons=5)
    one = {k: v[:1] for k, v in inputs.items()}
    counts: dict[str, Tensor] = {}
    names = {neuron: place(name) for name, neuron in network.neurons.items()}

    def keep(run: Run, event: Event) -> None:
        counts[names[event.neuron]] = torch.cat([event.previous[None], event.counts]).flatten(1)

    network(execution="parallel", observers=(keep,), **one)
    assert (found["T"], found["causal"]) == (T, network.causal)
    assert [layer["name"] for layer in found["layers"]] == [list(counts)[i] for i in (0, 4, 8)]
    some = 0
    for layer in found["layers"]:
        spikes = counts[layer["name"]].diff(dim=0)
        assert layer["size"] == spikes.shape[1]
        assert layer["neurons"][0] == 0
        assert layer["neurons"][-1] == layer["size"] - 1
        assert layer["spikes"] == spikes[:, layer["neurons"]].T.int().tolist()
        some += int(spikes.abs().sum())
    assert some > 0
    assert len(raster_rows(found)) == sum(abs(s) for x in found["layers"] for row in x["spikes"] for s in row)


class Native(nn.Module):
    """Two layers of neurons over three steps, both of them small."""

    T = 3

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second, self.out = (
            PerStep(nn.Linear(4, 3)),
            LIF(),
            PerStep(nn.Linear(3, 2)),
            LIF(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.second(self.act(self.first(x.expand(self.T, *x.shape)))))


def test_networks_that_spike_by_themselves() -> None:
    torch.manual_seed(0)
    model, x = Native(), 9 * torch.rand(5, 4)
    found = raster(model, {"x": x, "labels": torch.zeros(5)})
    out = model(x[:1])[:, 0]
    assert [(layer["name"], layer["neurons"]) for layer in found["layers"]] == [
        ("act", [0, 1, 2]),
        ("out", [0, 1]),
    ]
    assert found["layers"][1]["spikes"] == out.T.int().tolist()


def test_a_network_without_neurons_that_can_be_watched() -> None:
    assert raster(nn.Linear(2, 2), {"x": torch.ones(1, 2)})["layers"] == []


def test_the_figures_show_every_spike_and_every_count() -> None:
    layers = [{"name": "a.b.act", "size": 9, "neurons": [0, 8], "spikes": [[1, 0, -1], [0, 0, 1]]}]
    figure = spike_raster({"T": 3, "layers": layers}, among=["a.c.norm"], subtitle="of what")
    points = [tuple(offset) for shape in figure.axes[0].collections for offset in shape.get_offsets()]
    assert sorted(points) == [(1, 0), (3, 0), (3, 1)]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b.act"]
    figure = confusion_matrix(["bad", "good"], [[40, 2], [0, 0]])
    assert [text.get_text() for text in figure.axes[0].texts] == ["40", "2", "0", "0"]
