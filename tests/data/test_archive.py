"""Archives of pictures: what they hold comes out, in the order of the names, and what is wrong is named."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snn.data.archive import ARCHIVE_ENDINGS, read_archive
from snn.data.image_files import prepare_files
from snn.data.load import load_dataset
from snn.data.pictures import Decoder
from snn.data.schema import DatasetConfig
from snn.errors import DataError


def picture(value: int, size: int = 8, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (size, size), value if mode == "L" else (value, 0, 255 - value)).save(file, "PNG")
    return file.getvalue()


def pack(path: Path, files: dict[str, bytes]) -> Path:
    mode = {".gz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("ending", ARCHIVE_ENDINGS)
def test_pictures_come_in_the_order_of_their_names(ending: str, tmp_path: Path) -> None:
    files = {"train/dog/1.png": picture(7), "train/cat/0.png": picture(200, mode="L")}
    found = read_archive(pack(tmp_path / f"train{ending}", files))
    assert found["label"] == ["cat", "dog"]
    decoder = Decoder(size=None)
    images = np.stack([decoder.fit(decoder.open(encoded)) for encoded in found["images"]])
    assert images.dtype == np.uint8
    assert images.shape == (2, 8, 8, 3)
    assert images[:, 0, 0].tolist() == [[200, 200, 200], [7, 0, 248]]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["cat/a/1.png", "cat/b/2.png", "dog/a/3.png"], ["cat", "cat", "dog"]),  # as read from a folder
        (["tiny/train/n01/images/1.png", "tiny/train/n02/images/2.png"], ["n01", "n02"]),
        (["./cat/1.png", "./dog/2.png"], ["cat", "dog"]),
        (["train/cat/1.png", "train/cat/2.png"], ["cat", "cat"]),
    ],
)
def test_which_folder_is_the_class(names: list[str], labels: list[str], tmp_path: Path) -> None:
    path = pack(tmp_path / "train.tar", {name: picture(0) for name in names})
    assert read_archive(path)["label"] == labels


def test_parts_say_together_which_folder_is_the_class(tmp_path: Path) -> None:
    """Each part holds one class alone, whose pictures all lie in one folder deeper."""
    for part, name in enumerate(["cat", "dog"]):
        pack(tmp_path / f"train_{part}.tar", {f"train/{name}/a/{i}.png": picture(i) for i in range(10)})
    config = DatasetConfig(name="animals", kind="image", data_dir=str(tmp_path), splits={"train": "train"})
    data = load_dataset(config, seed=0)
    assert data.label_names == ["cat", "dog"]


def test_what_is_no_picture_is_left_out(tmp_path: Path) -> None:
    files = {
        "cat/1.JPG": picture(0),
        "cat/._1.JPG": b"\0",
        "cat/.DS_Store": b"\0",
        "cat/Thumbs.db": b"\0",
        "labels.txt": b"",
    }
    assert [p.name for p in read_archive(pack(tmp_path / "train.tar", files))["images"]] == ["cat/1.JPG"]
    with pytest.raises(DataError, match="holds no pictures"):
        read_archive(pack(tmp_path / "test.tar", {"labels.txt": b""}))


def test_a_data_set_of_archives(tmp_path: Path) -> None:
    """Parts are joined, a missing validation split is cut off, and class names become numbers."""
    for part in range(2):
        files = {f"train/{name}/{part}{i}.png": picture(i) for name in ("cat", "dog") for i in range(5)}
        pack(tmp_path / f"train_{part}.tar.xz", files)
    pack(tmp_path / "test.tar.xz", {"test/dog/0.png": picture(1)})
    config = DatasetConfig(
        name="animals",
        kind="image",
        data_dir=str(tmp_path),
        splits={"train": "train", "test": "test"},
        label_names=["cat", "dog"],
    )
    data = load_dataset(config, seed=0)
    assert [len(data.splits[split]) for split in ("train", "validation", "test")] == [18, 2, 1]
    assert data.splits["test"].labels.tolist() == [1]
    assert data.input_shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"0.png": picture(0)}, "0.png lies in no folder"),
        ({"train/0.png": picture(0), "train/cat/1.png": picture(0)}, "train/0.png lies in no folder"),
        ({"cat/0.png": b"nothing", "cat/1.png": picture(0)}, r"1 of 2 pictures cannot be read: cat/0.png"),
        ({"cat/0.png": picture(0), "cat/1.png": picture(0, 9)}, r"differ in size \(8 x 8, 9 x 9\)"),
    ],
)
def test_what_cannot_be_read(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "train.tar", files)
    config = DatasetConfig(name="mine", kind="image", data_dir=str(path), image_field="images")
    with pytest.raises(DataError, match=message):
        prepare_files(read_archive(path)["images"], np.arange(2), np.zeros(2, int), config, "train.tar")


def test_a_damaged_archive(tmp_path: Path) -> None:
    path = pack(tmp_path / "train.tar.gz", {"cat/0.png": picture(0)})
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DataError, match=r"train\.tar\.gz cannot be read"):
        read_archive(path)
