"""Rows that stand in two splits or data sets: nothing may learn from what is measured."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from snn.data.data import Data
from snn.data.image import ImageSplit
from snn.data.split import Split
from snn.data.text import TextSplit
from snn.errors import DataError

#: Tokens that are looked at in one go.
_AT_ONCE = 2**22


def boundaries(tokenizer: Any) -> set[int]:
    """The special tokens of a tokenizer of transformers, less that for what it does not know, which stands for text;
    none without one.
    """
    return set() if tokenizer is None else {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}


def row_keys(split: Split, special: Collection[int] = ()) -> np.ndarray | None:
    """A number for each row, uint64 ``[N]``: equal for equal pictures and texts, and for a pair the other way round.

    Of a text it is the sum over all pairs of neighbouring tokens, where special ones count as one.

    Args:
        split: Tokenised texts, or pictures in memory; for others there are no keys.
        special: Tokens around texts (:func:`boundaries`).

    Example:
        >>> ids, starts = np.array([1, 5, 2, 6, 7, 2, 1, 6, 7, 2, 5, 2, 1, 5, 2, 7, 6, 2]), np.array([0, 6, 12, 18])
        >>> keys = row_keys(TextSplit(ids, None, starts, np.zeros(3), pad_id=0), special=[0, 1, 2])
        >>> bool(keys[0] == keys[1]), bool(keys[0] == keys[2])
        (True, False)
    """
    if type(split) is ImageSplit:
        pictures = (hashlib.blake2b(picture.tobytes(), digest_size=8).digest() for picture in split.images)
        return np.frombuffer(b"".join(pictures), np.uint64)
    if not isinstance(split, TextSplit):
        return None
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


def seen_in_training(splits: Mapping[str, Split], special: Collection[int] = ()) -> list[str]:
    """How many rows of other splits are training rows too, for people; nothing of splits that share none."""
    keys = {name: row_keys(rows, special) for name, rows in splits.items()}
    train, found = keys.pop("train"), []
    for name, others in keys.items():
        count = 0 if train is None or others is None else int(np.isin(others, train).sum())
        if count:
            found.append(f"{count:,} of {len(splits[name]):,} {name} rows are in train too")
    return found


def without_measured(data: Data, measured: Data, special: Collection[int] = ()) -> Data:
    """A data set without the training rows that another one is measured on, or chosen by.

    Args:
        data: What is learnt from; rows without keys (:func:`row_keys`) all stay.
        measured: All of its splits but ``train`` are meant; read by the same tokenizer.
        special: Its tokens around texts (:func:`boundaries`).

    Raises:
        DataError: No row is left.
    """
    train = data.splits["train"]
    others = {name: rows for name, rows in measured.splits.items() if name != "train"}
    keys = row_keys(train, special)
    theirs = [found for rows in others.values() if (found := row_keys(rows, special)) is not None]
    known = np.isin(keys, np.concatenate(theirs)) if keys is not None and theirs else np.zeros(1, bool)
    if not known.any():
        return data
    where = f"in {' or '.join(others)} of {measured.config.name}"
    if known.all():
        raise DataError(
            f"dataset={data.config.name}: every one of the {len(train):,} training rows is {where} too"
        )
    assert isinstance(train, ImageSplit | TextSplit)  # others have no keys
    splits = {**data.splits, "train": train.take(np.flatnonzero(~known))}
    left_out = f"{known.sum():,} of {len(train):,} training rows left out: they are {where} too"
    return Data(data.config, splits, data.label_names, f"{data.source}; {left_out}", data.seed)
