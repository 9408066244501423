"""Measurements instead of classes, and further splits."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from snn.data import DatasetConfig, load_dataset
from snn.data.splitting import held_out
from snn.errors import DataError


def write(folder: Path, values, name: str = "train") -> Path:
    rows = "".join(f"a {'b ' * (i % 4)}\tc\t{value}\n" for i, value in enumerate(values))
    path = folder / f"{name}.tsv"
    path.write_text(f"sentence1\tsentence2\tlabel\n{rows}")
    return path


def load(path: Path, tokenizer, **settings):
    settings = {"task": "regression", "text_fields": ["sentence1"], **settings}
    return load_dataset(
        DatasetConfig(name="mine", data_dir=str(path), **settings), seed=0, tokenizer=tokenizer
    )


def test_labels_are_floats_and_there_is_one_output(tmp_path: Path, tokenizer) -> None:
    values = np.arange(100) / 20
    data = load(write(tmp_path, values), tokenizer)
    assert (data.num_classes, data.label_names) == (1, [])
    assert "regression" in repr(data)
    batch = next(iter(data.loader("train", 7, shuffle=True, bucket=True)))
    assert batch["labels"].dtype == torch.float32
    assert batch["input_ids"].dtype == torch.int64
    found = sorted(float(x) for split in data.splits.values() for x in split.labels)
    assert found == pytest.approx(values)
    # Each tenth of the range is held out in proportion, and so is it in a limited split.
    assert np.bincount((data.splits["test"].labels * 2).astype(int), minlength=10).tolist() == [1] * 10
    small = load(tmp_path / "train.tsv", tokenizer, limit_train=27)
    assert np.bincount((small.splits["train"].labels * 2).astype(int), minlength=10).min() >= 2


@pytest.mark.parametrize(
    ("values", "settings", "expected"),
    [
        ([1, 2, "x", 3], {}, r"label 'x' in train\.tsv, row 3, is no finite number"),
        ([1, 2, "", 3], {}, r"label '' in train\.tsv, row 3, is missing"),
        ([1, "nan", 2, 3], {}, r"row 2, is no finite number"),
        ([1, 2, 3, "inf"], {}, r"row 4, is no finite number"),
        ([1, "-1e39", 3], {}, r"label '-1e39' in train\.tsv, row 2, is too large for single precision"),
        (
            [1, 2, 3, 5.5],
            {"label_range": [0, 5]},
            r"label '5\.5' .* row 4, is outside of dataset\.label_range=\[0, 5\]",
        ),
        ([1, 2], {"label_range": [5, 0]}, r"dataset\.label_range=\[5, 0\]: the smallest"),
        ([1, 2], {"label_range": [5]}, r"dataset\.label_range=\[5\]"),
        ([1, 2], {"label_names": ["a"]}, r"dataset\.label_names: measurements have none"),
        ([1, 2], {"task": "ranking"}, r"dataset\.task: unknown name .ranking."),
        (
            [0, 1],
            {"task": "classification", "label_range": [0, 1]},
            r"dataset\.label_range: classes have none",
        ),
        ([0, 1.5], {"task": "classification"}, r"dataset\.task=regression reads measurements"),
        ([0, 1], {"truncation_side": "middle"}, r"dataset\.truncation_side: 'middle'"),
    ],
)
def test_what_cannot_be_measured(tmp_path: Path, tokenizer, values, settings, expected) -> None:
    with pytest.raises(DataError, match=expected) as error:
        load(write(tmp_path, values), tokenizer, **settings)
    assert "\n" not in str(error.value)


def test_equal_measurements_are_drawn_evenly() -> None:
    labels = np.repeat(np.float32([0, 5]), [900, 100])
    _, out = held_out(labels, 0.1)
    assert len(out) == 100
    assert np.bincount(labels[out].astype(int))[[0, 5]].tolist() == [90, 10]


def test_a_further_split_is_read_limited_and_part_of_the_fingerprint(tmp_path: Path, tokenizer) -> None:
    for name, rows in (("train", 20), ("dev_m", 8), ("dev_mm", 6)):
        write(tmp_path, range(rows), name)
    splits = {"train": "train", "validation": None, "test": "dev_m", "test_mismatched": "dev_mm"}
    data = load(tmp_path, tokenizer, splits=splits)
    assert list(data.splits) == ["train", "validation", "test", "test_mismatched"]
    labels = torch.cat([batch["labels"] for batch in data.loader("test_mismatched", 4)])
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]
    limited = load(tmp_path, tokenizer, splits=splits, limit_test=5)
    assert [len(split) for split in limited.splits.values()] == [18, 2, 5, 5]
    with pytest.raises(DataError, match="unknown split 'test_mismatch'; did you mean 'test_mismatched'"):
        data.loader("test_mismatch", 4)
    before = data.fingerprint
    write(tmp_path, range(7), "dev_mm")
    assert load(tmp_path, tokenizer, splits=splits).fingerprint != before
    with pytest.raises(DataError, match="unknown split 'tset_mismatched'"):
        load(tmp_path, tokenizer, splits={**splits, "tset_mismatched": "dev_mm"})


@pytest.mark.parametrize(
    ("columns", "rename", "field"),
    [
        (("premise", "hypothesis"), {}, "premise"),
        (("question", "sentence"), {}, "question"),
        (("question", "sentence"), {}, "sentence"),
        (("#1 String", "#2 String"), {"#1 String": "sentence1", "#2 String": "sentence2"}, "sentence1"),
    ],
)
def test_half_a_pair_by_any_name(tmp_path: Path, tokenizer, caplog, columns, rename, field) -> None:
    header = "\t".join([*columns, "label"])
    (tmp_path / "train.tsv").write_text(header + "\n" + "a\tb\t0\nb\ta\t1\n" * 10)
    config = DatasetConfig(
        name="pairs",
        data_dir=str(tmp_path / "train.tsv"),
        text_fields=[field],
        label_field="label",
        rename=rename,
    )
    load_dataset(config, seed=0, tokenizer=tokenizer)
    first, second = rename.values() if rename else columns
    assert "too, which is not used" in caplog.text
    assert f"dataset.text_fields=[{first},{second}]" in caplog.text


def test_a_split_without_labels_says_how_to_do_without(tmp_path: Path, tokenizer) -> None:
    """As the test files of GLUE come."""
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + "a\t0\nb\t1\n" * 10)
    (tmp_path / "test.tsv").write_text("index\ttext\n0\ta\n1\tb\n")
    config = DatasetConfig(name="mine", data_dir=str(tmp_path), splits={"train": "train", "test": "test"})
    with pytest.raises(DataError, match=r"test has no labels; dataset\.splits\.test=null cuts it off"):
        load_dataset(config, seed=0, tokenizer=tokenizer)


def test_half_a_pair_is_pointed_out(tmp_path: Path, tokenizer, caplog) -> None:
    path = write(tmp_path, range(10))
    with caplog.at_level(logging.WARNING, "snn"):
        load(path, tokenizer)
        assert "a column 'sentence2' too, which is not used" in caplog.text
        assert "dataset.text_fields=[sentence1,sentence2]" in caplog.text
        caplog.clear()
        load(path, tokenizer, text_fields=["sentence1", "sentence2"])
        assert caplog.messages == []
