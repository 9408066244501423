"""MNIST's and CIFAR's own files: every layout gives the same pictures, and damaged or strange ones are refused."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from snn.data import Data, load_dataset
from snn.errors import DataError
from tests.scripts.composing import composed

ROWS = {"train": 60, "test": 20}
_rng = np.random.default_rng(0)
GREY = {s: _rng.integers(0, 256, (n, 28, 28), np.uint8) for s, n in ROWS.items()}
COLOUR = {s: _rng.integers(0, 256, (n, 32, 32, 3), np.uint8) for s, n in ROWS.items()}
TEN = {s: np.arange(n, dtype=np.uint8) % 10 for s, n in ROWS.items()}
HUNDRED = [f"thing_{number:02}" for number in range(30)]
FINE = {s: np.arange(n, dtype=np.uint8) % 30 for s, n in ROWS.items()}


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}i", 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist(folder: Path, dot: str = "-", pack: Callable[[bytes], bytes] = bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    end = ".gz" if pack is gzip.compress else ""
    for split, stem in {"train": "train", "test": "t10k"}.items():
        (folder / f"{stem}-images{dot}idx3-ubyte{end}").write_bytes(pack(idx(GREY[split])))
        (folder / f"{stem}-labels{dot}idx1-ubyte{end}").write_bytes(pack(idx(TEN[split])))


def planes(split: str) -> np.ndarray:
    return COLOUR[split].transpose(0, 3, 1, 2).reshape(ROWS[split], -1)


class Python2(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes bytes as Python 2 did."""

    def save_bytes(self, value: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_bytes}  # type: ignore[attr-defined]


def as_released(path: Path, content: dict) -> None:
    """As Python 2 and the NumPy of that day wrote it."""
    Python2(file := io.BytesIO(), protocol=2).dump(content)
    raw = file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core" in raw or b"data" not in content
    path.write_bytes(raw)


def cifar10_python(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(5):
        part = slice(12 * number, 12 * number + 12)
        content = {b"data": planes("train")[part], b"labels": TEN["train"][part].tolist()}
        as_released(folder / f"data_batch_{number + 1}", content)
    as_released(folder / "test_batch", {b"data": planes("test"), b"labels": TEN["test"].tolist()})


def cifar10_binary(folder: Path) -> None:
    folder.mkdir(parents=True)
    rows = np.hstack([TEN["train"][:, None], planes("train")])
    for number in range(5):
        (folder / f"data_batch_{number + 1}.bin").write_bytes(rows[12 * number : 12 * number + 12].tobytes())
    (folder / "test_batch.bin").write_bytes(np.hstack([TEN["test"][:, None], planes("test")]).tobytes())


def cifar100_python(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split in ROWS:
        coarse = (FINE[split] // 10).tolist()
        content = {b"data": planes(split), b"fine_labels": FINE[split].tolist(), b"coarse_labels": coarse}
        as_released(folder / split, content)
    as_released(folder / "meta", {b"fine_label_names": [name.encode() for name in HUNDRED]})


def cifar100_binary(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split in ROWS:
        rows = [FINE[split][:, None] // 10, FINE[split][:, None], planes(split)]
        (folder / f"{split}.bin").write_bytes(np.hstack(rows).tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(HUNDRED) + "\n")


def load(name: str, folder: Path) -> Data:
    config = composed("train", f"dataset={name}", f"dataset.data_dir={folder}", "dataset.augment_crop=0")
    return load_dataset(config.dataset, seed=0)


def message(name: str, folder: Path) -> str:
    with pytest.raises(DataError) as error:
        load(name, folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("inner", "write"),
    [
        ("", mnist),
        ("", lambda folder: mnist(folder, ".")),
        ("", lambda folder: mnist(folder, pack=gzip.compress)),
        ("MNIST/raw", mnist),
    ],
    ids=["plain", "dots", "packed", "torchvision"],
)
def test_mnist(tmp_path: Path, inner: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / inner)
    test = load("mnist", tmp_path).splits["test"]
    assert np.array_equal(test.images[..., 0], GREY["test"])
    assert np.array_equal(test.labels, TEN["test"])


@pytest.mark.parametrize(
    ("name", "inner", "write"),
    [
        ("cifar10", "", cifar10_python),
        ("cifar10", "cifar-10-batches-py", cifar10_python),
        ("cifar10", "cifar-10-batches-bin", cifar10_binary),
        ("cifar100", "cifar-100-python", cifar100_python),
        ("cifar100", "cifar-100-binary", cifar100_binary),
    ],
)
def test_cifar(tmp_path: Path, name: str, inner: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / "here" / inner)
    data = load(name, tmp_path / "here")
    assert np.array_equal(data.splits["test"].images, COLOUR["test"])
    assert np.array_equal(data.splits["test"].labels, (TEN if name == "cifar10" else FINE)["test"])
    assert data.label_names[:2] == (["airplane", "automobile"] if name == "cifar10" else HUNDRED[:2])
    assert len(data.splits["train"]) + len(data.splits["validation"]) == 60


def test_two_sets_in_one_folder_of_torchvision(tmp_path: Path) -> None:
    mnist(tmp_path / "MNIST" / "raw")
    cifar10_python(tmp_path / "cifar-10-batches-py")
    assert load("mnist", tmp_path).input_shape == (1, 28, 28)
    assert load("cifar10", tmp_path).input_shape == (3, 32, 32)


class Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("ran"),))


def test_what_is_pickled_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cifar10_python(tmp_path / "here")
    (tmp_path / "here" / "test_batch").write_bytes(pickle.dumps({b"data": Evil(), b"labels": [0]}))
    assert "which is no array" in message("cifar10", tmp_path / "here")
    assert not (tmp_path / "ran").exists()


def test_damaged_files(tmp_path: Path) -> None:
    cifar10_python(tmp_path / "part")
    (tmp_path / "part" / "data_batch_4").unlink()
    assert "data_batch_4" in message("cifar10", tmp_path / "part")
    cifar10_binary(tmp_path / "cut")
    whole = (tmp_path / "cut" / "test_batch.bin").read_bytes()
    (tmp_path / "cut" / "test_batch.bin").write_bytes(whole[:-1])
    assert "test_batch.bin cannot be read" in message("cifar10", tmp_path / "cut")
    for broken, word in (
        (idx(GREY["test"])[:-1], "cannot be read"),
        (b"<html>", "does not start as"),
        (idx(GREY["test"][:3]), "3 pictures, 20 labels"),
    ):
        mnist(tmp_path / "mnist")
        (tmp_path / "mnist" / "t10k-images-idx3-ubyte").write_bytes(broken)
        assert word in message("mnist", tmp_path / "mnist")
    mnist(tmp_path / "packed", pack=gzip.compress)
    file = tmp_path / "packed" / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])
    assert "cannot be read" in message("mnist", tmp_path / "packed")
