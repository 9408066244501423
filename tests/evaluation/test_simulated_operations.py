"""Spikes and operations of networks that simulate their neurons themselves: against loops, and counted by hand."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from snn.evaluation.energy import energy
from snn.evaluation.energy_profile import EnergyProfile
from snn.evaluation.evaluate import Measurement, evaluate
from snn.evaluation.raster import raster
from snn.models.spikingbert.layers import Noise
from snn.models.spikingbert.model import SpikingBert
from snn.neurons.native import intercepted, one_step
from snn.neurons.simulated import SimulatedNetwork
from snn.neurons.simulated_spikes import SimulatedSpikes
from tests.models.small import batch, lively_spikingbert

Inputs = dict[str, Tensor]
PROFILE = EnergyProfile("test", "", 4.6, 0.9, 0.1, 2.0, 0.0, 0.0, 0.0)
KINDS: dict[str, dict[str, Any]] = {
    "leaky, steps at once": {"leak": 0.9, "chunk": 4},
    "feedback": {"feedback": True},
    "stopping": {"T": 30, "stop_tolerance": 0.016, "stop_every": 3, "chunk": 2},
    "stopping with feedback": {"T": 30, "stop_tolerance": 0.016, "stop_every": 3, "feedback": True},
}


def network(**more: Any) -> SpikingBert:
    torch.manual_seed(0)
    return lively_spikingbert(**{"T": 6, **more})


def texts(model: nn.Module, rows: int = 4) -> Inputs:
    return {**batch(model, rows), "labels": torch.zeros(rows, dtype=torch.long)}


@torch.no_grad()
def fired(model: SpikingBert, row: Inputs, steps: int) -> dict[str, Tensor]:
    """Every spike of one text without padding, step by step by the neuron's equations, ``[steps, S, width]``."""
    membranes: dict[str, Tensor] = {}
    found: dict[str, list[Tensor]] = defaultdict(list)

    def fire(name: str, drive: Tensor) -> Tensor:
        v = membranes.get(name, torch.zeros_like(drive)) + drive
        spikes = (v >= model.law.threshold).to(drive)
        membranes[name] = model.law.leak * (v - model.law.threshold * spikes)
        found[name].append(spikes[0])
        return spikes

    drive = model.embeddings(row["input_ids"], row["token_type_ids"])
    mask, last = drive.new_zeros(1, 1, 1, drive.shape[1]), torch.zeros_like(drive)
    for _ in range(steps):
        taps, _ = model.encode(model.fed_back(drive, last), mask, fire, Noise(False, False))
        last = taps[-1]
    return {name: torch.stack(at) for name, at in found.items()}


