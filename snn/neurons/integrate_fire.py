"""Integrate and fire with soft reset."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from snn.errors import ConfigError
from snn.functional.fire import follow
from snn.functional.through_time import surrogate_counts
from snn.neurons.base import Neuron
from snn.neurons.run import Run


class IntegrateFire(Neuron):
    """``N_t = N_{t-1} + [v_0 + C_t/threshold - N_{t-1} >= 1]``; the signed form also takes one back when that
    is below 0.

    Causal. Equals QCFS at T when its input is constant over time and ``v_0`` is a half; else the difference
    is the unevenness error, and with another start that of another rounding: QCFS rounds to nearest because
    the membrane starts half way, and 0 rounds down.

    Args:
        initial: ``v_0``, the membrane at the start, as a fraction of the threshold, in [0, 1).

    Raises:
        ConfigError: ``initial`` is out of range.

    Reference:
        Bu et al., ICLR 2022.
    """

    name: ClassVar[str] = "integrate_fire"
    twins: ClassVar[tuple[str, ...]] = ("qcfs", "da_qcfs")
    codings: ClassVar[tuple[str, ...]] = ("mean",)
    causal: ClassVar[bool] = True
    exact: ClassVar[str] = "never"

    def __init__(self, *arguments: Any, initial: float = 0.5):
        super().__init__(*arguments)
        if not 0 <= initial < 1:
            raise ConfigError(f"neuron.initial must be in [0, 1); got {initial}")
        self.initial = float(initial)

    def options(self) -> dict[str, Any]:
        return {"initial": self.initial}

    def with_gradient(self, counts: Tensor, charge: Tensor, previous: Tensor, run: Run) -> Tensor:
        return surrogate_counts(charge, previous, -1 if self.bipolar else 0, self.initial)

    @property
    def bipolar(self) -> bool:
        return self.signed

    def counts(self, charge: Tensor, previous: Tensor, run: Run) -> Tensor:
        targets = charge.add_(self.initial).floor_()
        return follow(targets, previous, least=-1 if self.bipolar else 0, seen=run.seen)
