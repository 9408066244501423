"""The optimiser of a stage, with its parameter groups."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from snn.errors import ConfigError
from snn.instantiate import instantiate

#: Kinds of parameters, in the order of their groups.
WEIGHTS, PLAIN, THRESHOLDS = range(3)
#: Keys of the section with the decay of those that ``weight_decay`` is not for.
DECAYS = {PLAIN: "norm_weight_decay", THRESHOLDS: "threshold_weight_decay"}


def build_optimizer(
    model: nn.Module,
    config: dict[str, Any],
    lr: float | None = None,
    threshold_lr: float | None = None,
    where: str = "optimizer",
) -> Optimizer:
    """Weights with decay; biases, norms and everything one-dimensional without, unless ``norm_weight_decay`` says so;
    thresholds without, unless ``threshold_weight_decay`` says so, and at their own rate.

    Args:
        model: What is trained.
        config: The ``optimizer`` section. With ``layer_decay`` the rates fall by that factor from block to block, from
            the last to the first (see :func:`depths`).
        lr: Instead of the section's.
        threshold_lr: Of thresholds; as ``lr`` if not given.
        where: The section's key, for errors.

    Raises:
        ConfigError: The section does not fit its ``_target_``, ``layer_decay`` is not in (0, 1], or a decay is below 0.
    """
    settings = dict(config) | ({} if lr is None else {"lr": lr})
    decay = settings.pop("layer_decay", None)
    own = {kind: settings.pop(key, None) or 0.0 for kind, key in DECAYS.items()}
    for kind, key in DECAYS.items():
        if own[kind] < 0:
            raise ConfigError(f"{where}.{key} must be at least 0; got {own[kind]}")
    if decay is not None and not 0 < decay <= 1:
        raise ConfigError(f"{where}.layer_decay must be in (0, 1]; got {decay}")
    if decay is not None and settings.get("lr") is None:
        raise ConfigError(f"{where}.layer_decay needs {where}.lr")
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    depth = dict.fromkeys(parameters, 0) if decay is None else depths(parameters)
    last = max(depth.values(), default=0)
    # By distance from the last block, and kind: the first group has the whole rate.
    groups: dict[tuple[int, int], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        kind = THRESHOLDS if "threshold" in name.split(".") else WEIGHTS if parameter.dim() > 1 else PLAIN
        groups.setdefault((last - depth[name], kind), []).append(parameter)
    params = []
    for (below, kind), members in sorted(groups.items()):
        group: dict[str, Any] = {"params": members} | ({} if kind == WEIGHTS else {"weight_decay": own[kind]})
        rate = settings.get("lr") if kind != THRESHOLDS or threshold_lr is None else threshold_lr
        if rate is not None:
            group["lr"] = rate * (1.0 if decay is None else decay**below)
        params.append(group)
    return instantiate(settings, where, params=params)


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
