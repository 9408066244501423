"""DA-QCFS: QCFS with an input shift and an output height of its own for each channel."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from snn.functional.quantize import uniform_quantize
from snn.quantizers.qcfs import QCFS

#: Least and greatest height of the output, in thresholds. Below zero, spikes would be turned around; and a
#: channel that hardly ever fires would ask for an enormous one.
HEIGHTS = (0.25, 4.0)


class DAQCFS(QCFS):
    """``height * clip(floor((x + shift) * L/threshold + 1/2), 0 or -L, L) / L``; the twin of channel-wise ParaInf
    and of integrate-and-fire.

    The shift and the height are set from data (:func:`snn.conversion.training_free.correct`), not trained; a
    new threshold puts them back to 0 and the threshold.

    Args:
        levels: As of QCFS.
        weights_for: For how many levels the weights of the network around it were solved anew; ``None``: they are
            the float network's. Kept so that nobody takes them for weights that suit another number.

    Attributes:
        shift: Added to the input, in its units; ``[C]``, or ``[1]`` for all channels.
        gain: Height of the output in thresholds; likewise.

    Reference:
        Hao et al., ICML 2025, distribution-aware QCFS; there, height is called threshold plus correction.

    Example:
        >>> quantizer = DAQCFS(levels=4, threshold=1.0)
        >>> quantizer.correct(shift=torch.tensor([0.2]), height=torch.tensor([2.0]))
        >>> quantizer(torch.tensor([-0.2, 0.3, 0.9, 3.0])).tolist()
        [0.0, 1.0, 2.0, 2.0]
    """

    name: ClassVar[str] = "da_qcfs"

    shift: Tensor
    gain: Tensor

    def __init__(self, levels: int = 8, weights_for: int | None = None, **arguments: Any):
        super().__init__(levels, **arguments)
        self.weights_for = weights_for
        self.register_buffer("shift", torch.zeros(1))
        self.register_buffer("gain", torch.ones(1))

    @property
    def height(self) -> Tensor:
        """The largest output, ``[C]`` or ``[1]``."""
        return self.positive_threshold() * self.gain

    def corrections(self) -> tuple[Tensor, Tensor]:
        return self.shift, self.gain

    def correct(self, shift: Tensor, height: Tensor) -> None:
        """Set both corrections; the height is held between :data:`HEIGHTS`."""
        threshold = self.positive_threshold().detach()
        self.shift = shift.detach().to(threshold).expand_as(threshold).clone()
        self.gain = (height.detach().to(threshold) / threshold).clamp(*HEIGHTS).expand_as(threshold).clone()

    def quantize(self, x: Tensor) -> Tensor:
        shift, gain = self.aligned(self.shift, x), self.aligned(self.gain, x)
        return uniform_quantize(x, self.step_size(x), *self.bounds, shift=shift, gain=gain)

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "weights_for": self.weights_for}

    def set_threshold(self, value: Tensor) -> None:
        super().set_threshold(value)
        self.correct(torch.zeros_like(self.threshold), self.positive_threshold())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("shift", "gain"):
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape != getattr(self, name).shape:
                setattr(self, name, getattr(self, name).new_zeros(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