class Counted:
    """Of one text, over plain loops: accumulates, multiply-accumulates and values of each step, summed over texts."""

    def __init__(self, T: int):
        self.acs: dict[tuple[str, int], Tensor] = defaultdict(lambda: torch.zeros(T))
        self.macs: dict[tuple[str, int], Tensor] = defaultdict(lambda: torch.zeros(T))
        self.analog: dict[str, Tensor] = defaultdict(lambda: torch.zeros(T))
        self.membranes: dict[str, Tensor] = defaultdict(lambda: torch.zeros(T))

    def linear(self, module: str, step: int, spikes: Tensor, outputs: int) -> None:
        acs = macs = 0
        for token in spikes.tolist():
            for spike in token:
                acs += outputs * int(spike)
                macs += outputs
        self.acs[module, 0][step] += acs
        self.macs[module, 0][step] += macs

    def attention(self, module: str, number: int, step: int, spikes: Tensor) -> None:
        """Each spike of a key or a value meets one analog value of every query token."""
        acs = macs = 0
        for _ in range(len(spikes)):
            for token in spikes.tolist():
                for spike in token:
                    acs += int(spike)
                    macs += 1
        self.acs[module, number][step] += acs
        self.macs[module, number][step] += macs

    def text(self, model: SpikingBert, spikes: dict[str, Tensor]) -> None:
        steps, length, width = spikes["embedding"].shape
        heads, inner = model.layers[0].heads, model.layers[0].intermediate.out_features
        self.analog["embeddings.norm"][0] += length * width
        self.analog["SpikingBert"][0] += width
        self.macs["classifier", 0][0] += width * model.classifier.out_features
        for t in range(steps):
            for name, at in spikes.items():
                self.membranes[name][t] += at[t].numel()
            x = spikes["embedding"][t]
            for name in (layer.name for layer in model.layers):
                own = {part.removeprefix(f"{name}."): at[t] for part, at in spikes.items() if name in part}
                for part in ("key", "value", "query"):
                    self.linear(f"{name}.{part}", t, x, width)
                self.attention(name, 0, t, own["key"])
                self.attention(name, 1, t, own["value"])
                self.linear(f"{name}.attention_output", t, own["context"], width)
                self.linear(f"{name}.intermediate", t, own["attention_output"], inner)
                self.linear(f"{name}.output", t, own["intermediate"], width)
                self.analog[name][t] += heads * length * length
                self.analog[f"{name}.activation"][t] += length * inner
                for norm in ("attention_norm", "output_norm"):
                    self.analog[f"{name}.{norm}"][t] += length * width
                x = own["output"]
            if model.feedback is not None and t:
                self.linear("feedback", t, spikes[model.taps[-1]][t - 1], width)


def rows_of(inputs: Inputs) -> list[Inputs]:
    lengths = inputs["attention_mask"].sum(1).tolist()
    return [{k: v[i : i + 1, :n] for k, v in inputs.items() if k != "labels"} for i, n in enumerate(lengths)]


