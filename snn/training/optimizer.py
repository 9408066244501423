"""The optimiser of a stage, with its parameter groups."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from snn.errors import ConfigError
from snn.instantiate import instantiate


def build_optimizer(
    model: nn.Module, config: dict[str, Any], lr: float | None = None, threshold_lr: float | None = None
) -> Optimizer:
    """Weights with decay; biases, norms and everything one-dimensional without; thresholds without and at
    their own rate.

    Args:
        model: What is trained.
        config: The ``optimizer`` section. With ``layer_decay`` the rates fall by that factor from block to block, from
            the last to the first (see :func:`depths`).
        lr: Instead of the section's.
        threshold_lr: Of thresholds; as ``lr`` if not given.

    Raises:
        ConfigError: The section does not fit its ``_target_``, or ``layer_decay`` is not in (0, 1].
    """
    settings = dict(config) | ({} if lr is None else {"lr": lr})
    decay = settings.pop("layer_decay", None)
    if decay is not None and not 0 < decay <= 1:
        raise ConfigError(f"optimizer.layer_decay must be in (0, 1]; got {decay}")
    if decay is not None and settings.get("lr") is None:
        raise ConfigError("optimizer.layer_decay needs optimizer.lr")
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    depth = dict.fromkeys(parameters, 0) if decay is None else depths(parameters)
    last = max(depth.values(), default=0)
    groups: dict[tuple[int, str], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        is_threshold = "threshold" in name.split(".")
        kind = "thresholds" if is_threshold else "weights" if parameter.dim() > 1 else "plain"
        groups.setdefault((last - depth[name], kind), []).append(parameter)
    params: list[dict[str, Any]] = []
    for (below, kind), members in sorted(
        groups.items(), key=lambda item: (item[0][0], _KINDS.index(item[0][1]))
    ):
        group: dict[str, Any] = {"params": members} | ({} if kind == "weights" else {"weight_decay": 0.0})
        rate = settings.get("lr") if kind != "thresholds" or threshold_lr is None else threshold_lr
        if decay is not None and rate is not None:
            group["lr"] = rate * decay**below
        elif kind == "thresholds":
            group["lr"] = rate
        params.append(group)
    return instantiate(settings, "optimizer", params=params)


_KINDS = ("weights", "plain", "thresholds")


def depths(names: Iterable[str]) -> dict[str, int]:
    """How deep in its network each parameter is, told by its name and place.

    Blocks are what has a number, in the order of registration: the first has depth 1. What comes before them, such as
    embeddings, has depth 0, and what comes after them, such as a classifier, one more than the last block.

    Example:
        >>> depths(["embed.weight", "blocks.0.norm.weight", "blocks.1.norm.weight", "head.weight"])
        {'embed.weight': 0, 'blocks.0.norm.weight': 1, 'blocks.1.norm.weight': 2, 'head.weight': 3}
    """
    blocks: dict[str, int] = {}
    found: dict[str, int] = {}
    for name in names:
        block = re.match(r".*?\.\d+(?=\.)", name)
        if block:
            found[name] = blocks.setdefault(block[0], len(blocks) + 1)
        else:
            found[name] = len(blocks) + 1 if blocks else 0
    return found
