"""Training a spiking network itself, through time."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from snn.conversion.network import SpikingNetwork


class ThroughTime(nn.Module):
    """A copy of a spiking network with weights and thresholds to train; its output is the read-out at T.

    The forward pass is the spiking network's own, to the last bit; the gradient runs back through all steps, by the
    law of each neuron. It stays in evaluation mode: statistics of batch norm are frozen, and there is no dropout.

    Args:
        network: The network to start from; it is not changed.

    Shape:
        Model inputs ``[B, ...]`` to ``[B, C]``.
    """

    def __init__(self, network: SpikingNetwork):
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(True)
        for neuron in self.network.neurons.values():
            threshold = neuron.threshold
            del neuron.threshold
            neuron.register_parameter("threshold", nn.Parameter(threshold))
        #: Where the count at T follows from the charge at T alone, that step is all there is to compute.
        self.execution = "parallel" if network.causal else "collapsed"

    def forward(self, **inputs: Tensor) -> Tensor:
        self._keep_positive()
        whole = self.network.T  # the gradient goes through all steps, so they are one chunk
        return self.network(execution=self.execution, chunk=whole, record=False, **inputs).logits[-1]

    def train(self, mode: bool = True) -> ThroughTime:
        return super().train(False)

    def trained(self) -> SpikingNetwork:
        """The network as it is now, its thresholds constants again."""
        self._keep_positive()
        network = copy.deepcopy(self.network)
        for neuron in network.neurons.values():
            threshold = neuron.threshold.detach()
            del neuron.threshold
            neuron.register_buffer("threshold", threshold)
        return network.requires_grad_(False)

    @torch.no_grad()
    def _keep_positive(self) -> None:
        """Thresholds count by their magnitude, so that an optimiser cannot make one negative."""
        for neuron in self.network.neurons.values():
            neuron.threshold.abs_().clamp_min_(1e-8)
