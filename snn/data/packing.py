"""Rows of a fixed length from documents: texts end to end or pairs of them, framed by special tokens, some masked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

#: Sentences of a document, each an array of token ids.
Document = list[np.ndarray]

#: A shorter text says nothing.
SHORTEST = 2
#: What becomes of a chosen token, as in BERT: the mask token, any token, or else itself.
_TO_MASK, _TO_ANY = 0.8, 0.1


class Frame:
    """The special tokens around one text or two.

    Args:
        tokenizer: Of transformers.
        paired: Whether there are two texts.
    """

    def __init__(self, tokenizer: Any, paired: bool):
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
        made = tokenizer("a", "a") if paired else tokenizer("a")
        ids = made["input_ids"]
        types = made.get("token_type_ids") or [0] * len(ids)
        #: Numbers and types of the special tokens before each text, and behind the last.
        self.pieces: list[tuple[list[int], list[int]]] = []
        #: Type of each text.
        self.types: list[int] = []
        end = 0
        for _ in range(1 + paired):
            start = next(i for i in range(end, len(ids)) if ids[i : i + len(bare)] == bare)
            self.pieces.append((ids[end:start], types[end:start]))
            self.types.append(types[start])
            end = start + len(bare)
        self.pieces.append((ids[end:], types[end:]))
        self.makes_types = "token_type_ids" in made

    @property
    def size(self) -> int:
        """Number of special tokens."""
        return sum(len(ids) for ids, _ in self.pieces)

    def row(self, texts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Ids and types of the framed texts."""
        ids: list[Any] = []
        types: list[Any] = []
        for (special, special_types), text, kind in zip(self.pieces, texts, self.types):
            ids += [special, text]
            types += [special_types, np.full(len(text), kind)]
        ids.append(self.pieces[-1][0])
        types.append(self.pieces[-1][1])
        return np.concatenate(ids).astype(np.int32), np.concatenate(types).astype(np.uint8)


def segments(document: Document, room: int) -> Iterator[np.ndarray]:
    """The tokens of a document end to end, cut into texts of ``room`` tokens; the last is shorter.

    Example:
        >>> [text.tolist() for text in segments([np.arange(3), np.arange(3, 5)], 2)]
        [[0, 1], [2, 3], [4]]
    """
    tokens = np.concatenate(document)
    for start in range(0, len(tokens), room):
        yield tokens[start : start + room]


def pairs(
    documents: Sequence[Document], room: int, short: float, random_next: float, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of texts: the second goes on where the first ends, or is of another document.

    Sentences are collected until there are enough and cut in two at random. Where the second text comes from
    elsewhere, the sentences behind the cut are used again. The longer text loses tokens at random ends until both
    have room.

    Args:
        documents: One alone gives pairs of its own texts only.
        room: Tokens for both texts together.
        short: Share of pairs of a random shorter length.
        random_next: Share of pairs with a second text of another document; of one sentence alone, all.
        rng: Source of randomness.

    Reference:
        Devlin et al., NAACL 2019 (released code).
    """
    sizes = np.array([len(document) for document in documents], float)
    for number, document in enumerate(documents):
        start = 0
        while start < len(document):
            target = int(rng.integers(SHORTEST, room + 1)) if rng.random() < short else room
            end, length = start, 0
            while end < len(document) and length < target:
                length += len(document[end])
                end += 1
            count = end - start
            cut = start + (int(rng.integers(1, count)) if count > 1 else 1)
            first = np.concatenate(document[start:cut])
            if len(documents) == 1 and count == 1:
                start = end  # nothing to pair it with
                continue
            if len(documents) > 1 and (count == 1 or rng.random() < random_next):
                second = _from_elsewhere(documents, sizes, number, max(1, target - len(first)), rng)
                start = cut
            else:
                second = np.concatenate(document[cut:end])
                start = end
            yield _trimmed(first, second, room, rng)


def _from_elsewhere(
    documents: Sequence[Document], sizes: np.ndarray, number: int, wanted: int, rng: np.random.Generator
) -> np.ndarray:
    """Sentences of another document, from a random one on; documents in proportion to their sentences."""
    weights = sizes.copy()
    weights[number] = 0
    other = documents[int(rng.choice(len(documents), p=weights / weights.sum()))]
    start = int(rng.integers(len(other)))
    end, length = start, 0
    while end < len(other) and length < wanted:
        length += len(other[end])
        end += 1
    return np.concatenate(other[start:end])


def _trimmed(
    first: np.ndarray, second: np.ndarray, room: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Both texts, the longer of which lost as many tokens as there is no room for."""
    lengths = [len(first), len(second)]
    fronts = [0, 0]
    while sum(lengths) > room:
        longer = int(lengths[1] > lengths[0])
        fronts[longer] += int(rng.random() < 0.5)
        lengths[longer] -= 1
    a, b = (text[front : front + n] for text, front, n in zip((first, second), fronts, lengths))
    return a, b


def masked(ids: np.ndarray, text: np.ndarray, rate: float, tokenizer: Any, rng: np.random.Generator) -> None:
    """Corrupt a share of the tokens of a row, in place: by the mask token, any token, or not at all.

    Args:
        ids: Of the row.
        text: Where it is text, and no special token.
        rate: In [0, 1); 0 changes nothing.
        tokenizer: With a mask token.
        rng: Source of randomness.
    """
    places = np.flatnonzero(text)
    chosen = rng.permutation(places)[: round(len(places) * rate)]
    fate = rng.random(len(chosen))
    ids[chosen[fate < _TO_MASK]] = tokenizer.mask_token_id
    any_token = chosen[(fate >= _TO_MASK) & (fate < _TO_MASK + _TO_ANY)]
    ids[any_token] = rng.integers(len(tokenizer), size=len(any_token))
