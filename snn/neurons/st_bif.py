"""ST-BIF: bipolar integrate and fire with a spike tracer."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from snn.neurons.base import Neuron
from snn.neurons.run import Run


class STBIF(Neuron):
    """``u = 1/2 + C_t/threshold - N_{t-1}``; ``N_t = N_{t-1} + [u >= 1][N_{t-1} < qmax] - [u < 0][N_{t-1} >
    qmin]``.

    Causal. Once settled, ``N`` is the LSQ code of the charge, whatever the order in which it came.

    Reference:
        You et al., SpikeZIP-TF, ICML 2024.
    """

    name: ClassVar[str] = "st_bif"
    twins: ClassVar[tuple[str, ...]] = ("lsq",)
    codings: ClassVar[tuple[str, ...]] = ("sum",)
    causal: ClassVar[bool] = True
    exact: ClassVar[str] = "settled"

    def final_bounds(self, run: Run) -> tuple[int, int]:
        return self.qmin, self.qmax

    def counts(self, charge: Tensor, previous: Tensor, run: Run) -> Tensor:
        counts = torch.empty_like(charge)
        for t, now in enumerate(charge):
            membrane = now - previous + 0.5
            up = (membrane >= 1) & (previous < self.qmax)
            down = (membrane < 0) & (previous > self.qmin)
            previous = previous + up.to(charge.dtype) - down.to(charge.dtype)
            counts[t] = previous
        return counts
