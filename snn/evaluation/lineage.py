"""Where a run comes from: its command, its sweep, versions, commit, parents."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from snn.config import Config


def lineage(config: Config) -> dict[str, Any]:
    """Versions, commit and a hash of the config."""
    packages = ("torch", "transformers", "snn")
    plain = json.dumps(asdict(config), sort_keys=True, default=str).encode()
    return {
        "config_hash": hashlib.sha256(plain).hexdigest()[:16],
        "git_commit": _commit(),
        "parents": [config.checkpoint] if config.checkpoint else [],
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def _commit() -> str | None:
    root = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def command_of(script: str, folder: Path) -> str:
    """The command that a run was started with."""
    return shlex.join(["python", f"{script}.py", *_overrides(folder)])


def _overrides(folder: Path) -> list[str]:
    path = folder / ".hydra" / "overrides.yaml"
    if not path.exists():
        return sys.argv[1:]
    import yaml

    return [str(o) for o in yaml.safe_load(path.read_text("utf-8")) or []]


def sweep_of(folder: Path) -> str | None:
    """Name of the sweep that a run is a job of."""
    return folder.parent.name if (folder.parent / "multirun.yaml").exists() else None
