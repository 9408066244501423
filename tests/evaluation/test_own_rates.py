"""Rates that a network tells itself: exact under any batching, without padding."""

from __future__ import annotations

import pytest
import torch

from snn.evaluation.evaluate import evaluate
from snn.models import create_model
from tests.models.small import SMALL, batch


def test_rates_are_those_of_the_samples_alone() -> None:
    torch.manual_seed(0)
    model = create_model("spikingbert", num_classes=2, **{**SMALL["spikingbert"], "T": 4}).eval()
    inputs = {**batch(model, rows=5), "labels": torch.tensor([0, 1, 0, 1, 0])}
    spikes: dict[str, float] = {}
    lengths = inputs["attention_mask"].sum(1)
    for row, length in enumerate(lengths.tolist()):
        with torch.no_grad():
            model(**{k: v[row : row + 1, :length] for k, v in inputs.items() if k != "labels"})
        for name, rate in model.last.rates.items():  # type: ignore[union-attr]
            spikes[name] = spikes.get(name, 0.0) + float(rate) * length
    parts = [{k: v[a:b] for k, v in inputs.items()} for a, b in ((0, 2), (2, 5))]
    for batches in ([inputs], parts):
        found = evaluate(model, batches)
        assert [layer["name"] for layer in found.layers] == list(spikes)
        for layer in found.layers:
            expected = spikes[layer["name"]] / int(lengths.sum())
            assert layer["rate"] == pytest.approx(expected, rel=1e-5)
        total = sum(layer["rate"] * layer["neurons"] for layer in found.layers)
        assert found.spikes_per_sample == pytest.approx(total * 4, rel=1e-5)
        neurons = sum(layer["neurons"] for layer in found.layers)
        assert found.spike_rate == pytest.approx(total / neurons, rel=1e-5)
    assert evaluate(model, [inputs], record=False).layers == []
