"""The places of every text model: with all of them no product is analog, and the spiking network is exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import snn
from snn.conversion.quantize import quantizers
from snn.conversion.trace import trace
from tests.scripts.composing import composed

from .small import SMALL, batch

MODELS = [
    ("bert", {}),
    ("distilbert", {}),
    ("roberta", {}),
    ("t5_encoder", {}),
    ("t5_encoder", {"gated": True, "hidden_act": "gelu_new"}),
    ("t5_encoder", {"gated": True, "hidden_act": "silu"}),
]
every_model = pytest.mark.parametrize(
    ("name", "args"),
    MODELS,
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)


def places(name: str, coverage: str) -> list[dict[str, Any]]:
    return composed("train", f"model={name}").model.places[coverage]


def lively(name: str, **more: Any) -> torch.nn.Module:
    """Weights so large that activations differ, norms that are not the identity."""
    model = snn.create_model(name, num_classes=3, **{**SMALL[name], **more}).double().eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "embed" not in key and name != "t5_encoder":
                parameter.mul_(5)
    return model


@every_model
@pytest.mark.parametrize("activation", [None, "relu"])
def test_every_operand_spikes_under_full(name: str, args: dict, activation: str | None) -> None:
    model = snn.create_model(name, **{**SMALL[name], **args}, activation=activation)
    assert not trace(model, batch(model)).spiking_macs
    report = trace(snn.quantize(model, places(name, "full")), batch(model))
    assert report.fully_spiking, report.to_markdown()
    assert report.spiking_share == 1.0


@every_model
def test_only_the_feed_forward_part_spikes_under_ffn(name: str, args: dict) -> None:
    model = snn.create_model(name, **{**SMALL[name], **args})
    quantised = snn.quantize(model, places(name, "ffn"))
    assert len(quantizers(quantised)) == 2
    report = trace(quantised, batch(model))
    behind = {product.module for product in report.products if product.spiking}
    last = {
        "bert": "output.dense",
        "roberta": "output.dense",
        "distilbert": "ffn.lin2",
        "t5_encoder": "DenseReluDense.wo",
    }
    assert all(module.endswith(last[name]) and "attention" not in module for module in behind)
    assert len(behind) == (0 if args.get("gated") else 2), "a product with an analog gate is analog"
    assert not report.fully_spiking


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta"])
def test_the_quantiser_behind_a_relu_has_no_negative_codes(name: str) -> None:
    signs = {}
    for activation in ("relu", "gelu"):
        model = snn.create_model(name, **SMALL[name], activation=activation)
        found = quantizers(snn.quantize(model, places(name, "full"), name="lsq", levels=16))
        feed_forward = ("intermediate_act_fn", "ffn.activation")
        signs[activation] = {q.signed for key, q in found.items() if any(f in key for f in feed_forward)}
    assert signs == {"relu": {False}, "gelu": {True}}


@every_model
@pytest.mark.parametrize("coverage", ["full", "ffn"])
def test_para_inf_equals_the_quantised_network(name: str, args: dict, coverage: str) -> None:
    model = lively(name, **args)
    inputs = batch(model, rows=4)
    quantised = snn.quantize(model, places(name, coverage), name="qcfs", levels=6)
    snn.calibrate(quantised, [inputs])
    network = snn.convert(quantised, "para_inf", T=6)
    with torch.no_grad():
        want, unquantised = quantised(**inputs).logits, model(**inputs).logits
        got = network(**inputs).logits
    largest = float(want.abs().max())
    assert float((want[0] - want[1]).abs().max()) > 1e-3 * largest, "the samples are told apart"
    assert float((want - unquantised).abs().max()) > 1e-4 * largest, "quantising does something"
    assert float((got[-1] - want).abs().max()) <= 1e-12 * largest
    report = snn.verify(quantised, network, [inputs])
    report.raise_for_tolerance()
    assert report.differing == 0


@every_model
def test_padding_changes_no_spike(name: str, args: dict) -> None:
    model = lively(name, **args)
    inputs = batch(model, rows=4)
    quantised = snn.quantize(model, places(name, "full"), name="qcfs", levels=6)
    snn.calibrate(quantised, [inputs])
    network = snn.convert(quantised, "para_inf", T=6)
    together = network(**inputs)
    for row in range(4):
        length = int(inputs["attention_mask"][row].sum())
        assert length < 8 or row == 3
        alone = network(**{key: value[row : row + 1, :length] for key, value in inputs.items()})
        scale = float(together.logits.abs().max())
        assert float((alone.logits[:, 0] - together.logits[:, row]).abs().max()) <= 1e-12 * scale
        for layer, spikes in alone.spikes.items():
            assert torch.equal(spikes.total[:, 0], together.spikes[layer].total[:, row]), layer
