"""``evaluate``: the same figures whatever the batches, the order and the execution; and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn.conversion.convert import convert
from snn.conversion.network import SpikingNetwork
from snn.conversion.quantize import calibrate, quantize
from snn.errors import ConfigError, ConversionError, DataError
from snn.evaluation.evaluate import Measurement, evaluate
from snn.models.registry import create_model
from tests.models.small import SMALL

RULES = [
    {"match": r"re:.*embeddings\.LayerNorm", "do": "append", "signed": True},
    {"match": r"re:.*attention\.self\.(query|key|value)", "do": "append", "signed": True},
    {"match": r"re:.*attention\.self", "call": "softmax", "do": "append", "signed": False},
    {"match": r"re:.*\.intermediate_act_fn", "do": "append", "signed": True},
]
N, LENGTH = 17, 9


@pytest.fixture(scope="module")
def texts() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(2, LENGTH + 1, (N,), generator=generator)
    mask = (torch.arange(LENGTH) < lengths[:, None]).long()
    ids = torch.randint(1, 40, (N, LENGTH), generator=generator) * mask
    labels = torch.randint(0, 3, (N,), generator=generator)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def batches(
    texts: dict[str, Tensor], sizes: list[int], order: Tensor | None = None
) -> list[dict[str, Tensor]]:
    """Cut to the longest text of each batch, as the loader does."""
    rows = torch.arange(N) if order is None else order
    found = []
    for part in rows.split(sizes):
        batch = {k: v[part] for k, v in texts.items()}
        longest = int(batch["attention_mask"].sum(1).max())
        found.append({k: v[:, :longest] if v.dim() == 2 else v for k, v in batch.items()})
    return found


@pytest.fixture(scope="module")
def quantised(texts: dict[str, Tensor]) -> dict[str, nn.Module]:
    """In double precision, where no code hangs on the order of a sum."""
    torch.manual_seed(0)
    model = create_model("bert", weights=None, num_classes=3, **SMALL["bert"]).double().eval()
    with torch.no_grad():  # weights that make different texts different classes
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.5)
    found = {}
    for name, levels in (("qcfs", 4), ("lsq", 8)):
        made = quantize(model, RULES, name=name, levels=levels).double().eval()
        found[name] = calibrate(made, batches(texts, [N]))
        for parameter in made.parameters():
            parameter.data = parameter.data.double()
    return found


NETWORKS = [("para_inf", "qcfs", 4), ("integrate_fire", "qcfs", 4), ("st_bif", "lsq", 30)]


@pytest.fixture(params=NETWORKS, ids=lambda param: param[0])
def network(request: pytest.FixtureRequest, quantised: dict[str, nn.Module]) -> SpikingNetwork:
    neuron, quantizer, T = request.param
    return convert(quantised[quantizer], neuron, T)


def assert_same(one: Measurement, other: Measurement, order: Tensor | None = None) -> None:
    assert one.samples == other.samples == N
    assert one.metrics == pytest.approx(other.metrics, rel=1e-9)
    assert one.per_timestep == other.per_timestep
    assert one.spike_rate == pytest.approx(other.spike_rate, rel=1e-12)
    assert one.spikes_per_sample == pytest.approx(other.spikes_per_sample, rel=1e-12)
    for a, b in zip(one.layers, other.layers, strict=True):
        assert a["name"] == b["name"]
        assert a["neurons"] == pytest.approx(b["neurons"])
        assert a["rate_per_timestep"] == pytest.approx(b["rate_per_timestep"], rel=1e-12)
    predictions = one.predictions if order is None else one.predictions[order]
    assert torch.equal(predictions, other.predictions)


@pytest.mark.parametrize("sizes", [[1, 3, 13], [6, 6, 5], [1] * N], ids=str)
def test_batches_do_not_matter(network: SpikingNetwork, texts: dict[str, Tensor], sizes: list[int]) -> None:
    assert_same(evaluate(network, batches(texts, [N])), evaluate(network, batches(texts, sizes)))


def test_the_order_does_not_matter(network: SpikingNetwork, texts: dict[str, Tensor]) -> None:
    order = torch.randperm(N)
    whole = evaluate(network, batches(texts, [4, 13]))
    assert_same(whole, evaluate(network, batches(texts, [7, 10], order)), order)


def test_stepwise_gives_the_figures_of_parallel(network: SpikingNetwork, texts: dict[str, Tensor]) -> None:
    data = batches(texts, [5, 12])
    if not network.causal:
        with pytest.raises(ConfigError, match="parallel"):
            evaluate(network, data, execution="stepwise")
        return
    whole, steps = evaluate(network, data), evaluate(network, data, execution="stepwise")
    assert_same(whole, steps)
    assert steps.mean_steps == whole.mean_steps
    assert (steps.mean_steps < network.T) == (network.coding == "sum")


def test_collapsed_gives_the_final_figures(quantised: dict[str, nn.Module], texts: dict[str, Tensor]) -> None:
    network, data = convert(quantised["qcfs"], "para_inf", 4), batches(texts, [5, 12])
    whole, final = evaluate(network, data), evaluate(network, data, execution="collapsed")
    assert final.metrics == pytest.approx(whole.metrics, rel=1e-9)
    assert torch.equal(final.predictions, whole.predictions)
    assert final.spike_rate == pytest.approx(whole.spike_rate)
    assert final.per_timestep == {}  # a collapsed run has no read-outs on the way
    assert final.T == 4


def test_the_quantised_network_has_the_figures_of_its_twin(
    quantised: dict[str, nn.Module], texts: dict[str, Tensor]
) -> None:
    for name, neuron, T in (("qcfs", "para_inf", 4), ("lsq", "st_bif", 60)):
        before = evaluate(quantised[name], batches(texts, [N]))
        after = evaluate(convert(quantised[name], neuron, T), batches(texts, [N]))
        assert after.metrics == pytest.approx(before.metrics, rel=1e-9)
        assert after.agreement(before) == {"same_prediction": N, "samples": N}
        assert (before.T, before.layers, before.spike_rate) == (None, [], None)


def test_the_networks_tell_the_texts_apart(network: SpikingNetwork, texts: dict[str, Tensor]) -> None:
    """Else the other tests would compare constants."""
    found = evaluate(network, batches(texts, [N]))
    assert len(found.predictions.unique()) > 1
    assert len(set(found.per_timestep["accuracy"])) > 1
    assert found.spike_rate is not None
    assert 0 < found.spike_rate < 1


def test_against_formulas(network: SpikingNetwork, texts: dict[str, Tensor]) -> None:
    found = evaluate(network, batches(texts, [2, 15]))
    labels = texts["labels"]
    output = network(**{k: v for k, v in texts.items() if k != "labels"})
    right = (output.logits.argmax(-1) == labels).double().mean(1)
    assert found.per_timestep["accuracy"] == pytest.approx(right.tolist())
    chances = output.logits[-1].softmax(-1)[range(N), labels]
    assert found.metrics["loss"] == pytest.approx(float(-chances.log().mean()), rel=1e-6)
    total = sum(float(layer.total.sum()) for layer in output.spikes.values())
    places = sum(float(layer.neurons.sum()) for layer in output.spikes.values())
    assert found.spikes_per_sample == pytest.approx(total / N)
    assert found.spike_rate == pytest.approx(total / places / network.T)


def test_no_spikes_are_counted_unless_asked(network: SpikingNetwork, texts: dict[str, Tensor]) -> None:
    found = evaluate(network, batches(texts, [N]), record=False)
    assert (found.layers, found.spike_rate) == ([], None)
    assert len(found.per_timestep["accuracy"]) == network.T


def test_agreement_counts_equal_classes() -> None:
    one, other = (
        Measurement(3, {"accuracy": 0.0}, predictions=torch.tensor(p)) for p in ([0, 1, 2], [0, 2, 2])
    )
    assert one.agreement(other) == {"same_prediction": 2, "samples": 3}


class Linear(nn.Module):
    """A network with dropout that takes ``x``."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.layer = nn.Dropout(0.9), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.drop(x))


