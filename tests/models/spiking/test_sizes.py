"""Sizes of the networks that are trained as spiking ones: the published ones, and those that cannot work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from snn.errors import ConfigError
from snn.models import create_model
from tests.models.small import SMALL

CONFIGS = Path(__file__).parents[3] / "conf" / "model"
IMAGENET = {"num_classes": 1000}
COUNTS: list[tuple[str, dict[str, Any], int]] = [
    ("spikformer", {"num_classes": 10}, 9_324_730),
    ("spikformer", {"num_classes": 100}, 9_359_380),
    ("spikformer", {"num_classes": 10, "embed_dim": 256, "num_heads": 8}, 4_155_178),
    ("spikformer", {"num_classes": 10, "depth": 2}, 5_765_050),
    ("spikformer_imagenet", {**IMAGENET, "embed_dim": 384, "num_heads": 6}, 16_816_024),
    ("spikformer_imagenet", {**IMAGENET, "depth": 6}, 23_373_352),
    ("spikformer_imagenet", IMAGENET, 29_689_384),
    ("spikformer_imagenet", {**IMAGENET, "depth": 10}, 36_005_416),
    ("spikformer_imagenet", {**IMAGENET, "embed_dim": 768, "num_heads": 12}, 66_338_632),
    ("spikformer_dvs", {"num_classes": 10}, 2_566_666),
    ("sdt", {"num_classes": 10}, 10_233_546 - 128),
    ("sdt", {"num_classes": 100}, 10_279_716 - 128),
    ("sdt", {"num_classes": 10, "embed_dim": 256}, 2_567_082 - 128),
    ("sdt", {"num_classes": 100, "embed_dim": 256}, 2_590_212 - 128),
    ("sdt_imagenet", {**IMAGENET, "embed_dim": 384}, 16_816_536 - 8 * 64),
    ("sdt_imagenet", {**IMAGENET, "depth": 6}, 23_373_736 - 6 * 64),
    ("sdt_imagenet", IMAGENET, 29_689_896 - 8 * 64),
    ("sdt_imagenet", {**IMAGENET, "depth": 10}, 36_006_056 - 10 * 64),
    ("sdt_imagenet", {**IMAGENET, "embed_dim": 768}, 66_339_144 - 8 * 64),
    ("sdt_dvs", {"num_classes": 10}, 2_566_794 - 128),
    ("sdt_gesture", {"num_classes": 11}, 2_567_051 - 128),
    ("qkformer", {"num_classes": 10}, 6_706_234),
    ("qkformer", {"num_classes": 100}, 6_740_884),
    ("qkformer_imagenet", {**IMAGENET, "embed_dim": 384, "num_heads": 6}, 16_473_688),
    ("qkformer_imagenet", IMAGENET, 29_079_336),
    ("qkformer_imagenet", {**IMAGENET, "embed_dim": 768, "num_heads": 12}, 64_962_760),
    ("qkformer_dvs", {"num_classes": 10}, 1_504_138),
    ("qkformer_gesture", {"num_classes": 11}, 1_999_371),
    ("tim", {"num_classes": 10}, 2_568_746),
    ("tim", {"num_classes": 101}, 2_592_133),
    ("tim_shd", {"num_classes": 20}, 2_571_316),
]


def choice_of(choice: str) -> tuple[str, dict[str, Any]]:
    """The model's name and its arguments, but for those that follow the whole config."""
    config: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{choice}.yaml"), resolve=False)
    return config["name"], {key: value for key, value in config["args"].items() if "$" not in str(value)}


