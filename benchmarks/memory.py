"""Peak memory of a call, in a process of its own."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


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


def _status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])
