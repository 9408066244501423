"""The data set of a checkpoint, with what the command line says about it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from snn.data.schema import DatasetConfig
from snn.errors import ConfigError


def said_about(section: str) -> dict[str, str]:
    """Keys of a section that the command line names, also where it names a default, and the words it uses.

    ``""`` stands for the choice of the section itself.
    """
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return {}
    said = {str(line).lstrip("+~").partition("=")[0]: str(line) for line in HydraConfig.get().overrides.task}
    parts = {key: f"{key}.".split(".") for key in said}
    return {parts[key][1]: line for key, line in said.items() if parts[key][0] == section}


def merge_dataset(saved: dict[str, Any], asked: DatasetConfig, said: Collection[str] = ()) -> DatasetConfig:
    """The data set of a checkpoint, with what was said about it; or the one that was asked for instead.

    Args:
        saved: The checkpoint's.
        asked: The config's.
        said: Keys that hold even where their value is the default.

    Raises:
        ConfigError: Other shares of held-out rows: the network would be measured on rows that it was trained on.
    """
    if asked.name != "from_checkpoint":
        _refuse_another_cut(saved, asked)
        return asked
    known = DatasetConfig.__dataclass_fields__
    restored = DatasetConfig(**{k: v for k, v in saved.items() if k in known})
    untouched = DatasetConfig(name="from_checkpoint", limit_train=-1, limit_validation=-1, limit_test=-1)
    for name in known:
        value = getattr(asked, name)
        if name in said or value != getattr(untouched, name):
            if name.endswith("_fraction") and value != getattr(restored, name):
                raise ConfigError(
                    f"dataset.{name}={value}, but the checkpoint's splits were made with {getattr(restored, name)}: "
                    "rows that it was trained on would be measured; leave it out"
                )
            setattr(restored, name, value)
    return restored


def _refuse_another_cut(saved: dict[str, Any], asked: DatasetConfig) -> None:
    """The same rows, from which another share is held out: among those are some that the network was trained on."""
    if any(saved.get(key) != getattr(asked, key) for key in ("name", "data_dir", "hub")):
        return
    for split in ("test", "validation"):
        key = f"{split}_fraction"
        before, now = saved.get(key), getattr(asked, key)
        if asked.splits.get(split) is None and before not in (None, now):
            raise ConfigError(
                f"dataset.{key}={now}, but the checkpoint's splits were made with {before}: rows that it was trained "
                f"on would be measured; say dataset.{key}={before}, or nothing about the data set"
            )
