"""The tokenizer follows the weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from snn.errors import ConfigError
from snn.models import check_tokenizer, create_model, load_tokenizer
from snn.models.tokenizer import sizes_from_tokenizer

from .small import SMALL, logits


@pytest.mark.parametrize("source", [None, "minilm"])
def test_minilm(minilm: Path, source: str | None) -> None:
    tokenizer = load_tokenizer(source)
    assert tokenizer.is_fast
    assert len(tokenizer) == 30522
    assert tokenizer("Hello world")["input_ids"] == [101, 7592, 2088, 102]


def test_a_folder_with_tokenizer_files_only(minilm: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(minilm / name, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer("Hello world")["input_ids"] == [101, 7592, 2088, 102]
    tokenizer.save_pretrained(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again")("a pair", "of texts") == tokenizer("a pair", "of texts")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.tokenizer: no tokenizer\.json in .* is empty"):
        load_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match=r"model\.tokenizer: no file or folder .*/nothing'.* is empty"):
        load_tokenizer(tmp_path / "nothing")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match=r"model\.tokenizer: cannot load"):
        load_tokenizer(tmp_path)


def test_more_tokens_than_the_model_has_rows(minilm: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.tokenizer: 30522 tokens.*vocab_size is 40"):
        check_tokenizer(load_tokenizer("minilm"), create_model("bert", **SMALL["bert"]))


@pytest.mark.parametrize(("model", "types"), [("bert", True), ("distilbert", False), ("roberta", False)])
def test_token_types_follow_the_model(minilm: Path, model: str, types: bool) -> None:
    encoded = load_tokenizer("minilm", model=model)("a pair", "of texts")
    assert ("token_type_ids" in encoded) == types
    assert encoded["input_ids"] == [101, 1037, 3940, 102, 1997, 6981, 102]


def byte_pairs(folder: Path) -> Path:
    """A tokenizer in RoBERTa's form, as its files lie on the Hub."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "c", "Ġ", "Ġa", "Ġb"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nĠ a\nĠ b\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}')
    return folder


def byte_level(folder: Path) -> Path:
    """A tokenizer that is no fast one and has no vocabulary at all."""
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer", "extra_ids": 0}')
    return folder


def without_padding(folder: Path) -> Path:
    """A tokenizer in GPT-2's form, which knows no padding and would put it before texts."""
    words = ["a", "b", "c", "Ġ", "Ġa", "Ġb", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nĠ a\nĠ b\n")
    said = {"tokenizer_class": "GPT2Tokenizer", "padding_side": "left", "unk_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize(
    ("make", "ids", "pad"),
    [
        (byte_pairs, [0, 5, 10, 2, 2, 7, 2], 1),
        (byte_level, [100, 35, 101, 1, 102, 1], 0),
        (without_padding, [0, 5, 2], 6),
    ],
)
def test_any_tokenizer_of_the_library(tmp_path: Path, make, ids: list[int], pad: int) -> None:
    from snn.data.text import tokenise

    tokenizer = load_tokenizer(make(tmp_path), model="roberta")
    split = tokenise(["a b", "a"], ["c", "c"], np.arange(2), tokenizer, 16)
    batch = split.batch(np.arange(2))
    assert batch["input_ids"][0].tolist() == ids
    assert batch["input_ids"][1, -1] == pad
    args = sizes_from_tokenizer(tokenizer, "roberta")
    assert args == {"vocab_size": len(tokenizer), "pad_token_id": pad}
    model = create_model("roberta", **{**SMALL["roberta"], "max_position_embeddings": 24, **args}).eval()
    check_tokenizer(tokenizer, model, split.lengths.max())
    # Padding has positions of its own, so that the shorter text is the same alone.
    del batch["labels"]
    alone = {key: value[1:, : split.lengths[1]] for key, value in batch.items()}
    assert torch.allclose(logits(model, alone)[0], logits(model, batch)[1], atol=1e-6)


def test_a_tokenizer_that_pads_with_another_token(minilm: Path) -> None:
    model = create_model("roberta", **{**SMALL["roberta"], "vocab_size": 30522, "pad_token_id": 1})
    with pytest.raises(ConfigError, match=r"pads with token 0, but model\.args\.pad_token_id is 1; use"):
        check_tokenizer(load_tokenizer("minilm"), model)


def test_pairs_need_two_kinds_of_text(minilm: Path) -> None:
    model = create_model("bert", **{**SMALL["bert"], "vocab_size": 30522, "type_vocab_size": 1})
    tokenizer = load_tokenizer("minilm")
    check_tokenizer(tokenizer, model)
    with pytest.raises(ConfigError, match=r"model\.args\.type_vocab_size=1, but the tokenizer"):
        check_tokenizer(tokenizer, model, pairs=True)


@pytest.mark.parametrize(
    ("name", "most"), [("bert", 12), ("distilbert", 12), ("roberta", 12), ("t5_encoder", None)]
)
def test_texts_longer_than_the_table_of_positions(minilm: Path, name: str, most: int | None) -> None:
    model = create_model(name, **{**SMALL[name], "vocab_size": 30522}).eval()
    tokenizer = load_tokenizer("minilm", model=name)
    check_tokenizer(tokenizer, model, longest=12)
    assert model(input_ids=torch.full((1, 12), 7)).logits.isfinite().all()
    if most is None:
        check_tokenizer(tokenizer, model, longest=500)
        return
    with pytest.raises(
        ConfigError, match=rf"a text of 13 tokens, but model={name} has positions for {most}; set"
    ):
        check_tokenizer(tokenizer, model, longest=13)
