"""Reference arrays beside the project: what the methods' own code gives on seeded random inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[3] / "shared" / "golden"


def arrays(name: str) -> dict[str, Tensor]:
    """All arrays of a file as tensors; numbers become tensors without axes."""
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"no reference arrays at {path}")
    with np.load(path) as file:
        return {key: torch.as_tensor(file[key]) for key in file.files}


def cases(data: dict[str, Tensor], ending: str) -> list[str]:
    """Prefixes of the cases in ``data``: the keys that end so, without the ending."""
    found = [key.removesuffix(ending) for key in data if key.endswith(ending)]
    assert found, f"no case ends in {ending}"
    return found
