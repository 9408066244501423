"""Every YAML of the group ``model`` fits the schema and builds."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from snn.models import MODELS, ModelConfig, create_model
from snn.registry import accepted

FOLDER = Path(__file__).parents[2] / "conf" / "model"
CONFIGS = sorted(path for path in FOLDER.rglob("*.yaml") if path.stem != "from_checkpoint")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_fits_the_schema_and_builds(path: Path) -> None:
    assert path.read_text().startswith("# ")
    written = OmegaConf.load(path)
    written.pop("defaults", None)  # fitting choices in other groups
    config = OmegaConf.merge(OmegaConf.structured(ModelConfig), written)
    build = MODELS.get(config.name).build
    # Each argument stands there, so that each can be changed on the command line without a «+».
    assert sorted(config.args) == sorted(set(accepted(build)) - {"num_classes"})
    with torch.device("meta"):
        model = create_model(config.name, weights=None, num_classes=7, **config.args)
    assert model.classifier.out_features == 7
    for key, value in config.args.items():
        default = inspect.signature(build).parameters[key].default
        assert model.spec["args"][key] == (default if value is None else value)


def test_all_sizes_of_the_smallest_bert() -> None:
    path = next(path for path in CONFIGS if path.stem == "bert_tiny")
    with torch.device("meta"):
        model = create_model("bert", **OmegaConf.load(path).args)
    # The published count of BERT-tiny, and a classifier of 128 x 2 + 2.
    assert sum(p.numel() for p in model.parameters()) == 4_385_920 + 258
