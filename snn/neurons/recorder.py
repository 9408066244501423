"""Counting spikes while a network runs: per layer, per time step, per sample; padding is left out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snn.functional.fire import place_spikes
from snn.functional.padding import current_mask
from snn.neurons.base import Neuron
from snn.neurons.run import Event, Run


@dataclass
class LayerSpikes:
    """Spikes of one layer in one forward.

    Args:
        positive: Spikes of value +1 at each step, ``[T, B]``.
        negative: Spikes of value -1 at each step, ``[T, B]``.
        neurons: Neurons that could have fired, ``[B]``; padding does not count.
    """

    positive: Tensor
    negative: Tensor
    neurons: Tensor

    @property
    def total(self) -> Tensor:
        """Spikes of either sign, ``[T, B]``."""
        return self.positive + self.negative


class SpikeRecorder:
    """Observer of a run that counts every layer's spikes.

    Nothing is recorded for a causal neuron in a collapsed run: its final count does not tell how many spikes
    came and were taken back.
    """

    def __init__(self, names: dict[nn.Module, str]):
        self._names = names
        self._parts: dict[str, list[LayerSpikes]] = {}

    def __call__(self, run: Run, event: Event) -> None:
        neuron = event.neuron
        assert isinstance(neuron, Neuron)
        if run.collapsed and neuron.causal:
            return
        sample = event.counts[-1]
        mask = current_mask(sample, neuron.over_keys)
        if neuron.causal:
            positive, negative = _differences(event, mask)
        else:
            positive, negative = _from_final_counts(neuron, sample, mask, run.T)
        per_row = sample[0].numel()
        if mask is None:
            neurons = torch.full((sample.shape[0],), per_row, dtype=torch.float64, device=sample.device)
        else:
            share = per_row // mask[0].numel()
            neurons = mask.flatten(1).sum(1, dtype=torch.float64) * share
        name = self._names[neuron] + (f"#{event.call}" if event.call else "")
        self._parts.setdefault(name, []).append(LayerSpikes(positive, negative, neurons))

    def layers(self) -> dict[str, LayerSpikes]:
        """Spikes of the whole run by layer name; further calls of one module are called ``name#1`` and so on."""
        return {
            name: LayerSpikes(
                torch.cat([p.positive for p in parts]),
                torch.cat([p.negative for p in parts]),
                parts[0].neurons,
            )
            for name, parts in self._parts.items()
        }


def _differences(event: Event, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    positive, negative, previous = [], [], event.previous
    for counts in event.counts:
        spikes = counts - previous
        if mask is not None:
            spikes = spikes * mask
        up = spikes.clamp_min(0).flatten(1).sum(1, dtype=torch.float64)
        positive.append(up)
        negative.append(up - spikes.flatten(1).sum(1, dtype=torch.float64))
        previous = counts
    return torch.stack(positive), torch.stack(negative)


def _from_final_counts(neuron: Neuron, count: Tensor, mask: Tensor | None, T: int) -> tuple[Tensor, Tensor]:
    """The final count decides every spike, so a histogram of the counts of each sample tells all."""
    bins = 2 * T + 1
    index = count.to(torch.int64).flatten(1) + T
    if mask is not None:
        index = torch.where(mask.expand_as(count).flatten(1), index, T)
    index = index + bins * torch.arange(index.shape[0], device=index.device)[:, None]
    histogram = torch.bincount(index.flatten(), minlength=bins * index.shape[0]).reshape(-1, bins).double()
    codes = torch.arange(-T, T + 1, dtype=torch.float64, device=count.device)
    spikes = place_spikes(codes, range(T + 1), T, neuron.order).diff(dim=0)  # type: ignore[arg-type]
    return spikes.clamp_min(0) @ histogram.T, (-spikes).clamp_min(0) @ histogram.T
