"""Folders and columns of encoded pictures: decoded to one size, in memory or not, broken ones named."""

from __future__ import annotations

import io
import logging
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from snn.data.data import Data
from snn.data.image import prepare
from snn.data.image_files import FileSplit
from snn.data.load import load_dataset
from snn.data.pictures import BrokenPictureError, Decoder, PictureBytes, as_pictures, is_grey
from snn.data.schema import DatasetConfig
from snn.errors import DataError
from snn.training.loop import Trainer
from tests.training.small import Record, config, stage

from .test_config import CONF, composed


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


def test_an_empty_folder_of_a_class_is_said(folder: Path, caplog) -> None:
    (folder / "train" / "owl").mkdir()
    (folder / "train" / ".cache").mkdir()
    with caplog.at_level(logging.WARNING, "snn"):
        assert load(folder).label_names == ["cat", "dog"]
    assert [message for message in caplog.messages if "no pictures in owl, which is no class" in message]
    assert ".cache" not in caplog.text


def test_in_memory_and_decoded_each_time_are_the_same(folder: Path) -> None:
    kept, lazy = load(folder, in_memory=True), load(folder, in_memory=False, augment_crop=1)
    assert isinstance(lazy.splits["train"], FileSplit)
    assert not isinstance(kept.splits["train"], FileSplit)
    for split in kept.splits:
        for one, other in zip(kept.loader(split, 5), lazy.loader(split, 5, workers=1), strict=True):
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


@pytest.mark.parametrize("in_memory", [True, False])
def test_grey_and_colour(folder: Path, in_memory: bool) -> None:
    assert load(folder, channels=1, in_memory=in_memory).input_shape == (1, 8, 8)
    assert load(folder, in_memory=in_memory).input_shape == (3, 8, 8)
    for path in folder.glob("*/*/*.png"):
        if path.parts[-3] == "train":
            Image.open(path).convert("L").save(path)
    # Colour in one split is enough: all of them get the same channels.
    data = load(folder, in_memory=in_memory)
    assert {split.shape for split in data.splits.values()} == {(3, 8, 8)}
    for path in folder.glob("test/*/*.png"):
        Image.open(path).convert("L").save(path)
    data = load(folder, in_memory=in_memory)
    assert {split.shape for split in data.splits.values()} == {(1, 8, 8)}
    colour = load(folder, in_memory=in_memory, channels=3).splits["test"][1]["pixel_values"]
    assert torch.equal(data.splits["test"][1]["pixel_values"].expand(3, 8, 8), colour)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_become_eight(ending: str, channels: int) -> None:
    shades = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for shift in (256, 257):  # both are usual
        file = io.BytesIO()
        if ending == "pgm":
            file.write(b"P5 16 16 65535\n" + (shades * shift).astype(">u2").tobytes())
        else:
            Image.fromarray(shades * shift).save(file, {"png": "PNG", "tif": "TIFF"}[ending])
        decoder = Decoder(size=None, channels=channels)
        picture = PictureBytes(f"shades.{ending}", file.getvalue())
        assert is_grey(picture)
        assert np.array_equal(decoder.fit(decoder.open(picture)), np.stack([shades] * channels, axis=-1))


def test_numbers_of_which_nothing_says_what_is_white() -> None:
    file = io.BytesIO()
    Image.fromarray(np.ones((4, 4), np.float32)).save(file, "TIFF")
    with pytest.raises(BrokenPictureError, match=r"heat\.tif \(32 bits per pixel"):
        Decoder(size=None).open(PictureBytes("heat.tif", file.getvalue()))


FOLDERS = [
    (["train"], {"train": 16, "validation": 2, "test": 2}, "test is 0.1 of the training rows"),
    (["train", "test"], {"train": 18, "validation": 2, "test": 4}, "(train, test)"),
    (["train", "val"], {"train": 18, "validation": 2, "test": 4}, "(train, val)"),
    (["train", "validation", "test"], {"train": 20, "validation": 4, "test": 4}, "(train, validation, test)"),
    (["train", "val", "test"], {"train": 20, "validation": 4, "test": 4}, "(train, val, test)"),
]


@pytest.mark.parametrize(("names", "sizes", "said"), FOLDERS, ids=["-".join(names) for names, *_ in FOLDERS])
@pytest.mark.parametrize("packed", [False, True])
def test_the_splits_of_a_folder_are_those_that_are_there(
    names: list[str], sizes: dict[str, int], said: str, packed: bool, tmp_path: Path
) -> None:
    for name in names:
        for i in range(10 if name == "train" else 2):
            for label in ("cat", "dog"):
                save(tmp_path / name / label / f"{i}.png", np.full((4, 4, 3), i, np.uint8))
        if packed:
            with tarfile.open(tmp_path / f"{name}_0.tar", "w") as archive:
                archive.add(tmp_path / name, name)
            shutil.rmtree(tmp_path / name)
    if "test" not in names:
        (tmp_path / "test.csv").write_text("no pictures")
    asked = composed(CONF / "image_folder.yaml", data_dir=str(tmp_path), image_size=4)
    data = load_dataset(asked, seed=0)
    assert {name: len(split) for name, split in data.splits.items()} == sizes
    assert (
        said.replace(", ", "_0.tar, ").replace(")", "_0.tar)") in data.source
        if packed
        else said in data.source
    )


