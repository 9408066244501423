"""Operations against hand counts, against loops over every spike and every weight, and against torch's counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import snn
from snn.conversion.network import SpikingNetwork
from snn.errors import ConversionError
from snn.evaluation.evaluate import Measurement, evaluate
from snn.evaluation.operations import OperationCounts
from snn.evaluation.wiring import wire
from snn.neurons.run import Event, Run
from tests.conversion.networks import quantised

T = {"para_inf": 8, "integrate_fire": 8, "st_bif": 24}
TWIN = {"para_inf": "qcfs", "integrate_fire": "qcfs", "st_bif": "lsq"}
Spikes = dict[str, Tensor]


def labelled(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    rows = next(iter(inputs.values())).shape[0]
    return {**inputs, "labels": torch.zeros(rows, dtype=torch.long)}


def fired(network: SpikingNetwork, inputs: dict[str, Tensor]) -> Spikes:
    """Whether each neuron fires at each step, ``[T, B, ...]``, by the name of what it serves."""
    found: Spikes = {}
    names = {neuron: name for name, neuron in network.neurons.items()}

    def keep(run: Run, event: Event) -> None:
        counts = torch.cat([event.previous[None], event.counts])
        found[names[event.neuron]] = (counts.diff(dim=0) != 0).double()

    network(execution="parallel", chunk=network.T, observers=(keep,), **inputs)
    return found


def summed(accumulates: tuple[list[float], list[float]]) -> Tensor:
    return torch.tensor(accumulates).sum(0)


def measured(network: SpikingNetwork, inputs: dict[str, Tensor], **options: Any) -> OperationCounts:
    found = evaluate(network, [labelled(inputs)], **options).operations
    assert found is not None
    return found


def tiny(weights: list[list[list[float]]]) -> SpikingNetwork:
    """Linear layers with a neuron of threshold 1 between each two, over two steps."""
    layers: list[nn.Module] = []
    for weight in weights:
        linear = nn.Linear(len(weight[0]), len(weight), bias=False)
        linear.weight.data = torch.tensor(weight, dtype=torch.float)
        layers += [linear, nn.ReLU()]
    model = snn.quantize(
        nn.Sequential(*layers[:-1]), [{"type": "ReLU", "do": "replace"}], levels=2, threshold=1.0
    )
    return snn.convert(model.eval(), "para_inf", 2)


def test_a_network_counted_by_hand() -> None:
    """Inputs 1 and 0.5: three neurons of T = 2 get 1, 0.5 and 0, and fire 2, 1 and 0 times, from the first step on."""
    network = tiny([[[1, 0], [0, 1], [0, 0]], [[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]]])
    counts = measured(network, {"input": torch.tensor([[1.0, 0.5]])})
    first, second = counts.products
    assert (first.dense, first.macs, first.accumulates) == (6, [6, 6], ([0, 0], [0, 0]))
    assert (second.dense, second.macs) == (12, [12, 12])
    assert second.accumulates == ([8, 4], [0, 0])  # two spikes, then one, to four places each
    assert (second.alone, second.exact) == (True, True)
    assert counts.membranes == {"1": [3, 3]}
    assert (counts.samples, counts.T, counts.input_steps, counts.analog) == (1, 2, 2, [])


class Residual(nn.Module):
    """A sum of two layers' spikes, a slice of one's, and a mean of four."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)
        self.one, self.two = nn.ReLU(), nn.ReLU()
        self.sum, self.part, self.mean = nn.Linear(4, 5), nn.Linear(2, 7), nn.Linear(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(self.a(x))
        two = self.two(self.b(one))
        mean = self.mean(two.mean(-1, keepdim=True) * 3)
        return self.sum(one + two)[:, :2] + self.part(one[:, 1:3])[:, :2] + mean[:, :2]


@pytest.mark.parametrize("neuron", T)
def test_sums_slices_and_means(neuron: str) -> None:
    x = {"x": torch.randn(5, 3).abs()}
    model = snn.quantize(Residual(), [{"type": "ReLU", "do": "replace"}], name=TWIN[neuron], levels=8)
    network = snn.convert(snn.calibrate(model, [x]).eval(), neuron, T[neuron])
    spikes, counts = fired(network, x), measured(network, x)
    one, two = (spikes[name].mean(1) for name in ("one", "two"))
    by_name = {p.product.module: p for p in counts.products}
    assert summed(by_name["b"].accumulates).tolist() == pytest.approx((one.sum(-1) * 4).tolist())
    both = (one + two).sum(-1) * 5
    assert summed(by_name["sum"].accumulates).tolist() == pytest.approx(both.tolist())
    assert summed(by_name["part"].accumulates).tolist() == pytest.approx((one[:, 1:3].sum(-1) * 7).tolist())
    assert summed(by_name["mean"].accumulates).tolist() == pytest.approx((two.sum(-1) * 3).tolist())
    assert {name: p.alone for name, p in by_name.items()} == {
        "a": True,
        "b": True,
        "sum": False,
        "part": True,
        "mean": False,
    }
    assert all(p.exact for p in counts.products)


def linear(spikes: Tensor, module: nn.Linear) -> Tensor:
    """One for every spike and every weight that it meets, by sample, ``[T, B]``."""
    total = torch.zeros(spikes.shape[:2], dtype=torch.float64)
    for _ in range(module.out_features):
        total += spikes.flatten(2).sum(-1)
    return total


def convolution(spikes: Tensor, module: nn.Conv2d) -> Tensor:
    """Over every place of the output and every tap that lies within the picture."""
    height, width = spikes.shape[-2:]
    (kernel, _), (stride, _), (padding, _) = module.kernel_size, module.stride, module.padding
    total = torch.zeros(spikes.shape[:2], dtype=torch.float64)
    for top in range(-padding, height + padding - kernel + 1, stride):
        for left in range(-padding, width + padding - kernel + 1, stride):
            for row in range(max(0, top), min(height, top + kernel)):
                for column in range(max(0, left), min(width, left + kernel)):
                    total += spikes[..., row, column].sum(-1) * module.out_channels
    return total


def brute_resnet(model: Any, spikes: Spikes, _: dict[str, Tensor]) -> dict[str, Tensor]:
    found, x = {}, spikes["stem.act"]
    for s, stage in enumerate(model.stages):
        for b, block in enumerate(stage):
            name = f"stages.{s}.{b}"
            found[f"{name}.conv1"] = convolution(x, block.conv1)
            found[f"{name}.conv2"] = convolution(spikes[f"{name}.act1"], block.conv2)
            if isinstance(block.shortcut, nn.Sequential):
                found[f"{name}.shortcut.0"] = convolution(x, block.shortcut[0])
            x = spikes[f"{name}.act2"]
    found["classifier"] = linear(x, model.classifier)
    return found


def brute_bert(model: Any, spikes: Spikes, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    real = batch["attention_mask"].double()

    def masked(name: str) -> Tensor:
        return spikes[f"{name}.quantizer_out"] * real[:, :, None]

    found, hidden = {}, masked("bert.embeddings.LayerNorm")
    for index, layer in enumerate(model.bert.encoder.layer):
        name = f"bert.encoder.layer.{index}"
        attention = layer.attention.self
        for part in ("query", "key", "value"):
            found[f"{name}.attention.self.{part}"] = linear(hidden, getattr(attention, part))
        query, key, value = (masked(f"{name}.attention.self.{p}") for p in ("query", "key", "value"))
        weights = spikes[f"{name}.attention.self.quantizer_calls.softmax"]
        weights = weights * (real[:, None, :, None] * real[:, None, None, :])
        total = torch.zeros(query.shape[:2], dtype=torch.float64)
        for sample in range(len(real)):
            for i in real[sample].nonzero().flatten():  # every real token meets every real token
                for j in real[sample].nonzero().flatten():
                    total[:, sample] += query[:, sample, i].sum(-1) + key[:, sample, j].sum(-1)
                    total[:, sample] += weights[:, sample, :, i, j].sum(-1) * attention.attention_head_size
                    total[:, sample] += value[:, sample, j].sum(-1)
        found[f"{name}.attention.self"] = total
        found[f"{name}.attention.output.dense"] = linear(
            masked(f"{name}.attention.self"), layer.attention.output.dense
        )
        inner = masked(f"{name}.attention.output.LayerNorm")
        found[f"{name}.intermediate.dense"] = linear(inner, layer.intermediate.dense)
        active = masked(f"{name}.intermediate.intermediate_act_fn")
        found[f"{name}.output.dense"] = linear(active, layer.output.dense)
        hidden = masked(f"{name}.output.LayerNorm")
    found["bert.pooler.dense"] = linear(hidden[:, :, :1], model.bert.pooler.dense)
    found["classifier"] = linear(spikes["bert.pooler.activation.quantizer_out"], model.classifier)
    return found


BRUTE: dict[str, Callable[[Any, Spikes, dict[str, Tensor]], dict[str, Tensor]]] = {
    "resnet20": brute_resnet,
    "bert": brute_bert,
}


@pytest.mark.parametrize("neuron", T)
@pytest.mark.parametrize("name", BRUTE)
def test_against_loops(name: str, neuron: str) -> None:
    model, inputs = quantised(name, TWIN[neuron])
    network = snn.convert(model, neuron, T[neuron])
    expected = BRUTE[name](model, fired(network, inputs), inputs)
    counts = measured(network, inputs)
    found: dict[str, Tensor] = {}
    for product in counts.products:
        at_t = summed(product.accumulates)
        found[product.product.module] = found.get(product.product.module, torch.zeros(())) + at_t
    for module, right in expected.items():
        assert found.pop(module).tolist() == pytest.approx(right.mean(1).tolist(), rel=1e-6), module
        assert right.sum() > 0
    assert all(not rest.any() for rest in found.values())
    assert counts.approximate == []


@pytest.mark.parametrize("neuron", T)
@pytest.mark.parametrize("name", ["resnet20", "vit"])  # spikes of one sign, and of both
def test_rates_and_idle_neurons_by_hand(name: str, neuron: str) -> None:
    model, inputs = quantised(name, TWIN[neuron])
    network = snn.convert(model, neuron, T[neuron])
    expected, layers = fired(network, inputs), evaluate(network, [labelled(inputs)]).layers
    for row, spikes in zip(layers, expected.values(), strict=True):  # both in order of execution
        assert row["rate"] == pytest.approx(float(spikes.mean()))
        assert row["silent"] == pytest.approx(float((spikes.sum(0) == 0).double().mean()))
        assert row["always"] == pytest.approx(float(spikes.all(0).double().mean()))


def in_pieces(operations: OperationCounts) -> dict[str, Any]:
    found = {
        f"{i} {p.product.module}": [p.dense, *p.macs, *p.accumulates[0], *p.accumulates[1]]
        for i, p in enumerate(operations.products)
    }
    found |= {f"{i} {module} {op}": [once, *at] for i, (module, op, once, at) in enumerate(operations.analog)}
    return found | operations.membranes | {"samples": [operations.samples]}


def assert_same(one: Measurement, other: Measurement) -> None:
    assert one.operations is not None
    assert other.operations is not None
    mine, theirs = in_pieces(one.operations), in_pieces(other.operations)
    assert mine.keys() == theirs.keys()
    for name, numbers in mine.items():
        assert theirs[name] == pytest.approx(numbers, rel=1e-9, abs=1e-9), name
    for a, b in zip(one.layers, other.layers, strict=True):
        for key in ("silent", "always", "sparsity", "rate_per_token"):
            assert b.get(key, []) == pytest.approx(a.get(key, []), rel=1e-9, abs=1e-12), (a["name"], key)


@pytest.mark.parametrize("neuron", T)
@pytest.mark.parametrize("name", ["bert", "resnet20", "gpt2", "vit"])
def test_batches_order_padding_and_execution_do_not_matter(name: str, neuron: str) -> None:
    model, inputs = quantised(name, TWIN[neuron])
    network, batch = snn.convert(model, neuron, T[neuron]), labelled(inputs)
    whole = evaluate(network, [batch])
    assert whole.operations is not None
    assert whole.operations.approximate == []
    assert_same(whole, evaluate(network, [{k: v[[i]] for k, v in batch.items()} for i in (2, 0, 1)]))
    if "attention_mask" in batch and name == "bert":
        wider = {k: nn.functional.pad(v, (0, 2)) if v.dim() == 2 else v for k, v in batch.items()}
        assert_same(whole, evaluate(network, [wider]))
    if network.causal:
        assert_same(whole, evaluate(network, [batch], execution="stepwise"))
    else:
        assert_same(whole, evaluate(network, [batch], execution="collapsed"))


@pytest.mark.parametrize("neuron", T)
@pytest.mark.parametrize("name", ["bert", "resnet20", "vit"])
def test_sizes_of_parts_do_not_matter(name: str, neuron: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = quantised(name, TWIN[neuron])
    network, batch = snn.convert(model, neuron, T[neuron]), labelled(inputs)
    modes = ("parallel", "stepwise" if network.causal else "collapsed")
    whole = {execution: evaluate(network, [batch], execution=execution) for execution in modes}
    monkeypatch.setattr("snn.neurons.run._CACHED", 1)  # each sample by itself
    for execution, expected in whole.items():
        found = evaluate(network, [batch], execution=execution)
        assert_same(expected, found)
        assert found.mean_steps == expected.mean_steps
        assert found.per_timestep == expected.per_timestep


@pytest.mark.parametrize("name", ["bert", "resnet20", "vit", "gpt2"])
def test_dense_work_is_that_of_torchs_counter(name: str) -> None:
    model, inputs = quantised(name)
    one = {k: v[:1] for k, v in inputs.items()}
    if "attention_mask" in one:
        one = {k: v[:, one["attention_mask"][0].bool()] for k, v in one.items()}
    counts = measured(snn.convert(model, "para_inf", 8), one)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        snn.conversion.call.call_model(model, one)
    assert sum(p.dense for p in counts.products) == pytest.approx(counter.get_total_flops() / 2)


def test_what_has_settled_is_not_computed() -> None:
    model, inputs = quantised("bert", "lsq")
    network = snn.convert(model, "st_bif", 60)
    output = network(**inputs)
    counts = measured(network, inputs)
    steps = output.settled.double().mean()
    norm = next(at for _, op, _, at in counts.analog if op == "tanh")
    assert sum(norm) == pytest.approx(float(steps) * model.bert.config.hidden_size)
    assert norm[-1] == 0


def test_no_spikes_of_causal_neurons_are_known_in_a_collapsed_run() -> None:
    model, inputs = quantised("bert", "lsq")
    network = snn.convert(model, "st_bif", 24)
    assert evaluate(network, [labelled(inputs)], execution="collapsed").operations is None
    assert evaluate(network, [labelled(inputs)], record=False).operations is None


def test_the_network_is_left_as_it_was() -> None:
    model, inputs = quantised("bert")
    network = snn.convert(model, "para_inf", 8)
    before = network(**inputs).logits
    wire(network, inputs)
    assert torch.equal(network(**inputs).logits, before)


class Cubed(nn.Module):
    """Multiplies a square matrix of tokens by itself, and every pair of tokens again."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.act, self.head = nn.Embedding(9, 2), nn.ReLU(), nn.Linear(2, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.act(self.table(input_ids))
        pairs = x @ x.mT
        return self.head(pairs @ (pairs @ (pairs @ x)) @ x.mT @ x).mean(1) + (pairs @ pairs).mean()


def test_work_that_grows_otherwise_is_refused() -> None:
    batch = {"input_ids": torch.ones(2, 4, dtype=torch.long), "attention_mask": torch.ones(2, 4).long()}
    model = snn.quantize(Cubed(), [{"type": "ReLU", "do": "replace"}], levels=4, threshold=1.0).eval()
    with pytest.raises(ConversionError, match="no polynomial of second degree"):
        wire(snn.convert(model, "para_inf", 4), batch)
