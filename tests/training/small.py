"""A tiny data set and network to train in the tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snn.config import Config, StageConfig, TrainingConfig
from snn.data.data import Data
from snn.data.image import prepare
from snn.data.schema import DatasetConfig
from snn.tracking.schema import TrackingConfig
from snn.tracking.tracker import Tracker


class Record(Tracker):
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(TrackingConfig())
        self.lines: list[dict[str, Any]] = []

    def start(self, *arguments: Any, **options: Any) -> None: ...

    def log(self, metrics: Any, step: int) -> None:
        self.lines.append({"step": step, **metrics})

    def curve(self, *arguments: Any) -> None: ...

    def table(self, *arguments: Any) -> None: ...

    def figure(self, *arguments: Any) -> None: ...

    def finish(self, *arguments: Any) -> None: ...


class Flat(nn.Module):
    """Two layers on flattened pictures of 2 x 2, with a place for a quantiser between them."""

    def __init__(self, hidden: int = 6, dropout: float = 0.0):
        super().__init__()
        self.first, self.act = nn.Linear(4, hidden), nn.ReLU()
        self.norm, self.drop, self.classifier = (
            nn.LayerNorm(hidden),
            nn.Dropout(dropout),
            nn.Linear(hidden, 2),
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = pixel_values.flatten(1).to(self.first.weight.dtype)
        return self.classifier(self.drop(self.norm(self.act(self.first(x)))))


def pictures(train: int = 24, validation: int = 12, noise: float = 0.25, seed: int = 0) -> Data:
    """Pictures whose first pixel tells the class, in noise."""
    config = DatasetConfig(name="pictures", kind="image", image_size=2, channels=1)
    rng = np.random.default_rng(seed)
    splits = {}
    for split, rows in (("train", train), ("validation", validation), ("test", 4)):
        labels = np.arange(rows) % 2
        images = rng.uniform(0, 1, (rows, 2, 2, 1))
        images[:, 0, 0, 0] = np.clip(labels + rng.normal(0, noise, rows), 0, 1)
        splits[split] = prepare((images * 255).astype(np.uint8), np.arange(rows), labels, config, split)
    return Data(config, splits, ["dark", "light"], "made", seed)  # type: ignore[arg-type]


def config(optimizer: dict[str, Any] | None = None, **training: Any) -> Config:
    settings = {"batch_size": 4, "log_every": 1, "precision": "no", "save_every": None, **training}
    return Config(
        device="cpu",
        optimizer=optimizer or {"_target_": "torch.optim.SGD", "lr": 0.1},
        scheduler={"_target_": "snn.training.schedule.constant"},
        training=TrainingConfig(**settings),
    )


def stage(**options: Any) -> StageConfig:
    return StageConfig(**options)


def seeded(model: type[nn.Module] = Flat, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return model(**options)
