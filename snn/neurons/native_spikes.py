"""Counting the spikes of a network that spikes by itself: per layer, per time step, per sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from snn.neurons.native import present_step
from snn.neurons.recorder import LayerSpikes


@dataclass
class _Layer:
    """What has been counted of a layer so far.

    Args:
        total: Spikes of each step, ``[T, B]``.
        fired: Spikes of each neuron over all steps, ``[B, n]``.
        steps: Steps that its neurons have been through.
    """

    total: Tensor
    fired: Tensor
    steps: int


class NativeSpikes:
    """Counts in one forward; hand :meth:`around` to :func:`snn.neurons.native.intercepted`.

    Args:
        T: Number of time steps.
        samples: Of the batch.
    """

    def __init__(self, T: int, samples: int):
        self.T, self.samples = T, samples
        self._layers: dict[str, _Layer] = {}

    def around(self, name: str, current: Tensor, fire: Callable[[], Tensor]) -> Tensor:
        """Run a neuron and count; a neuron that is called again, for another step or another use, adds up."""
        spikes, step = fire(), present_step()
        steps = self.T if step is None else 1
        # Whatever the neuron takes for time, steps are outermost and samples come next.
        rows = spikes.reshape(steps, self.samples, -1)
        totals, fired = rows.sum(-1).double(), rows.sum(0)
        layer = self._layers.get(name)
        if layer is None:
            layer = self._layers[name] = _Layer(totals.new_zeros(self.T, self.samples), fired, 0)
        else:
            layer.fired = layer.fired + fired
        if step is None:
            layer.total += totals
        else:
            layer.total[step] += totals[0]
        layer.steps += steps
        return spikes

    def layers(self) -> dict[str, LayerSpikes]:
        """Spikes of the whole forward by layer name; none is negative."""
        result = {}
        for name, layer in self._layers.items():
            neurons = torch.full_like(layer.total[0], layer.fired.shape[1])
            silent = (layer.fired == 0).sum(1).double()
            always = (layer.fired >= layer.steps).sum(1).double()
            none = torch.zeros_like(layer.total)
            result[name] = LayerSpikes(
                layer.total, none, neurons, silent, always, none.new_zeros(0, self.T, self.samples)
            )
        return result
