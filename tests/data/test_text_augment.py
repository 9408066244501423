"""Augmentation of texts: which tokens change, into what, and that seed, epoch and row alone decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn.data.data import Data
from snn.data.schema import DatasetConfig, check
from snn.data.text import TextSplit
from snn.errors import DataError

ROWS, CLS, SEP = 200, 101, 102


def data(seed: int = 0, **more: object) -> Data:
    """Rows of 4 to 20 tokens between two special ones; tokens are 1 to 49, of which 1 is half."""
    rng = np.random.default_rng(7)
    rows = []
    for length in rng.integers(4, 21, ROWS):
        words = np.where(rng.random(length) < 0.5, 1, rng.integers(2, 50, length))
        rows.append(np.concatenate([[CLS], words, [SEP]]))
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    split = TextSplit(np.concatenate(rows), None, offsets, np.zeros(ROWS, np.int64), 0, [0, CLS, SEP])
    config = DatasetConfig(name="mine", kind="text", task="unlabelled", **more)
    return Data(config, {"train": split, "validation": split}, [], "made here", seed)


def tokens(loader) -> np.ndarray:
    """Tokens of all batches, end to end, without padding."""
    return torch.cat([batch["input_ids"][batch["attention_mask"] > 0] for batch in loader]).numpy()


def test_half_the_share_of_ordinary_tokens_is_drawn_from_all_texts() -> None:
    loaders = data(augment_tokens=0.8)
    plain = tokens(loaders.loader("train", 8))
    varied = tokens(loaders.loader("train", 8, augment=True))
    special = np.isin(plain, [CLS, SEP])
    assert np.array_equal(plain[special], varied[special])
    assert not np.isin(varied[~special], [0, CLS, SEP]).any()
    rare = ~special & (plain != 1)  # of these, those drawn anew are 1 half of the time
    assert (varied[rare] == 1).mean() == pytest.approx(0.4 / 2, abs=0.03)
    texts = np.split(varied != plain, data().splits["train"].offsets[1:-1])
    shares = np.array([text[1:-1].mean() for text in texts])
    assert shares.min() == 0  # some texts stay
    assert shares.max() > 0.6  # others change all over
    assert (varied[~special] == 1).mean() == pytest.approx((plain[~special] == 1).mean(), abs=0.03)


def test_a_text_is_the_same_in_any_batch_and_another_in_the_next_epoch() -> None:
    loaders = data(augment_tokens=0.3)
    together = tokens(loaders.loader("train", ROWS, augment=True))
    assert np.array_equal(tokens(loaders.loader("train", 7, augment=True)), together)
    assert np.array_equal(tokens(data(augment_tokens=0.3).loader("train", 7, augment=True)), together)
    assert not np.array_equal(tokens(loaders.loader("train", 7, augment=True, epoch=1)), together)
    assert not np.array_equal(tokens(data(1, augment_tokens=0.3).loader("train", 7, augment=True)), together)


def test_only_shuffled_training_texts_vary() -> None:
    loaders = data(augment_tokens=0.3)
    plain = tokens(data().loader("train", 8))
    assert np.array_equal(tokens(loaders.loader("train", 8)), plain)
    assert np.array_equal(tokens(loaders.loader("validation", 8, augment=True)), plain)
    shuffled = [tokens(d.loader("train", 8, shuffle=True)) for d in (loaders, data())]
    assert not np.array_equal(*shuffled)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment_tokens": 1.0}, r"dataset.augment_tokens=1.0: a share of 0 or more, below 1"),
        ({"augment_tokens": -0.1}, r"dataset.augment_tokens=-0.1: a share"),
        (
            {"augment_tokens": 0.1, "kind": "image"},
            r"dataset.augment_tokens: for texts; dataset.kind is image",
        ),
    ],
)
def test_bad_values(settings: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check(DatasetConfig(name="mine", **settings))
