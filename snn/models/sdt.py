"""Spike-driven Transformer: every matrix product sees spikes; shortcuts carry membranes."""

from __future__ import annotations

from typing import Any

from torch import nn

from snn.models.architecture import Architecture
from snn.models.arguments import require_positive
from snn.models.spiking.attention import MaskPool, SpikeDrivenAttention
from snn.models.spiking.block import Block, blocks, membrane_mlp
from snn.models.spiking.embedding import MembraneEmbedding
from snn.models.spiking.initialise import draw_normal
from snn.models.spiking.published import SDT_NAMES, published
from snn.models.spiking.transformer import SpikingTransformer, check_pooled, check_sizes
from snn.neurons.native import neuron_factory


class SpikeDrivenTransformer(SpikingTransformer):
    """Patches and blocks that hand on membranes, attention by masks, a neuron before the classifier.

    The defaults are the 2-512 form for pictures of 32 pixels.

    Args:
        num_classes: Width of the classifier.
        T: Number of time steps.
        in_channels: 3 for colour, 1 for grey, 2 for events.
        embed_dim: Channels of a token, a multiple of 8.
        depth: Number of blocks.
        num_heads: Heads of attention; they matter for ``attention_pool: released`` alone.
        mlp_ratio: Hidden width of the two-layer networks, in ``embed_dim``.
        pooled_stages: Stages of the patch embedding (0 to 3) that halve height and width.
        attention_threshold: Of the neuron that makes the mask; ``neuron.threshold`` is that of all others.
        attention_pool: Max-pooling inside of attention: ``none``; ``space``; ``released``, as the published
            network for CIFAR10-DVS has it. See
            :class:`~snn.models.spiking.attention.SpikeDrivenAttention`.
        drop_path: Probability of leaving out a branch of the last block while training; it grows evenly from
            0 at the first. The published networks were trained with 0.
        neuron: The config group ``neuron``: a name, or a mapping with ``name`` and options.

    Shape:
        See :class:`~snn.models.spiking.transformer.SpikingTransformer`.

    Raises:
        ConfigError: A size that cannot work.

    Reference:
        Yao et al., NeurIPS 2023.
    """

    def __init__(
        self,
        num_classes: int,
        T: int = 4,
        in_channels: int = 3,
        embed_dim: int = 512,
        depth: int = 2,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        pooled_stages: list[int] = [2, 3],  # noqa: B006  (read only; a list is what YAML gives)
        attention_threshold: float = 0.5,
        attention_pool: MaskPool = "none",
        drop_path: float = 0.0,
        neuron: dict[str, Any] | str = "lif",
    ):
        check_pooled(pooled_stages)
        check_sizes(embed_dim, [embed_dim], 8, depth, num_heads, mlp_ratio, drop_path)
        require_positive(attention_threshold=attention_threshold)
        super().__init__(T, in_channels, reduction=2 ** len(pooled_stages))
        spiking = neuron_factory(neuron)

        def block(drop: float) -> Block:
            attention = SpikeDrivenAttention(
                embed_dim, num_heads, spiking, attention_threshold, attention_pool
            )
            return Block(attention, membrane_mlp(embed_dim, mlp_ratio, spiking), drop)

        self.embedding = MembraneEmbedding(in_channels, embed_dim, pooled_stages, spiking)
        self.blocks = blocks(depth, block, drop_path)
        self.readout = spiking()
        draw_normal(self)
        self.classifier = nn.Linear(embed_dim, num_classes)


SDT = Architecture(
    build=SpikeDrivenTransformer, input_kind="image", native=True, describe=published(SDT_NAMES)
)
