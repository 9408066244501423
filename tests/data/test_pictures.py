"""Folders and columns of encoded pictures: decoded to one size, in memory or not, broken ones named."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snn.data.data import Data
from snn.data.image_files import FileSplit
from snn.data.load import load_dataset
from snn.data.pictures import Decoder, PictureBytes, as_pictures
from snn.data.schema import DatasetConfig
from snn.errors import DataError


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 pictures to train and 4 to test, of two classes, some grey, some upright."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 2)):
        for name in ("cat", "dog"):
            for i in range(count):
                shape = [(12, 16, 3), (16, 12, 3), (14, 14)][i % 3]
                save(tmp_path / split / name / f"{i}.png", rng.integers(0, 256, shape, dtype=np.uint8))
    return tmp_path


def load(folder: Path, **more) -> Data:
    settings = {"splits": {"train": "train", "test": "test"}, "image_size": 8, **more}
    return load_dataset(DatasetConfig(name="animals", kind="image", data_dir=str(folder), **settings), seed=0)


def test_a_folder_for_each_class(folder: Path) -> None:
    data = load(folder)
    assert data.label_names == ["cat", "dog"]
    assert [len(data.splits[s]) for s in ("train", "validation", "test")] == [18, 2, 4]
    assert data.input_shape == (3, 8, 8)
    assert np.bincount(data.splits["train"].labels).tolist() == [9, 9]


def test_in_memory_and_decoded_each_time_are_the_same(folder: Path) -> None:
    kept, lazy = load(folder, in_memory=True), load(folder, in_memory=False, augment_crop=1)
    assert isinstance(lazy.splits["train"], FileSplit)
    assert not isinstance(kept.splits["train"], FileSplit)
    for split in kept.splits:
        for one, other in zip(kept.loader(split, 5), lazy.loader(split, 5, workers=2)):
            assert torch.equal(one["pixel_values"], other["pixel_values"])
            assert torch.equal(one["labels"], other["labels"])
    assert kept.fingerprint != load(folder, in_memory=True, mean=[0.5]).fingerprint


def test_one_folder_of_classes_is_cut_into_splits(folder: Path) -> None:
    data = load(folder / "train", splits={"train": "."}, test_fraction=0.2)
    assert [len(data.splits[s]) for s in ("train", "validation", "test")] == [14, 2, 4]


def test_the_middle_is_cut_out_after_resizing() -> None:
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[4:28, 20:44] = 255  # the middle 24 x 24
    image = Image.fromarray(pixels)
    assert Decoder(size=12, resize=16).fit(image).mean() > 240
    whole = Decoder(size=16).fit(image)
    assert whole.shape == (16, 16, 3)
    assert whole[0].max() == 0
    assert np.array_equal(Decoder(size=None).fit(image), pixels)


def test_grey_and_colour(folder: Path) -> None:
    assert load(folder, channels=1).input_shape == (1, 8, 8)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_broken_picture_is_named_and_refused_or_left_out(folder: Path, in_memory: bool, caplog) -> None:
    (folder / "train" / "cat" / "3.png").write_bytes(b"no picture")
    whole = (folder / "train" / "dog" / "4.png").read_bytes()
    (folder / "train" / "dog" / "4.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot be read: .*3\.png.*dataset\.broken=skip") as error:
        list(load(folder, in_memory=in_memory, limit_train=18).loader("train", 18))
    if in_memory:
        assert "2 of 18 pictures" in str(error.value)
        assert "4.png" in str(error.value)
    with caplog.at_level(logging.WARNING, "snn"):
        data = load(folder, in_memory=in_memory, broken="skip")
        batches = list(data.loader("train", 6))
    assert sum(len(batch["labels"]) for batch in batches) == 16
    assert all(len(batch["labels"]) == len(batch["pixel_values"]) for batch in batches)
    assert "3.png" in caplog.text
    assert "4.png" in caplog.text


def test_pictures_of_different_sizes_need_a_size(folder: Path) -> None:
    with pytest.raises(DataError, match=r"differ in size \(12 x 16, 14 x 14, 16 x 12\); dataset\.image_size"):
        load(folder, image_size=None)


def test_a_class_that_a_split_lacks_is_said(folder: Path, caplog) -> None:
    for path in (folder / "test" / "dog").iterdir():
        path.unlink()
    with caplog.at_level(logging.WARNING, "snn"):
        data = load(folder)
    assert caplog.messages == ["test has no picture of dog"]
    assert len(data.splits["test"]) == 2


def test_a_class_that_nobody_trained_on_is_refused(folder: Path) -> None:
    save(folder / "test" / "cow" / "0.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(
        DataError, match=r"label 'cow' in test.* neither a class number nor the name of a class"
    ):
        load(folder)


def test_a_picture_outside_of_the_class_folders(folder: Path) -> None:
    save(folder / "train" / "stray.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"stray\.png lies in no folder of a class"):
        load(folder)


def test_annotations_beside_the_pictures(tmp_path: Path) -> None:
    """As in the official archive of Tiny ImageNet."""
    for name in ("cat", "dog"):
        for i in range(6):
            save(tmp_path / "train" / name / "images" / f"{name}_{i}.png", np.zeros((8, 8, 3), np.uint8))
    for i in range(2):
        save(tmp_path / "val" / "images" / f"val_{i}.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.png\tdog\t0\nval_1.png\tcat\t0\n")
    data = load(tmp_path, splits={"train": "train", "test": "val"})
    assert data.splits["test"].labels.tolist() == [1, 0]
    assert np.bincount(data.splits["train"].labels).tolist() == [5, 6]
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.png\tdog\n")
    with pytest.raises(DataError, match=r"val_annotations\.txt does not say what .*val_1\.png shows"):
        load(tmp_path, splits={"train": "train", "test": "val"})


def encoded(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), value).save(file, "PNG")
    return file.getvalue()


def test_a_column_as_the_hub_writes_it(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    images = [{"bytes": encoded(i), "path": None} for i in range(20)]
    table = pyarrow.table({"image": images, "label": [i % 2 for i in range(20)]})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    data = load(
        tmp_path / "train.parquet", splits={}, rename={"image": "images"}, channels=1, image_size=None
    )
    assert data.input_shape == (1, 4, 4)
    assert as_pictures([1, 2]) is None
    assert as_pictures(images[:1]) == [PictureBytes("row 1", encoded(0))]


def test_the_hub_itself(tmp_path: Path) -> None:
    """A folder stands in for a repository: the library reads both in the same way."""
    for i in range(20):
        save(tmp_path / "train" / ("cat", "dog")[i % 2] / f"{i}.png", np.full((6, 6 + i % 2, 3), i, np.uint8))
    config = DatasetConfig(
        name="animals",
        kind="image",
        hub=str(tmp_path),
        splits={"train": "train"},
        rename={"image": "images"},
        image_size=6,
    )
    data = load_dataset(config, seed=0)
    assert data.label_names == ["cat", "dog"]
    assert data.input_shape == (3, 6, 6)
    assert sum(len(split) for split in data.splits.values()) == 20
