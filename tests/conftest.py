"""What every test starts from."""

from __future__ import annotations

import os

# Before torch starts its threads: the processes of `pytest -n` share the machine's cores.
os.environ.setdefault(
    "OMP_NUM_THREADS",
    str(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))),
)

import pytest
import torch

from snn.allocator import keep_freed_memory
from snn.functional import integer_products

keep_freed_memory()


@pytest.fixture
def integer_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Integer products, also where they are exact but no faster: on CPUs without AMX."""
    if not torch.cpu._is_vnni_supported() or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        pytest.skip("needs a CPU with exact products of 8-bit integers (VNNI)")
    monkeypatch.setattr(integer_products, "has_integer_units", lambda: True)
