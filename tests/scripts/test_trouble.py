"""A loss that is not a number, a full disk while a checkpoint is saved."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from snn.conversion.checkpoint import load_checkpoint, save_checkpoint
from snn.errors import CheckpointError, ConfigError, TrainingError
from snn.models.registry import create_model
from snn.tracking.files import read_json, read_metrics
from snn.training.experiment import run
from snn.training.resume import read_progress, save_state
from tests.scripts.composing import composed
from tests.scripts.processes import Script


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_loss_that_is_not_a_number(images: list[str], tmp_path: Path) -> None:
    """Training stops, says the step, and what is kept can be used."""
    overrides = [*images, "optimizer.lr=1e20", "training.save_every=1", "training.clip_norm=null"]
    overrides += ["scheduler=constant", "training.float.epochs=3"]
    with pytest.raises(TrainingError, match=r"float: .* at step \d+ \(epoch \d\)") as error:
        run(composed("train", *overrides), tmp_path)
    message = str(error.value)
    assert "\n" not in message
    assert "A lower optimizer.lr or training.clip_norm may help" in message
    kept = read_progress(tmp_path / "resume")
    assert kept is not None
    assert f"the state of step {kept['step']} " in message
    for name, tensor in load_file(tmp_path / "resume" / "state.safetensors").items():
        assert not tensor.is_floating_point() or tensor.isfinite().all(), name
    summary = read_json(tmp_path / "summary.json")
    assert summary["status"] == "failed"
    assert "TrainingError" in summary["error"]


def test_a_loss_that_is_not_a_number_keeps_the_best_network(images: list[str], tmp_path: Path) -> None:
    """It goes wrong in the quantised stage: the float network is there."""
    overrides = [*images, "training.quantized.lr=1e30", "training.quantized.epochs=3", "scheduler=constant"]
    script = Script("train", [*overrides, f"hydra.run.dir={tmp_path}/run"], tmp_path / "out")
    assert script.wait() == 1
    (line,) = script.errors
    assert line.startswith("error: quantized: ")
    assert read_json(tmp_path / "run" / "summary.json")["status"] == "failed"
    for stage in ("float", "calibrated"):
        model = load_checkpoint(tmp_path / "run" / "stages" / stage)
        assert all(p.isfinite().all() for p in model.parameters())


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    model = create_model("resnet20", num_classes=3, widths=[4, 4, 4], blocks=[1, 1, 1])
    folder = save_checkpoint(model, tmp_path / "checkpoint")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with torch.no_grad():
        next(iter(model.parameters())).add_(1)
    with disk_of(2000), pytest.raises(CheckpointError, match="the previous checkpoint is unharmed") as error:
        save_checkpoint(model, folder)
    assert "\n" not in str(error.value)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]


def test_a_full_disk_leaves_the_previous_state(tmp_path: Path) -> None:
    model = torch.nn.Linear(40, 40)
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    folder = tmp_path / "resume"
    save_state(folder, model, optimizer, scheduler, {"stage": "float", "step": 1})
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with disk_of(2000), pytest.raises(CheckpointError, match="the one before is unharmed") as error:
        save_state(folder, model, optimizer, scheduler, {"stage": "float", "step": 2})
    assert "\n" not in str(error.value)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]


def test_weights_that_are_not_there_are_called_weights(text: list[str], tmp_path: Path) -> None:
    """Although it is their tokenizer that is looked for first."""
    overrides = [o for o in text if not o.startswith("model.tokenizer")]
    with pytest.raises(ConfigError, match=r"^model\.weights: no file or folder './nowhere'"):
        run(composed("train", *overrides, "model.weights=./nowhere"), tmp_path)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["training.stages=[quantized]"], "quantized needs calibrate before it"),
        (["training.stages=[float,quantized]"], "quantized needs calibrate before it"),
        (["training.stages=[float,convert]"], "convert needs a quantised network: put calibrate before it"),
        (["training.stages=[float,native]"], "native is for networks that spike by themselves"),
        (["training.stages=[float]", "training.float.distill=0.5"], "training.float.distill needs a teacher"),
        (["training.quantized.distill=1", "distillation.teacher=./gone"], "no run or checkpoint in './gone'"),
        (["quantization.coverage=ful"], "no places called 'ful'; did you mean 'full'"),
        (["quantization.granularity=chanel"], "quantization.granularity must be one of channel, tensor"),
        (["quantization.threshold=-1"], "quantization.threshold must be positive; got -1"),
        (["neuron=st_bif", "quantization.levels=1"], "quantization.levels=1 leaves no positive code"),
        (
            ["evaluation.split=tset"],
            "evaluation.split: dataset=digits has no split 'tset'; did you mean 'test'",
        ),
        (["model.num_classes=3"], "model.num_classes=3, but dataset=digits has 10 classes"),
        (["quantization.rules=[{match:nothing,do:replace}]"], "quantization.rules"),
        (["dataset=synthetic_text"], "model=resnet20 takes image, but dataset=synthetic_text is text"),
        (["optimizer._target_=os.system"], "optimizer._target_: 'os.system' is not allowed"),
    ],
)
def test_combinations_that_cannot_work(
    images: list[str], tmp_path: Path, overrides: list[str], expected: str
) -> None:
    from snn.errors import SNNError

    with pytest.raises(SNNError, match=expected) as error:
        run(composed("train", *images, *overrides), tmp_path)
    assert "\n" not in str(error.value)
    assert read_json(tmp_path / "summary.json")["status"] == "failed"
    assert not (tmp_path / "stages").exists()
    assert read_metrics(tmp_path / "metrics.jsonl") == []
