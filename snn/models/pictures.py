"""The check that every image model makes of what it is called with."""

from __future__ import annotations

from torch import Tensor

from snn.errors import ConfigError


def check_pictures(pixel_values: Tensor, channels: int, smallest: int) -> None:
    """Refuse pictures that the network was not built for.

    Raises:
        ConfigError: Not ``[B, channels, H, W]`` with H and W at least ``smallest``.
    """
    shape = tuple(pixel_values.shape)
    if len(shape) != 4 or shape[1] != channels:
        raise ConfigError(
            f"model.args.in_channels: built for pictures of shape [B, {channels}, H, W], got {list(shape)}"
        )
    if min(shape[2:]) < smallest:
        raise ConfigError(
            f"model: pictures must be at least {smallest} pixels wide and high, got {list(shape)}"
        )
