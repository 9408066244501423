"""The optimiser of a stage, with its parameter groups."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from snn.instantiate import instantiate


def build_optimizer(
    model: nn.Module, config: dict[str, Any], lr: float | None = None, threshold_lr: float | None = None
) -> Optimizer:
    """Weights with decay; biases, norms and everything one-dimensional without; thresholds without and at
    their own rate.

    Args:
        model: What is trained.
        config: The ``optimizer`` section.
        lr: Instead of the section's.
        threshold_lr: Of thresholds; as ``lr`` if not given.

    Raises:
        ConfigError: The section does not fit its ``_target_``.
    """
    settings = dict(config) | ({} if lr is None else {"lr": lr})
    groups: dict[str, list[nn.Parameter]] = {"weights": [], "plain": [], "thresholds": []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_threshold = "threshold" in name.split(".")
        kind = "thresholds" if is_threshold else "weights" if parameter.dim() > 1 else "plain"
        groups[kind].append(parameter)
    rate = settings.get("lr") if threshold_lr is None else threshold_lr
    params: list[dict[str, Any]] = [
        {"params": groups["weights"]},
        {"params": groups["plain"], "weight_decay": 0.0},
    ]
    params.append({"params": groups["thresholds"], "weight_decay": 0.0, "lr": rate})
    return instantiate(settings, "optimizer", params=[p for p in params if p["params"]])
