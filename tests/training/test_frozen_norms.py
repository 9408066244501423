"""Batch norms that stop following their batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from snn.training.loop import Trainer
from tests.training.small import Record, config, pictures, stage


def network() -> nn.Module:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.classifier = nn.BatchNorm1d(4), nn.Linear(4, 2)

        def forward(self, pixel_values: Tensor) -> Tensor:
            return self.classifier(self.norm(pixel_values.flatten(1)))

    torch.manual_seed(0)
    return Normed()


@pytest.mark.parametrize(("share", "free"), [(1.0, 18), (0.5, 9), (0.0, 0)])
def test_statistics_stay_once_their_time_has_come(tmp_path: Path, share: float, free: int) -> None:
    """Three epochs of six steps."""
    model = network()
    found, scales = [], []

    def watch(norm: nn.BatchNorm1d, inputs: tuple[Tensor], output: Tensor) -> None:
        if torch.is_grad_enabled():
            found.append(norm.training)
            scales.append(norm.weight.detach().clone())

    model.norm.register_forward_hook(watch)
    section = stage(epochs=3, freeze_norm=share)
    Trainer("float", model, pictures(), config(), section, Record(), tmp_path / "resume").run()
    assert found == [True] * free + [False] * (18 - free)
    assert int(model.norm.num_batches_tracked) == free
    assert not scales[-2].equal(scales[-1])  # scale and bias learn on
