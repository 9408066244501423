"""ST-BIF: bipolar integrate and fire with a spike tracer."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from snn.functional.fire import follow
from snn.functional.quantize import lsq_step
from snn.neurons.base import Neuron
from snn.neurons.run import Run


class STBIF(Neuron):
    """``u = 1/2 + C_t/threshold - N_{t-1}``; ``N_t = N_{t-1} + [u >= 1][N_{t-1} < qmax] - [u < 0][N_{t-1} >
    qmin]``.

    Put shorter, the count goes one step towards ``k_t``, the LSQ code of the charge that has arrived:
    ``N_t = N_{t-1} + clip(k_t - N_{t-1}, -1, 1)``. So once settled it is that code, to the last bit, whatever
    the order in which the charge came. Causal.

    Reference:
        You et al., SpikeZIP-TF, ICML 2024.
    """

    name: ClassVar[str] = "st_bif"
    twins: ClassVar[tuple[str, ...]] = ("lsq",)
    codings: ClassVar[tuple[str, ...]] = ("sum",)
    causal: ClassVar[bool] = True
    exact: ClassVar[str] = "settled"

    def scaled(self, threshold: Tensor, x: Tensor) -> Tensor:
        return lsq_step(threshold, x, self.qmax)

    def final_bounds(self, run: Run) -> tuple[int, int]:
        return self.qmin, self.qmax

    def count_chunk(self, over_time: Tensor, unit: Tensor, previous: Tensor, run: Run) -> Tensor:
        codes = self.final_count(over_time, unit, run)
        return codes if run.collapsed else follow(codes, previous, seen=run.seen)
