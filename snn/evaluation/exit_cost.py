"""What a spiking network costs when each sample stops at a step of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from snn.conversion.network import SpikingNetwork, SpikingOutput
from snn.evaluation.spiking_meter import SpikingMeter


class ExitCost(SpikingMeter):
    """Spikes and operations of a network up to the steps at which samples stop; what comes later does not count.

    Args:
        network: Of causal neurons: others have not fired before they know the whole input.
        exits: What the network gives for a batch, to the step at which each sample stops, ``[B]``.
        execution: Instead of the network's own.
    """

    def __init__(self, network: SpikingNetwork, exits: Callable[[SpikingOutput], Tensor], execution: str):
        super().__init__(network, execution)
        self.exits = exits
        self._spikes = 0.0

    def stop(self, output: SpikingOutput) -> Tensor:
        return self.exits(output).to(output.settled)

    def count(self, output: SpikingOutput, stop: Tensor, inputs: Mapping[str, Tensor]) -> None:
        super().count(output, stop, inputs)
        self._spikes += sum(float(layer.until(stop).sum()) for layer in output.spikes.values())

    @property
    def spikes_per_sample(self) -> float:
        """Spikes in the whole network for one sample, on average."""
        return self._spikes / sum(map(len, self._stopped))
