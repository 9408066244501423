"""The tokenizer follows the weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from snn.errors import ConfigError
from snn.models import check_tokenizer, create_model, load_tokenizer

from .small import SMALL


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
