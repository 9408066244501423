"""The transformer block: attention and a two-layer network, each beside a shortcut."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from snn.models.spiking.layers import DropPath, conv_norm, spiking_conv
from snn.neurons.native import NeuronFactory


class Block(nn.Module):
    """``x + attention(x)``, then ``x + mlp(x)``; no normalisation acts on the sum.

    Where the branches end in neurons, the sum counts spikes; where they end in currents, it is a membrane.

    Args:
        attention: Keeps the shape.
        mlp: Keeps the shape.
        drop_path: Probability of leaving a branch out for a sample while training.

    Shape:
        ``[T, B, C, H, W]`` to the same.
    """

    def __init__(self, attention: nn.Module, mlp: nn.Module, drop_path: float = 0.0):
        super().__init__()
        self.attention, self.mlp = attention, mlp
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attention(x))
        return x + self.drop_path(self.mlp(x))


def mlp(width: int, ratio: float, spiking: NeuronFactory) -> nn.Sequential:
    """Two layers with a hidden width of ``ratio * width``, each closed by a neuron.

    Shape:
        ``[T, B, width, H, W]`` to the same; spikes.
    """
    hidden = int(width * ratio)
    return nn.Sequential(
        spiking_conv(width, hidden, spiking, bias=True), spiking_conv(hidden, width, spiking, bias=True)
    )


def membrane_mlp(width: int, ratio: float, spiking: NeuronFactory) -> nn.Sequential:
    """Two layers with a hidden width of ``ratio * width``, a neuron before each: currents in, currents out.

    Shape:
        ``[T, B, width, H, W]`` to the same.
    """
    hidden = int(width * ratio)
    return nn.Sequential(
        spiking(),
        conv_norm(width, hidden, bias=True),
        spiking(),
        conv_norm(hidden, width, bias=True),
    )


def blocks(depth: int, make: Callable[[float], Block], drop_path: float) -> nn.Sequential:
    """``depth`` blocks with a drop-path probability that grows evenly from 0 to ``drop_path``."""
    return nn.Sequential(*(make(drop_path * i / max(depth - 1, 1)) for i in range(depth)))
