"""TIM: Spikformer for event data whose queries remember earlier time steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snn.models.architecture import Architecture
from snn.models.arguments import require, require_positive
from snn.models.spiking.attention import SpikingSelfAttention
from snn.models.spiking.block import Block, blocks, mlp
from snn.models.spiking.embedding import PatchEmbedding
from snn.models.spiking.initialise import draw_normal
from snn.models.spiking.published import TIM_NAMES, published
from snn.models.spiking.transformer import SpikingTransformer, check_pooled, check_sizes
from snn.neurons.native import NeuronFactory, neuron_factory, one_step


class TemporalInteraction(nn.Module):
    """Mixes each step's query with what a convolution makes of the step before.

    ``p[1] = q[1]``; ``p[t] = LIF_out(mix * LIF_in(conv(p[t-1])) + (1 - mix) * q[t])``. The convolution has
    the N tokens for channels and runs along the d channels of a head. It stands inside of the recursion, so
    that steps are computed one after another.

    Args:
        tokens: Number N of tokens.
        mix: Weight of the past, in [0, 1].
        spiking: Makes the neurons.
        in_threshold: Of the neuron behind the convolution.
        out_threshold: Of the neuron behind the mixture.

    Shape:
        ``[T, B, heads, d, N]`` to the same; spikes.

    Reference:
        Shen et al., IJCAI 2024.
    """

    def __init__(
        self, tokens: int, mix: float, spiking: NeuronFactory, in_threshold: float, out_threshold: float
    ):
        super().__init__()
        self.mix = mix
        self.conv = nn.Conv1d(tokens, tokens, kernel_size=5, padding=2)
        self.in_neuron = spiking(in_threshold)
        self.out_neuron = spiking(out_threshold)

    def forward(self, query: Tensor) -> Tensor:
        query = query.transpose(-1, -2)
        mixed, in_state, out_state = [query[0]], None, None
        for t, now in enumerate(query[1:], start=1):
            with one_step(t):
                past = self.conv(mixed[-1].flatten(0, 1)).unflatten(0, now.shape[:2])
                past, in_state = self.in_neuron.step(past, in_state)
                spikes, out_state = self.out_neuron.step(self.mix * past + (1 - self.mix) * now, out_state)
            mixed.append(spikes)
        return torch.stack(mixed).transpose(-1, -2)


class TIM(SpikingTransformer):
    """Spikformer-2-256 for frames of events, with a temporal interaction module on the query of every block.

    Args:
        num_classes: Width of the classifier.
        T: Number of time steps.
        in_channels: 2 for events of two polarities.
        image_size: Height and width of a frame, in pixels; it fixes the number of tokens.
        embed_dim: Channels of a token, a multiple of 8.
        depth: Number of blocks.
        num_heads: Heads of attention; divides ``embed_dim``.
        mlp_ratio: Hidden width of the two-layer networks, in ``embed_dim``.
        pooled_stages: Stages of the patch embedding (0 to 3) that halve height and width.
        scale: Factor of the attention product.
        mix: Weight of the past in a query, in [0, 1]; alpha in the paper.
        in_threshold: Of the neuron behind the module's convolution.
        out_threshold: Of the neuron behind the mixture.
        attention_threshold: Of the neuron behind the attention product.
        legacy_thresholds: Whether those three are 1, as in the released code, which loses them on their way
            to the neurons. The module's output is then zero after the first step.
        drop_path: Probability of leaving out a branch of the last block while training; it grows evenly from
            0 at the first.
        neuron: The config group ``neuron``: a name, or a mapping with ``name`` and options. The released
            network was trained with ``detach_membrane: true``.

    Shape:
        ``pixel_values`` ``[B, T, in_channels, image_size, image_size]`` to logits ``[T, B, num_classes]``.

    Raises:
        ConfigError: A size that cannot work.

    Reference:
        Shen et al., IJCAI 2024.
    """

    def __init__(
        self,
        num_classes: int,
        T: int = 10,
        in_channels: int = 2,
        image_size: int = 64,
        embed_dim: int = 256,
        depth: int = 2,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        pooled_stages: list[int] = [0, 1, 2, 3],  # noqa: B006  (read only; a list is what YAML gives)
        scale: float = 0.25,
        mix: float = 0.5,
        in_threshold: float = 0.3,
        out_threshold: float = 0.5,
        attention_threshold: float = 0.5,
        legacy_thresholds: bool = False,
        drop_path: float = 0.0,
        neuron: dict[str, Any] | str = "lif",
    ):
        check_pooled(pooled_stages)
        check_sizes(embed_dim, [embed_dim], 8, depth, num_heads, mlp_ratio, drop_path)
        reduction = 2 ** len(pooled_stages)
        good_size = image_size >= reduction and image_size % reduction == 0
        require(good_size, "image_size", image_size, f"a multiple of {reduction}")
        require(0 <= mix <= 1, "mix", mix, "a number in [0, 1]")
        require_positive(
            scale=scale,
            in_threshold=in_threshold,
            out_threshold=out_threshold,
            attention_threshold=attention_threshold,
        )
        super().__init__(T, in_channels, reduction)
        self.image_size = image_size
        spiking = neuron_factory(neuron)
        tokens = (image_size // reduction) ** 2
        if legacy_thresholds:
            in_threshold = out_threshold = attention_threshold = 1.0

        def block(drop: float) -> Block:
            attention = SpikingSelfAttention(
                embed_dim,
                num_heads,
                spiking,
                attention_threshold,
                scale,
                out_bias=False,
                on_query=TemporalInteraction(tokens, mix, spiking, in_threshold, out_threshold),
            )
            return Block(attention, mlp(embed_dim, mlp_ratio, spiking), drop)

        self.embedding = PatchEmbedding(in_channels, embed_dim, pooled_stages, spiking)
        self.blocks = blocks(depth, block, drop_path)
        self.classifier = nn.Linear(embed_dim, num_classes)
        draw_normal(self.classifier)

    def over_time(self, pixel_values: Tensor) -> Tensor:
        size = list(pixel_values.shape[-2:])
        require(
            size == [self.image_size] * 2, "image_size", self.image_size, f"the size of the frames, {size}"
        )
        return super().over_time(pixel_values)


TIM_SPIKFORMER = Architecture(build=TIM, input_kind="image", native=True, describe=published(TIM_NAMES))
