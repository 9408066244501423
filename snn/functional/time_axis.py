"""The time axis: ``[T, B, ...]`` and its folded form ``[T*B, ...]``, time outermost.

Modules that know nothing of time run on the folded form, where a step is merely more rows of the batch.
"""

from __future__ import annotations

from torch import Tensor


def fold(x: Tensor) -> Tensor:
    """Join time and batch: ``[T, B, ...]`` to ``[T*B, ...]``."""
    return x.flatten(0, 1)


def unfold(x: Tensor, steps: int) -> Tensor:
    """Split rows into time and batch: ``[T*B, ...]`` to ``[T, B, ...]``.

    Raises:
        ValueError: The number of rows is no multiple of ``steps``.
    """
    if x.shape[0] % steps:
        raise ValueError(f"{x.shape[0]} rows cannot be split into {steps} time steps")
    return x.reshape(steps, x.shape[0] // steps, *x.shape[1:])


def repeat_over_time(x: Tensor, steps: int) -> Tensor:
    """Give the same rows at every step: ``[B, ...]`` to ``[T*B, ...]``."""
    return x if steps == 1 else x.repeat(steps, *[1] * (x.dim() - 1))


def align(parameter: Tensor, x: Tensor, axis: int) -> Tensor:
    """View a per-channel parameter ``[C]`` so that it broadcasts along ``axis`` of ``x``; a scalar stays one.

    Example:
        >>> import torch
        >>> align(torch.ones(3), torch.zeros(2, 3, 5, 5), axis=1).shape
        torch.Size([3, 1, 1])
    """
    if parameter.numel() == 1:
        return parameter.reshape(())
    trailing = x.dim() - 1 - (axis % x.dim())
    return parameter.reshape(-1, *[1] * trailing)
