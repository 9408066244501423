"""What every spiking transformer does around its blocks: frames in, logits of every step out."""

from __future__ import annotations

from torch import Tensor, nn

from snn.errors import ConfigError
from snn.models.arguments import require


class SpikingTransformer(nn.Module):
    """Embedding, blocks, the mean over tokens, a classifier, at every time step.

    Subclasses set ``embedding``, ``blocks`` and ``classifier``. The logits of a sample are the mean over the
    steps; that is left to the loss, which may look at every step.

    Args:
        T: Number of time steps.
        in_channels: Channels of a picture or frame.
        reduction: By how much the embedding and the blocks reduce height and width.

    Shape:
        ``pixel_values``: pictures ``[B, in_channels, H, W]``, given at every step, or frames ``[B, T,
        in_channels, H, W]``; to logits ``[T, B, num_classes]``.

    Raises:
        ConfigError: Input of another shape, or another number of steps.
    """

    embedding: nn.Module
    blocks: nn.Module
    classifier: nn.Linear

    def __init__(self, T: int, in_channels: int, reduction: int):
        super().__init__()
        require(T >= 1, "T", T, "a whole number >= 1")
        require(in_channels >= 1, "in_channels", in_channels, "a whole number >= 1")
        self.T, self.in_channels, self.reduction = T, in_channels, reduction
        #: Between the mean over tokens and the classifier.
        self.readout: nn.Module = nn.Identity()

    def forward(self, pixel_values: Tensor) -> Tensor:
        maps = self.blocks(self.embedding(self.over_time(pixel_values)))
        return self.classifier(self.readout(maps.mean((-2, -1))))

    def over_time(self, pixel_values: Tensor) -> Tensor:
        """The input of every step, ``[T, B, in_channels, H, W]``; a picture is not copied."""
        shape = list(pixel_values.shape)
        if len(shape) not in (4, 5) or shape[-3] != self.in_channels:
            raise ConfigError(
                f"model.args.in_channels: built for pictures [B, {self.in_channels}, H, W] or frames "
                f"[B, {self.T}, {self.in_channels}, H, W], got {shape}"
            )
        if len(shape) == 5 and shape[1] != self.T:
            raise ConfigError(
                f"model.args.T={self.T}, but the data has {shape[1]} frames (dataset.events.frames): {shape}; they "
                "must be equal"
            )
        if any(side % self.reduction or side == 0 for side in shape[-2:]):
            raise ConfigError(
                f"model: height and width must be multiples of {self.reduction} for its patches, got {shape}"
            )
        return pixel_values.transpose(0, 1) if len(shape) == 5 else pixel_values.expand(self.T, *shape)


def check_sizes(
    embed_dim: int,
    widths: list[int],
    multiple: int,
    depth: int,
    num_heads: int,
    mlp_ratio: float,
    drop_path: float,
) -> None:
    """Refuse sizes that no spiking transformer can have.

    Args:
        embed_dim: Channels of a token.
        widths: Channels of the stages that have attention.
        multiple: What ``embed_dim`` must be a multiple of, for the widths of the embedding.
        depth: Number of blocks.
        num_heads: Heads of attention.
        mlp_ratio: Hidden width of the two-layer networks, in widths.
        drop_path: Probability.

    Raises:
        ConfigError: Names the argument and what would work.
    """
    good = embed_dim >= multiple and embed_dim % multiple == 0
    require(good, "embed_dim", embed_dim, f"a multiple of {multiple}")
    require(depth >= 1, "depth", depth, "a whole number >= 1")
    narrowest = min(widths)
    divisors = ", ".join(str(n) for n in range(1, narrowest + 1) if narrowest % n == 0)
    good = num_heads >= 1 and narrowest % num_heads == 0
    require(good, "num_heads", num_heads, f"a divisor of the width {narrowest}: {divisors}")
    require(mlp_ratio * narrowest >= 1, "mlp_ratio", mlp_ratio, "a number > 0")
    require(0 <= drop_path < 1, "drop_path", drop_path, "a probability in [0, 1)")


def check_pooled(pooled: list[int]) -> None:
    """Refuse stages that an embedding of four does not have.

    Raises:
        ConfigError: Names ``pooled_stages``.
    """
    good = len(set(pooled)) == len(pooled) and set(pooled) <= set(range(4))
    require(good, "pooled_stages", pooled, "different stages out of 0, 1, 2, 3")
