"""From a config to a data set: find the source, name the classes, cut the splits, prepare the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snn.data.builtin import BUILTIN
from snn.data.data import Data, Split
from snn.data.image import prepare
from snn.data.labels import class_names, encode
from snn.data.schema import SPLITS, DatasetConfig, check
from snn.data.splitting import held_out, stratified
from snn.data.table import Source, Table
from snn.data.text import tokenise
from snn.errors import DataError, did_you_mean


def load_dataset(
    config: DatasetConfig, *, seed: int, cache_dir: str | Path | None = None, tokenizer: Any = None
) -> Data:
    """Load a data set and make it ready for training.

    Searched in this order: ``data_dir``, ``hub``, the built-in set called ``name``. The splits never depend
    on the seed; the order of rows, the augmentation and the rows that ``limit_train`` keeps do.

    Args:
        config: A :class:`DatasetConfig`, or the same as an OmegaConf config.
        seed: The run's seed, 0 or more.
        cache_dir: Folder of all downloads; None: :func:`snn.data.default_cache_dir`.
        tokenizer: A tokenizer of transformers; needed for text.

    Raises:
        DataError: Anything wrong with the config or the data, in one line.
    """
    config = _plain(config)
    check(config)
    if seed < 0:
        raise DataError(f"seed={seed}: must be 0 or more")
    if config.kind == "text" and tokenizer is None:
        raise DataError(
            f"dataset={config.name} is text and needs a tokenizer: load_dataset(..., tokenizer=...)"
        )
    source = find(config, cache_dir)
    train = source.tables["train"]
    # Sources with classes of their own know the names best, unless the config names them.
    names = list(config.label_names) or list(source.label_names)
    names = names or class_names(_labels(train, config), train, config.label_field)
    rows = {split: _rows(table, names, config) for split, table in source.tables.items()}
    how = _carve(rows, config)
    for split in SPLITS:
        limit = getattr(config, f"limit_{split}")
        if limit is not None and limit < len(rows[split][2]):
            rng = np.random.default_rng([seed if split == "train" else 0, SPLITS.index(split)])
            table, keep, labels = rows[split]
            drawn = stratified(labels, limit, rng)
            rows[split] = (table, keep[drawn], labels[drawn])
            how.append(f"{split} limited to {limit}")
    splits = {split: _split(*rows[split], config, tokenizer) for split in SPLITS}
    return Data(config, splits, names, "; ".join([source.origin, *how]), seed)


def find(config: DatasetConfig, cache_dir: str | Path | None = None) -> Source:
    """Return the rows of a data set as they stand in its source.

    Raises:
        DataError: Not found, or not readable.
    """
    if config.data_dir is not None:
        from snn.data.files import load_files

        return load_files(config)
    if config.hub is not None:
        from snn.data.hub import load_hub

        return load_hub(config)
    if config.name not in BUILTIN:
        raise DataError(
            f"dataset.name: {config.name!r} is not built in, and neither dataset.data_dir nor dataset.hub "
            f"says where it is; {did_you_mean(config.name, BUILTIN.names())}"
        )
    return BUILTIN.get(config.name)(cache_dir)


def texts(table: Table, field: str, config: DatasetConfig) -> list[str]:
    """Return a column of texts.

    Raises:
        DataError: No such column, or a row without a text.
    """
    column = table.column(field, "text_fields", config.rename)
    for row, value in enumerate(column):
        if not isinstance(value, str):
            what = "has nothing" if value is None else f"has {value!r}, not a text,"
            raise DataError(f"dataset.text_fields: {table.where}, row {row + 1} {what} in column {field!r}")
    return [value.lower() for value in column] if config.lower else list(column)


_Rows = tuple[Table, np.ndarray, np.ndarray]
"""A table, the numbers of the rows in use, and their class numbers."""


def _labels(table: Table, config: DatasetConfig) -> Sequence[Any]:
    return table.column(config.label_field, "label_field", config.rename)


def _rows(table: Table, names: list[str], config: DatasetConfig) -> _Rows:
    labels = encode(_labels(table, config), names, table, config.label_field)
    if len(labels) == 0:
        raise DataError(f"{table.where} is empty: no rows")
    return table, np.arange(len(labels)), labels


def _carve(rows: dict[str, _Rows], config: DatasetConfig) -> list[str]:
    """Cut missing splits off the training rows; return what was done, for people."""
    done = []
    for split in ("test", "validation"):
        if split in rows:
            continue
        table, keep, labels = rows["train"]
        fraction = getattr(config, f"{split}_fraction")
        if len(labels) < 2:
            raise DataError(f"{table.where}: {len(labels)} row(s) are too few to cut a {split} split off")
        stay, out = held_out(labels, fraction)
        rows["train"] = (table, keep[stay], labels[stay])
        rows[split] = (table, keep[out], labels[out])
        done.append(f"{split} is {fraction:g} of the training rows, by class")
    return done


def _split(
    table: Table, keep: np.ndarray, labels: np.ndarray, config: DatasetConfig, tokenizer: Any
) -> Split:
    if config.kind == "image":
        images = table.column(config.image_field, "image_field", config.rename)
        return prepare(images, keep, labels, config, table.where)
    fields = [texts(table, field, config) for field in config.text_fields]
    chosen = [[column[row] for row in keep] for column in fields]
    return tokenise(chosen[0], chosen[1] if len(chosen) > 1 else None, labels, tokenizer, config.max_length)


def _plain(config: Any) -> DatasetConfig:
    if isinstance(config, DatasetConfig):
        return config
    from omegaconf import OmegaConf

    return DatasetConfig(**OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
