"""Spikes and operations of a converted network, counted while it runs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from snn.conversion.network import SpikingNetwork, SpikingOutput
from snn.evaluation.metrics import SpikeRates
from snn.evaluation.operations import Operations
from snn.evaluation.wiring import Wiring, wired


class SpikingMeter:
    """Runs a network and counts, batch by batch.

    Args:
        network: In evaluation mode; its products are learnt from the first sample.
        execution: Instead of the network's own.
        record: Whether to count spikes.
    """

    def __init__(self, network: SpikingNetwork, execution: str | None = None, record: bool = True):
        self.network, self.execution, self.record = network, execution, record
        self.wiring: Wiring | None = None
        self.rates: SpikeRates | None = None
        self.operations: Operations | None = None
        self._stopped: list[Tensor] = []

    def __call__(self, inputs: Mapping[str, Tensor]) -> SpikingOutput:
        """What the network returns."""
        if self.record and not self._stopped:
            self.wiring = wired(self.network, inputs)
        selections = self.wiring.selections if self.wiring else None
        recorder = self.network.recorder(selections) if self.record else False
        output = self.network(execution=self.execution, record=recorder, **inputs)
        stop = self.stop(output)
        self._stopped.append(stop)
        if output.spikes:
            self.count(output, stop, inputs)
        return output

    def stop(self, output: SpikingOutput) -> Tensor:
        """The step from which on nothing of a sample counts, ``[B]``."""
        return output.settled

    def count(self, output: SpikingOutput, stop: Tensor, inputs: Mapping[str, Tensor]) -> None:
        """Add a batch."""
        self.rates = self.rates or SpikeRates(list(output.spikes), self.network.T).to(stop.device)
        self.rates.update(output.spikes)
        if self.wiring is not None:
            if self.operations is None:
                self.operations = Operations(self.network, self.wiring, list(output.spikes)).to(stop.device)
            self.operations.update(output.spikes, stop, inputs)

    @property
    def mean_steps(self) -> float:
        """Steps that a sample took, on average."""
        return float(torch.cat(self._stopped).double().mean())
