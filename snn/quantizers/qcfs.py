"""QCFS: quantisation by clip, floor and shift."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from snn.functional.quantize import uniform_quantize
from snn.quantizers.base import Quantizer


class QCFS(Quantizer):
    """``threshold * clip(floor(x * L/threshold + 1/2), 0 or -L, L) / L`` with a trainable threshold; the twin of
    ParaInf and of integrate-and-fire.

    The parameter ``threshold`` is the largest output, in the units of the input. ``levels`` L is the number of
    steps from 0 to the threshold, so there are L + 1 codes ``0 .. L``, or 2L + 1 signed ones ``-L .. L``; L time
    steps give the neuron the same range.

    Args:
        levels: At least 1; and the other arguments of :class:`~snn.quantizers.base.Quantizer`.

    Reference:
        Bu et al., ICLR 2022; Hao et al., ICML 2025.

    Example:
        >>> import torch
        >>> QCFS(levels=4, threshold=1.0)(torch.tensor([-0.2, 0.3, 0.9, 3.0])).tolist()
        [0.0, 0.25, 1.0, 1.0]
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
