"""Spike rates, and the analog network whose gradient stands for that of the spikes.

A soft-reset neuron with constant drive ``I`` fires at the rate ``clamp(I / threshold, 0, 1)``. A network of such
neurons is trained through that function: values are measured from spikes, gradients are those of the clamp.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _ClampedRate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, drive: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward((drive >= 0) & (drive <= threshold))
        ctx.threshold = threshold
        return (drive / threshold).clamp_(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return grad * inside / ctx.threshold, None


def clamped_rate(drive: Tensor, threshold: float = 1.0) -> Tensor:
    """``clamp(drive / threshold, 0, 1)``, with slope ``1/threshold`` on the closed window.

    The window is written out: what ``torch.clamp`` passes at its bounds differs between versions of torch.

    Args:
        drive: Input current per step.
        threshold: Firing threshold, > 0, in the units of the drive.

    Shape:
        Any shape; the output has the shape of ``drive``.

    Example:
        >>> drive = torch.tensor([-1.0, 0.0, 1.0, 2.0, 3.0], requires_grad=True)
        >>> rate = clamped_rate(drive, 2.0)
        >>> rate.sum().backward()
        >>> rate.tolist(), drive.grad.tolist()
        ([0.0, 0.0, 0.5, 1.0, 1.0], [0.0, 0.5, 0.5, 0.5, 0.0])
    """
    return _ClampedRate.apply(drive, threshold)


class _ReplaceValue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, carrier: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad


def replace_value(value: Tensor, carrier: Tensor) -> Tensor:
    """``value`` to the last bit, with the gradient of ``carrier``; ``value`` itself gets none.

    Shape:
        Both the same; so is the output.

    Example:
        >>> carrier = torch.tensor([3.0], requires_grad=True)
        >>> out = replace_value(torch.tensor([0.25]), 2 * carrier)
        >>> out.sum().backward()
        >>> out.tolist(), carrier.grad.tolist()
        ([0.25], [2.0])
    """
    return _ReplaceValue.apply(value.detach(), carrier)


def rate_weight(steps: int, decay: float = 1.0) -> float:
    """What a decayed sum of spikes is divided by to be a rate: ``sum_t decay**(steps - t)``, t from 1 to ``steps``.

    Args:
        steps: Number of steps, >= 1.
        decay: 1 for the plain mean; the leak for the weighted one.

    Example:
        >>> rate_weight(3), rate_weight(3, 0.5)
        (3.0, 1.75)
    """
    return float(steps) if decay == 1 else (1 - decay**steps) / (1 - decay)
