"""Plain text as a data set without labels: documents, sentences, rows of tokens, for learning from a teacher."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from snn.data.cleaning import cleaned
from snn.data.data import Data
from snn.data.packing import SHORTEST, Document, Frame, masked, pairs, segments
from snn.data.schema import SPLITS, CorpusConfig, DatasetConfig, split_names, without_split
from snn.data.text import TextSplit, check_length
from snn.errors import DataError

#: Texts of these endings are read line by line; any other file holds a column of texts.
ENDINGS = (".txt", ".txt.gz", ".txt.bz2")
#: Documents that are held at a time; the second text of a pair comes from one of them.
_POOL = 1000
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
#: A title of WikiText, `` = Title = ``; those of sections have more signs.
_TITLE = re.compile(r"\s*= [^=].* =\s*")


def load_corpus(config: DatasetConfig, seed: int, tokenizer: Any) -> Data:
    """Make rows of plain text.

    Which documents are held out does not depend on the seed; pairs and masks of the training rows do.

    Args:
        config: With ``corpus``.
        seed: The run's seed.
        tokenizer: A tokenizer of transformers.

    Raises:
        DataError: There is nothing to read, or a single document.
    """
    corpus = config.corpus
    assert corpus is not None
    check_length(tokenizer, config.max_length, corpus.pairs)
    if corpus.masking > 0 and tokenizer.mask_token_id is None:
        raise DataError(
            "dataset.corpus.masking: the tokenizer has no mask token; use dataset.corpus.masking=0"
        )
    named = split_names(config, hub=config.data_dir is None)
    shares = {split: getattr(config, f"{split}_fraction") for split in ("test", "validation")}
    held_out = {split: share for split, share in shares.items() if named[split] is None}
    splits = {}
    for split, stem in named.items():
        source = split if stem is not None else "train"
        documents = _documents(config, source, str(named[source]))
        mine = _share(documents, split, held_out) if source == "train" else documents
        rng = np.random.default_rng([seed if split == "train" else 0, SPLITS.index(split.partition("_")[0])])
        limit = getattr(config, f"limit_{split.partition('_')[0]}")
        splits[split] = _rows(mine, split, config, corpus, tokenizer, rng, limit)
    ordered: Any = {split: splits[split] for split in [*SPLITS, *(s for s in splits if s not in SPLITS)]}
    place = config.data_dir or f"Hub {config.hub}/{config.hub_config or ''}"
    how = [f"{split} is {share:g} of the training documents" for split, share in held_out.items()]
    form = "pairs of texts" if corpus.pairs else "texts end to end"
    how.append(f"{form}, {corpus.masking:.0%} of the tokens masked")
    return Data(config, ordered, [], "; ".join([place, *how]), seed)


def _rows(
    documents: Iterable[list[str]],
    split: str,
    config: DatasetConfig,
    corpus: CorpusConfig,
    tokenizer: Any,
    rng: np.random.Generator,
    limit: int | None,
) -> TextSplit:
    frame = Frame(tokenizer, corpus.pairs)
    room = config.max_length - frame.size
    ids: list[np.ndarray] = []
    types: list[np.ndarray] = []
    for texts in itertools.islice(_texts(documents, split, corpus, tokenizer, room, rng), limit):
        row, kinds = frame.row(texts)
        text = np.zeros(len(row), bool)
        at = 0
        for (special, _), piece in zip(frame.pieces, texts):
            at += len(special)
            text[at : at + len(piece)] = True
            at += len(piece)
        masked(row, text, corpus.masking, tokenizer, rng)
        ids.append(row)
        types.append(kinds)
    if not ids:
        raise DataError(
            f"dataset={config.name}: no text for the {split} split; the corpus has too few documents"
        )
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])]).astype(np.int64)
    all_types = np.concatenate(types) if frame.makes_types else None
    labels = np.zeros(len(ids), np.int64)
    special = tokenizer.all_special_ids
    return TextSplit(np.concatenate(ids), all_types, offsets, labels, tokenizer.pad_token_id, special)


def _texts(
    documents: Iterable[list[str]],
    split: str,
    corpus: CorpusConfig,
    tokenizer: Any,
    room: int,
    rng: np.random.Generator,
) -> Iterator[tuple[np.ndarray, ...]]:
    """One text or two for each row."""
    for number, pool in enumerate(_batched(documents, _POOL)):
        found = _tokens(pool, tokenizer)
        if split == "train" and len(found) < 2 and number == 0:
            separated = corpus.document_field or f"{corpus.documents}s"
            raise DataError(
                f"dataset.corpus: {len(found)} document(s) in the {split} split; at least 2 are needed. Documents are "
                f"separated by {separated}: try dataset.corpus.documents=blank, heading or line, or give "
                "dataset.corpus.document_field"
            )
        if corpus.pairs:
            yield from pairs(found, room, corpus.short, corpus.random_next, rng)
            continue
        for document in found:
            yield from ((text,) for text in segments(document, room) if len(text) >= SHORTEST)


def _tokens(documents: Iterable[list[str]], tokenizer: Any) -> list[Document]:
    """Documents as sentences of token ids; empty ones are left out."""
    cut = [[s for line in document for s in _SENTENCE_END.split(line) if s] for document in documents]
    flat = [sentence for sentences in cut for sentence in sentences]
    if not flat:
        return []
    # The length of a sentence is of no concern here, so no warning of it.
    encoded = tokenizer(flat, add_special_tokens=False, return_attention_mask=False, verbose=False)[
        "input_ids"
    ]
    ids = iter(np.asarray(row, np.int32) for row in encoded)
    found = [[row for row in itertools.islice(ids, len(sentences)) if len(row)] for sentences in cut]
    return [document for document in found if document]


def _share(documents: Iterable[list[str]], split: str, held_out: dict[str, float]) -> Iterator[list[str]]:
    """Those of the training documents that belong to a split: at even distances, the same whatever the seed."""
    reached = dict.fromkeys(held_out, 0.5)
    for document in documents:
        owner = "train"
        for name, share in held_out.items():
            reached[name] += share
            if reached[name] >= 1:
                reached[name] -= 1
                owner = name
                break
        if owner == split:
            yield document


def _documents(config: DatasetConfig, split: str, stem: str) -> Iterator[list[str]]:
    """Documents as lists of lines that are not empty."""
    corpus = config.corpus
    assert corpus is not None
    column = corpus.document_field or config.text_fields[0]
    values: Iterable[str] = _column(config, split, stem, column, corpus.streaming)
    lines = (line for value in values for line in cleaned([value], config))
    if corpus.document_field is not None:
        yield from (found for value in lines if (found := _lines(value)))
        return
    document: list[str] = []
    for line in lines:
        title = corpus.documents == "heading" and _TITLE.fullmatch(line) is not None
        ends = {"blank": not line.strip(), "heading": title, "line": True}[corpus.documents]
        if ends and document:
            yield document
            document = []
        document += _lines(line.strip(" =\n") if corpus.documents == "heading" else line)
    if document:
        yield document


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _column(config: DatasetConfig, split: str, stem: str, column: str, streaming: bool) -> Iterator[str]:
    """The texts of a column, or the lines of a text file, in order."""
    import datasets

    arguments: dict[str, Any] = {"split": "train", "streaming": streaming}
    where = f"dataset.hub={config.hub}"
    if config.data_dir is not None:
        path = find_text(Path(config.data_dir).expanduser(), split, stem)
        where = str(path)
        kind = {".txt": "text", ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv"}.get(
            next((s for s in path.suffixes if s not in (".gz", ".bz2")), ""), "parquet"
        )
        arguments |= {"path": kind, "data_files": str(path)}
        arguments |= {"sep": "\t", "quoting": 3, "keep_default_na": False} if ".tsv" in path.suffixes else {}
        column = "text" if kind == "text" else column
    else:
        arguments |= {"path": str(config.hub), "name": config.hub_config, "split": stem}
        arguments |= {"revision": config.hub_revision}
    try:
        rows = datasets.load_dataset(**arguments)
        for row in rows:
            if not isinstance(row.get(column), str):
                raise DataError(f"{where}: no text in column {column!r}; columns: {', '.join(row)}")
            yield row[column]
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{where} cannot be read: {reason}; without a network use dataset.data_dir=FOLDER with plain text"
        ) from error


def find_text(root: Path, split: str, stem: str) -> Path:
    """The file of a split, with any ending that can be read, or the one file that ``root`` is.

    Raises:
        DataError: There is none; the message lists the folder.
    """
    if root.is_file():
        return root
    if not root.is_dir():
        raise DataError(f"dataset.data_dir: {root} does not exist")
    endings = ("", *ENDINGS, ".jsonl", ".json", ".csv", ".tsv", ".parquet")
    for ending in endings:
        if (root / f"{stem}{ending}").is_file():
            return root / f"{stem}{ending}"
    inside = ", ".join(sorted(path.name for path in root.iterdir())[:20]) or "nothing"
    key = f"dataset.splits.{split}"
    hint = without_split(key, split, "training documents")
    raise DataError(f"{key}={stem}: no {stem}.txt in {root}, which holds: {inside}{hint}")


def _batched(documents: Iterable[list[str]], size: int) -> Iterator[tuple[list[str], ...]]:
    remaining = iter(documents)
    while pool := tuple(itertools.islice(remaining, size)):
        yield pool
