"""Pooling between stages: the largest value or the mean, over the same windows."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn
from torch.overrides import TorchFunctionMode

from snn.errors import ConfigError

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
    """Put the mean over the same windows in place of every max-pooling module of a network.

    Padding counts as zeros, which behind a ReLU is what the maximum takes it for.

    Raises:
        ConfigError: Windows with gaps, of which there is no mean.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d | nn.AdaptiveMaxPool2d):
                setattr(module, name, _average(child))


def _average(pool: nn.MaxPool2d | nn.AdaptiveMaxPool2d) -> nn.Module:
    from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame

    if isinstance(pool, nn.AdaptiveMaxPool2d):
        return nn.AdaptiveAvgPool2d(pool.output_size)
    if pool.dilation not in (1, (1, 1)):
        raise ConfigError(
            f"model.args.pool=average: {pool} has gaps in its windows; leave model.args.pool=null"
        )
    if isinstance(pool, MaxPool2dSame):  # pads as much as the size of the map asks for
        return AvgPool2dSame(pool.kernel_size, pool.stride, ceil_mode=pool.ceil_mode)
    return nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)


class NoMaxPooling(TorchFunctionMode):
    """Refuse, while it is entered, max-pooling that a network calls as a function: no module can be exchanged."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "max_pool" in getattr(func, "__name__", ""):
            raise ConfigError(
                f"model.args.pool=average: this network calls {func.__name__} as a function, not as a module that "
                "can be exchanged; leave model.args.pool=null"
            )
        return func(*args, **(kwargs or {}))
