"""Fixtures for the tests of the models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from snn.errors import DataError


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference data beside the project."""
    folder = Path(__file__).parents[3] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The pinned MiniLM, from the cache after the first time."""
    from snn.data.wheel import minilm_folder

    try:
        return minilm_folder()
    except DataError as error:
        pytest.skip(str(error))
