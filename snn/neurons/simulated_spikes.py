"""Counting the spikes of a network that simulates its neurons itself; padding is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from snn.neurons.native import present_step
from snn.neurons.recorder import LayerSpikes
from snn.neurons.simulated import present_samples


@dataclass
class _Layer:
    """What has been counted of a layer so far.

    Args:
        total: Spikes of real neurons at each step, ``[T, B]``.
        fired: Spikes of each neuron over all steps, ``[B, S, n]``.
        steps: Steps that each sample has been through, ``[B]``.
    """

    total: Tensor
    fired: Tensor
    steps: Tensor


class SimulatedSpikes:
    """Counts in one forward; hand :meth:`around` to :func:`snn.neurons.native.intercepted`.

    Args:
        T: Number of time steps.
        samples: Of the batch.
        mask: Which tokens are real, ``[B, S]``, where inputs are texts; then all layers have neurons at each token.
    """

    def __init__(self, T: int, samples: int, mask: Tensor | None = None):
        self.T, self.samples, self.mask = T, samples, mask
        self._layers: dict[str, _Layer] = {}

    def around(self, name: str, current: Tensor, fire: Callable[[], Tensor]) -> Tensor:
        """Run a layer for one step, and count; the host does not wait for it."""
        spikes, step, samples = fire(), present_step(), present_samples()
        assert step is not None
        at_token = spikes.reshape(len(spikes), 1 if self.mask is None else self.mask.shape[1], -1)
        if name not in self._layers:
            self._layers[name] = self._nothing(at_token)
        layer = self._layers[name]
        # Half precision cannot count.
        by_token = at_token.sum(2, dtype=torch.promote_types(spikes.dtype, torch.float32)).double()
        if self.mask is not None:
            by_token *= self.mask[samples]
        layer.total[step, samples] = by_token.sum(1)
        layer.fired[samples] += at_token
        layer.steps[samples] += 1
        return spikes

    def _nothing(self, spikes: Tensor) -> _Layer:
        zeros = spikes.new_zeros(self.samples, dtype=torch.float64)
        fired = spikes.new_zeros(self.samples, *spikes.shape[1:], dtype=torch.float32)
        return _Layer(zeros.expand(self.T, -1).clone(), fired, zeros)

    @property
    def steps(self) -> Tensor:
        """Steps that each sample ran, ``[B]``."""
        return next(iter(self._layers.values())).steps

    def layers(self) -> dict[str, LayerSpikes]:
        """Spikes of the whole forward by layer name; ``always`` is at each of the steps that the sample ran."""
        result = {}
        for name, layer in self._layers.items():
            places, width = layer.fired.shape[1:]
            real = layer.total.new_ones(self.samples, places) if self.mask is None else self.mask.double()

            def counted(by_token: Tensor, real: Tensor = real) -> Tensor:
                return (by_token.double() * real).sum(1)

            none = torch.zeros_like(layer.total)
            result[name] = LayerSpikes(
                layer.total,
                none,
                real.sum(1) * width,
                counted((layer.fired == 0).sum(2)),
                counted((layer.fired >= layer.steps[:, None, None]).sum(2)),
                none.new_zeros(0, self.T, self.samples),
                None if self.mask is None else layer.fired.sum(2).double() * real,
                None if self.mask is None else real * width,
            )
        return result
