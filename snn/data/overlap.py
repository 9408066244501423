"""Texts that stand in two data sets: nothing may learn from what is measured."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from snn.data.data import Data
from snn.data.split import Split
from snn.data.text import TextSplit
from snn.errors import DataError

#: Tokens that are looked at in one go.
_AT_ONCE = 2**22


def boundaries(tokenizer: Any) -> set[int]:
    """The special tokens of a tokenizer of transformers, less that for what it does not know, which stands for text."""
    return {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}


def row_keys(split: TextSplit, special: Collection[int]) -> np.ndarray:
    """A number for each row, uint64 ``[N]``: equal for equal texts, and for a pair the other way round.

    It is the sum over all pairs of neighbouring tokens, where special ones count as one.

    Args:
        split: Tokenised texts.
        special: Tokens around the texts (:func:`boundaries`).

    Example:
        >>> ids, starts = np.array([1, 5, 2, 6, 7, 2, 1, 6, 7, 2, 5, 2, 1, 5, 2, 7, 6, 2]), np.array([0, 6, 12, 18])
        >>> keys = row_keys(TextSplit(ids, None, starts, np.zeros(3), pad_id=0), special=[0, 1, 2])
        >>> bool(keys[0] == keys[1]), bool(keys[0] == keys[2])
        (True, False)
    """
    cuts = np.unique(np.searchsorted(split.offsets, np.arange(0, split.offsets[-1] + _AT_ONCE, _AT_ONCE)))
    cuts = np.minimum(cuts, len(split))
    chunks = [_keys(split, first, end, special) for first, end in itertools.pairwise(cuts)]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.uint64)


def _keys(split: TextSplit, first: int, end: int, special: Collection[int]) -> np.ndarray:
    offsets = split.offsets[first : end + 1]
    ids, offsets = split.ids[offsets[0] : offsets[-1]], offsets - offsets[0]
    tokens = np.where(np.isin(ids, list(special)), 0, ids.astype(np.uint64) + 1).astype(np.uint64)
    before = np.concatenate([np.zeros(1, np.uint64), tokens])[:-1]
    before[offsets[:-1][np.diff(offsets) > 0]] = 0
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mixed(before << 32 | tokens), dtype=np.uint64)])
    return sums[offsets[1:]] - sums[offsets[:-1]]


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Of uint64, others, whose sums do not coincide by chance (SplitMix64 of Steele et al., OOPSLA 2014)."""
    z = (numbers + 1) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)


def seen_in_training(splits: Mapping[str, Split], special: Collection[int]) -> list[str]:
    """How many rows of other splits are training rows too, for people; nothing of splits that share none."""
    texts = {name: row_keys(rows, special) for name, rows in splits.items() if isinstance(rows, TextSplit)}
    found = []
    for name, keys in texts.items():
        count = 0 if name == "train" else int(np.isin(keys, texts["train"]).sum())
        if count:
            found.append(f"{count:,} of {len(keys):,} {name} rows are in train too")
    return found


def without_measured(data: Data, measured: Data, special: Collection[int]) -> Data:
    """A data set without the training rows that another one is measured on, or chosen by.

    Args:
        data: What is learnt from; anything but single texts and pairs stays as it is.
        measured: All of its splits but ``train`` are meant, read by the same tokenizer.
        special: Its tokens around texts (:func:`boundaries`).

    Raises:
        DataError: No row is left.
    """
    train = data.splits["train"]
    others = {name: rows for name, rows in measured.splits.items() if name != "train"}
    texts = [rows for rows in others.values() if isinstance(rows, TextSplit)]
    if not isinstance(train, TextSplit) or not texts:
        return data
    known = np.isin(row_keys(train, special), np.concatenate([row_keys(rows, special) for rows in texts]))
    if not known.any():
        return data
    where = f"in {' or '.join(others)} of {measured.config.name}"
    if known.all():
        raise DataError(
            f"dataset={data.config.name}: every one of the {len(train):,} training rows is {where} too"
        )
    splits = {**data.splits, "train": train.take(np.flatnonzero(~known))}
    left_out = f"{known.sum():,} of {len(train):,} training rows left out: they are {where} too"
    return Data(data.config, splits, data.label_names, f"{data.source}; {left_out}", data.seed)