@pytest.mark.parametrize(("choice", "change", "count"), COUNTS)
def test_parameter_counts_are_the_published_ones(choice: str, change: dict[str, Any], count: int) -> None:
    """Less the weights that the published networks hold and never use."""
    name, args = choice_of(choice)
    with torch.device("meta"):
        model = create_model(name, **{**args, **change})
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize(
    ("choice", "size", "tokens"),
    [
        ("spikformer", 32, 64),
        ("spikformer_imagenet", 224, 196),
        ("spikformer_dvs", 128, 64),
        ("sdt_dvs", 64, 256),
        ("sdt_gesture", 128, 256),
        ("qkformer_imagenet", 224, 196),
        ("qkformer_dvs", 128, 64),
        ("tim", 64, 16),
        ("tim_shd", 16, 16),
    ],
)
def test_numbers_of_tokens(choice: str, size: int, tokens: int) -> None:
    name, args = choice_of(choice)
    seen: list[torch.Size] = []
    with torch.device("meta"):
        model = create_model(name, **{**args, "T": 2})
        model.blocks.register_forward_hook(lambda _module, _inputs, out: seen.append(out.shape))
        assert model(torch.zeros(1, model.in_channels, size, size)).shape == (2, 1, 2)
    assert seen[0][-2:].numel() == tokens


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("spikformer", {"num_heads": 3}, ["model.args.num_heads", "1, 2, 4, 8, 16", "3"]),
        ("sdt", {"embed_dim": 20}, ["model.args.embed_dim", "a multiple of 8", "20"]),
        ("qkformer", {"embed_dim": 40}, ["model.args.embed_dim", "a multiple of 16", "40"]),
        ("qkformer", {"depths": []}, ["model.args.depths", "whole numbers >= 1"]),
        ("qkformer", {"stem": "cifra"}, ["model.args.stem", "did you mean 'cifar'"]),
        ("spikformer", {"T": 0}, ["model.args.T", ">= 1", "0"]),
        ("spikformer", {"depth": 0}, ["model.args.depth", ">= 1", "0"]),
        ("spikformer", {"pooled_stages": [3, 4]}, ["model.args.pooled_stages", "0, 1, 2, 3", "[3, 4]"]),
        ("spikformer", {"pooled_stages": [1, 1]}, ["model.args.pooled_stages", "different"]),
        ("spikformer", {"drop_path": 1.0}, ["model.args.drop_path", "[0, 1)", "1.0"]),
        ("sdt", {"attention_pool": "spaces"}, ["model.args.attention_pool", "did you mean 'space'"]),
        ("sdt", {"attention_threshold": 0.0}, ["model.args.attention_threshold", "> 0"]),
        ("tim", {"image_size": 40}, ["model.args.image_size", "a multiple of 16", "40"]),
        ("tim", {"mix": 1.5}, ["model.args.mix", "[0, 1]", "1.5"]),
        ("tim", {"out_threshold": -1.0}, ["model.args.out_threshold", "> 0", "-1.0"]),
        ("sdt", {"neuron": {"name": "lif", "tau": 0.1}}, ["neuron=lif", "tau must be at least 1"]),
        ("sdt", {"neuron": "liff"}, ["neuron", "'liff'", "did you mean 'lif'"]),
    ],
)
def test_sizes_that_cannot_work(name: str, args: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        create_model(name, **{**SMALL[name], **args})
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("spikformer", (2, 3, 3, 32, 32), ["model.args.T=2", "dataset.events.frames", "3 frames"]),
        ("spikformer", (2, 1, 32, 32), ["model.args.in_channels", "[B, 3, H, W]", "[2, 1, 32, 32]"]),
        ("spikformer", (3, 32, 32), ["model.args.in_channels", "[3, 32, 32]"]),
        ("spikformer", (2, 3, 30, 32), ["multiples of 4", "[2, 3, 30, 32]"]),
        ("sdt", (2, 3, 32, 33), ["multiples of 4"]),
        ("qkformer", (2, 3, 31, 32), ["multiples of 2"]),
        ("tim", (2, 3, 2, 48, 48), ["model.args.image_size", "[48, 48]", "32"]),
    ],
)
def test_input_that_does_not_fit(name: str, shape: tuple[int, ...], words: list[str]) -> None:
    model = create_model(name, **SMALL[name])
    with pytest.raises(ConfigError) as error:
        model(torch.zeros(shape))
    for word in words:
        assert word in str(error.value)


def test_initial_weights_are_drawn_as_published() -> None:
    def deviation(model: nn.Module, layer: str) -> float:
        return model.get_submodule(layer).weight.std().item()

    cifar = create_model("spikformer", embed_dim=64, depth=1, num_heads=2)
    other = create_model("spikformer", embed_dim=64, depth=1, num_heads=2, projection="conv")
    sdt = create_model("sdt", embed_dim=64, depth=1, num_heads=2)
    query, stage = "blocks.0.attention.query.layer.conv", "embedding.stages.3.layer.conv"
    assert deviation(cifar, query) == pytest.approx(0.02, rel=0.1)
    assert deviation(cifar, stage) == pytest.approx((3 * 32 * 9) ** -0.5, rel=0.1)
    assert deviation(other, query) == pytest.approx((3 * 64) ** -0.5, rel=0.1)
    assert deviation(other, "classifier") == pytest.approx(0.02, rel=0.3)
    assert deviation(sdt, "embedding.stages.3.conv") == pytest.approx(0.02, rel=0.1)
    assert deviation(sdt, "classifier") == pytest.approx((3 * 64) ** -0.5, rel=0.3)
