"""What a spiking network costs when each sample stops at a step of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from snn.conversion.network import SpikingNetwork
from snn.evaluation.operations import OperationCounts, Operations
from snn.evaluation.wiring import wired


class ExitCost:
    """Spikes and operations of a network up to the steps at which samples stop; what comes later does not count.

    Args:
        network: Of causal neurons: others have not fired before they know the whole input.
        exits: Read-outs after every step, ``[T, B, C]``, to the step at which each sample stops, ``[B]``.
    """

    def __init__(self, network: SpikingNetwork, exits: Callable[[Tensor], Tensor]):
        self.network, self.exits = network, exits
        self._operations: Operations | None = None
        self._spikes, self._samples = 0.0, 0

    def run(self, inputs: Mapping[str, Tensor], execution: str) -> Tensor:
        """Run a batch and add what it costs.

        Returns:
            Read-outs after every step, ``[T, B, C]``, of samples that were let go on.
        """
        wiring = wired(self.network, inputs)
        recorder = self.network.recorder(wiring.selections if wiring else None)
        output = self.network(execution=execution, record=recorder, **inputs)
        stop = self.exits(output.logits).to(output.settled).minimum(output.settled)
        if wiring is not None:
            if self._operations is None:
                operations = Operations(self.network, wiring, list(output.spikes))
                self._operations = operations.to(stop.device)
            self._operations.update(output.spikes, stop, inputs)
        self._spikes += sum(float(layer.until(stop).sum()) for layer in output.spikes.values())
        self._samples += len(stop)
        return output.logits

    @property
    def spikes_per_sample(self) -> float:
        """Spikes in the whole network for one sample, on average."""
        return self._spikes / self._samples

    def counts(self) -> OperationCounts | None:
        """Operations of one sample, on average; ``None`` where they cannot be counted."""
        return None if self._operations is None else self._operations.counts()
