"""Words from tokens: pieces of a word are joined as the tokenizer spells them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Word(NamedTuple):
    """A word of a text.

    Args:
        text: As a reader writes it.
        start: Place of its first token.
        stop: Place after its last token.
        special: Whether it is one of the tokenizer's own, such as ``[CLS]``.
    """

    text: str
    start: int
    stop: int
    special: bool


class WordJoiner:
    """Joins the tokens of any tokenizer to words.

    How a tokenizer marks the start of a word is found by trying: ``Ġ`` (byte-level BPE) and ``▁`` (SentencePiece) stand
    before words, ``##`` (WordPiece) before pieces that go on. What is not in the vocabulary is a word, not special.

    Args:
        tokenizer: A tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        second = (tokenizer.tokenize("a a") or [""])[-1]
        self._mark = next((mark for mark in ("Ġ", "▁") if second.startswith(mark)), None)

    def words(self, ids: Sequence[int]) -> list[Word]:
        """The words of one text.

        Args:
            ids: Its tokens, without padding.
        """
        tokens = self.tokenizer.convert_ids_to_tokens(list(ids))
        starts = [i for i in range(len(ids)) if self._starts(i, ids, tokens)]
        return [
            Word(self._text(tokens[start:stop], special), start, stop, special)
            for start, stop in zip(starts, [*starts[1:], len(ids)])
            for special in [ids[start] in self.special]
        ]

    def _starts(self, index: int, ids: Sequence[int], tokens: Sequence[str]) -> bool:
        if index == 0 or ids[index] in self.special or ids[index - 1] in self.special:
            return True
        if self._mark is None:
            return not tokens[index].startswith("##")
        # A mark may stand alone, before a word that is not in the vocabulary.
        unknown = tokens[index] == self.tokenizer.unk_token and tokens[index - 1] != self._mark
        return unknown or tokens[index].startswith(self._mark)

    def _text(self, pieces: Sequence[str], special: bool) -> str:
        if special:
            return "".join(pieces)
        # Byte-level pieces may be parts of one character, so they are spelled together.
        return self.tokenizer.convert_tokens_to_string(list(pieces)).strip() or "".join(pieces)
