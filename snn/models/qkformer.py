"""QKFormer: a hierarchical spiking transformer whose early stages let queries gate keys."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from torch import nn

from snn.models.architecture import Architecture
from snn.models.arguments import require, require_positive
from snn.models.spiking.attention import AlongBatch, SpikingSelfAttention, TokenAttention
from snn.models.spiking.block import Block, blocks, mlp
from snn.models.spiking.embedding import TwoPaths
from snn.models.spiking.initialise import draw_normal
from snn.models.spiking.layers import spiking_conv
from snn.models.spiking.published import published_qkformer
from snn.models.spiking.transformer import SpikingTransformer, check_sizes
from snn.neurons.native import NeuronFactory, neuron_factory

Stem = Literal["cifar", "imagenet", "events"]
#: By how much a stem reduces height and width.
STEM_REDUCTION: dict[str, int] = {"cifar": 1, "imagenet": 4, "events": 8}


def make_stem(stem: Stem, in_channels: int, width: int, spiking: NeuronFactory) -> nn.Sequential:
    """The first patch embedding: full, a quarter or an eighth of height and width.

    Shape:
        ``[T, B, in_channels, H, W]`` to ``[T, B, width, H/r, W/r]``; values in {0, 1, 2}.
    """
    conv = partial(spiking_conv, spiking=spiking, kernel=3)
    half, quarter = width // 2, width // 4
    if stem == "cifar":
        first: nn.Module = conv(in_channels, half)
        main: nn.Module = conv(half, width)
        shortcut = spiking_conv(half, width, spiking)
    elif stem == "imagenet":
        first = conv(in_channels, half, pool="before")
        main = nn.Sequential(conv(half, width, pool="before"), conv(width, width))
        shortcut = spiking_conv(half, width, spiking, stride=2)
    else:
        first = nn.Sequential(conv(in_channels, width // 8), conv(width // 8, quarter, pool="before"))
        main = nn.Sequential(conv(quarter, half, pool="before"), conv(half, width, pool="before"))
        shortcut = spiking_conv(quarter, width, spiking, stride=4)
    return nn.Sequential(first, TwoPaths(main, shortcut))


def make_downsampling(stem: Stem, width: int, spiking: NeuronFactory) -> TwoPaths:
    """Between two stages: twice the channels, half the height and width.

    Shape:
        ``[T, B, width, H, W]`` to ``[T, B, 2*width, H/2, W/2]``; values in {0, 1, 2}.
    """
    conv = partial(spiking_conv, spiking=spiking, kernel=3)
    if stem == "imagenet":
        main = nn.Sequential(conv(width, 2 * width, pool="before"), conv(2 * width, 2 * width))
    else:
        main = nn.Sequential(conv(width, 2 * width), conv(2 * width, 2 * width, pool="before"))
    return TwoPaths(main, spiking_conv(width, 2 * width, spiking, stride=2))


class QKFormer(SpikingTransformer):
    """Stages of growing width on shrinking maps: token attention in all but the last, which has spiking
    self-attention.

    The defaults are the 4-384 form for pictures of 32 pixels.

    Args:
        num_classes: Width of the classifier.
        T: Number of time steps.
        in_channels: 3 for colour, 1 for grey, 2 for events.
        embed_dim: Channels of a token in the last stage; half of it in the stage before, and so on.
        depths: Blocks of every stage.
        num_heads: Heads of attention in every stage; divides the width of the first.
        mlp_ratio: Hidden width of the two-layer networks, in the stage's width.
        stem: ``cifar`` (keeps height and width), ``imagenet`` (a quarter) or ``events`` (an eighth).
        scale: Factor of the self-attention product.
        attention_threshold: Of the neurons that make a gate or stand behind the attention product;
            ``neuron.threshold`` is that of all others.
        legacy_tb_neuron: Whether the last neuron of self-attention runs through all samples of a batch as
            through time, as in the released code. Published weights need it; outputs then depend on the order
            and size of the batch.
        drop_path: Probability of leaving out a branch of a stage's last block while training; it grows evenly
            from 0 at its first. The published networks were trained with 0.
        neuron: The config group ``neuron``: a name, or a mapping with ``name`` and options.

    Shape:
        See :class:`~snn.models.spiking.transformer.SpikingTransformer`.

    Raises:
        ConfigError: A size that cannot work.

    Reference:
        Zhou et al., NeurIPS 2024.
    """

    def __init__(
        self,
        num_classes: int,
        T: int = 4,
        in_channels: int = 3,
        embed_dim: int = 384,
        depths: list[int] = [1, 1, 2],  # noqa: B006  (read only; a list is what YAML gives)
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        stem: Stem = "cifar",
        scale: float = 0.125,
        attention_threshold: float = 0.5,
        legacy_tb_neuron: bool = False,
        drop_path: float = 0.0,
        neuron: dict[str, Any] | str = "lif",
    ):
        require(len(depths) > 0 and min(depths) >= 1, "depths", depths, "whole numbers >= 1")
        last = len(depths) - 1
        widths = [embed_dim // 2**k for k in range(last, -1, -1)]
        check_sizes(embed_dim, widths, 8 * 2**last, min(depths), num_heads, mlp_ratio, drop_path)
        require_positive(attention_threshold=attention_threshold, scale=scale)
        super().__init__(T, in_channels, reduction=STEM_REDUCTION[stem] * 2**last)
        spiking = neuron_factory(neuron)

        def block(drop: float, width: int, attention: nn.Module) -> Block:
            return Block(attention, mlp(width, mlp_ratio, spiking), drop)

        def token_block(drop: float, width: int) -> Block:
            return block(drop, width, TokenAttention(width, num_heads, spiking, attention_threshold))

        def self_block(drop: float, width: int) -> Block:
            last_neuron = AlongBatch if legacy_tb_neuron else None
            attention = SpikingSelfAttention(
                width, num_heads, spiking, attention_threshold, scale, last_neuron=last_neuron
            )
            return block(drop, width, attention)

        self.embedding = make_stem(stem, in_channels, widths[0], spiking)
        self.blocks = nn.Sequential()
        for stage, (depth, width) in enumerate(zip(depths, widths)):
            if stage > 0:
                self.blocks.append(make_downsampling(stem, widths[stage - 1], spiking))
            kind = self_block if stage == last else token_block
            self.blocks.append(blocks(depth, partial(kind, width=width), drop_path))
        self.classifier = nn.Linear(embed_dim, num_classes)
        draw_normal(self.classifier)


QKFORMER = Architecture(build=QKFormer, input_kind="image", native=True, describe=published_qkformer)
