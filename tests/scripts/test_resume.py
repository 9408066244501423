"""A run that is killed, interrupted or out of disk goes on to the very bits of an unbroken one."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from snn.errors import CheckpointError, DataError
from snn.tracking.files import read_json, read_metrics
from snn.training.experiment import run
from snn.training.loop import Progress
from snn.training.resume import read_progress
from tests.scripts.composing import composed
from tests.scripts.processes import Script

# Epochs of 60 steps, so that a signal sent after the first 10 of one finds it in the middle.
LONG = [
    "dataset.limit_train=240",
    "training.batch_size=4",
    "training.save_every=2",
    "training.log_every=1",
    "training.float.epochs=2",
    "training.quantized.epochs=1",
    "training.quantized.distill=0.5",
    "T=3",
]
# What may differ: when it was and how fast it went.
VOLATILE = ("time", "samples_per_second")


def tensors(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    found = {str(p.relative_to(folder)): load_file(p) for p in sorted(folder.rglob("*.safetensors"))}
    assert len(found) == 4  # three stages and the checkpoint
    return found


def assert_same_bits(one: Path, other: Path) -> None:
    a, b = tensors(one), tensors(other)
    assert a.keys() == b.keys()
    for name, values in a.items():
        assert values.keys() == b[name].keys()
        for key, value in values.items():
            assert torch.equal(value, b[name][key]), f"{name}: {key}"


def log(folder: Path) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in line.items() if k not in VOLATILE}
        for line in read_metrics(folder / "metrics.jsonl")
    ]


@pytest.fixture(scope="module")
def unbroken(text: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run(composed("train", *text, *LONG), folder)
    return folder


@dataclass
class Broken:
    """What a run left at each break, and the run itself, finished in the end."""

    folder: Path
    killed: dict[str, Any]
    disk: tuple[int, list[str], bool, bool]
    interrupt: tuple[int, list[str], dict[str, Any]]
    killed_again: dict[str, Any]
    result: float


@pytest.fixture(scope="module")
def broken(text: list[str], tmp_path_factory: pytest.TempPathFactory) -> Broken:
    """SIGKILL in the float stage, a full disk, Ctrl-C in the float stage, SIGKILL in the quantised stage."""
    base = tmp_path_factory.mktemp("broken")
    folder, metrics = base / "run", base / "run" / "metrics.jsonl"
    resume = [f"resume={folder}"]

    first = Script("train", [*text, *LONG, f"hydra.run.dir={folder}"], base / "1")
    first.wait_for_line(metrics, "float/train/loss", 10)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    killed = read_progress(folder / "resume")
    assert killed is not None

    state = folder / "resume" / "state.safetensors"
    before = state.read_bytes()
    full = Script("train", resume, base / "2", file_limit=len(before) // 2)
    disk = (full.wait(), full.errors, state.read_bytes() == before, (folder / ".resume.new").exists())

    second = Script("train", resume, base / "3")
    second.wait_for_line(metrics, "float/train/loss", 70)
    os.kill(second.pid, signal.SIGINT)
    interrupt = (second.wait(), second.errors, read_json(folder / "summary.json"))

    third = Script("train", resume, base / "4")
    third.wait_for_line(metrics, "quantized/train/loss", 130)
    os.kill(third.pid, signal.SIGKILL)
    assert third.wait() == -signal.SIGKILL
    killed_again = read_progress(folder / "resume")
    assert killed_again is not None

    result = run(composed("train", *resume), folder)
    return Broken(folder, killed, disk, interrupt, killed_again, result)


def test_it_was_broken_in_the_middle_of_an_epoch(broken: Broken) -> None:
    """What the other tests rest on."""
    for found, stage in ((broken.killed, "float"), (broken.killed_again, "quantized")):
        assert found["stage"] == stage
        assert 0 < found["batch"] < 60


def test_the_same_bits_as_an_unbroken_run(broken: Broken, unbroken: Path) -> None:
    assert_same_bits(broken.folder, unbroken)


def test_the_same_log_as_an_unbroken_run(broken: Broken, unbroken: Path) -> None:
    assert log(broken.folder) == log(unbroken)


def test_the_same_figures_as_an_unbroken_run(broken: Broken, unbroken: Path) -> None:
    ours, theirs = (read_json(folder / "summary.json") for folder in (broken.folder, unbroken))
    assert ours["status"] == theirs["status"] == "finished"
    for key in ("results", "validation", "layers", "verification"):
        assert ours[key] == theirs[key], key
    assert broken.result == theirs["results"]["spiking"]["metrics"]["accuracy"]
    assert "resume" not in ours
    assert "training.save_every=2" in ours["command"]  # not that which resumed it
    assert "resume=" not in ours["command"]


def test_dropout_was_at_work(unbroken: Path) -> None:
    """Else the state of the random generator would not matter, and its test would be empty."""
    assert "hidden_dropout_prob: 0.1" in (unbroken / "checkpoint" / "model.yaml").read_text()


def test_a_full_disk_is_one_line_and_harms_nothing(broken: Broken) -> None:
    code, errors, unharmed, rest = broken.disk
    assert code == 1
    (line,) = errors
    assert line.startswith(f"error: cannot save a resumable state to {broken.folder / 'resume'}")
    assert line.endswith("the one before is unharmed")
    assert unharmed
    assert not rest


def test_an_interruption_says_how_to_go_on(broken: Broken) -> None:
    code, errors, summary = broken.interrupt
    assert code == 130
    (line,) = errors
    assert line == (
        f"error: interrupted; what was done is in {broken.folder}; "
        f"go on with: python train.py resume={broken.folder}"
    )
    assert summary["status"] == "interrupted"
    assert summary["resume"] == f"python train.py resume={broken.folder}"


def test_a_finished_run_resumed_stays_as_it_is(unbroken: Path) -> None:
    """Conversion and evaluation are done again, with the same outcome; nothing is trained."""
    before, lines, summary = tensors(unbroken), log(unbroken), read_json(unbroken / "summary.json")
    value = run(composed("train", f"resume={unbroken}"), unbroken)
    assert value == summary["results"]["spiking"]["metrics"]["accuracy"]
    for name, values in tensors(unbroken).items():
        for key, tensor in values.items():
            assert torch.equal(tensor, before[name][key]), f"{name}: {key}"
    assert log(unbroken) == lines
    again = read_json(unbroken / "summary.json")
    assert again["results"] == summary["results"]
    assert again["validation"] == summary["validation"]
    assert again["status"] == "finished"


def test_a_run_that_a_broken_picture_stopped_goes_on_without_it(images: list[str], tmp_path: Path) -> None:
    for number in range(40):
        path = tmp_path / "data" / "train" / f"{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (6 * number, 0, 0)).save(path)
    (tmp_path / "data" / "train" / "1" / "7.png").write_bytes(b"cut short")
    data = ["dataset=image_folder", f"dataset.data_dir={tmp_path}/data", "dataset.in_memory=false"]
    said = [*images, *data, "dataset.image_size=8", "training.stages=[float]"]
    with pytest.raises(DataError, match=r"7\.png; dataset\.broken=skip leaves out"):
        run(composed("train", *said), tmp_path / "run")
    run(composed("train", f"resume={tmp_path}/run", "dataset.broken=skip"), tmp_path / "run")
    assert read_json(tmp_path / "run" / "summary.json")["status"] == "finished"


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config.yaml there, so no run of train.py"):
        run(composed("train", f"resume={tmp_path}"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("T: [")
    with pytest.raises(CheckpointError, match=r"config.yaml cannot be read") as error:
        run(composed("train", f"resume={tmp_path}"), tmp_path)
    assert "\n" not in str(error.value)


def test_a_damaged_state_is_refused(unbroken: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    assert not (folder / "resume").exists()  # a finished run keeps no state
    at = {"progress": asdict(Progress("quantized", batch=1, step=1))}
    (folder / "resume").mkdir()
    (folder / "resume" / "progress.json").write_text(json.dumps(at))
    weights = (folder / "stages" / "quantized" / "model.safetensors").read_bytes()
    (folder / "resume" / "state.safetensors").write_bytes(weights[:-100])
    with pytest.raises(CheckpointError, match=r"resume: the state in .* cannot be used"):
        run(composed("train", f"resume={folder}"), folder)
    (folder / "resume" / "progress.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"resume: .*progress.json cannot be read"):
        run(composed("train", f"resume={folder}"), folder)
    assert read_json(unbroken / "summary.json")["status"] == "finished"


def test_resuming_nothing_is_one_line(tmp_path: Path) -> None:
    script = Script("train", [f"resume={tmp_path}/nowhere"], tmp_path / "out")
    assert script.wait() == 1
    (line,) = script.errors
    assert "no config.yaml there, so no run of train.py" in line
