"""QCFS: quantisation by clip, floor and shift."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from snn.functional.quantize import uniform_quantize
from snn.quantizers.base import Quantizer


class QCFS(Quantizer):
    """``threshold * clip(floor(x * L/threshold + 1/2), 0 or -L, L) / L`` with a trainable threshold; L is
    ``levels``.

    Reference:
        Bu et al., ICLR 2022; Hao et al., ICML 2025.
    """

    name: ClassVar[str] = "qcfs"

    @property
    def bounds(self) -> tuple[int, int]:
        return (-self.levels if self.signed else 0), self.levels

    def step_size(self, x: Tensor) -> Tensor:
        threshold = self.aligned(self.positive_threshold(), x)
        # A tensor divisor: dividing by a Python number multiplies by its reciprocal on some devices, and the
        # last bit of the step decides ties, which the neuron (threshold/t at t = levels) must decide in the
        # same way.
        return threshold / threshold.new_full((), self.levels)

    def from_step(self, step: Tensor) -> Tensor:
        return step * self.levels

    def quantize(self, x: Tensor) -> Tensor:
        return uniform_quantize(x, self.step_size(x), *self.bounds)
