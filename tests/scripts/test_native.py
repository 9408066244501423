"""Networks that spike by themselves: trained, measured after each step, kept, measured again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import snn
from snn.errors import ConfigError, ConversionError
from snn.evaluation.jobs import convert_checkpoint, evaluate_checkpoint
from snn.tracking.files import read_json
from snn.training.losses import classification_loss, loss_over_time
from tests.scripts.composing import composed
from tests.scripts.conftest import Train

SPIKFORMER = [
    "model=spikformer",
    "model.args.embed_dim=16",
    "model.args.depth=1",
    "model.args.num_heads=2",
    "dataset=digits",
    "dataset.image_size=8",
    "debug=tiny",
    "device=cpu",
    "threads=1",
    "T=3",
]


@pytest.mark.parametrize("loss", ["mean", "tet"])
def test_a_spikformer_is_trained_and_measured_again(train: Train, tmp_path: Path, loss: str) -> None:
    folder, accuracy = train(*SPIKFORMER, f"training.time_loss={loss}")
    results = read_json(folder / "summary.json")["results"]
    assert list(results) == ["spiking"]
    assert results["spiking"]["T"] == 3
    assert results["spiking"]["per_timestep"]["accuracy"][-1] == accuracy
    assert len(results["spiking"]["per_timestep"]["accuracy"]) == 3
    assert (folder / "figures" / "accuracy_over_time.png").exists()
    assert snn.load(folder).T == 3
    again = evaluate_checkpoint(
        composed("evaluate", f"checkpoint={folder}", "device=cpu"), tmp_path / "again"
    )
    assert again == accuracy
    with pytest.raises(ConversionError, match="spikes by itself: there is nothing to convert"):
        convert_checkpoint(composed("convert", f"checkpoint={folder}", "neuron=st_bif"), tmp_path / "no")


def test_one_step_is_a_network_with_time_too(train: Train) -> None:
    folder, accuracy = train(*SPIKFORMER, "T=1")
    spiking = read_json(folder / "summary.json")["results"]["spiking"]
    assert (spiking["T"], spiking["per_timestep"]["accuracy"]) == (1, [accuracy])


@pytest.mark.parametrize(("neuron", "causal"), [("lif", True), ("para_inf", False)])
def test_what_a_read_out_before_the_end_means(train: Train, neuron: str, causal: bool) -> None:
    """A neuron that looks at the whole window does not spike as it would in a shorter one."""
    folder, _ = train(*SPIKFORMER, f"neuron={neuron}", "conversion=native")
    assert read_json(folder / "summary.json")["results"]["spiking"]["causal"] is causal


def test_a_converted_model_has_no_native_stage(train: Train, images: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"native is for networks that spike by themselves; model=resnet20"):
        train(*images, "training.stages=[native]")


def test_a_checkpoint_of_another_size_is_said(train: Train, caplog: pytest.LogCaptureFixture) -> None:
    """Training goes on with the network of the checkpoint, at the T that is asked for."""
    first, _ = train(*SPIKFORMER)
    asked = [*SPIKFORMER, f"checkpoint={first}", "T=2"]
    train(*asked)
    assert not [record for record in caplog.records if "the network is that of" in record.getMessage()]
    folder, _ = train(*asked, "model.args.embed_dim=32")
    assert f"the network is that of checkpoint={first}: model.args.embed_dim is 16, not 32" in caplog.messages
    assert snn.load(folder).spec["args"]["embed_dim"] == 16


def test_losses_over_time() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 5, 3), torch.tensor([0, 1, 2, 1, 0])
    each = torch.stack([classification_loss(step, labels) for step in logits])
    torch.testing.assert_close(loss_over_time(logits, labels, "tet"), each.mean())
    torch.testing.assert_close(
        loss_over_time(logits, labels, "mean"), classification_loss(logits.mean(0), labels)
    )


def test_spikes_and_energy_of_a_native_network_are_reported(train: Train, tmp_path: Path) -> None:
    folder, _ = train(*SPIKFORMER, "energy=spikformer")
    for place in (folder, tmp_path / "again"):
        if place != folder:
            evaluate_checkpoint(composed("evaluate", f"checkpoint={folder}", "device=cpu"), place)
        summary = read_json(place / "summary.json")
        assert 0 < summary["results"]["spiking"]["spike_rate"] < 1
        assert summary["results"]["spiking"]["spikes_per_sample"] > 0
        assert len(summary["layers"]) == 12
        assert summary["energy"]["networks"][2]["energy_uj"] > 0
        report = (place / "report.md").read_text("utf-8")
        assert "## Energy" in report
        assert "blocks.0.attention.neuron" in report
    assert read_json(folder / "energy.json")["profile"]["name"] == "spikformer"


def test_the_plan_of_a_native_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from snn.training.experiment import run

    run(composed("train", *SPIKFORMER, "plan=true"), tmp_path / "plan")
    shown = capsys.readouterr().out
    assert "spikes × counts" in shown
    assert "fully spiking: 13 of 14 matrix products" in shown
    assert "sums of spikes" in shown


@pytest.mark.parametrize(("key", "steps"), [("T", "T=3"), ("model.args.T", "model.args.T=4")])
def test_frames_are_time_steps(key: str, steps: str) -> None:
    events = ["model=spikformer", "dataset=synthetic_events", "T=5", steps]
    frames = ["dataset.events.frames=5"] if key == "T" else []
    with pytest.raises(ConfigError, match=rf"dataset.events.frames=5, but {key}=\d: .* must be equal"):
        composed("train", *events, *frames)


def test_frames_need_a_network_that_spikes_by_itself(train: Train) -> None:
    with pytest.raises(ConfigError, match=r"dataset=synthetic_events holds frames .* got model=resnet20"):
        train("model=resnet20", "dataset=synthetic_events", "debug=tiny", "device=cpu", "T=3")


def test_which_recordings_are_in_which_split(train: Train) -> None:
    small = [
        "model.args.embed_dim=16",
        "model.args.depth=1",
        "model.args.num_heads=2",
        "model.args.in_channels=2",
    ]
    folder, _ = train(
        "model=spikformer", *small, "dataset=synthetic_events", "debug=tiny", "device=cpu", "T=3"
    )
    splits = read_json(folder / "splits.json")
    assert {name: len(names) for name, names in splits.items()} == {"train": 48, "validation": 16, "test": 16}
    assert not set(splits["train"]) & set(splits["test"])
    assert "synthetic events" in read_json(folder / "summary.json")["source"]
