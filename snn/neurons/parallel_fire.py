"""ParaInf in a network that spikes by itself: all spikes of the window from its mean current."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from snn.functional.fire import SPIKE_ORDERS, SpikeOrder, place_spikes
from snn.functional.precision import exact_type
from snn.functional.quantize import codes, uniform_quantize
from snn.neurons.native import NativeNeuron


class ParallelFire(NativeNeuron):
    """``k = clip(floor(T * mean/threshold + 1/2), 0, T)`` spikes of height 1, with the gradient of QCFS.

    The mean output over the window is the QCFS of the mean current divided by the threshold, and the gradient
    is that function's: every step's spike passes its gradient to the mean current where the rounded mean lies
    in [0, threshold]. Not causal. A single step is a window of its own, so that in a layer that goes from
    step to step this neuron has no memory.

    Args:
        threshold: Mean current that fires at every step, > 0.
        order: Where the k spikes go: ``early``, ``late`` or ``even``.

    Reference:
        Hao et al., ICML 2025; Bu et al., ICLR 2022, for the gradient.

    Example:
        >>> import torch
        >>> ParallelFire()(torch.tensor([[0.0], [2.2], [0.0], [0.0]])).flatten()
        tensor([1., 1., 0., 0.])
    """

    name: ClassVar[str] = "para_inf"
    causal: ClassVar[bool] = False

    def __init__(self, threshold: float = 1.0, order: SpikeOrder = "early"):
        super().__init__()
        if not threshold > 0:
            raise ValueError(f"threshold must be positive; got {threshold}")
        if order not in SPIKE_ORDERS:
            raise ValueError(f"order must be one of {', '.join(SPIKE_ORDERS)}; got {order!r}")
        self.threshold, self.order = threshold, order

    def forward(self, current: Tensor) -> Tensor:
        T = len(current)
        mean = current.mean(0, dtype=exact_type(current))
        unit = mean.new_full((), self.threshold / T)
        spikes = place_spikes(codes(mean.detach(), unit, 0, T), range(T + 1), T, self.order).diff(dim=0)
        smooth = uniform_quantize(mean, unit, 0, T) / self.threshold
        # Zero in value; what the backward pass sees instead of the placing.
        return (spikes + (smooth - smooth.detach())).to(current.dtype)

    def step(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return self(current[None])[0], None

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, order={self.order}"