def rows(**more: Any) -> list[dict[str, Tensor]]:
    return [{"x": torch.ones(2, 2), "labels": torch.tensor([0, 1]), **more}]


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back(training: bool) -> None:
    model = Linear().train(training)
    untouched = []
    model.drop.register_forward_hook(lambda _, given, out: untouched.append(torch.equal(out, given[0])))
    evaluate(model, rows())
    assert untouched == [True]
    assert model.training is model.drop.training is training
    with pytest.raises(DataError):
        evaluate(model, rows(labels=torch.tensor([0, 7])))
    assert model.training is model.drop.training is training


def test_modules_that_were_frozen_stay_so() -> None:
    """A norm that is kept in evaluation mode while the rest trains."""
    model = Linear().train()
    model.layer.eval()
    evaluate(model, rows())
    assert model.training
    assert model.drop.training
    assert not model.layer.training


def test_no_gradients_are_kept() -> None:
    model = Linear()
    graphs = []
    model.register_forward_hook(lambda _, given, out: graphs.append(out.requires_grad))
    evaluate(model, rows())
    assert graphs == [False]
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("data", "kind", "expected"),
    [
        (rows(labels=torch.tensor([0, 5])), DataError, "label 5 is outside of the model's 2 classes"),
        (rows(labels=torch.tensor([-1, 0])), DataError, "label -1 is outside of the model's 2 classes"),
        ([{"x": torch.ones(1, 2)}], DataError, "the split has no labels"),
        ([], DataError, "the split is empty"),
        (rows(x=torch.full((2, 2), math.nan)), ConversionError, "read-out is not finite"),
    ],
)
def test_what_is_refused(data: list[dict[str, Tensor]], kind: type[Exception], expected: str) -> None:
    with pytest.raises(kind, match=expected):
        evaluate(Linear(), data)
