"""Texts before and after the tokenizer: cleaning, truncation, odd characters, and the cache of tokens."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from snn.data import DatasetConfig, load_dataset
from snn.data import tokens as module
from snn.data.cleaning import cleaned
from snn.data.text import tokenise
from snn.data.tokens import encode_texts


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        ({}, " A <br /> &amp;\n", " A <br /> &amp;\n"),
        ({"strip_html": True}, "a<br /><i class='x'>b</i>", "a  b "),
        ({"strip_html": True}, "a < b and c > d, <3", "a < b and c > d, <3"),
        ({"strip_html": True}, "<!-- a\n<b> -->c &lt;b&gt; &eacute;", " c <b> é"),
        ({"strip_spaces": True}, "\t a\u00a0\u3000b\r\nc ", "a b c"),
        ({"strip_spaces": True, "strip_html": True}, "<p></p>", ""),
        ({"lower": True}, "ÄÖ Σ שלום 🎉", "äö σ שלום 🎉"),
    ],
)
def test_cleaning(settings, text, expected) -> None:
    assert cleaned([text], DatasetConfig(**settings)) == [expected]


def test_settings_reach_the_tokens(tmp_path: Path, tokenizer) -> None:
    body = "text\tlabel\n" + "GOOD<br />film  the bad one\t0\n" * 4
    (tmp_path / "train.tsv").write_text(body)

    def first(**settings) -> str:
        config = DatasetConfig(name="mine", data_dir=str(tmp_path / "train.tsv"), **settings)
        split = load_dataset(config, seed=0, tokenizer=tokenizer).splits["train"]
        return tokenizer.decode(split.ids[: split.offsets[1]])

    assert first(lower=True, strip_html=True) == "[CLS] good film the bad one [SEP]"
    assert first(lower=True, strip_html=True, max_length=5) == "[CLS] good film the [SEP]"
    assert first(max_length=5, truncation_side="left") == "[CLS] the bad one [SEP]"
    assert tokenizer.truncation_side == "right"


def test_of_a_pair_the_longer_text_is_cut(tokenizer) -> None:
    one, two = ["one two three a b c"], ["good film"]
    for side, expected in (("right", "one two three"), ("left", "a b c")):
        found = encode_texts(one, two, tokenizer, 8, side)
        assert tokenizer.decode(found.ids) == f"[CLS] {expected} [SEP] good film [SEP]"
        assert found.types.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


ODD = ["", " ", "a", "🎉", "👩‍👩‍👧", "שלום עולם", "\u202eabc\u202c", "\x00", "e\u0301", "a" * 5000, "�"]


def test_odd_texts_are_rows_like_any_other(tokenizer, cache_dir) -> None:
    from transformers import AutoTokenizer

    from snn.data import minilm_folder

    for chosen in (tokenizer, AutoTokenizer.from_pretrained(minilm_folder(cache_dir))):
        split = tokenise(ODD, None, np.arange(len(ODD)), chosen, 16)
        assert len(split) == len(ODD)
        assert split.lengths.min() >= 2
        assert split.lengths.max() <= 16
        batch = split.batch(np.arange(len(ODD)))
        assert batch["labels"].tolist() == list(range(len(ODD)))
        for row, text in enumerate(ODD):
            alone = tokenise([text], None, np.array([row]), chosen, 16).batch(np.array([0]))
            length = alone["input_ids"].shape[1]
            assert alone["input_ids"][0].tolist() == batch["input_ids"][row, :length].tolist()


@pytest.fixture
def many(monkeypatch) -> list[str]:
    monkeypatch.setattr(module, "_WORTH_KEEPING", 4)
    return ["a b", "good film 🎉", "", "one two three"]


def equal(one, two) -> bool:
    pairs = ((one.ids, two.ids), (one.types, two.types), (one.offsets, two.offsets))
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def test_tokens_are_kept_and_read_again(tmp_path: Path, tokenizer, many) -> None:
    plain = encode_texts(many, None, tokenizer, 8, "right")
    folder = tmp_path / "tokens"
    assert equal(encode_texts(many, None, tokenizer, 8, "right", folder), plain)
    (path,) = folder.iterdir()
    before = path.stat().st_mtime_ns
    # How the last call cut is no part of what a tokenizer is.
    tokenizer(["a"], truncation=True, max_length=3, padding="max_length")
    assert equal(encode_texts(many, None, tokenizer, 8, "right", folder), plain)
    assert [p.stat().st_mtime_ns for p in folder.iterdir()] == [before]


def test_whatever_ids_depend_on_is_in_the_name(tmp_path: Path, tokenizer, many, monkeypatch) -> None:
    def files() -> int:
        return len(list(tmp_path.iterdir()))

    encode_texts(many, None, tokenizer, 8, "right", tmp_path)
    encode_texts(many, None, tokenizer, 7, "right", tmp_path)
    encode_texts(many, None, tokenizer, 8, "left", tmp_path)
    encode_texts(many, many, tokenizer, 8, "right", tmp_path)
    encode_texts(["a", "b" + many[1], *many[2:]], None, tokenizer, 8, "right", tmp_path)
    assert files() == 5
    monkeypatch.setattr(tokenizer, "model_input_names", ["input_ids", "attention_mask"])
    assert encode_texts(many, None, tokenizer, 8, "right", tmp_path).types is None
    assert files() == 6
    encode_texts(many[:3], None, tokenizer, 8, "right", tmp_path)
    assert files() == 6


def test_a_damaged_or_read_only_cache_costs_time_only(tmp_path: Path, tokenizer, many, caplog) -> None:
    folder = tmp_path / "tokens"
    plain = encode_texts(many, None, tokenizer, 8, "right", folder)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:50])
    with caplog.at_level(logging.WARNING, "snn"):
        assert equal(encode_texts(many, None, tokenizer, 8, "right", folder), plain)
        assert "is damaged: the texts are tokenised anew" in caplog.text
        assert equal(encode_texts(many, None, tokenizer, 8, "right", folder), plain)
        assert len(caplog.messages) == 1
        (tmp_path / "file").write_text("in the way")
        assert equal(encode_texts(many, None, tokenizer, 8, "right", tmp_path / "file"), plain)
        assert "tokens cannot be kept in" in caplog.messages[-1]
