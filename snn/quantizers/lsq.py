"""LSQ: learned step size quantisation."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from snn.errors import ConfigError
from snn.functional.quantize import lsq
from snn.quantizers.base import Quantizer


class LSQ(Quantizer):
    """``step * clip(floor(x/step + 1/2), qmin, qmax)`` with a trainable step, kept in ``threshold``.

    ``levels`` L counts the codes: signed ``floor(-L/2) .. floor(L/2)-1``, unsigned ``0 .. L-1``.

    Reference:
        Esser et al., ICLR 2020; as used by SpikeZIP-TF, ICML 2024.
    """

    name: ClassVar[str] = "lsq"

    def __init__(self, levels: int = 16, **arguments: Any):
        super().__init__(levels, **arguments)
        if self.bounds[1] < 1:
            raise ConfigError(
                f"quantization.levels={levels} leaves no positive code for a {self._sign} LSQ quantiser"
            )

    @property
    def _sign(self) -> str:
        return "signed" if self.signed else "unsigned"

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
