"""Spikes and operations of a network that simulates its neurons itself, counted while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from snn.conversion.call import call
from snn.conversion.step_watch import watch_steps
from snn.evaluation.metrics import SpikeRates
from snn.evaluation.operations import Operations
from snn.evaluation.wiring import wire
from snn.neurons.native import intercepted
from snn.neurons.simulated import SimulatedNetwork
from snn.neurons.simulated_spikes import SimulatedSpikes


class SimulatedMeter:
    """Runs a network and counts, batch by batch.

    Args:
        model: In evaluation mode.
        inputs: A batch on its device, from whose first sample its products are learnt.

    Raises:
        ConversionError: The work does not follow from the length of the text.
    """

    def __init__(self, model: SimulatedNetwork, inputs: Mapping[str, Tensor]):
        self.model, self.wiring = model, wire(model, inputs, watch_steps)
        self.rates: SpikeRates | None = None
        self.operations: Operations | None = None
        self._ran: list[Tensor] = []

    def __call__(self, inputs: Mapping[str, Tensor]) -> Any:
        """What the network returns."""
        first = next(iter(inputs.values()))
        counting = SimulatedSpikes(self.model.T, len(first), inputs.get("attention_mask"))
        with intercepted(self.model, counting.around):
            output = call(self.model, inputs)
        spikes = counting.layers()
        if self.rates is None or self.operations is None:
            self.rates = SpikeRates(list(spikes), self.model.T).to(first.device)
            self.operations = Operations(self.model, self.wiring, list(spikes)).to(first.device)
        self.rates.update(spikes)
        self.operations.update(spikes, counting.steps, inputs)
        self._ran.append(counting.steps)
        return output

    @property
    def mean_steps(self) -> float:
        """Steps that a sample ran, on average."""
        return float(torch.cat(self._ran).mean())
