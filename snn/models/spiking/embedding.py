"""From pictures or frames to maps of tokens: stacks of spiking convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from snn.models.spiking.layers import conv_norm, spiking_conv
from snn.neurons.native import NeuronFactory


def _widths(in_channels: int, width: int) -> list[int]:
    return [in_channels, width // 8, width // 4, width // 2, width]


class PatchEmbedding(nn.Module):
    """Four spiking convolutions 3x3, then spikes of a fifth added as position: values in {0, 1, 2}.

    Args:
        in_channels: Of a picture or frame.
        width: Channels of a token; the stages have an eighth, a quarter, half, all of it.
        pooled: Stages (0 to 3) that halve height and width, by max-pooling of spikes.
        spiking: Makes the neurons.

    Shape:
        ``[T, B, in_channels, H, W]`` to ``[T, B, width, H/2^p, W/2^p]`` for p pooled stages.

    Reference:
        Zhou et al., Spikformer, ICLR 2023: «SPS».
    """

    def __init__(self, in_channels: int, width: int, pooled: Sequence[int], spiking: NeuronFactory):
        super().__init__()
        widths = _widths(in_channels, width)
        self.stages = nn.Sequential(
            *(
                spiking_conv(a, b, spiking, kernel=3, pool="after" if stage in pooled else None)
                for stage, (a, b) in enumerate(pairwise(widths))
            )
        )
        self.position = spiking_conv(width, width, spiking, kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(x)
        return x + self.position(x)


class MembraneEmbedding(nn.Module):
    """As :class:`PatchEmbedding`, but the last stage and the position hand on currents, not spikes.

    With m the last stage's current, pooled before any neuron: ``m + BN(conv(LIF(m)))``.

    Args:
        in_channels: Of a picture or frame.
        width: Channels of a token.
        pooled: Stages (0 to 3) that halve height and width.
        spiking: Makes the neurons.

    Shape:
        ``[T, B, in_channels, H, W]`` to ``[T, B, width, H/2^p, W/2^p]`` for p pooled stages.

    Reference:
        Yao et al., Spike-driven Transformer, NeurIPS 2023.
    """

    def __init__(self, in_channels: int, width: int, pooled: Sequence[int], spiking: NeuronFactory):
        super().__init__()
        *widths, last = _widths(in_channels, width)
        self.stages = nn.Sequential(
            *(
                spiking_conv(a, b, spiking, kernel=3, pool="after" if stage in pooled else None)
                for stage, (a, b) in enumerate(pairwise(widths))
            ),
            conv_norm(widths[-1], last, kernel=3, pool=3 in pooled),
        )
        self.neuron = spiking()
        self.position = conv_norm(width, width, kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        membrane = self.stages(x)
        return membrane + self.position(self.neuron(membrane))


class TwoPaths(nn.Module):
    """Two spiking paths from one input, added: values in {0, 1, 2}.

    Shape:
        ``[T, B, C, H, W]`` to whatever both paths make of it.

    Reference:
        Zhou et al., QKFormer, NeurIPS 2024: «SPEDS».
    """

    def __init__(self, main: nn.Module, shortcut: nn.Module):
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.shortcut(x)
