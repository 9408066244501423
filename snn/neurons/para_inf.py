"""ParaInf: all spikes of a window at once, from its mean current."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from snn.errors import ConfigError
from snn.functional.fire import SPIKE_ORDERS, SpikeOrder, place_spikes
from snn.neurons.base import Neuron
from snn.neurons.run import Run


class ParaInf(Neuron):
    """``k = clip(floor(C_T/threshold + 1/2), 0 or -T, T)`` spikes, placed early, late or evenly over the T
    steps.

    Equals QCFS with T levels exactly, at t = T. Not causal: k depends on the charge of the whole window.

    Args:
        order: ``early`` (as released), ``late`` (as in the paper) or ``even`` (unbiased at every prefix).

    Reference:
        Hao et al., ICML 2025.
    """

    name: ClassVar[str] = "para_inf"
    twins: ClassVar[tuple[str, ...]] = ("qcfs",)
    codings: ClassVar[tuple[str, ...]] = ("mean",)
    causal: ClassVar[bool] = False
    exact: ClassVar[str] = "always"

    def __init__(self, *arguments: Any, order: SpikeOrder = "early"):
        super().__init__(*arguments)
        if order not in SPIKE_ORDERS:
            raise ConfigError(f"neuron.order must be one of {', '.join(SPIKE_ORDERS)}; got {order!r}")
        self.order = order

    def options(self) -> dict[str, Any]:
        return {"order": self.order}

    def count_chunk(self, over_time: Tensor, unit: Tensor, previous: Tensor, run: Run) -> Tensor:
        # The last aggregate alone decides, so the other steps' charges are never formed.
        last = self.final_count(over_time[-1:], unit[-1:], run)
        return last if run.collapsed else place_spikes(last[0], run.times, run.T, self.order)

    def final_bounds(self, run: Run) -> tuple[int, int]:
        return (-run.T if self.signed else 0), run.T
