"""ResNets of basic blocks, for small pictures and for large ones: ResNet-18, -20 and -34."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from snn.models.activation import Activation, make_activation
from snn.models.architecture import Architecture
from snn.models.arguments import require
from snn.models.defaults import with_defaults
from snn.models.pictures import check_pictures
from snn.models.pooling import Pool, make_pool

Shortcut = Literal["conv", "pad"]
Stem = Literal["cifar", "imagenet"]


class PaddedShortcut(nn.Module):
    """Shortcut without parameters: every second pixel, new channels zero, half of them on either side.

    Shape:
        ``[B, C, H, W]`` to ``[B, C + before + after, ceil(H/stride), ceil(W/stride)]``.

    Reference:
        He et al., CVPR 2016, section 4.2, option A.
    """

    def __init__(self, in_width: int, out_width: int, stride: int):
        super().__init__()
        self.stride = stride
        self.before = (out_width - in_width) // 2
        self.after = out_width - in_width - self.before

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """conv3x3 - norm - act - conv3x3 - norm, plus shortcut, then act.

    Shape:
        ``[B, in_width, H, W]`` to ``[B, out_width, ceil(H/stride), ceil(W/stride)]``.
    """

    def __init__(
        self, in_width: int, out_width: int, stride: int, shortcut: Shortcut, activation: Activation
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, out_width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_width)
        self.act1 = make_activation(activation)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_width)
        self.shortcut: nn.Module
        if stride == 1 and in_width == out_width:
            self.shortcut = nn.Identity()
        elif shortcut == "pad":
            self.shortcut = PaddedShortcut(in_width, out_width, stride)
        else:
            conv = nn.Conv2d(in_width, out_width, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_width))
        self.act2 = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.norm1(self.conv1(x)))
        return self.act2(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """Stages of basic blocks; by default ResNet-20, three stages of three blocks, for pictures of about 32 pixels.

    Args:
        num_classes: Width of the classifier.
        in_channels: Channels of a picture: 3 for colour, 1 for grey.
        widths: Channels of the stages.
        blocks: Blocks per stage; as many as ``widths``. Every stage but the first halves height and width.
        stem: ``cifar``: one convolution of 3x3 at full size; ``imagenet``: one of 7x7 with stride 2 and a pooling
            of 3x3 with stride 2, a quarter of height and width.
        pool: Of ``stem: imagenet``: ``average``, which is linear, or ``max``, as in the original.
        shortcut: Where a stage changes the width: ``conv`` is a 1x1 convolution with norm, ``pad`` has no
            parameters.
        activation: ``relu``, ``gelu`` or ``silu``.

    Shape:
        ``pixel_values`` ``[B, in_channels, H, W]``, H and W >= 8 (>= 32 with ``stem: imagenet``), to logits
        ``[B, num_classes]``.

    Raises:
        ConfigError: A size that cannot work.

    Reference:
        He et al., CVPR 2016: section 4.2 (ResNet-20), table 1 (18 and 34).
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: list[int] = [16, 32, 64],  # noqa: B006  (read only; a list is what YAML gives)
        blocks: list[int] = [3, 3, 3],  # noqa: B006
        stem: Stem = "cifar",
        pool: Pool = "average",
        shortcut: Shortcut = "conv",
        activation: Activation = "relu",
    ):
        super().__init__()
        require(in_channels >= 1, "in_channels", in_channels, "a whole number >= 1")
        require(len(widths) > 0 and min(widths) >= 1, "widths", widths, "whole numbers >= 1")
        require(
            len(blocks) == len(widths) and min(blocks) >= 1,
            "blocks",
            blocks,
            f"{len(widths)} whole numbers >= 1",
        )
        if shortcut == "pad":
            require(
                sorted(widths) == widths,
                "widths",
                widths,
                "widths that never shrink, for model.args.shortcut=pad",
            )
        self.in_channels = in_channels
        large = stem == "imagenet"
        self.smallest = 32 if large else 8
        size, stride = (7, 2) if large else (3, 1)
        conv = nn.Conv2d(in_channels, widths[0], size, stride, padding=size // 2, bias=False)
        self.stem = nn.Sequential()
        self.stem.add_module("conv", conv)
        self.stem.add_module("norm", nn.BatchNorm2d(widths[0]))
        self.stem.add_module("act", make_activation(activation))
        if large:
            self.stem.add_module("pool", make_pool(pool, 3, stride=2, padding=1))
        stages, before = [], widths[0]
        for number, (width, count) in enumerate(zip(widths, blocks)):
            stage = []
            for i in range(count):
                stride = 2 if number > 0 and i == 0 else 1
                stage.append(BasicBlock(before, width, stride, shortcut, activation))
                before = width
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(before, num_classes)

    def forward(self, pixel_values: Tensor) -> Tensor:
        check_pictures(pixel_values, self.in_channels, self.smallest)
        return self.classifier(self.flatten(self.pool(self.stages(self.stem(pixel_values)))))


def _four_stages(blocks: list[int]) -> Architecture:
    return Architecture(with_defaults(ResNet, widths=[64, 128, 256, 512], blocks=blocks), "image")


RESNET18 = _four_stages([2, 2, 2, 2])
RESNET20 = Architecture(build=ResNet, input_kind="image")
RESNET34 = _four_stages([3, 4, 6, 3])
