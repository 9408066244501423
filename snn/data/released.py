"""MNIST, Fashion-MNIST and CIFAR in the files of their authors, also as torchvision unpacks them.

CIFAR's Python version is pickled; it is read with nothing allowed but NumPy's arrays, so that no code runs.
"""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from snn.data.table import Table
from snn.errors import DataError

#: Where torchvision puts a set, below the folder that it is given.
_HOMES = {
    "mnist": ("MNIST/raw",),
    "fashion_mnist": ("FashionMNIST/raw",),
    "cifar10": ("cifar-10-batches-py", "cifar-10-batches-bin"),
    "cifar100": ("cifar-100-python", "cifar-100-binary"),
}
_BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
_BYTES = 3 * 32 * 32

#: Reads one split.
Reader = Callable[[], Table]


def released(root: Path, name: str) -> dict[str, Reader]:
    """How to read ``train`` and ``test`` of a folder that holds such files; nothing where it holds none.

    Columns are called as on the Hub.

    Args:
        root: The folder, or one that torchvision was given.
        name: The data set.
    """
    for folder in (root, *(root / home for home in _HOMES.get(name, ()))):
        found = (_idx(folder) or _cifar10(folder) or _cifar100(folder)) if folder.is_dir() else {}
        if found:
            return {split: partial(_read, *how) for split, how in found.items()}
    return {}


_How = tuple[Callable[..., dict[str, Any]], list[Path]]
"""A function, and the files that it takes."""


def _read(columns: Callable[..., dict[str, Any]], paths: list[Path]) -> Table:
    try:
        return Table(columns(*paths), f"{paths[0].name}{f' .. {paths[-1].name}' if len(paths) > 1 else ''}")
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, pickle.UnpicklingError) as error:
        raise DataError(
            f"{paths[0].parent}: {', '.join(p.name for p in paths)} cannot be read: {error}"
        ) from error


def _idx(folder: Path) -> dict[str, _How]:
    found: dict[str, _How] = {}
    for split, stem in {"train": "train", "test": "t10k"}.items():
        pair = [
            next(
                (
                    p
                    for dot in "-."
                    for end in ("", ".gz")
                    if (p := folder / f"{stem}-{what}{dot}{kind}{end}").exists()
                ),
                None,
            )
            for what, kind in (("images", "idx3-ubyte"), ("labels", "idx1-ubyte"))
        ]
        if None not in pair:
            found[split] = (_idx_columns, [path for path in pair if path is not None])
    return found


def _idx_columns(images: Path, labels: Path) -> dict[str, Any]:
    columns = {"image": _idx_array(images), "label": _idx_array(labels)}
    if len(columns["image"]) != len(columns["label"]):
        raise ValueError(f"{len(columns['image'])} pictures, {len(columns['label'])} labels")
    return columns


def _idx_array(path: Path) -> np.ndarray:
    """Two zeros, the type (8: bytes), the number of axes, their lengths (32 bits, big-endian), the values."""
    raw = (gzip.decompress if path.suffix == ".gz" else bytes)(path.read_bytes())
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path.name} does not start as a file of bytes in IDX format does")
    start = 4 + 4 * raw[3]
    return np.frombuffer(raw, np.uint8, offset=start).reshape(np.frombuffer(raw[4:start], ">i4"))


def _cifar10(folder: Path) -> dict[str, _How]:
    for ending, columns in (("", _pickled), (".bin", _cifar10_binary)):
        files = {split: [folder / f"{name}{ending}" for name in names] for split, names in _BATCHES.items()}
        found = {split: (columns, paths) for split, paths in files.items() if any(map(Path.is_file, paths))}
        if found:
            return found
    return {}


def _cifar10_binary(*paths: Path) -> dict[str, Any]:
    rows = np.concatenate([np.frombuffer(path.read_bytes(), np.uint8) for path in paths]).reshape(
        -1, 1 + _BYTES
    )
    return {"img": _pixels(rows[:, 1:]), "label": rows[:, 0]}


def _cifar100(folder: Path) -> dict[str, _How]:
    splits = ("train", "test")
    if (folder / "meta").is_file():
        return {
            s: (_cifar100_pickled, [folder / s, folder / "meta"]) for s in splits if (folder / s).is_file()
        }
    if (names := folder / "fine_label_names.txt").is_file():
        return {
            s: (_cifar100_binary, [path, names]) for s in splits if (path := folder / f"{s}.bin").is_file()
        }
    return {}


def _cifar100_pickled(path: Path, meta: Path) -> dict[str, Any]:
    names = [name.decode() for name in _unpickled(meta)[b"fine_label_names"]]
    columns = _pickled(path)
    return {**columns, "fine_label": [names[number] for number in columns["fine_label"]]}


def _cifar100_binary(path: Path, names: Path) -> dict[str, Any]:
    rows = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 2 + _BYTES)
    called = names.read_text("utf-8").split()
    return {
        "img": _pixels(rows[:, 2:]),
        "coarse_label": rows[:, 0],
        "fine_label": [called[i] for i in rows[:, 1]],
    }


def _pickled(*paths: Path) -> dict[str, Any]:
    parts = [_unpickled(path) for path in paths]
    labels = {
        name.decode().removesuffix("s"): np.concatenate([part[name] for part in parts])
        for name in (b"labels", b"fine_labels", b"coarse_labels")
        if name in parts[0]
    }
    return {"img": _pixels(np.concatenate([part[b"data"] for part in parts])), **labels}


def _pixels(rows: np.ndarray) -> np.ndarray:
    """``[N, 3072]``, one colour after the other, to ``[N, 32, 32, 3]``."""
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (
            module.removeprefix("numpy.").replace("_core", "core") == "core.multiarray"
            and name == "_reconstruct"
        ):
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")


def _unpickled(path: Path) -> dict[bytes, Any]:
    with path.open("rb") as file:
        return _Arrays(file, encoding="bytes").load()
