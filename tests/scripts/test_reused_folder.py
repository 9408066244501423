"""A run's folder that is used again: the same run goes on, another one is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from snn.errors import CheckpointError, ConfigError
from snn.tracking.files import read_json, read_metrics
from snn.training.experiment import run
from tests.scripts.composing import composed
from tests.scripts.processes import Script


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def finished(images: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run(composed("train", *images, "T=2"), folder)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_another_config_is_refused_and_harms_nothing(folder: Path, images: list[str]) -> None:
    before = contents(folder)
    asked = composed("train", *images, "T=3", "optimizer.lr=0.5")
    with pytest.raises(ConfigError) as error:
        run(asked, folder)
    assert str(error.value) == (
        f"{folder} holds the networks of a run with another config: T was 2, not 3, quantization.levels was 2, not 3, "
        f"optimizer.lr was 0.01, not 0.5 and 1 more; name another folder (hydra.run.dir), or go on with that run: "
        f"python train.py resume={folder}"
    )
    assert contents(folder) == before


def test_many_differences_are_counted(folder: Path, images: list[str]) -> None:
    with pytest.raises(
        ConfigError, match=r"T was 2, not 3, seed was 0, not 1, .* and 2 more; name another folder"
    ):
        run(composed("train", *images, "T=3", "seed=1", "optimizer.lr=0.5"), folder)


def test_a_state_alone_is_of_another_run_too(folder: Path, images: list[str]) -> None:
    (folder / "stages" / "float").rename(folder / "resume")
    shutil.rmtree(folder / "stages")
    with pytest.raises(ConfigError, match=r"seed was 0, not 1"):
        run(composed("train", *images, "T=2", "seed=1"), folder)


def test_the_same_run_goes_on_after_the_stages_that_it_had_finished(folder: Path, images: list[str]) -> None:
    for lost in ("stages/quantized", "checkpoint"):
        shutil.rmtree(folder / lost)
    summary = read_json(folder / "summary.json")
    kept = (folder / "stages" / "float" / "model.safetensors").stat()
    lines = read_metrics(folder / "metrics.jsonl")
    run(composed("train", *images, "T=2"), folder)
    assert (folder / "stages" / "float" / "model.safetensors").stat().st_mtime_ns == kept.st_mtime_ns
    new = read_metrics(folder / "metrics.jsonl")[len(lines) :]
    assert any("quantized/train/loss" in line for line in new)
    assert not any("float/train/loss" in line for line in new)
    assert read_json(folder / "summary.json")["results"] == summary["results"]


def test_logs_alone_are_in_nobodys_way(folder: Path, images: list[str]) -> None:
    for networks in ("stages", "checkpoint"):
        shutil.rmtree(folder / networks)
    run(composed("train", *images, "T=1"), folder)
    assert read_json(folder / "summary.json")["results"]["spiking"]["T"] == 1


def test_networks_without_a_config_are_refused(folder: Path, images: list[str]) -> None:
    (folder / "config.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"networks of a run, but no config.yaml; name another folder"):
        run(composed("train", *images, "T=2"), folder)


def test_the_script_says_so_in_one_line(folder: Path, images: list[str], tmp_path: Path) -> None:
    script = Script("train", [*images, "T=4", f"hydra.run.dir={folder}"], tmp_path / "out")
    assert script.wait() == 1
    (line,) = script.errors
    assert line.startswith(f"error: {folder} holds the networks of a run with another config: T was 2, not 4")
