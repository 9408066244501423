"""What all quantisers share: codes, a step per tensor or channel, and thresholds set from data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snn.errors import ConfigError, ConversionError
from snn.functional.padding import current_mask
from snn.functional.time_axis import align

GRANULARITIES = ("channel", "tensor")
_SMALLEST = 1e-8


class Quantizer(nn.Module, ABC):
    """Base of the quantisers.

    The trainable ``threshold`` is empty until it is set from data (:func:`snn.calibrate`) or from a number.
    Its magnitude is what counts, so an optimiser cannot make it negative; the effective value is
    :meth:`positive_threshold`.

    Args:
        levels: Number of levels; what it means for the codes is the subclass's business.
        signed: Whether codes may be negative.
        granularity: ``channel``: one threshold per channel; ``tensor``: one for all.
        axis: Axis of the channels; ``None``: 1 for ``[B, C, H, W]``, -1 otherwise.
        threshold: Initial value for every channel (``tensor`` only); ``None``: set from data.

    Raises:
        ConfigError: An argument is out of range.
    """

    #: Name in the registry; the name that checkpoints and configs use.
    name: ClassVar[str]

    def __init__(
        self,
        levels: int = 8,
        signed: bool = False,
        granularity: str = "channel",
        axis: int | None = None,
        threshold: float | None = None,
    ):
        super().__init__()
        if levels < 1:
            raise ConfigError(f"quantization.levels must be at least 1; got {levels}")
        if granularity not in GRANULARITIES:
            raise ConfigError(
                f"quantization.granularity must be one of {', '.join(GRANULARITIES)}; got {granularity!r}"
            )
        if threshold is not None and not threshold > 0:
            raise ConfigError(f"quantization.threshold must be positive; got {threshold}")
        self.levels, self.signed, self.granularity, self.axis = int(levels), bool(signed), granularity, axis
        self.threshold = nn.Parameter(torch.full((1,), threshold) if threshold else torch.empty(0))
        #: Whether the last axis of the input runs over tokens, as that of attention probabilities does.
        self.over_keys = False
        self._samples: list[Tensor] | None = None
        self._rows_per_batch = 0

    @property
    @abstractmethod
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest code."""

    @abstractmethod
    def step_size(self, x: Tensor) -> Tensor:
        """Distance of two levels, shaped to broadcast over ``x``."""

    @abstractmethod
    def quantize(self, x: Tensor) -> Tensor:
        """The quantised ``x``, with the subclass's gradient."""

    def step_for(self, threshold: Tensor) -> Tensor:
        """The step that belongs to a threshold, the largest positive value that is represented."""
        return threshold / self.bounds[1]

    @abstractmethod
    def from_step(self, step: Tensor) -> Tensor:
        """Inverse of what :meth:`step_size` does to the parameter: the parameter for a given step."""

    @property
    def calibrated(self) -> bool:
        return self.threshold.numel() > 0

    def positive_threshold(self) -> Tensor:
        return self.threshold.abs().clamp_min(_SMALLEST)

    def resolve_axis(self, x: Tensor) -> int:
        return self.axis if self.axis is not None else (1 if x.dim() == 4 else -1)

    def set_threshold(self, value: Tensor) -> None:
        """Set the parameter, per channel or as a single number, and stop observing."""
        self._samples = None
        value = value.detach().reshape(-1).to(dtype=torch.get_default_dtype())
        if not bool((value > 0).all() and value.isfinite().all()):
            raise ConversionError("a threshold must be positive and finite")
        self.threshold = nn.Parameter(
            value.to(self.threshold.device), requires_grad=self.threshold.requires_grad
        )

    def observe(self, rows_per_batch: int) -> None:
        """Keep up to so many rows of each batch, and pass inputs on unquantised, until :meth:`set_threshold`.

        Passed on is what infinitely many levels would give: the input itself, or its positive part where codes
        cannot be negative. So an unsigned quantiser that replaces a ReLU is a ReLU while it observes.
        """
        self._samples, self._rows_per_batch = [], rows_per_batch

    @property
    def observing(self) -> bool:
        return self._samples is not None

    def take_samples(self) -> Tensor:
        """What was observed, ``[rows, C, keys]``; padding is left out, and keys is 1 unless :attr:`over_keys`."""
        if not self._samples:
            return torch.empty(0, 1, 1)
        longest = max(rows.shape[2] for rows in self._samples)
        return torch.cat([nn.functional.pad(rows, (0, longest - rows.shape[2])) for rows in self._samples])

    def _keep(self, x: Tensor) -> None:
        assert self._samples is not None
        mask, axis = current_mask(x, self.over_keys), self.resolve_axis(x)
        values = x.detach().float()
        rows, budget = values.movedim(axis, -1), self._rows_per_batch
        if self.over_keys:
            # Whole distributions over keys stay together: [B, queries, keys, heads].
            budget = max(1, budget // 8)
            rows = rows[mask[:, 0].any(-1)] if mask is not None else rows.flatten(0, 1)
            rows = rows.transpose(1, 2)
            if self.granularity == "tensor":
                rows = rows.flatten(0, 1)[:, None]
        else:
            if mask is not None:
                rows = rows[mask.expand_as(values).movedim(axis, -1)[..., 0]]
            rows = rows.reshape(-1, 1 if self.granularity == "tensor" else values.shape[axis], 1)
        stride = max(1, -(-rows.shape[0] // budget))
        offset = len(self._samples) % stride
        self._samples.append(rows[offset::stride].clone())

    def forward(self, x: Tensor) -> Tensor:
        if self._samples is not None:
            self._keep(x)
            return x if self.signed else x.clamp_min(0)
        if not self.calibrated:
            raise ConversionError(
                f"a {self.name} quantiser has no threshold yet: calibrate first (snn.calibrate)"
            )
        if x.dtype in (torch.bfloat16, torch.float16):
            return self.quantize(x.float())
        return self.quantize(x)

    def aligned(self, value: Tensor, x: Tensor) -> Tensor:
        if value.numel() > 1 and value.numel() != x.shape[self.resolve_axis(x)]:
            raise ConversionError(
                f"a {self.name} quantiser with {value.numel()} channels met an input of shape {tuple(x.shape)} "
                f"(axis {self.resolve_axis(x)})"
            )
        return align(value, x, self.resolve_axis(x)).to(x.dtype)

    def arguments(self) -> dict[str, Any]:
        """Arguments that rebuild this quantiser, for checkpoints; plain YAML types."""
        return {
            "levels": self.levels,
            "signed": self.signed,
            "granularity": self.granularity,
            "axis": self.axis,
        }

    def extra_repr(self) -> str:
        return ", ".join(f"{k}={v}" for k, v in self.arguments().items())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # The number of channels is known only from data, or from the checkpoint.
        saved = state_dict.get(prefix + "threshold")
        if saved is not None and saved.shape != self.threshold.shape:
            self.threshold = nn.Parameter(self.threshold.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
