"""Metrics against plain numpy, in batches of odd sizes, with padding."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from snn.evaluation.metrics import SpikeRates
from snn.evaluation.scores import Confusion
from snn.neurons.recorder import LayerSpikes


def cuts(total: int, sizes: list[int]) -> list[slice]:
    starts = np.cumsum([0, *sizes])
    assert starts[-1] == total
    return [slice(a, b) for a, b in pairwise(starts)]


def test_metrics_of_two_processes_are_added() -> None:
    """As torchmetrics reduces them: sums of every state."""
    for metric in (Confusion(2, 2), SpikeRates(["a"], 2)):
        for name in metric._defaults:
            reduce = metric._reductions[name]
            assert reduce is not None
            assert torch.equal(
                reduce(torch.stack([torch.ones(3), torch.ones(3)])),  # type: ignore[operator]
                torch.full((3,), 2.0),
            )


def spikes(
    rng: np.random.Generator, T: int, rows: int, length: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Spikes of -1, 0, 1 at ``[T, rows, length, width]``, and a mask of the positions that count."""
    mask = np.arange(length) < rng.integers(1, length + 1, rows)[:, None]
    return rng.integers(-1, 2, (T, rows, length, width)), mask


@pytest.mark.parametrize("sizes", [[11], [1, 3, 7], [5, 5, 1]])
def test_spike_rates(sizes: list[int]) -> None:
    """Padding neither fires nor counts as a neuron."""
    rng = np.random.default_rng(1)
    T, layers = 3, {"one": (6, 4), "two": (5, 2)}
    data = {name: spikes(rng, T, 11, *shape) for name, shape in layers.items()}
    metric = SpikeRates(list(layers), T)
    for part in cuts(11, sizes):
        batch = {}
        for name, (fired, mask) in data.items():
            there = torch.tensor(fired[:, part] * mask[part][None, ..., None])
            neurons = torch.tensor(mask[part].sum(1) * fired.shape[-1], dtype=torch.float64)
            positive, negative = ((there == sign).sum((2, 3)).double() for sign in (1, -1))
            fires = there.abs().sum(0) > 0, there.abs().sum(0) == T
            silent, always = neurons - fires[0].sum((1, 2)), fires[1].sum((1, 2)).double()
            by_token = there.abs().sum((0, 3)).double(), torch.tensor(mask[part]).double() * fired.shape[-1]
            none = torch.zeros(0, T, len(neurons))
            batch[name] = LayerSpikes(positive, negative, neurons, silent, always, none, *by_token)
        metric.update(batch)
    positive, negative = metric.compute()
    counted, possible = 0, 0
    for index, (name, (fired, mask)) in enumerate(data.items()):
        valid = fired[:, mask]  # [T, positions, width]
        neurons = valid[0].size
        assert positive[index].tolist() == pytest.approx(((valid == 1).sum((1, 2)) / neurons).tolist())
        assert negative[index].tolist() == pytest.approx(((valid == -1).sum((1, 2)) / neurons).tolist())
        layer = metric.by_layer()[index]
        assert layer["name"] == name
        assert layer["neurons"] == pytest.approx(neurons / 11)
        assert layer["rate"] == pytest.approx(np.abs(valid).mean())
        assert layer["rate_per_timestep"] == pytest.approx(np.abs(valid).mean((1, 2)).tolist())
        assert layer["sparsity"] == pytest.approx((valid == 0).mean())
        assert layer["silent"] == pytest.approx((valid == 0).all(0).mean())
        assert layer["always"] == pytest.approx((valid != 0).all(0).mean())
        expected = [np.abs(fired[:, mask[:, s], s]).mean() for s in range(mask.shape[1]) if mask[:, s].any()]
        assert layer["rate_per_token"] == pytest.approx(expected)
        counted, possible = counted + np.abs(valid).sum(), possible + valid.size
    assert metric.total_rate() == pytest.approx(counted / possible)
    assert metric.spikes_per_sample() == pytest.approx(counted / 11)


def layer(positive: torch.Tensor, negative: torch.Tensor, neurons: torch.Tensor) -> LayerSpikes:
    none = torch.zeros_like(neurons)
    return LayerSpikes(positive, negative, neurons, none, none, torch.zeros(0, *positive.shape))


def test_a_run_that_had_settled_has_no_spikes_after() -> None:
    metric = SpikeRates(["a"], 4)
    metric.update({"a": layer(torch.ones(2, 1), torch.zeros(2, 1), torch.tensor([2.0]))})
    metric.update({"a": layer(torch.ones(4, 1), torch.ones(4, 1), torch.tensor([2.0]))})
    positive, negative = metric.compute()
    assert positive.reshape(-1).tolist() == [0.5, 0.5, 0.25, 0.25]
    assert negative.reshape(-1).tolist() == [0.25] * 4
    assert metric.total_rate() == pytest.approx((2 + 8) / (4 * 4))


def test_one_layer_and_one_step() -> None:
    metric = SpikeRates(["a"], 1)
    metric.update({"a": layer(torch.ones(1, 2), torch.zeros(1, 2), torch.tensor([2.0, 2.0]))})
    (found,) = metric.by_layer()
    assert found["rate"] == found["positive_rate"] == 0.5
    assert found["rate_per_timestep"] == [0.5]
    assert "rate_per_token" not in found
