"""VGG-16 with batch norm."""

from __future__ import annotations

from torch import Tensor, nn

from snn.models.activation import Activation, make_activation
from snn.models.architecture import Architecture
from snn.models.arguments import require
from snn.models.pictures import check_pictures
from snn.models.pooling import Pool, make_pool


class ConvUnit(nn.Sequential):
    """conv3x3 with bias - norm - act - dropout.

    Shape:
        ``[B, in_width, H, W]`` to ``[B, out_width, H, W]``.
    """

    def __init__(self, in_width: int, out_width: int, dropout: float, activation: Activation):
        super().__init__()
        self.add_module("conv", nn.Conv2d(in_width, out_width, 3, padding=1))
        self.add_module("norm", nn.BatchNorm2d(out_width))
        self.add_module("act", make_activation(activation))
        self.add_module("dropout", nn.Dropout(dropout))


class VGG(nn.Module):
    """Thirteen convolutions in five stages, each stage closed by pooling, and three linear layers.

    The last pooling is adaptive: the same 2x2 windows for pictures of 32 pixels (of 224 with ``pool_size=7``),
    and other sizes work as well.

    Args:
        num_classes: Width of the classifier.
        in_channels: Channels of a picture: 3 for colour, 1 for grey.
        widths: Channels of the five stages.
        convs: Convolutions per stage.
        hidden_size: Width of the two hidden linear layers.
        pool_size: Height and width of the last map: 1 for small pictures, 7 for 224 pixels.
        pool: ``average``, which is linear, or ``max``, as in the original.
        dropout: Dropout after every activation, in [0, 1).
        activation: ``relu``, ``gelu`` or ``silu``.

    Shape:
        ``pixel_values`` ``[B, in_channels, H, W]``, H and W >= 16, to logits ``[B, num_classes]``.

    Raises:
        ConfigError: A size that cannot work.

    Reference:
        Simonyan and Zisserman, ICLR 2015, configuration D.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: list[int] = [64, 128, 256, 512, 512],  # noqa: B006  (read only; a list is what YAML gives)
        convs: list[int] = [2, 2, 3, 3, 3],  # noqa: B006
        hidden_size: int = 4096,
        pool_size: int = 1,
        pool: Pool = "average",
        dropout: float = 0.0,
        activation: Activation = "relu",
    ):
        super().__init__()
        for key, value in (
            ("in_channels", in_channels),
            ("hidden_size", hidden_size),
            ("pool_size", pool_size),
        ):
            require(value >= 1, key, value, "a whole number >= 1")
        require(0 <= dropout < 1, "dropout", dropout, "a probability in [0, 1)")
        require(len(widths) > 0 and min(widths) >= 1, "widths", widths, "whole numbers >= 1")
        require(
            len(convs) == len(widths) and min(convs) >= 1, "convs", convs, f"{len(widths)} whole numbers >= 1"
        )
        self.in_channels = in_channels
        self.smallest = 2 ** (len(widths) - 1)
        self.stages, before = nn.Sequential(), in_channels
        for number, (width, count) in enumerate(zip(widths, convs)):
            stage = nn.Sequential()
            for _ in range(count):
                stage.append(ConvUnit(before, width, dropout, activation))
                before = width
            last = number == len(widths) - 1
            adaptive = {"average": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}[pool]
            stage.add_module("pool", adaptive(pool_size) if last else make_pool(pool, 2))
            self.stages.append(stage)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(before * pool_size**2, hidden_size)
        self.act1 = make_activation(activation)
        self.dropout1 = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden_size, hidden_size)
        self.act2 = make_activation(activation)
        self.dropout2 = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, pixel_values: Tensor) -> Tensor:
        check_pictures(pixel_values, self.in_channels, self.smallest)
        x = self.flatten(self.stages(pixel_values))
        x = self.dropout1(self.act1(self.fc1(x)))
        x = self.dropout2(self.act2(self.fc2(x)))
        return self.classifier(x)


VGG16 = Architecture(build=VGG, input_kind="image")