def test_splits_that_are_named_or_are_none(folder: Path) -> None:
    """What is named wins over what is there, and a class may be called like a split."""
    auto = {"train": "train", "validation": "auto", "test": "auto"}
    (folder / "test").rename(folder / "val")
    assert [len(split) for split in load(folder, splits=auto).splits.values()] == [18, 2, 4]
    assert [len(split) for split in load(folder, splits={**auto, "validation": "val"}).splits.values()] == [
        18,
        4,
        2,
    ]
    assert [len(split) for split in load(folder, splits={**auto, "test": None}).splits.values()] == [18, 4, 2]
    (folder / "validation").mkdir()
    with pytest.raises(DataError, match=r"dataset\.splits\.validation: validation or val in .*\? Name one"):
        load(folder, splits=auto)
    (folder / "train" / "cat").rename(folder / "train" / "test")
    data = load(folder / "train", splits={**auto, "train": "."})
    assert data.label_names == ["dog", "test"]
    assert sum(len(split) for split in data.splits.values()) == 20


def test_folders_that_are_called_by_numbers(tmp_path: Path) -> None:
    """They are names, in the order of the numbers; no class is made up for those in between."""
    for name in ("10", "2", "007"):
        for i in range(4):
            save(tmp_path / "train" / name / f"{i}.png", np.full((4, 4, 3), int(name), np.uint8))
    save(tmp_path / "test" / "10" / "0.png", np.full((4, 4, 3), 10, np.uint8))
    data = load(tmp_path, image_size=4, validation_fraction=0.25)
    assert data.label_names == ["2", "007", "10"]
    assert data.splits["test"].labels.tolist() == [2]
    for split in ("train", "validation"):
        for batch in data.loader(split, 3):
            shown = (batch["pixel_values"][:, 0, 0, 0] * 255).round().int().tolist()
            assert [int(data.label_names[label]) for label in batch["labels"]] == shown
    save(tmp_path / "test" / "3" / "0.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"label '3' in test, .* of the 3 classes: 2, 007, 10"):
        load(tmp_path, image_size=4)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
@pytest.mark.parametrize("more", [{}, {"resize": 20}, {"interpolation": "bicubic"}, {"image_size": 32}])
def test_arrays_become_what_the_same_pictures_become(shape: tuple[int, int], more: dict[str, Any]) -> None:
    """Nothing is stretched: the middle is kept, at the size and by the interpolation asked for."""
    noise = np.random.default_rng(0).normal(size=(6, *shape, 3)).cumsum(1).cumsum(2)
    pixels = (128 + 120 * noise / np.abs(noise).max()).astype(np.uint8)
    settings = {"image_size": 16, "resize": None, "interpolation": "bilinear", **more}
    asked = DatasetConfig(name="animals", kind="image", **settings)
    decoder = Decoder(asked.image_size, asked.resize, 3, asked.interpolation)
    expected = np.stack([decoder.fit(Image.fromarray(picture)) for picture in pixels]) / 255.0
    for given in (pixels, pixels / 255):
        split = prepare(given, np.arange(6), np.zeros(6, np.int64), asked, "train.npz")
        found = split.batch(np.arange(6))["pixel_values"].permute(0, 2, 3, 1).numpy()
        assert found.shape == expected.shape
        assert np.abs(found - expected).mean() < 4 / 255  # Pillow cuts at fractions of a pixel
        assert found.min() >= 0
        assert found.max() <= 1


@pytest.mark.parametrize("shape", [(6, 6), (5, 5, 3)])
def test_splits_of_different_pictures_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, *shape), dtype=np.uint8)
    np.savez(tmp_path / "train.npz", images=pixels, label=np.arange(10) % 2)
    np.savez(tmp_path / "test.npz", images=np.zeros((4, 5, 5), np.uint8), label=np.arange(4) % 2)
    with pytest.raises(DataError) as error:
        load(tmp_path, image_size=None)
    size = " x ".join(map(str, (*shape[2:], *shape[:2]) if len(shape) == 3 else (1, *shape)))
    assert f"train {size}, validation {size}, test 1 x 5 x 5; dataset.channels=1 or 3" in str(error.value)
    data = load(tmp_path, image_size=5, channels=3)
    assert {split.shape for split in data.splits.values()} == {(3, 5, 5)}


