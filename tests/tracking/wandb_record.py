"""Reading what wandb wrote offline, by its own tool."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any


def leet(*arguments: str) -> str:
    tool = shutil.which("wandb", path=str(Path(sys.executable).parent))
    assert tool, "the command wandb is not beside this Python"
    done = subprocess.run([tool, "leet", "inspect", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def record_of(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The summary, and all records, of the one offline run below a folder."""
    record = str(next(folder.glob("wandb/offline-run-*/run-*.wandb")))
    return json.loads(leet("--summary", "--json", record)), [
        json.loads(line) for line in leet("--json", record).splitlines()
    ]


def kept(folder: Path, run: dict[str, Any], name: str) -> Path:
    """The file of an entry of the summary."""
    return next(folder.glob(f"wandb/offline-run-*/files/{run['summary'][name]['path']}"))


def table(folder: Path, run: dict[str, Any], name: str) -> dict[str, Any]:
    return json.loads(kept(folder, run, name).read_text())
