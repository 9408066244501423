"""Token ids of many texts, kept on disk so that a sweep tokenises a data set once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

log = logging.getLogger(__name__)

#: Texts given to the tokenizer at once.
_BATCH = 1000
#: Fewer texts than these are tokenised anew, which takes about a second.
_WORTH_KEEPING = 5000


@dataclass(frozen=True)
class Tokens:
    """All rows end to end in one array, and where each row starts.

    Attributes:
        ids: Token ids of all rows, int32.
        types: Token types of all rows, or None where the tokenizer makes none.
        offsets: Where each row starts, int64, ``[N + 1]``.
    """

    ids: np.ndarray
    types: np.ndarray | None
    offsets: np.ndarray


def encode_texts(
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    tokenizer: Any,
    max_length: int,
    truncation_side: str,
    folder: Path | None = None,
) -> Tokens:
    """Tokenise every row.

    A text without any token (empty, and the tokenizer adds none) becomes the one token for the unknown, since
    attention over nothing is not a number.

    Args:
        texts: One text a row.
        pairs: The second text of each row, or None.
        tokenizer: A tokenizer of transformers.
        max_length: Longest row in tokens, special tokens included.
        truncation_side: Where longer ones are cut, ``"right"`` or ``"left"``.
        folder: Where many rows are kept under a hash of all that they depend on; None: nowhere.
    """
    path = None
    if folder is not None and len(texts) >= _WORTH_KEEPING:
        key = _key(texts, pairs, tokenizer, f"{max_length} {truncation_side}")
        path = None if key is None else folder / f"{key}.npz"
    found = _read(path)
    if found is None:
        found = _encode(texts, pairs, tokenizer, max_length, truncation_side)
        _write(path, found)
    return found


def _encode(
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    tokenizer: Any,
    max_length: int,
    truncation_side: str,
) -> Tokens:
    ids: list[np.ndarray] = []
    types: list[np.ndarray] = []
    before, tokenizer.truncation_side = tokenizer.truncation_side, truncation_side
    try:
        for start in range(0, len(texts), _BATCH):
            piece = slice(start, start + _BATCH)
            encoded = tokenizer(
                list(texts[piece]),
                None if pairs is None else list(pairs[piece]),
                truncation=True,
                max_length=max_length,
                return_attention_mask=False,
            )
            ids += [np.asarray(row, dtype=np.int32) for row in encoded["input_ids"]]
            types += [np.asarray(row, dtype=np.uint8) for row in encoded.get("token_type_ids", ())]
    finally:
        tokenizer.truncation_side = before
    if any(len(row) == 0 for row in ids):
        lone = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id
        types = [row if len(row) else np.zeros(1, np.uint8) for row in types]
        ids = [row if len(row) else np.array([lone], np.int32) for row in ids]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])]).astype(np.int64)
    return Tokens(np.concatenate(ids), np.concatenate(types) if types else None, offsets)


def _key(texts: Sequence[str], pairs: Sequence[str] | None, tokenizer: Any, settings: str) -> str | None:
    """A hash of all that token ids depend on; None for a tokenizer that cannot be written down."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    # How its last call cut and padded is part of what a tokenizer writes, but no property of it.
    state = {k: v for k, v in json.loads(backend.to_str()).items() if k not in ("truncation", "padding")}
    names = sorted(tokenizer.model_input_names)
    digest = hashlib.sha256(json.dumps([state, names, settings, version("tokenizers")]).encode())
    for column in (texts, pairs or ()):
        digest.update(f"{len(column)}:".encode())
        for text in column:
            raw = text.encode("utf-8", "surrogatepass")
            digest.update(f"{len(raw)}:".encode() + raw)
    return digest.hexdigest()[:32]


def _read(path: Path | None) -> Tokens | None:
    if path is None or not path.exists():
        return None
    try:
        # Opened here, since np.load leaves the file of a damaged archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            types = arrays["types"] if "types" in arrays.files else None
            return Tokens(arrays["ids"], types, arrays["offsets"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        log.warning("%s is damaged: the texts are tokenised anew", path)
        return None


def _write(path: Path | None, tokens: Tokens) -> None:
    """Under its name only when complete; a cache that cannot be written costs time and nothing else."""
    if path is None:
        return
    arrays: dict[str, Any] = {"ids": tokens.ids, "offsets": tokens.offsets}
    if tokens.types is not None:
        arrays["types"] = tokens.types
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".npz", dir=path.parent)
        with os.fdopen(handle, "wb") as out:
            np.savez(out, **arrays)
        os.replace(part, path)
    except OSError as error:
        log.warning("tokens cannot be kept in %s: %s", path.parent, error.strerror or error)
        if part is not None:
            Path(part).unlink(missing_ok=True)
