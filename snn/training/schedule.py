"""Learning rate over the steps of a stage: warm-up, then decay."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from snn.config import Config, StageConfig
from snn.errors import ConfigError
from snn.instantiate import instantiate


def build_scheduler(
    config: Config, stage: StageConfig, optimizer: Optimizer, total_steps: int
) -> LRScheduler:
    """The schedule of a stage: its own ``scheduler`` section, or the run's.

    Raises:
        ConfigError: The section does not fit its ``_target_``.
    """
    section = stage.scheduler or config.scheduler
    return instantiate(section, "scheduler", optimizer=optimizer, total_steps=total_steps)


def linear(optimizer: Optimizer, total_steps: int, warmup: float = 0.1, final: float = 0.0) -> LambdaLR:
    """Linear warm-up over a share of the steps, then linear decay to a share of the rate after the last."""
    return _schedule(optimizer, total_steps, warmup, final, lambda done: 1 - done)


def cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.05, final: float = 0.0) -> LambdaLR:
    """Linear warm-up, then cosine decay to a share of the rate over the steps that remain."""
    return _schedule(optimizer, total_steps, warmup, final, lambda done: 0.5 * (1 + math.cos(math.pi * done)))


def constant(optimizer: Optimizer, total_steps: int, warmup: float = 0.0) -> LambdaLR:
    """Linear warm-up, then constant."""
    return _schedule(optimizer, total_steps, warmup, 1.0, lambda done: 0.0)


def _schedule(
    optimizer: Optimizer, total_steps: int, warmup: float, final: float, decay: Callable[[float], float]
) -> LambdaLR:
    for name, value in (("warmup", warmup), ("final", final)):
        if not isinstance(value, int | float):
            raise ConfigError(f"scheduler.{name} must be a number; got {value!r}")
    if not 0 <= warmup < 1:
        raise ConfigError(f"scheduler.warmup must be in [0, 1); got {warmup}")
    if not 0 <= final <= 1:
        raise ConfigError(f"scheduler.final must be in [0, 1]: a share of the rate; got {final}")
    warm = round(total_steps * warmup)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        return final + (1 - final) * decay(min(1.0, (step - warm) / max(1, total_steps - warm)))

    return LambdaLR(optimizer, factor)
