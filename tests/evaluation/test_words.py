"""Words from tokens, for the three ways in which tokenizers spell them."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from snn.evaluation.words import WordJoiner

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
NAMES = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def finished(tokenizer: Tokenizer, **names: str) -> Any:
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[SEP]", "[CLS]")]
    sequence = [processors.BertProcessing(*ids)]
    if isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel):
        sequence.insert(0, processors.ByteLevel(trim_offsets=False))
    tokenizer.post_processor = processors.Sequence(sequence)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **(names or NAMES))


def wordpiece() -> Any:
    pieces = ["a", "un", "##able", "##s", "play", "##ing", ",", "ש", "##ל", "##ו", "##ם"]
    made = Tokenizer(models.WordPiece({p: i for i, p in enumerate(SPECIAL + pieces)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    return finished(made)


def byte_level() -> Any:
    made = Tokenizer(models.BPE(unk_token="[UNK]"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator(["a play", "playing a"] * 5, trainer)
    return finished(made)


def sentencepiece() -> Any:
    pieces = [*SPECIAL, "▁play", "ing", "▁a", "s", "▁", "un", "able", ",", "ש", "ל", "ו", "ם"]
    made = Tokenizer(models.Unigram([(piece, -1.0 - 0.1 * len(piece)) for piece in pieces], unk_id=1))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return finished(made)


@pytest.fixture(scope="module", params=[wordpiece, byte_level, sentencepiece], ids=lambda f: f.__name__)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.param()


def told(tokenizer: Any, text: str) -> list[str]:
    ids = tokenizer(text)["input_ids"]
    words = WordJoiner(tokenizer).words(ids)
    assert [w.start for w in words[1:]] == [w.stop for w in words[:-1]]  # every token is in one word
    assert (words[0].start, words[-1].stop) == (0, len(ids))
    assert [w.text for w in words if w.special] == ["[CLS]", "[SEP]"]
    return [w.text for w in words if not w.special]


def test_pieces_are_joined(tokenizer: Any) -> None:
    assert told(tokenizer, "playing a plays unable") == ["playing", "a", "plays", "unable"]
    assert len(tokenizer("playing a plays unable")["input_ids"]) > 2 + 4


def test_right_to_left(tokenizer: Any) -> None:
    assert told(tokenizer, "שלום a") == ["שלום", "a"]


def test_one_token_and_none(tokenizer: Any) -> None:
    assert told(tokenizer, "a") == ["a"]
    assert told(tokenizer, "") == []


def test_what_is_not_in_the_vocabulary_is_a_word(tokenizer: Any) -> None:
    words = told(tokenizer, "a 🙂 a")
    assert len(words) == 3
    assert words[0] == words[2] == "a"
    assert words[1] in ("[UNK]", "🙂")
