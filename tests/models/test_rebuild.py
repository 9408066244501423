"""The same weights in a network of other arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from snn.errors import CheckpointError, ConfigError
from snn.models import create_model
from snn.models.rebuild import rebuilt
from tests.models.small import SMALL, batch


def small(name: str, **more: Any) -> Any:
    return create_model(name, **{"num_classes": 3, **SMALL[name], **more}).eval()


def test_nothing_changes_nothing() -> None:
    model = small("bert")
    assert rebuilt(model, num_classes=3) is model


@pytest.mark.parametrize("name", ["spikingbert", "sdt"])
def test_another_number_of_steps_keeps_all_weights(name: str) -> None:
    model = small(name, T=2)
    other: Any = rebuilt(model, T=5)
    assert (other.T, other.spec["args"]["T"], model.T) == (5, 5, 2)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
    fresh = small(name, T=5)
    fresh.load_state_dict(model.state_dict())
    inputs = batch(model)
    with torch.no_grad():
        ours, theirs = (m(**inputs) for m in (other, fresh))
    assert torch.equal(getattr(ours, "logits", ours), getattr(theirs, "logits", theirs))


@pytest.mark.parametrize("name", ["bert", "roberta", "spikingbert"])
def test_other_classes_make_the_head_new_and_nothing_else(name: str) -> None:
    model = small(name)
    other: Any = rebuilt(model, num_classes=5)
    before, after = model.state_dict(), other.state_dict()
    changed = {k for k in before if before[k].shape != after[k].shape or not torch.equal(before[k], after[k])}
    assert changed
    assert all(key.startswith("classifier") for key in changed)
    assert other.spec["args"]["num_classes"] == 5


def test_what_weights_depend_on_cannot_change() -> None:
    with pytest.raises(CheckpointError, match="model=bert cannot take num_hidden_layers=3"):
        rebuilt(small("bert"), num_hidden_layers=3)
    with pytest.raises(ConfigError, match="layers"):
        rebuilt(small("bert"), layers=3)
