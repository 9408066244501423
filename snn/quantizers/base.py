"""What all quantisers share: codes, a step per tensor or channel, and thresholds set from data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snn.errors import ConfigError, ConversionError
from snn.functional.precision import exact_type
from snn.functional.quantize import uniform_quantize
from snn.functional.time_axis import align
from snn.quantizers.observation import largest_magnitude, mean_magnitude, sample_rows
from snn.quantizers.registry import INITS
from snn.quantizers.start import STARTS, next_step

GRANULARITIES = ("channel", "tensor")
_SMALLEST = 1e-8
_FINER = 2**14


class Quantizer(nn.Module, ABC):
    """Base of the quantisers: ``x`` to integer codes times a step, in the units of ``x``.

    The trainable ``threshold`` (what it is in terms of the step, the subclass says) is empty until it is set:
    by a number, from data (:func:`snn.calibrate`), or, in training mode, by the quantiser itself from its
    first batches, if ``init`` is one of :data:`~snn.quantizers.start.STARTS`. Its magnitude is what counts, so
    an optimiser cannot make it negative; the effective value is :meth:`positive_threshold`. It changes in
    place, so an optimiser may be built first, and it stays float32 in a network of half precision.

    The buffer ``batches_left`` counts the training batches that are still to set the threshold, so a network
    that is saved in between, and resumed, goes on where it stopped and never starts anew. Under
    ``DistributedDataParallel`` all processes start with the same step, but a parameter must have its shape
    before it is wrapped: run one batch first, or :func:`snn.calibrate`.

    Args:
        levels: Number of levels; what it means for the codes is the subclass's business.
        signed: Whether codes may be negative.
        granularity: ``channel``: one threshold per channel; ``tensor``: one for all.
        axis: Axis of the channels; ``None``: 1 for ``[B, C, H, W]``, -1 otherwise.
        threshold: A number to start from, one for all channels, so ``granularity`` becomes ``tensor``;
            ``None``: set from data.
        init: How the threshold is set, one of :data:`~snn.quantizers.registry.INITS`; ``None``: as
            :func:`snn.calibrate` is told.

    Shape:
        ``[B, ...]`` to the same, in its type; codes of half precision are computed in float32.

    Raises:
        ConfigError: An argument is out of range.
    """

    #: Name in the registry; the name that checkpoints and configs use.
    name: ClassVar[str]

    batches_left: Tensor
    #: Charge in thresholds that an integrate-and-fire neuron in its place gets beside its input, by each step,
    #: ``[T, C]``, or ``[1, C]`` for all; the quantiser itself takes no notice.
    offset: Tensor | None

    def __init__(
        self,
        levels: int = 8,
        signed: bool = False,
        granularity: str = "channel",
        axis: int | None = None,
        threshold: float | None = None,
        init: str | None = None,
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
        if init is not None and init not in INITS:
            raise ConfigError(f"quantization.init must be one of {', '.join(INITS)}; got {init!r}")
        self.levels, self.signed, self.axis, self.init = int(levels), bool(signed), axis, init
        self.granularity = granularity if threshold is None else "tensor"
        #: Whether the threshold started as a number of the user's, which :func:`snn.calibrate` leaves alone.
        self.given = threshold is not None
        self.threshold = nn.Parameter(torch.full((1,), threshold) if threshold else torch.empty(0))
        starts = STARTS[init].batches if init in STARTS and threshold is None else 0
        self.register_buffer("batches_left", torch.tensor(starts))
        self.register_buffer("offset", None)
        #: ``batches_left > 0``, on the host: reading a buffer would make every step wait for the device.
        self._starting = starts > 0
        #: Whether the last axis of the input runs over tokens, as that of attention probabilities does.
        self.over_keys = False
        self._samples: list[Tensor] | None = None
        self._largest: list[Tensor] = []
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

    def clip(self, x: Tensor) -> Tensor:
        """What :meth:`quantize` comes to with so many more levels in its range that rounding can be forgotten."""
        step, (qmin, qmax), (shift, gain) = self.fine_step(x), self.bounds, self.corrections()
        return uniform_quantize(
            x,
            step / _FINER,
            qmin * _FINER,
            qmax * _FINER,
            shift=None if shift is None else self.aligned(shift, x),
            gain=None if gain is None else self.aligned(gain, x),
        )

    def fine_step(self, x: Tensor) -> Tensor:
        """The step, with the gradient that it has in :meth:`quantize`."""
        return self.step_size(x)

    def step_for(self, threshold: Tensor) -> Tensor:
        """The step that belongs to a threshold, the largest positive value that is represented."""
        return threshold / self.bounds[1]

    @abstractmethod
    def from_step(self, step: Tensor) -> Tensor:
        """Inverse of what :meth:`step_size` does to the parameter: the parameter for a given step."""

    def corrections(self) -> tuple[Tensor | None, Tensor | None]:
        """What is added to the input, and the height of the output in thresholds, per channel; ``None``: nothing,
        and 1."""
        return None, None

    @property
    def calibrated(self) -> bool:
        return self.threshold.numel() > 0

    @property
    def per_channel(self) -> bool:
        return self.granularity == "channel"

    def positive_threshold(self) -> Tensor:
        return self.threshold.abs().clamp_min(_SMALLEST)

    def resolve_axis(self, x: Tensor) -> int:
        return self.axis if self.axis is not None else (1 if x.dim() == 4 else -1)

    def set_threshold(self, value: Tensor) -> None:
        """Set the parameter, per channel or as a single number; stop observing, and starting."""
        self.forget()
        value = value.detach().reshape(-1)
        if not bool((value > 0).all() and value.isfinite().all()):
            raise ConversionError("a threshold must be positive and finite")
        self._put(value)
        self.offset = None
        self.batches_left.zero_()
        self._starting = False

    def _put(self, value: Tensor) -> None:
        # In place: an optimiser that was built before holds this very parameter.
        self.threshold.grad = None
        self.threshold.data = value.to(self.threshold.device, self.threshold.dtype, copy=True)

    def observe(self, rows_per_batch: int) -> None:
        """Keep up to so many rows of each batch, and pass inputs on unquantised, until :meth:`set_threshold`.

        Passed on is what infinitely many levels would give: the input itself, or its positive part where codes
        cannot be negative. So an unsigned quantiser that replaces a ReLU is a ReLU while it observes.

        Args:
            rows_per_batch: At least 1; 0: the mean magnitude of each batch alone, which is all that a start
                needs.
        """
        self._samples, self._largest, self._rows_per_batch = [], [], rows_per_batch

    def forget(self) -> None:
        """Stop observing, and keep nothing of it."""
        self._samples, self._largest = None, []

    @property
    def observing(self) -> bool:
        return self._samples is not None

    @property
    def samples_kept(self) -> bool:
        """Whether values were observed, and not their magnitudes alone."""
        return bool(self._samples) and self._rows_per_batch > 0

    def take_samples(self) -> Tensor:
        """What was observed, ``[rows, C, keys]``; padding is left out, and keys is 1 unless :attr:`over_keys`."""
        if not self._samples:
            return torch.empty(0, 1, 1)
        widths = list(dict.fromkeys(rows.shape[1] for rows in self._samples))
        if len(widths) > 1:
            raise ConversionError(
                f"called with {' and with '.join(map(str, widths))} channels: it serves several places; "
                "granularity: tensor gives them one threshold, and call: relu#0, call: relu#1 a quantiser each"
            )
        longest = max(rows.shape[2] for rows in self._samples)
        return torch.cat([nn.functional.pad(rows, (0, longest - rows.shape[2])) for rows in self._samples])

    def take_largest(self) -> Tensor:
        """Largest magnitude ``[C]`` of all that was observed, not of what was kept of it alone."""
        return torch.stack(self._largest).amax(0)

    def take_magnitudes(self) -> list[Tensor]:
        """Mean magnitude ``[C]`` of each batch, if that was observed."""
        return list(self._samples or []) if self._rows_per_batch == 0 else []

    def _keep(self, x: Tensor) -> None:
        assert self._samples is not None
        where = x, self.resolve_axis(x), self.per_channel, self.over_keys
        if self._rows_per_batch == 0:
            self._samples.append(mean_magnitude(*where))
        else:
            self._samples.append(sample_rows(*where, self._rows_per_batch, len(self._samples)))
            self._largest.append(largest_magnitude(*where, self.signed))

    @torch.no_grad()
    def _start(self, x: Tensor) -> None:
        """Let one more training batch set the threshold."""
        assert self.init is not None
        magnitude = mean_magnitude(x, self.resolve_axis(x), self.per_channel, self.over_keys)
        before = self.step_size(x).flatten().to(magnitude.dtype) if self.calibrated else None
        step = next_step(STARTS[self.init], before, magnitude, self.bounds[1])
        if not bool(step.isfinite().all()):
            raise ConversionError(f"activations are not finite while a {self.name} quantiser starts")
        self._put(self.from_step(step))
        self.batches_left -= 1
        self._starting = bool(self.batches_left > 0)

    def forward(self, x: Tensor) -> Tensor:
        if self._samples is not None:
            self._keep(x)
            return x if self.signed else x.clamp_min(0)
        if self._starting and self.training:
            self._start(x)
        if not self.calibrated:
            raise ConversionError(
                f"a {self.name} quantiser has no threshold yet: calibrate first (snn.calibrate)"
            )
        return self.quantize(x).to(x.dtype)

    def aligned(self, value: Tensor, x: Tensor) -> Tensor:
        if value.numel() > 1 and value.numel() != x.shape[self.resolve_axis(x)]:
            raise ConversionError(
                f"a {self.name} quantiser with {value.numel()} channels met an input of shape {tuple(x.shape)} "
                f"(axis {self.resolve_axis(x)})"
            )
        return align(value, x, self.resolve_axis(x)).to(exact_type(x))

    def arguments(self) -> dict[str, Any]:
        """Arguments that rebuild this quantiser, for checkpoints; plain YAML types."""
        return {
            "levels": self.levels,
            "signed": self.signed,
            "granularity": self.granularity,
            "axis": self.axis,
            "init": self.init,
        }

    def extra_repr(self) -> str:
        return ", ".join(f"{k}={v}" for k, v in self.arguments().items())

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        before = self.threshold.detach()
        super()._apply(fn, recurse)
        if self.threshold.dtype != exact_type(self.threshold):
            # 8 bits of a step are too few: the codes of large inputs would be others.
            self.threshold.data = before.to(self.threshold.device)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        offset = state_dict.get(prefix + "offset")
        self.offset = None if offset is None else torch.empty_like(offset)
        saved, count = state_dict.get(prefix + "threshold"), prefix + "batches_left"
        if saved is not None:
            # The number of channels is known only from data, or from the checkpoint.
            if saved.shape != self.threshold.shape:
                self._put(self.threshold.new_empty(saved.shape))
            if not bool(saved.isfinite().all()):
                errors = args[-1]
                errors.append(f"{prefix}threshold is not finite")
            # A neuron has a threshold and nothing left to count.
            state_dict.setdefault(count, torch.zeros_like(self.batches_left))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._starting = bool(self.batches_left > 0)
