"""The check that every image model makes of what it is called with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from snn.errors import ConfigError


def check_pictures(pixel_values: Tensor, channels: int, smallest: int = 1, size: int | None = None) -> None:
    """Refuse pictures that the network was not built for.

    Args:
        pixel_values: The batch.
        channels: Channels that the network was built for.
        smallest: Least height and width, in pixels.
        size: The only height and width, in pixels; None: any.

    Raises:
        ConfigError: Not ``[B, channels, H, W]``, or H or W do not suit.
    """
    shape = tuple(pixel_values.shape)
    if len(shape) != 4 or shape[1] != channels:
        raise ConfigError(
            f"model.args.in_channels: built for pictures of shape [B, {channels}, H, W], got {list(shape)} "
            f"(dataset.channels={channels} repeats grey, or averages colour)"
        )
    if min(shape[2:]) < smallest:
        raise ConfigError(
            f"model: pictures must be at least {smallest} pixels wide and high, got {list(shape)}"
        )
    if size is not None and shape[2:] != (size, size):
        raise ConfigError(
            f"model.args.image_size: built for pictures of {size} x {size} pixels, got {list(shape)} "
            f"(dataset.image_size={size} resizes them)"
        )


@dataclass(frozen=True)
class PictureCheck:
    """A forward pre-hook for networks of libraries: checks the pictures, and takes them by position or as
    ``pixel_values``.

    Args:
        channels: See :func:`check_pictures`.
        size: Likewise.
    """

    channels: int
    size: int | None = None

    def __call__(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        further = dict(kwargs)
        pictures = args[0] if args else further.pop("pixel_values")
        check_pictures(pictures, self.channels, size=self.size)
        return (pictures, *args[1:]), further
