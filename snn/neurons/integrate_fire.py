"""Integrate and fire with soft reset."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from snn.errors import ConfigError, ConversionError
from snn.functional.fire import follow
from snn.functional.through_time import surrogate_counts
from snn.neurons.base import Neuron
from snn.neurons.run import Run
from snn.quantizers.base import Quantizer


class IntegrateFire(Neuron):
    """``N_t = N_{t-1} + [v_0 + C_t/threshold - N_{t-1} >= 1]``; the signed form also takes one back when that
    is below 0.

    Causal. Equals QCFS at T when its input is constant over time and ``v_0`` is a half; else the difference
    is the unevenness error, and with another start that of another rounding: QCFS rounds to nearest because
    the membrane starts half way, and 0 rounds down. A calibrated ``offset`` adds to ``C_t`` what makes up for
    that on average (:mod:`snn.conversion.training_free.offsets`).

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

    #: Charge in thresholds beside the input's, by each step, ``[T, C]``, or ``[1, C]`` for all; ``None``: none.
    offset: Tensor | None

    def __init__(self, *arguments: Any, initial: float = 0.5):
        super().__init__(*arguments)
        if not 0 <= initial < 1:
            raise ConfigError(f"neuron.initial must be in [0, 1); got {initial}")
        self.initial = float(initial)
        self.register_buffer("offset", None)

    @classmethod
    def from_quantizer(cls, quantizer: Quantizer, **options: Any) -> IntegrateFire:
        neuron = super().from_quantizer(quantizer, **options)
        assert isinstance(neuron, IntegrateFire)
        neuron.offset = None if quantizer.offset is None else quantizer.offset.detach().clone()
        return neuron

    def options(self) -> dict[str, Any]:
        return {"initial": self.initial}

    def with_gradient(self, counts: Tensor, charge: Tensor, previous: Tensor, run: Run) -> Tensor:
        if self.offset is not None:
            charge = charge + self._offset_at(charge, run)
        return surrogate_counts(charge, previous, -1 if self.bipolar else 0, self.initial)

    @property
    def bipolar(self) -> bool:
        return self.signed

    def counts(self, charge: Tensor, previous: Tensor, run: Run) -> Tensor:
        charge.add_(self.initial)
        if self.offset is not None:
            charge.add_(self._offset_at(charge, run))
        return follow(charge.floor_(), previous, least=-1 if self.bipolar else 0, seen=run.seen)

    def _offset_at(self, charge: Tensor, run: Run) -> Tensor:
        """The offset of each step of the chunk, broadcastable to the charge ``[t, B, ...]``."""
        offset = self.offset
        assert offset is not None
        if len(offset) > 1:
            if len(offset) != run.T:
                raise ConversionError(
                    f"the offsets of integrate-and-fire neurons were calibrated for T={len(offset)}, but T={run.T}: "
                    "conversion.offsets=steps calibrates them anew"
                )
            offset = offset[run.times.start - 1 : run.times.stop - 1]
        dims = charge.dim() - 1
        axis = self._axis_of(dims) % dims
        before, behind = [1] * axis, [1] * (dims - 1 - axis)
        return offset.reshape(len(offset), *before, -1, *behind).to(charge.dtype)
