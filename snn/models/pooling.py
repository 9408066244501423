"""Pooling between stages: the largest value or the mean, over the same windows."""

from __future__ import annotations

from typing import Literal

from torch import nn

Pool = Literal["average", "max"]


def make_pool(kind: Pool, size: int, stride: int | None = None, padding: int = 0) -> nn.Module:
    """A new pooling module.

    The mean is linear, so what comes out of it is still a sum of spikes; the maximum is a function of the running
    aggregate that is computed densely at every step.

    Args:
        kind: ``average`` or ``max``.
        size: Height and width of a window, in pixels.
        stride: From window to window; None: ``size``.
        padding: Pixels around the map.

    Example:
        >>> make_pool("max", 3, stride=2, padding=1)
        MaxPool2d(kernel_size=3, stride=2, padding=1, dilation=1, ceil_mode=False)
    """
    return {"average": nn.AvgPool2d, "max": nn.MaxPool2d}[kind](size, stride, padding)


def average_pooling(model: nn.Module) -> None:
    """Put the mean over the same windows in place of every max-pooling of a network.

    Padding counts as zeros, which behind a ReLU is what the maximum takes it for.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                average = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(module, name, average)
