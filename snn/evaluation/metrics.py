"""Spike rates over time as a torchmetrics metric: exact under any batching, padding and number of processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from snn.neurons.recorder import LayerSpikes


class SpikeRates(Metric):
    """Spikes per neuron per time step, by layer and step; positive and negative apart.

    Args:
        layers: Names of the layers.
        steps: Number of time steps T.

    Shape:
        ``update`` takes :class:`LayerSpikes` by name; ``compute`` gives rates ``[layers, T]`` of each sign.
    """

    full_state_update = False
    positive: Tensor
    negative: Tensor
    neurons: Tensor
    samples: Tensor

    def __init__(self, layers: list[str], steps: int):
        super().__init__()
        self.layers, self.steps = layers, steps
        for name in ("positive", "negative"):
            self.add_state(name, torch.zeros(len(layers), steps, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("neurons", torch.zeros(len(layers), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, spikes: dict[str, LayerSpikes]) -> None:
        for index, name in enumerate(self.layers):
            layer = spikes[name]
            computed = layer.positive.shape[0]  # fewer than T if the run had settled: no spikes after that
            self.positive[index, :computed] += layer.positive.sum(1)
            self.negative[index, :computed] += layer.negative.sum(1)
            self.neurons[index] += layer.neurons.sum()
        self.samples += next(iter(spikes.values())).neurons.shape[0]

    def compute(self) -> tuple[Tensor, Tensor]:
        neurons = self.neurons[:, None]
        return self.positive / neurons, self.negative / neurons

    def total_rate(self) -> float:
        """Spikes of either sign per neuron per time step, over the whole network."""
        return float((self.positive + self.negative).sum() / (self.neurons.sum() * self.steps))

    def spikes_per_sample(self) -> float:
        """Spikes of either sign in the whole network for one sample, on average."""
        return float((self.positive + self.negative).sum() / self.samples)

    def by_layer(self) -> list[dict[str, object]]:
        """One plain dict per layer, in order of execution."""
        positive, negative = (x.reshape(len(self.layers), self.steps) for x in self.compute())
        rows: list[dict[str, object]] = []
        for index, name in enumerate(self.layers):
            per_step = positive[index] + negative[index]
            rows.append(
                {
                    "name": name,
                    "neurons": float(self.neurons[index] / self.samples),
                    "rate": float(per_step.mean()),
                    "positive_rate": float(positive[index].mean()),
                    "negative_rate": float(negative[index].mean()),
                    "rate_per_timestep": per_step.tolist(),
                }
            )
        return rows
