"""The resumable state of training: everything that the next step depends on, as tensors and JSON, nothing pickled.

A state is one folder, replaced as a whole, so a kill while saving leaves the one before.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from snn.errors import CheckpointError
from snn.folders import replaced_folder, surviving

_TENSORS, _PROGRESS = "state.safetensors", "progress.json"


def save_state(
    folder: Path, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler, progress: dict[str, Any]
) -> None:
    """Write the state, in full or not at all.

    Args:
        folder: Where; replaced as a whole.
        model: With its present weights.
        optimizer: With its moments.
        scheduler: With its step.
        progress: Position in the data, best score and the like: JSON types.

    Raises:
        CheckpointError: The disk refused; the state before is unharmed.
    """
    tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
    saved = optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, entries in saved["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
            else:
                scalars.setdefault(str(index), {})[key] = value
    tensors["random/cpu"] = torch.get_rng_state()
    for index, state in enumerate(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []):
        tensors[f"random/cuda{index}"] = state
    description = {
        "progress": progress,
        "optimizer": {"param_groups": saved["param_groups"], "scalars": scalars},
        "scheduler": {k: v for k, v in scheduler.state_dict().items() if k != "lr_lambdas"},
    }
    numbers = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    try:
        with replaced_folder(folder) as fresh:
            save_file(numbers, fresh / _TENSORS)
            (fresh / _PROGRESS).write_text(json.dumps(description), "utf-8")
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot save a resumable state to {folder}: {error}; the one before is unharmed"
        ) from error


def read_progress(folder: Path) -> dict[str, Any] | None:
    """Where training stood, or ``None`` if no state was saved.

    Raises:
        CheckpointError: The state is damaged.
    """
    folder = surviving(folder)
    if not folder.exists():
        return None
    try:
        return json.loads((folder / _PROGRESS).read_text("utf-8"))["progress"]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"resume: {folder / _PROGRESS} cannot be read: {error}") from error


def load_state(folder: Path, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler) -> None:
    """Put a state back, random generators included.

    Raises:
        CheckpointError: The state is damaged or belongs to another network.
    """
    folder = surviving(folder)
    try:
        tensors = load_file(folder / _TENSORS)
        description = json.loads((folder / _PROGRESS).read_text("utf-8"))
        model.load_state_dict(
            {k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")}
        )
        state: dict[int, dict[str, Any]] = {
            int(i): dict(values) for i, values in description["optimizer"]["scalars"].items()
        }
        for key, value in tensors.items():
            if key.startswith("optimizer/"):
                _, index, name = key.split("/", 2)
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": description["optimizer"]["param_groups"]})
        for parameter, entries in optimizer.state.items():
            # In the memory format of its weight: fused optimisers go through both as they lie.
            for key, value in entries.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    entries[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        scheduler.load_state_dict({**scheduler.state_dict(), **description["scheduler"]})
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"resume: the state in {folder} cannot be used: {reason}") from error
    torch.set_rng_state(tensors["random/cpu"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all([tensors[k] for k in sorted(tensors) if k.startswith("random/cuda")])
