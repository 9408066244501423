"""Spike rates over time as a torchmetrics metric: exact under any batching, padding and number of processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from snn.neurons.recorder import LayerSpikes


class SpikeRates(Metric):
    """Spikes per neuron per time step, by layer and step; positive and negative apart; and by token position.

    Args:
        layers: Names of the layers.
        steps: Number of time steps T.
        positions: Token positions that are kept; those behind are counted in all but the rates by token.

    Shape:
        ``update`` takes :class:`LayerSpikes` by name; ``compute`` gives rates ``[layers, T]`` of each sign.
    """

    full_state_update = False
    positive: Tensor
    negative: Tensor
    neurons: Tensor
    silent: Tensor
    always: Tensor
    tokens: Tensor
    token_neurons: Tensor
    samples: Tensor

    def __init__(self, layers: list[str], steps: int, positions: int = 512):
        super().__init__()
        self.layers, self.steps = layers, steps
        shapes = {
            **dict.fromkeys(("positive", "negative"), (len(layers), steps)),
            **dict.fromkeys(("neurons", "silent", "always"), (len(layers),)),
            **dict.fromkeys(("tokens", "token_neurons"), (len(layers), positions)),
            "samples": (),
        }
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, spikes: dict[str, LayerSpikes]) -> None:
        for index, name in enumerate(self.layers):
            layer = spikes[name]
            computed = layer.positive.shape[0]  # fewer than T if the run had settled: no spikes after that
            self.positive[index, :computed] += layer.positive.sum(1)
            self.negative[index, :computed] += layer.negative.sum(1)
            for state in ("neurons", "silent", "always"):
                getattr(self, state)[index] += getattr(layer, state).sum()
            if layer.tokens is not None and layer.token_neurons is not None:
                kept = min(layer.tokens.shape[1], self.tokens.shape[1])
                self.tokens[index, :kept] += layer.tokens[:, :kept].sum(0)
                self.token_neurons[index, :kept] += layer.token_neurons[:, :kept].sum(0)
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
        """One plain dict per layer, in order of execution.

        ``sparsity`` is the share of neurons that do not fire, over neurons and steps; ``silent`` and ``always``
        are shares of a sample's neurons that fire at none, or at each, of the T steps.
        """
        positive, negative = (x.reshape(len(self.layers), self.steps) for x in self.compute())
        rows: list[dict[str, object]] = []
        for index, name in enumerate(self.layers):
            per_step = positive[index] + negative[index]
            row: dict[str, object] = {
                "name": name,
                "neurons": float(self.neurons[index] / self.samples),
                "rate": float(per_step.mean()),
                "positive_rate": float(positive[index].mean()),
                "negative_rate": float(negative[index].mean()),
                "sparsity": 1 - float(per_step.mean()),
                "silent": float(self.silent[index] / self.neurons[index]),
                "always": float(self.always[index] / self.neurons[index]),
                "rate_per_timestep": per_step.tolist(),
            }
            there = int((self.token_neurons[index] > 0).sum())
            if there:
                by_token = self.tokens[index, :there] / self.token_neurons[index, :there] / self.steps
                row["rate_per_token"] = by_token.tolist()
            rows.append(row)
        return rows
