"""Rows that are measured are not learnt from, or it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn.data import load_dataset, overlap
from snn.data.data import Data
from snn.data.overlap import boundaries, row_keys, without_measured
from snn.data.schema import DatasetConfig
from snn.errors import DataError

HEADER = "one\ttwo\tlabel"
PAIRS = ("a film\tthe film\tyes", "three\tbad film\tno")


def pairs(folder: Path, tokenizer: Any, train: list[str], test: list[str], **options: Any) -> Data:
    folder.mkdir()
    for split, rows in (("train", train), ("validation", [PAIRS[0]]), ("test", test)):
        (folder / f"{split}.tsv").write_text("\n".join([HEADER, *rows]))
    config = DatasetConfig(
        name=folder.name,
        kind="text",
        data_dir=str(folder),
        text_fields=["one", "two"],
        max_length=16,
        **options,
    )
    return load_dataset(config, seed=0, tokenizer=tokenizer)


def keys_of(data: Data, tokenizer: Any) -> np.ndarray:
    found = row_keys(data.splits["train"], boundaries(tokenizer))
    assert found is not None
    return found


def test_keys_of_equal_texts_are_equal_and_the_pair_may_be_the_other_way_round(
    tmp_path: Path, tokenizer
) -> None:
    rows = [
        *PAIRS,
        "the film\ta film\tno",
        "a   film\tthe film\tno",
        "film a\tthe film\tyes",
        "a film the\tfilm\tno",
    ]
    data = pairs(tmp_path / "own", tokenizer, rows, list(PAIRS))
    keys = keys_of(data, tokenizer)
    assert keys[2] == keys[0] == keys[3]
    assert len(set(keys.tolist())) == 4


def test_keys_do_not_depend_on_how_many_tokens_are_looked_at_in_one_go(
    tmp_path: Path, tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pairs(tmp_path / "own", tokenizer, [*PAIRS, "\t\tyes", *PAIRS], list(PAIRS))
    at_once = keys_of(data, tokenizer)
    for tokens in (1, 7, 20):
        monkeypatch.setattr(overlap, "_AT_ONCE", tokens)
        assert np.array_equal(keys_of(data, tokenizer), at_once)
    assert len(at_once) == 5


def test_what_is_in_train_and_is_measured_is_said(tmp_path: Path, tokenizer) -> None:
    apart = pairs(tmp_path / "apart", tokenizer, [PAIRS[1], "c\ta\tyes"], ["c c\tb b\tyes"])
    assert "in train too" not in apart.source
    shared = pairs(tmp_path / "shared", tokenizer, list(PAIRS), [PAIRS[1], "c c\tb b\tyes"])
    assert shared.source.endswith(
        "1 of 1 validation rows are in train too; 1 of 2 test rows are in train too"
    )


def test_rows_that_another_set_is_measured_on_are_left_out(tmp_path: Path, tokenizer) -> None:
    measured = pairs(tmp_path / "measured", tokenizer, ["c\tb\tyes", "b\ta\tno"], [PAIRS[1]])
    more = ["c c\tb b\tyes", "the film\ta film\tno", PAIRS[1], "b b\tbad film\tno"]
    brought = pairs(tmp_path / "brought", tokenizer, more, ["b b\tc c\tyes"])
    left = without_measured(brought, measured, boundaries(tokenizer))
    assert left.source.endswith(
        "2 of 4 training rows left out: they are in validation or test of measured too"
    )
    assert left.fingerprint != brought.fingerprint
    for row, old in enumerate((0, 3)):
        got, wanted = left.splits["train"][row], brought.splits["train"][old]
        assert all(got[name].equal(wanted[name]) for name in wanted)
    assert left.splits["test"] is brought.splits["test"]
    # Nothing in common: as it was.
    assert without_measured(left, measured, boundaries(tokenizer)) is left


def pictures(folder: Path, seed: int, name: str) -> Data:
    """Sixteen pictures to learn from, of which one is in the test split."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    train = rng.integers(0, 256, (16, 4, 4, 3), dtype=np.uint8)
    images = {"train": train, "validation": train[:4] // 2, "test": np.stack([train[3], train[4] // 3])}
    for split, pixels in images.items():
        np.savez(folder / f"{split}.npz", images=pixels, label=np.arange(len(pixels)) % 2)
    return load_dataset(DatasetConfig(name=name, kind="image", data_dir=str(folder), image_size=4), seed=0)


def test_pictures_too(tmp_path: Path) -> None:
    measured = pictures(tmp_path / "measured", 0, "measured")
    assert measured.source.endswith("1 of 2 test rows are in train too")
    others = pictures(tmp_path / "others", 1, "others")
    assert without_measured(others, measured) is others
    left = without_measured(pictures(tmp_path / "measured", 0, "again"), measured)
    assert left.source.endswith(
        "1 of 16 training rows left out: they are in validation or test of measured too"
    )
    wanted = np.delete(measured.splits["train"].images, 3, axis=0)  # type: ignore[attr-defined]
    assert np.array_equal(left.splits["train"].images, wanted)  # type: ignore[attr-defined]


def test_nothing_left_to_learn_from(tmp_path: Path, tokenizer) -> None:
    measured = pairs(tmp_path / "measured", tokenizer, ["c\tb\tyes", "b\ta\tno"], [PAIRS[1]])
    brought = pairs(tmp_path / "brought", tokenizer, list(PAIRS), ["b b\tc c\tyes"])
    with pytest.raises(
        DataError, match="dataset=brought: every one of the 2 training rows is in validation or test"
    ):
        without_measured(brought, measured, boundaries(tokenizer))
