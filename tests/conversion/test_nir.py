"""NIR graphs, written, read back and run by an interpreter of a few lines, against our networks spike for spike."""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snn
from snn.conversion.network import SpikingNetwork
from snn.conversion.quantize import quantizers
from snn.conversion.training_free.offsets import set_offsets
from snn.errors import ConfigError, ConversionError
from snn.models.spiking.layers import PerStep
from snn.neurons.lif import LIF, PLIF, NativeIntegrateFire
from snn.neurons.native import NativeNeuron
from snn.neurons.run import Event, Run
from tests.conversion.networks import quantised

nir = pytest.importorskip("nir", reason="the package nir is missing: pip install nir")


def tensor(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


class Interpreter:
    """A NIR graph in steps of length 1; what comes back to an integrator from itself takes a step."""

    def __init__(self, graph: Any):
        self.graph = graph
        self.state: dict[str, Any] = {name: tensor(0.0) for name in graph.nodes}
        self.last: dict[str, Tensor] = {}
        integrators = {name for name, node in graph.nodes.items() if isinstance(node, nir.I | nir.LI)}
        self.back = {(a, b) for a, b in graph.edges if b in integrators and a in self._reached(b)}
        self.order: list[str] = []
        for name in graph.nodes:
            if name not in self.order:
                self._visit(name)

    def _reached(self, start: str) -> set[str]:
        found: set[str] = set()
        new = [start]
        while new:
            name = new.pop()
            after = {b for a, b in self.graph.edges if a == name} - found
            found |= after
            new += after
        return found

    def _visit(self, name: str) -> None:
        """Depth first against the edges: what a node needs comes before it."""
        for a, b in self.graph.edges:
            if b == name and (a, b) not in self.back and a not in self.order:
                self._visit(a)
        self.order.append(name)

    def step(self, x: Tensor) -> dict[str, Tensor]:
        """What every node gives at the next step for the input of one sample."""
        now: dict[str, Tensor] = {}
        for name in self.order:
            feeds = [
                self.last.get(a, tensor(0.0)) if (a, b) in self.back else now[a]
                for a, b in self.graph.edges
                if b == name
            ]
            now[name] = self._node(name, self.graph.nodes[name], sum(feeds, tensor(0.0)) if feeds else x)
        self.last = now
        return now

    def _node(self, name: str, node: Any, x: Tensor) -> Tensor:
        def value(key: str) -> Tensor:
            return tensor(getattr(node, key))

        match type(node).__name__:
            case "Input" | "Output":
                return x
            case "Affine":
                return value("weight") @ x + value("bias")
            case "Conv2d":
                pads = [(int(p) for p in getattr(node, key)) for key in ("stride", "padding", "dilation")]
                sizes = [tuple(p) for p in pads]
                return nn.functional.conv2d(
                    x[None], value("weight"), value("bias"), *sizes, int(node.groups)
                )[0]
            case "AvgPool2d":
                sizes = [tuple(getattr(node, key).tolist()) for key in ("kernel_size", "stride", "padding")]
                return nn.functional.avg_pool2d(x[None], *sizes)[0]
            case "Flatten":
                return x.flatten()
            case "Scale":
                return value("scale") * x
            case "Threshold":
                return (x > value("threshold")).double()
            case "I":
                self.state[name] = self.state[name] + value("r") * x
                return self.state[name]
            case "LI" | "LIF":
                v = self.state[name]
                v = v + ((value("v_leak") - v) + value("r") * x) / value("tau")
            case "IF":
                v = self.state[name] + value("r") * x
            case kind:
                raise AssertionError(kind)
        if not hasattr(node, "v_threshold"):
            self.state[name] = v
            return v
        fired = v > value("v_threshold")
        self.state[name] = torch.where(fired, value("v_reset"), v)
        return fired.double()


def interpreted(graph: Any, path: Path, over_time: Tensor) -> dict[str, Tensor]:
    """What every node of the written graph gives over time for one sample, ``[T, ...]``."""
    nir.write(str(path), graph)
    run = Interpreter(nir.read(str(path)))
    steps = [run.step(x.double()) for x in over_time]
    return {name: torch.stack([step[name] for step in steps]) for name in run.order}


def converted(
    name: str, neuron: str = "integrate_fire", T: int = 8
) -> tuple[SpikingNetwork, dict[str, Tensor]]:
    model, inputs = quantised(name)
    return snn.convert(model, neuron, T), inputs


@pytest.mark.parametrize("name", ["resnet20", "vgg16"])
def test_a_converted_network_spikes_alike(name: str, tmp_path: Path) -> None:
    network, inputs = converted(name)
    one = {"pixel_values": inputs["pixel_values"][:1]}
    graph = snn.export_nir(network, inputs, tmp_path / "network.nir")
    assert (tmp_path / "network.nir").stat().st_size > 0
    counts: dict[str, Tensor] = {}
    names = {neuron: place for place, neuron in network.neurons.items()}

    def keep(run: Run, event: Event) -> None:
        counts[names[event.neuron]] = torch.cat([event.previous[None], event.counts])[:, 0]

    logits = network(observers=(keep,), **one).logits[:, 0]
    found = interpreted(graph, tmp_path / "again.nir", one["pixel_values"].expand(network.T, -1, -1, -1))
    read_out = found["output"].cumsum(0) / torch.arange(1, network.T + 1)[:, None]
    for place, count in counts.items():
        assert torch.equal(found[f"{place}.spike"], count.diff(dim=0)), place
        assert count[-1].sum() > 0, place
    assert (read_out - logits).abs().max() <= 1e-9


class Signed(nn.Module):
    """Signed neurons, one threshold per channel, a sum of spikes and currents."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.middle = nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        return self.last(x + self.middle(x))


@pytest.mark.parametrize("offsets", [None, "membrane"])
def test_signed_neurons_take_spikes_back(offsets: str | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Signed().double().eval(), torch.randn(64, 5).double()
    rules = [{"match": "norm", "signed": True}, {"match": "middle", "signed": True}]
    qann = snn.calibrate(snn.quantize(model, rules, levels=6), [{"x": x}])
    if offsets:
        set_offsets(qann, [{"x": x}], 12, offsets)
        assert all(bool(q.offset.any()) for q in quantizers(qann).values())
    network = snn.convert(qann, "integrate_fire", 12)
    graph = snn.export_nir(network, {"x": x})
    negative = 0.0
    for index in range(8):
        one = x[index : index + 1]
        found = interpreted(graph, tmp_path / "graph.nir", one.expand(12, -1))
        logits = network(x=one).logits[:, 0]
        read_out = found["output"].cumsum(0) / torch.arange(1, 13)[:, None]
        assert (read_out - logits).abs().max() <= 1e-9
        negative += float(found["norm.quantizer_out.negative_spike"].sum())
    assert negative > 0


NATIVE = {
    "lif": lambda: LIF(tau=2.5),
    "lif_whole_input": lambda: LIF(tau=3.0, decay_input=False, threshold=0.7),
    "lif_soft": lambda: LIF(reset="soft", initial=0.25),
    "lif_soft_whole_input": lambda: LIF(reset="soft", decay_input=False, tau=4.0),
    "lif_started": lambda: LIF(initial=0.5),
    "plif": lambda: PLIF(tau=2.0),
    "integrate_fire": lambda: NativeIntegrateFire(),
    "integrate_fire_hard": lambda: NativeIntegrateFire(reset="hard", initial=0.0),
}


@pytest.mark.parametrize("name", NATIVE)
def test_a_network_that_spikes_by_itself_spikes_alike(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    neurons: list[NativeNeuron] = [NATIVE[name](), NATIVE[name]()]
    layers = [
        PerStep(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.AvgPool2d(2)),
        neurons[0],
        PerStep(nn.Flatten(), nn.Linear(36, 7)),
        neurons[1],
        PerStep(nn.Linear(7, 3)),
    ]
    model = nn.Sequential(*layers).double().eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data *= 3
    x = 3 * torch.rand(10, 1, 2, 6, 6, dtype=torch.float64)
    spikes: dict[str, Tensor] = {}
    for place in ("1", "3"):
        model.get_submodule(place).register_forward_hook(
            lambda _, args, out, place=place: spikes.update({place: out[:, 0]})
        )
    logits = model(x)[:, 0]
    found = interpreted(snn.export_nir(model, {"x": x}), tmp_path / "graph.nir", x[:, 0])
    for place, expected in list(spikes.items()):
        given = found.get(f"{place}.spike", found[place])
        assert torch.equal(given, expected), place
        assert 0 < float(expected.mean()) < 1, place
    assert (found["output"] - logits).abs().max() <= 1e-9


def test_a_membrane_that_meets_the_threshold_fires_in_both(tmp_path: Path) -> None:
    model = nn.Sequential(PerStep(nn.Linear(1, 1)), NativeIntegrateFire(initial=0.0))
    nn.init.ones_(model[0][0].weight)
    nn.init.zeros_(model[0][0].bias)
    x = torch.full((4, 1, 1), 0.5)
    found = interpreted(snn.export_nir(model, {"x": x}), tmp_path / "graph.nir", x[:, 0])
    assert found["output"].flatten().tolist() == model(x).flatten().tolist() == [0, 1, 0, 1]


def refusal(network: nn.Module, inputs: dict[str, Tensor]) -> str:
    with pytest.raises(ConversionError, match="NIR cannot express") as caught:
        snn.export_nir(network, inputs)
    return str(caught.value)


def test_everything_that_cannot_be_expressed_is_listed() -> None:
    text = refusal(*converted("bert"))
    for part in (
        "embedding() in bert.embeddings.word_embeddings",
        "layer_norm() in bert.embeddings.LayerNorm",
    ):
        assert part in text
    assert "a linear layer of several tokens" in text
    assert "several inputs" in text


@pytest.mark.parametrize(("neuron", "reason"), [("para_inf", "later input"), ("st_bif", "first step alone")])
def test_neurons_that_cannot_be_expressed_are_named(neuron: str, reason: str) -> None:
    model, inputs = quantised("resnet20", "lsq" if neuron == "st_bif" else "qcfs")
    text = refusal(snn.convert(model, neuron, 8), inputs)
    assert f"neuron={neuron}" in text
    assert reason in text
    assert "and 8 more" in text


def test_a_charge_at_every_step_cannot_be_expressed() -> None:
    model, inputs = quantised("resnet20")
    model = set_offsets(copy.deepcopy(model), [inputs], 8, "steps")  # others share it
    assert "a charge of its own at every step" in refusal(snn.convert(model, "integrate_fire", 8), inputs)


class Pooled(nn.Module):
    def __init__(self, pool: nn.Module):
        super().__init__()
        self.conv, self.act, self.pool, self.out = nn.Conv2d(1, 2, 3), nn.ReLU(), pool, nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        unused = (x.relu() * 2).sum()  # what does not reach the output does not matter
        assert unused.isfinite()
        return self.out(self.pool(self.act(self.conv(x))).flatten(1))


@pytest.mark.parametrize(
    ("pool", "reason"),
    [
        (nn.MaxPool2d(2), "max_pool2d() in pool"),
        (nn.AdaptiveMaxPool2d(2), "adaptive_max_pool2d() in pool"),
        (nn.AvgPool2d(3, 2, 1, count_include_pad=False), "an average with ceil_mode"),
    ],
)
def test_pools_that_cannot_be_expressed(pool: nn.Module, reason: str) -> None:
    x = torch.rand(4, 1, 6, 6)
    rules = [{"type": "ReLU", "do": "replace", "threshold": 1.0}]
    model = snn.quantize(Pooled(pool).eval(), rules, levels=4)
    assert reason in refusal(snn.convert(model, "integrate_fire", 4), {"x": x})


def test_the_model_is_left_as_it_was() -> None:
    network, inputs = converted("resnet20")
    before = network(**inputs).logits
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())
    snn.export_nir(network, inputs)
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()) == hooks
    assert torch.equal(network(**inputs).logits, before)


@pytest.mark.parametrize("name", ["lif", "lif_whole_input", "plif", "integrate_fire_hard"])
def test_another_simulator_reads_what_has_no_loops(name: str, tmp_path: Path) -> None:
    """SpikingJelly, whose neurons are those of NIR: a hard reset, one threshold per layer."""
    pytest.importorskip("spikingjelly", reason="SpikingJelly is missing: pip install spikingjelly nirtorch")
    pytest.importorskip("nirtorch", reason="nirtorch is missing: pip install nirtorch")
    with warnings.catch_warnings(action="ignore"):  # of the packages about themselves
        from spikingjelly.activation_based.nir_exchange import import_from_nir

        torch.manual_seed(2)
        model = nn.Sequential(PerStep(nn.Linear(5, 20)), NATIVE[name](), PerStep(nn.Linear(20, 3)))
        model[0][0].weight.data *= 4
        x = torch.rand(12, 1, 5)
        snn.export_nir(model, {"x": x}, tmp_path / "graph.nir")
        other = import_from_nir(str(tmp_path / "graph.nir"), dt=1.0)
        with torch.no_grad():
            state, outputs = None, []
            for now in x:
                output, state = other(now, state)
                outputs.append(output)
    assert (torch.stack(outputs) - model(x)).abs().max() <= 1e-5
    assert model(x).std(0).max() > 0.01


def test_without_the_package_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ConfigError, match=r"export: 'nir' needs the package nir; `pip install nir`"):
        snn.export_nir(nn.Linear(2, 2), {"x": torch.ones(1, 2)})
