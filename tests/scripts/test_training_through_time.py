"""``training.spiking``: the converted network is trained on, measured before and after, and kept."""

from __future__ import annotations

from pathlib import Path

import torch

import snn
from snn.tracking.files import read_json
from tests.scripts.conftest import LONGER, Train


def test_the_spiking_network_is_trained_after_conversion(train: Train, images: list[str]) -> None:
    folder, accuracy = train(
        *images,
        *LONGER,
        "T=4",
        "neuron=integrate_fire",
        "training.spiking.epochs=2",
        "training.spiking.lr=5e-3",
    )
    results = read_json(folder / "summary.json")["results"]
    assert list(results) == ["float", "calibrated", "quantized", "converted", "spiking"]
    assert results["spiking"]["metrics"]["accuracy"] == accuracy
    assert "agreement" not in results["spiking"]  # its quantised twin has not been trained with it
    assert results["spiking"]["metrics"]["loss"] < results["converted"]["metrics"]["loss"]
    assert "before training through time" in (folder / "report.md").read_text()

    trained, twin = snn.load(folder), snn.load(folder / "stages" / "quantized")
    before = snn.convert(twin, neuron="integrate_fire", T=4)
    assert trained.neurons.keys() == before.neurons.keys()
    moved = [
        not torch.equal(n.threshold, before.neurons[name].threshold) for name, n in trained.neurons.items()
    ]
    assert all(moved)


def test_lsq_starts_itself_in_training_as_published(train: Train, images: list[str]) -> None:
    """Without a pass over data before: the first batches of quantised training set the steps."""
    folder, _ = train(
        *images,
        "T=40",
        "neuron=st_bif",
        "quantization.init=ema20",
        "training.stages=[float,quantized,convert,evaluate]",
    )
    assert Path(folder / "stages" / "quantized" / "model.yaml").exists()
    summary = read_json(folder / "summary.json")
    assert list(summary["results"]) == ["float", "quantized", "spiking"]
    assert summary["verification"]["passed"]
