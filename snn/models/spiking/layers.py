"""Layers over time: what knows nothing of time runs on ``[T*B, ...]``; neurons see ``[T, B, ...]``."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from snn.functional.time_axis import fold, unfold
from snn.neurons.native import NeuronFactory

Pool = Literal["before", "after"]


class PerStep(nn.Sequential):
    """Ordinary layers, at every time step.

    A signal that is the same at all steps, such as a picture given T times (an expanded tensor, stride 0), is
    computed once.

    Shape:
        ``[T, B, ...]`` to ``[T, B, ...]``.
    """

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[0]
        if x.stride(0) == 0:
            y = super().forward(x[0])
            return y.expand(T, *y.shape)
        return unfold(super().forward(fold(x)), T)


def max_pool() -> nn.MaxPool2d:
    """Halves an even height and width; spikes stay spikes."""
    return nn.MaxPool2d(3, stride=2, padding=1)


def conv_norm(
    in_width: int,
    out_width: int,
    kernel: int = 1,
    stride: int = 1,
    bias: bool = False,
    pool: bool = False,
) -> PerStep:
    """Convolution, batch norm and perhaps max-pooling, at every step.

    A kernel of 1 is the linear layer of every token.

    Shape:
        ``[T, B, in_width, H, W]`` to ``[T, B, out_width, H/stride, W/stride]``, halved once more by the pool.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(in_width, out_width, kernel, stride=stride, padding=kernel // 2, bias=bias),
        norm=nn.BatchNorm2d(out_width),
    )
    if pool:
        layers["pool"] = max_pool()
    return PerStep(layers)


def spiking_conv(
    in_width: int,
    out_width: int,
    spiking: NeuronFactory,
    kernel: int = 1,
    stride: int = 1,
    bias: bool = False,
    pool: Pool | None = None,
) -> nn.Sequential:
    """Convolution, batch norm, neuron; max-pooling ``before`` the neuron (currents) or ``after`` it (spikes).

    Shape:
        As :func:`conv_norm`; spikes.
    """
    layer = conv_norm(in_width, out_width, kernel, stride, bias, pool == "before")
    parts: OrderedDict[str, nn.Module] = OrderedDict(layer=layer, neuron=spiking())
    if pool == "after":
        parts["pool"] = PerStep(max_pool())
    return nn.Sequential(parts)


class DropPath(nn.Module):
    """Leaves a residual branch out for whole samples, at all steps alike, while training.

    What is kept is divided by the probability of being kept, so that the mean stays.

    Args:
        probability: Of leaving out, in [0, 1).

    Shape:
        ``[T, B, ...]`` to the same.

    Reference:
        Huang et al., ECCV 2016.
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        kept = torch.empty((1, x.shape[1], *[1] * (x.dim() - 2)), dtype=x.dtype, device=x.device)
        return x * kept.bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        return f"probability={self.probability}"
