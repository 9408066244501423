"""From a config to a data set: find the source, name the classes, cut the splits, prepare the rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from snn.data.builtin import BUILTIN
from snn.data.cleaning import cleaned
from snn.data.data import Data
from snn.data.image import check_alike, prepare
from snn.data.image_files import channels_of, prepare_files
from snn.data.labels import class_names, encode, measurements
from snn.data.overlap import boundaries, seen_in_training
from snn.data.pictures import Picture, as_pictures
from snn.data.schema import SPLITS, DatasetConfig, check, role, splits_key, without_split
from snn.data.split import Split
from snn.data.splitting import held_out, last_of_each, stratified
from snn.data.table import Source, Table
from snn.data.text import tokenise
from snn.data.wheel import cache_folder
from snn.errors import DataError, did_you_mean

log = logging.getLogger(__name__)


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
    if config.task == "corpus":
        from snn.data.corpus import load_corpus

        return load_corpus(config, seed, tokenizer)
    source = find(config, cache_dir)
    names = _names(source, config)
    rows = {split: _rows(split, table, names, config, source) for split, table in source.tables.items()}
    _warn_of_absent_classes(rows, names, config)
    _warn_of_empty_texts(source, config)
    how = _carve(rows, config)
    rows = {split: rows[split] for split in [*SPLITS, *(s for s in rows if s not in SPLITS)]}
    _warn_of_half_a_pair(source.tables["train"], config)
    for split in rows:
        limit = getattr(config, f"limit_{role(split)}")
        if limit is not None and limit < len(rows[split][2]):
            rng = np.random.default_rng([seed if split == "train" else 0, SPLITS.index(role(split))])
            table, keep, labels = rows[split]
            drawn = stratified(labels, limit, rng)
            rows[split] = (table, keep[drawn], labels[drawn])
            how.append(f"{split} limited to {limit}")
    cache, settled = cache_folder(cache_dir), _with_channels(config, source)
    splits = {split: _split(*part, settled, tokenizer, cache) for split, part in rows.items()}
    check_alike(splits)
    how += seen_in_training(splits, boundaries(tokenizer))
    return Data(config, splits, names, "; ".join([source.origin, *how]), seed)


def find(config: DatasetConfig, cache_dir: str | Path | None = None) -> Source:
    """Return the rows of a data set as they stand in its source.

    Raises:
        DataError: Not found, or not readable.
    """
    if config.data_dir is not None and config.events is not None:
        from snn.data.events_sources import load_recordings

        return load_recordings(config)
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
    return cleaned(column, config)


_Rows = tuple[Table, np.ndarray, np.ndarray]
"""A table, the numbers of the rows in use, and their labels."""


def _labels(table: Table, config: DatasetConfig) -> Sequence[Any]:
    return table.column(config.label_field, "label_field", config.rename)


def _names(source: Source, config: DatasetConfig) -> list[str]:
    """Names of the classes; none of measurements, and where labels are not read."""
    if config.task != "classification":
        return []
    train = source.tables["train"]
    # Sources with classes of their own know the names best, unless the config names them.
    names = list(config.label_names) or list(source.label_names)
    return names or class_names(_labels(train, config), train, config.label_field)


#: How the two texts of a pair are called: how the one ends, and what the other has in its place.
_PAIRS = (("1", "2"), ("premise", "hypothesis"), ("question", "sentence"))


def _warn_of_half_a_pair(table: Table, config: DatasetConfig) -> None:
    if config.kind != "text" or len(config.text_fields) > 1:
        return
    (first,) = config.text_fields
    for pair in _PAIRS:
        for mine, other in (pair, pair[::-1]):
            partner = first.removesuffix(mine) + other
            if first.endswith(mine) and table.find(partner, config.rename) is not None:
                log.warning(
                    "%s has a column %r too, which is not used: for pairs of texts dataset.text_fields=[%s]",
                    table.where,
                    partner,
                    ",".join((first, partner) if mine == pair[0] else (partner, first)),
                )


def _warn_of_absent_classes(rows: dict[str, _Rows], names: list[str], config: DatasetConfig) -> None:
    if config.task != "classification":
        return
    if len(names) == 1:
        log.warning(
            "dataset.label_field=%s: %s is the only class, so there is nothing to tell apart",
            config.label_field,
            names[0],
        )
    kind = "picture" if config.kind == "image" else "text"
    for table, _, labels in rows.values():
        absent = [names[number] for number in np.setdiff1d(np.arange(len(names)), labels)]
        if absent:
            more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
            log.warning("%s has no %s of %s%s", table.where, kind, ", ".join(absent[:5]), more)


def _warn_of_empty_texts(source: Source, config: DatasetConfig) -> None:
    """A text may be empty; but who left a column out by mistake should hear of it."""
    if config.kind != "text":
        return
    found = []
    for split, table in source.tables.items():
        for field in config.text_fields:
            column = table.column(field, "text_fields", config.rename)
            empty = sum(isinstance(text, str) and not text.strip() for text in column)
            if empty:
                found.append(f"{empty} of {len(column)} in column {field!r} of {split} ({table.where})")
    if found:
        log.warning("dataset.text_fields: empty texts: %s", ", ".join(found))


def _rows(split: str, table: Table, names: list[str], config: DatasetConfig, source: Source) -> _Rows:
    if config.labelled and split != "train" and table.find(config.label_field, config.rename) is None:
        key = splits_key(config, hub=config.data_dir is None and config.hub is not None)
        raise DataError(
            f"dataset.label_field: no column {config.label_field!r} in {table.where}, so {split} has no labels"
            f"{without_split(f'dataset.{key}.{split}', split)}"
        )
    if not config.labelled:
        labels = np.zeros(len(table), np.int64)
    elif config.task == "regression":
        labels = measurements(_labels(table, config), config.label_range, table, config.label_field)
    else:
        labels = encode(_labels(table, config), names, table, config.label_field, source.numbered)
        theirs = source.label_names
        if source.numbered and sorted(names) == sorted(theirs):  # dataset.label_names may order them anew
            labels = np.array([names.index(name) for name in theirs])[labels]
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
        seed, last = 0, False
        if config.events is not None:
            seed, last = config.events.split_seed, split == "test" and config.events.held_out == "last"
        stay, out = last_of_each(labels, fraction) if last else held_out(labels, fraction, seed)
        rows["train"] = (table, keep[stay], labels[stay])
        rows[split] = (table, keep[out], labels[out])
        how = {"regression": ", by tenth", "classification": ", by class"}.get(config.task, "")
        how += ", the last of each" if last else f", seed {seed}" if seed else ""
        done.append(f"{split} is {fraction:g} of the training rows{how}")
    return done


def _with_channels(config: DatasetConfig, source: Source) -> DatasetConfig:
    """The same config; of encoded pictures, all splits together decide about ``channels: null``."""
    if config.kind != "image" or config.channels is not None or config.events is not None:
        return config
    columns = [_pictures(table, config) for table in source.tables.values()]
    encoded = [column for column in columns if column is not None]
    return replace(config, channels=channels_of(encoded)) if len(encoded) == len(columns) else config


def _pictures(table: Table, config: DatasetConfig) -> list[Picture] | None:
    return as_pictures(table.column(config.image_field, "image_field", config.rename))


def _split(
    table: Table, keep: np.ndarray, labels: np.ndarray, config: DatasetConfig, tokenizer: Any, cache: Path
) -> Split:
    if config.events is not None:
        from snn.data.events import prepare_events
        from snn.data.events_sources import COLUMN

        return prepare_events(table.columns[COLUMN], keep, labels, config, cache, table.where)
    if config.kind == "image":
        images = table.column(config.image_field, "image_field", config.rename)
        pictures = as_pictures(images)
        if pictures is not None:
            return prepare_files(pictures, keep, labels, config, table.where)
        return prepare(images, keep, labels, config, table.where)
    fields = [texts(table, field, config) for field in config.text_fields]
    chosen = [[column[row] for row in keep] for column in fields]
    pairs = chosen[1] if len(chosen) > 1 else None
    return tokenise(chosen[0], pairs, labels, tokenizer, config.max_length, config.truncation_side, cache)


def _plain(config: Any) -> DatasetConfig:
    if isinstance(config, DatasetConfig):
        return config
    from omegaconf import OmegaConf

    return DatasetConfig(**OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