def test_one_hot_labels_are_refused(tmp_path: Path) -> None:
    labels = np.arange(6) % 3
    for given, words in (
        (np.eye(3, dtype=int)[labels], "got 3 in a list.*argmax"),
        (labels[:, None], "got 1 in a list"),
    ):
        np.savez(tmp_path / "train.npz", images=np.zeros((6, 4, 4), np.uint8), label=given)
        for more in ({}, {"label_names": ["a", "b", "c"]}, {"task": "regression", "metrics": ["pearson"]}):
            with pytest.raises(DataError, match=rf"dataset\.label_field=label in train\.npz: .*{words}"):
                load(tmp_path / "train.npz", splits={}, image_size=None, **more)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_broken_picture_is_named_and_refused_or_left_out(folder: Path, in_memory: bool, caplog) -> None:
    (folder / "train" / "cat" / "3.png").write_bytes(b"no picture")
    whole = (folder / "train" / "dog" / "4.png").read_bytes()
    (folder / "train" / "dog" / "4.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot be read: .*3\.png.*dataset\.broken=skip") as error:
        list(load(folder, in_memory=in_memory, limit_train=18).loader("train", 18))
    assert (
        "2 of 18 pictures" in str(error.value)
    ) == in_memory  # otherwise nobody has looked at the others yet
    assert ("4.png" in str(error.value)) == in_memory
    with caplog.at_level(logging.WARNING, "snn"):
        data = load(folder, in_memory=in_memory, broken="skip")
        batches = list(data.loader("train", 6))
    assert sum(len(batch["labels"]) for batch in batches) == 16
    assert all(len(batch["labels"]) == len(batch["pixel_values"]) for batch in batches)
    assert "3.png" in caplog.text
    assert "4.png" in caplog.text


def test_a_broken_picture_in_a_worker_is_one_line(folder: Path) -> None:
    (folder / "test" / "cat" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError) as error:
        list(load(folder, in_memory=False).loader("test", 2, workers=1))
    path = folder / "test" / "cat" / "1.png"
    assert str(error.value) == f"test: cannot be read: {path}; dataset.broken=skip leaves out what cannot"


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_pictures_are_counted_over_batches_and_epochs(folder: Path, workers: int, caplog) -> None:
    for name in ("cat/0.png", "cat/1.png", "dog/1.png"):
        (folder / "test" / name).write_bytes(b"no picture")
    data = load(folder, in_memory=False, broken="skip", mean=[0.5])
    good = load(folder, in_memory=True, broken="skip", mean=[0.5]).splits["test"][0]["pixel_values"]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "snn"):
        for _ in range(2):
            # The first two batches have nothing left in them.
            (batch,) = data.loader("test", 1, workers=workers)
            assert torch.equal(batch["pixel_values"], good[None])
            assert batch["labels"].tolist() == [1]
    assert int(data.splits["test"].broken.sum()) == 3
    if not workers:  # what workers say goes to the terminal
        assert [message.rpartition(": ")[2] for message in caplog.messages] == [
            f"{folder / 'test' / name} ({count} of 4 so far)"
            for count, name in enumerate(("cat/0.png", "cat/1.png", "dog/1.png"), start=1)
        ]


def test_batches_of_broken_pictures_are_no_steps_of_training(folder: Path, tmp_path: Path) -> None:
    data = load(folder, in_memory=False, broken="skip")
    for row in (3, 4, 17):
        Path(data.splits["train"].pictures[row].name).write_bytes(b"no picture")
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    trainer = Trainer(
        "float", model, data, config(batch_size=1), stage(epochs=2), Record(), tmp_path / "resume"
    )
    assert trainer.run().step == 2 * (18 - 3)


def test_a_split_of_broken_pictures_alone(folder: Path) -> None:
    for path in (folder / "test").glob("*/*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="test: none of the 4 pictures can be read"):
        list(load(folder, in_memory=False, broken="skip").loader("test", 2))


def test_pictures_of_different_sizes_need_a_size(folder: Path) -> None:
    with pytest.raises(DataError, match=r"differ in size \(12 x 16, 14 x 14, 16 x 12\); dataset\.image_size"):
        load(folder, image_size=None)


def test_a_class_that_a_split_lacks_is_said(folder: Path, caplog) -> None:
    for path in (folder / "test" / "dog").iterdir():
        path.unlink()
    with caplog.at_level(logging.WARNING, "snn"):
        data = load(folder)
    assert caplog.messages == [
        f"{folder / 'test'}: no pictures in dog, which is no class unless another split has some",
        "test has no picture of dog",
    ]
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
    asked = DatasetConfig(
        name="animals",
        kind="image",
        hub=str(tmp_path),
        splits={"train": "train"},
        rename={"image": "images"},
        image_size=6,
    )
    data = load_dataset(asked, seed=0)
    assert data.label_names == ["cat", "dog"]
    assert data.input_shape == (3, 6, 6)
    assert sum(len(split) for split in data.splits.values()) == 20
