"""Setting thresholds, and converting: what is refused, and that nothing is left half done."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import snn
from snn.conversion.call import call_model
from snn.conversion.quantize import quantizers
from snn.errors import CheckpointError, ConfigError, ConversionError

from .networks import NETWORKS, RELU_RULES, append, example, quantised


def uncalibrated(name: str = "resnet20", **defaults) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    build, rules = NETWORKS[name]
    model = build().eval()
    return snn.quantize(model, rules, **defaults), example(name, model)


def thresholds(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: q.threshold.detach().clone() for name, q in quantizers(model).items()}


@pytest.mark.parametrize("training", [False, True])
def test_every_threshold_is_set_per_channel_and_the_mode_kept(training: bool) -> None:
    model, inputs = uncalibrated()
    statistics = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
    model.train(training)
    assert snn.calibrate(model, [inputs]) is model
    assert model.training is training
    assert {len(t) for t in thresholds(model).values()} == {4, 8}
    assert all((t > 0).all() for t in thresholds(model).values())
    assert all(torch.equal(model.state_dict()[k], v) for k, v in statistics.items())


def test_thresholds_come_from_what_the_float_network_computes() -> None:
    build, rules = NETWORKS["resnet20"]
    model = build().eval()
    inputs = example("resnet20", model)
    largest: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(
                lambda _m, _a, out, name=name: largest.update({name: out.amax((0, 2, 3))})
            )
    call_model(model, inputs)
    network = snn.quantize(model, rules)
    snn.calibrate(network, [inputs], init="max", rows=100_000)
    for name, threshold in thresholds(network).items():
        alive = largest[name] > 0
        torch.testing.assert_close(threshold[alive], largest[name][alive])


def test_padding_is_excluded() -> None:
    model, inputs = uncalibrated("bert")
    other = copy.deepcopy(model)
    padded = {k: nn.functional.pad(v, (0, 3), value=7 if k == "input_ids" else 0) for k, v in inputs.items()}
    snn.calibrate(model, [inputs], init="max", rows=100_000)
    snn.calibrate(other, [padded], init="max", rows=100_000)
    for name, threshold in thresholds(model).items():
        torch.testing.assert_close(thresholds(other)[name], threshold, msg=name)


@pytest.mark.parametrize(
    ("init", "batches"), [("first_batch", 1), ("one_over_qp", 1), ("ema20", 20), ("mse", 16)]
)
def test_an_initialisation_looks_at_as_many_batches_as_it_needs(init: str, batches: int) -> None:
    model, inputs = uncalibrated()
    given = iter([inputs] * 30)
    snn.calibrate(model, given, init=init)
    assert len(list(given)) == 30 - batches


def test_a_rule_may_initialise_its_places_in_a_way_of_its_own() -> None:
    build, rules = NETWORKS["bert"]
    rules = [{**rule, "init": "one_over_qp"} if "call" in rule else rule for rule in rules]
    model = build().eval()
    inputs = example("bert", model)
    own, plain = snn.quantize(model, rules, name="lsq"), snn.quantize(model, NETWORKS["bert"][1], name="lsq")
    snn.calibrate(own, [inputs])
    snn.calibrate(plain, [inputs])
    probabilities = {name for name, quantizer in quantizers(own).items() if quantizer.over_keys}
    assert probabilities
    for name, quantizer in quantizers(own).items():
        if name in probabilities:
            torch.testing.assert_close(quantizer.threshold, torch.full_like(quantizer.threshold, 1 / 7))
        else:
            assert torch.equal(quantizer.threshold, quantizers(plain)[name].threshold)


def test_networks_initialise_themselves_in_training_and_are_saved_and_converted_so(tmp_path: Path) -> None:
    build, rules = NETWORKS["bert"]
    model = build().eval()
    inputs = example("bert", model)
    network = snn.quantize(model, rules, name="lsq", init="ema20").train()
    for _ in range(3):
        call_model(network, inputs)
    snn.save(network, tmp_path / "midway")
    again = snn.load(tmp_path / "midway")
    assert all(torch.equal(t, thresholds(network)[name]) for name, t in thresholds(again).items())
    assert {int(q.batches_left) for q in quantizers(again).values()} == {17}
    spiking = snn.convert(again, "st_bif", 60)
    assert snn.verify(again, spiking, [inputs]).passed
    spiking.save(tmp_path / "spiking")
    assert torch.equal(snn.load(tmp_path / "spiking")(**inputs).logits, spiking(**inputs).logits)


@pytest.mark.parametrize(("value", "accepted"), [(-0.5, True), (torch.nan, False), (torch.inf, False)])
def test_thresholds_of_a_checkpoint(value: float, accepted: bool, tmp_path: Path) -> None:
    """Training may lead a parameter below zero, where its magnitude counts; nothing leads it to infinity."""
    model, inputs = uncalibrated()
    snn.calibrate(model, [inputs])
    twin = copy.deepcopy(model)
    with torch.no_grad():
        quantizers(model)["stem.act"].threshold.fill_(value)
        quantizers(twin)["stem.act"].threshold.fill_(abs(value))
    snn.save(model, tmp_path)
    if not accepted:
        with pytest.raises(
            CheckpointError, match=r"does not fit model\.yaml.*stem\.act\.threshold is not finite"
        ):
            snn.load(tmp_path)
        return
    loaded = snn.load(tmp_path)
    assert torch.equal(call_model(loaded, inputs), call_model(twin.eval(), inputs))
    assert snn.verify(loaded, snn.convert(loaded), [inputs]).passed


def test_no_more_batches_than_asked_for_are_looked_at() -> None:
    model, inputs = uncalibrated()
    seen = []
    handle = model.register_forward_pre_hook(lambda *_: seen.append(1))
    snn.calibrate(model, [inputs] * 5, max_batches=3)
    handle.remove()
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("batches", "options", "error", "message"),
    [
        ("none", {}, ConversionError, "no batch to set thresholds from"),
        ("nan", {}, ConversionError, "stem.act: activations are not finite while thresholds were set"),
        (
            "good",
            {"init": "mean"},
            ConfigError,
            "quantization.init must be one of mse, max, percentile, first_batch, ema20, one_over_qp; got 'mean'",
        ),
        (
            "good",
            {"init": "percentile", "percentile": 101},
            ConfigError,
            r"quantization.percentile must be in \(0, 100\]",
        ),
    ],
)
def test_a_failure_leaves_all_thresholds_as_they_were(
    batches: str, options: dict, error: type, message: str
) -> None:
    model, inputs = uncalibrated()
    snn.calibrate(model, [inputs])
    before = thresholds(model)
    bad = {"pixel_values": torch.full_like(inputs["pixel_values"], torch.nan)}
    with pytest.raises(error, match=message):
        snn.calibrate(model, {"none": [], "nan": [inputs, bad], "good": [inputs]}[batches], **options)
    assert all(torch.equal(t, before[name]) for name, t in thresholds(model).items())
    assert not any(q.observing for q in quantizers(model).values())


def test_a_later_layer_that_is_not_finite_changes_no_earlier_threshold() -> None:
    model, inputs = uncalibrated()
    snn.calibrate(model, [inputs])
    before = thresholds(model)
    model.stages[2][0].conv1.weight.data.fill_(torch.nan)
    with pytest.raises(ConversionError, match=r"stages\.2\.0\.act1: activations are not finite"):
        snn.calibrate(model, [inputs])
    assert all(torch.equal(t, before[name]) for name, t in thresholds(model).items())


def test_a_call_that_never_happens() -> None:
    _, inputs = uncalibrated("bert")
    network = snn.quantize(NETWORKS["bert"][0]().eval(), [append("bert.pooler", call="softmax")])
    with pytest.raises(
        ConversionError, match=r"bert.pooler.*saw no data while thresholds were set: is its module used"
    ):
        snn.calibrate(network, [inputs])


def test_a_model_without_quantisers() -> None:
    model = NETWORKS["resnet20"][0]().eval()
    with pytest.raises(ConversionError, match="the model has no quantiser: quantise it first"):
        snn.calibrate(model, [example("resnet20", model)])
    with pytest.raises(
        ConversionError, match="the model has no quantiser, so there is nothing to convert: quantise it first"
    ):
        snn.convert(model)


def test_not_calibrated() -> None:
    model, inputs = uncalibrated()
    message = "a qcfs quantiser has no threshold yet: calibrate first"
    with pytest.raises(ConversionError, match=message):
        snn.convert(model)
    with pytest.raises(ConversionError, match=message):
        call_model(model, inputs)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"T": 0}, ConfigError, "T must be at least 1; got 0"),
        ({"T": -3}, ConfigError, "T must be at least 1; got -3"),
        ({"neuron": "parainf"}, ConfigError, "neuron: unknown name 'parainf'; did you mean 'para_inf'?"),
        ({"neuron": "st_bif"}, ConversionError, "neuron=st_bif needs quantization=lsq; got qcfs"),
        (
            {"odrer": "late"},
            ConfigError,
            "neuron.odrer: para_inf takes no such argument; did you mean 'order'?",
        ),
        ({"order": "soon"}, ConfigError, "neuron.order must be one of early, late, even; got 'soon'"),
        (
            {"neuron": "integrate_fire", "order": "late"},
            ConfigError,
            "neuron.order: integrate_fire takes no such argument; choices: initial",
        ),
        ({"coding": "sum"}, ConfigError, "neuron=para_inf works under coding mean; got neuron.coding=sum"),
        ({"execution": "stepwise"}, ConfigError, "neuron=para_inf needs all T steps at once"),
        (
            {"neuron": "integrate_fire", "execution": "collapsed"},
            ConfigError,
            "neuron=integrate_fire has no collapsed form; use execution=parallel or stepwise",
        ),
    ],
)
def test_conversions_that_cannot_work(options: dict, error: type, message: str) -> None:
    model, _ = quantised("resnet20")
    with pytest.raises(error) as raised:
        snn.convert(model, **options)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_training_mode_is_refused() -> None:
    model, _ = uncalibrated(threshold=1.0, granularity="tensor")
    model.stages[1].train()
    with pytest.raises(
        ConversionError, match=r"the model is in training mode \(first: stages\.1\): call model\.eval\(\)"
    ):
        snn.convert(model)


def test_qcfs_needs_signed_codes_for_signed_signals() -> None:
    """An unsigned quantiser is a ReLU: what is negative is lost, in the quantised and in the spiking network alike."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    inputs = {"x": torch.randn(9, 3)}
    network = snn.calibrate(snn.quantize(model, [*RELU_RULES, append("2", signed=False)]), [inputs])
    assert call_model(network, inputs).min() == 0
    assert snn.verify(network, snn.convert(network), [inputs]).passed


