"""A run's folder that is used again: the config that it was started with, and whether that is the one asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from snn.checks import check
from snn.config import Config, typed
from snn.errors import CheckpointError, ConfigError
from snn.folders import surviving
from snn.tracking.files import plain

#: Differences that an error names.
_NAMED = 3


def resumed_config(config: Config, folder: Path) -> Config:
    """The config that the run in ``folder`` was started with, but for ``dataset.broken=skip``, if that is said now.

    Raises:
        CheckpointError: The folder holds no run.
        ConfigError: It was started with something else that no longer exists.
    """
    if not _config_file(folder).exists():
        raise CheckpointError(f"resume={folder}: no config.yaml there, so no run of train.py")
    result = replace(_saved_config(folder, f"resume={folder}"), resume=config.resume)
    if config.dataset.broken == "skip":
        result = replace(result, dataset=replace(result.dataset, broken="skip"))
    check(result, "train")
    return result


def refuse_other_run(config: Config, folder: Path) -> None:
    """Refuse to go on from the networks of a run with another config, whose stages would pass for this one's.

    With the same config a run goes on where it stopped, as with ``resume``; logs alone are in nobody's way.

    Raises:
        ConfigError: Names the keys that differ.
        CheckpointError: There are networks, but nothing says of which run.
    """
    if not any(surviving(folder / name).exists() for name in ("stages", "resume")):
        return
    if not _config_file(folder).exists():
        raise CheckpointError(f"{folder}: networks of a run, but no config.yaml; name another folder")
    saved = replace(_saved_config(folder, str(folder)), resume=None)
    found = list(_differences(plain(asdict(saved)), plain(asdict(config))))
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise ConfigError(
            f"{folder} holds the networks of a run with another config: {', '.join(found[:_NAMED])}{more}; name "
            f"another folder (hydra.run.dir), or go on with that run: python train.py resume={folder}"
        )


def _config_file(folder: Path) -> Path:
    return folder / "config.yaml"


def _saved_config(folder: Path, where: str) -> Config:
    try:
        saved = OmegaConf.load(_config_file(folder))
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{where}: config.yaml cannot be read: {reason}") from error
    assert isinstance(saved, DictConfig)
    return typed(saved)


def _differences(there: Any, here: Any, key: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for name in dict.fromkeys([*there, *here]):
            yield from _differences(there.get(name), here.get(name), f"{key}.{name}".lstrip("."))
    elif there != here:
        yield f"{key} was {json.dumps(there, ensure_ascii=False)}, not {json.dumps(here, ensure_ascii=False)}"
