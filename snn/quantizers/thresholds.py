"""Thresholds from observed data: maximum, percentile, least squared error, or the start of the first batches."""

from __future__ import annotations

import torch
from torch import Tensor

from snn.errors import ConfigError, ConversionError
from snn.functional.quantize import codes
from snn.quantizers.base import Quantizer
from snn.quantizers.processes import largest_over_processes, mean_over_processes
from snn.quantizers.registry import INITS
from snn.quantizers.start import STARTS, next_step

_COARSE, _FINE = 40, 12
_NO_DATA = "a quantiser saw no data while thresholds were set: is its module used by the model?"
_NOT_FINITE = "activations are not finite while thresholds were set"


def estimate_threshold(quantizer: Quantizer, method: str = "mse", percentile: float = 99.9) -> Tensor:
    """Largest represented value, per channel, that suits what the quantiser has observed.

    A channel that never spoke takes the median of the others, so that it stays silent on noise and is no
    division by zero. Over several processes the result is their mean, weighted by the rows that each has seen, of
    ``max`` the largest.

    Args:
        quantizer: A quantiser that has observed data: rows, or mean magnitudes where ``method`` is a start.
        method: ``max``, of all values and not of the rows alone; ``percentile`` of the magnitude, of attention
            probabilities that of those above 0, because masked keys are exactly 0; ``mse``: least squared error,
            searched over 40 thresholds between a fortieth of the maximum and the maximum, then over 12 between the
            best one's neighbours; or a name in :data:`~snn.quantizers.start.STARTS`, from as many batches as that
            takes.
        percentile: For ``percentile``, in (0, 100].

    Shape:
        ``[C]``, or ``[1]`` per tensor.

    Raises:
        ConfigError: Unknown method, or a percentile out of range.
        ConversionError: Nothing was observed, or it holds NaN.
    """
    if method in STARTS:
        return _started(quantizer, method)
    if method not in INITS:
        raise ConfigError(f"quantization.init must be one of {', '.join(INITS)}; got {method!r}")
    rows = quantizer.take_samples()
    if rows.numel() == 0:
        raise ConversionError(_NO_DATA)
    if not bool(rows.isfinite().all()):
        raise ConversionError(_NOT_FINITE)
    flat = rows.transpose(1, 2).flatten(0, 1)
    magnitude = flat.abs() if quantizer.signed else flat.clamp_min(0)
    top = magnitude.amax(0)
    alive = top > 0
    if method == "max":
        value = quantizer.take_largest()
        if not bool(value.isfinite().all()):
            raise ConversionError(_NOT_FINITE)
    elif method == "percentile":
        if not 0 < percentile <= 100:
            raise ConfigError(f"quantization.percentile must be in (0, 100]; got {percentile}")
        value = _percentile(magnitude, percentile, skip_zeros=quantizer.over_keys)
        value = torch.where(value > 0, value, top)
    else:
        value = _least_error(quantizer, rows, top.clamp_min(1e-12))
    if method == "max":
        value = largest_over_processes(value)
    else:
        value = mean_over_processes(value * alive, flat.shape[0] * alive.to(value.dtype))
    alive = value > 0
    fallback = value[alive].median() if bool(alive.any()) else value.new_tensor(1.0)
    return torch.where(alive, value, fallback)


def _started(quantizer: Quantizer, method: str) -> Tensor:
    start, qmax = STARTS[method], quantizer.bounds[1]
    step = None
    for magnitude in quantizer.take_magnitudes()[: start.batches]:
        step = next_step(start, step, magnitude, qmax)
    if step is None:
        raise ConversionError(_NO_DATA)
    if not bool(step.isfinite().all()):
        raise ConversionError(_NOT_FINITE)
    return step * qmax


def _percentile(magnitude: Tensor, percentile: float, skip_zeros: bool) -> Tensor:
    """Per channel of ``[values, C]``, the smallest value that so many percent do not exceed."""
    skipped = (magnitude == 0).sum(0) if skip_zeros else magnitude.new_zeros(magnitude.shape[1]).long()
    count = magnitude.shape[0] - skipped
    rank = skipped + (count.double() * percentile / 100).round().long().clamp_min(1)
    return magnitude.sort(0).values.gather(0, (rank - 1).clamp_max(magnitude.shape[0] - 1)[None])[0]


def _least_error(quantizer: Quantizer, rows: Tensor, top: Tensor) -> Tensor:
    def search(candidates: Tensor) -> Tensor:
        errors = torch.stack([_squared_error(quantizer, rows, c) for c in candidates])
        return errors.argmin(0)

    coarse = torch.linspace(1 / _COARSE, 1, _COARSE, device=top.device)[:, None] * top
    best = search(coarse)
    lower = coarse.gather(0, (best - 1).clamp_min(0)[None])[0]
    upper = coarse.gather(0, (best + 1).clamp_max(_COARSE - 1)[None])[0]
    fine = torch.lerp(lower, upper, torch.linspace(0, 1, _FINE, device=top.device)[:, None])
    return fine.gather(0, search(fine)[None])[0]


def _squared_error(quantizer: Quantizer, rows: Tensor, threshold: Tensor) -> Tensor:
    """Per channel. Of a distribution over keys, the error of its sum counts beside that of its parts.

    What attention probabilities weight are vectors with a common mean, so the context's error is
    ``sum_j e_j^2 var(v) + (sum_j e_j)^2 mean(v)^2``; rounding every small probability to zero loses its mass.
    """
    step = quantizer.step_for(threshold)[:, None]
    error = codes(rows, step, *quantizer.bounds).mul_(step).sub_(rows)
    total = error.sum(2).square_().sum(0) if rows.shape[2] > 1 else 0.0
    return error.square_().sum((0, 2)) + total