def test_unsigned_quantisers_of_signed_values_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """A ReLU's quantiser may cut what the ReLU cuts; one behind a linear layer may not do so in silence."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    batches = [{"x": torch.randn(32, 4)}]
    relu = {"match": "1", "do": "replace", "signed": False}
    with caplog.at_level("WARNING"):
        snn.calibrate(snn.quantize(network, [relu, {"match": "0", "signed": True}]), batches)
    assert caplog.records == []
    with caplog.at_level("WARNING"):
        snn.calibrate(snn.quantize(network, [relu, {"match": "2", "signed": False}]), batches)
    (record,) = caplog.records
    assert "1 unsigned quantisers cut off negative values" in record.getMessage()
    assert "2 " in record.getMessage()
    assert "signed: true" in record.getMessage()


def test_probabilities_without_an_axis_of_heads_are_refused() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.softmax(x @ x.mT, -1) @ x

    model = snn.quantize(nn.Sequential(Attention()), [{"match": "0", "call": "softmax", "signed": False}])
    with pytest.raises(ConversionError, match=r"shape \(2, 3, 3\); expected \[B, heads, queries, keys\]"):
        snn.calibrate(model, [{"x": torch.randn(2, 3, 4)}])


def test_a_threshold_that_is_given_as_a_number_is_kept() -> None:
    rules = [{"match": "0", "signed": True, "threshold": 7.0}, {"match": "1", "signed": True}]
    model = snn.quantize(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), rules)
    snn.calibrate(model, [{"x": torch.randn(16, 4)}])
    first, second = quantizers(model).values()
    assert first.threshold.tolist() == [7.0]
    assert second.threshold.shape == (2,)
