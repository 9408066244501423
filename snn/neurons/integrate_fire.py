"""Integrate and fire with soft reset."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from snn.neurons.base import Neuron
from snn.neurons.run import Run


class IntegrateFire(Neuron):
    """``N_t = N_{t-1} + [1/2 + C_t/threshold - N_{t-1} >= 1]``; the signed form also takes one back when that
    is below 0.

    Causal. Equals QCFS at T when its input is constant over time; else the difference is the unevenness
    error.

    Reference:
        Bu et al., ICLR 2022.
    """

    name: ClassVar[str] = "integrate_fire"
    twins: ClassVar[tuple[str, ...]] = ("qcfs",)
    codings: ClassVar[tuple[str, ...]] = ("mean",)
    causal: ClassVar[bool] = True
    exact: ClassVar[str] = "never"

    def counts(self, charge: Tensor, previous: Tensor, run: Run) -> Tensor:
        counts = torch.empty_like(charge)
        for t, now in enumerate(charge):
            membrane = now - previous + 0.5
            previous = previous + (membrane >= 1).to(charge.dtype)
            if self.signed:
                previous = previous - (membrane < 0).to(charge.dtype)
            counts[t] = previous
        return counts
