"""Spikformer: a vision transformer of spikes, trained directly."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from snn.models.architecture import Architecture
from snn.models.arguments import require_positive
from snn.models.spiking.attention import SpikingSelfAttention
from snn.models.spiking.block import Block, blocks, mlp
from snn.models.spiking.embedding import PatchEmbedding
from snn.models.spiking.initialise import draw_normal
from snn.models.spiking.published import SPIKFORMER_NAMES, published
from snn.models.spiking.transformer import SpikingTransformer, check_pooled, check_sizes
from snn.neurons.native import neuron_factory


class Spikformer(SpikingTransformer):
    """Spiking patches, then blocks of spiking self-attention; residual sums count spikes.

    The defaults are the 4-384 form for pictures of 32 pixels.

    Args:
        num_classes: Width of the classifier.
        T: Number of time steps.
        in_channels: 3 for colour, 1 for grey, 2 for events.
        embed_dim: Channels of a token, a multiple of 8.
        depth: Number of blocks.
        num_heads: Heads of attention; divides ``embed_dim``.
        mlp_ratio: Hidden width of the two-layer networks, in ``embed_dim``.
        pooled_stages: Stages of the patch embedding (0 to 3) that halve height and width.
        projection: How the published networks write the layers of single tokens: ``linear`` (CIFAR): query,
            key and value with a bias, all drawn from a normal distribution; ``conv`` (ImageNet, events):
            those three without a bias, PyTorch's own initialisation.
        scale: Factor of the attention product.
        attention_threshold: Of the neuron behind that product; ``neuron.threshold`` is that of all others.
        drop_path: Probability of leaving out a branch of the last block while training; it grows evenly from
            0 at the first. The published networks were trained with 0.
        neuron: The config group ``neuron``: a name, or a mapping with ``name`` and options.

    Shape:
        See :class:`~snn.models.spiking.transformer.SpikingTransformer`.

    Raises:
        ConfigError: A size that cannot work.

    Reference:
        Zhou et al., ICLR 2023.
    """

    def __init__(
        self,
        num_classes: int,
        T: int = 4,
        in_channels: int = 3,
        embed_dim: int = 384,
        depth: int = 4,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        pooled_stages: list[int] = [2, 3],  # noqa: B006  (read only; a list is what YAML gives)
        projection: Literal["linear", "conv"] = "linear",
        scale: float = 0.125,
        attention_threshold: float = 0.5,
        drop_path: float = 0.0,
        neuron: dict[str, Any] | str = "lif",
    ):
        check_pooled(pooled_stages)
        check_sizes(embed_dim, [embed_dim], 8, depth, num_heads, mlp_ratio, drop_path)
        require_positive(attention_threshold=attention_threshold, scale=scale)
        super().__init__(T, in_channels, reduction=2 ** len(pooled_stages))
        spiking = neuron_factory(neuron)

        def block(drop: float) -> Block:
            attention = SpikingSelfAttention(
                embed_dim,
                num_heads,
                spiking,
                attention_threshold,
                scale,
                qkv_bias=projection == "linear",
            )
            return Block(attention, mlp(embed_dim, mlp_ratio, spiking), drop)

        self.embedding = PatchEmbedding(in_channels, embed_dim, pooled_stages, spiking)
        self.blocks = blocks(depth, block, drop_path)
        self.classifier = nn.Linear(embed_dim, num_classes)
        draw_normal(self.classifier)
        if projection == "linear":
            draw_normal(self.blocks)


SPIKFORMER = Architecture(
    build=Spikformer, input_kind="image", native=True, describe=published(SPIKFORMER_NAMES)
)
