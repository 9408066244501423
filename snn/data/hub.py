"""Data sets on the Hub, through the library ``datasets``."""

from __future__ import annotations

from typing import Any

from snn.data.pictures import HubPicture
from snn.data.schema import DatasetConfig, split_names, splits_key, without_split
from snn.data.table import Source, Table
from snn.errors import DataError


def load_hub(config: DatasetConfig) -> Source:
    """Read ``dataset.hub`` (once downloaded, from the cache of ``datasets``).

    Raises:
        DataError: No network, no such repository, configuration or split.
    """
    import datasets

    place = f"{config.hub}/{config.hub_config}" if config.hub_config else str(config.hub)
    tables = {}
    names: list[str] = []
    for split, stem in split_names(config, hub=True).items():
        if stem is None:
            continue
        try:
            part = datasets.load_dataset(
                str(config.hub), config.hub_config, split=stem, revision=config.hub_revision
            )
        except (OSError, RuntimeError, ValueError) as error:
            key = f"dataset.{splits_key(config, hub=True)}.{split}"
            raise DataError(_explain(place, key, stem, split, error)) from error
        tables[split] = Table({name: _column(part, name) for name in part.column_names}, f"{place}:{stem}")
        columns = [config.label_field, *(c for c, to in config.rename.items() if to == config.label_field)]
        label = next((part.features[column] for column in columns if column in part.features), None)
        names = getattr(label, "names", None) or names
    commit = f" at {config.hub_revision}" if config.hub_revision else ""
    origin = f"Hub {place}{commit} ({', '.join(t.where for t in tables.values())})"
    return Source(tables, origin, names, numbered=bool(names))


def _column(part: Any, name: str) -> Any:
    if type(part.features[name]).__name__ != "Image":
        return list(part[name])
    from datasets import Image

    encoded = part.cast_column(name, Image(decode=False))
    return [HubPicture(encoded, row, name) for row in range(len(encoded))]


def _explain(place: str, key: str, stem: str, split: str, error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, ConnectionError) or "offline" in str(error).lower():
        return (
            f"dataset.hub={place}: the Hub cannot be reached, no network ({first}); "
            "works without it: dataset.data_dir=FOLDER with the same data as files"
        )
    return (
        f"dataset.hub={place}, {key}={stem}: {first}{without_split(key, split)} "
        "(check dataset.hub, dataset.hub_config and dataset.splits, or use dataset.data_dir=FOLDER)"
    )
