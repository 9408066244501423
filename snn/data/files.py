"""Local files: a folder with a file per split, or one file."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from snn.data.archive import ARCHIVE_ENDINGS, read_archive
from snn.data.folder import class_folders, found_splits, read_folder
from snn.data.released import released
from snn.data.schema import DatasetConfig, split_names, without_split
from snn.data.table import Source, Table
from snn.errors import DataError

TEXT_ENDINGS = (".tsv", ".csv", ".jsonl", ".json")
ENDINGS = tuple(e + z for e in TEXT_ENDINGS for z in ("", ".gz", ".bz2")) + (".parquet", ".npz")
ENDINGS += ARCHIVE_ENDINGS


def load_files(config: DatasetConfig) -> Source:
    """Read ``dataset.data_dir``.

    Raises:
        DataError: Nothing there, a file missing, empty or damaged, or of a kind that cannot be read.
    """
    root = Path(str(config.data_dir)).expanduser()
    if not root.exists():
        near = sorted(p.name for p in root.parent.iterdir()) if root.parent.is_dir() else []
        beside = f"; {root.parent} holds: {_listed(near)}" if near else ""
        raise DataError(f"dataset.data_dir: {root} does not exist{beside}")
    if root.is_file():
        table = read_file(root)
        return Source({"train": table}, str(root), class_folders(table))
    tables, own = {}, released(root, config.name)
    for split, stem in found_splits(root, split_names(config)).items():
        if stem is not None:
            tables[split] = own[stem]() if stem in own else _read(find_files(root, split, stem))
    origin = f"{root} ({', '.join(table.where for table in tables.values())})"
    return Source(tables, origin, class_folders(tables["train"]))


def _read(parts: list[Path]) -> Table:
    if len(parts) > 1 and parts[0].name.endswith(ARCHIVE_ENDINGS):
        # Which folders are classes, all parts together say.
        return Table(read_archive(*parts), f"{parts[0].name} .. {parts[-1].name}")
    return _joined([read_file(path) for path in parts])


def find_files(root: Path, split: str, stem: str) -> list[Path]:
    """Return the file ``stem.*`` of a folder, or its parts ``stem_0.*``, ``stem_1.*``, ... in order, or the folder
    ``stem``.

    Raises:
        DataError: There is none, or more than one that fits; the message lists the folder.
    """
    names = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    if stem in (*names, "."):
        return [root / stem]
    whole = [n for n in names if n.startswith(stem) and n[len(stem) :] in ENDINGS]
    parts: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        found = re.fullmatch(re.escape(stem) + r"[-_](\d+)(?:-of-\d+)?(\..+)", name)
        if found and found[2] in ENDINGS:
            parts.setdefault(found[2], []).append((int(found[1]), name))
    candidates = [[n] for n in whole] + [[name for _, name in sorted(group)] for group in parts.values()]
    key = f"dataset.splits.{split}"
    if len(candidates) > 1:
        choices = " or ".join(group[0] for group in candidates)
        raise DataError(f"{key}={stem}: {choices} in {root}? Give the name with its ending, or move one away")
    if not candidates:
        raise DataError(
            f"{key}={stem}: no file {stem}.* in {root}, which holds: {_listed(names)}{without_split(key, split)} "
            f"(readable: {', '.join(TEXT_ENDINGS)}, also .gz or .bz2; .parquet; .npz; pictures in a folder for each "
            "class, also as .tar)"
        )
    return [root / name for name in candidates[0]]


def read_file(path: Path) -> Table:
    """Read one file by its ending, or list a folder of pictures.

    Raises:
        DataError: It is empty or damaged, or its ending is unknown.
    """
    if path.is_dir():
        return Table(read_folder(path), path.name)
    ending = next((e for e in sorted(ENDINGS, key=len, reverse=True) if path.name.endswith(e)), None)
    if ending is None:
        raise DataError(f"{path}: unknown kind of file; readable: {', '.join(ENDINGS)}")
    try:
        if ending == ".parquet":
            columns = _parquet(path)
        elif ending == ".npz":
            columns = _npz(path)
        elif ending in ARCHIVE_ENDINGS:
            columns = read_archive(path)
        else:
            columns = parse(_text(path), ending.removesuffix(".gz").removesuffix(".bz2"), path.name)
    except DataError:
        raise
    except (OSError, EOFError, ValueError, csv.Error, KeyError) as error:
        # Decoders fail in many ways and over several lines; the first one says what matters.
        raise DataError(
            f"{path} cannot be read: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    table = Table(columns, path.name)
    if len(table) == 0:
        raise DataError(f"{path} is empty: no rows")
    return table


def _text(path: Path) -> str:
    raw = path.read_bytes()
    if path.suffix in (".gz", ".bz2"):
        raw = (gzip if path.suffix == ".gz" else bz2).decompress(raw)
    return raw.decode("utf-8-sig")


def parse(text: str, ending: str, name: str) -> dict[str, list[Any]]:
    """Turn the text of a TSV, CSV, JSON or JSONL file into columns.

    Raises:
        DataError: A row has another number of fields than the header, or JSON holds something else than rows.
    """
    if ending == ".tsv":
        # No quoting: a quotation mark is a plain character, as GLUE's files have it.
        return _rows([line.removesuffix("\r").split("\t") for line in text.split("\n")], name)
    if ending == ".csv":
        csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # usually 131,072, which texts exceed
        return _rows(list(csv.reader(io.StringIO(text, newline=""), strict=True)), name)
    if ending == ".jsonl":
        records = [json.loads(line) for line in text.split("\n") if line.strip()]
    else:
        records = json.loads(text) if text.strip() else []
        if isinstance(records, dict):
            lengths = {column: len(v) for column, v in records.items() if isinstance(v, list)}
            if len(lengths) < len(records) or len(set(lengths.values())) > 1:
                raise DataError(f"{name}: a JSON object must map each column to a list, all of one length")
            return records
        if not isinstance(records, list):
            raise DataError(
                f"{name}: expected a list of objects, or an object of columns; got {records!r:.40}"
            )
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise DataError(f"{name}, row {number}: expected a JSON object, got {type(record).__name__}")
    names = list(dict.fromkeys(column for record in records for column in record))
    return {column: [record.get(column) for record in records] for column in names}


def _rows(rows: list[list[str]], name: str) -> dict[str, list[Any]]:
    rows = [row for row in rows if row not in ([], [""])]
    if not rows:
        return {}
    header = rows[0]
    if len(set(header)) < len(header):
        raise DataError(f"{name}: the header names a column twice: {', '.join(header)}")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            fields = f"{len(header)} ({', '.join(header)})"
            raise DataError(f"{name}, row {number}: {len(row)} fields, but the header has {fields}")
    return {column: [row[i] for row in rows[1:]] for i, column in enumerate(header)}


def _parquet(path: Path) -> dict[str, list[Any]]:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(path).read().to_pydict()


def _npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        columns = {name: arrays[name] for name in arrays.files}
    lengths = {name: array.shape[:1] for name, array in columns.items()}
    if len(set(lengths.values())) > 1 or () in lengths.values():
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in columns.items())
        raise DataError(f"{path}: the arrays differ in their number of rows: {shapes}")
    return columns


def _joined(tables: list[Table]) -> Table:
    if len(tables) == 1:
        return tables[0]
    first = tables[0]
    for table in tables[1:]:
        if set(table.columns) != set(first.columns):
            raise DataError(
                f"{first.where} and {table.where} are parts of one split but differ in their columns"
            )
    columns: dict[str, Any] = {}
    for name, values in first.columns.items():
        pieces = [table.columns[name] for table in tables]
        if isinstance(values, np.ndarray):
            if len({piece.shape[1:] for piece in pieces}) > 1:
                raise DataError(f"{first.where} and the other parts differ in the shape of {name!r}")
            columns[name] = np.concatenate(pieces)
        else:
            columns[name] = [value for piece in pieces for value in piece]
    return Table(columns, f"{first.where} .. {tables[-1].where}")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:20]) or "nothing"
    return shown + (f", and {len(names) - 20} more" if len(names) > 20 else "")