def same(found: Any, expected: Tensor) -> None:
    assert found == pytest.approx(expected.tolist(), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_every_spike_and_every_operation_against_loops(kind: str) -> None:
    model = network(**KINDS[kind])
    inputs, (T, rows) = texts(model), (model.T, 4)
    found = evaluate(model, [inputs])
    steps = model.last.steps.tolist()
    assert (len(set(steps)) > 1) == ("stopping" in kind)
    assert found.mean_steps == sum(steps) / rows
    spikes = [fired(model, row, ran) for row, ran in zip(rows_of(inputs), steps)]
    counted = Counted(T)
    for one in spikes:
        counted.text(model, one)

    counts = found.operations
    assert counts is not None
    assert (counts.T, counts.samples, counts.instantaneous, counts.approximate) == (T, rows, True, [])
    calls: dict[str, int] = defaultdict(int)
    for count in counts.products:
        product = count.product
        key = product.module, calls[product.module]
        calls[product.module] += 1
        same(count.macs, counted.macs.pop(key) / rows)
        same([sum(both) for both in zip(*count.accumulates)], counted.acs.pop(key, torch.zeros(T)) / rows)
        once = product.module == "classifier"
        assert product.factors == (
            "analog" if once else "analog × spikes" if product.op == "bmm" else "spikes"
        )
        assert count.alone
        assert counts.accumulated(product) != once
    assert not counted.macs
    assert not counted.acs
    assert sorted(module for module, *_ in counts.analog) == sorted(counted.analog)
    for module, _, _, at_t in counts.analog:
        same(at_t, counted.analog[module] / rows)
    for name, at_t in counts.membranes.items():
        same(at_t, counted.membranes.pop(name) / rows)
    assert not counted.membranes

    lengths = [at["embedding"].shape[1] for at in spikes]
    assert [row["name"] for row in found.layers] == list(spikes[0])
    for row in found.layers:
        own = [at[str(row["name"])] for at in spikes]
        neurons = sum(at[0].numel() for at in own)
        assert row["neurons"] == neurons / rows
        for t, rate in enumerate(row["rate_per_timestep"]):
            assert rate == pytest.approx(sum(float(at[t].sum()) for at in own if t < len(at)) / neurons)
        silent = sum(int((at.sum(0) == 0).sum()) for at in own)
        always = sum(int(at.all(0).sum()) for at in own)
        assert (row["silent"], row["always"]) == pytest.approx((silent / neurons, always / neurons))
        for token, rate in enumerate(row["rate_per_token"]):
            there = [at[:, token] for at in own if token < at.shape[1]]
            width = sum(at.shape[-1] for at in there)
            assert rate == pytest.approx(sum(float(at.sum()) for at in there) / width / T)
        assert len(row["rate_per_token"]) == max(lengths)
    total = sum(float(at.sum()) for one in spikes for at in one.values())
    assert found.spikes_per_sample == pytest.approx(total / rows)
    assert evaluate(model, [inputs], record=False).layers == []


def figures(found: Measurement) -> list[float]:
    counts = found.operations
    assert counts is not None
    pieces = [x for p in counts.products for x in [p.dense, *p.macs, *p.accumulates[0], *p.accumulates[1]]]
    pieces += [x for _, _, once, at_t in counts.analog for x in [once, *at_t]]
    pieces += [x for at_t in counts.membranes.values() for x in at_t]
    for row in found.layers:
        pieces += [row[key] for key in ("rate", "silent", "always")]
        pieces += [*row["rate_per_timestep"], *row["rate_per_token"]]
    return pieces


@pytest.mark.parametrize("kind", ["leaky, steps at once", "stopping with feedback"])
def test_batches_order_padding_and_steps_at_once_do_not_matter(kind: str) -> None:
    model = network(**KINDS[kind])
    inputs = texts(model)
    expected = pytest.approx(figures(evaluate(model, [inputs])), rel=1e-6, abs=1e-12)
    parts = [{k: v[chosen] for k, v in inputs.items()} for chosen in ([3, 1, 0], [2])]
    assert figures(evaluate(model, parts)) == expected
    longer = {k: v if k == "labels" else nn.functional.pad(v, (0, 3)) for k, v in inputs.items()}
    assert figures(evaluate(model, [longer])) == expected
    model.chunk = 7
    assert figures(evaluate(model, [inputs])) == expected


class Operations(TorchDispatchMode):
    """The names of all operations below autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_who_looks_on_changes_nothing() -> None:
    model = network(chunk=4)
    inputs = {k: v for k, v in texts(model).items() if k != "labels"}
    with torch.no_grad():
        before = model(**inputs).logits
        counting = SimulatedSpikes(model.T, 4, inputs["attention_mask"])
        with intercepted(model, counting.around), Operations() as seen:
            assert torch.equal(model(**inputs).logits, before)
        assert "_local_scalar_dense" not in seen.names  # the host waits for nothing
        evaluate(model, [{**inputs, "labels": torch.zeros(4, dtype=torch.long)}])
        assert torch.equal(model(**inputs).logits, before)
    assert (model.T, model.chunk, model.around) == (6, 4, None)


def test_half_precision_is_counted_in_single() -> None:
    counting = SimulatedSpikes(1, 1)
    with one_step(0):
        counting.around("layer", torch.zeros(1), lambda: torch.ones(1, 3001, dtype=torch.bfloat16))
    assert float(counting.layers()["layer"].total) == 3001


def test_energy_is_the_closed_form() -> None:
    model = network(feedback=True)
    counts = evaluate(model, [texts(model)]).operations
    assert counts is not None
    found = energy(counts, PROFILE)
    acs = sum(sum(p.accumulates[0]) + sum(p.accumulates[1]) for p in counts.products)
    values, updates = sum(sum(at) for *_, at in counts.analog), sum(map(sum, counts.membranes.values()))
    expected = 0.9 * acs + 4.6 * (16 * 3 + 2.0 * values) + 0.1 * updates
    assert found.networks[2]["energy_uj"] == pytest.approx(expected / 1e6)
    parts = {row["part"]: row for row in found.parts()}
    assert parts["layers on analog values"]["macs"] == 16 * 3  # the classifier
    attention = [p for p in counts.products if p.product.op == "bmm"]
    assert parts["attention on spikes"]["acs"] == pytest.approx(sum(sum(p.accumulates[1]) for p in attention))
    assert parts["attention on spikes"]["macs"] == 0
    assert any("Computed once" in line and "embeddings.norm" in line for line in found.assumptions())


def test_the_spikes_of_a_few_neurons_can_be_seen() -> None:
    model = network(feedback=True)
    inputs = texts(model)
    seen = raster(model, inputs, layers=2, neurons=5)
    assert [layer["name"] for layer in seen["layers"]] == ["embedding", "layers.1.output"]
    spikes = fired(model, {k: v[:1] for k, v in inputs.items() if k != "labels"}, model.T)["embedding"]
    first = seen["layers"][0]
    assert first["spikes"][0] == spikes.flatten(1)[:, first["neurons"][0]].int().tolist()


class Toy(SimulatedNetwork):
    """Two layers; the second drives the first one step later. Nothing is kept in a membrane."""

    chunk = 1

    def __init__(self, uneven: bool = False) -> None:
        super().__init__()
        self.T, self.uneven = 3, uneven
        self.given, self.inner = nn.Linear(2, 3, bias=False), nn.Linear(3, 4, bias=False)
        self.back, self.out = nn.Linear(4, 3, bias=False), nn.Linear(4, 2, bias=False)
        for linear, weight in ((self.given, 1.0), (self.inner, 1.0), (self.back, -1.0), (self.out, 1.0)):
            nn.init.constant_(linear.weight, weight)

    def fire(self, name: str, current: Tensor) -> Tensor:
        def spikes() -> Tensor:
            return (current >= 1).to(current)

        return spikes() if self.around is None else self.around(name, current, spikes)

    def forward(self, x: Tensor) -> Tensor:
        drive, last = self.given(x), torch.zeros(len(x), 4)
        total = torch.zeros(len(x), 4)
        for t in range(self.T):
            with one_step(t):
                if t == 0 and self.uneven:
                    drive = drive + self.back(self.fire("start", self.inner(drive)))
                current = drive if t == 0 else drive + self.back(last)
                last = self.fire("last", self.inner(self.fire("first", current)))
            total = total + last
        return self.out(total / self.T)


def test_a_network_counted_by_hand() -> None:
    """A drive of 1 makes all neurons fire, which then silence themselves for one step; a drive of 0 never does."""
    inputs = {"x": torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "labels": torch.zeros(2, dtype=torch.long)}
    found = evaluate(Toy(), [inputs])
    counts = found.operations
    assert counts is not None
    work = {p.product.module: (p.product.factors, p.macs, p.accumulates[0]) for p in counts.products}
    # Means of the two samples.
    assert work == {
        "given": ("input", [6, 0, 0], [0, 0, 0]),
        "inner": ("spikes", [12, 12, 12], [6, 0, 6]),
        "back": ("spikes", [0, 12, 12], [0, 6, 0]),
        "out": ("analog", [8, 0, 0], [0, 0, 0]),
    }
    assert counts.membranes == {"first": [3, 3, 3], "last": [4, 4, 4]}
    assert [row["rate_per_timestep"] for row in found.layers] == [[0.5, 0, 0.5]] * 2
    assert found.layers[0]["silent"] == 0.5
    assert "rate_per_token" not in found.layers[0]


def test_a_first_step_unlike_the_others_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    inputs = {"x": torch.ones(2, 2), "labels": torch.zeros(2, dtype=torch.long)}
    found = evaluate(Toy(uneven=True), [inputs])
    assert found.operations is None
    assert "inner computes something in the first step that later ones do not" in caplog.text
