"""Each mistake in ``model.*`` ends in one line that names the key and what would work."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from snn.errors import CheckpointError, ConfigError
from snn.models import MODELS, create_model

from .small import SMALL


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("bret", {}, ["model", "'bret'", "did you mean 'bert'"]),
        ("bert", {"hiden_size": 8}, ["model.args.hiden_size", "model=bert", "did you mean 'hidden_size'"]),
        ("bert", {"hidden_size": "wide"}, ["model.args.hidden_size", "a whole number", "'wide'"]),
        ("bert", {"hidden_size": 16.0}, ["model.args.hidden_size", "a whole number", "16.0"]),
        ("bert", {"hidden_size": True}, ["model.args.hidden_size", "a whole number", "True"]),
        ("bert", {"num_hidden_layers": 0}, ["model.args.num_hidden_layers", ">= 1", "0"]),
        ("bert", {"layer_norm_eps": "1e-12"}, ["model.args.layer_norm_eps", "a number", "'1e-12'"]),
        ("bert", {"layer_norm_eps": 0.0}, ["model.args.layer_norm_eps", "> 0"]),
        ("bert", {"hidden_dropout_prob": 1.0}, ["model.args.hidden_dropout_prob", "[0, 1)", "1.0"]),
        ("bert", {"pad_token_id": 40}, ["model.args.pad_token_id", "vocab_size=40", "40"]),
        ("bert", {"hidden_act": "gleu"}, ["model.args.hidden_act", "did you mean 'gelu'"]),
        (
            "bert",
            {"num_attention_heads": 3},
            ["model.args.num_attention_heads", "hidden_size=16", "1, 2, 4, 8"],
        ),
        ("resnet20", {"shortcut": "pda"}, ["model.args.shortcut", "did you mean 'pad'"]),
        ("resnet20", {"activation": "tanh"}, ["model.args.activation", "gelu, relu, silu"]),
        ("resnet20", {"widths": 16}, ["model.args.widths", "a list", "16"]),
        ("resnet20", {"widths": [4, 8.5, 8]}, ["model.args.widths[1]", "a whole number", "8.5"]),
        ("resnet20", {"blocks": [1, 1]}, ["model.args.blocks", "3 whole numbers", "[1, 1]"]),
        ("resnet20", {"widths": [8, 4, 4], "shortcut": "pad"}, ["model.args.widths", "shortcut=pad"]),
        ("resnet20", {"in_channels": 0}, ["model.args.in_channels", ">= 1", "0"]),
        ("vgg16", {"dropout": -0.1}, ["model.args.dropout", "[0, 1)", "-0.1"]),
        ("vgg16", {"convs": [1]}, ["model.args.convs", "5 whole numbers"]),
        ("vgg16", {"widths": {"first": torch.ones(1)}}, ["model.args.widths.first", "Tensor"]),
        ("bert", {"num_classes": 0}, ["model.num_classes", ">= 1", "0"]),
        ("bert", {"num_classes": None}, ["model.num_classes", "None"]),
        ("bert", {"rename": [{"match": "a", "to": "b"}]}, ["model.rename", "model.weights is null"]),
    ],
)
def test_one_line_names_the_key_and_what_would_work(name: str, args: dict, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        create_model(name, **{**SMALL.get(name, {}), **args})
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", ["resnet20", "vgg16"])
def test_pictures_that_do_not_fit(name: str) -> None:
    model = create_model(name, **SMALL[name])
    with pytest.raises(ConfigError, match=r"model\.args\.in_channels.*\[B, 3, H, W\].*\[2, 1, 32, 32\]"):
        model(torch.zeros(2, 1, 32, 32))
    with pytest.raises(ConfigError, match="at least"):
        model(torch.zeros(2, 3, 7, 7))


def test_a_checkpoint_with_more_than_tensors_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    """As MAE's and SpikeZIP-TF's: the arguments of the script beside the tensors."""
    monkeypatch.chdir(tmp_path)
    state = create_model("resnet20", **SMALL["resnet20"]).state_dict()
    torch.save({"model": state, "args": argparse.Namespace(lr=0.1)}, "released.pth")
    with pytest.raises(CheckpointError) as error:
        create_model("resnet20", weights="released.pth", **SMALL["resnet20"])
    message = str(error.value)
    assert "\n" not in message
    assert "released.pth holds more than tensors, or is damaged (argparse.Namespace is in it)" in message
    # The advice works as it stands, but for the name that this file has for its tensors.
    advice = message.partition("alone: ")[2].partition(", or ")[0]
    exec(advice.replace("state_dict", "model"))
    again = create_model("resnet20", weights="weights.pth", **SMALL["resnet20"])
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in state.items())


def test_null_stands_for_not_given() -> None:
    model = create_model("resnet20", in_channels=None, **SMALL["resnet20"])
    assert model.spec["args"]["in_channels"] == 3


def test_a_model_of_ones_own() -> None:
    class Tiny(torch.nn.Module):
        def __init__(self, num_classes: int, width: int = 4):
            super().__init__()
            self.classifier = torch.nn.Linear(width, num_classes)

    MODELS.add("tiny_of_mine", Tiny)
    try:
        model = create_model("tiny_of_mine", num_classes=5, width=2)
        assert model.spec == {"name": "tiny_of_mine", "args": {"num_classes": 5, "width": 2}}
        assert model.input_kind == "image"
        with pytest.raises(ConfigError, match=r"model\.args\.width"):
            create_model("tiny_of_mine", width="2")
    finally:
        del MODELS._targets["tiny_of_mine"]
