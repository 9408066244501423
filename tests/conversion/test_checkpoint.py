"""Checkpoints: save, load, same bits; a full disk leaves what was there."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import snn
from snn.conversion.call import call_model
from snn.conversion.convert import with_levels
from snn.conversion.quantize import quantizers
from snn.errors import CheckpointError
from snn.models import list_models

from .networks import NETWORKS, enliven, example, quantised

every_model = pytest.mark.parametrize("name", list_models(native=False))
WAYS = {
    "early": ("qcfs", "para_inf", {"T": 8}),
    "even": ("qcfs", "para_inf", {"T": 8, "order": "even", "execution": "collapsed"}),
    "integrate_fire": ("qcfs", "integrate_fire", {"T": 5, "chunk": 2}),
    "st_bif": ("lsq", "st_bif", {"T": 10, "execution": "stepwise"}),
}


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@every_model
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_float_network(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = NETWORKS[name][0]().to(dtype)
    inputs = example(name, model)
    enliven(model, inputs)
    snn.save(model, tmp_path / "checkpoint")
    again = snn.load(tmp_path / "checkpoint")
    assert not again.training
    assert torch.equal(call_model(again, inputs), call_model(model, inputs))
    assert names_in(tmp_path / "checkpoint") == {"model.safetensors", "model.yaml"}
    assert names_in(tmp_path) == {"checkpoint"}


@every_model
@pytest.mark.parametrize("quantizer", ["qcfs", "lsq"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_quantised_network(name: str, quantizer: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model, inputs = quantised(name, quantizer, dtype=dtype)
    snn.save(model, tmp_path)
    again = snn.load(tmp_path)
    assert torch.equal(call_model(again, inputs), call_model(model, inputs))
    assert {n: q.arguments() for n, q in quantizers(again).items()} == {
        n: q.arguments() for n, q in quantizers(model).items()
    }


@every_model
@pytest.mark.parametrize("way", WAYS)
def test_a_spiking_network(name: str, way: str, tmp_path: Path) -> None:
    quantizer, neuron, options = WAYS[way]
    model, inputs = quantised(name, quantizer)
    network = snn.convert(model, neuron, **options)
    network.save(tmp_path)
    again = snn.load(tmp_path)
    out, want = again(**inputs), network(**inputs)
    assert torch.equal(out.logits, want.logits)
    assert out.steps == want.steps
    assert all(torch.equal(out.spikes[n].total, s.total) for n, s in want.spikes.items())
    assert (again.T, again.coding, again.execution, again.chunk) == (
        network.T, network.coding, network.execution, network.chunk,
    )  # fmt: skip


def test_levels_that_were_changed_later_are_kept(tmp_path: Path) -> None:
    model = with_levels(quantised("resnet20")[0], 3)
    snn.save(model, tmp_path)
    assert {q.levels for q in quantizers(snn.load(tmp_path)).values()} == {3}


def test_plain_names_and_arguments_are_all_that_is_stored(tmp_path: Path) -> None:
    model, _ = quantised("bert")
    snn.save(model, tmp_path, labels=["bad", "good"], about={"parent": "somewhere"})
    described = yaml.safe_load((tmp_path / "model.yaml").read_text())
    assert described["stage"] == "quantized"
    assert described["model"] == model.spec
    assert described["labels"] == ["bad", "good"]
    assert described["about"] == {"parent": "somewhere"}
    assert len(described["quantizers"]) == len(quantizers(model))


def test_a_run_folder_is_as_good_as_its_checkpoint(tmp_path: Path) -> None:
    model, inputs = quantised("resnet20")
    snn.save(model, tmp_path / "checkpoint")
    assert torch.equal(call_model(snn.load(tmp_path), inputs), call_model(model, inputs))


def test_a_save_that_was_killed_between_its_two_renames(tmp_path: Path) -> None:
    model, inputs = quantised("resnet20")
    snn.save(model, tmp_path / "checkpoint")
    (tmp_path / "checkpoint").rename(tmp_path / ".checkpoint.old")
    for folder in (tmp_path, tmp_path / "checkpoint"):
        assert torch.equal(call_model(snn.load(folder), inputs), call_model(model, inputs))
    snn.save(model, tmp_path / "checkpoint")
    assert names_in(tmp_path) == {"checkpoint"}


def test_only_registered_models_can_be_saved(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"only a model made by snn.create_model .* can be saved: it has no \.spec"
    ):
        snn.save(nn.Linear(2, 2), tmp_path / "checkpoint")
    assert names_in(tmp_path) == set()


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [100, 20_000])
def test_a_full_disk_leaves_the_previous_checkpoint(size: int, tmp_path: Path) -> None:
    model, inputs = quantised("resnet20")
    before = call_model(model, inputs)
    snn.save(model, tmp_path / "checkpoint")
    files = {p.name: p.read_bytes() for p in (tmp_path / "checkpoint").iterdir()}
    assert min(len(b) for b in files.values()) > 100
    assert max(len(b) for b in files.values()) > 20_000
    with full_disk(size), pytest.raises(CheckpointError) as error:
        snn.save(with_levels(model, 3), tmp_path / "checkpoint")
    assert "cannot save a checkpoint to" in str(error.value)
    assert str(error.value).endswith("; the previous checkpoint is unharmed")
    assert "\n" not in str(error.value)
    assert {p.name: p.read_bytes() for p in (tmp_path / "checkpoint").iterdir()} == files
    assert names_in(tmp_path) == {"checkpoint"}
    assert torch.equal(call_model(snn.load(tmp_path), inputs), before)


def test_a_failure_between_the_two_renames_puts_the_old_one_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, inputs = quantised("resnet20")
    snn.save(model, tmp_path / "checkpoint")
    rename = Path.rename

    def fails_for_the_new_one(path: Path, target: Path) -> Path:
        if path.name.endswith(".new"):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    with pytest.raises(CheckpointError, match=r"Input/output error; the previous checkpoint is unharmed"):
        snn.save(with_levels(model, 3), tmp_path / "checkpoint")
    assert names_in(tmp_path) == {"checkpoint"}
    assert torch.equal(call_model(snn.load(tmp_path), inputs), call_model(model, inputs))


def test_a_full_disk_at_the_first_save(tmp_path: Path) -> None:
    with (
        full_disk(100),
        pytest.raises(CheckpointError, match=r"cannot save a checkpoint .*; nothing was written"),
    ):
        snn.save(quantised("resnet20")[0], tmp_path / "checkpoint")
    assert names_in(tmp_path) == set()
