"""Peak memory of a call, in a process of its own, at many time steps against few."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alternate import verdict

from snn.tracking.table import text_table


def peak_growth(thing: Callable[[], Any]) -> int:
    """Bytes by which the process's resident memory grows, at its peak, while ``thing`` runs (Linux).

    The peak of ``getrusage`` would include what was needed to build the network; this one starts afresh.
    """
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    thing()
    return _status("VmHWM") - before


def in_fresh_process(arguments: Sequence[str]) -> str:
    """The last line that ``python <arguments>`` prints.

    Its allocator gets tensors from the system and hands them back at once, so that what is resident is what is
    alive.
    """
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1]


def compare_peaks(
    title: str, script: str, forwarded: Sequence[str], few: int, many: int, bound: float | None
) -> bool:
    """Print a script's ``--peak`` at many time steps against few, each in a process of its own.

    Args:
        title: Of the table.
        script: Path of the script, which answers ``--peak T`` with a number of bytes.
        forwarded: Its other arguments.
        few: The time steps that the ratio refers to.
        many: The others.
        bound: Largest ratio allowed; ``None``: any.

    Returns:
        Whether the bound holds.
    """
    peaks = {T: int(in_fresh_process([script, *forwarded, "--peak", str(T)])) for T in (few, many)}
    rows = []
    for T, peak in peaks.items():
        cells = verdict(peak / peaks[few], bound if many == T else None)
        rows.append([f"T = {T}", f"{peak / 2**20:.1f}", f"{peak / peaks[few]:.3f}", *cells])
    print(f"\n{title}: memory beyond the model's")
    print(text_table(["", "peak MiB", "ratio", "target", "verdict"], rows))
    return bound is None or peaks[many] <= bound * peaks[few]


def _status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])
