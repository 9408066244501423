"""Parameter groups: what decays, what has a rate of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from snn.conversion.quantize import calibrate, quantize, quantizers
from snn.errors import ConfigError
from snn.training.loop import Trainer
from snn.training.optimizer import build_optimizer
from tests.training.small import Record, config, pictures, seeded, stage

RULES = [{"match": "act", "do": "replace"}]
ADAMW = {"_target_": "torch.optim.AdamW", "lr": 0.01, "weight_decay": 0.1}


def quantised(name: str = "qcfs") -> nn.Module:
    model = quantize(seeded(), RULES, name=name, levels=4)
    return calibrate(model, [{"pixel_values": torch.rand(8, 1, 2, 2)}])


def settings(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, dict[str, Any]]:
    names = {id(p): n for n, p in model.named_parameters()}
    return {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("quantizer", ["qcfs", "lsq"])
def test_biases_norms_and_thresholds_do_not_decay(quantizer: str) -> None:
    model = quantised(quantizer)
    found = settings(build_optimizer(model, ADAMW), model)
    assert found.keys() == dict(model.named_parameters()).keys()  # each is in one group
    decay = {name for name, group in found.items() if group["weight_decay"] > 0}
    assert decay == {"first.weight", "classifier.weight"}
    assert {group["lr"] for group in found.values()} == {0.01}


def test_biases_norms_and_thresholds_decay_as_asked() -> None:
    """Plain releases of QCFS let everything decay."""
    model = quantised()
    asked = {**ADAMW, "norm_weight_decay": 0.2, "threshold_weight_decay": 0.3}
    found = {
        name: group["weight_decay"] for name, group in settings(build_optimizer(model, asked), model).items()
    }
    assert found["first.weight"] == 0.1
    assert found["first.bias"] == 0.2
    assert found["act.threshold"] == 0.3
    with pytest.raises(ConfigError, match=r"optimizer\.threshold_weight_decay must be at least 0; got -1"):
        build_optimizer(model, {**ADAMW, "threshold_weight_decay": -1})


def test_rates_of_the_stage_and_of_thresholds() -> None:
    model = quantised()
    found = settings(build_optimizer(model, ADAMW, lr=0.5, threshold_lr=0.25), model)
    assert found["act.threshold"]["lr"] == 0.25
    assert {group["lr"] for name, group in found.items() if name != "act.threshold"} == {0.5}
    # Without a rate of their own thresholds go with the stage.
    found = settings(build_optimizer(model, ADAMW, lr=0.5), model)
    assert found["act.threshold"]["lr"] == 0.5
    found = settings(build_optimizer(model, ADAMW, threshold_lr=0.0), model)
    assert (found["act.threshold"]["lr"], found["first.weight"]["lr"]) == (0.0, 0.01)


def test_rates_fall_from_block_to_block() -> None:
    model = nn.Sequential()
    model.embed = nn.Linear(2, 2)
    model.blocks = nn.ModuleList(quantised() for _ in range(2))
    model.head = nn.Linear(2, 2)
    found = settings(build_optimizer(model, {**ADAMW, "layer_decay": 0.5}, threshold_lr=0.1), model)
    rates = {name: group["lr"] for name, group in found.items()}
    assert [rates[f"{name}.weight"] for name in ("head", "blocks.1.first", "blocks.0.first", "embed")] == (
        pytest.approx([0.01, 0.005, 0.0025, 0.00125])
    )
    assert rates["blocks.0.act.threshold"] == pytest.approx(0.025)
    assert found["blocks.0.first.bias"]["weight_decay"] == 0
    assert found["blocks.0.first.weight"]["weight_decay"] == 0.1
    whole = settings(build_optimizer(model, {**ADAMW, "layer_decay": 1.0}), model)
    assert {group["lr"] for group in whole.values()} == {0.01}


@pytest.mark.parametrize("value", [0, -1.0, 1.5])
def test_a_decay_that_is_none(value: float) -> None:
    with pytest.raises(ConfigError, match=rf"optimizer.layer_decay must be in \(0, 1\]; got {value}"):
        build_optimizer(seeded(), {**ADAMW, "layer_decay": value})


def test_frozen_parameters_are_left_out() -> None:
    model = seeded()
    model.first.requires_grad_(False)  # type: ignore[union-attr]
    found = settings(build_optimizer(model, ADAMW), model)
    assert not {name for name in found if name.startswith("first")}


def test_a_stage_may_have_an_optimiser_of_its_own(tmp_path: Path) -> None:
    own = {"_target_": "torch.optim.Adam", "lr": 0.25}
    found = []
    for section in (stage(), stage(optimizer=own), stage(optimizer=own, lr=0.5)):
        run = Trainer("float", seeded(), pictures(), config(), section, Record(), tmp_path / "resume")
        found.append((type(run.optimizer.optimizer).__name__, run.scheduler.base_lrs[0]))
    assert found == [("SGD", 0.1), ("Adam", 0.25), ("Adam", 0.5)]


def test_its_mistakes_name_its_key(tmp_path: Path) -> None:
    section = stage(optimizer={"_target_": "torch.optim.Adam", "lr": 0.1, "momentum": 0.9})
    with pytest.raises(ConfigError, match=r"^training\.float\.optimizer: .*'momentum'"):
        Trainer("float", seeded(), pictures(), config(), section, Record(), tmp_path / "resume")


def test_a_setting_that_the_optimiser_does_not_have() -> None:
    with pytest.raises(ConfigError, match=r"optimizer: .*'momentum'"):
        build_optimizer(seeded(), {**ADAMW, "momentum": 0.9})


@pytest.mark.parametrize("quantizer", ["qcfs", "lsq"])
def test_thresholds_learn_and_stay_positive_in_effect(quantizer: str) -> None:
    """Even when a far too large step carries the parameter across zero."""
    model = quantised(quantizer)
    optimizer = build_optimizer(model, {"_target_": "torch.optim.SGD", "lr": 0.1}, threshold_lr=1.0)
    (layer,) = quantizers(model).values()
    x = 3 * (layer.threshold.detach().abs() + 1) * torch.ones(2, 6)
    signs = set()
    for _ in range(4):
        optimizer.zero_grad()
        layer(x).sum().backward()  # saturated, so smaller thresholds give less
        assert layer.threshold.grad is not None
        assert layer.threshold.grad.isfinite().all()
        assert (layer.threshold.grad != 0).all()
        optimizer.step()
        signs |= set(layer.threshold.detach().sign().tolist())
        assert (layer.positive_threshold() > 0).all()
        assert (layer(x) >= 0).all()
    assert -1.0 in signs  # it was carried across, which is what is tried here
