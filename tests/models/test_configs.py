"""Every YAML of the group ``model`` fits the schema and builds."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

from snn.models import MODELS, create_model
from snn.registry import accepted
from tests.scripts.composing import composed

FOLDER = Path(__file__).parents[2] / "conf" / "model"
CONFIGS = sorted(path.stem for path in FOLDER.rglob("*.yaml") if path.stem != "from_checkpoint")


@pytest.mark.parametrize("name", CONFIGS)
def test_config_fits_the_schema_and_builds(name: str) -> None:
    assert (FOLDER / f"{name}.yaml").read_text().startswith("# ")
    config = composed("train", f"model={name}").model
    build = MODELS.get(config.name).build
    # Each argument stands there, so that each can be changed on the command line without a «+».
    assert sorted(config.args) == sorted(set(accepted(build)) - {"num_classes"})
    with torch.device("meta"):
        model = create_model(config.name, weights=None, num_classes=7, **config.args)
    named = getattr(model, "get_classifier", None)  # timm's networks say themselves what their classifier is
    output = named() if named is not None else model.get_submodule(MODELS.get(config.name).output)
    assert output.out_features == 7
    for key, value in config.args.items():
        default = inspect.signature(build).parameters[key].default
        assert model.spec["args"][key] == (default if value is None else value)


@pytest.mark.parametrize(
    ("name", "args", "count"),
    [
        # The published count, and a classifier of 128 x 2 + 2.
        ("bert_tiny", {}, 4_385_920 + 258),
        (
            "bert_base",
            {
                "hidden_size": 768,
                "num_hidden_layers": 12,
                "intermediate_size": 3072,
            },
            109_483_778,
        ),
        ("distilbert", {"hidden_size": 768, "intermediate_size": 3072}, 66_955_010),
        (
            "roberta_base_relu",
            {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072},
            124_647_170,
        ),
        # T5-small's encoder, and a classifier of 512 x 2 + 2.
        ("t5_encoder", {}, 35_330_816 + 1026),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(name: str, args: dict, count: int) -> None:
    config = composed("train", f"model={name}").model
    with torch.device("meta"):
        model = create_model(config.name, **{**config.args, **args})
    assert sum(p.numel() for p in model.parameters()) == count


def test_relu_roberta_has_the_weights_of_its_task() -> None:
    config = composed("train", "model=roberta_base_relu", "dataset=mrpc").model
    assert (config.weights, config.activation) == ("JeffreyWong/roberta-base-relu-mrpc", "relu")
