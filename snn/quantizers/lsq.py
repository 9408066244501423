"""LSQ: learned step size quantisation."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from snn.errors import ConfigError
from snn.functional.quantize import lsq, lsq_step
from snn.quantizers.base import Quantizer


class LSQ(Quantizer):
    """``step * clip(floor(x/step + 1/2), qmin, qmax)`` with a trainable step; the twin of ST-BIF.

    The parameter ``threshold`` is the step itself, in the units of the input. ``levels`` L is the number of
    codes, not of bits: signed ``floor(-L/2) .. floor(L/2)-1``, unsigned ``0 .. L-1``; so L = 16 is 4 bits. The
    step's gradient is scaled, see :func:`snn.functional.lsq`.

    As published, there is one step for the whole tensor (``granularity="tensor"``) and ``init="ema20"``: the
    step of the first training batch, ``2 mean|x| / sqrt(qmax)``, then its moving average with the next 19.
    The published code takes the mean over padding too; here padding is left out.

    Args:
        levels: Number of codes; at least 4 signed, 2 unsigned, so that one code is positive.
        arguments: Those of :class:`~snn.quantizers.base.Quantizer`.

    Raises:
        ConfigError: No code is positive, or another argument is out of range.

    Reference:
        Esser et al., ICLR 2020; as used by SpikeZIP-TF, ICML 2024.

    Example:
        >>> import torch
        >>> quantizer = LSQ(levels=16, signed=True, threshold=0.5)
        >>> quantizer(torch.tensor([-9.0, 0.3, 0.25])).tolist()
        [-4.0, 0.5, 0.5]
    """

    name: ClassVar[str] = "lsq"

    def __init__(self, levels: int = 16, **arguments: Any):
        super().__init__(levels, **arguments)
        if self.bounds[1] < 1:
            sign, least = ("signed", 4) if self.signed else ("unsigned", 2)
            raise ConfigError(
                f"quantization.levels={levels} leaves no positive code for a {sign} LSQ quantiser; "
                f"it needs at least {least}"
            )

    @property
    def bounds(self) -> tuple[int, int]:
        if self.signed:
            return -((self.levels + 1) // 2), self.levels // 2 - 1
        return 0, self.levels - 1

    def step_size(self, x: Tensor) -> Tensor:
        return self.aligned(self.positive_threshold(), x)

    def from_step(self, step: Tensor) -> Tensor:
        return step

    def quantize(self, x: Tensor) -> Tensor:
        return lsq(x, self.step_size(x), *self.bounds)

    def fine_step(self, x: Tensor) -> Tensor:
        return lsq_step(self.step_size(x), x, self.bounds[1])
