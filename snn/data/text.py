"""A split of tokenised texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn.data.split import Split
from snn.data.text_augment import TextAugmentation
from snn.data.tokens import encode_texts
from snn.errors import DataError


class TextSplit(Split):
    """Texts as token ids: all rows end to end in one array, and where each row starts.

    Args:
        ids: Token ids of all rows, int32.
        types: Token types of all rows, or None where the tokenizer makes none.
        offsets: Where each row starts, int64, ``[N + 1]``.
        labels: Class numbers, int64, or measurements, float32, ``[N]``.
        pad_id: Token that fills the short rows of a batch: behind them, whatever side the tokenizer would pad on, since
            networks here count positions from the first token and may read that one.
        special: Ids of the tokenizer's special tokens, which no augmentation touches, ``[S]``.
    """

    def __init__(
        self,
        ids: np.ndarray,
        types: np.ndarray | None,
        offsets: np.ndarray,
        labels: np.ndarray,
        pad_id: int,
        special: Sequence[int] | np.ndarray = (),
    ):
        self.ids, self.types, self.offsets, self.labels = ids, types, offsets, labels
        self.pad_id, self.special = pad_id, np.asarray(special, np.int64)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per row, ``[N]``."""
        return np.diff(self.offsets)

    def batch(self, rows: np.ndarray, augmentation: TextAugmentation | None = None) -> dict[str, Tensor]:
        """Return some rows, padded to the longest of them.

        Shape:
            ``input_ids``, ``attention_mask`` and, where the tokenizer makes them, ``token_type_ids``: ``[B,
            L]``; ``labels``: ``[B]``.
        """
        starts, lengths = self.offsets[rows], self.lengths[rows]
        position = np.arange(lengths.max())
        mask = position < lengths[:, None]
        source = np.where(mask, starts[:, None] + position, 0)
        ids = self.ids if augmentation is None else augmentation.ids
        out = {"input_ids": np.where(mask, ids[source], self.pad_id), "attention_mask": mask}
        if self.types is not None:
            out["token_type_ids"] = np.where(mask, self.types[source], 0)
        tensors = {name: torch.from_numpy(array.astype(np.int64)) for name, array in out.items()}
        return tensors | {"labels": torch.from_numpy(self.labels[rows])}

    def take(self, rows: np.ndarray) -> TextSplit:
        """Some of the rows as a split of their own."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        at = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        types = None if self.types is None else self.types[at]
        return TextSplit(self.ids[at], types, offsets, self.labels[rows], self.pad_id, self.special)

    def contents(self) -> Iterator[np.ndarray]:
        """Everything that a fingerprint covers."""
        yield from (self.ids, self.offsets, self.labels)
        if self.types is not None:
            yield self.types


def tokenise(
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    labels: np.ndarray,
    tokenizer: Any,
    max_length: int,
    truncation_side: str = "right",
    cache_dir: Path | None = None,
) -> TextSplit:
    """Tokenise every row once; see :func:`snn.data.tokens.encode_texts`.

    Args:
        texts: One text a row.
        pairs: The second text of each row, or None.
        labels: Class numbers or measurements, ``[N]``.
        tokenizer: A tokenizer of transformers.
        max_length: Longest row in tokens, special tokens included.
        truncation_side: Where longer ones are cut, ``"right"`` or ``"left"``.
        cache_dir: Folder of all that is kept; None: nothing is.

    Raises:
        DataError: ``max_length`` does not suit the tokenizer, or it has no padding token.
    """
    check_length(tokenizer, max_length, pairs is not None)
    folder = None if cache_dir is None else cache_dir / "tokens"
    tokens = encode_texts(texts, pairs, tokenizer, max_length, truncation_side, folder)
    special = tokenizer.all_special_ids
    return TextSplit(tokens.ids, tokens.types, tokens.offsets, labels, tokenizer.pad_token_id, special)


def check_length(tokenizer: Any, max_length: int, paired: bool) -> None:
    """Refuse a tokenizer that cannot pad, and a length that does not suit it.

    Raises:
        DataError: Names the key.
    """
    if tokenizer.pad_token_id is None:
        raise DataError(
            "model.tokenizer: it has neither a token for padding nor one that ends a text; give it a pad_token and "
            "save it (save_pretrained), or take another tokenizer"
        )
    if max_length > tokenizer.model_max_length:
        raise DataError(
            f"dataset.max_length={max_length}: more than the {tokenizer.model_max_length} tokens that the "
            "tokenizer's model takes"
        )
    special = tokenizer.num_special_tokens_to_add(pair=paired)
    if max_length <= special + paired:
        raise DataError(
            f"dataset.max_length={max_length}: too short, {special} are the tokenizer's special ones; "
            f"at least {special + 1 + paired}"
        )
